//! A histogram of latencies: how many lie in which range. Pure data; [`Stats`](crate::Stats) carries it.
//!
//! Its size is fixed. Each power of two of microseconds has eight ranges of equal width, so a range is an eighth as wide
//! as its lower end at most. Latencies below 8 µs have ranges of 1 µs. The last range takes every longer latency.

use std::fmt;
use std::time::Duration;

/// Ranges in each power of two, and the power of two that this number is.
const PARTS: usize = 1 << PARTS_BITS;
const PARTS_BITS: usize = 3;

/// Latencies from this power of two of microseconds on, which is 71 minutes, share the last range.
const HIGHEST_BIT: usize = 32;

/// How many ranges there are.
pub(crate) const RANGES: usize = PARTS * (HIGHEST_BIT - PARTS_BITS + 1) + 1;

/// How long the broker took to acknowledge commands that were delivered: a histogram.
///
/// One latency is the time from the moment at which the loop took a command out of the queue to its acknowledgment:
/// PUBACK, PUBCOMP, SUBACK, UNSUBACK or PINGRESP. A message of QoS 0 has none. A command that was sent again after a
/// lost connection counts with all of that time.
///
/// ```
/// # fn print(stats: &mqtt_connection_sharing::Stats, before: &mqtt_connection_sharing::Stats) {
/// if let Some(p99) = stats.latencies.quantile(0.99) {
///     println!("99 of 100 acknowledgments took {p99:?} or less");
/// }
/// let last_second = stats.latencies.since(&before.latencies);
/// println!("{} of them came since the last line", last_second.count());
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Latencies {
    counts: Box<[u64; RANGES]>,
}

impl Latencies {
    pub(crate) fn new(counts: Box<[u64; RANGES]>) -> Self {
        Latencies { counts }
    }

    /// How many latencies were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The latency that this part of all latencies does not exceed: 0.5 is the median, 1.0 the longest. Returns `None`
    /// if none was counted.
    ///
    /// The result is the upper end of a range. So it is never too short, and too long by an eighth or 1 µs at most,
    /// whichever is more. Latencies above 71 minutes are given as 71 minutes. A part below 0 counts as 0, one above 1
    /// as 1.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        // Also at 0 it is the latency of somebody.
        let rank = (part.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as u64;
        let mut so_far = 0;
        let reached = |of_range: &u64| {
            so_far += of_range;
            so_far >= rank
        };
        let range = self.counts.iter().position(reached)?;
        Some(upper_end(range))
    }

    /// The latencies that were counted since an earlier snapshot of the same loop.
    #[must_use]
    pub fn since(&self, earlier: &Latencies) -> Latencies {
        let mut counts = self.counts.clone();
        for (count, before) in counts.iter_mut().zip(earlier.counts.iter()) {
            *count = count.saturating_sub(*before);
        }
        Latencies { counts }
    }

    /// The ranges in which there are latencies, shortest first: the upper end of each, and how many are in it. The
    /// last range there can be has no end; it is given as 71 minutes.
    pub fn ranges(&self) -> impl Iterator<Item = (Duration, u64)> {
        let all = self.counts.iter().enumerate();
        let filled = all.filter(|(_, count)| **count > 0);
        filled.map(|(range, count)| (upper_end(range), *count))
    }
}

/// No latency yet.
impl Default for Latencies {
    fn default() -> Self {
        Latencies::new(Box::new([0; RANGES]))
    }
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.ranges()).finish()
    }
}

/// The range of a latency. Without a branch: the loop calls this for each acknowledgment.
pub(crate) fn range_of(latency: Duration) -> usize {
    let seconds = latency.as_secs().min(1 << HIGHEST_BIT);
    let micros = seconds * 1_000_000 + u64::from(latency.subsec_micros());
    // Below 8 µs, each number is a range.
    let shift = (micros | PARTS as u64).ilog2() - PARTS_BITS as u32;
    // The bits behind the highest one tell the part.
    let range = PARTS * shift as usize + (micros >> shift) as usize;
    range.min(RANGES - 1)
}

/// The end of a range: every latency in it is shorter.
fn upper_end(range: usize) -> Duration {
    let shift = (range / PARTS).saturating_sub(1);
    let part = range - PARTS * shift;
    match range == RANGES - 1 {
        true => Duration::from_micros(1 << HIGHEST_BIT),
        false => Duration::from_micros((part as u64 + 1) << shift),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(latencies: impl IntoIterator<Item = Duration>) -> Latencies {
        let mut all = Latencies::default();
        for latency in latencies {
            all.counts[range_of(latency)] += 1;
        }
        all
    }

    #[test]
    fn each_latency_lies_below_the_end_of_its_range_and_above_the_end_of_the_one_before() {
        let mut last = 0;
        let powers = (0..HIGHEST_BIT).flat_map(|bit| {
            let power = 1_u64 << bit;
            (0..16).map(move |sixteenth| power + power * sixteenth / 16)
        });
        for micros in (0..5_000)
            .chain(powers.clone())
            .chain(powers.map(|n| n - 1))
        {
            let latency = Duration::from_micros(micros);
            let range = range_of(latency);
            let end = upper_end(range);
            assert!(latency < end, "{micros} µs in {range}");
            let begin = match range {
                0 => Duration::ZERO,
                _ => upper_end(range - 1),
            };
            assert!(begin <= latency, "{micros} µs in {range}");
            let width = end - begin;
            assert!(
                width <= (begin / 8).max(Duration::from_micros(1)),
                "{range}"
            );
            last = last.max(range);
        }
        assert_eq!(last, RANGES - 2, "every range but the last");
        for long in [Duration::from_micros(1 << HIGHEST_BIT), Duration::MAX] {
            assert_eq!(range_of(long), RANGES - 1);
        }
        assert_eq!(upper_end(RANGES - 1), upper_end(RANGES - 2));
    }

    #[test]
    fn a_quantile_is_never_too_short_and_an_eighth_too_long_at_most() {
        assert_eq!(counted([]).quantile(0.5), None);
        let all = counted((1..=1000).map(Duration::from_millis));
        assert_eq!(all.count(), 1000);
        for (part, exact) in [(0.0, 1), (0.001, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let exact = Duration::from_millis(exact);
            let told = all.quantile(part).unwrap();
            assert!(
                (exact..=exact + exact / 8).contains(&told),
                "{part}: {told:?}"
            );
        }
        assert_eq!(all.quantile(7.0), all.quantile(1.0));
        assert_eq!(all.quantile(-7.0), all.quantile(0.0));
    }

    #[test]
    fn the_difference_of_two_snapshots_is_what_came_between_them() {
        let early = counted([5, 5, 900].map(Duration::from_micros));
        let late = counted([5, 5, 900, 5, 70_000].map(Duration::from_micros));
        let between = late.since(&early);
        assert_eq!(between, counted([5, 70_000].map(Duration::from_micros)));
        let ranges: Vec<_> = between.ranges().collect();
        let micros = Duration::from_micros;
        assert_eq!(ranges, [(micros(6), 1), (micros(73_728), 1)]);
        assert_eq!(format!("{between:?}"), "{6µs: 1, 73.728ms: 1}");
    }
}
