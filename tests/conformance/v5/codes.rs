//! The reason codes of packets that come: which packet may have which, and how many there must be.

use mqtt_connection_sharing::{Filter, Inbox, Outcome, QoS, ReasonCode, Ticket, WhenFull};

use super::pieces::CARRIERS;
use super::violations::{
    Bad, expect_each_ends_the_link, expect_each_ends_the_link_instead_of_connack, expect_told,
    forbidden, malformed,
};
use crate::harness::{Log, Submit, ack, identifier};
use crate::support::running::{Running, told};
use crate::support::scripted5::{FIRST_CONNECT, ack5, answers5, packet5};
use crate::support::{Connection, ScriptedBroker};

/// All codes that the standard has [MQTT 5, 2.4].
const ALL: [u8; 43] = [
    0x00, 0x01, 0x02, 0x04, 0x10, 0x11, 0x18, 0x19, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97,
    0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];

/// Some that it has not.
const UNDEFINED: [u8; 8] = [0x03, 0x05, 0x12, 0x1a, 0x7f, 0xa3, 0xfe, 0xff];

/// In CONNACK [MQTT 5, 3.2.2.2].
pub const CONNACK: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
];
/// In PUBACK and PUBREC [MQTT 5, 3.4.2.1, 3.5.2.1].
const PUBACK: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
/// In PUBREL and PUBCOMP [MQTT 5, 3.6.2.1, 3.7.2.1].
const PUBREL: [u8; 2] = [0x00, 0x92];
/// In SUBACK [MQTT 5, 3.9.3].
const SUBACK: [u8; 12] = [
    0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2,
];
/// In UNSUBACK [MQTT 5, 3.11.3].
const UNSUBACK: [u8; 7] = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
/// In DISCONNECT from a server [MQTT 5, 3.14.2.1].
pub const DISCONNECT: [u8; 28] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];

/// The codes that are none of these.
fn others(codes: &[u8]) -> impl Iterator<Item = u8> {
    ALL.into_iter()
        .chain(UNDEFINED)
        .filter(|code| !codes.contains(code))
}

/// Codes that a packet is not to have: in PUBACK, PUBREC, PUBREL and PUBCOMP, in SUBACK [MQTT-3.9.3-2] and UNSUBACK
/// [MQTT-3.11.3-2], also behind a good one, and in DISCONNECT.
#[test]
fn a_reason_code_of_another_packet_ends_the_link() {
    const RULE: &str = "MQTT 5, 2.4";
    let mut rows: Vec<Bad> = Vec::new();
    for (first, name, codes) in [
        (0x40, "PUBACK", &PUBACK[..]),
        (0x50, "PUBREC", &PUBACK),
        (0x62, "PUBREL", &PUBREL),
        (0x70, "PUBCOMP", &PUBREL),
    ] {
        rows.extend(others(codes).map(|code| malformed([first, 3, 0, 1, code], name, RULE)));
        let with_properties = [first, 4, 0, 1, 0xff, 0];
        rows.push(malformed(with_properties, name, RULE));
    }
    for (first, name, codes) in [(0x90, "SUBACK", &SUBACK[..]), (0xb0, "UNSUBACK", &UNSUBACK)] {
        for code in others(codes) {
            rows.push(malformed(answers5(first, 1, &[code]), name, RULE));
        }
        rows.push(malformed(answers5(first, 1, &[0, 0x12]), name, RULE));
    }
    rows.extend(others(&DISCONNECT).map(|code| malformed([0xe0, 1, code], "DISCONNECT", RULE)));
    // 0x04 is a client's alone.
    assert!(rows.iter().any(|row| row.bytes == [0xe0, 1, 4]));
    expect_each_ends_the_link(&rows);
}

/// Codes that CONNACK is not to have [MQTT-3.2.2-8].
#[test]
fn a_reason_code_that_connack_is_not_to_have_ends_the_link() {
    let codes = others(&CONNACK);
    let rows = codes.map(|code| malformed([0x20, 3, 0, code, 0], "CONNACK", "MQTT 5, 2.4"));
    expect_each_ends_the_link_instead_of_connack(&rows.collect::<Vec<_>>());
}

/// The filters `f/0`, `f/1` and so on.
fn filters(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("f/{number}")).collect()
}

