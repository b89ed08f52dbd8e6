//! Messages that their threads acknowledge when they are done. The real loop against a scripted broker.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::thread;
use std::time::Duration;

use crate::support::lines::LINES;
use crate::support::running::{Running, message, next, options, send_at_once, send_unsuback, told};
use crate::support::{Connection, Event, HANG, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::{ByHand, EventKind, Handle, Inbox, InboxError, Message, Protocol};
use mqtt_connection_sharing::{Client, Filter, QoS, RejectReason, Unacknowledged, WhenFull};
use rumqttc::mqttbytes::{self, v4};

in_both_versions! {
    what_is_done_is_acknowledged_in_the_order_of_arrival,
    qos_2_withholds_pubrec_and_qos_0_has_nothing_to_acknowledge,
    a_message_for_several_inboxes_is_acknowledged_when_all_have_accepted_it,
    what_is_dropped_undone_is_offered_again_and_told_after_a_while,
    a_panic_in_mid_work_loses_nothing_and_the_next_thread_takes_over,
    a_thread_that_catches_a_panic_gets_the_message_again,
    after_a_lost_link_a_redelivery_is_acknowledged_and_not_offered,
    an_identifier_that_is_used_anew_is_a_message_of_its_own,
    a_lost_session_costs_no_message_that_has_come,
    what_is_done_before_terminate_is_acknowledged_and_nothing_else,
    a_client_whose_handles_are_dropped_acknowledges_nothing,
}

/// Short enough to wait for, long enough for a wrong packet to come.
const A_MOMENT: Duration = Duration::from_millis(30);

type HandInbox = Inbox<Unacknowledged>;

/// A loop that is online, and an inbox that accepts by hand.
fn online(broker: &mut ScriptedBroker, filter: &str) -> (Running, Connection, HandInbox) {
    let (running, mut link) = Running::online(broker);
    let inbox = running.handle().inbox_by_hand(10, ByHand::default());
    running.subscribe(&mut link, &inbox, filter);
    (running, link, inbox)
}

#[track_caller]
fn take(inbox: &HandInbox) -> Unacknowledged {
    inbox.recv_timeout(HANG).expect("a message")
}

fn text(message: &Message) -> String {
    String::from_utf8(message.payload().to_vec()).expect("text")
}

/// A message of QoS 1 or 2 as the broker sends it for the first time, or again.
fn publish(id: u16, qos: mqttbytes::QoS, dup: bool) -> v4::Packet {
    let mut publish = v4::Publish::new("a", qos, id.to_string());
    (publish.pkid, publish.dup) = (id, dup);
    v4::Packet::Publish(publish)
}

#[track_caller]
fn expect_pubacks(link: &mut Connection, ids: impl IntoIterator<Item = u16>) {
    for id in ids {
        assert_eq!(link.expect_puback().pkid, id);
    }
}

fn what_is_done_is_acknowledged_in_the_order_of_arrival(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    let quick = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &quick, "quick");
    let messages = [message("a", 9, "1"), message("a", 2, "2")];
    send_at_once(
        &mut link,
        messages.into_iter().chain([message("quick", 5, "3")]),
    );
    assert_eq!(next(&quick), "3");
    let (one, two) = (take(&inbox), take(&inbox));
    assert_eq!((text(&one), text(&two)), ("1".into(), "2".into()));
    two.done();
    running.take_a_turn();
    link.expect_silence(A_MOMENT);
    one.done();
    expect_pubacks(&mut link, [9, 2, 5]);
    assert_eq!(running.terminate(link).1.connects, 1);
}

fn qos_2_withholds_pubrec_and_qos_0_has_nothing_to_acknowledge(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    send_at_once(
        &mut link,
        [
            publish(7, mqttbytes::QoS::ExactlyOnce, false),
            message("a", None, "0"),
        ],
    );
    let (two, zero) = (take(&inbox), take(&inbox));
    assert_eq!((text(&two), text(&zero)), ("7".into(), "0".into()));
    drop(zero);
    running.take_a_turn();
    link.expect_silence(A_MOMENT);
    assert!(matches!(inbox.try_recv(), Err(InboxError::Timeout)));
    two.done();
    assert_eq!(link.expect_pubrec().pkid, 7);
    link.send_packet(v4::Packet::PubRel(v4::PubRel::new(7)));
    assert_eq!(link.expect_pubcomp().pkid, 7);
    running.terminate(link);
}

