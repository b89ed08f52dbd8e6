//! The world of two drivers: a session under the rules, a server that does as the standard says, and a network
//! that may lose the link at any point with everything under way. Pure; for tests only.
//!
//! These rules need such a server: the outcomes are true of the messages that it took, a QoS 2 message is
//! delivered once, and in the end the server has the subscriptions that are wanted and holds no message any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};

use super::super::rules::server::{Server, level, refusal, version5};
use super::super::rules::{Fault, Harness, Kind, Rule, Token, Verdict};
use crate::mqtt::packet::{ConnectTerms, Filter, Incoming, QoS};
use crate::mqtt::session::{Outcome, Reason, SessionOptions};
use crate::mqtt::v4::tests::wire::{self, FromClient};
use crate::mqtt::v5::tests::wire::from_client5;

/// One thing that can happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Publish(u8),
    /// These filters, by their numbers.
    Subscribe(Vec<u8>, u8),
    Unsubscribe(Vec<u8>),
    Ping,
    /// The server handles the first packet under way to it.
    Serve,
    /// The same, and with MQTT 5 it says no.
    Refuse,
    /// With MQTT 5 the server closes the link with this DISCONNECT.
    Disconnect(Incoming),
    /// The session is given the packet at this place of those under way to it.
    Receive(usize),
    Message(u8),
    Accept(usize),
    /// The message at this place counts as accepted, and waits on.
    AcceptEarly(usize),
    Lose {
        forget: bool,
    },
    Connect,
    /// Time passes until the next timer rings.
    Wait,
    /// An acknowledgment that answers nothing.
    Stray(Incoming),
}

/// Everything, in one state.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) harness: Harness,
    pub(super) server: Server,
    pub(super) to_client: VecDeque<Incoming>,
    /// The subscriptions that the server has to have in the end.
    wanted: BTreeMap<String, u8>,
    /// The last request for each filter.
    requests: BTreeMap<String, Token>,
    /// Filters whose last request or renewal was given up: the server may have done as it says.
    unknown: BTreeSet<String>,
    /// QoS 2 messages that were delivered.
    delivered: BTreeSet<u8>,
    /// A server that begins a session whose CONNACK never arrives keeps it. Otherwise it drops that session, so
    /// that the client is never mistaken.
    keeps_unknown_session: bool,
    /// Where the links speak MQTT 5.
    offer: Option<Offer>,
    /// How many of them there were, two at most.
    links: usize,
}

/// The limits of a server of MQTT 5, on the first link and on those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Offer {
    pub(super) receive_maximum: [u16; 2],
    pub(super) maximum_qos: [u8; 2],
}

impl World {
    pub(super) fn new(
        options: SessionOptions,
        keeps_unknown_session: bool,
        fault: Fault,
        base: std::time::Instant,
    ) -> Self {
        let mut harness = Harness::new(options, false, fault, base);
        harness.lingers = true;
        World {
            harness,
            server: Server::default(),
            to_client: VecDeque::new(),
            wanted: BTreeMap::new(),
            requests: BTreeMap::new(),
            unknown: BTreeSet::new(),
            delivered: BTreeSet::new(),
            keeps_unknown_session,
            offer: None,
            links: 0,
        }
    }

    /// The links speak MQTT 5.
    pub(super) fn speaks_version5(mut self, offer: Offer, options: &SessionOptions) -> Self {
        let terms = ConnectTerms {
            session_expiry: u32::MAX,
            ..ConnectTerms::default()
        };
        self.harness = self.harness.speaks_version5(terms, options);
        self.offer = Some(offer);
        self
    }

