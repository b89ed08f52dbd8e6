//! The storm (`support/storm.rs`) with a broker that comes back without any session each time it was
//! killed.

use std::time::Duration;

use mqtt_connection_sharing::Protocol;

use crate::support::storm::Storm;

#[test]
fn a_broker_that_comes_back_without_the_session_costs_what_is_told_and_nothing_else() {
    forget(Protocol::V3_1_1);
}

#[test]
fn a_broker_of_mqtt_5_that_comes_back_without_the_session_costs_what_is_told_and_nothing_else() {
    forget(Protocol::V5);
}

/// The outcomes of messages in flight are true: those of QoS 1 are sent again, those of QoS 2 may have
/// arrived.
fn forget(protocol: Protocol) {
    let _alone = crate::alone();
    let storm = Storm {
        protocol,
        round: 2_000,
        rounds: 3,
        time: Duration::MAX,
        kill_every: 1,
        forgets: true,
        cut_after: 1..300_000,
        largest: 0,
        rate: None,
        seed: 11,
    };
    let figures = storm.run(|_| {});
    println!("MQTT {protocol}: {figures}");
    assert!(figures.is_faultless(), "{figures}");
    assert!(figures.with_session > 0, "{figures}");
    assert_eq!(figures.delivered[1], figures.messages[1], "{figures}");
    let ended = figures.delivered[2] + figures.with_session;
    assert_eq!(ended, figures.messages[2], "{figures}");
    // The loop never learns of a CONNACK that is cut off; the next one says that there is a session.
    let forgotten = figures.stats.reconnects - figures.stats.resumed;
    assert!((1..=3).contains(&forgotten), "{figures}");
}
