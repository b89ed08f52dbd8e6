//! Tests of the counts that a loop keeps: over a link in memory, read through the handle.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::Agent;
use super::memory::{WINDOW, acknowledge, client, client_with, connected, turn};
use crate::client::batch::Batch;
use crate::client::outlet::WhenFull;
use crate::client::stats::Stats;
use crate::mqtt::packet::{Filter, Publish, QoS};
use crate::mqtt::session::LinkLoss;

fn ended(stats: &Stats) -> u64 {
    let answered = stats.delivered + stats.refused;
    answered + stats.perhaps_delivered + stats.never_sent + stats.cancelled
}

#[test]
fn the_queue_its_high_water_mark_and_the_window_are_seen_while_the_loop_runs() {
    let (mut agent, handle, batch, peer) = connected(client(), 300);
    assert_eq!(handle.stats().queued_most, 300, "this snapshot sees it");
    turn(&mut agent);
    let stats = handle.stats();
    assert_eq!((stats.queued, stats.queued_most), (200, 300));
    assert_eq!((stats.in_flight, ended(&stats)), (u64::from(WINDOW), 0));
    assert_eq!(stats.in_flight_most, u64::from(WINDOW));
    assert_eq!(stats.messages_sent, u64::from(WINDOW));
    acknowledge(&peer, 1..=WINDOW);
    turn(&mut agent);
    let stats = handle.stats();
    assert_eq!((stats.queued, stats.queued_most), (100, 300));
    assert_eq!((stats.delivered, ended(&stats)), (100, 100));
    assert_eq!(stats.latencies.count(), 100);
    for window in 1..=2 {
        acknowledge(&peer, 1 + window * WINDOW..=(window + 1) * WINDOW);
        turn(&mut agent);
    }
    let stats = handle.stats();
    assert_eq!((stats.in_flight, stats.in_flight_most), (0, 100));
    drop((agent, batch));
}

#[test]
fn a_queue_that_was_full_while_the_loop_did_not_look_is_seen_by_the_loop() {
    let (mut agent, handle, batch, _peer) = connected(client(), 40);
    turn(&mut agent);
    let stats = handle.stats();
    assert_eq!((stats.queued, stats.queued_most), (0, 40));
    drop((agent, batch));
}

#[test]
fn bytes_count_as_the_link_takes_and_gives_them_and_qos_0_has_no_latency() {
    let (mut agent, handle, _batch, peer) = connected(client(), 0);
    let online = handle.stats();
    assert_eq!((online.connects, online.bytes_received), (1, 4), "CONNACK");
    let written = || peer.lock().unwrap().written.concat().len() as u64;
    assert_eq!(online.bytes_sent, written(), "CONNECT");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let ticket = handle.publish(Publish::new("t", qos, "four")).unwrap();
        turn(&mut agent);
        drop(ticket);
    }
    let stats = handle.stats();
    assert_eq!(stats.bytes_sent, written());
    assert_eq!((stats.messages_sent, stats.delivered), (2, 1));
    assert_eq!(stats.latencies.count(), 0);
    acknowledge(&peer, 1..=1);
    let ping = handle.ping().unwrap();
    turn(&mut agent);
    peer.lock().unwrap().to_read.push_back(vec![0xd0, 0]);
    turn(&mut agent);
    assert!(ping.outcome().unwrap().is_delivered());
    let stats = handle.stats();
    assert_eq!((stats.delivered, stats.latencies.count()), (3, 2));
    assert_eq!(stats.bytes_received, 4 + 4 + 2);
    assert_eq!(
        (stats.packets_sent, stats.packets_received),
        (4, 3),
        "CONNECT, two PUBLISH, PINGREQ; CONNACK, PUBACK, PINGRESP"
    );
    assert_eq!(stats.writes, peer.lock().unwrap().written.len() as u64);
    drop(agent);
}

