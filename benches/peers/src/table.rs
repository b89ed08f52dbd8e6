//! The results of a suite, for people and for programs: medians, and the ratios that matter.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::suite::{
    ALONE, BENCH, BENCH_RECEIVE, FED, LONGER, Measured, OURS, OURS_5, PEERS, PEERS_5, RAW,
    RECORDED, Suite, Task,
};
use crate::work::Mode;

/// In shorter rounds the beginning counts too much, because nothing is in the caches yet.
const LONG_ENOUGH: f64 = 1.0;

/// A ratio, and the goal for it if there is one.
#[derive(Debug, Serialize)]
pub struct Ratio {
    pub what: &'static str,
    /// Of the medians.
    pub ratio: f64,
    /// The lowest ratio of a single round.
    pub lowest: f64,
    /// The highest ratio of a single round.
    pub highest: f64,
    pub goal: Option<String>,
    pub reached: Option<bool>,
}

#[derive(Serialize)]
struct Document<'a> {
    rounds: usize,
    seconds: f64,
    processors: usize,
    tasks: &'a [Measured],
    ratios: Vec<Ratio>,
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

/// All results as one JSON object.
pub fn json(suite: &Suite, seconds: f64) -> Result<String> {
    Ok(serde_json::to_string_pretty(&Document {
        rounds: suite.rounds.len(),
        seconds,
        processors: processors(),
        tasks: &suite.tasks,
        ratios: ratios(suite),
    })?)
}

/// All results as lines.
pub fn text(suite: &Suite, seconds: f64) -> Result<String> {
    let rounds = suite.rounds.len();
    let mut text = format!(
        "QoS 1, 64-byte payloads unless said otherwise, mutual TLS, 127.0.0.1, {} processors; medians of {rounds} rounds of {seconds} s \
         ({} s with 1024 threads)\n\n",
        processors(),
        LONGER * seconds
    );
    let head = [
        "messages/s",
        "round trip",
        "CPU/message",
        "waits",
        "peak RSS",
    ];
    writeln!(
        text,
        "{:<28}{:>12}{:>12}{:>16}{:>10}{:>12}",
        "", head[0], head[1], head[2], head[3], head[4]
    )?;
    for task in &suite.tasks {
        let threads = match task.task.threads {
            1 => "1 thread".to_owned(),
            many => format!("{many} threads"),
        };
        writeln!(text, "{} ({threads})", task.task.name)?;
        for median in &task.medians {
            let waits = median
                .waits
                .map_or("-".to_owned(), |waits| format!("{waits:.0}"));
            // These publish on one thread, whatever number of publisher threads the others have.
            let is_receiving = task.task.mode == Mode::Receive;
            let contender = match median.contender.as_str() {
                RAW => "raw (1 thread)",
                ALONE if !is_receiving => "ntex-mqtt (1 thread)",
                FED => "ntex-mqtt, fed",
                BENCH => "bench of this project",
                BENCH_RECEIVE => "bench --receive",
                RECORDED => "the same, recorded",
                "ntex-mqtt-5" => "ntex-mqtt-5 (1 thread)",
                "ntex-mqtt-fed-5" => "ntex-mqtt-5, fed",
                other => other,
            };
            let is_idle = task.task.mode == Mode::Idle;
            let rate = match is_idle {
                true => "-".to_owned(),
                false if task.task.is_large() => mebibytes(median.messages_per_second, &task.task),
                false => short(median.messages_per_second),
            };
            let cpu = match is_idle {
                true => format!("{:.1} ms in all", median.cpu_seconds * 1e3),
                false => format!("{:.2} us", median.cpu_us_per_message),
            };
            let trip = median
                .latency_p50_us
                .map_or("-".to_owned(), |us| format!("{us:.1} us"));
            let memory = format!("{:.1} MiB", median.peak_rss_bytes / 1_048_576.0);
            writeln!(
                text,
                "  {contender:<26}{rate:>12}{trip:>12}{cpu:>16}{waits:>10}{memory:>12}"
            )?;
        }
    }
    writeln!(text, "\n{:<56}{:>8}{:>18}", "", "medians", "single rounds")?;
    for ratio in ratios(suite) {
        let [value, lowest, highest] = [ratio.ratio, ratio.lowest, ratio.highest].map(digits);
        let value = format!("{value:>8}{:>18}", format!("{lowest} to {highest}"));
        let verdict = match (&ratio.goal, ratio.reached) {
            (Some(goal), _) if seconds < LONG_ENOUGH => format!("   goal {goal}"),
            (Some(goal), Some(true)) => format!("   goal {goal:<13} reached"),
            (Some(goal), _) => format!("   goal {goal:<13} not reached"),
            (None, _) => String::new(),
        };
        writeln!(text, "{:<56}{value}{verdict}", ratio.what)?;
    }
    if seconds < LONG_ENOUGH {
        writeln!(
            text,
            "\nRounds this short do not tell whether a goal is reached."
        )?;
    }
    Ok(text)
}

