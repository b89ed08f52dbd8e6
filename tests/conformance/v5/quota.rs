//! The server's receive maximum: how many PUBLISHes above QoS 0 are under way at once, and what goes out all the same.

use mqtt_connection_sharing::{Filter, QoS, Ticket, WhenFull};

use crate::harness::{Submit, ack, leave};
use crate::support::running::{Running, expect_delivered, told};
use crate::support::scripted5::{ack5, answers5, connack5, message5};
use crate::support::{Connection, ScriptedBroker};

/// A receive maximum in CONNACK.
fn receive_maximum(most: u8) -> [u8; 3] {
    [0x21, 0, most]
}

/// The bytes of a message of ours to the topic `a`.
fn publish(first: u8, id: u8) -> Vec<u8> {
    [&[first], &b"\x07\x00\x01a\x00"[..], &[id], b"\x00x"].concat()
}

/// Checks that nothing but PINGREQ comes, by a command that is not held back and comes after all that the loop may send.
#[track_caller]
fn expect_no_more(running: &Running, link: &mut Connection) {
    let ping = running.handle().ping().unwrap();
    link.expect_bytes(b"\xc0\x00");
    link.send(b"\xd0\x00");
    assert!(told(ping).is_delivered());
}

/// With a receive maximum of 3 and ten messages, three go out [MQTT-3.3.4-7] [MQTT-4.9.0-1]. PUBACK makes room for one,
/// PUBCOMP for another, and so does a PUBREC that refuses; other PUBRECs make none [MQTT-4.9.0-2].
#[test]
fn no_more_messages_are_under_way_than_the_server_allows() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &receive_maximum(3));
    let levels = [1, 2, 2, 1, 2, 1, 1, 2, 1, 1];
    let mut tickets: Vec<Ticket> = levels
        .map(|level| running.send(QoS::try_from(level).unwrap(), "a", "x"))
        .into();
    for id in 1..=3 {
        link.expect_bytes(publish(0x30 | levels[usize::from(id) - 1] << 1, id));
    }
    expect_no_more(&running, &mut link);
    // One of QoS 1.
    link.send(&ack(0x40, 1));
    link.expect_bytes(publish(0x32, 4));
    expect_no_more(&running, &mut link);
    // One of QoS 2: PUBREC is not its end.
    link.send(&ack(0x50, 2));
    link.expect_bytes(ack(0x62, 2));
    expect_no_more(&running, &mut link);
    link.send(&ack(0x70, 2));
    link.expect_bytes(publish(0x34, 5));
    expect_no_more(&running, &mut link);
    // One of QoS 2 that is refused.
    link.send(&ack5(0x50, 3, 0x97));
    link.expect_bytes(publish(0x32, 6));
    expect_no_more(&running, &mut link);
    assert!(!told(tickets.remove(2)).is_delivered());
    // Acknowledgments of nothing make no room.
    link.send(&[ack(0x40, 77), ack(0x70, 77)].concat());
    expect_no_more(&running, &mut link);
    // All at once.
    link.send(&[ack(0x40, 4), ack(0x50, 5), ack(0x40, 6)].concat());
    let mut rest: Vec<_> = (0..3).map(|_| link.read_bytes()).collect();
    rest.sort();
    assert_eq!(
        rest,
        [publish(0x32, 7), publish(0x34, 8), ack(0x62, 5).into()]
    );
    link.send(&[ack(0x40, 7), ack(0x50, 8), ack(0x70, 5)].concat());
    let mut rest: Vec<_> = (0..3).map(|_| link.read_bytes()).collect();
    rest.sort();
    assert_eq!(
        rest,
        [publish(0x32, 9), publish(0x32, 10), ack(0x62, 8).into()]
    );
    link.send(&[ack(0x40, 9), ack(0x40, 10), ack(0x70, 8)].concat());
    expect_delivered(tickets);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// While nothing is left of the receive maximum and a message waits, everything but PUBLISH goes out [MQTT-3.3.4-8]:
