//! Every interleaving in a small world. For tests only.
//!
//! A [`Budget`] bounds what may happen, so the distinct states are finite and this driver visits all of them.
//! The rules hold after every step, and from every state (one in sixteen in the largest world) the world runs on
//! to the end without further trouble: then everything has ended and nothing is left. The session gives up no
//! link to leave a message with the server once the receivers have read everything.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::options;
use super::super::rules::{FAULTS, Fault, Rule, needs_suspects};
use super::world::{Step, World};
use crate::mqtt::packet::{Incoming, PacketId, QoS};
use crate::mqtt::session::SessionOptions;

/// Fewer bytes than any two messages of the server have.
const ROOM_FOR_ONE: Option<usize> = Some(3);

/// With a quarter more there is room for two messages of QoS 2, which have 258 bytes, and for no larger two. One of
/// them may count as accepted while it waits.
const ROOM_FOR_TWO_SMALL: Option<usize> = Some(416);

/// How much may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Budget {
    /// Publishes, by QoS.
    publishes: [u8; 3],
    subscribes: u8,
    unsubscribes: u8,
    /// How many of nine filters these two have, the last ones; the last one alone if that is not said. Nine take two
    /// packets.
    filters: Option<[u8; 2]>,
    pings: u8,
    /// Lost links.
    losses: u8,
    /// How often the server may forget its session.
    forgets: u8,
    /// Messages of the server, QoS 1 and QoS 2.
    messages: [u8; 2],
    /// How often a message may count as accepted while it waits.
    early: u8,
    /// Acknowledgments that answer nothing.
    strays: u8,
    /// Bytes of messages that may be unread, if that is bounded: another message is left with the server until
    /// they are read, and costs a link, which counts as one of the losses.
    room: Option<usize>,
    /// So few identifiers that one in use is passed over soon.
    few_identifiers: bool,
    /// Losses after which a command is suspected, if one ever is, and links closed with it alone after which it is
    /// given up.
    suspects: Option<(u32, u32)>,
    /// How often time may pass until the next timer rings.
    waits: u8,
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
        State {
            world: World::new(options, false, fault, base),
            budget,
        }
    }

    /// Everything that can happen next.
    fn steps(&self) -> Vec<Step> {
        let State { world, budget } = self;
        let harness = &world.harness;
        let mut steps = Vec::new();
        if harness.session.wants_commands() {
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
        }
        let greeting = matches!(world.to_client.front(), Some(Incoming::ConnAck { .. }));
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
                let strays = strays.into_iter().filter(|p| !harness.record.expects(p));
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
fn explore(budget: Budget, fault: Fault, ends: u64) -> Result<usize, String> {
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

/// Explores a world that has more than so many states.
fn no_violation(name: &str, budget: Budget, ends: u64, more_than: usize) {
    match explore(budget, Fault::None, ends) {
        Ok(states) => {
            println!("{name}: {states} distinct states, no violation");
            assert!(states > more_than, "{states}");
        }
        Err(transcript) => panic!("{name}:\n{transcript}"),
    }
}

#[test]
fn every_interleaving_of_publishes_and_losses() {
    let budget = Budget {
        publishes: [1, 1, 1],
        losses: 2,
        forgets: 1,
        ..Budget::default()
    };
    no_violation("publishes and losses", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_publishes_and_stray_acknowledgments() {
    let budget = Budget {
        publishes: [0, 1, 1],
        subscribes: 1,
        losses: 1,
        strays: 1,
        ..Budget::default()
    };
    no_violation("stray acknowledgments", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_subscriptions_and_losses() {
    let budget = Budget {
        publishes: [0, 1, 0],
        subscribes: 2,
        unsubscribes: 1,
        losses: 2,
        forgets: 2,
        ..Budget::default()
    };
    no_violation("subscriptions and losses", budget, 1, 10_000);
}

#[test]
fn every_interleaving_while_identifiers_are_passed_over() {
    let budget = Budget {
        publishes: [0, 2, 2],
        subscribes: 1,
        losses: 1,
        few_identifiers: true,
        ..Budget::default()
    };
    no_violation("identifiers passed over", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_messages_and_losses() {
    let budget = Budget {
        subscribes: 1,
        pings: 1,
        messages: [1, 1],
        losses: 2,
        forgets: 1,
        ..Budget::default()
    };
    no_violation("messages and losses", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_messages_that_are_left_with_the_server_and_losses() {
    let budget = Budget {
        subscribes: 1,
        messages: [2, 1],
        early: 1,
        losses: 2,
        room: ROOM_FOR_ONE,
        ..Budget::default()
    };
    no_violation("messages left with the server", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_messages_behind_one_that_is_left_and_losses() {
    let budget = Budget {
        subscribes: 1,
        messages: [1, 2],
        early: 1,
        losses: 2,
        room: ROOM_FOR_TWO_SMALL,
        ..Budget::default()
    };
    no_violation("messages behind one that is left", budget, 1, 10_000);
}

/// All that waits is on one account, also when the server has forgotten the session.
#[test]
fn every_interleaving_of_messages_that_count_as_accepted_while_they_wait() {
    let budget = Budget {
        subscribes: 1,
        messages: [1, 2],
        early: 2,
        losses: 1,
        forgets: 1,
        room: ROOM_FOR_TWO_SMALL,
        ..Budget::default()
    };
    no_violation("messages accepted early", budget, 1, 10_000);
}

#[test]
fn every_interleaving_of_commands_that_links_are_lost_with() {
    let budget = Budget {
        publishes: [0, 1, 1],
        losses: 3,
        suspects: Some((1, 2)),
        waits: 3,
        ..Budget::default()
    };
    no_violation("commands that are suspected", budget, 1, 10_000);
}

/// A SUBSCRIBE, and an UNSUBSCRIBE that takes it back, may stand without an answer beside a PUBLISH.
#[test]
fn every_interleaving_of_requests_that_stand_without_an_answer() {
    let budget = Budget {
        publishes: [0, 1, 0],
        subscribes: 1,
        unsubscribes: 1,
        losses: 2,
        suspects: Some((2, 2)),
        waits: 5,
        ..Budget::default()
    };
    no_violation("requests that stand", budget, 1, 10_000);
}

/// The rest of one of them leaves after its answer, where the other may have overtaken it.
#[test]
fn every_interleaving_of_requests_in_two_packets_that_stand_without_an_answer() {
    for filters in [[9, 1], [1, 9]] {
        let budget = Budget {
            publishes: [0, 0, 0],
            losses: 2,
            ..in_two_packets(filters)
        };
        no_violation(&format!("{filters:?} filters"), budget, 1, 5_000);
    }
}

/// Requests with so many filters, and a PUBLISH beside them, one of which is late.
fn in_two_packets(filters: [u8; 2]) -> Budget {
    Budget {
        publishes: [0, 1, 0],
        subscribes: 1,
        unsubscribes: 1,
        filters: Some(filters),
        losses: 1,
        suspects: Some((1, 2)),
        waits: 4,
        ..Budget::default()
    }
}

#[test]
fn every_interleaving_of_requests_that_links_are_lost_with() {
    let budget = Budget {
        subscribes: 1,
        unsubscribes: 1,
        losses: 3,
        forgets: 1,
        suspects: Some((1, 2)),
        waits: 3,
        ..Budget::default()
    };
    no_violation("requests that are suspected", budget, 1, 10_000);
}

/// The largest worlds. They take minutes in a build that is not optimised, so only an optimised one without debug
/// assertions has them: `scripts/test.sh` makes it in its step `exploration`.
#[cfg(not(debug_assertions))]
mod large {
    use super::{Budget, ROOM_FOR_ONE, in_two_packets, no_violation};

    #[test]
    fn every_interleaving_of_requests_in_two_packets_that_stand_beside_a_publish() {
        for filters in [[9, 1], [1, 9], [9, 9]] {
            let name = format!("{filters:?} filters and a PUBLISH");
            no_violation(&name, in_two_packets(filters), 1, 10_000);
        }
    }

    #[test]
    fn every_interleaving_of_more_publishes_and_losses() {
        let budget = Budget {
            publishes: [1, 2, 1],
            losses: 2,
            forgets: 1,
            ..Budget::default()
        };
        no_violation("more publishes and losses", budget, 1, 100_000);
    }

    #[test]
    fn every_interleaving_of_publishes_losses_and_stray_acknowledgments() {
        let budget = Budget {
            publishes: [1, 1, 1],
            losses: 2,
            forgets: 1,
            strays: 1,
            ..Budget::default()
        };
        no_violation("losses and stray acknowledgments", budget, 1, 100_000);
    }

    #[test]
    fn every_interleaving_of_more_messages_that_are_left_with_the_server_and_losses() {
        let budget = Budget {
            subscribes: 1,
            messages: [2, 1],
            losses: 3,
            forgets: 1,
            room: ROOM_FOR_ONE,
            ..Budget::default()
        };
        no_violation("more messages left with the server", budget, 1, 100_000);
    }

    /// Every QoS, a subscription and messages in both directions.
    #[test]
    fn every_interleaving_of_everything() {
        let budget = Budget {
            publishes: [0, 1, 1],
            subscribes: 1,
            messages: [1, 1],
            losses: 2,
            forgets: 1,
            ..Budget::default()
        };
        no_violation("everything", budget, 16, 1_000_000);
    }
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
    let left_with_the_server = Budget {
        subscribes: 1,
        messages: [2, 1],
        losses: 2,
        room: ROOM_FOR_ONE,
        ..Budget::default()
    };
    let an_unknown_pubrec = Budget {
        publishes: [0, 1, 0],
        strays: 1,
        ..Budget::default()
    };
    let identifiers_go_round = Budget {
        publishes: [0, 4, 0],
        losses: 1,
        few_identifiers: true,
        ..Budget::default()
    };
    let two_of_qos_2 = Budget {
        publishes: [0, 0, 2],
        ..Budget::default()
    };
    let accepted_early = Budget {
        early: 2,
        forgets: 1,
        room: ROOM_FOR_TWO_SMALL,
        messages: [0, 3],
        ..left_with_the_server
    };
    let suspected = Budget {
        publishes: [0, 3, 1],
        losses: 2,
        suspects: Some((1, 1)),
        waits: 2,
        few_identifiers: true,
        ..Budget::default()
    };
    let suspected_twice = Budget {
        publishes: [0, 1, 0],
        losses: 2,
        suspects: Some((1, 2)),
        waits: 1,
        ..Budget::default()
    };
    let suspected_with_company = Budget {
        strays: 1,
        suspects: Some((1, 1)),
        ..suspected_twice
    };
    let standing_while_pinged = Budget {
        pings: 1,
        losses: 1,
        strays: 0,
        waits: 4,
        ..suspected_with_company
    };
    let suspected_request = Budget {
        subscribes: 1,
        losses: 1,
        strays: 1,
        suspects: Some((1, 1)),
        ..Budget::default()
    };
    let requests = Budget {
        subscribes: 1,
        unsubscribes: 1,
        ..Budget::default()
    };
    for (fault, words) in FAULTS {
        let budget = match fault {
            Fault::GivenUpAtOnce | Fault::IdleCut => suspected_twice,
            Fault::CompanyForgotten => suspected_with_company,
            Fault::GivenUpWithoutWitness => standing_while_pinged,
            Fault::EarlierLinkAnswers => suspected_request,
            Fault::RequestOvertakes => requests,
            Fault::OvertakenForgotten => in_two_packets([9, 1]),
            Fault::RestIsSentAtOnce => Budget {
                unsubscribes: 0,
                ..in_two_packets([9, 1])
            },
            _ if needs_suspects(fault) => suspected,
            Fault::Qos2Unbounded => two_of_qos_2,
            Fault::UnknownIsFree => an_unknown_pubrec,
            Fault::SentByIdentifier => identifiers_go_round,
            // This server commits no violation.
            Fault::ViolationIgnored => continue,
            Fault::WrongAnswer
            | Fault::LeftIsKnown
            | Fault::LeftIsAcknowledged
            | Fault::MakesWay => left_with_the_server,
            Fault::EarlyIgnored | Fault::EarlyBeyondTheLimit | Fault::AccountForgotten => {
                accepted_early
            }
            _ => everything,
        };
        let transcript = explore(budget, fault, 1).expect_err(&format!("{fault:?}"));
        let broken = transcript.lines().last().unwrap_or_default();
        println!("{fault:?}: {broken}");
        assert!(broken.contains(words), "{fault:?}:\n{transcript}");
    }
}
