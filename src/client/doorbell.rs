//! Wakes the loop's thread: at most once for everything that came while it slept.
//!
//! Whoever has put something where the loop will look for it rings; only the first ring after the
//! loop lay down makes a system call, and none does while it is awake. Any thread rings, the
//! loop's alone sleeps. No lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Instant;

/// Whoever has something for the loop need not do anything more.
const AWAKE: u8 = 0;
/// It sleeps and takes no commands: only what goes ahead of them wakes it.
const TAKES_NO_COMMANDS: u8 = 1;
/// It sleeps, and anything wakes it.
const ASLEEP: u8 = 2;
/// It rests for a moment that only what goes ahead of the commands cuts short.
const RESTING: u8 = 3;

/// The loop's doorbell.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    state: AtomicU8,
    /// Where the loop runs: set when it starts.
    thread: OnceLock<Thread>,
}

impl Doorbell {
    /// The loop runs on this thread from now on.
    pub(crate) fn move_in(&self) {
        // It is empty: a loop is consumed by running it.
        let _ = self.thread.set(thread::current());
    }

    /// Whether the caller is the loop's own thread, which must never wait for itself.
    pub(crate) fn is_at_home(&self) -> bool {
        let home = self.thread.get().map(Thread::id);
        home.is_some_and(|home| home == thread::current().id())
    }

    /// A command is in the queue. Always a sequentially consistent fence, on which the queue relies, too.
    pub(crate) fn ring_for_command(&self) {
        // Pairs with the fence in `sleep`: either we see that it sleeps, or it sees what we have.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            self.wake();
        }
    }

    /// Something is there that goes ahead of the queue.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) != AWAKE {
            self.wake();
        }
    }

    /// Whether the loop sleeps until it is told something.
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(
            self.state.load(Ordering::Relaxed),
            TAKES_NO_COMMANDS | ASLEEP
        )
    }

    /// Rests until this moment, or until something comes that goes ahead of the commands, unless
    /// `is_needed` says right away that it has.
    pub(crate) fn rest(&self, until: Instant, is_needed: impl Fn() -> bool) {
        self.lie_down(RESTING, Some(until), is_needed);
    }

    /// Sleeps until somebody rings or the deadline has come, unless `is_needed` says right away that
    /// there is something to do.
    pub(crate) fn sleep(
        &self,
        takes_commands: bool,
        deadline: Option<Instant>,
        is_needed: impl Fn() -> bool,
    ) {
        let state = if takes_commands {
            ASLEEP
        } else {
            TAKES_NO_COMMANDS
        };
        self.lie_down(state, deadline, is_needed);
    }

    fn lie_down(&self, state: u8, deadline: Option<Instant>, is_needed: impl Fn() -> bool) {
        // Whoever sees that it sleeps also sees on which thread.
        self.state.store(state, Ordering::Release);
        fence(Ordering::SeqCst);
        if !is_needed() {
            self.wait(deadline);
        }
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    fn wait(&self, deadline: Option<Instant>) {
        while self.state.load(Ordering::Acquire) != AWAKE {
            match deadline {
                None => thread::park(),
                Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => thread::park_timeout(left),
                    _ => return,
                },
            }
        }
    }

    fn wake(&self) {
        if self.state.swap(AWAKE, Ordering::AcqRel) != AWAKE
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::time::Duration;

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_there_before_is_not_slept_over() {
        let bell = Doorbell::default();
        bell.move_in();
        bell.sleep(true, None, || true);
        bell.sleep(true, Some(Instant::now()), || false);
    }

    #[test]
    fn a_command_wakes_only_a_loop_that_takes_commands() {
        let bell = Arc::new(Doorbell::default());
        for takes_commands in [true, false] {
            bell.state.store(
                if takes_commands {
                    ASLEEP
                } else {
                    TAKES_NO_COMMANDS
                },
                Ordering::Relaxed,
            );
            bell.ring_for_command();
            let awake = bell.state.load(Ordering::Relaxed) == AWAKE;
            assert_eq!(awake, takes_commands);
            bell.ring();
            assert_eq!(bell.state.load(Ordering::Relaxed), AWAKE);
        }
    }

    #[test]
    fn no_ring_is_lost_between_looking_and_lying_down() {
        const RINGS: usize = 20_000;
        let bell = Arc::new(Doorbell::default());
        let there = Arc::new(AtomicUsize::new(0));
        let taken = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        bell.move_in();
        let ringing = thread::spawn({
            let (bell, there, taken) = (Arc::clone(&bell), Arc::clone(&there), Arc::clone(&taken));
            let failed = Arc::clone(&failed);
            move || {
                for ring in 1..=RINGS {
                    there.store(ring, Ordering::Relaxed);
                    bell.ring_for_command();
                    while taken.load(Ordering::Acquire) < ring && !failed.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                }
            }
        });
        let mut done = 0;
        while done < RINGS {
            let since = Instant::now();
            let deadline = Some(since + HANG);
            bell.sleep(true, deadline, || there.load(Ordering::Relaxed) > done);
            if since.elapsed() >= HANG {
                failed.store(true, Ordering::Relaxed);
                break;
            }
            done = there.load(Ordering::Relaxed);
            taken.store(done, Ordering::Release);
        }
        ringing.join().unwrap();
        assert_eq!(done, RINGS);
    }
}
