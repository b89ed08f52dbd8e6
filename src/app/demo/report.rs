//! The result of the demo: for people line by line, for programs as one JSON object.
//!
//! Pure data; the main thread writes it to standard output.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The result of one iteration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// Expected messages that did not, without those that were dropped.
    pub(crate) lost: u64,
    /// Expected messages of QoS 0 that came and found the inbox full.
    pub(crate) dropped: u64,
    /// Expected messages that came again.
    pub(crate) duplicated: u64,
    /// Messages that this iteration had not published.
    pub(crate) unexpected: u64,
    /// First deliveries out of their publisher's order.
    pub(crate) reordered: u64,
    /// Times the connection was made again.
    pub(crate) reconnects: u64,
    /// Reconnects at which the broker still had the session.
    pub(crate) resumed: u64,
    /// Subscriptions renewed because the broker had forgotten them.
    pub(crate) resubscribed: u64,
    /// How long the rate held messages back, in milliseconds.
    pub(crate) rate_limited_ms: u64,
    /// How long it took, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
}

/// The result of the whole demo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DemoReport {
    /// Iterations that were run.
    pub(crate) iterations: u64,
    /// Those that succeeded.
    pub(crate) succeeded: u64,
    /// More than half of them did, and at least one.
    pub(crate) success: bool,
    /// One for each iteration, in order.
    pub(crate) runs: Vec<Run>,
}

impl DemoReport {
    /// The verdict over all iterations.
    pub(crate) fn new(runs: Vec<Run>) -> Self {
        let iterations = runs.len() as u64;
        let succeeded = runs.iter().filter(|run| run.success).count() as u64;
        DemoReport {
            iterations,
            succeeded,
            success: succeeded * 2 > iterations,
            runs,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = self.received + self.lost + self.dropped;
        write!(
            f,
            "iteration {}: {}, {} of {expected} received, {} of {} acknowledged",
            self.iteration,
            if self.success { "ok" } else { "FAILED" },
            self.received,
            self.acknowledged,
            self.published,
        )?;
        write!(f, ", {} lost", self.lost)?;
        if self.dropped > 0 {
            write!(f, ", {} dropped", self.dropped)?;
        }
        for (count, what) in [
            (self.duplicated, "duplicated"),
            (self.unexpected, "unexpected"),
            (self.reordered, "reordered"),
        ] {
            write!(f, ", {count} {what}")?;
        }
        if self.reconnects > 0 {
            write!(
                f,
                ", reconnects: {} ({} with the session kept, {} subscriptions renewed)",
                self.reconnects, self.resumed, self.resubscribed
            )?;
        }
        if self.rate_limited_ms > 0 {
            let held = Duration::from_millis(self.rate_limited_ms);
            write!(f, ", held back {held:.1?} by the rate")?;
        }
        write!(f, ", {:.1?}", Duration::from_millis(self.elapsed_ms))?;
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} iterations succeeded: {}",
            self.succeeded,
            self.iterations,
            if self.success { "success" } else { "failure" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::print::to_json;

    fn run(iteration: u64, success: bool) -> Run {
        Run {
            iteration,
            success,
            published: 8,
            acknowledged: 8,
            received: 8,
            lost: 0,
            dropped: 0,
            duplicated: 0,
            unexpected: 0,
            reordered: 0,
            reconnects: 0,
            resumed: 0,
            resubscribed: 0,
            rate_limited_ms: 0,
            elapsed_ms: 1500,
            error: None,
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
        assert_eq!(
            to_json(&DemoReport::new(vec![failed])),
            concat!(
                r#"{"iterations":1,"succeeded":0,"success":false,"runs":[{"iteration":1,"#,
                r#""success":false,"published":8,"acknowledged":8,"received":8,"lost":0,"#,
                r#""dropped":0,"duplicated":0,"unexpected":0,"reordered":0,"reconnects":0,"resumed":0,"#,
                r#""resubscribed":0,"rate_limited_ms":0,"elapsed_ms":1500,"error":"a \"quoted\" reason"}]}"#
            )
        );
    }

    #[test]
    fn a_run_reads_as_one_line() {
        assert_eq!(
            run(2, true).to_string(),
            "iteration 2: ok, 8 of 8 received, 8 of 8 acknowledged, 0 lost, 0 duplicated, \
             0 unexpected, 0 reordered, 1.5s"
        );
        let mut dropped = run(1, false);
        (dropped.received, dropped.dropped) = (5, 3);
        let line = dropped.to_string();
        assert!(
            line.contains("FAILED, 5 of 8 received, 8 of 8 acknowledged, 0 lost, 3 dropped, 0 dup"),
            "{line}"
        );
        let mut slow = run(1, true);
        slow.rate_limited_ms = 700;
        let line = slow.to_string();
        assert!(
            line.ends_with(", held back 700.0ms by the rate, 1.5s"),
            "{line}"
        );
    }
}
