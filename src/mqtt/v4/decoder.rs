//! The decoder of one link: takes packets out of the bytes that come, and reads messages away that are too large.
//!
//! Of a PUBLISH above the limit it keeps the topic and the identifier, which it checks as always, and throws the
//! payload away as it comes. The message is there, without a payload, once the last byte has come. Any other packet
//! above the limit is an error, and so is every one before CONNACK. Pure. Runs on the loop's thread.

use std::str::FromStr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::decode::{FixedHeader, Read, begin_publish, read, too_large};
use crate::mqtt::kept::KeptMemory;
use crate::mqtt::packet::{Incoming, Message, PacketId, ProtocolError};

/// The reaction to a message above the largest packet that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnTooLarge {
    /// It is read away, acknowledged, and told to the inboxes that it was for.
    #[default]
    Skip,
    /// The link is closed, and again on each link on which the broker sends it.
    Close,
}

impl FromStr for OnTooLarge {
    /// The words that are possible.
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "skip" => Ok(OnTooLarge::Skip),
            "close" => Ok(OnTooLarge::Close),
            _ => Err("skip or close"),
        }
    }
}

/// The decoder.
#[derive(Debug, Clone)]
pub struct Decoder {
    max_packet_size: usize,
    on_too_large: OnTooLarge,
    /// A packet has come on this link, so CONNACK has.
    has_begun: bool,
    skipping: Option<Skipping>,
    /// For large messages. It goes when the link does, and when the broker answers a ping: the link was quiet then.
    memory: KeptMemory,
}

/// A message that is being read away.
#[derive(Debug, Clone)]
struct Skipping {
    id: Option<PacketId>,
    message: Message,
    /// Bytes of its payload that have not come.
    left: usize,
}

impl Decoder {
    /// A decoder for the first link.
    pub fn new(max_packet_size: usize, on_too_large: OnTooLarge) -> Self {
        Decoder {
            max_packet_size,
            on_too_large,
            has_begun: false,
            skipping: None,
            memory: KeptMemory::default(),
        }
    }

    /// The bytes of a new link will come.
    pub fn reset(&mut self) {
        self.has_begun = false;
        self.skipping = None;
        self.memory.clear();
    }

    /// Takes the first packet out of `buffer`. Returns `None` while the packet is not complete.
    ///
    /// # Errors
    /// As [`decode`](super::decode), but for a PUBLISH that is read away.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, ProtocolError> {
        if self.skipping.is_none() {
            match read(buffer, self.max_packet_size, &mut self.memory)? {
                Read::Packet(packet) => {
                    self.has_begun = true;
                    if packet == Incoming::PingResp {
                        self.memory.clear();
                    }
                    return Ok(Some(packet));
                }
                Read::Incomplete => return Ok(None),
                Read::TooLarge(header) if self.skips(&header) => {
                    self.skipping = skipping(buffer, &header)?;
                }
                Read::TooLarge(header) => {
                    return Err(too_large(buffer, &header, self.max_packet_size));
                }
            }
        }
        Ok(self.skip(buffer))
    }

    /// How many bytes were taken of a message that is being read away.
    pub fn skipped(&self) -> usize {
        let skipping = self.skipping.as_ref();
        skipping.map_or(0, |skipping| {
            skipping.message.too_large as usize - skipping.left
        })
    }

    fn skips(&self, header: &FixedHeader) -> bool {
        self.has_begun && self.on_too_large == OnTooLarge::Skip && header.is_publish()
    }

    /// Throws away what has come. Returns the message once it was the last of it.
    fn skip(&mut self, buffer: &mut BytesMut) -> Option<Incoming> {
        let skipping = self.skipping.as_mut()?;
        let length = skipping.left.min(buffer.len());
        buffer.advance(length);
        skipping.left -= length;
        if skipping.left > 0 {
            return None;
        }
        let Skipping { id, message, .. } = self.skipping.take()?;
        let message = Arc::new(message);
        Some(Incoming::Publish { id, message })
    }
}

