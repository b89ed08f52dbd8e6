//! Idle means asleep: in every state in which there is nothing to do, the loop's thread makes no turn.
//! The system's own account of the thread proves it. Linux only: other systems keep no such account.

#![cfg(target_os = "linux")]

use std::time::Duration;

use crate::support::running::{NEVER, Running, message, options, promptly, send_at_once, told};
use crate::support::{HANG, LARGE, ScriptedBroker};
use mqtt_connection_sharing::{Outcome, WhenFull};
use mqtt_connection_sharing::{Publish, QoS};

#[test]
fn the_loop_sleeps_before_connack_online_and_offline() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options(&broker));
    let mut link = broker.accept();
    link.expect_connect();
    let early = running.publish("a", "x");
    running.expect_asleep("while it awaits CONNACK");
    link.send_connack(rumqttc::mqttbytes::v4::ConnectReturnCode::Success, false);
    let id = link.expect_publish().pkid;
    running.expect_asleep("while it awaits an acknowledgment");
    link.send_puback(id);
    assert!(told(early).is_delivered());
    running.expect_asleep("while it is online");
    let disconnect = running.handle().disconnect();
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    assert!(told(disconnect).is_delivered());
    let waiting = running.publish("a", "x");
    running.expect_asleep("while it is offline and a command waits");
    running.drop_handle_and_expect_left(1);
    assert!(matches!(told(waiting), Outcome::Cancelled(_)));
}

#[test]
fn the_loop_sleeps_with_a_full_window_a_full_queue_and_a_full_inbox() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_inflight = 2;
    options.command_queue = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let _tickets = [
        running.publish("a", "1"),
        running.publish("a", "2"),
        running.publish("a", "3"),
    ];
    send_at_once(&mut link, (1..=3).map(|id| message("in", id, "m")));
    // Both DISCONNECT and TERMINATE wait for the commands before them.
    running.expect_asleep("while nothing has room");
    let _disconnect = running.handle().disconnect();
    running.expect_asleep("while DISCONNECT waits for the queue");
    let _end = running.handle().terminate(NEVER);
    running.expect_asleep("while TERMINATE waits for the queue");
    running.terminate(link);
}

#[test]
fn the_loop_sleeps_until_the_next_attempt() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    // The next attempt comes before TERMINATE's grace below is over, so that TERMINATE waits for it.
    options.connect_interval = HANG * 5;
    let (running, link) = Running::online_with(options, &mut broker);
    link.close();
    running.take_a_turn();
    let _waiting = running.publish("a", "x");
    running.expect_asleep("between two attempts");
    let _end = running.handle().terminate(HANG * 10);
    running.expect_asleep("while TERMINATE waits for a link");
    let _end = running.handle().terminate(Duration::ZERO);
    assert_eq!(promptly(|| running.join()).left, 1);
}

#[test]
fn the_loop_sleeps_while_the_broker_does_not_read() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online(&mut broker);
    let message = Publish::new("a", QoS::AtMostOnce, vec![b'x'; LARGE]);
    let _stuck = running.handle().publish(message).unwrap();
    running.take_a_turn();
    running.expect_asleep("while the broker does not read");
    drop(link);
    let _end = running.handle().terminate(Duration::ZERO);
    let _ = promptly(|| running.join());
}

#[test]
fn the_loop_sleeps_while_the_broker_does_not_close_after_the_last_disconnect() {
    let mut broker = ScriptedBroker::bind();
    for disconnect_first in [false, true] {
        let (running, mut link) = Running::online(&mut broker);
        let before = running.processor_time().unwrap();
        let _disconnect = disconnect_first.then(|| running.handle().disconnect());
        let _end = running.handle().terminate(Duration::ZERO);
        link.expect_disconnect();
        link.expect_closed();
        // The loop gives the broker a second to close its side; this broker does not do so.
        let after = running.last_processor_time();
        let _ = running.join();
        let spent = after - before;
        assert!(
            spent < Duration::from_millis(300),
            "{spent:?} of work for DISCONNECT"
        );
        drop(link);
    }
}
