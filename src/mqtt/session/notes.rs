//! Notes of each packet, for a caller that records them: encoded, written, received. Off by default.
//!
//! A note is a few numbers. It names the command that a packet belongs to by the number that the caller's token has.
//! The session does nothing else because of it. Pure; the loop's thread.

use std::collections::VecDeque;

use super::Session;
use super::account::DeliveryId;
use crate::mqtt::packet::{Ack, Answering, Incoming, PacketId};

/// The types of MQTT control packets, by their numbers [MQTT-2.2.1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketKind {
    /// CONNECT.
    Connect = 1,
    /// CONNACK.
    ConnAck = 2,
    /// PUBLISH.
    Publish = 3,
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
    /// SUBSCRIBE.
    Subscribe = 8,
    /// SUBACK.
    SubAck = 9,
    /// UNSUBSCRIBE.
    Unsubscribe = 10,
    /// UNSUBACK.
    UnsubAck = 11,
    /// PINGREQ.
    PingReq = 12,
    /// PINGRESP.
    PingResp = 13,
    /// DISCONNECT.
    Disconnect = 14,
}

/// A packet, and the command or message that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Its type.
    pub packet: PacketKind,
    /// The number of its command; of its message for a PUBLISH that came and for what answers it. 0 for none.
    pub number: u64,
    /// Its packet identifier, 0 for none.
    pub id: u16,
}

/// A note of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is in the output.
    Encoded {
        /// The packet.
        noted: Noted,
        /// Whether it was sent before, on this link or an earlier one.
        again: bool,
        /// Its bytes.
        bytes: u64,
    },
    /// The link took the last byte of it.
    Written(Noted),
    /// It came.
    Received(Noted),
}

/// The notes that the caller has not taken yet.
#[derive(Debug, Clone)]
pub(super) struct Notes<T> {
    number: fn(&T) -> u64,
    /// Packets in the output and where they end.
    leaving: VecDeque<(Noted, u64)>,
    notes: VecDeque<Note>,
}

impl PacketKind {
    const ALL: [PacketKind; 14] = [
        PacketKind::Connect,
        PacketKind::ConnAck,
        PacketKind::Publish,
        PacketKind::PubAck,
        PacketKind::PubRec,
        PacketKind::PubRel,
        PacketKind::PubComp,
        PacketKind::Subscribe,
        PacketKind::SubAck,
        PacketKind::Unsubscribe,
        PacketKind::UnsubAck,
        PacketKind::PingReq,
        PacketKind::PingResp,
        PacketKind::Disconnect,
    ];

    /// The type with this number, 1 to 14.
    pub fn of_number(number: u8) -> Option<Self> {
        let place = usize::from(number).checked_sub(1)?;
        Self::ALL.get(place).copied()
    }

    /// Its name in the standard.
    pub fn name(self) -> &'static str {
        match self {
            PacketKind::Connect => "CONNECT",
            PacketKind::ConnAck => "CONNACK",
            PacketKind::Publish => "PUBLISH",
            PacketKind::PubAck => "PUBACK",
            PacketKind::PubRec => "PUBREC",
            PacketKind::PubRel => "PUBREL",
            PacketKind::PubComp => "PUBCOMP",
            PacketKind::Subscribe => "SUBSCRIBE",
            PacketKind::SubAck => "SUBACK",
            PacketKind::Unsubscribe => "UNSUBSCRIBE",
            PacketKind::UnsubAck => "UNSUBACK",
            PacketKind::PingReq => "PINGREQ",
            PacketKind::PingResp => "PINGRESP",
            PacketKind::Disconnect => "DISCONNECT",
        }
    }
}

impl From<Ack> for PacketKind {
    fn from(ack: Ack) -> Self {
        match ack {
            Ack::PubAck => PacketKind::PubAck,
            Ack::PubRec => PacketKind::PubRec,
            Ack::PubRel => PacketKind::PubRel,
            Ack::PubComp => PacketKind::PubComp,
        }
    }
}

impl From<Answering> for PacketKind {
    fn from(packet: Answering) -> Self {
        match packet {
            Answering::PubAck => PacketKind::PubAck,
            Answering::PubRec => PacketKind::PubRec,
            Answering::PubRel => PacketKind::PubRel,
            Answering::PubComp => PacketKind::PubComp,
            Answering::SubAck => PacketKind::SubAck,
            Answering::UnsubAck => PacketKind::UnsubAck,
        }
    }
}

