//! Publishing on a link that stays up: the three qualities of service, the window, identifiers.

use super::Transcript;
use super::packets::{puback, pubcomp, pubrec, suback, unsuback};
use crate::mqtt::packet::Incoming;
use crate::mqtt::session::{Outcome, SessionOptions};
use std::num::NonZeroU32;
use std::time::Duration;

#[test]
fn qos_0_is_done_once_its_bytes_are_out_4_3_1_1() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    let first = t.publish("a", 0, "x");
    let second = t.publish("b", 0, "y");
    // Two of the six bytes of the first.
    t.stalls_after(2).silent();
    t.stalls_after(4).sends("PUBLISH qos=0 a \"x\"");
    t.resolved(first, "delivered x1").silent();
    t.flows().sends("PUBLISH qos=0 b \"y\"");
    t.resolved(second, "delivered x1").finish();
}

#[test]
fn a_session_that_takes_no_more_is_a_full_window() {
    for limit in [1, 100, 65_519, 65_520, u16::MAX] {
        let mut t = Transcript::connected_with(|o| o.max_inflight = limit);
        let mut published = 0;
        while t.wants_commands() {
            t.publish("a", 1, "x");
            published += 1;
        }
        assert_eq!(published, limit.min(65_519));
        assert_eq!(published, t.session.window());
        t.sent.clear();
        t.finish();
    }
}

#[test]
fn as_many_messages_are_wanted_without_asking_again_as_are_wanted_with_asking() {
    let limited = |o: &mut SessionOptions| o.rate.publishes = NonZeroU32::new(5);
    let few = |o: &mut SessionOptions| (o.max_inflight, o.identifiers) = (7, 10);
    let many = |o: &mut SessionOptions| o.max_inflight = u16::MAX;
    let topic = "a".repeat(10);
    let payload = "x".repeat(77);
    for (mut t, most) in [
        (Transcript::connected_with(few), 7),
        (Transcript::connected_with(many), 256 * 1024 / 99),
        (Transcript::connected_with(limited), 1),
    ] {
        t.stalls_after(0);
        assert_eq!(t.session.wants_messages(), most);
        for qos in [0, 1].into_iter().cycle().take(most) {
            assert!(t.wants_commands());
            t.publish(&topic, qos, &payload);
        }
        if most == 7 {
            assert_eq!(t.session.wants_messages(), 4, "QoS 0 takes no place");
        }
    }
    let mut t = Transcript::connected_with(|o| o.max_inflight_qos2 = 1);
    t.publish("a", 2, "x");
    t.publish("a", 2, "x");
    assert_eq!(t.session.wants_messages(), 0, "one waits");
}

/// With one identifier in all it cannot be given before it was given back.
#[test]
fn mqtt_2_3_1_3_puback_pubcomp_suback_and_unsuback_free_the_identifier_and_nothing_else_does() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 1);
    for _ in 0..3 {
        let token = t.publish("a", 2, "x");
        t.sends("PUBLISH id=1 qos=2 a \"x\"");
        assert!(!t.wants_commands());
        t.receives(pubcomp(1)).receives(unsuback(1));
        assert!(!t.wants_commands());
        t.receives(pubrec(1)).sends("PUBREL 1");
        t.receives(puback(1)).receives(suback(1, &[Some(0)]));
        assert!(!t.wants_commands(), "PUBREC does not free it");
        t.receives(pubcomp(1)).resolved(token, "delivered x1");
        assert!(t.wants_commands());

        let token = t.subscribe(&[("s", 0)]);
        t.sends("SUBSCRIBE id=1 s:0");
        t.receives(puback(1))
            .receives(pubcomp(1))
            .receives(unsuback(1));
        assert!(!t.wants_commands());
        t.receives(suback(1, &[Some(0)]))
            .resolved(token, "delivered x1 [0]");
        assert!(t.wants_commands());

        let token = t.unsubscribe(&["s"]);
        t.sends("UNSUBSCRIBE id=1 s");
        t.receives(puback(1)).receives(suback(1, &[Some(0)]));
        assert!(!t.wants_commands());
        t.receives(unsuback(1)).resolved(token, "delivered x1");
        assert!(t.wants_commands());

        let token = t.publish("a", 1, "x");
        t.sends("PUBLISH id=1 qos=1 a \"x\"");
        t.receives(pubcomp(1)).receives(unsuback(1));
        assert!(!t.wants_commands());
        t.receives(puback(1)).resolved(token, "delivered x1");
        assert!(t.wants_commands());
    }
    t.finish();
}

