//! Links between trials, requests that stand without an answer, and answers to commands that were given up.

use super::Transcript;
use super::packets::{filters_text, names, puback, pubcomp, pubrec, suback, unsuback};
use super::suspects::{CLOSES_AFTER, IDLE};
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::LinkEnd;

/// A network that cuts each link after 2 seconds: the trial links end while they stand idle.
#[test]
fn where_links_end_while_they_stand_idle_every_second_one_is_of_use_to_all() {
    const LIFE: u64 = 2_000;
    let mut t = Transcript::in_flight(1);
    for _ in 0..2 {
        t.closed_after(LIFE, true);
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    }
    t.closed_after(LIFE, true);
    for link in 2..20 {
        t.stands_idle(LIFE - 100).closed_after(100, true);
        // The suspected message is sent on this one, too, and another thread's message passes.
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
        let other = t.publish("t", 1, "y");
        t.sends(&format!("PUBLISH id={link} qos=1 t \"y\""));
        t.receives(puback(link)).resolved(other, "delivered x1");
        t.closed_after(LIFE, true);
    }
    t.stands_idle(LIFE - 100).closed_after(100, true);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    t.receives(puback(1)).resolved(0, "delivered x22").finish();
}

/// Such a link shows nothing about a command, and the count goes on behind it.
#[test]
fn a_link_that_ends_while_it_stands_idle_does_not_hide_a_poisoned_command() {
    let mut t = Transcript::in_flight(1);
    t.loses_three("PUBLISH id=1 qos=1 dup t \"1\"");
    // The wait before the third trial is longer than this link lives.
    for idle in &IDLE[..2] {
        t.stands_idle(*idle);
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.stands_idle(700).closed_after(100, true);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    t.closed_after(CLOSES_AFTER, true);
    for idle in [1_200, 1_950, 3_075] {
        t.stands_idle(idle);
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.resolved(0, "perhaps Parked").finish();
}

/// The broker answers a request late, and another thread's that takes it back is in time.
#[test]
fn an_unsubscribe_does_not_overtake_a_subscribe_that_stands_and_is_not_suspected() {
    let mut t = Transcript::in_flight(1);
    for _ in 0..2 {
        t.is_late(1).ends_link(LinkEnd::Otherwise);
        t.links_up().connack(true).connected = None;
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"");
    }
    let asked = t.subscribe(&[("a", 1)]);
    t.is_late(1).ends_link(LinkEnd::Otherwise);
    t.links_up().connack(true).connected = None;
    t.sends("PINGREQ").receives(Incoming::PingResp).later(250);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").lets_stand();
    t.sends("SUBSCRIBE id=2 a:1").lets_stand();
    let left = t.unsubscribe(&["a"]);
    t.silent();
    // Nothing shows that the broker answers: the next link.
    t.is_late(1).ends_link(LinkEnd::Otherwise);
    t.links_up().connack(true).connected = None;
    t.sends("PINGREQ").receives(Incoming::PingResp).later(250);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").lets_stand();
    t.sends("SUBSCRIBE id=2 a:1").silent();
    t.receives(suback(2, &[Some(1)]));
    t.resolved(asked, "delivered x3 [1]");
    t.resolved(0, "perhaps Unanswered");
    t.sends("UNSUBSCRIBE id=3 a").receives(unsuback(3));
    t.resolved(left, "delivered x1");
    assert!(!t.session.is_subscribed("a"));
    t.reconnects(true).renewing(0).silent().finish();
}

/// Both are given up or answered in the order in which they were made, and the table of filters follows.
#[test]
fn an_unsubscribe_follows_a_subscribe_that_stands_and_is_suspected() {
    for is_answered_late in [true, false] {
        let mut t = Transcript::connected();
        let asked = t.subscribe(&[("a", 1)]);
        t.sends("SUBSCRIBE id=1 a:1").is_late_three_times(1);
        t.sends("SUBSCRIBE id=1 a:1").lets_stand();
        let left = t.unsubscribe(&["a"]);
        t.sends("UNSUBSCRIBE id=2 a").silent();
        if is_answered_late {
            t.receives(suback(1, &[Some(1)]));
            t.resolved(asked, "delivered x4 [1]");
        }
        t.receives(unsuback(2)).resolved(left, "delivered x1");
        if !is_answered_late {
            t.resolved(asked, "perhaps Unanswered");
        }
        assert!(!t.session.is_subscribed("a"));
        t.reconnects(true).renewing(0).silent().finish();
    }
}

/// One packet at a time: the rest of a long request is no exception.
#[test]
fn the_rest_of_a_request_that_stood_waits_for_the_packet_that_is_tried() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let first = format!("SUBSCRIBE id=1 {}", filters_text(1..=8, 1));
    let mut t = Transcript::connected();
    let asked = t.subscribe(&filters);
    let other = t.publish("t", 1, "x");
    for _ in 0..3 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.stands_idle(IDLE[0]).sends(&first).lets_stand();
    t.sends("PUBLISH id=2 qos=1 dup t \"x\"").silent();
    t.receives(suback(1, &[Some(1); 8])).silent();
    t.receives(puback(2)).resolved(other, "delivered x4");
    t.sends(&format!("SUBSCRIBE id=3 {}", filters_text(9..=9, 1)));
    t.receives(suback(3, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1 1 1 1 1 1 1 1 1]");
    t.finish();
}

/// The last of nine filters stands in the second packet of the SUBSCRIBE, and the UNSUBSCRIBE left before that.
#[test]
fn an_unsubscribe_that_overtook_the_rest_of_a_subscribe_is_sent_again_behind_it() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    for is_link_lost in [false, true] {
        let mut t = Transcript::connected();
        let asked = t.subscribe(&filters);
        t.is_late_three_times(1);
        t.sent.clear();
        t.lets_stand();
        let left = t.unsubscribe(&["f09"]);
        t.sends("UNSUBSCRIBE id=2 f09").silent();
        t.receives(suback(1, &[Some(1); 8])).silent();
        if is_link_lost {
            t.reconnects(true).renewing(0);
            t.sends("UNSUBSCRIBE id=2 f09").silent();
        }
        t.receives(unsuback(2)).sends("SUBSCRIBE id=3 f09:1");
        t.silent().receives(suback(3, &[Some(1)]));
        t.resolved(asked, "delivered x1 [1 1 1 1 1 1 1 1 1]");
        t.sends("UNSUBSCRIBE id=4 f09").silent();
        t.receives(unsuback(4)).resolved(left, "delivered x1");
        assert!(t.session.is_subscribed("f08") && !t.session.is_subscribed("f09"));
        t.reconnects(true).renewing(0).silent().finish();
    }
}

