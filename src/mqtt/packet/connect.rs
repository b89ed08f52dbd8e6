//! \[5\] What CONNECT says: who connects, with which will. Pure data.

use std::fmt;

use bytes::Bytes;

use super::{MessageProperties, QoS};
use crate::mqtt::topic::{InvalidName, check_topic};
use crate::secret::Secret;

/// The fields of CONNECT.
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    /// Client identifier.
    pub client_id: &'a str,
    /// Whether the broker is to start a new session.
    pub clean_session: bool,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The message that the broker publishes when the link ends without DISCONNECT.
    pub last_will: Option<&'a Will>,
    /// User name and password.
    pub credentials: Option<&'a Credentials>,
    /// What MQTT 5 adds; `None` for MQTT 3.1.1.
    pub terms: Option<&'a ConnectTerms>,
}

/// What CONNECT of MQTT 5 says beyond that of 3.1.1 [MQTT 5, 3.1.2.11].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectTerms {
    /// Seconds that the session outlives the connection; `u32::MAX` for ever.
    pub session_expiry: u32,
    /// How many messages of QoS 1 and 2 may wait for our acknowledgment, at least 1.
    pub receive_maximum: u16,
    /// The largest packet, in bytes, that we take; `None` without a limit.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias that we take; 0 allows none.
    pub topic_alias_maximum: u16,
    /// Topic aliases that we use at most; fewer if the broker allows fewer. CONNECT does not carry it.
    pub topic_aliases: u16,
    /// Pairs of a name and a value.
    pub user_properties: Vec<(String, String)>,
}

impl Default for ConnectTerms {
    /// The values that hold where CONNECT says nothing.
    fn default() -> Self {
        ConnectTerms {
            session_expiry: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            topic_aliases: 0,
            user_properties: Vec::new(),
        }
    }
}

/// A last will: the message that the broker publishes for this client when the connection ends without
/// DISCONNECT [MQTT-3.1.2-8], because the program died, the network failed, or one side broke the protocol.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Will {
    /// Topic name: no wildcards, 1 to 65,535 bytes.
    pub topic: String,
    /// Application message; any bytes, may be empty, at most [`Will::LARGEST_PAYLOAD`].
    pub payload: Bytes,
    /// Quality of service at which the broker publishes it.
    pub qos: QoS,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// What MQTT 5 adds. A connection of MQTT 3.1.1 leaves it out.
    pub properties: WillProperties,
}

impl Will {
    /// The largest payload of a will, in bytes. CONNECT states its length in two bytes
    /// [MQTT 3.1.1, 3.1.3.3].
    pub const LARGEST_PAYLOAD: usize = u16::MAX as usize;

    /// A will that the broker is not to retain.
    pub fn new(topic: impl Into<String>, qos: QoS, payload: impl Into<Bytes>) -> Self {
        Will {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain: false,
            properties: WillProperties::default(),
        }
    }

    /// Says what makes it impossible to send, if anything.
    ///
    /// # Errors
    /// An invalid topic name, invalid properties, or a payload that is not the text that they say or that CONNECT cannot carry.
    pub fn check(&self) -> Result<(), InvalidName> {
        check_topic(&self.topic)?;
        self.properties.message.check()?;
        self.properties.message.check_payload(&self.payload)?;
        if self.payload.len() > Will::LARGEST_PAYLOAD {
            return Err(InvalidName::WillTooLarge);
        }
        Ok(())
    }
}

impl fmt::Debug for Will {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}

/// User name and password of CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name, at least one byte.
    pub username: String,
    /// Password, up to 65,535 bytes of any kind. CONNECT carries no password if this is empty.
    pub password: Secret,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What MQTT 5 adds to a will.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct WillProperties {
    /// Seconds after the end of the connection before it is published; 0 at once [MQTT 5, 3.1.3.2.2].
    pub delay: u32,
    /// As of any message.
    pub message: MessageProperties,
}
