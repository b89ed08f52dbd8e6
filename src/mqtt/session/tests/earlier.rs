//! A broker that holds QoS 2 messages of an earlier life of this client, of which the session knows nothing.

use super::Transcript;
use super::packets::{filters_text, names, puback, pubcomp, pubrec, suback, unsuback};
use super::suspects::{CLOSES_AFTER, IDLE};

/// Publishes with QoS 1 and has it acknowledged, once under each of these identifiers.
fn acknowledged(t: &mut Transcript, ids: &[u16]) {
    for id in ids {
        let token = t.publish("t", 1, "x");
        t.sends(&format!("PUBLISH id={id} qos=1 t \"x\""));
        t.receives(puback(*id)).resolved(token, "delivered x1");
    }
}

#[test]
fn an_unknown_pubrec_is_answered_with_pubrel_and_its_identifier_is_in_use_until_pubcomp() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 8);
    t.receives(pubrec(3)).sends("PUBREL 3").silent();
    t.receives(pubrec(3)).sends("PUBREL 3").silent();
    acknowledged(&mut t, &[1, 2, 4, 5, 6, 7, 8, 1, 2, 4]);
    // Nobody waits for it, but it stays until PUBCOMP.
    assert_eq!((t.session.unresolved(), t.session.in_flight()), (0, 1));
    t.receives(puback(3)).silent();
    t.receives(pubcomp(3)).silent();
    assert_eq!(t.session.in_flight(), 0);
    acknowledged(&mut t, &[5, 6, 7, 8, 1, 2, 3]);
    t.finish();
}

#[test]
fn an_unknown_pubrel_is_sent_again_on_the_next_link_in_its_place_4_6_0_4() {
    let mut t = Transcript::connected();
    t.publish("t", 2, "x");
    t.sends("PUBLISH id=1 qos=2 t \"x\"");
    t.receives(pubrec(7)).sends("PUBREL 7");
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.receives(pubrec(6)).sends("PUBREL 6");
    t.reconnects(true).renewing(0);
    t.sends_all(&["PUBREL 7", "PUBREL 1", "PUBREL 6"]).silent();
    t.receives(pubcomp(7)).silent();
    t.reconnects(true).sends_all(&["PUBREL 1", "PUBREL 6"]);
    // The new session has nothing to release.
    t.reconnects(false).resolved(0, "perhaps SessionLost");
    assert_eq!(t.session.in_flight(), 0);
    t.finish();
}

#[test]
fn a_qos_1_publish_that_pubrec_came_for_is_sent_again_behind_pubcomp() {
    let mut t = Transcript::connected();
    let first = t.publish("t", 1, "1");
    let second = t.publish("t", 1, "2");
    t.sends("PUBLISH id=1 qos=1 t \"1\"");
    t.sends("PUBLISH id=2 qos=1 t \"2\"");
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(pubcomp(1));
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    t.receives(pubcomp(1)).silent();
    // On the next link the order is that of the first sending.
    t.reconnects(true);
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"");
    t.sends("PUBLISH id=2 qos=1 dup t \"2\"").silent();
    t.receives(puback(1)).resolved(first, "delivered x3");
    t.receives(puback(2)).resolved(second, "delivered x2");
    t.finish();
}

/// A broker that answers each message of QoS 1 as one of QoS 2 would be sent the same one for ever.
#[test]
fn a_qos_1_publish_is_sent_again_behind_pubcomp_once_on_each_link() {
    let mut t = Transcript::connected();
    let token = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    for _ in 0..2 {
        t.receives(pubrec(1)).sends("PUBREL 1").silent();
        t.receives(pubcomp(1));
        t.sends("PUBLISH id=1 qos=1 dup t \"x\"").silent();
        t.receives(pubrec(1)).sends("PUBREL 1").silent();
        t.receives(pubcomp(1)).silent();
        t.reconnects(true);
        t.sends("PUBLISH id=1 qos=1 dup t \"x\"").silent();
    }
    t.receives(puback(1)).resolved(token, "delivered x5");
    t.finish();
}

/// The broker had taken it, so it is not sent again.
#[test]
fn a_qos_1_publish_that_is_acknowledged_leaves_its_identifier_in_use_until_pubcomp() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 4);
    let token = t.publish("t", 1, "1");
    t.sends("PUBLISH id=1 qos=1 t \"1\"");
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.receives(puback(1)).resolved(token, "delivered x1");
    acknowledged(&mut t, &[2, 3, 4, 2, 3, 4]);
    t.reconnects(true).sends("PUBREL 1").silent();
    t.receives(pubcomp(1));
    acknowledged(&mut t, &[1, 2]);
    t.finish();
}

/// An answer sets the count to 0, also where something else is awaited from then on.
#[test]
fn losses_with_a_publish_do_not_count_against_the_pubrel_beside_it() {
    let mut t = Transcript::in_flight(1);
    for _ in 0..2 {
        t.closed_after(CLOSES_AFTER, true);
        t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    }
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.receives(puback(1)).resolved(0, "delivered x3");
    for _ in 0..2 {
        t.closed_after(CLOSES_AFTER, true);
        t.sends("PUBREL 1").silent();
    }
    t.closed_after(CLOSES_AFTER, true);
    t.stands_idle(IDLE[0]).sends("PUBREL 1");
    t.receives(pubcomp(1)).silent().finish();
}

