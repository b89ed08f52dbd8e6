//! All tasks in several rounds, each contender in a process of its own.
//!
//! A round takes the contenders in turn, so that other work of the machine affects all of them. The
//! result is the median over the rounds.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::contenders;
use crate::servers::Server;
use crate::tls::Certs;
use crate::work::{Figures, Mode};

/// The server of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    Sink,
    Mosquitto,
}

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Task {
    pub name: &'static str,
    pub against: Against,
    pub mode: Mode,
    pub threads: usize,
    pub window: u16,
    pub payload_size: usize,
    pub qos: u8,
    /// The factor by which this task runs longer.
    #[serde(skip)]
    longer: f64,
    #[serde(skip)]
    contenders: &'static [&'static str],
}

/// A thousand threads need a tenth of a second to start and to end.
pub const LONGER: f64 = 3.0;

pub const RAW: &str = "raw";
pub const OURS: &str = "mqtt-connection-sharing";
pub const RECORDED: &str = "recorded";
/// This project's program, and the same when it receives everything back.
pub const BENCH: &str = "bench";
pub const BENCH_RECEIVE: &str = "bench-receive";
/// The peer that publishes on its own thread, and the same one fed by threads.
pub const ALONE: &str = "ntex-mqtt";
pub const FED: &str = "ntex-mqtt-fed";
const LIBMOSQUITTO: &str = "libmosquitto";
const RUMQTTC_NEXT: &str = "rumqttc-next";
const RUMQTTC: &str = "rumqttc";
const PAHO: &str = "paho-mqtt";
/// The same with MQTT 5.
pub const OURS_5: &str = "mqtt-connection-sharing-5";
/// All contenders with MQTT 5 but this project.
pub const PEERS_5: [&str; 4] = ["ntex-mqtt-5", "ntex-mqtt-fed-5", "rumqttc-5", "paho-mqtt-5"];
/// All contenders but this project and the raw loop, with MQTT 3.1.1.
pub const PEERS: [&str; 6] = [ALONE, FED, LIBMOSQUITTO, RUMQTTC_NEXT, RUMQTTC, PAHO];
const ALL: &[&str] = &[
    RAW,
    OURS,
    ALONE,
    FED,
    LIBMOSQUITTO,
    RUMQTTC_NEXT,
    RUMQTTC,
    PAHO,
];
/// Peers with MQTT 5 come last. This library's two versions come one after the other, because their ratio is of
/// interest.
const ALL_AND_OWN: &[&str] = &[
    RAW,
    OURS,
    OURS_5,
    RECORDED,
    BENCH,
    ALONE,
    FED,
    LIBMOSQUITTO,
    RUMQTTC_NEXT,
    RUMQTTC,
    PAHO,
    PEERS_5[0],
    PEERS_5[1],
    PEERS_5[2],
    PEERS_5[3],
];
/// Those that know QoS 2.
const EXACTLY_ONCE: &[&str] = &[OURS, BENCH, LIBMOSQUITTO, RUMQTTC_NEXT, RUMQTTC, PAHO];
const ALL_AND_BENCH: &[&str] = &[
    RAW,
    OURS,
    BENCH,
    BENCH_RECEIVE,
    ALONE,
    FED,
    LIBMOSQUITTO,
    RUMQTTC_NEXT,
    RUMQTTC,
    PAHO,
];
/// Those that many threads can share.
const SHARED: &[&str] = &[OURS, FED, LIBMOSQUITTO, RUMQTTC_NEXT, RUMQTTC, PAHO];
const RECEIVERS: &[&str] = &[RAW, OURS, ALONE, LIBMOSQUITTO, RUMQTTC_NEXT, RUMQTTC, PAHO];
/// Those that receive with several threads.
const HANDING: &[&str] = &[OURS, ALONE, LIBMOSQUITTO, RUMQTTC_NEXT, RUMQTTC, PAHO];
/// Those that show which share of TLS is reached.
const MEASURES: &[&str] = &[RAW, OURS];

/// Payload bytes that may be in flight with large payloads. As many may be queued.
const IN_FLIGHT: usize = 4 * 1024 * 1024;

