//! \[0\] The threads that publish, and the times that they take.
//!
//! An asynchronous publisher has two batches, each with a half of its outstanding messages, and waits for one while
//! the other is on its way, so that one wake-up brings many messages. The batch's callback, which the loop's thread
//! runs, takes the time of each message. A synchronous publisher waits for each ticket. Both wait for a receiver that
//! is too far behind, and both write their times into the histogram themselves: the loop's thread has enough to do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use hdrhistogram::Histogram;

use super::GRACE;
use crate::app::answers::{self, Attempted, MadeBy};
use crate::app::demo::Interrupt;
use crate::app::traffic::Plan;
use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::{Batch, Handle, Outcome, Reason};

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

    /// Whether to publish nothing more: it was interrupted, or has failed already.
    fn is_over(&self) -> bool {
        self.interrupt.is_requested() || self.tally.has_problem.load(Ordering::Relaxed)
    }
}

/// A count that one thread writes with each message. Beside others' data it would take the whole of a cache line away
/// from them each time; two lines, because processors fetch pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LoneCount(AtomicU64);

/// How the messages of all threads ended.
#[derive(Debug)]
pub(super) struct Tally {
    published: AtomicU64,
    acknowledged: LoneCount,
    latencies: Mutex<Histogram<u64>>,
    /// The first thing that went wrong.
    problem: Mutex<Option<String>>,
    has_problem: AtomicBool,
    /// Why the first message ended that was sent and not acknowledged.
    unanswered: OnceLock<Reason>,
    /// The reason code with which the broker refused the first message that it refused.
    reason_code: OnceLock<u8>,
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
            acknowledged: LoneCount::default(),
            latencies: Mutex::new(latencies),
            problem: Mutex::new(None),
            has_problem: AtomicBool::new(false),
            unanswered: OnceLock::new(),
            reason_code: OnceLock::new(),
        })
    }

    /// Messages that the loop took.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.0.load(Ordering::Relaxed)
    }

    /// How long these took, in nanoseconds.
    pub(super) fn latencies(&self) -> Histogram<u64> {
        lock(&self.latencies).clone()
    }

    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Why the first message ended that was sent and not acknowledged. `None` where each was acknowledged.
    pub(super) fn unanswered(&self) -> Option<Reason> {
        self.unanswered.get().copied()
    }

    /// The reason code with which the broker refused a message. `None` where it refused none, or gave none.
    pub(super) fn reason_code(&self) -> Option<u8> {
        self.reason_code.get().copied()
    }

    /// The broker refused a command with this code.
    pub(super) fn has_reason_code(&self, code: u8) {
        let _ = self.reason_code.set(code);
    }

    pub(super) fn note(&self, problem: impl FnOnce() -> String) {
        lock(&self.problem).get_or_insert_with(problem);
        self.has_problem.store(true, Ordering::SeqCst);
    }

    /// A message was acknowledged. Its time comes later.
    pub(super) fn was_acknowledged(&self) {
        self.acknowledged.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was not delivered.
    pub(super) fn was_not_delivered(&self, outcome: &Outcome) {
        if let Outcome::PerhapsDelivered(reason) = outcome {
            let _ = self.unanswered.set(*reason);
        }
        if let Some(code) = answers::reason_code(outcome) {
            self.has_reason_code(code);
        }
        self.note(|| {
            format!(
                "a message was {}",
                answers::told(Attempted::Publish(MadeBy::Plan), outcome)
            )
        });
    }

    /// Takes the times of messages that have ended into the histogram.
    fn record(&self, times: impl IntoIterator<Item = u64>) {
        let mut latencies = lock(&self.latencies);
        for took in times {
            latencies.saturating_record(took);
        }
    }
}

/// Messages of an asynchronous publisher that are waited for together, again and again.
struct Round {
    batch: Batch,
    times: Arc<Times>,
    /// Messages whose times are in the histogram.
    recorded: u64,
}

/// The times of a round's messages, each in the place of its number. The publisher writes when it calls, the loop's
/// thread writes over it how long the message took. The command queue and the batch order the two.
struct Times {
    begin: Instant,
    /// Nanoseconds. A power of two of them: dividing would take the loop longer than the rest.
    each: Box<[AtomicU64]>,
}

