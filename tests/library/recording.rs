//! A recording of the real loop and of many threads, read while all of them write: nothing is torn, everything joins, and
//! the counts are those of the statistics.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mqtt_connection_sharing::options::RecordingSize;
use mqtt_connection_sharing::recording::{CommandEnd, PacketKind, Record, RecordedThread};
use mqtt_connection_sharing::recording::{Recording, What};
use mqtt_connection_sharing::{Batch, Handle, Publish, QoS, WhenFull};

use crate::support::acknowledger::acknowledge;
use crate::support::running::{LOOP_THREAD, Running, message, options, told};
use crate::support::{HANG, ScriptedBroker};

const THREADS: u64 = 64;

/// Messages of each thread in each of three forms: ticket, batch, callback.
const OF_EACH_FORM: u64 = 20;

const QOS: QoS = QoS::AtLeastOnce;

/// Publishes in each form, and waits for tickets and batch.
fn publish(handle: &Handle) {
    let message = || Publish::new("recorded", QOS, "x");
    let mut batch = Batch::new();
    for _ in 0..OF_EACH_FORM {
        handle.publish_then(message(), drop).expect("room");
        handle.publish_in(message(), &mut batch).expect("room");
        // It is acknowledged after the two before it.
        let ticket = handle.publish(message()).expect("room");
        assert!(told(ticket).is_delivered());
    }
    assert_eq!(batch.wait_timeout(HANG), Some(Vec::new()));
}

/// Reads again and again until it is told to stop, and once more.
fn read_all(mut recording: Recording, stop: &AtomicBool) -> (Vec<Record>, Vec<RecordedThread>) {
    let mut records = Vec::new();
    loop {
        let is_last = stop.load(Ordering::SeqCst);
        let reading = recording.read();
        assert_eq!(reading.overwritten(), 0);
        assert!(reading.records.is_sorted_by_key(|record| record.at));
        records.extend(reading.records);
        if is_last {
            return (records, reading.threads);
        }
        thread::yield_now();
    }
}

/// When each step of a command's life was recorded, and on which thread: pushed, taken, encoded, written, received,
/// ended, told.
type Life = [Vec<(Duration, u32)>; 7];

#[test]
fn many_threads_are_recorded_while_a_thread_reads() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    let size = options.recording.insert(RecordingSize::default());
    size.of_loop = 1 << 16;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let server = acknowledge(&mut link);
    let recording = running.handle().recording().expect("it is on");
    let stop = AtomicBool::new(false);
    let (records, threads) = thread::scope(|scope| {
        let reader = scope.spawn(|| read_all(recording, &stop));
        let publishers: Vec<_> = (0..THREADS)
            .map(|number| {
                let handle = running.handle().clone();
                let thread = thread::Builder::new().name(format!("publisher {number}"));
                thread
                    .spawn_scoped(scope, move || publish(&handle))
                    .unwrap()
            })
            .collect();
        for publisher in publishers {
            publisher.join().expect("no panic in a publisher");
        }
        stop.store(true, Ordering::SeqCst);
        reader.join().expect("no panic in the reader")
    });
    let stats = running.handle().stats();

    let names: BTreeSet<_> = threads.iter().map(|one| one.name.clone()).collect();
    assert_eq!(threads[0].name, LOOP_THREAD);
    assert!((0..THREADS).all(|number| names.contains(&format!("publisher {number}"))));

    let mut lives: BTreeMap<u64, Life> = BTreeMap::new();
    let (mut sent, mut given, mut delivered) = (0, 0, 0);
    for record in &records {
        let mut note = |number: u64, step: usize| {
            let life = lives.entry(number).or_default();
            life[step].push((record.at, record.thread));
        };
        match record.what {
            What::Pushed { command, .. } => note(command, 0),
            What::Taken { command } => note(command, 1),
            What::Encoded {
                number,
                packet: PacketKind::Publish,
                ..
            } => {
                note(number, 2);
            }
            What::Written {
                number,
                packet: PacketKind::Publish,
                ..
            } => {
                note(number, 3);
            }
            What::Received {
                number,
                packet: PacketKind::PubAck,
                ..
            } => {
                note(number, 4);
            }
            What::Ended {
                command,
                end,
                answered,
            } => {
                assert_eq!((end, answered), (CommandEnd::Delivered, true));
                note(command, 5);
                delivered += 1;
            }
            What::Told { command } => note(command, 6),
            What::Write { bytes } => sent += bytes,
            What::Read { bytes } => given += bytes,
            _ => {}
        }
    }
    let count = 3 * THREADS * OF_EACH_FORM;
    assert_eq!(lives.len() as u64, count);
    let mut told = 0;
    for (number, life) in &lives {
        assert_ne!(*number, 0);
        let steps: Vec<_> = life.iter().flatten().collect();
        assert!(steps.is_sorted_by_key(|(at, _)| at), "{life:?}");
        let by_loop = life[1..6].iter().flatten();
        assert!(by_loop.map(|(_, thread)| *thread).eq([0; 5]), "{life:?}");
        told += life[6].len() as u64;
        match (&life[0][..], &life[6][..]) {
            ([_], []) => {}
            ([(_, pushes)], [(_, is_told)]) => assert_eq!(pushes, is_told),
            _ => panic!("{life:?}"),
        }
    }
    assert_eq!(told, THREADS * OF_EACH_FORM);
    assert_eq!((stats.delivered, stats.messages_sent), (delivered, count));
    assert_eq!((stats.bytes_sent, stats.bytes_received), (sent, given));
    let waits = |record: &&Record| matches!(record.what, What::BatchTold { .. });
    assert_eq!(records.iter().filter(waits).count() as u64, THREADS);
    running.drop_all_and_join();
    drop(link);
    server.join().expect("no panic in the server");
}