#[test]
fn qos_1_is_delivered_by_puback_4_3_2_1() {
    let mut t = Transcript::connected();
    let token = t.at(10).publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"").silent();
    t.at(35).receives(puback(1));
    let latency = match &t.outcomes[&token] {
        Outcome::Delivered { latency, .. } => *latency,
        other => panic!("{other}"),
    };
    assert_eq!(latency, Duration::from_millis(25));
    t.resolved(token, "delivered x1").finish();
}

#[test]
fn qos_2_is_delivered_by_pubcomp_4_3_3_1() {
    let mut t = Transcript::connected();
    let token = t.publish("a", 2, "x");
    t.sends("PUBLISH id=1 qos=2 a \"x\"").silent();
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(pubcomp(1)).resolved(token, "delivered x1");
    t.finish();
}

#[test]
fn a_second_pubrec_is_answered_with_pubrel_again() {
    let mut t = Transcript::connected();
    let token = t.publish("a", 2, "x");
    t.sends("PUBLISH id=1 qos=2 a \"x\"");
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.receives(pubcomp(1)).resolved(token, "delivered x1");
    t.receives(pubcomp(1)).finish();
}

#[test]
fn pubrec_again_and_again_neither_piles_up_nor_puts_off_the_time_out() {
    let mut t = Transcript::connected();
    let token = t.publish("a", 2, "x");
    t.sends("PUBLISH id=1 qos=2 a \"x\"");
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.at(19_000).receives(pubrec(1)).sends("PUBREL 1");
    t.stalls_after(0);
    let mut times = 0;
    while !t.session.is_behind_with_acks() {
        times += 1;
        assert!(times < 1_000_000, "all of it is read");
        let again = t.session.handle_packet(pubrec(1), t.now);
        assert_eq!(again, Ok(()));
    }
    t.flows();
    assert!(!t.session.is_behind_with_acks());
    assert_eq!(t.sent.drain(..).count(), times);
    t.at(20_000).sends("PINGREQ");
    t.receives(Incoming::PingResp)
        .at(20_001)
        .notes("close AckTimeout 1");
    t.reconnects(true);
    t.sends("PUBREL 1").receives(pubcomp(1));
    t.resolved(token, "delivered x1").finish();
}

#[test]
fn acknowledgments_may_come_out_of_order() {
    let mut t = Transcript::in_flight(3);
    t.receives(puback(3)).resolved(2, "delivered x1").silent();
    t.receives(puback(1)).resolved(0, "delivered x1").silent();
    t.receives(puback(2)).resolved(1, "delivered x1").finish();
}

#[test]
fn row_05_many_packets_leave_together() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    t.subscribe(&[("f", 1)]);
    t.publish("a", 1, "x");
    t.publish("b", 0, "y");
    t.unsubscribe(&["g"]);
    t.ping();
    t.flows().sends_all(&[
        "SUBSCRIBE id=1 f:1",
        "PUBLISH id=2 qos=1 a \"x\"",
        "PUBLISH qos=0 b \"y\"",
        "UNSUBSCRIBE id=3 g",
        "PINGREQ",
    ]);
    t.resolved(2, "delivered x1").finish();
}

#[test]
fn row_12_a_full_window_leaves_commands_in_the_queue() {
    let mut t = Transcript::connected_with(|o| o.max_inflight = 3);
    for payload in ["1", "2", "3"] {
        assert!(t.wants_commands());
        t.publish("a", 2, payload);
    }
    assert!(!t.wants_commands());
    t.receives(pubrec(2));
    assert!(!t.wants_commands(), "PUBREC frees nothing");
    t.receives(pubcomp(2)).resolved(1, "delivered x1");
    assert!(t.wants_commands());
    t.publish("a", 1, "4");
    assert!(!t.wants_commands());
    t.sends_all(&[
        "PUBLISH id=1 qos=2 a \"1\"",
        "PUBLISH id=2 qos=2 a \"2\"",
        "PUBLISH id=3 qos=2 a \"3\"",
        "PUBREL 2",
        "PUBLISH id=4 qos=1 a \"4\"",
    ]);
    t.finish();
}

#[test]
fn row_12_no_command_is_taken_without_an_identifier_for_it_2_3_1_2() {
    // Two of eight are spared for what goes ahead of new commands.
    let mut t = Transcript::connected_with(|o| o.identifiers = 8);
    for _ in 0..6 {
        t.publish("a", 1, "x");
    }
    assert!(!t.wants_commands());
    t.receives(puback(2)).resolved(1, "delivered x1");
    t.sent.clear();
    for id in [7, 8, 2] {
        assert!(t.wants_commands());
        let token = t.publish("a", 1, "y");
        t.sends(&format!("PUBLISH id={id} qos=1 a \"y\""));
        assert!(!t.wants_commands());
        t.receives(puback(id)).resolved(token, "delivered x1");
    }
    t.finish();
}

