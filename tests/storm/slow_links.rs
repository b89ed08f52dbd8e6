//! The storm (`support/storm.rs`) with large payloads on slow links: a message may take many times the
//! acknowledgment time-out, and longer than most links live.
//!
//! The long form has payloads up to 300 KB on links of 16 KB a second, cut every 2 to 10 seconds. It runs
//! when `STORM_MESSAGES` is set.

use std::time::Duration;

use mqtt_connection_sharing::Protocol;

use crate::support::storm::Storm;

#[test]
fn large_messages_get_through_slow_links_that_are_cut() {
    get_through(Protocol::V3_1_1);
}

#[test]
fn large_messages_get_through_slow_links_that_are_cut_with_mqtt_5() {
    get_through(Protocol::V5);
}

/// A message that takes long is not late while its bytes pass, and it is no reason to give anything up.
fn get_through(protocol: Protocol) {
    let _alone = crate::alone();
    let is_long = std::env::var_os("STORM_MESSAGES").is_some();
    let (largest, rate, cut_after) = match is_long {
        true => (300_000, 16_000, 32_000..160_000),
        false => (100_000, 64_000, 64_000..256_000),
    };
    let storm = Storm {
        protocol,
        round: 80,
        rounds: 1,
        time: Duration::MAX,
        kill_every: u64::MAX,
        forgets: false,
        cut_after,
        largest,
        rate: Some(rate),
        seed: 5,
    };
    let figures = storm.run(|_| {});
    println!("MQTT {protocol}: {figures}");
    assert!(figures.is_faultless(), "{figures}");
    assert_eq!(figures.delivered[1..], figures.messages[1..], "{figures}");
    assert!(figures.cuts > 0, "{figures}");
}
