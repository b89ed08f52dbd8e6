//! Strings in packets: UTF-8 without U+0000, with all other characters of Unicode.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use mqtt_connection_sharing::WhenFull;
use mqtt_connection_sharing::options::{Credentials, Options};
use mqtt_connection_sharing::{Filter, InvalidName, QoS, Will};

use crate::harness::{Submit, ack, connect_with, message, online, packet, terminate, text};
use crate::support::running::{next, options, told};
use crate::support::{Program, ScriptedBroker};
use crate::violations::{Bad, bad, expect_each_closes};

/// Characters of each length that UTF-8 has, at the ends of its ranges, around the surrogates,
/// and a byte order mark; no control characters and no non-characters.
pub const TEXTS: [&str; 6] = [
    "a \u{7e}",
    "\u{a0}\u{7ff}\u{e4}",
    "\u{800}\u{d7ff}\u{e000}",
    "\u{fdcf}\u{fdf0}\u{fffd}",
    "\u{10000}\u{1f980}\u{10fffd}",
    "\u{feff}x",
];

/// The same texts in bytes.
pub const TEXT_BYTES: [&[u8]; 6] = [
    b"\x61\x20\x7e",
    b"\xc2\xa0\xdf\xbf\xc3\xa4",
    b"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80",
    b"\xef\xb7\x8f\xef\xb7\xb0\xef\xbf\xbd",
    b"\xf0\x90\x80\x80\xf0\x9f\xa6\x80\xf4\x8f\xbf\xbd",
    b"\xef\xbb\xbfx",
];

/// A field with its length before it.
fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[0, length], bytes].concat()
}

/// The payload of CONNECT with these options.
#[track_caller]
fn connect_payload(change: impl FnOnce(&mut Options)) -> Vec<u8> {
    connect_with(change)[12..].to_vec()
}

#[test]
fn mqtt_1_5_3_1_send_strings_are_well_formed_utf_8() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    for (string, bytes) in TEXTS.into_iter().zip(TEXT_BYTES) {
        drop(running.send(QoS::AtMostOnce, string, ""));
        link.expect_bytes(packet(0x30, &field(bytes)));
        let filters = vec![Filter::new(string, QoS::AtMostOnce)];
        drop(running.handle().subscribe(&inbox, filters).unwrap());
        let subscribe = link.read_bytes();
        assert_eq!(subscribe[4..], [&field(bytes)[..], &[0]].concat());
        link.send(&[b"\x90\x03", &subscribe[2..4], &[0]].concat());
        let filters = vec![string.to_owned()];
        drop(running.handle().unsubscribe(&inbox, filters).unwrap());
        let unsubscribe = link.read_bytes();
        assert_eq!(unsubscribe[4..], field(bytes));
        link.send(&[b"\xb0\x02", &unsubscribe[2..4]].concat());
    }
    terminate(running, link);
}

/// Text that is not UTF-8 does not become a setting.
#[test]
fn mqtt_1_5_3_1_send_the_program_refuses_ill_formed_settings() {
    let mut broker = ScriptedBroker::bind();
    let ill_formed = OsStr::from_bytes(b"a\xff");
    for flag in [
        "--client-id",
        "--username",
        "--topic-prefix",
        "--will-topic",
    ] {
        let program = Program::new().args(["--endpoint", &broker.endpoint()]);
        let done = program.arg(flag).arg(ill_formed).run();
        assert_eq!(done.status.code(), Some(2), "{flag}: {done}");
        let name = format!("MQTT_{}", flag[2..].to_uppercase().replace('-', "_"));
        let program = Program::new().args(["--endpoint", &broker.endpoint()]);
        let done = program.env(&name, ill_formed).run();
        assert_eq!(done.status.code(), Some(2), "{name}: {done}");
        assert!(!done.stderr.contains("panicked"), "{name}: {done}");
    }
    assert!(broker.accept_within(std::time::Duration::ZERO).is_none());
}

