//! The broker's reason codes, and what becomes of the command that they answer.

use super::super::Transcript;
use super::super::packets::{names, puback, pubcomp, pubrec, suback};
use super::{answered, puback5, pubcomp5, pubrec5, suback5, unsuback5};
use crate::mqtt::packet::{Answer, Answering, Details, ReasonCode};
use crate::mqtt::session::Reason;

#[test]
fn the_code_of_a_puback_is_in_the_outcome() {
    for (code, outcome) in [
        (0x10, "delivered x1 0x10"),
        (0x80, "refused [] 0x80"),
        (0x83, "refused [] 0x83"),
        (0x87, "refused [] 0x87"),
        (0x90, "refused [] 0x90"),
        (0x91, "refused [] 0x91"),
        (0x97, "refused [] 0x97"),
        (0x99, "refused [] 0x99"),
    ] {
        let mut t = Transcript::connected5(|_| {});
        let token = t.publish("t", 1, "x");
        t.sends("PUBLISH id=1 qos=1 t \"x\"").silent();
        t.receives(puback5(1, code)).resolved(token, outcome);
        t.receives(puback5(1, code)).silent();
        t.finish();
    }
}

#[test]
fn a_puback_without_a_code_says_no_more_than_yes() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    t.receives(puback(1))
        .resolved(token, "delivered x1")
        .finish();
}

#[test]
fn the_words_of_the_broker_come_with_its_code() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"");
    let details = Details {
        reason: Some("no such policy".into()),
        user_properties: vec![("a".into(), "b".into())],
    };
    let words = Answer::new(ReasonCode::new(0x87), details);
    t.receives(answered(Answering::PubAck, 1, words.clone()));
    let outcome = t.outcomes.remove(&token).unwrap();
    assert_eq!(outcome.answer(), Some(&words));
    t.finish();
}

/// No PUBREL follows, and the message is not sent again.
#[test]
fn a_failure_in_pubrec_ends_the_message_4_3_3_4() {
    for code in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        let mut t = Transcript::connected5(|_| {});
        let token = t.publish("t", 2, "x");
        t.sends("PUBLISH id=1 qos=2 t \"x\"").silent();
        t.receives(pubrec5(1, code));
        t.resolved(token, &format!("refused [] 0x{code:02X}"))
            .silent();
        assert_eq!(t.session.in_flight(), 0);
        t.reconnects5(true, |_| {}).silent();
        t.finish();
    }
}

#[test]
fn no_refused_message_is_sent_again_on_the_next_link_4_4_0_2() {
    for session_present in [true, false] {
        let mut t = Transcript::connected5(|_| {});
        let refused = t.publish("a", 1, "1");
        let kept = t.publish("a", 1, "2");
        let refused_too = t.publish("a", 2, "3");
        t.sent5.clear();
        t.receives(puback5(1, 0x97)).receives(pubrec5(3, 0x97));
        t.resolved(refused, "refused [] 0x97");
        t.resolved(refused_too, "refused [] 0x97");
        t.reconnects5(session_present, |_| {});
        let id = match session_present {
            true => {
                t.sends("PUBLISH id=2 qos=1 dup a \"2\"");
                2
            }
            false => {
                t.sends("PUBLISH id=4 qos=1 a \"2\"");
                4
            }
        };
        t.silent();
        t.receives(puback(id)).resolved(kept, "delivered x2");
        t.finish();
    }
}

/// A packet that only ends a message counts until the link is gone.
#[test]
fn a_failure_in_pubrec_counts_behind_our_disconnect_4_4_0_2() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish("t", 2, "x");
    t.sends("PUBLISH id=1 qos=2 t \"x\"");
    t.disconnect().sends("DISCONNECT");
    t.receives(pubrec5(1, 0x97));
    t.resolved(token, "refused [] 0x97").silent();
    t.reconnects5(true, |_| {}).silent();
    t.finish();
}

/// The broker has told it: the application is to know that nobody has the message.
#[test]
fn the_code_of_a_pubrec_that_succeeds_is_in_the_outcome() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish("t", 2, "x");
    t.sends("PUBLISH id=1 qos=2 t \"x\"");
    t.receives(pubrec5(1, 0x10)).sends("PUBREL 1").silent();
    t.reconnects5(true, |_| {}).sends("PUBREL 1");
    t.receives(pubcomp(1)).resolved(token, "delivered x1 0x10");
    t.finish();
}

/// The broker took the message with PUBREC.
#[test]
fn a_pubcomp_for_what_the_broker_does_not_know_any_more_ends_the_message() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish("t", 2, "x");
    t.sends("PUBLISH id=1 qos=2 t \"x\"");
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.receives(pubcomp5(1, 0x92));
    t.resolved(token, "delivered x1 0x92").finish();
}

#[test]
fn a_puback_for_qos_2_says_whether_the_message_was_refused() {
    for (code, outcome) in [
        (0x00, "perhaps AnsweredAsQos1"),
        (0x10, "perhaps AnsweredAsQos1"),
        (0x87, "refused [] 0x87"),
    ] {
        let mut t = Transcript::connected5(|_| {});
        let token = t.publish("t", 2, "x");
        t.sends("PUBLISH id=1 qos=2 t \"x\"");
        t.receives(puback5(1, code))
            .resolved(token, outcome)
            .finish();
    }
}

