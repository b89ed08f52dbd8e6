//! \[5\] A message on its way from the thread that publishes it to its acknowledgment.
//!
//! The thread that publishes a small message encodes it into the command. Only the identifier is missing;
//! the loop writes it when it copies the packet to the output. So the loop does little for each message, finds
//! all of its bytes side by side, and frees no memory of another thread. Memory that another processor has just
//! written or allocated costs more than everything else: the first must be fetched, the second handed back.
//!
//! That packet is one of MQTT 3.1.1. MQTT 5 has one byte more in it, which the loop puts there.
//!
//! The loop encodes a large message, straight into the output, and one with properties of MQTT 5. Pure.

use std::fmt;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::mqtt::packet::{MessageProperties, PacketId, Publish, QoS};
use crate::mqtt::topic::Topic;
use crate::mqtt::v4::encode_publish;
use crate::mqtt::v5::{PublishParts, encode_publish5, packet_length5, properties_length5};

/// The largest packet, in bytes, that the publishing thread encodes. With a packet of this size, a command
/// and the channel's stamp beside it fill two cache lines. One byte states its remaining length.
const SMALL: usize = 95;

/// With MQTT 5 it has one byte more, and up to three for a topic alias.
pub(super) const SMALL_PACKET: usize = SMALL + 4;

/// Bytes before the topic name: packet type and flags, remaining length, length of the topic name.
const BEFORE_TOPIC: usize = 4;

/// The identifier in an encoded packet until the loop writes the real one.
const PLACEHOLDER: [u8; 2] = [0, 1];

/// The type of the packet, without flags.
const PUBLISH: u8 = 0x30;

/// The flag of a packet that was sent before [MQTT-3.3.1-1].
const DUP: u8 = 0b1000;

/// A [`Publish`] that is to be sent, perhaps more than once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Outgoing(Storage);

/// How a message is kept until it is acknowledged.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Storage {
    /// The encoded packet, and zeros behind it.
    Small([u8; SMALL]),
    /// With the time from which on it is not sent any more, if it was not sent before.
    Large(Publish, Option<Instant>),
}

impl From<Publish> for Outgoing {
    fn from(publish: Publish) -> Self {
        let (topic, payload) = (publish.topic.as_bytes(), &publish.payload);
        let after_topic: &[u8] = match publish.qos {
            QoS::AtMostOnce => &[],
            QoS::AtLeastOnce | QoS::ExactlyOnce => &PLACEHOLDER,
        };
        let topic_end = BEFORE_TOPIC + topic.len();
        let payload_begin = topic_end + after_topic.len();
        let length = payload_begin + payload.len();
        if length > SMALL || publish.properties.is_some() {
            return Outgoing(Storage::Large(publish, None));
        }
        let mut bytes = [0; SMALL];
        bytes[0] = PUBLISH | (publish.qos as u8) << 1 | u8::from(publish.retain);
        // Both are below 128, which one byte states.
        bytes[1] = (length - 2) as u8;
        bytes[3] = topic.len() as u8;
        bytes[BEFORE_TOPIC..topic_end].copy_from_slice(topic);
        bytes[topic_end..payload_begin].copy_from_slice(after_topic);
        bytes[payload_begin..length].copy_from_slice(payload);
        Outgoing(Storage::Small(bytes))
    }
}

impl From<Outgoing> for Publish {
    /// Returns the message as it was before it was encoded.
    fn from(outgoing: Outgoing) -> Self {
        match outgoing.0 {
            Storage::Large(publish, _) => publish,
            Storage::Small(bytes) => Publish {
                topic: Topic::from(topic(&bytes)),
                payload: Bytes::copy_from_slice(payload(&bytes)),
                qos: qos(&bytes),
                retain: bytes[0] & 1 == 1,
                properties: None,
            },
        }
    }
}

