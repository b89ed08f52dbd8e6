//! A new link on which the broker lost the session: subscriptions first, then what was in flight.

use super::Transcript;
use super::packets::{filters_text, names, puback, pubcomp, pubrec, suback, unsuback};
use crate::mqtt::session::OnSessionLost;

#[test]
fn subscriptions_are_renewed_before_anything_else() {
    let mut t = Transcript::subscribed(&[("a", 1)]);
    let first = t.publish("t", 1, "x");
    let second = t.publish("t", 1, "y");
    t.sent.clear();
    t.reconnects(false).renewing(1);
    t.sends("SUBSCRIBE id=4 a:1").silent();
    assert!(!t.wants_commands());
    t.receives(suback(4, &[Some(1)]));
    // As new ones: other identifiers, no DUP.
    t.sends_all(&["PUBLISH id=5 qos=1 t \"x\"", "PUBLISH id=6 qos=1 t \"y\""]);
    t.silent();
    assert!(t.wants_commands());
    t.receives(puback(2)).silent();
    t.receives(puback(5)).resolved(first, "delivered x2");
    t.receives(puback(6)).resolved(second, "delivered x2");
    t.finish();
}

#[test]
fn no_command_is_taken_before_every_renewal_is_answered() {
    let mut t = Transcript::subscribed(&[("a", 1)]);
    t.reconnects(false).sends("SUBSCRIBE id=2 a:1").silent();
    assert!(!t.wants_commands());
    t.receives(suback(2, &[Some(0)]));
    assert!(t.wants_commands());
    t.finish();
}

#[test]
fn renewals_that_wait_for_an_identifier_are_made_once_after_another_loss() {
    let names = names(80);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected_with(|o| o.identifiers = 8).and_subscribed(&filters);
    t.reconnects(false).renewing(80);
    t.sent.clear();
    t.reconnects(true).renewing(80);
    for _ in 0..10 {
        t.take_subscribe_and_grant();
    }
    t.silent();
    assert!(t.wants_commands());
    t.finish();
}

#[test]
fn twenty_filters_are_renewed_eight_to_a_packet_and_all_are_waited_for() {
    let names = names(20);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let mut t = Transcript::connected().and_subscribed(&filters);
    let publish = t.publish("t", 1, "x");
    t.sends("PUBLISH id=4 qos=1 t \"x\"");
    t.reconnects(false).renewing(20);
    t.sends(&format!("SUBSCRIBE id=5 {}", filters_text(1..=8, 2)));
    t.sends(&format!("SUBSCRIBE id=6 {}", filters_text(9..=16, 2)));
    t.sends(&format!("SUBSCRIBE id=7 {}", filters_text(17..=20, 2)));
    t.receives(suback(7, &[Some(2); 4])).silent();
    assert_eq!(t.renewed, names[16..]);
    t.receives(suback(5, &[Some(2); 8])).silent();
    assert_eq!(t.renewed.len(), 12);
    assert!(!t.wants_commands());
    t.receives(suback(6, &[Some(2); 8]));
    t.sends("PUBLISH id=8 qos=1 t \"x\"");
    assert!(t.wants_commands());
    t.receives(puback(8)).resolved(publish, "delivered x2");
    t.finish();
}

#[test]
fn what_was_in_flight_is_failed_instead_if_so_wished() {
    let mut t = Transcript::connected_with(|o| o.on_session_lost = OnSessionLost::Fail);
    let publish = t.publish("t", 1, "x");
    let subscribe = t.subscribe(&[("a", 0)]);
    t.sent.clear();
    t.reconnects(true).resolved_none();
    t.sent.clear();
    t.reconnects(false);
    t.resolved(publish, "perhaps SessionLost");
    t.sends("SUBSCRIBE id=3 a:0").silent();
    t.receives(suback(3, &[Some(0)]));
    t.resolved(subscribe, "delivered x3 [0]").finish();
}

