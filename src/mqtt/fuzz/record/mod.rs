//! What the session was told, what it sent and what it said, seen from outside: the rules of the
//! target `session`.
//!
//! Packet identifiers: none is used for two things [MQTT-2.3.1-2]. Each packet that is sent again says
//! so, and none goes out twice on a link [MQTT-3.3.1-1]. Nothing comes before CONNECT, before CONNACK
//! but CONNECT, or after DISCONNECT [MQTT-3.1.0-1] [MQTT-3.14.4-2]. PUBREL answers PUBREC and PUBCOMP
//! answers PUBREL, each at once. PUBACK and PUBREC leave in the order of arrival and for messages that
//! were accepted [MQTT-4.6.0-2]. Each command ends once, because of the packet that ends it, and with
//! what is true of its bytes. A message is delivered once for each arrival at most, and not when it
//! was delivered before and is known by its identifier. Pure.

mod events;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Rule;
use super::wire::FromClient;
use crate::mqtt::packet::{ConnectReturnCode, Incoming, Message, PacketId, QoS};
use crate::mqtt::session::DeliveryId;

/// Names a command, in the order in which they were handed in.
pub(super) type Token = u16;

/// What makes the session say something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// This packet, and the command that it may end.
    Packet(Incoming, Option<Token>),
    Written,
    LinkLost,
    Timeout,
    Abandoned,
    /// A command was handed in, or a message accepted: nothing ends by that.
    Other,
}

/// What a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Publish { qos: u8, payload: usize },
    Subscribe,
    Unsubscribe,
    Ping,
}

#[derive(Debug)]
struct Command {
    kind: Kind,
    ended: bool,
    /// On which link, and in which session of the broker, its PUBLISH was put into the output last; not
    /// where a link was lost that took no byte of it.
    sent: Option<(u32, u32)>,
    /// Where on that link its bytes begin and end.
    place: (usize, usize),
    /// Whether any byte of it was taken by a link.
    touched: bool,
    id: u16,
}

/// What an identifier stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InUse {
    Publish(Token),
    /// PUBREC came, PUBREL is due or out.
    Released(Token),
    Subscribe(usize),
    Unsubscribe,
}

/// How far the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Down,
    Greeting { clean_session: bool, sent: bool },
    Up,
    Closing { sent: bool },
}

/// A QoS 1 or 2 PUBLISH that came on this link.
#[derive(Debug)]
struct Arrival {
    id: u16,
    qos: QoS,
    delivery: Option<DeliveryId>,
}

/// The latest delivery under an identifier.
#[derive(Debug)]
struct Delivered {
    delivery: DeliveryId,
    accepted: bool,
    acknowledged: bool,
}

/// The record.
#[derive(Debug)]
pub(super) struct Record {
    commands: Vec<Command>,
    pub(super) open: usize,
    stage: Stage,
    link: u32,
    broker_session: u32,
    /// Bytes put into the output on this link, and bytes taken out of it.
    encoded: usize,
    written: usize,
    /// PUBLISHes that no byte of was taken yet, and when each was sent before.
    untouched: VecDeque<(Token, Option<(u32, u32)>)>,
    in_use: BTreeMap<u16, InUse>,
    /// PUBRECs and PUBRELs that have to be answered at once.
    releases_due: Vec<u16>,
    completions_due: Vec<u16>,
    arrivals: VecDeque<Arrival>,
    latest: BTreeMap<u16, Delivered>,
    /// QoS 2 messages that were delivered and not released.
    unreleased: BTreeMap<u16, Arc<Message>>,
    /// Identifiers of QoS 2 that came since the last release, delivered or not.
    unreleased_ids: BTreeSet<u16>,
    /// The PUBLISH that came last is not known.
    must_deliver: bool,
}

