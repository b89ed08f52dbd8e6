//! DISCONNECT, RECONNECT and TERMINATE in every state of the connection, and the end of a loop whose
//! handles are all dropped. The real loop against a scripted broker.
//!
//! `row_NN` names the defect of the original program, in the project's table, that must not come back.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::running::{
    NEVER, Running, all_told, attempts, message, options, promptly, send_at_once, told,
};
use crate::support::{BlackHole, Connection, HANG, LARGE, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Outcome, Protocol, Reason, RejectReason, WhenFull};
use mqtt_connection_sharing::{Publish, QoS};
use rumqttc::mqttbytes::v4;

in_both_versions! {
    disconnect_follows_queued_commands_and_reconnect_resumes_later_ones,
    disconnect_while_the_link_is_down_stays_offline_until_reconnect,
    reconnect_overtakes_a_full_queue,
    terminate_finishes_commands_queued_and_in_flight,
    row_18_when_the_grace_is_over_the_rest_is_cancelled_or_perhaps_delivered,
    a_second_terminate_brings_the_end_nearer,
    terminate_ends_a_loop_whose_broker_reads_nothing,
    terminate_ends_the_wait_for_the_next_attempt,
    terminate_ends_the_wait_for_connack,
    terminate_ends_an_offline_loop,
    the_loop_ends_when_the_last_handle_is_dropped,
    a_broker_that_sends_on_after_disconnect_and_does_not_close_is_left,
}

/// Options with which the next attempt after a lost link is further away than any test waits.
fn no_second_attempt(broker: &ScriptedBroker) -> Options {
    let mut options = options(broker);
    options.connect_interval = NEVER;
    options
}

/// Checks that DISCONNECT comes, then the end of the stream, and nothing between them.
#[track_caller]
fn expect_disconnect_and_end(mut link: Connection) {
    link.expect_disconnect();
    link.expect_closed();
    assert!(link.received().ends_with(&[0xe0, 0]));
    link.close();
}

fn disconnect_follows_queued_commands_and_reconnect_resumes_later_ones(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let before: Vec<_> = (0..3).map(|_| running.publish("before", "x")).collect();
    let first = link.expect_publish().pkid;
    let mut disconnect = running.handle().disconnect();
    let second_disconnect = running.handle().disconnect();
    // The loop has taken DISCONNECT: commands queued from here on come after it.
    running.take_a_turn();
    let after = running.publish("after", "x");
    link.send_puback(first);
    let second = link.expect_publish();
    assert_eq!(second.topic, "before");
    assert_eq!(disconnect.wait_timeout(Duration::from_millis(20)), None);
    link.send_puback(second.pkid);
    let last = link.expect_publish();
    assert_eq!(last.topic, "before");
    // DISCONNECT waits only until messages are sent; the acknowledgment may come on the next link.
    expect_disconnect_and_end(link);
    assert!(told(disconnect).is_delivered());
    assert!(told(second_disconnect).is_delivered());
    assert!(broker.accept_within(Duration::from_millis(50)).is_none());
    assert_eq!(after.outcome(), None);

    let reconnect = running.handle().reconnect();
    let (mut link, connect) = broker.accept_client(true);
    assert!(!connect.clean_session);
    assert!(told(reconnect).is_delivered());
    let again = link.expect_publish();
    assert!(again.dup);
    assert_eq!(again.pkid, last.pkid);
    link.send_puback(again.pkid);
    let late = link.expect_publish();
    assert_eq!(late.topic, "after");
    link.send_puback(late.pkid);
    assert_eq!(attempts(told(after)), 1);
    let sent: Vec<_> = before.into_iter().map(|t| attempts(told(t))).collect();
    assert_eq!(sent, [1, 1, 2]);
    running.terminate(link);
}

fn disconnect_while_the_link_is_down_stays_offline_until_reconnect(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, link) = Running::online_with(no_second_attempt(&broker), &mut broker);
    link.close();
    running.take_a_turn();
    assert!(told(running.handle().disconnect()).is_delivered());
    assert!(told(running.handle().disconnect()).is_delivered());
    running.drop_all_and_join();
}

fn reconnect_overtakes_a_full_queue(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 1;
    options.command_queue = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let tickets = [running.publish("a", "1"), running.publish("a", "2")];
    link.expect_publish();
    let reconnect = running.handle().reconnect();
    link.expect_closed();
    let (mut link, _) = broker.accept_client(true);
    assert!(told(reconnect).is_delivered());
    for _ in 0..2 {
        let id = link.expect_publish().pkid;
        link.send_puback(id);
    }
    let sent: Vec<_> = tickets.into_iter().map(|t| attempts(told(t))).collect();
    assert_eq!(sent, [2, 1]);
    running.terminate(link);
}

