//! The settings of the command pub.
//!
//! Pure; the main thread uses it, once.

use std::path::PathBuf;

use mqtt_connection_sharing::QoS;

use crate::app::checks::Sent;

/// The settings of pub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PubSettings {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    /// Whether the broker keeps the message for later subscribers.
    pub(crate) retain: bool,
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
            comes_back: false,
        }
    }
}
