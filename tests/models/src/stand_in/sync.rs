//! Atomics, fences, mutexes and cells that are written once.

use loom::sync::atomic::AtomicBool;

pub use loom::sync::{Mutex, MutexGuard};
pub use std::sync::{Arc, PoisonError};

use atomic::Ordering;

/// std's, behind a flag that orders what it holds.
#[derive(Debug)]
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock {
            value: std::sync::OnceLock::new(),
            is_set: AtomicBool::new(false),
        }
    }
}

impl<T> OnceLock<T> {
    pub fn get(&self) -> Option<&T> {
        let is_set = self.is_set.load(Ordering::Acquire);
        is_set.then(|| self.value.get()).flatten()
    }

    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }
}

pub mod atomic {
    pub use std::sync::atomic::Ordering;

    use loom::sync::atomic as inner;

    use crate::faults;

    #[track_caller]
    pub fn fence(order: Ordering) {
        if !faults::is_omitted("fence") {
            inner::fence(order);
        }
    }

    /// loom takes a sequentially consistent access for one that acquires and releases. A fence before each such load
    /// and read-modify-write makes it what it is among accesses of its own kind.
    fn fence_before(order: Ordering) -> Ordering {
        if order == Ordering::SeqCst {
            inner::fence(Ordering::SeqCst);
        }
        order
    }

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub struct $name(inner::$name);

            impl $name {
                pub fn new(value: $value) -> Self {
                    $name(inner::$name::new(value))
                }

                #[track_caller]
                pub fn load(&self, order: Ordering) -> $value {
                    let order = fence_before(faults::ordering("load", order));
                    self.0.load(order)
                }

                #[track_caller]
                pub fn store(&self, value: $value, order: Ordering) {
                    if faults::is_omitted("store") {
                        return;
                    }
                    let order = faults::ordering("store", order);
                    self.0.swap(value, order);
                }

                #[track_caller]
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    let order = fence_before(faults::ordering("swap", order));
                    self.0.swap(value, order)
                }

                #[track_caller]
                pub fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let set = fence_before(faults::ordering("fetch_update", set));
                    self.0.fetch_update(set, fetch, update)
                }
            }
        };
    }

    macro_rules! number {
        ($name:ident) => {
            impl $name {
                #[track_caller]
                pub fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
                    let order = fence_before(faults::ordering("fetch_add", order));
                    self.0.fetch_add(more, order)
                }

                #[track_caller]
                pub fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
                    let order = fence_before(faults::ordering("fetch_sub", order));
                    self.0.fetch_sub(less, order)
                }
            }
        };
    }

    atomic!(AtomicBool, bool);
    atomic!(AtomicU8, u8);
    atomic!(AtomicU64, u64);
    atomic!(AtomicUsize, usize);
    number!(AtomicU64);
}