#[test]
fn each_outcome_counts_and_a_request_of_the_loop_itself_does_not() {
    let client = client_with(|options| options.max_subscriptions = 1);
    let (mut agent, handle, _batch, peer) = connected(client, 0);
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filters = |names: &[&str]| {
        let filter = |name: &&str| Filter::new(*name, QoS::AtLeastOnce);
        names.iter().map(filter).collect::<Vec<_>>()
    };
    let too_many = handle.subscribe(&inbox, filters(&["a", "b"])).unwrap();
    let refused = handle.subscribe(&inbox, filters(&["a"])).unwrap();
    turn(&mut agent);
    peer.lock()
        .unwrap()
        .to_read
        .push_back(vec![0x90, 3, 0, 1, 0x80]);
    turn(&mut agent);
    let granted = handle.subscribe(&inbox, filters(&["a"])).unwrap();
    turn(&mut agent);
    peer.lock()
        .unwrap()
        .to_read
        .push_back(vec![0x90, 3, 0, 2, 1]);
    turn(&mut agent);
    let stats = handle.stats();
    assert_eq!(
        (stats.never_sent, stats.refused, stats.delivered),
        (1, 1, 1)
    );
    // The loop unsubscribes for the inbox that is gone.
    drop(inbox);
    agent.take_urgent(Instant::now());
    turn(&mut agent);
    peer.lock().unwrap().to_read.push_back(vec![0xb0, 2, 0, 3]);
    turn(&mut agent);
    assert_eq!(agent.session.unresolved(), 0);
    assert_eq!(ended(&handle.stats()), 3);
    // One is on its way, the others are queued.
    let tickets: Vec<_> = (0..u64::from(WINDOW) + 5)
        .map(|_| handle.publish(Publish::new("t", QoS::AtLeastOnce, "x")))
        .collect();
    turn(&mut agent);
    let ended_loop = agent.end();
    assert_eq!(ended_loop.left, tickets.len());
    assert_eq!(ended_loop.stats, handle.stats());
    let stats = ended_loop.stats;
    assert_eq!(stats.perhaps_delivered, u64::from(WINDOW));
    assert_eq!((stats.cancelled, stats.in_flight, stats.queued), (5, 0, 0));
    drop((too_many, refused, granted));
}