#[test]
fn qos_2_is_never_sent_twice_across_sessions() {
    let mut t = Transcript::connected();
    let publish = t.publish("t", 2, "x");
    let release = t.publish("t", 2, "y");
    let other = t.publish("t", 1, "z");
    t.receives(pubrec(2));
    t.sent.clear();
    t.reconnects(false);
    t.resolved(publish, "perhaps SessionLost");
    t.resolved(release, "perhaps SessionLost");
    t.sends("PUBLISH id=4 qos=1 t \"z\"").silent();
    t.receives(pubcomp(2)).silent();
    t.receives(puback(4)).resolved(other, "delivered x2");
    t.finish();
}

#[test]
fn row_08_renewals_are_remembered_when_the_link_drops_again_before_they_are_granted() {
    for session_present in [true, false] {
        let mut t = Transcript::subscribed(&[("a", 1), ("b", 2)]);
        let publish = t.publish("t", 1, "x");
        t.sent.clear();
        t.reconnects(false).renewing(2);
        t.sends("SUBSCRIBE id=3 a:1 b:2").silent();
        t.reconnects(session_present).renewing(2);
        t.sends("SUBSCRIBE id=4 a:1 b:2").silent();
        assert!(!t.wants_commands());
        t.receives(suback(3, &[Some(1), Some(2)])).silent();
        t.receives(suback(4, &[Some(1), Some(2)]));
        t.sends("PUBLISH id=5 qos=1 t \"x\"").silent();
        t.reconnects(true).renewing(0);
        t.sends("PUBLISH id=5 qos=1 dup t \"x\"");
        t.receives(puback(5)).resolved(publish, "delivered x3");
        t.finish();
    }
}

#[test]
fn row_08_only_what_is_not_granted_yet_stays_owed() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected().and_subscribed(&filters);
    t.reconnects(false).renewing(9);
    t.sent.clear();
    t.receives(suback(3, &[Some(1); 8]));
    t.reconnects(true).renewing(1);
    t.sends("SUBSCRIBE id=5 f09:1").silent();
    t.receives(suback(5, &[Some(1)]));
    t.reconnects(true).renewing(0).silent();
    t.reconnects(false).renewing(9);
    t.sent.clear();
    t.finish();
}

/// The answer that said "no session" may be lost with its link. The broker has a session by then, an
/// empty one, and says so on the next link.
#[test]
fn row_08_a_session_that_began_with_an_unseen_connack_is_not_trusted_with_subscriptions() {
    let mut t = Transcript::subscribed(&[("a", 1)]);
    t.loses_link().links_up().silent();
    t.reconnects(true).renewing(1);
    t.sends("SUBSCRIBE id=2 a:1").silent();
    t.receives(suback(2, &[Some(1)]));
    assert!(t.wants_commands());
    t.reconnects(true).renewing(0).finish();
}

/// Here a SUBSCRIBE can be under way beside the renewal of its filter, and be answered first.
#[test]
fn the_answer_to_a_renewal_does_not_undo_a_later_subscribe() {
    for answer in [Some(0), None] {
        let mut t = Transcript::subscribed(&[("a", 0)]);
        let upgrade = t.subscribe(&[("a", 2)]);
        t.sends("SUBSCRIBE id=2 a:2");
        t.loses_link().links_up();
        t.reconnects(true).renewing(1);
        t.sends_all(&["SUBSCRIBE id=3 a:0", "SUBSCRIBE id=2 a:2"]);
        t.receives(suback(2, &[Some(2)]));
        t.resolved(upgrade, "delivered x2 [2]");
        t.receives(suback(3, &[answer])).silent();
        t.reconnects(false).renewing(1);
        t.sends("SUBSCRIBE id=4 a:2").finish();
    }
}

#[test]
fn row_09_renewals_ask_for_the_qos_that_was_requested() {
    let mut t = Transcript::connected();
    t.subscribe(&[("a", 2), ("b", 0), ("c", 1)]);
    // Granted lower this time.
    t.receives(suback(1, &[Some(0), Some(0), Some(1)]));
    t.resolved(0, "delivered x1 [0 0 1]");
    t.sent.clear();
    t.reconnects(false).renewing(3);
    t.sends("SUBSCRIBE id=2 a:2 b:0 c:1").finish();
}

