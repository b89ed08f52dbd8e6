//! The recordings of a run's loops, kept until the run is over, within a bound. The main thread keeps them.

use std::collections::VecDeque;
use std::time::Instant;

use mqtt_connection_sharing::ConnectionEvents;
use mqtt_connection_sharing::options::{Options, Security};
use mqtt_connection_sharing::recording::{Reading, Recording, What};

use super::causes::causes;
use super::nanos;

/// Records that are kept over all loops, some 200 MiB. A run that goes on and on leaves out its oldest loops.
const MOST_RECORDS: usize = 1 << 22;

/// The recordings of the last loops.
#[derive(Default)]
pub(crate) struct Recordings {
    pub(super) loops: VecDeque<LoopRecords>,
    /// Older loops that are not kept.
    pub(super) left_out: u64,
    /// Whether their links have TLS.
    pub(super) has_tls: bool,
}

/// The messages of a loop, as its result counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MessageCounts {
    /// Those that the loop took.
    pub(crate) published: u64,
    /// Those that the broker acknowledged (QoS 0: that went out).
    pub(crate) acknowledged: u64,
    /// Distinct ones that came back. `None` if nobody receives them.
    pub(crate) received: Option<u64>,
    /// Those that came again.
    pub(crate) duplicated: u64,
    /// Those that came and found the inbox full.
    pub(crate) dropped: u64,
    /// Their quality of service: 0, 1 or 2.
    pub(crate) qos: u8,
}

/// The records of one loop as a story takes them.
pub(super) struct LoopRecords {
    /// When the loop was opened.
    pub(super) began: Instant,
    /// Nanoseconds, thread, and what happened; by time.
    pub(super) all: Vec<(u64, u32, What)>,
    pub(super) threads: Vec<LoopThread>,
    pub(super) forgotten_threads: u32,
    /// Why attempts to connect failed: for each one that was recorded, in order.
    pub(super) causes: Vec<Option<String>>,
    pub(super) counts: MessageCounts,
}

/// A thread of one loop.
pub(super) struct LoopThread {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) overwritten: u64,
}

impl Recordings {
    /// For loops with these options.
    pub(crate) fn of(options: &Options) -> Self {
        Recordings {
            has_tls: matches!(options.security, Security::Tls(_)),
            ..Recordings::default()
        }
    }

    /// Keeps what was recorded of a loop that has ended, and its threads with it.
    /// `events` are those of its connection.
    pub(crate) fn keep(
        &mut self,
        recording: Option<Recording>,
        events: ConnectionEvents,
        counts: MessageCounts,
    ) {
        if let Some(mut recording) = recording {
            let reading = recording.read();
            let mut records = LoopRecords::new(recording.began(), &reading, counts);
            records.causes = causes(events, records.attempts());
            self.keep_records(records, MOST_RECORDS);
        }
    }

    /// Whether no loop ran.
    pub(crate) fn is_empty(&self) -> bool {
        self.loops.is_empty()
    }

    /// Keeps the last loop, and as many before it as the bound allows.
    pub(super) fn keep_records(&mut self, records: LoopRecords, most: usize) {
        self.loops.push_back(records);
        let mut count: usize = self.loops.iter().map(|one| one.all.len()).sum();
        while count > most && self.loops.len() > 1 {
            let oldest = self.loops.pop_front();
            count -= oldest.map_or(0, |oldest| oldest.all.len());
            self.left_out += 1;
        }
    }
}

impl MessageCounts {
    pub(super) fn add(&mut self, other: MessageCounts) {
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.received = match (self.received, other.received) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.duplicated += other.duplicated;
        self.dropped += other.dropped;
        self.qos = self.qos.max(other.qos);
    }
}

impl LoopRecords {
    fn new(began: Instant, reading: &Reading, counts: MessageCounts) -> Self {
        let records = reading.records.iter();
        let threads = reading.threads.iter().map(|thread| LoopThread {
            number: thread.number,
            name: thread.name.clone(),
            overwritten: thread.overwritten,
        });
        LoopRecords {
            began,
            all: records
                .map(|record| (nanos(record.at), record.thread, record.what))
                .collect(),
            threads: threads.collect(),
            forgotten_threads: reading.forgotten_threads,
            causes: Vec::new(),
            counts,
        }
    }

    /// Attempts to connect that were recorded.
    fn attempts(&self) -> usize {
        let attempts = self.all.iter();
        let attempts = attempts.filter(|record| matches!(record.2, What::Attempt { .. }));
        attempts.count()
    }

    /// Nanoseconds from its beginning to its last record.
    pub(super) fn length(&self) -> u64 {
        self.all.last().map_or(0, |record| record.0)
    }
}

#[cfg(test)]
impl Recordings {
    /// Those of a loop in which nothing happened.
    pub(crate) fn of_nothing() -> Self {
        let mut recordings = Recordings::default();
        let nothing = LoopRecords::new(
            Instant::now(),
            &Reading::default(),
            MessageCounts::default(),
        );
        recordings.keep_records(nothing, MOST_RECORDS);
        recordings
    }
}