fn terminate_finishes_commands_queued_and_in_flight(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let tickets: Vec<_> = (0..3).map(|_| running.publish("a", "x")).collect();
    let id = link.expect_publish().pkid;
    let end = running.handle().terminate(NEVER);
    running.take_a_turn();
    let late = running.publish("late", "x");
    // The link is lost meanwhile. The loop connects again, as there is still time.
    link.close();
    let (mut link, _) = broker.accept_client(true);
    assert_eq!(link.expect_publish().pkid, id);
    link.send_puback(id);
    for _ in 0..2 {
        assert_eq!(end.outcome(), None);
        let id = link.expect_publish().pkid;
        link.send_puback(id);
    }
    expect_disconnect_and_end(link);
    let ended = running.join();
    assert!(ended.result.is_ok());
    assert_eq!(ended.left, 1);
    assert!(all_told([end]).remove(0).is_delivered());
    assert!(all_told(tickets).iter().all(Outcome::is_delivered));
    let late = all_told([late]).remove(0);
    assert_eq!(late, Outcome::Cancelled(Reason::Terminated));
}

fn row_18_when_the_grace_is_over_the_rest_is_cancelled_or_perhaps_delivered(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 2;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let tickets: Vec<_> = (0..5).map(|_| running.publish("a", "x")).collect();
    link.expect_publish();
    link.expect_publish();
    let end = running.handle().terminate(Duration::from_millis(50));
    expect_disconnect_and_end(link);
    let handle = running.handle().clone();
    let ended = promptly(|| running.join());
    assert_eq!(ended.left, 5);
    let outcomes = all_told(tickets);
    let perhaps = Outcome::PerhapsDelivered(Reason::Terminated);
    assert_eq!(outcomes[..2], [perhaps.clone(), perhaps]);
    let cancelled = Outcome::Cancelled(Reason::Terminated);
    assert!(outcomes[2..].iter().all(|outcome| *outcome == cancelled));
    assert!(all_told([end]).remove(0).is_delivered());
    assert_eq!(handle.ping().unwrap_err().reason, RejectReason::Terminated);
}

fn a_second_terminate_brings_the_end_nearer(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let stuck = running.publish("a", "x");
    link.expect_publish();
    let mut patient = running.handle().terminate(NEVER);
    assert_eq!(patient.wait_timeout(Duration::from_millis(20)), None);
    let impatient = running.handle().terminate(Duration::ZERO);
    expect_disconnect_and_end(link);
    assert_eq!(running.join().left, 1);
    assert!(
        all_told([patient, impatient])
            .iter()
            .all(Outcome::is_delivered)
    );
    let stuck = all_told([stuck]).remove(0);
    assert_eq!(stuck, Outcome::PerhapsDelivered(Reason::Terminated));
}

fn terminate_ends_a_loop_whose_broker_reads_nothing(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, link) = Running::online(&mut broker);
    // More than the system buffers for a broker that does not read: the link takes the beginning of it.
    let message = Publish::new("a", QoS::AtMostOnce, vec![b'x'; LARGE]);
    let stuck = running.handle().publish(message).unwrap();
    running.take_a_turn();
    let end = running.handle().terminate(Duration::ZERO);
    let _ = promptly(|| running.join());
    assert!(all_told([end]).remove(0).is_delivered());
    let stuck = all_told([stuck]).remove(0);
    assert_eq!(stuck, Outcome::PerhapsDelivered(Reason::LinkLost));
    drop(link);
}

fn terminate_ends_the_wait_for_the_next_attempt(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    for grace in [NEVER, Duration::ZERO] {
        let (running, link) = Running::online_with(no_second_attempt(&broker), &mut broker);
        link.close();
        running.take_a_turn();
        let end = running.handle().terminate(grace);
        assert_eq!(promptly(|| running.join()).left, 0);
        assert!(all_told([end]).remove(0).is_delivered());
    }
    // The rest cannot be done: the next attempt would come after the grace.
    let (running, mut link) = Running::online_with(no_second_attempt(&broker), &mut broker);
    let sent = running.publish("a", "x");
    link.expect_publish();
    link.close();
    running.take_a_turn();
    let queued = running.publish("a", "x");
    let mut end = running.handle().terminate(2 * HANG);
    assert!(end.wait_timeout(HANG / 2).unwrap().is_delivered());
    assert_eq!(running.join().left, 2);
    let outcomes = all_told([sent, queued]);
    assert_eq!(outcomes[0], Outcome::PerhapsDelivered(Reason::Terminated));
    assert_eq!(outcomes[1], Outcome::Cancelled(Reason::Terminated));
}

