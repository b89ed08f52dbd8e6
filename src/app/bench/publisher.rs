//! \[0\] The threads that publish, and the times that they take.
//!
//! An asynchronous publisher waits for all its outstanding messages together, so that one wake-up brings many. Where
//! there are few publishers it has two batches, each with a half of them, and waits for one while the other is on its
//! way. A synchronous publisher waits for each ticket. Both wait for a receiver that is too far behind, and both write
//! their times into the histogram themselves: the loop's thread has enough to do.
//!
//! An asynchronous publisher reads the clock once for a few messages that it pushes in a row, before the first of them.
//! The batch's callback, which the loop's thread runs, reads it once for the messages that are told together, after all
//! of them were acknowledged. So no message took longer than it is said to.

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
    /// An asynchronous publisher waits for them in so many rounds.
    pub(super) rounds: u64,
    /// Takes one item for each message that is on its way to the receiver, and makes the publishers wait when there
    /// are too many. `None` where nothing is received.
    pub(super) on_their_way: Option<Sender<()>>,
    /// Whether an asynchronous publisher reads the clock for each message.
    pub(super) times_each: bool,
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

    /// So many messages were acknowledged. Their times come later.
    pub(super) fn were_acknowledged(&self, count: u64) {
        self.acknowledged.0.fetch_add(count, Ordering::Relaxed);
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
        let mut times = times.into_iter().peekable();
        while let Some(took) = times.next() {
            // Messages that began and ended together took equally long.
            let others = std::iter::from_fn(|| times.next_if_eq(&took)).count();
            latencies.saturating_record_n(took, 1 + others as u64);
        }
    }
}

/// So many messages that a publisher pushes in a row begin with one reading of the clock at most.
const TOGETHER: usize = 16;

/// Messages of an asynchronous publisher that are waited for together, again and again.
struct Round {
    batch: Batch,
    times: Arc<Times>,
    /// When each message began whose time is not in the histogram.
    begins: Vec<u64>,
}

/// When a round's messages ended, each in the place of its number. The loop's thread writes it before the batch counts
/// the message.
struct Times {
    /// All times are in nanoseconds since then.
    zero: Instant,
    /// A power of two of them: dividing would take the loop longer than the rest.
    ends: Box<[AtomicU64]>,
}

/// In place of the end of a message that was not delivered.
const UNDELIVERED: u64 = u64::MAX;

impl Round {
    /// A round of so many messages.
    fn new(shared: &Arc<BenchShared>, size: u64) -> Self {
        let times = Arc::new(Times {
            zero: Instant::now(),
            ends: (0..size.next_power_of_two())
                .map(|_| AtomicU64::new(0))
                .collect(),
        });
        let (shared, own) = (Arc::clone(shared), Arc::clone(&times));
        let ended = move |ends: &[(u64, Outcome)]| {
            let now = own.now();
            let mut delivered = 0;
            for (number, outcome) in ends {
                match outcome.is_delivered() {
                    true => {
                        own.end(*number).store(now, Ordering::Relaxed);
                        delivered += 1;
                    }
                    false => {
                        own.end(*number).store(UNDELIVERED, Ordering::Relaxed);
                        // A thread that waits for its round must not wait for ever, offline perhaps, once the run has
                        // failed.
                        shared.tally.was_not_delivered(outcome);
                        shared.end();
                    }
                }
            }
            shared.tally.were_acknowledged(delivered);
        };
        Round {
            batch: Batch::with_callback(ended),
            times,
            begins: Vec::with_capacity(size as usize),
        }
    }

    /// The next message is about to be pushed. Reads the clock `anew`, or once for a few messages.
    fn begin(&mut self, anew: bool) {
        let begin = match self.begins.last() {
            Some(last) if !anew && !self.begins.len().is_multiple_of(TOGETHER) => *last,
            _ => self.times.now(),
        };
        self.begins.push(begin);
    }

