//! The costs of a message in figures that are the same on every computer: allocations, records on the
//! wire, and wake-ups of threads. No time is measured.
//!
//! The real loop against servers that allocate nothing. The counts are of the whole process, so these
//! tests have a program of their own and run one after the other. Linux only: other systems keep no
//! account of wake-ups.

#![cfg(target_os = "linux")]
// Clippy knows tests by their attribute only, but this is test code all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod records;
mod wake_ups;

use std::alloc::System;
use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_connection_sharing::options::RecordingSize;
use mqtt_connection_sharing::{Batch, ByHand, Client, EventKind, Handle, Ticket, WhenFull};
use mqtt_connection_sharing::{Filter, Inbox, Protocol, Publish, QoS, Topic};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::acknowledger::acknowledge;
use support::running::{Running, message, options, told};
use support::scripted5::{answers5, message5, options5};
use support::{Connection, HANG, ScriptedBroker, wait_for};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages whose costs are counted, and messages before them that fill the buffers which are kept.
const COUNTED: u64 = 20_000;
const WARM_UP: u64 = 5_000;

const WINDOW: u16 = 1_000;

/// A message costs the same in both versions.
const BOTH: [Protocol; 2] = [Protocol::V3_1_1, Protocol::V5];

/// Allocations that many messages share.
const NOW_AND_THEN: f64 = 0.05;

/// The caller's topic and payload, and the ticket or the boxed callback.
const FOR_A_PUBLISH: f64 = 3.0;

/// The only allocation left when messages share a topic and are waited for together.
const FOR_A_PAYLOAD: f64 = 1.0;

/// The part that inboxes share. Topic and payload of a short message are in it.
const FOR_A_MESSAGE: f64 = 1.0;

/// The same, and topic and payload together.
const FOR_A_LONGER_MESSAGE: f64 = 2.0;

/// Topic and payload have the memory of an earlier message.
const FOR_A_LARGE_MESSAGE: f64 = 1.0;

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn publish() -> Publish {
    Publish::new("costs/publish", QoS::AtLeastOnce, vec![b'x'; 64])
}

/// A loop with a large window, online.
fn online() -> (Running, Connection) {
    online_recorded(None)
}

fn online_recorded(recording: Option<RecordingSize>) -> (Running, Connection) {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_inflight = WINDOW;
    options.recording = recording;
    Running::online_with(options, &mut broker)
}

/// As [`online`], in this version.
fn online_in(protocol: Protocol) -> (Running, Connection) {
    if protocol == Protocol::V3_1_1 {
        return online();
    }
    let mut broker = ScriptedBroker::bind();
    let mut options = options5(&broker);
    options.max_inflight = WINDOW;
    Running::online5_with(options, &mut broker, &[])
}

/// Subscribes to `costs/#`.
fn subscribe_in(protocol: Protocol, running: &Running, link: &mut Connection, inbox: &Inbox) {
    if protocol == Protocol::V3_1_1 {
        return running.subscribe(link, inbox, "costs/#");
    }
    let filters = vec![Filter::new("costs/#", QoS::AtLeastOnce)];
    let subscribed = running.handle().subscribe(inbox, filters).expect("room");
    let subscribe = link.read_bytes();
    let id = u16::from_be_bytes([subscribe[2], subscribe[3]]);
    link.send(&answers5(0x90, id, &[1]));
    assert!(told(subscribed).is_delivered());
}

/// A message of QoS 1 from the broker, as bytes.
fn message_in(protocol: Protocol, id: u16, payload: &str) -> Vec<u8> {
    if protocol == Protocol::V5 {
        return message5(0x32, "costs/message", id, &[], payload.as_bytes());
    }
    let mut bytes = BytesMut::new();
    let message = message("costs/message", id, payload);
    message.write(&mut bytes, usize::MAX).expect("a packet");
    bytes.to_vec()
}