impl Outgoing {
    /// Appends PUBLISH to `out`, with an identifier unless it is QoS 0. The next call can use the memory of
    /// `scratch` again. `self` is unchanged afterwards: the codec takes a large message and gives it back.
    pub fn encode(
        &mut self,
        id: Option<PacketId>,
        dup: bool,
        scratch: &mut String,
        out: &mut BytesMut,
    ) {
        match &mut self.0 {
            Storage::Large(publish, _) => encode_publish(publish, id, dup, scratch, out),
            Storage::Small(bytes) => {
                let begin = out.len();
                out.extend_from_slice(packet(bytes));
                if dup {
                    out[begin] |= DUP;
                }
                if let Some(id) = id {
                    let at = begin + BEFORE_TOPIC + topic_length(bytes);
                    out[at..at + 2].copy_from_slice(&id.value().to_be_bytes());
                }
            }
        }
    }

    /// A message that is pushed now: its expiry counts from here.
    pub fn pushed(publish: Publish, now: Instant) -> Self {
        let expiry = publish.properties().and_then(|all| all.expiry);
        let outgoing = Outgoing::from(publish);
        match (outgoing.0, expiry) {
            (Storage::Large(publish, _), Some(seconds)) => {
                let expires = now.checked_add(Duration::from_secs(seconds.into()));
                Outgoing(Storage::Large(publish, expires))
            }
            (storage, _) => Outgoing(storage),
        }
    }

    /// Appends PUBLISH of MQTT 5 to `out`, with an identifier unless it is QoS 0. `alias` is the alias of its topic, if it
    /// has one, and whether the broker knows it.
    pub(super) fn encode5(
        &self,
        id: Option<PacketId>,
        dup: bool,
        expiry: Option<u32>,
        (alias, topic_is_known): (Option<NonZeroU16>, bool),
        out: &mut BytesMut,
    ) {
        if let (Storage::Small(bytes), None) = (&self.0, alias) {
            let begin = out.len();
            let (packet, split) = (packet(bytes), payload_begin(bytes));
            out.extend_from_slice(&packet[..split]);
            // With one byte more before the payload, for the length of the properties.
            out.extend_from_slice(&packet[split - 1..]);
            let written = &mut out[begin..];
            written[split] = 0;
            written[1] += 1;
            if dup {
                written[0] |= DUP;
            }
            if let Some(id) = id {
                written[split - 2..split].copy_from_slice(&id.value().to_be_bytes());
            }
            return;
        }
        let (payload, retain, properties) = match &self.0 {
            Storage::Small(bytes) => (payload(bytes), bytes[0] & 1 == 1, None),
            Storage::Large(publish, _) => (publish.payload(), publish.retain, publish.properties()),
        };
        let parts = PublishParts {
            topic: self.topic(),
            payload,
            qos: self.qos(),
            retain,
            dup,
            id,
            properties,
            expiry,
            alias,
            topic_is_known,
        };
        encode_publish5(&parts, out);
    }

    /// The bytes of its packet in MQTT 5, without an alias.
    pub(super) fn length5(&self) -> usize {
        let properties = match &self.0 {
            Storage::Small(_) => None,
            Storage::Large(publish, _) => publish.properties(),
        };
        let properties = properties_length5(properties.map_or(0, MessageProperties::bytes));
        let identifier = 2 * usize::from(self.qos() != QoS::AtMostOnce);
        packet_length5(2 + self.size() + identifier + properties)
    }

    /// At least [`Outgoing::length5`], in fewer steps.
    pub(super) fn most_length5(&self) -> usize {
        match &self.0 {
            Storage::Small(bytes) => packet(bytes).len() + 1,
            Storage::Large(publish, _) => {
                let properties = publish.properties().map_or(0, |all| all.most_bytes());
                // Type, the longest length, the lengths of the topic and of no properties, and the identifier.
                5 + 2 + 1 + 2 + self.size() + properties
            }
        }
    }

