//! Inboxes: messages reach every subscribed thread, and no thread can stop the loop. The real loop
//! against a scripted broker.
//!
//! `row_NN` names the defect of the original program, in the project's table, that must not come back.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::running::{
    Running, attempts, expect_refused, message, next, options, send_at_once, send_unsuback, told,
};
use crate::support::scripted5::{answers5, connack5};
use crate::support::{Connection, HANG, ScriptedBroker, in_both_versions, wait_until};
use mqtt_connection_sharing::{Accept, Inbox, InboxError, Outcome, Protocol, Reason, WhenFull};
use mqtt_connection_sharing::{Filter, Publish, QoS};
use rumqttc::mqttbytes::v4;

in_both_versions! {
    an_inbox_that_accepts_what_is_taken_holds_back_its_acknowledgments_and_nothing_else,
    an_inbox_says_how_many_messages_wait_in_it_and_counts_none_that_waits_aside,
    acknowledgments_leave_in_the_order_of_arrival,
    qos_0_is_dropped_and_counted_where_there_is_no_room,
    the_other_policies_drop_count_and_acknowledge,
    a_dropped_inbox_accepts_its_waiting_messages_and_is_unsubscribed,
    a_subscription_made_after_inboxes_were_dropped_is_not_taken_away_with_theirs,
    a_thread_that_consumes_a_small_inbox_can_publish_and_wait,
    row_10_unsubscribe_goes_on_the_wire_when_the_last_thread_leaves,
    row_10_a_subscription_made_while_unsubscribe_is_under_way_stays_and_ends_like_others,
    row_11_one_filter_too_many_is_refused_before_anything_is_sent,
    row_06_a_refused_subscription_is_told_and_undone,
    row_02_messages_that_nobody_wants_are_bounded_counted_and_harmless,
}

/// Short enough to wait for, long enough for a wrong packet to come.
const A_MOMENT: Duration = Duration::from_millis(30);

fn an_inbox_that_accepts_what_is_taken_holds_back_its_acknowledgments_and_nothing_else(
    protocol: Protocol,
) {
    const COUNT: u16 = 50;
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let slow = running.handle().inbox(1, Accept::OnceTaken);
    let quick = running
        .handle()
        .inbox(usize::from(COUNT), WhenFull::WaitAside);
    running.subscribe(&mut link, &slow, "a/#");
    running.subscribe(&mut link, &quick, "a/#");
    send_at_once(
        &mut link,
        (1..=COUNT).map(|id| message("a/b", id, &id.to_string())),
    );
    for id in 1..=COUNT {
        assert_eq!(next(&quick), id.to_string());
    }
    let ticket = running.publish("out", "x");
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    assert!(told(ticket).is_delivered());
    link.expect_silence(A_MOMENT);
    for id in 1..=COUNT {
        assert_eq!(next(&slow), id.to_string());
        assert_eq!(link.expect_puback().pkid, id);
        if id == COUNT / 2 {
            link.expect_silence(A_MOMENT);
        }
    }
    assert!(matches!(slow.try_recv(), Err(InboxError::Timeout)));
    assert_eq!((slow.dropped(), quick.dropped()), (0, 0));
    assert_eq!(running.terminate(link).1.connects, 1);
}

fn an_inbox_says_how_many_messages_wait_in_it_and_counts_none_that_waits_aside(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(2, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "a");
    assert_eq!(inbox.waiting(), 0);
    send_at_once(
        &mut link,
        (1..=3).map(|id| message("a", id, &id.to_string())),
    );
    wait_until("a full inbox", || inbox.waiting() == 2);
    assert_eq!(next(&inbox), "1");
    wait_until("the third message in it", || inbox.waiting() == 2);
    assert_eq!([next(&inbox), next(&inbox)], ["2", "3"]);
    assert_eq!(inbox.waiting(), 0);
    // The acknowledgments.
    for id in 1..=3 {
        assert_eq!(link.expect_puback().pkid, id);
    }
    running.terminate(link);
}

fn acknowledgments_leave_in_the_order_of_arrival(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let slow = running.handle().inbox(1, Accept::OnceTaken);
    let quick = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &slow, "slow");
    running.subscribe(&mut link, &quick, "quick");
    let messages = [
        message("slow", 9, "1"),
        message("slow", 2, "2"),
        message("quick", 5, "3"),
    ];
    send_at_once(&mut link, messages);
    assert_eq!(next(&quick), "3");
    link.expect_silence(A_MOMENT);
    assert_eq!(next(&slow), "1");
    assert_eq!(link.expect_puback().pkid, 9);
    assert_eq!(next(&slow), "2");
    assert_eq!(link.expect_puback().pkid, 2);
    assert_eq!(link.expect_puback().pkid, 5);
    running.terminate(link);
}

