//! Whole stories with the simulated broker: links and sessions lost at any point, answers in any
//! order. Whatever happened, in the end every command has ended once with what is true, and the
//! broker serves the filters that the client believes to be subscribed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::broker::{Broker, accept_all};
use super::{Token, Transcript};
use crate::mqtt::session::Outcome;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    Publish(usize),
    Subscribe(Vec<u8>, u8),
    Unsubscribe(Vec<u8>),
    Ping,
    /// The broker has a message.
    Message(usize),
    /// The broker takes so many packets.
    Takes(u8),
    /// The broker gives one of its answers.
    Answers(usize),
    Accept,
    Reconnect {
        session_kept: bool,
        /// A link before it goes down between CONNECT and CONNACK.
        connack_missed: bool,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let some = prop::collection::vec(0..12_u8, 1..12);
    let many = prop::collection::vec(0..12_u8, 1..4);
    prop_oneof![
        4 => (0..3_usize).prop_map(Happening::Publish),
        3 => (some, 0..3_u8).prop_map(|(filters, qos)| Happening::Subscribe(filters, qos)),
        3 => many.prop_map(Happening::Unsubscribe),
        1 => Just(Happening::Ping),
        2 => (0..3_usize).prop_map(Happening::Message),
        6 => (1..4_u8).prop_map(Happening::Takes),
        8 => any::<usize>().prop_map(Happening::Answers),
        2 => Just(Happening::Accept),
        2 => (prop::bool::weighted(0.7), prop::bool::weighted(0.2)).prop_map(
            |(session_kept, connack_missed)| Happening::Reconnect { session_kept, connack_missed }
        ),
    ]
}

fn names(numbers: &[u8]) -> Vec<String> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.iter().map(|n| format!("f{n}")).collect()
}

/// What the client asked for, to be compared with what came of it.
#[derive(Default)]
struct Wanted {
    publishes: BTreeMap<Token, usize>,
    filters: BTreeMap<String, u8>,
    /// Sent by the broker: how often each text may arrive.
    messages: Vec<(String, usize)>,
    session_ever_lost: bool,
    /// The client was never told of one of the losses.
    loss_ever_missed: bool,
}

fn play(story: &[Happening], identifiers: u16, max_owed_bytes: usize) {
    let mut t = Transcript::with(|o| {
        o.identifiers = identifiers;
        o.max_owed_bytes = max_owed_bytes;
        o.max_inflight = 20;
        // Giving up has tests of its own (resuming.rs).
        o.fruitless_links = u32::MAX;
    });
    let mut broker = Broker::default();
    let mut wanted = Wanted::default();
    let mut received = Vec::new();
    broker.reconnects(&mut t);
    for happening in story {
        match happening {
            Happening::Message(qos) => {
                let payload = format!("m{}", wanted.messages.len());
                wanted.messages.push((format!("t {payload:?}"), *qos));
                broker.publishes(*qos, payload);
            }
            Happening::Takes(packets) => {
                for _ in 0..*packets {
                    broker.takes(&mut t);
                }
            }
            Happening::Answers(which) => {
                broker.answers(*which, &mut t);
            }
            Happening::Accept => {
                accept_all(&mut t, &mut received);
            }
            Happening::Reconnect {
                session_kept,
                connack_missed,
            } => {
                broker.has_session &= *session_kept;
                wanted.session_ever_lost |= !session_kept;
                // With few identifiers the renewals may have to wait behind what is sent again.
                if *connack_missed && identifiers == u16::MAX {
                    wanted.loss_ever_missed |= !broker.takes_connect(&mut t);
                }
                broker.reconnects(&mut t);
            }
            command if t.wants_commands() => ask(command, &mut t, &mut wanted),
            _ => {}
        }
        broker.is_asked_again(&mut t);
        assert!(t.session.bytes_unaccepted() <= max_owed_bytes);
    }
    broker.settles(&mut t, &mut received);
    judge(&mut t, &broker, &wanted, &received);
}