const fn task(name: &'static str, against: Against, threads: usize, window: u16) -> Task {
    Task {
        name,
        against,
        mode: Mode::Async,
        threads,
        window,
        payload_size: 64,
        qos: 1,
        longer: 1.0,
        contenders: ALL,
    }
}

const fn receive(name: &'static str, threads: usize, window: u16) -> Task {
    Task {
        mode: Mode::Receive,
        contenders: if threads == 1 { RECEIVERS } else { HANDING },
        ..task(name, Against::Sink, threads, window)
    }
}

/// With large payloads the window is as many as may be in flight.
const fn large(name: &'static str, mode: Mode, payload_size: usize) -> Task {
    let fits = IN_FLIGHT / payload_size;
    Task {
        mode,
        payload_size,
        contenders: MEASURES,
        ..task(
            name,
            Against::Sink,
            1,
            if fits < 1000 { fits as u16 } else { 1000 },
        )
    }
}

/// All tasks, in the order of the table.
pub const TASKS: [Task; 21] = [
    Task {
        contenders: ALL_AND_OWN,
        ..task("window 1000", Against::Sink, 4, 1000)
    },
    Task {
        contenders: ALL_AND_OWN,
        ..task("window 100", Against::Sink, 4, 100)
    },
    Task {
        qos: 2,
        contenders: EXACTLY_ONCE,
        ..task("QoS 2, window 20", Against::Sink, 4, 20)
    },
    Task {
        longer: LONGER,
        contenders: SHARED,
        ..task("1024 threads", Against::Sink, 1024, 1000)
    },
    Task {
        mode: Mode::Sync,
        ..task("one by one", Against::Sink, 1, 1000)
    },
    Task {
        mode: Mode::Idle,
        contenders: SHARED,
        ..task("idle", Against::Sink, 1, 1000)
    },
    Task {
        contenders: ALL_AND_BENCH,
        ..task("Mosquitto, window 1000", Against::Mosquitto, 4, 1000)
    },
    task("Mosquitto, window 100", Against::Mosquitto, 4, 100),
    Task {
        mode: Mode::Sync,
        ..task("Mosquitto, one by one", Against::Mosquitto, 1, 1000)
    },
    receive("receiving, window 1000", 1, 1000),
    receive("receiving, window 1000", 4, 1000),
    receive("receiving, window 100", 1, 100),
    receive("receiving, window 100", 4, 100),
    receive("receiving, window 20", 1, 20),
    Task {
        contenders: RECEIVERS,
        ..large("receiving, 16 KiB", Mode::Receive, 16 * 1024)
    },
    Task {
        threads: 4,
        contenders: HANDING,
        ..large("receiving, 16 KiB", Mode::Receive, 16 * 1024)
    },
    large("receiving, 1 KiB", Mode::Receive, 1024),
    large("receiving, 1 MiB", Mode::Receive, 1024 * 1024),
    large("sending, 1 KiB", Mode::Async, 1024),
    large("sending, 16 KiB", Mode::Async, 16 * 1024),
    large("sending, 1 MiB", Mode::Async, 1024 * 1024),
];

impl Task {
    /// Whether its rate is better told in bytes.
    pub fn is_large(&self) -> bool {
        self.payload_size > 64
    }
}

/// Medians of one contender at one task.
#[derive(Debug, Clone, Serialize)]
pub struct Median {
    pub contender: String,
    pub messages_per_second: f64,
    /// Median time from call to acknowledgment; synchronous tasks only.
    pub latency_p50_us: Option<f64>,
    pub cpu_us_per_message: f64,
    pub cpu_seconds: f64,
    /// Unknown of a contender that runs another program.
    pub waits: Option<f64>,
    pub peak_rss_bytes: f64,
}

/// A task with the results of all contenders.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    #[serde(flatten)]
    pub task: Task,
    pub medians: Vec<Median>,
}

impl Measured {
    pub fn of(&self, contender: &str) -> Option<&Median> {
        self.medians.iter().find(|m| m.contender == contender)
    }
}

