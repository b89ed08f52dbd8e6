//! The result of the demo: for people a block of lines for each iteration, for programs one JSON object.
//!
//! Pure data; the main thread writes it to standard output. `config/output.schema.json` describes the object.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::app::json::SCHEMA;
use crate::app::lines::{CameBack, Many, Micros, Shared, entry};
use crate::app::picture::MessageCounts;
use crate::app::traffic::ReceivedCounts;

/// Where the texts of a block begin.
const COLUMN: usize = 20;

/// The result of one iteration.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Run {
    /// Its number, from 1.
    pub(crate) iteration: u64,
    /// Everything received and acknowledged, every thread and the loop ended well.
    pub(crate) success: bool,
    /// Messages that the loop took.
    pub(crate) published: u64,
    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(crate) acknowledged: u64,
    /// Distinct expected messages that came back.
    pub(crate) received: u64,
    /// Acknowledged messages that did not, without those that were dropped.
    pub(crate) lost: u64,
    /// Messages that did not and were not acknowledged; perhaps they were not even published.
    pub(crate) unacknowledged: u64,
    /// Expected messages of QoS 0 that came and found the inbox full.
    pub(crate) dropped: u64,
    /// Expected messages that came again.
    pub(crate) duplicated: u64,
    /// Messages that this iteration had not published.
    pub(crate) unexpected: u64,
    /// First deliveries out of their publisher's order.
    pub(crate) reordered: u64,
    /// Times the broker accepted a connection.
    pub(crate) connects: u64,
    /// Whether the broker had kept the session, at the first of these.
    pub(crate) session: Option<SessionFound>,
    /// Times the connection was made again.
    pub(crate) reconnects: u64,
    /// Reconnects at which the broker still had the session.
    pub(crate) resumed: u64,
    /// Subscriptions renewed because the broker had forgotten them.
    pub(crate) resubscribed: u64,
    /// How long the rate held messages back, in milliseconds.
    pub(crate) rate_limited_ms: u64,
    /// The thread that waits for each acknowledgment.
    pub(crate) sync_publisher: Published,
    /// The thread that does not.
    pub(crate) async_publisher: Published,
    /// The figures of all that the threads shared.
    #[serde(flatten)]
    pub(crate) shared: Shared,
    /// How long it took, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// The quality of service: 0, 1 or 2.
    #[serde(skip)]
    pub(crate) qos: u8,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
    /// The reason code of MQTT 5 in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason_code: Option<u8>,
}

/// Whether the broker had kept the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "lowercase")]
pub(crate) enum SessionFound {
    New,
    Resumed,
}

/// The work of a publisher's thread, and its measurements.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Published {
    /// Messages that it was to publish.
    pub(crate) messages: u64,
    /// Messages that the loop took.
    pub(crate) published: u64,
    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(crate) acknowledged: u64,
    /// Microseconds from the call to the acknowledgment: half of the messages took no longer.
    pub(crate) median_us: Option<f64>,
    /// Microseconds from the call to the acknowledgment: the longest.
    pub(crate) longest_us: Option<f64>,
    /// Microseconds within which each message was in the queue.
    pub(crate) queued_us: Option<f64>,
}

/// The result of the whole demo.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct DemoReport {
    /// The version of this form.
    pub(crate) schema: u32,
    /// Iterations that were run.
    pub(crate) iterations: u64,
    /// Those that succeeded.
    pub(crate) succeeded: u64,
    /// More than half of them did, and at least one.
    pub(crate) success: bool,
    /// One for each iteration, in order, where somebody has kept them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runs: Option<Vec<Run>>,
}

impl Default for DemoReport {
    fn default() -> Self {
        DemoReport {
            schema: SCHEMA,
            iterations: 0,
            succeeded: 0,
            success: false,
            runs: None,
        }
    }
}

