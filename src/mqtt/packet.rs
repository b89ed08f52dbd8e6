//! \[5\] The packets of MQTT 3.1.1 and 5, as types of this crate.
//!
//! These types do not depend on rumqttc's codec. `v4/` adapts them to it and makes every check that the codec leaves
//! out. `v5/` decodes without it, and encodes some packets through it. `codec.rs` chooses between them for a link.
//! `topic.rs` checks topics, filters and other strings. `outgoing.rs` holds a message on its way.
//!
//! Pure: no thread, socket, channel or clock. A caller's thread uses these types to check a command
//! before it is queued and to encode a small message. The loop's thread uses them for everything else.

mod answer;
mod connack;
mod connect;
mod filter;
mod message;
mod properties;
mod protocol;
mod reason;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;

use crate::mqtt::topic::Topic;
use crate::mqtt::topic::{InvalidName, check_topic};
pub use answer::{Answer, Answering, BrokerDisconnect};
pub use connack::ConnAck5;
pub use connect::{Connect, ConnectTerms, Credentials, Will, WillProperties};
pub use filter::{Filter, RetainHandling, SubscribeOptions};
pub(in crate::mqtt) use message::Text;
pub use message::{Message, Received};
pub use properties::{Details, MessageProperties};
pub use protocol::{BrokerLimit, Protocol};
pub use reason::ReasonCode;

/// Largest remaining length that a packet can state [MQTT 3.1.1, 2.2.3].
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// Bytes of the largest packet: its fixed header has one byte, and four that state the length.
pub const LARGEST_PACKET: usize = 5 + MAX_REMAINING_LENGTH;

/// Quality of service: how much both sides do so that a message arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// 0: sent once, never acknowledged, may be lost.
    AtMostOnce = 0,
    /// 1: acknowledged with PUBACK, may arrive more than once.
    #[default]
    AtLeastOnce = 1,
    /// 2: four packets, arrives exactly once.
    ExactlyOnce = 2,
}

impl TryFrom<u8> for QoS {
    type Error = u8;

