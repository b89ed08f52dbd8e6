//! Messages above `max_packet_size`: each is read away and told, and the link stays.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::lines::LINES;
use crate::support::running::{Running, message, next, options, send_at_once};
use crate::support::{Connection, HANG, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Filter, Inbox, InboxError, Protocol, QoS, WhenFull};
use rumqttc::mqttbytes::{self, v4};

in_both_versions! {
    a_message_that_is_too_large_costs_nobody_the_link,
    it_is_acknowledged_behind_its_last_byte_and_in_its_turn,
    with_qos_2_it_is_known_until_it_is_released,
    with_qos_0_it_is_counted_and_nothing_more,
    each_inbox_that_it_is_for_is_told_and_no_other_one,
    a_link_that_is_lost_while_it_comes_loses_nothing,
    one_that_was_told_and_comes_again_is_told_once,
}

const LIMIT: usize = 256 * 1024;
const LARGE: usize = 300_000;

/// A PUBLISH with a payload of [`LARGE`] bytes.
fn large(topic: &str, id: impl Into<Option<u16>>) -> v4::Packet {
    message(topic, id, &"x".repeat(LARGE))
}

/// The same with QoS 2.
fn large_2(topic: &str, id: u16, dup: bool) -> v4::Packet {
    let v4::Packet::Publish(mut publish) = large(topic, id) else {
        unreachable!("a PUBLISH");
    };
    publish.qos = mqttbytes::QoS::ExactlyOnce;
    publish.dup = dup;
    v4::Packet::Publish(publish)
}

fn small(topic: &str, id: u16) -> v4::Packet {
    message(topic, id, "small")
}

/// A loop that is online, and an inbox for `t/#`.
fn subscribed(
    broker: &mut ScriptedBroker,
    change: impl FnOnce(&mut Options),
) -> (Running, Connection, Inbox) {
    let mut options = options(broker);
    change(&mut options);
    let (running, mut link) = Running::online_with(options, broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "t/#");
    (running, link, inbox)
}

/// The next thing in the inbox is the message that was too large.
#[track_caller]
fn told(inbox: &Inbox, on: &str) {
    let Err(error) = inbox.recv_timeout(HANG) else {
        panic!("a message in place of the one on {on}");
    };
    assert!(!error.is_end());
    let InboxError::TooLarge { topic, size } = error else {
        panic!("{error}");
    };
    assert_eq!(topic, on);
    assert!((LARGE..LARGE + 20).contains(&size), "{size}");
}

fn a_message_that_is_too_large_costs_nobody_the_link(protocol: Protocol) {
    LINES.start();
    let from = LINES.count();
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = subscribed(&mut broker, |_| {});
    send_at_once(&mut link, [large("t/large", 7), small("t/2", 8)]);
    assert_eq!(link.expect_puback().pkid, 7);
    told(&inbox, "t/large");
    assert_eq!(next(&inbox), "small");
    assert_eq!(link.expect_puback().pkid, 8);
    let (_, stats) = running.terminate(link);
    assert_eq!((stats.connects, stats.too_large), (1, 1));
    let lines = LINES.with(from, "t/large", "max_packet_size");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let properties = usize::from(protocol == Protocol::V5);
    let size = 1 + 3 + 2 + "t/large".len() + 2 + properties + LARGE;
    for part in [size.to_string(), LIMIT.to_string()] {
        assert!(lines[0].contains(&part), "no {part} in {}", lines[0]);
    }
}

fn it_is_acknowledged_behind_its_last_byte_and_in_its_turn(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = subscribed(&mut broker, |_| {});
    let packets = [small("t/1", 1), small("t/2", 2), large("t/3", 3)];
    let mut bytes = packets.map(|packet| link.encoded(packet)).concat();
    let last = bytes.split_off(bytes.len() - 1);
    link.send(&bytes);
    // The first is in the inbox, the second waits aside.
    assert_eq!(link.expect_puback().pkid, 1);
    running.take_a_turn();
    assert_eq!(next(&inbox), "small");
    assert_eq!(link.expect_puback().pkid, 2);
    link.expect_silence(std::time::Duration::from_millis(50));
    link.send(&last);
    // It has no room, as any other message would have none.
    link.expect_silence(std::time::Duration::from_millis(50));
    assert_eq!(next(&inbox), "small");
    assert_eq!(link.expect_puback().pkid, 3);
    told(&inbox, "t/3");
    running.terminate(link);
}

