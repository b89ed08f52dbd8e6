//! \[9\] The tasks that wait for one thing, such as the next message of an inbox, and are woken together.
//!
//! The loop's thread pays a fence and a load while no task waits, and takes the lock only if one does. Each task
//! that was woken looks again, and waits again if another one was faster. Any thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::client::waiter::Waiter;

/// Tasks that wait.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// Whether a task waits. Changes under the lock only.
    any: AtomicBool,
    waiting: Mutex<TaskList>,
}

#[derive(Debug, Default)]
struct TaskList {
    /// In the order in which they came.
    tasks: VecDeque<(u64, Waker)>,
    next_number: u64,
}

/// Wakes the tasks when the loop's end of a queue is gone. It has to be dropped after the queue's sender, so that a task
/// that is woken finds the queue disconnected.
#[derive(Debug)]
pub(crate) struct WakesAtEnd(pub(crate) Arc<Tasks>);

impl WakesAtEnd {
    /// As [`Tasks::wake_all`].
    pub(crate) fn wake_all(&self) {
        self.0.wake_all();
    }
}

impl Drop for WakesAtEnd {
    fn drop(&mut self) {
        self.0.wake_all();
    }
}

impl Tasks {
    /// Has a task wait. It is to look once more after this call: what it waits for may have come just before it.
    /// `number` names the task from its first call on.
    pub(crate) fn enter(&self, number: &mut Option<u64>, waker: &Waker) {
        let waker = waker.clone();
        let mut waiting = self.lock();
        let number = *number.get_or_insert_with(|| {
            waiting.next_number += 1;
            waiting.next_number
        });
        let earlier = waiting.position(number).map(|at| &mut waiting.tasks[at].1);
        let old = match earlier {
            Some(earlier) => Some(std::mem::replace(earlier, waker)),
            None => {
                waiting.tasks.push_back((number, waker));
                None
            }
        };
        self.any.store(true, Ordering::Relaxed);
        drop(waiting);
        // Foreign code, hence not under the lock.
        drop(old);
        // Pairs with the fence in `wake_all`: either the task sees what came, or the loop sees the task.
        fence(Ordering::SeqCst);
    }

    /// A task does not wait any more.
    pub(crate) fn leave(&self, number: u64) {
        let mut waiting = self.lock();
        let at = waiting.position(number);
        let left = at.and_then(|at| waiting.tasks.remove(at));
        self.count(&waiting);
        drop(waiting);
        drop(left);
    }

    /// The tasks may find now what they wait for: wakes all of them.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        if self.any.load(Ordering::Relaxed) {
            self.wake_those_that_wait();
        }
    }

    #[cold]
    fn wake_those_that_wait(&self) {
        // An executor that runs a task in the middle of its waker may have it wait again: one round is enough.
        let round = self.lock().tasks.len();
        for _ in 0..round {
            let mut waiting = self.lock();
            let task = waiting.tasks.pop_front();
            self.count(&waiting);
            drop(waiting);
            if let Some((_, waker)) = task {
                Waiter::Task(waker).wake();
            }
        }
    }

    fn count(&self, waiting: &TaskList) {
        self.any.store(!waiting.tasks.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, TaskList> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskList {
    fn position(&self, number: u64) -> Option<usize> {
        self.tasks.iter().position(|(task, _)| *task == number)
    }
}
