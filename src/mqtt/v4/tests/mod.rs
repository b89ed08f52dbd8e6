//! The fuzz target `decode` feeds a stream of bytes to the decoder. Pure; built for tests and fuzzing only.
//!
//! An input is one byte for the limit and for a long tail, one byte for the cuts, and the stream. The check
//! decodes the stream in one piece and compares each packet with that of the reader in `wire.rs`. Then it
//! decodes the stream again in pieces (`pieces.rs`). Each packet is encoded again and has to give the same bytes. At
//! last it decodes the stream behind CONNACK as a link's decoder does, which reads messages above the limit away.

#[cfg(test)]
mod faults;
pub(in crate::mqtt) mod pieces;
pub(in crate::mqtt) mod wire;

use bytes::{Bytes, BytesMut};

use self::pieces::{Cuts, LONGEST_TEXT, Rule, Whole, in_pieces, kept_is_bounded};
use crate::mqtt::packet;
use crate::mqtt::packet::{Ack, Incoming, ProtocolError, Publish};
use crate::mqtt::topic::InvalidName;
use crate::mqtt::v4::{self, Decoder, OnTooLarge};

/// Limits of packet size to choose from. The last is above every size that a packet can state.
const LIMITS: [usize; 4] = [16, 128, 256 * 1024, packet::MAX_REMAINING_LENGTH + 5];

/// How many zeros a long tail has. With them a packet can be longer than any input, and its payload larger
/// than a small one.
const TAIL: usize = 5000;

/// The decoder, or one with a deliberate fault.
trait Decode: FnMut(&mut BytesMut, usize) -> Result<Option<Incoming>, ProtocolError> {}

impl<D> Decode for D where D: FnMut(&mut BytesMut, usize) -> Result<Option<Incoming>, ProtocolError> {}

/// Runs one input of the fuzzer.
///
/// # Panics
/// When the decoder breaks a rule, which is a finding.
pub fn decode(input: &[u8]) {
    if let Err(broken) = check(input, v4::decode).and_then(|()| check_link(input, LIMITS)) {
        panic!("{broken}");
    }
}

/// Decodes the stream of an input in pieces, as it would come over a link. Messages above the limit are read away.
/// The decoder has the second of the limits, and the reader the same one, unless there is a deliberate fault.
fn check_link(input: &[u8], limits: [usize; 4]) -> Rule {
    let [mode, cuts, stream @ ..] = input else {
        return Ok(());
    };
    let place = usize::from(mode & 1);
    let limit = LIMITS[place];
    let mut decoder = Decoder::new(limits[place], OnTooLarge::Skip);
    let (mut buffer, mut raw) = (BytesMut::from(&b"\x20\x02\x00\x00"[..]), Vec::new());
    decoder
        .decode(&mut buffer)
        .map_err(|error| error.to_string())?;
    let mut cuts = Cuts::new(*cuts);
    let mut rest = stream;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(cuts.next(rest.len()));
        rest = behind;
        buffer.extend_from_slice(piece);
        raw.extend_from_slice(piece);
        loop {
            let expected = wire::from_server_without_payload(&raw, limit);
            match (expected, decoder.decode(&mut buffer)) {
                (Ok(None), Ok(None)) => break,
                (Err(_), Err(_)) => return Ok(()),
                (Ok(Some((expected, length))), Ok(Some(packet))) if packet == expected => {
                    raw.drain(..length);
                }
                (expected, got) => {
                    return Err(format!("{got:?} where this stands: {expected:?}"));
                }
            }
        }
        if decoder.skipped() + buffer.len() != raw.len() {
            return Err("bytes are not counted".to_owned());
        }
        if decoder.skipped() > 0 && !buffer.is_empty() {
            return Err("a payload that is read away is kept".to_owned());
        }
    }
    Ok(())
}

/// Decodes the stream of an input, in one piece and in pieces.
///
/// # Errors
/// The rule that was broken.
fn check(input: &[u8], mut decode: impl Decode) -> Rule {
    let [mode, cuts, stream @ ..] = input else {
        return Ok(());
    };
    let limit = LIMITS[usize::from(mode & 3)];
    let mut buffer = BytesMut::from(stream);
    if mode & 4 != 0 {
        buffer.resize(stream.len() + TAIL, 0);
    }
    let tail = stream.len();
    let stream = buffer.clone().freeze();
    let whole = in_one_piece(&stream, buffer, limit, &mut decode)?;
    // In pieces the error may show fewer bytes, because those behind the fixed header may not have come yet.
    let is_same = |error: &ProtocolError, whole: &ProtocolError| {
        whole.to_string().starts_with(&error.to_string())
    };
    let cuts = Cuts::new(*cuts);
    in_pieces(&stream, tail, cuts, limit, &mut decode, &whole, is_same)
}

fn in_one_piece(
    stream: &Bytes,
    mut buffer: BytesMut,
    limit: usize,
    decode: &mut impl Decode,
) -> Result<Whole<Incoming, ProtocolError>, String> {
    let mut packets = Vec::new();
    let mut at = 0;
    loop {
        let rest = &stream[at..];
        match (wire::from_server(rest, limit), decode(&mut buffer, limit)) {
            (Ok(None), Ok(None)) => {
                if buffer != rest {
                    return Err(format!("bytes went away with no packet, at {at}"));
                }
                kept_is_bounded(&buffer, limit)?;
                return Ok((packets, None));
            }
            (Err(_), Err(error)) => {
                let text = error.to_string();
                if text.len() > LONGEST_TEXT {
                    return Err(format!("an error of {} bytes: {text}", text.len()));
                }
                return Ok((packets, Some(error)));
            }
            (Ok(Some((expected, length))), Ok(Some(packet))) => {
                if packet != expected {
                    return Err(format!("{expected:?} was decoded as {packet:?}"));
                }
                if buffer.len() != rest.len() - length {
                    return Err(format!("{packet:?} did not take its {length} bytes"));
                }
                written_again(&packet, &rest[..length])?;
                at += length;
                packets.push((packet, at));
            }
            (expected, got) => {
                return Err(format!("at {at}: {got:?} where this stands: {expected:?}"));
            }
        }
    }
}

/// Encodes a packet again and compares the bytes. Uses our encoder if it has this packet, else the one in
/// `wire.rs`.
fn written_again(packet: &Incoming, bytes: &[u8]) -> Rule {
    let mut out = BytesMut::with_capacity(bytes.len());
    match packet {
        Incoming::Publish { id, message } => {
            let mut publish = Publish {
                topic: message.topic().into(),
                payload: message.to_payload(),
                qos: message.qos,
                retain: message.retain,
                properties: None,
            };
            // Control characters may arrive, but U+0000.
            let may_arrive = |problem: &InvalidName| matches!(problem, InvalidName::Character { character, .. } if *character != '\0');
            if let Err(problem) = publish.check()
                && !may_arrive(&problem)
            {
                return Err(format!("{packet:?} could not be published: {problem}"));
            }
            v4::encode_publish(&mut publish, *id, message.dup, &mut String::new(), &mut out);
        }
        Incoming::PubAck(id) => v4::encode_ack(Ack::PubAck, *id, &mut out),
        Incoming::PubRec(id) => v4::encode_ack(Ack::PubRec, *id, &mut out),
        Incoming::PubRel(id) => v4::encode_ack(Ack::PubRel, *id, &mut out),
        Incoming::PubComp(id) => v4::encode_ack(Ack::PubComp, *id, &mut out),
        other => out.extend(wire::server_bytes(other)),
    }
    match out == bytes {
        true => Ok(()),
        false => Err(format!("{bytes:02x?} was written again as {out:02x?}")),
    }
}
