//! The last will in CONNECT: its flags, and its fields among the others.

use std::fs;

use mqtt_connection_sharing::{QoS, Will};

use crate::connect::{credentials, refused};
use crate::harness::{ACCEPTED, RESUMED, connect_with, greet_as, terminate};
use crate::support::running::{Running, options};
use crate::support::{Program, ScriptedBroker};

fn will(qos: QoS, retain: bool, payload: &'static [u8]) -> Option<Will> {
    let mut will = Will::new("w/t", qos, payload);
    will.retain = retain;
    Some(will)
}

#[test]
fn mqtt_3_1_2_9_with_the_will_flag_1_its_topic_and_its_message_are_there() {
    let connect = connect_with(|o| o.last_will = will(QoS::AtMostOnce, false, b"gone"));
    assert_eq!(
        connect,
        b"\x10\x1b\x00\x04MQTT\x04\x04\x00\x3c\x00\x04loop\x00\x03w/t\x00\x04gone"
    );
    // An empty message is there as well, with the length 0.
    let connect = connect_with(|o| o.last_will = will(QoS::AtLeastOnce, true, b""));
    assert_eq!(
        connect,
        b"\x10\x17\x00\x04MQTT\x04\x2c\x00\x3c\x00\x04loop\x00\x03w/t\x00\x00"
    );
}

#[test]
fn mqtt_3_1_2_9_it_is_in_the_connect_of_every_connection() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.last_will = will(QoS::ExactlyOnce, true, b"gone");
    options.clean_session = true;
    let expected = b"\x10\x1b\x00\x04MQTT\x04\x36\x00\x3c\x00\x04loop\x00\x03w/t\x00\x04gone";
    let running = Running::start(options);
    // Refused for now, against the protocol, lost.
    for connack in [&b"\x20\x02\x00\x03"[..], RESUMED, ACCEPTED] {
        let mut link = broker.accept();
        link.expect_bytes(expected);
        link.send(connack);
        link.close();
    }
    let link = greet_as(expected, &mut broker, ACCEPTED);
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_3_1_2_14_the_will_qos_is_0_1_or_2() {
    for (qos, retain, flags) in [
        (QoS::AtMostOnce, false, 0b0000_0100),
        (QoS::AtMostOnce, true, 0b0010_0100),
        (QoS::AtLeastOnce, false, 0b0000_1100),
        (QoS::AtLeastOnce, true, 0b0010_1100),
        (QoS::ExactlyOnce, false, 0b0001_0100),
        (QoS::ExactlyOnce, true, 0b0011_0100),
    ] {
        let connect = connect_with(|o| o.last_will = will(qos, retain, b"gone"));
        assert_eq!(connect[9], flags, "{qos} {retain}");
    }
}

/// The library has no value 3; the program says that it is not allowed.
#[test]
fn mqtt_3_1_2_14_the_program_refuses_3() {
    let folder = tempfile::tempdir().expect("a folder");
    let payload = folder.path().join("payload");
    fs::write(&payload, "gone").expect("a file");
    let mut broker = ScriptedBroker::bind();
    for qos in ["3", "-1", "x"] {
        let done = Program::new()
            .args(["--endpoint", &broker.endpoint()])
            .args(["--will-topic", "w", "--will-payload-file"])
            .arg(&payload)
            .arg(format!("--will-qos={qos}"))
            .run();
        assert_eq!(done.status.code(), Some(2), "{done}");
        assert!(done.stderr.contains("--will-qos"), "{done}");
    }
    assert!(broker.accept_within(std::time::Duration::ZERO).is_none());
}

#[test]
fn mqtt_3_1_3_1_the_fields_of_the_payload_stand_in_their_order() {
    // Client identifier, will topic, will message, user name, password: all of them, and some of them.
    let will = || will(QoS::AtLeastOnce, false, b"message");
    let will_fields = b"\x00\x03w/t\x00\x07message";
    let user = b"\x00\x04user";
    let password = b"\x00\x04word";
    let rows: [(_, _, u8, &[&[u8]]); 6] = [
        (
            will(),
            credentials("user", "word"),
            0b1100_1100,
            &[will_fields, user, password],
        ),
        (
            will(),
            credentials("user", ""),
            0b1000_1100,
            &[will_fields, user],
        ),
        (will(), None, 0b0000_1100, &[will_fields]),
        (
            None,
            credentials("user", "word"),
            0b1100_0000,
            &[user, password],
        ),
        (None, credentials("user", ""), 0b1000_0000, &[user]),
        (None, None, 0, &[]),
    ];
    for (last_will, credentials, flags, fields) in rows {
        let connect = connect_with(|o| {
            o.last_will = last_will;
            o.credentials = credentials;
        });
        let payload = [b"\x00\x04loop", &fields.concat()[..]].concat();
        let length = u8::try_from(10 + payload.len()).unwrap();
        let header = [b"\x00\x04MQTT\x04", &[flags, 0, 60][..]].concat();
        assert_eq!(connect, [&[0x10, length], &header[..], &payload].concat());
    }
}

#[test]
fn mqtt_3_1_3_10_a_will_topic_that_cannot_be_sent_is_refused() {
    for topic in ["", "a\0b", "a/+", "#"] {
        let error = refused(|o| o.last_will = Some(Will::new(topic, QoS::AtMostOnce, "x")));
        assert!(error.starts_with("checking the last will: "), "{error}");
    }
    refused(|o| o.last_will = Some(Will::new("x".repeat(65_536), QoS::AtMostOnce, "x")));
}