/// Calls `each` with this many messages, all acknowledged when this returns.
fn publish_all(handle: &Handle, count: u64, mut each: impl FnMut(&Handle, Publish)) {
    for _ in 1..count {
        each(handle, publish());
    }
    // Acknowledgments come in the order of sending, so this one is the last.
    assert!(told(handle.publish(publish()).expect("room")).is_delivered());
}

/// Allocations for each of many messages that `run` sends or receives.
fn allocations(mut run: impl FnMut(u64)) -> f64 {
    run(WARM_UP);
    let region = Region::new(ALLOCATOR);
    run(COUNTED);
    let change = region.change();
    (change.allocations + change.reallocations) as f64 / COUNTED as f64
}

/// Compares two counts: more would be a cost that nobody asked for, less would be an error in counting.
#[track_caller]
fn assert_allocations(found: f64, expected: f64, what: &str) {
    println!("{what}: {found:.4} allocations a message");
    assert!(
        (expected - NOW_AND_THEN..=expected + NOW_AND_THEN).contains(&found),
        "{what}: {found} allocations a message instead of {expected}"
    );
}

#[test]
fn a_publish_allocates_nothing_but_the_callers_own() {
    let _alone = alone();
    BOTH.into_iter()
        .for_each(publish_allocates_nothing_but_the_callers_own);
}

fn publish_allocates_nothing_but_the_callers_own(protocol: Protocol) {
    println!("MQTT {protocol}");
    let (running, mut link) = online_in(protocol);
    let server = acknowledge(&mut link);
    let handle = running.handle();

    let ignored = allocations(|count| {
        publish_all(handle, count, |handle, publish| {
            drop(handle.publish(publish).expect("room"));
        });
    });
    assert_allocations(ignored, FOR_A_PUBLISH, "ticket ignored");

    let mut tickets: VecDeque<Ticket> = VecDeque::with_capacity(2 * usize::from(WINDOW));
    let kept = allocations(|count| {
        publish_all(handle, count, |handle, publish| {
            if tickets.len() == usize::from(WINDOW) {
                let oldest = tickets.pop_front().expect("one of them");
                assert!(told(oldest).is_delivered());
            }
            tickets.push_back(handle.publish(publish).expect("room"));
        });
    });
    assert_allocations(kept, FOR_A_PUBLISH, "ticket waited on");

    let called = Arc::new(AtomicU64::new(0));
    let callback = allocations(|count| {
        publish_all(handle, count, |handle, publish| {
            let called = Arc::clone(&called);
            let count = move |_| {
                called.fetch_add(1, Ordering::Relaxed);
            };
            handle.publish_then(publish, count).expect("room");
        });
    });
    assert_eq!(called.load(Ordering::Relaxed), WARM_UP + COUNTED - 2);
    assert_allocations(callback, FOR_A_PUBLISH, "callback");

    let topic = Topic::from("costs/publish");
    let ended = Arc::new(AtomicU64::new(0));
    let counting = Batch::with_callback({
        let ended = Arc::clone(&ended);
        move |ends: &[_]| {
            ended.fetch_add(ends.len() as u64, Ordering::Relaxed);
        }
    });
    for (mut batch, length, what) in [
        (Batch::new(), 64, "batch, one topic"),
        (counting, 64, "batch with a callback, one topic"),
        (Batch::new(), 300, "batch, one topic, encoded by the loop"),
    ] {
        let together = allocations(|count| {
            for _ in 0..count {
                let publish = Publish::new(&topic, QoS::AtLeastOnce, vec![b'x'; length]);
                handle.publish_in(publish, &mut batch).expect("room");
            }
            assert_eq!(batch.wait_timeout(HANG), Some(Vec::new()));
        });
        assert_eq!(batch.pushed(), WARM_UP + COUNTED);
        assert_allocations(together, FOR_A_PAYLOAD, what);
    }
    assert_eq!(ended.load(Ordering::Relaxed), WARM_UP + COUNTED);

    running.drop_all_and_join();
    drop(link);
    let seen = server.join().expect("no panic in the server");
    assert_eq!(seen.publishes, 6 * (WARM_UP + COUNTED));
}