/// Takes all that stands before the payload. Returns `None` while some of it is missing.
fn skipping(
    buffer: &mut BytesMut,
    header: &FixedHeader,
) -> Result<Option<Skipping>, ProtocolError> {
    let Some((id, message, length)) = begin_publish(buffer, header)? else {
        return Ok(None);
    };
    buffer.advance(length);
    Ok(Some(Skipping {
        id,
        left: message.too_large as usize - length,
        message,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::QoS;

    const CONNACK: &[u8] = b"\x20\x02\x00\x00";
    /// A QoS 1 message to `a`, of 139 bytes.
    const BEGINNING: &[u8] = b"\x3b\x88\x01\x00\x01a\x00\x07";
    const SIZE: usize = 139;

    fn decoder(on_too_large: OnTooLarge) -> Decoder {
        let mut decoder = Decoder::new(100, on_too_large);
        let connack = decoder.decode(&mut BytesMut::from(CONNACK));
        assert!(connack.unwrap().is_some());
        decoder
    }

    fn rule(decoder: &mut Decoder, bytes: &[u8]) -> &'static str {
        let refused = decoder.decode(&mut BytesMut::from(bytes));
        refused.expect_err("a protocol error").rule()
    }

    #[test]
    fn a_message_above_the_limit_comes_without_its_payload_behind_its_last_byte() {
        let mut packet = BEGINNING.to_vec();
        packet.resize(SIZE, 0xff);
        for piece in [1, 3, 50, SIZE] {
            let mut decoder = decoder(OnTooLarge::Skip);
            let (mut buffer, mut fed) = (BytesMut::new(), 0);
            let mut came = None;
            for piece in packet.chunks(piece) {
                assert_eq!(came, None);
                buffer.extend_from_slice(piece);
                fed += piece.len();
                came = decoder.decode(&mut buffer).unwrap();
                assert!(buffer.len() <= BEGINNING.len());
                if came.is_none() {
                    assert_eq!(decoder.skipped() + buffer.len(), fed);
                }
            }
            let Some(Incoming::Publish { id, message }) = came else {
                panic!("{came:?}");
            };
            assert_eq!(id, PacketId::new(7));
            assert_eq!((message.topic(), message.too_large()), ("a", Some(SIZE)));
            assert_eq!(
                (message.qos(), message.retain(), message.dup()),
                (QoS::AtLeastOnce, true, true)
            );
            // The next packet is decoded as always.
            buffer.extend_from_slice(b"\xd0\x00");
            assert_eq!(decoder.decode(&mut buffer), Ok(Some(Incoming::PingResp)));
        }
    }

    #[test]
    fn its_topic_and_identifier_are_checked_before_its_payload_comes() {
        for (bytes, violated) in [
            (&b"\x32\x88\x01\x00\x01a\x00\x00"[..], "MQTT-2.3.1-1"),
            (b"\x32\x88\x01\x00\x01+\x00\x07", "MQTT-3.3.2-2"),
            (b"\x32\x88\x01\x00\x01\xff\x00\x07", "MQTT-1.5.3-1"),
            (b"\x32\x88\x01\x00\x01\x00\x00\x07", "MQTT-1.5.3-2"),
            (b"\x32\x88\x01\x00\x00\x00\x07", "MQTT-4.7.3-1"),
            (b"\x32\x88\x01\x00\x87", "MQTT-4.8.0-1"),
            (b"\x36\x88\x01", "MQTT-3.3.1-4"),
            (b"\x38\x88\x01", "MQTT-3.3.1-2"),
        ] {
            let mut decoder = decoder(OnTooLarge::Skip);
            assert_eq!(rule(&mut decoder, bytes), violated, "{bytes:02x?}");
        }
    }

    #[test]
    fn every_other_packet_above_the_limit_is_an_error() {
        assert_eq!(
            rule(&mut Decoder::new(100, OnTooLarge::Skip), BEGINNING),
            "max-packet-size"
        );
        assert_eq!(
            rule(&mut decoder(OnTooLarge::Close), BEGINNING),
            "max-packet-size"
        );
        let suback = b"\x90\x88\x01";
        assert_eq!(
            rule(&mut decoder(OnTooLarge::Skip), suback),
            "max-packet-size"
        );
        let mut decoder = decoder(OnTooLarge::Skip);
        assert_eq!(decoder.decode(&mut BytesMut::from(BEGINNING)), Ok(None));
        decoder.reset();
        assert_eq!(rule(&mut decoder, BEGINNING), "max-packet-size");
    }
}
