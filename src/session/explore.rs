//! Explores every interleaving of a small world around the session.
//!
//! The world is the session, a server that does what the standard says, the packets under way
//! between the two, and a network that may lose the link at any point with everything under way.
//! What may happen is bounded by a [`Budget`], so the distinct states are finite and all of them are
//! visited. After every step the rules hold that the code below checks, and from every state (one in
//! sixteen in the largest world) all is run to the end without further trouble: then every command
//! has ended, nothing is in flight, and the server has the subscription that is wanted.
//!
//! Nothing here relies on how the session works inside, apart from the deliberate faults
//! ([`Fault`]), which show that the rules notice what they are there for. Left out: a server that
//! begins a new session whose CONNACK never arrives (it drops that session here).

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;

use super::*;
use crate::packet::{Filter, PacketId, Publish};

const FILTER: &str = "f";

/// How much may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Budget {
    /// Publishes, by QoS.
    publishes: [u8; 3],
    subscribes: u8,
    unsubscribes: u8,
    /// Lost links.
    losses: u8,
    /// How often the server may forget its session.
    forgets: u8,
    /// Messages of the server, QoS 1 and QoS 2.
    messages: [u8; 2],
    /// Acknowledgments that answer nothing.
    strays: u8,
}

/// A deliberate fault, which the rules have to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    None,
    /// DUP is left out.
    NoDup,
    /// The identifier is freed when PUBREC comes.
    FreedAtPubrec,
    /// What the server forgot is not subscribed again.
    RenewalForgotten,
    /// What was in flight is dropped when the session was lost.
    DroppedWithSession,
    /// The session forgets which QoS 2 messages it has when the link is lost.
    UnreleasedForgotten,
    /// Acknowledgments leave before the message is accepted.
    AcceptedByItself,
    /// A command whose link was lost is told so and sent again all the same.
    ToldTwice,
}

/// A packet of the session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sent {
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
struct Held {
    number: u8,
    qos: u8,
    /// PUBREC came: PUBREL is what is sent again.
    received: bool,
}

/// A server as the standard describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Server {
    /// CONNECT came on this link.
    connected: bool,
    has_session: bool,
    subscribed: bool,
    unreleased: BTreeSet<u16>,
    held: BTreeMap<u16, Held>,
    next_message: u8,
    /// How often the message of each token was taken.
    taken: BTreeMap<u8, u8>,
}

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Publish(u8),
    Other,
}

/// What an identifier stands for, from the first sending to the last acknowledgment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum InUse {
    Publish { token: u8, qos: u8 },
    Released,
    Subscribe,
    Unsubscribe,
}

/// A message that the session has and has not acknowledged for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Known {
    number: u8,
    accepted: bool,
}

/// What the rules remember of the wire, from the session's side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Record {
    in_use: BTreeMap<u16, InUse>,
    /// Publishes not acknowledged, in the order of their first sending.
    first_sent: Vec<u16>,
    /// Releases not completed, in the order of their PUBRECs.
    releases: Vec<u16>,
    sent_on_link: BTreeSet<u16>,
    /// Places in the two lists above that the present link has come to.
    places: (usize, usize),
    /// Messages by identifier.
    known: BTreeMap<u16, Known>,
    /// What has to be acknowledged on this link, in order.
    owed: Vec<u16>,
    /// SUBACK came and no UNSUBSCRIBE followed.
    granted: bool,
    /// The server had forgotten a granted subscription: nothing is published before it is back.
    renewal_due: bool,
    completions_due: usize,
}

/// Everything, in one state.
#[derive(Debug, Clone)]
struct World {
    session: Session<u8>,
    server: Server,
    linked: bool,
    to_server: VecDeque<Sent>,
    to_client: VecDeque<Incoming>,
    budget: Budget,
    fault: Fault,
    base: Instant,
    /// Tokens that have not come back: what they are and whether anything of them was sent.
    open: BTreeMap<u8, (Kind, bool)>,
    next_token: u8,
    record: Record,
    /// Deliveries that were asked for and not accepted; the identifier while the session lasts.
    unaccepted: Vec<(DeliveryId, Option<u16>, u8)>,
    /// QoS 2 messages that were delivered.
    delivered: BTreeSet<u8>,
    /// The last request for the filter was a SUBSCRIBE.
    wanted: bool,
}

