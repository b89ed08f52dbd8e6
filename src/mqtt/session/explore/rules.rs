//! What the explored world remembers of the wire, and the rules that every step has to keep.

use std::collections::{BTreeMap, BTreeSet};

use super::server::Sent;
use super::world::World;
use super::{Fault, Rule};
use crate::mqtt::session::Outcome;

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Publish(u8),
    Other,
}

/// What an identifier stands for, from the first sending to the last acknowledgment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum InUse {
    Publish { token: u8, qos: u8 },
    Released,
    Subscribe,
    Unsubscribe,
}

/// A message that the session has and has not acknowledged for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) number: u8,
    pub(super) accepted: bool,
}

/// What the rules remember of the wire, from the session's side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Record {
    pub(super) in_use: BTreeMap<u16, InUse>,
    /// Publishes not acknowledged, in the order of their first sending.
    pub(super) first_sent: Vec<u16>,
    /// Releases not completed, in the order of their PUBRECs.
    pub(super) releases: Vec<u16>,
    pub(super) sent_on_link: BTreeSet<u16>,
    /// Places in the two lists above that the present link has come to.
    pub(super) places: (usize, usize),
    /// Messages by identifier.
    pub(super) known: BTreeMap<u16, Known>,
    /// What has to be acknowledged on this link, in order.
    pub(super) owed: Vec<u16>,
    /// SUBACK came and no UNSUBSCRIBE followed.
    pub(super) granted: bool,
    /// The server had forgotten a granted subscription: nothing is published before it is back.
    pub(super) renewal_due: bool,
    pub(super) completions_due: usize,
}

impl World {
    /// The rules for what is sent.
    pub(super) fn check_sent(&mut self, sent: &Sent) -> Rule {
        if self.given_up && self.fault == Fault::None {
            return Err(format!("{sent:?} on a link that was given up"));
        }
        let record = &mut self.record;
        let mut use_identifier = |id: u16, what: InUse, dup: Option<bool>| -> Rule {
            if !record.sent_on_link.insert(id) && record.in_use.contains_key(&id) {
                return Err(format!("identifier {id} was sent twice on one link"));
            }
            match record.in_use.get(&id) {
                Some(other) if *other != what => Err(format!(
                    "identifier {id} is in use for {other:?}, not {what:?}"
                )),
                Some(_) if dup == Some(false) => Err(format!("{id} was sent again without DUP")),
                None if dup == Some(true) => Err(format!("{id} is new and has DUP")),
                Some(_) => Ok(()),
                None => {
                    if dup.is_some() {
                        record.first_sent.push(id);
                    }
                    record.in_use.insert(id, what);
                    Ok(())
                }
            }
        };
        match *sent {
            Sent::Connect => Ok(()),
            Sent::Publish {
                id,
                qos,
                dup,
                token,
            } => {
                if let Some((_, sent)) = self.open.get_mut(&token) {
                    *sent = true;
                } else {
                    return Err(format!("message {token} was sent after it had ended"));
                }
                if qos == 0 {
                    return if dup {
                        Err("DUP on QoS 0".to_owned())
                    } else {
                        Ok(())
                    };
                }
                use_identifier(id, InUse::Publish { token, qos }, Some(dup))?;
                if record.renewal_due {
                    return Err("published before the subscription was renewed".to_owned());
                }
                let place = record.first_sent.iter().position(|other| *other == id);
                let place = place.ok_or("sent without a place in the order")?;
                if dup && place < record.places.0 {
                    return Err(format!("{id} was sent again out of order"));
                }
                record.places.0 = place;
                Ok(())
            }
            Sent::PubRel(id) => {
                if record.in_use.get(&id) != Some(&InUse::Released) {
                    return Err(format!("PUBREL {id} without a PUBREC"));
                }
                let place = record.releases.iter().position(|other| *other == id);
                let place = place.ok_or("PUBREL without a place in the order")?;
                if place < record.places.1 {
                    return Err(format!("PUBREL {id} out of order"));
                }
                record.places.1 = place;
                Ok(())
            }
            Sent::PubAck(id) | Sent::PubRec(id) => {
                if record.owed.first() != Some(&id) {
                    return Err(format!("{id} was acknowledged out of order"));
                }
                record.owed.remove(0);
                if !record.known.get(&id).is_some_and(|known| known.accepted) {
                    return Err(format!("{id} was acknowledged before it was accepted"));
                }
                if matches!(sent, Sent::PubAck(_)) {
                    record.known.remove(&id);
                }
                Ok(())
            }
            Sent::PubComp(_) => {
                let due = record.completions_due.checked_sub(1);
                record.completions_due = due.ok_or("PUBCOMP without PUBREL")?;
                Ok(())
            }
            Sent::Subscribe(id) => use_identifier(id, InUse::Subscribe, None),
            Sent::Unsubscribe(id) => use_identifier(id, InUse::Unsubscribe, None),
        }
    }

    /// The rules for how a command ends.
    pub(super) fn check_resolved(&mut self, token: u8, outcome: &Outcome) -> Rule {
        let (kind, sent) = self
            .open
            .remove(&token)
            .ok_or_else(|| format!("command {token} ended twice"))?;
        let taken = self.server.taken.get(&token).copied().unwrap_or(0);
        let true_to_what_happened = match (outcome, kind) {
            (Outcome::Delivered { .. }, Kind::Publish(0) | Kind::Other) => true,
            (Outcome::Delivered { .. }, Kind::Publish(_)) => taken > 0,
            (Outcome::NeverSent(_) | Outcome::Cancelled(_), _) => !sent,
            (Outcome::PerhapsDelivered(_), Kind::Publish(_)) => sent,
            (Outcome::PerhapsDelivered(_) | Outcome::Refused { .. }, _) => false,
        };
        match true_to_what_happened {
            true => Ok(()),
            false => Err(format!(
                "command {token} ({kind:?}) ended as {outcome:?}; sent: {sent}, taken: {taken}"
            )),
        }
    }
}
