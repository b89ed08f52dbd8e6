//! A recording: the life of each command and message, with its threads, as it happens.
//!
//! It is off by default. [`Options::recording`](crate::options::Options::recording) turns it on for the loops of a
//! client, and [`Handle::recording`](crate::Handle::recording) reads it: while the loop runs and after its end, from any
//! thread, as often as it likes. Pictures and live views are drawn from it.
//!
//! ```no_run
//! use mqtt_connection_sharing::options::{Options, RecordingSize};
//! use mqtt_connection_sharing::recording::What;
//! use mqtt_connection_sharing::{Client, Publish, QoS};
//!
//! # fn f(mut options: Options) -> Result<(), Box<dyn std::error::Error>> {
//! options.recording = Some(RecordingSize::default());
//! let (agent, handle) = Client::new(options)?.open();
//! let running = std::thread::spawn(move || agent.run());
//! let mut recording = handle.recording().ok_or("it is off")?;
//! handle.publish(Publish::new("t", QoS::AtLeastOnce, "x"))?.wait().into_result()?;
//! let reading = recording.read();
//! for record in &reading.records {
//!     let name = reading.thread(record.thread).map_or("?", |thread| &thread.name);
//!     if let What::Pushed { .. } | What::Written { .. } | What::Ended { .. } = record.what {
//!         println!("{:?} {name}: {:?}", record.at, record.what);
//!     }
//! }
//! # drop(running);
//! # Ok(())
//! # }
//! ```
//!
//! # The format
//!
//! A [`Record`] has a time, a thread and [`What`] happened. [`VERSION`] is the version of their meaning.
//!
//! The life of a command, joined by its number:
//!
//! | record | written by | also |
//! |---|---|---|
//! | [`Pushed`](What::Pushed) | the thread that pushes | [`LetIn`](What::LetIn) if it had to wait for room, [`HandedBack`](What::HandedBack) if it was not queued |
//! | [`Taken`](What::Taken) | the loop | |
//! | [`Encoded`](What::Encoded), [`Written`](What::Written) | the loop | once more for each PUBREL, each further packet of a long SUBSCRIBE, and each time it is sent again |
//! | [`Received`](What::Received) | the loop | once for each acknowledgment: PUBREC and PUBCOMP with QoS 2, none with QoS 0 |
//! | [`Ended`](What::Ended) | the loop | |
//! | [`Waits`](What::Waits), [`Told`](What::Told) | the thread that holds the ticket | [`WaitsForBatch`](What::WaitsForBatch), [`BatchTold`](What::BatchTold); a callback runs right after `Ended` |
//!
//! The life of a message, joined by its number: [`Received`](What::Received) (QoS 1 and 2), [`Arrived`](What::Arrived),
//! then for each inbox [`Aside`](What::Aside) if it has no room, [`Offered`](What::Offered) or
//! [`Dropped`](What::Dropped), and [`TakenOut`](What::TakenOut) by the thread that takes it; meanwhile
//! [`Encoded`](What::Encoded) and [`Written`](What::Written) of its PUBACK or PUBREC. Where the link is lost before
//! that, the broker sends it again.
//!
//! The loop beside that: [`ProcessLoop`](What::ProcessLoop), [`Sleeps`](What::Sleeps) and [`Woke`](What::Woke),
//! [`Read`](What::Read) and [`Write`](What::Write); and the connection, of which
//! [`Handle::events`](crate::Handle::events) has the texts. DISCONNECT, RECONNECT and TERMINATE are seen by what the
//! connection does.
//!
//! # What may be missing
//!
//! - Each thread keeps a bounded number of records ([`RecordingSize`](crate::options::RecordingSize)) and overwrites the
//!   oldest. [`RecordedThread::overwritten`] counts those that a reader missed. So a life may lack its beginning, or the
//!   part of one thread.
//! - Of threads that have ended, the last 256 are kept, unless the size says otherwise.
//! - What a thread does while its thread-local memory is freed is not recorded.
//! - A loop that panics ends its commands without a record.
//! - A wait that ends without an outcome or a message has no record of its end, such as one whose time is over;
//!   [`wait_any`](crate::wait_any) has no record at all. So a thread may have gone on long before its next record.
//!
//! # What it costs
//!
//! Off, one branch for each thing that would be recorded. On, some 10 ns for each record, and on other threads than the
//! loop's a look at the clock with it. No record takes a lock or allocates, but for a thread's first one, which makes its
//! ring. A thread keeps its ring until it ends or begins to write to another recording. A reading copies, and the threads
//! do not notice.