fn terminate_ends_the_wait_for_connack(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    for commands in [0, 1] {
        let running = Running::start(options(&broker));
        let mut link = broker.accept();
        link.expect_connect();
        let tickets: Vec<_> = (0..commands).map(|_| running.publish("a", "x")).collect();
        let end = running.handle().terminate(Duration::from_millis(20));
        assert_eq!(promptly(|| running.join()).left, commands);
        // No DISCONNECT comes: it must not be sent before CONNACK.
        link.expect_closed();
        assert!(all_told([end]).remove(0).is_delivered());
        for outcome in all_told(tickets) {
            assert_eq!(outcome, Outcome::Cancelled(Reason::Terminated));
        }
    }
}

/// TCP does not finish connecting.
#[cfg(target_os = "linux")]
#[test]
fn stop_requests_end_a_tcp_connect() {
    let hole = BlackHole::open(Ipv4Addr::LOCALHOST);
    let broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.port = hole.address().port();
    for command in 0..3 {
        let running = Running::start(options.clone());
        running.take_a_turn();
        let handle = running.handle().clone();
        match command {
            0 => assert!(promptly(|| told(handle.terminate(NEVER))).is_delivered()),
            1 => assert!(promptly(|| told(handle.disconnect())).is_delivered()),
            _ => drop(handle.reconnect()),
        }
        let end = handle.terminate(Duration::ZERO);
        assert_eq!(promptly(|| running.join()).left, 0);
        let end = told(end);
        match command {
            // The first TERMINATE had ended the loop.
            0 => assert_eq!(end, Outcome::Cancelled(Reason::LoopEnded)),
            _ => assert!(end.is_delivered(), "{end}"),
        }
    }
}

fn terminate_ends_an_offline_loop(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, link) = Running::online(&mut broker);
    let disconnect = running.handle().disconnect();
    expect_disconnect_and_end(link);
    assert!(told(disconnect).is_delivered());
    let waiting = running.publish("a", "x");
    let end = running.handle().terminate(NEVER);
    assert_eq!(promptly(|| running.join()).left, 1);
    assert!(all_told([end]).remove(0).is_delivered());
    let waiting = all_told([waiting]).remove(0);
    assert_eq!(waiting, Outcome::Cancelled(Reason::Terminated));
}

fn the_loop_ends_when_the_last_handle_is_dropped(protocol: Protocol) {
    // Online, with a message in flight, which the loop finishes.
    let mut broker = ScriptedBroker::speaking(protocol);
    let (mut running, mut link) = Running::online(&mut broker);
    let clone = running.handle().clone();
    let inbox = clone.inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let ticket = running.publish("a", "x");
    running.drop_handle();
    let id = link.expect_publish().pkid;
    send_at_once(&mut link, [message("in", 7, "m")]);
    assert_eq!(link.expect_puback().pkid, 7, "one handle is left");
    drop(clone);
    link.expect_silence(Duration::from_millis(20));
    link.send_puback(id);
    expect_disconnect_and_end(link);
    assert_eq!(running.join().left, 0);
    assert_eq!(attempts(told(ticket)), 1);
    // Delivered messages can still be taken.
    assert!(inbox.recv().is_ok());
    assert!(inbox.recv().is_err());

    // Offline.
    let (running, link) = Running::online(&mut broker);
    let disconnect = running.handle().disconnect();
    expect_disconnect_and_end(link);
    assert!(told(disconnect).is_delivered());
    running.drop_all_and_join();

    // Waiting for the next attempt.
    let (running, link) = Running::online_with(no_second_attempt(&broker), &mut broker);
    link.close();
    running.take_a_turn();
    running.drop_all_and_join();

    // Waiting for CONNACK.
    let running = Running::start(options(&broker));
    let mut link = broker.accept();
    link.expect_connect();
    running.drop_all_and_join();
    link.expect_closed();
}

fn a_broker_that_sends_on_after_disconnect_and_does_not_close_is_left(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let disconnect = running.handle().disconnect();
    link.expect_disconnect();
    link.expect_closed();
    send_at_once(&mut link, [message("a", 1, "m"), v4::Packet::PingResp]);
    assert!(promptly(|| told(disconnect)).is_delivered());
    assert!(link.received().ends_with(&[0xe0, 0]));
    running.drop_all_and_join();
}
