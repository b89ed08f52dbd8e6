//! The connection as threads watch it: its state, a wait for a state, events and counts. The real loop against a
//! scripted broker.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::options::{Options, Security};
use mqtt_connection_sharing::{
    AttemptStep, Client, ConnectionEvents, ConnectionState, EventKind, NoEvent, NotReached,
    Outcome, Protocol, Publish, QoS, Reason, WhenFull,
};
use rumqttc::mqttbytes::v4;

use crate::support::running::{Running, message, options, send_at_once, told};
use crate::support::{Event, HANG, ScriptedBroker, in_both_versions, wait_for};

in_both_versions! {
    the_way_of_a_connection_from_the_first_attempt_to_the_end,
    a_link_that_ends_before_connack_is_a_failure_of_its_address,
    a_refusal_tells_its_return_code,
    between_two_attempts_the_next_one_is_known,
    a_callback_asks_for_everything_and_waits_for_nothing,
    what_becomes_of_subscriptions_and_inboxes_is_an_event,
    a_command_that_is_given_up_is_named,
}

/// The next event that is no step of an attempt.
#[track_caller]
fn next(events: &mut ConnectionEvents) -> EventKind {
    loop {
        let event = events.recv_timeout(HANG).expect("an event");
        if !matches!(event.kind, EventKind::Step(_)) {
            return event.kind.clone();
        }
    }
}

/// The next event that this finds.
#[track_caller]
fn find<T>(events: &mut ConnectionEvents, mut is_it: impl FnMut(&EventKind) -> Option<T>) -> T {
    loop {
        let event = events.recv_timeout(HANG).expect("the event");
        if let Some(found) = is_it(&event.kind) {
            return found;
        }
    }
}

/// The steps of the attempt that has begun, up to CONNACK.
pub(super) fn steps(events: &mut ConnectionEvents) -> Vec<AttemptStep> {
    let mut steps = Vec::new();
    find(events, |kind| match kind {
        EventKind::Step(step) => {
            steps.push(step.clone());
            None
        }
        EventKind::Connected { .. } => Some(()),
        _ => None,
    });
    steps
}

fn the_way_of_a_connection_from_the_first_attempt_to_the_end(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (agent, handle) = Client::new(options(&broker)).unwrap().open();
    assert_eq!(handle.connection(), ConnectionState::Offline);
    let mut events = handle.events();
    let running = thread::spawn(move || agent.run());
    let (link, _) = broker.accept_client(false);
    let online = handle.wait_for_connection(HANG, ConnectionState::is_online);
    let ConnectionState::Online {
        session_present: false,
        address: Some(address),
        tls: None,
        since,
        ..
    } = online.unwrap()
    else {
        panic!("{:?}", handle.connection());
    };
    assert_eq!(address.port(), broker.port());
    assert!(since <= Instant::now());
    let began = EventKind::Attempt { number: 1 };
    assert_eq!(events.recv_timeout(HANG).unwrap().kind, began);
    let host = "127.0.0.1".to_owned();
    let expected = [
        AttemptStep::Resolving { host },
        AttemptStep::Resolved {
            addresses: vec![address],
        },
        AttemptStep::TcpBegan { to: address },
        AttemptStep::TcpDone { to: address },
        AttemptStep::ConnectSent,
    ];
    assert_eq!(steps(&mut events), expected);

    // The broker closes, and the loop comes back.
    link.close();
    let EventKind::Lost { error, .. } = next(&mut events) else {
        panic!("not lost");
    };
    assert!(
        error.problem().contains("the broker closed the connection"),
        "{error}"
    );
    let EventKind::Retrying { attempt, .. } = next(&mut events) else {
        panic!("no further attempt");
    };
    assert_eq!(attempt, 2, "nothing was acknowledged on the first link");
    assert_eq!(next(&mut events), EventKind::Attempt { number: 2 });
    let (link, _) = broker.accept_client(true);
    let EventKind::Connected {
        session_present, ..
    } = next(&mut events)
    else {
        panic!("not connected");
    };
    assert!(session_present);

    // DISCONNECT, RECONNECT.
    let offline = handle.disconnect();
    let mut link = link;
    link.expect_disconnect();
    link.close();
    assert!(told(offline).is_delivered());
    assert_eq!(next(&mut events), EventKind::Disconnected);
    assert_eq!(handle.connection(), ConnectionState::Offline);
    let again = handle.reconnect();
    assert_eq!(next(&mut events), EventKind::Reconnecting);
    assert_eq!(next(&mut events), EventKind::Attempt { number: 1 });
    let (mut link, _) = broker.accept_client(true);
    assert!(told(again).is_delivered());
    assert!(
        handle.connection().is_online(),
        "before the ticket resolves"
    );
    assert!(matches!(next(&mut events), EventKind::Connected { .. }));

    let end = handle.terminate(Duration::ZERO);
    link.expect_disconnect();
    link.close();
    let ended = running.join().unwrap();
    assert!(told(end).is_delivered());
    assert_eq!(next(&mut events), EventKind::Disconnected);
    assert_eq!(next(&mut events), EventKind::Ended { error: None });
    assert_eq!(events.recv(), Err(NoEvent::Ended));
    assert_eq!(handle.connection(), ConnectionState::Ended);
    assert_eq!(handle.stats(), ended.stats);
    let never = handle.wait_for_connection(HANG, ConnectionState::is_online);
    assert_eq!(never, Err(NotReached::Ended));
}

