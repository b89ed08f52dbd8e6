//! QoS 2 in both directions: four packets, one delivery, and their order.

use mqtt_connection_sharing::WhenFull;
use mqtt_connection_sharing::{Filter, QoS};

use crate::harness::{ACCEPTED, RESUMED, Submit, ack, greet, identifier, message, online};
use crate::harness::{leave, recorded, terminate};
use crate::support::running::{Running, attempts, expect_delivered, next, told};
use crate::support::{Connection, ScriptedBroker};
use mqtt_connection_sharing::Inbox;

/// An inbox that is subscribed to `in` with QoS 2 and has room for this many messages.
#[track_caller]
fn subscribed(running: &Running, link: &mut Connection, capacity: usize) -> Inbox {
    let inbox = running.handle().inbox(capacity, WhenFull::WaitAside);
    let filters = vec![Filter::new("in", QoS::ExactlyOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    let id = identifier(&link.read_bytes());
    let [high, low] = id.to_be_bytes();
    link.send(&[0x90, 3, high, low, 2]);
    assert!(told(ticket).is_delivered());
    inbox
}

#[test]
fn mqtt_4_3_3_1_a_qos_2_message_goes_publish_pubrec_pubrel_pubcomp() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x01x");
    // PUBCOMP is not its answer, and PUBREL does not come before PUBREC.
    link.send(&ack(0x70, 1));
    running.take_a_turn();
    assert_eq!(ticket.outcome(), None);
    link.send(&ack(0x50, 1));
    link.expect_bytes(b"\x62\x02\x00\x01");
    // PUBREC alone settles nothing, nor does PUBACK now.
    link.send(&ack(0x40, 1));
    running.take_a_turn();
    assert_eq!(ticket.outcome(), None);
    // The identifier is in use until PUBCOMP.
    let other = running.send(QoS::ExactlyOnce, "a", "y");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x02y");
    link.send(&ack(0x70, 1));
    assert_eq!(attempts(told(ticket)), 1);
    link.send(&ack(0x50, 2));
    link.expect_bytes(b"\x62\x02\x00\x02");
    link.send(&ack(0x70, 2));
    assert!(told(other).is_delivered());
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_3_3_1_after_pubrec_the_message_is_never_sent_again() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x01x");
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x3c\x06\x00\x01a\x00\x01x");
    link.send(&ack(0x50, 1));
    link.expect_bytes(b"\x62\x02\x00\x01");
    for _ in 0..3 {
        leave(&running, link);
        link = greet(&mut broker, RESUMED);
        link.expect_bytes(b"\x62\x02\x00\x01");
        running.take_a_turn();
    }
    link.close();
    // Nor is it sent to a broker that has forgotten it: that could be a second delivery.
    let link = greet(&mut broker, ACCEPTED);
    let outcome = told(ticket);
    assert!(!outcome.is_delivered(), "{outcome:?}");
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
    let publishes = recorded(&broker).concat();
    let publishes = publishes.iter().filter(|packet| packet[0] >> 4 == 3);
    assert_eq!(publishes.count(), 2);
}

#[test]
fn mqtt_4_3_3_2_a_qos_2_message_is_delivered_once_until_it_is_released() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = subscribed(&running, &mut link, 10);
    link.send(&message(0x34, "in", 9, b"one"));
    link.expect_bytes(b"\x50\x02\x00\x09");
    assert_eq!(next(&inbox), "one");
    // The message again on the same link, with DUP and without: PUBREC, no delivery.
    for first in [0x3c, 0x34] {
        link.send(&message(first, "in", 9, b"one"));
        link.expect_bytes(b"\x50\x02\x00\x09");
    }
    // The message again on the links that follow.
    for _ in 0..3 {
        link.close();
        link = greet(&mut broker, RESUMED);
        link.send(&message(0x3c, "in", 9, b"one"));
        link.expect_bytes(b"\x50\x02\x00\x09");
    }
    assert!(inbox.try_recv().is_err());
    link.send(&ack(0x62, 9));
    link.expect_bytes(b"\x70\x02\x00\x09");
    // After PUBREL the same identifier is another message, also if it looks like the first.
    for payload in ["one", "two"] {
        link.send(&message(0x34, "in", 9, payload.as_bytes()));
        link.expect_bytes(b"\x50\x02\x00\x09");
        assert_eq!(next(&inbox), payload);
        link.send(&ack(0x62, 9));
        link.expect_bytes(b"\x70\x02\x00\x09");
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_3_3_2_every_pubrel_is_answered_with_its_pubcomp() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = subscribed(&running, &mut link, 10);
    for id in [1, 2, 3] {
        link.send(&message(0x34, "in", id, b"x"));
        link.expect_bytes(ack(0x50, id));
    }
    // A PUBREL that comes again, on the next link too, and a PUBREL for an unknown identifier.
    for id in [3, 1, 1, 2, 0xffff] {
        link.send(&ack(0x62, id));
        link.expect_bytes(ack(0x70, id));
    }
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    link.send(&ack(0x62, 2));
    link.expect_bytes(ack(0x70, 2));
    for _ in 0..3 {
        assert_eq!(next(&inbox), "x");
    }
    assert!(inbox.try_recv().is_err());
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_6_0_3_pubrecs_leave_in_the_order_of_the_publishes() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    // There is room for one message: the second waits aside, and the PUBRECs of all later ones wait with
    // it.
    let slow = subscribed(&running, &mut link, 1);
    let quick = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &quick, "other");
    let arriving = [
        message(0x34, "in", 30, b"30"),
        message(0x34, "in", 10, b"10"),
        message(0x34, "other", 20, b"20"),
        message(0x34, "nobody", 5, b"5"),
        message(0x34, "other", 40, b"40"),
    ];
    link.send(&arriving.concat());
    link.expect_bytes(ack(0x50, 30));
    // These messages were accepted at once.
    assert_eq!((next(&quick), next(&quick)), ("20".into(), "40".into()));
    running.take_a_turn();
    link.expect_no_bytes();
    assert_eq!(next(&slow), "30");
    for id in [10, 20, 5, 40] {
        link.expect_bytes(ack(0x50, id));
    }
    assert_eq!(next(&slow), "10");
    terminate(running, link);
}

#[test]
fn mqtt_4_6_0_4_pubrels_leave_in_the_order_of_the_pubrecs() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let tickets: Vec<_> = (0..6)
        .map(|_| running.send(QoS::ExactlyOnce, "a", "x"))
        .collect();
    let ids: Vec<_> = (0..6).map(|_| identifier(&link.read_bytes())).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    // In several pieces, and several in one piece.
    link.send(&ack(0x50, 4));
    link.expect_bytes(ack(0x62, 4));
    link.send(&[ack(0x50, 2), ack(0x50, 6), ack(0x50, 1)].concat());
    for id in [2, 6, 1] {
        link.expect_bytes(ack(0x62, id));
    }
    link.close();
    // PUBRELs keep that order when they are sent again, and later ones follow them.
    let mut link = greet(&mut broker, RESUMED);
    for id in [4, 2, 6, 1] {
        link.expect_bytes(ack(0x62, id));
    }
    for id in [3, 5] {
        let again = link.read_bytes();
        assert_eq!((again[0], identifier(&again)), (0x3c, id));
    }
    link.send(&[ack(0x50, 5), ack(0x70, 2), ack(0x50, 3)].concat());
    for id in [5, 3] {
        link.expect_bytes(ack(0x62, id));
    }
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    for id in [4, 6, 1, 5, 3] {
        link.expect_bytes(ack(0x62, id));
        link.send(&ack(0x70, id));
    }
    expect_delivered(tickets);
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}
