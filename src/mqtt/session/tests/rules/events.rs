//! The events of the session: whether they are true, and whether they have a reason. Pure.

use std::sync::Arc;

use super::Rule;
use super::record::{Cause, Command, InUse, Kind, Record, Stage, Token};
use crate::mqtt::packet::{ConnectReturnCode, Incoming, Message};
use crate::mqtt::session::Outcome::{Cancelled, Delivered, NeverSent, PerhapsDelivered, Refused};
use crate::mqtt::session::{DeliveryId, Event, LinkLoss, Outcome, Reason};

impl Record {
    /// The session said something.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn says(&mut self, event: &Event<Token>, cause: &Cause) -> Rule {
        let right = match (event, cause) {
            (Event::Resolved { token, outcome, .. }, _) => {
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
                Event::SubscriptionRefused { filter },
                Cause::Packet(Incoming::SubAck { granted, .. }, _),
            ) => {
                self.granted.remove(filter);
                granted.contains(&None) || self.trials.may_give_up()
            }
            (Event::Renewed { filters }, Cause::Packet(Incoming::SubAck { granted, .. }, _)) => {
                (1..=granted.iter().flatten().count()).contains(&filters.len())
            }
            // Its outcome, or the end of its renewal, follows.
            (Event::GivenUp { .. }, Cause::LinkLost | Cause::Packet(..)) => true,
            // Its renewal is given up.
            (Event::SubscriptionRefused { filter }, Cause::LinkLost | Cause::Packet(..)) => {
                self.granted.remove(filter);
                self.renewals_due.remove(filter);
                true
            }
            (Event::Close(LinkLoss::AckTimeout(id)), Cause::Timeout) => {
                self.trials.late(id.value());
                true
            }
            (Event::Unread, Cause::Packet(Incoming::Publish { message, .. }, _)) => {
                if !std::mem::take(&mut self.unread_due) {
                    return Err(format!("{message:?} should have been taken"));
                }
                true
            }
            (Event::Close(LinkLoss::KeepAliveExpired | LinkLoss::Stuck), Cause::Timeout) => true,
            (Event::Close(LinkLoss::LeftWithBroker), _) => {
                let right = self.stage == Stage::Up && self.arrivals.has_room_again();
                // Nothing more may be sent.
                self.stage = Stage::Closing { sent: true };
                right
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
        if let (Some(id), Some(delivery)) = (id, delivery) {
            self.arrivals.delivers(*id, delivery);
        }
        Ok(())
    }

    fn ends(&mut self, token: Token, outcome: &Outcome, cause: &Cause) -> Rule {
        let Some(command) = self.commands.remove(&token) else {
            let what = match token < self.next_token() {
                true => "ends a second time",
                false => "was never handed in and ends",
            };
            return Err(format!("{token} {what}, as {outcome:?}"));
        };
        let has_left = command.sent && self.leaving.iter().all(|leaving| leaving.token != token);
        let (kind, touched) = (command.kind, command.touched);
        let qos = match kind {
            Kind::Publish { qos, .. } => Some(qos),
            _ => None,
        };
        let right = match (outcome, cause) {
            (Delivered { .. }, Cause::Written) => qos == Some(0) && has_left,
            (Delivered { granted, .. }, Cause::Packet(packet, ended)) => match packet {
                Incoming::PubAck(_) => qos == Some(1) && *ended == Some(token),
                Incoming::PubComp(_) => qos == Some(2) && *ended == Some(token),
                Incoming::SubAck { granted: said, .. } => {
                    let mut both = granted.iter().rev().zip(said.iter().rev());
                    kind == Kind::Subscribe && both.all(|(granted, said)| Some(*granted) == *said)
                }
                Incoming::UnsubAck(_) => kind == Kind::Unsubscribe,
                Incoming::PingResp => kind == Kind::Ping,
                _ => false,
            },
            (Refused { granted }, Cause::Packet(Incoming::SubAck { granted: said, .. }, _)) => {
                kind == Kind::Subscribe && granted.contains(&None) && granted.ends_with(said)
            }
            (NeverSent(_), Cause::LinkLost) => qos == Some(0) && !touched,
            (PerhapsDelivered(Reason::Parked), Cause::LinkLost) => {
                self.gives_up(&command, token);
                self.in_use.retain(|_, what| {
                    *what
                        != InUse::GivenUp {
                            until_session_ends: false,
                        }
                });
                match qos {
                    Some(0) => false,
                    Some(_) => self.trials.was_closed_on(token),
                    None => kind != Kind::Ping,
                }
            }
            (PerhapsDelivered(Reason::Unanswered), Cause::Packet(packet, _)) => {
                self.gives_up(&command, token);
                match qos {
                    _ if matches!(packet, Incoming::PubComp(_)) => false,
                    Some(0) => false,
                    Some(_) => self.trials.stands(token),
                    None => kind != Kind::Ping,
                }
            }
            (
                PerhapsDelivered(Reason::AnsweredAsQos1),
                Cause::Packet(Incoming::PubAck(_), ended),
            ) => qos == Some(2) && *ended == Some(token),
            (PerhapsDelivered(_), Cause::LinkLost) => {
                kind == Kind::Ping || qos == Some(0) && touched
            }
            (
                PerhapsDelivered(Reason::SessionLost),
                Cause::Packet(
                    Incoming::ConnAck {
                        session_present: false,
                        ..
                    },
                    _,
                ),
            ) => command.sent && qos.is_some_and(|qos| self.may_not_come_twice(qos)),
            (Cancelled(_), Cause::Abandoned) => kind != Kind::Ping && !(qos.is_some() && touched),
            (PerhapsDelivered(_), Cause::Abandoned) => qos.is_none() || command.sent,
            _ => false,
        };
        self.trials.ended(token);
        match right {
            true => Ok(()),
            false => Err(format!(
                "{command:?} ends as {outcome:?} because of {cause:?}"
            )),
        }
    }

    /// A command is given up: its identifier is free with the link, or after PUBREL and PUBCOMP, or with the session.
    fn gives_up(&mut self, command: &Command, token: Token) {
        let Kind::Publish { qos, .. } = command.kind else {
            return;
        };
        let id = command.id;
        let what = match self.in_use.get(&id) {
            Some(InUse::Publish(_)) if qos == 2 => {
                self.releases.push(id);
                InUse::Released(Some(token))
            }
            what => {
                let until_session_ends = matches!(what, Some(InUse::Released(_)));
                self.releases.retain(|release| *release != id);
                InUse::GivenUp { until_session_ends }
            }
        };
        self.in_use.insert(id, what);
    }

    /// Everything was answered and accepted.
    ///
    /// # Errors
    /// The command or message that is left.
    pub(crate) fn is_settled(&self) -> Rule {
        if let Some(open) = self.commands.values().next() {
            return Err(format!("it is at rest, and this never ended: {open:?}"));
        }
        match self.arrivals.owed() {
            [] => Ok(()),
            owed => Err(format!(
                "it is at rest, and this was not acknowledged to the end: {owed:?}"
            )),
        }
    }
}
