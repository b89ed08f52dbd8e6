//! Whether the calling thread runs a loop, or a callback of one: such a thread must not wait for anything
//! that a loop does. It would wait for itself, or for a loop that waits for it. Each thread has a count of its
//! own, so loops and callbacks may be nested. Code of the application runs on a loop's thread through
//! [`run_foreign`] alone.

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

thread_local! {
    /// Loops and callbacks that this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Held for as long as the thread runs a loop or a callback.
pub(crate) struct OnLoopThread {
    /// It stays on its thread.
    _not_send: PhantomData<*const ()>,
}

/// From here on this thread runs a loop or a callback of one.
#[must_use]
pub(crate) fn enter() -> OnLoopThread {
    DEPTH.set(DEPTH.get() + 1);
    OnLoopThread {
        _not_send: PhantomData,
    }
}

/// Whether the calling thread runs a loop or a callback of one.
pub(crate) fn is_current() -> bool {
    DEPTH.get() > 0
}

/// Runs code of the application, such as a callback: it must wait for nothing, and a panic of it, one caller's bug,
/// does not end the loop for all others. `what` names it in the log.
#[track_caller]
pub(crate) fn run_foreign(what: &str, code: impl FnOnce()) {
    // At the end of the loop it may be the thread of another command.
    let _waits_for_nothing = enter();
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied());
        let said = text.map_or(String::new(), |text| format!(": {text}"));
        // Dropping it is the caller's code, too, and could panic once more.
        std::mem::forget(payload);
        log::error!("{what} panicked, and the loop goes on{said}");
    }
}

/// Call this before waiting for the end of a command. Returns whether the thread may wait.
///
/// # Panics
/// On a loop's thread, unless it is unwinding from a panic: another one would end the process.
#[track_caller]
pub(crate) fn may_wait() -> bool {
    if !is_current() {
        return true;
    }
    assert!(
        thread::panicking(),
        "a command that has not ended was waited for on the thread of a loop, which can end none meanwhile: \
         leave the callback, and publish the next message with `publish_then`, or wait on another thread"
    );
    log::error!("a callback that panics waits for a command while it unwinds: it gets no outcome");
    false
}

impl Drop for OnLoopThread {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_leaves_an_inner_loop_is_still_in_the_outer_one() {
        assert!(may_wait());
        let outer = enter();
        drop(enter());
        assert!(is_current());
        assert!(thread::spawn(may_wait).join().unwrap(), "another thread");
        let refused = catch_unwind(may_wait).unwrap_err();
        let message = refused.downcast_ref::<String>().map(String::as_str);
        let message = message.or(refused.downcast_ref::<&str>().copied());
        assert!(message.unwrap().contains("`publish_then`"));
        drop(outer);
        assert!(may_wait());
    }
}
