//! Work that blocks, on a short-lived thread: one piece at a time, however often it is asked for.
//!
//! Such work cannot be broken off. When its attempt was given up meanwhile, the next attempt waits for the same
//! piece, so that one that never ends costs one thread. The loop's thread starts and asks; the thread of the work
//! calls back, also if the work panics.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

/// Does one piece of work at a time.
#[derive(Debug)]
pub(crate) struct Errand<T> {
    /// The name of the thread.
    name: &'static str,
    /// The piece under way, or the last one if its result was never taken.
    running: Option<Receiver<Result<T, Panicked>>>,
}

/// The work panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

impl<T: Send + 'static> Errand<T> {
    /// Nothing is under way.
    pub(crate) fn new(name: &'static str) -> Self {
        Errand {
            name,
            running: None,
        }
    }

    /// Starts the work unless a piece is under way. `on_done` is called on its thread when [`Errand::poll`] has the
    /// result. A result that an earlier attempt never took is too old, and is dropped.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
        on_done: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        if self.is_under_way() {
            return Ok(());
        }
        let (sender, result) = bounded(1);
        let run = move || {
            // If the loop has ended nobody receives it.
            let result = catch_unwind(AssertUnwindSafe(work));
            let _ = sender.send(result.map_err(|payload| {
                // Its drop may panic, too.
                std::mem::forget(payload);
                Panicked
            }));
            on_done();
        };
        thread::Builder::new().name(self.name.into()).spawn(run)?;
        self.running = Some(result);
        Ok(())
    }

    /// Takes the result, once it is there.
    pub(crate) fn poll(&mut self) -> Option<Result<T, Panicked>> {
        let result = self.running.as_ref()?.try_recv().ok()?;
        self.running = None;
        Some(result)
    }

    /// Whether a piece has not ended yet.
    fn is_under_way(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|result| matches!(result.try_recv(), Err(TryRecvError::Empty)))
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
        let mut errand = Errand::new("errand");
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
}