/// SUBSCRIBE for these filters.
#[track_caller]
fn subscribe_all(running: &Running, inbox: &Inbox, filters: &[String]) -> Ticket {
    let filters = filters
        .iter()
        .map(|filter| Filter::new(filter.as_str(), QoS::ExactlyOnce));
    let filters = filters.collect::<Vec<_>>();
    running.handle().subscribe(inbox, filters).expect("room")
}

/// Reads the next packet, which must be a SUBSCRIBE `0x82` or an UNSUBSCRIBE `0xa2`, and returns its identifier.
#[track_caller]
fn request(link: &mut Connection, first: u8) -> u16 {
    let packet = link.read_bytes();
    assert_eq!(packet[0], first, "{packet:02x?}");
    identifier(&packet)
}

fn codes(values: &[u8]) -> Vec<ReasonCode> {
    values.iter().map(|value| ReasonCode::new(*value)).collect()
}

/// SUBACK: its codes are those of the filters in their order [MQTT-3.9.3-1], also where one request has two packets; it
/// is matched by its identifier [MQTT-2.2.1-6] [MQTT-3.8.4-2], so that those of unknown ones change nothing.
#[test]
fn every_code_of_suback_is_that_of_its_filter() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let ticket = subscribe_all(&running, &inbox, &filters(SUBACK.len()));
    let first = request(&mut link, 0x82);
    for other in [first + 1, 0x7000] {
        link.send(&answers5(0x90, other, &[0x80; 8]));
        link.send(&answers5(0xb0, other, &[0x80; 8]));
    }
    // UNSUBACK is not its answer.
    link.send(&answers5(0xb0, first, &[0x80; 8]));
    running.take_a_turn();
    assert_eq!(ticket.outcome(), None);
    link.send(&answers5(0x90, first, &SUBACK[..8]));
    let second = request(&mut link, 0x82);
    let words = [
        &second.to_be_bytes()[..],
        b"\x05\x1f\x00\x02no",
        &SUBACK[8..],
    ]
    .concat();
    link.send(&packet5(0x90, &words));
    let Outcome::Refused { granted, answer } = told(ticket) else {
        panic!("some were refused");
    };
    let mut expected = [None; 12];
    let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    expected[..3].copy_from_slice(&levels.map(Some));
    assert_eq!(granted, expected);
    let answer = answer.expect("the words");
    assert_eq!(answer.codes, codes(&SUBACK));
    assert_eq!(answer.code, ReasonCode::new(0x80));
    assert_eq!(answer.details.reason.as_deref(), Some("no"));
    running.terminate5(link);
}

/// UNSUBACK: its codes are those of the filters in their order [MQTT-3.11.3-1], and it is matched by its identifier
/// [MQTT-2.2.1-6].
#[test]
fn every_code_of_unsuback_is_that_of_its_filter() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let names = filters(UNSUBACK.len());
    let subscribed = subscribe_all(&running, &inbox, &names);
    let id = request(&mut link, 0x82);
    link.send(&answers5(0x90, id, &[2; 7]));
    assert!(told(subscribed).is_delivered());
    let ticket = running.handle().unsubscribe(&inbox, names).expect("room");
    let id = request(&mut link, 0xa2);
    link.send(&answers5(0xb0, id + 1, &[0; 7]));
    // SUBACK is not its answer.
    link.send(&answers5(0x90, id, &[0; 7]));
    running.take_a_turn();
    assert_eq!(ticket.outcome(), None);
    link.send(&answers5(0xb0, id, &UNSUBACK));
    let outcome = told(ticket);
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    let answer = outcome.answer().expect("the codes");
    assert_eq!(answer.codes, codes(&UNSUBACK));
    running.terminate5(link);
}