    /// Waits until its messages have ended. Every message ends, whatever happens: this returns.
    fn wait(&mut self, tally: &Tally) {
        // The callback has told of those that were not delivered.
        let _ = self.batch.wait();
        let first = self.batch.pushed() - self.begins.len() as u64;
        let times = (first..).zip(&self.begins).filter_map(|(number, begin)| {
            match self.times.end(number).load(Ordering::Relaxed) {
                UNDELIVERED => None,
                end => Some(end.saturating_sub(*begin)),
            }
        });
        tally.record(times);
        self.begins.clear();
    }
}

impl Times {
    fn end(&self, number: u64) -> &AtomicU64 {
        &self.ends[number as usize & (self.ends.len() - 1)]
    }

    fn now(&self) -> u64 {
        nanoseconds(self.zero.elapsed())
    }
}

/// Publishes without waiting, as long as it has not enough outstanding: while one round of messages, or the messages of
/// other threads, are on their way the next one is pushed.
pub(super) fn publish_async(shared: &Arc<BenchShared>, thread: usize) {
    let size = shared.outstanding / shared.rounds;
    let round = |_| Round::new(shared, size);
    let mut rounds: Vec<_> = (0..shared.rounds).map(round).collect();
    let mut numbers = 0..shared.plan.count(thread);
    for at in (0..rounds.len()).cycle() {
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
    round.begin(shared.times_each);
    let message = shared.plan.message(thread, number);
    let published = shared.handle.publish_in(message, &mut round.batch);
    if let Err(rejected) = &published {
        round.begins.pop();
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
                        shared.tally.were_acknowledged(1);
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

#[cfg(test)]
mod tests {
    use mqtt_connection_sharing::options::Options;
    use mqtt_connection_sharing::{Agent, Client};

    use super::*;
    use crate::app::tests::bench_settings;

    fn shared() -> (Agent, Arc<BenchShared>) {
        let (agent, handle) = Client::new(Options::new("localhost", "me")).unwrap().open();
        let shared = BenchShared {
            handle,
            plan: Plan::of_bench(&bench_settings()),
            tally: Arc::new(Tally::new().unwrap()),
            interrupt: Arc::default(),
            outstanding: 1_000,
            rounds: 1,
            on_their_way: None,
            times_each: false,
        };
        (agent, Arc::new(shared))
    }

    #[test]
    fn a_few_messages_in_a_row_begin_with_one_reading_of_the_clock_before_the_first_of_them() {
        let (_agent, shared) = shared();
        let mut round = Round::new(&shared, 100);
        let mut before = Vec::new();
        for number in 0..40 {
            // A clock that shows other times is needed to tell readings apart.
            let last = round.begins.last().copied().unwrap_or(0);
            while round.times.now() <= last {}
            before.push(round.times.now());
            round.begin(number == 20);
        }
        for (begin, number) in round.begins.iter().zip(0..) {
            let (first, next) = match number {
                0..16 => (0, 16),
                16..20 => (16, 20),
                20..32 => (20, 32),
                _ => (32, 40),
            };
            assert_eq!(*begin, round.begins[first]);
            assert!(*begin >= before[first] && *begin <= before[first + 1]);
            assert!(before.get(next).is_none_or(|then| begin < then));
        }
    }

    #[test]
    fn equal_times_are_counted_one_by_one() {
        let tally = Tally::new().unwrap();
        tally.record([5, 5, 7, 5]);
        tally.record([]);
        let latencies = tally.latencies();
        assert_eq!((latencies.len(), latencies.count_at(5)), (4, 3));
        assert_eq!(latencies.max(), 7);
    }

    #[test]
    fn messages_that_are_not_delivered_have_no_time() {
        let (agent, shared) = shared();
        let mut round = Round::new(&shared, 3);
        assert!((0..3).all(|number| push(&shared, &mut round, 0, number)));
        drop(agent);
        round.wait(&shared.tally);
        assert!(!push(&shared, &mut round, 0, 3), "the run has failed");
        round.wait(&shared.tally);
        assert_eq!(shared.tally.acknowledged(), 0);
        assert!(shared.tally.latencies().is_empty());
        assert!(shared.tally.problem().is_some());
    }
}