    /// Lets one thing happen. The link takes everything at once.
    pub(super) fn apply(&mut self, step: &Step) -> Rule {
        let harness = &mut self.harness;
        match step {
            Step::Publish(qos) => harness.publish("t", *qos, 2)?,
            Step::Subscribe(numbers, qos) => {
                let token = harness.record.next_token();
                let filters = numbers.iter().map(|n| Filter::new(name(n), level(*qos)));
                harness.subscribe(filters.collect())?;
                self.wanted.extend(numbers.iter().map(|n| (name(n), *qos)));
                self.requests(numbers, token);
            }
            Step::Unsubscribe(numbers) => {
                let token = harness.record.next_token();
                harness.unsubscribe(numbers.iter().map(name).collect())?;
                self.wanted
                    .retain(|filter, _| !numbers.iter().any(|n| name(n) == *filter));
                self.requests(numbers, token);
            }
            Step::Ping => harness.ping()?,
            Step::Serve => {
                let bytes = harness.sent.pop_front().ok_or("nothing to serve")?;
                match self.offer {
                    None => {
                        let (packet, _) = wire::from_client(&bytes)?;
                        self.server.serve(&packet, &mut self.to_client)?;
                    }
                    Some(offer) => self.serve5(&from_client5(&bytes)?.0.packet, offer)?,
                }
            }
            Step::Refuse => {
                let bytes = harness.sent.pop_front().ok_or("nothing to refuse")?;
                let packet = from_client5(&bytes)?.0.packet;
                if let FromClient::Publish { payload, .. } = packet {
                    self.server
                        .refused
                        .insert(Token::from_be_bytes([payload[0], payload[1]]));
                }
                self.to_client.extend(refusal(&packet));
            }
            Step::Disconnect(packet) => {
                self.server.connected = false;
                self.receive(packet.clone())?;
            }
            Step::Receive(place) => {
                let packet = self.to_client.remove(*place).ok_or("nothing to receive")?;
                self.receive(packet)?;
            }
            Step::Message(qos) => self.to_client.push_back(self.server.send(*qos)),
            Step::Accept(place) => harness.accept(*place)?,
            Step::AcceptEarly(place) => harness.accept_early(*place)?,
            Step::Lose { forget } => {
                if *forget {
                    self.server.forget();
                }
                self.lose()?;
            }
            Step::Connect => harness.link_up()?,
            Step::Wait => drop(harness.pass_timer()?),
            Step::Stray(packet) => self.receive(packet.clone())?,
        }
        while self.harness.linked && !self.harness.session.output().is_empty() {
            self.harness.transmit(usize::MAX)?;
        }
        self.check_ended()
    }

    /// A server of MQTT 5 handles a packet.
    fn serve5(&mut self, packet: &FromClient<'_>, offer: Offer) -> Rule {
        if let FromClient::Connect { clean_session } = packet {
            if *clean_session {
                self.server.forget();
            }
            self.links = (self.links + 1).min(2);
        }
        let before = self.to_client.len();
        self.server.serve(packet, &mut self.to_client)?;
        let link = self.links.saturating_sub(1);
        for answer in self.to_client.iter_mut().skip(before) {
            let quota = offer.receive_maximum[link];
            let qos = level(offer.maximum_qos[link]);
            *answer = version5(answer, packet, quota, qos);
        }
        Ok(())
    }

    /// Whether the server may say no to the packet that is next under way to it.
    pub(super) fn may_refuse(&self) -> bool {
        let next = self.harness.sent.front();
        let next = next.and_then(|bytes| from_client5(bytes).ok());
        match next.map(|(next, _)| next.packet) {
            // A message that was taken is not refused when it comes again.
            Some(FromClient::Publish { qos, id, .. }) => {
                qos > 0 && !self.server.unreleased.contains(&id)
            }
            Some(FromClient::Subscribe { .. } | FromClient::Unsubscribe { .. }) => true,
            _ => false,
        }
    }

    /// A request for these filters was made.
    fn requests(&mut self, numbers: &[u8], token: Token) {
        for filter in numbers.iter().map(name) {
            self.unknown.remove(&filter);
            self.requests.insert(filter, token);
        }
    }

    fn receive(&mut self, packet: Incoming) -> Rule {
        let name = packet.name();
        if self.harness.receive(packet)? {
            return Err(format!("{name} was taken for a violation"));
        }
        for message in self.harness.messages.drain(..) {
            if message.qos == QoS::ExactlyOnce && !self.delivered.insert(message.payload()[0]) {
                return Err(format!("{message:?} was delivered twice"));
            }
        }
        Ok(())
    }

    fn lose(&mut self) -> Rule {
        let is_new_session = |packet: &Incoming| {
            let is_of_5 = matches!(packet, Incoming::ConnAck5(connack) if !connack.session_present);
            is_of_5
                || matches!(
                    packet,
                    Incoming::ConnAck {
                        session_present: false,
                        ..
                    }
                )
        };
        if self.to_client.iter().any(is_new_session) {
            match self.keeps_unknown_session {
                true => self.server.is_mistaken_for_another = true,
                false => self.server.forget(),
            }
        }
        self.server.connected = false;
        self.to_client.clear();
        self.harness.lose_link()
    }

