//! QoS 2 messages of ours: four packets, their codes and their order.

use std::time::{Duration, Instant};

use mqtt_connection_sharing::{MessageProperties, Outcome, Publish, QoS, Reason, ReasonCode};

use crate::harness::{Submit, ack, leave, recorded};
use crate::support::running::{Running, attempts, expect_delivered, told};
use crate::support::scripted5::{ACCEPTED5, RESUMED5, ack5};
use crate::support::{ScriptedBroker, wait_until};

/// PUBREL follows each PUBREC below 0x80, with its identifier [MQTT-4.3.3-4] and flags 0010 [MQTT-3.6.1-1 send]. It is
/// unacknowledged until PUBCOMP [MQTT-4.3.3-5], and the identifier is in use so long [MQTT-4.3.3-1].
#[test]
fn a_qos_2_message_goes_publish_pubrec_pubrel_pubcomp() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    // PUBREC with the code left out, written out, and "no matching subscribers", with an empty length of properties.
    let forms: [&[u8]; 4] = [
        b"\x50\x02\x00",
        b"\x50\x03\x00",
        b"\x50\x03\x00",
        b"\x50\x04\x00",
    ];
    let rests: [&[u8]; 4] = [b"", b"\x00", b"\x10", b"\x10\x00"];
    for (id, (form, rest)) in (1_u8..).zip(forms.into_iter().zip(rests)) {
        let ticket = running.send(QoS::ExactlyOnce, "a", "x");
        link.expect_bytes([b"\x34\x07\x00\x01a\x00", &[id][..], b"\x00x"].concat());
        // PUBCOMP is not its answer, and PUBREL does not come before PUBREC.
        link.send(&ack(0x70, id.into()));
        running.take_a_turn();
        assert_eq!(ticket.outcome(), None);
        link.send(&[form, &[id], rest].concat());
        link.expect_bytes([0x62, 2, 0, id]);
        running.take_a_turn();
        assert_eq!(ticket.outcome(), None);
        link.send(&ack(0x70, id.into()));
        assert_eq!(attempts(told(ticket)), 1);
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Behind PUBREL no PUBLISH comes again [MQTT-4.3.3-6]: on each link PUBREL comes, until PUBCOMP [MQTT-4.3.3-5].
#[test]
fn behind_pubrel_the_message_is_never_sent_again() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x07\x00\x01a\x00\x01\x00x");
    link = running.resume5(&mut broker, link);
    link.expect_bytes(b"\x3c\x07\x00\x01a\x00\x01\x00x");
    link.send(&ack(0x50, 1));
    link.expect_bytes(b"\x62\x02\x00\x01");
    for _ in 0..3 {
        leave(&running, link);
        (link, _) = running.greet5(&mut broker, RESUMED5);
        link.expect_bytes(b"\x62\x02\x00\x01");
        running.take_a_turn();
    }
    link.close();
    // Nor is it sent to a broker that has forgotten it: that could be a second delivery.
    let (link, _) = running.greet5(&mut broker, ACCEPTED5);
    let unknown = Outcome::PerhapsDelivered(Reason::SessionLost);
    assert_eq!(told(ticket), unknown);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    let publishes = recorded(&broker).concat();
    let publishes = publishes.iter().filter(|packet| packet[0] >> 4 == 3);
    assert_eq!(publishes.count(), 2);
}

/// PUBACK and PUBREC of 0x80 and above end the message. No PUBREL follows [MQTT-4.3.3-4], it is not sent again on the next
/// link [MQTT-4.4.0-2], and its identifier is free.
#[test]
fn a_refused_message_is_neither_released_nor_sent_again() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let mut id = 0_u8;
    for code in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        for (first, answer, qos) in [
            (0x32, 0x40, QoS::AtLeastOnce),
            (0x34, 0x50, QoS::ExactlyOnce),
        ] {
            id += 1;
            let ticket = running.send(qos, "a", "x");
            let publish = [&[first], &b"\x07\x00\x01a\x00"[..], &[id], b"\x00x"].concat();
            link.expect_bytes(&publish);
            link.send(&ack5(answer, id.into(), code));
            let outcome = told(ticket);
            assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
            let said = outcome.answer().map(|answer| answer.code);
            assert_eq!(said, Some(ReasonCode::new(code)));
        }
        // Refused for a second time on the next links, where they were sent again.
        link = running.resume5(&mut broker, link);
        let tickets = [QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| running.send(qos, "a", "x"));
        id += 2;
        for (first, id) in [(0x32, id - 1), (0x34, id)] {
            let publish = [&[first], &b"\x07\x00\x01a\x00"[..], &[id], b"\x00x"].concat();
            link.expect_bytes(&publish);
        }
        leave(&running, link);
        (link, _) = running.greet5(&mut broker, RESUMED5);
        for (first, id) in [(0x3a, id - 1), (0x3c, id)] {
            let publish = [&[first], &b"\x07\x00\x01a\x00"[..], &[id], b"\x00x"].concat();
            link.expect_bytes(&publish);
        }
        link.send(
            &[
                ack5(0x40, u16::from(id) - 1, code),
                ack5(0x50, id.into(), code),
            ]
            .concat(),
        );
        for ticket in tickets {
            assert!(matches!(told(ticket), Outcome::Refused { .. }));
        }
        link = running.resume5(&mut broker, link);
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    let all = recorded(&broker).concat();
    assert!(all.iter().all(|packet| packet[0] != 0x62), "a PUBREL");
}