fn a_message_for_several_inboxes_is_acknowledged_when_all_have_accepted_it(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, first) = online(&mut broker, "a");
    let second = running.handle().inbox_by_hand(10, ByHand::default());
    let quick = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &second, "+");
    running.subscribe(&mut link, &quick, "#");
    send_at_once(&mut link, [message("a", 1, "x")]);
    assert_eq!(next(&quick), "x");
    take(&first).done();
    let one = take(&second);
    running.take_a_turn();
    link.expect_silence(A_MOMENT);
    one.done();
    expect_pubacks(&mut link, [1]);
    running.terminate(link);
}

fn what_is_dropped_undone_is_offered_again_and_told_after_a_while(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    let events = running.handle().events();
    send_at_once(&mut link, [message("a", 1, "x")]);
    for attempts in 1..=12 {
        let message = take(&inbox);
        assert_eq!(message.attempts(), attempts);
        drop(message);
    }
    link.expect_silence(A_MOMENT);
    take(&inbox).done();
    expect_pubacks(&mut link, [1]);
    running.terminate(link);
    let told: Vec<_> = events
        .filter_map(|event| match &event.kind {
            EventKind::DroppedUndone { topic, times } => Some((topic.clone(), *times)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [("a".to_owned(), 5), ("a".to_owned(), 10)]);
}

/// The thread drops what it has in its hands, and then its inbox. Another thread takes its place.
fn a_panic_in_mid_work_loses_nothing_and_the_next_thread_takes_over(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    send_at_once(
        &mut link,
        (1..=3).map(|id| message("a", id, &id.to_string())),
    );
    let worker = thread::spawn(move || {
        take(&inbox).done();
        let _two = take(&inbox);
        panic!("in the middle of the work");
    });
    assert!(worker.join().is_err());
    expect_pubacks(&mut link, [1]);
    let leaving = link.expect_unsubscribe();
    send_unsuback(&mut link, leaving.pkid);
    link.expect_silence(A_MOMENT);
    let inbox = running.handle().inbox_by_hand(10, ByHand::default());
    running.subscribe(&mut link, &inbox, "a");
    for (id, attempts) in [(2, 2), (3, 1)] {
        let message = take(&inbox);
        assert_eq!(
            (text(&message), message.attempts()),
            (id.to_string(), attempts)
        );
        message.done();
        expect_pubacks(&mut link, [id]);
    }
    running.terminate(link);
}

/// Where only the work panics, the same inbox gets the message again.
fn a_thread_that_catches_a_panic_gets_the_message_again(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    send_at_once(&mut link, [message("a", 1, "x")]);
    let message = take(&inbox);
    let work = std::panic::AssertUnwindSafe(move || {
        let _message = message;
        panic!("in the middle of the work");
    });
    assert!(std::panic::catch_unwind(work).is_err());
    let message = take(&inbox);
    assert_eq!(message.attempts(), 2);
    message.done();
    expect_pubacks(&mut link, [1]);
    running.terminate(link);
}

/// 1 is done while there is no link, 2 and 3 on the next one, before and after they come again. 4 is in the inbox
/// meanwhile.
fn after_a_lost_link_a_redelivery_is_acknowledged_and_not_offered(protocol: Protocol) {
    for qos in [mqttbytes::QoS::AtLeastOnce, mqttbytes::QoS::ExactlyOnce] {
        let answer = |link: &mut Connection| match qos {
            mqttbytes::QoS::AtLeastOnce => link.expect_puback().pkid,
            _ => link.expect_pubrec().pkid,
        };
        let mut broker = ScriptedBroker::speaking(protocol);
        let (running, mut link, inbox) = online(&mut broker, "a");
        send_at_once(&mut link, (1..=4).map(|id| publish(id, qos, false)));
        let [one, two, three] = [take(&inbox), take(&inbox), take(&inbox)];
        link.close();
        let mut link = broker.accept();
        assert!(!link.expect_connect().clean_session);
        one.done();
        running.take_a_turn();
        link.send_connack(v4::ConnectReturnCode::Success, true);
        two.done();
        running.take_a_turn();
        link.expect_silence(A_MOMENT);
        send_at_once(&mut link, (1..=4).map(|id| publish(id, qos, true)));
        assert_eq!([answer(&mut link), answer(&mut link)], [1, 2]);
        link.expect_silence(A_MOMENT);
        three.done();
        assert_eq!(answer(&mut link), 3);
        let four = take(&inbox);
        assert_eq!((text(&four).as_str(), four.attempts()), ("4", 1));
        four.done();
        assert_eq!(answer(&mut link), 4);
        // Each came once.
        running.take_a_turn();
        assert!(matches!(inbox.try_recv(), Err(InboxError::Timeout)));
        running.terminate(link);
    }
}

fn an_identifier_that_is_used_anew_is_a_message_of_its_own(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    send_at_once(&mut link, [message("a", 1, "x")]);
    let old = take(&inbox);
    link.close();
    // The broker has lost the message and keeps the session, which it may not.
    let (mut link, _) = broker.accept_client(true);
    send_at_once(&mut link, [message("a", 1, "x")]);
    let new = take(&inbox);
    old.done();
    running.take_a_turn();
    link.expect_silence(A_MOMENT);
    new.done();
    expect_pubacks(&mut link, [1]);
    running.terminate(link);
}

/// A broker that forgot the session sends nothing again. The loop still offers what was dropped undone.
fn a_lost_session_costs_no_message_that_has_come(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    send_at_once(&mut link, [message("a", 1, "x"), message("a", 2, "y")]);
    let message = take(&inbox);
    link.close();
    let (mut link, _) = broker.accept_client(false);
    let renewed = link.expect_subscribe();
    link.grant(&renewed);
    drop(message);
    take(&inbox).done();
    let message = take(&inbox);
    assert_eq!((text(&message).as_str(), message.attempts()), ("x", 2));
    message.done();
    running.take_a_turn();
    link.expect_silence(A_MOMENT);
    running.terminate(link);
}

#[test]
fn a_session_that_is_not_kept_is_refused_before_anything_is_sent() {
    let refused = |handle: &Handle| {
        let inbox = handle.inbox_by_hand(1, ByHand::default());
        let filters = || vec![Filter::new("a", QoS::AtLeastOnce)];
        let rejected = handle.subscribe(&inbox, filters()).map(drop).unwrap_err();
        assert_eq!(
            (&rejected.command, &rejected.reason),
            (&filters(), &RejectReason::CleanSession)
        );
        let told = mqtt_connection_sharing::error::Error::from(rejected).to_string();
        assert!(told.contains("a session that the broker keeps"), "{told}");
        // An inbox of another kind may.
        let other = handle.inbox(1, WhenFull::WaitAside);
        assert!(handle.subscribe(&other, filters()).is_ok());
    };
    let broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    let open_clean = Client::new(options.clone()).unwrap().open_clean();
    refused(&open_clean.1);
    options.clean_session = true;
    let open = Client::new(options).unwrap().open();
    refused(&open.1);
}

fn what_is_done_before_terminate_is_acknowledged_and_nothing_else(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link, inbox) = online(&mut broker, "a");
    send_at_once(
        &mut link,
        (1..=4).map(|id| message("a", id, &id.to_string())),
    );
    let [one, two, three] = [take(&inbox), take(&inbox), take(&inbox)];
    one.done();
    let ticket = running.handle().terminate(Duration::ZERO);
    expect_pubacks(&mut link, [1]);
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    assert!(running.join().result.is_ok());
    assert!(told(ticket).is_delivered());
    // The broker sends them again to the next connection.
    two.done();
    drop(three);
    assert_eq!(text(&take(&inbox)), "4");
    assert!(matches!(inbox.recv(), Err(InboxError::Closed)));
}

fn a_client_whose_handles_are_dropped_acknowledges_nothing(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (mut running, mut link, inbox) = online(&mut broker, "a");
    send_at_once(&mut link, [message("a", 1, "x"), message("a", 2, "y")]);
    let message = take(&inbox);
    running.drop_handle();
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    assert!(running.join().result.is_ok());
    drop((message, inbox));
}

/// MQTT 5. Each message is taken, so nobody has to do anything.
#[test]
fn a_broker_that_sends_more_than_it_may_is_warned_of_once() {
    LINES.start();
    let from = LINES.count();
    let mut broker = ScriptedBroker::speaking(Protocol::V5);
    let mut options = options(&broker);
    options.version5.receive_maximum = Some(3);
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inbox = running.handle().inbox_by_hand(10, ByHand::default());
    running.subscribe(&mut link, &inbox, "a");
    send_at_once(&mut link, (1..=8).map(|id| message("a", id, "x")));
    let taken: Vec<_> = (1..=8).map(|_| take(&inbox)).collect();
    let lines = LINES.with(from, "the receive maximum in CONNECT is 3:", "so far");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("has sent 4 messages"), "{lines:?}");
    taken.into_iter().for_each(Unacknowledged::done);
    expect_pubacks(&mut link, 1..=8);
    running.terminate(link);
}

