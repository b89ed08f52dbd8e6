//! Times: of messages, of the session, and the keep alive that the broker states.

use super::super::Transcript;
use super::super::packets::{message, puback, pubcomp, pubrec, pubrel, suback};
use super::connack5;
use crate::mqtt::packet::{MessageProperties, Publish, QoS};

fn expiring(payload: &str, seconds: u32) -> Publish {
    let properties = MessageProperties {
        expiry: Some(seconds),
        ..MessageProperties::default()
    };
    Publish::new("t", QoS::AtLeastOnce, payload.to_owned()).with_properties(properties)
}

#[test]
fn the_expiry_of_a_message_counts_while_it_waits() {
    let mut t = Transcript::with_quota(1);
    let first = t.publish_all(expiring("1", 10));
    let second = t.publish_all(expiring("2", 10));
    t.sends("PUBLISH id=1 qos=1 expiry=10 t \"1\"").silent();
    t.at(3_500)
        .receives(puback(1))
        .resolved(first, "delivered x1");
    t.sends("PUBLISH id=2 qos=1 expiry=7 t \"2\"");
    t.receives(puback(2))
        .resolved(second, "delivered x1")
        .finish();
}

#[test]
fn a_message_that_expires_before_it_is_sent_never_is() {
    let mut t = Transcript::with_quota(1);
    let first = t.publish_all(expiring("1", 100));
    let second = t.publish_all(expiring("2", 10));
    let third = t.publish_all(expiring("3", 11));
    t.sends("PUBLISH id=1 qos=1 expiry=100 t \"1\"").silent();
    t.at(10_000)
        .receives(puback(1))
        .resolved(first, "delivered x1");
    t.resolved(second, "never sent Expired");
    t.sends("PUBLISH id=3 qos=1 expiry=1 t \"3\"");
    t.receives(puback(3))
        .resolved(third, "delivered x1")
        .finish();
}

#[test]
fn a_message_of_qos_0_that_has_expired_is_not_sent() {
    let mut t = Transcript::connected5(|_| {});
    let mut publish = expiring("x", 1);
    publish.qos = QoS::AtMostOnce;
    let outgoing = crate::mqtt::outgoing::Outgoing::pushed(publish, t.now);
    t.at(1_000);
    t.open.insert(0);
    t.session.publish(outgoing, 0, t.now);
    t.step();
    t.resolved(0, "never sent Expired").finish();
}

/// It goes on with a second at least, and the broker decides.
#[test]
fn a_message_that_was_sent_does_not_expire_4_3_3_7() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish_all(expiring("x", 5));
    t.sends("PUBLISH id=1 qos=1 expiry=5 t \"x\"");
    t.at(4_001)
        .reconnects5(true, |_| {})
        .sends("PUBLISH id=1 qos=1 dup expiry=1 t \"x\"");
    t.at(8_000)
        .reconnects5(true, |_| {})
        .sends("PUBLISH id=1 qos=1 dup expiry=1 t \"x\"");
    t.at(9_000)
        .receives(puback(1))
        .resolved(token, "delivered x3")
        .finish();
}

#[test]
fn an_exchange_of_qos_2_goes_on_although_its_message_expired_4_3_3_7() {
    let mut t = Transcript::connected5(|_| {});
    let mut publish = expiring("x", 5);
    publish.qos = QoS::ExactlyOnce;
    let token = t.publish_all(publish);
    t.sends("PUBLISH id=1 qos=2 expiry=5 t \"x\"");
    t.at(6_000).receives(pubrec(1)).sends("PUBREL 1");
    t.receives(pubcomp(1))
        .resolved(token, "delivered x1")
        .finish();
}

/// A link that took no byte of it has not sent it.
#[test]
fn a_message_of_which_nothing_left_expires() {
    let mut t = Transcript::connected5(|_| {});
    t.stalls_after(0);
    let token = t.publish_all(expiring("x", 5));
    t.at(1_000).loses_link().flows();
    t.at(6_000).links_up().accepted(true, |_| {});
    t.resolved(token, "never sent Expired").silent();
    t.finish();
}

#[test]
fn the_session_ends_on_our_side_when_the_broker_keeps_it_no_longer_3_1_2_23() {
    let cases = [
        // As CONNECT asked, or as the broker says, and seconds offline after which there is none.
        (None, 3_600),
        (Some(60), 60),
        (Some(7_200), 7_200),
    ];
    for (said, seconds) in cases {
        for (offline, clean) in [(seconds - 1, 0), (seconds, 1)] {
            let mut t = Transcript::of_version5(|o| o.keep_alive = std::time::Duration::ZERO);
            assert!(
                !t.session.keeps_session(t.now),
                "the first connection of a process"
            );
            t.links_up()
                .accepted(false, |c| c.session_expiry = said)
                .renewing(0);
            t.at(5_000).loses_link().at(5_000 + offline * 1_000);
            assert_eq!(t.session.keeps_session(t.now), clean == 0);
            t.links_up().accepted(clean == 0, |_| {}).renewing(0);
            t.finish();
        }
    }
}

