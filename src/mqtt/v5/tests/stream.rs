//! The fuzz target `decode5` feeds a stream of bytes to the decoder of MQTT 5. Pure; built for tests and fuzzing only.
//!
//! An input is one byte for the limit, one byte for the cuts, and the stream. The check decodes the stream in one
//! piece: each packet takes as many bytes as its fixed header says, and reads the same when it is written again. Then
//! it decodes the stream in pieces (`pieces.rs`).

use bytes::BytesMut;

use super::written::written;
use crate::mqtt::v4::tests::pieces::{Cuts, LONGEST_TEXT, Rule, Whole, in_pieces, kept_is_bounded};
use crate::mqtt::v5::{Incoming5, Violation, decode5, varint};

/// Limits of packet size to choose from. The last is above every size that a packet can state.
const LIMITS: [usize; 4] = [16, 128, 256 * 1024, varint::LARGEST + 5];

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
    let whole = in_one_piece(stream, limit, decode)?;
    let (tail, cuts) = (stream.len(), Cuts::new(*cuts));
    in_pieces(stream, tail, cuts, limit, decode, &whole, is_same)
}

fn in_one_piece(
    stream: &[u8],
    limit: usize,
    decode: Decode,
) -> Result<Whole<Incoming5, Violation>, String> {
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

/// Whether this is the error that came in one piece. In pieces it may show fewer bytes, because those behind the fixed
/// header may not have come yet.
fn is_same(error: &Violation, whole: &Violation) -> bool {
    whole.answer == error.answer
        && whole.error.is_same_as(&error.error)
        && whole.to_string().starts_with(&error.to_string())
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
