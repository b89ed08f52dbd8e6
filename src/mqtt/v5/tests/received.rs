//! Packets from a server, one by one: those that it may send, and those that it must not.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};

use super::{LIMIT, decoded, packet};
use crate::mqtt::packet::{Details, MessageProperties, PacketId, QoS, ReasonCode};
use crate::mqtt::v5::{Incoming5, ReceivedPublish, decode5};

fn good(bytes: &[u8]) -> Incoming5 {
    for cut in 0..bytes.len() {
        assert_eq!(
            decoded(&bytes[..cut]),
            Ok(None),
            "{cut} bytes of {bytes:02x?}"
        );
    }
    decoded(bytes).unwrap().unwrap()
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn said(reason: &str) -> Details {
    Details {
        reason: Some(reason.to_owned()),
        user_properties: Vec::new(),
    }
}

#[test]
fn packets_are_taken_one_by_one() {
    let mut buffer = BytesMut::from(&b"\x40\x02\x00\x01\xd0\x00\x20"[..]);
    let first = decode5(&mut buffer, LIMIT).unwrap().unwrap();
    let ack = Incoming5::PubAck(id(1), ReasonCode::SUCCESS, Details::default());
    assert_eq!(first, ack);
    assert_eq!(decode5(&mut buffer, LIMIT), Ok(Some(Incoming5::PingResp)));
    assert_eq!(decode5(&mut buffer, LIMIT), Ok(None));
    assert_eq!(&buffer[..], b"\x20");
}

#[test]
fn a_connack_without_properties_leaves_everything_as_the_standard_has_it() {
    let Incoming5::ConnAck(connack) = good(b"\x20\x03\x01\x00\x00") else {
        panic!("no CONNACK");
    };
    assert!(connack.session_present && !connack.is_of_3_1_1);
    assert_eq!(connack.code, ReasonCode::SUCCESS);
    assert_eq!(
        (connack.receive_maximum, connack.maximum_qos),
        (65_535, QoS::ExactlyOnce)
    );
    assert_eq!(
        (connack.maximum_packet_size, connack.topic_alias_maximum),
        (None, 0)
    );
    assert_eq!(
        (connack.session_expiry, connack.server_keep_alive),
        (None, None)
    );
    assert!(connack.retain_available && connack.wildcard_available);
    assert!(connack.identifiers_available && connack.shared_available);
}

#[test]
fn a_connack_says_what_the_server_allows() {
    let properties = b"\x11\x00\x00\x0e\x10\x21\x00\x14\x24\x01\x25\x00\x27\x00\x02\x00\x00\x12\x00\x02me\x22\x00\x08\
        \x1f\x00\x02ok\x26\x00\x01a\x00\x01b\x28\x00\x29\x00\x2a\x00\x13\x00\x3c\x1c\x00\x01s";
    let body = [&[0, 0, properties.len() as u8], &properties[..]].concat();
    let Incoming5::ConnAck(connack) = good(&packet(0x20, &body)) else {
        panic!("no CONNACK");
    };
    assert_eq!(connack.session_expiry, Some(3600));
    assert_eq!(
        (connack.receive_maximum, connack.maximum_qos),
        (20, QoS::AtLeastOnce)
    );
    assert_eq!(connack.maximum_packet_size, Some(131_072));
    assert_eq!(connack.assigned_client_id.as_deref(), Some("me"));
    assert_eq!(
        (connack.topic_alias_maximum, connack.server_keep_alive),
        (8, Some(60))
    );
    assert!(!connack.retain_available && !connack.wildcard_available);
    assert!(!connack.identifiers_available && !connack.shared_available);
    assert_eq!(connack.server_reference.as_deref(), Some("s"));
    assert_eq!(connack.details.reason.as_deref(), Some("ok"));
    let pair = ("a".to_owned(), "b".to_owned());
    assert_eq!(connack.details.user_properties, [pair]);
}

#[test]
fn a_refusal_says_its_code_and_a_server_of_3_1_1_is_known_by_its_connack() {
    let Incoming5::ConnAck(connack) = good(b"\x20\x08\x00\x87\x05\x1f\x00\x02no") else {
        panic!("no CONNACK");
    };
    assert_eq!(connack.code.to_string(), "0x87 (not authorized)");
    assert_eq!(connack.details, said("no"));
    for bytes in [
        b"\x20\x02\x00\x01",
        b"\x20\x02\x01\x00",
        b"\x20\x02\x00\x05",
    ] {
        let Incoming5::ConnAck(connack) = good(bytes) else {
            panic!("no CONNACK");
        };
        assert!(connack.is_of_3_1_1 && !connack.session_present);
        assert_eq!(connack.code, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
    }
}

#[test]
fn acknowledgments_have_two_three_or_more_bytes() {
    let none = Details::default;
    let code = ReasonCode::new;
    assert_eq!(
        good(b"\x40\x02\x00\x07"),
        Incoming5::PubAck(id(7), code(0), none())
    );
    assert_eq!(
        good(b"\x40\x03\x00\x07\x10"),
        Incoming5::PubAck(id(7), code(0x10), none())
    );
    assert_eq!(
        good(b"\x40\x04\x00\x07\x87\x00"),
        Incoming5::PubAck(id(7), code(0x87), none())
    );
    assert_eq!(
        good(b"\x50\x09\x00\x07\x97\x05\x1f\x00\x02no"),
        Incoming5::PubRec(id(7), code(0x97), said("no"))
    );
    assert_eq!(
        good(b"\x62\x03\x00\x07\x92"),
        Incoming5::PubRel(id(7), code(0x92), none())
    );
    assert_eq!(
        good(b"\x70\x02\x01\x00"),
        Incoming5::PubComp(id(256), code(0), none())
    );
    assert_eq!(
        good(b"\x90\x06\x00\x07\x00\x00\x02\x87"),
        Incoming5::SubAck(id(7), vec![code(0), code(2), code(0x87)], none())
    );
    assert_eq!(
        good(b"\xb0\x0a\x00\x07\x05\x1f\x00\x02no\x00\x11"),
        Incoming5::UnsubAck(id(7), vec![code(0), code(0x11)], said("no"))
    );
}

#[test]
fn a_disconnect_may_have_no_code_and_no_properties() {
    let disconnect = |code, server_reference: Option<&str>, details| Incoming5::Disconnect {
        code: ReasonCode::new(code),
        server_reference: server_reference.map(str::to_owned),
        details,
    };
    assert_eq!(good(b"\xe0\x00"), disconnect(0, None, Details::default()));
    assert_eq!(
        good(b"\xe0\x01\x81"),
        disconnect(0x81, None, Details::default())
    );
    assert_eq!(
        good(b"\xe0\x02\x8e\x00"),
        disconnect(0x8e, None, Details::default())
    );
    assert_eq!(
        good(b"\xe0\x0b\x9c\x09\x1c\x00\x01s\x1f\x00\x02go"),
        disconnect(0x9c, Some("s"), said("go"))
    );
}

#[test]
fn a_publish_has_all_that_its_publisher_added() {
    let plain = good(b"\x30\x05\x00\x01a\x00x");
    let expected = ReceivedPublish {
        topic: "a".to_owned(),
        qos: QoS::AtMostOnce,
        payload: Bytes::from_static(b"x"),
        ..ReceivedPublish::default()
    };
    assert_eq!(plain, Incoming5::Publish(Box::new(expected)));
    // Three identifiers of subscriptions, one of two bytes behind them, and what follows is the payload.
    let properties = b"\x0b\x01\x0b\x02\x0b\x80\x01\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x01t\x08\x00\x01r\x09\x00\x02\xff\x00\
        \x23\x00\x02\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01c";
    let body = [
        &b"\x00\x03a/b\x00\x09"[..],
        &[properties.len() as u8],
        properties,
        b"pay",
    ]
    .concat();
    let pair = |value: &str| ("a".to_owned(), value.to_owned());
    let expected = ReceivedPublish {
        id: Some(id(9)),
        qos: QoS::AtLeastOnce,
        retain: true,
        dup: true,
        topic: "a/b".to_owned(),
        alias: NonZeroU16::new(2),
        properties: MessageProperties {
            payload_is_text: true,
            expiry: Some(60),
            content_type: Some("t".to_owned()),
            response_topic: Some("r".to_owned()),
            correlation_data: Some(Bytes::from_static(&[0xff, 0])),
            user_properties: vec![pair("b"), pair("c")],
        },
        subscription_identifiers: vec![1, 2, 128],
        payload: Bytes::from_static(b"pay"),
    };
    assert_eq!(
        good(&packet(0x3b, &body)),
        Incoming5::Publish(Box::new(expected))
    );
}

#[test]
fn an_alias_stands_for_an_empty_topic_and_a_large_payload_is_whole() {
    let Incoming5::Publish(publish) = good(b"\x30\x06\x00\x00\x03\x23\x00\x01") else {
        panic!("no PUBLISH");
    };
    assert_eq!(
        (&publish.topic[..], publish.alias),
        ("", NonZeroU16::new(1))
    );
    let body = [&b"\x00\x01a\x00"[..], &[7; 5000]].concat();
    let mut buffer = BytesMut::from(&packet(0x30, &body)[..]);
    buffer.extend_from_slice(b"\xd0\x00");
    let Some(Incoming5::Publish(publish)) = decode5(&mut buffer, LIMIT).unwrap() else {
        panic!("no PUBLISH");
    };
    assert_eq!(publish.payload, [7; 5000][..]);
    assert_eq!(decode5(&mut buffer, LIMIT), Ok(Some(Incoming5::PingResp)));
}

#[test]
fn a_packet_that_a_server_must_not_send_is_refused_by_its_rule_and_answered() {
    for (bytes, rule, answer) in [
        (&b"\x00\x00"[..], "MQTT 5, 2.1.2", 0x81),
        (b"\x10\x00", "MQTT 5, 2.1.2", 0x82),
        (b"\x82\x00", "MQTT 5, 2.1.2", 0x82),
        (b"\xa2\x00", "MQTT 5, 2.1.2", 0x82),
        (b"\xc0\x00", "MQTT 5, 2.1.2", 0x82),
        (b"\xf0\x00", "MQTT-4.12.0-6", 0x82),
        (b"\xf0\x02\x18\x00", "MQTT-4.12.0-6", 0x82),
        (b"\xf1\x00", "MQTT-2.1.3-1", 0x81),
        (b"\x21\x03\x00\x00\x00", "MQTT-2.1.3-1", 0x81),
        (b"\x41\x02\x00\x01", "MQTT-2.1.3-1", 0x81),
        (b"\x60\x02\x00\x01", "MQTT-2.1.3-1", 0x81),
        (b"\xd1\x00", "MQTT-2.1.3-1", 0x81),
        (b"\xe1\x00", "MQTT-2.1.3-1", 0x81),
        (b"\x36\x06\x00\x01a\x00\x01\x00", "MQTT-3.3.1-4", 0x81),
        (b"\x38\x04\x00\x01a\x00", "MQTT-3.3.1-2", 0x82),
        (b"\xd0\x01\x00", "MQTT 5, 4.13.1", 0x81),
        (b"\x40\x01\x00", "MQTT 5, 4.13.1", 0x81),
        (b"\x40\x82\x00\x00\x01", "MQTT-1.5.5-1", 0x81),
        (b"\x30\x80\x80\x80\x80\x01", "MQTT-1.5.5-1", 0x81),
        // Identifiers.
        (b"\x40\x02\x00\x00", "MQTT 5, 2.2.1", 0x81),
        (b"\x90\x04\x00\x00\x00\x00", "MQTT 5, 2.2.1", 0x81),
        (b"\x32\x06\x00\x01a\x00\x00\x00", "MQTT 5, 2.2.1", 0x81),
        // Codes.
        (b"\x40\x03\x00\x01\x01", "MQTT 5, 2.4", 0x81),
        (b"\x62\x03\x00\x01\x87", "MQTT 5, 2.4", 0x81),
        (b"\x90\x04\x00\x01\x00\x03", "MQTT 5, 2.4", 0x81),
        (b"\xb0\x04\x00\x01\x00\x01", "MQTT 5, 2.4", 0x81),
        (b"\x20\x03\x00\x01\x00", "MQTT 5, 2.4", 0x81),
        (b"\xe0\x01\x04", "MQTT 5, 2.4", 0x81),
        (b"\x90\x03\x00\x01\x00", "MQTT 5, 4.13.1", 0x81),
        (b"\xb0\x08\x00\x01\x05\x1f\x00\x02no", "MQTT-3.11.3-1", 0x82),
        // CONNACK.
        (b"\x20\x03\x02\x00\x00", "MQTT-3.2.2-1", 0x81),
        (b"\x20\x03\x01\x87\x00", "MQTT-3.2.2-6", 0x82),
        (b"\x20\x04\x00\x00\x00\x00", "MQTT 5, 4.13.1", 0x81),
        (b"\x20\x02\x00\x06", "MQTT 5, 3.2.2.3", 0x81),
        (b"\x20\x02\x02\x00", "MQTT 5, 3.2.2.3", 0x81),
        (b"\x20\x07\x00\x00\x04\x15\x00\x01x", "MQTT-4.12.0-6", 0x82),
        (b"\x20\x06\x00\x00\x03\x21\x00\x00", "MQTT 5, 2.2.2.2", 0x82),
        // Bytes behind the properties.
        (b"\x40\x05\x00\x01\x00\x00\x00", "MQTT 5, 4.13.1", 0x81),
        (b"\xe0\x03\x81\x00\x00", "MQTT 5, 4.13.1", 0x81),
        // Properties that cross the end, and that are not for the packet.
        (b"\x40\x04\x00\x01\x00\x01", "MQTT 5, 2.2.2.1", 0x81),
        (b"\x30\x05\x00\x01a\x02\x01", "MQTT 5, 2.2.2.1", 0x81),
        (b"\x30\x06\x00\x01a\x02\x02\x00", "MQTT 5, 4.13.1", 0x81),
        (
            b"\xe0\x07\x81\x05\x11\x00\x00\x00\x01",
            "MQTT-3.14.2-2",
            0x82,
        ),
        (
            b"\x30\x08\x00\x01a\x04\x1f\x00\x01x",
            "MQTT 5, 2.2.2.2",
            0x81,
        ),
        // Topics.
        (b"\x30\x03\x00\x00\x00", "MQTT 5, 3.3.2.1", 0x82),
        (b"\x30\x05\x00\x02a\0\x00", "MQTT-1.5.4-2", 0x81),
        (b"\x30\x05\x00\x02a#\x00", "MQTT-3.3.2-2", 0x81),
        (b"\x30\x04\x00\x01\xff\x00", "MQTT-1.5.4-1", 0x81),
        (b"\x30\x04\x00\x09a\x00", "MQTT 5, 4.13.1", 0x81),
        (b"\x30\x07\x00\x01a\x03\x23\x00\x00", "MQTT-3.3.2-8", 0x94),
    ] {
        let violation = decoded(bytes).expect_err("a violation");
        assert_eq!(violation.error.rule(), rule, "{bytes:02x?}: {violation}");
        assert_eq!(
            violation.answer,
            ReasonCode::new(answer),
            "{bytes:02x?}: {violation}"
        );
    }
}

#[test]
fn a_packet_above_the_limit_is_refused_before_its_body_comes() {
    let violation = decode5(&mut BytesMut::from(&b"\x30\xff\x7f"[..]), 1000).unwrap_err();
    assert_eq!(violation.answer, ReasonCode::PACKET_TOO_LARGE);
    let words = "PUBLISH: 16386 bytes, above the limit of 1000 [max-packet-size]";
    assert!(violation.to_string().starts_with(words), "{violation}");
}

#[test]
fn an_error_is_the_same_however_many_bytes_have_come() {
    let bytes = b"\x41\x02\x00\x01\xd0\x00";
    let errors = (2..=bytes.len()).map(|count| decoded(&bytes[..count]).unwrap_err().error);
    let errors: Vec<_> = errors.collect();
    assert!(
        errors.iter().all(|error| error.is_same_as(&errors[0])),
        "{errors:?}"
    );
}

#[test]
fn an_error_about_a_message_is_the_same_whatever_is_left_of_its_expiry() {
    let error = |topic: u8, left: u8, payload: u8| {
        let before = [0x32, 0x10, 0, 1, topic, 0, 7];
        // The expiry, and a content type that is none.
        let properties = [9, 2, 0, 0, 0, left, 3, 0, 1, 0xff];
        decoded(&[&before[..], &properties, &[payload]].concat())
            .expect_err("a violation")
            .error
    };
    let first = error(b'a', 60, b'x');
    assert_eq!(first.rule(), "MQTT-1.5.4-1");
    assert!(first.is_same_as(&error(b'a', 59, b'x')));
    assert!(!first.is_same_as(&error(b'b', 60, b'x')));
    assert!(!first.is_same_as(&error(b'a', 60, b'y')));
}