/// One thing that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Publish(u8),
    Subscribe,
    Unsubscribe,
    /// The server handles the first packet under way to it.
    Serve,
    /// The session is given the packet at this place of those under way to it.
    Receive(usize),
    Message(u8),
    Accept(usize),
    Lose,
    LoseAndForget,
    Connect,
    /// PUBACK, PUBREC or PUBCOMP for an identifier that awaits none.
    Stray(u8, u16),
}

type Rule = Result<(), String>;

impl World {
    fn new(budget: Budget, fault: Fault, base: Instant) -> Self {
        let options = SessionOptions {
            max_inflight: 3,
            ack_timeout: Duration::from_secs(20),
            keep_alive: Duration::ZERO,
            on_session_lost: OnSessionLost::Republish,
            identifiers: 4,
        };
        World {
            session: Session::new(options, base),
            server: Server::default(),
            linked: false,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            budget,
            fault,
            base,
            open: BTreeMap::new(),
            next_token: 0,
            record: Record::default(),
            unaccepted: Vec::new(),
            delivered: BTreeSet::new(),
            wanted: false,
        }
    }

    /// Everything that can happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.session.wants_commands() {
            for qos in 0..3 {
                if self.budget.publishes[usize::from(qos)] > 0 {
                    steps.push(Step::Publish(qos));
                }
            }
            if self.budget.subscribes > 0 {
                steps.push(Step::Subscribe);
            }
            if self.budget.unsubscribes > 0 {
                steps.push(Step::Unsubscribe);
            }
        }
        if !self.to_server.is_empty() {
            steps.push(Step::Serve);
        }
        for (place, packet) in self.to_client.iter().enumerate() {
            // A server may acknowledge in any order, but nothing comes before CONNACK and messages
            // keep theirs.
            let any_order = !matches!(
                packet,
                Incoming::ConnAck { .. } | Incoming::Publish { .. } | Incoming::PubRel(_)
            );
            let greeted = !matches!(self.to_client[0], Incoming::ConnAck { .. });
            if place == 0 || any_order && greeted {
                steps.push(Step::Receive(place));
            }
        }
        if self.server.connected && self.server.subscribed && self.server.held.len() < 3 {
            for qos in [1, 2] {
                if self.budget.messages[usize::from(qos) - 1] > 0 {
                    steps.push(Step::Message(qos));
                }
            }
        }
        steps.extend((0..self.unaccepted.len()).map(Step::Accept));
        if !self.linked {
            steps.push(Step::Connect);
        } else if self.budget.losses > 0 {
            steps.push(Step::Lose);
            if self.budget.forgets > 0 {
                steps.push(Step::LoseAndForget);
            }
        }
        if self.budget.strays > 0 && self.session.link == LinkState::Up {
            for id in [1, 2] {
                let awaited = match self.record.in_use.get(&id) {
                    Some(InUse::Publish { qos: 1, .. }) => Some(0),
                    Some(InUse::Publish { .. }) => Some(1),
                    Some(InUse::Released) => Some(2),
                    _ => None,
                };
                // A second PUBREC is no stray: it asks for PUBREL again.
                let second = awaited == Some(2);
                for kind in 0..3 {
                    if awaited != Some(kind) && !(second && kind == 1) {
                        steps.push(Step::Stray(kind, id));
                    }
                }
            }
        }
        steps
    }

    /// Lets one thing happen; says which rule it broke, if any.
    fn apply(&mut self, step: Step) -> Rule {
        match step {
            Step::Publish(qos) => {
                self.budget.publishes[usize::from(qos)] -= 1;
                let token = self.new_token(Kind::Publish(qos));
                let level = QoS::try_from(qos).expect("a level");
                let publish = Publish::new("t", level, vec![token]);
                self.session.publish(publish, token, self.base);
            }
            Step::Subscribe => {
                self.budget.subscribes -= 1;
                let token = self.new_token(Kind::Other);
                self.wanted = true;
                let filters = vec![Filter::new(FILTER, QoS::ExactlyOnce)];
                self.session.subscribe(filters, token, self.base);
            }
            Step::Unsubscribe => {
                self.budget.unsubscribes -= 1;
                let token = self.new_token(Kind::Other);
                self.wanted = false;
                self.record.granted = false;
                self.session
                    .unsubscribe(vec![FILTER.to_owned()], token, self.base);
            }
            Step::Serve => {
                let packet = self.to_server.pop_front().ok_or("nothing to serve")?;
                self.serve(packet)?;
            }
            Step::Receive(place) => {
                let packet = self.to_client.remove(place).ok_or("nothing to receive")?;
                self.receive(packet)?;
            }
            Step::Message(qos) => {
                self.budget.messages[usize::from(qos) - 1] -= 1;
                let id = (1..).find(|id| !self.server.held.contains_key(id));
                let id = id.ok_or("no identifier")?;
                let number = self.server.next_message;
                self.server.next_message += 1;
                let held = Held {
                    number,
                    qos,
                    received: false,
                };
                self.to_client.push_back(message(id, &held, false));
                self.server.held.insert(id, held);
            }
            Step::Accept(place) => {
                let (delivery, id, _) = self.unaccepted.remove(place);
                if let Some(known) = id.and_then(|id| self.record.known.get_mut(&id)) {
                    known.accepted = true;
                }
                self.session.accept(delivery);
            }
            Step::Lose | Step::LoseAndForget => {
                self.budget.losses -= 1;
                if step == Step::LoseAndForget {
                    self.budget.forgets -= 1;
                    self.forget();
                }
                self.lose()?;
            }
            Step::Connect => {
                self.linked = true;
                let connect = Connect {
                    client_id: "c",
                    clean_session: false,
                    keep_alive: 0,
                    credentials: None,
                };
                self.session.handle_link_up(&connect, self.base);
            }
            Step::Stray(kind, id) => {
                self.budget.strays -= 1;
                let id = PacketId::new(id).ok_or("identifier 0")?;
                let packet = match kind {
                    0 => Incoming::PubAck(id),
                    1 => Incoming::PubRec(id),
                    _ => Incoming::PubComp(id),
                };
                self.hand_over(packet)?;
            }
        }
        self.settle()
    }

    fn new_token(&mut self, kind: Kind) -> u8 {
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token, (kind, false));
        token
    }

    fn lose(&mut self) -> Rule {
        // A CONNACK that begins a session and never arrives: see the header.
        if self.to_client.iter().any(|p| {
            matches!(
                p,
                Incoming::ConnAck {
                    session_present: false,
                    ..
                }
            )
        }) {
            self.forget();
        }
        self.linked = false;
        self.server.connected = false;
        self.to_server.clear();
        self.to_client.clear();
        // Their answers cannot come any more; whether they are sent again is the session's choice.
        self.record
            .in_use
            .retain(|_, what| !matches!(what, InUse::Subscribe | InUse::Unsubscribe));
        self.record.sent_on_link.clear();
        self.record.places = (0, 0);
        self.record.owed.clear();
        self.record.completions_due = 0;
        self.record.renewal_due = false;
        self.session.handle_link_lost();
        match self.fault {
            Fault::UnreleasedForgotten => self.session.inbound = Inbound::default(),
            Fault::ToldTwice => {
                let in_flight = self.session.ring.iter().find_map(|(_, e)| e.token);
                if let Some(token) = in_flight {
                    let outcome = Outcome::PerhapsDelivered(Reason::LinkLost);
                    self.session.resolve(token, outcome);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.server.has_session = false;
        self.server.subscribed = false;
        self.server.unreleased.clear();
        self.server.held.clear();
    }

    /// What a server does with a packet.
    fn serve(&mut self, packet: Sent) -> Rule {
        let id = |value| PacketId::new(value).expect("checked when it was sent");
        match packet {
            Sent::Connect => {
                let session_present = self.server.has_session;
                self.server.connected = true;
                self.server.has_session = true;
                self.to_client.push_back(Incoming::ConnAck {
                    session_present,
                    code: ConnectReturnCode::Accepted,
                });
                for (id, held) in &self.server.held {
                    self.to_client.push_back(match held.received {
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
                let is_new = qos != 2 || self.server.unreleased.insert(value);
                if is_new {
                    let taken = self.server.taken.entry(token).or_default();
                    *taken = taken.saturating_add(1);
                    if qos == 2 && *taken > 1 {
                        return Err(format!("QoS 2 message {token} was taken twice"));
                    }
                }
                match qos {
                    1 => self.to_client.push_back(Incoming::PubAck(id(value))),
                    2 => self.to_client.push_back(Incoming::PubRec(id(value))),
                    _ => {}
                }
            }
            Sent::PubRel(value) => {
                self.server.unreleased.remove(&value);
                self.to_client.push_back(Incoming::PubComp(id(value)));
            }
            Sent::PubAck(value) | Sent::PubComp(value) => {
                self.server.held.remove(&value);
            }
            Sent::PubRec(value) => {
                if let Some(held) = self.server.held.get_mut(&value) {
                    held.received = true;
                }
                self.to_client.push_back(Incoming::PubRel(id(value)));
            }
            Sent::Subscribe(value) => {
                self.server.subscribed = true;
                self.to_client.push_back(Incoming::SubAck {
                    id: id(value),
                    granted: vec![Some(QoS::ExactlyOnce)],
                });
            }
            Sent::Unsubscribe(value) => {
                self.server.subscribed = false;
                self.to_client.push_back(Incoming::UnsubAck(id(value)));
            }
        }
        Ok(())
    }

    /// The record of what the session is about to be given.
    fn receive(&mut self, packet: Incoming) -> Rule {
        let record = &mut self.record;
        match &packet {
            Incoming::ConnAck {
                session_present: false,
                ..
            } => {
                // Nothing of the earlier session is left on either side.
                record.in_use.clear();
                record.first_sent.clear();
                record.releases.clear();
                record.known.clear();
                for (_, id, _) in &mut self.unaccepted {
                    *id = None;
                }
                record.renewal_due = record.granted;
                match self.fault {
                    Fault::RenewalForgotten => self.session.filters.clear(),
                    Fault::DroppedWithSession => drop(self.session.ring.drain().count()),
                    _ => {}
                }
            }
            Incoming::PubAck(id) => {
                record.in_use.remove(&id.value());
                record.first_sent.retain(|other| *other != id.value());
            }
            Incoming::PubRec(id) => {
                record.in_use.insert(id.value(), InUse::Released);
                record.first_sent.retain(|other| *other != id.value());
                if !record.releases.contains(&id.value()) {
                    record.releases.push(id.value());
                }
                if self.fault == Fault::FreedAtPubrec {
                    let entry = self.session.ring.remove(*id);
                    let entry = entry.ok_or("nothing under the identifier")?;
                    self.session.waiting.push_back(entry);
                    return Ok(());
                }
            }
            Incoming::PubComp(id) => {
                record.in_use.remove(&id.value());
                record.releases.retain(|other| *other != id.value());
            }
            Incoming::SubAck { id, .. } => {
                record.in_use.remove(&id.value());
                record.granted = self.wanted;
                record.renewal_due = false;
            }
            Incoming::UnsubAck(id) => {
                record.in_use.remove(&id.value());
            }
            Incoming::PubRel(id) => {
                record.known.remove(&id.value());
                record.completions_due += 1;
            }
            Incoming::Publish { .. } | Incoming::ConnAck { .. } | Incoming::PingResp => {}
        }
        if let Incoming::Publish {
            id: Some(id),
            message,
        } = &packet
        {
            let id = id.value();
            let number = message.payload[0];
            let known = self.record.known.get(&id).map(|known| known.number) == Some(number);
            if !self.record.owed.contains(&id) {
                self.record.owed.push(id);
            }
            if !known {
                let known = Known {
                    number,
                    accepted: false,
                };
                self.record.known.insert(id, known);
            }
            let before = self.unaccepted.len();
            self.hand_over(packet)?;
            self.take_events()?;
            let delivered = self.unaccepted.len() - before;
            if delivered != usize::from(!known) {
                return Err(format!("message {number} was delivered {delivered} times"));
            }
            return Ok(());
        }
        self.hand_over(packet)
    }

    fn hand_over(&mut self, packet: Incoming) -> Rule {
        let name = packet.name();
        self.session
            .handle_packet(packet, self.base)
            .map_err(|error| format!("{name} was taken for a protocol error: {error}"))
    }

    /// Takes what the session sends and says until it is silent.
    fn settle(&mut self) -> Rule {
        loop {
            let mut bytes = BytesMut::from(self.session.output());
            let nothing_sent = bytes.is_empty();
            while !bytes.is_empty() {
                let packet = v4::Packet::read(&mut bytes, usize::MAX)
                    .map_err(|error| format!("the session sent garbage: {error}"))?;
                let mut sent = sent(packet)?;
                if let (Fault::NoDup, Sent::Publish { dup, .. }) = (self.fault, &mut sent) {
                    *dup = false;
                }
                self.check_sent(&sent)?;
                self.to_server.push_back(sent);
            }
            let length = self.session.output().len();
            self.session.handle_written(length, self.base);
            let nothing_said = !self.take_events()?;
            if nothing_sent && nothing_said {
                return Ok(());
            }
        }
    }

    fn take_events(&mut self) -> Result<bool, String> {
        let mut any = false;
        while let Some(event) = self.session.poll_event() {
            any = true;
            match event {
                Event::Connected { .. } => {}
                Event::Resolved { token, outcome } => self.check_resolved(token, &outcome)?,
                Event::Message { message, delivery } => {
                    let number = message.payload[0];
                    let delivery = delivery.ok_or("a message without a delivery")?;
                    if message.qos == QoS::ExactlyOnce && !self.delivered.insert(number) {
                        return Err(format!("QoS 2 message {number} was delivered twice"));
                    }
                    let id = self.record.known.iter();
                    let id = id
                        .filter(|(_, k)| k.number == number)
                        .map(|(id, _)| *id)
                        .next();
                    if self.fault == Fault::AcceptedByItself {
                        self.session.accept(delivery);
                    }
                    self.unaccepted.push((delivery, id, number));
                }
                other => return Err(format!("unexpected: {other:?}")),
            }
        }
        Ok(any)
    }

    /// The rules for what is sent.
    fn check_sent(&mut self, sent: &Sent) -> Rule {
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
    fn check_resolved(&mut self, token: u8, outcome: &Outcome) -> Rule {
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

    /// Runs on without further trouble until nothing is left to do.
    fn run_to_the_end(mut self) -> Rule {
        self.budget = Budget::default();
        for _ in 0..1_000 {
            match self.steps().first() {
                Some(step) => self.apply(*step)?,
                None => return self.check_end(),
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn check_end(&self) -> Rule {
        let session = &self.session;
        if !self.open.is_empty() {
            return Err(format!("commands never ended: {:?}", self.open));
        }
        if session.ring.occupied() != 0 || !session.waiting.is_empty() {
            return Err("something is still in flight".to_owned());
        }
        if !self.server.held.is_empty() || !self.server.unreleased.is_empty() {
            return Err("something was not acknowledged to the end".to_owned());
        }
        if self.server.subscribed != self.wanted {
            return Err(format!("subscribed: {}", self.server.subscribed));
        }
        match session.wants_commands() {
            true => Ok(()),
            false => Err("the session takes no further command".to_owned()),
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let session = &self.session;
        // Not: what only counts, and the clock, which stands still.
        (session.link, &session.ring, &session.waiting).hash(&mut hasher);
        (session.resubscribing, &session.filters, &session.inbound).hash(&mut hasher);
        (session.unanswered_connect, &session.unacknowledged).hash(&mut hasher);
        (&self.server, self.linked, &self.to_server, &self.to_client).hash(&mut hasher);
        (&self.budget, &self.open, &self.record).hash(&mut hasher);
        (&self.unaccepted, &self.delivered, self.wanted).hash(&mut hasher);
        hasher.finish()
    }
}

fn message(id: u16, held: &Held, dup: bool) -> Incoming {
    Incoming::Publish {
        id: PacketId::new(id),
        message: Message {
            topic: FILTER.to_owned(),
            payload: vec![held.number].into(),
            qos: QoS::try_from(held.qos).expect("a level"),
            retain: false,
            dup,
        },
    }
}

fn sent(packet: v4::Packet) -> Result<Sent, String> {
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

/// How a state was reached.
struct Path {
    step: Step,
    before: Option<Rc<Path>>,
}

/// Visits every state that the budget allows, and runs on to the end from one in `ends` of them.
/// Returns how many states there are.
fn explore(budget: Budget, fault: Fault, ends: u64) -> Result<usize, String> {
    let mut visited = HashSet::new();
    let mut open: Vec<(World, Option<Rc<Path>>)> = Vec::new();
    let start = World::new(budget, fault, Instant::now());
    visited.insert(start.fingerprint());
    open.push((start, None));
    while let Some((world, path)) = open.pop() {
        for step in world.steps() {
            let mut next = world.clone();
            let path = Rc::new(Path {
                step,
                before: path.clone(),
            });
            let outcome = next.apply(step).and_then(|()| {
                let fingerprint = next.fingerprint();
                if !visited.insert(fingerprint) {
                    return Ok(false);
                }
                if fingerprint.is_multiple_of(ends) {
                    next.clone().run_to_the_end()?;
                }
                Ok(true)
            });
            match outcome {
                Ok(true) => open.push((next, Some(path))),
                Ok(false) => {}
                Err(broken) => return Err(transcript(&path, &broken, budget, fault)),
            }
        }
    }
    Ok(visited.len())
}

fn transcript(path: &Path, broken: &str, budget: Budget, fault: Fault) -> String {
    let mut steps = Vec::new();
    let mut at = Some(path);
    while let Some(path) = at {
        steps.push(path.step);
        at = path.before.as_deref();
    }
    steps.reverse();
    let mut world = World::new(budget, fault, Instant::now());
    let mut text = String::new();
    for step in steps {
        let (up, down) = (world.to_server.len(), world.to_client.len());
        let result = world.apply(step);
        text += &format!("{step:?}");
        for packet in world.to_server.iter().skip(up) {
            text += &format!("  -> {packet:?}");
        }
        for packet in world.to_client.iter().skip(down) {
            text += &format!("  <- {packet:?}");
        }
        text += "\n";
        if result.is_err() {
            break;
        }
    }
    format!("{text}{broken}")
}

fn no_violation(name: &str, budget: Budget, ends: u64) -> usize {
    match explore(budget, Fault::None, ends) {
        Ok(states) => {
            println!("{name}: {states} distinct states, no violation");
            states
        }
        Err(transcript) => panic!("{name}:\n{transcript}"),
    }
}

#[test]
fn every_interleaving_of_publishes_and_losses() {
    let states = no_violation(
        "publishes and losses",
        Budget {
            publishes: [1, 2, 1],
            losses: 2,
            forgets: 1,
            strays: 1,
            ..Budget::default()
        },
        1,
    );
    assert!(states > 10_000, "{states}");
}

#[test]
fn every_interleaving_of_subscriptions_and_losses() {
    let states = no_violation(
        "subscriptions and losses",
        Budget {
            publishes: [0, 1, 0],
            subscribes: 2,
            unsubscribes: 1,
            losses: 2,
            forgets: 2,
            ..Budget::default()
        },
        1,
    );
    assert!(states > 10_000, "{states}");
}

#[test]
fn every_interleaving_of_messages_and_losses() {
    let states = no_violation(
        "messages and losses",
        Budget {
            subscribes: 1,
            messages: [1, 1],
            losses: 2,
            forgets: 1,
            ..Budget::default()
        },
        1,
    );
    assert!(states > 1_000, "{states}");
}

/// Every QoS, a subscription and messages in both directions: more than two million states.
#[test]
fn every_interleaving_of_everything() {
    let states = no_violation(
        "everything",
        Budget {
            publishes: [0, 1, 1],
            subscribes: 1,
            messages: [1, 1],
            losses: 2,
            forgets: 1,
            ..Budget::default()
        },
        16,
    );
    assert!(states > 1_000_000, "{states}");
}

#[test]
fn every_fault_is_noticed() {
    let everything = Budget {
        publishes: [0, 1, 1],
        subscribes: 1,
        messages: [0, 1],
        losses: 2,
        forgets: 1,
        ..Budget::default()
    };
    for (fault, noticed) in [
        (Fault::NoDup, "without DUP"),
        (Fault::FreedAtPubrec, ""),
        (Fault::RenewalForgotten, "subscribe"),
        (Fault::DroppedWithSession, "never ended"),
        (Fault::UnreleasedForgotten, "delivered"),
        (Fault::AcceptedByItself, "before it was accepted"),
        (Fault::ToldTwice, "end"),
    ] {
        let transcript = explore(everything, fault, 1).expect_err(&format!("{fault:?}"));
        let broken = transcript.lines().last().unwrap_or_default();
        println!("{fault:?}: {broken}");
        assert!(broken.contains(noticed), "{fault:?}:\n{transcript}");
    }
}
