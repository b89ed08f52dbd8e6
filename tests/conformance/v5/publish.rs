//! PUBLISH that we send: its flags, identifier, properties and lengths.

use std::num::NonZeroU32;

use bytes::Bytes;
use mqtt_connection_sharing::{Client, MessageProperties, Publish, QoS};
use mqtt_connection_sharing::{Filter, SubscribeOptions, WhenFull};

use crate::harness::{Submit, ack, leave};
use crate::support::ScriptedBroker;
use crate::support::running::{Running, attempts, expect_delivered, told};
use crate::support::scripted5::{
    ACCEPTED5, FIRST_CONNECT, RESUMED5, ack5, answers5, message5, options5, packet5, with_length,
};

/// All properties that a message of ours can have but the expiry, which counts down, and their bytes.
fn all_properties() -> (MessageProperties, &'static [u8]) {
    let properties = MessageProperties {
        payload_is_text: true,
        expiry: None,
        content_type: Some("t".into()),
        response_topic: Some("r".into()),
        correlation_data: Some(Bytes::from_static(b"\x00\xff")),
        user_properties: vec![("k".into(), "v".into()), ("k".into(), String::new())],
    };
    let bytes = b"\x1c\x01\x01\x08\x00\x01r\x09\x00\x02\x00\xff\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x00\x03\x00\x01t";
    (properties, bytes)
}

