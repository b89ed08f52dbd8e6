//! How long to wait before the next connection attempt, and when to give up: full jitter below a doubling
//! ceiling, within a time and a number of attempts.
//!
//! Pure apart from the random numbers: the caller says what time it is, and waits. The arithmetic of the delays
//! is the `backoff` crate's, which is no longer maintained (RUSTSEC-2025-0012). Only its `next_backoff` is
//! used, and no part of it that sleeps or whose reading of the clock matters. Its jitter is symmetric around the
//! interval, so half the ceiling with a factor of 1.0 gives exactly [0, ceiling].

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::time::{Duration, Instant};

use ::backoff::ExponentialBackoff;
use ::backoff::backoff::Backoff as _;

use crate::options::Retry;

/// The delays of one connection's attempts, and its failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    delays: ExponentialBackoff,
    retry: Retry,
    was_connected: bool,
    /// When the row of failures began, or the attempt that may become its first.
    since: Option<Instant>,
    failures: u32,
}

impl Backoff {
    /// Delays for a client; `was_connected` says whether a broker has accepted it before.
    pub(crate) fn new(retry: Retry, was_connected: bool) -> Self {
        let initial = retry.base / 2;
        Backoff {
            delays: ExponentialBackoff {
                current_interval: initial,
                initial_interval: initial,
                randomization_factor: 1.0,
                multiplier: 2.0,
                max_interval: retry.max / 2,
                max_elapsed_time: None,
                ..ExponentialBackoff::default()
            },
            retry,
            was_connected,
            since: None,
            failures: 0,
        }
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// An attempt failed. Returns how long to wait before the next, or `None` if that was the last.
    pub(crate) fn after_failure(&mut self, now: Instant) -> Option<Duration> {
        self.begin(now);
        self.failures = self.failures.saturating_add(1);
        if self.retry.attempts != 0 && self.failures > self.retry.attempts {
            return None;
        }
        let delay = self.next_delay();
        let patience = match self.was_connected {
            true => self.retry.reconnect_for,
            false => self.retry.connect_for,
        };
        if patience.is_zero() {
            return Some(delay);
        }
        let left = patience.saturating_sub(self.elapsed(now));
        (!left.is_zero()).then(|| delay.min(left))
    }

    /// The broker accepted the client. After the first time another patience counts.
    pub(crate) fn connected(&mut self) {
        if !self.was_connected {
            self.was_connected = true;
            self.start_over();
        }
    }

    /// The connection was of use, or a thread asked for a new one: the next failure is the first. The delays go
    /// on growing.
    pub(crate) fn start_over(&mut self) {
        self.since = None;
        self.failures = 0;
    }

    /// A connection that did not last was lost. Returns how long to wait before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        // It returns `None` only with a limit of time, which is not set.
        self.delays.next_backoff().unwrap_or_default()
    }

    /// The connection lasted.
    pub(crate) fn reset(&mut self) {
        self.delays.reset();
        self.start_over();
    }

    /// How many failures there were in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// How often and how long it was tried in vain: `9 attempts in 10.0 s`.
    pub(crate) fn in_vain(&self, now: Instant) -> String {
        let plural = if self.failures == 1 { "" } else { "s" };
        let seconds = self.elapsed(now).as_secs_f64();
        format!("{} attempt{plural} in {seconds:.1} s", self.failures)
    }

    /// How long the row of failures, or the attempt that may become its first, has lasted.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        let since = self.since.unwrap_or(now);
        now.saturating_duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn retry() -> Retry {
        Retry {
            base: Duration::from_millis(500),
            max: Duration::from_millis(5000),
            connect_for: Duration::ZERO,
            reconnect_for: Duration::ZERO,
            attempts: 0,
        }
    }

    fn limited(attempts: u32) -> Backoff {
        let retry = Retry {
            attempts,
            ..retry()
        };
        Backoff::new(retry, true)
    }

    #[test]
    fn the_ceilings_double_up_to_the_maximum_and_the_jitter_is_full() {
        let ceilings = [500, 1000, 2000, 4000, 5000, 5000].map(Duration::from_millis);
        let mut highest = [Duration::ZERO; 6];
        let mut lowest = [Duration::MAX; 6];
        let now = Instant::now();
        for _ in 0..2_000 {
            let mut backoff = limited(0);
            for (index, ceiling) in ceilings.into_iter().enumerate() {
                let delay = backoff.after_failure(now).unwrap();
                assert!(
                    delay <= ceiling + Duration::from_nanos(1),
                    "{delay:?} {ceiling:?}"
                );
                highest[index] = highest[index].max(delay);
                lowest[index] = lowest[index].min(delay);
            }
        }
        for (index, ceiling) in ceilings.into_iter().enumerate() {
            assert!(
                highest[index] > ceiling.mul_f64(0.95),
                "{:?}",
                highest[index]
            );
            assert!(lowest[index] < ceiling.mul_f64(0.05), "{:?}", lowest[index]);
        }
    }

