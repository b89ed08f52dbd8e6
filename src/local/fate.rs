//! Fates of connections through the proxy (`proxy.rs`). No socket, no thread.

use std::ops::Range;

/// The most bytes that one direction takes at once.
pub(super) const PIECE: usize = 16 * 1024;

/// A plan for a connection: how many bytes pass, in which pieces, and how it ends.
#[derive(Debug, Clone)]
pub struct Fate {
    /// How many of the counted bytes still pass; `None` for all.
    pub(super) after: Option<u64>,
    pub(super) counting: Counting,
    pub(super) end: End,
    /// These bytes, counted over both directions, pass one at a time.
    pub(super) single: Range<u64>,
    /// The most bytes that each direction passes in a second; `None` for as many as come.
    pub(super) rate: Option<u64>,
}

/// Which bytes count towards a connection's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    Both,
    FromClient,
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
        }
    }

    /// Both directions close after this many bytes; with 0, right after the connection was accepted.
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

    /// Only these bytes count.
    pub fn counting(self, counting: Counting) -> Fate {
        Fate { counting, ..self }
    }

    /// Each byte is read and written by itself.
    pub fn one_byte_at_a_time(self) -> Fate {
        self.single_bytes(0..u64::MAX)
    }

    /// These bytes, counted over both directions, are each read and written by themselves.
    pub fn single_bytes(self, single: Range<u64>) -> Fate {
        Fate { single, ..self }
    }

    /// Each direction passes at most so many bytes a second. Such a connection ends after the time in which as many
    /// bytes as it had left could pass, whether they do or not.
    pub fn at_rate(self, bytes_per_second: u64) -> Fate {
        let rate = Some(bytes_per_second);
        Fate { rate, ..self }
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
