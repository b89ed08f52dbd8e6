//! The storm: an account of every message while links are cut and the broker is killed.

#[path = "../support/mod.rs"]
mod support;

mod executors;
mod forgetting;
mod slow_links;
mod torture;
mod watchers;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One storm at a time: `torture.rs` measures the memory of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
