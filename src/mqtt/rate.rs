//! A rate that the broker takes: token buckets over messages and over their bytes.
//!
//! A bucket holds what may leave in one second, and fills evenly. A message may leave while there is a token for it,
//! and while bytes are left: a large one may take more bytes than there are, and the next one waits for them. A
//! message that is sent again counts again. Without a limit nothing is counted. Pure; the loop's thread.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::Range;
use std::time::{Duration, Instant};

/// The time in which a bucket fills.
const FILLING_TIME: Duration = Duration::from_secs(1);

/// The messages that may leave in one second, all bytes of their packets together. `None` is no limit. As many may leave
/// at once after a pause, and further ones come evenly: up to twice as many in the first second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct RateLimits {
    /// Messages in one second.
    pub publishes: Option<NonZeroU32>,
    /// Bytes in one second: whole packets, headers included, before TLS.
    pub bytes: Option<NonZeroU64>,
}

/// The buckets of a session.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    publishes: Option<Bucket>,
    bytes: Option<Bucket>,
    begin: Instant,
    /// When nothing may leave.
    closed: Option<Range<Instant>>,
}

/// A bucket. Its times count from the beginning of the session.
#[derive(Debug, Clone)]
struct Bucket {
    per_second: u64,
    /// When it is full again, if nothing more is taken.
    full_at: Duration,
}

impl Rate {
    /// Full buckets.
    pub(super) fn new(limits: RateLimits, now: Instant) -> Self {
        let bucket = |per_second| Bucket {
            per_second,
            full_at: Duration::ZERO,
        };
        Rate {
            publishes: limits.publishes.map(|limit| bucket(limit.get().into())),
            bytes: limits.bytes.map(|limit| bucket(limit.get())),
            begin: now,
            closed: None,
        }
    }

    /// A message of so many bytes was put into the output.
    #[inline]
    pub(super) fn handle_published(&mut self, bytes: u64, now: Instant) {
        if self.has_limit() {
            self.take(bytes, now);
        }
    }

    /// Whether there is any.
    pub(super) fn has_limit(&self) -> bool {
        self.publishes.is_some() || self.bytes.is_some()
    }

    fn take(&mut self, bytes: u64, now: Instant) {
        let at = now.saturating_duration_since(self.begin);
        let mut opens = at;
        for (bucket, taken) in [(&mut self.publishes, 1), (&mut self.bytes, bytes)] {
            if let Some(bucket) = bucket {
                bucket.take(taken, at);
                opens = opens.max(bucket.has_one_at());
            }
        }
        let closed = self.closed.take().filter(|closed| closed.end > now);
        let since = closed.map_or(now, |closed| closed.start);
        self.closed = (opens > at).then(|| since..self.begin + opens);
    }

    /// Whether a message may leave.
    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether a message may leave again that could not until now.
    pub(super) fn opens(&mut self, now: Instant) -> bool {
        self.closed.take_if(|closed| closed.end <= now).is_some()
    }

    /// When a message may leave again.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.closed.as_ref().map(|closed| closed.end)
    }

    /// When no message could leave, if that is over now.
    pub(super) fn was_closed(&self, now: Instant) -> Option<Range<Instant>> {
        self.closed.clone().filter(|closed| closed.end <= now)
    }
}

impl Bucket {
    fn take(&mut self, tokens: u64, at: Duration) {
        self.full_at = self.full_at.max(at) + self.time(tokens);
    }

    /// When there is one token at least.
    fn has_one_at(&self) -> Duration {
        let full_but_one = FILLING_TIME.saturating_sub(self.time(1));
        self.full_at.saturating_sub(full_but_one)
    }

