//! The events of the session: whether they are true, and whether they have a reason. Pure.

use std::sync::Arc;

use super::Rule;
use super::record::{Cause, Command, InUse, Kind, Record, Stage, Token};
use super::trials::Tried;
use super::version5::plain;
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
            (
                Event::Resolved {
                    token,
                    outcome,
                    answered,
                },
                _,
            ) => {
                return self.ends(*token, outcome, *answered, cause);
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
                Event::Connected {
                    session_present,
                    resubscribing,
                },
                Cause::Packet(Incoming::ConnAck5(said), _),
            ) => {
                if let Some(version5) = &mut self.version5 {
                    version5.renewals_left = *resubscribing;
                }
                *session_present == said.session_present && !said.code.is_failure()
            }
            (Event::ConnectRefused5(told), Cause::Packet(Incoming::ConnAck5(said), _)) => {
                told == said && said.code.is_failure()
            }
            (
                Event::Close(LinkLoss::Disconnected(told)),
                Cause::Packet(Incoming::Disconnect(said), _),
            ) => told == said,
            // Messages that were given up leave no room for another one.
            (Event::Close(LinkLoss::AckTimeout(_)), Cause::Packet(..)) => self.is_blocked(),
            (Event::Renewed { filters }, Cause::Packet(packet, _)) => match plain(packet).0 {
                Incoming::SubAck { granted, .. } => {
                    (1..=granted.iter().flatten().count()).contains(&filters.len())
                }
                _ => false,
            },
            // Its outcome, or the end of its renewal, follows.
            (Event::GivenUp { command, reason }, cause) => {
                self.trials.gives_up(command);
                reason_to_give_up(cause) == Some(*reason)
            }
            (Event::SubscriptionRefused { filter }, cause) => {
                self.granted.remove(filter);
                self.renewals_due.remove(filter);
                let granted = match cause {
                    Cause::Packet(packet, _) => match plain(packet).0 {
                        Incoming::SubAck { granted, .. } => Some(granted),
                        _ => None,
                    },
                    _ => None,
                };
                let is_given_up = self.trials.has_given_up("SUBSCRIBE");
                match granted {
                    _ if !is_given_up && self.may_refuse_renewals() => true,
                    Some(granted) if !is_given_up => granted.contains(&None),
                    // Its renewal is given up.
                    _ => {
                        let renewal = Tried::Subscribe(vec![filter.clone()]);
                        let is_it = |_: u16, tried: &Tried| *tried == renewal;
                        return self.gives_up("SUBSCRIBE", None, cause, is_it);
                    }
                }
            }
            (Event::Close(LinkLoss::AckTimeout(id)), Cause::Timeout) => {
                self.trials.late(id.value());
                return self.fills(id.value());
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
        if message != came || delivery.is_some() != id.is_some() {
            return Err(format!(
                "{came:?} was delivered as {message:?}, {delivery:?}"
            ));
        }
        if let (Some(id), Some(delivery)) = (id, delivery) {
            self.arrivals.delivers(*id, delivery);
        }
        Ok(())
    }

    fn ends(&mut self, token: Token, outcome: &Outcome, answered: bool, cause: &Cause) -> Rule {
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
        if let PerhapsDelivered(Reason::Parked | Reason::Unanswered) = outcome {
            self.command_given_up(&command, token, outcome, cause)?;
        }
        let (packet, is_refused) = match cause {
            Cause::Packet(packet, _) => plain(packet),
            _ => (Incoming::PingResp, false),
        };
        let right = match (outcome, cause) {
            (NeverSent(Reason::BrokerLimit(_)) | PerhapsDelivered(Reason::BrokerLimit(_)), _) => {
                self.ends_at_limit(&command, outcome)
            }
            (Refused { granted, .. }, Cause::Packet(_, ended)) if is_refused => match &packet {
                Incoming::PubAck(_) => matches!(qos, Some(1 | 2)) && *ended == Some(token),
                Incoming::PubRec(_) => qos == Some(2) && *ended == Some(token),
                Incoming::SubAck { granted: said, .. } => {
                    kind == Kind::Subscribe && granted.contains(&None) && granted.ends_with(said)
                }
                Incoming::UnsubAck(_) => {
                    self.request_ends(token, &command);
                    kind == Kind::Unsubscribe
                }
                _ => false,
            },
            // An earlier packet of it was refused.
            (Refused { .. }, Cause::Packet(Incoming::Answered { .. }, _))
                if matches!(packet, Incoming::UnsubAck(_)) =>
            {
                self.request_ends(token, &command);
                kind == Kind::Unsubscribe && command.filters.len() > 1
            }
            (PerhapsDelivered(Reason::Parked | Reason::Unanswered), _) => true,
            (Delivered { .. }, Cause::Written) => qos == Some(0) && has_left,
            (Delivered { granted, .. }, Cause::Packet(_, ended)) => match &packet {
                Incoming::PubAck(_) => !is_refused && qos == Some(1) && *ended == Some(token),
                Incoming::PubComp(_) => qos == Some(2) && *ended == Some(token),
                Incoming::SubAck { granted: said, .. } => {
                    self.request_ends(token, &command);
                    let mut both = granted.iter().rev().zip(said.iter().rev());
                    kind == Kind::Subscribe && both.all(|(granted, said)| Some(*granted) == *said)
                }
                Incoming::UnsubAck(_) => {
                    self.request_ends(token, &command);
                    !is_refused && kind == Kind::Unsubscribe
                }
                Incoming::PingResp => kind == Kind::Ping,
                _ => false,
            },
            (Refused { granted, .. }, Cause::Packet(..)) => match &packet {
                Incoming::SubAck { granted: said, .. } => {
                    kind == Kind::Subscribe && granted.contains(&None) && granted.ends_with(said)
                }
                _ => false,
            },
            (NeverSent(_), Cause::LinkLost) => qos == Some(0) && !touched,
            (PerhapsDelivered(Reason::AnsweredAsQos1), Cause::Packet(_, ended))
                if matches!(packet, Incoming::PubAck(_)) && !is_refused =>
            {
                qos == Some(2) && *ended == Some(token)
            }
            (PerhapsDelivered(_), Cause::LinkLost) => {
                kind == Kind::Ping || qos == Some(0) && touched
            }
            (
                PerhapsDelivered(Reason::SessionLost),
                Cause::Packet(
                    Incoming::ConnAck {
                        session_present: false,
                        ..
                    }
                    | Incoming::ConnAck5(_),
                    _,
                ),
            ) => command.sent && qos.is_some_and(|qos| self.may_not_come_twice(qos)),
            (Cancelled(_), Cause::Abandoned) => kind != Kind::Ping && !(qos.is_some() && touched),
            (PerhapsDelivered(_), Cause::Abandoned) => qos.is_none() || command.sent,
            _ => false,
        };
        self.trials.ended(token, answered);
        match right {
            true => Ok(()),
            false => Err(format!(
                "{command:?} ends as {outcome:?} because of {cause:?}"
            )),
        }
    }

    fn command_given_up(
        &mut self,
        command: &Command,
        token: Token,
        outcome: &Outcome,
        cause: &Cause,
    ) -> Rule {
        // One of its packets, and not a renewal of one of its filters.
        let of_it = |filters: &[String]| command.filters.chunks(8).any(|packet| packet == filters);
        let is_it = |id: u16, tried: &Tried| match tried {
            Tried::Message(tried) => *tried == token && id == command.id,
            Tried::Subscribe(filters) => command.kind == Kind::Subscribe && of_it(filters),
            Tried::Unsubscribe(filters) => command.kind == Kind::Unsubscribe && of_it(filters),
            Tried::Release => false,
        };
        let (name, qos) = match command.kind {
            Kind::Publish { qos, .. } => match self.in_use.get(&command.id) {
                Some(InUse::Released(_)) => ("PUBREL", Some(qos)),
                _ => ("PUBLISH", Some(qos)),
            },
            Kind::Subscribe => ("SUBSCRIBE", None),
            Kind::Unsubscribe => ("UNSUBSCRIBE", None),
            Kind::Ping => return Err("PINGREQ is given up".to_owned()),
        };
        if reason_to_give_up(cause).map(PerhapsDelivered).as_ref() != Some(outcome) {
            return Err(format!(
                "{command:?} ends as {outcome:?} because of {cause:?}"
            ));
        }
        self.gives_up(name, qos, cause, is_it)
    }

    /// A command is given up: its identifier is free with the link, or after PUBREL and PUBCOMP, or with the session.
    fn gives_up(
        &mut self,
        name: &str,
        qos: Option<u8>,
        cause: &Cause,
        is_it: impl Fn(u16, &Tried) -> bool,
    ) -> Rule {
        let reason = reason_to_give_up(cause);
        let reason = reason.ok_or_else(|| format!("{name} is given up because of {cause:?}"))?;
        let filling = matches!(cause, Cause::Timeout).then(|| self.filling());
        let id = self
            .trials
            .takes_given_up(name, reason, filling.as_deref(), is_it)?;
        let is_lost = reason == Reason::Parked;
        let what = match self.in_use.get(&id) {
            Some(InUse::Publish(_)) if qos == Some(2) => {
                self.releases.push(id);
                if !is_lost {
                    self.releases_later.push_back(id);
                }
                Some(InUse::Released(None))
            }
            Some(InUse::Released(_)) => {
                self.releases.retain(|release| *release != id);
                Some(InUse::GivenUp {
                    until_session_ends: true,
                })
            }
            _ if is_lost => None,
            _ => Some(InUse::GivenUp {
                until_session_ends: false,
            }),
        };
        match what {
            Some(what) => drop(self.in_use.insert(id, what)),
            None => drop(self.in_use.remove(&id)),
        }
        Ok(())
    }

    /// Every event was seen. Nothing follows where the session gives up a PUBREL that no command waits for.
    ///
    /// # Errors
    /// If something else was given up, and its outcome did not follow.
    pub(super) fn has_said(&mut self, cause: &Cause) -> Rule {
        while self.trials.has_given_up("") {
            self.gives_up("PUBREL", None, cause, |_, tried| *tried == Tried::Release)?;
        }
        Ok(())
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

/// The reason for which a command may be given up because of this.
fn reason_to_give_up(cause: &Cause) -> Option<Reason> {
    match cause {
        Cause::LinkLost => Some(Reason::Parked),
        Cause::Packet(..) | Cause::Timeout => Some(Reason::Unanswered),
        _ => None,
    }
}
