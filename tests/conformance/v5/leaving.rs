//! DISCONNECT that we send: its code, and the end of the link behind it.

use std::io::Write;

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::options::OnTooLarge;

use crate::harness::{Submit, recorded};
use crate::support::running::{Running, expect_delivered, told};
use crate::support::scripted5::{RESUMED5, connack5, message5, options5};
use crate::support::{ScriptedBroker, wait_until};

/// DISCONNECT of a normal end has flags 0 [MQTT-3.14.1-1 send] and neither code nor properties. Nothing follows it
/// [MQTT-3.14.4-1], and we close the link [MQTT-3.14.4-2], also if the broker keeps it open.
#[test]
fn the_link_ends_with_disconnect() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    for _ in 0..2 {
        let under_way = running.send(QoS::AtLeastOnce, "a", "x");
        link.read_bytes();
        let offline = running.handle().disconnect();
        let waits = [0, 1, 2].map(|qos| running.send(QoS::try_from(qos).unwrap(), "a", "y"));
        // Requests that arrive behind DISCONNECT are answered by nothing.
        link.send(&message5(0x32, "a", 1, b"", b"x"));
        let rest = link.read_to_end();
        assert_eq!(rest.last().unwrap(), b"\xe0\x00");
        assert!(told(offline).is_delivered());
        wait_until("the connection to be closed", || {
            link.stream().write_all(b"\xd0\x00").is_err()
        });
        drop(running.handle().reconnect());
        (link, _) = running.greet5(&mut broker, RESUMED5);
        // The message that was sent before DISCONNECT comes again, and the rest for the first time.
        let mut acknowledged = 0;
        while acknowledged < 3 {
            let packet = link.read_bytes();
            acknowledged += match packet[0] & 0xf6 {
                0x30 => 0,
                0x32 => {
                    link.send(&[0x40, 2, packet[5], packet[6]]);
                    1
                }
                0x34 => {
                    link.send(&[0x50, 2, packet[5], packet[6]]);
                    link.expect_bytes([0x62, 2, packet[5], packet[6]]);
                    link.send(&[0x70, 2, packet[5], packet[6]]);
                    1
                }
                _ => panic!("{packet:02x?}"),
            };
        }
        assert!(told(under_way).is_delivered());
        expect_delivered(waits);
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// DISCONNECT says what was wrong, with a code of its list [MQTT-3.14.2-1], flags 0 [MQTT-3.14.1-1 send] and no properties
/// [MQTT-3.14.2-3] [MQTT-3.14.2-4]. Nothing follows it [MQTT-3.14.4-1] but the end of the link [MQTT-3.14.4-2]: neither a
/// command that waits, nor the answer to a good packet behind the bad one.
#[test]
fn the_link_ends_with_the_code_of_what_was_wrong() {
    let too_large = message5(0x30, "a", 0, b"", &vec![0; 300_000]);
    let rows: [(u8, &[u8]); 6] = [
        // PUBACK with wrong flags; a second CONNACK; AUTH; an alias above ours; an alias that stands for nothing.
        (0x81, b"\x41\x02\x00\x01"),
        (0x82, b"\x20\x03\x00\x00\x00"),
        (0x82, b"\xf0\x00"),
        (0x94, b"\x30\x07\x00\x01a\x03\x23\x00\x09"),
        (0x82, b"\x30\x06\x00\x00\x03\x23\x00\x01"),
        // A packet above our maximum. (0x93 takes messages of 80 MiB: `received.rs` has it.)
        (0x95, &too_large),
    ];
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.on_too_large = OnTooLarge::Close;
    let running = Running::start(options);
    let mut links = 0;
    for (code, bad) in rows {
        let connack = connack5(links > 0, b"\x21\x00\x01");
        let (mut link, _) = running.greet5(&mut broker, &connack);
        links += 1;
        let under_way = running.send(QoS::AtLeastOnce, "a", "1");
        let publish = link.read_bytes();
        let waits = running.send(QoS::AtLeastOnce, "a", "2");
        // In one go, so that the answer to the first message would let the second one go.
        let puback = [0x40, 2, publish[5], publish[6]];
        let behind = message5(0x32, "a", 9, b"", b"behind");
        let sent = link.stream().write_all(&[bad, &puback, &behind].concat());
        let rest = link.read_to_end();
        let (last, before) = rest.split_last().unwrap();
        assert_eq!(last, &[0xe0, 1, code], "{bad:02x?} {sent:?}");
        assert!(before.is_empty(), "{rest:02x?}");
        // On the next link both go on.
        link.close();
        let (mut link, _) = running.greet5(&mut broker, RESUMED5);
        links += 1;
        let again = link.read_bytes();
        assert_eq!((again[0], &again[1..]), (0x3a, &publish[1..]));
        link.send(&[0x40, 2, again[5], again[6]]);
        let next = link.read_bytes();
        assert_eq!(next[0], 0x32);
        link.send(&[0x40, 2, next[5], next[6]]);
        assert!(told(under_way).is_delivered() && told(waits).is_delivered());
        link.close();
    }
    let (link, _) = running.greet5(&mut broker, RESUMED5);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    for packets in recorded(&broker) {
        let ends = packets.iter().filter(|packet| packet[0] >> 4 == 0xe);
        assert!(ends.count() <= 1);
    }
}
