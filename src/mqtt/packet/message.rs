//! \[5\] A message as it came from the broker.
//!
//! It decides nothing, and nobody changes it. A short one has its topic and payload in place: it costs one allocation,
//! and keeps no other memory alive. Pure. The loop's thread makes it, and any thread reads it.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

use super::{MessageProperties, Publish, QoS};
use crate::mqtt::topic::check_topic;

/// The most bytes that topic and payload have together if they are kept in place. So many make a message and the two
/// counts of an `Arc` fit into two cache lines, together with the eight bytes that glibc keeps of a piece of memory. Of
/// such pieces glibc takes back any number without a lock. For each larger one the thread that drops the message would
/// wait for the loop's thread, which needs memory for the next message, and the other way round.
const SHORT: usize = 85;

/// A message that came from the broker.
#[derive(Clone)]
pub struct Message {
    pub(in crate::mqtt) text: Text,
    pub(in crate::mqtt) qos: QoS,
    pub(in crate::mqtt) retain: bool,
    pub(in crate::mqtt) dup: bool,
    /// The size of its packet if that is above the limit, and the payload was read away; 0 otherwise.
    pub(in crate::mqtt) too_large: u32,
    /// `None` if MQTT 5 added nothing to it.
    pub(in crate::mqtt) received: Option<Box<Received>>,
}

/// What MQTT 5 adds to a message that came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Received {
    /// The additions of its publisher. The expiry is what the broker left of it.
    pub properties: MessageProperties,
    /// The identifiers of the subscriptions for which it came ([`SubscribeOptions::identifier`]).
    ///
    /// [`SubscribeOptions::identifier`]: super::SubscribeOptions::identifier
    pub subscription_identifiers: Vec<u32>,
}

impl Received {
    /// The memory that it takes.
    fn memory(&self) -> usize {
        size_of::<Received>() - size_of::<MessageProperties>()
            + self.properties.memory()
            + self.subscription_identifiers.capacity() * size_of::<u32>()
    }
}

/// A topic, which is valid UTF-8, and a payload behind it.
#[derive(Clone)]
pub(in crate::mqtt) enum Text {
    /// So many bytes of each.
    Short {
        topic: u8,
        payload: u8,
        bytes: [u8; SHORT],
    },
    /// There may be something in between. The payload goes to the end.
    Long {
        topic: usize,
        payload_begin: usize,
        bytes: Bytes,
    },
}

impl Text {
    /// In memory of its own. The topic was checked.
    pub(in crate::mqtt) fn copied(topic: &[u8], payload: &[u8]) -> Self {
        let length = topic.len() + payload.len();
        if length > SHORT {
            return Text::Long {
                topic: topic.len(),
                payload_begin: topic.len(),
                bytes: [topic, payload].concat().into(),
            };
        }
        let mut bytes = [0; SHORT];
        bytes[..topic.len()].copy_from_slice(topic);
        bytes[topic.len()..length].copy_from_slice(payload);
        Text::Short {
            topic: topic.len() as u8,
            payload: payload.len() as u8,
            bytes,
        }
    }
}

impl Message {
    /// A message as the broker would send it, neither retained nor repeated. It is meant for tests of
    /// code that handles messages.
    pub fn new(topic: impl Into<String>, qos: QoS, payload: impl Into<Bytes>) -> Self {
        Message::copied(topic.into().as_bytes(), qos, &payload.into())
    }

    /// The same message as a publisher of MQTT 5 has added this to it. It is meant for tests of code that handles messages.
    #[must_use]
    pub fn with_properties(mut self, properties: MessageProperties) -> Self {
        let received = Received {
            properties,
            ..self.received.map_or_else(Received::default, |it| *it)
        };
        self.received = (received != Received::default()).then(|| Box::new(received));
        self
    }

    /// A message with bytes of its own, neither retained nor repeated. The topic was checked.
    pub(in crate::mqtt) fn copied(topic: &[u8], qos: QoS, payload: &[u8]) -> Self {
        Message {
            text: Text::copied(topic, payload),
            qos,
            retain: false,
            dup: false,
            too_large: 0,
            received: None,
        }
    }

    /// The topic that it was published to.
    pub fn topic(&self) -> &str {
        // It was a `str`, or checked, when the message was made.
        std::str::from_utf8(self.topic_bytes()).unwrap_or_default()
    }

    /// The topic, where nothing depends on its being a text.
    pub(crate) fn topic_bytes(&self) -> &[u8] {
        match &self.text {
            Text::Short { topic, bytes, .. } => &bytes[..usize::from(*topic)],
            Text::Long { topic, bytes, .. } => &bytes[..*topic],
        }
    }

    /// Application message.
    pub fn payload(&self) -> &[u8] {
        match &self.text {
            Text::Short {
                topic,
                payload,
                bytes,
            } => &bytes[usize::from(*topic)..][..usize::from(*payload)],
            Text::Long {
                payload_begin,
                bytes,
                ..
            } => &bytes[*payload_begin..],
        }
    }

    /// The application message, to keep longer than this [`Message`]. A short one is copied. The bytes of any other are
    /// shared.
    pub fn to_payload(&self) -> Bytes {
        match &self.text {
            Text::Short { .. } => Bytes::copy_from_slice(self.payload()),
            Text::Long {
                payload_begin,
                bytes,
                ..
            } => bytes.slice(*payload_begin..),
        }
    }

