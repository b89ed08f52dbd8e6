//! Random fates of connections: the same seed always gives the same. Connections are spared when cuts alone
//! prevent all progress.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::fate::Fate;

/// Every connection is cut after a random number of bytes. Of sixteen connections one is dropped at once; one
/// passes a few bytes only, one at a time; another one passes some bytes in its middle one at a time; one stalls
/// instead of being cut.
pub struct RandomFates {
    random: Random,
    bytes: Range<u64>,
    rate: Option<u64>,
    spare: SpareWhenStuck,
}

impl RandomFates {
    /// Cuts after a number of bytes in this range. Each direction passes at most `rate` bytes a second, if that is
    /// given. `spare` decides when a connection is spared.
    pub fn new(
        seed: u64,
        bytes: Range<u64>,
        rate: Option<u64>,
        spare: SpareWhenStuck,
    ) -> RandomFates {
        RandomFates {
            random: Random::new(seed),
            bytes,
            rate,
            spare,
        }
    }
}

impl Iterator for RandomFates {
    type Item = Fate;

    fn next(&mut self) -> Option<Fate> {
        let fate = match self.spare.is_due() {
            true => Fate::cut_after(SPARED * self.bytes.end),
            false => random_fate(&mut self.random, &self.bytes),
        };
        Some(match self.rate {
            Some(rate) => fate.at_rate(rate),
            None => fate,
        })
    }
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
    count: Arc<AtomicU64>,
}

impl SpareWhenStuck {
    /// `progress` returns a count that grows with each bit of progress.
    pub fn new(progress: impl FnMut() -> u64 + Send + 'static) -> SpareWhenStuck {
        SpareWhenStuck {
            progress: Box::new(progress),
            before: 0,
            in_vain: 0,
            count: Arc::default(),
        }
    }

    /// How many connections were spared so far.
    pub fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
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
            self.count.fetch_add(1, Ordering::SeqCst);
        }
        due
    }
}

fn random_fate(random: &mut Random, bytes: &Range<u64>) -> Fate {
    match random.within(&(0..16)) {
        0 => Fate::cut_after(0),
        // A short life.
        1 => Fate::cut_after(random.within(bytes) / 16).one_byte_at_a_time(),
        2 => {
            let begin = random.within(bytes) / 2;
            let end = begin + random.within(bytes) / 32;
            Fate::cut_after(random.within(bytes)).single_bytes(begin..end)
        }
        3 => Fate::stall_after(random.within(bytes)),
        _ => Fate::cut_after(random.within(bytes)),
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
