//! The doorbell: wakes the loop's thread, at most once for everything that came while it slept.
//!
//! A thread that has put something where the loop will look for it rings. Ringing costs a system call
//! only if the loop is asleep, and only once per sleep. Each thread that finds the loop not awake rings,
//! whatever others have done: the system may stop a thread in the middle of it. Only the loop says that it
//! is awake. Any thread rings; the loop's alone sleeps. There is no lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Instant;

/// The loop is awake: ringing has nothing to do.
const AWAKE: u8 = 0;
/// It sleeps and takes no commands: only the urgent lane wakes it.
const TAKES_NO_COMMANDS: u8 = 1;
/// It sleeps, and anything wakes it.
const ASLEEP: u8 = 2;
/// It pauses for a moment that only the urgent lane cuts short.
const PAUSING: u8 = 3;
/// A thread has rung, and the loop has not woken up yet.
const RUNG: u8 = 4;
/// It sleeps and takes no PUBLISH: the urgent lane wakes it, and so does any other command.
const TAKES_REQUESTS: u8 = 5;

/// The loop's doorbell.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    state: AtomicU8,
    /// The thread that runs the loop, once it runs.
    thread: OnceLock<Thread>,
}

impl Doorbell {
    /// The loop runs on this thread from now on.
    pub(crate) fn set_thread(&self) {
        // The cell is empty: running a loop consumes it.
        let _ = self.thread.set(thread::current());
    }

    /// A command is in the queue. This is always a sequentially consistent fence, on which the queue relies.
    pub(crate) fn ring_for_command(&self) {
        // Pairs with the fence in `sleep_in`: either this thread sees that the loop sleeps, or the loop sees
        // the command.
        fence(Ordering::SeqCst);
        if matches!(self.state.load(Ordering::Relaxed), ASLEEP | RUNG) {
            self.wake();
        }
    }

    /// A command other than PUBLISH is in the queue, or in the line before it. Call [`Doorbell::ring_for_command`] first.
    pub(crate) fn ring_for_request(&self) {
        let state = self.state.load(Ordering::Relaxed);
        if matches!(state, TAKES_REQUESTS | RUNG) {
            self.wake();
        }
    }

    /// Something is in the urgent lane.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Relaxed) != AWAKE {
            self.wake();
        }
    }

    /// Pauses until this moment, or until something comes into the urgent lane, unless `is_needed` says right
    /// away that something is there.
    pub(crate) fn pause(&self, until: Instant, is_needed: impl Fn() -> bool) {
        self.sleep_in(PAUSING, Some(until), is_needed);
    }

    /// Sleeps until a thread rings or the deadline has come, unless `is_needed` says right away that there is
    /// something to do.
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
        self.sleep_in(state, deadline, is_needed);
    }

    /// As [`Doorbell::sleep`]. No PUBLISH wakes the loop, and any other command does.
    pub(crate) fn sleep_for_requests(
        &self,
        deadline: Option<Instant>,
        is_needed: impl Fn() -> bool,
    ) {
        self.sleep_in(TAKES_REQUESTS, deadline, is_needed);
    }

    fn sleep_in(&self, state: u8, deadline: Option<Instant>, is_needed: impl Fn() -> bool) {
        // A thread that sees the loop asleep also sees on which thread.
        self.state.store(state, Ordering::Release);
        fence(Ordering::SeqCst);
        if !is_needed() {
            self.wait(deadline);
        }
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    fn wait(&self, deadline: Option<Instant>) {
        while self.state.load(Ordering::Acquire) != RUNG {
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
        let ring = |state| (state != AWAKE).then_some(RUNG);
        let rung = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, ring);
        // Also if another thread has rung: the system may have stopped it before this step.
        if rung.is_ok()
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
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_there_before_is_not_slept_over() {
        let bell = Doorbell::default();
        bell.set_thread();
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
            let rung = bell.state.load(Ordering::Relaxed) == RUNG;
            assert_eq!(rung, takes_commands);
            bell.ring();
            assert_eq!(bell.state.load(Ordering::Relaxed), RUNG);
        }
    }

    #[test]
    fn a_loop_that_takes_no_publish_is_woken_by_any_other_command() {
        let bell = Doorbell::default();
        bell.state.store(TAKES_REQUESTS, Ordering::Relaxed);
        bell.ring_for_command();
        assert_eq!(bell.state.load(Ordering::Relaxed), TAKES_REQUESTS);
        bell.ring_for_request();
        assert_eq!(bell.state.load(Ordering::Relaxed), RUNG);
        for state in [TAKES_NO_COMMANDS, PAUSING, AWAKE] {
            bell.state.store(state, Ordering::Relaxed);
            bell.ring_for_request();
            assert_eq!(bell.state.load(Ordering::Relaxed), state);
        }
    }

    #[test]
    fn a_thread_that_is_stopped_while_it_rings_does_not_keep_others_from_waking_the_loop() {
        for commands in [true, false] {
            let bell = Arc::new(Doorbell::default());
            let (tell, woken) = channel();
            let sleeping = thread::spawn({
                let bell = Arc::clone(&bell);
                move || {
                    bell.set_thread();
                    bell.sleep(true, Some(Instant::now() + 2 * HANG), || false);
                    tell.send(()).unwrap();
                }
            });
            let start = Instant::now();
            while bell.state.load(Ordering::Relaxed) != ASLEEP {
                assert!(start.elapsed() < HANG, "it does not sleep");
                thread::yield_now();
            }
            // The first half of ringing; the other half never comes.
            bell.state.store(RUNG, Ordering::Release);
            if commands {
                bell.ring_for_command();
            } else {
                bell.ring();
            }
            woken.recv_timeout(HANG).expect("the loop to wake up");
            sleeping.join().unwrap();
        }
    }

    #[test]
    fn no_ring_is_lost_between_looking_and_falling_asleep() {
        const RINGS: usize = 20_000;
        let bell = Arc::new(Doorbell::default());
        let there = Arc::new(AtomicUsize::new(0));
        let taken = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        bell.set_thread();
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
