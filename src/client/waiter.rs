//! \[2\] A thread or a task of an executor that waits, as far as another thread can wake it.
//!
//! A task's waker is code of the application: it is called on the loop's thread, never while the caller holds a
//! lock, and its panic ends nothing. A task that was woken asks again, so its waker is used once. Any thread.

use std::task::Waker;
use std::thread::{self, Thread};

use crate::client::loop_thread;

/// Wakes the thread or the task that waits.
pub(crate) enum Waiter {
    Thread(Thread),
    Task(Waker),
}

impl Waiter {
    /// The calling thread.
    pub(crate) fn current() -> Self {
        Waiter::Thread(thread::current())
    }

    pub(crate) fn is_thread(&self) -> bool {
        matches!(self, Waiter::Thread(_))
    }

    /// Takes a waiter to wake it. A thread stays known: it may sleep again without a word. A task asks again.
    pub(crate) fn take_from(place: &mut Option<Waiter>) -> Option<Waiter> {
        match place {
            Some(Waiter::Thread(thread)) => Some(Waiter::Thread(thread.clone())),
            _ => place.take(),
        }
    }

    /// Wakes it. Call this without a lock: an executor may run the task in the middle of it.
    #[track_caller]
    pub(crate) fn wake(self) {
        match self {
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Task(waker) => loop_thread::run_foreign("the waker of a task", || waker.wake()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake};
    use std::time::{Duration, Instant};

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    /// A task that counts how often it was woken.
    #[derive(Default)]
    pub(crate) struct Task {
        woken: AtomicUsize,
        /// Something to do in the middle of that.
        then: Option<Box<dyn Fn() + Send + Sync>>,
    }

    impl Task {
        /// Does this on the thread that wakes it.
        pub(crate) fn doing(then: impl Fn() + Send + Sync + 'static) -> Arc<Task> {
            Arc::new(Task {
                then: Some(Box::new(then)),
                ..Task::default()
            })
        }

        pub(crate) fn woken(&self) -> usize {
            self.woken.load(Ordering::SeqCst)
        }

        /// Asks a future once.
        pub(crate) fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) -> Poll<F::Output> {
            let waker = Waker::from(Arc::clone(self));
            pin!(future).poll(&mut Context::from_waker(&waker))
        }
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::SeqCst);
            if let Some(then) = &self.then {
                then();
            }
        }
    }

    /// Wakes a thread.
    struct Sleeper(Thread);

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Runs a future to its end on this thread.
    pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Sleeper(thread::current())));
        let mut future = pin!(future);
        let deadline = Instant::now() + HANG;
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    assert!(!left.is_zero(), "the future was not woken");
                    thread::park_timeout(left);
                }
            }
        }
    }

    #[test]
    fn a_panic_of_a_waker_is_contained_and_a_waker_runs_as_a_callback_does() {
        let bomb = Task::doing(|| panic!("a bug in an executor"));
        Waiter::Task(Waker::from(Arc::clone(&bomb))).wake();
        assert_eq!(bomb.woken(), 1);
        let waits = Task::doing(|| assert!(loop_thread::is_current()));
        Waiter::Task(Waker::from(waits)).wake();
        assert!(!loop_thread::is_current());
    }
}
