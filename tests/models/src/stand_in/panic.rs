//! Calls of code of the application.

use std::panic::UnwindSafe;
use std::thread::Result;

pub use std::panic::AssertUnwindSafe;

use crate::faults;

/// As std's. Such a call may be omitted: the library calls a waker so.
#[track_caller]
pub fn catch_unwind<R: Default>(code: impl FnOnce() -> R + UnwindSafe) -> Result<R> {
    match faults::is_omitted("call") {
        true => Ok(R::default()),
        false => std::panic::catch_unwind(code),
    }
}
