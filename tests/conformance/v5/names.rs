//! Strings that are sent, topics and filters among them, and those that are handed back instead.

use bytes::Bytes;
use mqtt_connection_sharing::options::{Credentials, Options};
use mqtt_connection_sharing::{Filter, InvalidName, MessageProperties, Protocol, Publish, QoS};
use mqtt_connection_sharing::{Inbox, RejectReason, SubscribeOptions, WhenFull, Will};

use super::connect::connect_with;
use crate::connect::refused;
use crate::harness::{Submit, text};
use crate::names::{expect_filter_refused, expect_topic_refused};
use crate::strings::{TEXT_BYTES, TEXTS};
use crate::support::running::{Running, told};
use crate::support::scripted5::{FIRST_CONNECT, answers5, packet5, with_length};
use crate::support::{Connection, ScriptedBroker};

/// Checks that SUBSCRIBE and then UNSUBSCRIBE with this filter reach the broker as they should.
#[track_caller]
fn expect_filter_sent(running: &Running, link: &mut Connection, inbox: &Inbox, filter: &str) {
    let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
    let ticket = running.handle().subscribe(inbox, filters).unwrap();
    let subscribe = link.read_bytes();
    let id = identifier_before(&subscribe, 1 + text(filter).len() + 1);
    let [high, low] = id.to_be_bytes();
    let body = [&[high, low, 0], &text(filter)[..], &[1]].concat();
    assert!(subscribe == packet5(0x82, &body), "{filter:?}");
    link.send(&answers5(0x90, id, &[1]));
    assert!(told(ticket).is_delivered());
    let leaving = vec![filter.to_owned()];
    let ticket = running.handle().unsubscribe(inbox, leaving).unwrap();
    let unsubscribe = link.read_bytes();
    let id = identifier_before(&unsubscribe, 1 + text(filter).len());
    let [high, low] = id.to_be_bytes();
    let body = [&[high, low, 0], &text(filter)[..]].concat();
    assert!(unsubscribe == packet5(0xa2, &body), "{filter:?}");
    link.send(&answers5(0xb0, id, &[0]));
    assert!(told(ticket).is_delivered());
}

/// The identifier that stands before the last `rest` bytes.
fn identifier_before(packet: &[u8], rest: usize) -> u16 {
    let at = packet.len() - rest - 2;
    let id = u16::from_be_bytes([packet[at], packet[at + 1]]);
    assert_ne!(id, 0);
    id
}

/// Good filters go out unchanged behind flags 0010, an identifier and no properties: [MQTT-3.8.1-1] [MQTT-3.8.3-1]
/// [MQTT-3.10.1-1] [MQTT-3.10.3-1] [MQTT-2.2.2-1]. Wildcards stand in them [MQTT-4.7.0-1] as whole levels [MQTT-4.7.1-1]
/// [MQTT-4.7.1-2], shared ones have a name and a filter [MQTT-4.8.2-1] [MQTT-4.8.2-2], and the longest have 65,535 bytes
/// [MQTT-4.7.3-3].
#[test]
fn good_filters_are_sent_as_they_are() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let longest = "ää/".repeat(13_107);
    for filter in [
        "a",
        "/",
        " ",
        "#",
        "/#",
        "a/#",
        "+/#",
        "a//#",
        "+",
        "/+",
        "+/",
        "+/+/+",
        "a/+/b",
        "$SYS/+",
        "$share/g/a",
        "$share/g/#",
        "$share/g/+/a",
        "$share/g//",
        "ä/\u{1f980}",
        &longest,
    ] {
        expect_filter_sent(&running, &mut link, &inbox, filter);
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Bad filters are handed back: `#` [MQTT-4.7.1-1] or `+` [MQTT-4.7.1-2] in a place where it must not stand, no character
/// [MQTT-4.7.3-1], U+0000 [MQTT-4.7.3-2] [MQTT-3.8.3-1] [MQTT-3.10.3-1], too many bytes [MQTT-4.7.3-3], `$share` without a
/// name [MQTT-4.8.2-1], with a bad name, or without a filter [MQTT-4.8.2-2].
#[test]
fn bad_filters_are_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let excluded = |position| InvalidName::Character {
        character: '\0',
        position,
    };
    let too_long = "x".repeat(65_536);
    let rows: [(InvalidName, &[&str]); 7] = [
        (
            InvalidName::MisplacedMultiLevel,
            &["a#", "#a", "##", "a/#/b", "#/", "$share/g/a#"],
        ),
        (
            InvalidName::MisplacedSingleLevel,
            &["a+", "+a", "++", "a/b+", "a/+b/c", "$share/g/a+"],
        ),
        (InvalidName::Empty, &[""]),
        (excluded(1), &["\0", "\0a", "\0/#"]),
        (excluded(3), &["a/\0", "ä/\0/b"]),
        (InvalidName::TooLong, &[&too_long]),
        (
            InvalidName::MalformedShare,
            &[
                "$share/",
                "$share//",
                "$share//a",
                "$share/g",
                "$share/g/",
                "$share/+/a",
                "$share/g+/a",
                "$share/#/a",
                "$share/g#/a",
            ],
        ),
    ];
    for (problem, filters) in rows {
        for filter in filters {
            expect_filter_refused(&running, &inbox, filter, problem);
        }
    }
    expect_nothing_sent(running, link, broker);
}

