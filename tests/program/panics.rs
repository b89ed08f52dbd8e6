//! Threads that panic: a caller of the library that holds a handle, an inbox and a ticket; a callback;
//! and the loop itself. No other thread may hang, and every command ends. The program's unit tests cover
//! the threads of the demo.
//!
//! No code of the library is made to panic, only the log: a program may set any logger. See
//! `support/panicking_log.rs`.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::Duration;

use crate::support::panicking_log::{expect_panicked, panic_at};
use crate::support::running::{Running, all_told, promptly, send_unsuback, told};
use crate::support::{HANG, ScriptedBroker};
use mqtt_connection_sharing::{Filter, Publish, QoS};
use mqtt_connection_sharing::{InboxError, Outcome, Reason, RejectReason, WhenFull};
use rumqttc::mqttbytes::v4;

#[test]
fn a_panic_of_a_thread_with_a_handle_an_inbox_and_tickets_stops_nobody_else() {
    let _turn = panic_at("no line has these words");
    let mut broker = ScriptedBroker::bind();
    let (mut running, mut link) = Running::online(&mut broker);
    let handle = running.handle().clone();
    let other = running.publish("other", "1");
    let caller = thread::spawn(move || {
        let inbox = handle.inbox(1, WhenFull::WaitAside);
        let filters = vec![Filter::new("in", QoS::AtLeastOnce)];
        let granted = told(handle.subscribe(&inbox, filters).unwrap());
        let message = Publish::new("a", QoS::AtLeastOnce, "1");
        let ticket = handle.publish(message.clone()).unwrap();
        let callback = |_| panic!("meant: a callback of a thread that is gone");
        handle.publish_then(message, callback).unwrap();
        panic!("meant: with {inbox:?}, {ticket:?}, {granted:?}");
    });
    let first = link.expect_publish();
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    // The thread's inbox goes with it: UNSUBSCRIBE may overtake the messages that the thread had handed
    // in.
    let (mut ids, mut left) = (vec![first.pkid], None);
    while ids.len() < 3 || left.is_none() {
        match link.read_packet() {
            v4::Packet::Publish(publish) => ids.push(publish.pkid),
            v4::Packet::Unsubscribe(unsubscribe) => left = Some(unsubscribe),
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert!(caller.join().is_err());
    let left = left.unwrap();
    assert_eq!(left.topics, ["in"]);
    send_unsuback(&mut link, left.pkid);
    for id in ids {
        link.send_puback(id);
    }
    assert!(told(other).is_delivered());
    let after = running.publish("other", "2");
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    assert!(told(after).is_delivered());
    // The thread's handle was dropped as well.
    running.drop_handle();
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    let ended = promptly(|| running.join());
    assert!(ended.result.is_ok() && ended.left == 0, "{ended:?}");
}

#[test]
fn a_panic_of_the_loop_ends_every_command() {
    let _turn = panic_at("received PUBACK");
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle().clone();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let in_flight = [running.publish("a", "1"), running.publish("a", "2")];
    let (tell, told_to_callback) = std::sync::mpsc::channel();
    let callback = move |outcome| tell.send(outcome).unwrap();
    let message = Publish::new("a", QoS::AtLeastOnce, "3");
    handle.publish_then(message, callback).unwrap();
    let ids = [(); 3].map(|()| link.expect_publish().pkid);
    let waiter = thread::spawn({
        let ticket = handle.publish(Publish::new("a", QoS::AtLeastOnce, "4"));
        move || told(ticket.unwrap())
    });
    link.expect_publish();
    link.send_puback(ids[0]);
    let joined = promptly(|| thread::spawn(move || running.join()).join());
    assert!(joined.is_err(), "the panic is the caller's of `run`");
    expect_panicked();
    let lost = Outcome::PerhapsDelivered(Reason::LoopEnded);
    assert_eq!(waiter.join().unwrap(), lost);
    assert_eq!(all_told(in_flight), [lost.clone(), lost.clone()]);
    assert_eq!(told_to_callback.recv_timeout(HANG).unwrap(), lost);
    assert_eq!(inbox.recv().unwrap_err(), InboxError::Closed);
    let rejected = handle.ping().unwrap_err().reason;
    assert_eq!(rejected, RejectReason::Terminated);
    assert_eq!(
        told(handle.terminate(Duration::ZERO)),
        Outcome::Cancelled(Reason::LoopEnded)
    );
    // The broker sees that the client is gone.
    link.expect_closed();
}