mod packing;
mod record;
mod recorder;
mod ring;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub use crate::mqtt::session::PacketKind;
pub use record::{CommandEnd, Loss, Record, What};
pub(crate) use recorder::{CommandMark, Recorder};
use recorder::{RecordingState, Track};

/// The version of the format: of [`Record`], and of what each variant of [`What`] means. New variants do not change it.
pub const VERSION: u32 = 1;

/// The number of the default inbox ([`Handle::unmatched`](crate::Handle::unmatched)) in records.
pub const DEFAULT_INBOX: u64 = u64::MAX;

/// The reading end of a recording: see [`Handle::recording`](crate::Handle::recording). A clone reads on from the same
/// place.
#[derive(Clone)]
pub struct Recording {
    state: Arc<RecordingState>,
    /// The next record of each thread.
    next: BTreeMap<u32, u64>,
}

/// The result of [`Recording::read`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// The records since the last reading, by their times; at the same time, the loop's first. Those of one thread are in
    /// the order in which it wrote them.
    /// Another thread's record may be a little older than the last one of the reading before.
    pub records: Vec<Record>,
    /// The threads that are kept, by their numbers. The first one is the loop's.
    pub threads: Vec<RecordedThread>,
    /// Threads that have ended and are not kept.
    pub forgotten_threads: u32,
}

/// A thread that wrote records.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedThread {
    /// Its number, in the order of the first records. The loop's thread has 0, callbacks on it included.
    pub number: u32,
    /// Its name. A thread without one is called by its number, and the loop's `loop` before it runs.
    pub name: String,
    /// Whether it has ended, or has left the loop.
    pub has_ended: bool,
    /// Its records that were overwritten before this reading, and after the one before.
    pub overwritten: u64,
}

impl Recording {
    /// From the oldest record that is there.
    pub(crate) fn new(recorder: &Recorder) -> Self {
        Recording {
            state: recorder.state(),
            next: BTreeMap::new(),
        }
    }

    /// The moment that [`Record::at`] counts from: when the loop was opened.
    pub fn began(&self) -> Instant {
        self.state.began
    }

    /// Reads what was recorded since the last reading, the first time everything that is still there. Never waits for a
    /// thread that writes. Any thread may call it; the calling thread alone allocates, for the copies.
    pub fn read(&mut self) -> Reading {
        let (tracks, made) = self.state.all_tracks();
        let mut reading = Reading {
            forgotten_threads: made - tracks.len() as u32,
            ..Reading::default()
        };
        let mut words = Vec::new();
        let before = std::mem::take(&mut self.next);
        for track in tracks {
            let thread = track.thread;
            // Before its records: then they are its last ones.
            let has_ended = track.has_ended.load(Ordering::Acquire);
            let from = before.get(&thread).copied().unwrap_or(0);
            let read = track.ring.read(from, &mut words);
            self.next.insert(thread, read.next);
            let records = words.drain(..);
            let records = records.filter_map(|words| Record::unpack(thread, words));
            reading.records.extend(records);
            reading.threads.push(RecordedThread {
                number: thread,
                name: name_of(&track),
                has_ended,
                overwritten: read.overwritten,
            });
        }
        // Stable: a thread's own records keep their order.
        reading.records.sort_by_key(|record| record.at);
        reading
    }
}

fn name_of(track: &Track) -> String {
    track.name.get().map_or("loop", String::as_str).to_owned()
}

impl Reading {
    /// The thread with this number, if it is kept.
    pub fn thread(&self, number: u32) -> Option<&RecordedThread> {
        let place = self.threads.binary_search_by_key(&number, |one| one.number);
        self.threads.get(place.ok()?)
    }

    /// Records that were overwritten before this reading, and after the one before, of all threads that are kept.
    pub fn overwritten(&self) -> u64 {
        self.threads.iter().map(|thread| thread.overwritten).sum()
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("began", &self.began())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