impl DeliveryId {
    /// The number of the message: odd. (A caller can number messages of QoS 0, which have no such name, evenly.)
    pub fn number(self) -> u64 {
        2 * self.0 + 1
    }
}

impl<T> Session<T> {
    /// Takes notes from now on. `number` gives the number of a command, which is not 0.
    pub fn take_notes(&mut self, number: fn(&T) -> u64) {
        self.notes = Some(Box::new(Notes {
            number,
            leaving: VecDeque::new(),
            notes: VecDeque::new(),
        }));
    }

    /// The next note.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.as_mut()?.notes.pop_front()
    }

    /// The number of a command, if notes are taken.
    pub(super) fn number_of(&self, token: &T) -> Option<u64> {
        Some((self.notes.as_ref()?.number)(token))
    }

    /// The packet under this identifier is about to be put into the output: its command's number, and whether it was
    /// sent before.
    pub(super) fn before_sending(&self, id: PacketId) -> Option<(u64, bool)> {
        let notes = self.notes.as_ref()?;
        let (token, again) = self.outbound.token(id)?;
        Some((token.map_or(0, notes.number), again))
    }

    /// The packet stands in the output from `begin` on.
    pub(super) fn note_encoded(&mut self, noted: Noted, again: bool, begin: u64) {
        let end = self.output.position();
        if let Some(notes) = &mut self.notes {
            let bytes = end - begin;
            notes.notes.push_back(Note::Encoded {
                noted,
                again,
                bytes,
            });
            notes.leaving.push_back((noted, end));
        }
    }

    /// As [`Session::note_encoded`], for a packet that belongs to no command and was not sent before.
    pub(super) fn note_own(&mut self, packet: PacketKind, id: u16, begin: u64) {
        let number = 0;
        self.note_encoded(Noted { packet, number, id }, false, begin);
    }

    /// The link took bytes.
    pub(super) fn note_written(&mut self) {
        if let Some(notes) = &mut self.notes {
            while let Some((noted, end)) = notes.leaving.front()
                && *end <= self.output.written()
            {
                notes.notes.push_back(Note::Written(*noted));
                notes.leaving.pop_front();
            }
        }
    }

    /// The link is gone, and with it what it did not take.
    pub(super) fn note_link_lost(&mut self) {
        if let Some(notes) = &mut self.notes {
            notes.leaving.clear();
        }
    }

    /// A message came. `delivery` is `None` if it is known already.
    pub(super) fn note_message(&mut self, id: Option<PacketId>, delivery: Option<DeliveryId>) {
        if let Some(notes) = &mut self.notes
            && let Some(id) = id
        {
            notes.notes.push_back(Note::Received(Noted {
                packet: PacketKind::Publish,
                number: delivery.map_or(0, DeliveryId::number),
                id: id.value(),
            }));
        }
    }

    /// Any other packet came, and is not handled yet.
    pub(super) fn note_received(&mut self, packet: &Incoming) {
        let Some(notes) = &self.notes else {
            return;
        };
        let (packet, id) = match packet {
            Incoming::Publish { .. } => return,
            Incoming::ConnAck { .. } | Incoming::ConnAck5(_) => (PacketKind::ConnAck, None),
            Incoming::Disconnect(_) => (PacketKind::Disconnect, None),
            Incoming::Answered { packet, id, .. } => ((*packet).into(), Some(id)),
            Incoming::PubAck(id) => (PacketKind::PubAck, Some(id)),
            Incoming::PubRec(id) => (PacketKind::PubRec, Some(id)),
            Incoming::PubRel(id) => (PacketKind::PubRel, Some(id)),
            Incoming::PubComp(id) => (PacketKind::PubComp, Some(id)),
            Incoming::SubAck { id, .. } => (PacketKind::SubAck, Some(id)),
            Incoming::UnsubAck(id) => (PacketKind::UnsubAck, Some(id)),
            Incoming::PingResp => (PacketKind::PingResp, None),
        };
        let token = match packet {
            PacketKind::PingResp => self.liveness.first_ping(),
            // The broker's own identifier.
            PacketKind::PubRel => None,
            _ => id.and_then(|id| self.outbound.token(*id)?.0),
        };
        let noted = Noted {
            packet,
            number: token.map_or(0, notes.number),
            id: id.map_or(0, |id| id.value()),
        };
        if let Some(notes) = &mut self.notes {
            notes.notes.push_back(Note::Received(noted));
        }
    }
}