fn qos_0_is_dropped_and_counted_where_there_is_no_room(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let small = running.handle().inbox(1, WhenFull::WaitAside);
    let large = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &small, "a");
    running.subscribe(&mut link, &large, "a");
    send_at_once(
        &mut link,
        (1..=5).map(|n| message("a", None, &n.to_string())),
    );
    for n in 1..=5 {
        assert_eq!(next(&large), n.to_string());
    }
    running.take_a_turn();
    assert_eq!((small.dropped(), large.dropped()), (4, 0));
    assert_eq!(next(&small), "1");
    running.terminate(link);
}

fn the_other_policies_drop_count_and_acknowledge(protocol: Protocol) {
    let kept = [
        (WhenFull::DropOldest, ["4", "5"]),
        (WhenFull::DropNewest, ["1", "2"]),
    ];
    for (policy, expected) in kept {
        let mut broker = ScriptedBroker::speaking(protocol);
        let (running, mut link) = Running::online(&mut broker);
        let inbox = running.handle().inbox(2, policy);
        running.subscribe(&mut link, &inbox, "a");
        send_at_once(
            &mut link,
            (1..=5).map(|id| message("a", id, &id.to_string())),
        );
        for id in 1..=5 {
            assert_eq!(link.expect_puback().pkid, id);
        }
        assert_eq!(inbox.dropped(), 3);
        assert_eq!([next(&inbox), next(&inbox)], expected);
        running.terminate(link);
    }
}

