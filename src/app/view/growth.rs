//! How fast a count grows: over the last seconds, not since the beginning.
//!
//! Pure; the time is passed in. The view's thread feeds it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A rate is taken over this time.
const OVER: Duration = Duration::from_secs(3);

/// The last values of one count.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Those of the last [`OVER`], and one before them.
    points: VecDeque<(Instant, u64)>,
    /// When it grew last, or was seen first.
    grew: Option<Instant>,
}

impl Growth {
    /// The count has this value now.
    pub(super) fn add(&mut self, count: u64, now: Instant) {
        if self.points.back().is_none_or(|(_, last)| *last != count) {
            self.grew = Some(now);
        }
        self.points.push_back((now, count));
        let is_old = |(at, _): &(Instant, u64)| now.saturating_duration_since(*at) >= OVER;
        while self.points.get(1).is_some_and(is_old) {
            self.points.pop_front();
        }
    }

    /// How much it grew in a second. Returns 0 before there are two values.
    pub(super) fn per_second(&self) -> f64 {
        let (Some((begin, first)), Some((end, last))) = (self.points.front(), self.points.back())
        else {
            return 0.0;
        };
        let seconds = end.saturating_duration_since(*begin).as_secs_f64();
        match seconds > 0.0 {
            true => last.saturating_sub(*first) as f64 / seconds,
            false => 0.0,
        }
    }

    /// For how long it has not grown.
    pub(super) fn still(&self, now: Instant) -> Duration {
        let since = self.grew.map(|grew| now.saturating_duration_since(grew));
        since.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds_and_is_zero_when_nothing_comes() {
        let (mut growth, start) = (Growth::default(), Instant::now());
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        assert_eq!(growth.per_second(), 0.0);
        assert_eq!(growth.still(at(5)), Duration::ZERO);
        for tenth in 0..=100 {
            growth.add(50 * tenth, at(tenth));
        }
        assert!((growth.per_second() - 500.0).abs() < 1e-6, "{growth:?}");
        for tenth in 101..=115 {
            growth.add(5000, at(tenth));
        }
        // It does not decay for ever: half of the three seconds had no message.
        assert!((growth.per_second() - 250.0).abs() < 1e-6, "{growth:?}");
        assert_eq!(growth.still(at(115)), Duration::from_millis(1500));
        for tenth in 116..=130 {
            growth.add(5000, at(tenth));
        }
        assert_eq!(growth.per_second(), 0.0);
        assert!(growth.points.len() <= 32, "{}", growth.points.len());
    }
}
