//! SUBSCRIBE and UNSUBSCRIBE: their contents, and the answers of SUBACK.

use mqtt_connection_sharing::mqtt::v4::decode;
use mqtt_connection_sharing::{Filter, QoS};
use mqtt_connection_sharing::{Inbox, Outcome, RejectReason, WhenFull};

use bytes::BytesMut;

use crate::harness::{ACCEPTED, CONNECT, Log, RESUMED, Submit, ack, greet, identifier};
use crate::harness::{message, online, recorded, terminate};
use crate::support::ScriptedBroker;
use crate::support::running::{next, told};
use crate::support::wire::hex;
use crate::violations::{bad, expect_each_closes};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn mqtt_3_8_3_3_a_subscribe_without_a_filter_is_handed_back() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let rejected = running.handle().subscribe(&inbox, Vec::new()).unwrap_err();
    assert_eq!(rejected.reason, RejectReason::NoFilter);
    terminate(running, link);
    assert_eq!(broker.shutdown(), [[CONNECT, b"\xe0\x00"].concat()]);
}

/// This holds for any number of filters, and however often they are renewed.
#[test]
fn mqtt_3_8_3_3_every_subscribe_has_a_filter() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    for count in [1, 8, 9, 16, 17] {
        let filters = (0..count).map(|n| Filter::new(format!("{count}/{n}"), QoS::AtMostOnce));
        let ticket = running
            .handle()
            .subscribe(&inbox, filters.collect())
            .unwrap();
        for _ in 0..usize::div_ceil(count, 8) {
            answer(&mut link);
        }
        assert!(told(ticket).is_delivered());
    }
    link.close();
    let mut link = greet(&mut broker, ACCEPTED);
    for _ in 0..usize::div_ceil(1 + 8 + 9 + 16 + 17, 8) {
        answer(&mut link);
    }
    // Without any filter left there is nothing to renew.
    drop(inbox);
    for _ in 0..usize::div_ceil(1 + 8 + 9 + 16 + 17, 8) {
        let packet = link.read_bytes();
        assert_eq!(packet[0], 0xa2);
        link.send(&ack(0xb0, identifier(&packet)));
    }
    running.take_a_turn();
    link.close();
    let link = greet(&mut broker, ACCEPTED);
    running.take_a_turn();
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
    for packet in recorded(&broker).concat() {
        assert!(packet[0] != 0x82 || packet.len() >= 4 + 4, "{packet:02x?}");
    }
}

/// Grants all that a short SUBSCRIBE asks for.
#[track_caller]
fn answer(link: &mut crate::support::Connection) {
    let packet = link.read_bytes();
    assert_eq!(packet[0], 0x82);
    let asked = requested(&packet);
    let length = u8::try_from(2 + asked.len()).unwrap();
    link.send(&[&[0x90, length], &packet[2..4], &asked].concat());
}

/// The byte behind each filter of a short SUBSCRIBE.
#[track_caller]
fn requested(packet: &[u8]) -> Vec<u8> {
    asked(packet).into_iter().map(|(_, qos)| qos).collect()
}

/// The filters of a short SUBSCRIBE, and the byte behind each.
#[track_caller]
fn asked(packet: &[u8]) -> Vec<(String, u8)> {
    let (mut rest, mut asked) = (&packet[4..], Vec::new());
    while let [high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let filter = String::from_utf8(more[..length].to_vec()).unwrap();
        asked.push((filter, more[length]));
        rest = &more[length + 1..];
    }
    asked
}

#[test]
fn mqtt_3_8_3_4_the_requested_qos_is_0_1_or_2_and_nothing_else_is_set() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = ["0", "1", "2"].into_iter().zip(QOS);
    let filters = filters.map(|(filter, qos)| Filter::new(filter, qos));
    let ticket = running
        .handle()
        .subscribe(&inbox, filters.collect())
        .unwrap();
    link.expect_bytes(b"\x82\x0e\x00\x01\x00\x010\x00\x00\x011\x01\x00\x012\x02");
    // The broker grants less than was asked for, and a renewal asks for the same as before.
    link.send(b"\x90\x05\x00\x01\x00\x00\x00");
    assert!(told(ticket).is_delivered());
    link.close();
    let mut link = greet(&mut broker, ACCEPTED);
    let renewal = link.read_bytes();
    assert_eq!(renewal[4..], *b"\x00\x010\x00\x00\x011\x01\x00\x012\x02");
    assert_eq!(requested(&renewal), [0, 1, 2]);
    link.send(&[b"\x90\x05", &renewal[2..4], &[0, 1, 2]].concat());
    running.take_a_turn();
    // Another inbox with the same filter asks for the highest QoS that any inbox asked for.
    let other = running.handle().inbox(1, WhenFull::WaitAside);
    for (qos, expected) in QOS.into_iter().zip([1, 1, 2]) {
        let filters = vec![Filter::new("1", qos)];
        let ticket = running.handle().subscribe(&other, filters).unwrap();
        let packet = link.read_bytes();
        assert_eq!(requested(&packet), [expected]);
        link.send(&[b"\x90\x03", &packet[2..4], &[expected]].concat());
        assert!(told(ticket).is_delivered());
    }
    terminate(running, link);
}