impl Record {
    pub(super) fn new() -> Self {
        Record {
            commands: Vec::new(),
            open: 0,
            stage: Stage::Down,
            link: 0,
            broker_session: 0,
            encoded: 0,
            written: 0,
            untouched: VecDeque::new(),
            in_use: BTreeMap::new(),
            releases_due: Vec::new(),
            completions_due: Vec::new(),
            arrivals: VecDeque::new(),
            latest: BTreeMap::new(),
            unreleased: BTreeMap::new(),
            unreleased_ids: BTreeSet::new(),
            must_deliver: false,
        }
    }

    pub(super) fn new_command(&mut self, kind: Kind) -> Token {
        let token = self.commands.len() as Token;
        self.open += 1;
        self.commands.push(Command {
            kind,
            ended: false,
            sent: None,
            place: (0, 0),
            touched: false,
            id: 0,
        });
        token
    }

    pub(super) fn link_up(&mut self, clean_session: bool) {
        self.stage = Stage::Greeting {
            clean_session,
            sent: false,
        };
        self.link += 1;
        self.encoded = 0;
        self.written = 0;
    }

    pub(super) fn disconnect(&mut self) {
        if self.stage == Stage::Up {
            self.stage = Stage::Closing { sent: false };
        }
    }

    /// The link is gone; call it before the session is told.
    pub(super) fn link_lost(&mut self) {
        self.stage = Stage::Down;
        // They may be sent again under another identifier.
        self.in_use
            .retain(|_, what| matches!(what, InUse::Publish(_) | InUse::Released(_)));
        for (token, before) in self.untouched.drain(..) {
            let command = &mut self.commands[usize::from(token)];
            // A server that says PUBREC to what it cannot have is taken at its word.
            if self.in_use.get(&command.id) != Some(&InUse::Released(token)) {
                command.sent = before;
            }
        }
        self.releases_due.clear();
        self.completions_due.clear();
        self.arrivals.clear();
    }

    /// The link took so many bytes; call it before the session is told.
    pub(super) fn written(&mut self, bytes: usize) {
        self.written += bytes;
        while let Some((token, _)) = self.untouched.front()
            && self.commands[usize::from(*token)].place.0 < self.written
        {
            self.commands[usize::from(*token)].touched = true;
            self.untouched.pop_front();
        }
    }

    /// A packet is about to be given to the session: what it may cause, or none when the session has
    /// to take it for a violation.
    pub(super) fn receives(&mut self, packet: &Incoming) -> Option<Cause> {
        let mut ends = None;
        match (self.stage, packet) {
            (Stage::Down, _) => return None,
            (
                Stage::Greeting { clean_session, .. },
                Incoming::ConnAck {
                    session_present,
                    code,
                },
            ) => {
                if *code == ConnectReturnCode::Accepted {
                    if *session_present && clean_session {
                        return None;
                    }
                    self.stage = Stage::Up;
                    if !session_present {
                        self.session_lost();
                    }
                }
            }
            (Stage::Greeting { .. }, _) | (Stage::Up, Incoming::ConnAck { .. }) => return None,
            (Stage::Up | Stage::Closing { .. }, Incoming::PubAck(id)) => {
                if let Some(InUse::Publish(token)) = self.in_use.get(&id.value())
                    && self.qos(*token) == 1
                    && self.is_sent(*token)
                {
                    ends = Some(*token);
                    self.in_use.remove(&id.value());
                }
            }
            (Stage::Up | Stage::Closing { .. }, Incoming::PubComp(id)) => {
                if let Some(InUse::Released(token)) = self.in_use.get(&id.value()) {
                    ends = Some(*token);
                    self.in_use.remove(&id.value());
                }
            }
            (Stage::Up | Stage::Closing { .. }, Incoming::PingResp) => {}
            // Nothing else counts.
            (Stage::Closing { .. }, _) => return Some(Cause::Other),
            (Stage::Up, Incoming::PubRec(id)) => match self.in_use.get(&id.value()) {
                Some(InUse::Publish(token)) if self.qos(*token) == 2 && self.is_sent(*token) => {
                    self.in_use.insert(id.value(), InUse::Released(*token));
                    self.releases_due.push(id.value());
                }
                Some(InUse::Released(_)) => self.releases_due.push(id.value()),
                _ => {}
            },
            (Stage::Up, Incoming::SubAck { id, granted }) => {
                if let Some(InUse::Subscribe(filters)) = self.in_use.get(&id.value()) {
                    if *filters != granted.len() {
                        return None;
                    }
                    self.in_use.remove(&id.value());
                }
            }
            (Stage::Up, Incoming::UnsubAck(id)) => {
                if self.in_use.get(&id.value()) == Some(&InUse::Unsubscribe) {
                    self.in_use.remove(&id.value());
                }
            }
            (Stage::Up, Incoming::PubRel(id)) => {
                self.completions_due.push(id.value());
                self.latest.remove(&id.value());
                self.unreleased.remove(&id.value());
                self.unreleased_ids.remove(&id.value());
            }
            (Stage::Up, Incoming::Publish { id, message }) => self.arrives(*id, message),
        }
        Some(Cause::Packet(packet.clone(), ends))
    }

