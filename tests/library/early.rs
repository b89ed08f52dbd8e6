//! Messages that a kept session had stored, and that come before the threads have subscribed: a subscription counts
//! from the moment it is pushed, and what matches none waits for one for a while. The real loop against a scripted
//! broker. MQTT 5 has no such messages: a process has no state of an earlier one, and begins a new session
//! [MQTT-3.2.2-4].

use std::time::Duration;

use crate::support::running::{Running, message, next, options, send_at_once, told};
use crate::support::{Connection, HANG, ScriptedBroker};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Filter, QoS};
use mqtt_connection_sharing::{Inbox, RejectReason, Ticket, WhenFull};
use rumqttc::mqttbytes::v4;

fn connack(session_present: bool) -> v4::Packet {
    v4::Packet::ConnAck(v4::ConnAck::new(
        v4::ConnectReturnCode::Success,
        session_present,
    ))
}

/// Short enough to wait for, long enough for a wrong packet to come.
const A_MOMENT: Duration = Duration::from_millis(30);

/// A loop whose first CONNACK says whether there is a session, and is followed at once by messages to these topics.
fn online_with_stored(
    options: Options,
    broker: &mut ScriptedBroker,
    session_present: bool,
    topics: &[&str],
) -> (Running, Connection) {
    let running = Running::start(options);
    let mut link = broker.accept();
    link.expect_connect();
    let stored = topics.iter().zip(1..);
    let stored = stored.map(|(topic, id)| message(topic, id, topic));
    send_at_once(
        &mut link,
        [connack(session_present)].into_iter().chain(stored),
    );
    running.take_a_turn();
    (running, link)
}

fn subscribe(running: &Running, inbox: &Inbox, filter: &str) -> Ticket {
    let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
    match running.handle().subscribe(inbox, filters) {
        Ok(ticket) => ticket,
        Err(rejected) => panic!("{rejected}"),
    }
}

#[track_caller]
fn expect_pubacks(link: &mut Connection, ids: impl IntoIterator<Item = u16>) {
    for id in ids {
        assert_eq!(link.read_until("PUBACK", puback), id);
    }
}

fn puback(packet: &v4::Packet) -> Option<u16> {
    match packet {
        v4::Packet::PubAck(ack) => Some(ack.pkid),
        _ => None,
    }
}

#[test]
fn what_a_kept_session_had_stored_reaches_a_subscription_that_was_pushed_before() {
    const STORED: u16 = 60;
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.unmatched_hold = Duration::ZERO;
    let running = Running::start(options);
    let inbox = running.handle().inbox(100, WhenFull::WaitAside);
    let subscribed = subscribe(&running, &inbox, "stored/#");
    let mut link = broker.accept();
    link.expect_connect();
    let stored = (1..=STORED).map(|id| message("stored/x", id, &id.to_string()));
    send_at_once(&mut link, [connack(true)].into_iter().chain(stored));
    expect_pubacks(&mut link, 1..=STORED);
    let arrived = std::iter::from_fn(|| inbox.try_recv().ok()).count();
    assert_eq!(arrived, usize::from(STORED));
    assert!(running.handle().unmatched().is_empty());
    drop(subscribed);
    running.terminate(link);
}

#[test]
fn a_subscription_counts_while_it_waits_in_the_queue() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_inflight = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let all = running.handle().inbox(4, WhenFull::WaitAside);
    running.subscribe(&mut link, &all, "#");
    // While this is not acknowledged, the loop takes no further command.
    let publish = running.publish("out", "x");
    let id = link.expect_publish().pkid;
    let inbox = running.handle().inbox(4, WhenFull::WaitAside);
    let subscribed = subscribe(&running, &inbox, "a");
    send_at_once(&mut link, [message("a", 1, "early")]);
    expect_pubacks(&mut link, [1]);
    assert_eq!(next(&all), "early");
    let arrived = inbox.try_recv().map(|message| message.payload().to_vec());
    assert_eq!(arrived, Ok(b"early".to_vec()));
    link.send_puback(id);
    let packet = link.expect_subscribe();
    link.grant(&packet);
    assert!(told(publish).is_delivered() && told(subscribed).is_delivered());
    running.terminate(link);
}

#[test]
fn what_was_pushed_and_not_queued_counts_no_more() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    (options.max_inflight, options.command_queue) = (1, 1);
    options.block_time = Duration::ZERO;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let publish = running.publish("out", "x");
    let id = link.expect_publish().pkid;
    let waiting = running.publish("out", "y");
    let inbox = running.handle().inbox(4, WhenFull::WaitAside);
    let filters = vec![Filter::new("a", QoS::AtLeastOnce)];
    let rejected = running.handle().subscribe(&inbox, filters);
    let reason = rejected.map(drop).unwrap_err().reason;
    assert!(
        matches!(reason, RejectReason::QueueFull { .. }),
        "{reason:?}"
    );
    // The loop has heard of it by the end of this.
    assert!(told(running.handle().process_loop()).is_delivered());
    send_at_once(&mut link, [message("a", 1, "x")]);
    expect_pubacks(&mut link, [1]);
    assert!(inbox.try_recv().is_err());
    assert_eq!(running.handle().unmatched().len(), 1);
    link.send_puback(id);
    link.expect_publish();
    drop((publish, waiting));
    running.terminate(link);
}

