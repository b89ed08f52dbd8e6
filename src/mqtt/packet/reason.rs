//! Reason codes: how the other side says how something ended [MQTT 5, 2.4]. Pure.

use std::fmt;

use super::QoS;

/// A reason code. 0x80 and above mean failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReasonCode(u8);

impl ReasonCode {
    /// 0x00: done as asked; in SUBACK granted with QoS 0, in DISCONNECT a normal end.
    pub const SUCCESS: ReasonCode = ReasonCode(0x00);
    /// 0x04: a DISCONNECT after which the will is published.
    pub const DISCONNECT_WITH_WILL: ReasonCode = ReasonCode(0x04);
    /// 0x10: a message was taken, and nobody has subscribed to its topic.
    pub const NO_MATCHING_SUBSCRIBERS: ReasonCode = ReasonCode(0x10);
    /// 0x81: a packet could not be read.
    pub const MALFORMED_PACKET: ReasonCode = ReasonCode(0x81);
    /// 0x82: a packet that must not come so, or not now.
    pub const PROTOCOL_ERROR: ReasonCode = ReasonCode(0x82);
    /// 0x84: the server does not speak this version.
    pub const UNSUPPORTED_PROTOCOL_VERSION: ReasonCode = ReasonCode(0x84);
    /// 0x8E: another client has connected with the same client identifier.
    pub const SESSION_TAKEN_OVER: ReasonCode = ReasonCode(0x8e);
    /// 0x92: the packet identifier is not in use.
    pub const PACKET_IDENTIFIER_NOT_FOUND: ReasonCode = ReasonCode(0x92);
    /// 0x93: more messages than the receive maximum allows.
    pub const RECEIVE_MAXIMUM_EXCEEDED: ReasonCode = ReasonCode(0x93);
    /// 0x94: a topic alias above the limit that was stated.
    pub const TOPIC_ALIAS_INVALID: ReasonCode = ReasonCode(0x94);
    /// 0x95: a packet above the limit that was stated.
    pub const PACKET_TOO_LARGE: ReasonCode = ReasonCode(0x95);

    /// The code with this value, whether the standard defines it or not.
    pub const fn new(value: u8) -> Self {
        ReasonCode(value)
    }

    /// Its number.
    pub const fn value(self) -> u8 {
        self.0
    }

    /// Whether it says that what was asked for was not done.
    pub const fn is_failure(self) -> bool {
        self.0 >= 0x80
    }

    /// The quality of service that it grants in SUBACK; `None` if it refuses the filter.
    pub fn granted(self) -> Option<QoS> {
        QoS::try_from(self.0).ok()
    }

    /// Its name in the standard [MQTT 5, 2.4]; `None` if the standard does not define it.
    pub fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x00 => "success",
            0x01 => "granted QoS 1",
            0x02 => "granted QoS 2",
            0x04 => "disconnect with will message",
            0x10 => "no matching subscribers",
            0x11 => "no subscription existed",
            0x18 => "continue authentication",
            0x19 => "re-authenticate",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8a => "banned",
            0x8b => "server shutting down",
            0x8c => "bad authentication method",
            0x8d => "keep alive timeout",
            0x8e => "session taken over",
            0x8f => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9a => "retain not supported",
            0x9b => "QoS not supported",
            0x9c => "use another server",
            0x9d => "server moved",
            0x9e => "shared subscriptions not supported",
            0x9f => "connection rate exceeded",
            0xa0 => "maximum connect time",
            0xa1 => "subscription identifiers not supported",
            0xa2 => "wildcard subscriptions not supported",
            _ => return None,
        })
    }
}

/// `0x87 (not authorized)`.
impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X}", self.0)?;
        self.name().map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_shown_with_its_name() {
        assert_eq!(ReasonCode::new(0x87).to_string(), "0x87 (not authorized)");
        assert_eq!(ReasonCode::new(0x7f).to_string(), "0x7F");
        assert!(!ReasonCode::new(0x7f).is_failure() && ReasonCode::new(0x80).is_failure());
    }
}
