//! \[0\] The threads that publish, and the times that they take.
//!
//! An asynchronous publisher takes the time of each message in a callback, which the loop's thread runs. It
//! waits for half of its outstanding messages at a time, so that one wake-up brings many messages. A
//! synchronous one waits for each ticket. Both wait for a receiver that is too far behind.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use hdrhistogram::Histogram;

use super::GRACE;
use crate::app::demo::Interrupt;
use crate::app::names::as_given;
use crate::app::traffic::Plan;
use mqtt_connection_sharing::Handle;
use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::{Outcome, Reason};

/// Things that all publishers share.
pub(super) struct BenchShared {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) tally: Arc<Tally>,
    pub(super) interrupt: Arc<Interrupt>,
    /// Messages of its own that a thread may have outstanding.
    pub(super) outstanding: u64,
    /// Takes one item for each message that is on its way to the receiver, and makes the publishers wait when there
    /// are too many. `None` where nothing is received.
    pub(super) on_their_way: Option<Sender<()>>,
}

impl BenchShared {
    /// Waits until another message may be on its way to the receiver. Returns at once if the receiver has ended.
    fn wait_for_the_receiver(&self) {
        if let Some(on_their_way) = &self.on_their_way {
            let _ = on_their_way.send(());
        }
    }

    /// Ends the loop: nobody waits for the rest of a run that has failed.
    fn end(&self) {
        drop(self.handle.terminate(GRACE));
    }

    /// A message has ended, for better or worse.
    fn ended(&self, outcome: &Outcome, took: Duration) {
        match outcome.is_delivered() {
            true => self.tally.acknowledged_after(took),
            false => {
                if *outcome == Outcome::PerhapsDelivered(Reason::Parked) {
                    self.tally.closed_alone.store(true, Ordering::Relaxed);
                }
                let told = || format!("a message was {outcome}");
                self.tally.note(|| as_given(&told()).into_owned());
            }
        }
    }

    /// Whether to publish nothing more: it was interrupted, or has failed already.
    fn is_over(&self) -> bool {
        self.interrupt.is_requested() || self.tally.has_problem.load(Ordering::Relaxed)
    }
}

/// How the messages of all threads ended.
#[derive(Debug)]
pub(super) struct Tally {
    published: AtomicU64,
    acknowledged: AtomicU64,
    latencies: Mutex<Histogram<u64>>,
    /// The first thing that went wrong.
    problem: Mutex<Option<String>>,
    has_problem: AtomicBool,
    closed_alone: AtomicBool,
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
            closed_alone: AtomicBool::new(false),
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

    /// Whether the broker closed the connection on a message that was alone.
    pub(super) fn was_closed_alone(&self) -> bool {
        self.closed_alone.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, problem: impl FnOnce() -> String) {
        lock(&self.problem).get_or_insert_with(problem);
        self.has_problem.store(true, Ordering::SeqCst);
    }

    /// A message was acknowledged.
    fn acknowledged_after(&self, took: Duration) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        lock(&self.latencies).saturating_record(nanoseconds);
    }
}

/// Messages of an asynchronous publisher that are waited for together. Their callbacks hold it.
struct Round {
    shared: Arc<BenchShared>,
    /// Gone with the last callback.
    _alive: Sender<()>,
}

impl Round {
    /// A round, and the channel that is disconnected when all of its messages have ended.
    fn new(shared: &Arc<BenchShared>) -> (Arc<Self>, Receiver<()>) {
        let (alive, ended) = bounded(0);
        let round = Round {
            shared: Arc::clone(shared),
            _alive: alive,
        };
        (Arc::new(round), ended)
    }

    /// A message has ended. A thread that waits for its round must not wait for ever, offline perhaps,
    /// once the run has failed.
    fn ended(&self, outcome: &Outcome, took: Duration) {
        self.shared.ended(outcome, took);
        if !outcome.is_delivered() {
            self.shared.end();
        }
    }
}

/// Publishes without waiting, as long as it has not enough outstanding: while one round of messages is on
/// its way the next one is pushed.
pub(super) fn publish_async(shared: &Arc<BenchShared>, thread: usize) {
    let size = (shared.outstanding / 2).max(1);
    let mut before = None;
    let (mut round, mut ended) = Round::new(shared);
    let mut sent = 0;
    for number in 0..shared.plan.count(thread) {
        if sent > 0 && sent % size == 0 {
            let (next, next_ended) = Round::new(shared);
            round = next;
            let full = std::mem::replace(&mut ended, next_ended);
            if shared.outstanding == 1 {
                wait(&full);
            } else if let Some(before) = before.replace(full) {
                wait(&before);
            }
        }
        shared.wait_for_the_receiver();
        if shared.is_over() {
            break;
        }
        let begin = Instant::now();
        let own = Arc::clone(&round);
        let message = shared.plan.message(thread, number);
        let callback = move |outcome: Outcome| own.ended(&outcome, begin.elapsed());
        if let Err(rejected) = shared.handle.publish_then(message, callback) {
            shared.tally.note(|| rejected.to_string());
            shared.end();
            break;
        }
        sent += 1;
    }
    // Once for all of them: the threads would keep taking the counter from each other.
    shared.tally.published.fetch_add(sent, Ordering::Relaxed);
    drop(round);
    if let Some(before) = before {
        wait(&before);
    }
    wait(&ended);
}

/// Waits until a round has ended. Every message ends, whatever happens: this returns.
fn wait(ended: &Receiver<()>) {
    // Nothing is ever sent.
    let _ = ended.recv();
}

/// Publishes one message after the other, each once the one before has ended.
pub(super) fn publish_sync(shared: &Arc<BenchShared>, thread: usize) {
    for number in 0..shared.plan.count(thread) {
        shared.wait_for_the_receiver();
        if shared.is_over() {
            break;
        }
        let begin = Instant::now();
        match shared.handle.publish(shared.plan.message(thread, number)) {
            Ok(ticket) => {
                shared.tally.published.fetch_add(1, Ordering::Relaxed);
                let outcome = ticket.wait();
                shared.ended(&outcome, begin.elapsed());
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