    fn try_from(level: u8) -> Result<Self, u8> {
        match level {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            other => Err(other),
        }
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// A packet identifier, 1 to 65,535 [MQTT-2.3.1-1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// Returns the identifier with this value, or `None` for 0, which MQTT forbids.
    pub fn new(value: u16) -> Option<Self> {
        NonZeroU16::new(value).map(PacketId)
    }

    /// The identifier as a number.
    pub fn value(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A message to publish.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Publish {
    pub(in crate::mqtt) topic: Topic,
    pub(in crate::mqtt) payload: Bytes,
    pub(in crate::mqtt) qos: QoS,
    pub(in crate::mqtt) retain: bool,
    /// `None` if there are none.
    pub(in crate::mqtt) properties: Option<Box<MessageProperties>>,
}

impl Publish {
    /// A message that the broker is not to retain.
    pub fn new(topic: impl Into<Topic>, qos: QoS, payload: impl Into<Bytes>) -> Self {
        Publish {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            retain: false,
            properties: None,
        }
    }

    /// The same message with this retain flag: whether the broker keeps it for later subscribers.
    #[must_use]
    pub fn with_retain(mut self, retain: bool) -> Self {
        self.retain = retain;
        self
    }

    /// Topic name: no wildcards, 1 to 65,535 bytes.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Application message; any bytes, may be empty.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Quality of service.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether the broker keeps it for later subscribers.
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// The same message with these properties, which only MQTT 5 carries. A connection of MQTT 3.1.1 leaves them out.
    #[must_use]
    pub fn with_properties(mut self, properties: MessageProperties) -> Self {
        self.properties = (!properties.is_empty()).then(|| Box::new(properties));
        self
    }

    /// The same message as a request whose response is to come on this topic with this correlation data. Unless it has an
    /// expiry, it has this one.
    pub(crate) fn into_request(mut self, topic: String, correlation: Bytes, expiry: u32) -> Self {
        let properties = self.properties.get_or_insert_default();
        properties.response_topic = Some(topic);
        properties.correlation_data = Some(correlation);
        properties.expiry.get_or_insert(expiry);
        self
    }

    /// The properties of MQTT 5; `None` if there are none.
    pub fn properties(&self) -> Option<&MessageProperties> {
        self.properties.as_deref()
    }

    /// Says what makes it impossible to send, if anything.
    ///
    /// # Errors
    /// An invalid topic name, invalid properties, a payload that is not the text that they say, or a size that no packet can
    /// state.
    pub fn check(&self) -> Result<(), InvalidName> {
        check_topic(&self.topic)?;
        let mut properties = 0;
        if let Some(all) = &self.properties {
            all.check()?;
            all.check_payload(&self.payload)?;
            properties = all.most_bytes();
        }
        if self.topic.len() + self.payload.len() + properties + 4 > MAX_REMAINING_LENGTH {
            return Err(InvalidName::PacketTooLarge);
        }
        Ok(())
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("properties", &self.properties)
            .finish()
    }
}

/// The broker's answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectReturnCode {
    /// 0: connected.
    Accepted,
    /// 1: the broker does not speak this version of MQTT.
    UnacceptableProtocolVersion,
    /// 2: the broker does not allow the client identifier.
    IdentifierRejected,
    /// 3: the broker is reachable, but its MQTT service is unavailable.
    ServerUnavailable,
    /// 4: the user name or password is malformed or wrong.
    BadUserNameOrPassword,
    /// 5: the client is not authorized to connect.
    NotAuthorized,
}

/// A packet from the broker that has passed every check of the decoder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Incoming {
    /// Answer to CONNECT.
    ConnAck {
        /// Whether the broker kept this client's session.
        session_present: bool,
        /// Whether the broker accepted, or why it refused.
        code: ConnectReturnCode,
    },
    /// A message; with an identifier for QoS 1 and 2.
    Publish {
        /// Identifier to acknowledge; `None` for QoS 0.
        id: Option<PacketId>,
        /// The message.
        message: Arc<Message>,
    },
    /// Acknowledges a QoS 1 PUBLISH.
    PubAck(PacketId),
    /// First acknowledgment of a QoS 2 PUBLISH.
    PubRec(PacketId),
    /// Releases a QoS 2 message that the broker sent.
    PubRel(PacketId),
    /// Last acknowledgment of a QoS 2 PUBLISH.
    PubComp(PacketId),
    /// Answer to SUBSCRIBE.
    SubAck {
        /// Identifier of the SUBSCRIBE.
        id: PacketId,
        /// The granted quality of service of each filter, in order; `None` if the broker refused it.
        granted: Vec<Option<QoS>>,
    },
    /// Answer to UNSUBSCRIBE.
    UnsubAck(PacketId),
    /// Answer to PINGREQ.
    PingResp,
    /// Answer to CONNECT of MQTT 5.
    ConnAck5(Box<ConnAck5>),
    /// An acknowledgment of MQTT 5 that says more than that it was done as asked. UNSUBACK is always one.
    Answered {
        /// Its packet.
        packet: Answering,
        /// The identifier of the packet that it answers.
        id: PacketId,
        /// The answer.
        answer: Box<Answer>,
    },
    /// The broker closes the connection, and says why (MQTT 5).
    Disconnect(Box<BrokerDisconnect>),
}

impl Incoming {
    /// The packet's name in the standard.
    pub fn name(&self) -> &'static str {
        match self {
            Incoming::ConnAck { .. } => "CONNACK",
            Incoming::Publish { .. } => "PUBLISH",
            Incoming::PubAck(_) => "PUBACK",
            Incoming::PubRec(_) => "PUBREC",
            Incoming::PubRel(_) => "PUBREL",
            Incoming::PubComp(_) => "PUBCOMP",
            Incoming::SubAck { .. } => "SUBACK",
            Incoming::UnsubAck(_) => "UNSUBACK",
            Incoming::PingResp => "PINGRESP",
            Incoming::ConnAck5(_) => "CONNACK",
            Incoming::Answered { packet, .. } => packet.name(),
            Incoming::Disconnect(_) => "DISCONNECT",
        }
    }

    /// Its packet identifier; `None` if it has none.
    pub(crate) fn id(&self) -> Option<PacketId> {
        match self {
            Incoming::Publish { id, .. } => *id,
            Incoming::PubAck(id)
            | Incoming::PubRec(id)
            | Incoming::PubRel(id)
            | Incoming::PubComp(id)
            | Incoming::SubAck { id, .. }
            | Incoming::Answered { id, .. }
            | Incoming::UnsubAck(id) => Some(*id),
            Incoming::ConnAck { .. }
            | Incoming::ConnAck5(_)
            | Incoming::Disconnect(_)
            | Incoming::PingResp => None,
        }
    }
}

/// A packet in the log: `PUBLISH 17, 42 bytes`.
pub(crate) struct Logged {
    /// Its name in the standard.
    pub(crate) name: &'static str,
    /// Its packet identifier, if it has one.
    pub(crate) id: Option<PacketId>,
    /// Its size, fixed header included.
    pub(crate) bytes: usize,
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(id) = self.id {
            write!(f, " {id}")?;
        }
        write!(f, ", {} bytes", self.bytes)
    }
}

