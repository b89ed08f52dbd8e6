//! \[5\] The version of a link: which of the two codecs reads and writes its packets. Pure; the loop's thread.

use std::num::NonZeroU16;

use bytes::BytesMut;

use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{Ack, Connect, Filter, Incoming, PacketId, ProtocolError, ReasonCode};
use crate::mqtt::v4;
use crate::mqtt::v5::{self, SentAlias, SentAliases};

/// Bytes of the properties that state a topic alias.
const ALIAS_BYTES: usize = 3;

/// The decoder of one link.
#[derive(Debug, Clone)]
pub enum LinkDecoder {
    /// Of MQTT 3.1.1.
    V4(v4::Decoder),
    /// Of MQTT 5.
    V5(v5::Decoder5),
}

impl LinkDecoder {
    /// The bytes of a new link will come.
    pub fn reset(&mut self) {
        match self {
            LinkDecoder::V4(decoder) => decoder.reset(),
            LinkDecoder::V5(decoder) => decoder.reset(),
        }
    }

    /// Takes the first packet out of `buffer`. Returns `None` while the packet is not complete.
    ///
    /// # Errors
    /// As the decoder of the version.
    #[inline]
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, ProtocolError> {
        match self {
            LinkDecoder::V4(decoder) => decoder.decode(buffer),
            LinkDecoder::V5(decoder) => decoder.decode(buffer),
        }
    }

    /// How many bytes were taken of a message that is being read away.
    pub fn skipped(&self) -> usize {
        match self {
            LinkDecoder::V4(decoder) => decoder.skipped(),
            LinkDecoder::V5(decoder) => decoder.skipped(),
        }
    }
}

/// The encoder of one link. All functions append to `out`.
#[derive(Debug, Clone, Default)]
pub(super) enum Encoder {
    /// Of MQTT 3.1.1.
    #[default]
    V4,
    /// Of MQTT 5.
    V5 {
        aliases: SentAliases,
        /// The largest packet that the broker takes.
        largest: usize,
        /// Whether it takes subscription identifiers.
        takes_identifiers: bool,
    },
}

impl Encoder {
    /// The encoder of a new link, and CONNECT.
    pub(super) fn connect(connect: &Connect<'_>, out: &mut BytesMut) -> Self {
        let Some(terms) = connect.terms else {
            v4::encode_connect(connect, out);
            return Encoder::V4;
        };
        v5::encode_connect5(connect, terms, out);
        Encoder::V5 {
            aliases: SentAliases::default(),
            largest: usize::MAX,
            takes_identifiers: true,
        }
    }

    /// CONNACK has stated what the broker takes.
    pub(super) fn agree(&mut self, most_aliases: u16, most_bytes: usize, identifiers: bool) {
        if let Encoder::V5 {
            aliases,
            largest,
            takes_identifiers,
        } = self
        {
            *aliases = SentAliases::new(most_aliases);
            *largest = most_bytes;
            *takes_identifiers = identifiers;
        }
    }

    /// PUBLISH.
    #[inline]
    pub(super) fn publish(
        &mut self,
        message: &mut Outgoing,
        id: Option<PacketId>,
        dup: bool,
        expiry: Option<u32>,
        scratch: &mut String,
        out: &mut BytesMut,
    ) {
        match self {
            Encoder::V4 => message.encode(id, dup, scratch, out),
            Encoder::V5 {
                aliases, largest, ..
            } => {
                // A message that comes again carries its topic.
                let may_have = !dup && aliases.are_allowed();
                let alias = if may_have && message.most_length5() + ALIAS_BYTES <= *largest {
                    aliases.of(message.topic())
                } else {
                    None
                };
                let known = alias.is_some_and(|alias| alias.topic_is_known);
                let alias: Option<NonZeroU16> = alias.map(|SentAlias { alias, .. }| alias);
                message.encode5(id, dup, expiry, (alias, known), out);
            }
        }
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub(super) fn acknowledge(&self, ack: Ack, id: PacketId, code: ReasonCode, out: &mut BytesMut) {
        match self {
            Encoder::V4 => v4::encode_ack(ack, id, out),
            Encoder::V5 { .. } => v5::encode_ack5(ack, id, code, out),
        }
    }

    /// SUBSCRIBE. All filters have the same identifier.
    pub(super) fn subscribe(&self, id: PacketId, filters: &[Filter], out: &mut BytesMut) {
        match self {
            Encoder::V4 => v4::encode_subscribe(id, filters, out),
            Encoder::V5 {
                takes_identifiers, ..
            } => {
                let identifier = filters.first().and_then(|first| first.options.identifier);
                let identifier = identifier.filter(|_| *takes_identifiers);
                v5::encode_subscribe5(id, filters, identifier, out);
            }
        }
    }

    /// UNSUBSCRIBE.
    pub(super) fn unsubscribe(&self, id: PacketId, filters: &[String], out: &mut BytesMut) {
        match self {
            Encoder::V4 => v4::encode_unsubscribe(id, filters, out),
            Encoder::V5 { .. } => v5::encode_unsubscribe5(id, filters, out),
        }
    }

    /// DISCONNECT.
    pub(super) fn disconnect(&self, code: ReasonCode, out: &mut BytesMut) {
        match self {
            Encoder::V4 => v4::encode_disconnect(out),
            Encoder::V5 { .. } => v5::encode_disconnect5(code, out),
        }
    }
}
