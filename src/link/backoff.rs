//! How long to wait before the next connection attempt: full jitter below a doubling ceiling.
//!
//! Pure apart from the random numbers: it says how long; the loop waits, and can be interrupted. The
//! arithmetic is the `backoff` crate's, which is no longer maintained (RUSTSEC-2025-0012). Only its
//! `next_backoff` is used, and no part of it that sleeps or whose reading of the clock matters. Its
//! jitter is symmetric around the interval, so half the ceiling with a factor of 1.0 gives exactly
//! [0, ceiling].

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::time::Duration;

use ::backoff::ExponentialBackoff;
use ::backoff::backoff::Backoff as _;

use crate::options::Retry;

/// The delays of one connection's attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    delays: ExponentialBackoff,
    /// 0 means no limit.
    limit: u32,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(retry: Retry) -> Self {
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
            limit: retry.attempts,
            failures: 0,
        }
    }

    /// An attempt failed. Returns how long to wait before the next, or `None` if that was the last.
    pub(crate) fn after_failure(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.limit != 0 && self.failures > self.limit {
            return None;
        }
        Some(self.next_delay())
    }

    /// The connection was of use. The delays go on growing unless it lasts.
    pub(crate) fn made_progress(&mut self) {
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
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(attempts: u32) -> Backoff {
        Backoff::new(Retry {
            base: Duration::from_millis(500),
            max: Duration::from_millis(5000),
            attempts,
        })
    }

    #[test]
    fn the_ceilings_double_up_to_the_maximum_and_the_jitter_is_full() {
        let ceilings = [500, 1000, 2000, 4000, 5000, 5000].map(Duration::from_millis);
        let mut highest = [Duration::ZERO; 6];
        let mut lowest = [Duration::MAX; 6];
        for _ in 0..2_000 {
            let mut backoff = backoff(0);
            for (index, ceiling) in ceilings.into_iter().enumerate() {
                let delay = backoff.after_failure().unwrap();
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
        let mut backoff = backoff(2);
        assert!(backoff.after_failure().is_some());
        assert!(backoff.after_failure().is_some());
        assert_eq!(backoff.after_failure(), None);
    }

    #[test]
    fn a_connection_that_does_not_last_resets_the_count_but_not_the_delays() {
        let longest = (0..500).map(|_| {
            let mut backoff = backoff(1);
            for _ in 0..4 {
                assert!(backoff.after_failure().is_some());
                backoff.made_progress();
            }
            backoff.next_delay()
        });
        assert!(longest.max().unwrap() > Duration::from_millis(4000));
        let after_reset = (0..500).map(|_| {
            let mut backoff = backoff(1);
            for _ in 0..4 {
                backoff.next_delay();
            }
            backoff.reset();
            backoff.next_delay()
        });
        assert!(after_reset.max().unwrap() <= Duration::from_millis(501));
    }
}
