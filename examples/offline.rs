//! scripts/broker.sh -- cargo run --example offline
//!
//! A device that goes offline to save energy, and online now and then: what it publishes meanwhile waits in the queue.
//! Links that break are made anew without asking; here the program decides. It prints what happens to the connection.
//! `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Batch, Client, ConnectionState, Publish, QoS, RejectReason};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: u32 = 3;
const TIME: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    broker::run("offline", |options| run(options, stdout()))
}

pub(crate) fn run(mut options: Options, mut out: impl Write) -> Result<()> {
    // So many commands may wait while the device is offline.
    options.command_queue = 10;
    let (agent, handle) = Client::new(options)?.open();
    // Before the loop runs, so that no event is missed.
    let events = handle.events();
    let running = thread::spawn(move || agent.run());
    for round in 1..=ROUNDS {
        handle.wait_for_connection(TIME, ConnectionState::is_online)?;
        handle.disconnect().wait().into_result()?;
        writeln!(out, "round {round}, offline: {}", handle.connection())?;
        let mut batch = Batch::new();
        let mut reading = 0;
        // `publish` would wait for room until the block time is over.
        let full = loop {
            reading += 1;
            let message = Publish::new("meter/reading", QoS::AtLeastOnce, reading.to_string());
            match handle.try_publish_in(message, &mut batch) {
                Ok(()) => {}
                // Keep it, and write it to flash perhaps: it was handed back.
                Err(rejected) => break rejected,
            }
        };
        if !matches!(full.reason, RejectReason::QueueFull { .. }) {
            return Err(full.into());
        }
        writeln!(out, "{} wait, one found no room", batch.outstanding())?;
        handle.reconnect().wait().into_result()?;
        let failures = batch.wait();
        writeln!(out, "online again: {} failed", failures.len())?;
    }
    drop(handle.terminate(TIME));
    let ended = running.join().map_err(|_| "the loop panicked")?;
    // An observer may also have a thread of its own, as in `health.rs`.
    for event in events {
        writeln!(out, "    {event}")?;
    }
    Ok(ended.result?)
}
