//! A new link on which the broker still has the session.

use rumqttc::mqttbytes::v4;

use super::Transcript;
use super::packets::{connack, filters_text, names, puback, pubcomp, pubrec, suback, unsuback};
use crate::mqtt::packet::ConnectReturnCode;
use crate::mqtt::session::LinkEnd;

#[test]
fn unacknowledged_publishes_are_sent_again_in_order_with_dup_4_4_0_1_4_6_0_1_3_3_1_1() {
    let mut t = Transcript::in_flight(4);
    t.receives(puback(2)).resolved(1, "delivered x1");
    t.reconnects(true).renewing(0);
    t.sends_all(&[
        "PUBLISH id=1 qos=1 dup t \"1\"",
        "PUBLISH id=3 qos=1 dup t \"3\"",
        "PUBLISH id=4 qos=1 dup t \"4\"",
    ]);
    t.silent();
    t.receives(puback(1)).resolved(0, "delivered x2");
    let new = t.publish("t", 1, "5");
    t.sends("PUBLISH id=5 qos=1 t \"5\"");
    t.reconnects(true).sends_all(&[
        "PUBLISH id=3 qos=1 dup t \"3\"",
        "PUBLISH id=4 qos=1 dup t \"4\"",
        "PUBLISH id=5 qos=1 dup t \"5\"",
    ]);
    t.receives(puback(3)).resolved(2, "delivered x3");
    t.receives(puback(5)).resolved(new, "delivered x2");
    t.finish();
}

#[test]
fn pubrels_are_sent_again_in_the_order_of_their_pubrecs_4_6_0_4() {
    let mut t = Transcript::connected();
    for payload in ["1", "2", "3"] {
        t.publish("t", 2, payload);
    }
    t.receives(pubrec(3)).receives(pubrec(1));
    t.sends_all(&[
        "PUBLISH id=1 qos=2 t \"1\"",
        "PUBLISH id=2 qos=2 t \"2\"",
        "PUBLISH id=3 qos=2 t \"3\"",
        "PUBREL 3",
        "PUBREL 1",
    ]);
    t.reconnects(true);
    t.sends_all(&["PUBREL 3", "PUBREL 1", "PUBLISH id=2 qos=2 dup t \"2\""]);
    t.silent();
    t.receives(pubrec(2)).sends("PUBREL 2");
    t.reconnects(true);
    t.sends_all(&["PUBREL 3", "PUBREL 1", "PUBREL 2"]).silent();
    t.receives(pubcomp(1)).resolved(0, "delivered x1");
    t.receives(pubcomp(3)).resolved(2, "delivered x1");
    t.receives(pubcomp(2)).resolved(1, "delivered x2");
    t.finish();
}

#[test]
fn after_the_identifiers_went_round_the_order_is_still_that_of_sending() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 8);
    for id in 1..=6 {
        t.publish("t", 1, "x");
        t.receives(puback(id));
    }
    t.outcomes.clear();
    for payload in ["a", "b", "c", "d"] {
        t.publish("t", 1, payload);
    }
    t.sent.clear();
    t.reconnects(true).sends_all(&[
        "PUBLISH id=7 qos=1 dup t \"a\"",
        "PUBLISH id=8 qos=1 dup t \"b\"",
        "PUBLISH id=1 qos=1 dup t \"c\"",
        "PUBLISH id=2 qos=1 dup t \"d\"",
    ]);
    t.finish();
}

/// The order of the identifiers says nothing any more.
#[test]
fn with_identifiers_that_were_passed_over_the_order_is_still_that_of_sending_4_6_0_1() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 8);
    let acknowledged = |t: &mut Transcript, ids: &[u16]| {
        for id in ids {
            let token = t.publish("t", 1, "x");
            t.sends(&format!("PUBLISH id={id} qos=1 t \"x\""));
            t.receives(puback(*id)).resolved(token, "delivered x1");
        }
    };
    acknowledged(&mut t, &[1, 2, 3]);
    t.publish("t", 1, "a");
    t.sends("PUBLISH id=4 qos=1 t \"a\"");
    acknowledged(&mut t, &[5, 6]);
    let second = t.publish("t", 2, "b");
    t.sends("PUBLISH id=7 qos=2 t \"b\"");
    acknowledged(&mut t, &[8, 1, 2, 3, 5]);
    t.subscribe(&[("c", 1)]);
    t.sends("SUBSCRIBE id=6 c:1");
    acknowledged(&mut t, &[8, 1, 2, 3]);
    t.publish("t", 1, "d");
    t.sends("PUBLISH id=5 qos=1 t \"d\"");
    for lost in [false, true, true] {
        t.ends_link(LinkEnd::Otherwise).links_up().connack(true);
        t.renewing(0);
        t.sends_all(&[
            "PUBLISH id=4 qos=1 dup t \"a\"",
            "PUBLISH id=7 qos=2 dup t \"b\"",
            "SUBSCRIBE id=6 c:1",
            "PUBLISH id=5 qos=1 dup t \"d\"",
        ]);
        t.silent();
        assert!(lost || t.wants_commands());
    }
    // Without the session the order is the same, under other identifiers.
    t.reconnects(false).resolved(second, "perhaps SessionLost");
    t.sends_all(&[
        "PUBLISH id=6 qos=1 t \"a\"",
        "SUBSCRIBE id=7 c:1",
        "PUBLISH id=8 qos=1 t \"d\"",
    ]);
    t.finish();
}

