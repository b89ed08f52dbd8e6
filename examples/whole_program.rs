//! scripts/broker.sh -- cargo run --example whole_program
//!
//! A whole program: two publishers, a subscriber, a health line each second, and a graceful end on Ctrl-C.

mod broker;

use std::{error::Error, process::ExitCode, thread, time::Duration};

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, ConnectionState, Filter, Publish, QoS, WhenFull};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    broker::run("whole-program", run)
}

fn run(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (agent, handle) = Client::new(options)?.open();
    let end = handle.clone();
    ctrlc::set_handler(move || drop(end.terminate(5 * SECOND)))?;
    let inbox = handle.inbox(100, WhenFull::WaitAside);
    let filters = vec![Filter::new("rooms/+/light", QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filters)?;
    let subscriber = thread::spawn(move || {
        println!("subscribed: {}", subscribed.wait());
        for received in &inbox {
            match received {
                Ok(message) => println!("{}: {:?}", message.topic(), message.to_payload()),
                Err(problem) => println!("{problem}"),
            }
        }
    });
    let publishers = ["rooms/1/light", "rooms/2/light"].map(|topic| {
        let handle = handle.clone();
        // The message comes back, and the thread ends, when the loop ends or the queue stays full.
        thread::spawn(move || {
            while let Ok(ticket) = handle.publish(Publish::new(topic, QoS::AtLeastOnce, "on")) {
                match ticket.wait().into_result() {
                    Ok(()) => thread::sleep(SECOND / 10),
                    Err(problem) => println!("{topic}: {problem}"),
                }
            }
        })
    });
    let health = thread::spawn(move || {
        let ended = ConnectionState::is_ended;
        while handle.wait_for_connection(SECOND, ended).is_err() {
            let (state, stats) = (handle.connection(), handle.stats());
            let p99 = stats.latencies.quantile(0.99).unwrap_or_default();
            println!("{state}: {} delivered, p99 {p99:?}", stats.delivered);
        }
    });
    let ended = agent.run();
    for thread in [subscriber, health].into_iter().chain(publishers) {
        thread.join().map_err(|_| "a thread panicked")?;
    }
    Ok(ended.result?)
}