#[test]
fn a_session_without_end_is_kept_and_one_without_time_is_not() {
    for (said, is_kept) in [(u32::MAX, true), (0, false)] {
        let mut t = Transcript::connected5(|c| c.session_expiry = Some(said));
        assert!(t.session.keeps_session(t.now));
        t.loses_link();
        assert_eq!(t.session.keeps_session(t.now), is_kept);
        t.at(1_000_000_000);
        assert_eq!(t.session.keeps_session(t.now), is_kept);
        t.finish();
    }
}

/// A link that ends before CONNACK begins no new time.
#[test]
fn the_session_expires_from_the_end_of_its_last_connection_on() {
    let mut t = Transcript::connected5(|c| c.session_expiry = Some(10));
    t.loses_link()
        .at(6_000)
        .links_up()
        .at(7_000)
        .loses_link()
        .at(10_000);
    assert!(!t.session.keeps_session(t.now));
    t.finish();
}

#[test]
fn a_session_that_cannot_be_is_refused_3_2_2_2_3_2_2_4() {
    let mut t = Transcript::of_version5(|_| {});
    t.links_up();
    assert_eq!(t.breaks_off(connack5(true, |_| {})), "MQTT-3.2.2-2");
    t.sends("DISCONNECT 0x82").silent();
    t.finish();
}

/// Identifiers, messages that were received and those that are released: all is gone, and what is not acknowledged goes on
/// as new.
#[test]
fn a_session_that_the_broker_lost_is_discarded_3_2_2_5() {
    let mut t = Transcript::connected5(|_| {});
    t.receives(message(5, 2, "in"));
    let delivery = t.delivers("t \"in\"").unwrap();
    t.accept(delivery).sends("PUBREC 5");
    let released = t.publish("t", 2, "1");
    let unanswered = t.publish("t", 2, "2");
    let again = t.publish("t", 1, "3");
    t.sent5.clear();
    t.receives(pubrec(1)).sends("PUBREL 1");
    t.reconnects5(false, |_| {});
    t.resolved(released, "perhaps SessionLost");
    t.resolved(unanswered, "perhaps SessionLost");
    t.sends("PUBLISH id=4 qos=1 t \"3\"").silent();
    // Under the same identifier it is another message.
    t.receives(message(5, 2, "in"));
    let delivery = t.delivers("t \"in\"").unwrap();
    t.accept(delivery).sends("PUBREC 5");
    t.receives(pubrel(5)).sends("PUBCOMP 5");
    t.receives(puback(4))
        .resolved(again, "delivered x2")
        .finish();
}

#[test]
fn the_brokers_keep_alive_holds_in_place_of_ours_3_1_2_21_3_2_2_21() {
    let mut t = Transcript::connected5(|c| c.server_keep_alive = Some(20));
    assert_eq!(t.next_timer(), Some(19_000));
    t.at(19_000)
        .sends("PINGREQ")
        .receives(crate::mqtt::packet::Incoming::PingResp);
    // The next broker says nothing of it.
    t.at(21_000).reconnects5(true, |_| {});
    assert_eq!(t.next_timer(), Some(80_000));
    t.reconnects5(true, |c| c.server_keep_alive = Some(0));
    assert_eq!(t.next_timer(), None);
    t.reconnects5(true, |c| c.server_keep_alive = Some(600));
    assert_eq!(t.next_timer(), Some(620_000));
    t.finish();
}

#[test]
fn a_link_of_mqtt_3_1_1_has_our_keep_alive_again_and_no_limits() {
    let mut t = Transcript::connected5(|c| {
        c.server_keep_alive = Some(20);
        c.receive_maximum = 1;
        c.maximum_qos = QoS::AtMostOnce;
    });
    t.loses_link().terms = None;
    t.links_up().connack(false);
    assert_eq!(t.next_timer(), Some(59_000));
    let tokens = [t.publish("t", 2, "1"), t.publish("t", 1, "2")];
    t.sends("PUBLISH id=1 qos=2 t \"1\"")
        .sends("PUBLISH id=2 qos=1 t \"2\"");
    t.receives(puback(2)).resolved(tokens[1], "delivered x1");
    let asked = t.subscribe(&[("a/+", 1)]);
    t.sends("SUBSCRIBE id=3 a/+:1")
        .receives(suback(3, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1]");
    assert!(t.session.negotiated().is_none());
    t.finish();
}
