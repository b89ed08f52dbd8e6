//! SUBSCRIBE with options, and its renewal.

use std::num::NonZeroU32;

use super::super::Transcript;
use super::super::packets::suback;
use super::suback5;
use crate::mqtt::packet::{Filter, QoS, RetainHandling, SubscribeOptions};

fn filter(name: &str, identifier: u32) -> Filter {
    let options = SubscribeOptions {
        identifier: NonZeroU32::new(identifier),
        ..SubscribeOptions::default()
    };
    Filter::new(name, QoS::AtLeastOnce).with_options(options)
}

/// Retained messages come again only where the broker has no such subscription any more.
#[test]
fn a_renewal_keeps_its_options_and_asks_for_no_flood_of_retained_messages() {
    for (handling, first, renewed) in [
        (RetainHandling::Always, "", "/rh1"),
        (RetainHandling::IfNew, "/rh1", "/rh1"),
        (RetainHandling::Never, "/rh2", "/rh2"),
    ] {
        let mut t = Transcript::connected5(|_| {});
        let options = SubscribeOptions {
            no_local: true,
            retain_as_published: true,
            retain_handling: handling,
            identifier: NonZeroU32::new(7),
        };
        let token = t.subscribe_with(vec![
            Filter::new("a", QoS::ExactlyOnce).with_options(options),
        ]);
        t.sends(&format!("SUBSCRIBE id=1 sub=7 a:2/nl/rap{first}"));
        t.receives(suback(1, &[Some(1)]))
            .resolved(token, "delivered x1 [1]");
        for id in 2..5 {
            t.reconnects5(false, |_| {}).renewing(1);
            t.sends(&format!("SUBSCRIBE id={id} sub=7 a:2/nl/rap{renewed}"))
                .silent();
            t.receives(suback(id, &[Some(1)]));
        }
        // The application asks again: as it says.
        let token = t.subscribe_with(vec![
            Filter::new("a", QoS::ExactlyOnce).with_options(options),
        ]);
        t.sends(&format!("SUBSCRIBE id=5 sub=7 a:2/nl/rap{first}"));
        t.receives(suback(5, &[Some(2)]))
            .resolved(token, "delivered x1 [2]");
        t.finish();
    }
}

/// A SUBSCRIBE has one identifier for all of its filters.
#[test]
fn filters_with_other_identifiers_go_in_packets_of_their_own() {
    let mut t = Transcript::connected5(|_| {});
    let filters = ["a", "b", "c", "d"].into_iter().zip([1, 1, 2, 0]);
    let token = t.subscribe_with(filters.map(|(name, n)| filter(name, n)).collect());
    t.sends("SUBSCRIBE id=1 sub=1 a:1 b:1").silent();
    assert!(t.session.has_unsent(), "there is more to come");
    t.receives(suback(1, &[Some(1), Some(1)]));
    t.sends("SUBSCRIBE id=2 sub=2 c:1").silent();
    t.receives(suback5(2, &[0x87]))
        .sends("SUBSCRIBE id=3 d:1")
        .silent();
    assert!(!t.session.has_unsent());
    t.receives(suback(3, &[Some(1)]));
    t.resolved(token, "refused [1 1 - 1] 0x87 [0x01 0x01 0x87 0x01]");
    t.reconnects5(false, |_| {}).renewing(3);
    t.sends("SUBSCRIBE id=4 sub=1 a:1/rh1 b:1/rh1")
        .sends("SUBSCRIBE id=5 d:1/rh1")
        .silent();
    t.receives(suback(4, &[Some(1), Some(1)]))
        .receives(suback(5, &[Some(1)]));
    assert!(t.wants_commands());
    t.finish();
}

#[test]
fn a_renewal_that_is_refused_says_so() {
    let mut t = Transcript::connected5(|_| {});
    let token = t.subscribe(&[("a", 1), ("b", 1)]);
    t.sends("SUBSCRIBE id=1 a:1 b:1")
        .receives(suback(1, &[Some(1), Some(1)]));
    t.resolved(token, "delivered x1 [1 1]");
    t.reconnects5(false, |_| {}).renewing(2);
    t.sends("SUBSCRIBE id=2 a:1/rh1 b:1/rh1")
        .receives(suback5(2, &[0x97, 1]));
    t.notes("not renewed a").silent();
    assert!(!t.session.is_subscribed("a") && t.session.is_subscribed("b"));
    t.finish();
}

#[test]
fn a_long_subscribe_has_a_code_of_refusal_for_what_is_not_renewed() {
    let mut t = Transcript::connected5(|_| {});
    let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|name| (name, 1));
    let token = t.subscribe(&nine);
    t.receives(suback5(1, &[1, 0x97, 1, 1, 1, 1, 1, 1]));
    t.sent5.clear();
    t.reconnects5(false, |_| {}).renewing(7);
    t.sent5.clear();
    t.receives(suback5(3, &[0x87, 1, 1, 1, 1, 1, 1]));
    t.notes("not renewed a").sends("SUBSCRIBE id=4 i:1");
    t.receives(suback5(4, &[1]));
    let codes = "[0x80 0x97 0x01 0x01 0x01 0x01 0x01 0x01 0x01]";
    t.resolved(token, &format!("refused [- - 1 1 1 1 1 1 1] 0x80 {codes}"));
    t.finish();
}
