//! The costs of a message in figures that are the same on every computer: allocations, records on the
//! wire, and wake-ups of threads. No time is measured.
//!
//! The real loop against servers that allocate nothing. The counts are of the whole process, so these
//! tests have a program of their own and run one after the other. Linux only: other systems keep no
//! account of wake-ups.

#![cfg(target_os = "linux")]
// Clippy knows tests by their attribute only, but this is test code all the same.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::alloc::System;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{fs, thread};

use bytes::BytesMut;
use mqtt_connection_sharing::options::{Options, RecordingSize, Security, TlsOptions};
use mqtt_connection_sharing::recording::What;
use mqtt_connection_sharing::{Batch, ByHand, Client, EventKind, Handle, Ticket, WhenFull};
use mqtt_connection_sharing::{Filter, Inbox, Protocol, Publish, QoS, Topic};
use native_tls::{Identity, TlsAcceptor, TlsStream};
use rumqttc::mqttbytes::v4;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::acknowledger::acknowledge;
use support::running::{LOOP_THREAD, Running, expect_delivered, message, options, told};
use support::scripted::Stream;
use support::scripted5::{answers5, message5, options5};
use support::{Certs, Connection, HANG, ScriptedBroker, wait_for};

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
        move |_, _| {
            ended.fetch_add(1, Ordering::Relaxed);
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

/// A stream that counts the incoming TLS records.
#[derive(Debug)]
struct Records {
    tcp: TcpStream,
    count: u64,
    /// Bytes of the record's header that came so far.
    header: Vec<u8>,
    /// Bytes of the current record that are still to come.
    body: usize,
}

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.tcp.read(buffer)?;
        for &byte in &buffer[..length] {
            if self.body > 0 {
                self.body -= 1;
                continue;
            }
            self.header.push(byte);
            if let [_, _, _, high, low] = self.header[..] {
                self.body = usize::from(u16::from_be_bytes([high, low]));
                self.header.clear();
                self.count += 1;
            }
        }
        Ok(length)
    }
}

