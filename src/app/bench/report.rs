//! The result of the bench: for people in lines, for programs as one JSON object.
//!
//! Pure data; the main thread writes it to standard output. `config/output.schema.json` describes the object.

use std::fmt;

use serde::Serialize;

use crate::app::lines::{CameBack, JOINT, Many, Micros, Shared, entry};
use crate::app::traffic::ReceivedCounts;

/// Where the texts of the lines begin.
const COLUMN: usize = 14;

/// The result of a bench.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BenchReport {
    /// The version of this form.
    pub(crate) schema: u32,
    /// `async` or `sync`.
    pub(crate) mode: &'static str,
    /// Threads that published.
    pub(crate) threads: usize,
    /// Messages that were to be published, over all threads.
    pub(crate) messages: u64,
    /// Bytes in each.
    pub(crate) payload_bytes: usize,
    /// Messages that could await their acknowledgment at one time.
    pub(crate) window: u16,
    /// Quality of service: 0, 1 or 2.
    pub(crate) qos: u8,
    /// Whether nothing was lost and nothing failed.
    pub(crate) success: bool,
    /// Messages that the loop took.
    pub(crate) published: u64,
    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(crate) acknowledged: u64,
    /// From the first publish to the last acknowledgment.
    pub(crate) seconds: f64,
    /// Messages acknowledged in each of these seconds.
    pub(crate) messages_per_second: f64,
    /// From the call to the acknowledgment; `None` when nothing was acknowledged.
    pub(crate) latency_us: Option<Latency>,
    /// Processor time of the program meanwhile, where the system tells.
    pub(crate) cpu_seconds: Option<f64>,
    /// The most memory that the program had resident, where the system tells.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Distinct messages that came back; this and the next five only with `--receive`.
    pub(crate) received: Option<u64>,
    /// Acknowledged messages that did not come back, without those that were dropped.
    pub(crate) lost: Option<u64>,
    /// Messages of QoS 0 that came and found the receiver's inbox full.
    pub(crate) dropped: Option<u64>,
    /// Messages that came back again.
    pub(crate) duplicated: Option<u64>,
    /// Messages that came back after a later one of the same thread.
    pub(crate) reordered: Option<u64>,
    /// Messages that this run had not published, or that were not whole.
    pub(crate) unexpected: Option<u64>,
    /// Times the connection was made again.
    pub(crate) reconnects: u64,
    /// How long the rate held messages back.
    pub(crate) rate_limited_seconds: f64,
    /// The figures of all that the threads shared.
    #[serde(flatten)]
    pub(crate) shared: Shared,
    /// Whether it was interrupted.
    pub(crate) interrupted: bool,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
    /// The reason code of MQTT 5 in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_code: Option<u8>,
}

/// Quantiles of the time from the call to the acknowledgment, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half of all messages took at most this.
    pub(crate) p50: f64,
    /// Nine of ten.
    pub(crate) p90: f64,
    /// 99 of 100.
    pub(crate) p99: f64,
    /// 999 of 1000.
    pub(crate) p999: f64,
    /// All.
    pub(crate) max: f64,
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.success { "ok:" } else { "FAILED:" };
        let asked = format!(
            "{} of {}, QoS {}, {}, {}, window {}",
            Many(self.messages, "message"),
            Many(self.payload_bytes as u64, "byte"),
            self.qos,
            self.mode,
            Many(self.threads as u64, "thread"),
            self.window
        );
        f.write_str(&entry(verdict, verdict.len() + 1, &asked))?;
        let mut line = |name: &str, text: &str| write!(f, "\n{}", entry(name, COLUMN, text));
        let ended = match self.qos {
            0 => "sent",
            _ => "acknowledged",
        };
        let digits = if self.messages_per_second < 10.0 {
            2
        } else {
            0
        };
        let rate = format!(
            "{} of {} in {:.3} s: {:.digits$} a second",
            self.acknowledged, self.messages, self.seconds, self.messages_per_second
        );
        line(ended, &rate)?;
        if let Some(latency) = &self.latency_us {
            let quantiles = format!(
                "half within {}, 90{JOINT}% within {}, 99{JOINT}% within {}, 99.9{JOINT}% within {}, \
                 longest {}",
                Micros(latency.p50),
                Micros(latency.p90),
                Micros(latency.p99),
                Micros(latency.p999),
                Micros(latency.max)
            );
            line("latency", &quantiles)?;
        }
        if let Some(came_back) = self.came_back() {
            line("subscriber", &came_back.to_string())?;
        }
        line("shared", &self.shared.waited())?;
        line("connection", &self.shared.carried())?;
        if self.reconnects > 0 {
            line("reconnected", &Many(self.reconnects, "time").to_string())?;
        }
        if let Some(cpu) = self.cpu_seconds {
            let each = match self.acknowledged {
                0 => String::new(),
                n => format!(", {:.2} µs for each message", cpu * 1e6 / n as f64),
            };
            line("processor", &format!("{cpu:.3} s{each}"))?;
        }
        if let Some(bytes) = self.peak_rss_bytes {
            let mebibytes = bytes as f64 / 1_048_576.0;
            line("memory", &format!("{mebibytes:.1} MiB at most"))?;
        }
        if self.rate_limited_seconds > 0.0 {
            let seconds = self.rate_limited_seconds;
            line("rate", &format!("held messages back for {seconds:.3} s"))?;
        }
        match &self.error {
            Some(error) => line("because", error),
            None => Ok(()),
        }
    }
}