#[test]
fn row_09_a_refused_renewal_is_told_and_not_tried_again() {
    let mut t = Transcript::subscribed(&[("a", 1), ("b", 1), ("c", 1)]);
    t.reconnects(false).renewing(3);
    t.sends("SUBSCRIBE id=2 a:1 b:1 c:1");
    t.receives(suback(2, &[Some(1), None, Some(1)]));
    t.notes("not renewed b").silent();
    assert_eq!(t.renewed, ["a", "c"]);
    assert!(t.wants_commands());
    t.reconnects(false).renewing(2);
    t.sends("SUBSCRIBE id=3 a:1 c:1").finish();
}

#[test]
fn a_long_subscribe_says_no_of_what_it_was_granted_and_is_not_renewed() {
    let names = names(10);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    let token = t.subscribe(&filters);
    t.receives(suback(1, &[Some(1); 8]));
    t.sent.clear();
    t.reconnects(false).renewing(8);
    t.sends(&format!("SUBSCRIBE id=3 {}", filters_text(1..=8, 1)));
    let mut answers = [Some(1); 8];
    answers[1] = None;
    t.receives(suback(3, &answers)).notes("not renewed f02");
    t.sends("SUBSCRIBE id=4 f09:1 f10:1");
    t.receives(suback(4, &[Some(1); 2]));
    t.resolved(token, "refused [1 - 1 1 1 1 1 1 1 1]");
    t.reconnects(false).renewing(9).sent.clear();
    t.finish();
}

/// The rest of it leaves later, and a renewal that waits for an identifier would come behind that.
#[test]
fn nothing_is_renewed_whose_unsubscribe_has_begun_to_leave() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    t.subscribe(&filters);
    t.unsubscribe(&names.iter().map(String::as_str).collect::<Vec<_>>());
    t.receives(suback(1, &[Some(1); 8]))
        .receives(suback(2, &[Some(1)]));
    t.sent.clear();
    t.reconnects(false).renewing(0);
    let first: Vec<_> = names[..8].iter().map(String::as_str).collect();
    t.sends(&format!("UNSUBSCRIBE id=4 {}", first.join(" ")));
    t.outcomes.clear();
    t.finish();
}

#[test]
fn an_upgraded_filter_is_renewed_as_upgraded() {
    let mut t = Transcript::subscribed(&[("a", 0)]).and_subscribed(&[("a", 2)]);
    t.reconnects(false).renewing(1);
    t.sends("SUBSCRIBE id=3 a:2").finish();
}

#[test]
fn an_unsubscribed_filter_is_not_renewed() {
    let mut t = Transcript::subscribed(&[("a", 1), ("b", 1)]);
    t.unsubscribe(&["a"]);
    t.receives(unsuback(2)).resolved(1, "delivered x1");
    t.sent.clear();
    t.reconnects(false).renewing(1);
    t.sends("SUBSCRIBE id=3 b:1").finish();
}

#[test]
fn a_long_subscribe_goes_on_behind_the_renewal_of_what_it_was_granted() {
    let names = names(10);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    let token = t.subscribe(&filters);
    t.receives(suback(1, &[Some(1); 8]));
    t.sent.clear();
    t.reconnects(false).renewing(8);
    t.sends(&format!("SUBSCRIBE id=3 {}", filters_text(1..=8, 1)));
    t.silent();
    t.receives(suback(3, &[Some(1); 8]));
    t.sends("SUBSCRIBE id=4 f09:1 f10:1").silent();
    t.receives(suback(4, &[Some(1), Some(0)]));
    t.resolved(token, "delivered x2 [1 1 1 1 1 1 1 1 1 0]");
    t.reconnects(false).renewing(10);
    t.sent.clear();
    t.finish();
}

