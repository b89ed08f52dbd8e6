//! The bounded queue and the window: backpressure that never becomes a deadlock, and many packets
//! handled at once, in both directions.
//!
//! `row_NN` names the defect of the original program, in the project's table, that must not come back.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::running::{
    NEVER, Running, all_told, attempts, message, next, options, promptly, send_at_once, told,
};
use crate::support::{HANG, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::{Batch, Outcome, Protocol, Reason, RejectReason, Rejected, WhenFull};
use mqtt_connection_sharing::{Publish, QoS};
use rumqttc::mqttbytes::v4;

in_both_versions! {
    row_04_a_full_queue_does_not_stop_the_loops_own_work,
    row_04_a_callback_that_publishes_into_a_full_queue_is_rejected_at_once,
    row_05_everything_that_came_in_one_piece_is_handled,
    row_12_a_full_window_makes_publishers_wait_and_is_never_exceeded,
    after_the_block_time_a_full_queue_hands_the_message_back,
    a_publish_that_never_waits_and_one_with_a_time_of_its_own,
}

fn qos1(topic: &str, payload: &str) -> Publish {
    Publish::new(topic, QoS::AtLeastOnce, payload.to_owned())
}

fn row_04_a_full_queue_does_not_stop_the_loops_own_work(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 1;
    options.command_queue = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inbox = running.handle().inbox(200, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in/#");
    let publishers: Vec<_> = (0..4)
        .map(|_| {
            let handle = running.handle().clone();
            thread::spawn(move || told(handle.publish(qos1("out", "x")).unwrap()))
        })
        .collect();
    let first = link.expect_publish();
    // The window and the queue are full, and threads wait; meanwhile the loop has much to do.
    send_at_once(&mut link, (1..=200).map(|id| message("in/a", id, "m")));
    for id in 1..=200 {
        assert_eq!(link.expect_puback().pkid, id);
        assert_eq!(next(&inbox), "m");
    }
    link.close();
    let (mut link, _) = broker.accept_client(true);
    let again = link.expect_publish();
    assert_eq!(again.pkid, first.pkid);
    link.send_puback(again.pkid);
    for _ in 0..3 {
        let id = link.expect_publish().pkid;
        link.send_puback(id);
    }
    for publisher in publishers {
        assert!(publisher.join().unwrap().is_delivered());
    }
    running.terminate(link);
}

fn row_04_a_callback_that_publishes_into_a_full_queue_is_rejected_at_once(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 1;
    options.command_queue = 1;
    options.block_time = NEVER;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let (sender, called) = channel();
    let handle = running.handle().clone();
    let callback = move |_| {
        let rejected = handle.publish(qos1("callback", "back")).map(drop);
        sender.send(rejected).unwrap();
    };
    let publish = qos1("a", "1");
    running.handle().publish_then(publish, callback).unwrap();
    let id = link.expect_publish().pkid;
    let queued = running.publish("a", "2");
    link.send_puback(id);
    let rejected = called.recv_timeout(HANG).unwrap().unwrap_err();
    let waited = Duration::ZERO;
    assert_eq!(rejected.reason, RejectReason::QueueFull { waited });
    assert_eq!(rejected.command, qos1("callback", "back"));
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    assert!(told(queued).is_delivered());
    running.terminate(link);
}

#[test]
fn row_05_a_batch_leaves_in_few_writes_without_waiting_for_acknowledgments() {
    // A single measurement could find together packets that were written apart.
    for _ in 0..10 {
        a_batch_leaves_in_few_writes();
    }
}

fn a_batch_leaves_in_few_writes() {
    const COUNT: usize = 100;
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.command_queue = COUNT;
    let running = Running::start(options);
    let mut link = broker.accept();
    link.expect_connect();
    let tickets: Vec<_> = (0..COUNT)
        .map(|index| running.publish("a", &index.to_string()))
        .collect();
    link.send_connack(v4::ConnectReturnCode::Success, false);
    // The broker reads without a pause, so that it does not find together packets that were written one
    // by one.
    link.stream().set_nonblocking(true).unwrap();
    let start = Instant::now();
    let (mut reads, mut bytes) = (0, bytes::BytesMut::new());
    let mut acks = Vec::new();
    let mut chunk = [0; 64 * 1024];
    while acks.len() < COUNT {
        let count = match link.stream().read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(start.elapsed() < HANG, "{} packets came", acks.len());
                continue;
            }
            read => read.unwrap(),
        };
        assert_ne!(count, 0);
        reads += 1;
        bytes.extend_from_slice(&chunk[..count]);
        while let Ok(packet) = v4::Packet::read(&mut bytes, usize::MAX) {
            let v4::Packet::Publish(publish) = packet else {
                panic!("{packet:?}");
            };
            assert_eq!(publish.payload, acks.len().to_string());
            acks.push(v4::Packet::PubAck(v4::PubAck::new(publish.pkid)));
        }
    }
    assert!(reads <= 3, "{reads} reads for {COUNT} packets");
    link.stream().set_nonblocking(false).unwrap();
    send_at_once(&mut link, acks);
    for ticket in tickets {
        assert_eq!(attempts(told(ticket)), 1);
    }
    running.terminate(link);
}