/// The results of all tasks.
#[derive(Debug)]
pub struct Suite {
    /// Each task with the medians over the rounds.
    pub tasks: Vec<Measured>,
    /// The same of each round by itself, which shows how far the rounds lie apart.
    pub rounds: Vec<Vec<Measured>>,
}

/// Runs all tasks.
pub fn run(certs: &Certs, program: Option<&Path>, rounds: usize, seconds: f64) -> Result<Suite> {
    let sink = Server::sink(certs)?;
    let mosquitto = Server::mosquitto(certs)?;
    let mut all: Vec<Vec<Figures>> = vec![Vec::new(); TASKS.len()];
    let mut apart = Vec::new();
    for round in 1..=rounds {
        let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); TASKS.len()];
        for (task, figures) in TASKS.iter().zip(&mut figures) {
            eprintln!("round {round} of {rounds}: {}", task.name);
            let server = match task.against {
                Against::Sink => &sink,
                Against::Mosquitto => &mosquitto,
            };
            for contender in task.contenders {
                if program.is_none() && [BENCH, BENCH_RECEIVE].contains(contender) {
                    continue;
                }
                let seconds = task.longer * seconds;
                let run = one(contender, task, certs, program, server.port, seconds);
                figures.push(run.with_context(|| format!("{contender}, {}", task.name))?);
            }
        }
        apart.push(summary(&figures));
        for (all, figures) in all.iter_mut().zip(figures) {
            all.extend(figures);
        }
    }
    Ok(Suite {
        tasks: summary(&all),
        rounds: apart,
    })
}

/// The medians of each task.
fn summary(figures: &[Vec<Figures>]) -> Vec<Measured> {
    let measured = TASKS.iter().zip(figures).map(|(task, figures)| Measured {
        task: *task,
        medians: contenders::ALL
            .iter()
            .filter_map(|contender| medians(contender.name, figures))
            .collect(),
    });
    measured.collect()
}

/// Runs one contender in a process of its own.
fn one(
    contender: &str,
    task: &Task,
    certs: &Certs,
    program: Option<&Path>,
    port: u16,
    seconds: f64,
) -> Result<Figures> {
    let mode = serde_json::to_value(task.mode)?;
    let program = program.map(|program| [OsStr::new("--program"), program.as_os_str()]);
    let mut child = Command::new(std::env::current_exe()?)
        .args(["run", contender, "--certs"])
        .arg(&certs.0)
        .args(["--port", &port.to_string()])
        .args(["--mode", mode.as_str().unwrap_or_default()])
        .args(["--threads", &task.threads.to_string()])
        .args(["--window", &task.window.to_string()])
        .args(["--payload-size", &task.payload_size.to_string()])
        .args(["--qos", &task.qos.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .args(program.into_iter().flatten())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let limit = Instant::now() + Duration::from_secs_f64(60.0 + 10.0 * seconds);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > limit {
            child.kill()?;
            child.wait()?;
            bail!("it did not come to an end");
        }
        thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "{status}");
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    serde_json::from_str(&text).context("reading its figures")
}

fn medians(contender: &str, figures: &[Figures]) -> Option<Median> {
    let of = |value: &dyn Fn(&Figures) -> Option<f64>| {
        let own = figures.iter().filter(|f| f.contender == contender);
        median(own.filter_map(value).collect())
    };
    Some(Median {
        contender: contender.to_owned(),
        messages_per_second: of(&|f| Some(f.messages_per_second))?,
        latency_p50_us: of(&|f| f.latency_us.map(|l| l.p50)),
        cpu_us_per_message: of(&|f| Some(f.cpu_us_per_message))?,
        cpu_seconds: of(&|f| Some(f.cpu_seconds))?,
        waits: of(&|f| Some(f.waits? as f64)),
        peak_rss_bytes: of(&|f| Some(f.peak_rss_bytes as f64))?,
    })
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(match values.len() % 2 {
        0 => (values[values.len() / 2 - 1] + upper) / 2.0,
        _ => upper,
    })
}

/// Writes a result to the given file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
