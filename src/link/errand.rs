//! Work that blocks, on a short-lived thread: one piece at a time, however often it is asked for.
//!
//! Such work cannot be broken off. When its attempt was given up meanwhile, the next attempt waits for the same
//! piece, so that one that never ends costs one thread. A result that came between two attempts may count for the next
//! one, if that follows soon. The loop's thread starts and asks; the thread of the work calls back, also if the work
//! panics.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, bounded};

/// Does one piece of work at a time.
#[derive(Debug)]
pub(crate) struct Errand<T> {
    /// The name of the thread.
    name: &'static str,
    /// How long a result counts that nobody asked for when it came.
    fresh_for: Duration,
    /// The piece under way, or the last one if its result was never taken.
    running: Option<Receiver<Done<T>>>,
    /// The result of the last piece, for the attempt that has started.
    result: Option<Result<T, Panicked>>,
}

/// A result, and when it came.
type Done<T> = (Result<T, Panicked>, Instant);

/// The work panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

impl<T: Send + 'static> Errand<T> {
    /// Nothing is under way. A result that comes between two attempts counts for the next one for so long.
    pub(crate) fn new(name: &'static str, fresh_for: Duration) -> Self {
        Errand {
            name,
            fresh_for,
            running: None,
            result: None,
        }
    }

    /// Starts the work unless a piece is under way, or has ended a short time ago without being asked for. `on_done` is called when
    /// [`Errand::poll`] has the result, mostly on the thread of the work.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
        on_done: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.result = None;
        match self.running.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return Ok(()),
            Some(Ok((result, at))) if at.elapsed() < self.fresh_for => {
                self.running = None;
                self.result = Some(result);
                on_done();
                return Ok(());
            }
            _ => {}
        }
        let (sender, result) = bounded(1);
        let run = move || {
            // If the loop has ended nobody receives it.
            let result = catch_unwind(AssertUnwindSafe(work));
            let result = result.map_err(|payload| {
                // Its drop may panic, too.
                std::mem::forget(payload);
                Panicked
            });
            let _ = sender.send((result, Instant::now()));
            on_done();
        };
        thread::Builder::new().name(self.name.into()).spawn(run)?;
        self.running = Some(result);
        Ok(())
    }

    /// Takes the result, once it is there.
    pub(crate) fn poll(&mut self) -> Option<Result<T, Panicked>> {
        if let Some(result) = self.result.take() {
            return Some(result);
        }
        let (result, _) = self.running.as_ref()?.try_recv().ok()?;
        self.running = None;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Without the call the attempt would wait until its time limit.
    #[test]
    fn the_end_is_told_also_of_work_that_panics_and_the_next_one_begins() {
        struct PanicsAgain;
        impl Drop for PanicsAgain {
            fn drop(&mut self) {
                panic!("the payload of this test panics");
            }
        }
        let (done, is_done) = bounded(1);
        let mut errand = Errand::new("errand", Duration::ZERO);
        let start = |errand: &mut Errand<u32>, work: fn() -> u32| {
            let done = done.clone();
            let called = errand.start(work, move || done.send(()).unwrap());
            called.unwrap();
            is_done.recv_timeout(Duration::from_secs(60)).unwrap();
            errand.poll()
        };
        let panics = || std::panic::panic_any(PanicsAgain);
        assert_eq!(start(&mut errand, panics), Some(Err(Panicked)));
        assert_eq!(start(&mut errand, || 7), Some(Ok(7)));
        assert_eq!(errand.poll(), None);
    }

    /// Otherwise work that takes a little longer than an attempt waits would be done again and again in vain.
    #[test]
    fn a_result_that_came_between_two_attempts_counts_for_the_next_one() {
        let hang = Duration::from_secs(60);
        let (done, is_done) = bounded(2);
        let mut errand = Errand::new("errand", hang);
        for (number, expected) in [(1, None), (2, Some(Ok(1))), (3, None)] {
            let done = done.clone();
            let started = errand.start(move || number, move || done.send(()).unwrap());
            started.unwrap();
            is_done.recv_timeout(hang).unwrap();
            if number == 1 {
                // This attempt does not wait any more.
                continue;
            }
            assert_eq!(errand.poll(), expected.or(Some(Ok(number))));
        }
    }
}
