//! \[5\] Memory of large messages that came, for the next ones.
//!
//! The allocator gives the memory of a large message back to the system once the message is gone, and the system fills
//! it with zeros again for the next one. That costs more than decrypting it. So a piece of memory stays here while a
//! message uses it, and the next message of about the same size takes it once no thread holds any part of the first.
//! Pure; the loop's thread.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// The most bytes that are kept, those that messages use included.
const KEPT: usize = 8 * 1024 * 1024;

/// A piece's length is a multiple of this, so that messages whose lengths differ a little can use the same one.
const STEP: usize = 1024;

/// Pieces of memory, in the order in which messages got them.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptMemory {
    pieces: VecDeque<Piece>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Piece {
    /// The room behind the message, or all of the piece once no thread holds the message any more.
    memory: BytesMut,
    length: usize,
}

impl KeptMemory {
    /// Empty memory with room for so many bytes.
    pub(super) fn take(&mut self, length: usize) -> BytesMut {
        if let Some(mut piece) = self.pieces.pop_front() {
            self.bytes -= piece.length;
            // A message must not keep much more memory alive than it needs.
            let fits = (length..=2 * length.max(STEP)).contains(&piece.length);
            if fits && piece.memory.try_reclaim(length) {
                return piece.memory;
            }
            if fits {
                self.keep(piece);
            }
        }
        BytesMut::with_capacity(length.next_multiple_of(STEP))
    }

    /// The bytes of a message. Their memory is kept.
    pub(super) fn share(&mut self, mut memory: BytesMut) -> Bytes {
        let length = memory.capacity();
        let bytes = memory.split().freeze();
        self.keep(Piece { memory, length });
        bytes
    }

    /// Gives back all that is kept.
    pub(super) fn clear(&mut self) {
        *self = KeptMemory::default();
    }

    fn keep(&mut self, piece: Piece) {
        self.bytes += piece.length;
        self.pieces.push_back(piece);
        while self.bytes > KEPT
            && let Some(piece) = self.pieces.pop_front()
        {
            self.bytes -= piece.length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: usize = 10_000;

    fn message(memory: &mut KeptMemory, length: usize) -> Bytes {
        let mut piece = memory.take(length);
        piece.resize(length, 7);
        memory.share(piece)
    }

    #[test]
    fn memory_is_used_again_once_no_part_of_the_message_is_held() {
        let mut memory = KeptMemory::default();
        let mut first = message(&mut memory, LENGTH);
        let place = first.as_ptr();
        let end = first.split_off(LENGTH - 1);
        drop(first);
        let second = message(&mut memory, LENGTH);
        assert_ne!(second.as_ptr(), place);
        assert_eq!(end, [7].as_slice());
        drop(end);
        // A little longer.
        let third = message(&mut memory, LENGTH + 100);
        assert_eq!(third.as_ptr(), place);
        assert!(second.iter().chain(&third).all(|byte| *byte == 7));
    }

    #[test]
    fn a_message_gets_no_memory_of_another_size() {
        for (first, second) in [(LENGTH, LENGTH / 3), (LENGTH, 2 * LENGTH)] {
            let mut memory = KeptMemory::default();
            drop(message(&mut memory, first));
            message(&mut memory, second);
            let lengths: Vec<_> = memory.pieces.iter().map(|piece| piece.length).collect();
            assert_eq!(lengths, [second.next_multiple_of(STEP)]);
        }
    }

    #[test]
    fn no_more_than_the_most_is_kept() {
        let mut memory = KeptMemory::default();
        for length in [LENGTH, KEPT + 1] {
            let held: Vec<_> = (0..(2 * KEPT / length).max(2))
                .map(|_| message(&mut memory, length))
                .collect();
            assert!(memory.bytes <= KEPT);
            let sum: usize = memory.pieces.iter().map(|piece| piece.length).sum();
            assert_eq!(memory.bytes, sum);
            drop(held);
        }
        memory.clear();
        assert_eq!((memory.bytes, memory.pieces.len()), (0, 0));
    }
}