/// Checks that only CONNECT and DISCONNECT were sent on this connection.
#[track_caller]
fn expect_nothing_sent(running: Running, link: Connection, broker: ScriptedBroker) {
    running.terminate5(link);
    assert_eq!(broker.shutdown(), [[FIRST_CONNECT, b"\xe0\x00"].concat()]);
}

/// Requests without a filter are handed back: [MQTT-3.8.3-2], [MQTT-3.10.3-2].
#[test]
fn requests_without_a_filter_are_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let rejected = running.handle().subscribe(&inbox, Vec::new()).unwrap_err();
    assert_eq!(rejected.reason, RejectReason::NoFilter);
    let rejected = running.handle().unsubscribe(&inbox, Vec::new());
    assert_eq!(rejected.unwrap_err().reason, RejectReason::NoFilter);
    expect_nothing_sent(running, link, broker);
}

/// No local is handed back with a shared subscription [MQTT-3.8.3-4], alone and among good filters, and goes out with others.
#[test]
fn no_local_is_handed_back_with_a_shared_subscription() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filter = |text: &str, no_local| {
        let options = SubscribeOptions {
            no_local,
            ..SubscribeOptions::default()
        };
        Filter::new(text, QoS::AtLeastOnce).with_options(options)
    };
    let bad = filter("$share/g/a", true);
    for filters in [
        vec![bad.clone()],
        vec![filter("good", true), bad.clone()],
        vec![bad, filter("good", false)],
    ] {
        let rejected = running.handle().subscribe(&inbox, filters.clone());
        let rejected = rejected.expect_err("a rejection");
        assert_eq!(rejected.command, filters);
        let is_invalid =
            matches!(&rejected.reason, RejectReason::Invalid { name, .. } if name == "$share/g/a");
        assert!(is_invalid, "{:?}", rejected.reason);
    }
    let filters = vec![filter("$share/g/a", false), filter("a", true)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    link.expect_bytes(b"\x82\x14\x00\x01\x00\x00\x0a$share/g/a\x01\x00\x01a\x05");
    link.send(&answers5(0x90, 1, &[1, 1]));
    assert!(told(ticket).is_delivered());
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Bad topics are handed back: wildcards [MQTT-3.3.2-2 send] [MQTT-4.7.0-1], no character, because no message of ours leaves
/// its topic out by itself [MQTT-3.3.2-1] [MQTT-4.7.3-1], U+0000 [MQTT-4.7.3-2] [MQTT-1.5.4-2 send], too many bytes
/// [MQTT-4.7.3-3].
#[test]
fn bad_topics_are_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online5(&mut broker, b"");
    for topic in ["+", "#", "a/+", "+/a", "a/#", "a+", "a#b", "$x/#"] {
        expect_topic_refused(&running, topic, InvalidName::WildcardInTopic);
    }
    expect_topic_refused(&running, "", InvalidName::Empty);
    for topic in ["\0", "\0a"] {
        let character = InvalidName::Character {
            character: '\0',
            position: 1,
        };
        expect_topic_refused(&running, topic, character);
    }
    expect_topic_refused(&running, &"x".repeat(65_536), InvalidName::TooLong);
    expect_nothing_sent(running, link, broker);
}

/// Bad properties are handed back with their message: wildcards [MQTT-3.3.2-14 send] and U+0000 in a response topic
/// [MQTT-3.3.2-13], U+0000 in a content type [MQTT-3.3.2-19], or in the name or the value of a user property
/// [MQTT-1.5.7-1] [MQTT-1.5.4-2 send], texts that are too long for their length, and a payload that is to be text and is not
/// UTF-8 [MQTT-1.5.4-1 send].
#[test]
fn bad_properties_are_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online5(&mut broker, b"");
    let too_long = "x".repeat(65_536);
    let response = |topic: &str| MessageProperties {
        response_topic: Some(topic.into()),
        ..MessageProperties::default()
    };
    let content = |kind: &str| MessageProperties {
        content_type: Some(kind.into()),
        ..MessageProperties::default()
    };
    let pair = |name: &str, value: &str| MessageProperties {
        user_properties: vec![("good".into(), String::new()), (name.into(), value.into())],
        ..MessageProperties::default()
    };
    let data = MessageProperties {
        correlation_data: Some(Bytes::from(vec![0; 65_536])),
        ..MessageProperties::default()
    };
    let text = MessageProperties {
        payload_is_text: true,
        ..MessageProperties::default()
    };
    for properties in [
        response("+"),
        response("a/#"),
        response("a\0"),
        response(""),
        response(&too_long),
        content("a\0b"),
        content(&too_long),
        pair("\0", ""),
        pair("a", "b\0"),
        pair(&too_long, ""),
        pair("a", &too_long),
        data,
        text,
    ] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let publish = Publish::new("a", qos, &b"\xff"[..]).with_properties(properties.clone());
            let rejected = running.handle().publish(publish).expect_err("a rejection");
            let is_invalid = matches!(rejected.reason, RejectReason::Invalid { .. });
            assert!(is_invalid, "{:?}", rejected.reason);
        }
    }
    expect_nothing_sent(running, link, broker);
}

