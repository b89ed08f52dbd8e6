//! Keep alive: the client never lets more than its interval pass between two packets.
//!
//! The session's own tests check in simulated time when exactly PINGREQ leaves. These tests check it on
//! the wire, with short intervals.

use std::time::{Duration, Instant};

use mqtt_connection_sharing::QoS;

use crate::harness::{ACCEPTED, Submit, ack, terminate};
use crate::support::ScriptedBroker;
use crate::support::running::{Running, options, told};
use crate::support::wire::Bytes;

const PINGREQ: &[u8] = b"\xc0\x00";

#[test]
fn mqtt_3_1_2_23_an_idle_client_sends_pingreq_and_goes_on_doing_so() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    // The answer may take half of this time, which must be enough on a busy machine, too.
    options.keep_alive = Duration::from_secs(3);
    let running = Running::start(options);
    let mut link = broker.accept();
    link.expect_bytes(b"\x10\x10\x00\x04MQTT\x04\x00\x00\x03\x00\x04loop");
    let connected = Instant::now();
    link.send(ACCEPTED);
    link.expect_bytes(PINGREQ);
    expect_in_time(connected);
    link.send(b"\xd0\x00");
    // A message comes between, and PINGREQ follows it all the same.
    let ticket = running.send(QoS::AtLeastOnce, "a", "x");
    link.expect_bytes(b"\x32\x06\x00\x01a\x00\x01x");
    let published = Instant::now();
    link.send(&ack(0x40, 1));
    assert!(told(ticket).is_delivered());
    link.expect_bytes(PINGREQ);
    expect_in_time(published);
    link.send(b"\xd0\x00");
    terminate(running, link);
}

/// Checks that PINGREQ came in time with a keep alive of 3 s: before a broker would close the
/// connection, which is after 1.5 times as much [MQTT-3.1.2-24]. A busy machine may need that long.
#[track_caller]
fn expect_in_time(last: Instant) {
    let silence = last.elapsed();
    assert!(silence < Duration::from_millis(4500), "{silence:?}");
}

/// Receiving does not count: the broker waits for packets of the client.
#[test]
fn mqtt_3_1_2_23_a_client_that_only_receives_sends_pingreq() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.keep_alive = Duration::from_secs(1);
    let running = Running::start(options);
    let mut link = broker.accept();
    link.read_bytes();
    link.send(ACCEPTED);
    let hang = Instant::now() + crate::support::HANG;
    let ping = loop {
        assert!(Instant::now() < hang, "no PINGREQ");
        link.send(b"\x30\x03\x00\x01a");
        match link.read_bytes_within(Duration::from_millis(50)) {
            Bytes::Packet(packet) => break packet,
            other => assert_eq!(other, Bytes::Silence),
        }
    };
    assert_eq!(ping, PINGREQ);
    link.send(b"\xd0\x00");
    terminate(running, link);
}
