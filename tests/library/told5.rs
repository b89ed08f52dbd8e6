//! MQTT 5 to people: why the broker closed or refused, and what cannot be sent, is told by name.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::num::NonZeroU32;

use crate::support::running::{Running, options, told};
use crate::support::scripted5::{ACCEPTED5, message5, options5, packet5, refusal5};
use crate::support::{HANG, ScriptedBroker, wait_until};
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::limits::Limits;
use mqtt_connection_sharing::{
    Client, ConnectionEvents, EventKind, Filter, MessageProperties, Publish, QoS, RejectReason,
    SubscribeOptions, WhenFull, Will,
};

/// The next event that is one of these.
fn next<T>(events: &mut ConnectionEvents, wanted: impl Fn(&EventKind) -> Option<T>) -> T {
    loop {
        let event = events.recv_timeout(HANG).expect("an event");
        if let Some(found) = wanted(&event.kind) {
            return found;
        }
    }
}

#[test]
fn a_client_that_is_thrown_out_ends_with_one_line_that_says_why() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let mut events = running.handle().events();
    link.send(&packet5(0xe0, b"\x8e\x0a\x1f\x00\x07another"));
    let (code, text) = next(&mut events, |kind| match kind {
        EventKind::BrokerDisconnected { disconnect, advice } => {
            assert!(advice.contains("`client_id`"), "{advice}");
            Some((disconnect.code.value(), kind.to_string()))
        }
        _ => None,
    });
    assert_eq!(code, 0x8e);
    let said =
        "DISCONNECT from the broker: 0x8E (session taken over): \"another\"; give each program";
    assert!(text.starts_with(said), "{text}");
    let ended = running.join();
    let error = ended.result.unwrap_err();
    assert!(error.is_permanent());
    let line = error.to_string();
    assert!(
        line.contains("DISCONNECT 0x8E (session taken over): \"another\""),
        "{line}"
    );
    assert_eq!((line.lines().count(), ended.stats.losses), (1, 1));
    link.close();
}

/// 0x8B: it shuts down; 0x89: it is busy.
#[test]
fn a_broker_that_will_be_back_is_tried_again() {
    for code in [0x8b, 0x89] {
        let mut broker = ScriptedBroker::bind();
        let (running, mut link) = Running::online5(&mut broker, &[]);
        let mut events = running.handle().events();
        link.send(&packet5(0xe0, &[code]));
        let lost = next(&mut events, |kind| match kind {
            EventKind::Lost { error, .. } => Some(error.clone()),
            _ => None,
        });
        assert!(!lost.is_permanent(), "{lost}");
        link.close();
        let (link, _) = running.greet5(&mut broker, ACCEPTED5);
        running.terminate5(link);
    }
}

#[test]
fn a_refusal_is_told_with_the_name_of_its_code() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options5(&broker));
    let mut events = running.handle().events();
    let mut link = broker.accept();
    link.read_bytes();
    link.send(&refusal5(0x87));
    let text = next(&mut events, |kind| match kind {
        EventKind::Refused { code: 0x87 } => Some(kind.to_string()),
        _ => None,
    });
    assert_eq!(text, "CONNACK refuses with 0x87 (not authorized)");
    let error = running.join().result.unwrap_err();
    assert_eq!((error.is_permanent(), error.exit_status()), (true, 4));
}

#[test]
fn properties_that_cannot_be_sent_come_back_with_the_name_of_their_field() {
    let broker = ScriptedBroker::bind();
    let (agent, handle) = Client::new(options5(&broker)).unwrap().open();
    let properties = MessageProperties::default;
    for (field, properties) in [
        (
            "response_topic",
            MessageProperties {
                response_topic: Some("a/#".to_owned()),
                ..properties()
            },
        ),
        (
            "content_type",
            MessageProperties {
                content_type: Some("a\0".to_owned()),
                ..properties()
            },
        ),
        (
            "user_properties",
            MessageProperties {
                user_properties: vec![("n".to_owned(), "v".repeat(65_536))],
                ..properties()
            },
        ),
        (
            "correlation_data",
            MessageProperties {
                correlation_data: Some(vec![0; 65_536].into()),
                ..properties()
            },
        ),
    ] {
        let message = Publish::new("t", QoS::AtMostOnce, "x").with_properties(properties.clone());
        let rejected = handle.publish(message.clone()).unwrap_err();
        assert_eq!(rejected.command, message);
        let RejectReason::Invalid { name, problem } = &rejected.reason else {
            panic!("{rejected}");
        };
        assert_eq!(name, field);
        // A will has the same.
        let mut options = options5(&broker);
        let mut will = Will::new("w", QoS::AtMostOnce, "x");
        will.properties.message = properties;
        options.last_will = Some(will);
        let error: Error = Client::new(options).unwrap_err();
        assert_eq!(error.problem(), format!("{field}: {problem}"));
    }
    drop(agent);
}

