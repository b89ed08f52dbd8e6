//! The packets that the session puts into its output: whether each may be sent now, and as it is. Pure.

use std::collections::VecDeque;

use super::super::Rule;
use super::super::trials::Tried;
use super::{InUse, Kind, Leaving, Record, Stage, Token};
use crate::mqtt::packet::QoS;
use crate::mqtt::v4::tests::wire::FromClient;

impl Record {
    /// The session put a packet of `length` bytes into its output.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(in crate::mqtt::session::tests::rules) fn sends(
        &mut self,
        packet: &FromClient<'_>,
        length: usize,
    ) -> Rule {
        self.encoded += length;
        match (&mut self.stage, packet) {
            (
                Stage::Greeting {
                    clean_session,
                    sent: sent @ false,
                },
                FromClient::Connect {
                    clean_session: said,
                },
            ) if clean_session == said => {
                *sent = true;
                Ok(())
            }
            (
                Stage::Closing { sent: sent @ false } | Stage::Unwelcome(sent @ false),
                FromClient::Disconnect,
            ) => {
                *sent = true;
                Ok(())
            }
            (Stage::Up, _) => self.sends_online(packet, length),
            (stage, _) => Err(format!("{packet:.200?} is sent while {stage:?}")),
        }
    }

    fn sends_online(&mut self, packet: &FromClient<'_>, length: usize) -> Rule {
        match packet {
            FromClient::Publish { .. } => self.sends_publish(packet, length),
            FromClient::PubAck(id) => self.arrivals.acknowledges(*id, QoS::AtLeastOnce),
            FromClient::PubRec(id) => self.arrivals.acknowledges(*id, QoS::ExactlyOnce),
            FromClient::PubRel(id) => self.sends_pubrel(*id, length),
            FromClient::PubComp(id) => due("PUBCOMP", *id, &mut self.completions_due),
            FromClient::Subscribe { id, filters } => {
                let names: Vec<_> = filters.iter().map(|(name, _)| (*name).to_owned()).collect();
                if let Some(left) = names.iter().find(|name| self.left.contains(*name)) {
                    return Err(format!("{left} was unsubscribed, and is subscribed again"));
                }
                self.takes_identifier(*id, InUse::Subscribe(names.clone()))?;
                let begin = self.encoded - length;
                let tried = Tried::Subscribe(names);
                self.trials.sends(*id, tried, begin, self.encoded)?;
                at_most_eight(filters.len())
            }
            FromClient::Unsubscribe { id, filters } => {
                let names: Vec<_> = filters.iter().map(|name| (*name).to_owned()).collect();
                if let Some(joined) = names.iter().find(|name| self.joined.contains(*name)) {
                    return Err(format!(
                        "{joined} was subscribed, and is unsubscribed again"
                    ));
                }
                self.renounces_again(&names);
                self.takes_identifier(*id, InUse::Unsubscribe(names.clone()))?;
                let begin = self.encoded - length;
                let tried = Tried::Unsubscribe(names);
                self.trials.sends(*id, tried, begin, self.encoded)?;
                at_most_eight(filters.len())
            }
            FromClient::PingReq => Ok(()),
            FromClient::Connect { .. } | FromClient::Disconnect => {
                Err(format!("{packet:?} is sent while the link is up"))
            }
        }
    }

    /// This packet of an UNSUBSCRIBE leaves, and the others follow. A filter may have been granted since the command was made.
    fn renounces_again(&mut self, packet: &[String]) {
        let left = self.commands.values().find_map(|command| {
            let filters = &command.filters;
            let begin = filters.iter().position(|filter| *filter == packet[0])?;
            let has_all = packet.iter().all(|filter| filters.contains(filter));
            (command.kind == Kind::Unsubscribe && has_all).then(|| filters[begin..].to_vec())
        });
        for filter in left.as_deref().unwrap_or(packet) {
            self.granted.remove(filter);
            self.renewals_due.remove(filter);
        }
    }

    fn sends_pubrel(&mut self, id: u16, length: usize) -> Rule {
        let begin = self.encoded - length;
        let released = match self.in_use.get(&id) {
            Some(InUse::Released(token)) => Some(*token),
            _ => None,
        };
        if self.releases_due.front() == Some(&id) {
            self.releases_due.pop_front();
            self.trials.answers(id, begin, self.encoded);
            return Ok(());
        }
        let Some(token) = released else {
            return due("PUBREL", id, &mut self.releases_due);
        };
        let in_use = &self.in_use;
        let is_released = |id: &u16| matches!(in_use.get(id), Some(InUse::Released(_)));
        self.releases_later.retain(is_released);
        due("PUBREL", id, &mut self.releases_later)?;
        let tried = token.map_or(Tried::Release, Tried::Message);
        self.trials.sends(id, tried, begin, self.encoded)
    }

    fn sends_publish(&mut self, packet: &FromClient<'_>, length: usize) -> Rule {
        let wrong = |why: &str| Err(format!("{packet:.200?}: {why}"));
        let FromClient::Publish {
            dup,
            qos,
            id,
            payload,
            ..
        } = packet
        else {
            return wrong("no PUBLISH");
        };
        let &[high, low, ..] = *payload else {
            return wrong("nobody published that");
        };
        let token = Token::from_be_bytes([high, low]);
        let Some(command) = self.commands.get_mut(&token) else {
            return wrong("nobody published that, or it has ended");
        };
        let kind = Kind::Publish {
            qos: *qos,
            payload: payload.len(),
        };
        if command.kind != kind {
            return wrong("published otherwise");
        }
        let is_next = self.latest.is_none_or(|latest| latest < token);
        if !std::mem::take(&mut command.once_more) && !is_next {
            return wrong("twice on this link, or out of order");
        }
        if *dup != command.sent_in_session {
            return wrong("DUP is wrong");
        }
        if !self.renewals_due.is_empty() && !self.trials.is_trying {
            let due = &self.renewals_due;
            return wrong(&format!(
                "published before the subscriptions to {due:?} were renewed"
            ));
        }
        let may_have_come = command.touched && !command.sent_in_session;
        let same = command.id == *id;
        self.leaving.push_back(Leaving {
            token,
            begin: self.encoded - length,
            end: self.encoded,
            before: (command.sent, command.sent_in_session),
        });
        (command.sent, command.sent_in_session) = (true, true);
        command.id = *id;
        self.latest = self.latest.max(Some(token));
        if may_have_come && self.may_not_come_twice(*qos) {
            return wrong("the broker may have it from another session");
        }
        if *qos == 0 {
            return self.trials.sends_unacknowledged();
        }
        if !same || self.in_use.get(id) != Some(&InUse::Publish(token)) {
            // On a trial link those that are let stand do not count.
            let counts = *qos == 2 && !self.trials.is_trying;
            if counts && self.exactly_once() >= self.window_qos2 {
                return wrong("more QoS 2 messages in flight than their window allows");
            }
            self.takes_identifier(*id, InUse::Publish(token))?;
        }
        let begin = self.encoded - length;
        let tried = Tried::Message(token);
        self.trials.sends(*id, tried, begin, self.encoded)
    }

    /// QoS 2 messages between PUBLISH and PUBCOMP.
    fn exactly_once(&self) -> usize {
        let is_exactly_once = |what: &&InUse| match what {
            InUse::Released(_) => true,
            InUse::Publish(token) => self.commands.get(token).is_some_and(
                |command| matches!(command.kind, Kind::Publish { qos, .. } if qos == 2),
            ),
            _ => false,
        };
        self.in_use.values().filter(is_exactly_once).count()
    }

    fn takes_identifier(&mut self, id: u16, what: InUse) -> Rule {
        match self.in_use.get(&id) {
            None => {
                self.in_use.insert(id, what);
                Ok(())
            }
            Some(other) => Err(format!("identifier {id} for {what:?} is used by {other:?}")),
        }
    }
}

/// The packet has to be the next of those that are due.
fn due(name: &str, id: u16, due: &mut VecDeque<u16>) -> Rule {
    match due.front() {
        Some(first) if *first == id => {
            due.pop_front();
            Ok(())
        }
        _ => Err(format!("{name} {id}, due: {due:?}")),
    }
}

fn at_most_eight(filters: usize) -> Rule {
    match filters {
        ..=8 => Ok(()),
        more => Err(format!("{more} filters in a packet")),
    }
}
