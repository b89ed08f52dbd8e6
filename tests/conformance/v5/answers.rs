//! Our acknowledgments: identifiers, codes, and order.

use mqtt_connection_sharing::{ByHand, Filter, Inbox, QoS, WhenFull};

use crate::harness::{Submit, ack, recorded};
use crate::support::running::{Running, next, told};
use crate::support::scripted5::{ack5, answers5, message5};
use crate::support::{Connection, ScriptedBroker, wait_until};

/// An inbox that is subscribed to this filter with QoS 2.
#[track_caller]
fn subscribed(running: &Running, link: &mut Connection, capacity: usize, filter: &str) -> Inbox {
    let inbox = running.handle().inbox(capacity, WhenFull::WaitAside);
    let filters = vec![Filter::new(filter, QoS::ExactlyOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).unwrap();
    let packet = link.read_bytes();
    let id = u16::from_be_bytes([packet[2], packet[3]]);
    link.send(&answers5(0x90, id, &[2]));
    assert!(told(ticket).is_delivered());
    inbox
}

/// Our acknowledgments have the identifier of their message [MQTT-2.2.1-5] and a code of their lists: PUBACK
/// [MQTT-3.4.2-1], PUBREC [MQTT-3.5.2-1], PUBREL [MQTT-3.6.2-1], PUBCOMP [MQTT-3.7.2-1]. None has properties, so none is too
/// large because of them: [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3]
/// [MQTT-3.7.2-2] [MQTT-3.7.2-3]. No PUBREC refuses its message [MQTT-4.3.3-9], whether somebody wants it or not.
#[test]
fn acknowledgments_have_an_identifier_and_hardly_ever_a_code() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, 10, "in");
    let dropping = running.handle().inbox(1, WhenFull::DropNewest);
    let filters = vec![Filter::new("dropped", QoS::ExactlyOnce)];
    let ticket = running.handle().subscribe(&dropping, filters).unwrap();
    link.read_bytes();
    link.send(&answers5(0x90, 2, &[2]));
    assert!(told(ticket).is_delivered());
    for round in 0..3 {
        if round == 2 {
            // Nobody is there any more for these messages.
            drop(subscribed(&running, &mut link, 1, "gone"));
            let packet = link.read_bytes();
            assert_eq!(packet[0], 0xa2);
        }
        for (id, topic) in [(1, "in"), (300, "dropped"), (65_535, "gone"), (77, "$none")] {
            let details = b"\x26\x00\x01k\x00\x01v\x03\x00\x01t";
            link.send(&message5(0x32, topic, id, details, b"1"));
            link.expect_bytes(ack(0x40, id));
            link.send(&message5(0x34, topic, id, details, b"2"));
            link.expect_bytes(ack(0x50, id));
            link.send(&ack(0x62, id));
            link.expect_bytes(ack(0x70, id));
        }
        assert_eq!((next(&inbox), next(&inbox)), ("1".into(), "2".into()));
    }
    // Unknown identifiers, and messages of our own.
    link.send(&[ack(0x62, 5), ack(0x50, 6)].concat());
    link.expect_bytes(ack5(0x70, 5, 0x92));
    link.expect_bytes(ack5(0x62, 6, 0x92));
    let ticket = running.send(QoS::ExactlyOnce, "a", "x");
    let packet = link.read_bytes();
    link.send(&[0x50, 2, packet[5], packet[6]]);
    link.expect_bytes([0x62, 2, packet[5], packet[6]]);
    link.send(&[0x70, 2, packet[5], packet[6]]);
    assert!(told(ticket).is_delivered());
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    for packet in recorded(&broker).concat() {
        match (packet[0] >> 4, packet.len()) {
            (4..=7, 4) => {}
            (6 | 7, 5) => assert_eq!(packet[4], 0x92),
            (4..=7, _) => panic!("{packet:02x?}"),
            _ => {}
        }
    }
}

/// PUBACKs [MQTT-4.6.0-2] and PUBRECs [MQTT-4.6.0-3] leave in the order of their messages: one that waits for a thread holds
/// back those behind it, also of other threads.
#[test]
fn acknowledgments_leave_in_the_order_of_the_messages() {
    for (first, answer) in [(0x32, 0x40), (0x34, 0x50)] {
        let mut broker = ScriptedBroker::bind();
        let (running, mut link) = Running::online5(&mut broker, b"");
        let by_hand = running.handle().inbox_by_hand(10, ByHand::default());
        let filters = vec![Filter::new("in", QoS::ExactlyOnce)];
        let ticket = running.handle().subscribe(&by_hand, filters).unwrap();
        link.read_bytes();
        link.send(&answers5(0x90, 1, &[2]));
        assert!(told(ticket).is_delivered());
        let quick = subscribed(&running, &mut link, 10, "other");
        let arriving = [
            (30, "in"),
            (10, "other"),
            (20, "in"),
            (5, "nobody"),
            (40, "other"),
        ];
        for (id, topic) in arriving {
            link.send(&message5(first, topic, id, b"", topic.as_bytes()));
        }
        // These messages were accepted at once, and their acknowledgments wait.
        assert_eq!(
            (next(&quick), next(&quick)),
            ("other".into(), "other".into())
        );
        let [one, two] = [(); 2].map(|()| by_hand.recv_timeout(crate::support::HANG).unwrap());
        drop(running.send(QoS::AtMostOnce, "a", "x"));
        link.expect_bytes(b"\x30\x05\x00\x01a\x00x");
        // The second is done before the first.
        two.done();
        drop(running.send(QoS::AtMostOnce, "a", "y"));
        link.expect_bytes(b"\x30\x05\x00\x01a\x00y");
        one.done();
        for (id, _) in arriving {
            link.expect_bytes(ack(answer, id));
        }
        wait_until("all to be taken", || by_hand.waiting() == 0);
        assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
    }
}