    /// The time in which so many come. Rounded up, so that no more leave than allowed.
    fn time(&self, tokens: u64) -> Duration {
        let nanoseconds = u128::from(tokens) * FILLING_TIME.as_nanos();
        let nanoseconds = nanoseconds.div_ceil(u128::from(self.per_second));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(publishes: u32, bytes: u64, now: Instant) -> Rate {
        let limits = RateLimits {
            publishes: NonZeroU32::new(publishes),
            bytes: NonZeroU64::new(bytes),
        };
        Rate::new(limits, now)
    }

    /// The milliseconds at which so many messages of this size leave, each as soon as it may.
    fn times(rate: &mut Rate, messages: usize, bytes: u64, begin: Instant) -> Vec<u128> {
        let mut now = begin;
        let leave = |_| {
            if let Some(until) = rate.next_timer() {
                let before = until - Duration::from_nanos(1);
                assert!(!rate.is_open() && !rate.opens(before));
                assert!(rate.was_closed(before).is_none());
                let closed = rate.was_closed(until).unwrap();
                assert!(closed.start >= now && closed.end == until);
                assert!(rate.opens(until) && rate.was_closed(until).is_none());
                now = until;
            }
            assert!(rate.is_open());
            rate.handle_published(bytes, now);
            (now - begin).as_millis()
        };
        (0..messages).map(leave).collect()
    }

    #[test]
    fn a_second_full_leaves_at_once_and_the_rest_evenly() {
        let now = Instant::now();
        let mut rate = rate(4, 0, now);
        let expected = [0, 0, 0, 0, 250, 500, 750, 1_000];
        assert_eq!(times(&mut rate, 8, 1_000_000, now), expected);
        // Two seconds later it is full again, and holds no more than that.
        let later = now + Duration::from_secs(3);
        rate.opens(later);
        assert_eq!(times(&mut rate, 6, 1, later), [0, 0, 0, 0, 250, 500]);
    }

    #[test]
    fn a_message_larger_than_the_bucket_leaves_and_the_next_one_waits_for_its_bytes() {
        let now = Instant::now();
        let mut rate = rate(0, 1_000, now);
        let waits = times(&mut rate, 3, 2_500, now);
        // From then on 1,501 bytes are missing to one.
        assert_eq!(waits, [0, 1_501, 4_001]);
    }

    #[test]
    fn the_scarcer_of_both_decides() {
        let now = Instant::now();
        let mut rate = rate(2, 1_000, now);
        assert_eq!(times(&mut rate, 4, 100, now), [0, 0, 500, 1_000]);
        assert_eq!(times(&mut rate, 1, 2_000, now), [1_500]);
        let next = rate.next_timer().unwrap() - now;
        assert!(next > Duration::from_millis(2_500), "{next:?}");
    }

    #[test]
    fn without_a_limit_nothing_ever_waits() {
        let now = Instant::now();
        let mut rate = rate(0, 0, now);
        for _ in 0..1_000 {
            rate.handle_published(u64::MAX, now);
        }
        assert!(rate.is_open() && rate.next_timer().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// In any time, no more leaves than a full bucket and what comes meanwhile; bytes, and one message more.
        #[test]
        fn no_more_leaves_than_allowed(
            publishes in 1..2_000_u32,
            bytes in 1..1_000_000_u64,
            messages in prop::collection::vec((0..300_u64, 1..200_000_u64), 1..200),
        ) {
            let begin = Instant::now();
            let mut rate = rate(publishes, bytes, begin);
            let mut now = begin;
            let mut left: Vec<(Instant, u64)> = Vec::new();
            for (pause, size) in messages {
                now += Duration::from_millis(pause);
                if let Some(until) = rate.next_timer() {
                    now = now.max(until);
                    prop_assert!(rate.opens(now));
                }
                rate.handle_published(size, now);
                left.push((now, size));
            }
            for (first, (from, _)) in left.iter().enumerate() {
                let mut sum = 0;
                for (last, (to, size)) in left.iter().enumerate().skip(first) {
                    let seconds = 1.0 + (*to - *from).as_secs_f64();
                    let count = (last - first + 1) as f64;
                    prop_assert!(count <= seconds * f64::from(publishes) + 1e-3);
                    // Before the last one there were bytes left.
                    prop_assert!(sum as f64 <= seconds * bytes as f64 + 1.0);
                    sum += size;
                }
            }
        }
    }
}
