//! scripts/broker.sh -- cargo run --example batch
//!
//! A thread publishes a thousand messages and waits for all of them together, which costs the least. The numbers
//! of those that were not delivered come back. `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Batch, Client, Publish, QoS, Topic};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MESSAGES: u64 = 1_000;

fn main() -> ExitCode {
    broker::run("batch", |options| run(options, stdout()))
}

pub(crate) fn run(options: Options, mut out: impl Write) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    let running = thread::spawn(move || agent.run());
    let start = Instant::now();
    // The topic is checked once, and all messages share it.
    let topic = Topic::from("meter/reading");
    let mut batch = Batch::new();
    for reading in 0..MESSAGES {
        let message = Publish::new(topic.clone(), QoS::AtLeastOnce, reading.to_string());
        // This waits while the queue is full. A message that comes back at the end of that wait is no part of the batch.
        handle.publish_in(message, &mut batch)?;
    }
    let pushed = start.elapsed();
    // Say something now and then while the broker takes its time.
    let failures = loop {
        match batch.wait_timeout(Duration::from_secs(1)) {
            Some(failures) => break failures,
            None => writeln!(out, "{} to go", batch.outstanding())?,
        }
    };
    // Numbers count from 0, in the order in which the messages were pushed. The first few are enough here.
    for (number, outcome) in failures.iter().take(5) {
        writeln!(out, "reading {number} was not delivered: {outcome}")?;
    }
    let (delivered, all) = (MESSAGES - failures.len() as u64, start.elapsed());
    writeln!(
        out,
        "{delivered} of {MESSAGES} delivered: pushed in {pushed:.1?}, acknowledged after {all:.1?}"
    )?;
    // The loop ends when no handle is left.
    drop(handle);
    Ok(running.join().map_err(|_| "the loop panicked")?.result?)
}
