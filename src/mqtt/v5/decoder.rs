//! The decoder of one link that speaks MQTT 5: takes packets out of the bytes that come, and puts topics in the place of
//! their aliases, so that nothing behind it knows aliases.
//!
//! CONNECT states the largest packet. Brokers send larger messages all the same. Such a message is read away as with
//! MQTT 3.1.1: all that stands before its payload is checked as always, and its alias counts. Pure. Runs on the loop's
//! thread.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::mqtt::kept::KeptMemory;
use crate::mqtt::packet::{Answer, Answering, BrokerDisconnect, Details, Incoming, Message};
use crate::mqtt::packet::{PacketId, ProtocolError, ReasonCode, Received, Text};
use crate::mqtt::taken::{take_acknowledgment, take_text};
use crate::mqtt::v4::OnTooLarge;
use crate::mqtt::v5::aliases::ReceivedAliases;
use crate::mqtt::v5::decode::{Found, FoundPublish, Header, Incoming5, ReceivedPublish};
use crate::mqtt::v5::decode::{begin_publish, read, too_large};
use crate::mqtt::v5::problem::Problem;

/// The decoder.
#[derive(Debug, Clone)]
pub struct Decoder5 {
    max_packet_size: usize,
    on_too_large: OnTooLarge,
    /// A packet has come on this link, so CONNACK has.
    has_begun: bool,
    skipping: Option<Skipping5>,
    alias_maximum: u16,
    aliases: ReceivedAliases,
    /// For large messages. It goes when the link does, and when the broker answers a ping: the link was quiet then.
    memory: KeptMemory,
}

/// A message that is being read away.
#[derive(Debug, Clone)]
struct Skipping5 {
    id: Option<PacketId>,
    message: Message,
    /// Bytes of its payload that have not come.
    left: usize,
}

impl Decoder5 {
    /// A decoder for the first link. CONNECT states both limits.
    pub fn new(max_packet_size: usize, alias_maximum: u16, on_too_large: OnTooLarge) -> Self {
        Decoder5 {
            max_packet_size,
            on_too_large,
            has_begun: false,
            skipping: None,
            alias_maximum,
            aliases: ReceivedAliases::default(),
            memory: KeptMemory::default(),
        }
    }

    /// The bytes of a new link will come.
    pub fn reset(&mut self) {
        self.has_begun = false;
        self.skipping = None;
        self.aliases.clear();
        self.memory.clear();
    }

