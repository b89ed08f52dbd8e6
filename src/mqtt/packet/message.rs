//! \[5\] A message as it came from the broker.
//!
//! It decides nothing, and cannot be changed. Pure. The loop's thread makes it, and any thread reads it.

use std::fmt;

use bytes::Bytes;

use super::QoS;

/// A message that came from the broker.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Message {
    pub(in crate::mqtt) topic: String,
    pub(in crate::mqtt) payload: Bytes,
    pub(in crate::mqtt) qos: QoS,
    pub(in crate::mqtt) retain: bool,
    pub(in crate::mqtt) dup: bool,
    /// The size of its packet if that is above the limit, and the payload was read away; 0 otherwise.
    pub(in crate::mqtt) too_large: usize,
}

impl Message {
    /// A message as the broker would send it, neither retained nor repeated. It is meant for tests of
    /// code that handles messages.
    pub fn new(topic: impl Into<String>, qos: QoS, payload: impl Into<Bytes>) -> Self {
        Message {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain: false,
            dup: false,
            too_large: 0,
        }
    }

    /// The topic that it was published to.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Application message.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The application message, to keep longer than this [`Message`]. The bytes are shared, not copied.
    pub fn to_payload(&self) -> Bytes {
        self.payload.clone()
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

    /// The size of its packet if that was too large, so that only the rest of it is here.
    pub(crate) fn too_large(&self) -> Option<usize> {
        Some(self.too_large).filter(|size| *size > 0)
    }

    /// Bytes of its topic and payload.
    pub(crate) fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("dup", &self.dup)
            .finish()
    }
}
