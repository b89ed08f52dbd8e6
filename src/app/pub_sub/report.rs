//! The results of pub and sub: a line for people, one JSON object for programs.
//!
//! Pure data; the main thread writes it. `config/output.schema.json` describes the objects.

use std::fmt;

use serde::Serialize;

use crate::app::lines::Many;

/// The result of pub.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PubReport {
    /// The version of this form.
    pub(crate) schema: u32,
    pub(crate) topic: String,
    /// Quality of service.
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Threads that published.
    pub(crate) threads: usize,
    /// Every message was acknowledged.
    pub(crate) success: bool,
    /// Messages that the loop took.
    pub(crate) published: u64,
    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(crate) acknowledged: u64,
    /// Times the broker accepted the connection.
    pub(crate) connects: u64,
    /// How long all of it took, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// Whether it was interrupted.
    pub(crate) interrupted: bool,
    /// The exit status of the program.
    pub(crate) exit_status: u8,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
    /// The reason code of MQTT 5 in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_code: Option<u8>,
}

impl fmt::Display for PubReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = match self.qos {
            0 => "sent",
            _ => "acknowledged",
        };
        match self.success {
            true => write!(f, "ok: {} {ended}", Many(self.acknowledged, "message"))?,
            false => write!(
                f,
                "FAILED: {} of {} {ended}",
                self.acknowledged,
                Many(self.published, "message")
            )?,
        }
        if self.threads > 1 {
            write!(f, " from {} threads", self.threads)?;
        }
        over(f, self.connects, self.elapsed_ms)
    }
}

/// The result of sub.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SubReport {
    /// The version of this form.
    pub(crate) schema: u32,
    pub(crate) filters: Vec<String>,
    /// Quality of service that was asked for.
    pub(crate) qos: u8,
    pub(crate) success: bool,
    /// Messages that were written.
    pub(crate) received: u64,
    /// Messages of QoS 0 that found the program's own inbox full.
    pub(crate) dropped: u64,
    /// Times the broker accepted the connection.
    pub(crate) connects: u64,
    /// How long all of it took, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// Whether it was interrupted.
    pub(crate) interrupted: bool,
    /// The exit status of the program.
    pub(crate) exit_status: u8,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
    /// The reason code of MQTT 5 in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason_code: Option<u8>,
    /// The thread that prints still waits for the reader of standard output.
    #[serde(skip)]
    pub(crate) is_stuck: bool,
}

impl fmt::Display for SubReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} received", Many(self.received, "message"))?;
        if self.dropped > 0 {
            write!(
                f,
                ", {} of QoS 0 dropped (the inbox was full)",
                self.dropped
            )?;
        }
        over(f, self.connects, self.elapsed_ms)
    }
}

/// Adds over how many connections it went, and how long it took.
fn over(f: &mut fmt::Formatter<'_>, connects: u64, elapsed_ms: u64) -> fmt::Result {
    match connects {
        0 => write!(f, " without a connection")?,
        n => write!(f, " over {}", Many(n, "connection"))?,
    }
    write!(f, " in {:.1} s", elapsed_ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::json::SCHEMA;

    #[test]
    fn it_says_how_many_over_how_many_connections() {
        let mut report = PubReport {
            schema: SCHEMA,
            topic: "a".to_owned(),
            qos: 1,
            retain: false,
            threads: 1,
            success: true,
            published: 1,
            acknowledged: 1,
            connects: 1,
            elapsed_ms: 240,
            interrupted: false,
            exit_status: 0,
            error: None,
            reason_code: None,
        };
        assert_eq!(
            report.to_string(),
            "ok: 1 message acknowledged over 1 connection in 0.2 s"
        );
        (report.threads, report.published, report.acknowledged) = (4, 1000, 1000);
        assert_eq!(
            report.to_string(),
            "ok: 1000 messages acknowledged from 4 threads over 1 connection in 0.2 s"
        );
        (report.qos, report.success, report.acknowledged) = (0, false, 7);
        (report.connects, report.error) = (2, Some("the link broke".to_owned()));
        assert_eq!(
            report.to_string(),
            "FAILED: 7 of 1000 messages sent from 4 threads over 2 connections in 0.2 s"
        );
    }
}
