//! The simulated server. It does as the standard says, and no more. Pure.

#[cfg(test)]
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::mqtt::packet::{
    Answer, Answering, ConnAck5, ConnectReturnCode, Details, Incoming, PacketId, QoS, ReasonCode,
};
use crate::mqtt::v4::tests::wire::FromClient;
#[cfg(test)]
use {
    super::{Rule, record::Token},
    crate::mqtt::packet::Message,
};

/// The packet that a server answers this one with, if any: CONNECT without a session, SUBSCRIBE as asked for.
pub(crate) fn answer(packet: &FromClient<'_>) -> Option<Incoming> {
    Some(match packet {
        FromClient::Connect { .. } => Incoming::ConnAck {
            session_present: false,
            code: ConnectReturnCode::Accepted,
        },
        FromClient::Publish { qos: 0, .. } => return None,
        FromClient::Publish { qos: 1, id, .. } => Incoming::PubAck(PacketId::new(*id)?),
        FromClient::Publish { id, .. } => Incoming::PubRec(PacketId::new(*id)?),
        FromClient::PubRec(id) => Incoming::PubRel(PacketId::new(*id)?),
        FromClient::PubRel(id) => Incoming::PubComp(PacketId::new(*id)?),
        FromClient::Subscribe { id, filters } => Incoming::SubAck {
            id: PacketId::new(*id)?,
            granted: filters.iter().map(|(_, qos)| Some(level(*qos))).collect(),
        },
        FromClient::Unsubscribe { id, .. } => Incoming::UnsubAck(PacketId::new(*id)?),
        FromClient::PingReq => Incoming::PingResp,
        FromClient::PubAck(_) | FromClient::PubComp(_) | FromClient::Disconnect => return None,
    })
}

/// The answer as a server of MQTT 5 gives it, which takes so many messages at one time, and none above this QoS.
pub(crate) fn version5(
    answer: &Incoming,
    packet: &FromClient<'_>,
    receive_maximum: u16,
    maximum_qos: QoS,
) -> Incoming {
    match (answer, packet) {
        (
            Incoming::ConnAck {
                session_present, ..
            },
            _,
        ) => {
            let connack = ConnAck5 {
                session_present: *session_present,
                receive_maximum,
                maximum_qos,
                ..ConnAck5::default()
            };
            Incoming::ConnAck5(Box::new(connack))
        }
        (Incoming::UnsubAck(id), FromClient::Unsubscribe { filters, .. }) => {
            each(Answering::UnsubAck, *id, vec![0; filters.len()])
        }
        (other, _) => other.clone(),
    }
}

/// The packet with which a server of MQTT 5 says no to this one, if it can.
pub(crate) fn refusal(packet: &FromClient<'_>) -> Option<Incoming> {
    let one = |packet, id: u16| {
        let answer = Answer::new(ReasonCode::new(0x97), Details::default());
        let answer = Box::new(answer);
        let id = PacketId::new(id)?;
        Some(Incoming::Answered { packet, id, answer })
    };
    match packet {
        FromClient::Publish { qos: 1, id, .. } => one(Answering::PubAck, *id),
        FromClient::Publish { qos: 2, id, .. } => one(Answering::PubRec, *id),
        FromClient::Subscribe { id, filters } => {
            let id = PacketId::new(*id)?;
            Some(each(Answering::SubAck, id, vec![0x87; filters.len()]))
        }
        FromClient::Unsubscribe { id, filters } => {
            let id = PacketId::new(*id)?;
            Some(each(Answering::UnsubAck, id, vec![0x87; filters.len()]))
        }
        _ => None,
    }
}

fn each(packet: Answering, id: PacketId, codes: Vec<u8>) -> Incoming {
    let codes = codes.into_iter().map(ReasonCode::new).collect();
    let answer = Box::new(Answer::of_each(codes, Details::default()));
    Incoming::Answered { packet, id, answer }
}

pub(crate) fn level(qos: u8) -> QoS {
    QoS::try_from(qos).unwrap_or(QoS::AtMostOnce)
}

/// A message that the server holds for the session.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    id: PacketId,
    message: Message,
    /// PUBREC came: PUBREL is what is sent again.
    received: bool,
}

