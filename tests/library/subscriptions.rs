//! Several inboxes that share filters, while the broker refuses some requests: no inbox loses a granted
//! subscription, and every caller learns the result. The real loop against a scripted broker.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::running::{
    Running, expect_refused, message, next, send_at_once, send_unsuback, told,
};
use crate::support::{HANG, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::{Filter, Protocol, QoS};
use mqtt_connection_sharing::{InboxError, Outcome, Reason, WhenFull};
use rumqttc::mqttbytes::v4;

in_both_versions! {
    the_last_inbox_leaves_while_a_later_subscribe_is_refused,
    a_renewal_refused_does_not_take_a_later_grant_away,
    a_refused_renewal_reaches_a_full_inbox_that_drops,
    an_inbox_of_another_loop_is_refused,
    messages_of_a_filter_with_a_brokers_prefix_arrive_with_and_without_it,
    a_filter_matches_what_the_application_says,
}

/// The SUBACK that refuses each filter of a SUBSCRIBE.
fn refusal(subscribe: &v4::Subscribe) -> v4::Packet {
    let codes = vec![v4::SubscribeReasonCode::Failure; subscribe.filters.len()];
    v4::Packet::SubAck(v4::SubAck::new(subscribe.pkid, codes))
}

fn refused(filter: &str) -> InboxError {
    let filter = filter.to_owned();
    InboxError::SubscriptionRefused { filter }
}

fn the_last_inbox_leaves_while_a_later_subscribe_is_refused(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let first = running.handle().inbox(4, WhenFull::WaitAside);
    let second = running.handle().inbox(4, WhenFull::WaitAside);
    running.subscribe(&mut link, &first, "f");
    let filters = vec![Filter::new("f", QoS::ExactlyOnce)];
    let later = running.handle().subscribe(&second, filters).unwrap();
    let subscribe = link.expect_subscribe();
    let leave = running.handle().unsubscribe(&first, vec!["f".into()]);
    assert!(told(leave.unwrap()).is_delivered());
    link.send_packet(refusal(&subscribe));
    expect_refused(told(later), protocol, &[None]);
    // The broker still serves the subscription of the first inbox, which nobody wants any more.
    let unsubscribe = link.expect_unsubscribe();
    assert_eq!(unsubscribe.topics, ["f"]);
    send_unsuback(&mut link, unsubscribe.pkid);
    // TERMINATE without grace would not wait until the loop has read this.
    running.take_a_turn();
    assert_eq!(running.terminate(link).0, 0);
}

fn a_renewal_refused_does_not_take_a_later_grant_away(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let first = running.handle().inbox(4, WhenFull::WaitAside);
    let second = running.handle().inbox(4, WhenFull::WaitAside);
    running.subscribe(&mut link, &first, "f");
    let filters = vec![Filter::new("f", QoS::AtLeastOnce)];
    let later = running.handle().subscribe(&second, filters).unwrap();
    link.expect_subscribe();
    link.close();
    let (mut link, _) = broker.accept_client(false);
    // First comes the renewal for the first inbox, then the request of the second one.
    let renewal = link.expect_subscribe();
    link.send_packet(refusal(&renewal));
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    assert!(told(later).is_delivered());
    assert_eq!(first.recv_timeout(HANG), Err(refused("f")));
    link.send_packet(message("f", 5, "for the second"));
    assert_eq!(next(&second), "for the second");
    assert_eq!(link.expect_puback().pkid, 5);
    assert_eq!(first.try_recv(), Err(InboxError::Timeout));
    assert!(running.handle().unmatched().is_empty());
    assert_eq!(running.terminate(link).0, 0);
}

fn a_refused_renewal_reaches_a_full_inbox_that_drops(protocol: Protocol) {
    for when_full in [WhenFull::DropNewest, WhenFull::DropOldest] {
        let mut broker = ScriptedBroker::speaking(protocol);
        let (running, mut link) = Running::online(&mut broker);
        let inbox = running.handle().inbox(1, when_full);
        running.subscribe(&mut link, &inbox, "f");
        send_at_once(&mut link, [message("f", 1, "fills it")]);
        assert_eq!(link.expect_puback().pkid, 1);
        link.close();
        let (mut link, _) = broker.accept_client(false);
        let renewal = link.expect_subscribe();
        // The answer to the message shows that the loop handled the refusal before there is room.
        send_at_once(&mut link, [refusal(&renewal), message("other", 2, "")]);
        assert_eq!(link.expect_puback().pkid, 2);
        assert_eq!(next(&inbox), "fills it");
        assert_eq!(inbox.recv_timeout(HANG), Err(refused("f")), "{when_full:?}");
        assert_eq!(inbox.dropped(), 0);
        running.terminate(link);
    }
}

fn an_inbox_of_another_loop_is_refused(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let mut other_broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let (other, other_link) = Running::online(&mut other_broker);
    // Both inboxes are the first of their loops, so that their numbers are equal.
    let foreign = other.handle().inbox(4, WhenFull::WaitAside);
    let own = running.handle().inbox(4, WhenFull::WaitAside);
    let filters = vec![Filter::new("f", QoS::AtLeastOnce)];
    let ticket = running.handle().subscribe(&foreign, filters).unwrap();
    assert_eq!(told(ticket), Outcome::NeverSent(Reason::InboxClosed));
    // The broker was not asked: its first SUBSCRIBE is this one.
    running.subscribe(&mut link, &own, "g");
    link.send_packet(message("g", 1, "for the own one"));
    assert_eq!(next(&own), "for the own one");
    assert_eq!(foreign.try_recv(), Err(InboxError::Timeout));
    other.terminate(other_link);
    running.terminate(link);
}

/// Some brokers take a prefix off the filter and send messages on the topics behind it; others send them on the
/// topics as they stand.
fn messages_of_a_filter_with_a_brokers_prefix_arrive_with_and_without_it(protocol: Protocol) {
    for prefix in ["$share/group", "$queue", "$exclusive", "$q"] {
        let mut broker = ScriptedBroker::speaking(protocol);
        let (running, mut link) = Running::online(&mut broker);
        let inbox = running.handle().inbox(4, WhenFull::WaitAside);
        running.subscribe(&mut link, &inbox, &format!("{prefix}/x/#"));
        send_at_once(&mut link, [message("x/1", 1, "without")]);
        assert_eq!(link.expect_puback().pkid, 1);
        let got = inbox.try_recv().map(|message| message.topic().to_owned());
        assert_eq!(got, Ok("x/1".to_owned()), "{prefix}");
        let literal = format!("{prefix}/x/1");
        send_at_once(&mut link, [message(&literal, 2, "with")]);
        assert_eq!(link.expect_puback().pkid, 2);
        let matches = prefix != "$share/group";
        assert_eq!(inbox.try_recv().is_ok(), matches, "{literal}");
        assert_eq!(
            running.handle().unmatched().is_empty(),
            matches,
            "{literal}"
        );
        running.terminate(link);
    }
}

fn a_filter_matches_what_the_application_says(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let handle = running.handle();
    let inbox = handle.inbox(4, WhenFull::WaitAside);
    let filter = Filter::new("$mine/x/#", QoS::AtLeastOnce);
    let wrong = handle.subscribe(&inbox, vec![filter.clone().matching("x/#/y")]);
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("\"x/#/y\": # must be")
    );
    let subscribed = handle.subscribe(&inbox, vec![filter.matching("x/#")]);
    let subscribe = link.expect_subscribe();
    assert_eq!(subscribe.filters[0].path, "$mine/x/#");
    link.grant(&subscribe);
    assert!(told(subscribed.unwrap()).is_delivered());
    send_at_once(&mut link, [message("x/1", 1, "x")]);
    assert_eq!(next(&inbox), "x");
    assert_eq!(link.expect_puback().pkid, 1);
    running.terminate(link);
}