    #[test]
    fn the_limit_counts_attempts_after_the_first() {
        let now = Instant::now();
        let mut backoff = limited(2);
        assert!(backoff.after_failure(now).is_some());
        assert!(backoff.after_failure(now).is_some());
        assert_eq!(backoff.after_failure(now), None);
        assert_eq!(backoff.in_vain(now), "3 attempts in 0.0 s");
    }

    #[test]
    fn a_connection_that_does_not_last_resets_the_count_but_not_the_delays() {
        let now = Instant::now();
        let longest = (0..500).map(|_| {
            let mut backoff = limited(1);
            for _ in 0..4 {
                assert!(backoff.after_failure(now).is_some());
                backoff.start_over();
            }
            backoff.next_delay()
        });
        assert!(longest.max().unwrap() > Duration::from_millis(4000));
        let after_reset = (0..500).map(|_| {
            let mut backoff = limited(1);
            for _ in 0..4 {
                backoff.next_delay();
            }
            backoff.reset();
            backoff.next_delay()
        });
        assert!(after_reset.max().unwrap() <= Duration::from_millis(501));
    }

    /// Fails one attempt after the other, each of which takes this long, until there is no next one. Returns
    /// when each began, and when the last one had failed.
    fn fail_all(
        backoff: &mut Backoff,
        takes: Duration,
        begin: Instant,
    ) -> (Vec<Duration>, Instant) {
        let mut now = begin;
        let mut begins = Vec::new();
        loop {
            begins.push(now - begin);
            backoff.begin(now);
            now += takes;
            match backoff.after_failure(now) {
                Some(delay) => now += delay,
                None => return (begins, now),
            }
        }
    }

    /// Attempts are made until the time is over and one more then, whatever the jitter. So a broker that is back by
    /// then is found. No attempt begins later.
    #[test]
    fn patience_is_a_time_whatever_the_jitter_and_the_failures_take() {
        let begin = Instant::now();
        for (was_connected, patience) in [(false, SECOND * 10), (true, SECOND * 60)] {
            for takes in [0, 1, 300, 10_000].map(Duration::from_millis) {
                for _ in 0..300 {
                    let retry = Retry {
                        connect_for: SECOND * 10,
                        reconnect_for: SECOND * 60,
                        ..retry()
                    };
                    let mut backoff = Backoff::new(retry, was_connected);
                    let (begins, end) = fail_all(&mut backoff, takes, begin);
                    assert!(begins.iter().all(|begin| *begin <= patience), "{begins:?}");
                    let took = end - begin;
                    assert!(took >= patience && took <= patience + takes, "{took:?}");
                    let gaps = begins.windows(2).map(|two| two[1] - two[0]);
                    let longest = gaps.max().unwrap_or_default();
                    assert!(longest <= takes + retry.max + Duration::from_nanos(1));
                    let (count, seconds) = (begins.len(), took.as_secs_f64());
                    let plural = if count == 1 { "" } else { "s" };
                    let told = format!("{count} attempt{plural} in {seconds:.1} s");
                    assert_eq!(backoff.in_vain(end), told);
                }
            }
        }
    }

    #[test]
    fn the_first_limit_to_be_reached_counts() {
        let begin = Instant::now();
        const MANY: u32 = 1000;
        for (attempts, patience, expected) in [
            (2, 60, 3..=3),
            // Each attempt takes a second.
            (50, 5, 2..=5),
            (0, 0, MANY..=MANY),
            (50, 0, 51..=51),
        ] {
            let retry = Retry {
                reconnect_for: SECOND * patience,
                attempts,
                ..retry()
            };
            let mut backoff = Backoff::new(retry, true);
            backoff.begin(begin);
            let mut now = begin;
            let mut tries = 0;
            while tries < MANY {
                tries += 1;
                now += SECOND;
                match backoff.after_failure(now) {
                    Some(delay) => now += delay,
                    None => break,
                }
            }
            assert!(expected.contains(&tries), "{tries} {expected:?}");
        }
    }

    #[test]
    fn patience_begins_anew_with_the_first_connection_and_with_each_that_was_of_use() {
        let begin = Instant::now();
        let retry = Retry {
            connect_for: SECOND * 10,
            reconnect_for: SECOND * 60,
            ..retry()
        };
        let mut backoff = Backoff::new(retry, false);
        backoff.begin(begin);
        assert!(backoff.after_failure(begin + SECOND * 9).is_some());
        backoff.connected();
        let lost = begin + SECOND * 10;
        assert!(backoff.after_failure(lost).is_some());
        // Accepted again and lost again without any use: the row goes on.
        backoff.connected();
        assert!(backoff.after_failure(lost + SECOND * 59).is_some());
        assert_eq!(backoff.after_failure(lost + SECOND * 60), None);
        assert_eq!(backoff.in_vain(lost + SECOND * 60), "3 attempts in 60.0 s");
        // However long ago the last row was.
        for start_over in [Backoff::start_over, Backoff::reset] {
            start_over(&mut backoff);
            let later = lost + SECOND * 100_000;
            assert!(backoff.after_failure(later).is_some());
            assert!(backoff.after_failure(later + SECOND * 59).is_some());
            assert_eq!(backoff.after_failure(later + SECOND * 60), None);
        }
    }
}
