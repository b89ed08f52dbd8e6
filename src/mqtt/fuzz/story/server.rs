//! The server of the stories: answers as a server should, and packets that answer nothing.

use super::super::Rule;
use super::super::wire::{self, FromClient};
use super::{Story, TOPICS, level};
use crate::mqtt::packet::{Incoming, Message, PacketId, QoS};

/// What a server that does what it should owes an answer to.
#[derive(Debug)]
pub(super) enum Question {
    Connect,
    Publish(u8, u16),
    PubRec(u16),
    PubRel(u16),
    Subscribe(u16, Vec<u8>),
    Unsubscribe(u16),
    Ping,
}

impl Question {
    /// What this packet of the client asks, if anything.
    pub(super) fn of(packet: FromClient<'_>) -> Option<Self> {
        match packet {
            FromClient::Connect { .. } => Some(Question::Connect),
            FromClient::Publish { qos: 0, .. } => None,
            FromClient::Publish { qos, id, .. } => Some(Question::Publish(qos, id)),
            FromClient::PubRec(id) => Some(Question::PubRec(id)),
            FromClient::PubRel(id) => Some(Question::PubRel(id)),
            FromClient::Subscribe { id, filters } => {
                let levels = filters.iter().map(|(_, qos)| *qos).collect();
                Some(Question::Subscribe(id, levels))
            }
            FromClient::Unsubscribe { id, .. } => Some(Question::Unsubscribe(id)),
            FromClient::PingReq => Some(Question::Ping),
            FromClient::PubAck(_) | FromClient::PubComp(_) | FromClient::Disconnect => None,
        }
    }
}

impl Story<'_> {
    /// Answers what the client sent, as a server should; `refuse` where it may.
    pub(super) fn answer(&mut self, which: usize, refuse: bool, session_present: bool) -> Rule {
        if self.questions.is_empty() {
            return Ok(());
        }
        let question = self.questions.remove(which % self.questions.len());
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        match question {
            Question::Connect => {
                let present = session_present && !refuse && !self.clean_session;
                bytes.extend_from_slice(&[0x20, 2, u8::from(present), 0]);
            }
            Question::Publish(1, id) => acknowledgment(0x40, id, &mut bytes),
            Question::Publish(_, id) => acknowledgment(0x50, id, &mut bytes),
            Question::PubRec(id) => acknowledgment(0x62, id, &mut bytes),
            Question::PubRel(id) => acknowledgment(0x70, id, &mut bytes),
            Question::Subscribe(id, levels) => {
                bytes.extend_from_slice(&[0x90, levels.len() as u8 + 2]);
                bytes.extend_from_slice(&id.to_be_bytes());
                bytes.extend(levels.iter().map(|qos| if refuse { 0x80 } else { *qos }));
            }
            Question::Unsubscribe(id) => acknowledgment(0xb0, id, &mut bytes),
            Question::Ping => bytes.extend_from_slice(&[0xd0, 0]),
        }
        let result = self.arrive(&bytes, usize::MAX);
        self.scratch = bytes;
        result
    }

    pub(super) fn serve_message(&mut self, how: u8, which: u8) -> Rule {
        let qos = level(how % 3);
        let dup = how & 8 != 0 && qos != QoS::AtMostOnce;
        let message = Message {
            topic: TOPICS[usize::from(which >> 6)].to_owned(),
            payload: vec![which >> 4 & 3; usize::from(which >> 4 & 3)].into(),
            qos,
            retain: how & 4 != 0,
            dup,
        };
        let id = match qos {
            QoS::AtMostOnce => None,
            _ => PacketId::new(u16::from(which & 0x0f) + 1),
        };
        let mut bytes = Vec::new();
        wire::server_bytes(&Incoming::Publish { id, message }, &mut bytes);
        self.arrive(&bytes, usize::MAX)
    }

    pub(super) fn serve_acknowledgment(&mut self, how: u8, id: u16) -> Rule {
        let mut bytes = Vec::new();
        match how & 7 {
            0 => acknowledgment(0x40, id, &mut bytes),
            1 => acknowledgment(0x50, id, &mut bytes),
            2 => acknowledgment(0x62, id, &mut bytes),
            3 => acknowledgment(0x70, id, &mut bytes),
            4 => acknowledgment(0xb0, id, &mut bytes),
            5 => bytes.extend_from_slice(&[0x90, 3, 0, id as u8, how >> 3]),
            6 => bytes.extend_from_slice(&[0x90, 4, 0, id as u8, 1, 0x80]),
            _ => bytes.extend_from_slice(&[0xd0, 0]),
        }
        self.arrive(&bytes, usize::MAX)
    }
}

fn acknowledgment(first: u8, id: u16, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&[first, 2]);
    bytes.extend_from_slice(&id.to_be_bytes());
}
