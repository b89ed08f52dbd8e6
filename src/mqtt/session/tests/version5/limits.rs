//! The limits that CONNACK states: a command beyond one of them ends without being sent.

use std::num::NonZeroU32;

use super::super::Transcript;
use super::super::packets::{puback, pubcomp, pubrec, suback};
use super::{pubcomp5, unsuback5};
use crate::mqtt::packet::{ConnAck5, Filter, MessageProperties, Publish, QoS, SubscribeOptions};

const MAXIMUM_QOS: &str = "BrokerLimit(MaximumQos)";
const PACKET_SIZE: &str = "BrokerLimit(MaximumPacketSize)";

#[test]
fn no_message_is_above_the_maximum_qos_3_2_2_11() {
    for maximum in 0..3_usize {
        let mut t = Transcript::connected5(|c| c.maximum_qos = super::super::QOS[maximum]);
        for qos in 0..3 {
            let token = t.publish("t", qos, "x");
            let is_sent = t.sent5.pop_front().is_some();
            assert_eq!(is_sent, qos <= maximum, "{qos} of {maximum}");
            if !is_sent {
                t.resolved(token, &format!("never sent {MAXIMUM_QOS}"));
            }
        }
        // SUBSCRIBE may ask for any [MQTT-3.2.2-10].
        t.subscribe(&[("a", 2)]);
        assert!(t.sent5.pop_front().unwrap().ends_with(" a:2"));
        t.outcomes.clear();
        t.finish();
    }
}

#[test]
fn no_message_is_retained_where_the_broker_keeps_none_3_2_2_14() {
    let mut t = Transcript::connected5(|c| c.retain_available = false);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut publish = Publish::new("t", qos, "x");
        publish.retain = true;
        let token = t.publish_all(publish);
        t.resolved(token, "never sent BrokerLimit(RetainAvailable)")
            .silent();
    }
    let token = t.publish("t", 1, "x");
    t.sends("PUBLISH id=1 qos=1 t \"x\"").receives(puback(1));
    t.resolved(token, "delivered x1").finish();
}

/// Something that an application does.
type Act = Box<dyn Fn(&mut Transcript)>;

/// The length of the packet that this puts into the output.
fn length_of(act: impl FnOnce(&mut Transcript)) -> u32 {
    let mut t = Transcript::connected5(|_| {});
    t.stalls_after(0);
    act(&mut t);
    u32::try_from(t.session.output().len()).unwrap()
}

fn publishes(qos: usize, payload: usize, has_properties: bool) -> impl Fn(&mut Transcript) {
    move |t| {
        let mut publish = Publish::new("t/u", super::super::QOS[qos], vec![b'x'; payload]);
        if has_properties {
            publish = publish.with_properties(MessageProperties {
                expiry: Some(100),
                content_type: Some("text/plain".into()),
                user_properties: vec![("a".into(), "b".into())],
                ..MessageProperties::default()
            });
        }
        t.publish_all(publish);
    }
}

/// A packet of exactly the size that the broker states is sent, and none that is larger by a byte.
#[test]
fn no_packet_is_above_the_maximum_packet_size_3_2_2_15() {
    let identifier = |n| SubscribeOptions {
        identifier: NonZeroU32::new(n),
        ..SubscribeOptions::default()
    };
    let mut acts: Vec<Act> = Vec::new();
    for payload in [1, 20, 110, 119, 120, 121, 130, 16_370, 16_380, 20_000] {
        for qos in 0..3 {
            acts.push(Box::new(publishes(qos, payload, false)));
            acts.push(Box::new(publishes(qos, payload, true)));
        }
    }
    acts.push(Box::new(|t| _ = t.subscribe(&[("a/b", 1), ("c", 0)])));
    acts.push(Box::new(|t| _ = t.unsubscribe(&["a/b"])));
    for length in [100, 117, 118, 119, 120, 121, 122] {
        acts.push(Box::new(move |t| {
            _ = t.unsubscribe(&[&"a".repeat(length)]);
        }));
        acts.push(Box::new(move |t| {
            _ = t.subscribe(&[(&"a".repeat(length), 1)]);
        }));
    }
    for n in [1, 127, 128, 268_435_455] {
        acts.push(Box::new(move |t| {
            t.subscribe_with(vec![
                Filter::new("a", QoS::AtMostOnce).with_options(identifier(n)),
            ]);
        }));
    }
    for (number, act) in acts.iter().enumerate() {
        let length = length_of(act);
        for (most, is_sent) in [(length, true), (length - 1, false)] {
            let mut t = Transcript::connected5(|c| c.maximum_packet_size = Some(most));
            act(&mut t);
            assert_eq!(
                t.sent5.pop_front().is_some(),
                is_sent,
                "{number}: {length} of {most}"
            );
            match is_sent {
                true => t.outcomes.clear(),
                false => drop(t.resolved(0, &format!("never sent {PACKET_SIZE}"))),
            }
            t.finish();
        }
    }
}

