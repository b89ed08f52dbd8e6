//! Work that blocks, on a short-lived thread: one piece at a time, however often it is asked for.
//!
//! Such work cannot be broken off. When its attempt was given up meanwhile, the next attempt waits for the same
//! piece, so that one that never ends costs one thread. The loop's thread starts and asks; the thread of the work
//! calls back.

use std::io;
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

/// Does one piece of work at a time.
#[derive(Debug)]
pub(crate) struct Errand<T> {
    /// The name of the thread.
    name: &'static str,
    /// The piece under way, or the last one if its result was never taken.
    running: Option<Receiver<T>>,
}

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
            let _ = sender.send(work());
            on_done();
        };
        thread::Builder::new().name(self.name.into()).spawn(run)?;
        self.running = Some(result);
        Ok(())
    }

    /// Takes the result, once it is there.
    pub(crate) fn poll(&mut self) -> Option<T> {
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
