//! Checks of violations for the tables of the other modules. Bytes that a broker must not send close the
//! connection. The log names the packet, the rule and the beginning of the bytes. Nothing is lost but
//! the connection. The tests of [MQTT-4.8.0-1] are here, with the violations that no other statement
//! covers.

use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Inbox, WhenFull};

use crate::harness::{ACCEPTED, CONNECT, Log, RESUMED, Submit, ack, greet, identifier};
use crate::harness::{message, online_with, terminate, with_dup};
use crate::support::running::{Running, attempts, next, options, told};
use crate::support::wire::hex;
use crate::support::{Connection, Program, ScriptedBroker};
use mqtt_connection_sharing::QoS;

/// Bytes that a broker must not send, and the packet and rule that the error must name.
pub struct Bad {
    pub bytes: Vec<u8>,
    pub packet: &'static str,
    pub rule: &'static str,
}

pub fn bad(bytes: impl AsRef<[u8]>, packet: &'static str, rule: &'static str) -> Bad {
    let bytes = bytes.as_ref().to_vec();
    Bad {
        bytes,
        packet,
        rule,
    }
}

/// Checks that each row closes a connection that is up. Meanwhile a PUBLISH of the client is in flight,
/// and a PUBLISH of the broker comes in one piece with the violation: neither is lost.
#[track_caller]
pub fn expect_each_closes(rows: &[Bad]) {
    expect_each_closes_with(rows, |options| options);
}

