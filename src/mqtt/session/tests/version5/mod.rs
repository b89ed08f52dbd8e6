//! Transcripts of MQTT 5: what is different where the link speaks it.

mod ends;
mod expiry;
mod limits;
mod outcomes;
mod quota;
mod requests;
mod suspects;

use super::Transcript;
use super::packets::id;
use crate::mqtt::packet::{
    Answer, Answering, BrokerDisconnect, ConnAck5, ConnectTerms, Details, Incoming, ReasonCode,
};
use crate::mqtt::session::SessionOptions;

/// Seconds that the session outlives its connection.
const SESSION_EXPIRY: u32 = 3_600;

/// CONNACK that accepts and states no limit, changed.
fn connack5(session_present: bool, change: impl FnOnce(&mut ConnAck5)) -> Incoming {
    let mut connack = ConnAck5 {
        session_present,
        ..ConnAck5::default()
    };
    change(&mut connack);
    Incoming::ConnAck5(Box::new(connack))
}

fn answered(packet: Answering, value: u16, answer: Answer) -> Incoming {
    Incoming::Answered {
        packet,
        id: id(value),
        answer: Box::new(answer),
    }
}

fn one(packet: Answering, value: u16, code: u8) -> Incoming {
    let answer = Answer::new(ReasonCode::new(code), Details::default());
    answered(packet, value, answer)
}

fn each(packet: Answering, value: u16, codes: &[u8]) -> Incoming {
    let codes = codes.iter().copied().map(ReasonCode::new).collect();
    answered(packet, value, Answer::of_each(codes, Details::default()))
}

fn puback5(value: u16, code: u8) -> Incoming {
    one(Answering::PubAck, value, code)
}

fn pubrec5(value: u16, code: u8) -> Incoming {
    one(Answering::PubRec, value, code)
}

fn pubcomp5(value: u16, code: u8) -> Incoming {
    one(Answering::PubComp, value, code)
}

fn suback5(value: u16, codes: &[u8]) -> Incoming {
    each(Answering::SubAck, value, codes)
}

fn unsuback5(value: u16, codes: &[u8]) -> Incoming {
    each(Answering::UnsubAck, value, codes)
}

fn disconnect5(code: u8) -> Incoming {
    Incoming::Disconnect(Box::new(BrokerDisconnect {
        code: ReasonCode::new(code),
        server_reference: None,
        details: Details::default(),
    }))
}

/// Builders.
impl Transcript {
    /// No link yet, and the first one will speak MQTT 5.
    fn of_version5(change: impl FnOnce(&mut SessionOptions)) -> Self {
        let mut t = Transcript::with(change);
        t.terms = Some(ConnectTerms {
            session_expiry: SESSION_EXPIRY,
            ..ConnectTerms::default()
        });
        t
    }

    fn connected5_with(
        options: impl FnOnce(&mut SessionOptions),
        connack: impl FnOnce(&mut ConnAck5),
    ) -> Self {
        let mut t = Transcript::of_version5(options);
        t.links_up().accepted(false, connack).renewing(0);
        t
    }

    /// The broker's CONNACK is changed so.
    fn connected5(connack: impl FnOnce(&mut ConnAck5)) -> Self {
        Transcript::connected5_with(|_| {}, connack)
    }

    /// The broker takes so many PUBLISHes at one time.
    fn with_quota(quota: u16) -> Self {
        Transcript::connected5(|c| c.receive_maximum = quota)
    }

    fn accepted(&mut self, session_present: bool, change: impl FnOnce(&mut ConnAck5)) -> &mut Self {
        self.receives(connack5(session_present, change));
        let said = self.connected.map(|(present, _)| present);
        assert_eq!(said, Some(session_present));
        self
    }

    fn reconnects5(
        &mut self,
        session_present: bool,
        change: impl FnOnce(&mut ConnAck5),
    ) -> &mut Self {
        self.loses_link()
            .links_up()
            .accepted(session_present, change)
    }
}
