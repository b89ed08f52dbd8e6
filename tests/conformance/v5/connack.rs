//! CONNACK: where it comes, what it must not say, and what a refusal does.

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::error::Blame;

use super::codes::CONNACK;
use super::violations::{
    expect_each_ends_the_link, expect_each_ends_the_link_instead_of_connack, forbidden, malformed,
    subscribed,
};
use crate::harness::{Log, Submit, ack};
use crate::support::ScriptedBroker;
use crate::support::running::{Running, attempts, told};
use crate::support::scripted5::{
    ACCEPTED5, FIRST_CONNECT, NEXT_CONNECT, RESUMED5, connack5, message5, options5, refusal5,
};

/// A packet other than CONNACK comes first [MQTT-3.2.0-1], DISCONNECT [MQTT-3.14.0-1] and AUTH [MQTT-4.12.0-6] among
/// them.
#[test]
fn another_packet_in_the_place_of_connack_ends_the_link() {
    const RULE: &str = "MQTT-3.2.0-1";
    expect_each_ends_the_link_instead_of_connack(&[
        forbidden(message5(0x30, "in", 0, b"", b"x"), "PUBLISH", RULE),
        forbidden(message5(0x32, "in", 1, b"", b"x"), "PUBLISH", RULE),
        forbidden(message5(0x34, "in", 1, b"", b"x"), "PUBLISH", RULE),
        forbidden(ack(0x40, 1), "PUBACK", RULE),
        forbidden(b"\x40\x03\x00\x01\x10", "PUBACK", RULE),
        forbidden(ack(0x50, 1), "PUBREC", RULE),
        forbidden(ack(0x62, 1), "PUBREL", RULE),
        forbidden(ack(0x70, 1), "PUBCOMP", RULE),
        forbidden(b"\x90\x04\x00\x01\x00\x02", "SUBACK", RULE),
        forbidden(b"\xb0\x04\x00\x01\x00\x00", "UNSUBACK", RULE),
        forbidden(b"\xd0\x00", "PINGRESP", RULE),
        forbidden(b"\xe0\x00", "DISCONNECT", "MQTT-3.14.0-1"),
        forbidden(b"\xe0\x01\x8b", "DISCONNECT", "MQTT-3.14.0-1"),
        forbidden(b"\xf0\x02\x18\x00", "AUTH", "MQTT-4.12.0-6"),
    ]);
}

/// A second CONNACK [MQTT-3.2.0-2], and AUTH on a link that is up [MQTT-4.12.0-6].
#[test]
fn a_second_connack_and_auth_end_the_link() {
    const RULE: &str = "MQTT-3.2.0-2";
    expect_each_ends_the_link(&[
        forbidden(ACCEPTED5, "CONNACK", RULE),
        forbidden(RESUMED5, "CONNACK", RULE),
        forbidden(refusal5(0x87), "CONNACK", RULE),
        forbidden(b"\x20\x02\x00\x01", "CONNACK", RULE),
        forbidden(b"\xf0\x00", "AUTH", "MQTT-4.12.0-6"),
        forbidden(b"\xf0\x02\x18\x00", "AUTH", "MQTT-4.12.0-6"),
        forbidden(b"\xf0\x06\x18\x04\x15\x00\x01m", "AUTH", "MQTT-4.12.0-6"),
    ]);
}

/// Reserved bits of the flags [MQTT-3.2.2-1], a session together with a refusal [MQTT-3.2.2-6], and CONNACK as MQTT 3.1.1
/// has it: without properties.
#[test]
fn a_connack_that_must_not_be_ends_the_link() {
    let mut rows = Vec::new();
    for bit in 1..8 {
        let bytes = [0x20, 3, 1 << bit, 0, 0];
        rows.push(malformed(bytes, "CONNACK", "MQTT-3.2.2-1"));
        let bytes = [0x20, 3, 1 << bit | 1, 0, 0];
        rows.push(malformed(bytes, "CONNACK", "MQTT-3.2.2-1"));
    }
    for code in &CONNACK[1..] {
        let bytes = [0x20, 3, 1, *code, 0];
        rows.push(forbidden(bytes, "CONNACK", "MQTT-3.2.2-6"));
    }
    for end in [[2, 0], [0, 6], [0, 0x87]] {
        let bytes = [&b"\x20\x02"[..], &end].concat();
        rows.push(malformed(bytes, "CONNACK", "MQTT 5, 3.2.2.3"));
    }
    expect_each_ends_the_link_instead_of_connack(&rows);
}

/// A client that has no session asks for a clean start, so no session can be present: not for a new process
/// [MQTT-3.2.2-4] [MQTT-3.2.2-2].
#[test]
fn a_session_that_a_new_client_does_not_know_ends_the_link() {
    let with_properties = connack5(true, b"\x21\x00\x14");
    let rows =
        [RESUMED5, &with_properties].map(|bytes| forbidden(bytes, "CONNACK", "MQTT-3.2.2-2"));
    expect_each_ends_the_link_instead_of_connack(&rows);
}

