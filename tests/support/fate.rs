//! Fates of connections through the proxy (`proxy.rs`), and the random choice among them: the same seed
//! always gives the same fates. No socket, no thread.

use std::collections::VecDeque;
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
    /// Whether this connection was spared a random cut.
    pub(super) spared: bool,
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
            spared: false,
        }
    }

    /// Both directions close after this many bytes; with 0, right after the connection was accepted.
    pub fn cut(after: u64) -> Fate {
        let after = Some(after);
        Fate {
            after,
            ..Fate::pass()
        }
    }

    /// Nothing passes after this many bytes, and nothing is closed either.
    pub fn stall(after: u64) -> Fate {
        let end = End::Stall;
        Fate {
            end,
            ..Fate::cut(after)
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

/// The fates of the connections to come.
pub(super) enum Fates {
    Fixed {
        next: VecDeque<Fate>,
        then: Fate,
    },
    Random {
        random: Random,
        bytes: Range<u64>,
        rate: Option<u64>,
        spare: SpareWhenStuck,
    },
}

/// After so many connections in a row without progress the next one is spared.
const IN_VAIN: u32 = 8;

/// A spared connection passes so many times the most that any other connection passes.
const SPARED: u64 = 32;

/// Spares a connection when cuts alone prevent all progress. Mosquitto 2.0 begins each connection with
/// all messages that it holds, and reads no acknowledgment before they are written. Each PUBLISH of QoS
/// 1 whose PUBACK it has not read comes once more and adds to them. Once it holds more than passes
/// between two cuts, no client can ever receive all of it.
pub struct SpareWhenStuck {
    progress: Box<dyn FnMut() -> u64 + Send>,
    before: u64,
    in_vain: u32,
}

impl SpareWhenStuck {
    /// `progress` returns a count that grows with each bit of progress.
    pub fn new(progress: impl FnMut() -> u64 + Send + 'static) -> SpareWhenStuck {
        SpareWhenStuck {
            progress: Box::new(progress),
            before: 0,
            in_vain: 0,
        }
    }

    fn is_due(&mut self) -> bool {
        let now = (self.progress)();
        if now != self.before {
            self.before = now;
            self.in_vain = 0;
        }
        self.in_vain += 1;
        let due = self.in_vain > IN_VAIN;
        if due {
            self.in_vain = 0;
        }
        due
    }
}

impl Fates {
    pub(super) fn fixed(next: impl IntoIterator<Item = Fate>, then: Fate) -> Fates {
        let next = next.into_iter().collect();
        Fates::Fixed { next, then }
    }

    pub(super) fn next(&mut self) -> Fate {
        match self {
            Fates::Fixed { next, then } => next.pop_front().unwrap_or_else(|| then.clone()),
            Fates::Random {
                random,
                bytes,
                rate,
                spare,
            } => {
                let spared = spare.is_due();
                let fate = match spared {
                    true => Fate::cut(SPARED * bytes.end),
                    false => random_fate(random, bytes),
                };
                Fate {
                    spared,
                    rate: *rate,
                    ..fate
                }
            }
        }
    }
}

fn random_fate(random: &mut Random, bytes: &Range<u64>) -> Fate {
    match random.within(&(0..16)) {
        0 => Fate::cut(0),
        // A short life.
        1 => Fate::cut(random.within(bytes) / 16).one_byte_at_a_time(),
        2 => {
            let begin = random.within(bytes) / 2;
            let end = begin + random.within(bytes) / 32;
            Fate::cut(random.within(bytes)).single_bytes(begin..end)
        }
        3 => Fate::stall(random.within(bytes)),
        _ => Fate::cut(random.within(bytes)),
    }
}

/// A small random number generator (xorshift64*). The same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Multiplied, so that neighbouring seeds begin differently; odd, because 0 would stay 0.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn within(&mut self, range: &Range<u64>) -> u64 {
        range.start + (self.next() >> 11) % (range.end - range.start)
    }
}
