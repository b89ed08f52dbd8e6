//! Threads of a model: parking, and values of each thread.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use crate::{faults, time};

pub use loom::thread::{spawn, yield_now};
pub use std::thread::panicking;

#[derive(Debug, Default)]
struct Token {
    is_there: Mutex<bool>,
    came: Condvar,
}

/// A thread, as far as it can be woken.
#[derive(Debug, Clone)]
pub struct Thread(Arc<Token>);

loom::thread_local! {
    static CURRENT: Thread = Thread(Arc::default());
}

pub fn current() -> Thread {
    CURRENT.with(Clone::clone)
}

pub fn park() {
    let Thread(token) = current();
    let mut is_there = token.is_there.lock().unwrap();
    while !*is_there {
        is_there = token.came.wait(is_there).unwrap();
    }
    *is_there = false;
}

/// The time-out: a thread that is woken in time is `park`'s part.
pub fn park_timeout(time: Duration) {
    loom::thread::yield_now();
    time::advance(time);
}

impl Thread {
    #[track_caller]
    pub fn unpark(&self) {
        if !faults::is_omitted("unpark") {
            *self.0.is_there.lock().unwrap() = true;
            self.0.came.notify_one();
        }
    }
}

/// A value of each thread.
pub struct LocalKey<T: 'static>(&'static loom::thread::LocalKey<T>);

impl<T> LocalKey<T> {
    pub const fn new(inner: &'static loom::thread::LocalKey<T>) -> Self {
        LocalKey(inner)
    }
}

impl<T: Copy> LocalKey<Cell<T>> {
    pub fn get(&self) -> T {
        self.0.with(Cell::get)
    }

    pub fn set(&self, value: T) {
        self.0.with(|cell| cell.set(value));
    }
}
