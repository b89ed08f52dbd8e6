//! Messages that come: which answers they get, when, and in which order.

use mqtt_connection_sharing::{Accept, InboxError, QoS, WhenFull};

use super::violations::{subscribe, subscribed};
use crate::harness::{Submit, ack, identifier};
use crate::support::running::{Running, attempts, next, told};
use crate::support::scripted5::{ack5, answers5, message5, options5};
use crate::support::wire::hex;
use crate::support::{HANG, ScriptedBroker};

/// QoS 0 has no answer, QoS 1 PUBACK, QoS 2 PUBREC and then PUBCOMP to PUBREL: all with the identifier of the message,
/// and without code and properties, which means success [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11].
#[test]
fn each_quality_of_service_has_its_answer() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    for (first, answer) in [
        (0x30, None),
        (0x31, None),
        (0x32, Some(0x40)),
        (0x33, Some(0x40)),
        (0x3a, Some(0x40)),
        (0x3b, Some(0x40)),
        (0x34, Some(0x50)),
        (0x35, Some(0x50)),
        (0x3c, Some(0x50)),
        (0x3d, Some(0x50)),
    ] {
        for properties in [&b""[..], b"\x01\x01"] {
            link.send(&message5(first, "in", 0x0102, properties, b"x"));
            let came = inbox.recv_timeout(HANG).expect("a message");
            assert_eq!(came.qos() as u8, (first >> 1) & 3);
            assert_eq!(came.retain(), first & 1 == 1);
            if let Some(answer) = answer {
                link.expect_bytes([answer, 2, 1, 2]);
            }
            if answer == Some(0x50) {
                link.send(&ack(0x62, 0x0102));
                link.expect_bytes(b"\x70\x02\x01\x02");
            }
        }
    }
    // Nothing else was sent.
    running.take_a_turn();
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// PUBACK comes once the message is taken [MQTT-4.3.2-4]. After it the identifier names a new message, whatever DUP says
/// [MQTT-4.3.2-5].
#[test]
fn puback_comes_once_the_message_is_taken_and_frees_its_identifier() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, Accept::OnceTaken);
    subscribe(&running, &mut link, &inbox, "in");
    let of = |first, id, payload: &str| message5(first, "in", id, b"", payload.as_bytes());
    link.send(&of(0x32, 7, "first"));
    // The inbox is full now.
    link.send(&of(0x32, 8, "second"));
    running.take_a_turn();
    link.expect_no_bytes();
    let mut link = running.resume5(&mut broker, link);
    link.send(&of(0x3a, 7, "first"));
    link.send(&of(0x3a, 8, "second"));
    running.take_a_turn();
    link.expect_no_bytes();
    for (payload, id) in [("first", 7), ("second", 8)] {
        assert_eq!(next(&inbox), payload);
        link.expect_bytes(ack(0x40, id));
    }
    for first in [0x32, 0x3a, 0x32] {
        link.send(&of(first, 8, "second"));
        assert_eq!(next(&inbox), "second");
        link.expect_bytes(ack(0x40, 8));
    }
    let mut link = running.resume5(&mut broker, link);
    link.send(&of(0x3a, 8, "second"));
    assert_eq!(next(&inbox), "second");
    link.expect_bytes(ack(0x40, 8));
    running.terminate5(link);
}