#[test]
fn qos_2_has_a_window_of_its_own_from_publish_to_pubcomp_and_the_order_is_kept() {
    let mut t = Transcript::connected_with(|o| o.max_inflight_qos2 = 2);
    let first = t.publish("t", 2, "1");
    t.publish("t", 2, "2");
    t.publish("t", 1, "3");
    t.sends_all(&[
        "PUBLISH id=1 qos=2 t \"1\"",
        "PUBLISH id=2 qos=2 t \"2\"",
        "PUBLISH id=3 qos=1 t \"3\"",
    ]);
    // Nothing that comes behind the fourth may overtake it.
    let fourth = t.publish("t", 2, "4");
    t.silent();
    assert!(!t.wants_commands());
    t.receives(puback(3)).resolved(2, "delivered x1");
    t.receives(pubrec(1)).sends("PUBREL 1").silent();
    t.reconnects(true);
    t.sends_all(&["PUBREL 1", "PUBLISH id=2 qos=2 dup t \"2\""]);
    t.silent();
    assert!(!t.wants_commands() && t.session.has_unsent());
    t.receives(pubcomp(1)).resolved(first, "delivered x1");
    t.sends("PUBLISH id=4 qos=2 t \"4\"").silent();
    assert!(t.wants_commands());
    // Without the session nothing of it is left that counts, but for the one that was never sent.
    let fifth = t.publish("t", 2, "5");
    t.silent().reconnects(false);
    t.resolved(1, "perhaps SessionLost");
    t.resolved(fourth, "perhaps SessionLost");
    t.sends("PUBLISH id=5 qos=2 t \"5\"").silent();
    t.receives(pubrec(5)).receives(pubcomp(5));
    t.sends("PUBREL 5").resolved(fifth, "delivered x1");
    t.finish();
}

/// Of an earlier life, too: the broker counts them.
#[test]
fn an_unknown_message_that_is_released_takes_room_of_qos_2() {
    let mut t = Transcript::connected_with(|o| o.max_inflight_qos2 = 1);
    t.receives(pubrec(9)).sends("PUBREL 9");
    let token = t.publish("t", 2, "x");
    t.silent();
    t.receives(pubcomp(9)).sends("PUBLISH id=1 qos=2 t \"x\"");
    t.receives(pubrec(1)).receives(pubcomp(1)).sends("PUBREL 1");
    t.resolved(token, "delivered x1").finish();
}

/// Each message of QoS 2 makes room for one more.
#[test]
fn a_window_of_qos_2_smaller_than_the_queue_lets_everything_through() {
    let mut t = Transcript::connected_with(|o| o.max_inflight_qos2 = 3);
    let (mut taken, mut answered) = (0, 0);
    while answered < 600 {
        while taken < 600 && t.wants_commands() {
            t.publish("t", 2, "x");
            taken += 1;
        }
        assert!(taken <= answered + 4, "one waits behind the window");
        t.sent.clear();
        answered += 1;
        t.receives(pubrec(answered)).receives(pubcomp(answered));
    }
    t.outcomes.retain(|_, outcome| !outcome.is_delivered());
    t.sent.clear();
    t.finish();
}

#[test]
fn row_12_a_full_output_leaves_commands_in_the_queue() {
    let mut t = Transcript::connected();
    t.stalls_after(0);
    t.publish("a", 0, &"x".repeat(300_000));
    assert!(!t.wants_commands());
    t.flows();
    assert!(t.wants_commands());
    t.sent.clear();
    t.resolved(0, "delivered x1").finish();
}

#[test]
fn identifiers_go_round_and_pass_those_in_use_2_3_1_3() {
    let mut t = Transcript::connected_with(|o| o.identifiers = 8);
    for round in 0..3 {
        for id in 1..=8 {
            let token = t.publish("a", 1, "x");
            t.sends(&format!("PUBLISH id={id} qos=1 a \"x\""));
            t.receives(puback(id)).resolved(token, "delivered x1");
            assert_eq!(token, round * 8 + u32::from(id) - 1);
        }
    }
    let subscribe = t.subscribe(&[("f", 0)]);
    t.sends("SUBSCRIBE id=1 f:0");
    let unsubscribe = t.unsubscribe(&["g"]);
    t.sends("UNSUBSCRIBE id=2 g");
    t.publish("a", 2, "x");
    t.sends("PUBLISH id=3 qos=2 a \"x\"");
    t.receives(suback(1, &[Some(0)]));
    t.resolved(subscribe, "delivered x1 [0]");
    t.receives(unsuback(2));
    t.resolved(unsubscribe, "delivered x1").finish();
}

