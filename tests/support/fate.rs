//! What happens to a connection through the proxy (`proxy.rs`), and the chance behind it: a seed
//! always gives the same fates. No socket, no thread.

use std::collections::VecDeque;
use std::ops::Range;

/// As many bytes as a direction ever takes at once.
pub(super) const PIECE: usize = 16 * 1024;

/// What happens to a connection.
#[derive(Debug, Clone)]
pub struct Fate {
    /// How many of the counted bytes may still pass, if not all.
    pub(super) after: Option<u64>,
    pub(super) counting: Counting,
    pub(super) end: End,
    /// Which bytes, of both directions together, pass one at a time.
    pub(super) single: Range<u64>,
    /// Whether chance was kept from it.
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
    /// Nothing happens to it.
    pub fn pass() -> Fate {
        Fate {
            after: None,
            counting: Counting::Both,
            end: End::Cut,
            single: 0..0,
            spared: false,
        }
    }

    /// Both directions are closed after this many bytes; with 0, at once after it was accepted.
    pub fn cut(after: u64) -> Fate {
        let after = Some(after);
        Fate {
            after,
            ..Fate::pass()
        }
    }

    /// After this many bytes nothing passes any more, and nothing is closed either.
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

    /// These bytes, counted from the first on and over both directions, are read and written each by
    /// itself.
    pub fn single_bytes(self, single: Range<u64>) -> Fate {
        Fate { single, ..self }
    }

    /// How many bytes may be taken at once when this many have passed.
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
        mercy: Mercy,
    },
}

/// So many connections in a row that got nothing on are followed by one that is spared.
const IN_VAIN: u32 = 8;

/// A spared connection passes so many times what any other one may pass at most.
const SPARED: u64 = 32;

/// Spares a connection when cuts alone keep anything from getting on. A broker that begins with all it
/// holds after each reconnect (Mosquitto 2.0) reads no acknowledgment before that is written, and each
/// PUBLISH of QoS 1 whose PUBACK is behind it comes once more and adds to it: once it holds more than
/// passes between two cuts, no client can get it out of there.
pub struct Mercy {
    got_on: Box<dyn FnMut() -> u64 + Send>,
    before: u64,
    in_vain: u32,
}

impl Mercy {
    /// `got_on` counts what has got on so far.
    pub fn when_stuck(got_on: impl FnMut() -> u64 + Send + 'static) -> Mercy {
        Mercy {
            got_on: Box::new(got_on),
            before: 0,
            in_vain: 0,
        }
    }

    fn is_due(&mut self) -> bool {
        let now = (self.got_on)();
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
                mercy,
            } => match mercy.is_due() {
                true => Fate {
                    spared: true,
                    ..Fate::cut(SPARED * bytes.end)
                },
                false => random_fate(random, bytes),
            },
        }
    }
}

fn random_fate(random: &mut Random, bytes: &Range<u64>) -> Fate {
    match random.within(&(0..16)) {
        0 => Fate::cut(0),
        // Not for long.
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

/// A small generator of random numbers (xorshift64*): the same seed, the same numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // Neighbouring seeds must not begin alike, and 0 would stay 0.
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