impl BenchReport {
    /// The messages that came back, where they were received.
    fn came_back(&self) -> Option<CameBack> {
        let (received, lost) = (self.received?, self.lost?);
        let dropped = self.dropped.unwrap_or_default();
        Some(CameBack {
            expected: received + lost + dropped,
            received: ReceivedCounts {
                distinct: received,
                duplicated: self.duplicated.unwrap_or_default(),
                reordered: self.reordered.unwrap_or_default(),
                unexpected: self.unexpected.unwrap_or_default(),
            },
            lost,
            // Only those that were acknowledged are expected.
            unacknowledged: 0,
            dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::json::to_json;

    fn report() -> BenchReport {
        BenchReport {
            schema: 1,
            mode: "async",
            threads: 4,
            messages: 1000,
            payload_bytes: 64,
            window: 100,
            qos: 1,
            success: true,
            published: 1000,
            acknowledged: 1000,
            seconds: 0.5,
            messages_per_second: 2000.0,
            latency_us: Some(Latency {
                p50: 10.5,
                p90: 1500.0,
                p99: 2_000_000.0,
                p999: 2_000_000.0,
                max: 3_000_000.0,
            }),
            cpu_seconds: Some(0.25),
            peak_rss_bytes: Some(12 * 1_048_576),
            received: Some(1000),
            lost: Some(0),
            dropped: Some(0),
            duplicated: Some(0),
            reordered: Some(0),
            unexpected: Some(0),
            reconnects: 0,
            rate_limited_seconds: 0.0,
            shared: Shared {
                in_flight_most: 100,
                queued_most: 12,
                packets_sent: 2004,
                packets_received: 2004,
                bytes_sent: 90_000,
                bytes_received: 91_000,
                writes: 300,
                tls: true,
            },
            interrupted: false,
            error: None,
            reason_code: None,
        }
    }

    #[test]
    fn a_result_reads_as_lines() {
        assert_eq!(
            report().to_string(),
            "ok: 1000 messages of 64 bytes, QoS 1, async, 4 threads, window 100\n\
             acknowledged  1000 of 1000 in 0.500 s: 2000 a second\n\
             latency       half within 10.5 µs, 90 % within 1.50 ms, 99 % within 2.00 s,\n\
             \x20             99.9 % within 2.00 s, longest 3.00 s\n\
             subscriber    1000 of 1000 received; nothing lost, repeated or out of order\n\
             shared        at most 100 in flight, 12 queued\n\
             connection    2004 packets out in 300 TLS records, 2004 in\n\
             processor     0.250 s, 250.00 µs for each message\n\
             memory        12.0 MiB at most"
        );
        let failed = BenchReport {
            success: false,
            received: None,
            lost: None,
            latency_us: None,
            reconnects: 2,
            rate_limited_seconds: 1.5,
            error: Some("interrupted".into()),
            ..report()
        };
        let text = failed.to_string();
        assert!(text.starts_with("FAILED: 1000 messages"), "{text}");
        assert!(text.contains("\nreconnected   2 times\n"), "{text}");
        let end =
            "at most\nrate          held messages back for 1.500 s\nbecause       interrupted";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn json_has_null_where_nothing_was_measured() {
        let mut report = report();
        report.received = None;
        report.cpu_seconds = None;
        let json: serde_json::Value = serde_json::from_str(&to_json(&report)).unwrap();
        assert_eq!(json["latency_us"]["p999"], 2_000_000.0);
        assert!(json["received"].is_null() && json["cpu_seconds"].is_null());
        assert_eq!(json["payload_bytes"], 64);
    }
}
