//! A clock for each thread of a model, which goes on only where the thread waits. It does not begin at zero, so that
//! `Duration::MAX` from now is beyond it.

use std::cell::Cell;
use std::ops::{Add, Sub};

pub use std::time::Duration;

loom::thread_local! {
    static NOW: Cell<Duration> = Cell::new(Duration::from_secs(1));
}

pub(crate) fn advance(by: Duration) {
    NOW.with(|now| now.set(now.get() + by));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        Instant(NOW.with(Cell::get))
    }

    pub fn checked_add(self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Instant)
    }

    pub fn checked_duration_since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0)
    }

    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0 + time)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}