/// [MQTT-3.8.3-4], and the largest number that a variable byte integer has [MQTT 5, 1.5.5].
#[test]
fn options_that_mqtt_forbids_a_subscription_come_back() {
    let broker = ScriptedBroker::bind();
    let (agent, handle) = Client::new(options5(&broker)).unwrap().open();
    let inbox = handle.inbox(1, WhenFull::WaitAside);
    let no_local = SubscribeOptions {
        no_local: true,
        ..SubscribeOptions::default()
    };
    let identifier = SubscribeOptions {
        identifier: NonZeroU32::new(268_435_456),
        ..SubscribeOptions::default()
    };
    for (filter, options, rule) in [
        ("$share/a/t", no_local, "MQTT-3.8.3-4"),
        ("t", identifier, "268,435,455"),
    ] {
        let filters = vec![Filter::new(filter, QoS::AtMostOnce).with_options(options)];
        let rejected = handle.subscribe(&inbox, filters.clone()).unwrap_err();
        assert_eq!(rejected.command, filters);
        assert!(rejected.to_string().contains(rule), "{rejected}");
    }
    drop(agent);
}

/// As the documentation of each of them says.
#[test]
fn a_connection_of_3_1_1_leaves_out_what_mqtt_5_adds() {
    let mut broker = ScriptedBroker::bind();
    let properties = MessageProperties {
        expiry: Some(0),
        content_type: Some("text/plain".to_owned()),
        ..MessageProperties::default()
    };
    let mut with_will = options(&broker);
    let mut will = Will::new("w", QoS::AtMostOnce, "x");
    will.properties.delay = 5;
    will.properties.message = properties.clone();
    with_will.last_will = Some(will);
    with_will.version5.user_properties = vec![("a".to_owned(), "b".to_owned())];
    with_will.version5.topic_aliases = 9;
    // They allow neither this expiry nor a will delay, a subscription identifier, or so many aliases.
    with_will.limits = Limits::aws_iot();
    let running = Running::start(with_will);
    let mut link = broker.accept();
    let connect = link.read_bytes();
    assert_eq!(
        connect[2..],
        *b"\x00\x04MQTT\x04\x04\x00\x3c\x00\x04loop\x00\x01w\x00\x01x"
    );
    link.send(&[0x20, 2, 0, 0]);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let options = SubscribeOptions {
        no_local: true,
        identifier: NonZeroU32::new(7),
        ..SubscribeOptions::default()
    };
    let filters = vec![Filter::new("t", QoS::AtLeastOnce).with_options(options)];
    let subscribed = running.handle().subscribe(&inbox, filters).unwrap();
    let subscribe = link.read_bytes();
    assert_eq!(subscribe[4..], *b"\x00\x01t\x01");
    link.send(&[0x90, 3, subscribe[2], subscribe[3], 1]);
    assert!(told(subscribed).is_delivered());
    // Its expiry of no time at all is left out, too.
    let message = Publish::new("t", QoS::AtMostOnce, "x").with_properties(properties);
    assert!(told(running.handle().publish(message).unwrap()).is_delivered());
    assert_eq!(link.read_bytes(), b"\x30\x04\x00\x01tx");
    assert!(running.handle().negotiated().is_none());
    running.terminate5(link);
}

/// The user properties of a broker count on the account of what waits, at their size in memory.
#[test]
fn what_waits_is_bounded_with_its_user_properties() {
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online5(&mut broker, &[]);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("t", QoS::AtLeastOnce)];
    let subscribed = running.handle().subscribe(&inbox, filters).unwrap();
    let subscribe = link.read_bytes();
    link.send(&[0x90, 4, subscribe[2], subscribe[3], 0, 1]);
    assert!(told(subscribed).is_delivered());
    let properties = b"\x26\x00\x00\x00\x00".repeat(10_000);
    for id in 1..=2 {
        let message = message5(0x32, "t", id, &properties, b"x");
        link.send(&message);
    }
    // The first is in the inbox, the second one waits aside.
    wait_until("it to wait", || {
        let stats = running.handle().stats();
        stats.waiting_messages == 1 && stats.waiting_bytes > 10_000 * 48
    });
    running.terminate5(link);
}
