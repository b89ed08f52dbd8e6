//! The exploration: which steps there are in a state, and every state that can be reached by them.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::super::options;
use super::super::super::rules::{Fault, Rule};
use super::super::world::{Offer, Step, World};
use crate::mqtt::packet::{BrokerDisconnect, Details, Incoming, PacketId, QoS, ReasonCode};
use crate::mqtt::session::SessionOptions;

/// How much may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Budget {
    /// Publishes, by QoS.
    pub(super) publishes: [u8; 3],
    pub(super) subscribes: u8,
    pub(super) unsubscribes: u8,
    /// How many of nine filters these two have, the last ones; the last one alone if that is not said. Nine take two
    /// packets.
    pub(super) filters: Option<[u8; 2]>,
    pub(super) pings: u8,
    /// Lost links.
    pub(super) losses: u8,
    /// How often the server may forget its session.
    pub(super) forgets: u8,
    /// Messages of the server, QoS 1 and QoS 2.
    pub(super) messages: [u8; 2],
    /// How often a message may count as accepted while it waits.
    pub(super) early: u8,
    /// Acknowledgments that answer nothing.
    pub(super) strays: u8,
    /// Bytes of messages that may be unread, if that is bounded: another message is left with the server until
    /// they are read, and costs a link, which counts as one of the losses.
    pub(super) room: Option<usize>,
    /// So few identifiers that one in use is passed over soon.
    pub(super) few_identifiers: bool,
    /// Losses after which a command is suspected, if one ever is, and links closed with it alone after which it is
    /// given up.
    pub(super) suspects: Option<(u32, u32)>,
    /// Where the links speak MQTT 5.
    pub(super) offer: Option<Offer>,
    /// How often the server says no, and how often it closes the link with DISCONNECT: with MQTT 5 alone.
    pub(super) refusals: u8,
    pub(super) disconnects: u8,
    /// How often time may pass until the next timer rings.
    pub(super) waits: u8,
}

/// One state of the exploration.
#[derive(Clone)]
struct State {
    world: World,
    budget: Budget,
}

impl State {
    fn new(budget: Budget, fault: Fault, base: Instant) -> Self {
        let options = SessionOptions {
            max_inflight: 3,
            max_inflight_qos2: 1,
            keep_alive: Duration::ZERO,
            identifiers: if budget.few_identifiers { 3 } else { 4 },
            max_waiting_bytes: budget.room.unwrap_or(usize::MAX),
            suspected_after: budget.suspects.map_or(u32::MAX, |(losses, _)| losses),
            given_up_after: budget.suspects.map_or(u32::MAX, |(_, links)| links),
            ..options()
        };
        let world = World::new(options.clone(), false, fault, base);
        let world = match budget.offer {
            Some(offer) => world.speaks_version5(offer, &options),
            None => world,
        };
        State { world, budget }
    }

    /// Everything that can happen next.
    fn steps(&self) -> Vec<Step> {
        let State { world, budget } = self;
        let harness = &world.harness;
        let mut steps = Vec::new();
        if harness.takes_commands() {
            let publishes = (0..3).filter(|qos| budget.publishes[usize::from(*qos)] > 0);
            steps.extend(publishes.map(Step::Publish));
            let last_ones = |count| (9 - count..9).collect();
            let [asked, left] = budget.filters.unwrap_or([1, 1]).map(last_ones);
            if budget.subscribes > 0 {
                steps.push(Step::Subscribe(asked, 2));
            }
            if budget.unsubscribes > 0 {
                steps.push(Step::Unsubscribe(left));
            }
            if budget.pings > 0 {
                steps.push(Step::Ping);
            }
        }
        if !harness.sent.is_empty() {
            steps.push(Step::Serve);
            if budget.refusals > 0 && world.may_refuse() {
                steps.push(Step::Refuse);
            }
        }
        if budget.disconnects > 0 && harness.session.is_up() && !harness.closing {
            let said = BrokerDisconnect {
                code: ReasonCode::new(0x97),
                server_reference: None,
                details: Details::default(),
            };
            steps.push(Step::Disconnect(Incoming::Disconnect(Box::new(said))));
        }
        let greeting = matches!(
            world.to_client.front(),
            Some(Incoming::ConnAck { .. } | Incoming::ConnAck5(_))
        );
        for (place, packet) in world.to_client.iter().enumerate() {
            // A server may acknowledge in any order, but nothing comes before CONNACK and messages
            // keep theirs.
            let any_order =
                !greeting && !matches!(packet, Incoming::Publish { .. } | Incoming::PubRel(_));
            // The session takes nothing more from a link that it has given up.
            let may_be_left = budget.losses > 0 || world.has_left_some();
            let may_come = !harness.closing && (may_be_left || !world.would_be_left(packet));
            if may_come && (place == 0 || any_order) {
                steps.push(Step::Receive(place));
            }
        }
        let is_subscribed = !world.server.subscriptions.is_empty();
        if world.server.connected && is_subscribed && world.server.held.len() < 3 {
            let messages = (1..3).filter(|qos| budget.messages[usize::from(*qos) - 1] > 0);
            steps.extend(messages.map(Step::Message));
        }
        steps.extend((0..harness.unaccepted.len()).map(Step::Accept));
        if budget.early > 0 {
            let places = (0..harness.unaccepted.len()).filter(|place| !harness.is_early(*place));
            steps.extend(places.map(Step::AcceptEarly));
        }
        if !harness.linked {
            steps.push(Step::Connect);
        } else if budget.losses > 0 || harness.closing {
            steps.push(Step::Lose { forget: false });
            if budget.forgets > 0 {
                steps.push(Step::Lose { forget: true });
            }
        }
        if budget.waits > 0 && harness.session.is_trying() && !harness.closing {
            steps.push(Step::Wait);
        }
        if budget.strays > 0 && harness.session.is_up() {
            for id in (1..3).filter_map(PacketId::new) {
                let strays = [
                    Incoming::PubAck(id),
                    Incoming::PubRec(id),
                    Incoming::PubComp(id),
                    Incoming::SubAck {
                        id,
                        granted: vec![Some(QoS::ExactlyOnce)],
                    },
                ];
                // With MQTT 5 no identifier is in use because of a PUBREC for what is not known, and PUBCOMP follows.
                let may_come = |p: &Incoming| {
                    let is_5 = budget.offer.is_some();
                    !(harness.record.expects(p) || is_5 && matches!(p, Incoming::PubRec(_)))
                };
                let strays = strays.into_iter().filter(may_come);
                steps.extend(strays.map(Step::Stray));
            }
        }
        steps
    }

