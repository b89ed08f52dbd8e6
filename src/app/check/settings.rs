//! The settings of the command check, and the message that follows from them.
//!
//! Pure; the main thread uses it, once.

use std::time::Duration;

use mqtt_connection_sharing::QoS;

use crate::app::checks::Sent;

/// Bytes that the payload of the one message may have.
const PAYLOAD_ROOM: usize = 64;

/// The settings of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckSettings {
    /// Topic to subscribe and to publish one message to; `None`: neither is tried.
    pub(crate) topic: Option<String>,
    /// Quality of service of message and subscription.
    pub(crate) qos: QoS,
    /// How long to try again until the broker accepts a connection; zero = not at all.
    pub(crate) wait: Duration,
    /// A word that no other run has, for the payload.
    pub(crate) run: String,
    /// Whether the client identifier was made up for this run, so that nobody else connects under it.
    pub(crate) made_up_id: bool,
    /// Remarks on settings, one line each.
    pub(crate) remarks: Vec<String>,
}

impl CheckSettings {
    /// The payload of the one message.
    pub(crate) fn payload(&self) -> String {
        format!("mqtt-connection-sharing check {}", self.run)
    }

    /// The message that will be sent. Without a topic the limits of a broker are held against the shortest one.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            topic: self.topic.clone().unwrap_or_else(|| "a".to_owned()),
            named: ("topic", "topic"),
            payload_size: PAYLOAD_ROOM,
            qos: self.qos,
            expiry: None,
            comes_back: true,
        }
    }
}