#[cfg(test)]
impl DemoReport {
    /// With all of its iterations.
    pub(crate) fn new(runs: Vec<Run>) -> Self {
        let mut report = DemoReport::default();
        for run in &runs {
            report.count(run);
        }
        report.runs = Some(runs);
        report
    }
}

impl DemoReport {
    /// An iteration is over.
    pub(crate) fn count(&mut self, run: &Run) {
        self.iterations += 1;
        self.succeeded += u64::from(run.success);
        self.success = self.succeeded * 2 > self.iterations;
    }
}

impl Run {
    /// For a picture.
    pub(super) fn counts(&self) -> MessageCounts {
        MessageCounts {
            published: self.published,
            acknowledged: self.acknowledged,
            received: Some(self.received),
            duplicated: self.duplicated,
            dropped: self.dropped,
            qos: self.qos,
        }
    }

    /// An iteration in which nothing happened yet, with so many messages to come.
    pub(crate) fn empty(number: u64, total: u64) -> Self {
        Run {
            iteration: number,
            success: false,
            published: 0,
            acknowledged: 0,
            received: 0,
            lost: 0,
            unacknowledged: total,
            dropped: 0,
            duplicated: 0,
            unexpected: 0,
            reordered: 0,
            connects: 0,
            session: None,
            reconnects: 0,
            resumed: 0,
            resubscribed: 0,
            rate_limited_ms: 0,
            sync_publisher: Published::default(),
            async_publisher: Published::default(),
            shared: Shared::default(),
            elapsed_ms: 0,
            qos: 1,
            error: None,
            reason_code: None,
        }
    }

    /// How a publisher's messages went. `is_sync`: the thread waited for each of them.
    fn told(&self, publisher: &Published, is_sync: bool) -> String {
        let Published {
            messages,
            acknowledged,
            ..
        } = *publisher;
        if messages == 0 {
            return "nothing to publish".to_owned();
        }
        let ended = match self.qos {
            0 => "sent",
            _ => "acknowledged",
        };
        let mut told = match acknowledged == messages {
            true => format!("{messages} {ended}"),
            false => format!("{acknowledged} of {messages} {ended}"),
        };
        let measured = [
            ("median ", publisher.median_us),
            ("longest ", publisher.longest_us.filter(|_| is_sync)),
            (
                "each queued within ",
                publisher.queued_us.filter(|_| !is_sync),
            ),
        ];
        for (what, micros) in measured {
            if let Some(micros) = micros {
                told.push_str(&format!(", {what}{}", Micros(micros)));
            }
        }
        told
    }