/// The acknowledgments that a client sends for messages, and PUBREL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ack {
    /// For a QoS 1 message.
    PubAck,
    /// For a QoS 2 message.
    PubRec,
    /// Third packet of a QoS 2 message that we sent.
    PubRel,
    /// Last packet of a QoS 2 message that we received.
    PubComp,
}

impl Ack {
    /// The packet's name in the standard.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ack::PubAck => "PUBACK",
            Ack::PubRec => "PUBREC",
            Ack::PubRel => "PUBREL",
            Ack::PubComp => "PUBCOMP",
        }
    }
}

/// A packet that a broker must not send.
// Of one word: each packet that comes is handed on in place of such an error.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProtocolError(Box<BrokenRule>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct BrokenRule {
    packet: &'static str,
    problem: String,
    rule: &'static str,
    beginning: Vec<u8>,
    /// Of the bytes that break the rule.
    digest: u64,
    answer: ReasonCode,
}

/// How many of a bad packet's bytes an error shows.
pub const SHOWN_BYTES: usize = 16;

impl ProtocolError {
    /// An error about a well-formed packet that came at the wrong time. `problem` says what was expected
    /// and what came.
    pub fn unexpected(
        packet: &'static str,
        problem: impl Into<String>,
        rule: &'static str,
    ) -> Self {
        ProtocolError(Box::new(BrokenRule {
            packet,
            problem: problem.into(),
            rule,
            beginning: Vec::new(),
            digest: 0,
            answer: ReasonCode::PROTOCOL_ERROR,
        }))
    }

    /// The same error, for which DISCONNECT of MQTT 5 has this code.
    #[must_use]
    pub(super) fn answered(mut self, answer: ReasonCode) -> Self {
        self.0.answer = answer;
        self
    }

    /// What DISCONNECT of MQTT 5 says before the link is closed because of it [MQTT 5, 4.13.1].
    pub fn answer(&self) -> ReasonCode {
        self.0.answer
    }

    /// The same error with the first of the packet's `bytes`. An error that shows bytes already keeps them.
    #[must_use]
    pub fn with_beginning(mut self, bytes: &[u8]) -> Self {
        if self.0.beginning.is_empty() {
            self.0.beginning = bytes[..bytes.len().min(SHOWN_BYTES)].to_vec();
            self = self.about(bytes);
        }
        self
    }

    /// The same error, known by these bytes of a packet. They may be the packet's beginning.
    #[must_use]
    pub(super) fn about(mut self, bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hash_packet(bytes, &mut hasher);
        self.0.digest = hasher.finish();
        self
    }

    /// Whether the other error is about the same bytes, apart from packet identifier and DUP, and the same rule. The
    /// digests of other bytes are the same once in 2^64.
    pub fn is_same_as(&self, other: &ProtocolError) -> bool {
        (self.0.packet, self.0.rule, self.0.digest)
            == (other.0.packet, other.0.rule, other.0.digest)
    }

    /// The packet's name in the standard, or `packet` if its type is unknown.
    pub fn packet(&self) -> &'static str {
        self.0.packet
    }

    /// The violated clause, as `MQTT-2.2.2-2`.
    pub fn rule(&self) -> &'static str {
        self.0.rule
    }

    /// The first bytes of the packet, 16 at most.
    pub fn beginning(&self) -> &[u8] {
        &self.0.beginning
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.0.packet, self.0.problem, self.0.rule)?;
        if !self.0.beginning.is_empty() {
            write!(f, ", beginning")?;
            for byte in &self.0.beginning {
                write!(f, " {byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ProtocolError {}

/// Hashes the bytes of a packet, or of its beginning, without its packet identifier and DUP: a packet that comes
/// again may have another.
fn hash_packet(bytes: &[u8], hasher: &mut DefaultHasher) {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    let kind = first >> 4;
    let is_publish = kind == 3;
    (if is_publish { first & !8 } else { first }).hash(hasher);
    let length_bytes = rest.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let body = length_bytes.min(rest.len());
    let identifier = match kind {
        3 if first & 6 == 0 => None,
        3 => match rest.get(body..body + 2) {
            Some(&[high, low]) => Some(body + 2 + usize::from(u16::from_be_bytes([high, low]))),
            _ => None,
        },
        4..=7 | 9 | 11 => Some(body),
        _ => None,
    };
    let begin = identifier.unwrap_or(rest.len()).min(rest.len());
    let end = (begin + 2).min(rest.len());
    rest[..begin].hash(hasher);
    rest[end..].hash(hasher);
}