    /// Takes the first packet out of `buffer`. Returns `None` while the packet is not complete.
    ///
    /// # Errors
    /// [`ProtocolError`] when the bytes are not a packet that a server may send, when the packet is above the limit and is
    /// not read away, and for an alias that is unknown, or above the limit. The content of the buffer is then of no more
    /// use.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, ProtocolError> {
        if self.skipping.is_some() {
            return Ok(self.skip(buffer));
        }
        if let Some(packet) = take_acknowledgment(buffer) {
            return Ok(Some(packet));
        }
        match read(buffer, self.max_packet_size, &mut self.memory)? {
            None => Ok(None),
            Some(Found::Packet(Incoming5::PingResp)) => {
                self.memory.clear();
                Ok(Some(Incoming::PingResp))
            }
            Some(Found::Packet(packet)) => {
                self.has_begun = true;
                Ok(Some(neutral(packet)))
            }
            Some(Found::Publish(found)) => self.message(buffer, found).map(Some),
            Some(Found::TooLarge(header)) if self.skips(&header) => {
                self.begin_to_skip(buffer, &header)?;
                Ok(self.skip(buffer))
            }
            Some(Found::TooLarge(header)) => {
                Err(too_large(buffer, &header, self.max_packet_size).into())
            }
        }
    }

    /// How many bytes were taken of a message that is being read away.
    pub fn skipped(&self) -> usize {
        let skipping = self.skipping.as_ref();
        skipping.map_or(0, |skipping| {
            skipping.message.too_large as usize - skipping.left
        })
    }

    fn skips(&self, header: &Header) -> bool {
        self.has_begun && self.on_too_large == OnTooLarge::Skip && header.is_publish()
    }

    /// Takes all that stands before the payload, once it has come.
    fn begin_to_skip(
        &mut self,
        buffer: &mut BytesMut,
        header: &Header,
    ) -> Result<(), ProtocolError> {
        let Some(found) = begin_publish(buffer, header, self.max_packet_size)? else {
            return Ok(());
        };
        let known = known_topic(&mut self.aliases, self.alias_maximum, &found, buffer)?;
        let topic = match known {
            Some(known) => known.as_bytes(),
            None => &buffer[found.topic.clone()],
        };
        let id = found.publish.id;
        let message = Message {
            // A packet that states its length has no more bytes than that.
            too_large: u32::try_from(header.length).unwrap_or(u32::MAX),
            ..message_of(found.publish, Text::copied(topic, &[]))
        };
        buffer.advance(found.length);
        self.skipping = Some(Skipping5 {
            id,
            message,
            left: header.length - found.length,
        });
        Ok(())
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
        let Skipping5 { id, message, .. } = self.skipping.take()?;
        let message = Arc::new(message);
        Some(Incoming::Publish { id, message })
    }

    /// Takes a whole PUBLISH out of the buffer.
    fn message(
        &mut self,
        buffer: &mut BytesMut,
        found: FoundPublish,
    ) -> Result<Incoming, ProtocolError> {
        let known = known_topic(&mut self.aliases, self.alias_maximum, &found, buffer)?;
        let FoundPublish {
            publish,
            topic,
            payload_begin,
            length,
        } = found;
        let text = match known {
            None => take_text(buffer, length, topic, payload_begin, &mut self.memory),
            Some(known) => {
                let payload = &buffer[payload_begin..length];
                let text = Text::copied(known.as_bytes(), payload);
                buffer.advance(length);
                text
            }
        };
        let id = publish.id;
        let message = Arc::new(message_of(publish, text));
        Ok(Incoming::Publish { id, message })
    }
}

/// The topic for which the alias of a message stands, if it carries none itself. If it carries both, the alias stands for
/// its topic from now on.
fn known_topic<'a>(
    aliases: &'a mut ReceivedAliases,
    alias_maximum: u16,
    found: &FoundPublish,
    buffer: &[u8],
) -> Result<Option<&'a str>, ProtocolError> {
    match found.publish.alias {
        None => Ok(None),
        Some(alias) if alias.get() > alias_maximum => {
            let problem = format!("topic alias {alias}, above {alias_maximum}");
            let problem = Problem::forbidden(problem, "MQTT-3.1.2-26");
            let problem = problem.answered(ReasonCode::TOPIC_ALIAS_INVALID);
            let packet = &buffer[..found.length];
            Err(problem.of("PUBLISH", packet, found.length).into())
        }
        Some(alias) if found.topic.is_empty() => match aliases.get(alias) {
            Some(known) => Ok(Some(known)),
            None => Err(unknown_alias(alias, buffer, found.length)),
        },
        Some(alias) => {
            // It was checked.
            let stated = std::str::from_utf8(&buffer[found.topic.clone()]).unwrap_or_default();
            aliases.set(alias, stated);
            Ok(None)
        }
    }
}

fn message_of(publish: ReceivedPublish, text: Text) -> Message {
    let received = Received {
        properties: publish.properties,
        subscription_identifiers: publish.subscription_identifiers,
    };
    let is_plain = received.properties.is_empty() && received.subscription_identifiers.is_empty();
    Message {
        text,
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        too_large: 0,
        received: (!is_plain).then(|| Box::new(received)),
    }
}

fn unknown_alias(alias: NonZeroU16, buffer: &[u8], length: usize) -> ProtocolError {
    let problem = format!("no topic was stated for topic alias {alias}");
    let problem = Problem::forbidden(problem, "MQTT 5, 3.3.2.3.4");
    problem.of("PUBLISH", &buffer[..length], length).into()
}

