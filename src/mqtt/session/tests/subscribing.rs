//! SUBSCRIBE and UNSUBSCRIBE on a link that stays up, and the rules around CONNACK.

use std::time::Instant;

use super::packets::{connack, filters_text, message, names, puback, suback, unsuback};
use super::{HANG, Transcript};
use crate::mqtt::packet::{ConnectReturnCode, Incoming};
use crate::mqtt::session::LinkEnd;

#[test]
fn row_06_a_subscribe_ends_when_it_is_granted_and_says_what() {
    let mut t = Transcript::connected();
    let token = t.subscribe(&[("a", 1), ("b/+", 2), ("c/#", 0)]);
    t.sends("SUBSCRIBE id=1 a:1 b/+:2 c/#:0").silent();
    t.receives(suback(1, &[Some(1), Some(1), Some(0)]));
    t.resolved(token, "delivered x1 [1 1 0]").finish();
}

#[test]
fn row_13_a_refused_filter_fails_its_command_alone() {
    let mut t = Transcript::in_flight(1);
    let token = t.subscribe(&[("a", 1), ("b", 1)]);
    t.sends("SUBSCRIBE id=2 a:1 b:1");
    t.receives(suback(2, &[Some(1), None]));
    t.resolved(token, "refused [1 -]").silent();
    t.receives(puback(1)).resolved(0, "delivered x1");
    // Only what was granted is renewed.
    t.reconnects(false).renewing(1).sends("SUBSCRIBE id=3 a:1");
    t.finish();
}

#[test]
fn twenty_filters_are_three_packets_and_one_outcome() {
    let names = names(20);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    let token = t.subscribe(&filters);
    t.sends(&format!("SUBSCRIBE id=1 {}", filters_text(1..=8, 1)));
    t.silent();
    t.receives(suback(1, &[Some(1); 8]));
    t.sends(&format!("SUBSCRIBE id=2 {}", filters_text(9..=16, 1)));
    t.silent();
    t.receives(suback(2, &[Some(0); 8]));
    t.sends(&format!("SUBSCRIBE id=3 {}", filters_text(17..=20, 1)));
    t.silent();
    t.receives(suback(3, &[Some(1); 4]));
    let granted = [["1"; 8].join(" "), ["0"; 8].join(" "), ["1"; 4].join(" ")];
    t.resolved(token, &format!("delivered x1 [{}]", granted.join(" ")));
    t.finish();
}

#[test]
fn nine_filters_are_unsubscribed_in_two_packets() {
    let names = names(9);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut t = Transcript::connected();
    let token = t.unsubscribe(&names);
    t.sends("UNSUBSCRIBE id=1 f01 f02 f03 f04 f05 f06 f07 f08");
    t.silent();
    t.receives(unsuback(1));
    t.sends("UNSUBSCRIBE id=2 f09").silent();
    t.receives(unsuback(2));
    t.resolved(token, "delivered x1").finish();
}

#[test]
fn a_suback_with_a_wrong_count_is_a_protocol_error_3_9_3_1() {
    let names = names(9);
    let nine: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    for (asked, answered) in [(2, 1), (2, 3), (1, 0), (9, 9), (9, 1)] {
        let mut t = Transcript::connected();
        t.subscribe(&nine[..asked]);
        t.sent.clear();
        let answer = suback(1, &vec![Some(1); answered]);
        assert_eq!(t.refuses(answer), "MQTT-3.9.3-1");
        t.finish();
    }
}

