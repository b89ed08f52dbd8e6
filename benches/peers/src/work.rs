//! The tasks of a contender, and the figures that it reports.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use crate::tls::Certs;

/// How messages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Many messages in flight.
    Async,
    /// One message after the other, each after the acknowledgment of the one before.
    Sync,
    /// Messages come from the server, QoS 1 and as many as the window allows.
    Receive,
    /// No messages: the connection is up and nothing happens.
    Idle,
}

/// The work.
#[derive(Debug, Clone, Args)]
pub struct Work {
    /// Port of the broker on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    #[arg(long, value_enum, default_value = "async")]
    pub mode: Mode,
    /// Threads that publish, or receive.
    #[arg(long, default_value_t = 4)]
    pub threads: usize,
    /// Messages over all threads; in place of --seconds.
    #[arg(long)]
    pub messages: Option<u64>,
    /// How long to publish, or to receive.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    #[arg(long, default_value_t = 64)]
    pub payload_size: usize,
    /// Messages that may await their acknowledgment at one time.
    #[arg(long, default_value_t = 1000)]
    pub window: u16,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// This project's program, for the contenders that run it.
    #[arg(long)]
    pub program: Option<PathBuf>,
}

impl Work {
    /// The payload of a message: the same size for all, with a content of its own.
    pub fn payload(&self, number: u64) -> Vec<u8> {
        let mut payload = vec![b'x'; self.payload_size];
        let number = number.to_be_bytes();
        let length = number.len().min(payload.len());
        payload[..length].copy_from_slice(&number[..length]);
        payload
    }
}

/// Tells one thread how long to go on. Made when the work begins.
#[derive(Debug, Clone)]
pub struct Quota {
    left: u64,
    over: Arc<AtomicBool>,
    start: Arc<Barrier>,
}

/// Starts all threads at one moment.
#[derive(Debug)]
pub struct Start {
    over: Arc<AtomicBool>,
    start: Arc<Barrier>,
    time: Option<Duration>,
}

impl Start {
    /// Waits until every thread is ready, starts them, and measures from here on.
    pub fn go(self) -> Result<Meter> {
        self.start.wait();
        let meter = Meter::start()?;
        if let Some(time) = self.time {
            thread::spawn(move || {
                thread::sleep(time);
                self.over.store(true, Ordering::Relaxed);
            });
        }
        Ok(meter)
    }
}

impl Quota {
    /// A share for each thread, and the start for all of them.
    pub fn shares(work: &Work) -> (Vec<Quota>, Start) {
        let over = Arc::new(AtomicBool::new(false));
        let start = Arc::new(Barrier::new(work.threads + 1));
        let threads = work.threads as u64;
        let total = work.messages.unwrap_or(u64::MAX);
        let shares = (0..threads).map(|index| Quota {
            left: total / threads + u64::from(index < total % threads),
            over: Arc::clone(&over),
            start: Arc::clone(&start),
        });
        let shares = shares.collect();
        let time = match work.messages {
            None => Some(Duration::from_secs_f64(work.seconds)),
            Some(_) => None,
        };
        (shares, Start { over, start, time })
    }

    /// The quota of a contender that publishes on its own thread, which begins at once.
    pub fn of_this_thread(work: &Work) -> Result<(Quota, Meter)> {
        let (quota, start) = Quota::alone(work);
        Ok((quota, start.go()?))
    }

    /// A quota for one thread, for which the start does not wait.
    pub fn alone(work: &Work) -> (Quota, Start) {
        let alone = Work {
            threads: 1,
            ..work.clone()
        };
        let (mut shares, start) = Quota::shares(&alone);
        let mut quota = shares.remove(0);
        quota.start = Arc::new(Barrier::new(1));
        let start = Start {
            start: Arc::new(Barrier::new(1)),
            ..start
        };
        (quota, start)
    }

    /// Waits until all threads may start.
    pub fn begin(&self) {
        self.start.wait();
    }

    /// Whether to publish one more message.
    #[inline]
    pub fn next(&mut self) -> bool {
        if self.left == 0 || self.over.load(Ordering::Relaxed) {
            return false;
        }
        self.left -= 1;
        true
    }
}

/// The report of a contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    pub contender: String,
    pub mode: Mode,
    pub threads: usize,
    pub window: u16,
    pub payload_bytes: usize,
    pub qos: u8,
    /// Messages that were acknowledged, or received; each was counted.
    pub messages: u64,
    pub seconds: f64,
    pub messages_per_second: f64,
    /// From call to acknowledgment; synchronous tasks only.
    pub latency_us: Option<Latency>,
    pub cpu_seconds: f64,
    pub cpu_us_per_message: f64,
    /// How often a thread of the process gave up its processor to wait.
    pub waits: Option<i64>,
    pub peak_rss_bytes: i64,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Measures the work alone: starts when the connection is up.
#[derive(Debug)]
pub struct Meter {
    begin: Instant,
    usage: Usage,
}

impl Meter {
    pub fn start() -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).context("asking for the time used")?;
        Ok(Meter {
            begin: Instant::now(),
            usage,
        })
    }

    /// The figures since the start.
    pub fn stop(
        self,
        contender: &str,
        work: &Work,
        messages: u64,
        latencies: Option<Latencies>,
    ) -> Result<Figures> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let usage = getrusage(UsageWho::RUSAGE_SELF).context("asking for the time used")?;
        let cpu_seconds = cpu_seconds(&usage) - cpu_seconds(&self.usage);
        // Linux counts in KiB, Apple in bytes.
        let unit = if cfg!(target_vendor = "apple") {
            1
        } else {
            1024
        };
        Ok(Figures {
            contender: contender.to_owned(),
            mode: work.mode,
            threads: work.threads,
            window: work.window,
            payload_bytes: work.payload_size,
            qos: work.qos,
            messages,
            seconds,
            messages_per_second: messages as f64 / seconds,
            latency_us: latencies.map(|latencies| latencies.summary()),
            cpu_seconds,
            cpu_us_per_message: cpu_seconds * 1e6 / messages.max(1) as f64,
            waits: Some(
                usage.voluntary_context_switches() - self.usage.voluntary_context_switches(),
            ),
            peak_rss_bytes: peak_since_exec().unwrap_or(usage.max_rss() * unit),
        })
    }
}

/// On Linux, the peak memory of this program alone. The figure of `getrusage` includes the memory of
/// this process before it became this program.
fn peak_since_exec() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn cpu_seconds(usage: &Usage) -> f64 {
    let time = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    time(usage.user_time()) + time(usage.system_time())
}

/// Times from call to acknowledgment.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Result<Self> {
        Ok(Latencies(Histogram::new_with_bounds(
            1,
            600_000_000_000,
            3,
        )?))
    }

    pub fn add(&mut self, since: Instant) {
        let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanoseconds);
    }

    pub fn merge(&mut self, other: &Latencies) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    fn summary(&self) -> Latency {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1e3,
        }
    }
}

/// A contender: its name, and how it does the work.
pub struct Contender {
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&Work, &Certs) -> Result<Figures>,
}
