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
        }
    }

    /// Says what makes it impossible to send, if anything.
    ///
    /// # Errors
    /// An invalid topic name, or a payload that CONNECT cannot carry.
    pub fn check(&self) -> Result<(), InvalidName> {
        check_topic(&self.topic)?;
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
    /// Seconds after the end of the connection before it is published; 0 at once.
    pub delay: u32,
    /// As of any message.
    pub message: MessageProperties,
}
