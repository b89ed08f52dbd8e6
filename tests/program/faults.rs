//! The demo over a network that fails: cut in the middle of the TLS handshake, of a packet, of anything;
//! stalled, slowed to single bytes, refused, dropped. A real Mosquitto over mutual TLS behind the proxy
//! of `src/local/proxy.rs`. Each run must succeed with nothing lost.
//!
//! With MQTT 5: `SUITE_MQTT=5 cargo test --test program faults::`

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::iter;
use std::ops::Range;
use std::time::Instant;

use crate::support::report::Run;
use crate::support::{Counting, Fate, HANG, Mosquitto, Program, Proxy, Random, Report, Running};

/// Mosquitto behind a proxy.
fn broker() -> (Mosquitto, Proxy) {
    let broker = Mosquitto::start_fast();
    let proxy = Proxy::start(broker.port()).unwrap();
    (broker, proxy)
}

/// One iteration of this many messages without pauses, with as many retries as it takes and hardly a
/// delay.
fn program(broker: &Mosquitto, proxy: &Proxy, count: u64) -> Program {
    Program::new()
        .args(broker.arguments_through(&proxy.address().to_string()))
        .args(["--client-id", "demo", "-v", "--output", "json"])
        .args(["--iterations", "1", "--publish-delay", "0"])
        .args(["--publish-count", &count.to_string()])
        .args(["--connect-interval", "0", "--retry-for", "0"])
        .args(["--retry-base", "1ms", "--retry-max", "5ms"])
}

/// A program whose messages come so slowly that the test can act in the middle.
fn slow_program(broker: &Mosquitto, proxy: &Proxy) -> Program {
    program(broker, proxy, SLOW_COUNT).args(["--publish-delay", "10ms"])
}

/// Messages of such a slow run, which lasts at least a second.
const SLOW_COUNT: u64 = 300;

/// A message far from the first and far from the last one of its publisher.
const MIDDLE: &str = "received filter/sync/30";

/// Cuts after random numbers of bytes in this range.
fn random_cuts(seed: u64, count: usize, bytes: Range<u64>) -> Vec<Fate> {
    let mut random = Random::new(seed);
    iter::repeat_with(|| Fate::cut_after(random.within(&bytes)))
        .take(count)
        .collect()
}

/// Checks that the run succeeded: status 0, all messages received.
#[track_caller]
fn came_through(running: Running, count: u64) -> Run {
    let done = running.finish();
    done.expect_code(0);
    assert!(!done.stderr.contains("panicked"), "{done}");
    let mut report = Report::of(&done);
    report.only_run().expect_complete(count);
    report.runs.remove(0)
}

/// Cuts each connection a little later than the one before, through the whole handshake and the first
/// packets. Does so for the connections that clear the session and again for those of the run.
fn cut_step_by_step(counting: Counting, last: u64) {
    let (broker, proxy) = broker();
    // The first bytes one by one: they are the headers of record and packet.
    let steps = (0..16).chain((16..last).step_by(61));
    let steps: Vec<Fate> = steps
        .map(|n| Fate::cut_after(n).counting(counting))
        .collect();
    let cuts = 2 * steps.len() as u64;
    proxy.decide([steps.clone(), steps].concat()).unwrap();
    // So many messages that the run does not end before the last cut.
    const COUNT: u64 = 2_000;
    let run = came_through(program(&broker, &proxy, COUNT).spawn(), COUNT);
    let counts = proxy.counts();
    // A connection that had nothing more to do may have closed before its cut.
    assert!(counts.cuts() + 3 >= cuts, "{} of {cuts}", counts.cuts());
    assert!(counts.connections() > cuts, "{run:?}");
}

#[test]
fn a_run_survives_a_cut_at_any_byte_of_the_handshake_in_either_direction() {
    cut_step_by_step(Counting::Both, 6_000);
}

#[test]
fn a_run_survives_a_cut_at_any_byte_that_the_program_sends() {
    cut_step_by_step(Counting::FromClient, 3_000);
}

#[test]
fn a_run_survives_a_cut_at_any_byte_that_the_broker_sends() {
    cut_step_by_step(Counting::FromBroker, 4_000);
}

#[test]
fn a_run_survives_cuts_anywhere_in_the_traffic() {
    for seed in 1..=4 {
        let (broker, proxy) = broker();
        // The cuts come to an end: Mosquitto 2.0 sends its whole backlog after each reconnect, which may
        // be more than passes between two cuts.
        proxy.decide(random_cuts(seed, 30, 1..40_000)).unwrap();
        let run = came_through(program(&broker, &proxy, 2_000).spawn(), 2_000);
        assert!(proxy.counts().cuts() >= 4, "seed {seed}: {run:?}");
        assert!(run.reconnects >= 1, "seed {seed}: {run:?}");
    }
}