/// A rate in bytes.
fn mebibytes(rate: f64, task: &Task) -> String {
    format!("{:.0} MiB", rate * task.payload_size as f64 / 1_048_576.0)
}

/// A rate in three digits.
pub fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 999_500.0 => (n / 1e6, " M"),
        n if n >= 1e3 => (n / 1e3, " k"),
        n => (n, ""),
    };
    match value {
        v if v >= 99.95 => format!("{v:.0}{unit}"),
        v if v >= 9.995 => format!("{v:.1}{unit}"),
        v => format!("{v:.2}{unit}"),
    }
}

/// A ratio in three digits or more.
fn digits(ratio: f64) -> String {
    match ratio {
        few if few < 0.9995 => format!("{few:.3}"),
        many => format!("{many:.2}"),
    }
}

/// The ratios whose tasks were measured, with those of the single rounds beside them.
fn ratios(suite: &Suite) -> Vec<Ratio> {
    let mut ratios = of_medians(&suite.tasks);
    for round in &suite.rounds {
        for (whole, round) in ratios.iter_mut().zip(of_medians(round)) {
            whole.lowest = whole.lowest.min(round.ratio);
            whole.highest = whole.highest.max(round.ratio);
        }
    }
    ratios
}

/// The ratios of one set of medians.
fn of_medians(measured: &[Measured]) -> Vec<Ratio> {
    let find = |name: &str, threads| {
        let is_it = |m: &&Measured| m.task.name == name && m.task.threads == threads;
        measured.iter().find(is_it)
    };
    let mut ratios = Ratios::default();
    let sink = find("window 1000", 4);
    let narrow = find("window 100", 4);
    let real = find("Mosquitto, window 1000", 4);
    let one = find("one by one", 1);

    ratios.at_least(
        "window 1000, times ntex-mqtt fed by 4 threads",
        above(sink, &[FED]),
        5.0,
    );
    ratios.at_least(
        "window 100, times ntex-mqtt fed by 4 threads",
        above(narrow, &[FED]),
        4.0,
    );
    ratios.at_least(
        "window 1000, times ntex-mqtt on its own thread",
        above(sink, &[ALONE]),
        3.4,
    );
    ratios.at_least(
        "window 100, times ntex-mqtt on its own thread",
        above(narrow, &[ALONE]),
        2.8,
    );
    let bench = |task: Option<&Measured>| Some(rate(task?, BENCH)? / rate(task?, FED)?);
    ratios.at_least(
        "window 1000, bench, times ntex-mqtt fed by 4",
        bench(sink),
        3.5,
    );
    ratios.at_least(
        "window 100, bench, times ntex-mqtt fed by 4",
        bench(narrow),
        3.0,
    );
    ratios.tell("window 1000, times the best peer", above(sink, &PEERS));
    ratios.tell("window 100, times the best peer", above(narrow, &PEERS));
    ratios.at_least("Mosquitto, times the best peer", above(real, &PEERS), 2.2);
    let many = find("1024 threads", 1024).zip(sink);
    let scaled = many.and_then(|(many, few)| Some(rate(many, OURS)? / rate(few, OURS)?));
    ratios.at_least("1024 threads, of the rate of 4", scaled, 0.8);
    let version5 = |task: Option<&Measured>| Some(rate(task?, OURS_5)? / rate(task?, OURS)?);
    ratios.at_least(
        "window 1000 in MQTT 5, of the rate of 3.1.1",
        version5(sink),
        0.9,
    );
    ratios.tell(
        "window 100 in MQTT 5, of the rate of 3.1.1",
        version5(narrow),
    );
    let above5 =
        |task: Option<&Measured>| Some(rate(task?, OURS_5)? / peers(task?, &rate, &PEERS_5)?.1);
    ratios.tell("window 1000 in MQTT 5, times the best peer", above5(sink));
    ratios.tell("window 100 in MQTT 5, times the best peer", above5(narrow));
    let recorded = |task: Option<&Measured>| Some(rate(task?, RECORDED)? / rate(task?, OURS)?);
    ratios.at_least(
        "window 1000, recorded, of the rate without",
        recorded(sink),
        0.5,
    );
    ratios.at_least(
        "window 100, recorded, of the rate without",
        recorded(narrow),
        0.5,
    );
    for (what, name, threads, goal) in [
        (
            "receiving, window 1000, 1 thread, times the best peer",
            "receiving, window 1000",
            1,
            2.5,
        ),
        (
            "receiving, window 1000, 4 threads, times the best peer",
            "receiving, window 1000",
            4,
            6.0,
        ),
        (
            "receiving, window 100, 1 thread, times the best peer",
            "receiving, window 100",
            1,
            2.5,
        ),
        (
            "receiving, window 100, 4 threads, times the best peer",
            "receiving, window 100",
            4,
            4.0,
        ),
        (
            "receiving, window 20, 1 thread, times the best peer",
            "receiving, window 20",
            1,
            1.5,
        ),
    ] {
        ratios.at_least(what, above(find(name, threads), &PEERS), goal);
    }
    for (what, name, goal) in [
        (
            "receiving, window 1000, of the raw loop's rate",
            "receiving, window 1000",
            0.5,
        ),
        (
            "receiving, 16 KiB, of the raw loop's rate",
            "receiving, 16 KiB",
            0.8,
        ),
        (
            "receiving, 1 MiB, of the raw loop's rate",
            "receiving, 1 MiB",
            0.9,
        ),
        (
            "sending, 16 KiB, of the raw loop's rate",
            "sending, 16 KiB",
            0.8,
        ),
        (
            "sending, 1 MiB, of the raw loop's rate",
            "sending, 1 MiB",
            0.9,
        ),
    ] {
        ratios.at_least(what, above(find(name, 1), &[RAW]), goal);
    }

    let spent = real.and_then(|task| Some(cpu(task, OURS)? / peers(task, &cpu, &PEERS)?.0));
    ratios.at_most(
        "Mosquitto, CPU per message, of the most thrifty peer's",
        spent,
        0.3,
    );
    let above_raw = one.and_then(|task| Some(trip(task, OURS)? / trip(task, RAW)?));
    ratios.at_most("one by one, times the raw round trip", above_raw, 1.5);
    let below_peers = one.and_then(|task| Some(trip(task, OURS)? / peers(task, &trip, &PEERS)?.0));
    ratios.at_most(
        "one by one, of the quickest peer's round trip",
        below_peers,
        1.0,
    );
    let large = measured.iter().filter(|m| m.task.is_large());
    let memory = large.filter_map(|task| Some(task.of(OURS)?.peak_rss_bytes / 1_048_576.0));
    let memory = memory.max_by(f64::total_cmp);
    ratios.at_most("large payloads, peak RSS in MiB", memory, 32.0);

    ratios.tell("window 1000, of the raw loop's rate", above(sink, &[RAW]));
    ratios.tell("window 100, of the raw loop's rate", above(narrow, &[RAW]));
    ratios.0
}

