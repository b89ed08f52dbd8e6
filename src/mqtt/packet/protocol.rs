//! \[5\] The versions of MQTT. Pure data.

use std::fmt;
use std::str::FromStr;

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// MQTT 3.1.1.
    #[default]
    V3_1_1,
    /// MQTT 5.
    V5,
}

impl FromStr for Protocol {
    /// The words that are possible.
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "3.1.1" => Ok(Protocol::V3_1_1),
            "5" => Ok(Protocol::V5),
            _ => Err("3.1.1 or 5"),
        }
    }
}

/// The number, as it is read: `3.1.1` or `5`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::V3_1_1 => "3.1.1",
            Protocol::V5 => "5",
        })
    }
}

/// A limit of the broker, which it states in CONNACK of MQTT 5 [MQTT 5, 3.2.2.3].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BrokerLimit {
    /// Maximum QoS: the message has a higher one.
    MaximumQos,
    /// Retain available: the broker keeps no retained messages.
    RetainAvailable,
    /// Maximum packet size: the packet would be larger.
    MaximumPacketSize,
    /// Wildcard subscription available: the broker takes no filters with wildcards.
    WildcardAvailable,
    /// Shared subscription available: the broker takes no shared subscriptions.
    SharedAvailable,
}

impl fmt::Display for BrokerLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BrokerLimit::MaximumQos => "a QoS above the broker's maximum",
            BrokerLimit::RetainAvailable => "the broker keeps no retained messages",
            BrokerLimit::MaximumPacketSize => "a packet above the broker's maximum packet size",
            BrokerLimit::WildcardAvailable => "the broker takes no filters with wildcards",
            BrokerLimit::SharedAvailable => "the broker takes no shared subscriptions",
        })
    }
}
