//! The JSON report as a program would read it: every documented field must be there, and no other. `schema.rs` holds
//! it to the schema as well.

use serde::{Deserialize, Deserializer};

use super::Finished;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub schema: u64,
    pub iterations: u64,
    pub succeeded: u64,
    pub success: bool,
    pub runs: Vec<Run>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub iteration: u64,
    pub success: bool,
    pub published: u64,
    pub acknowledged: u64,
    pub received: u64,
    pub lost: u64,
    pub unacknowledged: u64,
    pub dropped: u64,
    pub duplicated: u64,
    pub unexpected: u64,
    pub reordered: u64,
    pub connects: u64,
    #[serde(deserialize_with = "string_or_null")]
    pub session: Option<String>,
    pub reconnects: u64,
    pub resumed: u64,
    pub resubscribed: u64,
    pub rate_limited_ms: u64,
    pub sync_publisher: Publisher,
    pub async_publisher: Publisher,
    pub in_flight_most: u64,
    pub queued_most: u64,
    pub packets_sent: u64,
    pub packets_received: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub writes: u64,
    pub elapsed_ms: u64,
    // A deserializer is named because the field could be missing otherwise: it must be there, as null.
    #[serde(deserialize_with = "string_or_null")]
    pub error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    pub messages: u64,
    pub published: u64,
    pub acknowledged: u64,
    pub median_us: Option<f64>,
    pub longest_us: Option<f64>,
    pub queued_us: Option<f64>,
}

fn string_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(from)
}

impl Report {
    /// Reads the one object that is all of the program's standard output.
    ///
    /// # Panics
    /// When there is anything else on it, or when the report contradicts itself.
    #[track_caller]
    pub fn of(finished: &Finished) -> Report {
        let one_line = finished.stdout.ends_with('\n') && finished.stdout.lines().count() == 1;
        assert!(one_line, "expected one line: {finished}");
        let report: Report = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("no report, {error}: {finished}"));
        let succeeded = report.runs.iter().filter(|run| run.success).count() as u64;
        assert_eq!(report.iterations, report.runs.len() as u64, "{finished}");
        assert_eq!(report.succeeded, succeeded, "{finished}");
        assert_eq!(
            report.success,
            succeeded * 2 > report.iterations,
            "{finished}"
        );
        report
    }

    /// The run of a program that should make one run.
    #[track_caller]
    pub fn only_run(&self) -> &Run {
        assert_eq!(self.runs.len(), 1, "{self:?}");
        &self.runs[0]
    }
}

impl Run {
    /// Checks that all `count` messages went out, were acknowledged and came back.
    #[track_caller]
    pub fn expect_complete(&self, count: u64) {
        let whole = self.success
            && self.published == count
            && self.acknowledged == count
            && self.received == count
            && self.lost == 0
            && self.unacknowledged == 0
            && self.unexpected == 0
            && self.error.is_none();
        assert!(whole, "expected all of {count} messages: {self:?}");
    }

    /// As [`Run::expect_complete`], and checks that nothing out of the ordinary happened.
    #[track_caller]
    pub fn expect_smooth(&self, count: u64) {
        self.expect_complete(count);
        let smooth = [
            self.duplicated,
            self.reordered,
            self.reconnects,
            self.resumed,
            self.resubscribed,
            self.rate_limited_ms,
        ];
        assert_eq!(smooth, [0; 6], "{self:?}");
    }
}
