//! A stream that is decoded in pieces, for the fuzz targets `decode` and `decode5`: the same packets have to come as in
//! one piece, each as soon as its last byte is there, and then the same error. While a packet is not complete, the
//! buffer stays below the limit. Pure; built for tests and fuzzing only.

use std::fmt::{Debug, Display};

use bytes::BytesMut;

/// The result of a check: nothing, or the rule that was broken.
pub(in crate::mqtt) type Rule = Result<(), String>;

/// The longest text that an error may have, in bytes.
pub(in crate::mqtt) const LONGEST_TEXT: usize = 400;

/// The packets of a stream, each with the position of its end, and the error behind them.
pub(in crate::mqtt) type Whole<P, E> = (Vec<(P, usize)>, Option<E>);

/// Decodes a stream in pieces, and all from `tail` on in one. `is_same` compares an error with that of the whole stream.
///
/// # Errors
/// The rule that was broken.
pub(in crate::mqtt) fn in_pieces<P: Debug + PartialEq, E: Debug + Display>(
    stream: &[u8],
    tail: usize,
    mut cuts: Cuts,
    limit: usize,
    mut decode: impl FnMut(&mut BytesMut, usize) -> Result<Option<P>, E>,
    (packets, end): &Whole<P, E>,
    is_same: impl Fn(&E, &E) -> bool,
) -> Rule {
    let mut buffer = BytesMut::new();
    let mut due = packets.iter();
    let mut fed = 0;
    while fed < stream.len() {
        let piece = match tail.saturating_sub(fed) {
            0 => stream.len() - fed,
            left => cuts.next(left),
        };
        buffer.extend_from_slice(&stream[fed..fed + piece]);
        fed += piece;
        loop {
            match (decode(&mut buffer, limit), due.as_slice().first()) {
                (Ok(None), Some((packet, end))) if *end <= fed => {
                    return Err(format!("of the first {fed} bytes {packet:?} did not come"));
                }
                (Ok(None), _) => break,
                (Ok(Some(packet)), Some((expected, _))) if packet == *expected => {
                    due.next();
                }
                (Err(error), None) if end.as_ref().is_some_and(|end| is_same(&error, end)) => {
                    return Ok(());
                }
                (got, expected) => {
                    return Err(format!("in pieces {got:?}, in one {expected:?}, {end:?}"));
                }
            }
        }
        kept_is_bounded(&buffer, limit)?;
    }
    match end {
        None => Ok(()),
        Some(error) => Err(format!("in pieces this went unnoticed: {error}")),
    }
}

/// Checks that the bytes of an incomplete packet stay within the limit.
pub(in crate::mqtt) fn kept_is_bounded(buffer: &BytesMut, limit: usize) -> Rule {
    match buffer.len() < limit.max(5) {
        true => Ok(()),
        false => Err(format!(
            "{} bytes are kept, the limit is {limit}",
            buffer.len()
        )),
    }
}

/// Lengths of pieces, made from one byte. 0 cuts after each byte.
pub(in crate::mqtt) struct Cuts {
    state: u32,
    longest: u32,
}

impl Cuts {
    pub(in crate::mqtt) fn new(seed: u8) -> Self {
        Cuts {
            state: u32::from(seed).wrapping_mul(0x9e37_79b9) | 1,
            longest: match seed {
                0 => 1,
                1..64 => 4,
                64..192 => 32,
                192.. => 700,
            },
        }
    }

    /// The next length, at most `most`.
    pub(in crate::mqtt) fn next(&mut self, most: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 17;
        self.state ^= self.state << 5;
        let length = 1 + (self.state >> 8) % self.longest;
        most.min(length as usize)
    }
}