/// A broker that refuses a message of QoS 2 has answered one.
#[test]
fn a_broker_that_refuses_qos_2_does_not_lack_it() {
    let mut t = Transcript::connected5(|_| {});
    let first = t.publish("t", 2, "x");
    t.sends("PUBLISH id=1 qos=2 t \"x\"");
    t.receives(pubrec5(1, 0x97))
        .resolved(first, "refused [] 0x97");
    t.publish("t", 2, "y");
    t.sends("PUBLISH id=2 qos=2 t \"y\"");
    let unanswered = t.session.first_unanswered().unwrap();
    assert!(!unanswered.lacks_qos2);
    t.finish();
}

/// Plain SUBACKs and such that say more make one answer, a code for each filter in order.
#[test]
fn the_codes_of_a_long_subscribe_stand_in_the_order_of_its_filters_3_9_3_1() {
    let names = names(20);
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let mut t = Transcript::connected5(|_| {});
    let token = t.subscribe(&filters);
    t.receives(suback(1, &[Some(1); 8]));
    t.receives(suback5(2, &[0, 0x87, 1, 2, 0x97, 0, 0, 0]));
    t.receives(suback(3, &[Some(2); 4]));
    t.sent5.clear();
    let granted = [
        ["1"; 8].join(" "),
        "0 - 1 2 - 0 0 0".into(),
        ["2"; 4].join(" "),
    ]
    .join(" ");
    let codes = [
        ["0x01"; 8].join(" "),
        "0x00 0x87 0x01 0x02 0x97 0x00 0x00 0x00".into(),
        ["0x02"; 4].join(" "),
    ];
    let codes = codes.join(" ");
    t.resolved(token, &format!("refused [{granted}] 0x87 [{codes}]"));
    // Those that were granted are renewed.
    t.reconnects5(false, |_| {}).renewing(18);
    t.sent5.clear();
    t.finish();
}

#[test]
fn the_codes_of_a_long_unsubscribe_stand_in_the_order_of_its_filters_3_11_3_1() {
    let names = names(10);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut t = Transcript::connected5(|_| {});
    let token = t.unsubscribe(&names);
    t.sends("UNSUBSCRIBE id=1 f01 f02 f03 f04 f05 f06 f07 f08");
    t.receives(unsuback5(1, &[0, 0, 0, 0x11, 0, 0, 0, 0]));
    t.sends("UNSUBSCRIBE id=2 f09 f10").silent();
    t.receives(unsuback5(2, &[0x11, 0x87]));
    let first = "0x00 0x00 0x00 0x11 0x00 0x00 0x00 0x00";
    t.resolved(token, &format!("refused [] 0x87 [{first} 0x11 0x87]"));
    t.finish();
}

#[test]
fn an_unsubscribe_from_what_nobody_had_is_done() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.unsubscribe(&["a", "b"]);
    t.sends("UNSUBSCRIBE id=1 a b");
    t.receives(unsuback5(1, &[0, 0x11]));
    t.resolved(token, "delivered x1 0x00 [0x00 0x11]").finish();
}

/// The application does not want the filter any more, so that it is not renewed.
#[test]
fn an_unsubscribe_that_is_refused_says_so_and_renews_nothing() {
    let mut t = Transcript::connected5(|_| {});
    let asked = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=1 a:1")
        .receives(suback(1, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1]");
    let left = t.unsubscribe(&["a"]);
    t.sends("UNSUBSCRIBE id=2 a")
        .receives(unsuback5(2, &[0x87]));
    t.resolved(left, "refused [] 0x87 [0x87]");
    t.reconnects5(false, |_| {}).renewing(0).silent();
    t.finish();
}

#[test]
fn another_count_of_codes_is_a_protocol_error_3_9_3_1_3_11_3_1() {
    for codes in [&[0_u8][..], &[0, 0x87, 0]] {
        let mut t = Transcript::connected5(|_| {});
        let asked = t.subscribe(&[("a", 1), ("b", 1)]);
        t.sends("SUBSCRIBE id=1 a:1 b:1");
        assert_eq!(t.breaks_off(suback5(1, codes)), "MQTT-3.9.3-1");
        t.sends("DISCONNECT 0x82").silent();
        t.abandon().resolved(asked, "perhaps Terminated").finish();

        let mut t = Transcript::connected5(|_| {});
        let left = t.unsubscribe(&["a", "b"]);
        t.sends("UNSUBSCRIBE id=1 a b");
        assert_eq!(t.breaks_off(unsuback5(1, codes)), "MQTT-3.11.3-1");
        t.sends("DISCONNECT 0x82").silent();
        t.abandon().resolved(left, "perhaps Terminated").finish();
    }
}

/// A token that was told "refused" is told nothing more.
#[test]
fn what_was_refused_is_not_abandoned_too() {
    let mut t = Transcript::connected5(|_| {});
    let refused = t.publish("t", 2, "x");
    let open = t.publish("t", 2, "y");
    t.sent5.clear();
    t.receives(pubrec5(1, 0x80))
        .resolved(refused, "refused [] 0x80");
    t.session.abandon(Reason::Terminated);
    t.step();
    t.resolved(open, "perhaps Terminated").finish();
}
