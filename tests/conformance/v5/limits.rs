//! The server's limits in CONNACK: what exceeds one is not sent, and its outcome names the limit.

use mqtt_connection_sharing::{BrokerLimit, Filter, MessageProperties, Outcome, Publish, QoS};
use mqtt_connection_sharing::{Reason, Ticket, WhenFull};

use crate::harness::{Submit, ack, leave};
use crate::support::running::{Running, told};
use crate::support::scripted5::{ACCEPTED5, answers5, connack5, options5};
use crate::support::{Connection, ScriptedBroker};

#[track_caller]
fn expect_never_sent(ticket: Ticket, limit: BrokerLimit) {
    assert_eq!(told(ticket), Outcome::NeverSent(Reason::BrokerLimit(limit)));
}

/// Checks that nothing but PINGREQ comes.
#[track_caller]
fn expect_nothing(running: &Running, link: &mut Connection) {
    let ping = running.handle().ping().unwrap();
    link.expect_bytes(b"\xc0\x00");
    link.send(b"\xd0\x00");
    assert!(told(ping).is_delivered());
}

/// [MQTT-3.2.2-11]: with a maximum of 1 or 0 nothing above it goes out, neither what is published on this link, nor what
/// waited for it, nor what was sent on an earlier one.
#[test]
fn no_message_is_sent_above_the_maximum_qos() {
    for maximum in [0, 1_u8] {
        let mut broker = ScriptedBroker::bind();
        let running = Running::start(options5(&broker));
        let queued = [1, 2].map(|qos| running.send(QoS::try_from(qos).unwrap(), "a", "x"));
        let (mut link, _) = running.greet5(&mut broker, &connack5(false, &[0x24, maximum]));
        let later = [0, 1, 2].map(|qos| running.send(QoS::try_from(qos).unwrap(), "a", "y"));
        let (mut sent, mut kept) = (Vec::new(), Vec::new());
        for (qos, ticket) in [1, 2].into_iter().zip(queued).chain((0..).zip(later)) {
            match qos <= maximum {
                true => sent.push(ticket),
                false => kept.push(ticket),
            }
        }
        if maximum == 1 {
            link.expect_bytes(b"\x32\x07\x00\x01a\x00\x01\x00x");
            link.send(&ack(0x40, 1));
        }
        link.expect_bytes(b"\x30\x05\x00\x01a\x00y");
        if maximum == 1 {
            let publish = link.read_bytes();
            assert_eq!(publish[0], 0x32);
            link.send(&[0x40, 2, publish[5], publish[6]]);
        }
        for ticket in kept {
            expect_never_sent(ticket, BrokerLimit::MaximumQos);
        }
        for ticket in sent {
            assert!(told(ticket).is_delivered());
        }
        // SUBSCRIBE may ask for any QoS.
        let inbox = running.handle().inbox(1, WhenFull::WaitAside);
        let filters = vec![Filter::new("in", QoS::ExactlyOnce)];
        let ticket = running.handle().subscribe(&inbox, filters).unwrap();
        let packet = link.read_bytes();
        assert_eq!(packet[4..], *b"\x00\x00\x02in\x02");
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        link.send(&answers5(0x90, id, &[maximum]));
        assert!(told(ticket).is_delivered());
        assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    }
    // Sent on a link without this limit.
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(b"\x34\x07\x00\x01a\x00\x01\x00x");
    leave(&running, link);
    let (mut link, _) = running.greet5(&mut broker, &connack5(true, b"\x24\x01"));
    let limit = Reason::BrokerLimit(BrokerLimit::MaximumQos);
    assert_eq!(told(ticket), Outcome::PerhapsDelivered(limit));
    // The session may hold it: its identifier is free again behind PUBREL and PUBCOMP.
    link.expect_bytes(b"\x62\x02\x00\x01");
    link.send(&ack(0x70, 1));
    expect_nothing(&running, &mut link);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// [MQTT-3.2.2-14]: retained messages are handed back, and others go out.
#[test]
fn no_message_is_sent_with_retain_where_it_is_not_available() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options5(&broker));
    let retained = |level| {
        let publish = Publish::new("a", QoS::try_from(level).unwrap(), "x").with_retain(true);
        running.handle().publish(publish).unwrap()
    };
    let queued = [0, 1, 2].map(retained);
    let (mut link, _) = running.greet5(&mut broker, &connack5(false, b"\x25\x00"));
    let later = [0, 1, 2].map(retained);
    let other = running.send(QoS::AtMostOnce, "a", "y");
    link.expect_bytes(b"\x30\x05\x00\x01a\x00y");
    assert!(told(other).is_delivered());
    for ticket in queued.into_iter().chain(later) {
        expect_never_sent(ticket, BrokerLimit::RetainAvailable);
    }
    // The next link has no such limit.
    link.close();
    let (mut link, _) = running.greet5(&mut broker, ACCEPTED5);
    let ticket = retained(0);
    link.expect_bytes(b"\x31\x05\x00\x01a\x00x");
    assert!(told(ticket).is_delivered());
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// [MQTT-3.2.2-15]: a PUBLISH of exactly the maximum goes out, and one of a byte more does not; with properties and with
/// a topic alias as well, at each length that the fixed header can have.
#[test]
fn no_message_is_sent_above_the_maximum_packet_size() {
    for aliases in [0, 1_u8] {
        for with_properties in [false, true] {
            for maximum in [
                40_usize, 129, 130, 131, 132, 300, 16_386, 16_387, 16_388, 20_000,
            ] {
                let mut broker = ScriptedBroker::bind();
                let mut options = options5(&broker);
                options.version5.topic_aliases = aliases.into();
                let four = u32::try_from(maximum).unwrap().to_be_bytes();
                let connack = [&[0x27], &four[..], &[0x22, 0, aliases]].concat();
                let (running, mut link) = Running::online5_with(options, &mut broker, &connack);
                let properties = MessageProperties {
                    content_type: with_properties.then(|| "t".to_owned()),
                    ..MessageProperties::default()
                };
                let (mut largest, mut refused) = (0, 0);
                // From well below the maximum to above it, each time with a topic of its own.
                for payload in maximum - 25..maximum {
                    let topic = char::from(b'a' + u8::try_from(payload % 25).unwrap()).to_string();
                    let publish = Publish::new(topic, QoS::AtLeastOnce, vec![b'x'; payload]);
                    let publish = publish.with_properties(properties.clone());
                    let ticket = running.handle().publish(publish).unwrap();
                    running.take_a_turn();
                    if ticket.outcome().is_some() {
                        expect_never_sent(ticket, BrokerLimit::MaximumPacketSize);
                        refused += 1;
                        continue;
                    }
                    let packet = link.read_bytes();
                    assert!(packet.len() <= maximum, "{} above {maximum}", packet.len());
                    largest = packet.len();
                    link.send(&identified(&packet));
                    assert!(told(ticket).is_delivered());
                }
                assert!(refused > 0, "{maximum}");
                let unused = maximum - largest;
                assert!(
                    unused <= 1,
                    "{maximum}, {aliases}, {with_properties}: {largest}"
                );
                assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
            }
        }
    }
}

