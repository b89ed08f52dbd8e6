//! A broker that breaks the protocol in the same way on one link after the other. The real loop against a scripted
//! broker.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::time::Duration;

use crate::support::running::{Running, options};
use crate::support::{Connection, HANG, ScriptedBroker};
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::{Filter, QoS, WhenFull};
use rumqttc::mqttbytes::v4;

/// A PUBLISH whose topic is not UTF-8, with this QoS 1 identifier and DUP or not.
fn bad_topic(id: u8, dup: bool, payload: &str) -> Vec<u8> {
    let first = if dup { 0x3a } else { 0x32 };
    let topic = b"plant/\xff/temperature";
    let length = 2 + topic.len() + 2 + payload.len();
    let mut bytes = vec![first, length as u8, 0, topic.len() as u8];
    bytes.extend_from_slice(topic);
    bytes.extend([0, id]);
    bytes.extend_from_slice(payload.as_bytes());
    bytes
}

/// Answers CONNECT and SUBSCRIBE, and then sends these bytes, or closes the link where there are none.
fn break_protocol(mut link: Connection, bytes: &[u8]) {
    link.expect_connect();
    link.send_connack(v4::ConnectReturnCode::Success, false);
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    if bytes.is_empty() {
        return link.close();
    }
    link.send(bytes);
    link.read_until_closed();
}

/// The error with which a loop ends whose broker sends such bytes on each link, and how many links there were.
fn ends_with(mut bytes: impl FnMut(usize) -> Vec<u8>) -> (Error, usize) {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    // Longer than the test, and not for ever.
    options.retry.reconnect_for = HANG * 1_000;
    let running = Running::start(options);
    let inbox = running.handle().inbox(1, WhenFull::WaitAside);
    let filters = vec![Filter::new("plant/#", QoS::AtLeastOnce)];
    let _ticket = running.handle().subscribe(&inbox, filters).expect("room");
    let mut links = 0;
    while let Some(link) = broker.accept_within(Duration::from_secs(2)) {
        links += 1;
        assert!(links <= 20, "it goes on");
        break_protocol(link, &bytes(links));
    }
    (running.join().result.expect_err("an error"), links)
}

#[test]
fn the_same_error_on_five_links_ends_the_loop_and_names_topic_and_rule() {
    // Only the identifier and DUP differ.
    let (error, links) = ends_with(|link| bad_topic(link as u8, link > 1, "21.5"));
    assert_eq!(links, 5, "{error}");
    let told = error.to_string();
    assert!(told.contains("plant/\u{fffd}/temperature"), "{told}");
    assert!(
        told.contains("MQTT-1.5.3-1") && told.contains("5 links"),
        "{told}"
    );
    assert_eq!(error.exit_status(), 3);
    assert!(error.is_permanent());
}

/// One of them may come first on one link, and the other on the next.
#[test]
fn two_errors_in_turn_end_the_loop_too() {
    let (error, links) = ends_with(|link| match link % 2 {
        0 => bad_topic(1, false, "21.5"),
        _ => vec![0x60, 2, 0, 1],
    });
    assert_eq!(links, 9, "{error}");
    assert!(error.to_string().contains("PUBREL"), "{error}");
}

/// A caller who wants to try for ever means it.
#[test]
fn where_patience_is_for_ever_it_goes_on() {
    let mut broker = ScriptedBroker::bind();
    let running = Running::start(options(&broker));
    for _ in 0..8 {
        let mut link = broker.accept();
        link.expect_connect();
        link.send_connack(v4::ConnectReturnCode::Success, false);
        link.send(&bad_topic(1, false, "21.5"));
        link.read_until_closed();
    }
    let (link, _) = broker.accept_client(false);
    running.terminate(link);
}

/// Each has another payload: the same rule, and not the same bytes.
#[test]
fn other_bytes_are_another_error() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.retry.reconnect_for = HANG * 1_000;
    let running = Running::start(options);
    for link in 0..8 {
        let bytes = bad_topic(1, false, &format!("21.{link}"));
        let mut link = broker.accept();
        link.expect_connect();
        link.send_connack(v4::ConnectReturnCode::Success, false);
        link.send(&bytes);
        link.read_until_closed();
    }
    let (link, _) = broker.accept_client(false);
    running.terminate(link);
}

#[test]
fn what_a_link_ends_with_otherwise_changes_nothing() {
    let (error, links) = ends_with(|link| match link % 3 {
        0 => bad_topic(1, false, "21.5"),
        // The broker closes it.
        _ => Vec::new(),
    });
    assert_eq!(links, 15, "{error}");
}
