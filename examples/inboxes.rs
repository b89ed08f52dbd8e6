//! scripts/broker.sh -- cargo run --example inboxes
//!
//! Three inboxes on one connection, each with the policy that suits its messages: no alarm is acknowledged before it
//! was handled, only the latest temperature counts, and no door is forgotten. `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Accept, Batch, Client, Filter, Handle, Inbox, InboxPolicy};
use mqtt_connection_sharing::{Publish, QoS, WhenFull};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const TIME: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    broker::run("inboxes", |options| run(options, stdout()))
}

pub(crate) fn run(options: Options, mut out: impl Write) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    let running = thread::spawn(move || agent.run());
    // The broker keeps an alarm until a thread has taken it. It sends only so many meanwhile: take them soon.
    let alarms = subscribe(&handle, "house/alarm", 10, Accept::OnceTaken)?;
    // A new temperature takes the place of an old one that nobody read.
    let temperature = subscribe(&handle, "house/temperature", 1, WhenFull::DropOldest)?;
    // A message that finds no room waits aside, and the loop goes on with the other inboxes.
    let doors = subscribe(&handle, "house/door", 2, WhenFull::WaitAside)?;

    let alarms =
        thread::spawn(move || alarms.recv_timeout(TIME).map(|alarm| text(alarm.payload())));
    let mut batch = Batch::new();
    let mut publish = |topic: &'static str, payload: String| {
        handle.publish_in(Publish::new(topic, QoS::AtLeastOnce, payload), &mut batch)
    };
    publish("house/alarm", "smoke in the kitchen".to_owned())?;
    for degrees in 15..=21 {
        publish("house/temperature", format!("{degrees} degrees"))?;
    }
    for door in 1..=10 {
        publish("house/door", format!("door {door} opened"))?;
    }
    for (number, outcome) in batch.wait() {
        writeln!(out, "message {number} was not delivered: {outcome}")?;
    }
    let alarm = alarms.join().map_err(|_| "a thread panicked")??;
    writeln!(out, "alarm: {alarm}")?;
    for _ in 1..=10 {
        writeln!(out, "{}", text(doors.recv_timeout(TIME)?.payload()))?;
    }
    // The doors came behind the temperatures, so all of these have come, too.
    let latest = text(temperature.try_recv()?.payload());
    let missed = temperature.dropped();
    writeln!(out, "temperature: {latest}; {missed} older ones made room")?;

    drop(handle.terminate(TIME));
    Ok(running.join().map_err(|_| "the loop panicked")?.result?)
}

fn subscribe(
    handle: &Handle,
    topic: &str,
    capacity: usize,
    policy: impl Into<InboxPolicy>,
) -> Result<Inbox> {
    let inbox = handle.inbox(capacity, policy);
    let filters = vec![Filter::new(topic, QoS::AtLeastOnce)];
    handle.subscribe(&inbox, filters)?.wait().into_result()?;
    Ok(inbox)
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}
