//! \[0\] The verdict on a run of the bench: the first thing that went wrong, and the remedy.
//!
//! It tells the evidence, and names a remedy only where that speaks for it: the library's line about the last
//! connection, how the first message ended, the counts, and the settings. A remedy that only a trial can confirm is told
//! as a trial. Pure; the main thread, once the loop has ended.

use super::Measured;
use super::publisher::Tally;
use super::settings::{BenchSettings, UNRECEIVED};
use crate::app::names::as_given;
use crate::app::problems::{came_twice, counted, left_unfinished, names_reason};
use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::{Ended, QoS, Reason};

/// Remedies where one message was given up that connections did not outlive, or that got no answer.
const ONE_MESSAGE: &str =
    "compare --topic-prefix with what the broker allows, or lower --payload-size";

/// The remedy where a message of QoS 2 ended with a clean session.
const CLEAN: &str = "let the session survive, with --clean-session=false";

/// Possible causes where the broker acknowledged each message and none came back.
const NONE_DELIVERED: &str = "the broker acknowledged each and delivered none: see whether its rules let this client publish and read them";

/// Possible causes where it acknowledged each message and some came back.
const SOME_DELIVERED: &str = "the broker acknowledged each: it may keep fewer for a subscriber; let it keep more, in \
     Mosquitto with max_queued_messages";

/// The evidence: how a run went.
pub(super) struct Evidence<'a> {
    pub(super) settings: &'a BenchSettings,
    pub(super) keeps_session: bool,
    pub(super) tally: &'a Tally,
    pub(super) measured: &'a Measured,
    pub(super) ended: &'a Ended,
    /// The library's line about the connection that was lost last.
    pub(super) last_loss: Option<Error>,
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
            let lost = "the connection was lost, and with it perhaps messages of QoS 0 on their way; use --qos 1";
            return Some(match first {
                Some(text) => format!("{text} ({lost})"),
                None => lost.to_owned(),
            });
        }
        // Where the loop could not connect again, that is the last cause. But where links came up and went down again,
        // and the broker took nothing, the attempts may have run out before a message was given up.
        let lost_in_vain = self.tally.acknowledged() == 0 && losses > 1;
        if self.unacknowledged() > 0 && (self.ended.result.is_ok() || lost_in_vain) {
            let loss = self.of_the_loss();
            return first.map(|text| format!("{text} ({loss})"));
        }
        first
    }

    /// The reason code of MQTT 5 in the first thing that went wrong.
    pub(super) fn reason_code(&self) -> Option<u8> {
        match &self.ended.result {
            _ if self.is_interrupted => None,
            Err(error) => error.reason_code(),
            Ok(()) => self.tally.reason_code().or_else(|| {
                let loss = self.last_loss.as_ref().filter(|_| self.is_given_up())?;
                loss.reason_code()
            }),
        }
    }

    /// Whether a message was given up that connections did not outlive, or that got no answer.
    fn is_given_up(&self) -> bool {
        matches!(
            self.tally.unanswered(),
            Some(Reason::Parked | Reason::Unanswered)
        )
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
            .or_else(|| (missing > 0).then(|| not_acknowledged(missing)))
            .or_else(|| self.came_twice())
            .or_else(|| (left > 0).then(|| left_unfinished(left as u64)))
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
            QoS::AtLeastOnce | QoS::ExactlyOnce if complete => self.of_the_silence(),
            _ => String::new(),
        };
        let lost = counted(
            lost,
            "message did not come back",
            "messages did not come back",
        );
        Some(format!("{lost}{silence}{advice}"))
    }

    /// Messages of QoS 2 that came more than once.
    fn came_twice(&self) -> Option<String> {
        let duplicated = self.measured.received?.duplicated;
        let is_wrong = duplicated > 0 && self.settings.qos == QoS::ExactlyOnce;
        is_wrong.then(|| came_twice(duplicated))
    }

    /// The advice where each message was acknowledged on one connection and did not come back.
    fn of_the_silence(&self) -> String {
        let came = self
            .measured
            .received
            .map_or(0, |received| received.distinct);
        let cause = match came {
            0 => NONE_DELIVERED,
            _ => SOME_DELIVERED,
        };
        // Below this bound the window changes nothing: as many are on their way whatever it is.
        let window = match self.settings.unreceived() > UNRECEIVED && came > 0 {
            true => ", or lower --window",
            false => "",
        };
        format!(" ({cause}{window})")
    }

    /// How the last connection was lost, and what to do about it.
    fn of_the_loss(&self) -> String {
        let Some(loss) = &self.last_loss else {
            return "the connection was lost".to_owned();
        };
        let mut parts = vec![format!("the connection was {}", as_given(loss.problem()))];
        // The broker ended it soon, or answered nothing of QoS 2: the library says what to look at.
        let is_the_brokers = loss.blame() == Blame::Network && !loss.advice().is_empty();
        if is_the_brokers {
            parts.push(as_given(loss.advice()).into_owned());
        }
        let acknowledged = self.tally.acknowledged();
        match self.is_given_up() {
            // The broker has said why.
            true if names_reason(loss) => {}
            true => parts.push(ONE_MESSAGE.to_owned()),
            false if is_the_brokers => parts.extend(self.trial()),
            false => {}
        }
        let went_with_session = self.tally.unanswered() == Some(Reason::SessionLost);
        // Where nothing was ever acknowledged, a session that stays would not help.
        if went_with_session && !self.keeps_session && acknowledged > 0 {
            parts.push(CLEAN.to_owned());
        }
        parts.join("; ")
    }

    /// A trial where the broker ended the connection and did not say why. `None` where the settings have it
    /// already.
    fn trial(&self) -> Option<String> {
        let size = (self.tally.acknowledged() == 0).then_some("--payload-size");
        let window = (self.settings.window > 1).then_some("--window");
        let flags: Vec<_> = size.into_iter().chain(window).collect();
        let flags = flags.join(" and ");
        (!flags.is_empty()).then(|| format!("lower {flags} to see whether that is the cause"))
    }
}

