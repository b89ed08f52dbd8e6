//! DISCONNECT, from either side; and packets that are for nothing of ours.

use super::super::Transcript;
use super::super::packets::{message, message_again, puback, pubcomp, pubrec, pubrel, suback};
use super::{connack5, disconnect5};
use crate::mqtt::packet::{ConnectTerms, Incoming, ReasonCode};
use crate::mqtt::session::{LinkEnd, SessionOptions};

#[test]
fn disconnect_comes_in_place_of_no_connack_3_14_0_1() {
    let mut t = Transcript::of_version5(|_| {});
    t.links_up();
    let error = t.session.handle_packet(disconnect5(0x87), t.now);
    assert_eq!(error.unwrap_err().rule(), "MQTT-3.14.0-1");
    // The broker has said its last word.
    assert!(!t.session.break_off(ReasonCode::PROTOCOL_ERROR));
    t.silent().finish();
}

#[test]
fn nothing_follows_a_disconnect_of_the_broker() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    t.receives(disconnect5(0x8b)).notes("close DISCONNECT 0x8B");
    assert!(!t.wants_commands() && !t.session.wants_requests());
    assert_eq!(t.next_timer(), None);
    // Nothing that comes behind it counts.
    t.receives(message(1, 1, "m"))
        .receives(pubrel(3))
        .receives(puback(1));
    t.receives(disconnect5(0x8b)).silent();
    assert!(
        !t.session
            .break_off(crate::mqtt::packet::ReasonCode::PROTOCOL_ERROR)
    );
    t.disconnect().silent();
    t.reconnects5(true, |_| {})
        .sends("PUBLISH id=1 qos=1 dup t \"x\"");
    t.receives(puback(1))
        .resolved(token, "delivered x2")
        .finish();
}

#[test]
fn a_disconnect_behind_ours_says_nothing_new() {
    let mut t = Transcript::connected5(|_| {});
    t.disconnect().sends("DISCONNECT");
    t.receives(disconnect5(0x8e)).silent();
    t.finish();
}

#[test]
fn a_disconnect_behind_a_refusal_says_nothing_new() {
    let mut t = Transcript::of_version5(|_| {});
    let refused = connack5(false, |c| {
        c.code = crate::mqtt::packet::ReasonCode::new(0x87)
    });
    t.links_up()
        .receives(refused)
        .notes("refused 0x87 (not authorized)");
    t.receives(disconnect5(0x87)).silent();
    t.finish();
}

/// It closes the link because of the message, as a broker of MQTT 3.1.1 does without a word.
#[test]
fn a_message_that_the_broker_always_disconnects_for_is_given_up() {
    let mut t =
        Transcript::connected5_with(|o| (o.suspected_after, o.given_up_after) = (2, 2), |_| {});
    let poison = t.publish("poison", 1, "x");
    let other = t.publish("t", 1, "y");
    t.sent5.clear();
    for _ in 0..12 {
        let is_sent = |t: &Transcript| t.sent5.iter().any(|sent| sent.contains(" poison "));
        if t.sent5.iter().any(|sent| sent == "PINGREQ") {
            t.receives(Incoming::PingResp);
            while !is_sent(&t) && t.outcomes.is_empty() {
                t.passes_one_timer();
            }
        }
        if t.outcomes.contains_key(&poison) {
            break;
        }
        t.sent5.clear();
        t.receives(disconnect5(0x87)).notes("close DISCONNECT 0x87");
        t.ends_link(LinkEnd::ByBroker)
            .links_up()
            .accepted(true, |_| {});
        t.connected = None;
    }
    t.resolved(poison, "perhaps Parked");
    assert_eq!(t.given_up, ["PUBLISH to \"poison\""]);
    t.sent5.clear();
    t.receives(puback(2));
    assert!(t.outcomes.remove(&other).unwrap().is_delivered());
    t.finish();
}

/// A broker that is shut down, or another client, has nothing against a message.
#[test]
fn links_that_end_for_another_cause_count_against_no_message() {
    let mut t =
        Transcript::connected5_with(|o| (o.suspected_after, o.given_up_after) = (1, 1), |_| {});
    let token = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    for _ in 0..5 {
        t.receives(disconnect5(0x8b)).notes("close DISCONNECT 0x8B");
        t.ends_link(LinkEnd::Otherwise)
            .links_up()
            .accepted(true, |_| {});
        t.sends("PUBLISH id=1 qos=1 dup t \"x\"");
    }
    t.receives(puback(1))
        .resolved(token, "delivered x6")
        .finish();
}