/// Both wait then, and the UNSUBSCRIBE stands first.
#[test]
fn an_unsubscribe_that_overtook_a_rest_is_sent_again_behind_it_in_a_new_session_too() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    let asked = t.subscribe(&filters);
    t.is_late_three_times(1);
    t.sent.clear();
    t.lets_stand();
    let left = t.unsubscribe(&["f09"]);
    t.sends("UNSUBSCRIBE id=2 f09").silent();
    t.receives(suback(1, &[Some(1); 8])).silent();
    t.reconnects(false).renewing(8);
    t.sends(&format!("SUBSCRIBE id=3 {}", filters_text(1..=8, 1)));
    t.receives(suback(3, &[Some(1); 8]));
    t.sends("UNSUBSCRIBE id=4 f09").silent();
    t.receives(unsuback(4)).sends("SUBSCRIBE id=5 f09:1");
    t.silent().receives(suback(5, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1 1 1 1 1 1 1 1 1]");
    t.sends("UNSUBSCRIBE id=6 f09").silent();
    t.receives(unsuback(6)).resolved(left, "delivered x1");
    assert!(t.session.is_subscribed("f08") && !t.session.is_subscribed("f09"));
    t.finish();
}

/// The same, the other way round.
#[test]
fn a_subscribe_that_overtook_the_rest_of_an_unsubscribe_is_sent_again_behind_it() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(String::as_str).collect();
    let mut t = Transcript::connected();
    let left = t.unsubscribe(&filters);
    t.is_late_three_times(1);
    t.sent.clear();
    t.lets_stand();
    let asked = t.subscribe(&[("f09", 1), ("f10", 0)]);
    t.sends("SUBSCRIBE id=2 f09:1 f10:0").silent();
    t.receives(unsuback(1)).silent();
    t.receives(suback(2, &[Some(1), Some(0)]));
    t.sends("UNSUBSCRIBE id=3 f09").silent();
    t.receives(unsuback(3)).resolved(left, "delivered x1");
    t.sends("SUBSCRIBE id=4 f09:1 f10:0").silent();
    t.receives(suback(4, &[Some(1), Some(0)]));
    t.resolved(asked, "delivered x1 [1 0]");
    assert!(t.session.is_subscribed("f09"));
    t.finish();
}