#[test]
fn messages_that_wait_for_an_inbox_are_seen_with_their_bytes() {
    let (mut agent, handle, _batch, peer) = connected(client(), 0);
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filter = vec![Filter::new("t", QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filter).unwrap();
    turn(&mut agent);
    peer.lock()
        .unwrap()
        .to_read
        .push_back(vec![0x90, 3, 0, 1, 1]);
    for id in 1..=3 {
        let message = vec![0x32, 9, 0, 1, b't', 0, id, b'f', b'o', b'u', b'r'];
        peer.lock().unwrap().to_read.push_back(message);
    }
    turn(&mut agent);
    let stats = handle.stats();
    assert_eq!((stats.messages_received, stats.waiting_messages), (3, 2));
    let kept = 256 + b"tfour".len() as u64;
    assert_eq!(stats.waiting_bytes, 2 * kept);
    for _ in 0..3 {
        inbox.recv_timeout(Duration::from_secs(60)).unwrap();
        turn(&mut agent);
    }
    let stats = handle.stats();
    assert_eq!((stats.waiting_messages, stats.waiting_bytes), (0, 0));
    drop((agent, subscribed));
}

#[test]
fn a_thread_that_is_told_of_an_acknowledgment_finds_the_messages_that_came_before_it() {
    let (mut agent, handle, batch, peer) = connected(client(), 0);
    let inbox = Arc::new(handle.inbox(10, WhenFull::WaitAside));
    agent.take_urgent(Instant::now());
    let filter = vec![Filter::new("t", QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filter).unwrap();
    turn(&mut agent);
    let suback = vec![0x90, 3, 0, 1, 1];
    peer.lock().unwrap().to_read.push_back(suback);
    turn(&mut agent);
    assert!(subscribed.outcome().unwrap().is_delivered());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = || {
        let (inbox, seen) = (Arc::clone(&inbox), Arc::clone(&seen));
        move || seen.lock().unwrap().push(inbox.waiting())
    };
    let message = || Publish::new("t", QoS::AtLeastOnce, "x");
    let alone = look();
    handle.publish_then(message(), move |_| alone()).unwrap();
    let together = look();
    let mut other = Batch::with_callback(move |_| together());
    handle.publish_in(message(), &mut other).unwrap();
    turn(&mut agent);
    let came = |id| vec![0x32, 6, 0, 1, b't', 0, id, b'x'];
    let acknowledged = |id| vec![0x40, 2, 0, id];
    let all = [came(1), acknowledged(2), came(2), acknowledged(3), came(3)];
    peer.lock().unwrap().to_read.push_back(all.concat());
    turn(&mut agent);
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert_eq!(inbox.waiting(), 3);
    drop((agent, handle, batch, other));
}

/// Two messages leave at once, and one each half second after that.
#[test]
fn the_time_in_which_the_rate_holds_messages_back_counts_while_one_waits() {
    let client = client_with(|options| options.limits.rate.publishes = NonZeroU32::new(2));
    let (mut agent, handle, batch, peer) = connected(client, 0);
    let begin = Instant::now();
    let at = |agent: &mut Agent, milliseconds| {
        agent.wire.look_for_input();
        // The first exchange opens the rate, the second takes commands.
        for _ in 0..2 {
            agent.exchange(begin + Duration::from_millis(milliseconds));
        }
    };
    let publish = |count| {
        for _ in 0..count {
            let message = Publish::new("t", QoS::AtMostOnce, "x");
            drop(handle.publish(message).unwrap());
        }
    };
    let held = || handle.stats().rate_limited.as_millis();
    publish(4);
    at(&mut agent, 0);
    assert_eq!((handle.stats().messages_sent, held()), (2, 0));
    at(&mut agent, 501);
    assert_eq!((handle.stats().messages_sent, held()), (3, 500));
    at(&mut agent, 1_002);
    assert_eq!((handle.stats().messages_sent, held()), (4, 999));
    // Nothing waits any more.
    at(&mut agent, 1_600);
    assert_eq!(held(), 999);
    // Without a connection it is not the rate.
    publish(3);
    at(&mut agent, 3_000);
    assert_eq!(handle.stats().messages_sent, 6);
    agent.link_lost(LinkLoss::PeerClosed, begin + Duration::from_millis(3_100));
    at(&mut agent, 5_000);
    assert_eq!((handle.stats().messages_sent, held()), (6, 999));
    let online = handle.stats().online;
    assert!(online >= Duration::from_millis(3_100), "{online:?}");
    assert_eq!(online, handle.stats().online, "it stands still");
    drop((agent, batch, peer));
}

#[test]
fn the_share_of_the_rate_is_one_of_the_time_online() {
    let mut stats = Stats::default();
    assert_eq!(stats.rate_limited_share(), 0.0);
    stats.online = Duration::from_secs(10);
    stats.rate_limited = Duration::from_secs(4);
    assert_eq!(stats.rate_limited_share(), 0.4);
    stats.rate_limited = Duration::from_secs(11);
    assert_eq!(stats.rate_limited_share(), 1.0);
}

/// Another thread may hold the lock of the board for as long as the system lets it stand.
#[test]
fn messages_take_no_lock_of_those_that_watch() {
    let (mut agent, handle, mut batch, peer) = connected(client(), 100);
    let inbox = handle.inbox(10, WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filter = vec![Filter::new("t", QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filter).unwrap();
    let _events = handle.events();
    let watch = agent.reporter.watch();
    let (done, is_done) = mpsc::channel();
    let messages = move || {
        turn(&mut agent);
        acknowledge(&peer, 1..=100);
        turn(&mut agent);
        let suback = vec![0x90, 3, 0, 101, 1];
        peer.lock().unwrap().to_read.push_back(suback);
        let message = vec![0x32, 6, 0, 1, b't', 0, 1, b'x'];
        peer.lock().unwrap().to_read.push_back(message);
        turn(&mut agent);
        done.send(agent).unwrap();
    };
    let agent = watch.while_held(|| {
        thread::spawn(messages);
        is_done.recv_timeout(Duration::from_secs(60))
    });
    assert!(agent.is_ok(), "the loop waits for the lock");
    assert_eq!(batch.wait_timeout(Duration::ZERO), Some(Vec::new()));
    assert!(subscribed.outcome().unwrap().is_delivered());
    assert_eq!(inbox.try_recv().unwrap().topic(), "t");
    assert_eq!(handle.stats().delivered, 101);
}

/// The loop keeps ends of a batch aside for a moment, and the end of a SUBSCRIBE wakes a task.
#[test]
fn a_task_that_is_woken_finds_all_of_its_batch_counted_that_was_acknowledged_before() {
    struct Look {
        batch: Batch,
        seen: Mutex<Option<u64>>,
    }

    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            *self.seen.lock().unwrap() = Some(self.batch.outstanding());
        }
    }

    let (mut agent, handle, batch, peer) = connected(client(), 3);
    let look = Arc::new(Look {
        batch,
        seen: Mutex::new(None),
    });
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    agent.take_urgent(Instant::now());
    let filters = vec![Filter::new("x", QoS::AtLeastOnce)];
    let mut subscribed = pin!(handle.subscribe(&inbox, filters).unwrap());
    let waker = Waker::from(Arc::clone(&look));
    let mut context = Context::from_waker(&waker);
    assert!(subscribed.as_mut().poll(&mut context).is_pending());
    turn(&mut agent);
    let acknowledged = (1..=3).flat_map(|id| [0x40, 2, 0, id]);
    let together = acknowledged.chain([0x90, 3, 0, 4, 1]).collect();
    peer.lock().unwrap().to_read.push_back(together);
    turn(&mut agent);
    assert_eq!(*look.seen.lock().unwrap(), Some(0));
    drop((agent, handle, inbox));
}