/// A transcript in which the broker may send two messages at one time.
fn that_takes_two(change: impl FnOnce(&mut SessionOptions)) -> Transcript {
    let mut t = Transcript::of_version5(change);
    t.terms = Some(ConnectTerms {
        receive_maximum: 2,
        ..t.terms.unwrap()
    });
    t.links_up().accepted(false, |_| {}).renewing(0);
    t
}

/// Brokers do so under load, and the standard does not force a client to close the link.
#[test]
fn more_messages_than_connect_says_are_taken_while_there_is_room_3_3_4_9() {
    let mut t = that_takes_two(|_| {});
    let mut deliveries = Vec::new();
    for (id, qos) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
        t.receives(message(id, qos, "m"));
        deliveries.extend(t.delivers("t \"m\""));
    }
    for (delivery, sent) in deliveries
        .into_iter()
        .zip(["PUBACK 1", "PUBREC 2", "PUBACK 3", "PUBREC 4"])
    {
        t.accept(delivery).sends(sent);
    }
    for id in [2, 4] {
        t.receives(pubrel(id)).sends(&format!("PUBCOMP {id}"));
    }
    t.silent().finish();
}

/// A message of one letter counts 258 bytes, and a quarter more than 600 bytes may wait.
#[test]
fn more_messages_than_connect_says_need_room_also_where_each_has_waited_before() {
    let mut t = that_takes_two(|o| o.max_waiting_bytes = 600);
    for (id, qos) in [(1, 1), (2, 2)] {
        t.receives(message(id, qos, "m")).delivers("t \"m\"");
    }
    assert_eq!(t.breaks_off(message(3, 1, "m")), "MQTT-3.3.4-9");
    t.sends("DISCONNECT 0x93").silent();
    t.terms = Some(ConnectTerms {
        receive_maximum: 1,
        ..t.terms.unwrap()
    });
    t.reconnects5(true, |_| {});
    // Those that are known cost nothing.
    t.receives(message_again(1, 1, "m"))
        .receives(message_again(2, 2, "m"))
        .silent();
    // Another message under an identifier that is in use costs as much as any.
    assert_eq!(t.breaks_off(message(1, 1, "n")), "MQTT-2.2.1-4");
    t.sends("DISCONNECT 0x82").silent();
    t.finish();
}

/// They would wait without end, and the number that CONNECT says would not bound them.
#[test]
fn messages_under_one_identifier_need_room_as_others_do_2_2_1_4() {
    for qos in [1, 2] {
        let mut t = that_takes_two(|o| o.max_waiting_bytes = 600);
        for payload in ["a", "b"] {
            t.receives(message(1, qos, payload));
            t.delivers(&format!("t {payload:?}"));
        }
        // The one that came last is known, and costs nothing.
        t.receives(message(1, qos, "b")).silent();
        assert_eq!(t.breaks_off(message(1, qos, "c")), "MQTT-2.2.1-4");
        t.sends("DISCONNECT 0x82").silent();
        t.finish();
    }
}

#[test]
fn more_messages_than_there_is_room_for_are_a_protocol_error_3_3_4_9() {
    let mut t = that_takes_two(|o| o.max_waiting_bytes = 400);
    t.receives(message(1, 1, "a")).receives(message(2, 2, "b"));
    let first = t.delivers("t \"a\"").unwrap();
    let second = t.delivers("t \"b\"").unwrap();
    // QoS 0 does not count.
    t.receives(message(0, 0, "c")).delivers("t \"c\"");
    t.accept(first).sends("PUBACK 1");
    t.receives(message(3, 1, "d")).delivers("t \"d\"");
    // Until PUBCOMP.
    t.accept(second).sends("PUBREC 2");
    assert_eq!(t.breaks_off(message(4, 1, "e")), "MQTT-3.3.4-9");
    t.sends("DISCONNECT 0x93").silent();
    // Each link counts anew.
    t.loses_link().links_up().sent5.clear();
    t.receives(connack5(false, |_| {}))
        .receives(message(5, 1, "f"));
    t.delivers("t \"f\"");
    t.receives(message(6, 2, "g")).delivers("t \"g\"");
    t.connected = None;
    t.finish();
}

