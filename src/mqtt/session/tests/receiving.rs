//! Messages from the broker: which are delivered, and when each is acknowledged.

use super::Transcript;
use super::packets::{message, message_again, puback, pubrel};

#[test]
fn each_quality_of_service_is_answered_as_it_must_be_3_3_4_1() {
    let mut t = Transcript::connected();
    t.receives(message(0, 0, "zero"));
    assert_eq!(t.delivers("t \"zero\""), None);
    t.silent();
    t.receives(message(7, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.silent();
    t.accept(one).sends("PUBACK 7").silent();
    t.receives(message(8, 2, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.silent();
    t.accept(two).sends("PUBREC 8").silent();
    t.receives(pubrel(8)).sends("PUBCOMP 8").finish();
}

#[test]
fn acknowledgments_leave_in_the_order_of_arrival_4_6_0_2_4_6_0_3() {
    let mut t = Transcript::connected();
    for (id, qos) in [(1, 1), (2, 2), (3, 1)] {
        t.receives(message(id, qos, "x"));
    }
    let [first, second, third] = [(); 3].map(|()| t.delivers("t \"x\"").unwrap());
    t.accept(third).silent();
    t.accept(first).sends("PUBACK 1").silent();
    t.accept(second).sends_all(&["PUBREC 2", "PUBACK 3"]);
    t.accept(second).finish();
}

#[test]
fn after_puback_the_same_identifier_is_a_new_message_4_3_2_2() {
    let mut t = Transcript::connected();
    for _ in 0..2 {
        t.receives(message(1, 1, "x"));
        let delivery = t.delivers("t \"x\"").unwrap();
        t.accept(delivery).sends("PUBACK 1").silent();
    }
    t.finish();
}

#[test]
fn a_qos_2_message_is_delivered_once_before_its_release_4_3_3_2() {
    let mut t = Transcript::connected();
    t.receives(message(1, 2, "x"));
    let delivery = t.delivers("t \"x\"").unwrap();
    t.accept(delivery).sends("PUBREC 1");
    t.receives(message_again(1, 2, "x"))
        .sends("PUBREC 1")
        .silent();
    t.reconnects(true);
    t.receives(message_again(1, 2, "x"))
        .sends("PUBREC 1")
        .silent();
    t.receives(pubrel(1)).sends("PUBCOMP 1");
    t.receives(message(1, 2, "x"));
    assert!(t.delivers("t \"x\"").is_some());
    t.finish();
}

#[test]
fn a_release_of_something_unknown_is_completed() {
    let mut t = Transcript::connected();
    t.receives(pubrel(9)).sends("PUBCOMP 9").silent();
    t.reconnects(false);
    t.receives(pubrel(9)).sends("PUBCOMP 9").finish();
}

#[test]
fn a_message_that_waits_when_the_link_drops_is_acknowledged_when_it_comes_again() {
    for (qos, answer) in [(1, "PUBACK 1"), (2, "PUBREC 1")] {
        let mut t = Transcript::connected();
        t.receives(message(1, qos, "x"));
        let delivery = t.delivers("t \"x\"").unwrap();
        t.reconnects(true);
        t.accept(delivery).silent();
        t.receives(message_again(1, qos, "x")).sends(answer);
        t.finish();
    }
}

#[test]
fn a_message_that_still_waits_when_it_comes_again_is_delivered_once() {
    for (qos, answer) in [(1, "PUBACK 1"), (2, "PUBREC 1")] {
        let mut t = Transcript::connected();
        t.receives(message(1, qos, "x"));
        let delivery = t.delivers("t \"x\"").unwrap();
        t.reconnects(true);
        t.receives(message_again(1, qos, "x")).silent();
        t.accept(delivery).sends(answer);
        t.finish();
    }
}

#[test]
fn what_comes_again_is_acknowledged_in_the_order_of_the_new_link() {
    let mut t = Transcript::connected();
    t.receives(message(1, 1, "a")).receives(message(2, 1, "b"));
    let first = t.delivers("t \"a\"").unwrap();
    let second = t.delivers("t \"b\"").unwrap();
    t.reconnects(true);
    t.receives(message_again(2, 1, "b"));
    t.receives(message_again(1, 1, "a")).silent();
    t.accept(first).silent();
    t.accept(second)
        .sends_all(&["PUBACK 2", "PUBACK 1"])
        .finish();
}

/// Without DUP it is the first time that the broker sends it [3.3.1.1]: the same words, another
/// message.
#[test]
fn an_equal_message_that_is_no_repetition_is_delivered() {
    let mut t = Transcript::connected();
    t.receives(message(1, 1, "x"));
    let old = t.delivers("t \"x\"").unwrap();
    t.reconnects(true);
    t.receives(message(1, 1, "x"));
    let new = t.delivers("t \"x\"").unwrap();
    t.accept(old).silent();
    t.accept(new).sends("PUBACK 1").finish();
}

#[test]
fn nothing_of_a_lost_session_is_acknowledged() {
    let mut t = Transcript::connected();
    t.receives(message(1, 1, "x")).receives(message(2, 2, "y"));
    let first = t.delivers("t \"x\"").unwrap();
    let second = t.delivers("t \"y\"").unwrap();
    t.reconnects(false);
    t.accept(first).accept(second).silent();
    t.receives(message(2, 2, "y"));
    let new = t.delivers("t \"y\"").unwrap();
    t.accept(new).sends("PUBREC 2").finish();
}

#[test]
fn messages_may_come_while_subscriptions_are_renewed() {
    let mut t = Transcript::subscribed(&[("t", 1)]);
    t.reconnects(false).sends("SUBSCRIBE id=2 t:1");
    t.receives(message(1, 1, "x"));
    let delivery = t.delivers("t \"x\"").unwrap();
    t.accept(delivery).sends("PUBACK 1").finish();
}

/// Of these bytes messages may count as accepted while they wait; up to a quarter more may wait at all. A message of
/// three letters counts 260, so there is room for two of them.
const ROOM: usize = 600;

/// A transcript with this much room.
fn with_little_room() -> Transcript {
    Transcript::connected_with(|options| options.max_waiting_bytes = ROOM)
}

#[test]
fn what_nobody_reads_is_left_with_the_broker_once_it_is_too_much() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.receives(message(2, 2, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.receives(message(3, 0, "not acknowledged, so it never counts"));
    t.delivers("t \"not acknowledged, so it never counts\"");
    // Sent again it costs nothing.
    t.receives(message(2, 2, "two")).silent();
    let publish = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    t.receives(message(4, 1, "new")).notes("unread");
    // A message behind it would overtake it, also one that would fit.
    t.receives(message(5, 1, ""))
        .receives(message(6, 2, ""))
        .silent();
    // Everything else goes on.
    t.receives(message(2, 2, "two"))
        .receives(message(7, 0, "now"));
    t.delivers("t \"now\"");
    t.receives(puback(1)).resolved(publish, "delivered x1");
    let publish = t.publish("t", 1, "y");
    t.sends("PUBLISH id=2 qos=1 t \"y\"");
    // With half of the room free, and the acknowledgment out, the broker is to send the rest again.
    t.stalls_after(0).accept(one).silent();
    t.flows().sends("PUBACK 1").notes("close LeftWithBroker");
    t.accept(two).silent();
    assert_eq!((t.wants_commands(), t.next_timer()), (false, None));
    t.reconnects(true).renewing(0);
    t.sends("PUBLISH id=2 qos=1 dup t \"y\"");
    t.receives(puback(2)).resolved(publish, "delivered x2");
    t.receives(message_again(2, 2, "two")).sends("PUBREC 2");
    t.receives(message_again(4, 1, "new"));
    let new = t.delivers("t \"new\"").unwrap();
    t.receives(message_again(5, 1, ""));
    let empty = t.delivers("t \"\"").unwrap();
    assert_eq!(t.session.bytes_waiting(), 260 + 257);
    t.accept(new)
        .accept(empty)
        .sends_all(&["PUBACK 4", "PUBACK 5"]);
    assert_eq!(t.session.bytes_waiting(), 0);
    // One alone is taken, however large.
    let huge = "x".repeat(2 * ROOM);
    t.receives(message(5, 1, &huge));
    let large = t.delivers(&format!("t \"{huge}\"")).unwrap();
    t.receives(message(6, 1, "")).notes("unread");
    t.accept(large).sends("PUBACK 5");
    t.notes("close LeftWithBroker").finish();
}

#[test]
fn a_message_that_waits_may_count_as_accepted_and_stays_on_the_account() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.receives(message(2, 2, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    // Acknowledgments leave in the order of arrival.
    assert!(t.accept_early(two));
    t.silent();
    assert!(t.accept_early(one));
    t.sends_all(&["PUBACK 1", "PUBREC 2"]).silent();
    t.receives(pubrel(2)).sends("PUBCOMP 2").silent();
    assert_eq!(t.session.bytes_waiting(), 520);
    t.receives(message(3, 1, "three")).notes("unread").silent();
    // The broker owes nothing of it any more: what waits is read, and no link is lost for it.
    t.reconnects(false);
    assert_eq!(t.session.bytes_waiting(), 520);
    t.receives(message(1, 1, "four")).notes("unread").silent();
    t.accept(two).notes("close LeftWithBroker");
    t.accept(one).silent();
    assert_eq!(t.session.bytes_waiting(), 0);
    t.finish();
}

#[test]
fn beyond_the_limit_a_message_waits_unacknowledged_until_enough_is_read() {
    let mut t = with_little_room();
    let long = "x".repeat(100);
    t.receives(message(1, 1, &long));
    let first = t.delivers(&format!("t \"{long}\"")).unwrap();
    t.receives(message(2, 1, &long));
    let second = t.delivers(&format!("t \"{long}\"")).unwrap();
    assert_eq!(t.session.bytes_waiting(), 714, "there is room to wait");
    assert!(t.accept_early(first));
    t.sends("PUBACK 1");
    assert!(!t.accept_early(second) && !t.accept_early(second));
    t.silent();
    // A lost link changes nothing, and it counts as accepted in the end.
    t.reconnects(true);
    t.receives(message_again(2, 1, &long)).silent();
    t.accept(first).sends("PUBACK 2").silent();
    assert_eq!(t.session.bytes_waiting(), 357);
    t.accept(second).silent();
    assert_eq!(t.session.bytes_waiting(), 0);
    t.finish();
}

/// For each further inbox that it waits for, a message takes memory, too.
#[test]
fn a_message_that_waits_for_several_inboxes_counts_for_each() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    assert!(t.session.accept_early(one, 3));
    assert_eq!(t.session.bytes_waiting(), 4 + 3 * 256);
    t.flows().sends("PUBACK 1");
    t.receives(message(2, 1, "two")).notes("unread");
    t.accept(one).notes("close LeftWithBroker");
    assert_eq!(t.session.bytes_waiting(), 0);
    t.finish();
}

/// Half of the room is not always enough.
#[test]
fn no_new_link_is_made_before_the_first_of_what_was_left_has_room() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.receives(message(2, 1, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.receives(message(3, 1, &"x".repeat(ROOM - 300)))
        .notes("unread")
        .silent();
    t.accept(one).sends("PUBACK 1").silent();
    t.accept(two).sends("PUBACK 2");
    t.notes("close LeftWithBroker").finish();
}

/// The inbox waits for it still.
#[test]
fn a_message_that_replaces_one_that_was_owed_makes_no_room() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    // Another message under the same identifier: nothing is owed for the first one any more.
    t.receives(message(1, 1, &"x".repeat(ROOM)))
        .notes("unread")
        .silent();
    t.accept(one).notes("close LeftWithBroker").finish();
}

/// Publishers who fill the output as fast as it leaves would put the new link off for ever.
#[test]
fn no_command_is_taken_while_a_new_link_waits_for_the_output_to_leave() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.receives(message(2, 1, &"x".repeat(ROOM))).notes("unread");
    t.stalls_after(0);
    assert!(t.wants_commands());
    t.accept(one).silent();
    assert!(!t.wants_commands());
    t.flows().sends("PUBACK 1").notes("close LeftWithBroker");
    t.finish();
}

/// An acknowledgment that is owed only if the message comes again counts no more once every inbox has the
/// message.
#[test]
fn what_never_comes_again_does_not_keep_the_rest_with_the_broker() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.receives(message(2, 1, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.reconnects(true).renewing(0);
    t.receives(message(3, 1, "new")).notes("unread");
    t.accept(one).notes("close LeftWithBroker");
    t.accept(two).reconnects(true).renewing(0);
    t.receives(message_again(3, 1, "new"));
    let new = t.delivers("t \"new\"").unwrap();
    t.accept(new).sends("PUBACK 3").finish();
}

/// A message that was accepted after its link was lost waits for the broker to send it again. If the broker never
/// does, the message must not keep new ones away. If it comes late, it is recognised all the same.
#[test]
fn what_the_broker_never_sends_again_takes_no_room_for_good() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.receives(message(2, 2, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.loses_link().accept(one).accept(two);
    t.links_up().connack(true).renewing(0);
    t.receives(message(3, 1, "new"));
    let new = t.delivers("t \"new\"").unwrap();
    assert_eq!(t.session.bytes_waiting(), 260);
    t.receives(message_again(2, 2, "two")).silent();
    t.accept(new).sends_all(&["PUBACK 3", "PUBREC 2"]);
    t.receives(message_again(1, 1, "one")).sends("PUBACK 1");
    t.finish();
}

#[test]
fn what_waits_stays_on_the_account_when_nothing_is_owed_for_it() {
    let mut t = with_little_room();
    t.receives(message(1, 1, "a"));
    let replaced = t.delivers("t \"a\"").unwrap();
    // Another message under the same identifier takes the place of the first.
    t.receives(message(1, 1, "longer"));
    let lost = t.delivers("t \"longer\"").unwrap();
    assert_eq!(t.session.bytes_waiting(), 258 + 263);
    t.reconnects(false).renewing(0);
    assert_eq!(t.session.bytes_waiting(), 258 + 263);
    t.accept(replaced).silent();
    assert_eq!(t.session.bytes_waiting(), 263);
    assert!(t.accept_early(lost), "it counts as accepted already");
    t.accept(lost).silent();
    assert_eq!(t.session.bytes_waiting(), 0);
    t.finish();
}

#[test]
fn a_repetition_of_qos_2_does_not_push_out_what_is_owed_behind_it() {
    let mut t = Transcript::connected_with(|options| options.max_waiting_bytes = 7);
    t.receives(message(1, 2, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.accept(two).sends("PUBREC 1");
    t.receives(message(2, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.loses_link().accept(one);
    t.links_up().connack(true).renewing(0);
    // PUBREC was lost with the link; both come again, in their order.
    t.receives(message_again(1, 2, "two")).sends("PUBREC 1");
    t.receives(message_again(2, 1, "one")).sends("PUBACK 2");
    t.finish();
}

#[test]
fn a_repetition_of_qos_1_does_not_push_out_what_is_owed_behind_it() {
    let mut t = Transcript::connected_with(|options| options.max_waiting_bytes = 7);
    t.receives(message(1, 1, "one"));
    let one = t.delivers("t \"one\"").unwrap();
    t.accept(one).sends("PUBACK 1");
    t.receives(message(2, 1, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.loses_link().accept(two);
    t.links_up().connack(true).renewing(0);
    // PUBACK 1 was lost with the link: a new publication, says [MQTT-4.3.2-2]. The other is known.
    t.receives(message_again(1, 1, "one"));
    let again = t.delivers("t \"one\"").unwrap();
    t.receives(message_again(2, 1, "two")).silent();
    t.accept(again).sends_all(&["PUBACK 1", "PUBACK 2"]);
    t.finish();
}

/// Everything was read: nothing may keep the link closed, whatever the sizes.
#[test]
fn a_repetition_of_qos_2_is_taken_however_much_is_owed_behind_it() {
    let mut t = Transcript::connected_with(|options| options.max_waiting_bytes = 7);
    t.receives(message(1, 2, "two"));
    let two = t.delivers("t \"two\"").unwrap();
    t.accept(two).sends("PUBREC 1");
    t.receives(message(2, 1, "larger than twice the bound"));
    let large = t.delivers("t \"larger than twice the bound\"").unwrap();
    t.loses_link().accept(large);
    t.links_up().connack(true).renewing(0);
    t.receives(message_again(1, 2, "two")).sends("PUBREC 1");
    t.receives(message_again(2, 1, "larger than twice the bound"))
        .sends("PUBACK 2");
    t.finish();
}