#[test]
fn mqtt_3_9_3_1_suback_codes_are_taken_in_the_order_of_the_filters() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    let filters = ["c", "a", "b"].map(|filter| Filter::new(filter, QoS::ExactlyOnce));
    let ticket = handle.subscribe(&inbox, filters.to_vec()).unwrap();
    link.expect_bytes(b"\x82\x0e\x00\x01\x00\x01c\x02\x00\x01a\x02\x00\x01b\x02");
    link.send(b"\x90\x05\x00\x01\x02\x00\x01");
    let granted = vec![QOS[2], QOS[0], QOS[1]];
    assert!(matches!(told(ticket), Outcome::Delivered { granted: g, .. } if g == granted));

    // The refusal in the middle is for the second filter.
    let filters = ["x", "y", "z"].map(|filter| Filter::new(filter, QoS::AtLeastOnce));
    let ticket = handle.subscribe(&inbox, filters.to_vec()).unwrap();
    link.expect_bytes(b"\x82\x0e\x00\x02\x00\x01x\x01\x00\x01y\x01\x00\x01z\x01");
    link.send(b"\x90\x05\x00\x02\x01\x80\x00");
    let granted = vec![Some(QOS[1]), None, Some(QOS[0])];
    assert_eq!(
        told(ticket),
        Outcome::Refused {
            granted,
            answer: None
        }
    );
    for topic in ["x", "z"] {
        link.send(&message(0x32, topic, 1, topic.as_bytes()));
        link.expect_bytes(ack(0x40, 1));
        assert_eq!(next(&inbox), topic);
    }
    link.send(&message(0x32, "y", 1, b"y"));
    link.expect_bytes(ack(0x40, 1));
    assert!(inbox.try_recv().is_err(), "it was refused");
    assert_eq!(
        handle.unmatched().try_recv().map(|m| m.topic().to_owned()),
        Ok("y".into())
    );

    // Over two packets, the ninth answer is the first of the second packet.
    let filters = (0..9).map(|n| Filter::new(format!("n{n}"), QoS::AtLeastOnce));
    let ticket = handle.subscribe(&inbox, filters.collect()).unwrap();
    let first = link.read_bytes();
    link.send(&[b"\x90\x0a", &first[2..4], &[1, 1, 0, 1, 1, 1, 0x80, 1]].concat());
    let second = link.read_bytes();
    link.send(&[b"\x90\x03", &second[2..4], &[0]].concat());
    let mut granted = vec![Some(QOS[1]); 9];
    (granted[2], granted[6], granted[8]) = (Some(QOS[0]), None, Some(QOS[0]));
    assert_eq!(
        told(ticket),
        Outcome::Refused {
            granted,
            answer: None
        }
    );

    // A broker that has forgotten everything is asked for the granted filters, and for no refused one.
    link.close();
    let mut link = greet(&mut broker, ACCEPTED);
    let renewed: Vec<_> = (0..2).flat_map(|_| asked(&link.read_bytes())).collect();
    let expected = "a b c n0 n1 n2 n3 n4 n5 n7 n8 x z".split(' ');
    assert!(
        renewed
            .iter()
            .map(|(filter, _)| filter.as_str())
            .eq(expected),
        "{renewed:?}"
    );
    terminate(running, link);
}

#[test]
fn mqtt_3_9_3_1_a_wrong_number_of_codes_closes_the_connection_and_it_is_asked_again() {
    let mut broker = ScriptedBroker::bind();
    let log = Log::of(&broker);
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let accepted = running.send(QoS::AtLeastOnce, "out", "x");
    link.expect_bytes(b"\x32\x08\x00\x03out\x00\x01x");
    let filters = ["a", "b"].map(|filter| Filter::new(filter, QoS::AtLeastOnce));
    let ticket = running
        .handle()
        .subscribe(&inbox, filters.to_vec())
        .unwrap();
    link.expect_bytes(b"\x82\x0a\x00\x02\x00\x01a\x01\x00\x01b\x01");
    let wrong: [(&[u8], _); 4] = [
        (b"\x90\x02\x00\x02", "MQTT-3.9.3-1"),
        (b"\x90\x03\x00\x02\x01", "MQTT-3.9.3-1"),
        (b"\x90\x05\x00\x02\x01\x01\x01", "MQTT-3.9.3-1"),
        (
            b"\x90\x0a\x00\x02\x00\x80\x00\x80\x00\x80\x00\x80",
            "MQTT-3.9.3-1",
        ),
    ];
    for (index, (suback, rule)) in wrong.into_iter().enumerate() {
        link.send(suback);
        assert!(link.read_to_end().is_empty());
        link = greet(&mut broker, RESUMED);
        let failures = log.failures();
        assert_eq!(failures.len(), index + 1, "{failures:#?}");
        let told = format!(" [{rule}], beginning {};", hex(suback));
        assert!(failures[index].contains("SUBACK: "), "{failures:#?}");
        assert!(failures[index].contains(&told), "{failures:#?}");
        assert!(
            failures[index].contains("; trying again in "),
            "{failures:#?}"
        );
        link.expect_bytes(b"\x3a\x08\x00\x03out\x00\x01x");
        link.expect_bytes(b"\x82\x0a\x00\x02\x00\x01a\x01\x00\x01b\x01");
        assert_eq!(ticket.outcome(), None);
    }
    link.send(b"\x90\x04\x00\x02\x01\x00\x40\x02\x00\x01");
    assert!(told(ticket).is_delivered());
    assert!(told(accepted).is_delivered());
    terminate(running, link);
}