/// In place of the time of a message that was not delivered.
const UNDELIVERED: u64 = u64::MAX;

impl Round {
    /// A round of so many messages.
    fn new(shared: &Arc<BenchShared>, size: u64) -> Self {
        let times = Arc::new(Times {
            begin: Instant::now(),
            each: (0..size.next_power_of_two())
                .map(|_| AtomicU64::new(0))
                .collect(),
        });
        let (shared, own) = (Arc::clone(shared), Arc::clone(&times));
        let ended = move |ends: &[(u64, Outcome)]| {
            for (number, outcome) in ends {
                own.ended(*number, outcome.is_delivered());
                match outcome.is_delivered() {
                    true => shared.tally.was_acknowledged(),
                    false => {
                        // A thread that waits for its round must not wait for ever, offline perhaps, once the run has
                        // failed.
                        shared.tally.was_not_delivered(outcome);
                        shared.end();
                    }
                }
            }
        };
        Round {
            batch: Batch::with_callback(ended),
            times,
            recorded: 0,
        }
    }

    /// Waits until its messages have ended. Every message ends, whatever happens: this returns.
    fn wait(&mut self, tally: &Tally) {
        // The callback has told of those that were not delivered.
        let _ = self.batch.wait();
        let ended = self.recorded..self.batch.pushed();
        self.recorded = ended.end;
        let times = ended.map(|number| self.times.place(number).load(Ordering::Relaxed));
        tally.record(times.filter(|took| *took != UNDELIVERED));
    }
}

impl Times {
    fn called(&self, number: u64) {
        self.place(number).store(self.now(), Ordering::Relaxed);
    }

    fn ended(&self, number: u64, delivered: bool) {
        let place = self.place(number);
        let took = match delivered {
            true => self.now().saturating_sub(place.load(Ordering::Relaxed)),
            false => UNDELIVERED,
        };
        place.store(took, Ordering::Relaxed);
    }

    fn place(&self, number: u64) -> &AtomicU64 {
        &self.each[number as usize & (self.each.len() - 1)]
    }

    fn now(&self) -> u64 {
        nanoseconds(self.begin.elapsed())
    }
}

/// Publishes without waiting, as long as it has not enough outstanding: while one round of messages is on
/// its way the next one is pushed.
pub(super) fn publish_async(shared: &Arc<BenchShared>, thread: usize) {
    let size = (shared.outstanding / 2).max(1);
    // With one message outstanding there is no other round.
    let count = shared.outstanding.min(2) as usize;
    let mut rounds: Vec<_> = (0..count).map(|_| Round::new(shared, size)).collect();
    let mut numbers = 0..shared.plan.count(thread);
    for at in (0..count).cycle() {
        let round = &mut rounds[at];
        round.wait(&shared.tally);
        let mut push = |number| push(shared, round, thread, number);
        if numbers.is_empty() || !numbers.by_ref().take(size as usize).all(&mut push) {
            break;
        }
    }
    // Once for all of them: the threads would keep taking the counter from each other.
    let sent = rounds.iter().map(|round| round.batch.pushed()).sum();
    shared.tally.published.fetch_add(sent, Ordering::Relaxed);
    for round in &mut rounds {
        round.wait(&shared.tally);
    }
}

/// Publishes a message of a round. Returns whether to go on.
fn push(shared: &BenchShared, round: &mut Round, thread: usize, number: u64) -> bool {
    shared.wait_for_the_receiver();
    if shared.is_over() {
        return false;
    }
    round.times.called(round.batch.pushed());
    let message = shared.plan.message(thread, number);
    let published = shared.handle.publish_in(message, &mut round.batch);
    if let Err(rejected) = &published {
        shared.tally.note(|| rejected.to_string());
        shared.end();
    }
    published.is_ok()
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
                let took = nanoseconds(begin.elapsed());
                match outcome.is_delivered() {
                    true => {
                        shared.tally.was_acknowledged();
                        shared.tally.record([took]);
                    }
                    false => shared.tally.was_not_delivered(&outcome),
                }
            }
            Err(rejected) => {
                shared.tally.note(|| rejected.to_string());
                break;
            }
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
