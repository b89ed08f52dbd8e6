//! Commands beyond a broker's limits are handed back before any of it is sent, and the connection goes
//! on. The real loop, with the limits of AWS IoT Core, against a broker that sees every byte.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crate::support::running::{Running, options, told};
use crate::support::{ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::limits::{Limit, Limits};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Filter, Protocol, Publish, QoS};
use mqtt_connection_sharing::{Outcome, Reason, RejectReason, WhenFull};

in_both_versions! {
    publishes_beyond_a_limit_are_handed_back_with_its_name,
    commands_that_mqtt_forbids_are_handed_back,
    filters_beyond_a_limit_are_handed_back_with_its_name,
}

const QOS_1: QoS = QoS::AtLeastOnce;

fn aws(broker: &ScriptedBroker) -> Options {
    let mut options = options(broker);
    options.limits = Limits::aws_iot();
    options.keep_alive = Duration::from_secs(1200);
    options
}

fn publishes_beyond_a_limit_are_handed_back_with_its_name(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online_with(aws(&broker), &mut broker);
    let publish = |topic: &str, qos, bytes| Publish::new(topic, qos, vec![b'x'; bytes]);
    for (publish, limit, words) in [
        (
            publish("t", QoS::ExactlyOnce, 1),
            Limit::QoS,
            "quality of service 2, and AWS IoT allows at most 1",
        ),
        (
            publish(&"t".repeat(257), QOS_1, 1),
            Limit::TopicBytes,
            "it has 257 bytes, and AWS IoT allows 256",
        ),
        (
            publish("1/2/3/4/5/6/7/8/9", QOS_1, 1),
            Limit::TopicSlashes,
            "it has 8 slashes, and AWS IoT allows 7",
        ),
        (
            publish("t", QoS::AtMostOnce, 131_073),
            Limit::PayloadBytes,
            "a payload of 131073 bytes, and AWS IoT allows 131072",
        ),
        (
            publish("$SYS/t", QOS_1, 1),
            Limit::ReservedTopic,
            "topics that begin with $ are reserved on AWS IoT",
        ),
    ] {
        let rejected = running.handle().publish(publish.clone()).unwrap_err();
        assert_eq!(rejected.command, publish);
        let text = rejected.to_string();
        assert!(text.contains(words), "{text}");
        let RejectReason::Limit { name, exceeded } = rejected.reason else {
            panic!("{:?}", rejected.reason);
        };
        assert_eq!(
            (name, exceeded.limit()),
            (publish.topic().to_string(), limit)
        );
        let with_callback = running.handle().publish_then(publish.clone(), |_| {});
        assert_eq!(with_callback.unwrap_err().command, publish);
    }
    // Messages up to the limits are sent, and they are the first ones on the wire.
    for (topic, bytes) in [
        ("1/2/3/4/5/6/7/8".to_owned(), 131_072),
        ("t".repeat(256), 0),
        ("$aws/rules/rule/1/2/3/4/5/6/7/8".to_owned(), 1),
    ] {
        let ticket = running.handle().publish(publish(&topic, QOS_1, bytes));
        let seen = link.expect_publish();
        assert_eq!((seen.topic, seen.payload.len()), (topic, bytes));
        link.send_puback(seen.pkid);
        assert!(told(ticket.unwrap()).is_delivered());
    }
    assert_eq!(running.terminate(link).1.connects, 1);
}

fn commands_that_mqtt_forbids_are_handed_back(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let long = "x".repeat(65_536);
    for bad in ["", "a\0b", "a/+/b", "a/#", &long] {
        let publish = Publish::new(bad, QOS_1, "x");
        let rejected = running.handle().publish(publish.clone()).unwrap_err();
        assert_eq!(rejected.command, publish);
        assert!(rejected.to_string().len() < 300, "a line, however long");
    }
    for bad in [
        "",
        "a\0b",
        "a+",
        "#/a",
        "a/#/b",
        "a#",
        "$share/g",
        "$share//a",
        "$share/+/a",
        "$share/g/",
        &long,
    ] {
        let good = Filter::new("good", QOS_1);
        let filters = vec![good, Filter::new(bad, QoS::ExactlyOnce)];
        let rejected = running.handle().subscribe(&inbox, filters.clone());
        let rejected = rejected.unwrap_err();
        assert_eq!(rejected.command, filters);
        assert!(matches!(rejected.reason, RejectReason::Invalid { name, .. } if name == bad));
        let names = vec!["good".to_owned(), bad.to_owned()];
        let rejected = running.handle().unsubscribe(&inbox, names.clone());
        assert_eq!(rejected.unwrap_err().command, names);
    }
    let nothing = running.handle().subscribe(&inbox, Vec::new()).unwrap_err();
    assert_eq!(nothing.reason, RejectReason::NoFilter);
    // Nothing of the rejected commands went out.
    running.take_a_turn();
    let received = link.received();
    running.terminate(link);
    assert_eq!(received[0], 0x10, "CONNECT");
    assert_eq!(received.len(), usize::from(received[1]) + 2);
}