impl Write for Records {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

impl Stream for TlsStream<Records> {
    fn tcp(&self) -> &TcpStream {
        &self.get_ref().tcp
    }
}

/// A loop with so many messages queued, and the link with TLS on which the server expects them.
fn secured(
    message: impl Fn() -> Publish,
    change: impl FnOnce(&mut Options),
) -> (
    Connection<TlsStream<Records>>,
    Connection,
    Running,
    Vec<Ticket>,
) {
    let certs = Certs::generate();
    let pem = |file| fs::read(file).expect("a PEM file");
    let server = certs.server();
    let identity = Identity::from_pkcs8(&pem(&server.cert), &pem(&server.key));
    let acceptor = TlsAcceptor::new(identity.expect("an identity")).expect("an acceptor");
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    change(&mut options);
    let count = options.command_queue;
    let mut tls = TlsOptions::default();
    tls.ca = Some(certs.ca().into());
    options.security = Security::Tls(tls);
    let running = Running::start(options);
    let queued = (0..count)
        .map(|_| running.handle().publish(message()).expect("room"))
        .collect();
    let mut plain = broker.accept();
    let records = Records {
        tcp: plain.stream().try_clone().expect("a second end"),
        count: 0,
        header: Vec::new(),
        body: 0,
    };
    let tls = acceptor.accept(records).expect("a handshake");
    let mut link = Connection::over(tls);
    link.expect_connect();
    (link, plain, running, queued)
}

/// One write becomes one record, or one for each 16 KiB.
#[test]
fn a_thousand_messages_leave_in_a_few_records_and_so_do_their_acknowledgments() {
    /// Six records hold the messages; there are more if the loop wakes before all are queued.
    const RECORDS: u64 = 8;
    /// One record holds the answers if the broker's messages are read at once.
    const ANSWERS: u64 = 2;
    let _alone = alone();
    let (mut link, plain, running, queued) = secured(publish, |options| {
        options.max_inflight = WINDOW;
        options.command_queue = usize::from(WINDOW);
    });
    let count = |link: &mut Connection<_>| -> u64 {
        let tls: &mut TlsStream<Records> = link.stream();
        tls.get_ref().count
    };
    let before = count(&mut link);
    link.send_connack(v4::ConnectReturnCode::Success, false);
    let ids: Vec<_> = (0..WINDOW).map(|_| link.expect_publish().pkid).collect();
    let records = count(&mut link) - before;
    println!("{WINDOW} messages in {records} records");
    assert!(records <= RECORDS, "{WINDOW} messages in {records} records");
    ids.into_iter().for_each(|id| link.send_puback(id));
    expect_delivered(queued);

    let inbox = running
        .handle()
        .inbox(usize::from(WINDOW), WhenFull::WaitAside);
    let filters = vec![Filter::new("costs", QoS::AtLeastOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).expect("room");
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    assert!(told(ticket).is_delivered());
    let before = count(&mut link);
    let mut messages = BytesMut::new();
    for id in 1..=WINDOW {
        let message = message("costs", id, "x");
        message.write(&mut messages, usize::MAX).expect("a packet");
    }
    // One record in each direction: messages that are read at once are answered at once.
    assert!(messages.len() <= 16 * 1024);
    link.send(&messages);
    for id in 1..=WINDOW {
        assert_eq!(link.expect_puback().pkid, id);
    }
    let records = count(&mut link) - before;
    println!("{WINDOW} acknowledgments in {records} records");
    assert!(records <= ANSWERS, "{WINDOW} acknowledgments in {records}");
    let end = running.handle().terminate(Duration::ZERO);
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    plain.close();
    assert!(running.join().result.is_ok());
    assert!(told(end).is_delivered());
}

/// TLS makes a record of each 16 KiB. Several of them leave with one call of the system.
#[test]
fn large_messages_leave_with_fewer_calls_than_records() {
    const MESSAGES: usize = 32;
    /// Writes for each record. Before records were gathered it was 1.
    const WRITES: f64 = 0.5;
    let _alone = alone();
    let message = || Publish::new("costs", QoS::AtLeastOnce, vec![b'x'; 16 * 1024]);
    let (mut link, plain, running, queued) = secured(message, |options| {
        options.command_queue = MESSAGES;
        options.max_inflight = WINDOW;
        options.recording = Some(RecordingSize::default());
    });
    link.send_connack(v4::ConnectReturnCode::Success, false);
    let ids: Vec<_> = (0..MESSAGES).map(|_| link.expect_publish().pkid).collect();
    ids.into_iter().for_each(|id| link.send_puback(id));
    expect_delivered(queued);
    let reading = running.handle().recording().expect("it is on").read();
    let writes = reading.records.iter();
    let writes = writes.filter(|record| matches!(record.what, What::Write { .. }));
    let (writes, records) = (writes.count(), running.handle().stats().writes);
    println!("{records} records in {writes} writes");
    assert!(records as usize >= MESSAGES, "{records} records");
    assert!(
        writes as f64 <= WRITES * records as f64,
        "{writes} writes of {records} records"
    );
    let end = running.handle().terminate(Duration::ZERO);
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    plain.close();
    assert!(running.join().result.is_ok());
    assert!(told(end).is_delivered());
}

/// The system's account of one thread: how often it gave up its processor because it had nothing to do,
/// and how often the system took the processor away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Switches {
    name: String,
    voluntary: u64,
    involuntary: u64,
}

/// The accounts of all threads of this process except the calling one.
fn switches() -> BTreeMap<u32, Switches> {
    let own = fs::read_link("/proc/thread-self").expect("this thread");
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").expect("the threads") {
        let folder = entry.expect("a thread").path();
        // The thread may have ended meanwhile.
        let (Ok(name), Ok(status)) = (
            fs::read_to_string(folder.join("comm")),
            fs::read_to_string(folder.join("status")),
        ) else {
            continue;
        };
        if folder.file_name() == own.file_name() {
            continue;
        }
        let id = folder.file_name().and_then(|id| id.to_str()?.parse().ok());
        let field = |field: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.trim().parse().ok())
                .expect("a count of switches")
        };
        let switches = Switches {
            name: name.trim().to_owned(),
            voluntary: field("voluntary_ctxt_switches:"),
            involuntary: field("nonvoluntary_ctxt_switches:"),
        };
        threads.insert(id.expect("a number"), switches);
    }
    threads
}

/// How often the loop's thread and the readiness thread were woken so far.
fn wake_ups() -> u64 {
    wake_ups_of(LOOP_THREAD) + wake_ups_of("readiness")
}

/// How often the threads with this name were woken so far.
fn wake_ups_of(name: &str) -> u64 {
    let threads = switches();
    let of_name = threads.values().filter(|thread| thread.name == name);
    of_name.map(|thread| thread.voluntary).sum()
}

