//! Messages that the client sends at QoS 0 and QoS 1, and the bits of their first byte.

use mqtt_connection_sharing::{Publish, QoS};

use crate::harness::{ACCEPTED, CONNECT, RESUMED, Submit, ack, greet, identifier, message, online};
use crate::harness::{leave, recorded, terminate};
use crate::support::ScriptedBroker;
use crate::support::running::{attempts, send_unsuback, told};
use crate::violations::{bad, expect_each_closes};

#[test]
fn mqtt_3_3_1_1_every_publish_that_is_sent_again_has_dup_1() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let retained = Publish::new("a", QoS::AtLeastOnce, "3").with_retain(true);
    let tickets = [
        running.send(QoS::AtLeastOnce, "a", "1"),
        running.send(QoS::ExactlyOnce, "a", "2"),
        running.handle().publish(retained).unwrap(),
    ];
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x011");
    link.expect_bytes(b"\x34\x06\x00\x01a\x00\x022");
    link.expect_bytes(b"\x33\x06\x00\x01a\x00\x033");
    for _ in 0..2 {
        link.close();
        link = greet(&mut broker, RESUMED);
        link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x011");
        link.expect_bytes(b"\x3c\x06\x00\x01a\x00\x022");
        link.expect_bytes(b"\x3b\x06\x00\x01a\x00\x033");
    }
    // DUP is set also if the client itself leaves and comes back.
    let offline = running.handle().disconnect();
    link.expect_bytes(b"\xe0\x00");
    link.close();
    assert!(told(offline).is_delivered());
    drop(running.handle().reconnect());
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x011");
    link.expect_bytes(b"\x3c\x06\x00\x01a\x00\x022");
    link.expect_bytes(b"\x3b\x06\x00\x01a\x00\x033");
    link.send(&[ack(0x40, 1), ack(0x50, 2), ack(0x40, 3)].concat());
    link.expect_bytes(ack(0x62, 2));
    link.send(&ack(0x70, 2));
    for ticket in tickets {
        assert_eq!(attempts(told(ticket)), 4);
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
    // Each message is there once on each of the four connections, without DUP on the first one only.
    let connections = recorded(&broker);
    assert_eq!(connections.len(), 4);
    for (index, connection) in connections.iter().enumerate() {
        let publishes = connection.iter().filter(|packet| packet[0] >> 4 == 3);
        let dups: Vec<_> = publishes.map(|packet| packet[0] & 8 != 0).collect();
        assert_eq!(dups, [index > 0; 3], "{connection:02x?}");
    }
}

/// For a broker that has no session, a message that is sent anew is no repetition.
#[test]
fn mqtt_3_3_1_1_dup_is_0_in_a_new_session_and_1_again_in_that_one() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let ticket = running.send(QoS::AtLeastOnce, "a", "1");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x011");
    link.close();
    let mut link = greet(&mut broker, ACCEPTED);
    let anew = link.read_bytes();
    assert_eq!(anew[0], 0x32);
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(crate::harness::with_dup(anew.clone()));
    link.send(&ack(0x40, identifier(&anew)));
    assert_eq!(attempts(told(ticket)), 3);
    terminate(running, link);
}

#[test]
fn mqtt_3_3_1_2_a_qos_0_publish_never_has_dup() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    for connack in [RESUMED, ACCEPTED, RESUMED] {
        let ticket = running.send(QoS::AtMostOnce, "a", "x");
        link.expect_bytes(b"\x30\x04\x00\x01ax");
        assert!(told(ticket).is_delivered());
        link.close();
        link = broker.accept();
        link.expect_bytes(CONNECT);
        // A QoS 0 message is not sent again; this one waited for the link.
        let waits = running.send(QoS::AtMostOnce, "a", "w");
        link.send(connack);
        link.expect_bytes(b"\x30\x04\x00\x01aw");
        assert!(told(waits).is_delivered());
    }
    terminate(running, link);
    for packet in recorded(&broker).concat() {
        assert_ne!(packet[0] & 0xfe, 0x38, "{packet:02x?}");
    }
}

#[test]
fn mqtt_3_3_1_4_send_the_qos_bits_are_never_11() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    // There is no such value to ask for.
    assert_eq!(QoS::try_from(3), Err(3));
    for (qos, first) in [
        (QoS::AtMostOnce, 0x30),
        (QoS::AtLeastOnce, 0x32),
        (QoS::ExactlyOnce, 0x34),
    ] {
        for retain in [false, true] {
            let publish = Publish::new("a", qos, "x").with_retain(retain);
            drop(running.handle().publish(publish).unwrap());
            assert_eq!(link.read_bytes()[0], first | u8::from(retain));
        }
    }
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    for expected in [0x3a, 0x3b, 0x3c, 0x3d] {
        assert_eq!(link.read_bytes()[0], expected);
    }
    terminate(running, link);
}

