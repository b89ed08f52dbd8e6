//! The loop's pace: few large batches under load, few hand-overs when one message goes at a time.
//!
//! Pure decisions; the loop's thread, which passes in the time.

use std::time::{Duration, Instant};

use super::Agent;

/// How long a window that was full may wait for more room than a single acknowledgment makes.
const REFILL_TIME: Duration = Duration::from_millis(1);

/// How long the loop looks again, after it did something, before it sleeps: about as long as it takes
/// to be woken twice. What comes later than that comes rarely enough to be woken for.
const LOOKING_TIME: Duration = Duration::from_micros(50);

/// Commands in flight above which the loop does not look again: many acknowledgments are better
/// read at once.
const FEW: usize = 4;

/// How often in a row looking again may be in vain before the loop stops doing so.
const TRUST: u8 = 8;

/// Whether commands may use the session's window.
///
/// One acknowledgment after the other would make one packet after the other, each in a write of its
/// own, and the broker would answer in the same way. So a window that was full opens only when a
/// quarter of it is free, or after a moment: as TCP avoids silly windows (RFC 1122, 4.2.3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    Open,
    /// Every slot is taken.
    Full,
    /// There is room again, not much of it.
    Refilling {
        until: Instant,
    },
}

impl Window {
    /// What it is with so many commands in flight.
    pub(super) fn at(self, now: Instant, in_flight: usize, limit: u16) -> Window {
        let limit = usize::from(limit);
        let free = limit.saturating_sub(in_flight);
        match self {
            _ if free == 0 => Window::Full,
            Window::Open => Window::Open,
            Window::Full | Window::Refilling { .. } if free >= limit / 4 => Window::Open,
            Window::Full => Window::Refilling {
                until: now + REFILL_TIME,
            },
            Window::Refilling { until } if until <= now => Window::Open,
            Window::Refilling { until } => Window::Refilling { until },
        }
    }
}

/// Whether the loop looks again for a moment before it sleeps: where one thread waits for one answer
/// and then sends the next message, waking the loop each time would cost more than the rest.
///
/// It does so only after it had something to do, and gives up where experience says that nothing
/// comes so soon, as on a connection that is far away, idle, or shares a single core.
#[derive(Debug)]
pub(super) struct Watchfulness {
    busy_at: Instant,
    /// On a single core nobody can answer while the loop looks.
    single_core: bool,
    looking: bool,
    /// How often more it may be in vain.
    trust: u8,
}

impl Watchfulness {
    pub(super) fn new(single_core: bool, now: Instant) -> Self {
        Watchfulness {
            busy_at: now,
            single_core,
            looking: false,
            trust: TRUST,
        }
    }

    /// Something was to be done.
    pub(super) fn was_busy(&mut self, now: Instant) {
        if std::mem::take(&mut self.looking) {
            self.trust = TRUST;
        }
        self.busy_at = now;
    }

    /// Nothing was to be done: whether to look again at once.
    pub(super) fn looks_again(&mut self, now: Instant, in_flight: usize) -> bool {
        let again = self.trust > 0
            && in_flight <= FEW
            && now.saturating_duration_since(self.busy_at) < LOOKING_TIME
            && !self.single_core;
        if !again && std::mem::take(&mut self.looking) {
            self.trust -= 1;
        }
        self.looking |= again;
        again
    }

    /// The loop slept. If that was short, looking again would have been better.
    pub(super) fn slept(&mut self, lasted: Duration) {
        if self.trust == 0 && lasted < LOOKING_TIME {
            self.trust = 1;
        }
    }
}

impl Agent<'_> {
    /// When the window opens although little of it is free.
    pub(super) fn window_deadline(&self) -> Option<Instant> {
        match self.window {
            Window::Refilling { until } if self.session.wants_commands() => Some(until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_micros(1);

    #[test]
    fn a_window_that_was_full_opens_for_a_quarter() {
        let now = Instant::now();
        let mut window = Window::Open.at(now, 99, 100);
        assert_eq!(window, Window::Open, "it is used to the last slot");
        window = window.at(now, 100, 100);
        assert_eq!(window, Window::Full);
        window = window.at(now, 80, 100);
        assert!(matches!(window, Window::Refilling { .. }));
        assert_eq!(window.at(now, 75, 100), Window::Open);
        assert_eq!(window.at(now, 100, 100), Window::Full);
    }

    #[test]
    fn a_window_of_which_little_is_free_opens_after_a_moment() {
        let now = Instant::now();
        let window = Window::Full.at(now, 99, 100);
        assert_eq!(window, window.at(now + REFILL_TIME - MOMENT, 98, 100));
        assert_eq!(window.at(now + REFILL_TIME, 99, 100), Window::Open);
    }

    #[test]
    fn a_small_window_opens_at_once() {
        let now = Instant::now();
        for limit in 1..8 {
            let full = Window::Open.at(now, usize::from(limit), limit);
            assert_eq!(full, Window::Full);
            assert_eq!(full.at(now, usize::from(limit) - 1, limit), Window::Open);
        }
    }

    #[test]
    fn it_looks_again_for_a_moment_after_work_and_never_when_idle() {
        let start = Instant::now();
        let mut watch = Watchfulness::new(false, start);
        watch.was_busy(start);
        assert!(watch.looks_again(start + MOMENT, 1));
        assert!(!watch.looks_again(start + LOOKING_TIME, 1));
        assert!(!watch.looks_again(start + LOOKING_TIME * 1000, 0));
    }

    #[test]
    fn it_never_looks_again_under_load_or_on_a_single_core() {
        let start = Instant::now();
        let mut watch = Watchfulness::new(false, start);
        assert!(!watch.looks_again(start, FEW + 1));
        let mut watch = Watchfulness::new(true, start);
        assert!(!watch.looks_again(start, 1));
    }

    #[test]
    fn it_gives_up_what_is_always_in_vain_until_a_sleep_was_short() {
        let mut now = Instant::now();
        let mut watch = Watchfulness::new(false, now);
        let mut in_vain = 0;
        for _ in 0..100 {
            watch.was_busy(now);
            in_vain += u32::from(watch.looks_again(now, 1));
            now += LOOKING_TIME;
            assert!(!watch.looks_again(now, 1));
            watch.slept(LOOKING_TIME);
        }
        assert_eq!(in_vain, u32::from(TRUST));
        watch.slept(LOOKING_TIME - MOMENT);
        watch.was_busy(now);
        assert!(watch.looks_again(now, 1));
        // Not in vain.
        watch.was_busy(now);
        assert_eq!(watch.trust, TRUST);
    }
}