/// PUBACK for a PUBLISH with a topic of one byte.
fn identified(publish: &[u8]) -> [u8; 4] {
    let topic = publish
        .iter()
        .skip(1)
        .take_while(|byte| **byte & 0x80 != 0)
        .count()
        + 2;
    [0x40, 2, publish[topic + 3], publish[topic + 4]]
}

/// [MQTT-3.2.2-15] for requests, and for a message that was sent on a link with another limit.
#[test]
fn no_other_packet_is_sent_above_the_maximum_packet_size() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"\x27\x00\x00\x00\x64");
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    for length in 60..120 {
        let filter = "f".repeat(length);
        let filters = vec![Filter::new(filter.clone(), QoS::AtMostOnce)];
        for is_subscribe in [true, false] {
            let ticket = match is_subscribe {
                true => handle.subscribe(&inbox, filters.clone()).unwrap(),
                false => handle.unsubscribe(&inbox, vec![filter.clone()]).unwrap(),
            };
            running.take_a_turn();
            if ticket.outcome().is_some() {
                expect_never_sent(ticket, BrokerLimit::MaximumPacketSize);
                assert!(length > 80, "{length}");
                continue;
            }
            let packet = link.read_bytes();
            assert!(packet.len() <= 100, "{}", packet.len());
            let id = u16::from_be_bytes([packet[2], packet[3]]);
            link.send(&answers5(if is_subscribe { 0x90 } else { 0xb0 }, id, &[0]));
            assert!(told(ticket).is_delivered());
        }
    }
    expect_nothing(&running, &mut link);
    // It fits on this link, and not on the next one.
    let ticket = running.send(QoS::AtLeastOnce, "a", &"x".repeat(60));
    link.read_bytes();
    leave(&running, link);
    let (mut link, _) = running.greet5(&mut broker, &connack5(true, b"\x27\x00\x00\x00\x32"));
    let limit = Reason::BrokerLimit(BrokerLimit::MaximumPacketSize);
    assert_eq!(told(ticket), Outcome::PerhapsDelivered(limit));
    expect_nothing(&running, &mut link);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
