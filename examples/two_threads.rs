//! scripts/broker.sh -- cargo run --example two_threads
//!
//! Two threads share the connection that the main thread owns: one subscribes and receives, the
//! other publishes. The broker is MQTT_ENDPOINT, or the first argument: `HOST[:PORT]` with TLS,
//! `mqtt://HOST[:PORT]` without. MQTT_CA_FILE, MQTT_CERT and MQTT_KEY name the files for TLS.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, thread};

use mqtt_connection_sharing::options::{Identity, Options, Security, TlsOptions};
use mqtt_connection_sharing::{Client, Handle, InboxError, Outcome, WhenFull};
use mqtt_connection_sharing::{Filter, Publish, QoS};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const LIGHTS: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let client = Client::new(options()?)?;
    let (agent, handle) = client.open();

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
    for _ in 0..LIGHTS {
        let message = loop {
            match inbox.recv_timeout(Duration::from_secs(30)) {
                Ok(message) => break message,
                Err(InboxError::Timeout) => return Err(InboxError::Timeout.into()),
                Err(end) if end.is_end() => return Err(end.into()),
                // One was too large, for example: receiving goes on.
                Err(problem) => println!("{problem}"),
            }
        };
        let text = String::from_utf8_lossy(message.payload());
        println!("received {}: {text}", message.topic());
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

fn options() -> Result<Options> {
    let endpoint = env::args().nth(1).or_else(|| variable("MQTT_ENDPOINT"));
    let endpoint = endpoint.ok_or("no broker: give HOST[:PORT] or set MQTT_ENDPOINT")?;
    let (plain, address) = match endpoint.strip_prefix("mqtt://") {
        Some(address) => (true, address),
        None => (false, endpoint.as_str()),
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => (host, port.parse()?),
        None => (address, if plain { 1883 } else { 8883 }),
    };
    // Programs that run at the same time need different identifiers.
    let mut options = Options::new(host, "two-threads");
    options.port = port;
    options.security = match plain {
        true => Security::Plain,
        false => Security::Tls(tls()),
    };
    Ok(options)
}

fn tls() -> TlsOptions {
    let mut tls = TlsOptions::default();
    tls.ca = variable("MQTT_CA_FILE").map(|path| PathBuf::from(path).into());
    tls.identity = match (variable("MQTT_CERT"), variable("MQTT_KEY")) {
        (Some(cert), Some(key)) => Some(Identity::pem(PathBuf::from(cert), PathBuf::from(key))),
        _ => None,
    };
    tls
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
