//! What the explored session is given, and what it has to do with it.

use super::rules::{InUse, Known};
use super::world::World;
use super::{Fault, Rule};
use crate::mqtt::packet::{Incoming, PacketId};

impl World {
    /// The record of what the session is about to be given.
    pub(super) fn receive(&mut self, packet: Incoming) -> Rule {
        let record = &mut self.record;
        match &packet {
            Incoming::ConnAck {
                session_present: false,
                ..
            } => {
                // Nothing of the earlier session is left on either side.
                record.in_use.clear();
                record.first_sent.clear();
                record.releases.clear();
                record.known.clear();
                for (_, id, _) in &mut self.unaccepted {
                    *id = None;
                }
                record.renewal_due = record.granted;
                match self.fault {
                    Fault::RenewalForgotten => self.session.break_filters(),
                    Fault::DroppedWithSession => self.session.break_in_flight(),
                    _ => {}
                }
            }
            Incoming::PubAck(id) => {
                record.in_use.remove(&id.value());
                record.first_sent.retain(|other| *other != id.value());
            }
            Incoming::PubRec(id) => {
                record.in_use.insert(id.value(), InUse::Released);
                record.first_sent.retain(|other| *other != id.value());
                if !record.releases.contains(&id.value()) {
                    record.releases.push(id.value());
                }
                if self.fault == Fault::FreedAtPubrec {
                    return match self.session.break_identifier(*id) {
                        true => Ok(()),
                        false => Err("nothing under the identifier".to_owned()),
                    };
                }
            }
            Incoming::PubComp(id) => {
                record.in_use.remove(&id.value());
                record.releases.retain(|other| *other != id.value());
            }
            Incoming::SubAck { id, .. } => {
                record.in_use.remove(&id.value());
                record.granted = self.wanted;
                record.renewal_due = false;
            }
            Incoming::UnsubAck(id) => {
                record.in_use.remove(&id.value());
            }
            Incoming::PubRel(id) => {
                record.known.remove(&id.value());
                record.completions_due += 1;
            }
            Incoming::Publish { .. } | Incoming::ConnAck { .. } | Incoming::PingResp => {}
        }
        if let Incoming::Publish {
            id: Some(id),
            message,
        } = &packet
        {
            let id = id.value();
            let number = message.payload[0];
            let known = self.is_known(id, number);
            if self.is_too_much(&packet) {
                return self.leave_with_server(packet);
            }
            if self.fault == Fault::MakesWay && !known {
                let owed = &self.record.owed;
                let known = self.record.known.iter();
                let waits = known.filter(|(id, k)| k.accepted && !owed.contains(id));
                let once = |id| self.server.held.get(id).is_some_and(|held| held.qos == 1);
                for id in waits.map(|(id, _)| id).filter(|id| once(*id)) {
                    let id = PacketId::new(*id).ok_or("identifier 0")?;
                    self.session.break_arrival(id);
                }
            }
            if !self.record.owed.contains(&id) {
                self.record.owed.push(id);
            }
            if !known {
                let known = Known {
                    number,
                    accepted: false,
                };
                self.record.known.insert(id, known);
            }
            let (before, left) = (self.unaccepted.len(), self.left);
            self.hand_over(packet)?;
            self.take_events()?;
            let delivered = self.unaccepted.len() - before;
            if self.left != left {
                return Err(format!("message {number} should have been taken"));
            }
            if delivered != usize::from(!known) {
                return Err(format!("message {number} was delivered {delivered} times"));
            }
            return Ok(());
        }
        self.hand_over(packet)
    }

    /// The session has this message of the server, and has not acknowledged it for good.
    fn is_known(&self, id: u16, number: u8) -> bool {
        let known = self.record.known.get(&id);
        known.is_some_and(|known| known.number == number)
    }

    /// Whether this is a new message and there is no room for it beside one that waits, or behind one
    /// that had none.
    pub(super) fn is_too_much(&self, packet: &Incoming) -> bool {
        let Incoming::Publish {
            id: Some(id),
            message,
        } = packet
        else {
            return false;
        };
        self.budget.room_for_one
            && !self.is_known(id.value(), message.payload[0])
            && (self.left || self.is_unread())
    }

    /// A message of the server's present session waits for its receiver.
    pub(super) fn is_unread(&self) -> bool {
        self.unaccepted.iter().any(|(_, id, _)| id.is_some())
    }

    /// The session is given a message for which it has no room.
    fn leave_with_server(&mut self, packet: Incoming) -> Rule {
        // The first on a link costs another link.
        if !self.left {
            self.budget.losses -= 1;
        }
        let before = self.unaccepted.len();
        self.hand_over(packet.clone())?;
        self.take_events()?;
        if !self.left || self.unaccepted.len() > before {
            return Err("a message was taken for which there is no room".to_owned());
        }
        if let Incoming::Publish {
            id: Some(id),
            message,
        } = packet
        {
            match self.fault {
                Fault::LeftIsKnown => self.session.break_left(id, message),
                Fault::LeftIsAcknowledged => self.session.break_order(id),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn hand_over(&mut self, packet: Incoming) -> Rule {
        let name = packet.name();
        self.session
            .handle_packet(packet, self.base)
            .map_err(|error| format!("{name} was taken for a protocol error: {error}"))
    }
}
