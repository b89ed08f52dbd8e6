//! scripts/broker.sh -- cargo run --example two_threads
//!
//! Two threads share the connection that the main thread owns: one subscribes and receives, the
//! other publishes. `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, Handle, InboxError, Outcome, WhenFull};
use mqtt_connection_sharing::{Filter, Publish, QoS};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const LIGHTS: usize = 5;

fn main() -> ExitCode {
    broker::run("two-threads", run)
}

pub(crate) fn run(options: Options) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    // Each thread has a handle; none stays here.
    let (subscribed, start) = mpsc::channel();
    let receiver = thread::spawn({
        let handle = handle.clone();
        move || receive(&handle, &subscribed)
    });
    let publisher = thread::spawn(move || publish(&handle, &start));

    // Connects, reconnects, and returns after the last handle is dropped (or after `terminate`).
    let ended = agent.run();
    ended.result?;
    for thread in [receiver, publisher] {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    println!("connections made: {}", ended.stats.connects);
    Ok(())
}

fn receive(handle: &Handle, subscribed: &mpsc::Sender<()>) -> Result<()> {
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    let filters = vec![Filter::new("rooms/+/light", QoS::AtLeastOnce)];
    match handle.subscribe(&inbox, filters)?.wait() {
        Outcome::Delivered { granted, .. } => println!("subscribed, granted QoS {}", granted[0]),
        other => return Err(format!("not subscribed: {other}").into()),
    }
    subscribed.send(())?;
    let mut received = 0;
    while received < LIGHTS {
        match inbox.recv_timeout(Duration::from_secs(30)) {
            Ok(message) => {
                received += 1;
                let text = String::from_utf8_lossy(message.payload());
                println!("received {}: {text}", message.topic());
            }
            Err(end) if end.is_end() || end == InboxError::Timeout => return Err(end.into()),
            // One was too large, for example: receiving goes on.
            Err(problem) => println!("{problem}"),
        }
    }
    Ok(())
}

fn publish(handle: &Handle, start: &mpsc::Receiver<()>) -> Result<()> {
    start.recv()?;
    let mut tickets = Vec::new();
    for room in 1..=LIGHTS {
        let topic = format!("rooms/{room}/light");
        // This waits only while the command queue is full; the answer comes through the ticket.
        tickets.push(handle.publish(Publish::new(topic, QoS::AtLeastOnce, "on"))?);
    }
    for ticket in tickets {
        match ticket.wait() {
            Outcome::Delivered { latency, .. } => println!("acknowledged after {latency:.1?}"),
            other => return Err(format!("not delivered: {other}").into()),
        }
    }
    Ok(())
}