/// A host is a name or an address and nothing else. A dot at its beginning would make OpenSSL take the
/// certificate of any subdomain. A URL may hold a password, which messages would repeat.
#[test]
fn an_invalid_host_is_refused_and_not_repeated() {
    for host in [
        ".example.com",
        "mqtts://me:hunter2@broker.example",
        "me:hunter2@broker.example",
        "broker.example/hunter2",
        "broker example",
        "broker\0",
    ] {
        let error = Options::new(host, "me").check().expect_err(host);
        let text = error.to_string();
        assert!(text.starts_with("checking `host`: "), "{text}");
        assert!(text.contains("; give the host alone"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    for host in ["a", "my_broker.", "192.0.2.1", "::1", "fe80::1%eth0"] {
        assert!(Options::new(host, "me").check().is_ok(), "{host}");
    }
}

fn filters_beyond_a_limit_are_handed_back_with_its_name(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online_with(aws(&broker), &mut broker);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let many = (0..51).map(|n| format!("f/{n}")).collect::<Vec<_>>();
    let with = |names: &[&str], qos| {
        let filters = names.iter().map(|name| Filter::new(*name, qos));
        filters.collect::<Vec<_>>()
    };
    let all: Vec<&str> = many.iter().map(String::as_str).collect();
    for (filters, limit, name) in [
        (with(&["good", "two"], QoS::ExactlyOnce), Limit::QoS, "good"),
        (
            with(&["good", "+/+/+/+/+/+/+/+/#"], QOS_1),
            Limit::TopicSlashes,
            "+/+/+/+/+/+/+/+/#",
        ),
        (with(&all, QOS_1), Limit::Subscriptions, "SUBSCRIBE"),
    ] {
        let rejected = running.handle().subscribe(&inbox, filters.clone());
        let rejected = rejected.unwrap_err();
        assert_eq!(rejected.command, filters);
        assert!(
            rejected.to_string().contains("AWS IoT allows"),
            "{rejected}"
        );
        let RejectReason::Limit { name: of, exceeded } = rejected.reason else {
            panic!("{:?}", rejected.reason);
        };
        assert_eq!((of.as_str(), exceeded.limit()), (name, limit));
    }
    // The filters of UNSUBSCRIBE have the same limits, except their number.
    for name in ["+/+/+/+/+/+/+/+/#", &"f".repeat(257)] {
        let names = vec!["good".to_owned(), name.to_owned()];
        let rejected = running.handle().unsubscribe(&inbox, names.clone());
        let rejected = rejected.unwrap_err();
        assert_eq!(rejected.command, names);
        let reason = rejected.reason;
        assert!(matches!(reason, RejectReason::Limit { name: of, .. } if of == name));
    }
    // Fifty filters are allowed, eight in a packet. After that, a filter is allowed only if it is one of
    // them.
    let ticket = running.handle().subscribe(&inbox, with(&all[..50], QOS_1));
    let mut asked = 0;
    while asked < 50 {
        let subscribe = link.expect_subscribe();
        assert!(subscribe.filters.len() <= 8);
        asked += subscribe.filters.len();
        link.grant(&subscribe);
    }
    assert!(told(ticket.unwrap()).is_delivered());
    let one_more = running.handle().subscribe(&inbox, with(&["g"], QOS_1));
    assert_eq!(
        told(one_more.unwrap()),
        Outcome::NeverSent(Reason::SubscriptionLimit)
    );
    let other = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &other, "f/0");
    // The name of a shared subscription does not count as levels.
    let left = running.handle().unsubscribe(&inbox, vec!["f/49".into()]);
    let unsubscribe = link.expect_unsubscribe();
    crate::support::running::send_unsuback(&mut link, unsubscribe.pkid);
    assert!(told(left.unwrap()).is_delivered());
    running.subscribe(&mut link, &inbox, "$share/group/1/2/3/4/5/6/7/8");
    running.terminate(link);
}