#[test]
fn an_attempt_that_fails_tells_each_address_and_the_end_tells_the_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut options = Options::new("127.0.0.1", "watching");
    options.port = port;
    options.security = Security::Plain;
    options.retry.base = Duration::from_millis(1);
    options.retry.max = Duration::from_millis(1);
    options.retry.attempts = 1;
    let (agent, handle) = Client::new(options).unwrap().open();
    let mut events = handle.events();
    let waiting = thread::spawn({
        let handle = handle.clone();
        move || handle.wait_for_connection(HANG, ConnectionState::is_online)
    });
    let ended = agent.run();
    let error = ended.result.unwrap_err();
    assert_eq!(waiting.join().unwrap(), Err(NotReached::Ended));
    for number in 1..=2 {
        assert_eq!(next(&mut events), EventKind::Attempt { number });
        let failed = find(&mut events, |kind| match kind {
            EventKind::Step(AttemptStep::AddressFailed { to, error }) => {
                Some((to.unwrap().port(), error.clone()))
            }
            _ => None,
        });
        assert_eq!(failed.0, port);
        let attempt_failed = EventKind::AttemptFailed { error: failed.1 };
        assert_eq!(next(&mut events), attempt_failed);
        if number == 1 {
            let retrying = next(&mut events);
            assert!(
                matches!(retrying, EventKind::Retrying { attempt: 2, .. }),
                "{retrying}"
            );
        }
    }
    let last = EventKind::Ended { error: Some(error) };
    assert_eq!(next(&mut events), last);
    assert_eq!(events.count(), 0);
}

fn a_link_that_ends_before_connack_is_a_failure_of_its_address(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let port = broker.port();
    let (agent, handle) = Client::new(options(&broker)).unwrap().open();
    let mut events = handle.events();
    let running = thread::spawn(move || agent.run());
    let mut link = broker.accept();
    link.expect_connect();
    drop(link);
    let failed = find(&mut events, |kind| match kind {
        EventKind::Step(AttemptStep::AddressFailed { to, error }) => {
            Some((to.unwrap().port(), error.clone()))
        }
        EventKind::AttemptFailed { .. } => panic!("without the address"),
        _ => None,
    });
    assert_eq!(failed.0, port);
    let attempt_failed = EventKind::AttemptFailed { error: failed.1 };
    assert_eq!(next(&mut events), attempt_failed);
    drop(handle);
    drop(running.join().unwrap());
}

fn a_refusal_tells_its_return_code(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (agent, handle) = Client::new(options(&broker)).unwrap().open();
    let mut events = handle.events();
    let running = thread::spawn(move || agent.run());
    let mut link = broker.accept();
    link.expect_connect();
    link.send_connack(v4::ConnectReturnCode::NotAuthorized, false);
    let error = running.join().unwrap().result.unwrap_err();
    assert_eq!(next(&mut events), EventKind::Attempt { number: 1 });
    let code = match protocol {
        Protocol::V5 => 0x87,
        _ => 5,
    };
    assert_eq!(next(&mut events), EventKind::Refused { code });
    let told = EventKind::AttemptFailed {
        error: error.clone(),
    };
    assert_eq!(next(&mut events), told);
    let ended = EventKind::Ended { error: Some(error) };
    assert_eq!(next(&mut events), ended);
}

