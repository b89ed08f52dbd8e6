//! DISCONNECT: nothing follows it but the end of the connection.

use std::io::Write;
use std::time::Duration;

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::WhenFull;

use crate::harness::{RESUMED, Submit, ack, greet, message, online, recorded, terminate};
use crate::support::running::{next, told};
use crate::support::{ScriptedBroker, wait_until};

const DISCONNECT: &[u8] = b"\xe0\x00";

#[test]
fn mqtt_3_14_4_1_the_connection_is_closed_after_disconnect() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let offline = running.handle().disconnect();
    link.expect_bytes(DISCONNECT);
    assert!(link.read_to_end().is_empty());
    link.close();
    assert!(told(offline).is_delivered());
    let reconnected = running.handle().reconnect();
    let mut link = greet(&mut broker, RESUMED);
    assert!(told(reconnected).is_delivered());
    let ended = running.handle().terminate(Duration::ZERO);
    link.expect_bytes(DISCONNECT);
    assert!(link.read_to_end().is_empty());
    link.close();
    assert!(told(ended).is_delivered());
    assert!(running.join().result.is_ok());
}

/// The client closes both directions, also if the broker keeps its own open.
#[test]
fn mqtt_3_14_4_1_a_broker_that_does_not_close_does_not_keep_it_open() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let offline = running.handle().disconnect();
    link.expect_bytes(DISCONNECT);
    assert!(link.read_to_end().is_empty());
    assert!(told(offline).is_delivered());
    // Bytes that the broker still sends find no socket any more.
    wait_until("the connection to be closed", || {
        link.stream().write_all(b"\xd0\x00").is_err()
    });
    running.drop_all_and_join();
}

#[test]
fn mqtt_3_14_4_2_nothing_is_sent_after_disconnect() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let in_flight = running.send(QoS::AtLeastOnce, "out", "in flight");
    link.expect_bytes(b"\x32\x10\x00\x03out\x00\x02in flight");
    let twice = running.send(QoS::ExactlyOnce, "out", "2");
    link.expect_bytes(b"\x34\x08\x00\x03out\x00\x032");

    let offline = running.handle().disconnect();
    link.expect_bytes(DISCONNECT);
    // Each of these packets asks for an answer, and the commands ask for packets.
    let asks = [
        &message(0x32, "in", 1, b"q1")[..],
        &message(0x34, "in", 2, b"q2"),
        &ack(0x62, 3),
        &ack(0x50, 3),
    ];
    link.send(&asks.concat());
    let queued = running.send(QoS::AtMostOnce, "out", "0");
    let pinged = running.handle().ping().unwrap();
    running.take_a_turn();
    assert!(link.read_to_end().is_empty());
    link.close();
    assert!(told(offline).is_delivered());
    assert_eq!(queued.outcome(), None);

    // The message waited for the next connection.
    let reconnected = running.handle().reconnect();
    let mut link = greet(&mut broker, RESUMED);
    assert!(told(reconnected).is_delivered());
    link.expect_bytes(b"\x3a\x10\x00\x03out\x00\x02in flight");
    link.expect_bytes(b"\x3c\x08\x00\x03out\x00\x032");
    link.expect_bytes(b"\x30\x06\x00\x03out0");
    assert!(told(queued).is_delivered());
    link.expect_bytes(b"\xc0\x00");
    link.send(b"\xd0\x00");
    assert!(told(pinged).is_delivered());
    link.send(&message(0x3a, "in", 1, b"q1"));
    link.expect_bytes(ack(0x40, 1));
    assert_eq!(next(&inbox), "q1");
    link.send(&[ack(0x40, 2), ack(0x50, 3)].concat());
    assert!(told(in_flight).is_delivered());
    link.expect_bytes(ack(0x62, 3));
    link.send(&ack(0x70, 3));
    assert!(told(twice).is_delivered());
    assert_eq!(terminate(running, link), [DISCONNECT]);
    for connection in recorded(&broker) {
        assert_eq!(connection.last().map(Vec::as_slice), Some(DISCONNECT));
        let ends = connection.iter().filter(|packet| packet[0] == 0xe0);
        assert_eq!(ends.count(), 1);
    }
}
