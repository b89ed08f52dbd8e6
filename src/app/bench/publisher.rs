//! \[0\] The threads that publish, and the times that they take.
//!
//! An asynchronous publisher counts its acknowledgments in callbacks, which the loop's thread runs;
//! when it has enough outstanding it sleeps until half of that is acknowledged, so that one wake-up
//! brings many messages. A synchronous one waits for each ticket.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::GRACE;
use super::plan::Plan;
use crate::app::demo::Interrupt;
use mqtt_connection_sharing::Handle;
use mqtt_connection_sharing::Outcome;
use mqtt_connection_sharing::error::{Blame, Error};

/// What all publishers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) tally: Arc<Tally>,
    pub(super) interrupt: Arc<Interrupt>,
    /// Messages of its own that a thread may have outstanding.
    pub(super) outstanding: u64,
}

impl Shared {
    /// Nobody waits for what is left of a run that has failed, offline perhaps for ever.
    fn end_if_failed(&self) {
        if self.tally.has_problem.load(Ordering::Relaxed) {
            drop(self.handle.terminate(GRACE));
        }
    }

    /// Whether to publish nothing more: it was interrupted, or has failed already.
    fn is_over(&self) -> bool {
        self.interrupt.is_requested() || self.tally.has_problem.load(Ordering::Relaxed)
    }
}

/// What became of the messages of all threads.
#[derive(Debug)]
pub(super) struct Tally {
    published: AtomicU64,
    acknowledged: AtomicU64,
    latencies: Mutex<Histogram<u64>>,
    /// The first thing that went wrong.
    problem: Mutex<Option<String>>,
    has_problem: AtomicBool,
}

impl Tally {
    pub(super) fn new() -> Result<Self, Error> {
        // In nanoseconds, up to ten minutes, three digits exact.
        let latencies = Histogram::new_with_bounds(1, 600_000_000_000, 3).map_err(|error| {
            let tried = "preparing the histogram of latencies";
            Error::new(Blame::Configuration, tried, error.to_string(), "")
        })?;
        Ok(Tally {
            published: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            latencies: Mutex::new(latencies),
            problem: Mutex::new(None),
            has_problem: AtomicBool::new(false),
        })
    }

    /// Messages that the loop took.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How long these took, in nanoseconds.
    pub(super) fn latencies(&self) -> Histogram<u64> {
        lock(&self.latencies).clone()
    }

    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    pub(super) fn note(&self, problem: impl FnOnce() -> String) {
        lock(&self.problem).get_or_insert_with(problem);
        self.has_problem.store(true, Ordering::SeqCst);
    }

    /// A message has ended, for better or worse.
    fn ended(&self, outcome: &Outcome, took: Duration) {
        if !outcome.is_delivered() {
            self.note(|| format!("a message was {outcome}"));
            return;
        }
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        lock(&self.latencies).saturating_record(nanoseconds);
    }
}

/// What an asynchronous publisher and its callbacks know of each other.
struct Flight {
    ended: AtomicU64,
    /// The count at which the publisher wants to be woken.
    wake_at: AtomicU64,
    publisher: Thread,
    tally: Arc<Tally>,
}

impl Flight {
    fn of_this_thread(tally: Arc<Tally>) -> Self {
        Flight {
            tally,
            ended: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            publisher: thread::current(),
        }
    }

    fn ended(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    fn add(&self) {
        let count = self.ended.fetch_add(1, Ordering::SeqCst) + 1;
        if count == self.wake_at.load(Ordering::SeqCst) || self.has_failed() {
            self.publisher.unpark();
        }
    }

    fn has_failed(&self) -> bool {
        self.tally.has_problem.load(Ordering::SeqCst)
    }

    /// Waits for room: not any longer once a message of this thread has failed.
    fn wait_for_room(&self, count: u64) {
        // Whichever comes second, this store or the last addition, sees the other.
        self.wake_at.store(count, Ordering::SeqCst);
        while self.ended() < count && !self.has_failed() {
            thread::park();
        }
    }

    /// Every message ends, whatever happens: this returns.
    fn wait_for_all(&self, count: u64) {
        self.wake_at.store(count, Ordering::SeqCst);
        while self.ended() < count {
            thread::park();
        }
    }
}

/// Publishes without waiting, as long as it has not enough outstanding.
pub(super) fn publish_async(shared: &Shared, thread: usize) {
    let flight = Arc::new(Flight::of_this_thread(Arc::clone(&shared.tally)));
    let topic = shared.plan.topic(thread);
    let mut sent = 0;
    let mut known = 0;
    for number in 0..shared.plan.count(thread) {
        if sent - known >= shared.outstanding {
            if sent - flight.ended() >= shared.outstanding {
                flight.wait_for_room(sent - shared.outstanding / 2);
            }
            known = flight.ended();
        }
        if shared.is_over() {
            break;
        }
        let begin = Instant::now();
        let own = Arc::clone(&flight);
        let message = shared.plan.message(&topic, number);
        let taken = shared.handle.publish_then(message, move |outcome| {
            own.tally.ended(&outcome, begin.elapsed());
            own.add();
        });
        if let Err(rejected) = taken {
            shared.tally.note(|| rejected.to_string());
            break;
        }
        sent += 1;
    }
    shared.end_if_failed();
    // Once for all of them: the threads would keep taking the counter from each other.
    shared.tally.published.fetch_add(sent, Ordering::Relaxed);
    flight.wait_for_all(sent);
}

/// Publishes one message after the other, each once the one before has ended.
pub(super) fn publish_sync(shared: &Shared, thread: usize) {
    let topic = shared.plan.topic(thread);
    for number in 0..shared.plan.count(thread) {
        if shared.is_over() {
            break;
        }
        let begin = Instant::now();
        match shared.handle.publish(shared.plan.message(&topic, number)) {
            Ok(ticket) => {
                shared.tally.published.fetch_add(1, Ordering::Relaxed);
                let outcome = ticket.wait();
                shared.tally.ended(&outcome, begin.elapsed());
            }
            Err(rejected) => {
                shared.tally.note(|| rejected.to_string());
                break;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