/// Texts in every field of PUBLISH are the UTF-8 that they should be [MQTT-1.5.4-1 send]: the topic [MQTT-3.3.2-1], the
/// response topic [MQTT-3.3.2-13], the content type [MQTT-3.3.2-19], and both texts of a user property [MQTT-1.5.7-1].
#[test]
fn texts_of_messages_are_well_formed_utf_8() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    for (string, bytes) in TEXTS.into_iter().zip(TEXT_BYTES) {
        let field = [&[0, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let properties = MessageProperties {
            content_type: Some(string.into()),
            response_topic: Some(string.into()),
            user_properties: vec![(string.into(), string.into())],
            ..MessageProperties::default()
        };
        let publish = Publish::new(string, QoS::AtMostOnce, "x").with_properties(properties);
        drop(running.handle().publish(publish).unwrap());
        let properties = [&[8], &field[..], &[0x26], &field, &field, &[3], &field].concat();
        let body = [&field, &with_length(&properties)[..], b"x"].concat();
        link.expect_bytes(packet5(0x30, &body));
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Texts in every field of CONNECT are the UTF-8 that they should be [MQTT-1.5.4-1 send]: the client identifier
/// [MQTT-3.1.3-4], the topic of the will [MQTT-3.1.3-11], the user name [MQTT-3.1.3-12], and user properties
/// [MQTT-1.5.7-1].
#[test]
fn texts_of_connect_are_well_formed_utf_8() {
    for (string, bytes) in TEXTS.into_iter().zip(TEXT_BYTES) {
        let field = [&[0, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let connect = connect_with(|o| {
            o.client_id = string.into();
            o.last_will = Some(Will::new(string, QoS::AtMostOnce, "x"));
            o.credentials = Some(Credentials {
                username: string.into(),
                password: "p".into(),
            });
            o.version5.user_properties = vec![(string.into(), string.into())];
        });
        let pair = [&[0x26], &field[..], &field].concat();
        let payload = [
            &field[..],
            b"\x00",
            &field,
            b"\x00\x01x",
            &field,
            b"\x00\x01p",
        ]
        .concat();
        assert!(
            connect.ends_with(&[pair, payload].concat()),
            "{connect:02x?}"
        );
    }
}

/// Text that CONNECT cannot carry is no setting: U+0000 [MQTT-1.5.4-2 send] in the client identifier [MQTT-3.1.3-4], in the
/// topic of the will [MQTT-3.1.3-11] or in its properties, in the user name [MQTT-3.1.3-12], and in a user property
/// [MQTT-1.5.7-1]. Nor is a payload of the will that is to be text and is not UTF-8 [MQTT-1.5.4-1 send].
#[test]
fn texts_that_connect_cannot_carry_are_refused() {
    type Change = fn(&mut Options);
    let will = |o: &mut Options| {
        let mut will = Will::new("w", QoS::AtMostOnce, "x");
        will.properties.message.content_type = Some("a\0".into());
        o.last_will = Some(will);
    };
    let no_text = |o: &mut Options| {
        let mut will = Will::new("w", QoS::AtMostOnce, &b"\xff"[..]);
        will.properties.message.payload_is_text = true;
        o.last_will = Some(will);
    };
    let changes: [Change; 8] = [
        |o| o.client_id = "a\0".into(),
        |o| o.last_will = Some(Will::new("a\0", QoS::AtMostOnce, "x")),
        |o| o.last_will = Some(Will::new("a/+", QoS::AtMostOnce, "x")),
        will,
        no_text,
        |o| o.credentials = crate::connect::credentials("a\0", "x"),
        |o| o.version5.user_properties = vec![("a\0".into(), String::new())],
        |o| o.version5.user_properties = vec![("a".into(), "\0".into())],
    ];
    for change in changes {
        let error = refused(|o| {
            o.protocol = Protocol::V5;
            change(o);
        });
        assert!(error.starts_with("checking "), "{error}");
    }
}

/// [MQTT-3.3.2-1] at each QoS, with the shortest topics and the longest.
#[test]
fn the_topic_is_the_first_field_of_publish() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let longest = "/".repeat(65_535);
    for topic in ["a", "/", " ", "a/b", &longest] {
        drop(running.send(QoS::AtMostOnce, topic, "!"));
        let body = [&text(topic)[..], b"\x00!"].concat();
        assert!(link.read_bytes() == packet5(0x30, &body), "{topic:?}");
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
