//! Requests that stand without an answer.

use super::Transcript;
use super::packets::{puback, suback, unsuback};
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::LinkEnd;

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