fn between_two_attempts_the_next_one_is_known(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    // Far away: the test looks at it in peace.
    options.connect_interval = Duration::from_secs(3600);
    let running = Running::start(options);
    let mut events = running.handle().events();
    let before = Instant::now();
    broker.accept_client(false).0.close();
    let retrying = find(&mut events, |kind| match kind {
        EventKind::Retrying { attempt, next_try } => Some((*attempt, Some(*next_try))),
        _ => None,
    });
    let state = running.handle().connection();
    let ConnectionState::Connecting { attempt, next_try } = state else {
        panic!("{state}");
    };
    assert_eq!((attempt, next_try), retrying);
    assert!(next_try.unwrap() > before + Duration::from_secs(3000));
    let ended = running.handle().terminate(Duration::ZERO);
    assert!(running.join().result.is_ok());
    assert!(told(ended).is_delivered());
}

#[test]
fn a_loop_that_never_ran_has_ended_once_it_is_dropped() {
    let broker = ScriptedBroker::bind();
    let (agent, handle) = Client::new(options(&broker)).unwrap().open();
    let mut events = handle.events();
    assert_eq!(events.try_recv(), Err(NoEvent::Timeout));
    drop(agent);
    assert_eq!(next(&mut events), EventKind::Ended { error: None });
    assert_eq!(handle.connection(), ConnectionState::Ended);
}

fn a_callback_asks_for_everything_and_waits_for_nothing(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let (sender, seen) = channel();
    let mut events = running.handle().events();
    let handle = running.handle().clone();
    let look = move |_| {
        let offline = handle.wait_for_connection(HANG, |state| !state.is_online());
        let online = handle.wait_for_connection(HANG, ConnectionState::is_online);
        let stats = handle.stats();
        let _ = sender.send((offline, online, events.recv(), stats.delivered));
    };
    let publish = Publish::new("t", QoS::AtLeastOnce, "x");
    running.handle().publish_then(publish, look).unwrap();
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    let (offline, online, event, delivered) = seen.recv_timeout(HANG).unwrap();
    assert_eq!(offline, Err(NotReached::OnLoopThread));
    assert!(online.is_ok(), "it is there");
    assert_eq!(event, Err(NoEvent::OnLoopThread));
    assert_eq!(delivered, 1, "counted before it is told");
    running.terminate(link);
}

fn what_becomes_of_subscriptions_and_inboxes_is_an_event(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_packet_size = 1_000;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let mut events = running.handle().events();
    let small = running.handle().inbox(1, WhenFull::DropNewest);
    running.subscribe(&mut link, &small, "small/#");
    let slow = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &slow, "slow/#");

    // Five messages for room for one: the first drop is told, the second and the fourth.
    let messages: Vec<_> = (1..=5).map(|id| message("small/1", id, "x")).collect();
    send_at_once(&mut link, messages);
    for dropped in [1, 2, 4] {
        let EventKind::InboxOverflowing {
            inbox,
            waiting,
            dropped: told,
        } = next(&mut events)
        else {
            panic!("no overflow");
        };
        assert_eq!((&inbox[..], waiting, told), ("\"small/#\"", 1, dropped));
    }

    // One waits aside for a second.
    let messages: Vec<_> = (6..=8).map(|id| message("slow/1", id, "x")).collect();
    send_at_once(&mut link, messages);
    let EventKind::InboxOverflowing {
        inbox,
        waiting,
        dropped,
    } = next(&mut events)
    else {
        panic!("no overflow");
    };
    assert_eq!((&inbox[..], waiting, dropped), ("\"slow/#\"", 3, 0));
    assert_eq!(running.handle().stats().waiting_messages, 2);

    send_at_once(&mut link, [message("slow/2", 9, &"x".repeat(1_000))]);
    let EventKind::MessageTooLarge {
        topic,
        size,
        so_far,
    } = next(&mut events)
    else {
        panic!("not too large");
    };
    let properties = usize::from(protocol == Protocol::V5);
    let expected = ("slow/2", 1_013 + properties, 1);
    assert_eq!((&topic[..], size, so_far), expected);

    link.close();
    let (mut link, _) = broker.accept_client(false);
    let subscribe = link.expect_subscribe();
    assert_eq!(subscribe.filters.len(), 2);
    let codes = subscribe
        .filters
        .iter()
        .map(|filter| match &filter.path[..] {
            "slow/#" => v4::SubscribeReasonCode::Failure,
            _ => v4::SubscribeReasonCode::Success(filter.qos),
        });
    let answer = v4::SubAck::new(subscribe.pkid, codes.collect());
    link.send_packet(v4::Packet::SubAck(answer));
    let connected = find(&mut events, |kind| match kind {
        EventKind::Connected {
            session_present,
            renewing,
            ..
        } => Some((*session_present, *renewing)),
        _ => None,
    });
    assert_eq!(connected, (false, 2));
    let filters = vec!["small/#".to_owned()];
    assert_eq!(next(&mut events), EventKind::Renewed { filters });
    let filter = "slow/#".to_owned();
    assert_eq!(next(&mut events), EventKind::SubscriptionRefused { filter });
    drop((small, slow));
    running.terminate(link);
}