/// The second PUBREC came for a PUBLISH that had been sent again behind the first PUBREL.
#[test]
fn a_qos_1_publish_that_was_sent_again_leaves_its_identifier_in_use_until_pubcomp() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 4);
    let token = t.publish("t", 1, "1");
    t.sends("PUBLISH id=1 qos=1 t \"1\"");
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.receives(pubcomp(1));
    t.sends("PUBLISH id=1 qos=1 dup t \"1\"").silent();
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(puback(1)).resolved(token, "delivered x2");
    acknowledged(&mut t, &[2, 3, 4, 2, 3, 4]);
    t.reconnects(true).sends("PUBREL 1").silent();
    t.receives(pubcomp(1)).silent();
    acknowledged(&mut t, &[1, 2]);
    t.finish();
}

/// PUBREC and PUBACK came for a PUBLISH of an earlier link that still waits to be sent on this one.
#[test]
fn a_publish_that_waits_to_be_sent_again_leaves_its_identifier_in_use_until_pubcomp() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 4);
    let first = t.publish("t", 1, &"x".repeat(300_000));
    t.sent.clear();
    let second = t.publish("t", 1, "2");
    t.sends("PUBLISH id=2 qos=1 t \"2\"");
    t.loses_link().links_up();
    t.stalls_after(0).connack(true);
    t.receives(pubrec(2));
    t.receives(puback(2)).resolved(second, "delivered x1");
    t.flows();
    t.sent.pop_front();
    t.sends("PUBREL 2").silent();
    t.receives(puback(1)).resolved(first, "delivered x2");
    acknowledged(&mut t, &[3, 4, 1, 3, 4, 1]);
    t.receives(pubcomp(2)).silent();
    assert_eq!(t.session.in_flight(), 0);
    acknowledged(&mut t, &[2, 3]);
    t.finish();
}

#[test]
fn a_request_that_pubrec_came_for_is_not_sent_again_and_its_identifier_stays_in_use() {
    let names = names(10);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected_with(|o| o.identifiers = 4);
    let subscribe = t.subscribe(&filters);
    t.sends(&format!("SUBSCRIBE id=1 {}", filters_text(1..=8, 1)));
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(suback(1, &[Some(1); 8]));
    t.sends(&format!("SUBSCRIBE id=2 {}", filters_text(9..=10, 1)));
    t.receives(suback(2, &[Some(1); 2]));
    let granted = ["1"; 10].join(" ");
    t.resolved(subscribe, &format!("delivered x1 [{granted}]"));
    let unsubscribe = t.unsubscribe(&["f01"]);
    t.sends("UNSUBSCRIBE id=3 f01");
    t.receives(pubrec(3)).sends("PUBREL 3").silent();
    t.receives(pubcomp(3)).silent();
    t.receives(unsuback(3))
        .resolved(unsubscribe, "delivered x1");
    acknowledged(&mut t, &[4, 2, 3, 4, 2]);
    t.receives(pubcomp(1)).silent();
    acknowledged(&mut t, &[3, 4, 1]);
    t.finish();
}

/// PUBREL leaves before it, so the broker knows nothing more of the other message when it comes.
#[test]
fn a_packet_that_is_still_to_be_sent_is_sent_once() {
    let mut t = Transcript::connected();
    let large = "x".repeat(300_000);
    let first = t.publish("t", 1, &large);
    t.sent.clear();
    let second = t.publish("t", 1, "2");
    t.sends("PUBLISH id=2 qos=1 t \"2\"");
    t.loses_link().links_up();
    t.stalls_after(0).connack(true);
    t.receives(pubrec(2)).flows();
    t.sent.pop_front();
    t.sends("PUBREL 2");
    t.sends("PUBLISH id=2 qos=1 dup t \"2\"").silent();
    t.receives(pubcomp(2)).silent();
    t.receives(puback(2)).resolved(second, "delivered x2");
    t.receives(puback(1)).resolved(first, "delivered x2");
    t.finish();
}

/// PUBREC can only speak of another message. The first PUBCOMP ends that one, and the second one ours.
#[test]
fn a_qos_2_publish_of_which_nothing_has_left_is_not_taken_for_the_one_that_pubrec_came_for() {
    let mut t = Transcript::connected();
    let first = t.publish("t", 1, &"x".repeat(300_000));
    t.sent.clear();
    t.stalls_after(0);
    let second = t.publish("t", 2, "2");
    t.loses_link().flows().links_up();
    t.stalls_after(0).connack(true);
    t.receives(pubrec(2)).flows();
    t.sent.pop_front();
    t.sends("PUBREL 2");
    t.sends("PUBLISH id=2 qos=2 t \"2\"").silent();
    t.receives(pubcomp(2)).silent();
    t.receives(pubrec(2)).sends("PUBREL 2").silent();
    t.receives(pubcomp(2)).resolved(second, "delivered x1");
    t.receives(puback(1)).resolved(first, "delivered x2");
    t.finish();
}

/// It costs the broker's client memory for each of its own identifiers at most, and no command but those that find
/// no identifier.
#[test]
fn pubrecs_for_all_identifiers_are_bounded_and_end() {
    let mut t = Transcript::connected_with(|o| o.keep_alive = std::time::Duration::ZERO);
    t.stalls_after(0);
    for _ in 0..2 {
        for id in 1..=u16::MAX {
            t.receives(pubrec(id));
        }
    }
    assert_eq!(t.session.output().len(), 2 * 4 * 65_535);
    assert!(!t.wants_commands());
    t.flows();
    t.sent.clear();
    for id in 1..=u16::MAX {
        t.receives(pubcomp(id));
    }
    assert_eq!(t.session.next_timer(), None);
    acknowledged(&mut t, &[1, 2]);
    t.finish();
}
