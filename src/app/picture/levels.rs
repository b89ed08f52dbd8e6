//! How many intervals there are at a time, on average over any stretch of time, whatever their number.
//!
//! A count of intervals is an integral: the time that all of them cover up to a moment. Two sorted lists with their sums
//! give it with two binary searches. The page does the same in JavaScript. Pure; any thread.

use super::model::Interval;

/// Intervals of one kind, which may overlap.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    begins: Sums,
    ends: Sums,
    /// The most at a time.
    pub(crate) most: u32,
}

/// Sorted times, and the sum of those before each.
#[derive(Debug, Clone)]
struct Sums {
    times: Vec<u64>,
    before: Vec<u128>,
}

impl Levels {
    pub(crate) fn new(intervals: &[Interval]) -> Self {
        let begins = Sums::new(intervals.iter().map(|one| one.from).collect());
        let ends = Sums::new(intervals.iter().map(|one| one.to).collect());
        let (mut most, mut ended) = (0, 0);
        for (begun, begin) in begins.times.iter().enumerate() {
            while ends.times[ended] <= *begin {
                ended += 1;
            }
            most = most.max(begun + 1 - ended);
        }
        Levels {
            begins,
            ends,
            most: most as u32,
        }
    }

    /// How many there are on average from one time to a later one.
    pub(crate) fn average(&self, from: u64, to: u64) -> f64 {
        let covered = self.covered_until(to) - self.covered_until(from);
        covered as f64 / (to - from).max(1) as f64
    }

    fn covered_until(&self, at: u64) -> u128 {
        self.begins.since(at) - self.ends.since(at)
    }
}

impl Sums {
    fn new(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let mut sum = 0;
        let mut before = vec![0];
        before.extend(times.iter().map(|time| {
            sum += u128::from(*time);
            sum
        }));
        Sums { times, before }
    }

    /// The time from each of the times to this one, for those that come before it.
    fn since(&self, at: u64) -> u128 {
        let count = self.times.partition_point(|time| *time < at);
        u128::from(at) * count as u128 - self.before[count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::picture::look::Doing;

    fn interval(from: u64, to: u64) -> Interval {
        Interval {
            lane: 0,
            row: 0,
            from,
            to,
            doing: Doing::OnItsWay,
            life: 0,
        }
    }

    #[test]
    fn the_average_is_what_the_intervals_cover() {
        let levels = Levels::new(&[interval(10, 20), interval(15, 30), interval(15, 16)]);
        assert_eq!(levels.most, 3);
        for (from, to, expected) in [
            (0, 10, 0.0),
            (10, 15, 1.0),
            (15, 16, 3.0),
            (16, 20, 2.0),
            (20, 40, 0.5),
            (0, 40, 26.0 / 40.0),
            (40, 50, 0.0),
        ] {
            assert_eq!(levels.average(from, to), expected, "{from} to {to}");
        }
        assert_eq!(Levels::new(&[]).average(0, 10), 0.0);
        let one_after_the_other = [interval(0, 10), interval(10, 20)];
        assert_eq!(Levels::new(&one_after_the_other).most, 1);
    }
}
