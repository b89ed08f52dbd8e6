//! CONNECT: when it is sent, and the contents of its fields.

use bytes::Bytes;
use mqtt_connection_sharing::options::{Credentials, Options};
use mqtt_connection_sharing::{MessageProperties, QoS, Will, WillProperties};

use crate::connect::credentials;
use crate::harness::{Submit, ack, recorded};
use crate::support::ScriptedBroker;
use crate::support::running::{Running, told};
use crate::support::scripted5::{
    ACCEPTED5, FIRST_CONNECT, NEXT_CONNECT, RESUMED5, connack5, options5, refusal5, with_length,
};

/// The bytes of the first CONNECT with these options.
#[track_caller]
pub fn connect_with(change: impl FnOnce(&mut Options)) -> Vec<u8> {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    change(&mut options);
    let assigned = options.client_id.is_empty().then_some(b"\x12\x00\x02me");
    let running = Running::start(options);
    let assigned = assigned.map_or(&b""[..], |property| property);
    let (link, connect) = running.greet5(&mut broker, &connack5(false, assigned));
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    connect
}

/// The properties that [`options5`] make.
const PROPERTIES: &[u8] = b"\x11\x00\x00\x0e\x10\x21\x01\x00\x27\x00\x04\x00\x00\x22\x00\x08";

/// CONNECT with clean start, these further flags, and this payload.
fn connect(flags: u8, payload: &[u8]) -> Vec<u8> {
    let head = [&b"\x00\x04MQTT\x05"[..], &[flags | 2, 0, 60]].concat();
    let body = [&head, &with_length(PROPERTIES)[..], payload].concat();
    [&[0x10], &with_length(&body)[..]].concat()
}

/// A will with all properties, retained, QoS 1.
fn full_will() -> Will {
    let mut will = Will::new("w", QoS::AtLeastOnce, &b"gone"[..]);
    will.retain = true;
    will.properties = WillProperties {
        delay: 5,
        message: MessageProperties {
            payload_is_text: true,
            expiry: Some(60),
            content_type: Some("t".into()),
            response_topic: Some("r".into()),
            correlation_data: Some(Bytes::from_static(b"c")),
            user_properties: vec![("k".into(), "v".into())],
        },
    };
    will
}

/// The fields of [`full_will`].
const FULL_WILL: &[u8] =
    b"\x1f\x18\x00\x00\x00\x05\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x01t\x08\x00\x01r\x09\x00\x01c\x26\x00\x01k\x00\x01v\x00\x01w\x00\x04gone";

/// The protocol name [MQTT-3.1.2-1], version 5 [MQTT-3.1.2-2], no reserved flag [MQTT-3.1.2-3], and clean start on the
/// first link alone, because a session of an earlier process has left no state here [MQTT-3.1.2-4].
#[test]
fn the_first_connect_begins_a_session_and_the_next_ones_go_on_with_it() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options5(&broker));
    let (mut link, connect) = running.greet5(&mut broker, ACCEPTED5);
    assert_eq!(connect, FIRST_CONNECT);
    for _ in 0..3 {
        link.close();
        let connect;
        (link, connect) = running.greet5(&mut broker, RESUMED5);
        assert_eq!(connect, NEXT_CONNECT);
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// CONNECT comes first [MQTT-3.1.0-1] and once [MQTT-3.1.0-2] on each link. Before CONNACK nothing follows it
/// [MQTT-3.1.2-30]. The first byte belongs to it, and not to a request for WebSocket [MQTT-6.0.0-1] [MQTT-6.0.0-2]
/// [MQTT-6.0.0-3].
#[test]
fn connect_comes_first_and_once_and_nothing_else_precedes_connack() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options5(&broker));
    // All these commands are there before the first connection.
    let tickets = [
        running.send(QoS::AtMostOnce, "a", "0"),
        running.send(QoS::AtLeastOnce, "a", "1"),
        running.send(QoS::ExactlyOnce, "a", "2"),
        running.handle().ping().unwrap(),
    ];
    // CONNACK does not come, or comes with each answer.
    for round in 0..4 {
        let mut link = broker.accept();
        let connect = link.read_bytes();
        for _ in 0..3 {
            running.take_a_turn();
        }
        assert_eq!(link.received(), connect, "nothing follows before CONNACK");
        if round != 0 {
            link.send([ACCEPTED5, RESUMED5][round % 2]);
            link.read_bytes();
        }
        link.close();
    }
    let (link, _) = running.greet5(&mut broker, RESUMED5);
    running.terminate5(link);
    assert!(tickets.iter().all(|ticket| ticket.outcome().is_some()));
    let links = recorded(&broker);
    assert_eq!(links.len(), 5);
    for packets in links {
        let connects = packets.iter().map(|packet| packet[0] == 0x10);
        let connects: Vec<_> = connects.collect();
        assert!(connects[0] && connects.iter().filter(|is| **is).count() == 1);
    }
}