/// Ill-formed strings of each kind, in the topic of an incoming PUBLISH, which is the only string that a
/// server sends.
fn ill_formed() -> Vec<Bad> {
    let strings: [&[u8]; 14] = [
        b"\xff",
        b"\xfe\xff",
        b"a\x80",            // a continuation without a beginning
        b"\xc3",             // a beginning without a continuation
        b"\xe2\x82",         // cut short
        b"a/\xf0\x9f\xa6/b", // cut short, and going on
        b"\xc0\x80",         // U+0000 in two bytes
        b"\xc1\xbf",         // more bytes than it needs
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",             // surrogates: U+D800
        b"\xed\xbf\xbf",             // U+DFFF
        b"\xed\xa0\xb4\xed\xb4\x9e", // a pair of them
        b"\xf4\x90\x80\x80",         // above U+10FFFF
        b"\xf8\x88\x80\x80\x80",
    ];
    let mut rows = Vec::new();
    for string in strings {
        for (first, id) in [(0x30, &b""[..]), (0x32, b"\x00\x05"), (0x34, b"\x00\x05")] {
            let body = [&field(string), id, b"payload"].concat();
            rows.push(bad(packet(first, &body), "PUBLISH", "MQTT-1.5.3-1"));
        }
    }
    rows
}

#[test]
fn mqtt_1_5_3_1_receive_an_ill_formed_topic_closes_the_connection() {
    expect_each_closes(&ill_formed());
}

#[test]
fn mqtt_1_5_3_2_send_no_string_with_u_0000_is_sent() {
    // Client identifier and user name, before the program connects.
    let mut broker = ScriptedBroker::bind();
    for place in ["the client identifier", "the user name"] {
        for string in ["\0", "a\0", "\0a", "a\0b"] {
            let mut options = options(&broker);
            match place {
                "the user name" => {
                    options.credentials = Some(Credentials {
                        username: string.into(),
                        password: "p".into(),
                    });
                }
                _ => options.client_id = string.into(),
            }
            let error = mqtt_connection_sharing::Client::new(options).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("checking {place}: ")), "{error}");
            assert!(error.contains("U+0000 [MQTT-1.5.3-2]"), "{error}");
        }
    }
    assert!(broker.accept_within(std::time::Duration::ZERO).is_none());
    // Topics and filters, while connected; `names.rs` has others like them.
    let (running, link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let nul = |reason: mqtt_connection_sharing::RejectReason| {
        let expected = InvalidName::Character {
            character: '\0',
            position: 2,
        };
        matches!(reason, mqtt_connection_sharing::RejectReason::Invalid { problem, .. } if problem == expected)
    };
    let publish = mqtt_connection_sharing::Publish::new("a\0", QoS::AtLeastOnce, "x");
    assert!(nul(running.handle().publish(publish).unwrap_err().reason));
    let filters = vec![Filter::new("a\0", QoS::AtLeastOnce)];
    assert!(nul(running
        .handle()
        .subscribe(&inbox, filters)
        .unwrap_err()
        .reason));
    let filters = vec!["a\0".to_owned()];
    assert!(nul(running
        .handle()
        .unsubscribe(&inbox, filters)
        .unwrap_err()
        .reason));
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

/// A server may close the connection on these without a reason: no packet with one is sent.
#[test]
fn mqtt_1_5_3_2_send_no_control_character_in_client_identifier_user_name_and_will() {
    let mut broker = ScriptedBroker::bind();
    for (character, code) in [
        ('\n', "U+000A"),
        ('\u{85}', "U+0085"),
        ('\u{ffff}', "U+FFFF"),
    ] {
        for place in ["the client identifier", "the user name", "the last will"] {
            let string = format!("a{character}");
            let mut options = options(&broker);
            match place {
                "the user name" => {
                    options.credentials = Some(Credentials {
                        username: string,
                        password: "p".into(),
                    });
                }
                "the last will" => {
                    options.last_will = Some(Will::new(string, QoS::AtMostOnce, "\n"));
                }
                _ => options.client_id = string,
            }
            let error = mqtt_connection_sharing::Client::new(options).unwrap_err();
            let expected = format!("checking {place}: its character 2 is {code}, ");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
    assert!(broker.accept_within(std::time::Duration::ZERO).is_none());
}

/// Only U+0000 is forbidden: the client delivers all others that a broker lets through.
#[test]
fn mqtt_1_5_3_2_receive_other_control_characters_are_delivered() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "a/+");
    for topic in [
        "a/\n",
        "a/\t\u{1}",
        "a/\u{7f}",
        "a/\u{9f}",
        "a/\u{fdd0}",
        "a/\u{10fffe}",
    ] {
        link.send(&message(0x32, topic, 1, b"\n"));
        link.expect_bytes(ack(0x40, 1));
        let came = inbox.recv_timeout(crate::support::HANG).expect("a message");
        assert_eq!(came.topic(), topic);
    }
    terminate(running, link);
}

#[test]
fn mqtt_1_5_3_2_receive_u_0000_in_a_topic_closes_the_connection() {
    let mut rows = Vec::new();
    for topic in ["\0", "a\0", "\0a", "a/\0/b", "\u{e4}\0"] {
        for first in [0x30, 0x32, 0x34] {
            let bytes = message(first, topic, 5, b"payload");
            rows.push(bad(bytes, "PUBLISH", "MQTT-1.5.3-2"));
        }
    }
    expect_each_closes(&rows);
}

#[test]
fn mqtt_1_5_3_3_a_byte_order_mark_is_a_character_wherever_it_stands() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let plain = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &plain, "x");
    let mut inboxes = Vec::new();
    for topic in ["\u{feff}", "\u{feff}x", "x\u{feff}", "a/\u{feff}/b"] {
        let inbox = running.handle().inbox(1, WhenFull::WaitAside);
        running.subscribe(&mut link, &inbox, topic);
        let payload = "\u{feff}payload";
        link.send(&message(0x32, topic, 1, payload.as_bytes()));
        link.expect_bytes(ack(0x40, 1));
        let came = inbox.recv_timeout(crate::support::HANG).expect("a message");
        assert_eq!(came.topic(), topic);
        assert_eq!(came.payload(), payload.as_bytes());
        assert!(plain.try_recv().is_err());
        // Kept, because a dropped inbox is unsubscribed.
        inboxes.push(inbox);
    }
    // A topic without the mark is another one.
    link.send(b"\x32\x06\x00\x01x\x00\x01y");
    link.expect_bytes(ack(0x40, 1));
    assert_eq!(next(&plain), "y");
    terminate(running, link);
}