    /// The outcomes are true of what the server took.
    fn check_ended(&mut self) -> Rule {
        for (token, kind, outcome) in self.harness.ended.drain(..) {
            let taken = self.server.taken.get(&token).copied().unwrap_or(0);
            let mistaken = self.server.is_mistaken_for_another;
            let right = match (kind, &outcome) {
                (Kind::Publish { qos: 0, .. }, Outcome::Delivered { .. }) => taken <= 1,
                (Kind::Publish { qos: 1, .. }, Outcome::Delivered { .. }) => taken >= 1,
                (Kind::Publish { .. }, Outcome::Delivered { .. }) => {
                    // Nothing can tell the session that the server forgot the first half of the exchange.
                    taken == 1 || mistaken && taken > 1
                }
                (Kind::Publish { qos: 2, .. }, Outcome::PerhapsDelivered(Reason::SessionLost)) => {
                    taken <= 1 || mistaken
                }
                (Kind::Publish { .. }, Outcome::Refused { .. }) => {
                    self.server.refused.contains(&token)
                }
                (Kind::Publish { .. }, Outcome::NeverSent(Reason::BrokerLimit(_))) => taken == 0,
                (Kind::Publish { .. }, Outcome::PerhapsDelivered(Reason::BrokerLimit(_))) => true,
                (Kind::Publish { qos: 0, .. }, Outcome::NeverSent(Reason::LinkLost)) => taken == 0,
                (Kind::Subscribe | Kind::Unsubscribe, Outcome::Refused { .. }) => {
                    let last = self.requests.iter().filter(|(_, last)| **last == token);
                    self.unknown.extend(last.map(|(filter, _)| filter.clone()));
                    true
                }
                // Whether that was right is a rule of its own.
                (
                    Kind::Publish { .. },
                    Outcome::PerhapsDelivered(Reason::Parked | Reason::Unanswered),
                ) => true,
                (
                    Kind::Subscribe | Kind::Unsubscribe,
                    Outcome::PerhapsDelivered(Reason::Parked | Reason::Unanswered),
                ) => {
                    let last = self.requests.iter().filter(|(_, last)| **last == token);
                    self.unknown.extend(last.map(|(filter, _)| filter.clone()));
                    true
                }
                (Kind::Subscribe | Kind::Unsubscribe | Kind::Ping, Outcome::Delivered { .. })
                | (Kind::Ping, Outcome::PerhapsDelivered(Reason::LinkLost)) => true,
                _ => false,
            };
            if !right {
                return Err(format!(
                    "command {token} ({kind:?}) ended as {outcome:?}; taken: {taken}"
                ));
            }
        }
        self.unknown.extend(self.harness.refused.drain(..));
        Ok(())
    }

    /// Whether a message was left with the server on this link, or this one would be.
    pub(super) fn has_left_some(&self) -> bool {
        self.harness.record.arrivals.has_left_some()
    }

    pub(super) fn would_be_left(&self, packet: &Incoming) -> bool {
        let arrivals = &self.harness.record.arrivals;
        matches!(packet, Incoming::Publish { id, message }
            if arrivals.verdict(*id, message) == Verdict::Leave)
    }

    /// Runs on without further trouble until nothing is left to do.
    pub(super) fn run_to_the_end(&mut self) -> Rule {
        for _ in 0..10_000 {
            let step = match &self.harness {
                harness if !harness.linked => Step::Connect,
                harness if !harness.sent.is_empty() => Step::Serve,
                harness if !harness.closing && !self.to_client.is_empty() => Step::Receive(0),
                harness if !harness.unaccepted.is_empty() => Step::Accept(0),
                harness if harness.closing => Step::Lose { forget: false },
                harness if harness.session.is_trying() => Step::Wait,
                _ => return self.check_end(),
            };
            self.apply(&step)?;
        }
        Err("it does not come to rest".to_owned())
    }

    fn check_end(&self) -> Rule {
        self.harness.record.is_settled()?;
        let session = &self.harness.session;
        if !session.is_at_rest() {
            return Err("something is still in flight".to_owned());
        }
        // PUBREL of a command that was given up does not come.
        let is_given_up = |id: &u16| self.harness.record.is_given_up(*id);
        let mut unreleased = self.server.unreleased.iter();
        if !self.server.held.is_empty() || !unreleased.all(is_given_up) {
            return Err("the server holds what was not acknowledged to the end".to_owned());
        }
        let is_known = |(filter, _): &(&String, &u8)| !self.unknown.contains(*filter);
        let subscribed = self.server.subscriptions.iter().filter(is_known);
        if !subscribed.eq(self.wanted.iter().filter(is_known)) {
            return Err(format!("subscribed: {:?}", self.server.subscriptions));
        }
        match session.wants_commands() {
            true => Ok(()),
            false => Err("the session takes no further command".to_owned()),
        }
    }

    pub(super) fn hash_state(&self, state: &mut impl Hasher) {
        self.harness.hash_state(state);
        (&self.server, &self.to_client).hash(state);
        (&self.wanted, &self.requests, &self.unknown, &self.delivered).hash(state);
        self.links.hash(state);
    }
}

fn name(number: &u8) -> String {
    format!("f{number}")
}
