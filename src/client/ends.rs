//! \[2\] Counts commands that have ended and wakes the thread or the task that waits for them.
//!
//! A ticket waits for one command, a batch for many. The loop's thread counts; it takes a lock and
//! makes a system call only while somebody waits for no more than that. One thread or task at a time waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Instant;

use crate::client::loop_thread;
use crate::client::waiter::Waiter;

/// How many commands have ended, for better or worse.
#[derive(Default)]
pub(crate) struct Ends {
    count: AtomicU64,
    /// The count at which the waiter is to be woken; 0 if there is none.
    wake_at: AtomicU64,
    waiter: Mutex<Option<Waiter>>,
}

impl Ends {
    /// How many have ended. The caller sees what the loop wrote before it counted them.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// So many commands more have ended.
    pub(crate) fn add(&self, more: u64) {
        let count = self.count.fetch_add(more, Ordering::SeqCst) + more;
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
        Ends::wait_for_any(&[self], count, deadline).is_some()
    }

    /// Waits until so many have ended in one of these, or until the deadline. Returns the place of the first in which
    /// they have.
    ///
    /// # Panics
    /// As [`Ends::wait_for`].
    #[track_caller]
    pub(crate) fn wait_for_any(
        all: &[&Ends],
        count: u64,
        deadline: Option<Instant>,
    ) -> Option<usize> {
        let ended = || all.iter().position(|ends| ends.count() >= count);
        if let Some(first) = ended() {
            return Some(first);
        }
        let is_over = deadline.is_some_and(|at| at <= Instant::now());
        if is_over || !loop_thread::may_wait() {
            return None;
        }
        let mut displaced = Vec::new();
        for ends in all {
            displaced.extend(ends.set_waiter(Waiter::current(), count));
        }
        let ended = || all.iter().position(|ends| ends.has_reached(count));
        let first = loop {
            if let Some(first) = ended() {
                break Some(first);
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let now = Instant::now();
                    if now >= deadline {
                        break None;
                    }
                    thread::park_timeout(deadline - now);
                }
            }
        };
        for ends in all {
            ends.wake_at.store(0, Ordering::SeqCst);
        }
        // A task that had asked before asks again.
        displaced.into_iter().for_each(Waiter::wake);
        first
    }

    /// Whether so many have ended. If not, wakes the task once they have.
    pub(crate) fn poll(&self, count: u64, waker: &Waker) -> bool {
        if self.count() >= count {
            // Otherwise each later end would look for it.
            self.forget_task();
            return true;
        }
        // Its earlier waker has had its time.
        drop(self.set_waiter(Waiter::Task(waker.clone()), count));
        let have_ended = self.has_reached(count);
        if have_ended {
            self.forget_task();
        }
        have_ended
    }

    /// No task waits any more.
    pub(crate) fn forget_task(&self) {
        // Only a task that has asked leaves it set.
        if self.wake_at.load(Ordering::Relaxed) > 0 {
            self.wake_at.store(0, Ordering::Relaxed);
            // Foreign code, hence not under the lock.
            let task = self.lock().take();
            drop(task);
        }
    }

    /// Has this waiter woken once so many have ended, and gives back a task that waited. The caller must look at the
    /// count after this call ([`Ends::has_reached`]).
    fn set_waiter(&self, waiter: Waiter, count: u64) -> Option<Waiter> {
        let earlier = self.lock().replace(waiter);
        // Of this store and the last command's end, the one that comes second sees the other.
        self.wake_at.store(count, Ordering::SeqCst);
        earlier.filter(|earlier| matches!(earlier, Waiter::Task(_)))
    }

    fn has_reached(&self, count: u64) -> bool {
        self.count.load(Ordering::SeqCst) >= count
    }

    /// Wakes the waiter. A thread stays known: this call may be meant for an earlier wait that timed out, while the
    /// thread waits for a higher count by now.
    fn wake(&self) {
        let waiter = Waiter::take_from(&mut self.lock());
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiter>> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::client::waiter::tests::Task;

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
        ends.add(1);
        // The first end compared the counts just before the second wait began, and wakes only now.
        ends.wake();
        assert!(ends.waiter.lock().unwrap().is_some());
        ends.add(1);
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
        ends.add(1);
        assert!(waiting.join().unwrap() < HANG);
        assert_eq!(ends.wake_at.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn only_the_last_waker_of_a_task_is_woken_and_once() {
        let ends = Ends::default();
        let tasks: [Arc<Task>; 2] = Default::default();
        for task in &tasks {
            assert!(!ends.poll(1, &Arc::clone(task).into()));
        }
        ends.add(1);
        ends.add(1);
        assert_eq!(tasks.map(|task| task.woken()), [0, 1]);
        assert!(ends.lock().is_none(), "it keeps no waker");
        assert!(ends.poll(2, Waker::noop()));
    }

    #[test]
    fn a_thread_that_waits_in_the_place_of_a_task_has_it_ask_again() {
        let ends = Ends::default();
        let task = Arc::<Task>::default();
        assert!(!ends.poll(1, &Arc::clone(&task).into()));
        assert!(!ends.wait_for(1, Some(Instant::now() + Duration::from_millis(1))));
        assert_eq!(task.woken(), 1);
    }

    #[test]
    fn a_task_that_is_forgotten_is_not_woken() {
        let ends = Ends::default();
        let task = Arc::<Task>::default();
        assert!(!ends.poll(1, &Arc::clone(&task).into()));
        ends.forget_task();
        ends.add(1);
        assert_eq!((task.woken(), Arc::strong_count(&task)), (0, 1));
    }

    #[test]
    fn a_task_that_runs_inside_its_waker_may_ask_again() {
        let ends = Arc::new(Ends::default());
        let again = Arc::clone(&ends);
        let task = Task::doing(move || assert!(!again.poll(2, Waker::noop())));
        assert!(!ends.poll(1, &Arc::clone(&task).into()));
        ends.add(1);
        assert_eq!(task.woken(), 1);
    }

    #[test]
    fn a_thread_waits_for_the_first_of_several() {
        let all: Arc<[Ends; 3]> = Arc::default();
        let waiting = thread::spawn({
            let all = Arc::clone(&all);
            move || {
                let [one, two, three] = &*all;
                let deadline = Instant::now() + HANG;
                Ends::wait_for_any(&[one, two, three], 1, Some(deadline))
            }
        });
        let start = Instant::now();
        while all[2].wake_at.load(Ordering::SeqCst) != 1 {
            assert!(start.elapsed() < HANG, "it does not wait");
            thread::yield_now();
        }
        all[1].add(1);
        assert_eq!(waiting.join().unwrap(), Some(1));
        let none_waits = |ends: &Ends| ends.wake_at.load(Ordering::SeqCst) == 0;
        assert!(all.iter().all(none_waits));
    }
}