#[test]
fn mqtt_3_1_3_4_the_client_identifier_is_utf_8() {
    for (string, bytes) in TEXTS.into_iter().zip(TEXT_BYTES) {
        assert_eq!(
            connect_payload(|o| o.client_id = string.into()),
            field(bytes)
        );
    }
}

#[test]
fn mqtt_3_1_3_10_the_will_topic_is_utf_8() {
    for (string, bytes) in TEXTS.into_iter().zip(TEXT_BYTES) {
        let topic = format!("{string}/will");
        let will = Will::new(topic, QoS::AtMostOnce, &b"\xff\0"[..]);
        let payload = connect_payload(|o| o.last_will = Some(will));
        // The will message is bytes of any kind.
        let topic = field(&[bytes, b"/will"].concat());
        assert_eq!(
            payload,
            [&text("loop")[..], &topic, b"\x00\x02\xff\x00"].concat()
        );
    }
}

#[test]
fn mqtt_3_1_3_11_the_user_name_is_utf_8() {
    for (string, bytes) in TEXTS.into_iter().zip(TEXT_BYTES) {
        let credentials = Credentials {
            username: string.into(),
            // A password is bytes: it may hold those that strings may not.
            password: "p\0".into(),
        };
        let payload = connect_payload(|o| o.credentials = Some(credentials));
        let expected = [&text("loop")[..], &field(bytes), b"\x00\x02p\0"].concat();
        assert_eq!(payload, expected);
    }
}

#[test]
fn mqtt_3_8_3_1_the_filters_of_subscribe_are_utf_8() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = TEXTS.map(|string| Filter::new(format!("{string}/+"), QoS::AtLeastOnce));
    drop(
        running
            .handle()
            .subscribe(&inbox, filters.to_vec())
            .unwrap(),
    );
    let fields = TEXT_BYTES.map(|bytes| [&field(&[bytes, b"/+"].concat())[..], &[1]].concat());
    let body = [&[0, 1], &fields.concat()[..]].concat();
    link.expect_bytes(packet(0x82, &body));
    terminate(running, link);
}

#[test]
fn mqtt_3_10_3_1_the_filters_of_unsubscribe_are_utf_8() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = TEXTS.map(|string| format!("{string}/#"));
    let ticket = running
        .handle()
        .unsubscribe(&inbox, filters.to_vec())
        .unwrap();
    let fields = TEXT_BYTES.map(|bytes| field(&[bytes, b"/#"].concat()));
    let body = [&[0, 1], &fields.concat()[..]].concat();
    link.expect_bytes(packet(0xa2, &body));
    link.send(&ack(0xb0, 1));
    assert!(told(ticket).is_delivered());
    terminate(running, link);
}
