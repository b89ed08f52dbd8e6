//! Random stories in a world that is larger than the explored ones: many commands, requests of several packets,
//! few or many identifiers, little room, answers in any order, a CONNACK that never arrives. For tests only.

use std::time::Instant;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::super::options;
use super::super::rules::{FAULTS, Fault, Rule, needs_suspects, needs_version5};
use super::world::{Offer, Step, World};
use crate::mqtt::packet::{Incoming, PacketId};
use crate::mqtt::session::SessionOptions;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// If it can happen now. A place counts round those that there are.
    Step(Step),
    /// The server takes so many packets.
    Takes(u8),
    AcceptAll,
    Reconnect {
        session_kept: bool,
        /// A link before it goes down between CONNECT and CONNACK.
        connack_missed: bool,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let some = prop::collection::btree_set(0..12_u8, 1..12);
    let many = prop::collection::btree_set(0..12_u8, 1..4);
    prop_oneof![
        4 => (0..3_u8).prop_map(|qos| Happening::Step(Step::Publish(qos))),
        3 => (some, 0..3_u8).prop_map(|(filters, qos)| {
            Happening::Step(Step::Subscribe(filters.into_iter().collect(), qos))
        }),
        3 => many.prop_map(|filters| {
            Happening::Step(Step::Unsubscribe(filters.into_iter().collect()))
        }),
        1 => Just(Happening::Step(Step::Ping)),
        4 => (0..3_u8).prop_map(|qos| Happening::Step(Step::Message(qos))),
        6 => (1..4_u8).prop_map(Happening::Takes),
        1 => Just(Happening::Step(Step::Refuse)),
        8 => any::<usize>().prop_map(|place| Happening::Step(Step::Receive(place))),
        1 => any::<usize>().prop_map(|place| Happening::Step(Step::Accept(place))),
        2 => any::<usize>().prop_map(|place| Happening::Step(Step::AcceptEarly(place))),
        2 => Just(Happening::AcceptAll),
        1 => (1..12_u16).prop_map(|id| {
            let id = PacketId::new(id).unwrap();
            Happening::Step(Step::Stray(Incoming::PubRec(id)))
        }),
        2 => (prop::bool::weighted(0.7), prop::bool::weighted(0.2)).prop_map(
            |(session_kept, connack_missed)| Happening::Reconnect { session_kept, connack_missed }
        ),
    ]
}

/// A story in a world with few identifiers and with little room, or not.
type Story = (Vec<Happening>, bool, bool);

fn story() -> impl Strategy<Value = Story> {
    (happenings(), any::<bool>(), any::<bool>())
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    prop::collection::vec(happening(), 1..120)
}

fn play(story: &Story, fault: Fault) -> Rule {
    play_with(story, None, fault)
}