/// A thousand observers of which most are never read, while links come and go: nobody waits for them.
#[test]
fn a_thousand_observers_are_told_of_each_link_or_how_many_events_they_missed() {
    const OBSERVERS: usize = 1_000;
    const READERS: usize = 4;
    const LINKS: u64 = 60;
    let mut broker = ScriptedBroker::bind();
    let (agent, handle) = Client::new(options(&broker)).unwrap().open();
    let mut unread: Vec<_> = (READERS..OBSERVERS).map(|_| handle.events()).collect();
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let events = handle.events();
            thread::spawn(move || {
                let (mut all, mut connected) = (0, 0);
                for event in events {
                    match event.kind {
                        EventKind::Missed { count } => all += count,
                        EventKind::Connected { .. } => (all, connected) = (all + 1, connected + 1),
                        _ => all += 1,
                    }
                }
                (all, connected)
            })
        })
        .collect();
    let running = thread::spawn(move || agent.run());
    for link in 0..LINKS {
        broker.accept_client(link > 0).0.close();
        drop(handle.events());
    }
    let (mut link, _) = broker.accept_client(true);
    wait_for("the last connection", HANG, || {
        (handle.stats().connects == LINKS + 1).then_some(())
    });
    let end = handle.terminate(Duration::ZERO);
    loop {
        match link.read_event(HANG) {
            Event::Packet(v4::Packet::Disconnect, _) => break,
            Event::Packet(..) => {}
            other => panic!("{other:?}"),
        }
    }
    link.close();
    let ended = running.join().unwrap();
    assert!(told(end).is_delivered());
    assert_eq!(
        (ended.stats.connects, ended.stats.losses),
        (LINKS + 1, LINKS)
    );
    let seen: Vec<_> = readers
        .into_iter()
        .map(|reader| reader.join().unwrap())
        .collect();
    for (all, connected) in &seen {
        assert_eq!(*all, seen[0].0, "nothing is lost without a word");
        assert!(*connected <= LINKS + 1);
    }
    for events in &mut unread {
        let first = events.recv_timeout(HANG).unwrap();
        let EventKind::Missed { count } = first.kind else {
            panic!("{first}");
        };
        assert_eq!(count + events.count() as u64, seen[0].0);
    }
}

/// The name of a command that is given up is told with the reason.
fn a_command_that_is_given_up_is_named(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let mut events = running.handle().events();
    let poison = running.publish("poison", "x");
    // Each packet but the poison is answered; on the poison the broker closes. Three losses make it suspected, and
    // five links on which it is alone are its end.
    for _ in 0..8 {
        loop {
            match link.read_packet() {
                v4::Packet::PingReq => link.send_packet(v4::Packet::PingResp),
                v4::Packet::Publish(_) => break,
                other => panic!("{other:?}"),
            }
        }
        link.close();
        link = broker.accept_client(true).0;
    }
    assert_eq!(told(poison), Outcome::PerhapsDelivered(Reason::Parked));
    let given_up = find(&mut events, |kind| match kind {
        EventKind::CommandGivenUp { command, reason } => Some((command.clone(), *reason)),
        _ => None,
    });
    assert_eq!(
        given_up,
        ("PUBLISH to \"poison\"".to_owned(), Reason::Parked)
    );
    running.terminate(link);
}
