//! The first byte of each packet: its type and its flags, in packets that the client sends and in those
//! it receives.

use std::time::Duration;

use mqtt_connection_sharing::WhenFull;
use mqtt_connection_sharing::{Filter, Publish, QoS};

use crate::harness::{CONNECT, RESUMED, Submit, ack, greet, message, online, recorded, terminate};
use crate::support::ScriptedBroker;
use crate::support::running::{NEVER, options, told};
use crate::violations::{Bad, bad, expect_each_closes, expect_each_closes_instead_of_connack};

/// Makes the client send every packet that a client sends, some of them again on a second connection,
/// and returns all of them.
fn every_packet() -> Vec<Vec<u8>> {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(10, WhenFull::WaitAside);

    let filters = vec![Filter::new("in", QoS::ExactlyOnce)];
    let subscribed = handle.subscribe(&inbox, filters).unwrap();
    link.expect_bytes(b"\x82\x07\x00\x01\x00\x02in\x02");
    link.send(b"\x90\x03\x00\x01\x02");
    assert!(told(subscribed).is_delivered());

    let qos_0 = running.send(QoS::AtMostOnce, "a", "x");
    link.expect_bytes(b"\x30\x04\x00\x01ax");
    assert!(told(qos_0).is_delivered());
    let retained = Publish::new("a", QoS::AtMostOnce, "x").with_retain(true);
    drop(handle.publish(retained).unwrap());
    link.expect_bytes(b"\x31\x04\x00\x01ax");
    let qos_1 = running.send(QoS::AtLeastOnce, "a", "x");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x02x");
    let qos_2 = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x03x");
    link.send(&ack(0x50, 3));
    link.expect_bytes(b"\x62\x02\x00\x03");

    link.send(&message(0x32, "in", 7, b"x"));
    link.expect_bytes(b"\x40\x02\x00\x07");
    link.send(&message(0x34, "in", 8, b"x"));
    link.expect_bytes(b"\x50\x02\x00\x08");
    link.send(&ack(0x62, 8));
    link.expect_bytes(b"\x70\x02\x00\x08");

    let ping = handle.ping().unwrap();
    link.expect_bytes(b"\xc0\x00");
    link.send(b"\xd0\x00");
    assert!(told(ping).is_delivered());
    let unsubscribed = handle.unsubscribe(&inbox, vec!["in".into()]).unwrap();
    link.expect_bytes(b"\xa2\x06\x00\x04\x00\x02in");
    link.close();

    // The packets that must be sent again.
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x62\x02\x00\x03");
    link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x02x");
    link.expect_bytes(b"\xa2\x06\x00\x04\x00\x02in");
    link.send(&[ack(0x70, 3), ack(0x40, 2), ack(0xb0, 4)].concat());
    for ticket in [qos_1, qos_2, unsubscribed] {
        assert!(told(ticket).is_delivered());
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
    recorded(&broker).concat()
}

#[test]
fn mqtt_2_2_2_1_reserved_flags_are_as_the_standard_lists_them() {
    let packets = every_packet();
    let mut kinds = Vec::new();
    for packet in &packets {
        let (kind, flags) = (packet[0] >> 4, packet[0] & 0x0f);
        match kind {
            // DUP, QoS and RETAIN are not reserved.
            3 => {}
            6 | 8 | 10 => assert_eq!(flags, 0b0010, "{packet:02x?}"),
            _ => assert_eq!(flags, 0, "{packet:02x?}"),
        }
        kinds.push(kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(
        kinds,
        [1, 3, 4, 5, 6, 7, 8, 10, 12, 14],
        "every packet of a client"
    );
}

#[test]
fn mqtt_3_6_1_1_pubrel_has_the_flags_0010_also_when_it_is_sent_again() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x01x");
    link.send(b"\x50\x02\x00\x01");
    for _ in 0..2 {
        link.expect_bytes(b"\x62\x02\x00\x01");
        link.close();
        link = greet(&mut broker, RESUMED);
    }
    link.expect_bytes(b"\x62\x02\x00\x01");
    // A second PUBREC asks for PUBREL once more.
    link.send(b"\x50\x02\x00\x01");
    link.expect_bytes(b"\x62\x02\x00\x01");
    link.send(b"\x70\x02\x00\x01");
    assert!(told(ticket).is_delivered());
    terminate(running, link);
}

#[test]
fn mqtt_3_8_1_1_subscribe_has_the_flags_0010_also_when_it_is_a_renewal() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("a", QoS::AtLeastOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    link.expect_bytes(b"\x82\x06\x00\x01\x00\x01a\x01");
    link.close();
    // The SUBSCRIBE is sent again, then granted.
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x82\x06\x00\x01\x00\x01a\x01");
    link.send(b"\x90\x03\x00\x01\x01");
    assert!(told(ticket).is_delivered());
    link.close();
    // The subscription is renewed in a session that does not have it.
    let mut link = greet(&mut broker, crate::harness::ACCEPTED);
    let renewal = link.read_bytes();
    assert_eq!(renewal[..2], *b"\x82\x06");
    assert_eq!(renewal[4..], *b"\x00\x01a\x01");
    link.send(&[b"\x90\x03", &renewal[2..4], b"\x01"].concat());
    terminate(running, link);
}

#[test]
fn mqtt_3_10_1_1_unsubscribe_has_the_flags_0010_also_when_it_is_sent_again() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = vec!["a".to_owned(), "b/#".to_owned()];
    let ticket = running.handle().unsubscribe(&inbox, filters).unwrap();
    link.expect_bytes(b"\xa2\x0a\x00\x01\x00\x01a\x00\x03b/#");
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\xa2\x0a\x00\x01\x00\x01a\x00\x03b/#");
    link.send(b"\xb0\x02\x00\x01");
    assert!(told(ticket).is_delivered());
    terminate(running, link);
}

#[test]
fn mqtt_3_14_1_1_disconnect_is_two_bytes_without_a_flag() {
    // By DISCONNECT, by TERMINATE, and when the last handle is dropped.
    for way in 0..3 {
        let mut broker = ScriptedBroker::bind();
        let mut options = options(&broker);
        options.ack_timeout = Duration::from_secs(1);
        assert!(options.ack_timeout < NEVER);
        let (mut running, mut link) = crate::harness::online_with(options, &mut broker);
        match way {
            0 => drop(running.handle().disconnect()),
            1 => drop(running.handle().terminate(Duration::ZERO)),
            _ => running.drop_handle(),
        }
        link.expect_bytes(b"\xe0\x00");
        assert!(link.read_to_end().is_empty());
        link.close();
        if way == 0 {
            running.drop_handle();
        }
        assert!(running.join().result.is_ok());
        let expected = [[CONNECT, b"\xe0\x00"].concat()];
        assert_eq!(broker.shutdown(), expected);
    }
}

/// Every packet that a server sends, with each wrong value of its flags.
fn wrong_flags() -> Vec<Bad> {
    let packets: [(u8, &[u8], &'static str); 8] = [
        (0x20, b"\x02\x00\x00", "CONNACK"),
        (0x40, b"\x02\x00\x01", "PUBACK"),
        (0x50, b"\x02\x00\x01", "PUBREC"),
        (0x62, b"\x02\x00\x01", "PUBREL"),
        (0x70, b"\x02\x00\x01", "PUBCOMP"),
        (0x90, b"\x03\x00\x01\x00", "SUBACK"),
        (0xb0, b"\x02\x00\x01", "UNSUBACK"),
        (0xd0, b"\x00", "PINGRESP"),
    ];
    let mut rows = Vec::new();
    for (right, rest, packet) in packets {
        for first in (right & 0xf0)..=(right | 0x0f) {
            if first != right {
                let bytes = [&[first], rest].concat();
                rows.push(bad(bytes, packet, "MQTT-2.2.2-2"));
            }
        }
    }
    assert_eq!(rows.len(), 8 * 15);
    rows
}

#[test]
fn mqtt_2_2_2_2_wrong_flags_on_any_packet_close_the_connection() {
    let mut rows = wrong_flags();
    // PUBLISH has no reserved flags, but it has values that mean nothing.
    for first in [0x36, 0x37, 0x3e, 0x3f] {
        let bytes = message(first, "in", 1, b"x");
        rows.push(bad(bytes, "PUBLISH", "MQTT-3.3.1-4"));
    }
    for first in [0x38, 0x39] {
        rows.push(bad(
            message(first, "in", 0, b"x"),
            "PUBLISH",
            "MQTT-3.3.1-2",
        ));
    }
    expect_each_closes(&rows);
}

#[test]
fn mqtt_2_2_2_2_wrong_flags_in_answer_to_connect_close_the_connection() {
    let rows = wrong_flags();
    let options = options(&ScriptedBroker::bind());
    expect_each_closes_instead_of_connack(&rows, CONNECT, options);
}