/// The first packet was granted, and stays so.
#[test]
fn a_long_request_ends_where_one_of_its_packets_is_too_large() {
    let mut t = Transcript::connected5(|c| c.maximum_packet_size = Some(60));
    let long = "l".repeat(60);
    let mut filters: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"]
        .map(|f| (f, 0))
        .into();
    filters.push((&long, 0));
    let token = t.subscribe(&filters);
    t.sends("SUBSCRIBE id=1 a:0 b:0 c:0 d:0 e:0 f:0 g:0 h:0");
    t.receives(suback(1, &[Some(0); 8]));
    t.resolved(token, &format!("perhaps {PACKET_SIZE}"))
        .silent();
    t.reconnects5(false, |_| {}).renewing(8);
    t.sent5.clear();
    t.finish();
}

#[test]
fn no_filter_is_asked_for_that_the_broker_does_not_take() {
    type Limit = fn(&mut ConnAck5);
    let cases: [(Limit, &str, &str); 4] = [
        (|c| c.wildcard_available = false, "a/+", "WildcardAvailable"),
        (
            |c| c.wildcard_available = false,
            "$share/g/#",
            "WildcardAvailable",
        ),
        (
            |c| c.shared_available = false,
            "$share/g/a",
            "SharedAvailable",
        ),
        (
            |c| c.shared_available = false,
            "$share/g/+",
            "SharedAvailable",
        ),
    ];
    for (limit, filter, name) in cases {
        let mut t = Transcript::connected5(limit);
        let token = t.subscribe(&[("plain", 1), (filter, 1)]);
        t.resolved(token, &format!("never sent BrokerLimit({name})"))
            .silent();
        let token = t.subscribe(&[("plain", 1)]);
        t.sends("SUBSCRIBE id=1 plain:1")
            .receives(suback(1, &[Some(1)]));
        t.resolved(token, "delivered x1 [1]");
        // It may be left.
        t.unsubscribe(&[filter]);
        t.sends(&format!("UNSUBSCRIBE id=2 {filter}")).finish();
    }
}

#[test]
fn identifiers_of_subscriptions_are_left_out_where_the_broker_takes_none() {
    for (available, expected) in [
        (true, "SUBSCRIBE id=1 sub=7 a:1"),
        (false, "SUBSCRIBE id=1 a:1"),
    ] {
        let mut t = Transcript::connected5(|c| c.identifiers_available = available);
        let options = SubscribeOptions {
            identifier: NonZeroU32::new(7),
            ..SubscribeOptions::default()
        };
        t.subscribe_with(vec![
            Filter::new("a", QoS::AtLeastOnce).with_options(options),
        ]);
        t.sends(expected).finish();
    }
}