    /// The broker has no session: nothing of the earlier one is left.
    fn session_lost(&mut self) {
        self.broker_session += 1;
        self.in_use.clear();
        self.latest.clear();
        self.unreleased.clear();
        self.unreleased_ids.clear();
    }

    /// After the session handled `cause` and its events and output were taken.
    ///
    /// # Errors
    /// What had to be done at once and was not.
    pub(super) fn handled(&mut self, cause: &Cause, messages: usize) -> Rule {
        if let Cause::Packet(Incoming::Publish { message, .. }, _) = cause
            && (messages > 1 || self.must_deliver && messages == 0)
        {
            return Err(format!("{message:?} was delivered {messages} times"));
        }
        let due = (&self.releases_due, &self.completions_due);
        match due {
            _ if self.stage != Stage::Up => Ok(()),
            (releases, completions) if releases.is_empty() && completions.is_empty() => Ok(()),
            due => Err(format!("PUBREL, PUBCOMP are due for {due:?}")),
        }
    }

    /// A PUBLISH came: whether it has to be delivered, or may be a repetition.
    fn arrives(&mut self, id: Option<PacketId>, message: &Message) {
        self.must_deliver = true;
        let Some(id) = id.map(PacketId::value) else {
            return;
        };
        let owed = self.latest.get(&id).is_some_and(|l| !l.acknowledged);
        let repeated = message.qos == QoS::ExactlyOnce && !self.unreleased_ids.insert(id);
        self.must_deliver = !owed && !repeated;
        if let Some(before) = self.unreleased.get(&id)
            && !(message.qos == QoS::ExactlyOnce && events::is_same(before, message))
        {
            // The server uses the identifier for another message without having released it:
            // nobody can know any more what is a repetition.
            self.unreleased.remove(&id);
        }
        self.arrivals.push_back(Arrival {
            id,
            qos: message.qos,
            delivery: None,
        });
    }