#[test]
fn row_07_a_subscribe_in_flight_completes_exactly_once_when_the_link_drops() {
    let mut t = Transcript::connected();
    let token = t.subscribe(&[("a", 1), ("b", 2)]);
    t.sends("SUBSCRIBE id=1 a:1 b:2");
    t.reconnects(true).renewing(0);
    t.sends("SUBSCRIBE id=1 a:1 b:2").silent();
    t.receives(suback(1, &[Some(1), Some(2)]));
    t.resolved(token, "delivered x2 [1 2]").silent();
    t.receives(suback(1, &[Some(1), Some(2)])).silent();
    // Its slot and its identifier are free again.
    for _ in 0..10 {
        assert!(t.wants_commands());
        t.publish("t", 1, "x");
    }
    t.sent.clear();
    t.finish();
}

#[test]
fn row_07_a_subscribe_in_flight_completes_exactly_once_when_the_session_is_lost_too() {
    let mut t = Transcript::connected();
    let token = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=1 a:1");
    t.reconnects(false).renewing(0);
    t.sends("SUBSCRIBE id=2 a:1").silent();
    t.receives(suback(1, &[Some(0)])).silent();
    t.receives(suback(2, &[Some(1)]));
    t.resolved(token, "delivered x2 [1]").finish();
}

#[test]
fn row_07_an_unsubscribe_in_flight_completes_exactly_once_when_the_link_drops() {
    for session_present in [true, false] {
        let mut t = Transcript::subscribed(&[("a", 1)]);
        let token = t.unsubscribe(&["a"]);
        t.sends("UNSUBSCRIBE id=2 a");
        t.reconnects(session_present).renewing(0);
        let id = if session_present { 2 } else { 3 };
        t.sends(&format!("UNSUBSCRIBE id={id} a")).silent();
        t.receives(unsuback(id));
        t.resolved(token, "delivered x2").silent();
        t.receives(unsuback(id)).finish();
    }
}

#[test]
fn row_07_ends_at_once_what_would_never_be_acknowledged() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    let publish = t.publish("a", 0, "x");
    let ping = t.ping();
    t.stalls_after(3).loses_link();
    t.resolved(publish, "perhaps LinkLost");
    t.resolved(ping, "perhaps LinkLost").silent();
    // Nor do the bytes go over the next link.
    t.flows().links_up().connack(true).finish();
}

#[test]
fn a_qos_0_publish_of_which_nothing_left_was_never_sent() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    let begun = t.publish("a", 0, "x");
    let untouched = t.publish("b", 0, "y");
    t.stalls_after(3).loses_link();
    t.resolved(begun, "perhaps LinkLost");
    t.resolved(untouched, "never sent LinkLost");
    t.finish();
}

#[test]
fn a_long_subscribe_goes_on_where_it_was_when_the_link_drops_between_its_packets() {
    let names = names(20);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    let token = t.subscribe(&filters);
    t.receives(suback(1, &[Some(0); 8]));
    t.sends(&format!("SUBSCRIBE id=1 {}", filters_text(1..=8, 1)));
    t.sends(&format!("SUBSCRIBE id=2 {}", filters_text(9..=16, 1)));
    t.reconnects(true).renewing(0);
    t.sends(&format!("SUBSCRIBE id=2 {}", filters_text(9..=16, 1)));
    t.receives(suback(2, &[Some(1); 8]));
    t.sends(&format!("SUBSCRIBE id=3 {}", filters_text(17..=20, 1)));
    t.receives(suback(3, &[Some(2); 4]));
    let granted = [["0"; 8].join(" "), ["1"; 8].join(" "), ["2"; 4].join(" ")];
    t.resolved(token, &format!("delivered x1 [{}]", granted.join(" ")));
    t.finish();
}

#[test]
fn a_long_unsubscribe_goes_on_where_it_was() {
    let names = names(9);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut t = Transcript::connected();
    let token = t.unsubscribe(&names);
    t.receives(unsuback(1));
    t.sends("UNSUBSCRIBE id=1 f01 f02 f03 f04 f05 f06 f07 f08");
    t.sends("UNSUBSCRIBE id=2 f09");
    t.reconnects(true).sends("UNSUBSCRIBE id=2 f09").silent();
    t.receives(unsuback(2)).resolved(token, "delivered x2");
    t.finish();
}

