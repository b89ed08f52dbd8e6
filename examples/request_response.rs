//! scripts/broker.sh -- cargo run --example request_response
//!
//! Requests and responses over topics, as MQTT 3.1.1 has no fields for them: a request goes to `square/request/ID`, and its
//! response comes on `square/response/ID`. The client asks for all at once, and takes the responses as they come.
//! `broker/mod.rs` says which broker it is.

mod broker;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, Filter, Handle, Inbox, Publish, QoS, WhenFull};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const REQUESTS: u64 = 10;
const TIME: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    broker::run("request-response", |options| run(options, stdout()))
}

pub(crate) fn run(options: Options, mut out: impl Write) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();
    let running = thread::spawn(move || agent.run());
    // Before the first request, so that neither side misses anything.
    let requests = subscribe(&handle, "square/request/+")?;
    let responses = subscribe(&handle, "square/response/+")?;
    let server = thread::spawn({
        let handle = handle.clone();
        move || serve(&handle, &requests)
    });

    let mut open = BTreeMap::new();
    for id in 0..REQUESTS {
        let topic = format!("square/request/{id}");
        let request = Publish::new(topic, QoS::AtLeastOnce, id.to_string());
        open.insert(id.to_string(), handle.publish(request)?);
    }
    while !open.is_empty() {
        let response = responses.recv_timeout(TIME)?;
        // QoS 1 may bring a response twice: only the first one counts.
        let id = response.topic().rsplit('/').next().unwrap_or_default();
        if open.remove(id).is_some() {
            let square = String::from_utf8_lossy(response.payload());
            writeln!(out, "the square of {id} is {square}")?;
        }
    }
    drop(handle.terminate(TIME));
    server.join().map_err(|_| "the server panicked")??;
    Ok(running.join().map_err(|_| "the loop panicked")?.result?)
}

/// Answers until the loop ends, which ends the inbox.
fn serve(handle: &Handle, requests: &Inbox) -> Result<()> {
    for request in requests {
        let Ok(request) = request else { continue };
        let number: u64 = String::from_utf8_lossy(request.payload()).parse()?;
        let topic = request.topic().replace("request", "response");
        let response = Publish::new(topic, QoS::AtLeastOnce, (number * number).to_string());
        // The ticket is dropped: if the response is lost, the client notices that none comes.
        drop(handle.publish(response)?);
    }
    Ok(())
}

fn subscribe(handle: &Handle, filter: &str) -> Result<Inbox> {
    let inbox = handle.inbox(REQUESTS as usize, WhenFull::WaitAside);
    let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
    handle.subscribe(&inbox, filters)?.wait().into_result()?;
    Ok(inbox)
}