#[test]
fn mqtt_3_9_3_2_a_reserved_suback_code_closes_the_connection() {
    let mut rows = Vec::new();
    for code in [0x03, 0x04, 0x40, 0x7f, 0x81, 0x83, 0xc0, 0xff] {
        rows.push(bad([0x90, 3, 0, 9, code], "SUBACK", "MQTT-3.9.3-2"));
        // After good codes, and before them.
        rows.push(bad([0x90, 4, 0, 9, 1, code], "SUBACK", "MQTT-3.9.3-2"));
        rows.push(bad(
            [0x90, 5, 0, 9, code, 0x80, 2],
            "SUBACK",
            "MQTT-3.9.3-2",
        ));
    }
    expect_each_closes(&rows);
}

/// All other codes are tried.
#[test]
fn mqtt_3_9_3_2_codes_other_than_0_1_2_and_0x80_are_refused() {
    for code in 0..=0xff {
        let mut bytes = BytesMut::from(&[0x90, 3, 0, 9, code][..]);
        let decoded = decode(&mut bytes, 100);
        match code {
            0 | 1 | 2 | 0x80 => assert!(matches!(decoded, Ok(Some(_))), "{code:#04x}"),
            _ => assert_eq!(decoded.unwrap_err().rule(), "MQTT-3.9.3-2", "{code:#04x}"),
        }
    }
}

/// A reserved code in answer to a SUBSCRIBE: the loop asks again and does not take the filter for
/// granted.
#[test]
fn mqtt_3_9_3_2_a_reserved_code_is_no_grant() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox: Inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let filters = vec![Filter::new("a", QoS::ExactlyOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    link.expect_bytes(b"\x82\x06\x00\x01\x00\x01a\x02");
    link.send(b"\x90\x03\x00\x01\x03");
    assert!(link.read_to_end().is_empty());
    let mut link = greet(&mut broker, RESUMED);
    link.expect_bytes(b"\x82\x06\x00\x01\x00\x01a\x02");
    assert_eq!(ticket.outcome(), None);
    link.send(b"\x90\x03\x00\x01\x80");
    assert_eq!(
        told(ticket),
        Outcome::Refused {
            granted: vec![None],
            answer: None,
        }
    );
    terminate(running, link);
}

#[test]
fn mqtt_3_10_3_2_every_unsubscribe_has_a_filter() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let rejected = handle.unsubscribe(&inbox, Vec::new()).unwrap_err();
    assert_eq!(rejected.reason, RejectReason::NoFilter);
    // Several packets of eight filters.
    for count in [1, 8, 9, 17] {
        let filters = (0..count).map(|n| format!("{n}")).collect();
        let ticket = handle.unsubscribe(&inbox, filters).unwrap();
        for _ in 0..usize::div_ceil(count, 8) {
            let packet = link.read_bytes();
            assert!(packet[0] == 0xa2 && packet.len() >= 4 + 3, "{packet:02x?}");
            link.send(&ack(0xb0, identifier(&packet)));
        }
        assert!(told(ticket).is_delivered());
    }
    // A filter that another inbox still wants is not unsubscribed, so no packet is sent.
    let other = handle.inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "shared");
    running.subscribe(&mut link, &other, "shared");
    let ticket = handle.unsubscribe(&inbox, vec!["shared".into()]).unwrap();
    assert!(told(ticket).is_delivered());
    // Nor is one sent for a dropped inbox, if other inboxes have each of its filters.
    running.subscribe(&mut link, &inbox, "shared");
    drop(other);
    running.take_a_turn();
    // The packet has only the filter that no other inbox has.
    let other = handle.inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &other, "shared");
    running.subscribe(&mut link, &other, "own");
    drop(other);
    let left = link.read_bytes();
    assert_eq!((left[0], &left[4..]), (0xa2, &b"\x00\x03own"[..]));
    link.send(&ack(0xb0, identifier(&left)));
    running.take_a_turn();
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
    for packet in recorded(&broker).concat() {
        assert!(packet[0] != 0xa2 || packet.len() >= 4 + 3, "{packet:02x?}");
    }
}