    /// Lets one thing happen and pays for it.
    fn apply(&mut self, step: &Step) -> Rule {
        let State { world, budget } = self;
        match step {
            Step::Publish(qos) => budget.publishes[usize::from(*qos)] -= 1,
            Step::Subscribe(..) => budget.subscribes -= 1,
            Step::Unsubscribe(_) => budget.unsubscribes -= 1,
            Step::Ping => budget.pings -= 1,
            Step::Message(qos) => budget.messages[usize::from(*qos) - 1] -= 1,
            Step::Stray(_) => budget.strays -= 1,
            Step::AcceptEarly(_) => budget.early -= 1,
            Step::Wait => budget.waits -= 1,
            Step::Refuse => budget.refusals -= 1,
            Step::Disconnect(_) => budget.disconnects -= 1,
            // The first that is left with the server on a link costs another link.
            Step::Receive(place) if !world.has_left_some() => {
                let costs_a_link = world.would_be_left(&world.to_client[*place]);
                budget.losses -= u8::from(costs_a_link);
            }
            Step::Lose { forget } => {
                budget.losses -= u8::from(!world.harness.closing);
                budget.forgets -= u8::from(*forget);
            }
            Step::Receive(_) | Step::Accept(_) | Step::Serve | Step::Connect => {}
        }
        world.apply(step)
    }

    fn fingerprint(&self, bytes: &mut HashedBytes) -> u64 {
        bytes.0.clear();
        self.world.hash_state(bytes);
        self.budget.hash(bytes);
        bytes.finish()
    }
}

/// Collects the bytes that a state hashes, and hashes them at once: a state has hundreds of small values, and hashing
/// each on its own took a quarter of the exploration.
#[derive(Default)]
struct HashedBytes(Vec<u8>);

impl Hasher for HashedBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.0);
        hasher.finish()
    }
}

/// How a state was reached.
struct Path {
    step: Step,
    before: Option<Rc<Path>>,
}

/// Visits every state that the budget allows, and runs on to the end from one in `ends` of them.
/// Returns how many states there are.
pub(super) fn explore(budget: Budget, fault: Fault, ends: u64) -> Result<usize, String> {
    let mut visited = HashSet::new();
    let mut bytes = HashedBytes::default();
    let mut open: Vec<(State, Option<Rc<Path>>)> = Vec::new();
    let start = State::new(budget, fault, Instant::now());
    visited.insert(start.fingerprint(&mut bytes));
    open.push((start, None));
    while let Some((state, path)) = open.pop() {
        let steps = state.steps();
        let last = steps.len().saturating_sub(1);
        let mut state = Some(state);
        for (number, step) in steps.into_iter().enumerate() {
            // The last step needs no copy of the state.
            let next = if number < last {
                state.clone()
            } else {
                state.take()
            };
            let Some(mut next) = next else { break };
            let mut outcome = next.apply(&step);
            let path = Rc::new(Path {
                step,
                before: path.clone(),
            });
            if outcome.is_ok() {
                let fingerprint = next.fingerprint(&mut bytes);
                if !visited.insert(fingerprint) {
                    continue;
                }
                if fingerprint.is_multiple_of(ends) {
                    outcome = next.world.clone().run_to_the_end();
                }
            }
            if let Err(broken) = outcome {
                return Err(transcript(&path, &broken, budget, fault));
            }
            open.push((next, Some(path)));
        }
    }
    Ok(visited.len())
}

fn transcript(path: &Path, broken: &str, budget: Budget, fault: Fault) -> String {
    let mut steps = Vec::new();
    let mut at = Some(path);
    while let Some(path) = at {
        steps.push(&path.step);
        at = path.before.as_deref();
    }
    steps.reverse();
    let mut state = State::new(budget, fault, Instant::now());
    let mut text = String::new();
    for step in steps {
        let world = &state.world;
        let (up, down) = (world.harness.sent.len(), world.to_client.len());
        let result = state.apply(step);
        text += &format!("{step:?}");
        for packet in state.world.harness.sent.iter().skip(up) {
            text += &format!("  -> {packet:02x?}");
        }
        for packet in state.world.to_client.iter().skip(down) {
            text += &format!("  <- {packet:?}");
        }
        text += "\n";
        if result.is_err() {
            break;
        }
    }
    format!("{text}{broken}")
}
