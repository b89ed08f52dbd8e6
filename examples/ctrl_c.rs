//! scripts/broker.sh -- cargo run --example ctrl_c
//!
//! A thread publishes until Ctrl-C. Then what is queued and in flight may finish for five seconds, DISCONNECT follows, and
//! each message has an outcome: one that is pushed behind Ctrl-C is cancelled. A second Ctrl-C ends the wait.
//! `broker/mod.rs` says which broker it is.

mod broker;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, ConnectionState, Publish, QoS, RejectReason};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    broker::run("ctrl-c", run)
}

fn run(options: Options) -> Result<()> {
    let (agent, handle) = Client::new(options)?.open();

    // The crate `ctrlc` calls this on a thread of its own. TERMINATE goes ahead of all that is queued; asking again can
    // only shorten the grace. Nobody here waits for the ticket: `Agent::run` returns when it is done.
    let (end, asked) = (handle.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        let again = asked.swap(true, Ordering::SeqCst);
        drop(end.terminate(if again { Duration::ZERO } else { GRACE }));
    })?;

    let publisher = thread::spawn(move || {
        let mut tickets = Vec::new();
        let online = handle.wait_for_connection(Duration::MAX, ConnectionState::is_online);
        let tick = || Publish::new("clock", QoS::AtLeastOnce, "tick");
        while online.is_ok() {
            match handle.publish(tick()) {
                Ok(ticket) => {
                    if tickets.is_empty() {
                        println!("publishing until Ctrl-C");
                    }
                    tickets.push(ticket);
                }
                // The queue was full for the block time: this tick is over, and the next one may have room.
                Err(back) if matches!(back.reason, RejectReason::QueueFull { .. }) => {}
                // The loop has ended, and that is the end here, too.
                Err(_) => break,
            }
            thread::sleep(Duration::from_millis(10));
        }
        tickets
    });

    let ended = agent.run();
    let tickets = publisher.join().map_err(|_| "the publisher panicked")?;
    let published = tickets.len();
    // The loop has ended, so every ticket has its outcome, and none of these waits.
    let outcomes = tickets.into_iter().map(|ticket| ticket.wait());
    let failed: Vec<_> = outcomes.filter(|outcome| !outcome.is_delivered()).collect();
    for outcome in &failed {
        println!("not delivered: {outcome}");
    }
    let delivered = published - failed.len();
    println!("{delivered} of {published} delivered");
    Ok(ended.result?)
}
