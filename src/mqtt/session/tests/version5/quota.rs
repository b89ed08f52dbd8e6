//! The broker's receive maximum: so many PUBLISHes of QoS 1 and 2 are under way at one time, and nothing else waits for
//! them.

use super::super::Transcript;
use super::super::packets::{message, puback, pubcomp, pubrec, pubrel, suback};
use super::{puback5, pubrec5, unsuback5};
use crate::mqtt::packet::{Incoming, MessageProperties, Publish, QoS};
use crate::mqtt::session::LinkEnd;

#[test]
fn no_more_publishes_are_under_way_than_the_broker_takes_3_3_4_7() {
    let mut t = Transcript::with_quota(3);
    for number in 1..=10_u16 {
        t.publish("t", 1, &number.to_string());
    }
    for id in 1..=3 {
        t.sends(&format!("PUBLISH id={id} qos=1 t \"{id}\""));
    }
    t.silent();
    assert!(!t.wants_commands() && t.session.wants_requests());
    for id in 1..=10_u16 {
        t.receives(puback(id));
        t.resolved(u32::from(id) - 1, "delivered x1");
        if id <= 7 {
            t.sends(&format!("PUBLISH id={} qos=1 t \"{0}\"", id + 3));
        }
        t.silent();
    }
    assert!(t.wants_commands());
    t.finish();
}

/// Also one that says no [MQTT 5, 4.9].
#[test]
fn each_end_of_a_message_makes_room_for_another_4_9_0_2() {
    for end in [puback5(1, 0x87), pubrec5(1, 0x97)] {
        let mut t = Transcript::with_quota(1);
        let qos = usize::from(
            matches!(&end, Incoming::Answered { packet, .. } if packet.name() == "PUBREC"),
        ) + 1;
        let first = t.publish("t", qos, "1");
        let second = t.publish("t", 1, "2");
        t.sends(&format!("PUBLISH id=1 qos={qos} t \"1\"")).silent();
        t.receives(end);
        assert!(!t.outcomes.remove(&first).unwrap().is_delivered());
        t.sends("PUBLISH id=2 qos=1 t \"2\"");
        t.receives(puback(2))
            .resolved(second, "delivered x1")
            .finish();
    }
}

#[test]
fn a_message_of_qos_2_counts_until_pubcomp_4_9_0_2() {
    let mut t = Transcript::with_quota(1);
    let first = t.publish("t", 2, "1");
    let second = t.publish("t", 1, "2");
    t.sends("PUBLISH id=1 qos=2 t \"1\"").silent();
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(pubcomp(1)).resolved(first, "delivered x1");
    t.sends("PUBLISH id=2 qos=1 t \"2\"");
    t.receives(puback(2))
        .resolved(second, "delivered x1")
        .finish();
}

#[test]
fn nothing_but_publish_waits_for_the_broker_to_take_more_3_3_4_8() {
    let mut t = Transcript::with_quota(1);
    let first = t.publish("t", 1, "1");
    let second = t.publish("t", 1, "2");
    t.sends("PUBLISH id=1 qos=1 t \"1\"").silent();
    let asked = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=2 a:1");
    let left = t.unsubscribe(&["b"]);
    t.sends("UNSUBSCRIBE id=3 b");
    let pinged = t.ping();
    t.sends("PINGREQ").silent();
    // Messages are answered [MQTT-4.9.0-3].
    t.receives(message(7, 1, "m"));
    let delivery = t.delivers("t \"m\"").unwrap();
    t.accept(delivery).sends("PUBACK 7");
    t.receives(message(8, 2, "n"));
    let delivery = t.delivers("t \"n\"").unwrap();
    t.accept(delivery).sends("PUBREC 8");
    t.receives(pubrel(8)).sends("PUBCOMP 8").silent();
    t.receives(suback(2, &[Some(1)]))
        .resolved(asked, "delivered x1 [1]");
    t.receives(unsuback5(3, &[0x11]))
        .resolved(left, "delivered x1 0x11 [0x11]");
    t.receives(Incoming::PingResp)
        .resolved(pinged, "delivered x1");
    t.silent();
    t.receives(puback(1)).resolved(first, "delivered x1");
    t.sends("PUBLISH id=4 qos=1 t \"2\"");
    t.receives(puback(4))
        .resolved(second, "delivered x1")
        .finish();
}