/// Another count of codes than of filters: SUBACK [MQTT-3.9.3-1] [MQTT-3.8.4-6], UNSUBACK [MQTT-3.11.3-1].
#[test]
fn another_count_of_codes_than_of_filters_ends_the_link_and_the_request_is_made_again() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let names = filters(2);
    let mut failures = 0;
    for (first, answer, name, rule) in [
        (0x82, 0x90, "SUBACK", "MQTT-3.9.3-1"),
        (0xa2, 0xb0, "UNSUBACK", "MQTT-3.11.3-1"),
    ] {
        let ticket = match first {
            0x82 => subscribe_all(&running, &inbox, &names),
            _ => running
                .handle()
                .unsubscribe(&inbox, names.clone())
                .expect("room"),
        };
        for count in [1, 3] {
            let id = request(&mut link, first);
            let bytes = answers5(answer, id, &vec![0; count]);
            link.send(&bytes);
            link.expect_disconnect5(0x82);
            link = running.resume5(&mut broker, link);
            failures += 1;
            let told = log.failures();
            assert_eq!(told.len(), failures);
            expect_told(&told[failures - 1], &forbidden(bytes, name, rule));
        }
        let id = request(&mut link, first);
        link.send(&answers5(answer, id, &[0, 0]));
        assert!(told(ticket).is_delivered());
    }
    running.terminate5(link);
}

/// No code at all [MQTT-3.9.3-1] [MQTT-3.8.4-6] [MQTT-3.11.3-1].
#[test]
fn an_answer_without_a_code_ends_the_link() {
    expect_each_ends_the_link(&[
        forbidden(
            b"\x90\x08\x00\x01\x05\x1f\x00\x02no",
            "SUBACK",
            "MQTT-3.9.3-1",
        ),
        forbidden(
            b"\xb0\x08\x00\x01\x05\x1f\x00\x02no",
            "UNSUBACK",
            "MQTT-3.11.3-1",
        ),
    ]);
}

/// Each code that PUBACK, PUBREC and PUBCOMP may have. One below 0x80 goes on with the flow, and another ends it
/// [MQTT-4.3.3-4].
#[test]
fn every_code_of_an_acknowledgment_ends_its_message_as_it_says() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    for code in PUBACK {
        let is_failure = code >= 0x80;
        for (qos, first) in [(QoS::AtLeastOnce, 0x40), (QoS::ExactlyOnce, 0x50)] {
            let ticket = running.send(qos, "out", "x");
            let id = identifier(&link.read_bytes());
            let [high, low] = id.to_be_bytes();
            link.send(&[first, 9, high, low, code, 5, 0x1f, 0, 2, b'n', b'o']);
            if first == 0x50 && !is_failure {
                link.expect_bytes(ack(0x62, id));
                link.send(&ack(0x70, id));
            }
            let outcome = told(ticket);
            assert_eq!(
                outcome.is_delivered(),
                !is_failure,
                "{code:02x}: {outcome:?}"
            );
            if first == 0x40 || is_failure {
                let answer = outcome.answer().expect("the words");
                assert_eq!(answer.code, ReasonCode::new(code));
                assert_eq!(answer.details.reason.as_deref(), Some("no"));
            }
        }
    }
    // PUBCOMP: the message was acknowledged with PUBREC.
    for code in PUBREL {
        let ticket = running.send(QoS::ExactlyOnce, "out", "x");
        let id = identifier(&link.read_bytes());
        link.send(&ack(0x50, id));
        link.expect_bytes(ack(0x62, id));
        link.send(&ack5(0x70, id, code));
        assert!(told(ticket).is_delivered());
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// CONNECT leaves reason strings and user properties to the server, so that each packet may have them [MQTT-3.1.2-29].
#[test]
fn reason_strings_and_user_properties_may_come_in_every_packet() {
    // Request problem information would have the number 0x17.
    let properties = &FIRST_CONNECT[13..29];
    let expected = b"\x11\x00\x00\x0e\x10\x21\x01\x00\x27\x00\x04\x00\x00\x22\x00\x08";
    assert_eq!(properties, expected);
    let words = b"\x1f\x00\x02no\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01b";
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, words);
    for carrier in CARRIERS {
        match carrier.name {
            "PUBLISH" => link.send(&carrier.with(&words[5..])),
            "DISCONNECT" => {}
            _ => link.send(&carrier.with(words)),
        }
    }
    // There is no message under the identifier of PUBREC and PUBREL.
    link.expect_bytes(b"\x62\x03\x00\x01\x92");
    link.expect_bytes(b"\x70\x03\x00\x01\x92");
    link.send(&CARRIERS[7].with(words));
    assert!(link.read_to_end().is_empty());
    let link = running.resume5(&mut broker, link);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