/// More messages than there are identifiers, while a command that was sent before them is not answered.
#[test]
fn an_identifier_in_use_is_passed_over_2_3_1_2() {
    for (what, window) in [(0, 100), (1, 100), (2, 100), (1, u16::MAX)] {
        let mut t = Transcript::connected_with(|o| o.max_inflight = window);
        let oldest = match what {
            0 => t.subscribe(&[("s", 1)]),
            qos => t.publish("s", qos, "first"),
        };
        t.sent.clear();
        for number in 1..=100_000 {
            assert!(t.wants_commands(), "standstill after {number}");
            let id = 2 + (number - 1) % 65_534;
            let token = t.publish("a", 1, "x");
            t.sends(&format!("PUBLISH id={id} qos=1 a \"x\""));
            t.receives(puback(u16::try_from(id).unwrap()));
            t.resolved(token, "delivered x1");
        }
        match what {
            0 => t.receives(suback(1, &[Some(1)])),
            1 => t.receives(puback(1)),
            _ => t.receives(pubrec(1)).sends("PUBREL 1").receives(pubcomp(1)),
        };
        let outcome = t.outcomes.remove(&oldest).unwrap();
        assert!(outcome.is_delivered(), "{outcome}");
        t.publish("a", 1, "y");
        let next = 2 + 100_000 % 65_534;
        t.sends(&format!("PUBLISH id={next} qos=1 a \"y\""));
        t.finish();
    }
}

#[test]
fn row_13_unsolicited_acknowledgments_are_ignored() {
    let mut t = Transcript::connected();
    for packet in [puback(1), pubcomp(1), unsuback(7), suback(9, &[None])] {
        t.receives(packet).silent();
    }
    let publish = t.publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"");
    // The right identifier under the wrong packet.
    for packet in [pubcomp(1), unsuback(1), suback(1, &[Some(1)])] {
        t.receives(packet).silent();
    }
    t.receives(puback(1)).resolved(publish, "delivered x1");
    t.receives(puback(1)).silent();
    let release = t.publish("a", 2, "x");
    t.sends("PUBLISH id=2 qos=2 a \"x\"");
    t.receives(pubcomp(2)).silent();
    t.receives(pubrec(2)).sends("PUBREL 2");
    t.receives(puback(2)).silent();
    t.receives(pubcomp(2)).resolved(release, "delivered x1");
    assert!(t.wants_commands());
    t.finish();
}

/// RabbitMQ has no QoS 2.
#[test]
fn puback_for_qos_2_ends_it_and_frees_its_identifier() {
    let mut t = Transcript::connected_with(|o| {
        o.identifiers = 4;
        o.max_inflight_qos2 = 1;
    });
    for id in [1, 2, 3, 4, 1, 2] {
        let token = t.publish("t", 2, "x");
        t.sends(&format!("PUBLISH id={id} qos=2 t \"x\""));
        assert!(t.session.first_unanswered().unwrap().lacks_qos2);
        t.receives(puback(id));
        t.resolved(token, "perhaps AnsweredAsQos1").silent();
        assert_eq!(t.session.in_flight(), 0);
        t.receives(puback(id)).silent();
    }
    // Behind PUBREC it is the answer to nothing.
    let token = t.publish("t", 2, "x");
    t.sends("PUBLISH id=3 qos=2 t \"x\"");
    t.receives(pubrec(3)).receives(puback(3)).sends("PUBREL 3");
    t.receives(pubcomp(3)).resolved(token, "delivered x1");
    // On a link that is about to go, too.
    let token = t.publish("t", 2, "x");
    t.disconnect().receives(puback(4));
    t.resolved(token, "perhaps AnsweredAsQos1");
    t.sends("PUBLISH id=4 qos=2 t \"x\"").sends("DISCONNECT");
    t.finish();
}

/// A broker that repeats PUBREC and reads nothing must not make the output grow without end. The loop reads
/// nothing more from the broker until it has taken the answers.
#[test]
fn answers_to_pubrec_that_are_not_taken_stop_the_reading() {
    let mut t = Transcript::connected();
    let token = t.publish("a", 2, "x");
    t.sends("PUBLISH id=1 qos=2 a \"x\"").stalls_after(0);
    let mut answers = 0;
    while !t.session.is_behind_with_acks() {
        assert!(answers < 300_000, "{} bytes", t.session.output().len());
        t.receives(pubrec(1));
        answers += 1;
    }
    // A broker that uses each identifier once never gets that far.
    assert!(answers > 3 * 65_535);
    t.flows();
    assert!(!t.session.is_behind_with_acks());
    for _ in 0..answers {
        t.sends("PUBREL 1");
    }
    t.receives(pubcomp(1)).resolved(token, "delivered x1");
    t.finish();
}
