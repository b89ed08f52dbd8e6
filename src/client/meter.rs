//! Counts that the loop's thread keeps while it runs, and that any thread may read.
//!
//! One thread writes. So counting is a plain load and a plain store: no locked instruction, no lock and no allocation.
//! The counts order nothing, so everything is relaxed: a reader sees each count some time after it changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::latencies::{Latencies, RANGES, range_of};
use crate::client::stats::Stats;
use crate::mqtt::session::Outcome;

/// A number with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, more: u64) {
        self.set(self.get() + more);
    }

    pub(crate) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// Adds a time to one that is counted in nanoseconds.
    pub(crate) fn add_time(&self, more: Duration) {
        self.add(nanoseconds(more));
    }

    /// Keeps the larger number.
    pub(crate) fn raise(&self, number: u64) {
        if self.get() < number {
            self.set(number);
        }
    }
}

/// A time with one writer, which any thread reads while it runs. One word has it all, so that no reader sees one half
/// of a change: nanoseconds, and whether it runs. While it runs they are those from the beginning that do not count.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    begin: Instant,
    word: Count,
}

impl Stopwatch {
    const RUNS: u64 = 1 << 63;

    fn new(now: Instant) -> Self {
        Stopwatch {
            begin: now,
            word: Count::default(),
        }
    }

    /// The time runs from now on. Does nothing if it does already.
    pub(crate) fn start(&self, now: Instant) {
        let word = self.word.get();
        if word & Self::RUNS == 0 {
            let uncounted = self.since_begin(now).saturating_sub(word);
            self.word.set(uncounted | Self::RUNS);
        }
    }

    /// The time stands from now on.
    pub(crate) fn stop(&self, now: Instant) {
        self.word.set(self.nanoseconds(now));
    }

    fn read(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.nanoseconds(now))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let word = self.word.get();
        match word & Self::RUNS {
            0 => word,
            _ => self.since_begin(now).saturating_sub(word & !Self::RUNS),
        }
    }

    fn since_begin(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.begin))
    }
}

/// They fit for 292 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).map_or(!Stopwatch::RUNS, |time| time & !Stopwatch::RUNS)
}

/// The counts, named as in [`Stats`].
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) connects: Count,
    pub(crate) reconnects: Count,
    pub(crate) losses: Count,
    pub(crate) resumed: Count,
    pub(crate) resubscribed: Count,
    pub(crate) held_back: Count,
    pub(crate) unmatched_dropped: Count,
    pub(crate) too_large: Count,
    pub(crate) responses: Count,
    pub(crate) late_responses: Count,
    pub(crate) unknown_responses: Count,
    pub(crate) messages_sent: Count,
    /// The loop ends its portions by it.
    pub(crate) messages_received: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) bytes_received: Count,
    pub(crate) packets_sent: Count,
    pub(crate) packets_received: Count,
    pub(crate) writes: Count,
    pub(crate) queued_most: Count,
    pub(crate) in_flight: Count,
    pub(crate) in_flight_most: Count,
    pub(crate) waiting_messages: Count,
    pub(crate) waiting_bytes: Count,
    pub(crate) online: Stopwatch,
    /// In nanoseconds.
    pub(crate) rate_limited: Count,
    delivered: Count,
    refused: Count,
    perhaps_delivered: Count,
    never_sent: Count,
    cancelled: Count,
    latencies: [Count; RANGES],
}

/// The loop's end. There is one for each loop, and the loop's thread alone has it.
#[derive(Debug)]
pub(crate) struct Meter(Arc<Counts>);

/// The threads' end.
#[derive(Debug, Clone)]
pub(crate) struct MeterReader(Arc<Counts>);

/// All counts at zero.
pub(crate) fn meter() -> (Meter, MeterReader) {
    let counts = Arc::new(Counts {
        connects: Count::default(),
        reconnects: Count::default(),
        losses: Count::default(),
        resumed: Count::default(),
        resubscribed: Count::default(),
        held_back: Count::default(),
        unmatched_dropped: Count::default(),
        too_large: Count::default(),
        responses: Count::default(),
        late_responses: Count::default(),
        unknown_responses: Count::default(),
        messages_sent: Count::default(),
        messages_received: Count::default(),
        bytes_sent: Count::default(),
        bytes_received: Count::default(),
        packets_sent: Count::default(),
        packets_received: Count::default(),
        writes: Count::default(),
        queued_most: Count::default(),
        in_flight: Count::default(),
        in_flight_most: Count::default(),
        waiting_messages: Count::default(),
        waiting_bytes: Count::default(),
        online: Stopwatch::new(Instant::now()),
        rate_limited: Count::default(),
        delivered: Count::default(),
        refused: Count::default(),
        perhaps_delivered: Count::default(),
        never_sent: Count::default(),
        cancelled: Count::default(),
        latencies: std::array::from_fn(|_| Count::default()),
    });
    (Meter(Arc::clone(&counts)), MeterReader(counts))
}

impl Meter {
    /// The last snapshot, of a loop that ends: nothing is queued any more.
    pub(crate) fn read(&self) -> Stats {
        self.0.read(0)
    }
}

impl Drop for Meter {
    /// Also when the loop panics: the time online stands from then on.
    fn drop(&mut self) {
        self.online.stop(Instant::now());
    }
}

impl std::ops::Deref for Meter {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.0
    }
}