/// The next broker takes less. A message of QoS 2 that the session may hold is released, so that its identifier is free
/// on both sides.
#[test]
fn what_was_queued_before_a_reconnect_ends_at_the_limits_of_the_new_link() {
    let mut t = Transcript::connected5_with(|o| o.max_inflight_qos2 = 1, |_| {});
    let sent = t.publish("t", 2, "sent");
    let queued = t.publish("t", 2, "queued");
    let other = t.publish("t", 1, "other");
    t.sends("PUBLISH id=1 qos=2 t \"sent\"").silent();
    t.reconnects5(true, |c| c.maximum_qos = QoS::AtLeastOnce);
    t.resolved(sent, &format!("perhaps {MAXIMUM_QOS}"));
    t.sends("PUBREL 1");
    // Until then it is in use.
    t.receives(pubcomp5(1, 0x92));
    t.resolved(queued, &format!("never sent {MAXIMUM_QOS}"));
    t.sent5.retain(|sent| sent.starts_with("PUBLISH"));
    let id = t.sent5.pop_front().unwrap();
    let id: u16 = id["PUBLISH id=".len()..]
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    t.receives(puback(id))
        .resolved(other, "delivered x1")
        .finish();
}

/// The broker took the message before, and the exchange goes on.
#[test]
fn a_release_goes_on_whatever_the_broker_takes_now() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.publish("t", 2, "x");
    t.sends("PUBLISH id=1 qos=2 t \"x\"")
        .receives(pubrec(1))
        .sends("PUBREL 1");
    t.reconnects5(true, |c| c.maximum_qos = QoS::AtMostOnce)
        .sends("PUBREL 1");
    t.receives(pubcomp(1))
        .resolved(token, "delivered x1")
        .finish();
}

