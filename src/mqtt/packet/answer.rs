//! \[5\] The words of a broker that speaks MQTT 5: why it did or did not do something, why it closes. Pure data.

use std::fmt;

use super::{Details, ReasonCode};

/// The broker's answer to a command, where MQTT 5 says more than that it was done as asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Answer {
    /// The reason code. Of a request for several filters, the first failure among them, else the first code.
    pub code: ReasonCode,
    /// SUBSCRIBE and UNSUBSCRIBE: the code of each filter, in order. Empty for other commands.
    pub codes: Vec<ReasonCode>,
    /// The reason in words, and pairs of a name and a value.
    pub details: Details,
}

impl Answer {
    /// The answer to a command that has one code.
    pub fn new(code: ReasonCode, details: Details) -> Self {
        Answer {
            code,
            codes: Vec::new(),
            details,
        }
    }

    /// The answer to a request: a code for each of its filters.
    pub fn of_each(codes: Vec<ReasonCode>, details: Details) -> Self {
        let failure = codes.iter().find(|code| code.is_failure());
        Answer {
            code: failure.or(codes.first()).copied().unwrap_or_default(),
            codes,
            details,
        }
    }

    /// Takes over the answer to the rest of a request.
    pub(in crate::mqtt) fn append(&mut self, rest: Answer) {
        let Answer {
            code,
            codes,
            details,
        } = rest;
        if code.is_failure() && !self.code.is_failure() {
            self.code = code;
        }
        self.codes.extend(codes);
        self.details.reason = self.details.reason.take().or(details.reason);
        self.details.user_properties.extend(details.user_properties);
    }
}

/// `0x87 (not authorized): "no such policy"`.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        said(self.code, &self.details, f)
    }
}

/// The packets of MQTT 5 that answer one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answering {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL, in answer to PUBREC.
    PubRel,
    /// PUBCOMP.
    PubComp,
    /// SUBACK.
    SubAck,
    /// UNSUBACK.
    UnsubAck,
}

impl Answering {
    /// The packet's name in the standard.
    pub(in crate::mqtt) fn name(self) -> &'static str {
        match self {
            Answering::PubAck => "PUBACK",
            Answering::PubRec => "PUBREC",
            Answering::PubRel => "PUBREL",
            Answering::PubComp => "PUBCOMP",
            Answering::SubAck => "SUBACK",
            Answering::UnsubAck => "UNSUBACK",
        }
    }
}

/// DISCONNECT of a broker: it closes the connection, and says why [MQTT 5, 3.14].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerDisconnect {
    /// Why.
    pub code: ReasonCode,
    /// Another broker to use.
    pub server_reference: Option<String>,
    /// The reason in words, and pairs of a name and a value.
    pub details: Details,
}

/// As [`Answer`].
impl fmt::Display for BrokerDisconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        said(self.code, &self.details, f)?;
        match &self.server_reference {
            Some(server) => write!(f, ", server reference {server:?}"),
            None => Ok(()),
        }
    }
}

fn said(code: ReasonCode, details: &Details, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{code}")?;
    match &details.reason {
        Some(reason) => write!(f, ": {reason:?}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_several_packets_has_the_code_of_its_first_failure() {
        let codes = |values: &[u8]| values.iter().map(|code| ReasonCode::new(*code)).collect();
        let mut answer = Answer::of_each(codes(&[1, 0]), Details::default());
        assert_eq!(answer.code, ReasonCode::new(1));
        answer.append(Answer::of_each(codes(&[2, 0x87]), Details::default()));
        answer.append(Answer::of_each(codes(&[0x97]), Details::default()));
        assert_eq!(answer.code, ReasonCode::new(0x87));
        assert_eq!(answer.codes, codes(&[1, 0, 2, 0x87, 0x97]) as Vec<_>);
    }

    #[test]
    fn the_reason_is_shown_behind_the_code() {
        let details = Details {
            reason: Some("not you".into()),
            ..Details::default()
        };
        let answer = Answer::new(ReasonCode::new(0x87), details.clone());
        assert_eq!(answer.to_string(), "0x87 (not authorized): \"not you\"");
        let moved = BrokerDisconnect {
            code: ReasonCode::new(0x9d),
            server_reference: Some("b.example".into()),
            details: Details::default(),
        };
        assert_eq!(
            moved.to_string(),
            "0x9D (server moved), server reference \"b.example\""
        );
    }
}