/// The rest of a long SUBSCRIBE must not arrive behind an UNSUBSCRIBE that was made after it.
#[test]
fn an_unsubscribe_does_not_overtake_the_rest_of_a_long_subscribe() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    let subscribe = t.subscribe(&filters);
    t.sends(&format!("SUBSCRIBE id=1 {}", filters_text(1..=8, 1)));
    let unsubscribe = t.unsubscribe(&["f09"]);
    t.silent();
    assert!(!t.wants_commands(), "nothing overtakes what waits");
    t.receives(suback(1, &[Some(1); 8]));
    t.sends("SUBSCRIBE id=2 f09:1").silent();
    t.receives(suback(2, &[Some(1)]));
    t.resolved(subscribe, "delivered x1 [1 1 1 1 1 1 1 1 1]");
    t.sends("UNSUBSCRIBE id=3 f09").silent();
    assert!(t.wants_commands());
    t.receives(unsuback(3))
        .resolved(unsubscribe, "delivered x1");
    // It is gone for good.
    t.reconnects(false).renewing(8);
    t.sends(&format!("SUBSCRIBE id=4 {}", filters_text(1..=8, 1)));
    t.finish();
}

#[test]
fn a_subscribe_does_not_overtake_the_rest_of_a_long_unsubscribe() {
    let names = names(9);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut t = Transcript::connected();
    t.unsubscribe(&names);
    t.sends("UNSUBSCRIBE id=1 f01 f02 f03 f04 f05 f06 f07 f08");
    let subscribe = t.subscribe(&[("f09", 2)]);
    t.silent();
    t.receives(unsuback(1))
        .sends("UNSUBSCRIBE id=2 f09")
        .silent();
    t.receives(unsuback(2)).resolved(0, "delivered x1");
    t.sends("SUBSCRIBE id=3 f09:2").silent();
    t.receives(suback(3, &[Some(2)]));
    t.resolved(subscribe, "delivered x1 [2]").finish();
}

/// If both were under way, the link could go between their answers, and the one sent again last
/// would win.
#[test]
fn a_filter_has_one_request_under_way_at_a_time() {
    let mut t = Transcript::subscribed(&[("a", 1)]);
    let leave = t.unsubscribe(&["a"]);
    t.sends("UNSUBSCRIBE id=2 a");
    let other = t.reconnects(true).renewing(0);
    other.sends("UNSUBSCRIBE id=2 a").silent();
    let back = t.subscribe(&[("b", 0), ("a", 0)]);
    t.silent();
    assert!(!t.wants_commands());
    t.reconnects(true).renewing(0).sends("UNSUBSCRIBE id=2 a");
    t.receives(unsuback(2)).resolved(leave, "delivered x3");
    t.sends("SUBSCRIBE id=3 b:0 a:0").silent();
    assert!(t.wants_commands());
    t.receives(suback(3, &[Some(0), Some(0)]));
    t.resolved(back, "delivered x1 [0 0]").finish();
}

/// It is looked for once which request the next one waits for: at each of 60,000 acknowledgments that took a
/// minute.
#[test]
fn a_request_that_waits_does_not_delay_acknowledgments() {
    const MANY: u16 = 60_000;
    let mut t = Transcript::connected_with(|o| o.max_inflight = MANY + 2);
    for _ in 0..MANY {
        t.publish("t", 1, "x");
    }
    t.sent.clear();
    let first = t.subscribe(&[("a", 1)]);
    let second = t.subscribe(&[("a", 0)]);
    let suback_id = MANY + 1;
    t.sends(&format!("SUBSCRIBE id={suback_id} a:1")).silent();
    let begin = Instant::now();
    for id in 1..=MANY {
        t.receives(puback(id));
    }
    assert!(begin.elapsed() < HANG, "{:?}", begin.elapsed());
    t.outcomes.retain(|token, _| *token >= first);
    t.silent();
    t.receives(suback(suback_id, &[Some(1)]));
    t.resolved(first, "delivered x1 [1]");
    t.sends(&format!("SUBSCRIBE id={} a:0", suback_id + 1));
    t.receives(suback(suback_id + 1, &[Some(0)]));
    t.resolved(second, "delivered x1 [0]").finish();
}

