//! The decoder of one link that speaks MQTT 5: takes packets out of the bytes that come, and puts topics in the place of
//! their aliases, so that nothing behind it knows aliases. Pure. Runs on the loop's thread.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::mqtt::kept::KeptMemory;
use crate::mqtt::packet::{Answer, Answering, BrokerDisconnect, Details, Incoming, Message};
use crate::mqtt::packet::{PacketId, ProtocolError, ReasonCode, Received, Text};
use crate::mqtt::taken::{take_acknowledgment, take_text};
use crate::mqtt::v5::aliases::ReceivedAliases;
use crate::mqtt::v5::decode::{Found, FoundPublish, Incoming5, read};
use crate::mqtt::v5::problem::Problem;

/// The decoder.
#[derive(Debug, Clone)]
pub struct Decoder5 {
    max_packet_size: usize,
    alias_maximum: u16,
    aliases: ReceivedAliases,
    /// For large messages. It goes when the link does, and when the broker answers a ping: the link was quiet then.
    memory: KeptMemory,
}

impl Decoder5 {
    /// A decoder for the first link. CONNECT states both limits.
    pub fn new(max_packet_size: usize, alias_maximum: u16) -> Self {
        Decoder5 {
            max_packet_size,
            alias_maximum,
            aliases: ReceivedAliases::default(),
            memory: KeptMemory::default(),
        }
    }

    /// The bytes of a new link will come.
    pub fn reset(&mut self) {
        self.aliases.clear();
        self.memory.clear();
    }

    /// Takes the first packet out of `buffer`. Returns `None` while the packet is not complete.
    ///
    /// # Errors
    /// [`ProtocolError`] when the bytes are not a packet that a server may send, when the packet is above the limit, and
    /// for an alias that is unknown, or above the limit. The content of the buffer is then of no more use.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, ProtocolError> {
        if let Some(packet) = take_acknowledgment(buffer) {
            return Ok(Some(packet));
        }
        match read(buffer, self.max_packet_size, &mut self.memory)? {
            None => Ok(None),
            Some(Found::Packet(Incoming5::PingResp)) => {
                self.memory.clear();
                Ok(Some(Incoming::PingResp))
            }
            Some(Found::Packet(packet)) => Ok(Some(neutral(packet))),
            Some(Found::Publish(found)) => self.message(buffer, found).map(Some),
        }
    }

    /// Takes a whole PUBLISH out of the buffer.
    fn message(
        &mut self,
        buffer: &mut BytesMut,
        found: FoundPublish,
    ) -> Result<Incoming, ProtocolError> {
        let FoundPublish {
            publish,
            topic,
            payload_begin,
            length,
        } = found;
        let known = match publish.alias {
            None => None,
            Some(alias) if alias.get() > self.alias_maximum => {
                let problem = format!("topic alias {alias}, above {}", self.alias_maximum);
                let problem = Problem::forbidden(problem, "MQTT-3.1.2-26");
                let problem = problem.answered(ReasonCode::TOPIC_ALIAS_INVALID);
                return Err(problem.of("PUBLISH", &buffer[..length], length).into());
            }
            Some(alias) if topic.is_empty() => match self.aliases.get(alias) {
                Some(known) => Some(known),
                None => return Err(unknown_alias(alias, buffer, length)),
            },
            Some(alias) => {
                // It was checked.
                let stated = std::str::from_utf8(&buffer[topic.clone()]).unwrap_or_default();
                self.aliases.set(alias, stated);
                None
            }
        };
        let text = match known {
            None => take_text(buffer, length, topic, payload_begin, &mut self.memory),
            Some(known) => {
                let payload = &buffer[payload_begin..length];
                let text = Text::copied(known.as_bytes(), payload);
                buffer.advance(length);
                text
            }
        };
        let received = Received {
            properties: publish.properties,
            subscription_identifiers: publish.subscription_identifiers,
        };
        let is_plain =
            received.properties.is_empty() && received.subscription_identifiers.is_empty();
        let message = Arc::new(Message {
            text,
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            too_large: 0,
            received: (!is_plain).then(|| Box::new(received)),
        });
        let id = publish.id;
        Ok(Incoming::Publish { id, message })
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