/// Ratios whose tasks were measured.
#[derive(Default)]
struct Ratios(Vec<Ratio>);

impl Ratios {
    fn at_least(&mut self, what: &'static str, ratio: Option<f64>, goal: f64) {
        self.add(
            what,
            ratio,
            Some((format!("at least {goal}"), ratio >= Some(goal))),
        );
    }

    fn at_most(&mut self, what: &'static str, ratio: Option<f64>, goal: f64) {
        self.add(
            what,
            ratio,
            Some((format!("at most {goal}"), ratio <= Some(goal))),
        );
    }

    /// Without a goal.
    fn tell(&mut self, what: &'static str, ratio: Option<f64>) {
        self.add(what, ratio, None);
    }

    fn add(&mut self, what: &'static str, ratio: Option<f64>, goal: Option<(String, bool)>) {
        let (goal, reached) = goal.unzip();
        self.0.extend(ratio.map(|ratio| Ratio {
            what,
            ratio,
            lowest: ratio,
            highest: ratio,
            goal,
            reached,
        }));
    }
}

fn rate(task: &Measured, name: &str) -> Option<f64> {
    task.of(name).map(|m| m.messages_per_second)
}

fn trip(task: &Measured, name: &str) -> Option<f64> {
    task.of(name)?.latency_p50_us
}

fn cpu(task: &Measured, name: &str) -> Option<f64> {
    task.of(name).map(|m| m.cpu_us_per_message)
}

/// The lowest and the highest value of these contenders.
fn peers(
    task: &Measured,
    value: &dyn Fn(&Measured, &str) -> Option<f64>,
    contenders: &[&str],
) -> Option<(f64, f64)> {
    let mut values: Vec<f64> = contenders.iter().filter_map(|p| value(task, p)).collect();
    values.sort_by(f64::total_cmp);
    Some((*values.first()?, *values.last()?))
}

/// This library's rate as a multiple of the best rate of these contenders.
fn above(task: Option<&Measured>, contenders: &[&str]) -> Option<f64> {
    let task = task?;
    Some(rate(task, OURS)? / peers(task, &rate, contenders)?.1)
}
