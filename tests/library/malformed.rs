//! Everything that a broker must not send, one row each. The program closes the connection, says which
//! packet broke which rule and how its bytes begin, and connects again after a delay. It loses nothing
//! that was in flight or queued.
//!
//! The real loop against a scripted broker. The log is checked as a person would read it.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crate::support::ScriptedBroker;
use crate::support::lines::LINES;
use crate::support::running::{Running, attempts, message, next, options, send_at_once, told};
use mqtt_connection_sharing::WhenFull;
use mqtt_connection_sharing::{Filter, QoS};
use rumqttc::mqttbytes::v4;

/// When the bytes come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    /// On a connection that is up.
    Up,
    /// In answer to CONNECT.
    Greeting,
    /// In answer to a CONNECT that asks for a clean session.
    CleanGreeting,
    /// In answer to SUBSCRIBE with two filters. Its identifier replaces the third and fourth byte.
    Subscribing,
}

/// The bytes, the packet that the error names, and the rule in the error's brackets.
type Row = (&'static [u8], &'static str, &'static str);

const UP: &[Row] = &[
    // Types that do not exist.
    (b"\x00\x00", "packet", "MQTT 3.1.1, 2.2.1"),
    (b"\xf0\x00", "packet", "MQTT 3.1.1, 2.2.1"),
    // Packets that only a client may send.
    (
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c",
        "CONNECT",
        "MQTT 3.1.1, 2.2.1",
    ),
    (
        b"\x82\x06\x00\x01\x00\x01a\x00",
        "SUBSCRIBE",
        "MQTT 3.1.1, 2.2.1",
    ),
    (
        b"\xa2\x05\x00\x01\x00\x01a",
        "UNSUBSCRIBE",
        "MQTT 3.1.1, 2.2.1",
    ),
    (b"\xc0\x00", "PINGREQ", "MQTT 3.1.1, 2.2.1"),
    (b"\xe0\x00", "DISCONNECT", "MQTT 3.1.1, 2.2.1"),
    // A second CONNACK.
    (b"\x20\x02\x00\x00", "CONNACK", "MQTT-3.2.0-1"),
    // Reserved flags.
    (b"\x21\x02\x00\x00", "CONNACK", "MQTT-2.2.2-2"),
    (b"\x41\x02\x00\x01", "PUBACK", "MQTT-2.2.2-2"),
    (b"\x51\x02\x00\x01", "PUBREC", "MQTT-2.2.2-2"),
    (b"\x60\x02\x00\x01", "PUBREL", "MQTT-2.2.2-2"),
    (b"\x63\x02\x00\x01", "PUBREL", "MQTT-2.2.2-2"),
    (b"\x78\x02\x00\x01", "PUBCOMP", "MQTT-2.2.2-2"),
    (b"\x92\x03\x00\x01\x00", "SUBACK", "MQTT-2.2.2-2"),
    (b"\xb4\x02\x00\x01", "UNSUBACK", "MQTT-2.2.2-2"),
    (b"\xdf\x00", "PINGRESP", "MQTT-2.2.2-2"),
    // Wrong lengths.
    (b"\x20\x03\x00\x00\x00", "CONNACK", "MQTT 3.1.1, 3"),
    (b"\x40\x00", "PUBACK", "MQTT 3.1.1, 3"),
    (b"\x40\x01\x00", "PUBACK", "MQTT 3.1.1, 3"),
    (b"\x40\x03\x00\x01\x00", "PUBACK", "MQTT 3.1.1, 3"),
    (b"\x50\x03\x00\x01\x00", "PUBREC", "MQTT 3.1.1, 3"),
    (b"\x62\x01\x00", "PUBREL", "MQTT 3.1.1, 3"),
    (b"\x70\x04\x00\x01\x00\x00", "PUBCOMP", "MQTT 3.1.1, 3"),
    (b"\xb0\x03\x00\x01\x00", "UNSUBACK", "MQTT 3.1.1, 3"),
    (b"\xd0\x01\x00", "PINGRESP", "MQTT 3.1.1, 3"),
    (b"\x90\x01\x00", "SUBACK", "MQTT-3.9.3-1"),
    (b"\x90\x02\x00\x01", "SUBACK", "MQTT-3.9.3-1"),
    (b"\x30\x01\x00", "PUBLISH", "MQTT-4.8.0-1"),
    // A topic that goes on after the packet's end, and no room for the identifier.
    (b"\x30\x03\x00\x09a", "PUBLISH", "MQTT-4.8.0-1"),
    (b"\x32\x04\x00\x01a\x00", "PUBLISH", "MQTT-4.8.0-1"),
    // Identifier 0.
    (b"\x32\x05\x00\x01a\x00\x00", "PUBLISH", "MQTT-2.3.1-1"),
    (b"\x34\x05\x00\x01a\x00\x00", "PUBLISH", "MQTT-2.3.1-1"),
    (b"\x40\x02\x00\x00", "PUBACK", "MQTT-2.3.1-1"),
    (b"\x50\x02\x00\x00", "PUBREC", "MQTT-2.3.1-1"),
    (b"\x62\x02\x00\x00", "PUBREL", "MQTT-2.3.1-1"),
    (b"\x70\x02\x00\x00", "PUBCOMP", "MQTT-2.3.1-1"),
    (b"\x90\x03\x00\x00\x00", "SUBACK", "MQTT-2.3.1-1"),
    (b"\xb0\x02\x00\x00", "UNSUBACK", "MQTT-2.3.1-1"),
    // Remaining lengths: too long, and longer than needed.
    (b"\x30\xff\xff\xff\xff", "PUBLISH", "MQTT 3.1.1, 2.2.3"),
    (b"\x30\x80\x80\x80\x80\x01", "PUBLISH", "MQTT 3.1.1, 2.2.3"),
    (b"\x40\x82\x00\x00\x01", "PUBACK", "MQTT 3.1.1, 2.2.3"),
    (b"\xd0\x80\x80\x00", "PINGRESP", "MQTT 3.1.1, 2.2.3"),
    // QoS 3, and DUP on QoS 0.
    (b"\x36\x06\x00\x01a\x00\x01x", "PUBLISH", "MQTT-3.3.1-4"),
    (b"\x3e\x06\x00\x01a\x00\x01x", "PUBLISH", "MQTT-3.3.1-4"),
    (b"\x38\x03\x00\x01a", "PUBLISH", "MQTT-3.3.1-2"),
    // Topics.
    (b"\x30\x02\x00\x00", "PUBLISH", "MQTT-4.7.3-1"),
    (b"\x30\x05\x00\x03a\0b", "PUBLISH", "MQTT-1.5.3-2"),
    (b"\x30\x03\x00\x01#", "PUBLISH", "MQTT-3.3.2-2"),
    (b"\x32\x07\x00\x03a/+\x00\x01", "PUBLISH", "MQTT-3.3.2-2"),
    (b"\x30\x03\x00\x01\xff", "PUBLISH", "MQTT-1.5.3-1"),
    // Half of a surrogate pair, and a character in more bytes than it needs.
    (b"\x30\x05\x00\x03\xed\xa0\x80", "PUBLISH", "MQTT-1.5.3-1"),
    (b"\x30\x04\x00\x02\xc0\xaf", "PUBLISH", "MQTT-1.5.3-1"),
    // A fixed header that announces one byte above the limit, and no byte after it.
    (b"\x90\xfd\xff\x0f", "SUBACK", "max-packet-size"),
    (b"\x90\xff\xff\x7f", "SUBACK", "max-packet-size"),
    // A message that is read away is checked all the same.
    (b"\x30\xfd\xff\x0f\x00\x01#", "PUBLISH", "MQTT-3.3.2-2"),
    (
        b"\x32\xfd\xff\x0f\x00\x01a\x00\x00",
        "PUBLISH",
        "MQTT-2.3.1-1",
    ),
    (b"\x36\xff\xff\xff\x7f", "PUBLISH", "MQTT-3.3.1-4"),
];

const GREETING: &[Row] = &[
    // Anything before CONNACK.
    (b"\x30\x03\x00\x01a", "PUBLISH", "MQTT-3.2.0-1"),
    (b"\x30\xfd\xff\x0f", "PUBLISH", "max-packet-size"),
    (b"\x32\x05\x00\x01a\x00\x01", "PUBLISH", "MQTT-3.2.0-1"),
    (b"\x40\x02\x00\x01", "PUBACK", "MQTT-3.2.0-1"),
    (b"\x50\x02\x00\x01", "PUBREC", "MQTT-3.2.0-1"),
    (b"\x62\x02\x00\x01", "PUBREL", "MQTT-3.2.0-1"),
    (b"\x70\x02\x00\x01", "PUBCOMP", "MQTT-3.2.0-1"),
    (b"\x90\x03\x00\x01\x00", "SUBACK", "MQTT-3.2.0-1"),
    (b"\xb0\x02\x00\x01", "UNSUBACK", "MQTT-3.2.0-1"),
    (b"\xd0\x00", "PINGRESP", "MQTT-3.2.0-1"),
    (b"\xe0\x00", "DISCONNECT", "MQTT 3.1.1, 2.2.1"),
    // CONNACKs that are invalid.
    (b"\x22\x02\x00\x00", "CONNACK", "MQTT-2.2.2-2"),
    (b"\x20\x01\x00", "CONNACK", "MQTT 3.1.1, 3"),
    (b"\x20\x02\x02\x00", "CONNACK", "MQTT 3.1.1, 3.2.2.1"),
    (b"\x20\x02\x81\x00", "CONNACK", "MQTT 3.1.1, 3.2.2.1"),
    (b"\x20\x02\x00\x06", "CONNACK", "MQTT 3.1.1, 3.2.2.3"),
    (b"\x20\x02\x00\xff", "CONNACK", "MQTT 3.1.1, 3.2.2.3"),
    (b"\x20\x02\x01\x02", "CONNACK", "MQTT-3.2.2-4"),
    (b"\x20\xff\xff\xff\x7f", "CONNACK", "max-packet-size"),
];

const CLEAN_GREETING: &[Row] = &[(b"\x20\x02\x01\x00", "CONNACK", "MQTT-3.2.2-1")];

const SUBSCRIBING: &[Row] = &[
    // Codes that are reserved.
    (b"\x90\x04ID\x00\x03", "SUBACK", "MQTT-3.9.3-2"),
    (b"\x90\x04ID\x7f\x00", "SUBACK", "MQTT-3.9.3-2"),
    (b"\x90\x04ID\x00\x81", "SUBACK", "MQTT-3.9.3-2"),
    // Fewer and more codes than filters.
    (b"\x90\x02ID", "SUBACK", "MQTT-3.9.3-1"),
    (b"\x90\x03ID\x00", "SUBACK", "MQTT-3.9.3-1"),
    (b"\x90\x05ID\x00\x00\x00", "SUBACK", "MQTT-3.9.3-1"),
];

/// The beginning of the bytes as the error shows it.
fn shown(bytes: &[u8]) -> String {
    let bytes = bytes.iter().take(16).map(|byte| format!(" {byte:02x}"));
    format!("beginning{}", bytes.collect::<String>())
}

/// Tries one row: a publish is in flight and two are queued behind a full window when the bytes come.
fn go_through(when: When, &(bytes, packet, rule): &Row) {
    let what = format!("{when:?}, {bytes:02x?}");
    let mut broker = ScriptedBroker::bind();
    let from = LINES.count();
    let mut options = options(&broker);
    options.clean_session = when == When::CleanGreeting;
    options.max_inflight = if when == When::Subscribing { 2 } else { 1 };
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let subscribed = (when == When::Subscribing).then(|| {
        let filters = ["a", "b"].map(|name| Filter::new(name, QoS::AtLeastOnce));
        running
            .handle()
            .subscribe(&inbox, filters.to_vec())
            .unwrap()
    });
    let tickets = ["1", "2", "3"].map(|payload| running.publish("t", payload));
    let mut bad = bytes.to_vec();
    if when == When::Subscribing {
        let id = link.expect_subscribe().pkid;
        bad[2..4].copy_from_slice(&id.to_be_bytes());
    }
    assert_eq!(&link.expect_publish().payload[..], b"1", "{what}");
    if matches!(when, When::Greeting | When::CleanGreeting) {
        link.close();
        link = broker.accept();
        link.expect_connect();
    }
    link.send(&bad);
    link.expect_closed();
    link.close();

    // On the next connection nothing is lost, and the order is kept.
    let resumes = when != When::CleanGreeting;
    let (mut link, _) = broker.accept_client(resumes);
    let mut sent = Vec::new();
    while sent.len() < tickets.len() {
        match link.read_packet() {
            v4::Packet::Publish(publish) => {
                assert_eq!(publish.dup, resumes && sent.is_empty(), "{what}");
                link.send_puback(publish.pkid);
                sent.push(publish.payload);
            }
            v4::Packet::Subscribe(subscribe) => link.grant(&subscribe),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(sent, ["1", "2", "3"], "{what}");
    let [first, second, third] = tickets.map(|ticket| attempts(told(ticket)));
    assert_eq!((first, second, third), (2, 1, 1), "{what}");
    if let Some(ticket) = subscribed {
        assert!(told(ticket).is_delivered(), "{what}");
        send_at_once(&mut link, [message("b", 9, "arrives")]);
        assert_eq!(next(&inbox), "arrives", "{what}");
        link.expect_puback();
    }
    let port = format!("127.0.0.1:{}:", broker.port());
    let (left, stats) = running.terminate(link);
    assert_eq!((left, stats.reconnects), (0, 1), "{what}");

    // There is one line for the violation, with everything in it, and a delay before the next attempt.
    let lines = LINES.with(from, &port, "broke the protocol");
    assert_eq!(lines.len(), 1, "{what}: {lines:?}");
    let line = &lines[0];
    for part in [
        &format!("broke the protocol: {packet}: "),
        &format!(" [{rule}], {}", shown(&bad)),
        "; trying again in ",
    ] {
        assert!(line.contains(part), "{what}: no {part:?} in: {line}");
    }
    let losses = LINES.with(from, &port, "; trying again in ");
    let expected = if when == When::Up || when == When::Subscribing {
        1
    } else {
        2
    };
    assert_eq!(losses.len(), expected, "{what}: {losses:?}");
}

#[test]
fn a_packet_that_must_not_come_on_a_connection_that_is_up() {
    LINES.start();
    UP.iter().for_each(|row| go_through(When::Up, row));
}

#[test]
fn a_packet_that_must_not_come_in_answer_to_connect() {
    LINES.start();
    GREETING
        .iter()
        .for_each(|row| go_through(When::Greeting, row));
    let clean = |row| go_through(When::CleanGreeting, row);
    CLEAN_GREETING.iter().for_each(clean);
}

#[test]
fn an_answer_to_subscribe_that_must_not_come() {
    LINES.start();
    SUBSCRIBING
        .iter()
        .for_each(|row| go_through(When::Subscribing, row));
}

/// Nothing is wrong with such a topic, but a line of the log must not become as long.
#[test]
fn a_long_topic_that_nobody_wants_makes_no_long_line() {
    LINES.start();
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let from = LINES.count();
    let topic = format!("nobody wants this{}", "\u{1}".repeat(60_000));
    send_at_once(&mut link, [message(&topic, 1, "x")]);
    link.expect_puback();
    running.terminate(link);
    let lines = LINES.with(from, "nobody wants this", "matches no subscription");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].len() < 1000, "{} bytes", lines[0].len());
}

/// The delay is real, not only logged: no attempt comes before it is over.
#[test]
fn a_broker_that_breaks_the_protocol_waits_for_the_next_attempt() {
    const ROUNDS: usize = 8;
    LINES.start();
    let mut broker = ScriptedBroker::bind();
    let from = LINES.count();
    let mut options = options(&broker);
    options.retry.base = Duration::from_millis(50);
    options.retry.max = Duration::from_millis(100);
    let running = Running::start(options);
    let port = format!("127.0.0.1:{}:", broker.port());
    let mut delays = Vec::new();
    let (mut link, _) = broker.accept_client(false);
    for round in 0..ROUNDS {
        let before = Instant::now();
        link.send(b"\x40\x02\x00\x00");
        link.expect_closed();
        link = broker.accept();
        let waited = before.elapsed();
        link.expect_connect();
        link.send_connack(v4::ConnectReturnCode::Success, true);
        let lines = LINES.with(from, &port, "; trying again in ");
        assert_eq!(lines.len(), round + 1, "{lines:?}");
        let (_, told) = lines[round].split_once("; trying again in ").unwrap();
        let told = told.strip_suffix(" ms").unwrap().parse().unwrap();
        assert!(waited >= Duration::from_millis(told), "{waited:?}, {told}");
        delays.push(told);
    }
    // The delays are random below the ceiling, and not all zero.
    assert!(delays.iter().all(|delay| *delay <= 100), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay > 0), "{delays:?}");
    running.terminate(link);
}
