//! Checks of violations for the tables of the other modules, and the end of a link that breaks the protocol: DISCONNECT
//! with the code, nothing behind it, and no bytes taken after the violation. The log names the packet, the rule and the
//! packet's first bytes.

use mqtt_connection_sharing::{Inbox, QoS, WhenFull};

use crate::harness::{Log, Submit, ack, identifier, with_dup};
use crate::support::running::{Running, attempts, next, told};
use crate::support::scripted5::{
    ACCEPTED5, FIRST_CONNECT, NEXT_CONNECT, RESUMED5, answers5, message5, options5,
};
use crate::support::wire::hex;
use crate::support::{Connection, ScriptedBroker};

/// Bytes that a server must not send, the packet and the rule that the log names, and the code of DISCONNECT.
pub struct Bad {
    pub bytes: Vec<u8>,
    pub packet: &'static str,
    pub rule: &'static str,
    pub code: u8,
}

/// A packet that cannot be read: 0x81.
pub fn malformed(bytes: impl AsRef<[u8]>, packet: &'static str, rule: &'static str) -> Bad {
    bad(bytes, packet, rule, 0x81)
}

/// A packet that can be read, and must not come so: 0x82.
pub fn forbidden(bytes: impl AsRef<[u8]>, packet: &'static str, rule: &'static str) -> Bad {
    bad(bytes, packet, rule, 0x82)
}

pub fn bad(bytes: impl AsRef<[u8]>, packet: &'static str, rule: &'static str, code: u8) -> Bad {
    let bytes = bytes.as_ref().to_vec();
    Bad {
        bytes,
        packet,
        rule,
        code,
    }
}

/// Checks that each row ends a link that is up, with DISCONNECT and the code of the row. Meanwhile a PUBLISH of the
/// client is in flight, and a PUBLISH of the broker comes in one piece with the violation: neither is lost.
#[track_caller]
pub fn expect_each_ends_the_link(rows: &[Bad]) {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    for (index, row) in rows.iter().enumerate() {
        let what = described(row);
        let payload = index.to_string();
        let accepted = running.publish("out", &payload);
        let sent = link.read_bytes();
        let good = message5(0x32, "in", 1, b"", payload.as_bytes());
        link.send(&[&good[..], &row.bytes].concat());
        let rest: Vec<_> = link
            .read_to_end()
            .iter()
            .map(|packet| hex(packet))
            .collect();
        let expected = ["40 02 00 01".to_owned(), format!("e0 01 {:02x}", row.code)];
        assert_eq!(rest, expected, "{what}");
        link.close();
        assert_eq!(next(&inbox), payload, "{what}");
        let connect;
        (link, connect) = running.greet5(&mut broker, RESUMED5);
        assert_eq!(connect, NEXT_CONNECT, "{what}");
        let failures = log.failures();
        assert_eq!(failures.len(), index + 1, "{what}: {failures:#?}");
        expect_told(&failures[index], row);
        link.expect_bytes(with_dup(sent.clone()));
        link.send(&ack(0x40, identifier(&sent)));
        assert_eq!(attempts(told(accepted)), 2, "{what}");
    }
    assert!(!rows.is_empty());
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Checks that each row ends a link that waits for CONNACK, with DISCONNECT and the code of the row, but without a word
/// where the broker has said DISCONNECT. A waiting message is not lost.
#[track_caller]
pub fn expect_each_ends_the_link_instead_of_connack(rows: &[Bad]) {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let running = Running::start(options5(&broker));
    let waits = running.send(QoS::AtLeastOnce, "out", "waits");
    for (index, row) in rows.iter().enumerate() {
        let mut link = broker.accept();
        // There is no session as long as no CONNACK accepts.
        link.expect_bytes(FIRST_CONNECT);
        if index > 0 {
            expect_told(&log.failures()[index - 1], &rows[index - 1]);
        }
        link.send(&row.bytes);
        let rest = link.read_to_end();
        let last: &[u8] = match row.rule {
            "MQTT-3.14.0-1" => &[],
            _ => &[0xe0, 1, row.code],
        };
        assert_eq!(rest.concat(), last, "{}", described(row));
        link.close();
    }
    let (mut link, connect) = running.greet5(&mut broker, ACCEPTED5);
    assert_eq!(connect, FIRST_CONNECT);
    let failures = log.failures();
    assert_eq!(failures.len(), rows.len(), "{failures:#?}");
    expect_told(&failures[rows.len() - 1], &rows[rows.len() - 1]);
    for failure in &failures {
        assert!(failure.contains(", in answer to CONNECT; "), "{failure}");
    }
    link.expect_bytes(b"\x32\x0d\x00\x03out\x00\x01\x00waits");
    link.send(&ack(0x40, 1));
    assert_eq!(attempts(told(waits)), 1);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

fn described(row: &Bad) -> String {
    format!("{} [{}] {}", row.packet, row.rule, hex(&row.bytes))
}

/// Checks that the line names the packet, the rule in brackets and the beginning of the bytes, and says that another
/// attempt follows after a delay.
#[track_caller]
pub fn expect_told(line: &str, row: &Bad) {
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

/// An inbox that is subscribed to this filter with QoS 2.
#[track_caller]
pub fn subscribed(running: &Running, link: &mut Connection, filter: &str) -> Inbox {
    let inbox = running.handle().inbox(100, WhenFull::WaitAside);
    subscribe(running, link, &inbox, filter);
    inbox
}

/// Subscribes with QoS 2; the broker grants it.
#[track_caller]
pub fn subscribe(running: &Running, link: &mut Connection, inbox: &Inbox, filter: &str) {
    let filters = vec![mqtt_connection_sharing::Filter::new(
        filter,
        QoS::ExactlyOnce,
    )];
    let ticket = running.handle().subscribe(inbox, filters).expect("room");
    let asked = link.read_bytes();
    assert_eq!(asked[0], 0x82, "{asked:02x?}");
    link.send(&answers5(0x90, identifier(&asked), &[2]));
    assert!(told(ticket).is_delivered());
}