/// PUBREC comes once the message is taken [MQTT-4.3.3-8], and never with a code that refuses it [MQTT-4.3.3-9]. Until PUBREL it is not delivered again [MQTT-4.3.3-10], also if
/// its expiry has passed and the copy says so [MQTT-4.3.3-13]. After PUBCOMP its identifier names a new message
/// [MQTT-4.3.3-12].
#[test]
fn a_message_of_qos_2_is_delivered_once_until_it_is_released() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = running.handle().inbox(1, Accept::OnceTaken);
    subscribe(&running, &mut link, &inbox, "in");
    let of = |first, expiry: u8, payload: &[u8]| {
        message5(first, "in", 9, &[2, 0, 0, 0, expiry], payload)
    };
    link.send(&of(0x34, 2, b"one"));
    running.take_a_turn();
    link.expect_no_bytes();
    assert_eq!(next(&inbox), "one");
    link.expect_bytes(ack(0x50, 9));
    for first in [0x3c, 0x34] {
        link.send(&of(first, 1, b"one"));
        link.expect_bytes(ack(0x50, 9));
    }
    for _ in 0..3 {
        link = running.resume5(&mut broker, link);
        link.send(&of(0x3c, 0, b"one"));
        link.expect_bytes(ack(0x50, 9));
    }
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    link.send(&ack(0x62, 9));
    link.expect_bytes(ack(0x70, 9));
    for (first, payload) in [(0x34, "one"), (0x3c, "one"), (0x34, "two")] {
        link.send(&of(first, 0, payload.as_bytes()));
        assert_eq!(next(&inbox), payload);
        link.expect_bytes(ack(0x50, 9));
        link.send(&ack(0x62, 9));
        link.expect_bytes(ack(0x70, 9));
    }
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Every PUBREL has its PUBCOMP [MQTT-4.3.3-11]: with 0x92 where there is no message under its identifier
/// [MQTT-3.7.2-1], whatever code PUBREL has.
#[test]
fn every_pubrel_is_answered_and_the_answer_says_whether_there_was_a_message() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let inbox = subscribed(&running, &mut link, "in");
    for id in [1, 2, 3, 4, 5] {
        link.send(&message5(0x34, "in", id, b"", b"x"));
        link.expect_bytes(ack(0x50, id));
    }
    let said = [&[0x62, 9, 0, 4, 0x92][..], b"\x05\x1f\x00\x02no"].concat();
    for (release, id) in [
        (ack(0x62, 3).to_vec(), 3),
        (ack5(0x62, 1, 0).to_vec(), 1),
        (ack5(0x62, 2, 0x92).to_vec(), 2),
        (said, 4),
    ] {
        link.send(&release);
        link.expect_bytes(ack(0x70, id));
        // It comes again.
        link.send(&release);
        link.expect_bytes(ack5(0x70, id, 0x92));
    }
    link.send(&ack(0x62, 0xffff));
    link.expect_bytes(ack5(0x70, 0xffff, 0x92));
    let mut link = running.resume5(&mut broker, link);
    for (id, code) in [(4, Some(0x92)), (5, None)] {
        link.send(&ack(0x62, id));
        match code {
            Some(code) => link.expect_bytes(ack5(0x70, id, code)),
            None => link.expect_bytes(ack(0x70, id)),
        }
    }
    for _ in 0..5 {
        assert_eq!(next(&inbox), "x");
    }
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// PUBREC under an identifier that no message has is answered with PUBREL 0x92 [MQTT-3.6.2-1], but not one that refuses.
/// Other answers to nothing have no answer.
#[test]
fn a_pubrec_for_nothing_is_answered_with_its_code() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    for pubrec in [
        &ack(0x50, 700)[..],
        &ack5(0x50, 700, 0),
        &ack5(0x50, 700, 0x10),
    ] {
        link.send(pubrec);
        link.expect_bytes(ack5(0x62, 700, 0x92));
        link.send(&ack5(0x70, 700, 0x92));
    }
    for nothing in [
        &ack5(0x50, 700, 0x87)[..],
        &ack(0x40, 700),
        &ack5(0x40, 700, 0x10),
        &ack5(0x40, 700, 0x87),
        &ack(0x70, 700),
        &ack5(0x70, 700, 0x92),
        &answers5(0x90, 700, &[0]),
        &answers5(0x90, 700, &[0x80, 1, 2]),
        &answers5(0xb0, 700, &[0x11, 0]),
        b"\xd0\x00",
    ] {
        link.send(nothing);
    }
    running.take_a_turn();
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}

/// Every message is acknowledged, whether any inbox wants it or not [MQTT-4.5.0-2], and none is refused [MQTT-4.3.3-9].
#[test]
fn every_message_is_acknowledged_whether_anybody_wants_it_or_not() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.unmatched_queue = 1;
    let (running, mut link) = Running::online5_with(options, &mut broker, b"");
    let newest = running.handle().inbox(1, WhenFull::DropOldest);
    subscribe(&running, &mut link, &newest, "newest");
    let oldest = running.handle().inbox(1, WhenFull::DropNewest);
    subscribe(&running, &mut link, &oldest, "oldest");
    let gone = running.handle().inbox(1, WhenFull::WaitAside);
    subscribe(&running, &mut link, &gone, "gone");
    drop(gone);
    assert_eq!(link.read_bytes()[0], 0xa2);
    for round in 0..3 {
        for topic in ["nobody/asked", "$SYS/x", "newest", "oldest", "gone"] {
            link.send(&message5(0x30, topic, 0, b"", b"x"));
            link.send(&message5(0x32, topic, 11, b"", &[b'0' + round]));
            link.expect_bytes(ack(0x40, 11));
            // An expiry of zero changes nothing for a message that came.
            link.send(&message5(0x34, topic, 12, b"\x02\x00\x00\x00\x00", b"x"));
            link.expect_bytes(ack(0x50, 12));
            link.send(&ack(0x62, 12));
            link.expect_bytes(ack(0x70, 12));
        }
    }
    assert_eq!(oldest.recv_timeout(HANG).map(|m| m.qos() as u8), Ok(0));
    assert_eq!(newest.recv_timeout(HANG).map(|m| m.qos() as u8), Ok(2));
    assert_eq!((oldest.dropped(), newest.dropped()), (8, 8));
    running.terminate5(link);
}

