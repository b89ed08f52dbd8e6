//! Incoming messages: which answers they get, and when.

use mqtt_connection_sharing::{Accept, InboxError, WhenFull};

use crate::harness::{RESUMED, ack, greet, message, online, online_with, terminate};
use crate::support::running::{next, options};
use crate::support::{HANG, ScriptedBroker};

#[test]
fn mqtt_3_3_4_1_each_quality_of_service_has_its_answer() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    // With RETAIN and, where allowed, with DUP, the answer is the same.
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
        link.send(&message(first, "in", 0x0102, b"x"));
        let came = inbox.recv_timeout(HANG).expect("a message");
        assert_eq!(came.qos() as u8, (first >> 1) & 3);
        assert_eq!(came.retain(), first & 1 == 1);
        if let Some(answer) = answer {
            link.expect_bytes([answer, 2, 1, 2]);
        }
        if answer == Some(0x50) {
            link.send(&ack(0x62, 0x0102));
            link.expect_bytes(ack(0x70, 0x0102));
        }
    }
    // Nothing else was sent.
    running.take_a_turn();
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
}

#[test]
fn mqtt_4_3_2_2_puback_comes_once_the_message_is_taken_and_frees_its_identifier() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let inbox = running.handle().inbox(1, Accept::OnceTaken);
    running.subscribe(&mut link, &inbox, "in");
    link.send(&message(0x32, "in", 7, b"first"));
    // The inbox is full now.
    link.send(&message(0x32, "in", 8, b"second"));
    running.take_a_turn();
    link.expect_no_bytes();
    // Neither is accepted when it comes again on another link.
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    link.send(&message(0x3a, "in", 7, b"first"));
    link.send(&message(0x3a, "in", 8, b"second"));
    running.take_a_turn();
    link.expect_no_bytes();
    for (payload, id) in [("first", 7), ("second", 8)] {
        assert_eq!(next(&inbox), payload);
        link.expect_bytes(ack(0x40, id));
    }
    // After PUBACK the identifier names a new message, whatever its content, with DUP or without.
    for first in [0x32, 0x3a, 0x32] {
        link.send(&message(first, "in", 8, b"second"));
        assert_eq!(next(&inbox), "second");
        link.expect_bytes(ack(0x40, 8));
    }
    link.close();
    let mut link = greet(&mut broker, RESUMED);
    link.send(&message(0x3a, "in", 8, b"second"));
    assert_eq!(next(&inbox), "second");
    link.expect_bytes(ack(0x40, 8));
    terminate(running, link);
}

#[test]
fn mqtt_4_5_0_2_every_message_is_acknowledged_whether_anybody_wants_it_or_not() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.unmatched_queue = 1;
    let (running, mut link) = online_with(options, &mut broker);
    let newest = running.handle().inbox(1, WhenFull::DropOldest);
    running.subscribe(&mut link, &newest, "newest");
    let oldest = running.handle().inbox(1, WhenFull::DropNewest);
    running.subscribe(&mut link, &oldest, "oldest");
    let gone = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &gone, "gone");
    drop(gone);
    // The UNSUBSCRIBE of the dropped inbox is on its way, but messages still come.
    assert_eq!(link.read_bytes()[0], 0xa2);
    // Topics never subscribed to, without room in the default inbox, dropped by the inbox's own rule,
    // and with a dropped inbox.
    for round in 0..3 {
        for topic in ["nobody/asked", "$SYS/x", "newest", "oldest", "gone"] {
            link.send(&message(0x30, topic, 0, b"x"));
            link.send(&message(0x32, topic, 11, &[b'0' + round]));
            link.expect_bytes(ack(0x40, 11));
            link.send(&message(0x34, topic, 12, b"x"));
            link.expect_bytes(ack(0x50, 12));
            link.send(&ack(0x62, 12));
            link.expect_bytes(ack(0x70, 12));
        }
    }
    assert_eq!(oldest.recv_timeout(HANG).map(|m| m.qos() as u8), Ok(0));
    assert_eq!(oldest.try_recv(), Err(InboxError::Timeout));
    assert_eq!(newest.recv_timeout(HANG).map(|m| m.qos() as u8), Ok(2));
    assert_eq!((oldest.dropped(), newest.dropped()), (8, 8));
    terminate(running, link);
}

#[test]
fn mqtt_4_6_0_2_pubacks_leave_in_the_order_of_the_publishes() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = online(&mut broker);
    let slow = running.handle().inbox(1, Accept::OnceTaken);
    running.subscribe(&mut link, &slow, "slow");
    let quick = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &quick, "quick");
    // Messages wait until they are taken, and the ones behind them are accepted at once.
    let arriving = [
        message(0x32, "slow", 900, b"900"),
        message(0x32, "slow", 3, b"3"),
        message(0x32, "quick", 65_535, b"65535"),
        message(0x30, "quick", 0, b"0"),
        message(0x32, "nobody", 2, b"2"),
        message(0x34, "quick", 1, b"1"),
        message(0x32, "slow", 4, b"4"),
        message(0x32, "quick", 5, b"5"),
    ];
    link.send(&arriving.concat());
    for payload in ["65535", "0", "1", "5"] {
        assert_eq!(next(&quick), payload);
    }
    running.take_a_turn();
    link.expect_no_bytes();
    assert_eq!(next(&slow), "900");
    link.expect_bytes(ack(0x40, 900));
    assert_eq!(next(&slow), "3");
    link.expect_bytes(ack(0x40, 3));
    link.expect_bytes(ack(0x40, 65_535));
    link.expect_bytes(ack(0x40, 2));
    link.expect_bytes(ack(0x50, 1));
    assert_eq!(next(&slow), "4");
    link.expect_bytes(ack(0x40, 4));
    link.expect_bytes(ack(0x40, 5));
    terminate(running, link);
}