fn with_qos_2_it_is_known_until_it_is_released(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = subscribed(&mut broker, |_| {});
    for dup in [false, true] {
        send_at_once(&mut link, [large_2("t/1", 5, dup)]);
        assert_eq!(link.expect_pubrec().pkid, 5);
    }
    told(&inbox, "t/1");
    link.send_packet(v4::Packet::PubRel(v4::PubRel::new(5)));
    assert_eq!(link.expect_pubcomp().pkid, 5);
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    send_at_once(&mut link, [large_2("t/1", 5, false)]);
    assert_eq!(link.expect_pubrec().pkid, 5);
    told(&inbox, "t/1");
    assert_eq!(running.terminate(link).1.too_large, 2);
}

fn with_qos_0_it_is_counted_and_nothing_more(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = subscribed(&mut broker, |_| {});
    send_at_once(&mut link, [large("t/1", None), small("t/2", 2)]);
    assert_eq!(next(&inbox), "small");
    assert_eq!(inbox.dropped(), 1);
    assert_eq!(link.expect_puback().pkid, 2);
    assert_eq!(running.terminate(link).1.too_large, 1);
}

fn each_inbox_that_it_is_for_is_told_and_no_other_one(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = subscribed(&mut broker, |_| {});
    let [both, other] = ["t/+", "u"].map(|filter| {
        let inbox = running.handle().inbox(1, WhenFull::WaitAside);
        running.subscribe(&mut link, &inbox, filter);
        inbox
    });
    send_at_once(&mut link, [large("t/1", 1), large("nobody", 2)]);
    for id in [1, 2] {
        assert_eq!(link.expect_puback().pkid, id);
    }
    told(&inbox, "t/1");
    told(&both, "t/1");
    assert_eq!(other.try_recv(), Err(InboxError::Timeout));
    assert!(running.handle().unmatched().try_recv().is_err());
    assert_eq!(running.terminate(link).1.too_large, 2);
}

fn a_link_that_is_lost_while_it_comes_loses_nothing(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = subscribed(&mut broker, |_| {});
    let bytes = link.encoded(large("t/1", 1));
    link.send(&bytes[..200_000]);
    link.close();
    let (mut link, _) = broker.accept_client(true);
    send_at_once(&mut link, [large("t/1", 1)]);
    assert_eq!(link.expect_puback().pkid, 1);
    told(&inbox, "t/1");
    assert_eq!(running.terminate(link).1.too_large, 1);
}

fn one_that_was_told_and_comes_again_is_told_once(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = subscribed(&mut broker, |_| {});
    let again = |dup| {
        let v4::Packet::Publish(mut publish) = large("t/2", 2) else {
            unreachable!("a PUBLISH");
        };
        publish.dup = dup;
        v4::Packet::Publish(publish)
    };
    // The first fills the inbox.
    send_at_once(&mut link, [small("t/1", 1), again(false)]);
    assert_eq!(link.expect_puback().pkid, 1);
    running.take_a_turn();
    link.close();
    let (mut link, _) = broker.accept_client(true);
    send_at_once(&mut link, [again(true)]);
    running.take_a_turn();
    assert_eq!(next(&inbox), "small");
    told(&inbox, "t/2");
    assert_eq!(link.expect_puback().pkid, 2);
    assert_eq!(inbox.try_recv(), Err(InboxError::Timeout));
    running.terminate(link);
}

#[test]
fn the_end_of_the_loop_alone_is_an_end() {
    let refused = InboxError::SubscriptionRefused {
        filter: Filter::new("t", QoS::AtMostOnce).filter,
    };
    assert!(!refused.is_end() && !InboxError::Timeout.is_end());
    assert!(InboxError::Closed.is_end());
}