    /// The session put a packet of `length` bytes into its output.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn sends(&mut self, packet: &FromClient<'_>, length: usize) -> Rule {
        let place = (self.encoded, self.encoded + length);
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
                return Ok(());
            }
            (Stage::Closing { sent: sent @ false }, FromClient::Disconnect) => {
                *sent = true;
                return Ok(());
            }
            (Stage::Up, FromClient::Connect { .. } | FromClient::Disconnect) => {}
            (Stage::Up, _) => return self.sends_online(packet, place),
            _ => {}
        }
        Err(format!("{packet:?} is sent while {:?}", self.stage))
    }

    fn sends_online(&mut self, packet: &FromClient<'_>, place: (usize, usize)) -> Rule {
        match packet {
            FromClient::Publish { .. } => self.sends_publish(packet, place),
            FromClient::PubAck(id) => self.acknowledges(*id, QoS::AtLeastOnce),
            FromClient::PubRec(id) => self.acknowledges(*id, QoS::ExactlyOnce),
            FromClient::PubRel(id) => {
                self.releases_due.retain(|due| due != id);
                match self.in_use.get(id) {
                    Some(InUse::Released(_)) => Ok(()),
                    other => Err(format!("PUBREL {id} where that is {other:?}")),
                }
            }
            FromClient::PubComp(id) => {
                if self.completions_due.first() != Some(id) {
                    return Err(format!("PUBCOMP {id}, due: {:?}", self.completions_due));
                }
                self.completions_due.remove(0);
                Ok(())
            }
            FromClient::Subscribe { id, filters } => {
                self.takes_identifier(*id, InUse::Subscribe(filters.len()))?;
                at_most_eight(filters.len())
            }
            FromClient::Unsubscribe { id, filters } => {
                self.takes_identifier(*id, InUse::Unsubscribe)?;
                at_most_eight(filters.len())
            }
            FromClient::PingReq => Ok(()),
            FromClient::Connect { .. } | FromClient::Disconnect => Err("twice".to_owned()),
        }
    }

    fn sends_publish(&mut self, packet: &FromClient<'_>, place: (usize, usize)) -> Rule {
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
        let now = (self.link, self.broker_session);
        let Some(command) = self.commands.get_mut(usize::from(token)) else {
            return wrong("nobody published that");
        };
        let kind = Kind::Publish {
            qos: *qos,
            payload: payload.len(),
        };
        if command.kind != kind {
            return wrong("published otherwise");
        }
        if command.ended {
            return wrong("it has ended");
        }
        if command.sent.is_some_and(|(link, _)| link == self.link) {
            return wrong("twice on this link");
        }
        let again = command.sent.is_some_and(|(_, s)| s == self.broker_session);
        if *dup != again {
            return wrong("DUP is wrong");
        }
        let same = command.id == *id;
        self.untouched.push_back((token, command.sent));
        command.sent = Some(now);
        command.place = place;
        command.id = *id;
        if *qos == 0 || same && self.in_use.get(id) == Some(&InUse::Publish(token)) {
            return Ok(());
        }
        self.takes_identifier(*id, InUse::Publish(token))
    }

    fn takes_identifier(&mut self, id: u16, what: InUse) -> Rule {
        match self.in_use.insert(id, what) {
            None => Ok(()),
            Some(other) => Err(format!("identifier {id} for {what:?} is used by {other:?}")),
        }
    }

    /// PUBACK or PUBREC: for the next arrival that one is due for.
    fn acknowledges(&mut self, id: u16, qos: QoS) -> Rule {
        while let Some(arrival) = self.arrivals.pop_front() {
            let latest = self.latest.get_mut(&arrival.id);
            if arrival.id == id && arrival.qos == qos {
                return match latest {
                    Some(latest) if !latest.accepted => {
                        Err(format!("identifier {id} is acknowledged, not accepted"))
                    }
                    latest => {
                        if let Some(latest) = latest {
                            latest.acknowledged = true;
                        }
                        Ok(())
                    }
                };
            }
            // One that was passed over must be a repetition, or superseded.
            if arrival.delivery.is_some()
                && latest.is_some_and(|l| Some(l.delivery) == arrival.delivery && !l.acknowledged)
            {
                return Err(format!(
                    "identifier {id} is acknowledged before {arrival:?}"
                ));
            }
        }
        Err(format!("identifier {id} is acknowledged, nothing came"))
    }

    /// A receiver accepts this delivery; call it before the session is told.
    pub(super) fn accepts(&mut self, delivery: DeliveryId) {
        for latest in self.latest.values_mut() {
            latest.accepted |= latest.delivery == delivery;
        }
    }

    fn is_sent(&self, token: Token) -> bool {
        self.commands[usize::from(token)].sent.is_some()
    }

    fn qos(&self, token: Token) -> u8 {
        match self.commands[usize::from(token)].kind {
            Kind::Publish { qos, .. } => qos,
            _ => 0,
        }
    }
}

fn at_most_eight(filters: usize) -> Rule {
    match filters {
        ..=8 => Ok(()),
        more => Err(format!("{more} filters in a packet")),
    }
}