/// A server with the session of one client.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Server {
    /// CONNECT came on this link.
    pub(crate) connected: bool,
    has_session: bool,
    /// A session began without the client's knowledge, so that the client's QoS 2 exchanges may not fit it.
    pub(crate) is_mistaken_for_another: bool,
    pub(crate) subscriptions: BTreeMap<String, u8>,
    pub(crate) unreleased: BTreeSet<u16>,
    /// In the order in which they were sent first.
    pub(crate) held: Vec<Held>,
    messages: u8,
    /// Messages that were refused. Such a one may be taken when it comes again, because nobody heard of that.
    pub(crate) refused: BTreeSet<Token>,
    /// How often the message of each command was taken.
    pub(crate) taken: BTreeMap<Token, u8>,
}

#[cfg(test)]
impl Server {
    pub(crate) fn forget(&mut self) {
        self.has_session = false;
        self.subscriptions.clear();
        self.unreleased.clear();
        self.held.clear();
    }

    /// The server handles a packet.
    pub(crate) fn serve(
        &mut self,
        packet: &FromClient<'_>,
        to_client: &mut VecDeque<Incoming>,
    ) -> Rule {
        let mut answer = answer(packet);
        match (packet, &mut answer) {
            (
                FromClient::Connect { .. },
                Some(Incoming::ConnAck {
                    session_present, ..
                }),
            ) => {
                *session_present = std::mem::replace(&mut self.has_session, true);
                self.connected = true;
                to_client.extend(answer);
                to_client.extend(self.held.iter().map(Held::again));
                return Ok(());
            }
            (
                FromClient::Publish {
                    qos, id, payload, ..
                },
                _,
            ) => {
                let is_new = *qos != 2 || self.unreleased.insert(*id);
                if is_new {
                    self.takes(*qos, Token::from_be_bytes([payload[0], payload[1]]))?;
                }
            }
            (FromClient::PubRel(id), _) => drop(self.unreleased.remove(id)),
            (FromClient::PubAck(id) | FromClient::PubComp(id), _) => {
                self.held.retain(|held| held.id.value() != *id);
            }
            (FromClient::PubRec(id), _) => {
                for held in self.held.iter_mut().filter(|held| held.id.value() == *id) {
                    held.received = true;
                }
            }
            (FromClient::Subscribe { filters, .. }, _) => {
                let filters = filters.iter().map(|(name, qos)| ((*name).to_owned(), *qos));
                self.subscriptions.extend(filters);
            }
            (FromClient::Unsubscribe { filters, .. }, _) => {
                for filter in filters {
                    self.subscriptions.remove(*filter);
                }
            }
            _ => {}
        }
        to_client.extend(answer);
        Ok(())
    }

    fn takes(&mut self, qos: u8, token: Token) -> Rule {
        let latest = self.taken.last_key_value().map(|(latest, _)| *latest);
        let taken = self.taken.entry(token).or_default();
        *taken = taken.saturating_add(1);
        if qos == 2 && *taken > 1 && !self.is_mistaken_for_another {
            return Err(format!("QoS 2 message {token} was taken twice"));
        }
        // Each first arrival in the order of publishing [MQTT-4.6.0-1].
        let is_late = latest.is_some_and(|latest| latest > token);
        if *taken == 1 && is_late && !self.refused.contains(&token) {
            return Err(format!("message {token} arrived after {latest:?}"));
        }
        Ok(())
    }

    /// A message for the client; those of QoS 1 are more than twice as large as the others.
    pub(crate) fn send(&mut self, qos: u8) -> Incoming {
        let number = self.messages;
        self.messages += 1;
        let length = if qos == 1 { 8 } else { 1 };
        let message = Message::new("t", level(qos), vec![number; length]);
        // Where the client may know messages of an earlier session, no identifier is used again.
        let first = if self.is_mistaken_for_another {
            256 + u16::from(number)
        } else {
            1
        };
        let is_free = |id: &PacketId| self.held.iter().all(|held| held.id != *id);
        let id = (first..).filter_map(PacketId::new).find(is_free);
        let id = id.filter(|_| qos > 0);
        if let Some(id) = id {
            self.held.push(Held {
                id,
                message: message.clone(),
                received: false,
            });
        }
        let message = Arc::new(message);
        Incoming::Publish { id, message }
    }
}

#[cfg(test)]
impl Held {
    fn again(&self) -> Incoming {
        match self.received {
            true => Incoming::PubRel(self.id),
            false => Incoming::Publish {
                id: Some(self.id),
                message: Arc::new(Message {
                    dup: true,
                    ..self.message.clone()
                }),
            },
        }
    }
}
