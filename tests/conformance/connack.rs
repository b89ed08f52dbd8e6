//! CONNACK: it must come first, and only some of its forms are allowed.

use mqtt_connection_sharing::WhenFull;
use mqtt_connection_sharing::options::Options;

use crate::harness::{
    ACCEPTED, CLEAN_CONNECT, CONNECT, RESUMED, ack, greet, message, online, terminate,
};
use crate::support::ScriptedBroker;
use crate::support::running::{attempts, next, options, told};
use crate::violations::{bad, expect_each_closes, expect_each_closes_instead_of_connack};

/// Options for a check that sets the port itself.
fn any_options() -> Options {
    options(&ScriptedBroker::bind())
}

#[test]
fn mqtt_3_2_0_1_anything_but_connack_in_answer_to_connect_is_a_violation() {
    const RULE: &str = "MQTT-3.2.0-1";
    let rows = [
        bad(message(0x30, "in", 0, b"x"), "PUBLISH", RULE),
        bad(message(0x32, "in", 1, b"x"), "PUBLISH", RULE),
        bad(message(0x34, "in", 1, b"x"), "PUBLISH", RULE),
        bad(ack(0x40, 1), "PUBACK", RULE),
        bad(ack(0x50, 1), "PUBREC", RULE),
        bad(ack(0x62, 1), "PUBREL", RULE),
        bad(ack(0x70, 1), "PUBCOMP", RULE),
        bad(b"\x90\x03\x00\x01\x01", "SUBACK", RULE),
        bad(ack(0xb0, 1), "UNSUBACK", RULE),
        bad(b"\xd0\x00", "PINGRESP", RULE),
        // Bytes that are no packet of a broker at all.
        bad(b"SSH-2.0-server\r\n", "PUBREC", "MQTT-2.2.2-2"),
    ];
    expect_each_closes_instead_of_connack(&rows, CONNECT, any_options());
}

#[test]
fn mqtt_3_2_0_1_a_connack_behind_another_packet_is_too_late() {
    let mut broker = ScriptedBroker::bind();
    let running = crate::support::running::Running::start(options(&broker));
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let mut link = broker.accept();
    link.expect_bytes(CONNECT);
    link.send(&[&message(0x32, "in", 1, b"early")[..], ACCEPTED].concat());
    assert!(link.read_to_end().is_empty(), "nothing is acknowledged");
    let link = greet(&mut broker, ACCEPTED);
    running.take_a_turn();
    assert!(inbox.try_recv().is_err());
    assert!(running.handle().unmatched().is_empty());
    terminate(running, link);
}

#[test]
fn mqtt_3_2_0_1_a_second_connack_closes_the_connection() {
    const RULE: &str = "MQTT-3.2.0-1";
    let rows = [
        bad(ACCEPTED, "CONNACK", RULE),
        bad(RESUMED, "CONNACK", RULE),
        bad(b"\x20\x02\x00\x05", "CONNACK", RULE),
    ];
    expect_each_closes(&rows);
}

#[test]
fn mqtt_3_2_2_4_session_present_with_a_refusal_is_a_violation() {
    // By itself, a refusal with most of these codes would end the attempts.
    let rows = [1, 2, 3, 4, 5].map(|code| bad([0x20, 2, 1, code], "CONNACK", "MQTT-3.2.2-4"));
    expect_each_closes_instead_of_connack(&rows, CONNECT, any_options());
    let mut clean = any_options();
    clean.clean_session = true;
    expect_each_closes_instead_of_connack(&rows, CLEAN_CONNECT, clean);
    expect_each_closes(&rows);
}

#[test]
fn mqtt_3_2_2_1_session_present_after_clean_session_1_is_a_violation() {
    let rows = [RESUMED, RESUMED].map(|bytes| bad(bytes, "CONNACK", "MQTT-3.2.2-1"));
    let mut clean = any_options();
    clean.clean_session = true;
    expect_each_closes_instead_of_connack(&rows, CLEAN_CONNECT, clean);
}

#[test]
fn mqtt_3_2_2_1_it_is_one_on_every_connection_and_nothing_is_lost() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.clean_session = true;
    let running = crate::support::running::Running::start(options);
    let mut link = broker.accept();
    link.expect_bytes(CLEAN_CONNECT);
    link.send(ACCEPTED);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let ticket = running.publish("a", "x");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x02x");
    link.close();
    let mut link = broker.accept();
    link.expect_bytes(CLEAN_CONNECT);
    // The acknowledgment in one piece with CONNACK is not taken for a part of the session.
    link.send(&[RESUMED, &ack(0x40, 2)].concat());
    assert!(link.read_to_end().is_empty());
    let mut link = broker.accept();
    link.expect_bytes(CLEAN_CONNECT);
    link.send(ACCEPTED);
    let renewal = link.read_bytes();
    assert_eq!((renewal[0], &renewal[4..]), (0x82, &b"\x00\x02in\x01"[..]));
    link.send(&[b"\x90\x03", &renewal[2..4], b"\x01"].concat());
    let again = link.read_bytes();
    assert_eq!(
        (&again[..5], &again[7..]),
        (&b"\x32\x06\x00\x01a"[..], &b"x"[..])
    );
    link.send(&[b"\x40\x02", &again[5..7]].concat());
    assert_eq!(attempts(told(ticket)), 2);
    link.send(&message(0x32, "in", 1, b"here"));
    link.expect_bytes(b"\x40\x02\x00\x01");
    assert_eq!(next(&inbox), "here");
    terminate(running, link);
}

/// The same bytes are right if the session was not cleared.
#[test]
fn mqtt_3_2_2_1_session_present_without_clean_session_is_none() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = online(&mut broker);
    link.close();
    let link = greet(&mut broker, RESUMED);
    running.take_a_turn();
    terminate(running, link);
    assert_eq!(broker.received().len(), 2);
}
