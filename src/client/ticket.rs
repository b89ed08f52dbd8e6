//! \[2\] The two ends of a command's outcome: the [`Ticket`] that a thread holds, and the `Completion`
//! that travels with the command.
//!
//! A completion is consumed by telling the outcome, so it is told once; a completion that is dropped
//! untold tells "cancelled". Telling never blocks, and makes no system call unless somebody waits.
//! Tickets live on any thread, completions end on the loop's.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::client::batch::{self, Batch};
use crate::client::command::{Outcome, Reason};

/// Nobody knows, nobody waits.
const OPEN: u8 = 0;
/// Nobody knows, a thread waits (or waited and gave up).
const WAITED_FOR: u8 = 1;
/// The outcome is there.
const TOLD: u8 = 2;

/// Tells how a command ended: exactly once, and as often as it is asked.
///
/// It can be waited on, waited on again after a time-out, moved to another thread, or dropped: the
/// command goes on all the same.
#[must_use = "without its ticket nobody learns how the command ended; drop it if that is meant"]
pub struct Ticket {
    shared: Arc<Shared>,
}

struct Shared {
    state: AtomicU8,
    outcome: OnceLock<Outcome>,
    /// Touched only by a thread that has to sleep, and by the one that wakes it.
    waiter: Mutex<Option<Thread>>,
}

/// The loop's end: consumed by telling the outcome.
pub(crate) struct Completion {
    notify: Notify,
}

enum Notify {
    Nobody,
    Ticket(Arc<Shared>),
    Callback(Box<dyn FnOnce(Outcome) + Send>),
    /// A message with this number.
    Batch(Arc<batch::Shared>, u64),
}

impl Ticket {
    /// A ticket and the completion that resolves it.
    pub(crate) fn new() -> (Ticket, Completion) {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(OPEN),
            outcome: OnceLock::new(),
            waiter: Mutex::new(None),
        });
        let completion = Completion {
            notify: Notify::Ticket(Arc::clone(&shared)),
        };
        (Ticket { shared }, completion)
    }

    /// Waits until the command has ended.
    pub fn wait(mut self) -> Outcome {
        loop {
            if let Some(outcome) = self.wait_until(None) {
                return outcome;
            }
        }
    }

    /// Waits at most this long; none when the command has not ended by then. Can be called again.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Outcome> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.wait_until(Some(deadline)),
            None => self.wait_until(None),
        }
    }

    /// The outcome, if the command has ended. Never waits.
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared.outcome.get().cloned()
    }

    /// Returns none only when the deadline has passed.
    fn wait_until(&mut self, deadline: Option<Instant>) -> Option<Outcome> {
        let shared = &*self.shared;
        if shared.state.load(Ordering::Acquire) != TOLD {
            *shared.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
            // The teller looks for a waiter only after it has swapped the state, so whichever of the
            // two comes second sees the other.
            let _ = shared.state.compare_exchange(
                OPEN,
                WAITED_FOR,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            while shared.state.load(Ordering::Acquire) != TOLD {
                match deadline {
                    None => thread::park(),
                    Some(deadline) => {
                        let now = Instant::now();
                        if now >= deadline {
                            return None;
                        }
                        thread::park_timeout(deadline - now);
                    }
                }
            }
        }
        shared.outcome.get().cloned()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.outcome()).finish()
    }
}

impl Completion {
    /// For a command whose end nobody wants to know.
    pub(crate) fn nobody() -> Self {
        Completion {
            notify: Notify::Nobody,
        }
    }

    /// Whether anybody wants to know.
    pub(crate) fn is_awaited(&self) -> bool {
        !matches!(self.notify, Notify::Nobody)
    }

    /// Calls back, on the loop's thread.
    pub(crate) fn callback(callback: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Completion {
            notify: Notify::Callback(Box::new(callback)),
        }
    }

    /// For the batch's next message.
    pub(crate) fn batch(batch: &Batch) -> Self {
        let (shared, number) = batch.next();
        Completion {
            notify: Notify::Batch(shared, number),
        }
    }

    /// Tells how the command ended.
    pub(crate) fn tell(mut self, outcome: Outcome) {
        tell(std::mem::replace(&mut self.notify, Notify::Nobody), outcome);
    }

