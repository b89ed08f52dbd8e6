//! Tests of a recording that threads write and others read. The lives of commands and messages are in
//! `client/agent/recording/tests.rs`.

use std::thread;
use std::time::Duration;

use super::*;
use crate::client::ticket::Ticket;
use crate::mqtt::session::Outcome;
use crate::options::RecordingSize;

fn recorder(of_thread: usize, ended_threads: usize) -> Recorder {
    let mut size = RecordingSize::default();
    (size.of_thread, size.ended_threads) = (of_thread, ended_threads);
    Recorder::new(size)
}

/// A record with this number.
fn record(number: u64) -> What {
    What::Read { bytes: number }
}

fn numbers(reading: &Reading, thread: u32) -> Vec<u64> {
    let own = |record: &Record| match record.what {
        What::Read { bytes } if record.thread == thread => Some(bytes),
        _ => None,
    };
    reading.records.iter().filter_map(own).collect()
}

fn on_thread_named<T: Send>(name: &str, run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

#[test]
fn a_reading_has_each_threads_records_by_time_and_goes_on_where_the_last_one_ended() {
    let recorder = recorder(16, 16);
    let mut recording = Recording::new(&recorder);
    let empty = recording.read();
    assert_eq!((empty.records.len(), empty.threads.len()), (0, 1));
    assert_eq!(empty.thread(0).unwrap().name, "loop");
    recorder.read_clock();
    recorder.on_loop(record(1));
    for name in ["first", "second"] {
        on_thread_named(name, || {
            (2..5).for_each(|number| recorder.on_thread(record(number)));
        });
    }
    let mut late = recording.clone();
    let reading = recording.read();
    assert_eq!(numbers(&reading, 0), [1]);
    assert_eq!(numbers(&reading, 1), [2, 3, 4]);
    assert_eq!(numbers(&reading, 2), [2, 3, 4]);
    assert!(reading.records.is_sorted_by_key(|record| record.at));
    let names: Vec<_> = reading.threads.iter().map(|thread| &thread.name).collect();
    assert_eq!(names, ["loop", "first", "second"]);
    assert!(reading.thread(1).unwrap().has_ended);
    assert_eq!((reading.overwritten(), reading.forgotten_threads), (0, 0));
    recorder.on_loop(record(9));
    let next = recording.read();
    assert_eq!((numbers(&next, 0), next.records.len()), (vec![9], 1));
    assert_eq!(late.read().records.len(), 8, "it reads for itself");
}

#[test]
fn overwritten_records_are_counted_for_each_thread() {
    let recorder = recorder(4, 16);
    let mut recording = Recording::new(&recorder);
    let write = |numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| recorder.on_thread(record(number)));
    };
    on_thread_named("quick", || {
        write(0..3);
        assert_eq!(numbers(&recording.read(), 1), [0, 1, 2]);
        write(3..20);
    });
    let reading = recording.read();
    assert_eq!(numbers(&reading, 1), [16, 17, 18, 19]);
    assert_eq!(reading.thread(1).unwrap().overwritten, 13);
    assert_eq!(reading.overwritten(), 13);
    assert_eq!(recording.read().overwritten(), 0);
}

#[test]
fn of_threads_that_have_ended_the_last_ones_are_kept() {
    let recorder = recorder(4, 2);
    let mut recording = Recording::new(&recorder);
    for number in 0..10 {
        on_thread_named("short", || recorder.on_thread(record(number)));
    }
    let reading = recording.read();
    let kept: Vec<_> = reading.threads.iter().map(|one| one.number).collect();
    assert_eq!(kept, [0, 8, 9, 10]);
    assert_eq!(reading.forgotten_threads, 7);
    assert_eq!(numbers(&reading, 10), [9]);
}

#[test]
fn a_mark_records_the_thread_that_waits_and_the_first_that_is_told() {
    let recorder = recorder(16, 16);
    let mut recording = Recording::new(&recorder);
    let mark = recorder.number_command().unwrap();
    on_thread_named("waits", || {
        mark.waits();
        mark.told();
    });
    mark.told();
    let reading = recording.read();
    let command = u64::from(mark.command());
    let whats: Vec<_> = (reading.records.iter())
        .map(|record| (record.thread, record.what))
        .collect();
    let expected = [What::Waits { command }, What::Told { command }];
    assert_eq!(whats, expected.map(|what| (2, what)));
    assert_eq!(reading.thread(2).unwrap().name, "waits");
}

#[test]
fn printing_a_ticket_records_nothing() {
    let recorder = recorder(16, 16);
    let mut recording = Recording::new(&recorder);
    let (ticket, mut completion) = Ticket::new();
    completion.record(recorder.number_command().unwrap());
    completion.tell(Outcome::delivered(1, Duration::ZERO));
    assert!(format!("{ticket:?}").contains("Delivered"));
    assert_eq!(recording.read().records.len(), 0);
    assert!(ticket.outcome().is_some());
    assert_eq!(recording.read().records.len(), 1);
}

#[test]
fn the_loops_time_never_goes_back() {
    let recorder = recorder(16, 16);
    let mut recording = Recording::new(&recorder);
    let later = recording.began() + Duration::from_secs(5);
    recorder.set_turn(later);
    recorder.on_loop(record(1));
    recorder.set_turn(recording.began());
    recorder.on_loop(record(2));
    let times: Vec<_> = recording.read().records.iter().map(|r| r.at).collect();
    assert_eq!(times, [Duration::from_secs(5); 2]);
}