/// Observers that nobody reads, one that waits, and a thread that reads the counts again and again.
#[test]
fn a_watched_connection_costs_a_message_nothing() {
    const OBSERVERS: usize = 100;
    let _alone = alone();
    let (running, mut link) = online();
    let server = acknowledge(&mut link);
    let handle = running.handle();
    let unread: Vec<_> = (0..OBSERVERS).map(|_| handle.events()).collect();
    let mut events = handle.events();
    let waiting = thread::spawn(move || events.recv().map(|event| event.kind.clone()));
    let snapshots = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let reading = thread::spawn({
        let (handle, snapshots, stop) = (handle.clone(), Arc::clone(&snapshots), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                let stats = handle.stats();
                assert!(handle.connection().is_online(), "{stats:?}");
                snapshots.fetch_add(1, Ordering::Relaxed);
                thread::yield_now();
            }
        }
    });
    wait_for("a snapshot", HANG, || {
        (snapshots.load(Ordering::Relaxed) > 0).then_some(())
    });
    let topic = Topic::from("costs/publish");
    let mut batch = Batch::new();
    let read = || snapshots.load(Ordering::Relaxed) as f64 / COUNTED as f64;
    let mut before = 0.0;
    let found = allocations(|count| {
        before = read();
        for _ in 0..count {
            let publish = Publish::new(&topic, QoS::AtLeastOnce, vec![b'x'; 64]);
            handle.publish_in(publish, &mut batch).expect("room");
        }
        assert_eq!(batch.wait_timeout(HANG), Some(Vec::new()));
    });
    // A snapshot is one allocation of the thread that takes it.
    let read = read() - before;
    println!("{read:.4} snapshots a message");
    assert_allocations(found - read, FOR_A_PAYLOAD, "batch, one topic, watched");
    stop.store(true, Ordering::Relaxed);
    reading.join().expect("no panic in the reader");
    running.drop_all_and_join();
    drop((unread, link));
    assert_eq!(
        waiting.join().expect("no panic"),
        Ok(EventKind::Disconnected)
    );
    server.join().expect("no panic in the server");
}

#[test]
fn a_message_allocates_nothing_but_the_parts_that_inboxes_share() {
    let _alone = alone();
    BOTH.into_iter()
        .for_each(message_allocates_nothing_but_the_parts_that_inboxes_share);
}

fn message_allocates_nothing_but_the_parts_that_inboxes_share(protocol: Protocol) {
    const IN_FLIGHT: u16 = 500;
    println!("MQTT {protocol}");
    let (running, mut link) = online_in(protocol);
    let inboxes = [(); 2].map(|()| {
        let room = usize::from(IN_FLIGHT);
        running.handle().inbox(room, WhenFull::WaitAside)
    });
    for inbox in &inboxes {
        subscribe_in(protocol, &running, &mut link, inbox);
    }
    let mut stream = link.stream().try_clone().expect("a second end");
    let server = acknowledge(&mut link);
    let longer = "a longer payload ".repeat(10);
    let large = longer.repeat(50);
    for (payload, expected, what) in [
        (
            "a payload that is not empty",
            FOR_A_MESSAGE,
            "received into two queues",
        ),
        (
            &longer,
            FOR_A_LONGER_MESSAGE,
            "longer, received into two queues",
        ),
        (
            &large,
            FOR_A_LARGE_MESSAGE,
            "large, received into two queues",
        ),
    ] {
        let messages = (1..=IN_FLIGHT).flat_map(|id| message_in(protocol, id, payload));
        let messages: Vec<_> = messages.collect();
        let found = allocations(|count| {
            for _ in 0..count / u64::from(IN_FLIGHT) {
                stream.write_all(&messages).expect("the client to read");
                for inbox in &inboxes {
                    for _ in 0..IN_FLIGHT {
                        drop(inbox.recv_timeout(HANG).expect("a message"));
                    }
                }
            }
        });
        assert_allocations(found, expected, what);
    }
    running.drop_all_and_join();
    drop((link, stream));
    let seen = server.join().expect("no panic in the server");
    assert_eq!(seen.acknowledgments, 3 * (WARM_UP + COUNTED));
}

