//! Lost links and brokers that break the protocol: the packets that the loop sends again, and those that
//! it leaves alone. The real loop against a scripted broker.
//!
//! `row_NN` names the defect of the original program, in the project's table, that must not come back.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use crate::support::running::{
    Running, attempts, message, next, options, send_at_once, send_unsuback, told,
};
use crate::support::{Event, HANG, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::options::OnTooLarge;
use mqtt_connection_sharing::{Accept, InboxError, Protocol, WhenFull};
use mqtt_connection_sharing::{Filter, QoS};
use rumqttc::mqttbytes::{self, v4};

in_both_versions! {
    row_08_and_row_09_without_a_session_every_subscription_is_renewed_before_anything_else,
    row_07_a_subscribe_and_an_unsubscribe_in_flight_are_sent_again,
    row_09_a_renewal_that_is_refused_reaches_the_inbox,
    row_01_an_oversized_packet_can_close_the_link_and_the_next_one_works,
    acknowledgments_for_nothing_are_ignored,
    messages_waiting_aside_at_a_loss_are_delivered_once,
}

fn row_08_and_row_09_without_a_session_every_subscription_is_renewed_before_anything_else(
    protocol: Protocol,
) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let filters: Vec<_> = (0..10)
        .map(|n| Filter::new(format!("f/{n}"), [QoS::AtMostOnce, QoS::ExactlyOnce][n % 2]))
        .collect();
    let ticket = running.handle().subscribe(&inbox, filters.clone()).unwrap();
    for _ in 0..2 {
        let subscribe = link.expect_subscribe();
        link.grant(&subscribe);
    }
    assert!(told(ticket).is_delivered());
    let in_flight = running.publish("out", "in flight");
    link.expect_publish();
    link.close();
    // The link is lost again before the renewal is granted, so the renewal is still due.
    for round in 0..2 {
        let (mut link, _) = broker.accept_client(false);
        let queued = running.publish("out", "queued");
        let first = link.expect_subscribe();
        let second = link.expect_subscribe();
        let asked = |s: &v4::Subscribe| {
            s.filters
                .iter()
                .map(|f| (f.path.clone(), f.qos as u8))
                .collect::<Vec<_>>()
        };
        let mut renewed = [asked(&first), asked(&second)].concat();
        renewed.sort();
        let expected: Vec<_> = filters
            .iter()
            .map(|f| (f.filter.clone(), f.qos as u8))
            .collect();
        assert_eq!(renewed, expected);
        if round == 0 {
            link.grant(&first);
            link.expect_silence(Duration::from_millis(20));
            link.close();
            continue;
        }
        link.grant(&first);
        link.expect_silence(Duration::from_millis(20));
        link.grant(&second);
        let again = link.expect_publish();
        assert_eq!((&again.payload[..], again.dup), (&b"in flight"[..], false));
        link.send_puback(again.pkid);
        assert_eq!(attempts(told(in_flight)), 2);
        for _ in 0..2 {
            let id = link.expect_publish().pkid;
            link.send_puback(id);
        }
        assert_eq!(attempts(told(queued)), 1);
        let (left, stats) = running.terminate(link);
        assert_eq!((left, stats.reconnects, stats.resumed), (0, 2, 0));
        return;
    }
}

fn row_07_a_subscribe_and_an_unsubscribe_in_flight_are_sent_again(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "old");
    for session_present in [true, false] {
        let filters = vec![Filter::new("new", QoS::AtLeastOnce)];
        let subscribe = running.handle().subscribe(&inbox, filters).unwrap();
        let unsubscribe = running
            .handle()
            .unsubscribe(&inbox, vec!["old".into()])
            .unwrap();
        link.expect_subscribe();
        link.expect_unsubscribe();
        link.close();
        link = broker.accept_client(session_present).0;
        let again = link.expect_subscribe();
        if !session_present {
            // The filters that were granted before are renewed first.
            link.grant(&again);
            let again = link.expect_subscribe();
            assert_eq!(again.filters[0].path, "new");
            link.grant(&again);
        } else {
            assert_eq!(again.filters[0].path, "new");
            link.grant(&again);
        }
        let again = link.expect_unsubscribe();
        assert_eq!(again.topics, ["old"]);
        send_unsuback(&mut link, again.pkid);
        assert!(told(subscribe).is_delivered());
        assert!(told(unsubscribe).is_delivered());
    }
    assert_eq!(running.terminate(link).0, 0);
}

fn row_09_a_renewal_that_is_refused_reaches_the_inbox(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let refused = running.handle().inbox(1, WhenFull::WaitAside);
    let granted = running.handle().inbox(1, WhenFull::WaitAside);
    running.subscribe(&mut link, &refused, "a");
    running.subscribe(&mut link, &granted, "b");
    link.close();
    let (mut link, _) = broker.accept_client(false);
    let renewal = link.expect_subscribe();
    let codes = renewal
        .filters
        .iter()
        .map(|filter| match filter.path.as_str() {
            "a" => v4::SubscribeReasonCode::Failure,
            _ => v4::SubscribeReasonCode::Success(mqttbytes::QoS::AtLeastOnce),
        });
    let answer = v4::SubAck::new(renewal.pkid, codes.collect());
    link.send_packet(v4::Packet::SubAck(answer));
    let filter = "a".to_owned();
    let told_why = Err(InboxError::SubscriptionRefused { filter });
    assert_eq!(refused.recv_timeout(HANG), told_why);
    send_at_once(&mut link, [message("b", 1, "still")]);
    assert_eq!(next(&granted), "still");
    link.close();
    // The refused filter is not asked for again.
    let (mut link, _) = broker.accept_client(false);
    let renewal = link.expect_subscribe();
    assert_eq!(renewal.filters.len(), 1);
    assert_eq!(renewal.filters[0].path, "b");
    running.terminate(link);
}

