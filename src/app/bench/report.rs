//! The result of the bench: for people in lines, for programs as one JSON object.
//!
//! Pure data; the main thread writes it to standard output.

use std::fmt;

use serde::Serialize;

/// The result of a bench.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BenchReport {
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
    /// Whether it was interrupted.
    pub(crate) interrupted: bool,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
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
        let BenchReport {
            mode,
            threads,
            messages,
            payload_bytes,
            window,
            qos,
            ..
        } = self;
        writeln!(
            f,
            "{}: {messages} messages of {payload_bytes} bytes, QoS {qos}, {mode}, threads {threads}, window {window}",
            if self.success { "ok" } else { "FAILED" },
        )?;
        writeln!(
            f,
            "{}  {} of {} in {:.3} s: {:.*} a second",
            if *qos == 0 {
                "sent        "
            } else {
                "acknowledged"
            },
            self.acknowledged,
            self.messages,
            self.seconds,
            if self.messages_per_second < 10.0 {
                2
            } else {
                0
            },
            self.messages_per_second
        )?;
        if let Some(latency) = &self.latency_us {
            write!(f, "latency       ")?;
            for (name, value) in [
                ("half ", latency.p50),
                (", 90 % ", latency.p90),
                (", 99 % ", latency.p99),
                (", 99.9 % ", latency.p999),
            ] {
                write!(f, "{name}within {}", Micros(value))?;
            }
            writeln!(f, ", longest {}", Micros(latency.max))?;
        }
        if let Some(cpu) = self.cpu_seconds {
            write!(f, "processor     {cpu:.3} s")?;
            if self.acknowledged > 0 {
                let each = cpu * 1e6 / self.acknowledged as f64;
                write!(f, ", {each:.2} µs for each message")?;
            }
            writeln!(f)?;
        }
        if let Some(bytes) = self.peak_rss_bytes {
            writeln!(
                f,
                "memory        {:.1} MiB at most",
                bytes as f64 / 1_048_576.0
            )?;
        }
        if let (Some(received), Some(lost)) = (self.received, self.lost) {
            write!(f, "received back {received}, {lost} lost")?;
            if let Some(dropped @ 1..) = self.dropped {
                write!(f, ", {dropped} dropped")?;
            }
            for (count, what) in [
                (self.duplicated, "duplicated"),
                (self.reordered, "reordered"),
                (self.unexpected, "unexpected"),
            ] {
                write!(f, ", {} {what}", count.unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        if self.reconnects > 0 {
            writeln!(f, "reconnects    {}", self.reconnects)?;
        }
        if self.rate_limited_seconds > 0.0 {
            let seconds = self.rate_limited_seconds;
            writeln!(f, "rate          held messages back for {seconds:.3} s")?;
        }
        match &self.error {
            Some(error) => write!(f, "because       {error}"),
            None if self.received.is_some() => write!(f, "nothing lost, nothing failed"),
            None if self.qos == 0 => write!(f, "all sent, nothing failed"),
            None => write!(f, "all acknowledged, nothing failed"),
        }
    }
}

/// Microseconds, in a unit that suits them.
struct Micros(f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us >= 1e6 => write!(f, "{:.2} s", us / 1e6),
            us if us >= 1e3 => write!(f, "{:.2} ms", us / 1e3),
            us => write!(f, "{us:.1} µs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::print::to_json;

    fn report() -> BenchReport {
        BenchReport {
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
            interrupted: false,
            error: None,
        }
    }

    #[test]
    fn a_result_reads_as_lines() {
        assert_eq!(
            report().to_string(),
            "ok: 1000 messages of 64 bytes, QoS 1, async, threads 4, window 100\n\
             acknowledged  1000 of 1000 in 0.500 s: 2000 a second\n\
             latency       half within 10.5 µs, 90 % within 1.50 ms, 99 % within 2.00 s, \
             99.9 % within 2.00 s, longest 3.00 s\n\
             processor     0.250 s, 250.00 µs for each message\n\
             memory        12.0 MiB at most\n\
             received back 1000, 0 lost, 0 duplicated, 0 reordered, 0 unexpected\n\
             nothing lost, nothing failed"
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
        let end = "at most\nreconnects    2\nrate          held messages back for 1.500 s\nbecause       interrupted";
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