#[test]
fn no_more_messages_are_wanted_without_asking_again_than_the_quota_has_room_for() {
    let mut t = Transcript::with_quota(3);
    for left in [3, 2, 1, 0] {
        assert_eq!(t.session.wants_messages(), left);
        if left > 0 {
            t.publish("a", 1, "x");
        }
    }
}

#[test]
fn each_connack_sets_the_quota_anew_4_9_0_1() {
    let mut t =
        Transcript::connected5_with(|o| o.suspected_after = u32::MAX, |c| c.receive_maximum = 3);
    for number in 1..=5_u16 {
        t.publish("t", 1, &number.to_string());
    }
    for id in 1..=3 {
        t.sends(&format!("PUBLISH id={id} qos=1 t \"{id}\""));
    }
    // Also while messages are sent again.
    t.reconnects5(true, |c| c.receive_maximum = 2);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"")
        .sends("PUBLISH id=2 qos=1 dup t \"2\"");
    t.silent();
    t.reconnects5(true, |c| c.receive_maximum = 1);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    // A request does not wait for those either.
    let asked = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=4 a:1")
        .receives(suback(4, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1]");
    t.receives(puback(1)).resolved(0, "delivered x3");
    t.sends("PUBLISH id=2 qos=1 dup t \"2\"").silent();
    t.reconnects5(true, |_| {});
    t.sends("PUBLISH id=2 qos=1 dup t \"2\"")
        .sends("PUBLISH id=3 qos=1 dup t \"3\"");
    t.sends("PUBLISH id=5 qos=1 t \"4\"")
        .sends("PUBLISH id=6 qos=1 t \"5\"")
        .silent();
    t.reconnects5(false, |c| c.receive_maximum = 1);
    t.sends("SUBSCRIBE id=7 a:1/rh1")
        .receives(suback(7, &[Some(1)]));
    t.sends("PUBLISH id=8 qos=1 t \"2\"").silent();
    t.receives(puback(8)).resolved(1, "delivered x5");
    t.sends("PUBLISH id=9 qos=1 t \"3\"").silent();
    t.finish();
}

/// Those of an earlier link were counted on it.
#[test]
fn a_pubrel_that_is_sent_again_takes_none_of_the_quota() {
    let mut t = Transcript::with_quota(1);
    let first = t.publish("t", 2, "1");
    t.sends("PUBLISH id=1 qos=2 t \"1\"")
        .receives(pubrec(1))
        .sends("PUBREL 1");
    t.reconnects5(true, |c| c.receive_maximum = 1)
        .sends("PUBREL 1")
        .silent();
    let second = t.publish("t", 1, "2");
    let third = t.publish("t", 1, "3");
    t.sends("PUBLISH id=2 qos=1 t \"2\"").silent();
    t.receives(pubcomp(1))
        .resolved(first, "delivered x1")
        .silent();
    t.receives(puback(2)).resolved(second, "delivered x1");
    t.sends("PUBLISH id=3 qos=1 t \"3\"");
    t.receives(puback(3))
        .resolved(third, "delivered x1")
        .finish();
}

#[test]
fn requests_for_the_same_filter_keep_their_order_past_messages_that_wait() {
    let mut t = Transcript::with_quota(1);
    for number in 1..=2_u16 {
        t.publish("t", 1, &number.to_string());
    }
    let asked = t.subscribe(&[("a", 1)]);
    let left = t.unsubscribe(&["a"]);
    let again = t.subscribe(&[("a", 2)]);
    t.sends("PUBLISH id=1 qos=1 t \"1\"")
        .sends("SUBSCRIBE id=2 a:1")
        .silent();
    t.receives(suback(2, &[Some(1)]))
        .resolved(asked, "delivered x1 [1]");
    t.sends("UNSUBSCRIBE id=3 a").silent();
    t.receives(unsuback5(3, &[0]))
        .resolved(left, "delivered x1 0x00 [0x00]");
    t.sends("SUBSCRIBE id=4 a:2").silent();
    t.receives(suback(4, &[Some(2)]))
        .resolved(again, "delivered x1 [2]");
    t.silent();
    t.receives(puback(1)).resolved(0, "delivered x1");
    t.sends("PUBLISH id=5 qos=1 t \"2\"").finish();
}

