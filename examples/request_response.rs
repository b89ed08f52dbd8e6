//! scripts/broker.sh -- cargo run --example request_response
//!
//! Requests and their responses with MQTT 5: one side publishes a request with `Handle::start_request` and waits for its
//! response, the other one answers with `Message::response`. The library has the topic for responses, and finds the request
//! that each belongs to. The client asks for all at once. `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::{Options, Protocol};
use mqtt_connection_sharing::{Client, Filter, Handle, Inbox, Publish, QoS, WhenFull};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const REQUESTS: u64 = 10;
const TIME: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    broker::run("request-response", |options| run(options, stdout()))
}

pub(crate) fn run(mut options: Options, mut out: impl Write) -> Result<()> {
    options.protocol = Protocol::V5;
    let (agent, handle) = Client::new(options)?.open();
    let running = thread::spawn(move || agent.run());
    // Before the first request, which nobody would answer otherwise.
    let requests = handle.inbox(REQUESTS as usize, WhenFull::WaitAside);
    let filters = vec![Filter::new("square", QoS::AtLeastOnce)];
    handle.subscribe(&requests, filters)?.wait().into_result()?;
    let server = thread::spawn({
        let handle = handle.clone();
        move || serve(&handle, &requests)
    });

    let mut open = Vec::new();
    for number in 0..REQUESTS {
        let request = Publish::new("square", QoS::AtLeastOnce, number.to_string());
        open.push((number, handle.start_request(request, TIME)?));
    }
    for (number, response) in open {
        // The error says whether it was refused, was never sent, has nobody who answers, or was not answered in time.
        let response = response.wait()?;
        let square = String::from_utf8_lossy(response.payload());
        writeln!(out, "the square of {number} is {square}")?;
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
        // A message that asks for no response has none.
        if let Some(response) = request.response((number * number).to_string()) {
            // The ticket is dropped: if the response is lost, the client notices that none comes.
            drop(handle.publish(response)?);
        }
    }
    Ok(())
}
