//! A broker with a limited rate: messages leave no faster, in their order, and everything else goes on.

use std::num::NonZeroU32;

use super::Transcript;
use super::packets::{message, puback};

/// Two messages leave at once and then one each half second.
fn two_a_second() -> Transcript {
    Transcript::connected_with(|options| options.rate.publishes = NonZeroU32::new(2))
}

#[test]
fn commands_stay_in_the_queue_until_a_message_may_leave() {
    let mut t = two_a_second();
    t.publish("t", 1, "1");
    assert!(t.wants_commands());
    t.publish("t", 0, "2");
    t.sends_all(&["PUBLISH id=1 qos=1 t \"1\"", "PUBLISH qos=0 t \"2\""]);
    assert!(!t.wants_commands());
    // Acknowledgments make no room.
    t.receives(puback(1));
    t.at(499);
    assert!(!t.wants_commands());
    t.at(500);
    assert!(t.wants_commands());
    t.publish("t", 1, "3");
    t.sends("PUBLISH id=2 qos=1 t \"3\"");
    assert!(!t.wants_commands());
}

#[test]
fn what_is_sent_again_counts_and_keeps_its_order() {
    let mut t = two_a_second();
    for (at, id) in [(0, 1), (0, 2), (500, 3), (1_000, 4)] {
        t.at(at);
        t.publish("t", 1, &id.to_string());
        t.sends(&format!("PUBLISH id={id} qos=1 t \"{id}\""));
    }
    t.at(2_000).loses_link().links_up().connack(true);
    let again = |id: u16| format!("PUBLISH id={id} qos=1 dup t \"{id}\"");
    t.sends_all(&[&again(1), &again(2)]).silent();
    t.at(2_499).silent();
    t.at(2_500).sends(&again(3)).silent();
    // Other packets leave at any time.
    t.receives(message(9, 1, "m"));
    let delivery = t.delivers("t \"m\"").unwrap();
    t.accept(delivery).sends("PUBACK 9").silent();
    t.at(3_000).sends(&again(4)).silent();
    assert!(!t.wants_commands());
    t.at(3_500);
    assert!(t.wants_commands());
}

#[test]
fn a_lost_link_stops_no_clock() {
    let mut t = two_a_second();
    for id in 1..=2 {
        t.publish("t", 1, "x");
        t.sends(&format!("PUBLISH id={id} qos=1 t \"x\""));
    }
    t.loses_link().at(5_000).links_up().connack(false);
    t.sends_all(&["PUBLISH id=3 qos=1 t \"x\"", "PUBLISH id=4 qos=1 t \"x\""]);
    assert!(!t.wants_commands());
}