/// [MQTT-3.1.2-2]: a broker that does not speak MQTT 5 says so in its own way, and the loop ends with an error that says
/// it, instead of going on with another version.
#[test]
fn a_broker_that_does_not_speak_version_5_is_told_of_as_such() {
    for (connack, says) in [
        (&refusal5(0x84)[..], "0x84 (unsupported protocol version)"),
        (b"\x20\x02\x00\x01", "MQTT 3.1.1 that does not speak MQTT 5"),
    ] {
        let mut broker = ScriptedBroker::bind();
        let running = Running::start(options5(&broker));
        let mut link = broker.accept();
        link.expect_bytes(FIRST_CONNECT);
        link.send(connack);
        assert!(link.read_to_end().is_empty());
        link.close();
        let error = running.join().result.expect_err("an error").to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.contains("use MQTT 3.1.1"), "{error}");
        assert!(broker.accept_within(std::time::Duration::ZERO).is_none());
    }
}

/// The order of the payload [MQTT-3.1.3-1]: the client identifier is there and first [MQTT-3.1.3-3], then the will with its
/// properties, topic and payload [MQTT-3.1.2-9], then the user name [MQTT-3.1.2-17] and the password [MQTT-3.1.2-19], each
/// where its flag says so. A password may stand alone. Without the flag there is none of it [MQTT-3.1.2-16]
/// [MQTT-3.1.2-18], and the other flags of a will are 0, too [MQTT-3.1.2-11] [MQTT-3.1.2-13].
#[test]
fn the_fields_of_the_payload_stand_in_their_order_behind_their_flags() {
    type Row<'a> = (Option<Will>, Option<Credentials>, u8, &'a [&'a [u8]]);
    let (user, password) = (&b"\x00\x04user"[..], &b"\x00\x04word"[..]);
    let id = &b"\x00\x04loop"[..];
    let rows: [Row<'_>; 7] = [
        (None, None, 0, &[id]),
        (None, credentials("user", ""), 0x80, &[id, user]),
        (None, credentials("", "word"), 0x40, &[id, password]),
        (
            None,
            credentials("user", "word"),
            0xc0,
            &[id, user, password],
        ),
        (Some(full_will()), None, 0x2c, &[id, FULL_WILL]),
        (
            Some(full_will()),
            credentials("", "word"),
            0x6c,
            &[id, FULL_WILL, password],
        ),
        (
            Some(full_will()),
            credentials("user", "word"),
            0xec,
            &[id, FULL_WILL, user, password],
        ),
    ];
    for (last_will, credentials, flags, fields) in rows {
        let came = connect_with(|o| {
            o.last_will = last_will;
            o.credentials = credentials;
        });
        assert_eq!(came, connect(flags, &fields.concat()));
    }
    let empty = connect_with(|o| o.client_id.clear());
    assert_eq!(empty, connect(0, b"\x00\x00"));
}

/// [MQTT-3.1.2-12]: the type has the values 0, 1 and 2 alone.
#[test]
fn the_qos_of_a_will_is_0_1_or_2() {
    for (level, flags) in [(0, 0x04), (1, 0x0c), (2, 0x14)] {
        let qos = QoS::try_from(level).unwrap();
        let will = Will::new("w", qos, &b"gone"[..]);
        let came = connect_with(|o| o.last_will = Some(will));
        let payload = b"\x00\x04loop\x00\x00\x01w\x00\x04gone";
        assert_eq!(came, connect(flags, payload));
    }
    assert!(QoS::try_from(3).is_err());
}

/// CONNECT has no authentication method, whatever else it has: so nothing of enhanced authentication binds us
/// [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.1-1] [MQTT-4.12.1-2], and it wants reason strings [MQTT-3.1.2-29]. No AUTH
/// is sent [MQTT-4.12.0-7] [MQTT-3.15.2-1] [MQTT-3.15.2-2] [MQTT-3.15.2-3], also if the broker sends one.
#[test]
fn neither_an_authentication_method_nor_auth_is_sent() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.credentials = credentials("user", "word");
    options.version5.receive_maximum = Some(5);
    options.version5.topic_alias_maximum = 0;
    options.version5.user_properties = vec![("a".into(), "b".into())];
    let running = Running::start(options);
    // Session expiry, receive maximum, maximum packet size, a user property.
    let properties =
        b"\x14\x11\x00\x00\x0e\x10\x21\x00\x05\x27\x00\x04\x00\x00\x26\x00\x01a\x00\x01b";
    let rest = b"\x00\x04loop\x00\x04user\x00\x04word";
    // AUTH asks to go on: once before CONNACK, and on the next links behind it.
    let connacks = [None, Some(ACCEPTED5), Some(RESUMED5), Some(RESUMED5)];
    for (connack, flags) in connacks.into_iter().zip([0xc2, 0xc2, 0xc0, 0xc0]) {
        let head = [&b"\x00\x04MQTT\x05"[..], &[flags, 0, 60]].concat();
        let body = [&head, &properties[..], rest].concat();
        let mut link = broker.accept();
        link.expect_bytes([&[0x10], &with_length(&body)[..]].concat());
        link.send(connack.unwrap_or_default());
        link.send(b"\xf0\x02\x18\x00");
        match connack {
            Some(_) => link.expect_disconnect5(0x82),
            None => drop(link.read_to_end()),
        }
    }
    let mut link = broker.accept();
    link.read_bytes();
    link.send(RESUMED5);
    let ticket = running.send(QoS::AtLeastOnce, "a", "x");
    let publish = link.read_bytes();
    link.send(&ack(0x40, u16::from_be_bytes([publish[5], publish[6]])));
    assert!(told(ticket).is_delivered());
    running.terminate5(link);
    let all = recorded(&broker).concat();
    assert!(all.iter().all(|packet| packet[0] >> 4 != 15), "{all:02x?}");
}

/// The session belongs to the client identifier, also if the broker has assigned it: the next CONNECT has it, and goes on
/// with the session [MQTT-3.1.3-2].
#[test]
fn an_assigned_client_identifier_is_that_of_the_session() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.client_id.clear();
    let running = Running::start(options);
    let assigned = connack5(false, b"\x12\x00\x05given");
    let (mut link, first) = running.greet5(&mut broker, &assigned);
    assert_eq!(first, connect(0, b"\x00\x00"));
    let ticket = running.send(QoS::AtLeastOnce, "a", "x");
    link.expect_bytes(b"\x32\x07\x00\x01a\x00\x01\x00x");
    link.close();
    let (mut link, second) = running.greet5(&mut broker, RESUMED5);
    let mut expected = connect(0, b"\x00\x05given");
    expected[9] = 0;
    assert_eq!(second, expected);
    link.expect_bytes(b"\x3a\x07\x00\x01a\x00\x01\x00x");
    link.send(&ack(0x40, 1));
    assert!(told(ticket).is_delivered());
    running.terminate5(link);
}