#[test]
fn requests_for_different_filters_do_not_wait_for_each_other() {
    let mut t = Transcript::connected();
    t.subscribe(&[("a", 1)]);
    t.unsubscribe(&["b"]);
    t.subscribe(&[("c", 1)]);
    t.sends_all(&[
        "SUBSCRIBE id=1 a:1",
        "UNSUBSCRIBE id=2 b",
        "SUBSCRIBE id=3 c:1",
    ]);
    t.finish();
}

/// Two threads want the same filter: the broker refuses one QoS and grants the other.
#[test]
fn a_filter_refused_once_and_granted_then_is_remembered() {
    let mut t = Transcript::connected();
    let first = t.subscribe(&[("a", 2)]);
    t.sends("SUBSCRIBE id=1 a:2");
    let second = t.subscribe(&[("a", 1)]);
    t.receives(suback(1, &[None]))
        .resolved(first, "refused [-]");
    t.sends("SUBSCRIBE id=2 a:1");
    t.receives(suback(2, &[Some(1)]));
    t.resolved(second, "delivered x1 [1]");
    t.reconnects(false).renewing(1).sends("SUBSCRIBE id=3 a:1");
    t.finish();
}

#[test]
fn a_refused_upgrade_leaves_what_was_granted() {
    let mut t = Transcript::subscribed(&[("a", 0)]);
    let upgrade = t.subscribe(&[("a", 2)]);
    t.sends("SUBSCRIBE id=2 a:2");
    t.receives(suback(2, &[None]))
        .resolved(upgrade, "refused [-]");
    t.reconnects(false).renewing(1).sends("SUBSCRIBE id=3 a:0");
    t.finish();
}

#[test]
fn the_first_packet_is_connack_3_2_0_1() {
    for packet in [
        Incoming::PingResp,
        puback(1),
        message(1, 1, "x"),
        suback(1, &[None]),
    ] {
        let mut t = Transcript::with(|_| {});
        t.links_up();
        assert_eq!(t.refuses(packet), "MQTT-3.2.0-1");
        t.finish();
    }
}

#[test]
fn a_second_connack_is_a_protocol_error() {
    let mut t = Transcript::connected();
    let again = connack(false, ConnectReturnCode::Accepted);
    assert_eq!(t.refuses(again), "MQTT-3.2.0-1");
    t.finish();
}

#[test]
fn session_present_after_a_clean_start_is_a_protocol_error_3_2_2_1() {
    let mut t = Transcript::with(|_| {});
    t.clean_session = true;
    t.links_up();
    let answer = connack(true, ConnectReturnCode::Accepted);
    assert_eq!(t.refuses(answer), "MQTT-3.2.2-1");
    t.finish();
}

#[test]
fn a_refused_connect_is_told_and_nothing_is_sent() {
    let mut t = Transcript::in_flight(1);
    t.loses_link().links_up();
    t.receives(connack(false, ConnectReturnCode::NotAuthorized));
    t.notes("refused NotAuthorized").silent();
    assert!(!t.wants_commands());
    t.loses_link().links_up().connack(true).renewing(0);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").finish();
}

#[test]
fn no_command_is_taken_before_connack() {
    let mut t = Transcript::with(|_| {});
    assert!(!t.wants_commands());
    t.links_up();
    assert!(!t.wants_commands());
    t.connack(false).renewing(0);
    assert!(t.wants_commands());
    t.loses_link();
    assert!(!t.wants_commands());
    t.finish();
}

/// CONNACK and a packet that ends the link may arrive in one piece.
#[test]
fn a_link_that_was_lost_is_not_told_as_connected_afterwards() {
    let mut t = Transcript::with(|_| {});
    t.links_up();
    let accepted = connack(false, ConnectReturnCode::Accepted);
    assert!(t.session.handle_packet(accepted, t.now).is_ok());
    t.session.handle_link_lost(LinkEnd::Otherwise, t.now);
    t.step();
    assert_eq!(t.connected, None);
    t.finish();
}