/// The loop keeps a message that is not done: a part of a node in two trees, and a part of a block of what it hears.
#[test]
fn a_message_that_is_done_by_hand_allocates_less_than_one_part_more() {
    const IN_FLIGHT: u16 = 500;
    let _alone = alone();
    let (running, mut link) = online();
    let room = usize::from(IN_FLIGHT);
    let inbox = running.handle().inbox_by_hand(room, ByHand::default());
    running.subscribe(&mut link, &inbox, "costs/#");
    let mut messages = BytesMut::new();
    for id in 1..=IN_FLIGHT {
        let message = message("costs/message", id, "a payload that is not empty");
        message.write(&mut messages, usize::MAX).expect("a packet");
    }
    let mut stream = link.stream().try_clone().expect("a second end");
    let server = acknowledge(&mut link);
    let found = allocations(|count| {
        for _ in 0..count / u64::from(IN_FLIGHT) {
            stream.write_all(&messages).expect("the client to read");
            for _ in 0..IN_FLIGHT {
                inbox.recv_timeout(HANG).expect("a message").done();
            }
            // The loop has acknowledged them by the end of this, so that their identifiers are free.
            let looked = running.handle().process_loop().wait();
            assert!(looked.is_delivered(), "{looked}");
        }
    });
    println!("done by hand: {found:.4} allocations a message");
    assert!(found < FOR_A_MESSAGE + 1.0, "{found}");
    running.drop_all_and_join();
    drop((link, stream));
    let seen = server.join().expect("no panic in the server");
    assert_eq!(seen.acknowledgments, WARM_UP + COUNTED);
}

#[test]
fn a_recording_allocates_nothing_for_a_message() {
    const IN_FLIGHT: u16 = 500;
    let _alone = alone();
    let (running, mut link) = online_recorded(Some(RecordingSize::default()));
    let handle = running.handle();
    let inbox = handle.inbox(usize::from(IN_FLIGHT), WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "costs/message");
    let mut messages = BytesMut::new();
    for id in 1..=IN_FLIGHT {
        let message = message("costs/message", id, "a payload that is not empty");
        message.write(&mut messages, usize::MAX).expect("a packet");
    }
    let mut stream = link.stream().try_clone().expect("a second end");
    let server = acknowledge(&mut link);

    let ignored = allocations(|count| {
        publish_all(handle, count, |handle, publish| {
            drop(handle.publish(publish).expect("room"));
        });
    });
    assert_allocations(ignored, FOR_A_PUBLISH, "ticket ignored, recorded");
    let topic = Topic::from("costs/publish");
    let mut batch = Batch::new();
    let together = allocations(|count| {
        for _ in 0..count {
            let publish = Publish::new(&topic, QoS::AtLeastOnce, vec![b'x'; 64]);
            handle.publish_in(publish, &mut batch).expect("room");
        }
        assert_eq!(batch.wait_timeout(HANG), Some(Vec::new()));
    });
    assert_allocations(together, FOR_A_PAYLOAD, "batch, one topic, recorded");
    let received = allocations(|count| {
        for _ in 0..count / u64::from(IN_FLIGHT) {
            stream.write_all(&messages).expect("the client to read");
            for _ in 0..IN_FLIGHT {
                drop(inbox.recv_timeout(HANG).expect("a message"));
            }
        }
    });
    assert_allocations(received, FOR_A_MESSAGE, "received, recorded");
    let reading = handle.recording().expect("it is on").read();
    assert!(reading.overwritten() > COUNTED, "it went on to the end");
    running.drop_all_and_join();
    drop((link, stream));
    server.join().expect("no panic in the server");
}

