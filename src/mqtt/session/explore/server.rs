//! The server of the explored world: what the standard says of one, and no more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rumqttc::mqttbytes::v4;

use super::{FILTER, Rule};
use crate::mqtt::packet::{ConnectReturnCode, Incoming, Message, PacketId, QoS};

/// A packet of the session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Sent {
    Connect,
    Publish {
        id: u16,
        qos: u8,
        dup: bool,
        token: u8,
    },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe(u16),
    Unsubscribe(u16),
}

/// A message that the server still holds for the session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) number: u8,
    pub(super) qos: u8,
    /// PUBREC came: PUBREL is what is sent again.
    pub(super) received: bool,
}

/// A server as the standard describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Server {
    /// CONNECT came on this link.
    pub(super) connected: bool,
    pub(super) has_session: bool,
    pub(super) subscribed: bool,
    pub(super) unreleased: BTreeSet<u16>,
    pub(super) held: BTreeMap<u16, Held>,
    pub(super) next_message: u8,
    /// How often the message of each token was taken.
    pub(super) taken: BTreeMap<u8, u8>,
}

impl Server {
    pub(super) fn forget(&mut self) {
        self.has_session = false;
        self.subscribed = false;
        self.unreleased.clear();
        self.held.clear();
    }

    /// What a server does with a packet.
    pub(super) fn serve(&mut self, packet: Sent, to_client: &mut VecDeque<Incoming>) -> Rule {
        let id = |value| PacketId::new(value).expect("checked when it was sent");
        match packet {
            Sent::Connect => {
                let session_present = self.has_session;
                self.connected = true;
                self.has_session = true;
                to_client.push_back(Incoming::ConnAck {
                    session_present,
                    code: ConnectReturnCode::Accepted,
                });
                for (id, held) in &self.held {
                    to_client.push_back(match held.received {
                        true => Incoming::PubRel(PacketId::new(*id).ok_or("identifier 0")?),
                        false => message(*id, held, true),
                    });
                }
            }
            Sent::Publish {
                id: value,
                qos,
                token,
                ..
            } => {
                let is_new = qos != 2 || self.unreleased.insert(value);
                if is_new {
                    let taken = self.taken.entry(token).or_default();
                    *taken = taken.saturating_add(1);
                    if qos == 2 && *taken > 1 {
                        return Err(format!("QoS 2 message {token} was taken twice"));
                    }
                }
                match qos {
                    1 => to_client.push_back(Incoming::PubAck(id(value))),
                    2 => to_client.push_back(Incoming::PubRec(id(value))),
                    _ => {}
                }
            }
            Sent::PubRel(value) => {
                self.unreleased.remove(&value);
                to_client.push_back(Incoming::PubComp(id(value)));
            }
            Sent::PubAck(value) | Sent::PubComp(value) => {
                self.held.remove(&value);
            }
            Sent::PubRec(value) => {
                if let Some(held) = self.held.get_mut(&value) {
                    held.received = true;
                }
                to_client.push_back(Incoming::PubRel(id(value)));
            }
            Sent::Subscribe(value) => {
                self.subscribed = true;
                to_client.push_back(Incoming::SubAck {
                    id: id(value),
                    granted: vec![Some(QoS::ExactlyOnce)],
                });
            }
            Sent::Unsubscribe(value) => {
                self.subscribed = false;
                to_client.push_back(Incoming::UnsubAck(id(value)));
            }
        }
        Ok(())
    }
}

/// The larger ones alone are more than twice what [`super::Budget::room_for_one`] leaves room for.
pub(super) fn message(id: u16, held: &Held, dup: bool) -> Incoming {
    let length = if held.qos == 1 { 8 } else { 1 };
    Incoming::Publish {
        id: PacketId::new(id),
        message: Message {
            topic: FILTER.to_owned(),
            payload: vec![held.number; length].into(),
            qos: QoS::try_from(held.qos).expect("a level"),
            retain: false,
            dup,
        },
    }
}

pub(super) fn sent(packet: v4::Packet) -> Result<Sent, String> {
    Ok(match packet {
        v4::Packet::Connect(_) => Sent::Connect,
        v4::Packet::Publish(publish) => Sent::Publish {
            id: publish.pkid,
            qos: publish.qos as u8,
            dup: publish.dup,
            token: publish.payload[0],
        },
        v4::Packet::PubAck(ack) => Sent::PubAck(ack.pkid),
        v4::Packet::PubRec(ack) => Sent::PubRec(ack.pkid),
        v4::Packet::PubRel(ack) => Sent::PubRel(ack.pkid),
        v4::Packet::PubComp(ack) => Sent::PubComp(ack.pkid),
        v4::Packet::Subscribe(subscribe) => Sent::Subscribe(subscribe.pkid),
        v4::Packet::Unsubscribe(unsubscribe) => Sent::Unsubscribe(unsubscribe.pkid),
        other => return Err(format!("the session sent {other:?}")),
    })
}