fn a_dropped_inbox_accepts_its_waiting_messages_and_is_unsubscribed(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, Accept::OnceTaken);
    let other = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "shared");
    running.subscribe(&mut link, &inbox, "own");
    running.subscribe(&mut link, &other, "shared");
    send_at_once(&mut link, (1..=4).map(|id| message("shared", id, "m")));
    link.expect_silence(A_MOMENT);
    drop(inbox);
    let mut acknowledged = Vec::new();
    let mut unsubscribed = Vec::new();
    while acknowledged.len() + unsubscribed.len() < 5 {
        match link.read_packet() {
            v4::Packet::PubAck(ack) => acknowledged.push(ack.pkid),
            v4::Packet::Unsubscribe(unsubscribe) => {
                send_unsuback(&mut link, unsubscribe.pkid);
                unsubscribed.extend(unsubscribe.topics);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(acknowledged, [1, 2, 3, 4]);
    assert_eq!(unsubscribed, ["own"]);
    for _ in 0..4 {
        assert_eq!(next(&other), "m");
    }
    running.terminate(link);
}

fn a_subscription_made_after_inboxes_were_dropped_is_not_taken_away_with_theirs(
    protocol: Protocol,
) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle();
    let dropped: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|filter| {
            let inbox = handle.inbox(1, WhenFull::WaitAside);
            running.subscribe(&mut link, &inbox, filter);
            inbox
        })
        .collect();
    // While a callback keeps the loop busy, the inboxes are dropped and another one subscribes.
    let (tell, entered) = channel();
    let (release, released) = channel::<()>();
    let callback = move |_| {
        tell.send(()).unwrap();
        let _ = released.recv_timeout(HANG);
    };
    let publish = Publish::new("out", QoS::AtMostOnce, "x");
    handle.publish_then(publish, callback).unwrap();
    entered.recv_timeout(HANG).unwrap();
    drop(dropped);
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("c", QoS::AtLeastOnce)];
    let ticket = handle.subscribe(&inbox, filters).unwrap();
    release.send(()).unwrap();
    link.expect_publish();
    let mut subscribed = true;
    for _ in 0..4 {
        match link.read_packet() {
            v4::Packet::Unsubscribe(unsubscribe) => {
                send_unsuback(&mut link, unsubscribe.pkid);
                subscribed &= unsubscribe.topics != ["c"];
            }
            v4::Packet::Subscribe(subscribe) => {
                link.grant(&subscribe);
                subscribed = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(told(ticket).is_delivered());
    assert!(
        subscribed,
        "the broker was told to unsubscribe after the last SUBSCRIBE"
    );
    running.terminate(link);
}

/// With MQTT 5, the UNSUBSCRIBE waits for a SUBSCRIBE of the same filter, its inbox is dropped, and the next link takes no
/// packet as large.
#[test]
fn what_an_unsubscribe_never_sent_leaves_to_nobody_is_unsubscribed() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let long = "b".repeat(40);
    let subscribe = |filter: &str| {
        let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
        handle.subscribe(&inbox, filters).unwrap()
    };
    let granted = subscribe("a");
    assert_eq!(link.read_bytes(), b"\x82\x07\x00\x01\x00\x00\x01a\x01");
    link.send(&answers5(0x90, 1, &[1]));
    assert!(told(granted).is_delivered());
    let unanswered = subscribe(&long);
    assert_eq!(link.read_bytes()[..4], *b"\x82\x2e\x00\x02");
    let left = handle.unsubscribe(&inbox, vec!["a".to_owned(), long.clone()]);
    // The loop has taken the UNSUBSCRIBE once it sends this, and has heard of the drop once it answers the next.
    let pinged = handle.ping().unwrap();
    assert_eq!(link.read_bytes(), b"\xc0\x00");
    link.send(b"\xd0\x00");
    assert!(told(pinged).is_delivered());
    drop(inbox);
    assert!(told(handle.process_loop()).is_delivered());
    link.close();
    let maximum_packet_size = b"\x27\x00\x00\x00\x28";
    let (mut link, _) = running.greet5(&mut broker, &connack5(false, maximum_packet_size));
    let outcome = told(left.unwrap());
    let is_limit = matches!(outcome, Outcome::NeverSent(Reason::BrokerLimit(_)));
    assert!(is_limit, "{outcome}");
    assert!(!told(unanswered).is_delivered());
    // It was put back, as the thread was told.
    assert_eq!(link.read_bytes(), b"\x82\x07\x00\x05\x00\x00\x01a\x11");
    link.send(&answers5(0x90, 5, &[1]));
    assert_eq!(link.read_bytes(), b"\xa2\x06\x00\x06\x00\x00\x01a");
    link.send(&answers5(0xb0, 6, &[0]));
    running.terminate5(link);
}

fn a_thread_that_consumes_a_small_inbox_can_publish_and_wait(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.command_queue = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let handle = running.handle().clone();
    let echo = thread::spawn(move || {
        for _ in 0..20 {
            let payload = next(&inbox);
            let publish = Publish::new("out", QoS::AtLeastOnce, payload);
            assert_eq!(attempts(told(handle.publish(publish).unwrap())), 1);
        }
    });
    send_at_once(
        &mut link,
        (1..=20).map(|id| message("in", id, &id.to_string())),
    );
    let (mut acknowledged, mut echoed) = (0, 0);
    while acknowledged < 20 || echoed < 20 {
        match link.read_packet() {
            v4::Packet::PubAck(ack) => {
                acknowledged += 1;
                assert_eq!(ack.pkid, acknowledged);
            }
            v4::Packet::Publish(publish) => {
                echoed += 1;
                assert_eq!(publish.payload, echoed.to_string());
                link.send_puback(publish.pkid);
            }
            other => panic!("{other:?}"),
        }
    }
    // The inbox goes with its thread.
    echo.join().unwrap();
    assert_eq!(link.expect_unsubscribe().topics, ["in"]);
    running.terminate(link);
}

fn row_10_unsubscribe_goes_on_the_wire_when_the_last_thread_leaves(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle();
    let first = handle.inbox(10, WhenFull::WaitAside);
    let last = handle.inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &first, "a");
    running.subscribe(&mut link, &last, "a");
    let leave = |inbox| handle.unsubscribe(inbox, vec!["a".into()]).unwrap();
    assert!(told(leave(&first)).is_delivered());
    let ping = handle.ping().unwrap();
    link.expect_pingreq();
    link.send_packet(v4::Packet::PingResp);
    assert!(told(ping).is_delivered());
    send_at_once(&mut link, [message("a", 1, "one stays")]);
    assert_eq!(next(&last), "one stays");
    assert_eq!(link.expect_puback().pkid, 1);
    assert!(first.try_recv().is_err());
    let ticket = leave(&last);
    let id = link.expect_unsubscribe().pkid;
    // Messages may still come until UNSUBACK.
    send_at_once(&mut link, [message("a", 2, "late")]);
    assert_eq!(next(&last), "late");
    assert_eq!(link.expect_puback().pkid, 2);
    send_unsuback(&mut link, id);
    assert!(told(ticket).is_delivered());
    running.terminate(link);
}

/// Reads the next packet, a SUBSCRIBE, and grants it.
fn grant(link: &mut Connection) {
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
}