/// The packet as both versions have it.
fn neutral(packet: Incoming5) -> Incoming {
    match packet {
        Incoming5::ConnAck(connack) => Incoming::ConnAck5(connack),
        Incoming5::PubAck(id, code, details) => {
            answered(Answering::PubAck, Incoming::PubAck, id, code, details)
        }
        Incoming5::PubRec(id, code, details) => {
            answered(Answering::PubRec, Incoming::PubRec, id, code, details)
        }
        Incoming5::PubRel(id, code, details) => {
            answered(Answering::PubRel, Incoming::PubRel, id, code, details)
        }
        Incoming5::PubComp(id, code, details) => {
            answered(Answering::PubComp, Incoming::PubComp, id, code, details)
        }
        Incoming5::SubAck(id, codes, details) => {
            let granted: Vec<_> = codes.iter().map(|code| code.granted()).collect();
            match granted.contains(&None) || !details.is_empty() {
                false => Incoming::SubAck { id, granted },
                true => Incoming::Answered {
                    packet: Answering::SubAck,
                    id,
                    answer: Box::new(Answer::of_each(codes, details)),
                },
            }
        }
        Incoming5::UnsubAck(id, codes, details) => Incoming::Answered {
            packet: Answering::UnsubAck,
            id,
            answer: Box::new(Answer::of_each(codes, details)),
        },
        Incoming5::PingResp => Incoming::PingResp,
        Incoming5::Disconnect {
            code,
            server_reference,
            details,
        } => Incoming::Disconnect(Box::new(BrokerDisconnect {
            code,
            server_reference,
            details,
        })),
        // It is found as such, not taken as a packet.
        Incoming5::Publish(publish) => Incoming::Publish {
            id: publish.id,
            message: Message::copied(publish.topic.as_bytes(), publish.qos, &publish.payload)
                .into(),
        },
    }
}