#[test]
fn many_messages_share_one_wake_up() {
    /// In practice a thousandth. With one message in flight at a time it would be a third, because the
    /// loop is awake for some messages by chance.
    const WAKE_UPS: f64 = 0.1;
    let _alone = alone();
    let (running, mut link) = online();
    let server = acknowledge(&mut link);
    let handle = running.handle();
    let ignore = |handle: &Handle, publish| drop(handle.publish(publish).expect("room"));
    publish_all(handle, WARM_UP, ignore);
    let before = wake_ups();
    assert!(before > 0, "it slept before CONNACK came, and was not seen");
    publish_all(handle, COUNTED, ignore);
    let woken = (wake_ups() - before) as f64 / COUNTED as f64;
    println!("{woken:.4} wake-ups a message");
    assert!(woken <= WAKE_UPS, "{woken} wake-ups a message");
    running.drop_all_and_join();
    drop(link);
    server.join().expect("no panic in the server");
}

/// The loop reads and hands out many messages at a time. A thread that is woken for the first finds the others.
#[test]
fn many_received_messages_share_one_wake_up() {
    const IN_FLIGHT: u16 = 500;
    /// In practice four thousandths. With a wake-up for each message it would be one, of the receiving thread alone.
    const WAKE_UPS: f64 = 0.1;
    let _alone = alone();
    let (running, mut link) = online();
    let inbox = running
        .handle()
        .inbox(usize::from(IN_FLIGHT), WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "costs/message");
    let mut messages = BytesMut::new();
    for id in 1..=IN_FLIGHT {
        let message = message("costs/message", id, "a payload that is not empty");
        message.write(&mut messages, usize::MAX).expect("a packet");
    }
    let mut stream = link.stream().try_clone().expect("a second end");
    let server = acknowledge(&mut link);
    let (all_came, have_come) = mpsc::channel();
    let receiving = thread::Builder::new().name("receiving".to_owned());
    let receiving = receiving.spawn(move || {
        for number in 1.. {
            if inbox.recv().is_err() {
                return;
            }
            if number % u64::from(IN_FLIGHT) == 0 {
                all_came.send(()).expect("the test to wait");
            }
        }
    });
    let receiving = receiving.expect("a thread");
    let mut receive = |count: u64| {
        for _ in 0..count / u64::from(IN_FLIGHT) {
            stream.write_all(&messages).expect("the client to read");
            have_come.recv_timeout(HANG).expect("all of them");
        }
    };
    let woken = || wake_ups() + wake_ups_of("receiving");
    receive(WARM_UP);
    let before = woken();
    receive(COUNTED);
    let woken = (woken() - before) as f64 / COUNTED as f64;
    println!("{woken:.4} wake-ups a received message");
    assert!(woken <= WAKE_UPS, "{woken} wake-ups a received message");
    running.drop_all_and_join();
    drop((link, stream));
    receiving.join().expect("no panic in the receiving thread");
    server.join().expect("no panic in the server");
}

#[test]
fn with_the_link_up_and_nothing_to_do_no_thread_is_woken() {
    const STRETCH: Duration = Duration::from_millis(1_500);
    let _alone = alone();
    let (running, link) = online();
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let reading = thread::spawn(move || inbox.recv().is_err());
    running.take_a_turn();
    // Effects of the steps above may still have to settle.
    wait_for("a stretch without a wake-up", HANG, || {
        let before = switches();
        assert!(before.values().any(|thread| thread.name == LOOP_THREAD));
        assert!(before.values().any(|thread| thread.name == "readiness"));
        thread::sleep(STRETCH);
        (switches() == before).then_some(())
    });
    running.terminate(link);
    assert!(reading.join().expect("no panic in the reader"));
}

#[test]
fn an_idle_link_wakes_the_loop_for_keep_alive_and_for_nothing_else() {
    const PINGS: u64 = 3;
    /// One for the timer, one for the answer, and one for the readiness thread that saw it; twice that,
    /// because a thread may be woken for nothing.
    const WAKE_UPS: u64 = 6;
    let _alone = alone();
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.keep_alive = Duration::from_secs(2);
    let (running, mut link) = Running::online_with(options, &mut broker);
    let mut ping = || {
        link.expect_pingreq();
        link.send_packet(v4::Packet::PingResp);
    };
    ping();
    let before = wake_ups();
    (0..PINGS).for_each(|_| ping());
    let woken = wake_ups() - before;
    println!("{woken} wake-ups for {PINGS} times keep alive");
    assert!(
        (PINGS..=PINGS * WAKE_UPS).contains(&woken),
        "{woken} wake-ups for {PINGS} times keep alive"
    );
    running.terminate(link);
}