    /// Quality of service at which it arrived.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether it was a retained message.
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// Whether the broker marked it as sent before [MQTT-3.3.1-1].
    pub fn dup(&self) -> bool {
        self.dup
    }

    /// What MQTT 5 adds; `None` where it adds nothing, as always with MQTT 3.1.1.
    pub fn received(&self) -> Option<&Received> {
        self.received.as_deref()
    }

    /// The response to this message, if it asks for one: to its response topic, with its correlation data, and at its
    /// quality of service [MQTT 5, 4.10.1]. `None` for a message without a response topic, and for one whose publisher gave
    /// a topic that nothing can be published to, such as one with a wildcard [MQTT-3.3.2-14].
    pub fn response(&self, payload: impl Into<Bytes>) -> Option<Publish> {
        let asked = &self.received()?.properties;
        let topic = asked.response_topic.as_deref()?;
        check_topic(topic).ok()?;
        let properties = MessageProperties {
            correlation_data: asked.correlation_data.clone(),
            ..MessageProperties::default()
        };
        Some(Publish::new(topic, self.qos, payload).with_properties(properties))
    }

    /// The size of its packet if that was too large, so that only the rest of it is here.
    pub(crate) fn too_large(&self) -> Option<usize> {
        Some(self.too_large as usize).filter(|size| *size > 0)
    }

    /// Bytes of its topic and payload.
    pub(crate) fn size(&self) -> usize {
        match &self.text {
            Text::Short { topic, payload, .. } => usize::from(*topic) + usize::from(*payload),
            Text::Long {
                topic,
                payload_begin,
                bytes,
            } => topic + bytes.len() - payload_begin,
        }
    }

    /// Bytes that it counts while it waits: topic and payload, and the memory of what MQTT 5 adds. A user property of five
    /// bytes in a packet takes some fifty in memory.
    pub(in crate::mqtt) fn waiting_bytes(&self) -> usize {
        self.size() + self.received().map_or(0, Received::memory)
    }

    /// All that makes two messages the same.
    fn parts(&self) -> (&[u8], &[u8], QoS, bool, bool, u32, Option<&Received>) {
        let Message {
            qos,
            retain,
            dup,
            too_large,
            ..
        } = *self;
        let received = self.received();
        (
            self.topic_bytes(),
            self.payload(),
            qos,
            retain,
            dup,
            too_large,
            received,
        )
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Message {}

impl Hash for Message {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("payload_bytes", &self.payload().len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_message_is_given_back_without_a_lock() {
        let counts = 2 * size_of::<usize>();
        let kept_by_glibc = size_of::<usize>();
        assert!(size_of::<Message>() + counts + kept_by_glibc <= 2 * 64);
    }

    #[test]
    fn topic_and_payload_are_there_whatever_their_lengths() {
        for topic in ["t", "ü/täglich", &"x".repeat(SHORT), &"y".repeat(65_535)] {
            for length in [0, 1, SHORT - 1, SHORT, 300] {
                let payload = vec![7; length];
                let message = Message::new(topic, QoS::AtLeastOnce, payload.clone());
                assert_eq!((message.topic(), message.payload()), (topic, &payload[..]));
                assert_eq!(message.to_payload(), payload);
                assert_eq!(message.size(), topic.len() + length);
                assert_eq!(message.clone(), message);
            }
        }
    }

    #[test]
    fn the_memory_of_user_properties_counts_while_a_message_waits() {
        let plain = Message::new("t", QoS::AtLeastOnce, "x");
        assert_eq!(plain.waiting_bytes(), 2);
        let user_properties = vec![("a".to_owned(), String::new()); 1_000];
        let properties = MessageProperties {
            user_properties,
            content_type: Some("c".repeat(100)),
            ..MessageProperties::default()
        };
        let waiting = plain.with_properties(properties).waiting_bytes();
        let pairs = 1_000 * (size_of::<(String, String)>() + 1);
        assert!((pairs + 100..2 * pairs).contains(&waiting), "{waiting}");
    }

    #[test]
    fn a_response_goes_to_the_topic_that_was_asked_for_with_the_correlation_data() {
        let request = Message::new("t", QoS::AtLeastOnce, "7");
        assert_eq!(request.response("49"), None);
        let mut properties = MessageProperties {
            content_type: Some("text/plain".to_owned()),
            response_topic: Some("r/1".to_owned()),
            ..MessageProperties::default()
        };
        let plain = request.clone().with_properties(properties.clone());
        let expected = Publish::new("r/1", QoS::AtLeastOnce, "49");
        assert_eq!(plain.response("49"), Some(expected.clone()));
        properties.correlation_data = Some(Bytes::from_static(&[0, 255]));
        let correlation = MessageProperties {
            correlation_data: properties.correlation_data.clone(),
            ..MessageProperties::default()
        };
        let response = request.with_properties(properties).response("49");
        assert_eq!(response, Some(expected.with_properties(correlation)));
    }

    #[test]
    fn only_the_parts_of_a_message_make_it_the_same() {
        let packet = Bytes::from_static(b"topic\x00\x07payload");
        let mut shared = Message::new("", QoS::AtLeastOnce, "");
        shared.text = Text::Long {
            topic: 5,
            payload_begin: 7,
            bytes: packet,
        };
        let copied = Message::copied(b"topic", QoS::AtLeastOnce, b"payload");
        assert_eq!(shared, copied);
        assert_eq!(shared.size(), copied.size());
        let other = Message::copied(b"topicp", QoS::AtLeastOnce, b"ayload");
        assert_ne!(copied, other);
    }
}
