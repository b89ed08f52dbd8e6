//! scripts/soak.sh [MINUTES]
//!
//! Eight publishers and two subscribers share one connection at full rate while a proxy cuts it and the
//! broker is killed. The first argument is the number of minutes (1 unless given; fractions are fine),
//! the second the seed of all random choices, the third the version of MQTT (3.1.1 unless given). Prints a line each second, then a summary. The exit status
//! is 1 if a message was lost, had no outcome, or an untrue one, or if memory grew by more than a
//! quarter after the first 10,000 messages. Needs mosquitto.

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::Protocol;
use support::storm::{Progress, Storm, resident_memory};

/// Memory may grow by one part in so many: a quarter. The torture test is stricter. Here the machine may
/// have other things to do, and the allocator keeps the memory of the worst moment.
const MAX_GROWTH: u64 = 4;

fn main() -> ExitCode {
    match soak() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}: give MINUTES, and perhaps a SEED and a version of MQTT");
            ExitCode::from(2)
        }
    }
}

/// Returns whether every promise was kept.
fn soak() -> Result<bool, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let minutes: f64 = arguments.next().map_or(Ok(1.0), |text| text.parse())?;
    let seed: u64 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let protocol: Protocol = arguments
        .next()
        .map_or(Ok(Protocol::default()), |text| text.parse())?;
    let storm = Storm {
        protocol,
        round: 10_000,
        rounds: u64::MAX,
        time: Duration::try_from_secs_f64(minutes * 60.0)?,
        kill_every: 4,
        forgets: false,
        cut_after: 1..300_000,
        largest: 0,
        rate: None,
        seed,
    };
    println!("seed {seed}, {minutes} minutes, MQTT {protocol}");
    let (stop, stopped) = channel::<()>();
    let mut reporter = None;
    let figures = storm.run(|progress| {
        reporter = Some(thread::spawn(move || {
            let begin = Instant::now();
            let mut before = Sample::of(&progress);
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let now = Sample::of(&progress);
                now.print(&before, begin);
                before = now;
            }
        }));
    });
    drop(stop);
    if let Some(reporter) = reporter {
        reporter.join().map_err(|_| "the reporter panicked")?;
    }
    println!("{figures}");
    let kept = figures.is_faultless();
    let grown = figures.memory_late > figures.memory_early + figures.memory_early / MAX_GROWTH;
    if grown {
        println!("memory grew by more than a quarter");
    }
    println!(
        "{}",
        match (kept, grown) {
            (true, false) => "nothing lost",
            _ => "FAILED",
        }
    );
    Ok(kept && !grown)
}

/// The counts at one moment.
struct Sample {
    at: Instant,
    delivered: u64,
    seen: u64,
    connections: u64,
    cuts: u64,
    stalls: u64,
    spared: u64,
    kills: u64,
}

impl Sample {
    fn of(progress: &Progress) -> Sample {
        Sample {
            at: Instant::now(),
            delivered: progress.delivered(),
            seen: progress.seen(),
            connections: progress.connections(),
            cuts: progress.cuts(),
            stalls: progress.stalls(),
            spared: progress.spared(),
            kills: progress.kills(),
        }
    }

    fn print(&self, before: &Sample, begin: Instant) {
        let seconds = (self.at - before.at).as_secs_f64();
        let rate = |now: u64, then: u64| (now - then) as f64 / seconds;
        println!(
            "{:>5.0} s: acknowledged {:>6.0}/s, received {:>6.0}/s, connections {} (+{}), cuts {}, \
             stalls {}, spared {}, broker kills {}, resident {} KiB",
            (self.at - begin).as_secs_f64(),
            rate(self.delivered, before.delivered),
            rate(self.seen, before.seen),
            self.connections,
            self.connections - before.connections,
            self.cuts,
            self.stalls,
            self.spared,
            self.kills,
            resident_memory(),
        );
    }
}