/// With an offer the links speak MQTT 5.
fn play_with(
    (story, few_identifiers, little_room): &Story,
    offer: Option<Offer>,
    fault: Fault,
) -> Rule {
    let options = SessionOptions {
        max_inflight: 20,
        max_inflight_qos2: 3,
        identifiers: if *few_identifiers { 8 } else { u16::MAX },
        // The circle comes round in each story that is not very short.
        first_identifier: u16::MAX - 5,
        // With a quarter more, two messages; one may count as accepted while it waits.
        max_waiting_bytes: if *little_room { 500 } else { usize::MAX },
        // Giving up has tests of its own (resuming.rs).
        suspected_after: u32::MAX,
        given_up_after: 5,
        ..options()
    };
    // A client without a session asks for a clean start, so that it is never mistaken.
    let mut world = World::new(options.clone(), offer.is_none(), fault, Instant::now());
    if let Some(offer) = offer {
        world = world.speaks_version5(offer, &options);
    }
    connect(&mut world)?;
    for happening in story {
        match happening {
            // MQTT 5 alone has such a server, and such an answer to what is not known.
            Happening::Step(Step::Refuse) if offer.is_none() => {}
            Happening::Step(Step::Stray(_)) if offer.is_some() => {}
            Happening::Step(step) => apply_if_possible(&mut world, step)?,
            Happening::Takes(packets) => {
                for _ in 0..*packets {
                    apply_if_possible(&mut world, &Step::Serve)?;
                }
            }
            Happening::AcceptAll => {
                while !world.harness.unaccepted.is_empty() {
                    world.apply(&Step::Accept(0))?;
                }
            }
            Happening::Reconnect {
                session_kept,
                connack_missed,
            } => {
                world.apply(&Step::Lose {
                    forget: !session_kept,
                })?;
                // With few identifiers the renewals may have to wait behind what is sent again.
                if *connack_missed && !few_identifiers {
                    world.apply(&Step::Connect)?;
                    world.apply(&Step::Serve)?;
                    world.apply(&Step::Lose { forget: false })?;
                }
                connect(&mut world)?;
            }
        }
        if world.harness.closing {
            // The server takes what came before that.
            while !world.harness.sent.is_empty() {
                world.apply(&Step::Serve)?;
            }
            world.apply(&Step::Lose { forget: false })?;
            connect(&mut world)?;
        }
    }
    world.run_to_the_end()?;
    world.harness.lose_link()?;
    world.harness.abandon()
}

/// Makes a link and lets CONNACK arrive.
fn connect(world: &mut World) -> Rule {
    for step in [Step::Connect, Step::Serve, Step::Receive(0)] {
        world.apply(&step)?;
    }
    Ok(())
}

fn apply_if_possible(world: &mut World, step: &Step) -> Rule {
    let place = |place: usize, end: usize| place.checked_rem(end);
    let harness = &world.harness;
    let step = match step {
        Step::Serve if harness.sent.is_empty() => None,
        Step::Refuse => world.may_refuse().then_some(Step::Refuse),
        Step::Receive(_) if harness.closing => None,
        Step::Stray(packet) => {
            let can_come = harness.session.is_up() && !harness.record.expects(packet);
            can_come.then(|| step.clone())
        }
        Step::Receive(at) => place(*at, world.to_client.len()).map(Step::Receive),
        Step::Accept(at) => place(*at, harness.unaccepted.len()).map(Step::Accept),
        Step::AcceptEarly(at) => {
            let at = place(*at, harness.unaccepted.len());
            at.map(Step::AcceptEarly)
        }
        Step::Serve | Step::Message(_) => Some(step.clone()),
        command => harness.takes_commands().then(|| command.clone()),
    };
    step.map_or(Ok(()), |step| world.apply(&step))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_command_ends_once_and_truly(story in story()) {
        play(&story, Fault::None).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn every_command_of_mqtt_5_ends_once_and_truly(
        story in story(),
        receive_maximum in [1..6_u16, 1..6_u16],
        maximum_qos in [0..3_u8, 1..3_u8],
    ) {
        let offer = Offer { receive_maximum, maximum_qos };
        play_with(&story, Some(offer), Fault::None).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn every_fault_is_noticed() {
    // This server commits no violation.
    let of_the_session = |fault: &Fault| {
        let is_here = !needs_suspects(*fault) && !needs_version5(*fault);
        *fault != Fault::ViolationIgnored && is_here
    };
    for (fault, words) in FAULTS
        .into_iter()
        .filter(|(fault, _)| of_the_session(fault))
    {
        let mut runner = TestRunner::deterministic();
        let mut stories = (0..1_000).map(|_| happenings().new_tree(&mut runner).unwrap().current());
        let tells = |story| {
            let few_identifiers = fault == Fault::SentByIdentifier;
            let broken = play(&(story, few_identifiers, true), fault);
            broken.is_err_and(|broken| broken.contains(words))
        };
        let after = stories.position(tells);
        println!("{fault:?}: after {after:?} stories");
        assert!(after.is_some(), "{fault:?}: {words:?}");
    }
}
