//! The times that a publisher's messages took: a histogram of fixed size, three digits exact.
//!
//! Pure data; one thread at a time adds to it.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer times than ten minutes count as ten minutes.
const LONGEST: u64 = 600_000_000_000;

/// The times, in nanoseconds.
#[derive(Debug)]
pub(super) struct Took(Option<Histogram<u64>>);

/// No time yet.
impl Default for Took {
    fn default() -> Self {
        // It fails only for bounds other than these.
        Took(Histogram::new_with_bounds(1, LONGEST, 3).ok())
    }
}

impl Took {
    pub(super) fn add(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(nanoseconds);
        }
    }

    /// The time within which half of them ended, in microseconds. Returns `None` if there is none.
    pub(super) fn median_us(&self) -> Option<f64> {
        self.at(0.5)
    }

    /// The longest, in microseconds. Returns `None` if there is none.
    pub(super) fn longest_us(&self) -> Option<f64> {
        self.at(1.0)
    }

    fn at(&self, quantile: f64) -> Option<f64> {
        let histogram = self.0.as_ref().filter(|times| !times.is_empty())?;
        Some(histogram.value_at_quantile(quantile) as f64 / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_longest_are_three_digits_exact() {
        let mut times = Took::default();
        assert_eq!((times.median_us(), times.longest_us()), (None, None));
        for micros in [310, 280, 520] {
            times.add(Duration::from_micros(micros));
        }
        let near = |told: Option<f64>, exact: f64| {
            let told = told.unwrap();
            assert!((told - exact).abs() <= exact / 1e3, "{told} for {exact}");
        };
        near(times.median_us(), 310.0);
        near(times.longest_us(), 520.0);
        times.add(Duration::MAX);
        near(times.longest_us(), 6e8);
    }
}
