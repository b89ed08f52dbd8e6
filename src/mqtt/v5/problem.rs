//! Packets that a server must not send: the rule that one breaks, and the code that DISCONNECT carries then
//! [MQTT 5, 4.13]. Pure.

use std::fmt;
use std::ops::Range;

use crate::mqtt::packet::{ProtocolError, ReasonCode};
use crate::mqtt::v5::varint::{self, BadVarint};

/// A packet that a server must not send, and the reason code to disconnect with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Violation {
    /// The packet and the rule.
    pub error: ProtocolError,
    /// What DISCONNECT says before the link is closed [MQTT 5, 4.13.1].
    pub answer: ReasonCode,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Violation {}

impl From<Violation> for ProtocolError {
    fn from(violation: Violation) -> Self {
        violation.error.answered(violation.answer)
    }
}

/// The rule that a packet breaks.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) text: String,
    pub(super) rule: &'static str,
    pub(super) answer: ReasonCode,
}

impl Problem {
    /// The packet cannot be read.
    pub(super) fn malformed(text: impl Into<String>, rule: &'static str) -> Self {
        Problem {
            text: text.into(),
            rule,
            answer: ReasonCode::MALFORMED_PACKET,
        }
    }

    /// The packet can be read, and must not come so.
    pub(super) fn forbidden(text: impl Into<String>, rule: &'static str) -> Self {
        Problem::malformed(text, rule).answered(ReasonCode::PROTOCOL_ERROR)
    }

    pub(super) fn answered(self, answer: ReasonCode) -> Self {
        Problem { answer, ..self }
    }

    /// The same problem of the packet of which these bytes have come. It is known by its first `known` bytes.
    pub(super) fn of(self, packet: &'static str, bytes: &[u8], known: usize) -> Violation {
        let error = ProtocolError::unexpected(packet, self.text, self.rule)
            .with_beginning(bytes)
            .about(&without_properties(&bytes[..known.min(bytes.len())]));
        Violation {
            error,
            answer: self.answer,
        }
    }
}

/// A PUBLISH without its properties, if they can be told: each time it comes, less is left of its expiry. Any other packet
/// as it is.
fn without_properties(bytes: &[u8]) -> Vec<u8> {
    let mut without = bytes.to_vec();
    without.drain(properties(bytes).unwrap_or(0..0));
    without
}

/// Where the properties of a PUBLISH stand, and their length.
fn properties(bytes: &[u8]) -> Option<Range<usize>> {
    let first = bytes.first().filter(|first| **first >> 4 == 3)?;
    let (_, own_length) = varint::read(&bytes[1..]).ok()??;
    let topic = 1 + own_length;
    let length = u16::from_be_bytes(*bytes.get(topic..)?.first_chunk()?);
    let id = if first & 6 == 0 { 0 } else { 2 };
    let begin = topic + 2 + usize::from(length) + id;
    let (length, own_length) = varint::read(bytes.get(begin..)?).ok()??;
    let end = begin + own_length + length;
    (end <= bytes.len()).then_some(begin..end)
}

impl ReasonCode {
    /// The code, if it is one of these.
    pub(super) fn checked(value: u8, allowed: &[u8]) -> Result<Self, Problem> {
        let code = ReasonCode::new(value);
        match allowed.contains(&value) {
            true => Ok(code),
            false => Err(Problem::malformed(
                format!("the reason code {code} is not one of this packet"),
                "MQTT 5, 2.4",
            )),
        }
    }
}

impl Problem {
    /// The parts of the packet are longer or shorter than its length says.
    pub(super) fn misfit() -> Self {
        Problem::malformed("its parts do not fit into its length", "MQTT 5, 4.13.1")
    }

    pub(super) fn varint(name: &str, bad: BadVarint) -> Self {
        let problem = match bad {
            BadVarint::NotMinimal => format!("{name} has more bytes than it needs"),
            BadVarint::TooLong => format!("{name} has more than four bytes"),
        };
        Problem::malformed(problem, "MQTT-1.5.5-1")
    }
}
