//! A full queue and many threads: each one has its turn. The real loop against a server that acknowledges
//! everything at once.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::acknowledger::acknowledge;
use crate::support::running::{Running, options, told};
use crate::support::{HANG, ScriptedBroker};
use mqtt_connection_sharing::{Publish, QoS};

/// How many messages each of these threads gets acknowledged, each waiting for one after the other, until
/// all of them have so many together.
fn turns(threads: usize, window: u16, together: u64) -> Vec<u64> {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.max_inflight = window;
    options.command_queue = 10;
    options.block_time = HANG;
    let (running, mut link) = Running::online_with(options, &mut broker);
    let server = acknowledge(&mut link);
    let total = Arc::new(AtomicU64::new(0));
    let start = Arc::new(Barrier::new(threads));
    let publishers: Vec<_> = (0..threads)
        .map(|_| {
            let handle = running.handle().clone();
            let (total, start) = (Arc::clone(&total), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let mut turns = 0;
                while total.load(Ordering::Relaxed) < together {
                    let message = Publish::new("fair", QoS::AtLeastOnce, "x");
                    let ticket = handle.publish(message).expect("no thread is refused");
                    assert!(told(ticket).is_delivered());
                    total.fetch_add(1, Ordering::Relaxed);
                    turns += 1;
                }
                turns
            })
        })
        .collect();
    let turns = publishers.into_iter().map(|p| p.join().unwrap()).collect();
    running.drop_all_and_join();
    drop(link);
    server.join().unwrap();
    turns
}

#[test]
fn at_a_full_queue_the_slowest_thread_has_half_the_turns_of_the_usual_one() {
    /// So many that the system's own choice of who runs next makes no difference.
    const TOGETHER: u64 = 30_000;
    for (threads, window) in [(200, 1), (60, 1), (60, 4)] {
        let mut turns = turns(threads, window, TOGETHER);
        turns.sort_unstable();
        let average = TOGETHER / threads as u64;
        let (slowest, usual) = (turns[0], turns[threads / 2]);
        let found = format!(
            "{threads} threads, window {window}: the slowest had {slowest} turns, half of them up to {usual}"
        );
        println!("{found}, all of them {average} on average");
        // If few threads have nearly all turns, half of them have hardly any.
        assert!(2 * slowest >= usual.max(average), "{found}");
    }
}