    /// Whether it is a small message of QoS 0 or 1: its packet has at most [`SMALL_PACKET`] bytes, and it waits for nothing
    /// but the room that any message needs.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.0, Storage::Small(_)) && self.qos() != QoS::ExactlyOnce
    }

    /// Whether the broker keeps it for later subscribers.
    pub fn retain(&self) -> bool {
        match &self.0 {
            Storage::Small(bytes) => bytes[0] & 1 == 1,
            Storage::Large(publish, _) => publish.retain,
        }
    }

    /// When it expires, if it does.
    pub fn expires(&self) -> Option<Instant> {
        match &self.0 {
            Storage::Small(_) => None,
            Storage::Large(_, expires) => *expires,
        }
    }

    /// Seconds that are left of its expiry, at least 1. It may be sent again after its expiry [MQTT-4.3.3-7]. They are never
    /// more than it was given: the loop's time may be a moment behind that of the thread that pushed it.
    pub(super) fn expiry(&self, now: Instant) -> Option<u32> {
        let Storage::Large(publish, Some(expires)) = &self.0 else {
            return None;
        };
        let left = expires.saturating_duration_since(now);
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        let given = publish.properties()?.expiry?;
        Some(
            u32::try_from(seconds)
                .map_or(given, |left| left.min(given))
                .max(1),
        )
    }

    /// Quality of service.
    pub fn qos(&self) -> QoS {
        match &self.0 {
            Storage::Small(bytes) => qos(bytes),
            Storage::Large(publish, _) => publish.qos,
        }
    }

    /// Bytes of topic and payload.
    pub fn size(&self) -> usize {
        match &self.0 {
            Storage::Small(bytes) => topic_length(bytes) + payload(bytes).len(),
            Storage::Large(publish, _) => publish.topic.len() + publish.payload.len(),
        }
    }

    /// Bytes that it counts while it waits: topic, payload, and the memory of its properties.
    pub(super) fn waiting_bytes(&self) -> usize {
        let properties = match &self.0 {
            Storage::Small(_) => None,
            Storage::Large(publish, _) => publish.properties(),
        };
        self.size() + properties.map_or(0, MessageProperties::memory)
    }

    /// Topic name.
    pub fn topic(&self) -> &str {
        match &self.0 {
            Storage::Small(bytes) => topic(bytes),
            Storage::Large(publish, _) => &publish.topic,
        }
    }
}

fn packet(bytes: &[u8; SMALL]) -> &[u8] {
    &bytes[..2 + usize::from(bytes[1])]
}

fn qos(bytes: &[u8; SMALL]) -> QoS {
    QoS::try_from(bytes[0] >> 1 & 0b11).unwrap_or_default()
}

fn topic_length(bytes: &[u8; SMALL]) -> usize {
    // The upper byte is 0, because the packet is small.
    usize::from(bytes[3])
}

fn topic(bytes: &[u8; SMALL]) -> &str {
    let name = &bytes[BEFORE_TOPIC..BEFORE_TOPIC + topic_length(bytes)];
    // These bytes are the text of a `Topic`, so the default is never used.
    std::str::from_utf8(name).unwrap_or_default()
}

fn payload_begin(bytes: &[u8; SMALL]) -> usize {
    let identifier = 2 * usize::from(qos(bytes) != QoS::AtMostOnce);
    BEFORE_TOPIC + topic_length(bytes) + identifier
}