#[test]
fn a_renewal_that_the_broker_does_not_take_ends_its_subscription_alone() {
    let mut t = Transcript::connected5(|_| {});
    let asked = t.subscribe(&[("a", 1)]);
    t.sends("SUBSCRIBE id=1 a:1")
        .receives(suback(1, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1]");
    let asked = t.subscribe(&[("b/+", 1)]);
    t.sends("SUBSCRIBE id=2 b/+:1")
        .receives(suback(2, &[Some(1)]));
    t.resolved(asked, "delivered x1 [1]");
    t.reconnects5(false, |c| c.wildcard_available = false);
    t.sends("SUBSCRIBE id=3 a:1/rh1")
        .receives(suback(3, &[Some(1)]));
    t.notes("not renewed b/+").silent();
    assert!(t.session.is_subscribed("a") && !t.session.is_subscribed("b/+"));
    assert!(t.wants_commands());
    t.finish();
}

/// Eight together would be too large, and each alone is not.
#[test]
fn renewals_go_alone_where_they_are_too_large_together() {
    let mut t = Transcript::connected5(|_| {});
    let long = "l".repeat(40);
    let names: Vec<_> = (0..3).map(|n| format!("{long}{n}")).collect();
    let filters: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    t.subscribe(&filters);
    t.receives(suback(1, &[Some(1); 3])).outcomes.clear();
    t.sent5.clear();
    t.reconnects5(false, |c| c.maximum_packet_size = Some(60))
        .renewing(3);
    for (id, name) in (2..).zip(&names) {
        t.sends(&format!("SUBSCRIBE id={id} {name}:1/rh1"));
    }
    t.silent();
    for id in 2..5 {
        t.receives(suback(id, &[Some(1)]));
    }
    assert!(t.wants_commands());
    t.finish();
}

/// An identifier of its own keeps the first filter out of the packet of the next eight.
#[test]
fn renewals_behind_one_with_an_identifier_go_alone_where_they_are_too_large_together() {
    let mut t = Transcript::connected5(|_| {});
    let options = SubscribeOptions {
        identifier: NonZeroU32::new(1),
        ..SubscribeOptions::default()
    };
    let first = Filter::new("a", QoS::AtLeastOnce).with_options(options);
    t.subscribe_with(vec![first]);
    t.receives(suback(1, &[Some(1)]));
    let long = "l".repeat(40);
    let names = ["b", "c", "d", "e", "f", "g", "h", &long];
    t.subscribe(&names.map(|name| (name, 1)));
    t.receives(suback(2, &[Some(1); 8])).outcomes.clear();
    t.sent5.clear();
    t.reconnects5(false, |c| c.maximum_packet_size = Some(60))
        .renewing(9);
    t.sends("SUBSCRIBE id=3 sub=1 a:1/rh1");
    for (id, name) in (4..).zip(names) {
        t.sends(&format!("SUBSCRIBE id={id} {name}:1/rh1"));
    }
    t.silent();
    for id in 3..12 {
        t.receives(suback(id, &[Some(1)]));
    }
    assert!(t.wants_commands());
    t.finish();
}

#[test]
fn a_long_unsubscribe_goes_filter_by_filter_where_the_whole_is_too_large() {
    let mut t = Transcript::connected5(|c| c.maximum_packet_size = Some(40));
    let (a, b) = ("a".repeat(20), "b".repeat(20));
    for (id, filter) in [(1, &a), (2, &b)] {
        let token = t.subscribe(&[(filter, 1)]);
        t.sends(&format!("SUBSCRIBE id={id} {filter}:1"));
        t.receives(suback(id, &[Some(1)]));
        t.resolved(token, "delivered x1 [1]");
    }
    let token = t.unsubscribe(&[&a, &b]);
    t.sends(&format!("UNSUBSCRIBE id=3 {a}")).silent();
    t.receives(unsuback5(3, &[0]));
    t.sends(&format!("UNSUBSCRIBE id=4 {b}"));
    t.receives(unsuback5(4, &[0]));
    let outcome = t.outcomes.remove(&token);
    assert!(outcome.is_some_and(|outcome| outcome.is_delivered()));
    assert!(!t.session.is_subscribed(&a) && !t.session.is_subscribed(&b));
}

/// An UNSUBSCRIBE from `b` and a long filter waits for a SUBSCRIBE.
fn waiting_unsubscribe() -> (Transcript, String, u32) {
    let mut t = Transcript::connected5(|_| {});
    let long = "a".repeat(40);
    let asked = t.subscribe(&[(&long, 1), ("b", 1)]);
    t.sends(&format!("SUBSCRIBE id=1 {long}:1 b:1"));
    t.receives(suback(1, &[Some(1), Some(1)]));
    t.resolved(asked, "delivered x1 [1 1]");
    t.subscribe(&[(&long, 2)]);
    t.sends(&format!("SUBSCRIBE id=2 {long}:2"));
    let left = t.unsubscribe(&["b", &long]);
    t.silent();
    (t, long, left)
}

#[test]
fn an_unsubscribe_that_waits_until_no_packet_has_room_for_it_leaves_all_subscribed() {
    let (mut t, long, left) = waiting_unsubscribe();
    t.reconnects5(true, |c| c.maximum_packet_size = Some(40))
        .renewing(0);
    t.resolved(1, &format!("perhaps {PACKET_SIZE}"));
    t.resolved(left, &format!("never sent {PACKET_SIZE}"))
        .silent();
    assert!(t.session.is_subscribed("b") && t.session.is_subscribed(&long));
    // The broker has them.
    t.reconnects5(true, |_| {}).renewing(0).finish();
}

/// The broker has none of them any more, and is asked again for those that it takes. The end of the others is told.
#[test]
fn an_unsubscribe_that_waits_and_has_no_room_in_a_new_session_leaves_what_the_broker_takes() {
    let (mut t, long, left) = waiting_unsubscribe();
    t.reconnects5(false, |c| c.maximum_packet_size = Some(40))
        .renewing(0);
    t.resolved(1, &format!("perhaps {PACKET_SIZE}"));
    t.resolved(left, &format!("never sent {PACKET_SIZE}"))
        .notes(&format!("not renewed {long}"));
    t.sends("SUBSCRIBE id=5 b:1/rh1").silent();
    assert!(!t.wants_commands(), "nothing overtakes a renewal");
    t.receives(suback(5, &[Some(1)]));
    assert_eq!(t.renewed, ["b"]);
    assert!(t.session.is_subscribed("b") && !t.session.is_subscribed(&long));
    assert!(t.wants_commands());
    t.reconnects5(true, |_| {}).renewing(0).finish();
}

/// No link took a byte of it.
#[test]
fn an_unsubscribe_that_did_not_leave_and_has_no_room_leaves_all_subscribed() {
    let (mut t, long, left) = waiting_unsubscribe();
    t.stalled = true;
    t.receives(suback(2, &[Some(2)]))
        .resolved(1, "delivered x1 [2]");
    assert!(!t.session.is_subscribed(&long));
    t.loses_link().flows().links_up();
    t.accepted(true, |c| c.maximum_packet_size = Some(40));
    t.resolved(left, &format!("never sent {PACKET_SIZE}"))
        .silent();
    assert!(t.session.is_subscribed("b") && t.session.is_subscribed(&long));
    t.finish();
}

/// A CONNACK that never came may have begun a session, which the next link finds present.
#[test]
fn an_unsubscribe_that_has_no_room_leaves_what_the_broker_may_have_forgotten_owed() {
    let (mut t, long, left) = waiting_unsubscribe();
    t.loses_link().links_up().reconnects5(true, |c| {
        c.maximum_packet_size = Some(40);
    });
    t.renewing(0).resolved(1, &format!("perhaps {PACKET_SIZE}"));
    t.resolved(left, &format!("never sent {PACKET_SIZE}"))
        .notes(&format!("not renewed {long}"));
    t.sends("SUBSCRIBE id=4 b:1/rh1").silent();
    // Until it is granted again, it is owed.
    t.reconnects5(true, |_| {}).renewing(1);
    t.sends("SUBSCRIBE id=5 b:1/rh1");
    t.receives(suback(5, &[Some(1)])).silent();
    t.reconnects5(true, |_| {}).renewing(0).finish();
}

/// A grant that came while it waited is newer than the one that it took out.
#[test]
fn an_unsubscribe_that_has_no_room_leaves_what_was_granted_last() {
    for has_begun in [false, true] {
        let mut t = Transcript::connected5(|_| {});
        let long = "a".repeat(40);
        t.subscribe(&[(&long, 0), ("b", 0)]);
        t.receives(suback(1, &[Some(0), Some(0)]));
        t.subscribe(&[("b", 2)]);
        t.subscribe(&[(&long, 1)]);
        let left = t.unsubscribe(&["b", &long]);
        t.receives(suback(2, &[Some(2)]));
        if has_begun {
            // It is in the output, and no link takes a byte of it.
            t.stalled = true;
            t.receives(suback(3, &[Some(1)]));
        }
        t.sent5.clear();
        t.loses_link().flows().links_up();
        t.accepted(true, |c| c.maximum_packet_size = Some(40));
        t.renewing(0)
            .resolved(left, &format!("never sent {PACKET_SIZE}"))
            .outcomes
            .clear();
        t.silent().reconnects5(false, |_| {}).renewing(2);
        let qos = u8::from(has_begun);
        let renewal = t.sent5.pop_front().unwrap();
        assert!(
            renewal.ends_with(&format!(" {long}:{qos}/rh1 b:2/rh1")),
            "{renewal}"
        );
        t.outcomes.clear();
    }
}

#[test]
fn a_filter_that_no_unsubscribe_has_room_for_stays_subscribed() {
    let mut t = Transcript::connected5(|_| {});
    let long = "a".repeat(40);
    let token = t.subscribe(&[(&long, 1)]);
    t.sends(&format!("SUBSCRIBE id=1 {long}:1"));
    t.receives(suback(1, &[Some(1)]))
        .resolved(token, "delivered x1 [1]");
    t.reconnects5(true, |c| c.maximum_packet_size = Some(40))
        .renewing(0);
    let token = t.unsubscribe(&["b", &long]);
    t.resolved(token, &format!("never sent {PACKET_SIZE}"))
        .silent();
    assert!(t.session.is_subscribed(&long));
}

/// Nobody wants them any more: they are not renewed for ever, and those leave that a packet has room for.
#[test]
fn filters_that_were_left_stay_so_where_no_unsubscribe_has_room_for_one_of_them() {
    for (waits, has_other) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut t = Transcript::connected5(|_| {});
        let long = "a".repeat(40);
        let asked = t.subscribe(&[(&long, 1), ("b", 1)]);
        t.sends(&format!("SUBSCRIBE id=1 {long}:1 b:1"));
        t.receives(suback(1, &[Some(1), Some(1)]));
        t.resolved(asked, "delivered x1 [1 1]");
        let names = [long.as_str(), "b"];
        let names = &names[..1 + usize::from(has_other)];
        let left = waits.then(|| {
            t.subscribe(&[(&long, 2)]);
            t.sends(&format!("SUBSCRIBE id=2 {long}:2"));
            t.leave(names)
        });
        t.reconnects5(true, |c| c.maximum_packet_size = Some(40))
            .renewing(0);
        let left = left.unwrap_or_else(|| t.leave(names));
        if has_other {
            let id = 2 + u16::from(waits);
            t.sends(&format!("UNSUBSCRIBE id={id} b"));
            t.receives(unsuback5(id, &[0]))
                .resolved(left, "delivered x1 0x00 [0x00]");
        } else {
            t.resolved(left, &format!("never sent {PACKET_SIZE}"));
        }
        t.outcomes.clear();
        assert!(!t.session.is_subscribed(&long));
        assert_eq!(t.session.is_subscribed("b"), !has_other);
        t.silent().reconnects5(false, |_| {});
        t.renewing(usize::from(!has_other)).sent5.clear();
        t.finish();
    }
}

