//! This project's program: its command `bench`, in a process of its own, which reports its own figures.
//!
//! It publishes a number of messages and not for a time, so a short run says first how many that are.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::tls::Certs;
use crate::work::{Figures, Mode, Work};

/// Messages of the short run.
const FIRST: u64 = 20_000;

/// The part of its report that the table has.
#[derive(Debug, Deserialize)]
struct Report {
    success: bool,
    window: u16,
    acknowledged: u64,
    seconds: f64,
    messages_per_second: f64,
    cpu_seconds: f64,
    peak_rss_bytes: i64,
}

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    figures("bench", &[], work, certs)
}

/// It also subscribes, receives everything back, and checks it.
pub fn run_received(work: &Work, certs: &Certs) -> Result<Figures> {
    figures("bench-receive", &["--receive"], work, certs)
}

fn figures(name: &str, more: &[&str], work: &Work, certs: &Certs) -> Result<Figures> {
    ensure!(
        work.mode == Mode::Async,
        "it publishes without waiting only"
    );
    let first = report(more, FIRST, work, certs)?;
    let messages = (first.messages_per_second * work.seconds) as u64;
    let report = report(more, messages.max(FIRST), work, certs)?;
    Ok(Figures {
        contender: name.to_owned(),
        mode: work.mode,
        threads: work.threads,
        window: report.window,
        payload_bytes: work.payload_size,
        qos: work.qos,
        messages: report.acknowledged,
        seconds: report.seconds,
        messages_per_second: report.messages_per_second,
        // Its own are those under load, and not the round trip of the table.
        latency_us: None,
        cpu_seconds: report.cpu_seconds,
        cpu_us_per_message: report.cpu_seconds * 1e6 / report.acknowledged.max(1) as f64,
        waits: None,
        peak_rss_bytes: report.peak_rss_bytes,
    })
}

fn report(more: &[&str], messages: u64, work: &Work, certs: &Certs) -> Result<Report> {
    let Some(program) = &work.program else {
        bail!("--program has to say where this project's program is");
    };
    let output = Command::new(program)
        .args(["bench", "--quiet", "--output", "json"])
        .args(["--endpoint", &format!("localhost:{}", work.port)])
        .args(["--ca-file", &certs.file("ca.pem")])
        .args(["--cert", &certs.file("client.pem")])
        .args(["--key", &certs.file("client.key")])
        .args(["--messages", &messages.to_string()])
        .args(["--threads", &work.threads.to_string()])
        .args(["--window", &work.window.to_string()])
        .args(["--payload-size", &work.payload_size.to_string()])
        .args(["--qos", &work.qos.to_string()])
        .args(more)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let report: Report = serde_json::from_slice(&output.stdout).context("reading its report")?;
    ensure!(output.status.success() && report.success, "it failed");
    Ok(report)
}