    /// The reconnects and their sessions.
    fn reconnected(&self) -> String {
        let times = Many(self.reconnects, "time");
        let session = match self.resumed {
            kept if kept == self.reconnects => "the session was kept".to_owned(),
            0 => "the session was lost".to_owned(),
            kept => format!("the session was kept {}", Many(kept, "time")),
        };
        match self.resubscribed {
            0 => format!("{times}; {session}"),
            n => format!("{times}; {session}; {} renewed", Many(n, "subscription")),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = Duration::from_millis(self.elapsed_ms).as_secs_f64();
        let verdict = if self.success {
            "ok in"
        } else {
            "FAILED after"
        };
        let number = self.iteration;
        write!(f, "iteration {number}: {verdict} {took:.1} s ")?;
        match self.connects {
            0 => write!(f, "without a connection")?,
            n => write!(f, "over {}", Many(n, "connection"))?,
        }
        match self.session {
            Some(SessionFound::New) => write!(f, " (session new)")?,
            Some(SessionFound::Resumed) => write!(f, " (session resumed)")?,
            None => {}
        }
        let mut line = |name: &str, text: &str| write!(f, "\n{}", entry(name, COLUMN, text));
        if self.connects > 0 {
            line("  sync publisher", &self.told(&self.sync_publisher, true))?;
            line(
                "  async publisher",
                &self.told(&self.async_publisher, false),
            )?;
            let came_back = CameBack {
                expected: self.received + self.lost + self.unacknowledged + self.dropped,
                received: ReceivedCounts {
                    distinct: self.received,
                    duplicated: self.duplicated,
                    reordered: self.reordered,
                    unexpected: self.unexpected,
                },
                lost: self.lost,
                unacknowledged: self.unacknowledged,
                dropped: self.dropped,
            };
            line("  subscriber", &came_back.to_string())?;
            line("  shared", &self.shared.waited())?;
            line("  connection", &self.shared.carried())?;
        }
        if self.reconnects > 0 {
            line("  reconnected", &self.reconnected())?;
        }
        if self.rate_limited_ms > 0 {
            let held = Duration::from_millis(self.rate_limited_ms).as_secs_f64();
            line("  rate", &format!("held messages back for {held:.1} s"))?;
        }
        match &self.error {
            Some(error) => line("  because", error),
            None => Ok(()),
        }
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.success { "success" } else { "failure" };
        f.write_str(verdict)?;
        match (self.succeeded, self.iterations) {
            (_, 0) => f.write_str(": no iteration was run"),
            // The lines before say it.
            (_, 1) => Ok(()),
            (succeeded, all) if succeeded == all => write!(f, ": all {all} iterations succeeded"),
            (0, all) => write!(f, ": none of {all} iterations succeeded"),
            (some, all) => write!(f, ": {some} of {all} iterations succeeded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::json::to_json;

    fn publisher() -> Published {
        Published {
            messages: 4,
            published: 4,
            acknowledged: 4,
            median_us: Some(310.0),
            longest_us: Some(1520.0),
            queued_us: Some(11.5),
        }
    }

    fn run(iteration: u64, success: bool) -> Run {
        Run {
            success,
            published: 8,
            acknowledged: 8,
            received: 8,
            unacknowledged: 0,
            connects: 1,
            session: Some(SessionFound::New),
            sync_publisher: publisher(),
            async_publisher: publisher(),
            shared: Shared {
                in_flight_most: 5,
                queued_most: 3,
                packets_sent: 22,
                packets_received: 30,
                bytes_sent: 700,
                bytes_received: 800,
                writes: 14,
                tls: true,
            },
            elapsed_ms: 1320,
            ..Run::empty(iteration, 8)
        }
    }

    #[test]
    fn more_than_half_of_the_iterations_have_to_succeed() {
        assert!(DemoReport::new(vec![run(1, true), run(2, false), run(3, true)]).success);
        assert!(!DemoReport::new(vec![run(1, true), run(2, false)]).success);
        assert!(!DemoReport::new(Vec::new()).success);
    }

    #[test]
    fn json_has_the_documented_fields_in_order() {
        let mut failed = run(1, false);
        failed.error = Some("a \"quoted\" reason".into());
        let publisher = concat!(
            r#"{"messages":4,"published":4,"acknowledged":4,"median_us":310.0,"#,
            r#""longest_us":1520.0,"queued_us":11.5}"#
        );
        let expected = [
            r#"{"schema":1,"iterations":1,"succeeded":0,"success":false,"runs":[{"iteration":1,"#,
            r#""success":false,"published":8,"acknowledged":8,"received":8,"lost":0,"#,
            r#""unacknowledged":0,"dropped":0,"duplicated":0,"unexpected":0,"reordered":0,"connects":1,"#,
            r#""session":"new","reconnects":0,"resumed":0,"resubscribed":0,"rate_limited_ms":0,"#,
            r#""sync_publisher":"#,
            publisher,
            r#","async_publisher":"#,
            publisher,
            r#","in_flight_most":5,"queued_most":3,"packets_sent":22,"packets_received":30,"#,
            r#""bytes_sent":700,"bytes_received":800,"writes":14,"elapsed_ms":1320,"#,
            r#""error":"a \"quoted\" reason"}]}"#,
        ];
        assert_eq!(to_json(&DemoReport::new(vec![failed])), expected.concat());
    }

    #[test]
    fn a_good_run_reads_as_a_block() {
        assert_eq!(
            run(2, true).to_string(),
            "iteration 2: ok in 1.3 s over 1 connection (session new)\n\
             \x20 sync publisher    4 acknowledged, median 310.0 µs, longest 1.52 ms\n\
             \x20 async publisher   4 acknowledged, median 310.0 µs, each queued within 11.5 µs\n\
             \x20 subscriber        8 of 8 received; nothing lost, repeated or out of order\n\
             \x20 shared            at most 5 in flight, 3 queued\n\
             \x20 connection        22 packets out in 14 TLS records, 30 in"
        );
    }

    #[test]
    fn a_failed_run_says_what_is_missing_and_why() {
        let mut failed = run(1, false);
        (failed.received, failed.lost, failed.reconnects) = (5, 3, 3);
        (failed.connects, failed.resumed, failed.resubscribed) = (4, 1, 1);
        failed.rate_limited_ms = 1500;
        failed.session = Some(SessionFound::Resumed);
        failed.shared.tls = false;
        failed.async_publisher = Published {
            acknowledged: 0,
            median_us: None,
            longest_us: None,
            ..publisher()
        };
        failed.error = Some("no message for 18s: 5 of 8 received; ".to_owned() + &"x ".repeat(40));
        let text = failed.to_string();
        let expected = "iteration 1: FAILED after 1.3 s over 4 connections (session resumed)\n\
             \x20 sync publisher    4 acknowledged, median 310.0 µs, longest 1.52 ms\n\
             \x20 async publisher   0 of 4 acknowledged, each queued within 11.5 µs\n\
             \x20 subscriber        5 of 8 received; 3 lost, nothing repeated or out of order\n\
             \x20 shared            at most 5 in flight, 3 queued\n\
             \x20 connection        22 packets out in 14 writes, 30 in\n\
             \x20 reconnected       3 times; the session was kept 1 time; 1 subscription renewed\n\
             \x20 rate              held messages back for 1.5 s\n\
             \x20 because           no message for 18s: 5 of 8 received; x x x x x x x x x x x x\n\
             \x20                   x x";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let mut unconnected = Run::empty(1, 8);
        unconnected.error = Some("nobody is there".to_owned());
        assert_eq!(
            unconnected.to_string(),
            "iteration 1: FAILED after 0.0 s without a connection\n\
             \x20 because           nobody is there"
        );
    }

    fn unfolded(run: &Run) -> String {
        let lines = run.to_string();
        lines.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn messages_that_were_not_acknowledged_are_not_told_as_lost() {
        let mut interrupted = run(1, false);
        (interrupted.acknowledged, interrupted.received) = (5, 4);
        (interrupted.lost, interrupted.unacknowledged) = (1, 3);
        let text = unfolded(&interrupted);
        let came = "4 of 8 received; 1 lost, 3 not acknowledged, nothing repeated or out of order";
        assert!(text.contains(came), "{text}");
        (interrupted.received, interrupted.lost) = (5, 0);
        let text = unfolded(&interrupted);
        let came = "5 of 8 received; 3 not acknowledged, nothing lost, repeated or out of order";
        assert!(text.contains(came), "{text}");
    }

    #[test]
    fn the_verdict_needs_no_count_where_there_is_one_iteration() {
        for (runs, expected) in [
            (vec![], "failure: no iteration was run"),
            (vec![true], "success"),
            (vec![false], "failure"),
            (vec![true, true], "success: all 2 iterations succeeded"),
            (
                vec![true, false, true],
                "success: 2 of 3 iterations succeeded",
            ),
            (vec![true, false], "failure: 1 of 2 iterations succeeded"),
            (
                vec![false, false],
                "failure: none of 2 iterations succeeded",
            ),
        ] {
            let runs = runs.iter().map(|success| run(1, *success)).collect();
            assert_eq!(DemoReport::new(runs).to_string(), expected);
        }
    }
}
