//! A thousand observers of a connection, of which one reads, and a thread that reads the counts ten times a second.
//! They stop nobody, and the one that reads sees each connection and each loss.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::expect_used)]

use std::thread::{self, JoinHandle};
use std::time::Duration;

use mqtt_connection_sharing::{ConnectionEvents, ConnectionState, EventKind, Handle, Stats};

const OBSERVERS: usize = 1_000;

/// The counts are read that often.
const HEALTH: Duration = Duration::from_millis(100);

pub struct Watchers {
    unread: Vec<ConnectionEvents>,
    observer: JoinHandle<Seen>,
    reader: JoinHandle<Stats>,
}

/// Events that the observer saw.
#[derive(Debug, Default)]
struct Seen {
    all: u64,
    connected: u64,
    lost: u64,
    missed: u64,
    last: Option<EventKind>,
}

impl Watchers {
    /// Call this before the first connection is lost.
    pub fn start(handle: &Handle) -> Watchers {
        let events = handle.events();
        let unread = (1..OBSERVERS).map(|_| events.clone()).collect();
        let handle = handle.clone();
        Watchers {
            unread,
            observer: thread::spawn(move || observe(events)),
            reader: thread::spawn(move || read_counts(&handle)),
        }
    }

    /// The loop has ended with these counts.
    ///
    /// # Panics
    /// If an observer saw something else.
    pub fn join(self, stats: &Stats) {
        let last = self.reader.join().expect("no panic in the reader");
        assert_eq!(last, *stats);
        let seen = self.observer.join().expect("no panic in the observer");
        println!("{seen:?}");
        assert_eq!(seen.last, Some(EventKind::Ended { error: None }));
        // It may have seen less where it was slow, and then it knows how much.
        for (seen_of_it, count) in [(seen.connected, stats.connects), (seen.lost, stats.losses)] {
            // The first connection may be older than the observer.
            let most = seen_of_it + seen.missed + 1;
            assert!((seen_of_it..=most).contains(&count), "{seen:?}, {stats:?}");
        }
        for events in self.unread {
            let all = events.map(|event| match event.kind {
                EventKind::Missed { count } => count,
                _ => 1,
            });
            assert_eq!(all.sum::<u64>(), seen.all);
        }
    }
}

fn observe(events: ConnectionEvents) -> Seen {
    let mut seen = Seen::default();
    for event in events {
        seen.all += 1;
        match event.kind {
            EventKind::Connected { .. } => seen.connected += 1,
            EventKind::Lost { .. } => seen.lost += 1,
            EventKind::Missed { count } => {
                seen.all += count - 1;
                seen.missed += count;
            }
            _ => {}
        }
        seen.last = Some(event.kind.clone());
    }
    seen
}

/// Returns the counts at the end of the loop.
fn read_counts(handle: &Handle) -> Stats {
    let mut last = handle.stats();
    loop {
        let ended = handle.wait_for_connection(HEALTH, ConnectionState::is_ended);
        let stats = handle.stats();
        assert!(stats.delivered >= last.delivered && stats.bytes_sent >= last.bytes_sent);
        assert!(stats.latencies.count() >= last.latencies.count());
        last = stats;
        if ended.is_ok() {
            return last;
        }
    }
}
