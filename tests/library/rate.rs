//! A broker with a limited rate: the loop keeps to it, and publishers wait at the queue.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::support::acknowledger::acknowledge;
use crate::support::running::{Running, options};
use crate::support::{HANG, ScriptedBroker};
use mqtt_connection_sharing::{Batch, Publish, QoS};

#[test]
fn messages_leave_no_faster_than_the_broker_takes_them() {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.limits.rate.publishes = NonZeroU32::new(50);
    options.command_queue = 5;
    let begin = Instant::now();
    let (running, mut link) = Running::online_with(options, &mut broker);
    let server = acknowledge(&mut link);
    let mut batch = Batch::new();
    for _ in 0..75 {
        let message = Publish::new("rate", QoS::AtLeastOnce, "x");
        let pushed = running.handle().publish_in(message, &mut batch);
        pushed.expect("room in time");
    }
    let undelivered = batch.wait_timeout(HANG).expect("all have ended");
    assert!(undelivered.is_empty());
    // Fifty at once, and one each 20 ms after that.
    assert!(begin.elapsed() >= Duration::from_millis(25 * 20));
    let stats = running.handle().stats();
    assert!(!stats.rate_limited.is_zero(), "{stats:?}");
    assert!(stats.rate_limited <= stats.online, "{stats:?}");
    assert!(stats.rate_limited_share() > 0.0, "{stats:?}");
    running.drop_all_and_join();
    drop(link);
    assert_eq!(server.join().unwrap().publishes, 75);
}