/// All messages keep their order, whatever lets commands in.
#[test]
fn qos_0_overtakes_no_message_that_waits() {
    let mut t = Transcript::with_quota(1);
    let first = t.publish("t", 1, "1");
    let second = t.publish("t", 1, "2");
    let third = t.publish("t", 0, "3");
    let fourth = t.publish("t", 1, "4");
    let fifth = t.publish("t", 0, "5");
    t.sends("PUBLISH id=1 qos=1 t \"1\"").silent();
    t.receives(puback(1)).resolved(first, "delivered x1");
    t.sends("PUBLISH id=2 qos=1 t \"2\"")
        .sends("PUBLISH qos=0 t \"3\"");
    t.resolved(third, "delivered x1").silent();
    assert_eq!(t.session.unresolved(), 3);
    // It would be sent with its link, or not at all.
    t.loses_link().resolved(fifth, "never sent LinkLost");
    t.links_up().accepted(true, |c| c.receive_maximum = 1);
    t.sends("PUBLISH id=2 qos=1 dup t \"2\"").silent();
    t.receives(puback(2)).resolved(second, "delivered x2");
    t.sends("PUBLISH id=3 qos=1 t \"4\"").receives(puback(3));
    t.resolved(fourth, "delivered x1").finish();
}

#[test]
fn a_request_behind_messages_of_qos_0_passes_them() {
    let mut t = Transcript::with_quota(1);
    t.publish("t", 1, "1");
    t.publish("t", 1, "2");
    let last = t.publish("t", 0, "3");
    t.sends("PUBLISH id=1 qos=1 t \"1\"").silent();
    t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=2 a:1").silent();
    t.abandon()
        .resolved(0, "perhaps Terminated")
        .resolved(1, "cancelled Terminated");
    t.resolved(last, "cancelled Terminated")
        .resolved(3, "perhaps Terminated")
        .finish();
}

/// The session's own window holds beside the broker's, and requests pass at both.
#[test]
fn a_request_that_passes_lets_no_more_messages_out_than_the_window() {
    let mut t = Transcript::connected5_with(|o| o.max_inflight = 2, |_| {});
    for number in 1..=4_u16 {
        t.publish("t", 1, &number.to_string());
    }
    t.sends("PUBLISH id=1 qos=1 t \"1\"")
        .sends("PUBLISH id=2 qos=1 t \"2\"")
        .silent();
    let asked = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=3 a:1").silent();
    t.receives(suback(3, &[Some(1)]))
        .resolved(asked, "delivered x1 [1]")
        .silent();
    t.receives(puback(1)).resolved(0, "delivered x1");
    t.sends("PUBLISH id=4 qos=1 t \"3\"").silent();
    t.receives(puback(2)).resolved(1, "delivered x1");
    t.sends("PUBLISH id=5 qos=1 t \"4\"").silent();
    t.finish();
}