/// PUBACKs [MQTT-4.6.0-2] and PUBRECs [MQTT-4.6.0-3] leave in the order of the messages, also if a later one is taken
/// before an earlier one.
#[test]
fn acknowledgments_leave_in_the_order_of_the_messages() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, b"");
    let slow = running.handle().inbox(1, Accept::OnceTaken);
    subscribe(&running, &mut link, &slow, "slow");
    let quick = subscribed(&running, &mut link, "quick");
    let arriving = [
        (0x32, "slow", 900),
        (0x34, "slow", 3),
        (0x32, "quick", 65_535),
        (0x30, "quick", 0),
        (0x32, "nobody", 2),
        (0x34, "quick", 1),
        (0x34, "nobody", 6),
        (0x32, "slow", 4),
        (0x34, "quick", 5),
    ]
    .map(|(first, topic, id)| message5(first, topic, id, b"", id.to_string().as_bytes()));
    link.send(&arriving.concat());
    for payload in ["65535", "0", "1", "5"] {
        assert_eq!(next(&quick), payload);
    }
    running.take_a_turn();
    link.expect_no_bytes();
    assert_eq!(next(&slow), "900");
    link.expect_bytes(ack(0x40, 900));
    assert_eq!(next(&slow), "3");
    for (first, id) in [(0x50, 3), (0x40, 65_535), (0x40, 2), (0x50, 1), (0x50, 6)] {
        link.expect_bytes(ack(first, id));
    }
    assert_eq!(next(&slow), "4");
    link.expect_bytes(ack(0x40, 4));
    link.expect_bytes(ack(0x50, 5));
    running.terminate5(link);
}

/// While no further PUBLISH may leave, every other packet is handled and answered [MQTT-4.9.0-3].
#[test]
fn everything_is_answered_while_no_further_publish_may_leave() {
    let mut broker = ScriptedBroker::bind();
    // The broker takes one message at a time.
    let (running, mut link) = Running::online5(&mut broker, b"\x21\x00\x01");
    let first = running.send(QoS::AtLeastOnce, "out", "1");
    link.expect_bytes(b"\x32\x09\x00\x03out\x00\x01\x001");
    let second = running.send(QoS::ExactlyOnce, "out", "2");
    running.take_a_turn();
    link.expect_no_bytes();
    let inbox = subscribed(&running, &mut link, "in");
    for id in [1, 2] {
        link.send(&message5(0x32, "in", id, b"", b"x"));
        link.expect_bytes(ack(0x40, id));
        link.send(&message5(0x34, "in", id, b"", b"x"));
        link.expect_bytes(ack(0x50, id));
        link.send(&ack(0x62, id));
        link.expect_bytes(ack(0x70, id));
        link.send(&ack(0x62, id));
        link.expect_bytes(ack5(0x70, id, 0x92));
        link.send(&ack(0x50, 700));
        link.expect_bytes(ack5(0x62, 700, 0x92));
    }
    // A request wakes the loop, which has nothing else to do.
    running.expect_asleep("while it waits for room");
    let pinged = running.handle().ping().expect("room");
    link.expect_bytes(b"\xc0\x00");
    link.send(b"\xd0\x00");
    assert!(told(pinged).is_delivered());
    running.expect_asleep("while it waits for room");
    let left = running.handle().unsubscribe(&inbox, vec!["in".into()]);
    let asked = link.read_bytes();
    assert_eq!(asked[0], 0xa2, "{}", hex(&asked));
    link.send(&answers5(0xb0, identifier(&asked), &[0]));
    assert!(told(left.expect("room")).is_delivered());
    // PUBREC of the second makes no room, and PUBCOMP does.
    link.send(&ack(0x40, 1));
    assert_eq!(attempts(told(first)), 1);
    let sent = link.read_bytes();
    assert_eq!(sent[0], 0x34, "{}", hex(&sent));
    let third = running.send(QoS::AtLeastOnce, "out", "3");
    let id = identifier(&sent);
    link.send(&ack(0x50, id));
    link.expect_bytes(ack(0x62, id));
    running.take_a_turn();
    link.expect_no_bytes();
    link.send(&ack(0x70, id));
    assert_eq!(attempts(told(second)), 1);
    let sent = link.read_bytes();
    assert_eq!(sent[0], 0x32, "{}", hex(&sent));
    link.send(&ack(0x40, identifier(&sent)));
    assert_eq!(attempts(told(third)), 1);
    assert_eq!(running.terminate5(link), [b"\xe0\x00"]);
}