/// As [`expect_each_closes`], with options that must not change CONNECT.
#[track_caller]
pub fn expect_each_closes_with(rows: &[Bad], change: impl FnOnce(Options) -> Options) {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = online_with(change(options(&broker)), &mut broker);
    let inbox = subscribed(&running, &mut link);
    for (index, row) in rows.iter().enumerate() {
        let what = format!("{} [{}] {}", row.packet, row.rule, hex(&row.bytes));
        let payload = index.to_string();
        let accepted = running.publish("out", &payload);
        let sent = link.read_bytes();
        let good = message(0x32, "in", 1, payload.as_bytes());
        link.send(&[&good[..], &row.bytes].concat());
        let rest = link.read_to_end();
        assert!(
            rest.is_empty() || rest == [ack(0x40, 1)],
            "{what}: {rest:02x?}"
        );
        // The message was delivered, and perhaps not acknowledged.
        assert_eq!(next(&inbox), payload, "{what}");
        link = greet(&mut broker, RESUMED);
        let failures = log.failures();
        assert_eq!(failures.len(), index + 1, "{what}: {failures:#?}");
        expect_told(&failures[index], row);
        link.expect_bytes(with_dup(sent.clone()));
        link.send(&ack(0x40, identifier(&sent)));
        assert_eq!(attempts(told(accepted)), 2, "{what}");
    }
    assert!(!rows.is_empty());
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

/// Checks that each row ends a connection that waits for CONNACK. A waiting message is not lost.
#[track_caller]
pub fn expect_each_closes_instead_of_connack(rows: &[Bad], connect: &[u8], options: Options) {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let mut options = options;
    options.port = broker.port();
    let running = Running::start(options);
    let waits = running.send(QoS::AtLeastOnce, "out", "waits");
    for (index, row) in rows.iter().enumerate() {
        let mut link = broker.accept();
        link.expect_bytes(connect);
        link.send(&row.bytes);
        let rest = link.read_to_end();
        assert!(rest.is_empty(), "after {}: {rest:02x?}", hex(&row.bytes));
        link.close();
        if index > 0 {
            let failures = log.failures();
            expect_told(&failures[index - 1], &rows[index - 1]);
        }
    }
    let mut link = broker.accept();
    link.expect_bytes(connect);
    let failures = log.failures();
    assert_eq!(failures.len(), rows.len(), "{failures:#?}");
    expect_told(&failures[rows.len() - 1], &rows[rows.len() - 1]);
    for failure in &failures {
        assert!(failure.contains(", in answer to CONNECT; "), "{failure}");
    }
    link.send(ACCEPTED);
    link.expect_bytes(b"\x32\x0c\x00\x03out\x00\x01waits");
    link.send(&ack(0x40, 1));
    assert_eq!(attempts(told(waits)), 1);
    terminate(running, link);
}

/// Checks that the line names the packet, the rule in brackets and the beginning of the bytes, and says
/// that another attempt follows after a delay.
#[track_caller]
fn expect_told(line: &str, row: &Bad) {
    let shown = &row.bytes[..row.bytes.len().min(16)];
    let packet = format!("the broker broke the protocol: {}: ", row.packet);
    let rule = format!(" [{}], beginning {}", row.rule, hex(shown));
    for part in [&packet, &rule, "; trying again in "] {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
    // The line shows no byte beyond the packet.
    let after = line.split_once(&rule).map_or("", |(_, after)| after);
    assert!(after.starts_with([';', ',']), "{line:?}");
}

/// An inbox that is subscribed to `in`.
#[track_caller]
fn subscribed(running: &Running, link: &mut Connection) -> Inbox {
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(link, &inbox, "in");
    inbox
}

#[test]
fn mqtt_4_8_0_1_whatever_breaks_the_protocol_closes_the_connection() {
    let mut rows = vec![
        // Reserved types, and packets that only a client sends.
        bad(b"\x00\x00", "packet", "MQTT 3.1.1, 2.2.1"),
        bad(b"\xf0\x00", "packet", "MQTT 3.1.1, 2.2.1"),
        bad(
            b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
            "CONNECT",
            "MQTT 3.1.1, 2.2.1",
        ),
        bad(
            b"\x82\x06\x00\x01\x00\x01a\x00",
            "SUBSCRIBE",
            "MQTT 3.1.1, 2.2.1",
        ),
        bad(
            b"\xa2\x05\x00\x01\x00\x01a",
            "UNSUBSCRIBE",
            "MQTT 3.1.1, 2.2.1",
        ),
        bad(b"\xc0\x00", "PINGREQ", "MQTT 3.1.1, 2.2.1"),
        bad(b"\xe0\x00", "DISCONNECT", "MQTT 3.1.1, 2.2.1"),
        // A remaining length of five bytes, and lengths in more bytes than needed.
        bad(b"\x30\xff\xff\xff\xff\x01", "PUBLISH", "MQTT 3.1.1, 2.2.3"),
        bad(b"\x30\x80\x80\x80\x80\x00", "PUBLISH", "MQTT 3.1.1, 2.2.3"),
        bad(b"\xd0\x80\x00", "PINGRESP", "MQTT 3.1.1, 2.2.3"),
        bad(b"\x40\x82\x80\x00\x00\x01", "PUBACK", "MQTT 3.1.1, 2.2.3"),
        // Parts that do not fit into the packet.
        bad(b"\x30\x00", "PUBLISH", "MQTT-4.8.0-1"),
        bad(b"\x30\x01\x00", "PUBLISH", "MQTT-4.8.0-1"),
        bad(b"\x30\x03\x00\x09a", "PUBLISH", "MQTT-4.8.0-1"),
        bad(b"\x32\x04\x00\x01a\x00", "PUBLISH", "MQTT-4.8.0-1"),
        bad(b"\x32\x03\x00\x01a", "PUBLISH", "MQTT-4.8.0-1"),
        bad(b"\x90\x00", "SUBACK", "MQTT-3.9.3-1"),
        bad(b"\x90\x01\x00", "SUBACK", "MQTT-3.9.3-1"),
        // Packets larger than the limit, which the fixed header alone shows.
        bad(b"\x90\x81\x80\x10", "SUBACK", "max-packet-size"),
        bad(b"\x90\xff\xff\xff\x7f", "SUBACK", "max-packet-size"),
        // Identifier 0 where one is required, and an empty topic.
        bad(b"\x32\x05\x00\x01a\x00\x00", "PUBLISH", "MQTT-2.3.1-1"),
        bad(b"\x34\x05\x00\x01a\x00\x00", "PUBLISH", "MQTT-2.3.1-1"),
        bad(b"\x90\x03\x00\x00\x00", "SUBACK", "MQTT-2.3.1-1"),
        bad(b"\x30\x02\x00\x00", "PUBLISH", "MQTT-4.7.3-1"),
        // DUP on QoS 0.
        bad(b"\x38\x03\x00\x01a", "PUBLISH", "MQTT-3.3.1-2"),
        // Reserved bits and return codes of CONNACK.
        bad(b"\x20\x02\x02\x00", "CONNACK", "MQTT 3.1.1, 3.2.2.1"),
        bad(b"\x20\x02\x80\x00", "CONNACK", "MQTT 3.1.1, 3.2.2.1"),
        bad(b"\x20\x02\x00\x06", "CONNACK", "MQTT 3.1.1, 3.2.2.3"),
        bad(b"\x20\x02\x00\xff", "CONNACK", "MQTT 3.1.1, 3.2.2.3"),
    ];
    // Packets of fixed length, with less, with more, and with identifier 0.
    let fixed = [
        (0x40, "PUBACK"),
        (0x50, "PUBREC"),
        (0x62, "PUBREL"),
        (0x70, "PUBCOMP"),
        (0xb0, "UNSUBACK"),
    ];
    for (first, packet) in fixed {
        rows.push(bad([first, 0], packet, "MQTT 3.1.1, 3"));
        rows.push(bad([first, 1, 0], packet, "MQTT 3.1.1, 3"));
        rows.push(bad([first, 3, 0, 1, 0], packet, "MQTT 3.1.1, 3"));
        rows.push(bad([first, 2, 0, 0], packet, "MQTT-2.3.1-1"));
    }
    rows.push(bad(b"\x20\x00", "CONNACK", "MQTT 3.1.1, 3"));
    rows.push(bad(b"\x20\x03\x00\x00\x00", "CONNACK", "MQTT 3.1.1, 3"));
    rows.push(bad(b"\xd0\x01\x00", "PINGRESP", "MQTT 3.1.1, 3"));
    expect_each_closes(&rows);
}

#[test]
fn mqtt_4_8_0_1_a_violation_in_single_bytes_is_one_too() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = online_with(options(&broker), &mut broker);
    for byte in b"\x40\x02\x00\x00" {
        link.send(&[*byte]);
        running.take_a_turn();
    }
    assert!(link.read_to_end().is_empty());
    let link = greet(&mut broker, RESUMED);
    let row = bad(b"\x40\x02\x00\x00", "PUBACK", "MQTT-2.3.1-1");
    expect_told(&log.failures()[0], &row);
    terminate(running, link);
}

/// A broker that breaks the protocol on each attempt is given up after the attempts that the options
/// allow, with the violation in the error.
#[test]
fn mqtt_4_8_0_1_a_broker_that_does_nothing_else_is_given_up() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.retry.attempts = 3;
    let running = Running::start(options);
    for _ in 0..4 {
        let mut link = broker.accept();
        link.expect_bytes(CONNECT);
        link.send(&[ACCEPTED, b"\xd1\x00"].concat());
        link.read_to_end();
    }
    let ended = running.join();
    let error = ended.result.expect_err("a loop that gave up").to_string();
    let told = "PINGRESP: flags 0001 where 0000 is required [MQTT-2.2.2-2], beginning d1 00";
    assert!(error.contains(told), "{error}");
    assert_eq!(broker.received().len(), 4);
}

#[test]
fn mqtt_4_8_0_1_the_program_ends_with_the_violation_in_its_error() {
    let broker = ScriptedBroker::bind();
    let endpoint = broker.endpoint();
    let script = broker.in_thread(|mut broker| {
        for _ in 0..2 {
            let mut link = broker.accept();
            assert_eq!(link.read_bytes()[0], 0x10);
            link.send(&[ACCEPTED, b"\x30\x03\x00\x01\xff"].concat());
            link.read_to_end();
        }
    });
    let quick = "--retry-attempts 1 --retry-base 1ms --retry-max 1ms --connect-interval 0 -q";
    let done = Program::new()
        .args(["--endpoint", &endpoint])
        .args(quick.split(' '))
        .run();
    script.join().expect("the script");
    assert_eq!(done.status.code(), Some(3), "{done}");
    let told =
        "PUBLISH: topic \"\u{fffd}\" is not UTF-8 [MQTT-1.5.3-1], beginning 30 03 00 01 ff; ";
    assert!(done.stderr.contains(told), "{done}");
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
}