/// The fixed header has the bits of its QoS, never both [MQTT-3.3.1-4 send], of retain, and no DUP at first: not at QoS 0
/// [MQTT-3.3.1-2 send] [MQTT-4.3.1-1], QoS 1 [MQTT-4.3.2-2] or QoS 2 [MQTT-4.3.3-2]. QoS 0 has no identifier
/// [MQTT-2.2.1-2]. Without properties there is their length of 0 [MQTT-2.2.2-1]. None of them is a subscription identifier
/// [MQTT-3.3.4-6], not even for a message that came with one. Its flags are those of the list [MQTT-2.1.3-1 send].
#[test]
fn publish_has_flags_topic_identifier_properties_and_payload() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    // A message that comes in has no influence on one that goes out: DUP, retain, a subscription identifier, a user property.
    link.send(&message5(
        0x3b,
        "a",
        77,
        b"\x0b\x07\x26\x00\x01k\x00\x01v",
        b"x",
    ));
    link.expect_bytes(ack(0x40, 77));
    let (properties, bytes) = all_properties();
    let payloads = [Vec::new(), b"x".to_vec(), vec![0x7f; 300], vec![7; 100_000]];
    let mut id = 0_u16;
    for level in 0..=2 {
        for retain in [false, true] {
            for with_properties in [false, true] {
                for payload in &payloads {
                    let qos = QoS::try_from(level).unwrap();
                    let publish = Publish::new("a/b", qos, payload.clone()).with_retain(retain);
                    let publish = match with_properties {
                        true => publish.with_properties(properties.clone()),
                        false => publish,
                    };
                    let ticket = running.handle().publish(publish).unwrap();
                    let mut body = b"\x00\x03a/b".to_vec();
                    if level > 0 {
                        id += 1;
                        body.extend(id.to_be_bytes());
                    }
                    body.extend(if with_properties { bytes } else { b"\x00" });
                    body.extend(payload);
                    let first = 0x30 | level << 1 | u8::from(retain);
                    assert!(link.read_bytes() == packet5(first, &body), "{first:02x}");
                    match level {
                        0 => {}
                        1 => link.send(&ack(0x40, id)),
                        _ => {
                            link.send(&ack(0x50, id));
                            link.expect_bytes(ack(0x62, id));
                            link.send(&ack(0x70, id));
                        }
                    }
                    assert_eq!(attempts(told(ticket)), 1);
                }
            }
        }
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Lengths take the fewest bytes on both sides of 127 and 16,383 [MQTT-1.5.5-1 send]: the remaining length, the length of
/// properties, and a subscription identifier.
#[test]
fn lengths_take_the_fewest_bytes() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    for (length, varint) in [
        (127, &b"\x7f"[..]),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
    ] {
        // Topic and length of properties are four bytes of the remaining length.
        drop(running.send(QoS::AtMostOnce, "a", &"x".repeat(length - 4)));
        let packet = link.read_bytes();
        assert_eq!(packet[..1 + varint.len()], [&[0x30], varint].concat());
        assert_eq!(packet.len(), 1 + varint.len() + length);
        // A user property has five bytes and its texts.
        let properties = MessageProperties {
            user_properties: vec![("k".into(), "v".repeat(length - 6))],
            ..MessageProperties::default()
        };
        let publish = Publish::new("a", QoS::AtMostOnce, "x").with_properties(properties);
        drop(running.handle().publish(publish).unwrap());
        let packet = link.read_bytes();
        let rest = packet.len() - 1 - length - varint.len();
        assert_eq!(packet[rest..rest + varint.len()], *varint);
        assert_eq!(packet[rest - 3..rest], *b"\x00\x01a");
    }
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    for (identifier, varint) in [
        (1, &b"\x01"[..]),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
        (268_435_455, b"\xff\xff\xff\x7f"),
    ] {
        let options = SubscribeOptions {
            identifier: NonZeroU32::new(identifier),
            ..SubscribeOptions::default()
        };
        let filter = Filter::new("a", QoS::AtMostOnce).with_options(options);
        let ticket = running.handle().subscribe(&inbox, vec![filter]).unwrap();
        let packet = link.read_bytes();
        let properties = with_length(&[&[0x0b], varint].concat());
        assert_eq!(packet[4..], [&properties[..], b"\x00\x01a\x00"].concat());
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        link.send(&answers5(0x90, id, &[0]));
        assert!(told(ticket).is_delivered());
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Each PUBLISH above QoS 0, SUBSCRIBE and UNSUBSCRIBE takes an identifier that no other one has [MQTT-2.2.1-3]
/// [MQTT-4.3.2-1] [MQTT-4.3.3-1], and 0 is passed over.
#[test]
fn each_packet_takes_an_identifier_of_its_own_and_none_takes_0() {
    let mut broker = ScriptedBroker::bind();
    let client = Client::new(options5(&broker)).unwrap();
    let (agent, handle) = client.with_first_identifier(65_533).open();
    let ended = std::thread::spawn(move || agent.run());
    let mut link = broker.accept();
    link.expect_bytes(FIRST_CONNECT);
    link.send(ACCEPTED5);
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("a", QoS::AtMostOnce)];
    let mut tickets = Vec::new();
    for (first, id) in [
        (0x32, 0xfffd_u16),
        (0x82, 0xfffe),
        (0x34, 0xffff),
        (0xa2, 1),
        (0x32, 2),
    ] {
        let ticket = match first {
            0x82 => handle.subscribe(&inbox, filters.clone()).unwrap(),
            0xa2 => handle.unsubscribe(&inbox, vec!["b".into()]).unwrap(),
            0x32 => handle
                .publish(Publish::new("a", QoS::AtLeastOnce, "x"))
                .unwrap(),
            _ => handle
                .publish(Publish::new("a", QoS::ExactlyOnce, "x"))
                .unwrap(),
        };
        tickets.push(ticket);
        let [high, low] = id.to_be_bytes();
        let body = match first {
            0x82 => [&[high, low, 0], &b"\x00\x01a\x00"[..]].concat(),
            0xa2 => [&[high, low, 0], &b"\x00\x01b"[..]].concat(),
            _ => [b"\x00\x01a", &[high, low, 0][..], b"x"].concat(),
        };
        link.expect_bytes(packet5(first, &body));
    }
    // The broker answers in another order.
    link.send(&answers5(0xb0, 1, &[0]));
    link.send(&answers5(0x90, 0xfffe, &[0]));
    link.send(&[ack(0x50, 0xffff), ack(0x70, 0xffff)].concat());
    for id in [2, 0xfffd] {
        link.send(&ack(0x40, id));
    }
    expect_delivered(tickets);
    drop(handle.terminate(std::time::Duration::ZERO));
    let rest = link.read_to_end();
    assert_eq!(rest, [&b"\x62\x02\xff\xff"[..], b"\xe0\x00"]);
    link.close();
    assert!(ended.join().unwrap().result.is_ok());
}

/// DUP is set on each PUBLISH that is sent again [MQTT-3.3.1-1], and only there: neither DUP of a message that came
/// [MQTT-3.3.1-3] nor an earlier message counts. Until PUBACK the message is unacknowledged [MQTT-4.3.2-3], until PUBREC
/// that of QoS 2 [MQTT-4.3.3-3].
#[test]
fn dup_says_whether_a_packet_was_sent_before() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let first = running.send(QoS::AtLeastOnce, "a", "1");
    link.expect_bytes(b"\x32\x07\x00\x01a\x00\x01\x001");
    let second = running.send(QoS::ExactlyOnce, "a", "2");
    link.expect_bytes(b"\x34\x07\x00\x01a\x00\x02\x002");
    let properties = MessageProperties {
        content_type: Some("t".into()),
        ..MessageProperties::default()
    };
    let typed = Publish::new("a", QoS::AtLeastOnce, "3").with_properties(properties);
    let typed = running.handle().publish(typed).unwrap();
    link.expect_bytes(b"\x32\x0b\x00\x01a\x00\x03\x04\x03\x00\x01t3");
    for round in 1..=3 {
        leave(&running, link);
        (link, _) = running.greet5(&mut broker, RESUMED5);
        link.expect_bytes(b"\x3a\x07\x00\x01a\x00\x01\x001");
        link.expect_bytes(b"\x3c\x07\x00\x01a\x00\x02\x002");
        link.expect_bytes(b"\x3a\x0b\x00\x01a\x00\x03\x04\x03\x00\x01t3");
        // A message with DUP comes, and the same topic and payload go out as new ones.
        link.send(&message5(0x3a, "a", 1, b"", b"1"));
        link.expect_bytes(ack(0x40, 1));
        drop(running.send(QoS::AtMostOnce, "a", "1"));
        link.expect_bytes(b"\x30\x05\x00\x01a\x001");
        let third = running.send(QoS::AtLeastOnce, "a", "1");
        let id = 3 + round;
        link.expect_bytes([b"\x32\x07\x00\x01a\x00", &[id][..], b"\x001"].concat());
        link.send(&ack(0x40, id.into()));
        assert_eq!(attempts(told(third)), 1);
        assert!(first.outcome().is_none() && second.outcome().is_none());
    }
    link.send(
        &[
            &ack5(0x40, 1, 0x10)[..],
            &ack5(0x50, 2, 0x10),
            &ack(0x40, 3),
        ]
        .concat(),
    );
    link.expect_bytes(ack(0x62, 2));
    link.send(&ack(0x70, 2));
    for ticket in [first, second, typed] {
        assert_eq!(attempts(told(ticket)), 4);
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
