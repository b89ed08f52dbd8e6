//! When the session wants to be woken. Pure: `now` is passed in, nothing ticks.

use std::time::Instant;

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// The link has been silent for nearly the keep alive interval: send PINGREQ.
    KeepAlive,
    /// PINGREQ was sent and nothing came back.
    PingResponse,
    /// Something was sent that awaits an acknowledgment: see whether it is overdue. It may ring
    /// early, never late.
    Acknowledgment,
}

const TIMERS: usize = 3;

/// A table of deadlines, one for each [`Timer`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Timers {
    deadlines: [Option<Instant>; TIMERS],
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize] = Some(at);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(crate) fn stop_all(&mut self) {
        self.deadlines = Default::default();
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    /// Whether it has rung; then it is stopped.
    pub(crate) fn take_expired(&mut self, timer: Timer, now: Instant) -> bool {
        let deadline = &mut self.deadlines[timer as usize];
        let expired = deadline.is_some_and(|at| at <= now);
        if expired {
            *deadline = None;
        }
        expired
    }

    /// The next deadline of all.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }
}
