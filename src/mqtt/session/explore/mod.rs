//! Explores every interleaving of a small world around the session.
//!
//! The world is the session, a server that does what the standard says, the packets under way
//! between the two, and a network that may lose the link at any point with everything under way.
//! What may happen is bounded by a [`Budget`], so the distinct states are finite and all of them are
//! visited. After every step the rules hold that the code below checks, and from every state (one in
//! sixteen in the largest world) all is run to the end without further trouble: then every command
//! has ended, nothing is in flight, the server has the subscription that is wanted and no message
//! that was not acknowledged, and the session gave up no link to leave a message with the server once
//! the receivers had read everything.
//!
//! Nothing here relies on how the session works inside, apart from the deliberate faults
//! ([`Fault`]), which show that the rules notice what they are there for. Left out: a server that
//! begins a new session whose CONNACK never arrives (it drops that session here).
mod receiving;
mod rules;
mod server;
mod world;

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use world::{Step, World};

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
    /// There is room for one unread message only: another is left with the server until it is read, and
    /// costs a link, which counts as one of the losses.
    room_for_one: bool,
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
    /// What was left with the server counts as received when it comes again.
    LeftIsKnown,
    /// What was left with the server is acknowledged.
    LeftIsAcknowledged,
    /// QoS 1 that was accepted and not acknowledged on the last link makes way for what comes before it.
    MakesWay,
}

type Rule = Result<(), String>;

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
            publishes: [1, 1, 1],
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

#[test]
fn every_interleaving_of_messages_that_are_left_with_the_server_and_losses() {
    let states = no_violation(
        "messages left with the server",
        Budget {
            subscribes: 1,
            messages: [2, 1],
            losses: 2,
            room_for_one: true,
            ..Budget::default()
        },
        1,
    );
    assert!(states > 10_000, "{states}");
}

/// The largest worlds. They take minutes in a build that is not optimised, so only an optimised one without debug
/// assertions has them: `scripts/test.sh` makes it in its step `exploration`.
#[cfg(not(debug_assertions))]
mod large {
    use super::{Budget, no_violation};

    #[test]
    fn every_interleaving_of_more_publishes_and_losses() {
        let states = no_violation(
            "more publishes and losses",
            Budget {
                publishes: [1, 2, 1],
                losses: 2,
                forgets: 1,
                strays: 1,
                ..Budget::default()
            },
            1,
        );
        assert!(states > 100_000, "{states}");
    }

    #[test]
    fn every_interleaving_of_more_messages_that_are_left_with_the_server_and_losses() {
        let states = no_violation(
            "more messages left with the server",
            Budget {
                subscribes: 1,
                messages: [2, 1],
                losses: 3,
                forgets: 1,
                room_for_one: true,
                ..Budget::default()
            },
            1,
        );
        assert!(states > 100_000, "{states}");
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
        room_for_one: true,
        ..Budget::default()
    };
    for (budget, fault, noticed) in [
        (everything, Fault::NoDup, "without DUP"),
        (everything, Fault::FreedAtPubrec, ""),
        (everything, Fault::RenewalForgotten, "subscribe"),
        (everything, Fault::DroppedWithSession, "never ended"),
        (everything, Fault::UnreleasedForgotten, "delivered"),
        (
            everything,
            Fault::AcceptedByItself,
            "before it was accepted",
        ),
        (everything, Fault::ToldTwice, "end"),
        (
            left_with_the_server,
            Fault::LeftIsKnown,
            "not acknowledged to the end",
        ),
        (
            left_with_the_server,
            Fault::LeftIsAcknowledged,
            "out of order",
        ),
        (
            left_with_the_server,
            Fault::MakesWay,
            "should have been taken",
        ),
    ] {
        let transcript = explore(budget, fault, 1).expect_err(&format!("{fault:?}"));
        let broken = transcript.lines().last().unwrap_or_default();
        println!("{fault:?}: {broken}");
        assert!(broken.contains(noticed), "{fault:?}:\n{transcript}");
    }
}