/// One filter of it was unsubscribed meanwhile: it must not come back.
#[test]
fn a_long_subscribe_does_not_bring_back_what_was_left_meanwhile() {
    let names = names(9);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected();
    let subscribe = t.subscribe(&filters);
    t.receives(suback(1, &[Some(1); 8]));
    let leave = t.unsubscribe(&["f01"]);
    t.sent.clear();
    t.reconnects(false).renewing(7);
    t.sends(&format!("SUBSCRIBE id=3 {}", filters_text(2..=8, 1)));
    t.silent();
    t.receives(suback(3, &[Some(1); 7]));
    t.sends("SUBSCRIBE id=4 f09:1");
    t.receives(suback(4, &[Some(1)]));
    t.resolved(subscribe, "delivered x2 [1 1 1 1 1 1 1 1 1]");
    t.sends("UNSUBSCRIBE id=5 f01").silent();
    t.receives(unsuback(5)).resolved(leave, "delivered x1");
    t.finish();
}

#[test]
fn more_renewals_than_identifiers_wait_for_their_turn() {
    let names = names(80);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut t = Transcript::connected_with(|o| o.identifiers = 8).and_subscribed(&filters);
    let publish = t.publish("t", 1, "x");
    t.sends("PUBLISH id=3 qos=1 t \"x\"");
    t.reconnects(false).renewing(80);
    for (packet, id) in [4, 5, 6, 7, 8, 1, 2, 3].into_iter().enumerate() {
        let first = packet as u32 * 8 + 1;
        t.sends(&format!(
            "SUBSCRIBE id={id} {}",
            filters_text(first..=first + 7, 1)
        ));
    }
    t.silent();
    t.receives(suback(5, &[Some(1); 8]));
    t.sends(&format!("SUBSCRIBE id=5 {}", filters_text(65..=72, 1)));
    t.receives(suback(4, &[Some(1); 8]));
    t.sends(&format!("SUBSCRIBE id=4 {}", filters_text(73..=80, 1)));
    t.silent();
    // Once more in the middle of it: 64 are left, and nothing of it is forgotten.
    t.reconnects(true).renewing(64);
    for _ in 0..8 {
        t.take_subscribe_and_grant();
    }
    t.sends("PUBLISH id=5 qos=1 t \"x\"").silent();
    t.receives(puback(5)).resolved(publish, "delivered x2");
    t.finish();
}

#[test]
fn what_waits_behind_the_renewals_keeps_its_order_over_several_losses() {
    let mut t = Transcript::subscribed(&[("a", 1)]);
    t.publish("t", 1, "1");
    t.subscribe(&[("b", 1)]);
    t.publish("t", 1, "2");
    t.unsubscribe(&["c"]);
    t.publish("t", 1, "3");
    t.sent.clear();
    for _ in 0..2 {
        t.reconnects(false).renewing(1);
        t.sent.clear();
    }
    t.reconnects(true).renewing(1);
    let id = t.take_subscribe_and_grant();
    t.sends_all(&[
        &format!("PUBLISH id={} qos=1 t \"1\"", id + 1),
        &format!("SUBSCRIBE id={} b:1", id + 2),
        &format!("PUBLISH id={} qos=1 t \"2\"", id + 3),
        &format!("UNSUBSCRIBE id={} c", id + 4),
        &format!("PUBLISH id={} qos=1 t \"3\"", id + 5),
    ]);
    t.finish();
}

#[test]
fn a_clean_start_is_a_lost_session_3_1_2_6() {
    let mut t = Transcript::subscribed(&[("a", 1)]);
    let publish = t.publish("t", 2, "x");
    t.sent.clear();
    t.clean_session = true;
    t.reconnects(false).renewing(1);
    t.resolved(publish, "perhaps SessionLost");
    t.sends("SUBSCRIBE id=3 a:1").finish();
}

impl Transcript {
    fn resolved_none(&mut self) -> &mut Self {
        assert!(self.outcomes.is_empty(), "{:?}", self.outcomes);
        self
    }

    /// Grants the SUBSCRIBE that is next on the wire; gives its identifier.
    fn take_subscribe_and_grant(&mut self) -> u16 {
        use rumqttc::mqttbytes::v4::Packet;
        let Some(Packet::Subscribe(sent)) = self.sent.pop_front() else {
            panic!("no SUBSCRIBE");
        };
        let granted = vec![Some(1); sent.filters.len()];
        self.receives(suback(sent.pkid, &granted));
        sent.pkid
    }
}