/// Nothing is left that has to be tried alone: the link goes on like any other, and takes commands.
#[test]
fn a_suspect_that_ends_at_a_limit_of_a_trial_link_ends_the_trials() {
    for has_other in [false, true] {
        let mut t = Transcript::connected5(|_| {});
        let other = has_other.then(|| t.publish("t", 1, "x"));
        let suspect = t.subscribe(&[("a/+", 1)]);
        for takes_wildcards in [true, true, false] {
            t.sent5.clear();
            t.reconnects5(true, |c| c.wildcard_available = takes_wildcards)
                .renewing(0);
        }
        t.stands_idle(250);
        if let Some(other) = other {
            t.sends("PUBLISH id=1 qos=1 dup t \"x\"").silent();
            t.receives(puback(1)).resolved(other, "delivered x4");
        }
        t.resolved(suspect, "perhaps BrokerLimit(WildcardAvailable)");
        t.silent();
        assert!(t.wants_commands());
        let next = [t.publish("t", 1, "y"), t.subscribe(&[("b", 1)])];
        let id = 2 + u16::from(has_other);
        t.sends(&format!("PUBLISH id={id} qos=1 t \"y\""))
            .sends(&format!("SUBSCRIBE id={} b:1", id + 1));
        t.receives(puback(id)).resolved(next[0], "delivered x1");
        t.receives(suback(id + 1, &[Some(1)]))
            .resolved(next[1], "delivered x1 [1]");
        t.finish();
    }
}

