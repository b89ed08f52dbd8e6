//! The explored world: the session, the server, what is under way between them, and what may happen.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;

use super::rules::{InUse, Kind, Record};
use super::server::{Held, Sent, Server, message, sent};
use super::{Budget, FILTER, Fault, Rule};
use crate::mqtt::packet::{Connect, Filter, Incoming, PacketId, Publish, QoS};
use crate::mqtt::session::{DeliveryId, Event, LinkLoss, Session, SessionOptions};
use crate::mqtt::session::{OnSessionLost, Outcome, Reason};

/// Everything, in one state.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) session: Session<u8>,
    pub(super) server: Server,
    pub(super) linked: bool,
    pub(super) to_server: VecDeque<Sent>,
    pub(super) to_client: VecDeque<Incoming>,
    pub(super) budget: Budget,
    pub(super) fault: Fault,
    pub(super) base: Instant,
    /// Tokens that have not come back: what they are and whether anything of them was sent.
    pub(super) open: BTreeMap<u8, (Kind, bool)>,
    pub(super) next_token: u8,
    pub(super) record: Record,
    /// Deliveries that were asked for and not accepted; the identifier while the session lasts.
    pub(super) unaccepted: Vec<(DeliveryId, Option<u16>, u8)>,
    /// QoS 2 messages that were delivered.
    pub(super) delivered: BTreeSet<u8>,
    /// The last request for the filter was a SUBSCRIBE.
    pub(super) wanted: bool,
    /// A message was left with the server on this link.
    pub(super) left: bool,
    /// The session gave up the link, to be sent what it left with the server, and it is not closed yet.
    pub(super) given_up: bool,
}

/// Fewer bytes than any two messages of the server have.
const ROOM_FOR_ONE: usize = 3;

/// One thing that can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
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

impl World {
    pub(super) fn new(budget: Budget, fault: Fault, base: Instant) -> Self {
        let options = SessionOptions {
            max_inflight: 3,
            ack_timeout: Duration::from_secs(20),
            keep_alive: Duration::ZERO,
            on_session_lost: OnSessionLost::Republish,
            identifiers: 4,
            max_owed_bytes: match budget.room_for_one {
                true => ROOM_FOR_ONE,
                false => usize::MAX,
            },
            fruitless_links: 5,
            first_identifier: 0,
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
            left: false,
            given_up: false,
        }
    }

    /// Everything that can happen next.
    pub(super) fn steps(&self) -> Vec<Step> {
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
            // The session takes nothing more from a link that it has given up.
            let may_be_left = self.budget.losses > 0 || self.left;
            let may_come = !self.given_up && (may_be_left || !self.is_too_much(packet));
            if may_come && (place == 0 || any_order && greeted) {
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
        } else if self.budget.losses > 0 || self.given_up {
            steps.push(Step::Lose);
            if self.budget.forgets > 0 {
                steps.push(Step::LoseAndForget);
            }
        }
        if self.budget.strays > 0 && self.session.is_up() {
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
    pub(super) fn apply(&mut self, step: Step) -> Rule {
        match step {
            Step::Publish(qos) => {
                self.budget.publishes[usize::from(qos)] -= 1;
                let token = self.new_token(Kind::Publish(qos));
                let level = QoS::try_from(qos).expect("a level");
                let publish = Publish::new("t", level, vec![token]);
                self.session.publish(publish.into(), token, self.base);
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
                self.server.serve(packet, &mut self.to_client)?;
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
                if !self.given_up {
                    self.budget.losses -= 1;
                }
                if step == Step::LoseAndForget {
                    self.budget.forgets -= 1;
                    self.server.forget();
                }
                self.lose()?;
            }
            Step::Connect => {
                self.linked = true;
                let connect = Connect {
                    client_id: "c",
                    clean_session: false,
                    keep_alive: 0,
                    last_will: None,
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
            self.server.forget();
        }
        self.linked = false;
        self.left = false;
        self.given_up = false;
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
            Fault::UnreleasedForgotten => self.session.break_inbound(),
            Fault::ToldTwice => {
                let outcome = Outcome::PerhapsDelivered(Reason::LinkLost);
                self.session.break_ending(outcome);
            }
            _ => {}
        }
        Ok(())
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

    pub(super) fn take_events(&mut self) -> Result<bool, String> {
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
                Event::Unread(_) if !self.left => self.left = true,
                Event::Close(LinkLoss::LeftWithBroker) if self.left && !self.is_unread() => {
                    self.given_up = true;
                }
                other => return Err(format!("unexpected: {other:?}")),
            }
        }
        Ok(any)
    }

    /// Runs on without further trouble until nothing is left to do.
    pub(super) fn run_to_the_end(mut self) -> Rule {
        self.budget = Budget {
            room_for_one: self.budget.room_for_one,
            ..Budget::default()
        };
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
        if !session.is_at_rest() {
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

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.session.hash_state(&mut hasher);
        (&self.server, self.linked, &self.to_server, &self.to_client).hash(&mut hasher);
        (&self.budget, &self.open, &self.record).hash(&mut hasher);
        (&self.unaccepted, &self.delivered, self.wanted).hash(&mut hasher);
        (self.left, self.given_up).hash(&mut hasher);
        hasher.finish()
    }
}