    /// Takes a command back that was never queued: nothing is told.
    pub(crate) fn withdraw(mut self) {
        self.notify = Notify::Nobody;
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let notify = std::mem::replace(&mut self.notify, Notify::Nobody);
        tell(notify, Outcome::Cancelled(Reason::LoopEnded));
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.notify {
            Notify::Nobody => "Completion(nobody)",
            Notify::Ticket(_) => "Completion(ticket)",
            Notify::Callback(_) => "Completion(callback)",
            Notify::Batch(..) => "Completion(batch)",
        })
    }
}

fn tell(notify: Notify, outcome: Outcome) {
    match notify {
        Notify::Nobody => {}
        Notify::Ticket(shared) => {
            // It is empty: a completion is consumed by telling.
            let _ = shared.outcome.set(outcome);
            if shared.state.swap(TOLD, Ordering::AcqRel) == WAITED_FOR {
                let waiter = shared
                    .waiter
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(thread) = waiter {
                    thread.unpark();
                }
            }
        }
        Notify::Batch(shared, number) => shared.tell(number, outcome),
        Notify::Callback(callback) => {
            // One caller's bug must not end the loop for all others.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(outcome))) {
                // Dropping it is the caller's code, too, and could panic once more.
                std::mem::forget(payload);
                log::error!("the callback of a command panicked; the loop goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    fn done() -> Outcome {
        Outcome::delivered(1, Duration::from_millis(3))
    }

    #[test]
    fn an_outcome_told_before_or_during_the_wait_arrives() {
        let (ticket, completion) = Ticket::new();
        completion.tell(done());
        assert_eq!(ticket.wait(), done());

        let (ticket, completion) = Ticket::new();
        let waiter = thread::spawn(move || ticket.wait());
        completion.tell(done());
        assert_eq!(waiter.join().unwrap(), done());
    }

    #[test]
    fn a_ticket_can_be_waited_on_again_also_elsewhere() {
        let (mut ticket, completion) = Ticket::new();
        assert_eq!(ticket.wait_timeout(Duration::from_millis(1)), None);
        assert_eq!(ticket.outcome(), None);
        let (started, is_started) = bounded(0);
        let waiter = thread::spawn(move || {
            started.send(()).unwrap();
            let first = ticket.wait_timeout(Duration::from_secs(60));
            (first, ticket.wait_timeout(Duration::ZERO))
        });
        is_started.recv().unwrap();
        completion.tell(done());
        assert_eq!(waiter.join().unwrap(), (Some(done()), Some(done())));
    }

    #[test]
    fn a_dropped_completion_tells_cancelled() {
        let (ticket, completion) = Ticket::new();
        drop(completion);
        assert_eq!(ticket.wait(), Outcome::Cancelled(Reason::LoopEnded));
    }

    #[test]
    fn a_dropped_ticket_disturbs_nobody() {
        let (ticket, completion) = Ticket::new();
        drop(ticket);
        completion.tell(done());
    }

    #[test]
    fn a_callback_is_called_once_and_its_panic_is_contained() {
        let (calls, called) = bounded(2);
        let completion = Completion::callback(move |outcome| {
            calls.send(outcome).unwrap();
            panic!("a bug in the caller's code");
        });
        completion.tell(done());
        assert_eq!(called.try_iter().collect::<Vec<_>>(), [done()]);
    }

    #[test]
    fn what_a_callback_panics_with_may_panic_when_it_is_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("another bug in the caller's code");
            }
        }
        Completion::callback(|_| std::panic::panic_any(Bomb)).tell(done());
    }

    #[test]
    fn many_outcomes_reach_their_waiters() {
        let (queue, tickets) = bounded(16);
        let waiter = thread::spawn(move || {
            tickets
                .iter()
                .map(|ticket: Ticket| ticket.wait())
                .filter(Outcome::is_delivered)
                .count()
        });
        for _ in 0..2_000 {
            let (ticket, completion) = Ticket::new();
            queue.send(ticket).unwrap();
            completion.tell(done());
        }
        drop(queue);
        assert_eq!(waiter.join().unwrap(), 2_000);
    }
}
