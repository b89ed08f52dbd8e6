//! DISCONNECT, and commands that are given up.

use super::Transcript;
use super::packets::{message, puback, pubrec, pubrel, suback};
use crate::mqtt::packet::Incoming;

#[test]
fn nothing_is_sent_after_disconnect_3_14_4_2() {
    let mut t = Transcript::subscribed(&[("t", 1)]);
    t.publish("t", 2, "x");
    t.receives(message(1, 1, "x")).receives(message(2, 2, "y"));
    let waiting = t.delivers("t \"x\"").unwrap();
    t.sends("PUBLISH id=2 qos=2 t \"x\"");
    assert!(t.delivers("t \"y\"").is_some());
    t.disconnect().sends("DISCONNECT");
    assert!(!t.wants_commands());
    t.accept(waiting);
    for packet in [
        pubrec(2),
        pubrel(2),
        message(3, 1, "z"),
        Incoming::PingResp,
        suback(1, &[Some(1)]),
    ] {
        t.receives(packet);
    }
    t.disconnect().at(1_000_000).silent();
    // The commands in flight go on with the next link.
    t.reconnects(true).sends("PUBLISH id=2 qos=2 dup t \"x\"");
    t.finish();
}

#[test]
fn what_stands_in_the_output_leaves_before_disconnect() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    let publish = t.publish("a", 0, "x");
    t.disconnect().silent();
    t.flows();
    t.sends_all(&["PUBLISH qos=0 a \"x\"", "DISCONNECT"]);
    t.resolved(publish, "delivered x1").finish();
}

#[test]
fn disconnect_without_a_connection_is_nothing() {
    let mut t = Transcript::with(|_| {});
    t.disconnect().silent();
    t.links_up().disconnect().silent();
    t.connack(false).finish();
}

#[test]
fn row_18_everything_ends_when_nobody_carries_it_on() {
    let mut t = Transcript::connected();
    t.publish("a", 1, "x");
    t.publish("a", 2, "y");
    t.publish("a", 2, "z");
    t.receives(pubrec(3));
    t.subscribe(&[("f", 1)]);
    // It waits for the SUBSCRIBE before it: nothing of it is out.
    t.unsubscribe(&["f"]);
    t.sent.clear();
    t.loses_link().abandon();
    for token in 0..=3 {
        t.resolved(token, "perhaps Terminated");
    }
    t.resolved(4, "cancelled Terminated").finish();
}

#[test]
fn row_18_what_is_neither_written_nor_answered_ends_too() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    t.publish("a", 0, "x");
    t.publish("a", 0, "y");
    t.ping();
    t.stalls_after(1).abandon();
    t.resolved(0, "perhaps Terminated");
    t.resolved(1, "cancelled Terminated");
    t.resolved(2, "perhaps Terminated").silent();
    t.abandon().silent();
    t.flows();
    t.sent.clear();
    t.finish();
}

#[test]
fn what_waits_to_be_sent_again_was_sent_before() {
    let mut t = Transcript::subscribed(&[("f", 1)]);
    let publish = t.publish("a", 1, "x");
    t.sent.clear();
    t.reconnects(false).sends("SUBSCRIBE id=3 f:1").silent();
    t.loses_link().abandon();
    t.resolved(publish, "perhaps Terminated").finish();
}

#[test]
fn an_abandoned_command_is_not_sent_again() {
    let mut t = Transcript::in_flight(2);
    t.loses_link().abandon();
    t.resolved(0, "perhaps Terminated");
    t.resolved(1, "perhaps Terminated");
    t.links_up().connack(true).silent();
    t.receives(puback(1)).finish();
}

#[test]
fn unresolved_counts_what_has_not_ended() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    t.publish("a", 0, "x");
    t.publish("a", 1, "x");
    t.ping();
    t.subscribe(&[("f", 1)]);
    t.unsubscribe(&["f"]);
    assert_eq!(t.session.unresolved(), 5);
    t.flows().receives(Incoming::PingResp).receives(puback(1));
    assert_eq!(t.session.unresolved(), 2);
    assert!(t.session.has_unresolved());
    t.sent.clear();
    t.outcomes.clear();
    t.finish();
}
