//! \[2\] Counts commands that have ended and wakes the thread that waits for them.
//!
//! A ticket waits for one command, a batch for many. The loop's thread counts; it takes a lock and
//! makes a system call only while a thread waits for no more than that. One thread at a time waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::client::loop_thread;

/// How many commands have ended, for better or worse.
#[derive(Default)]
pub(crate) struct Ends {
    count: AtomicU64,
    /// The count at which the waiting thread is to be woken; 0 if no thread waits.
    wake_at: AtomicU64,
    waiter: Mutex<Option<Thread>>,
}

impl Ends {
    /// How many have ended. The caller sees what the loop wrote before it counted them.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// One command has ended.
    pub(crate) fn add_one(&self) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        // Not only at that very count: the system may have stopped the thread that counted it before this step.
        if (1..=count).contains(&self.wake_at.load(Ordering::SeqCst)) {
            self.wake();
        }
    }

    /// Waits until so many have ended, or until the deadline. Returns whether they have.
    ///
    /// # Panics
    /// On a loop's thread, if it would have to wait: see [`loop_thread::may_wait`].
    #[track_caller]
    pub(crate) fn wait_for(&self, count: u64, deadline: Option<Instant>) -> bool {
        if self.count() >= count {
            return true;
        }
        let is_over = deadline.is_some_and(|at| at <= Instant::now());
        if is_over || !loop_thread::may_wait() {
            return false;
        }
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        // Of this store and the last command's end, the one that comes second sees the other.
        self.wake_at.store(count, Ordering::SeqCst);
        let have_ended = loop {
            if self.count.load(Ordering::SeqCst) >= count {
                break true;
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let now = Instant::now();
                    if now >= deadline {
                        break false;
                    }
                    thread::park_timeout(deadline - now);
                }
            }
        };
        self.wake_at.store(0, Ordering::SeqCst);
        have_ended
    }

    /// Wakes the waiting thread, which stays known: this call may be meant for an earlier wait that
    /// timed out, while the thread waits for a higher count by now.
    fn wake(&self) {
        if let Some(waiter) = &*self.waiter.lock().unwrap_or_else(PoisonError::into_inner) {
            waiter.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_waits_again_for_more_is_not_forgotten_when_woken_for_less() {
        let ends = Arc::new(Ends::default());
        assert!(!ends.wait_for(1, Some(Instant::now())));
        let waiting = thread::spawn({
            let ends = Arc::clone(&ends);
            move || ends.wait_for(2, Some(Instant::now() + HANG))
        });
        let start = Instant::now();
        while ends.wake_at.load(Ordering::SeqCst) != 2 {
            assert!(start.elapsed() < HANG, "it does not wait");
            thread::yield_now();
        }
        ends.add_one();
        // The first end compared the counts just before the second wait began, and wakes only now.
        ends.wake();
        assert!(ends.waiter.lock().unwrap().is_some());
        ends.add_one();
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn a_thread_that_is_stopped_between_counting_and_waking_keeps_no_other_from_waking() {
        let ends = Arc::new(Ends::default());
        let waiting = thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                let since = Instant::now();
                ends.wait_for(1, Some(since + 2 * HANG));
                since.elapsed()
            }
        });
        let start = Instant::now();
        while ends.wake_at.load(Ordering::SeqCst) != 1 {
            assert!(start.elapsed() < HANG, "it does not wait");
            thread::yield_now();
        }
        // The first half of an end; the other half never comes.
        ends.count.fetch_add(1, Ordering::SeqCst);
        ends.add_one();
        assert!(waiting.join().unwrap() < HANG);
        assert_eq!(ends.wake_at.load(Ordering::SeqCst), 0);
    }
}