#[test]
fn what_is_awaited_allocates_nothing_more_than_what_is_waited_for() {
    let _alone = alone();
    let (running, mut link) = online();
    let handle = running.handle();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "costs/message");
    let mut packet = BytesMut::new();
    let incoming = message("costs/message", None, "a payload that is not empty");
    incoming.write(&mut packet, usize::MAX).expect("a packet");
    let mut stream = link.stream().try_clone().expect("a second end");
    let server = acknowledge(&mut link);

    let mut tickets: VecDeque<Ticket> = VecDeque::with_capacity(2 * usize::from(WINDOW));
    let published = allocations(|count| {
        smol::block_on(async {
            for _ in 0..count {
                if tickets.len() == usize::from(WINDOW) {
                    let oldest = tickets.pop_front().expect("one of them");
                    assert!(oldest.await.is_delivered());
                }
                tickets.push_back(handle.publish_async(publish()).await.expect("room"));
            }
            while let Some(ticket) = tickets.pop_front() {
                assert!(ticket.await.is_delivered());
            }
        });
    });
    assert_allocations(published, FOR_A_PUBLISH, "ticket awaited");

    // One at a time, so that the task sleeps before each.
    let received = allocations(|count| {
        smol::block_on(async {
            for _ in 0..count {
                let mut next = inbox.recv_async();
                assert!(smol::future::poll_once(&mut next).await.is_none());
                stream.write_all(&packet).expect("the client to read");
                next.await.expect("a message");
            }
        });
    });
    assert_allocations(received, FOR_A_MESSAGE, "awaited in an inbox");
    running.drop_all_and_join();
    drop((link, stream));
    server.join().expect("no panic in the server");
}

/// Bytes that stay allocated after many repetitions.
fn left_behind(mut repeated: impl FnMut()) -> usize {
    const TIMES: u32 = 50_000;
    let region = Region::new(ALLOCATOR);
    (0..TIMES).for_each(|_| repeated());
    let change = region.change();
    change
        .bytes_allocated
        .saturating_sub(change.bytes_deallocated)
}

#[test]
fn a_thread_that_repeats_requests_leaves_nothing_behind() {
    /// Some of the dropped memory may be kept for a moment, and the loop works meanwhile. The fifty
    /// thousand tickets of one kind would be some megabytes.
    const LITTLE: usize = 256 * 1024;
    let _alone = alone();
    // The broker accepts the link and never answers CONNECT, so that no RECONNECT is ever done.
    let broker = ScriptedBroker::bind();
    let (agent, handle) = Client::new(options(&broker)).expect("options").open();
    let repeat = |handle: &Handle, when: &str| {
        let found = [
            ("PROCESSLOOP", left_behind(|| drop(handle.process_loop()))),
            ("DISCONNECT", left_behind(|| drop(handle.disconnect()))),
            ("RECONNECT", left_behind(|| drop(handle.reconnect()))),
            (
                "an inbox",
                left_behind(|| drop(handle.inbox(1, WhenFull::WaitAside))),
            ),
        ];
        for (what, bytes) in found {
            println!("{what}, {when}: {bytes} bytes");
            assert!(bytes < LITTLE, "{what}, {when}: {bytes} bytes");
        }
    };
    repeat(&handle, "before the loop runs");
    let running = Running::start(options(&broker));
    repeat(running.handle(), "while it runs");
    let both = left_behind(|| {
        drop(running.handle().disconnect());
        drop(running.handle().reconnect());
    });
    assert!(both < LITTLE, "both in turn: {both} bytes");
    let bytes = left_behind(|| drop(handle.terminate(HANG)));
    assert!(bytes < LITTLE, "TERMINATE: {bytes} bytes");
    let ended = running.handle().terminate(Duration::ZERO);
    assert!(running.join().result.is_ok());
    assert!(told(ended).is_delivered());
    drop((agent, handle));
}
