//! The command queue of a broker that takes no further PUBLISH: other commands leave all the same [MQTT-3.3.4-8].

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::Duration;

use crate::support::running::{Running, told};
use crate::support::scripted5::options5;
use crate::support::{Connection, HANG, ScriptedBroker};
use mqtt_connection_sharing::{Filter, Handle, Publish, QoS, WhenFull};

/// Commands that a queue holds: far fewer than [`MANY`].
const QUEUES: [usize; 2] = [4, 1_000];

/// So many messages are far more than the queue and the loop hold together.
const MANY: usize = 5_000;

/// A queue for so many commands, and a broker that takes one PUBLISH at a time.
fn online(broker: &mut ScriptedBroker, queue: usize) -> (Running, Connection) {
    let mut options = options5(broker);
    options.command_queue = queue;
    options.block_time = 2 * HANG;
    Running::online5_with(options, broker, b"\x21\x00\x01")
}

/// Publishes until the queue stays full, or this often. Returns how many messages were queued.
fn fill(handle: &Handle) -> usize {
    let push = |_: &usize| {
        let message = Publish::new("t", QoS::AtLeastOnce, "x");
        let pushed = handle.publish_timeout(message, Duration::from_millis(50));
        pushed.map(drop).is_ok()
    };
    (0..MANY).take_while(push).count()
}

#[test]
fn requests_reach_the_broker_from_behind_a_full_queue() {
    for queue in QUEUES {
        let mut broker = ScriptedBroker::bind();
        let (running, mut link) = online(&mut broker, queue);
        for (number, is_task) in [false, true, false].into_iter().enumerate() {
            let queued = fill(running.handle());
            assert!(queued < MANY, "the queue does not stay full");
            let handle = running.handle().clone();
            let pinging = thread::spawn(move || {
                if is_task {
                    let executor = tokio::runtime::Builder::new_current_thread().build();
                    executor.unwrap().block_on(handle.ping_async()).unwrap()
                } else {
                    handle.ping().unwrap()
                }
            });
            if number == 0 {
                assert_eq!(link.read_bytes()[0], 0x32, "the one PUBLISH");
            }
            assert_eq!(link.read_bytes(), b"\xc0\x00", "a queue for {queue}");
            link.send(b"\xd0\x00");
            assert!(told(pinging.join().unwrap()).is_delivered());
        }
        running.terminate5(link);
    }
}

#[test]
fn a_request_that_nobody_awaits_takes_no_publish_out_of_the_queue() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = online(&mut broker, QUEUES[0]);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("f", QoS::AtLeastOnce)];
    let futures = (
        handle.ping_async(),
        handle.subscribe_async(&inbox, filters),
        handle.unsubscribe_async(&inbox, vec!["f".to_owned()]),
    );
    let queued = fill(handle);
    assert!(queued < MANY, "the queue does not stay full");
    drop(futures);
    running.terminate5(link);
}