#[test]
fn a_link_lost_before_connack_changes_nothing() {
    let mut t = Transcript::in_flight(2);
    t.loses_link().links_up().silent();
    t.loses_link().links_up().silent();
    t.connack(true).sends_all(&[
        "PUBLISH id=1 qos=1 dup t \"1\"",
        "PUBLISH id=2 qos=1 dup t \"2\"",
    ]);
    t.receives(puback(1)).resolved(0, "delivered x2");
    t.finish();
}

/// A packet that never left the output was never sent. It has no DUP, and does not belong to the lost session.
#[test]
fn a_publish_of_which_nothing_left_is_sent_as_new_3_3_1_1() {
    for session_present in [true, false] {
        let mut t = Transcript::connected();
        t.stalls_after(0);
        let begun = t.publish("a", 2, "x");
        let untouched = t.publish("b", 2, "y");
        let asked = t.subscribe(&[("c", 0)]);
        t.stalls_after(3).loses_link();
        t.flows().links_up().connack(session_present);
        // It may be that the broker has the first.
        let untouched_id = match session_present {
            true => {
                t.sends("PUBLISH id=1 qos=2 dup a \"x\"");
                2
            }
            false => {
                t.resolved(begun, "perhaps SessionLost");
                4
            }
        };
        t.sends(&format!("PUBLISH id={untouched_id} qos=2 b \"y\""));
        t.sends(&format!("SUBSCRIBE id={} c:0", untouched_id + 1));
        t.receives(suback(untouched_id + 1, &[Some(0)]));
        t.resolved(asked, "delivered x1 [0]");
        t.receives(pubrec(untouched_id))
            .receives(pubcomp(untouched_id));
        t.resolved(untouched, "delivered x1");
        t.sends(&format!("PUBREL {untouched_id}")).finish();
    }
}

#[test]
fn memory_of_a_large_message_is_given_back_when_it_has_left_and_when_its_link_is_lost() {
    let payload = "x".repeat(1_040_000);
    for is_lost in [false, true] {
        let mut t = Transcript::connected();
        t.stalled = true;
        let small = t.publish("t", 0, &"x".repeat(100_000));
        let large = t.publish("t", 0, &payload);
        let outcome = match is_lost {
            true => {
                t.loses_link();
                "never sent LinkLost"
            }
            false => {
                t.flows().sent.clear();
                "delivered x1"
            }
        };
        t.resolved(small, outcome).resolved(large, outcome);
        assert!(t.session.kept_output() < 1_000);
        t.sent.clear();
        t.finish();
    }
}

#[test]
fn an_acknowledgment_for_what_never_left_is_unsolicited() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    let large = "x".repeat(super::super::output::HIGH_WATER);
    let begun = t.publish("a", 1, &large);
    t.stalls_after(1_000);
    let untouched = t.publish("b", 1, "y");
    t.loses_link().flows().links_up();
    // There is room in the output for the first one only.
    t.stalled = true;
    t.connack(true).receives(puback(2)).silent();
    t.flows().sent.clear();
    t.receives(puback(1)).resolved(begun, "delivered x2");
    t.receives(puback(2)).resolved(untouched, "delivered x1");
    t.finish();
}

/// A thousand messages may share a payload of a megabyte; the output holds copies.
#[test]
fn what_is_sent_again_waits_for_room_in_the_output() {
    const LARGE: usize = 100_000;
    let mut t = Transcript::connected_with(|o| o.max_inflight = 100);
    let payload = "x".repeat(LARGE);
    for _ in 0..100 {
        t.publish("t", 1, &payload);
    }
    t.sent.clear();
    t.loses_link().links_up().stalls_after(0);
    t.session
        .handle_packet(connack(true, ConnectReturnCode::Accepted), t.now)
        .unwrap();
    let most = super::super::output::HIGH_WATER + 2 * LARGE;
    assert!(t.session.output().len() < most);
    assert!(!t.wants_commands() && t.session.has_unsent());
    // One that the broker turns out to have had is not sent again.
    t.receives(puback(50)).resolved(49, "delivered x1");
    let mut order = Vec::new();
    for _ in 0..1_000 {
        t.stalls_after(LARGE / 2);
        assert!(t.session.output().len() < most);
        for packet in t.sent.drain(..) {
            let v4::Packet::Publish(publish) = packet else {
                panic!("{packet:?}");
            };
            assert!(publish.dup);
            order.push(publish.pkid);
        }
    }
    let all: Vec<_> = (1..=100).filter(|id| *id != 50).collect();
    assert_eq!(order, all);
    assert!(!t.session.has_unsent() && t.session.output().is_empty());
    t.loses_link();
    t.connected = None;
    t.finish();
}

#[test]
fn bytes_left_over_from_the_old_link_do_not_reach_the_new_one() {
    let mut t = Transcript::in_flight(1);
    t.stalls_after(0);
    t.publish("t", 1, "2");
    // In the middle of the PUBLISH.
    t.stalls_after(3).loses_link();
    t.flows().links_up().connack(true);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"");
    t.sends("PUBLISH id=2 qos=1 dup t \"2\"").finish();
}