#[test]
fn identifiers_that_are_not_known_are_answered_so_3_6_2_1_3_7_2_1() {
    let mut t = Transcript::connected5(|_| {});
    t.receives(pubrel(9)).sends("PUBCOMP 9 0x92");
    t.receives(pubrec(9)).sends("PUBREL 9 0x92").silent();
    t.receives(pubcomp(9)).silent();
    assert_eq!(t.session.in_flight(), 0);
    // An identifier that another packet has is not known either.
    let token = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    t.receives(pubrec(1)).sends("PUBREL 1 0x92");
    t.receives(pubcomp(1)).silent();
    t.receives(puback(1)).resolved(token, "delivered x1");
    let token = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=2 a:1");
    t.receives(pubrec(2)).sends("PUBREL 2 0x92").silent();
    t.receives(super::super::packets::suback(2, &[Some(1)]));
    t.resolved(token, "delivered x1 [1]").finish();
}

/// No link took a byte of it, and the broker takes one message at a time.
#[test]
fn a_pubrec_for_what_was_never_sent_is_not_known() {
    let mut t = Transcript::connected5(|_| {});
    t.stalls_after(0);
    let tokens = [t.publish("t", 2, "1"), t.publish("t", 2, "2")];
    t.loses_link().flows().links_up();
    t.accepted(true, |c| c.receive_maximum = 1);
    t.sends("PUBLISH id=1 qos=2 t \"1\"").silent();
    t.receives(pubrec(2)).sends("PUBREL 2 0x92");
    t.receives(pubcomp(2)).silent();
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.receives(pubcomp(1)).resolved(tokens[0], "delivered x1");
    t.sends("PUBLISH id=2 qos=2 t \"2\"").receives(pubrec(2));
    t.sends("PUBREL 2").receives(pubcomp(2));
    t.resolved(tokens[1], "delivered x1").finish();
}

/// A broker releases what PUBREC was sent for. Otherwise it could send messages without end while nobody reads them.
#[test]
fn a_pubrel_before_our_pubrec_is_a_protocol_error() {
    let mut t = Transcript::connected5(|_| {});
    t.receives(message(1, 2, "a")).delivers("t \"a\"");
    assert_eq!(t.breaks_off(pubrel(1)), "MQTT-4.3.3-4");
    t.sends("DISCONNECT 0x82").silent();
    t.finish();
}

#[test]
fn a_pubrel_for_a_message_of_qos_1_releases_nothing() {
    let mut t = Transcript::of_version5(|_| {});
    t.terms = Some(ConnectTerms {
        receive_maximum: 1,
        ..t.terms.unwrap()
    });
    t.links_up().accepted(false, |_| {}).renewing(0);
    t.receives(message(1, 1, "a"));
    let delivery = t.delivers("t \"a\"").unwrap();
    t.receives(pubrel(1)).sends("PUBCOMP 1 0x92").silent();
    t.accept(delivery).sends("PUBACK 1");
    t.receives(message(1, 1, "b")).delivers("t \"b\"");
    t.finish();
}

#[test]
fn a_second_connack_is_a_protocol_error_3_2_0_2() {
    let mut t = Transcript::connected5(|_| {});
    assert_eq!(t.breaks_off(connack5(false, |_| {})), "MQTT-3.2.0-2");
    t.sends("DISCONNECT 0x82").silent();
    t.finish();
}

#[test]
fn nothing_but_connack_comes_first_3_2_0_1() {
    for packet in [message(1, 1, "m"), puback(1), Incoming::PingResp] {
        let mut t = Transcript::of_version5(|_| {});
        t.links_up();
        assert_eq!(t.breaks_off(packet), "MQTT-3.2.0-1");
        t.sends("DISCONNECT 0x82").silent();
        t.finish();
    }
}

/// The broker may have begun a session that has none of the subscriptions, and the next link finds that session.
#[test]
fn what_breaks_off_before_connack_leaves_every_subscription_owed() {
    for breaks in [false, true] {
        let mut t = Transcript::connected5(|_| {});
        let token = t.subscribe(&[("a", 1)]);
        t.sends("SUBSCRIBE id=1 a:1")
            .receives(suback(1, &[Some(1)]));
        t.resolved(token, "delivered x1 [1]");
        t.loses_link().links_up();
        if breaks {
            t.breaks_off(message(1, 1, "m"));
            t.sends("DISCONNECT 0x82").silent();
        }
        t.reconnects5(true, |_| {}).renewing(1);
        t.sends("SUBSCRIBE id=2 a:1/rh1")
            .receives(suback(2, &[Some(1)]));
        assert!(t.session.is_subscribed("a"));
    }
}
