//! Looks at what the session says and sends; the faults are committed here.

use super::super::Rule;
use super::super::record::{Cause, Token};
use super::super::wire::{self, FromClient};
use super::server::Question;
use super::{Fault, OUTPUT, Story};
use crate::mqtt::session::Event;

impl Story<'_> {
    /// Looks at every event and at what is new in the output, and closes the link if that is wanted.
    pub(super) fn look(&mut self, cause: &Cause) -> Rule {
        while let Some(event) = self.session.poll_event() {
            self.look_at_event(event, cause)?;
        }
        while self.session.output().len() > self.looked_at {
            self.look_at_packet()?;
        }
        let (owed, order) = self.session.acknowledgments_owed();
        if order > 2 * owed + 64 {
            return Err(format!(
                "{order} places in the order of {owed} that are owed"
            ));
        }
        let bound = OUTPUT + self.in_flight + 4 * self.packets;
        if self.session.output().len() > bound {
            return Err(format!("more than {bound} bytes wait for the link"));
        }
        let unresolved = self.session.unresolved();
        if unresolved != self.record.open {
            let open = self.record.open;
            return Err(format!(
                "{open} have not ended, the session has {unresolved}"
            ));
        }
        if self.closing {
            self.lose_link()?;
        }
        Ok(())
    }

    fn look_at_event(&mut self, event: Event<Token>, cause: &Cause) -> Rule {
        match &event {
            Event::Resolved { .. } if self.fault == Fault::OutcomeLost => return Ok(()),
            Event::Resolved { .. } if self.fault == Fault::OutcomeTwice => {
                self.record.says(&event, cause)?;
            }
            Event::Message { .. } if self.fault == Fault::MessageTwice => {
                self.messages += 1;
            }
            _ => {}
        }
        self.record.says(&event, cause)?;
        match event {
            Event::Message { delivery, .. } => {
                self.messages += 1;
                match delivery {
                    Some(delivery) if self.fault == Fault::AcceptedByItself => {
                        self.session.accept(delivery);
                    }
                    Some(delivery) => self.unaccepted.push(delivery),
                    None => {}
                }
            }
            Event::Close(_) | Event::ConnectRefused(_) => self.closing = true,
            Event::Connected { .. } | Event::Resolved { .. } => {}
            Event::SubscriptionRefused { .. } | Event::Unread(_) => {}
        }
        Ok(())
    }

    fn look_at_packet(&mut self) -> Rule {
        let output = &self.session.output()[self.looked_at..];
        let (mut packet, length) = wire::from_client(output)?;
        if let (Fault::NoDup, FromClient::Publish { dup, .. }) = (self.fault, &mut packet) {
            *dup = false;
        }
        if let (Fault::WrongAnswer, FromClient::PubAck(id)) = (self.fault, &packet) {
            packet = FromClient::PubComp(*id);
        }
        if self.fault == Fault::ByteLost {
            wire::from_client(&output[1..])?;
        }
        if self.fault == Fault::WrongFlags && output[0] == 0x62 {
            wire::from_client(&[0x60, 2, output[2], output[3]])?;
        }
        self.record.sends(&packet, length)?;
        self.questions.extend(Question::of(packet));
        self.looked_at += length;
        Ok(())
    }
}