fn answered(
    packet: Answering,
    plain: fn(PacketId) -> Incoming,
    id: PacketId,
    code: ReasonCode,
    details: Details,
) -> Incoming {
    if code == ReasonCode::SUCCESS && details.is_empty() {
        return plain(id);
    }
    let answer = Box::new(Answer::new(code, details));
    Incoming::Answered { packet, id, answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::QoS;

    const CONNACK: &[u8] = b"\x20\x03\x00\x00\x00";
    /// A QoS 1 message to `a`, of 139 bytes, which states alias 2 and has a content type.
    const BEGINNING: &[u8] = b"\x3b\x88\x01\x00\x01a\x00\x07\x07\x23\x00\x02\x03\x00\x01t";
    const SIZE: usize = 139;

    fn decoder(on_too_large: OnTooLarge) -> Decoder5 {
        let mut decoder = Decoder5::new(100, 2, on_too_large);
        let connack = decoder.decode(&mut BytesMut::from(CONNACK));
        assert!(connack.unwrap().is_some());
        decoder
    }

    fn refused(decoder: &mut Decoder5, bytes: &[u8]) -> (&'static str, u8) {
        let refused = decoder.decode(&mut BytesMut::from(bytes));
        let refused = refused.expect_err("a protocol error");
        (refused.rule(), refused.answer().value())
    }

    /// Its payload looks like acknowledgments.
    fn whole(beginning: &[u8]) -> Vec<u8> {
        let payload = b"\x40\x02\x00\x01".iter().cycle();
        let left = SIZE - beginning.len();
        [beginning, &payload.copied().take(left).collect::<Vec<_>>()].concat()
    }

    #[test]
    fn a_message_above_the_limit_comes_without_its_payload_behind_its_last_byte() {
        let packet = whole(BEGINNING);
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
            let properties = &message.received().expect("properties").properties;
            assert_eq!(properties.content_type.as_deref(), Some("t"));
            // The next packet is decoded as always, and the alias stands for the topic.
            buffer.extend_from_slice(b"\xd0\x00\x30\x06\x00\x00\x03\x23\x00\x02");
            assert_eq!(decoder.decode(&mut buffer), Ok(Some(Incoming::PingResp)));
            let Ok(Some(Incoming::Publish { message, .. })) = decoder.decode(&mut buffer) else {
                panic!("no message");
            };
            assert_eq!((message.topic(), message.too_large()), ("a", None));
            // A message that is read away uses an alias, too.
            buffer.extend_from_slice(&whole(b"\x30\x88\x01\x00\x00\x03\x23\x00\x02"));
            let Ok(Some(Incoming::Publish { id, message })) = decoder.decode(&mut buffer) else {
                panic!("no message");
            };
            assert_eq!((id, message.topic()), (None, "a"));
            assert_eq!(message.too_large(), Some(SIZE));
            assert!(buffer.is_empty() && decoder.skipped() == 0);
        }
    }

    #[test]
    fn all_before_its_payload_is_checked_before_its_payload_comes() {
        for (bytes, violated, answer) in [
            (
                &b"\x32\x88\x01\x00\x01a\x00\x00\x00"[..],
                "MQTT 5, 2.2.1",
                0x81,
            ),
            (b"\x32\x88\x01\x00\x01+\x00\x07\x00", "MQTT-3.3.2-2", 0x81),
            (
                b"\x32\x88\x01\x00\x01\xff\x00\x07\x00",
                "MQTT-1.5.4-1",
                0x81,
            ),
            (
                b"\x32\x88\x01\x00\x01\x00\x00\x07\x00",
                "MQTT-1.5.4-2",
                0x81,
            ),
            (b"\x32\x88\x01\x00\x00\x00\x07\x00", "MQTT 5, 3.3.2.1", 0x82),
            (b"\x30\x88\x01\x00\x87", "MQTT 5, 4.13.1", 0x81),
            (b"\x30\x88\x01\x00\x86", "MQTT 5, 4.13.1", 0x81),
            (b"\x30\x88\x01\x00\x01a\x80\x00", "MQTT-1.5.5-1", 0x81),
            (b"\x30\x88\x01\x00\x01a\x85\x01", "MQTT 5, 2.2.2.1", 0x81),
            (
                b"\x30\x88\x01\x00\x01a\x02\x7f\x00",
                "MQTT 5, 2.2.2.2",
                0x81,
            ),
            (
                b"\x30\x88\x01\x00\x01a\x03\x23\x00\x03",
                "MQTT-3.1.2-26",
                0x94,
            ),
            (
                b"\x30\x88\x01\x00\x00\x03\x23\x00\x02",
                "MQTT 5, 3.3.2.3.4",
                0x82,
            ),
            (b"\x36\x88\x01", "MQTT-3.3.1-4", 0x81),
            (b"\x38\x88\x01", "MQTT-3.3.1-2", 0x82),
        ] {
            let mut decoder = decoder(OnTooLarge::Skip);
            assert_eq!(
                refused(&mut decoder, bytes),
                (violated, answer),
                "{bytes:02x?}"
            );
        }
    }

    #[test]
    fn a_message_is_not_read_away_where_what_stands_before_its_payload_is_above_the_limit() {
        for (bytes, is_refused) in [
            (&b"\x30\xc8\x01\x00\x5e"[..], false),
            (b"\x30\xc8\x01\x00\x5f", true),
            (b"\x32\xc8\x01\x00\x5c", false),
            (b"\x32\xc8\x01\x00\x5d", true),
            (b"\x30\xc8\x01\x00\x01a\x5d", false),
            (b"\x30\xc8\x01\x00\x01a\x5e", true),
        ] {
            let mut decoder = decoder(OnTooLarge::Skip);
            let decoded = decoder.decode(&mut BytesMut::from(bytes));
            let told = decoded.map_err(|error| (error.rule(), error.answer().value()));
            match is_refused {
                true => assert_eq!(told, Err(("max-packet-size", 0x95)), "{bytes:02x?}"),
                false => assert_eq!(told, Ok(None), "{bytes:02x?}"),
            }
        }
    }

    #[test]
    fn every_other_packet_above_the_limit_is_an_error() {
        let too_large = ("max-packet-size", 0x95);
        let mut of_new = Decoder5::new(100, 2, OnTooLarge::Skip);
        assert_eq!(refused(&mut of_new, BEGINNING), too_large);
        let mut closing = decoder(OnTooLarge::Close);
        assert_eq!(refused(&mut closing, BEGINNING), too_large);
        let mut skipping = decoder(OnTooLarge::Skip);
        assert_eq!(refused(&mut skipping, b"\x90\x88\x01"), too_large);
        assert_eq!(skipping.decode(&mut BytesMut::from(BEGINNING)), Ok(None));
        skipping.reset();
        assert_eq!(refused(&mut skipping, BEGINNING), too_large);
    }
}