#[test]
fn cuts_anywhere_make_no_message_of_quality_of_service_2_come_twice() {
    for seed in 5..=8 {
        let (broker, proxy) = broker();
        // The cuts are so far apart that all messages of the broker get through between them. After two
        // losses in a row Mosquitto 2.0 forgets that it has sent PUBREL and sends the message anew,
        // which it must not [MQTT-4.3.3-1]. No client can tell that from a new message.
        proxy
            .decide(random_cuts(seed, 10, 120_000..200_000))
            .unwrap();
        let program = program(&broker, &proxy, 1_000).args(["--qos", "2"]);
        let run = came_through(program.spawn(), 1_000);
        assert!(run.reconnects >= 1, "seed {seed}: {run:?}");
        assert_eq!(run.duplicated, 0, "seed {seed}: {run:?}");
    }
}

#[test]
fn a_run_survives_one_byte_at_a_time() {
    let (broker, proxy) = broker();
    proxy
        .decide(iter::repeat(Fate::pass().one_byte_at_a_time()))
        .unwrap();
    let run = came_through(program(&broker, &proxy, 500).spawn(), 500);
    run.expect_smooth(500);
    assert_eq!(proxy.counts().cuts(), 0);
}

#[test]
fn a_link_that_falls_silent_in_the_traffic_is_noticed_by_the_missing_acknowledgment() {
    let (broker, proxy) = broker();
    let program =
        slow_program(&broker, &proxy).args(["--ack-timeout", "1s", "--keep-alive", "60s"]);
    let mut running = program.spawn();
    running.wait_for_line(MIDDLE);
    proxy.stall_all().unwrap();
    let line = running.wait_for_line(" lost after ");
    assert!(line.contains("acknowledgment"), "{line}");
    let run = came_through(running, SLOW_COUNT);
    assert_eq!((run.reconnects, run.resumed), (1, 1), "{run:?}");
}

/// `src/mqtt/session/tests/timing.rs` holds the time to one and a half times the keep alive. Here the machine may have
/// other things to do; only the acknowledgment time-out would take longer than a hang.
#[test]
fn a_link_that_falls_silent_is_noticed_by_the_pingreq_that_nothing_answers() {
    let (broker, proxy) = broker();
    let program =
        slow_program(&broker, &proxy).args(["--keep-alive", "6s", "--ack-timeout", "60s"]);
    let mut running = program.spawn();
    running.wait_for_line(MIDDLE);
    let begin = Instant::now();
    proxy.stall_all().unwrap();
    let line = running.wait_for_line(" lost after ");
    let took = begin.elapsed();
    assert!(line.contains("PINGREQ"), "{line}");
    assert!(took < HANG, "{took:?}");
    came_through(running, SLOW_COUNT);
}

#[test]
fn a_link_that_falls_silent_in_the_handshake_is_tried_anew() {
    let (broker, proxy) = broker();
    let steps = [0, 1, 200, 1_000, 2_500].map(Fate::stall_after);
    let stalls = steps.len() as u64;
    proxy.decide(steps).unwrap();
    let program = program(&broker, &proxy, 50).args(["--connect-timeout", "500ms"]);
    let mut running = program.spawn();
    for _ in 0..stalls {
        running.wait_for_line("trying again in");
    }
    came_through(running, 50);
    assert_eq!(proxy.counts().stalls(), stalls);
}

#[test]
fn a_run_survives_a_broker_that_refuses_connections_for_a_while() {
    let (broker, proxy) = broker();
    proxy.refuse().unwrap();
    let mut running = slow_program(&broker, &proxy).spawn();
    for _ in 0..5 {
        running.wait_for_line("nothing listens on that port");
    }
    proxy.listen().unwrap();
    running.wait_for_line(MIDDLE);
    proxy.refuse().unwrap();
    proxy.cut_all().unwrap();
    for _ in 0..5 {
        running.wait_for_line("nothing listens on that port");
    }
    proxy.listen().unwrap();
    let run = came_through(running, SLOW_COUNT);
    assert_eq!((run.reconnects, run.resumed), (1, 1), "{run:?}");
}

#[test]
fn a_run_survives_a_broker_that_accepts_and_drops_for_a_while() {
    let (broker, proxy) = broker();
    proxy.decide(iter::repeat(Fate::cut_after(0))).unwrap();
    let mut running = slow_program(&broker, &proxy).spawn();
    for _ in 0..5 {
        running.wait_for_line("trying again in");
    }
    proxy.decide([]).unwrap();
    running.wait_for_line(MIDDLE);
    proxy.decide(iter::repeat(Fate::cut_after(0))).unwrap();
    proxy.cut_all().unwrap();
    for _ in 0..5 {
        running.wait_for_line("trying again in");
    }
    proxy.decide([]).unwrap();
    let run = came_through(running, SLOW_COUNT);
    assert_eq!((run.reconnects, run.resumed), (1, 1), "{run:?}");
}