#[test]
fn what_a_kept_session_had_stored_waits_for_a_subscription() {
    let mut broker = ScriptedBroker::bind();
    let options = options(&broker);
    let topics = ["a", "b", "c", "a"];
    let (running, mut link) = online_with_stored(options, &mut broker, true, &topics);
    // QoS 0 does not wait, and what has a subscription does not, though its acknowledgment has its turn.
    send_at_once(&mut link, [message("a", None, "zero")]);
    let unmatched = running.handle().unmatched().recv_timeout(HANG).unwrap();
    assert_eq!(unmatched.payload(), b"zero");
    link.expect_silence(A_MOMENT);
    let first = running.handle().inbox(4, WhenFull::WaitAside);
    let subscribed = subscribe(&running, &first, "a");
    assert_eq!([next(&first), next(&first)], ["a", "a"]);
    // The first is acknowledged at once, the last behind those that wait still.
    assert_eq!(link.expect_puback().pkid, 1);
    let packet = link.expect_subscribe();
    link.grant(&packet);
    assert!(told(subscribed).is_delivered());
    let second = running.handle().inbox(4, WhenFull::WaitAside);
    let subscribed = subscribe(&running, &second, "+");
    assert_eq!([next(&second), next(&second)], ["b", "c"]);
    expect_pubacks(&mut link, 2..=4);
    assert!(running.handle().unmatched().is_empty());
    drop(subscribed);
    running.terminate(link);
}

#[test]
fn what_nobody_subscribes_to_goes_to_the_default_inbox_in_the_end() {
    let topics = ["a", "b", "c"];
    for (session_present, hold) in [
        (true, Duration::from_millis(300)),
        (true, Duration::ZERO),
        (false, Duration::from_secs(100)),
    ] {
        let mut broker = ScriptedBroker::bind();
        let mut options = options(&broker);
        options.unmatched_hold = hold;
        options.unmatched_queue = 2;
        let (running, mut link) =
            online_with_stored(options, &mut broker, session_present, &topics);
        expect_pubacks(&mut link, 1..=3);
        let unmatched = running.handle().unmatched();
        let topics: Vec<_> = unmatched.try_iter().map(|m| m.topic().to_owned()).collect();
        assert_eq!(topics, ["a", "b"], "{session_present} {hold:?}");
        // Neither later messages nor those of a later link wait.
        send_at_once(&mut link, [message("d", 9, "")]);
        expect_pubacks(&mut link, [9]);
        link.close();
        let (mut link, _) = broker.accept_client(true);
        send_at_once(&mut link, [message("e", 10, "")]);
        expect_pubacks(&mut link, [10]);
        assert_eq!(running.terminate(link).1.unmatched_dropped, 1);
    }
}

#[test]
fn what_waits_for_a_subscription_outlasts_its_link() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.unmatched_hold = Duration::from_secs(100);
    let (running, link) = online_with_stored(options, &mut broker, true, &["a", "b"]);
    link.close();
    let (mut link, _) = broker.accept_client(true);
    for (topic, id) in [("a", 1), ("b", 2)] {
        let v4::Packet::Publish(mut again) = message(topic, id, topic) else {
            unreachable!();
        };
        again.dup = true;
        link.send_packet(v4::Packet::Publish(again));
    }
    running.take_a_turn();
    link.expect_silence(A_MOMENT);
    let inbox = running.handle().inbox(4, WhenFull::WaitAside);
    let subscribed = subscribe(&running, &inbox, "#");
    assert_eq!([next(&inbox), next(&inbox)], ["a", "b"]);
    expect_pubacks(&mut link, [1, 2]);
    assert!(inbox.try_recv().is_err(), "each came once");
    drop(subscribed);
    running.terminate(link);
}

/// Until the broker refuses a subscription, what matches it reaches the inbox, and from then on nothing.
#[test]
fn a_subscription_that_is_refused_counts_no_more() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.unmatched_hold = Duration::from_secs(100);
    let (running, mut link) = online_with_stored(options, &mut broker, true, &["a"]);
    let inbox = running.handle().inbox(4, WhenFull::WaitAside);
    let subscribed = subscribe(&running, &inbox, "a");
    assert_eq!(next(&inbox), "a");
    expect_pubacks(&mut link, [1]);
    let id = link.expect_subscribe().pkid;
    let refused = vec![v4::SubscribeReasonCode::Failure];
    link.send_packet(v4::Packet::SubAck(v4::SubAck::new(id, refused)));
    assert!(!told(subscribed).is_delivered());
    // It waits for a subscription again, as every message that matches none.
    send_at_once(&mut link, [message("a", 2, "later")]);
    running.take_a_turn();
    link.expect_silence(A_MOMENT);
    assert!(inbox.try_recv().is_err());
    let again = subscribe(&running, &inbox, "#");
    assert_eq!(next(&inbox), "later");
    drop(again);
    running.terminate(link);
}