fn not_acknowledged(count: u64) -> String {
    let told = counted(
        count,
        "message was not acknowledged",
        "messages were not acknowledged",
    );
    format!("{told}; the log says more with -v")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::bench_settings;
    use crate::app::traffic::ReceivedCounts;
    use mqtt_connection_sharing::options::Options;
    use mqtt_connection_sharing::{Client, Outcome};

    /// A loop that ended at once, of which that many losses are told.
    fn ended(losses: u64) -> Ended {
        let client = Client::new(Options::new("localhost", "c")).unwrap();
        let (agent, handle) = client.open();
        drop(handle);
        let mut ended = agent.run();
        assert!(ended.result.is_ok());
        ended.stats.losses = losses;
        ended
    }

    fn lost(blame: Blame, problem: &str, advice: &str) -> Option<Error> {
        Some(Error::new(blame, "connection to b:1", problem, advice))
    }

    fn silent() -> Option<Error> {
        lost(Blame::Network, "lost after 9 ms: no PINGRESP", "")
    }

    fn closed() -> Option<Error> {
        lost(Blame::Network, "lost after 9 ms: closed", "see its log")
    }

    /// The problem of a run that got so many acknowledgments, in which a message ended for this reason.
    fn told(window: u16, acknowledged: u64, reason: Reason, last_loss: Option<Error>) -> String {
        let settings = BenchSettings {
            window,
            ..bench_settings()
        };
        let tally = Tally::new().unwrap();
        tally.were_acknowledged(acknowledged);
        let outcome = Outcome::PerhapsDelivered(reason);
        tally.was_not_delivered(&outcome);
        let seen = Evidence {
            settings: &settings,
            keeps_session: false,
            tally: &tally,
            measured: &Measured::default(),
            ended: &ended(2),
            last_loss,
            is_interrupted: false,
        };
        let problem = seen.problem().unwrap();
        let rest = problem.strip_prefix(&format!("a message was {outcome} ("));
        let rest = rest.and_then(|rest| rest.strip_suffix(')'));
        rest.unwrap_or_else(|| panic!("{problem}")).to_owned()
    }

    #[test]
    fn a_remedy_for_a_lost_connection_is_named_only_where_what_was_seen_speaks_for_it() {
        let lost_session = Reason::SessionLost;
        let was_closed = "the connection was lost after 9 ms: closed; see its log";
        let is_cause = "to see whether that is the cause";
        let clean = "let the session survive, with --clean-session=false";
        let topic = "compare --topic-prefix with what the broker allows, or lower --payload-size";
        let mended = lost(Blame::Broker, "lost after 9 ms: a fault", "mend the broker");
        for (told, expected) in [
            (
                told(20, 0, Reason::LinkLost, None),
                "the connection was lost".to_owned(),
            ),
            // The network or the broker as a whole went silent: neither size nor number speaks for itself.
            (
                told(20, 0, Reason::LinkLost, silent()),
                "the connection was lost after 9 ms: no PINGRESP".to_owned(),
            ),
            (
                told(20, 1, lost_session, silent()),
                format!("the connection was lost after 9 ms: no PINGRESP; {clean}"),
            ),
            (
                told(20, 0, lost_session, closed()),
                format!("{was_closed}; lower --payload-size and --window {is_cause}"),
            ),
            // One of that size was acknowledged.
            (
                told(20, 1, Reason::LinkLost, closed()),
                format!("{was_closed}; lower --window {is_cause}"),
            ),
            // There is no lower window.
            (
                told(1, 0, Reason::LinkLost, closed()),
                format!("{was_closed}; lower --payload-size {is_cause}"),
            ),
            (
                told(1, 1, Reason::LinkLost, closed()),
                was_closed.to_owned(),
            ),
            (
                told(20, 1, Reason::Parked, closed()),
                format!("{was_closed}; {topic}"),
            ),
            (
                told(20, 0, Reason::Unanswered, silent()),
                format!("the connection was lost after 9 ms: no PINGRESP; {topic}"),
            ),
            (
                told(20, 0, Reason::LinkLost, mended),
                "the connection was lost after 9 ms: a fault".to_owned(),
            ),
        ] {
            assert_eq!(told, expected);
        }
    }

    /// The problem of a run in which each message was acknowledged, and so many came back.
    fn told_of_missing(window: u16, came: u64, losses: u64) -> String {
        let settings = BenchSettings {
            window,
            messages: 3,
            ..bench_settings()
        };
        let tally = Tally::new().unwrap();
        tally.were_acknowledged(3);
        let received = ReceivedCounts {
            distinct: came,
            ..ReceivedCounts::default()
        };
        let measured = Measured {
            received: Some(received),
            ..Measured::default()
        };
        let seen = Evidence {
            settings: &settings,
            keeps_session: false,
            tally: &tally,
            measured: &measured,
            ended: &ended(losses),
            last_loss: closed(),
            is_interrupted: false,
        };
        seen.problem().unwrap()
    }

    #[test]
    fn messages_that_do_not_come_back_are_laid_to_a_queue_only_where_others_did() {
        let none = format!("3 messages did not come back ({NONE_DELIVERED})");
        assert_eq!(told_of_missing(5_000, 0, 0), none);
        let some = format!("1 message did not come back ({SOME_DELIVERED})");
        assert_eq!(told_of_missing(1_000, 2, 0), some);
        // A window of that size lets more wait at the broker.
        let window = format!("1 message did not come back ({SOME_DELIVERED}, or lower --window)");
        assert_eq!(told_of_missing(5_000, 2, 0), window);
        // A message may have gone with the connection.
        assert_eq!(told_of_missing(5_000, 2, 1), "1 message did not come back");
    }
}
