//! scripts/broker.sh -- cargo run --example callbacks
//!
//! Outcomes come by callback, so no thread waits for them. A callback runs on the loop's thread: it hands the outcome on
//! and returns. Here it counts, and sends what failed to a thread that deals with it. `broker/mod.rs` says which broker
//! it is.

mod broker;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, Outcome, Publish, QoS};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MESSAGES: u64 = 100;

fn main() -> ExitCode {
    broker::run("callbacks", |options| run(options, stdout()))
}

pub(crate) fn run(options: Options, mut out: impl Write) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    let running = thread::spawn(move || agent.run());
    let delivered = Arc::new(AtomicU64::new(0));
    let (failed, failures) = channel();
    for reading in 0..MESSAGES {
        let message = Publish::new("meter/reading", QoS::AtLeastOnce, reading.to_string());
        let (delivered, failed) = (Arc::clone(&delivered), failed.clone());
        let callback = move |outcome| {
            // Neither waits: the loop, and every thread that shares it, would wait as well.
            match outcome {
                Outcome::Delivered { .. } => drop(delivered.fetch_add(1, Ordering::Relaxed)),
                other => drop(failed.send((reading, other))),
            }
        };
        // A message that is handed back has no outcome: its callback is not called.
        handle.publish_then(message, callback)?;
    }
    // The loop ends when the last handle is gone and every command has had its outcome. Until then failures come. The
    // channel ends with the last callback.
    drop((handle, failed));
    for (reading, outcome) in failures {
        writeln!(out, "reading {reading} was not delivered: {outcome}")?;
    }
    let ended = running.join().map_err(|_| "the loop panicked")?;
    let delivered = delivered.load(Ordering::Relaxed);
    writeln!(out, "{delivered} of {MESSAGES} delivered")?;
    Ok(ended.result?)
}
