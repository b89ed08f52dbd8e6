//! The ring of one thread's records: this thread writes, and any thread reads meanwhile.
//!
//! The writer takes no lock, never waits, and overwrites the oldest record: one record costs it six plain stores and
//! two loads. A reader copies records and then looks how far the writer has begun. It drops each record that the
//! writer may have begun to overwrite meanwhile, so none is torn, and counts it.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Numbers in one record.
pub(crate) const WORDS: usize = 4;

pub(crate) type Words = [u64; WORDS];

/// The records of one thread.
#[derive(Debug)]
pub(crate) struct RecordRing {
    /// Their number is a power of two.
    places: Box<[[AtomicU64; WORDS]]>,
    /// Records that the writer has begun, since the ring was made.
    begun: AtomicU64,
    /// Records that are whole.
    done: AtomicU64,
}

/// How a reading of one ring ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingRead {
    /// The number of the record with which the next reading begins.
    pub(crate) next: u64,
    /// Records that were overwritten before this reader had read them.
    pub(crate) overwritten: u64,
}

impl RecordRing {
    /// For so many records, or up to twice as many.
    pub(crate) fn new(capacity: usize) -> Self {
        let place = |_| std::array::from_fn(|_| AtomicU64::new(0));
        RecordRing {
            places: (0..capacity.next_power_of_two()).map(place).collect(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// Writes one record. Only one thread at a time may call this: otherwise records get lost.
    #[inline]
    pub(crate) fn write(&self, words: Words) {
        let number = self.done.load(Ordering::Relaxed);
        self.begun.store(number + 1, Ordering::Relaxed);
        // Pairs with the fence in `read`: a reader that sees a word of this record sees that it has begun.
        fence(Ordering::Release);
        for (place, word) in self.place(number).iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.done.store(number + 1, Ordering::Release);
    }

    /// Appends the records from this number on that are still there.
    pub(crate) fn read(&self, from: u64, records: &mut Vec<Words>) -> RingRead {
        let capacity = self.places.len() as u64;
        let end = self.done.load(Ordering::Acquire);
        let first = from.max(end.saturating_sub(capacity));
        let before = records.len();
        for number in first..end {
            let place = self.place(number);
            records.push(std::array::from_fn(|word| {
                place[word].load(Ordering::Relaxed)
            }));
        }
        fence(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Relaxed);
        let whole = begun.saturating_sub(capacity).clamp(first, end.max(first));
        records.drain(before..before + (whole - first) as usize);
        RingRead {
            next: end,
            overwritten: whole - from,
        }
    }

    fn place(&self, number: u64) -> &[AtomicU64; WORDS] {
        &self.places[number as usize & (self.places.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn record(number: u64) -> Words {
        [number, !number, number.wrapping_mul(7), number ^ 0x5555]
    }

    fn read(ring: &RecordRing, from: u64) -> (Vec<Words>, RingRead) {
        let mut records = Vec::new();
        let read = ring.read(from, &mut records);
        (records, read)
    }

    #[test]
    fn a_reading_goes_on_where_the_last_one_ended_and_tells_what_was_overwritten() {
        let ring = RecordRing::new(3);
        assert_eq!(read(&ring, 0).0, [[0; WORDS]; 0]);
        (0..3).for_each(|number| ring.write(record(number)));
        let (records, end) = read(&ring, 0);
        assert_eq!(records, [0, 1, 2].map(record));
        assert_eq!((end.next, end.overwritten), (3, 0));
        (3..10).for_each(|number| ring.write(record(number)));
        let (records, end) = read(&ring, end.next);
        assert_eq!(records, [6, 7, 8, 9].map(record), "room for four");
        assert_eq!((end.next, end.overwritten), (10, 3));
        let (records, end) = read(&ring, end.next);
        assert_eq!((records.len(), end.next, end.overwritten), (0, 10, 0));
    }

    /// Stops the writer, also if the reader panics.
    struct Stop<'a>(&'a AtomicU64);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(1, Ordering::Relaxed);
        }
    }

    /// A writer that never stops laps the reader again and again: each record is whole, in order, and read or counted.
    #[test]
    fn no_record_is_torn_while_the_writer_overwrites_it() {
        const READINGS: u64 = 50_000;
        for capacity in [1, 2, 64, 4096] {
            let ring = RecordRing::new(capacity);
            let stop = AtomicU64::new(0);
            thread::scope(|scope| {
                let writer = scope.spawn(|| {
                    let mut written = 0;
                    while stop.load(Ordering::Relaxed) == 0 {
                        ring.write(record(written));
                        written += 1;
                    }
                    written
                });
                let stops = Stop(&stop);
                let (mut next, mut all) = (0, 0);
                let mut records = Vec::new();
                let mut check = || {
                    let read = ring.read(next, &mut records);
                    let first = next + read.overwritten;
                    for (number, words) in (first..).zip(records.drain(..)) {
                        assert_eq!(words, record(number));
                        all += 1;
                    }
                    all += read.overwritten;
                    next = read.next;
                    assert_eq!(all, next);
                    next
                };
                for _ in 0..READINGS {
                    check();
                }
                drop(stops);
                assert_eq!(writer.join().unwrap(), check());
            });
        }
    }
}