/// Three requests left, because those before were suspected. The last has no filter of the first, and waits for the second
/// all the same.
#[test]
fn requests_that_overtook_each_other_go_on_in_their_order_on_the_next_link() {
    for is_taken_back in [true, false] {
        let mut t = Transcript::connected_with(|options| options.suspected_after = 1);
        let first = t.subscribe(&[("a", 1)]);
        t.sends("SUBSCRIBE id=1 a:1");
        t.is_late(1).ends_link(LinkEnd::Otherwise);
        t.links_up().connack(true).connected = None;
        t.sends("PINGREQ").receives(Incoming::PingResp).later(250);
        t.sends("SUBSCRIBE id=1 a:1").lets_stand();
        let second = match is_taken_back {
            true => t.subscribe(&[("a", 1), ("b", 1)]),
            false => t.unsubscribe(&["a", "b"]),
        };
        t.lets_stand();
        let third = match is_taken_back {
            true => t.unsubscribe(&["b"]),
            false => t.subscribe(&[("b", 1)]),
        };
        t.sent.clear();
        // So late an end shows nothing, and everything leaves on the next link.
        t.later(1_000).reconnects(true).renewing(0);
        t.sends("SUBSCRIBE id=1 a:1").silent();
        t.receives(suback(1, &[Some(1)]));
        t.resolved(first, "delivered x3 [1]");
        if is_taken_back {
            t.sends("SUBSCRIBE id=4 a:1 b:1").silent();
            t.receives(suback(4, &[Some(1), Some(1)]));
            t.resolved(second, "delivered x2 [1 1]");
            t.sends("UNSUBSCRIBE id=5 b").receives(unsuback(5));
            t.resolved(third, "delivered x2");
        } else {
            t.sends("UNSUBSCRIBE id=4 a b").silent();
            t.receives(unsuback(4)).resolved(second, "delivered x2");
            t.sends("SUBSCRIBE id=5 b:1");
            t.receives(suback(5, &[Some(1)]));
            t.resolved(third, "delivered x2 [1]");
        }
        assert_eq!(t.session.is_subscribed("b"), !is_taken_back);
        t.finish();
    }
}

