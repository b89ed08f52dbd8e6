//! A simulated broker: takes packets, owes answers, keeps or loses its session.
//!
//! It answers when it is told to, so a link can be lost at any point between a packet and its answer.

use std::collections::{BTreeMap, BTreeSet};

use rumqttc::mqttbytes::v4::Packet;

use super::Transcript;
use super::packets::{message, message_again, puback, pubcomp, pubrec, pubrel, suback, unsuback};
use crate::mqtt::packet::Incoming;

/// A message on its way to the client.
struct Outgoing {
    id: u16,
    qos: usize,
    payload: String,
    received: bool,
}

/// What the broker knows of this one client.
#[derive(Default)]
pub(super) struct Broker {
    pub(super) has_session: bool,
    pub(super) subscriptions: BTreeMap<String, u8>,
    /// Payloads in the order in which they were published.
    pub(super) published: Vec<String>,
    /// Answers that are owed on this link.
    answers: Vec<Incoming>,
    unreleased: BTreeSet<u16>,
    outgoing: Vec<Outgoing>,
    next_id: u16,
}

impl Broker {
    /// Lets the link drop, with everything that was on it, and answers the next CONNECT.
    pub(super) fn reconnects(&mut self, t: &mut Transcript) {
        let session_present = self.takes_connect(t);
        t.connack(session_present);
        for waiting in &self.outgoing {
            self.answers.push(match waiting.received {
                true => pubrel(waiting.id),
                false => message_again(waiting.id, waiting.qos, &waiting.payload),
            });
        }
    }

    /// The same, but CONNACK never comes. Says whether it would have found the session.
    pub(super) fn takes_connect(&mut self, t: &mut Transcript) -> bool {
        t.loses_link();
        t.sent.clear();
        t.links_up();
        self.answers.clear();
        let session_present = std::mem::replace(&mut self.has_session, true);
        if !session_present {
            self.subscriptions.clear();
            self.unreleased.clear();
            self.outgoing.clear();
        }
        session_present
    }

    /// Takes the next packet off the wire; false when there is none.
    pub(super) fn takes(&mut self, t: &mut Transcript) -> bool {
        let Some(packet) = t.sent.pop_front() else {
            return false;
        };
        match packet {
            Packet::Publish(p) => {
                let payload = String::from_utf8_lossy(&p.payload).into_owned();
                match p.qos as u8 {
                    0 => self.published.push(payload),
                    1 => {
                        self.published.push(payload);
                        self.answers.push(puback(p.pkid));
                    }
                    _ => {
                        if self.unreleased.insert(p.pkid) {
                            self.published.push(payload);
                        }
                        self.answers.push(pubrec(p.pkid));
                    }
                }
            }
            Packet::PubRel(p) => {
                self.unreleased.remove(&p.pkid);
                self.answers.push(pubcomp(p.pkid));
            }
            Packet::Subscribe(p) => {
                assert!(p.filters.len() <= 8, "{} filters", p.filters.len());
                let granted: Vec<_> = p.filters.iter().map(|f| Some(f.qos as u8)).collect();
                for filter in p.filters {
                    self.subscriptions.insert(filter.path, filter.qos as u8);
                }
                self.answers.push(suback(p.pkid, &granted));
            }
            Packet::Unsubscribe(p) => {
                assert!(p.topics.len() <= 8, "{} filters", p.topics.len());
                for filter in &p.topics {
                    self.subscriptions.remove(filter);
                }
                self.answers.push(unsuback(p.pkid));
            }
            Packet::PubAck(p) => self.outgoing.retain(|waiting| waiting.id != p.pkid),
            Packet::PubRec(p) => {
                for waiting in &mut self.outgoing {
                    waiting.received |= waiting.id == p.pkid;
                }
                self.answers.push(pubrel(p.pkid));
            }
            Packet::PubComp(p) => self.outgoing.retain(|waiting| waiting.id != p.pkid),
            Packet::PingReq => self.answers.push(Incoming::PingResp),
            other => panic!("{other:?}"),
        }
        true
    }

    /// Gives one of the answers that are owed; false when there is none.
    pub(super) fn answers(&mut self, which: usize, t: &mut Transcript) -> bool {
        if self.answers.is_empty() {
            return false;
        }
        let answer = self.answers.remove(which % self.answers.len());
        t.receives(answer);
        true
    }

    /// Has a message for the client.
    pub(super) fn publishes(&mut self, qos: usize, payload: String) {
        self.next_id += 1;
        let id = self.next_id;
        self.answers.push(message(id, qos, &payload));
        if qos > 0 {
            self.outgoing.push(Outgoing {
                id,
                qos,
                payload,
                received: false,
            });
        }
    }

    /// If the client makes a new link for what it had left here: takes what came before that, and lets
    /// it in again.
    pub(super) fn is_asked_again(&mut self, t: &mut Transcript) -> bool {
        t.notes.retain(|note| !note.starts_with("unread "));
        let asked = t.notes.pop_front();
        if let Some(note) = &asked {
            assert_eq!(note, "close LeftWithBroker");
            while self.takes(t) {}
            self.reconnects(t);
        }
        asked.is_some()
    }

    /// Takes and answers in order until nothing moves any more; the client accepts every message.
    pub(super) fn settles(&mut self, t: &mut Transcript, received: &mut Vec<String>) {
        loop {
            let busy = self.takes(t) | self.answers(0, t);
            let accepted = accept_all(t, received);
            if !busy && !accepted && !self.is_asked_again(t) {
                return;
            }
        }
    }
}

/// The response queues take everything that was delivered.
pub(super) fn accept_all(t: &mut Transcript, received: &mut Vec<String>) -> bool {
    let messages = std::mem::take(&mut t.messages);
    let any = !messages.is_empty();
    for (text, delivery) in messages {
        received.push(text);
        if let Some(delivery) = delivery {
            t.accept(delivery);
        }
    }
    any
}
