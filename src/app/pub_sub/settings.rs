//! The settings of the commands pub and sub.
//!
//! Pure; the main thread uses it, once.

use std::path::PathBuf;
use std::time::Duration;

use mqtt_connection_sharing::{MessageProperties, QoS, SubscribeOptions};

use super::form::MessageForm;
use crate::app::checks::Sent;

/// The settings of pub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PubSettings {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    /// Whether the broker keeps the message for later subscribers.
    pub(crate) retain: bool,
    /// The additions of MQTT 5.
    pub(crate) properties: MessageProperties,
    pub(crate) messages: MessageSource,
    /// Threads that publish; at least 1.
    pub(crate) threads: usize,
    /// Whether the client identifier was made up for this run, so that nobody finds its session again.
    pub(crate) made_up_id: bool,
}

/// The place where the messages are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MessageSource {
    /// This is the one message.
    Text(String),
    /// A file, or standard input. With `lines` each line is a message, else the whole is one.
    Read { file: Option<PathBuf>, lines: bool },
}

/// The settings of sub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubSettings {
    /// At least one.
    pub(crate) filters: Vec<String>,
    pub(crate) qos: QoS,
    /// The additions of MQTT 5.
    pub(crate) options: SubscribeOptions,
    /// Messages after which it ends; 0 = it does not.
    pub(crate) count: u64,
    /// Time after which it ends; zero = it does not.
    pub(crate) within: Duration,
    pub(crate) form: MessageForm,
    /// Whether the client identifier was made up for this run, so that nobody finds its session again.
    pub(crate) made_up_id: bool,
}

impl PubSettings {
    /// The message that will be sent, as far as it is known before anything is read.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            topic: self.topic.clone(),
            named: ("topic", "message"),
            payload_size: match &self.messages {
                MessageSource::Text(text) => text.len(),
                MessageSource::Read { .. } => 0,
            },
            qos: self.qos,
            expiry: self.properties.expiry,
            comes_back: false,
        }
    }
}
