//! \[2\] Many messages whose ends are waited for together, and the completion's side of it.
//!
//! What a [`Ticket`](crate::Ticket) is for one command a [`Batch`] is for any number of messages, without
//! memory of its own for each. The batch belongs to one publishing thread at a time; its messages
//! are told on the loop's thread, which takes a lock only for what was not delivered and for the one
//! that is waited for, and makes a system call only for that one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::client::command::Outcome;

/// Messages that are published together and waited for together: see
/// [`Handle::publish_in`](crate::Handle::publish_in).
///
/// It can be used again after it was waited for. What was not delivered is kept until it is asked for,
/// so one that is used for ever should be waited for now and then. After it is dropped nobody learns
/// how its messages end; they go on all the same.
#[derive(Default)]
pub struct Batch {
    shared: Arc<Shared>,
    pushed: u64,
}

/// What the batch and its completions know of each other.
#[derive(Default)]
pub(crate) struct Shared {
    /// Messages that have ended, for better or worse.
    ended: AtomicU64,
    /// The count at which the waiter wants to be woken; 0 for nobody.
    wake_at: AtomicU64,
    waiter: Mutex<Option<Thread>>,
    undelivered: Mutex<Vec<(u64, Outcome)>>,
}

impl Batch {
    /// A batch without messages.
    pub fn new() -> Self {
        Batch::default()
    }

    /// Messages pushed with it since it was made. The next one has this number.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Messages that have not ended yet.
    pub fn outstanding(&self) -> u64 {
        self.pushed - self.shared.ended.load(Ordering::Acquire)
    }

    /// Waits until every message has ended. Gives those that were not delivered since it was last
    /// asked, in the order of their ends: their numbers, from 0 in the order of pushing, and how they
    /// ended. Empty is good news.
    pub fn wait(&mut self) -> Vec<(u64, Outcome)> {
        self.wait_until(None);
        std::mem::take(&mut lock(&self.shared.undelivered))
    }

    /// As [`Batch::wait`], but waits at most this long; none when not all have ended by then. Can be
    /// called again.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Vec<(u64, Outcome)>> {
        let all_ended = self.wait_until(Instant::now().checked_add(timeout));
        all_ended.then(|| std::mem::take(&mut *lock(&self.shared.undelivered)))
    }

    /// What tells how the next message has ended.
    pub(crate) fn next(&self) -> (Arc<Shared>, u64) {
        (Arc::clone(&self.shared), self.pushed)
    }

    /// The next message was queued.
    pub(crate) fn was_pushed(&mut self) {
        self.pushed += 1;
    }

    /// Whether all have ended, if need be only by this deadline.
    fn wait_until(&mut self, deadline: Option<Instant>) -> bool {
        let shared = &*self.shared;
        if self.outstanding() == 0 {
            return true;
        }
        *lock(&shared.waiter) = Some(thread::current());
        // Whichever comes second, this store or the last message's end, sees the other.
        shared.wake_at.store(self.pushed, Ordering::SeqCst);
        while shared.ended.load(Ordering::SeqCst) < self.pushed {
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let now = Instant::now();
                    if now >= deadline {
                        return false;
                    }
                    thread::park_timeout(deadline - now);
                }
            }
        }
        true
    }
}

impl Shared {
    /// Message `number` has ended. To be called once for each.
    pub(crate) fn tell(&self, number: u64, outcome: Outcome) {
        if !outcome.is_delivered() {
            lock(&self.undelivered).push((number, outcome));
        }
        let ended = self.ended.fetch_add(1, Ordering::SeqCst) + 1;
        if ended == self.wake_at.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes whoever waits. It stays known: it may have waited in vain before, and this be meant for that
    /// count, while it waits for more by now.
    fn wake(&self) {
        if let Some(waiter) = &*lock(&self.waiter) {
            waiter.unpark();
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("pushed", &self.pushed)
            .field("outstanding", &self.outstanding())
            .finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::command::Reason;
    use crate::client::ticket::Completion;

    const HANG: Duration = Duration::from_secs(60);

    fn delivered() -> Outcome {
        Outcome::delivered(1, Duration::from_millis(3))
    }

    fn push(batch: &mut Batch) -> Completion {
        let completion = Completion::batch(batch);
        batch.was_pushed();
        completion
    }

    #[test]
    fn only_what_was_not_delivered_is_named_and_once() {
        let mut batch = Batch::new();
        let [first, second, third] = std::array::from_fn(|_| push(&mut batch));
        third.tell(Outcome::NeverSent(Reason::LinkLost));
        first.tell(delivered());
        assert_eq!(batch.outstanding(), 1);
        assert_eq!(batch.wait_timeout(Duration::ZERO), None);
        drop(second);
        let undelivered = [
            (2, Outcome::NeverSent(Reason::LinkLost)),
            (1, Outcome::Cancelled(Reason::LoopEnded)),
        ];
        assert_eq!(batch.wait(), undelivered);
        assert_eq!(batch.wait(), []);
        push(&mut batch).tell(Outcome::NeverSent(Reason::LinkLost));
        assert_eq!(batch.wait(), [(3, Outcome::NeverSent(Reason::LinkLost))]);
    }

    #[test]
    fn what_was_not_queued_does_not_count() {
        let mut batch = Batch::new();
        Completion::batch(&batch).withdraw();
        assert_eq!((batch.pushed(), batch.outstanding()), (0, 0));
        assert_eq!(batch.wait(), []);
    }

    #[test]
    fn a_batch_is_waited_for_while_its_messages_end_elsewhere() {
        let mut batch = Batch::new();
        for round in 1..=200 {
            let completions: Vec<_> = (0..10).map(|_| push(&mut batch)).collect();
            let loop_thread = thread::spawn(move || {
                for completion in completions {
                    completion.tell(delivered());
                }
            });
            assert_eq!(batch.wait(), []);
            assert_eq!((batch.pushed(), batch.outstanding()), (10 * round, 0));
            loop_thread.join().unwrap();
        }
    }

    #[test]
    fn who_waits_again_for_more_is_not_forgotten_when_woken_for_less() {
        let mut batch = Batch::new();
        let first = push(&mut batch);
        assert_eq!(batch.wait_timeout(Duration::ZERO), None);
        let second = push(&mut batch);
        let shared = Arc::clone(&batch.shared);
        let waiting = thread::spawn(move || batch.wait_timeout(HANG));
        let start = Instant::now();
        while shared.wake_at.load(Ordering::SeqCst) != 2 {
            assert!(start.elapsed() < HANG, "it does not wait");
            thread::yield_now();
        }
        first.tell(delivered());
        // Its end compared the counts just before the second wait began, and wakes only now.
        shared.wake();
        assert!(lock(&shared.waiter).is_some());
        second.tell(delivered());
        assert_eq!(waiting.join().unwrap(), Some(Vec::new()));
    }

    #[test]
    fn a_batch_that_is_gone_disturbs_nobody() {
        let mut batch = Batch::new();
        let completion = push(&mut batch);
        drop(batch);
        completion.tell(delivered());
    }
}