/// SUBSCRIBE, UNSUBSCRIBE, PINGREQ, PUBREL and the acknowledgments of what comes in, which is handled as always
/// [MQTT-4.9.0-3].
#[test]
fn the_receive_maximum_holds_back_publishes_only() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &receive_maximum(1));
    let handle = running.handle();
    let under_way = running.send(QoS::ExactlyOnce, "a", "x");
    link.expect_bytes(publish(0x34, 1));
    let waits = [QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| running.send(qos, "a", "x"));
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    for _ in 0..2 {
        let filters = vec![Filter::new("in", QoS::ExactlyOnce)];
        let subscribing = handle.subscribe(&inbox, filters).unwrap();
        let packet = link.read_bytes();
        assert_eq!(
            (packet[0], &packet[4..]),
            (0x82, &b"\x00\x00\x02in\x02"[..])
        );
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        link.send(&answers5(0x90, id, &[2]));
        assert!(told(subscribing).is_delivered());
        expect_no_more(&running, &mut link);
        link.send(&message5(0x32, "in", 5, b"", b"1"));
        link.expect_bytes(ack(0x40, 5));
        link.send(&message5(0x34, "in", 6, b"", b"2"));
        link.expect_bytes(ack(0x50, 6));
        link.send(&ack(0x62, 6));
        link.expect_bytes(ack(0x70, 6));
        assert_eq!(
            inbox.recv_timeout(crate::support::HANG).unwrap().payload(),
            b"1"
        );
        assert_eq!(
            inbox.recv_timeout(crate::support::HANG).unwrap().payload(),
            b"2"
        );
        let leaving = handle.unsubscribe(&inbox, vec!["in".into()]).unwrap();
        let packet = link.read_bytes();
        assert_eq!((packet[0], &packet[4..]), (0xa2, &b"\x00\x00\x02in"[..]));
        let id = u16::from_be_bytes([packet[2], packet[3]]);
        link.send(&answers5(0xb0, id, &[0]));
        assert!(told(leaving).is_delivered());
    }
    link.send(&ack(0x50, 1));
    link.expect_bytes(ack(0x62, 1));
    expect_no_more(&running, &mut link);
    link.send(&ack(0x70, 1));
    assert!(told(under_way).is_delivered());
    let first = link.read_bytes();
    assert_eq!(first[0], 0x32);
    expect_no_more(&running, &mut link);
    link.send(&[0x40, 2, first[5], first[6]]);
    let second = link.read_bytes();
    assert_eq!(second[0], 0x34);
    link.send(&[0x50, 2, second[5], second[6]]);
    link.expect_bytes([0x62, 2, second[5], second[6]]);
    link.send(&[0x70, 2, second[5], second[6]]);
    expect_delivered(waits);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// The quota begins anew with each CONNACK [MQTT-4.9.0-1], and holds while messages are sent again [MQTT-3.3.4-7]; those
/// come in their old order, and before new ones. Without a receive maximum it is 65,535.
#[test]
fn each_connack_has_its_own_receive_maximum() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let send = |count: usize| -> Vec<_> {
        (0..count)
            .map(|_| running.send(QoS::AtLeastOnce, "a", "x"))
            .collect()
    };
    let mut tickets = send(5);
    for id in 1..=5 {
        link.expect_bytes(publish(0x32, id));
    }
    // The next link allows two, and then one.
    leave(&running, link);
    let connack = connack5(true, &receive_maximum(2));
    let (mut link, _) = running.greet5(&mut broker, &connack);
    tickets.extend(send(2));
    for id in 1..=2 {
        link.expect_bytes(publish(0x3a, id));
    }
    expect_no_more(&running, &mut link);
    link.send(&ack(0x40, 2));
    link.expect_bytes(publish(0x3a, 3));
    expect_no_more(&running, &mut link);
    leave(&running, link);
    let connack = connack5(true, &receive_maximum(1));
    let (mut link, _) = running.greet5(&mut broker, &connack);
    for (id, first) in [
        (1, 0x3a),
        (3, 0x3a),
        (4, 0x3a),
        (5, 0x3a),
        (6, 0x32),
        (7, 0x32),
    ] {
        link.expect_bytes(publish(first, id));
        expect_no_more(&running, &mut link);
        link.send(&ack(0x40, id.into()));
    }
    expect_delivered(tickets);
    // A session that the broker has lost begins with a quota of its own as well.
    let tickets = send(3);
    link.expect_bytes(publish(0x32, 8));
    leave(&running, link);
    let connack = connack5(false, &receive_maximum(2));
    let (mut link, _) = running.greet5(&mut broker, &connack);
    let mut sent: Vec<_> = (0..2).map(|_| link.read_bytes()).collect();
    expect_no_more(&running, &mut link);
    link.send(&[0x40, 2, sent[0][5], sent[0][6]]);
    sent.push(link.read_bytes());
    assert!(sent.iter().all(|packet| packet[0] == 0x32), "{sent:02x?}");
    for packet in &sent[1..] {
        link.send(&[0x40, 2, packet[5], packet[6]]);
    }
    expect_delivered(tickets);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// PUBRELs that are sent again count like the messages that they end [MQTT-3.3.4-7] [MQTT-4.9.0-2]: PUBCOMP makes room,
/// and a PUBREL waits for none [MQTT-3.3.4-8].
#[test]
fn released_messages_count_until_pubcomp_on_the_next_link_too() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &receive_maximum(3));
    let tickets: Vec<_> = (1..=4_u8)
        .map(|_| running.send(QoS::ExactlyOnce, "a", "x"))
        .collect();
    for id in 1..=3 {
        link.expect_bytes(publish(0x34, id));
    }
    link.send(&[ack(0x50, 1), ack(0x50, 2)].concat());
    link.expect_bytes(ack(0x62, 1));
    link.expect_bytes(ack(0x62, 2));
    leave(&running, link);
    let connack = connack5(true, &receive_maximum(2));
    let (mut link, _) = running.greet5(&mut broker, &connack);
    // Both PUBRELs leave. They may or may not take what there is; never more than two messages are under way.
    link.expect_bytes(ack(0x62, 1));
    link.expect_bytes(ack(0x62, 2));
    link.send(&[ack(0x70, 1), ack(0x70, 2)].concat());
    link.expect_bytes(publish(0x3c, 3));
    link.expect_bytes(publish(0x34, 4));
    expect_no_more(&running, &mut link);
    link.send(&[ack(0x50, 3), ack(0x50, 4)].concat());
    link.expect_bytes(ack(0x62, 3));
    link.expect_bytes(ack(0x62, 4));
    link.send(&[ack(0x70, 3), ack(0x70, 4)].concat());
    expect_delivered(tickets);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
