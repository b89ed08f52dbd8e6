//! The fuzz target `decode5` feeds a stream of bytes to the decoder of MQTT 5. Pure; built for tests and fuzzing only.
//!
//! An input is one byte for the limit, one byte for the cuts, and the stream. The check decodes the stream in one
//! piece: each packet takes as many bytes as its fixed header says, and reads the same when it is written again. Then
//! it decodes the stream in pieces. The same packets have to come, each as soon as its last byte is there, and then the
//! same error. While a packet is not complete, the buffer stays below the limit.

use bytes::BytesMut;

use super::written::written;
use crate::mqtt::v4::tests::Cuts;
use crate::mqtt::v5::{Incoming5, Violation, decode5, varint};

/// The result of a check: nothing, or the rule that was broken.
type Rule = Result<(), String>;

/// Limits of packet size to choose from. The last is above every size that a packet can state.
const LIMITS: [usize; 4] = [16, 128, 256 * 1024, varint::LARGEST + 5];

/// The longest text that an error may have, in bytes.
const LONGEST_TEXT: usize = 400;

/// Runs one input of the fuzzer.
///
/// # Panics
/// When the decoder breaks a rule, which is a finding.
pub fn decode5_stream(input: &[u8]) {
    if let Err(broken) = check(input, decode5) {
        panic!("{broken}");
    }
}

/// The decoder, or one with a deliberate fault.
type Decode = fn(&mut BytesMut, usize) -> Result<Option<Incoming5>, Violation>;

/// Decodes the stream of an input, in one piece and in pieces.
///
/// # Errors
/// The rule that was broken.
pub(super) fn check(input: &[u8], decode: Decode) -> Rule {
    let [mode, cuts, stream @ ..] = input else {
        return Ok(());
    };
    let limit = LIMITS[usize::from(mode & 3)];
    let (packets, end) = in_one_piece(stream, limit, decode)?;
    in_pieces(stream, Cuts::new(*cuts), limit, decode, &packets, end)
}

/// The packets of a stream, each with the position of its end, and the error behind them.
type Whole = (Vec<(Incoming5, usize)>, Option<Violation>);

fn in_one_piece(stream: &[u8], limit: usize, decode: Decode) -> Result<Whole, String> {
    let mut buffer = BytesMut::from(stream);
    let mut packets = Vec::new();
    let mut at = 0;
    loop {
        match decode(&mut buffer, limit) {
            Ok(None) => {
                if buffer != stream[at..] {
                    return Err(format!("bytes went away with no packet, at {at}"));
                }
                kept_is_bounded(&buffer, limit)?;
                return Ok((packets, None));
            }
            Ok(Some(packet)) => {
                let length = match varint::read(&stream[at + 1..]) {
                    Ok(Some((remaining, bytes))) => 1 + bytes + remaining,
                    other => return Err(format!("{packet:?} has the length {other:?}")),
                };
                if buffer.len() + length != stream.len() - at || length > limit {
                    return Err(format!("{packet:?} did not take its {length} bytes"));
                }
                let again = written(&packet);
                let read = decode(&mut BytesMut::from(&again[..]), usize::MAX);
                if read.as_ref() != Ok(&Some(packet.clone())) {
                    return Err(format!("{packet:?} was written and read again as {read:?}"));
                }
                at += length;
                packets.push((packet, at));
            }
            Err(error) => {
                let text = error.to_string();
                return match text.len() > LONGEST_TEXT || !error.answer.is_failure() {
                    true => Err(format!("{} of {} bytes: {text}", error.answer, text.len())),
                    false => Ok((packets, Some(error))),
                };
            }
        }
    }
}

fn in_pieces(
    stream: &[u8],
    mut cuts: Cuts,
    limit: usize,
    decode: Decode,
    packets: &[(Incoming5, usize)],
    end: Option<Violation>,
) -> Rule {
    let mut buffer = BytesMut::new();
    let mut due = packets.iter();
    let mut fed = 0;
    while fed < stream.len() {
        let piece = cuts.next(stream.len() - fed);
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
                (Err(error), None) if is_same(&error, end.as_ref()) => return Ok(()),
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

/// Whether this is the error that came in one piece. In pieces it may show fewer bytes, because those behind the fixed
/// header may not have come yet.
fn is_same(error: &Violation, whole: Option<&Violation>) -> bool {
    whole.is_some_and(|whole| {
        whole.answer == error.answer
            && whole.error.is_same_as(&error.error)
            && whole.to_string().starts_with(&error.to_string())
    })
}

/// Checks that the bytes of an incomplete packet stay within the limit.
fn kept_is_bounded(buffer: &BytesMut, limit: usize) -> Rule {
    match buffer.len() < limit.max(5) {
        true => Ok(()),
        false => Err(format!(
            "{} bytes are kept, the limit is {limit}",
            buffer.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::mqtt::fuzz::corpus;

    #[test]
    fn the_corpus_and_its_mutations_find_no_fault() {
        corpus::run("decode5", decode5_stream, 60_000);
    }

    /// Checks that the corpus finds a fault in this decoder, with an error that contains `words`.
    #[track_caller]
    fn is_noticed(decode: Decode, words: &str) {
        let inputs = corpus::inputs("decode5");
        let broken = inputs.iter().filter_map(|input| check(input, decode).err());
        let broken: Vec<_> = broken.collect();
        let noticed = broken.iter().any(|broken| broken.contains(words));
        assert!(noticed, "not {words:?}, but {:?}", broken.first());
    }

    #[test]
    fn a_decoder_without_the_limit_is_noticed() {
        is_noticed(|buffer, _| decode5(buffer, usize::MAX), "did not take its");
    }

    #[test]
    fn a_decoder_that_loses_properties_is_noticed() {
        is_noticed(
            |buffer, limit| {
                let mut read = decode5(buffer, limit);
                if let Ok(Some(Incoming5::Publish(publish))) = &mut read {
                    publish.alias = None;
                }
                read
            },
            "read again as",
        );
    }

    #[test]
    fn a_decoder_that_waits_for_more_than_a_packet_is_noticed() {
        is_noticed(
            |buffer, limit| match buffer.len() {
                ..5 => Ok(None),
                _ => decode5(buffer, limit),
            },
            "did not come",
        );
    }

    #[test]
    fn a_decoder_that_passes_over_errors_is_noticed() {
        is_noticed(
            |buffer, limit| {
                decode5(buffer, limit).or_else(|_| {
                    buffer.advance(1);
                    Ok(None)
                })
            },
            "bytes went away",
        );
    }
}
