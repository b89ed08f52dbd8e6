//! \[0\] The verdict on a run of the bench: the first thing that went wrong, and the remedy.
//!
//! Pure: it judges by the counts of the threads and by the end of the loop. The main thread, once the loop has ended.

use super::Measured;
use super::publisher::Tally;
use super::settings::BenchSettings;
use crate::app::names::as_given;
use mqtt_connection_sharing::{Ended, QoS};

/// Advice where the broker may drop a client that sends more than it takes.
const TOO_WIDE: &str = "the broker may take fewer in flight, lower --window";

/// The same where the session went with the connection.
const TOO_WIDE_OR_CLEAN: &str = "the broker may take fewer in flight, lower --window; else let the session survive, \
     with --clean-session=false";

/// The same when it never acknowledged any of QoS 2.
const NO_QOS_2: &str = "use --qos 1 if the broker has no QoS 2; else it may take fewer in flight, lower --window, or \
     smaller messages, lower --payload-size";

/// The same when it never acknowledged anything.
const TOO_LARGE: &str = "the broker may take fewer in flight, lower --window, or smaller messages, lower --payload-size";

/// The same where it closed the connection on a message that was alone.
const ALONE: &str = "the broker does not take such a message, lower --payload-size or compare --topic-prefix with what it allows";

/// Advice where the broker acknowledges more than it can keep for a subscriber.
const NO_ROOM: &str = "the broker dropped them: lower --window, or let it keep more, in Mosquitto with max_queued_messages";

/// The evidence: how a run went.
pub(super) struct Evidence<'a> {
    pub(super) settings: &'a BenchSettings,
    pub(super) keeps_session: bool,
    pub(super) tally: &'a Tally,
    pub(super) measured: &'a Measured,
    pub(super) ended: &'a Ended,
    pub(super) is_interrupted: bool,
}

impl Evidence<'_> {
    /// Acknowledged messages that did not come back. `None` where nobody received.
    pub(super) fn missing(&self) -> Option<u64> {
        let acknowledged = self.tally.acknowledged();
        let received = self.measured.received;
        received.map(|received| acknowledged.saturating_sub(received.distinct))
    }

    /// The same without those that the receiver's inbox dropped.
    pub(super) fn lost(&self) -> Option<u64> {
        let dropped = self.measured.dropped;
        self.missing()
            .map(|missing| missing.saturating_sub(dropped))
    }

    /// The first thing that went wrong, and what to do about it. `None` where nothing did.
    pub(super) fn problem(&self) -> Option<String> {
        let first = self.first_problem();
        let losses = self.ended.stats.losses;
        if losses == 0 || self.is_interrupted {
            return first;
        }
        if self.settings.qos == QoS::AtMostOnce {
            let lost =
                "the connection was lost, and with it perhaps messages of QoS 0 on their way";
            return Some(match first {
                Some(text) => format!("{text} ({lost})"),
                None => lost.to_owned(),
            });
        }
        // Links that came up and went down again, and the broker took nothing: the same cause as where the
        // loop gave a message up before its attempts ran out.
        let lost_in_vain = self.tally.acknowledged() == 0 && losses > 1;
        if self.unacknowledged() > 0 && (self.ended.result.is_ok() || lost_in_vain) {
            let cause = self.of_the_loss();
            return first.map(|text| format!("{text} (the connection was lost: {cause})"));
        }
        first
    }

    /// The first thing that went wrong.
    fn first_problem(&self) -> Option<String> {
        if self.is_interrupted {
            return Some("interrupted".to_owned());
        }
        if let Err(error) = &self.ended.result {
            return Some(as_given(&error.to_string()).into_owned());
        }
        let left = self.ended.left;
        let missing = self.unacknowledged();
        self.tally
            .problem()
            .or_else(|| self.not_received())
            .or_else(|| (missing > 0).then(|| format!("{missing} messages were not acknowledged")))
            .or_else(|| self.came_twice())
            .or_else(|| (left > 0).then(|| format!("{left} commands were left unfinished")))
    }

    /// Messages that the broker did not acknowledge.
    fn unacknowledged(&self) -> u64 {
        let messages = self.settings.messages;
        messages.saturating_sub(self.tally.acknowledged())
    }

    /// Tells which messages the receiver missed. The count of missing messages says more than the silence.
    fn not_received(&self) -> Option<String> {
        let silence = self.measured.problem.clone();
        let Some(lost) = self.lost().filter(|lost| *lost > 0) else {
            return silence;
        };
        let silence = silence.map_or(String::new(), |silence| format!(": {silence}"));
        let complete = self.unacknowledged() == 0 && self.ended.stats.losses == 0;
        let advice = match self.settings.qos {
            QoS::AtLeastOnce | QoS::ExactlyOnce if complete => format!(" ({NO_ROOM})"),
            _ => String::new(),
        };
        Some(format!(
            "{lost} messages did not come back{silence}{advice}"
        ))
    }

    /// Messages of QoS 2 that came more than once.
    fn came_twice(&self) -> Option<String> {
        let duplicated = self.measured.received?.duplicated;
        let is_wrong = duplicated > 0 && self.settings.qos == QoS::ExactlyOnce;
        is_wrong.then(|| format!("{duplicated} messages came twice with QoS 2"))
    }

    /// The cause of a connection that was lost, and what to do.
    fn of_the_loss(&self) -> &'static str {
        let is_qos_2 = self.settings.qos == QoS::ExactlyOnce;
        match self.tally.acknowledged() {
            _ if self.tally.was_closed_alone() => ALONE,
            0 if is_qos_2 => NO_QOS_2,
            0 => TOO_LARGE,
            _ if is_qos_2 && !self.keeps_session => TOO_WIDE_OR_CLEAN,
            _ => TOO_WIDE,
        }
    }
}