/// PUBREL and PUBCOMP say 0x92 for an identifier that is unknown [MQTT-3.6.2-1] [MQTT-3.7.2-1], and nothing otherwise.
#[test]
fn an_unknown_identifier_is_answered_with_its_code() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    for id in [1, 300, 65_535] {
        link.send(&ack(0x50, id));
        link.expect_bytes(ack5(0x62, id, 0x92));
        link.send(&ack(0x62, id));
        link.expect_bytes(ack5(0x70, id, 0x92));
    }
    // The broker ends a release that it does not know: that ends the message, too.
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x07\x00\x01a\x00\x01\x00x");
    link.send(&ack(0x50, 1));
    link.expect_bytes(b"\x62\x02\x00\x01");
    link.send(&ack5(0x70, 1, 0x92));
    assert!(told(ticket).answer().is_some());
    link = running.resume5(&mut broker, link);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// [MQTT-4.6.0-4], also if the broker answers in another order than the one in which the messages were sent.
#[test]
fn pubrels_leave_in_the_order_of_the_pubrecs() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let tickets: Vec<_> = (1..=4_u8)
        .map(|id| {
            let ticket = running.send(QoS::ExactlyOnce, "a", "x");
            link.expect_bytes([b"\x34\x07\x00\x01a\x00", &[id][..], b"\x00x"].concat());
            ticket
        })
        .collect();
    let order = [3, 1, 4, 2];
    link.send(&order.map(|id| ack5(0x50, id, 0x10)).concat());
    for id in order {
        link.expect_bytes(ack(0x62, id));
    }
    // They are sent again in that order.
    leave(&running, link);
    (link, _) = running.greet5(&mut broker, RESUMED5);
    for id in order {
        link.expect_bytes(ack(0x62, id));
    }
    link.send(&order.map(|id| ack(0x70, id)).concat());
    expect_delivered(tickets);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// A message that has expired behind its first PUBLISH goes on: PUBLISH again, PUBREL, PUBCOMP [MQTT-4.3.3-7].
#[test]
fn a_message_that_was_sent_goes_on_after_its_expiry() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let expiring = |payload: &'static str| {
        let properties = MessageProperties {
            expiry: Some(1),
            ..MessageProperties::default()
        };
        let publish = Publish::new("a", QoS::ExactlyOnce, payload).with_properties(properties);
        running.handle().publish(publish).unwrap()
    };
    let sent = expiring("x");
    link.expect_bytes(b"\x34\x0c\x00\x01a\x00\x01\x05\x02\x00\x00\x00\x01x");
    let offline = running.handle().disconnect();
    assert_eq!(link.read_to_end(), [b"\xe0\x00"]);
    link.close();
    assert!(told(offline).is_delivered());
    // One that was not sent waits for the next connection. Its expiry shows that the time of both is over.
    let unsent = expiring("y");
    let published = Instant::now();
    wait_until("a second to pass", || {
        published.elapsed() > Duration::from_secs(1)
    });
    drop(running.handle().reconnect());
    let (mut link, _) = running.greet5(&mut broker, RESUMED5);
    link.expect_bytes(b"\x3c\x0c\x00\x01a\x00\x01\x05\x02\x00\x00\x00\x01x");
    link.send(&ack(0x50, 1));
    link.expect_bytes(b"\x62\x02\x00\x01");
    link.send(&ack(0x70, 1));
    assert!(told(sent).is_delivered());
    assert_eq!(told(unsent), Outcome::NeverSent(Reason::Expired));
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