/// A request may stand behind any number of messages in the queue. Each acknowledgment makes room for one more.
#[test]
fn no_more_commands_are_taken_for_a_request_than_may_wait() {
    let mut t = Transcript::connected5_with(|o| o.max_waiting = 3, |c| c.receive_maximum = 1);
    for number in 1..=4_u16 {
        assert!(t.session.wants_requests());
        t.publish("t", 1, &number.to_string());
    }
    assert!(!t.session.wants_requests());
    t.sends("PUBLISH id=1 qos=1 t \"1\"").silent();
    t.receives(puback(1)).resolved(0, "delivered x1");
    t.sends("PUBLISH id=2 qos=1 t \"2\"");
    // The one behind them.
    let asked = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=3 a:1")
        .receives(suback(3, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1]").finish();
}

/// But for the last one.
#[test]
fn no_more_bytes_are_taken_for_a_request_than_may_wait() {
    let mut t =
        Transcript::connected5_with(|o| o.max_waiting_bytes = 11, |c| c.receive_maximum = 1);
    for payload in ["first", "12345", "1234"] {
        assert!(t.session.wants_requests(), "{payload}");
        t.publish("t", 1, payload);
    }
    assert!(!t.session.wants_requests());
    t.sends("PUBLISH id=1 qos=1 t \"first\"").silent();
    t.receives(puback(1)).resolved(0, "delivered x1");
    t.sends("PUBLISH id=2 qos=1 t \"12345\"").silent();
    assert!(t.session.wants_requests());
    t.finish();
}

#[test]
fn what_mqtt_5_adds_to_a_message_counts_among_the_bytes_that_may_wait() {
    let mut t =
        Transcript::connected5_with(|o| o.max_waiting_bytes = 5_000, |c| c.receive_maximum = 1);
    t.publish("t", 1, "x");
    for number in 0..2 {
        assert!(t.session.wants_requests(), "{number}");
        let message = Publish::new("t", QoS::AtLeastOnce, "x");
        let pair = ("name".to_owned(), "v".repeat(3_000));
        t.publish_all(message.with_properties(MessageProperties {
            user_properties: vec![pair],
            ..MessageProperties::default()
        }));
    }
    assert!(!t.session.wants_requests());
    t.sends("PUBLISH id=1 qos=1 t \"x\"").silent();
    t.outcomes.clear();
}

/// A message is suspected and stands without an answer, where the broker takes so many.
fn standing(quota: u16) -> Transcript {
    let mut t = Transcript::connected5_with(|o| o.suspected_after = 1, |_| {});
    t.publish("poison", 1, "x");
    t.sends("PUBLISH id=1 qos=1 poison \"x\"");
    t.waits_for_answers();
    t.notes("close AckTimeout 1").sent5.clear();
    t.ends_link(LinkEnd::Otherwise).links_up();
    t.accepted(true, |c| c.receive_maximum = quota).connected = None;
    t.sends("PINGREQ").receives(Incoming::PingResp).later(250);
    t.sends("PUBLISH id=1 qos=1 dup poison \"x\"").lets_stand();
    t.sent5.clear();
    t
}

/// On a trial link, too: the request shows whether the broker answers. The message that is given up keeps all of the
/// quota, and nothing but a new link gives it back.
#[test]
fn a_request_passes_a_message_that_stands_and_takes_all_of_the_quota_3_3_4_8() {
    let mut t = standing(1);
    assert!(!t.wants_commands() && t.session.wants_requests());
    let waits = t.publish("t", 1, "y");
    t.silent();
    let asked = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=2 a:1").silent();
    t.receives(suback(2, &[Some(1)]))
        .resolved(asked, "delivered x1 [1]");
    t.resolved(0, "perhaps Unanswered")
        .notes("close AckTimeout 1")
        .silent();
    t.ends_link(LinkEnd::Otherwise).links_up();
    t.accepted(true, |c| c.receive_maximum = 1);
    t.sends("PUBLISH id=3 qos=1 t \"y\"").silent();
    t.receives(puback(3))
        .resolved(waits, "delivered x1")
        .finish();
}

/// The broker still has it among those that it takes at one time.
#[test]
fn a_message_that_was_given_up_counts_until_it_is_answered() {
    let mut t = standing(2);
    let first = t.publish("t", 1, "y");
    t.sends("PUBLISH id=2 qos=1 t \"y\"").receives(puback(2));
    t.resolved(first, "delivered x1")
        .resolved(0, "perhaps Unanswered");
    let second = t.publish("t", 1, "z");
    let third = t.publish("t", 1, "zz");
    t.sends("PUBLISH id=3 qos=1 t \"z\"").silent();
    // Late, and only its place is of use.
    t.receives(puback(1)).sends("PUBLISH id=4 qos=1 t \"zz\"");
    t.receives(puback(3)).resolved(second, "delivered x1");
    t.receives(puback(4))
        .resolved(third, "delivered x1")
        .finish();
}