fn row_01_an_oversized_packet_can_close_the_link_and_the_next_one_works(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut options = options(&broker);
    options.max_packet_size = 1000;
    options.on_too_large = OnTooLarge::Close;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let inbox = running.handle().inbox(2, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "a");
    // The header has 3 bytes, the topic 3, the identifier 2, with MQTT 5 the length of no properties 1: 1000 bytes in
    // all, then one more.
    let fits = 992 - usize::from(protocol == Protocol::V5);
    send_at_once(&mut link, [message("a", 1, &"x".repeat(fits))]);
    assert_eq!(link.expect_puback().pkid, 1);
    send_at_once(&mut link, [message("a", 2, &"x".repeat(fits + 1))]);
    // MQTT 5 has a word for it, "packet too large" [MQTT 5, 4.13.1].
    match protocol {
        Protocol::V5 => link.expect_disconnect5(0x95),
        _ => link.expect_closed(),
    }
    let (mut link, _) = broker.accept_client(true);
    send_at_once(&mut link, [message("a", 3, "small")]);
    assert_eq!(link.expect_puback().pkid, 3);
    assert_eq!(next(&inbox).len(), fits);
    assert_eq!(next(&inbox), "small");
    running.terminate(link);
}

/// `tests/conformance/v5/violations.rs` has those of MQTT 5.
#[test]
fn a_broker_that_breaks_the_protocol_is_left_and_tried_again() {
    let violations: [&[u8]; 8] = [
        &[0xf0, 0],                         // a packet type that does not exist
        &[0x20, 2, 0, 0],                   // a second CONNACK
        &[0x40, 2, 0, 0],                   // identifier 0
        &[0x60, 2, 0, 1],                   // PUBREL with wrong flags
        &[0x82, 6, 0, 1, 0, 1, b'a', 0],    // SUBSCRIBE
        &[0x36, 3, 0, 1, b'a'],             // QoS 3
        &[0x30, 3, 0, 1, b'#'],             // a topic with a wildcard
        &[0x30, 0xff, 0xff, 0xff, 0xff, 1], // a length of five bytes
    ];
    let mut broker = ScriptedBroker::bind();
    let (running, mut link) = Running::online(&mut broker);
    let ticket = running.publish("a", "x");
    for violation in violations {
        // First on a link that is up, then in one piece with CONNACK.
        let id = link.expect_publish().pkid;
        link.send(violation);
        link.expect_closed();
        let mut second = broker.accept();
        second.expect_connect();
        second.send(&[&[0x20, 2, 1, 0], violation].concat());
        loop {
            match second.read_event(HANG) {
                Event::Packet(v4::Packet::Publish(publish), _) => {
                    assert_eq!(publish.pkid, id);
                }
                Event::Closed => break,
                other => panic!("{other:?}"),
            }
        }
        link = broker.accept_client(true).0;
    }
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    assert!(told(ticket).is_delivered());
    running.terminate(link);
}

fn acknowledgments_for_nothing_are_ignored(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let ticket = running.publish("a", "x");
    let id = link.expect_publish().pkid;
    let other = id + 1;
    let nothing = [
        v4::Packet::PubAck(v4::PubAck::new(other)),
        v4::Packet::PubComp(v4::PubComp::new(id)),
        v4::Packet::UnsubAck(v4::UnsubAck::new(id)),
        v4::Packet::SubAck(v4::SubAck::new(
            other,
            vec![v4::SubscribeReasonCode::Failure],
        )),
        v4::Packet::PingResp,
    ];
    send_at_once(&mut link, nothing);
    running.take_a_turn();
    assert_eq!(ticket.outcome(), None);
    link.send_puback(id);
    assert_eq!(attempts(told(ticket)), 1);
    assert_eq!(running.terminate(link).1.connects, 1);
}

fn messages_waiting_aside_at_a_loss_are_delivered_once(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(1, Accept::OnceTaken);
    running.subscribe(&mut link, &inbox, "a");
    send_at_once(
        &mut link,
        (1..=3).map(|id| message("a", id, &id.to_string())),
    );
    running.take_a_turn();
    link.close();
    let (mut link, _) = broker.accept_client(true);
    let again = [1, 2, 3].map(|id| match message("a", id, &id.to_string()) {
        v4::Packet::Publish(mut publish) => {
            publish.dup = true;
            v4::Packet::Publish(publish)
        }
        other => other,
    });
    send_at_once(&mut link, again.into_iter().chain([message("a", 4, "4")]));
    link.expect_silence(Duration::from_millis(20));
    for id in 1..=4 {
        assert_eq!(next(&inbox), id.to_string());
        assert_eq!(link.expect_puback().pkid, id);
    }
    running.take_a_turn();
    assert!(inbox.try_recv().is_err());
    running.terminate(link);
}