/// The broker grants what nobody wants any more while UNSUBSCRIBE waits, and takes no UNSUBSCRIBE of the other's length.
#[test]
fn a_grant_that_came_before_an_unsubscribe_that_is_sent_in_part_is_not_kept() {
    for present in [true, false] {
        let mut t = Transcript::connected5(|_| {});
        let long = "a".repeat(40);
        let asked = [t.subscribe(&[("b", 1)]), t.subscribe(&[(&long, 1)])];
        let left = t.leave(&["b", &long]);
        t.receives(suback(1, &[Some(1)]))
            .resolved(asked[0], "delivered x1 [1]");
        t.sent5.clear();
        t.reconnects5(present, |c| c.maximum_packet_size = Some(40));
        let mut id = 3;
        if !present {
            // It is renewed before UNSUBSCRIBE has its turn.
            t.sends("SUBSCRIBE id=3 b:1/rh1");
            t.receives(suback(id, &[Some(1)]));
            id += 2;
        }
        t.sends(&format!("UNSUBSCRIBE id={id} b"));
        assert!(!t.session.is_subscribed("b"));
        t.receives(unsuback5(id, &[0]))
            .resolved(left, "delivered x1 0x00 [0x00]");
        t.outcomes.clear();
        t.reconnects5(false, |_| {}).renewing(0);
    }
}
