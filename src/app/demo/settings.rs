//! The settings of the demo, and the largest message that follows from them.
//!
//! Pure; the main thread uses it, once.

use std::time::Duration;

use mqtt_connection_sharing::QoS;

use crate::app::checks::Sent;

/// Bytes that a message may have when nothing pads it.
const TEXT_ROOM: usize = 64;

/// The settings of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DemoSettings {
    /// Times it runs; 0 = until stopped.
    pub(crate) iterations: u64,
    /// Messages in each iteration, at least 1, shared out between both publishers.
    pub(crate) publish_count: u64,
    /// Pause of each publisher between two messages; zero = none.
    pub(crate) publish_delay: Duration,
    /// Pause between two iterations; zero = none.
    pub(crate) iteration_delay: Duration,
    /// Bytes that each message is padded to; 0 = just its text.
    pub(crate) payload_size: usize,
    /// Quality of service of messages and subscription.
    pub(crate) qos: QoS,
    /// Topics are `<prefix>/sync/<i>` and `<prefix>/async/<i>`, the filter is `<prefix>/+/+`. Has no
    /// wildcard, no `$` at its beginning, no slash at its end.
    pub(crate) topic_prefix: String,
    /// Messages that may wait for the subscriber, at least 1.
    pub(crate) inbox: usize,
    /// Whether the client identifier was made up for this run, so that nobody finds its session again.
    pub(crate) made_up_id: bool,
}

/// The largest inbox that is not asked for. Its memory is allocated at once, some 32 bytes for each message.
const LARGEST_INBOX: usize = 100_000;

impl DemoSettings {
    /// Places that the inbox has for QoS 0 unless told otherwise: one for each message, since nobody sends one
    /// again that finds no room. None for the other qualities of service, which wait.
    pub(crate) fn room_for_qos_0(&self) -> usize {
        match self.qos {
            QoS::AtMostOnce => usize::try_from(self.publish_count)
                .map_or(LARGEST_INBOX, |all| all.min(LARGEST_INBOX)),
            _ => 0,
        }
    }

    /// The largest message that it will send.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            topic: format!("{}/async/{}", self.topic_prefix, self.publish_count),
            named: ("topic-prefix", "payload-size"),
            payload_size: self.payload_size.max(TEXT_ROOM),
            qos: self.qos,
            expiry: None,
            comes_back: true,
        }
    }
}