#[test]
fn mqtt_3_3_1_4_receive_qos_bits_11_close_the_connection() {
    let mut rows = Vec::new();
    for first in [0x36, 0x37, 0x3e, 0x3f] {
        for (topic, payload) in [("in", &b"x"[..]), ("in", b""), ("a/b/c", b"some payload")] {
            let bytes = message(first, topic, 1, payload);
            rows.push(bad(bytes, "PUBLISH", "MQTT-3.3.1-4"));
        }
        // The fixed header shows it, so that no further byte has to come.
        rows.push(bad([first, 0x7f], "PUBLISH", "MQTT-3.3.1-4"));
    }
    expect_each_closes(&rows);
}

#[test]
fn mqtt_3_3_2_2_receive_a_wildcard_in_a_topic_closes_the_connection() {
    let mut rows = Vec::new();
    for topic in [
        "+", "#", "a/+", "+/a", "a/#", "#/a", "a+", "a#", "in/+", "$SYS/#",
    ] {
        for first in [0x30, 0x31, 0x32, 0x34, 0x3a, 0x3c] {
            let bytes = message(first, topic, 2, b"x");
            rows.push(bad(bytes, "PUBLISH", "MQTT-3.3.2-2"));
        }
    }
    expect_each_closes(&rows);
}

#[test]
fn mqtt_4_3_1_1_a_qos_0_message_is_sent_once_with_dup_0() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    for payload in ["1", "2", "3"] {
        let ticket = running.send(QoS::AtMostOnce, "a", payload);
        link.expect_bytes([b"\x30\x04\x00\x01a", payload.as_bytes()].concat());
        assert_eq!(attempts(told(ticket)), 1);
    }
    // Whether the session is kept or not, no message comes again.
    for connack in [RESUMED, ACCEPTED] {
        link.close();
        link = greet(&mut broker, connack);
        running.take_a_turn();
    }
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_3_2_1_a_qos_1_message_is_new_then_in_flight_until_its_puback() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let first = running.send(QoS::AtLeastOnce, "a", "x");
    let second = running.send(QoS::AtLeastOnce, "a", "y");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x01x");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x02y");
    // Only PUBACK with its identifier settles the message.
    link.send(&[ack(0x70, 1), ack(0x40, 9)].concat());
    link.send(b"\x90\x03\x00\x01\x00");
    send_unsuback(&mut link, 1);
    running.take_a_turn();
    assert_eq!((first.outcome(), second.outcome()), (None, None));
    link.send(&ack(0x40, 2));
    assert_eq!(attempts(told(second)), 1);
    assert_eq!(first.outcome(), None);
    link.close();
    // The unacknowledged message is sent again, the acknowledged one is not.
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x3a\x06\x00\x01a\x00\x01x");
    let third = running.send(QoS::AtLeastOnce, "a", "z");
    let packet = link.read_bytes();
    assert_eq!((packet[0], packet[7..].to_vec()), (0x32, b"z".to_vec()));
    assert_ne!(identifier(&packet), 1, "it is in use");
    link.send(&[ack(0x40, 1), ack(0x40, identifier(&packet))].concat());
    assert_eq!(attempts(told(first)), 2);
    assert_eq!(attempts(told(third)), 1);
    // A second PUBACK acknowledges nothing.
    link.send(&ack(0x40, 1));
    running.take_a_turn();
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_6_0_1_publishes_are_sent_again_in_their_original_order() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let mut tickets = Vec::new();
    let mut sent = Vec::new();
    for n in 0..30 {
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][n % 2];
        tickets.push(running.send(qos, "a", &n.to_string()));
        sent.push(link.read_bytes());
    }
    // On each of several links, some are answered out of order, and the rest comes in order.
    for (round, answered) in [&[7, 3, 20, 0][..], &[29, 1, 11], &[2], &[]]
        .iter()
        .enumerate()
    {
        for n in *answered {
            let id = identifier(&sent[*n]);
            match sent[*n][0] & 6 {
                2 => link.send(&ack(0x40, id)),
                _ => {
                    link.send(&ack(0x50, id));
                    link.expect_bytes(ack(0x62, id));
                    link.send(&ack(0x70, id));
                }
            }
        }
        // The loop has read the answers before the link is closed.
        running.take_a_turn();
        for n in *answered {
            sent[*n].clear();
        }
        match round {
            0 | 1 => link.close(),
            _ => leave(&running, link),
        }
        link = greet(&mut broker, RESUMED);
        for packet in sent.iter().filter(|packet| !packet.is_empty()) {
            link.expect_bytes(crate::harness::with_dup(packet.clone()));
        }
    }
    // Those that a new session gets anew are in the same order.
    let qos_1: Vec<_> = sent
        .iter()
        .filter(|packet| !packet.is_empty() && packet[0] == 0x32)
        .map(|packet| packet[7..].to_vec())
        .collect();
    leave(&running, link);
    let mut link = greet(&mut broker, ACCEPTED);
    for payload in qos_1 {
        let anew = link.read_bytes();
        assert_eq!((anew[0], &anew[7..]), (0x32, &payload[..]));
        link.send(&ack(0x40, identifier(&anew)));
    }
    for ticket in tickets {
        let _ = told(ticket);
    }
    terminate(running, link);
}