impl Counts {
    /// A command has ended. `answered` says that the broker acknowledged it.
    pub(crate) fn command_ended(&self, outcome: &Outcome, answered: bool) {
        let count = match outcome {
            Outcome::Delivered { latency, .. } => {
                if answered {
                    self.latencies[range_of(*latency)].add(1);
                }
                &self.delivered
            }
            Outcome::Refused { .. } => &self.refused,
            Outcome::PerhapsDelivered(_) => &self.perhaps_delivered,
            Outcome::NeverSent(_) => &self.never_sent,
            Outcome::Cancelled(_) => &self.cancelled,
        };
        count.add(1);
    }
}

impl MeterReader {
    /// A snapshot, with so many commands in the queue.
    pub(crate) fn read(&self, queued: usize) -> Stats {
        self.0.read(queued)
    }
}

impl Counts {
    fn read(&self, queued: usize) -> Stats {
        let mut latencies = Box::new([0; RANGES]);
        for (copy, count) in latencies.iter_mut().zip(&self.latencies) {
            *copy = count.get();
        }
        let queued = queued as u64;
        Stats {
            connects: self.connects.get(),
            reconnects: self.reconnects.get(),
            losses: self.losses.get(),
            resumed: self.resumed.get(),
            resubscribed: self.resubscribed.get(),
            held_back: self.held_back.get(),
            unmatched_dropped: self.unmatched_dropped.get(),
            too_large: self.too_large.get(),
            responses: self.responses.get(),
            late_responses: self.late_responses.get(),
            unknown_responses: self.unknown_responses.get(),
            delivered: self.delivered.get(),
            refused: self.refused.get(),
            perhaps_delivered: self.perhaps_delivered.get(),
            never_sent: self.never_sent.get(),
            cancelled: self.cancelled.get(),
            messages_sent: self.messages_sent.get(),
            messages_received: self.messages_received.get(),
            bytes_sent: self.bytes_sent.get(),
            bytes_received: self.bytes_received.get(),
            packets_sent: self.packets_sent.get(),
            packets_received: self.packets_received.get(),
            writes: self.writes.get(),
            queued,
            queued_most: self.queued_most.get().max(queued),
            in_flight: self.in_flight.get(),
            in_flight_most: self.in_flight_most.get(),
            waiting_messages: self.waiting_messages.get(),
            waiting_bytes: self.waiting_bytes.get(),
            online: self.online.read(Instant::now()),
            rate_limited: Duration::from_nanos(self.rate_limited.get()),
            latencies: Latencies::new(latencies),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::mqtt::session::Reason;

    #[test]
    fn each_command_counts_once_by_its_outcome_and_an_acknowledgment_with_its_latency() {
        let (meter, reader) = meter();
        let latency = Duration::from_micros(100);
        meter.command_ended(&Outcome::delivered(1, latency), true);
        meter.command_ended(&Outcome::delivered(1, latency), false);
        meter.command_ended(&Outcome::NeverSent(Reason::LinkLost), false);
        meter.command_ended(&Outcome::PerhapsDelivered(Reason::LinkLost), false);
        meter.command_ended(&Outcome::Cancelled(Reason::LinkLost), false);
        let granted = vec![None];
        meter.command_ended(
            &Outcome::Refused {
                granted,
                answer: None,
            },
            true,
        );
        let stats = reader.read(3);
        let by_outcome = [
            stats.delivered,
            stats.refused,
            stats.perhaps_delivered,
            stats.never_sent,
            stats.cancelled,
        ];
        assert_eq!(by_outcome, [2, 1, 1, 1, 1]);
        assert_eq!(stats.latencies.count(), 1, "of those that were delivered");
        assert_eq!(
            stats.latencies.quantile(1.0),
            Some(Duration::from_micros(104))
        );
        assert_eq!((stats.queued, stats.queued_most), (3, 3));
        meter.queued_most.raise(7);
        meter.queued_most.raise(5);
        assert_eq!(reader.read(3).queued_most, 7);
    }

    #[test]
    fn a_stopwatch_counts_while_it_runs_and_starts_and_stops_once() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let watch = Stopwatch::new(begin);
        let read = |at| watch.read(after(at)).as_secs();
        assert_eq!(read(5), 0);
        watch.stop(after(6));
        watch.start(after(10));
        assert_eq!((read(10), read(13)), (0, 3));
        watch.start(after(14));
        assert_eq!(read(15), 5);
        watch.stop(after(20));
        watch.stop(after(30));
        assert_eq!(read(40), 10);
        watch.start(after(50));
        assert_eq!((read(50), read(51)), (10, 11));
    }

    #[test]
    fn the_time_online_stands_once_the_loop_is_gone() {
        let (meter, reader) = meter();
        meter.online.start(Instant::now());
        drop(meter);
        let online = reader.0.online.read(Instant::now());
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(reader.0.online.read(later), online);
    }

    #[test]
    fn a_snapshot_that_is_taken_while_the_loop_counts_never_goes_back() {
        const ENDS: u64 = 100_000;
        let (meter, reader) = meter();
        let reading = thread::spawn({
            let reader = reader.clone();
            move || {
                let mut last = reader.read(0);
                while last.delivered < ENDS {
                    let stats = reader.read(0);
                    assert!(stats.delivered >= last.delivered);
                    assert!(stats.latencies.count() >= last.latencies.count());
                    last = stats;
                }
            }
        });
        for _ in 0..ENDS {
            meter.command_ended(&Outcome::delivered(1, Duration::ZERO), true);
        }
        reading.join().unwrap();
        assert_eq!(reader.read(0).latencies.count(), ENDS);
    }
}
