//! No message is lost, no command stays open, no outcome is untrue: eight publishers and two subscribers
//! on one loop, random cuts, a broker that is killed. See `support/storm.rs`.
//!
//! The long form: `STORM_MESSAGES=1000000 cargo test --release --test storm torture -- --nocapture`

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::expect_used)]

use std::time::Duration;

use mqtt_connection_sharing::Protocol;

use crate::support::storm::{EARLY, Storm};

/// Messages of the short form.
const SHORT: u64 = 20_000;

#[test]
fn nothing_is_lost_unresolved_or_untrue() {
    torture(Protocol::V3_1_1);
}

#[test]
fn nothing_is_lost_unresolved_or_untrue_with_mqtt_5() {
    torture(Protocol::V5);
}

fn torture(protocol: Protocol) {
    let _alone = crate::alone();
    let messages = std::env::var("STORM_MESSAGES")
        .map_or(SHORT, |text| text.parse().expect("a number of messages"));
    // Four rounds in the short form; a hundred rounds with 25 kills in a million messages.
    let round = (messages / 4).min(EARLY);
    let rounds = messages.div_ceil(round);
    let kill_every = (rounds / 25).max(1);
    let storm = Storm {
        protocol,
        round,
        rounds,
        time: Duration::MAX,
        kill_every,
        forgets: false,
        cut_after: 1..300_000,
        largest: 0,
        rate: None,
        seed: 7,
    };
    let figures = storm.run(|_| {});
    println!("MQTT {protocol}: {figures}");
    assert!(figures.is_faultless(), "{figures}");
    assert!(figures.messages[1] >= messages, "{figures}");
    assert_eq!(figures.delivered[1], figures.messages[1], "{figures}");
    let ended = figures.delivered[2] + figures.with_session;
    assert_eq!(ended, figures.messages[2], "{figures}");
    // A QoS 0 message may get lost with a link, but that is the exception.
    assert!(figures.arrived[0] > figures.messages[0] / 2, "{figures}");
    assert!(figures.cuts >= messages / 1_000, "{figures}");
    assert!(figures.stalls > 0 && figures.slowed > 0, "{figures}");
    assert!(figures.ended > 0, "{figures}");
    assert!(figures.kills >= rounds / kill_every, "{figures}");
    // A tenth more than after the first ten thousand messages. Memory comes in pages and arenas, so the
    // short form has the same allowance although it is only twice as long.
    assert!(
        figures.memory_late * 10 <= figures.memory_early * 11,
        "{figures}"
    );
}