#[test]
fn a_message_is_recorded_from_its_arrival_to_the_threads_that_take_it() {
    const MESSAGES: u16 = 100;
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.recording = Some(RecordingSize::default());
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inboxes = [(); 2].map(|()| running.handle().inbox(1, WhenFull::WaitAside));
    for inbox in &inboxes {
        running.subscribe(&mut link, inbox, "recorded");
    }
    thread::scope(|scope| {
        for inbox in &inboxes {
            let take = || (0..MESSAGES).for_each(|_| drop(inbox.recv_timeout(HANG).expect("one")));
            scope.spawn(take);
        }
        for id in 1..=MESSAGES {
            link.send_packet(message("recorded", id, "x"));
        }
        (1..=MESSAGES).for_each(|id| assert_eq!(link.expect_puback().pkid, id));
    });
    let mut recording = running.handle().recording().expect("it is on");
    running.terminate(link);
    let reading = recording.read();
    let (mut arrived, mut acknowledged) = (BTreeSet::new(), 0);
    let mut taken: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for record in &reading.records {
        match record.what {
            What::Arrived { message, .. } => assert!(arrived.insert(message)),
            What::TakenOut { message, inbox } => {
                assert!(arrived.contains(&message));
                assert_ne!(record.thread, 0);
                *taken.entry((message, inbox)).or_default() += 1;
            }
            What::Written {
                packet: PacketKind::PubAck,
                number,
                ..
            } => {
                assert!(arrived.contains(&number));
                acknowledged += 1;
            }
            _ => {}
        }
    }
    assert_eq!(arrived.len(), usize::from(MESSAGES));
    assert_eq!(acknowledged, MESSAGES);
    assert_eq!(taken.len(), 2 * usize::from(MESSAGES));
    assert!(taken.values().all(|times| *times == 1));
    let numbers: BTreeSet<_> = taken.keys().map(|(_, inbox)| *inbox).collect();
    assert!(
        inboxes
            .iter()
            .all(|inbox| numbers.contains(&inbox.number()))
    );
    let ends = reading.records.iter().rev().find(|one| one.thread == 0);
    assert_eq!(ends.map(|one| one.what), Some(What::LoopEnded));
    assert!(reading.threads[0].has_ended);
}

#[test]
fn without_the_option_there_is_no_recording() {
    let mut broker = ScriptedBroker::bind();
    let (running, link) = Running::online(&mut broker);
    assert!(running.handle().recording().is_none());
    running.terminate(link);
}
