//! The clock by which answers are late: it stands still while bytes show that an answer cannot come yet, or that
//! a question cannot leave yet.
//!
//! That is so while a packet that has not ended comes in, and while the link takes bytes and more wait for it: at
//! least [`LEAST_BYTES`] within one acknowledgment time-out. Afterwards the clock goes on where it stood. If fewer
//! bytes moved, it has never stood still. Which answers are awaited is not known here. Pure; the loop's thread.

use std::time::{Duration, Instant};

/// Bytes within one acknowledgment time-out that show that the link works.
const LEAST_BYTES: u64 = 1024;

/// Bytes that move in one direction.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    /// When [`LEAST_BYTES`] had moved last, or the first bytes.
    since: Instant,
    /// How many bytes had moved by then.
    total: u64,
    /// Whether [`LEAST_BYTES`] have moved in time.
    is_moving: bool,
}

/// The clock.
#[derive(Debug, Clone)]
pub(super) struct AnswerClock {
    ack_timeout: Duration,
    /// How long it has stood still, all in all.
    stood_still: Duration,
    /// Until when this is known. Two transfers may go on at one time.
    counted_until: Instant,
    receiving: Option<Transfer>,
    sending: Option<Transfer>,
    /// When the link last took bytes and left others.
    held_up: Option<Instant>,
}

impl AnswerClock {
    pub(super) fn new(ack_timeout: Duration, now: Instant) -> Self {
        AnswerClock {
            ack_timeout,
            stood_still: Duration::ZERO,
            counted_until: now,
            receiving: None,
            sending: None,
            held_up: None,
        }
    }

    /// The time that the clock shows. Two readings tell how long an answer has been awaited.
    pub(super) fn read(&self, now: Instant) -> Instant {
        now - self.stood_still
    }

    /// How long it has stood still, all in all.
    pub(super) fn stood_still(&self) -> Duration {
        self.stood_still
    }

    /// So many bytes have come of a packet that has not ended.
    pub(super) fn receives(&mut self, total: u64, now: Instant) {
        let before = self.receiving.unwrap_or(Transfer {
            since: now,
            total: 0,
            is_moving: false,
        });
        self.receiving = Some(self.go_on(before, total, now));
    }

    /// The packet has ended.
    pub(super) fn received(&mut self, now: Instant) {
        if let Some(transfer) = self.receiving.take() {
            self.end(transfer, now);
        }
    }

    /// The link took bytes up to this position, and more wait for it.
    pub(super) fn sends(&mut self, written: u64, now: Instant) {
        let before = self.sending.unwrap_or(Transfer {
            since: now,
            total: written,
            is_moving: false,
        });
        self.sending = Some(self.go_on(before, written, now));
        self.held_up = Some(now);
    }

    /// The link took all that waited for it.
    pub(super) fn sent(&mut self, now: Instant) {
        if let Some(transfer) = self.sending.take() {
            self.end(transfer, now);
            self.held_up = Some(now);
        }
    }

    /// The link is gone, or about to go.
    pub(super) fn stop(&mut self) {
        self.receiving = None;
        self.sending = None;
        self.held_up = None;
    }

    /// Until when bytes may still come that make the clock stand still, if some are on their way.
    pub(super) fn may_stand_still_until(&self, now: Instant) -> Option<Instant> {
        let transfers = [self.receiving, self.sending].into_iter().flatten();
        let until = transfers.map(|transfer| transfer.since + self.ack_timeout);
        until.max().filter(|until| *until > now)
    }

    /// Whether bytes that the link took may still be on their way, because it was slow a moment ago.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        self.held_up.is_some_and(|at| now < at + self.ack_timeout)
    }

    fn go_on(&mut self, before: Transfer, total: u64, now: Instant) -> Transfer {
        if total < before.total + LEAST_BYTES {
            return before;
        }
        let in_time = self.stand_still(before.since, now);
        Transfer {
            since: now,
            total,
            is_moving: in_time,
        }
    }

    fn end(&mut self, transfer: Transfer, now: Instant) {
        if transfer.is_moving {
            self.stand_still(transfer.since, now);
        }
    }

    /// Counts this time, unless it was too long for the bytes that moved. Returns whether it was not.
    fn stand_still(&mut self, since: Instant, now: Instant) -> bool {
        if now - since > self.ack_timeout {
            return false;
        }
        self.stood_still += now.saturating_duration_since(since.max(self.counted_until));
        self.counted_until = self.counted_until.max(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        clock: AnswerClock,
        base: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let base = Instant::now();
            let clock = AnswerClock::new(20 * SECOND, base);
            Fixture { clock, base }
        }

        fn at(&self, seconds: u32) -> Instant {
            self.base + seconds * SECOND
        }

        /// Seconds that the clock shows.
        fn shows(&self, seconds: u32) -> u64 {
            let shown = self.clock.read(self.at(seconds));
            shown.duration_since(self.base).as_secs()
        }
    }

    #[test]
    fn it_stands_still_while_a_packet_comes_in_and_then_goes_on() {
        let mut t = Fixture::new();
        for (seconds, total) in [(5, 1_000), (10, 2_000), (25, 100_000), (30, 100_010)] {
            t.clock.receives(total, t.at(seconds));
        }
        t.clock.received(t.at(40));
        assert_eq!((t.shows(40), t.shows(43)), (5, 8));
        assert_eq!(t.clock.may_stand_still_until(t.at(40)), None);
    }

    #[test]
    fn it_does_not_stand_still_for_bytes_that_come_too_slowly() {
        let mut t = Fixture::new();
        t.clock.receives(100, t.at(0));
        t.clock.receives(1_100, t.at(21));
        assert_eq!(t.shows(21), 21);
        assert_eq!(t.clock.may_stand_still_until(t.at(21)), Some(t.at(41)));
        t.clock.receives(2_000, t.at(40));
        assert_eq!(t.clock.may_stand_still_until(t.at(41)), None);
        t.clock.received(t.at(41));
        assert_eq!(t.shows(41), 41);
    }

    #[test]
    fn small_packets_that_come_in_parts_do_not_stop_it() {
        let mut t = Fixture::new();
        for seconds in 0..30 {
            t.clock.receives(500, t.at(seconds));
            t.clock.received(t.at(seconds + 1));
        }
        assert_eq!(t.shows(30), 30);
    }

    #[test]
    fn two_transfers_at_one_time_count_once() {
        let mut t = Fixture::new();
        t.clock.receives(2_000, t.at(0));
        t.clock.sends(5_000, t.at(1));
        t.clock.receives(4_000, t.at(3));
        t.clock.sends(8_000, t.at(5));
        t.clock.received(t.at(6));
        t.clock.sent(t.at(7));
        assert_eq!(t.shows(10), 3);
        assert!(t.clock.is_slow(t.at(26)) && !t.clock.is_slow(t.at(27)));
    }

    #[test]
    fn a_lost_link_ends_what_moved_on_it() {
        let mut t = Fixture::new();
        t.clock.receives(2_000, t.at(0));
        t.clock.sends(5_000, t.at(0));
        t.clock.stop();
        t.clock.received(t.at(5));
        t.clock.sent(t.at(5));
        assert_eq!(t.shows(5), 5);
        assert!(!t.clock.is_slow(t.at(5)));
    }
}
