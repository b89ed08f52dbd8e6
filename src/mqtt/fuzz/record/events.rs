//! What the session says: whether it is true, and because of what.

use std::sync::Arc;

use super::super::Rule;
use super::{Cause, Delivered, InUse, Kind, Record, Token};
use crate::mqtt::packet::{ConnectReturnCode, Incoming, Message, QoS};
use crate::mqtt::session::{DeliveryId, Event, LinkLoss, Outcome, Reason};

impl Record {
    /// The session said something.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(in super::super) fn says(&mut self, event: &Event<Token>, cause: &Cause) -> Rule {
        let right = match (event, cause) {
            (Event::Resolved { token, outcome }, _) => {
                return self.ends(*token, outcome, cause);
            }
            (Event::Message { message, delivery }, Cause::Packet(packet, _)) => {
                return self.delivers(message, *delivery, packet);
            }
            (
                Event::Connected {
                    session_present, ..
                },
                Cause::Packet(
                    Incoming::ConnAck {
                        session_present: said,
                        code: ConnectReturnCode::Accepted,
                    },
                    _,
                ),
            ) => session_present == said,
            (
                Event::ConnectRefused(code),
                Cause::Packet(Incoming::ConnAck { code: said, .. }, _),
            ) => code == said && *code != ConnectReturnCode::Accepted,
            (
                Event::SubscriptionRefused { .. },
                Cause::Packet(Incoming::SubAck { granted, .. }, _),
            ) => granted.contains(&None),
            (Event::Close(LinkLoss::AckTimeout | LinkLoss::KeepAliveExpired), Cause::Timeout) => {
                true
            }
            _ => false,
        };
        match right {
            true => Ok(()),
            false => Err(format!("{event:?} because of {cause:?}")),
        }
    }

    fn delivers(
        &mut self,
        message: &Arc<Message>,
        delivery: Option<DeliveryId>,
        packet: &Incoming,
    ) -> Rule {
        let Incoming::Publish { id, message: came } = packet else {
            return Err(format!("{message:?} was delivered for {packet:?}"));
        };
        if **message != *came || delivery.is_some() != id.is_some() {
            return Err(format!(
                "{came:?} was delivered as {message:?}, {delivery:?}"
            ));
        }
        let (Some(id), Some(delivery)) = (id, delivery) else {
            return Ok(());
        };
        let id = id.value();
        if message.qos == QoS::ExactlyOnce {
            let before = self.unreleased.insert(id, Arc::clone(message));
            if before.is_some_and(|before| is_same(&before, message)) {
                return Err(format!("{message:?} was delivered twice"));
            }
        }
        let delivered = Delivered {
            delivery,
            accepted: false,
            acknowledged: false,
        };
        self.latest.insert(id, delivered);
        if let Some(arrival) = self.arrivals.back_mut() {
            arrival.delivery = Some(delivery);
        }
        Ok(())
    }

    fn ends(&mut self, token: Token, outcome: &Outcome, cause: &Cause) -> Rule {
        let Some(command) = self.commands.get_mut(usize::from(token)) else {
            return Err(format!("nobody handed {token} in"));
        };
        if std::mem::replace(&mut command.ended, true) {
            return Err(format!("{command:?} ends a second time, as {outcome:?}"));
        }
        self.open -= 1;
        let at_end = command.place.1 <= self.written && command.sent.is_some();
        let true_to_it = match (outcome, command.kind, cause) {
            (Outcome::Delivered { .. }, Kind::Publish { qos: 0, .. }, Cause::Written) => at_end,
            (
                Outcome::Delivered { .. },
                Kind::Publish { qos, .. },
                Cause::Packet(packet, Some(ended)),
            ) => *ended == token && packet.name() == ["", "PUBACK", "PUBCOMP"][usize::from(qos)],
            (
                Outcome::Delivered { granted, .. },
                Kind::Subscribe,
                Cause::Packet(Incoming::SubAck { granted: said, .. }, _),
            ) => granted
                .iter()
                .rev()
                .zip(said.iter().rev())
                .all(|(g, s)| Some(*g) == *s),
            (
                Outcome::Refused { granted },
                Kind::Subscribe,
                Cause::Packet(Incoming::SubAck { granted: said, .. }, _),
            ) => granted.contains(&None) && granted.ends_with(said),
            (
                Outcome::Delivered { .. },
                Kind::Unsubscribe,
                Cause::Packet(Incoming::UnsubAck(_), _),
            )
            | (Outcome::Delivered { .. }, Kind::Ping, Cause::Packet(Incoming::PingResp, _)) => true,
            (Outcome::NeverSent(_), Kind::Publish { qos: 0, .. }, Cause::LinkLost) => {
                !command.touched
            }
            (Outcome::PerhapsDelivered(_), Kind::Publish { qos: 0, .. }, Cause::LinkLost) => {
                command.touched
            }
            (Outcome::PerhapsDelivered(_), Kind::Ping, Cause::LinkLost) => true,
            (Outcome::PerhapsDelivered(Reason::Parked), _, Cause::LinkLost) => {
                if let Kind::Publish { qos, .. } = command.kind {
                    match qos {
                        1 => drop(self.in_use.remove(&command.id)),
                        // The identifier is freed by PUBREL and PUBCOMP.
                        _ => drop(self.in_use.insert(command.id, InUse::Released(token))),
                    }
                }
                true
            }
            (
                Outcome::PerhapsDelivered(Reason::SessionLost),
                Kind::Publish { .. },
                Cause::Packet(
                    Incoming::ConnAck {
                        session_present: false,
                        ..
                    },
                    _,
                ),
            ) => command.sent.is_some(),
            (Outcome::Cancelled(_), Kind::Publish { .. }, Cause::Abandoned) => !command.touched,
            (Outcome::Cancelled(_), Kind::Ping, _) => false,
            (Outcome::Cancelled(_) | Outcome::PerhapsDelivered(_), _, Cause::Abandoned) => true,
            _ => false,
        };
        match true_to_it {
            true => Ok(()),
            false => {
                let command = &self.commands[usize::from(token)];
                Err(format!(
                    "{command:?} ends as {outcome:?} because of {cause:?}"
                ))
            }
        }
    }

    /// Everything was answered and accepted.
    ///
    /// # Errors
    /// What is left.
    pub(in super::super) fn is_settled(&self) -> Rule {
        if self.open > 0 {
            let open = self.commands.iter().find(|command| !command.ended);
            return Err(format!("it is at rest, and this has not ended: {open:?}"));
        }
        let owed = self.arrivals.iter().find(|arrival| {
            let latest = self.latest.get(&arrival.id);
            latest.is_some_and(|l| Some(l.delivery) == arrival.delivery && !l.acknowledged)
        });
        match owed {
            Some(owed) => Err(format!("it is at rest, and this is owed: {owed:?}")),
            None => Ok(()),
        }
    }
}

/// Whether they are the same but for their flags.
pub(super) fn is_same(one: &Message, other: &Message) -> bool {
    one.topic == other.topic && one.payload == other.payload
}