/// Nor is there a session for a client whose own has expired [MQTT-3.2.2-4], or that asks for a clean start each time
/// [MQTT-3.2.2-2].
#[test]
fn a_session_that_has_expired_or_was_not_wanted_ends_the_link() {
    for clean in [false, true] {
        let mut broker = ScriptedBroker::bind();
        let mut options = options5(&broker);
        options.clean_session = clean;
        let log = Log::of(&broker);
        let running = Running::start(options);
        // The broker keeps it for no time at all.
        let session_expiry = b"\x11\x00\x00\x00\x00";
        let (mut link, first) = running.greet5(&mut broker, &connack5(false, session_expiry));
        let ticket = running.send(QoS::AtLeastOnce, "out", "x");
        link.expect_bytes(b"\x32\x09\x00\x03out\x00\x01\x00x");
        link.close();
        for row in [RESUMED5, &connack5(true, session_expiry)] {
            let mut link = broker.accept();
            link.expect_bytes(&first);
            link.send(row);
            link.expect_disconnect5(0x82);
            link.close();
        }
        let (mut link, connect) = running.greet5(&mut broker, ACCEPTED5);
        assert_eq!(connect, first);
        let failures = log.failures();
        assert_eq!(failures.len(), 3, "{failures:#?}");
        for failure in &failures[1..] {
            assert!(
                failure.contains(" [MQTT-3.2.2-2], beginning 20 "),
                "{failure}"
            );
        }
        // The message goes on as a new one.
        let sent = link.read_bytes();
        assert_eq!(sent[0], 0x32);
        link.send(&ack(0x40, crate::harness::identifier(&sent)));
        assert_eq!(attempts(told(ticket)), 2);
        running.terminate5(link);
    }
}

/// A refusal closes the connection, without DISCONNECT [MQTT-4.13.2-1].
#[test]
fn every_refusal_closes_the_connection() {
    for code in &CONNACK[1..] {
        let mut broker = ScriptedBroker::bind();
        let log = Log::of(&broker);
        let running = Running::start(options5(&broker));
        let waits = running.send(QoS::AtLeastOnce, "out", "x");
        let mut link = broker.accept();
        link.expect_bytes(FIRST_CONNECT);
        // Nothing behind it counts, not even a violation.
        let refusal = [0x20, 8, 0, *code, 5, 0x1f, 0, 2, b'n', b'o'];
        link.send(&[&refusal[..], ACCEPTED5, b"\xff\x00"].concat());
        assert!(link.read_to_end().is_empty(), "{code:02x}");
        link.close();
        // The broker's own words, the code and its number are told.
        let words = format!("the broker refused with CONNACK 0x{code:02X} (");
        let is_told = |line: &str| line.contains(&words) && line.contains("): \"no\"");
        if is_permanent(*code) {
            let error = running.join().result.expect_err("a refusal that stays");
            assert_eq!(error.blame(), Blame::Refused);
            assert!(is_told(&error.to_string()), "{error}");
            assert!(waits.outcome().is_some());
            assert_eq!(broker.received().len(), 1);
            continue;
        }
        let (mut link, connect) = running.greet5(&mut broker, ACCEPTED5);
        assert_eq!(connect, FIRST_CONNECT);
        let failures = log.failures();
        assert!(failures.len() == 1 && is_told(&failures[0]), "{failures:?}");
        link.expect_bytes(b"\x32\x09\x00\x03out\x00\x01\x00x");
        link.send(&ack(0x40, 1));
        assert_eq!(attempts(told(waits)), 1);
        running.terminate5(link);
    }
}

/// Whether the broker would refuse the same CONNECT again: not if it is busy, has no room, or names another server.
fn is_permanent(code: u8) -> bool {
    !matches!(code, 0x80 | 0x88 | 0x89 | 0x97 | 0x9c | 0x9d | 0x9f)
}

/// CONNACK and packets behind it in one piece, and CONNACK in single bytes: the link is a stream [MQTT-4.2.0-1]. It has no
/// frames across which packets could lie [MQTT-6.0.0-2].
#[test]
fn connack_may_come_in_pieces_and_with_packets_behind_it() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options5(&broker));
    let mut link = broker.accept();
    link.expect_bytes(FIRST_CONNECT);
    let message = message5(0x32, "in", 1, b"", b"x");
    link.send(&[ACCEPTED5, &message, &b"\x62\x02\x00\x07"[..]].concat());
    // PUBCOMP has no place in the order of the answers to messages.
    let mut answers = [link.read_bytes(), link.read_bytes()];
    answers.sort();
    assert_eq!(answers, [&ack(0x40, 1)[..], b"\x70\x03\x00\x07\x92"]);
    link.close();
    let mut link = broker.accept();
    link.expect_bytes(NEXT_CONNECT);
    for byte in RESUMED5 {
        link.send(&[*byte]);
        running.take_a_turn();
    }
    let inbox = subscribed(&running, &mut link, "in");
    assert!(inbox.try_recv().is_err());
    running.terminate5(link);
}
