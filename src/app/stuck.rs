//! Leaves a program whose standard output nobody reads: after an interrupt the main thread waits for its reader for
//! [`PATIENCE`], and no longer.
//!
//! The main thread says when it waits. A thread of its own looks at that, from the first interrupt on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// After an interrupt the reader of standard output has this long to take what is written.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Since when the main thread waits for the reader, if it does.
static WAITS_SINCE: Mutex<Option<Instant>> = Mutex::new(None);

/// Calls `write`, in which the main thread may wait for the reader of standard output.
pub(crate) fn on_main_thread<T>(write: impl FnOnce() -> T) -> T {
    *lock() = Some(Instant::now());
    let result = write();
    *lock() = None;
    result
}

/// From now on calls `leave`, which ends the program, when the main thread has waited for longer than [`PATIENCE`].
pub(super) fn leave_when_stuck(leave: impl FnOnce() + Send + 'static) {
    let watch = move || {
        // The time before the interrupt does not count.
        thread::sleep(PATIENCE);
        while !lock().is_some_and(|since| since.elapsed() > PATIENCE) {
            thread::sleep(PATIENCE);
        }
        leave();
    };
    // Without it the second signal ends the program.
    drop(
        thread::Builder::new()
            .name("patience".to_owned())
            .spawn(watch),
    );
}

fn lock() -> MutexGuard<'static, Option<Instant>> {
    WAITS_SINCE.lock().unwrap_or_else(PoisonError::into_inner)
}