fn row_10_a_subscription_made_while_unsubscribe_is_under_way_stays_and_ends_like_others(
    protocol: Protocol,
) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle();
    let first = handle.inbox(10, WhenFull::WaitAside);
    let other = handle.inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &first, "a");
    running.subscribe(&mut link, &other, "b");
    let subscribe = |inbox: &Inbox| {
        let filters = vec![Filter::new("a", QoS::AtLeastOnce)];
        handle.subscribe(inbox, filters).unwrap()
    };
    let leaving = handle.unsubscribe(&first, vec!["a".into()]).unwrap();
    let id = link.expect_unsubscribe().pkid;
    // The loop sends one request for a filter at a time: this one leaves after UNSUBACK.
    let again = subscribe(&first);
    send_unsuback(&mut link, id);
    assert!(told(leaving).is_delivered());
    grant(&mut link);
    assert!(told(again).is_delivered());
    send_at_once(&mut link, [message("a", 1, "again")]);
    assert_eq!(link.expect_puback().pkid, 1);
    assert_eq!(next(&first), "again");
    // Another inbox joins while the only one leaves, and is dropped before the answer.
    let leaving = handle.unsubscribe(&first, vec!["a".into()]).unwrap();
    let id = link.expect_unsubscribe().pkid;
    let joining = subscribe(&other);
    running.take_a_turn();
    drop(other);
    send_unsuback(&mut link, id);
    grant(&mut link);
    assert!(told(joining).is_delivered());
    let abandoned = link.expect_unsubscribe();
    let mut filters = abandoned.topics.clone();
    filters.sort();
    assert_eq!(filters, ["a", "b"]);
    send_unsuback(&mut link, abandoned.pkid);
    assert!(told(leaving).is_delivered());
    running.terminate(link);
}

fn row_11_one_filter_too_many_is_refused_before_anything_is_sent(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_subscriptions = 2;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "a");
    let subscribe = |filters: &[&str]| {
        let filters = filters.iter().map(|f| Filter::new(*f, QoS::AtLeastOnce));
        handle.subscribe(&inbox, filters.collect()).unwrap()
    };
    let refused = told(subscribe(&["b", "c"]));
    assert_eq!(refused, Outcome::NeverSent(Reason::SubscriptionLimit));
    // One filter still fits, and it is the first thing on the wire.
    running.subscribe(&mut link, &inbox, "d");
    let refused = told(subscribe(&["b"]));
    assert_eq!(refused, Outcome::NeverSent(Reason::SubscriptionLimit));
    let leaving = handle.unsubscribe(&inbox, vec!["a".into()]).unwrap();
    let id = link.expect_unsubscribe().pkid;
    send_unsuback(&mut link, id);
    assert!(told(leaving).is_delivered());
    running.subscribe(&mut link, &inbox, "b");
    running.terminate(link);
}

fn row_06_a_refused_subscription_is_told_and_undone(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    let filters = ["yes", "no"].map(|f| Filter::new(f, QoS::AtLeastOnce));
    let ticket = handle.subscribe(&inbox, filters.to_vec()).unwrap();
    let id = link.expect_subscribe().pkid;
    let codes = vec![
        v4::SubscribeReasonCode::Success(rumqttc::mqttbytes::QoS::AtMostOnce),
        v4::SubscribeReasonCode::Failure,
    ];
    link.send_packet(v4::Packet::SubAck(v4::SubAck::new(id, codes)));
    let granted = [Some(QoS::AtMostOnce), None];
    expect_refused(told(ticket), protocol, &granted);
    send_at_once(&mut link, [message("no", 1, "n"), message("yes", 2, "y")]);
    assert_eq!(next(&inbox), "y");
    let unmatched = handle.unmatched().recv_timeout(HANG).unwrap();
    assert_eq!(unmatched.topic(), "no");
    assert_eq!(link.expect_puback().pkid, 1);
    assert_eq!(link.expect_puback().pkid, 2);
    link.close();
    let (mut link, _) = broker.accept_client(false);
    let renewed = link.expect_subscribe();
    assert_eq!(renewed.filters.len(), 1);
    assert_eq!(renewed.filters[0].path, "yes");
    running.terminate(link);
}

fn row_02_messages_that_nobody_wants_are_bounded_counted_and_harmless(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.unmatched_queue = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    send_at_once(
        &mut link,
        (1..=5).map(|id| message("who", id, &id.to_string())),
    );
    for id in 1..=5 {
        assert_eq!(link.expect_puback().pkid, id);
    }
    let unmatched = running.handle().unmatched().clone();
    assert_eq!(unmatched.recv_timeout(HANG).unwrap().payload(), b"1");
    assert!(unmatched.try_recv().is_err());
    let (_, stats) = running.terminate(link);
    assert_eq!((stats.unmatched_dropped, stats.connects), (4, 1));
}
