//! Fates of connections through the proxy (`proxy.rs`). Plain data: no socket, no thread.

use std::ops::Range;
use std::time::Duration;

/// The most bytes that one direction takes at once.
pub(super) const PIECE: usize = 16 * 1024;

/// A longer delay is as good as none: no clock can add every duration.
const LONGEST_DELAY: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A plan for one connection: how many bytes pass, in which pieces, when, and how it ends.
///
/// Bytes are those on the wire. With TLS they are those of handshake and records: a handshake alone has thousands.
///
/// ```
/// use std::time::Duration;
/// use mqtt_connection_sharing::local::{Counting, Fate};
///
/// // Ends in the middle of what the broker sends, and takes a tenth of a second in each direction.
/// let fate = Fate::cut_after(10_000).counting(Counting::FromBroker);
/// let fate = fate.delay(Duration::from_millis(100));
/// # drop(fate);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Fate {
    /// How many of the counted bytes still pass; `None` for all.
    pub(super) after: Option<u64>,
    pub(super) counting: Counting,
    pub(super) end: End,
    /// These bytes, counted over both directions, pass one at a time.
    pub(super) single: Range<u64>,
    /// The most bytes that each direction passes in a second; `None` for as many as come.
    pub(super) rate: Option<u64>,
    /// The time by which each direction passes its bytes later.
    pub(super) delay: Option<Duration>,
}

/// The bytes that count towards a connection's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Those of both directions.
    Both,
    /// Those that the client sends.
    FromClient,
    /// Those that the broker sends.
    FromBroker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Cut,
    Stall,
}

impl Fate {
    /// All bytes pass.
    pub fn pass() -> Fate {
        Fate {
            after: None,
            counting: Counting::Both,
            end: End::Cut,
            single: 0..0,
            rate: None,
            delay: None,
        }
    }

    /// Both directions close after this many bytes. With 0 the proxy accepts the connection and drops it at once.
    pub fn cut_after(bytes: u64) -> Fate {
        let after = Some(bytes);
        Fate {
            after,
            ..Fate::pass()
        }
    }

    /// Nothing passes after this many bytes, and nothing is closed either.
    pub fn stall_after(bytes: u64) -> Fate {
        let end = End::Stall;
        Fate {
            end,
            ..Fate::cut_after(bytes)
        }
    }

    /// The same, but only these bytes count. Without this, those of both directions do.
    pub fn counting(self, counting: Counting) -> Fate {
        Fate { counting, ..self }
    }

    /// The same, but each byte is read and written by itself.
    pub fn one_byte_at_a_time(self) -> Fate {
        self.single_bytes(0..u64::MAX)
    }

    /// The same, but these bytes, counted over both directions, are each read and written by themselves.
    pub fn single_bytes(self, single: Range<u64>) -> Fate {
        Fate { single, ..self }
    }

    /// The same, but each direction passes at most so many bytes a second. If the connection is to end after some
    /// bytes, it does so after the time in which as many could pass, whether they do or not.
    pub fn at_rate(self, bytes_per_second: u64) -> Fate {
        let rate = Some(bytes_per_second);
        Fate { rate, ..self }
    }

    /// The same, but each direction passes its bytes, and its end, by this time later. An answer comes later by twice
    /// the time. In each direction at most 1 MiB is on its way, so no more than that passes in such a time.
    pub fn delay(self, delay: Duration) -> Fate {
        let delay = Some(delay.min(LONGEST_DELAY));
        Fate { delay, ..self }
    }

    /// How many bytes may be taken at once after `passed` bytes.
    pub(super) fn piece(&self, passed: u64) -> usize {
        let before = self.single.start.saturating_sub(passed);
        match before {
            0 if passed < self.single.end => 1,
            0 => PIECE,
            _ => usize::try_from(before).map_or(PIECE, |before| before.min(PIECE)),
        }
    }
}