fn ask(command: &Happening, t: &mut Transcript, wanted: &mut Wanted) {
    match command {
        Happening::Publish(qos) => {
            let token = t.publish("t", *qos, &format!("{}", t.next_token));
            wanted.publishes.insert(token, *qos);
        }
        Happening::Subscribe(filters, qos) => {
            let filters = names(filters);
            let asked: Vec<_> = filters.iter().map(|name| (name.as_str(), *qos)).collect();
            t.subscribe(&asked);
            for name in filters {
                wanted.filters.insert(name, *qos);
            }
        }
        Happening::Unsubscribe(filters) => {
            let filters = names(filters);
            let asked: Vec<_> = filters.iter().map(String::as_str).collect();
            t.unsubscribe(&asked);
            for name in filters {
                wanted.filters.remove(&name);
            }
        }
        _ => {
            t.ping();
        }
    }
}

fn judge(t: &mut Transcript, broker: &Broker, wanted: &Wanted, received: &[String]) {
    assert_eq!(
        broker.subscriptions, wanted.filters,
        "subscribed at the broker"
    );
    for (token, qos) in &wanted.publishes {
        let outcome = t.outcomes.get(token).expect("it has ended");
        let payload = token.to_string();
        let arrived = broker.published.iter().filter(|p| **p == payload).count();
        let as_told = match (qos, outcome) {
            (0, Outcome::Delivered { .. }) => arrived <= 1,
            (1, Outcome::Delivered { .. }) => arrived >= 1,
            // Nothing can tell it that the broker forgot the first half of the exchange.
            (2, Outcome::Delivered { .. }) if wanted.loss_ever_missed => arrived >= 1,
            (2, Outcome::PerhapsDelivered(_)) if wanted.loss_ever_missed => true,
            (2, Outcome::Delivered { .. }) => arrived == 1,
            (2, Outcome::PerhapsDelivered(_)) => wanted.session_ever_lost && arrived <= 1,
            _ => false,
        };
        assert!(as_told, "{outcome}, QoS {qos}, arrived {arrived} times");
    }
    // Each first arrival in the order of publishing [MQTT-4.6.0-1].
    let of_qos_1 = |token: &Token| wanted.publishes.get(token) == Some(&1);
    let mut latest = None;
    for token in broker
        .published
        .iter()
        .map(|p| p.parse().unwrap())
        .filter(of_qos_1)
    {
        if latest.is_none_or(|latest| latest < token) {
            latest = Some(token);
        }
        let missing = wanted.publishes.iter().find(|(earlier, qos)| {
            let payload = earlier.to_string();
            let position = broker.published.iter().position(|p| *p == payload);
            let own = broker
                .published
                .iter()
                .position(|p| *p == token.to_string());
            **qos == 1 && **earlier < token && position > own
        });
        assert_eq!(missing, None, "it arrived after {token}, which is later");
    }
    for (text, qos) in &wanted.messages {
        let arrived = received.iter().filter(|r| *r == text).count();
        let as_promised = match (qos, wanted.session_ever_lost) {
            (1, false) => arrived >= 1,
            (2, false) => arrived == 1,
            (2, true) | (0, _) => arrived <= 1,
            _ => true,
        };
        assert!(as_promised, "{text}, QoS {qos}, arrived {arrived} times");
    }
    t.outcomes.clear();
    t.connected = None;
    assert!(t.wants_commands(), "nothing is left over");
    t.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_command_ends_once_with_what_is_true(
        story in prop::collection::vec(happening(), 1..120),
        few_identifiers: bool,
        little_room: bool,
    ) {
        let identifiers = if few_identifiers { 8 } else { u16::MAX };
        // Four messages or a few more.
        let max_owed_bytes = if little_room { 20 } else { usize::MAX };
        play(&story, identifiers, max_owed_bytes);
    }
}