/// With MQTT 5 the receive maximum bounds them (`tests/conformance/v5/received.rs`).
#[test]
fn messages_in_the_hands_of_threads_are_among_the_bytes_that_are_bounded() {
    const PAYLOAD: usize = 255 * 1024;
    // So many may wait at all: each counts with its topic and 256 bytes beside it.
    const BOUND: u16 = (80 * 1024 * 1024 / (PAYLOAD + 1 + 256)) as u16;
    const LAST: u16 = BOUND + 3;
    let send = |link: &mut Connection, ids: std::ops::RangeInclusive<u16>, dup: bool| {
        for id in ids {
            let mut publish = v4::Publish::new("a", mqttbytes::QoS::AtLeastOnce, vec![7; PAYLOAD]);
            (publish.pkid, publish.dup) = (id, dup);
            link.send_packet(v4::Packet::Publish(publish));
        }
    };
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox_by_hand(1_000, ByHand::default());
    running.subscribe(&mut link, &inbox, "a");
    send(&mut link, 1..=LAST, false);
    let mut held: Vec<_> = (1..=BOUND).map(|_| take(&inbox)).collect();
    // PINGRESP comes behind all that the broker has sent.
    let ping = running.handle().ping().unwrap();
    link.expect_pingreq();
    link.send_packet(v4::Packet::PingResp);
    assert!(told(ping).is_delivered());
    assert!(matches!(inbox.try_recv(), Err(InboxError::Timeout)));
    // Dropped undone, a message keeps its place.
    drop(held.pop());
    held.push(take(&inbox));
    assert_eq!(held.last().map(Unacknowledged::attempts), Some(2));
    held.into_iter().for_each(Unacknowledged::done);
    // There is room again: the link is made anew for the messages that were left with the broker.
    let mut acknowledged = 0;
    while let Event::Packet(v4::Packet::PubAck(ack), _) = link.read_event(HANG) {
        acknowledged += 1;
        assert_eq!(ack.pkid, acknowledged);
    }
    assert!(acknowledged <= BOUND);
    let (mut link, _) = broker.accept_client(true);
    send(&mut link, acknowledged + 1..=LAST, true);
    for _ in BOUND..LAST {
        take(&inbox).done();
    }
    expect_pubacks(&mut link, acknowledged + 1..=LAST);
    assert!(matches!(inbox.try_recv(), Err(InboxError::Timeout)));
    running.terminate(link);
}
