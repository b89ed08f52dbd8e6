//! scripts/broker.sh -- cargo run --example health
//!
//! A thread publishes ten messages a second. Another one prints a health line each second, and what happens to the
//! connection: stop the broker meanwhile, and start it again. `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, NoEvent, Publish, QoS};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let second = Duration::from_secs(1);
    broker::run("health", |options| run(options, second, 10, stdout()))
}

/// Writes so many health lines, one in each interval, and the events between them.
pub fn run(options: Options, interval: Duration, lines: u32, mut out: impl Write) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    // Before the loop runs, so that no event is missed.
    let (mut events, mut before) = (handle.events(), handle.stats());
    let running = thread::spawn(move || agent.run());
    let publish = handle.clone();
    let message = || Publish::new("health", QoS::AtLeastOnce, "x");
    // Ends when the loop does: then a message comes back.
    thread::spawn(move || {
        while publish.publish(message()).is_ok() {
            thread::sleep(interval / 10)
        }
    });
    'lines: for _ in 0..lines {
        let next_line = Instant::now() + interval;
        loop {
            match events.recv_timeout(next_line.saturating_duration_since(Instant::now())) {
                Ok(event) => writeln!(out, "    {event}")?,
                Err(NoEvent::Timeout) => break,
                // The loop has ended.
                Err(_) => break 'lines,
            }
        }
        let (state, now) = (handle.connection(), handle.stats());
        let new = now.latencies.since(&before.latencies);
        let p99 = new.quantile(0.99).unwrap_or_default();
        let (count, queued, in_flight) = (new.count(), now.queued, now.in_flight);
        writeln!(
            out,
            "{state}: {count} acknowledged, p99 {p99:.1?}, {queued} queued, {in_flight} in flight"
        )?;
        before = now;
    }
    drop(handle.terminate(interval));
    let ended = running.join().map_err(|_| "the loop panicked")?;
    Ok(ended.result?)
}
