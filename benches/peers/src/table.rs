//! The results of a suite, for people and for programs: medians, and the ratios that matter.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::suite::{Against, LONGER, Measured, OURS, PEERS, RAW, RECORDED, Suite};
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
        "QoS 1, 64-byte payloads, mutual TLS, 127.0.0.1, {} processors; medians of {rounds} rounds of {seconds} s \
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
            let waits = median.waits;
            // The raw loop writes and reads in turn, whatever number of publisher threads the others
            // have.
            let contender = match median.contender.as_str() {
                RAW => "raw (1 thread)",
                RECORDED => "the same, recorded",
                other => other,
            };
            let is_idle = task.task.mode == Mode::Idle;
            let rate = match is_idle {
                true => "-".to_owned(),
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
                "  {contender:<26}{rate:>12}{trip:>12}{cpu:>16}{waits:>10.0}{memory:>12}"
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
    let find = |against, mode, threads, window| {
        measured.iter().find(|m| {
            m.task.against == against
                && m.task.mode == mode
                && m.task.threads == threads
                && m.task.window == window
        })
    };
    let rate = |task: &Measured, name: &str| task.of(name).map(|m| m.messages_per_second);
    let trip = |task: &Measured, name: &str| task.of(name)?.latency_p50_us;
    let cpu = |task: &Measured, name: &str| task.of(name).map(|m| m.cpu_us_per_message);
    type Value<'a> = &'a dyn Fn(&Measured, &str) -> Option<f64>;
    let peers = |task: &Measured, value: Value<'_>| {
        let mut values: Vec<f64> = PEERS.iter().filter_map(|p| value(task, p)).collect();
        values.sort_by(f64::total_cmp);
        Some((*values.first()?, *values.last()?))
    };

    let mut ratios = Vec::new();
    let mut at_least = |what, ratio: Option<f64>, goal: f64| {
        ratios.extend(ratio.map(|ratio| Ratio {
            what,
            ratio,
            lowest: ratio,
            highest: ratio,
            goal: Some(format!("at least {goal}")),
            reached: Some(ratio >= goal),
        }));
    };
    let sink = find(Against::Sink, Mode::Async, 4, 1000);
    let narrow = find(Against::Sink, Mode::Async, 4, 100);
    let many = find(Against::Sink, Mode::Async, 1024, 1000);
    let real = find(Against::Mosquitto, Mode::Async, 4, 1000);
    let above_best = |task: Option<&Measured>| {
        let task = task?;
        Some(rate(task, OURS)? / peers(task, &rate)?.1)
    };
    at_least("window 1000, times the best peer", above_best(sink), 30.0);
    at_least("window 100, times the best peer", above_best(narrow), 15.0);
    at_least("Mosquitto, times the best peer", above_best(real), 2.5);
    let scaled = many.zip(sink);
    let scaled = scaled.and_then(|(many, few)| Some(rate(many, OURS)? / rate(few, OURS)?));
    at_least("1024 threads, of the rate of 4", scaled, 0.8);
    let recorded = |task: Option<&Measured>| Some(rate(task?, RECORDED)? / rate(task?, OURS)?);
    at_least(
        "window 1000, recorded, of the rate without",
        recorded(sink),
        0.5,
    );
    at_least(
        "window 100, recorded, of the rate without",
        recorded(narrow),
        0.5,
    );

    let mut at_most = |what, ratio: Option<f64>, goal: f64| {
        ratios.extend(ratio.map(|ratio| Ratio {
            what,
            ratio,
            lowest: ratio,
            highest: ratio,
            goal: Some(format!("at most {goal}")),
            reached: Some(ratio <= goal),
        }));
    };
    let spent = real.and_then(|task| Some(cpu(task, OURS)? / peers(task, &cpu)?.0));
    at_most(
        "Mosquitto, CPU per message, of the most thrifty peer's",
        spent,
        0.1,
    );
    let one = find(Against::Sink, Mode::Sync, 1, 1000);
    let above_raw = one.and_then(|task| Some(trip(task, OURS)? / trip(task, RAW)?));
    at_most("one by one, times the raw round trip", above_raw, 1.5);
    let below_peers = one.and_then(|task| Some(trip(task, OURS)? / peers(task, &trip)?.0));
    at_most(
        "one by one, of the quickest peer's round trip",
        below_peers,
        1.0,
    );

    let of_raw = |task: Option<&Measured>| {
        let task = task?;
        Some(rate(task, OURS)? / rate(task, RAW)?)
    };
    let without_goal = [
        ("window 1000, of the raw loop's rate", of_raw(sink)),
        ("window 100, of the raw loop's rate", of_raw(narrow)),
    ];
    ratios.extend(without_goal.into_iter().filter_map(|(what, ratio)| {
        let ratio = ratio?;
        Some(Ratio {
            what,
            ratio,
            lowest: ratio,
            highest: ratio,
            goal: None,
            reached: None,
        })
    }));
    ratios
}
