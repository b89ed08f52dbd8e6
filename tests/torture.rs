//! Nothing is lost, nothing stays open, nothing untrue is told: eight publishers and two
//! subscribers on one loop, random cuts, a broker that is killed. See `support/storm.rs`.
//!
//! The long form: `STORM_MESSAGES=1000000 cargo test --release --test torture -- --nocapture`

mod support;

use std::time::Duration;

use support::storm::Storm;

/// Messages of the short form.
const SHORT: u64 = 20_000;

#[test]
fn nothing_is_lost_unresolved_or_untrue() {
    let messages = std::env::var("STORM_MESSAGES")
        .map_or(SHORT, |text| text.parse().expect("a number of messages"));
    // 20 kills in a million messages, three in the short form.
    let round = (messages / 40).clamp(SHORT / 4, SHORT);
    let rounds = messages.div_ceil(round);
    let kill_every = (rounds / 20).max(1);
    let storm = Storm {
        round,
        rounds,
        time: Duration::MAX,
        kill_every,
        cut_after: 1..300_000,
        seed: 1,
    };
    let figures = storm.rage(|_| {});
    println!("{figures}");
    assert!(figures.is_faultless(), "{figures}");
    assert_eq!(figures.delivered, figures.messages, "{figures}");
    assert!(figures.cuts >= figures.messages / 1_000, "{figures}");
    assert!(figures.ended > 0, "{figures}");
    assert!(figures.kills >= 3, "{figures}");
    assert!(
        figures.memory_late * 10 <= figures.memory_early * 11,
        "{figures}"
    );
}