fn payload(bytes: &[u8; SMALL]) -> &[u8] {
    &packet(bytes)[payload_begin(bytes)..]
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Publish::from(self.clone()), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_is_encoded_at_once_up_to_the_largest_small_size() {
        for (size, is_small) in [(SMALL - 9, true), (SMALL - 8, false)] {
            for level in [1, 2] {
                let qos = QoS::try_from(level).unwrap();
                let outgoing = Outgoing::from(Publish::new("a/b", qos, vec![9; size]));
                assert_eq!(matches!(outgoing.0, Storage::Small(_)), is_small);
            }
        }
    }

    proptest! {
        #[test]
        fn a_message_is_written_as_by_the_codec_and_comes_back_unchanged(
            name in "[a-z/ä]{1,40}",
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            level in 0_u8..3,
            retain in any::<bool>(),
            id in 1_u16..,
            dup in any::<bool>(),
        ) {
            let mut publish = Publish::new(name, QoS::try_from(level).unwrap(), bytes);
            publish.retain = retain;
            let id = PacketId::new(id).filter(|_| level > 0);
            let mut outgoing = Outgoing::from(publish.clone());
            let (mut written, mut expected) = (BytesMut::from("before"), BytesMut::from("before"));
            let mut scratch = String::new();
            encode_publish(&mut publish, id, dup, &mut scratch, &mut expected);
            for _ in 0..2 {
                written.truncate("before".len());
                outgoing.encode(id, dup, &mut scratch, &mut written);
                prop_assert_eq!(&written, &expected);
            }
            let is_small = matches!(outgoing.0, Storage::Small(_));
            prop_assert_eq!(is_small, written.len() - "before".len() <= SMALL);
            prop_assert_eq!(outgoing.qos(), publish.qos);
            prop_assert_eq!(outgoing.topic(), &*publish.topic);
            prop_assert_eq!(outgoing.size(), publish.topic.len() + publish.payload.len());
            prop_assert_eq!(Publish::from(outgoing), publish);
        }
    }

    #[test]
    fn a_message_is_not_sent_with_more_seconds_than_it_was_given() {
        let now = Instant::now();
        for (waited, left) in [
            (-1_i64, 5),
            (0, 5),
            (1, 5),
            (1_000, 4),
            (4_999, 1),
            (9_000, 1),
        ] {
            let properties = MessageProperties {
                expiry: Some(5),
                ..MessageProperties::default()
            };
            let publish = Publish::new("t", QoS::AtLeastOnce, "x").with_properties(properties);
            let moment = Duration::from_millis(waited.unsigned_abs());
            let (pushed, sent) = match waited < 0 {
                true => (now + moment, now),
                false => (now, now + moment),
            };
            let outgoing = Outgoing::pushed(publish, pushed);
            assert_eq!(outgoing.expiry(sent), Some(left), "{waited}");
        }
    }

    #[test]
    fn the_length_in_mqtt_5_is_that_of_the_bytes() {
        let properties = MessageProperties {
            payload_is_text: true,
            expiry: Some(7),
            content_type: Some("text/plain".to_owned()),
            response_topic: Some("answers".to_owned()),
            correlation_data: Some(Bytes::from_static(&[0; 200])),
            user_properties: vec![("a".to_owned(), "b".to_owned())],
        };
        let sizes = [
            0, 1, 80, 90, 119, 120, 121, 122, 16_375, 16_376, 16_377, 16_378, 16_379,
        ];
        for (level, size) in (0..3).flat_map(|level| sizes.map(|size| (level, size))) {
            for properties in [MessageProperties::default(), properties.clone()] {
                let qos = QoS::try_from(level).unwrap();
                let publish = Publish::new("t", qos, vec![9; size]);
                let publish = publish.with_properties(properties);
                let outgoing = Outgoing::from(publish);
                let id = PacketId::new(1).filter(|_| level > 0);
                let mut written = BytesMut::new();
                outgoing.encode5(id, false, Some(7), (None, false), &mut written);
                assert_eq!(outgoing.length5(), written.len());
                assert!(outgoing.most_length5() >= written.len());
            }
        }
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let payload = Bytes::from(vec![7; SMALL]);
        let place = payload.as_ptr();
        let outgoing = Outgoing::from(Publish::new("t", QoS::AtLeastOnce, payload));
        assert_eq!(Publish::from(outgoing).payload.as_ptr(), place);
    }
}
