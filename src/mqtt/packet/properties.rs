//! The additions of a publisher to its message, in PUBLISH and in a will [MQTT 5, 3.3.2.3, 3.1.3.2], and those of a
//! server to its answers. Pure.

use bytes::Bytes;

use crate::mqtt::topic::{InvalidName, check_string, check_topic};

/// The additions of a publisher to its message. The server hands all of it on, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MessageProperties {
    /// Whether the payload is UTF-8 text [MQTT 5, 3.3.2.3.2]. A message whose payload is not is handed back. In a message that
    /// came it is what the publisher wrote, and brokers need not check it.
    pub payload_is_text: bool,
    /// Seconds after which the server drops the message if it could not hand it on. In a message that came: the rest
    /// of them [MQTT 5, 3.3.2.3.3].
    pub expiry: Option<u32>,
    /// The type of the payload, such as `application/json` [MQTT 5, 3.3.2.3.9].
    pub content_type: Option<String>,
    /// The topic for an answer: a topic name without wildcards [MQTT-3.3.2-14]. In a message that came it is what the
    /// publisher wrote, and brokers need not check it: `Message::response` does.
    pub response_topic: Option<String>,
    /// Bytes that an answer has to carry, at most 65,535 of any kind [MQTT 5, 3.3.2.3.6].
    pub correlation_data: Option<Bytes>,
    /// Pairs of a name and a value; a name may come more than once [MQTT 5, 3.3.2.3.7].
    pub user_properties: Vec<(String, String)>,
}

impl MessageProperties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == MessageProperties::default()
    }

    /// The bytes that they take in a packet, behind their length.
    pub(in crate::mqtt) fn bytes(&self) -> usize {
        // Each property has one byte for its number, and each text two for its length.
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| 3 + text.len());
        let pairs = self.user_properties.iter();
        let pairs = pairs.map(|(name, value)| 5 + name.len() + value.len());
        let data = self.correlation_data.as_ref();
        let rest = 2 * usize::from(self.payload_is_text) + 5 * usize::from(self.expiry.is_some());
        rest + text(&self.content_type)
            + text(&self.response_topic)
            + data.map_or(0, |data| 3 + data.len())
            + pairs.sum::<usize>()
    }

    /// The memory that they take.
    pub(in crate::mqtt) fn memory(&self) -> usize {
        let texts = [&self.content_type, &self.response_topic];
        let texts = texts.into_iter().flatten().map(String::capacity);
        let pairs = self.user_properties.iter();
        let pairs = pairs.map(|(name, value)| name.capacity() + value.capacity());
        size_of::<MessageProperties>()
            + texts.sum::<usize>()
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
            + pairs.sum::<usize>()
            + self.user_properties.capacity() * size_of::<(String, String)>()
    }

    /// At least as many bytes as they take in a packet, their length included.
    pub(in crate::mqtt) fn most_bytes(&self) -> usize {
        4 + self.bytes()
    }

    /// Says what makes them impossible to send, if anything.
    ///
    /// # Errors
    /// The rule that a text breaks. [`InvalidName::TooLong`] for correlation data of more than 65,535 bytes.
    pub fn check(&self) -> Result<(), InvalidName> {
        self.check_fields().map_err(|(_, problem)| problem)
    }

    /// Says whether the payload is what they say.
    pub(in crate::mqtt) fn check_payload(&self, payload: &[u8]) -> Result<(), InvalidName> {
        match self.payload_is_text && std::str::from_utf8(payload).is_err() {
            true => Err(InvalidName::PayloadNotText),
            false => Ok(()),
        }
    }

    /// As [`MessageProperties::check`], with the name of the field.
    pub(crate) fn check_fields(&self) -> Result<(), (&'static str, InvalidName)> {
        let of = |field| move |problem| (field, problem);
        let topic = self.response_topic.as_deref();
        topic
            .map_or(Ok(()), check_topic)
            .map_err(of("response_topic"))?;
        let content_type = self.content_type.as_deref();
        content_type
            .map_or(Ok(()), check_string)
            .map_err(of("content_type"))?;
        let mut texts = self.user_properties.iter();
        let checked = texts.try_for_each(|(name, value)| {
            check_string(name)?;
            check_string(value)
        });
        checked.map_err(of("user_properties"))?;
        match &self.correlation_data {
            Some(data) if data.len() > usize::from(u16::MAX) => {
                Err(("correlation_data", InvalidName::TooLong))
            }
            _ => Ok(()),
        }
    }
}

/// The additions of a server to an answer, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Details {
    /// The reason in words.
    pub reason: Option<String>,
    /// Pairs of a name and a value, in their order; a name may come more than once.
    pub user_properties: Vec<(String, String)>,
}

impl Details {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Details::default()
    }
}