/// The answer to the UNSUBSCRIBE gives up the rest that it overtook. It is not made once more: that would be behind the
/// SUBSCRIBE, which is the later command.
#[test]
fn an_unsubscribe_that_overtook_a_rest_that_is_given_up_is_sent_once() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected_with(|options| options.suspected_after = 1);
    let first = t.subscribe(&filters);
    t.sent.clear();
    t.receives(suback(1, &[Some(1); 8]));
    t.sends("SUBSCRIBE id=2 f09:1");
    t.is_late(2).ends_link(LinkEnd::Otherwise);
    t.links_up().connack(true).connected = None;
    t.sends("PINGREQ").receives(Incoming::PingResp).later(250);
    t.sends("SUBSCRIBE id=2 f09:1").lets_stand();
    let second = t.unsubscribe(&["f09", "b"]);
    t.sends("UNSUBSCRIBE id=3 f09 b").lets_stand();
    let third = t.subscribe(&[("b", 1)]);
    t.sends("SUBSCRIBE id=4 b:1").silent();
    t.receives(unsuback(3)).resolved(second, "delivered x1");
    t.resolved(first, "perhaps Unanswered").silent();
    t.receives(suback(4, &[Some(1)]));
    t.resolved(third, "delivered x1 [1]").silent();
    assert!(t.session.is_subscribed("b") && !t.session.is_subscribed("f09"));
    t.finish();
}

/// A PUBCOMP without a PUBREL is no answer to the PUBLISH that is tried.
#[test]
fn a_pubcomp_that_was_not_asked_for_ends_no_trial() {
    let mut t = Transcript::in_flight(2);
    for _ in 0..3 {
        t.sent.clear();
        t.closed_after(CLOSES_AFTER, true);
    }
    for idle in IDLE {
        t.stands_idle(idle).sends("PUBLISH id=1 qos=1 dup t \"1\"");
        t.receives(pubcomp(1)).silent();
        t.closed_after(CLOSES_AFTER, true);
    }
    t.resolved(0, "perhaps Parked").sent.clear();
    t.finish();
}

/// A broker may close each link because of it, whoever the message is from.
#[test]
fn a_pubrel_for_an_unknown_message_is_suspected_and_given_up() {
    for is_closed in [true, false] {
        let mut t = Transcript::connected();
        t.receives(pubrec(7)).sends("PUBREL 7").silent();
        for _ in 0..2 {
            t.closed_after(CLOSES_AFTER, true);
            t.sends("PUBREL 7").silent();
        }
        t.closed_after(CLOSES_AFTER, true);
        if is_closed {
            for idle in IDLE {
                t.stands_idle(idle).sends("PUBREL 7").silent();
                t.closed_after(CLOSES_AFTER, true);
            }
        } else {
            t.stands_idle(IDLE[0]).sends("PUBREL 7").lets_stand();
            let other = t.publish("t", 1, "x");
            t.sends("PUBLISH id=1 qos=1 t \"x\"");
            t.receives(puback(1)).resolved(other, "delivered x1");
        }
        assert_eq!(t.given_up, ["PUBREL"]);
        t.silent().reconnects(true).renewing(0).silent().finish();
    }
}

/// A broker that holds a QoS 2 message under the identifier of one that was given up would swallow the next one.
#[test]
fn a_pubrec_for_a_command_that_was_given_up_is_answered() {
    for is_request in [false, true] {
        let mut t = Transcript::connected_with(|o| o.identifiers = 8);
        let poison = match is_request {
            true => t.subscribe(&[("a", 1)]),
            false => t.publish("poison", 1, "x"),
        };
        t.is_late_three_times(1);
        t.sent.clear();
        t.lets_stand();
        let other = t.publish("t", 1, "y");
        t.sends("PUBLISH id=2 qos=1 t \"y\"");
        t.receives(puback(2)).resolved(other, "delivered x1");
        t.resolved(poison, "perhaps Unanswered").silent();
        t.receives(pubrec(1)).sends("PUBREL 1").silent();
        // The identifier is in use until PUBCOMP, on each link.
        t.reconnects(true).renewing(0).sends("PUBREL 1").silent();
        let ids: Vec<_> = (0..8).map(|_| t.acknowledged_publish()).collect();
        assert!(!ids.contains(&1), "{ids:?}");
        t.receives(pubcomp(1)).silent();
        let ids: Vec<_> = (0..8).map(|_| t.acknowledged_publish()).collect();
        assert!(ids.contains(&1), "{ids:?}");
        t.finish();
    }
}