fn row_05_everything_that_came_in_one_piece_is_handled(protocol: Protocol) {
    const COUNT: u16 = 500;
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(500, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "in");
    let text = "x".repeat(300);
    let messages = (1..=COUNT).map(|id| message("in", id, &format!("{id} {text}")));
    send_at_once(&mut link, messages);
    for id in 1..=COUNT {
        assert_eq!(link.expect_puback().pkid, id);
        assert_eq!(next(&inbox), format!("{id} {text}"));
    }
    running.terminate(link);
}

fn row_12_a_full_window_makes_publishers_wait_and_is_never_exceeded(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_inflight = 2;
    options.command_queue = 1;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let handle = running.handle().clone();
    let publisher = thread::spawn(move || {
        let publish = |n: usize| handle.publish(qos1("a", &n.to_string())).unwrap();
        (0..6).map(publish).collect::<Vec<_>>()
    });
    let mut out = std::collections::VecDeque::new();
    for expected in 0..6 {
        if out.len() == 2 {
            link.expect_silence(Duration::from_millis(30));
            link.send_puback(out.pop_front().unwrap());
        }
        let publish = link.expect_publish();
        assert_eq!(publish.payload, expected.to_string());
        out.push_back(publish.pkid);
    }
    out.into_iter().for_each(|id| link.send_puback(id));
    for ticket in publisher.join().unwrap() {
        assert!(told(ticket).is_delivered());
    }
    running.terminate(link);
}

fn after_the_block_time_a_full_queue_hands_the_message_back(protocol: Protocol) {
    let broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.command_queue = 1;
    options.block_time = Duration::from_millis(50);
    // Nobody accepts the connection, so commands wait.
    let running = Running::start(options);
    let waiting = running.publish("a", "1");
    let start = Instant::now();
    let rejected = running.handle().publish(qos1("a", "2")).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(rejected.command, qos1("a", "2"));
    let waited = Duration::from_millis(50);
    assert_eq!(rejected.reason, RejectReason::QueueFull { waited });
    let end = running.handle().terminate(Duration::ZERO);
    let ended = promptly(|| running.join());
    assert_eq!(ended.left, 1);
    let outcome = all_told([waiting]).remove(0);
    assert_eq!(outcome, Outcome::Cancelled(Reason::Terminated));
    assert!(told(end).is_delivered());
}

fn a_publish_that_never_waits_and_one_with_a_time_of_its_own(protocol: Protocol) {
    let broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.command_queue = 2;
    options.block_time = NEVER;
    // Nobody accepts the connection, so commands wait.
    let running = Running::start(options);
    let handle = running.handle();
    let mut batch = Batch::new();
    let first = handle.try_publish(qos1("a", "1")).unwrap();
    handle.try_publish_in(qos1("a", "2"), &mut batch).unwrap();
    let at_once = Duration::ZERO;
    let soon = Duration::from_millis(1);
    let reject = |rejected: Rejected<Publish>, waited| {
        assert_eq!(rejected.command, qos1("a", "3"), "handed back");
        assert_eq!(rejected.reason, RejectReason::QueueFull { waited });
    };
    let third = || qos1("a", "3");
    reject(handle.try_publish(third()).unwrap_err(), at_once);
    reject(handle.publish_timeout(third(), soon).unwrap_err(), soon);
    let rejected = handle.try_publish_in(third(), &mut batch);
    reject(rejected.unwrap_err(), at_once);
    let rejected = handle.publish_in_timeout(third(), &mut batch, soon);
    reject(rejected.unwrap_err(), soon);
    assert_eq!((batch.pushed(), batch.outstanding()), (1, 1));
    let end = handle.terminate(Duration::ZERO);
    let ended = promptly(|| running.join());
    assert_eq!(ended.left, 2);
    let cancelled = Outcome::Cancelled(Reason::Terminated);
    assert_eq!(all_told([first, end])[0], cancelled);
    let undelivered = batch.wait_timeout(HANG);
    assert_eq!(undelivered, Some(vec![(0, cancelled)]));
}
