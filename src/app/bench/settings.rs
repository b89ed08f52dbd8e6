//! The settings of the command bench, and the options of the library that follow from them.
//!
//! Pure; the main thread uses it, once.

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::options::{Options, ranges};

use crate::app::checks::Sent;
use crate::app::values::BenchMode;

/// The settings of the bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BenchSettings {
    /// How the threads publish.
    pub(crate) mode: BenchMode,
    /// Threads that publish; at least 1.
    pub(crate) threads: usize,
    /// Messages in all, shared out between the threads; at least 1.
    pub(crate) messages: u64,
    /// Bytes in each message.
    pub(crate) payload_size: usize,
    /// Messages that may await their acknowledgment at one time, at least 1.
    pub(crate) window: u16,
    /// Quality of service of messages and subscription.
    pub(crate) qos: QoS,
    /// First level or levels of all topics, as the demo's.
    pub(crate) topic_prefix: String,
    /// Whether to subscribe and to receive everything back.
    pub(crate) receive: bool,
    /// A word that no other run has. Its beginning is a level of all topics.
    pub(crate) run: String,
    /// Whether the client identifier was made up for this run, so that nobody finds its session again.
    pub(crate) made_up_id: bool,
}

/// Fewer outstanding messages than this in a thread, and one that is woken finds hardly anything to do.
const LEAST_OUTSTANDING: usize = 128;
/// Messages that may be on their way to the receiver. Mosquitto keeps 1,000 for a subscriber, beside the 20 that it has
/// sent, and drops the rest.
pub(crate) const UNRECEIVED: usize = 500;
/// With a window above this one, which is the default, as many may be on their way as the window has room for.
const LARGEST_USUAL_WINDOW: u16 = 1000;
/// Bytes of payload that may wait in the command queue and for their acknowledgment.
const MOST_WAITING: usize = 64 * 1024 * 1024;

/// From so many threads on, each waits for all its messages at once.
const MANY_THREADS: usize = 4;
/// That is so up to so many bytes of payload. The system gets the memory of more, once all of it is free, and gives it
/// back for the next round, which costs half as much again.
const LARGEST_ROUND: usize = 128 * 1024;

/// Making a payload of more bytes takes longer than publishing it.
const LARGE_PAYLOAD: usize = 1024;

/// Letters of the run's word in a topic: enough to tell runs apart, and so few that a message with a payload of the
/// usual size is a small one for the library, which its publisher encodes.
const RUN_IN_TOPICS: usize = 7;

impl BenchSettings {
    /// The level of all topics that no other run has.
    pub(crate) fn level_of_run(&self) -> &str {
        self.run.get(..RUN_IN_TOPICS).unwrap_or(&self.run)
    }

    /// How many messages of its own an asynchronous thread may have outstanding: its share of twice
    /// the window, one half on its way, the other ready for when room is made; less where payloads
    /// are large, since all of that is held in memory.
    pub(crate) fn outstanding(&self) -> usize {
        let threads = self.threads;
        let share = (2 * usize::from(self.window)).div_ceil(threads);
        let in_memory = MOST_WAITING / self.payload_size.max(1) / threads;
        share.max(LEAST_OUTSTANDING).min(in_memory).max(1)
    }

    /// In how many rounds an asynchronous thread waits for what it has outstanding. While one of many threads waits for
    /// all of it, the others have one and a half times the window outstanding, and the thread is woken half as often. In
    /// other cases each keeps one half on its way while it waits for the other.
    pub(crate) fn rounds(&self) -> usize {
        let outstanding = self.outstanding();
        let bytes = outstanding.saturating_mul(self.payload_size);
        match self.threads >= MANY_THREADS && bytes <= LARGEST_ROUND {
            true => 1,
            false => outstanding.min(2),
        }
    }

    /// Whether messages that a thread pushes in a row do not follow each other at once: it makes a large payload for
    /// each, or all that the threads have outstanding is more than the command queue has room for.
    pub(crate) fn pushes_slowly(&self) -> bool {
        let outstanding = self.threads.saturating_mul(self.outstanding());
        self.payload_size > LARGE_PAYLOAD || outstanding > self.command_queue()
    }

    /// How many messages of QoS 1 and 2 may be published and not received at one time.
    pub(crate) fn unreceived(&self) -> usize {
        match self.window {
            ..=LARGEST_USUAL_WINDOW => UNRECEIVED,
            larger => usize::from(larger),
        }
    }

    /// Commands that may wait: what the threads have outstanding.
    pub(crate) fn command_queue(&self) -> usize {
        let outstanding = match self.mode {
            BenchMode::Async => self.outstanding(),
            BenchMode::Sync => 1,
        };
        let queue = self.threads.saturating_mul(outstanding);
        queue.clamp(LEAST_OUTSTANDING, *ranges::QUEUE.end())
    }

    /// Bytes that a packet may have: headers and topic beside the payload.
    pub(crate) fn largest_packet(&self) -> usize {
        let packet = self.payload_size.saturating_add(128 * 1024);
        packet.min(*ranges::PACKET_SIZE.end())
    }

    /// The largest message that it will send.
    pub(crate) fn sent(&self) -> Sent {
        let (mode, run) = (self.mode.name(), self.level_of_run());
        // Thread and number at their longest.
        let longest = format!("{}-{}", self.threads, self.messages);
        Sent {
            topic: format!("{}/{mode}/{run}/{longest}", self.topic_prefix),
            named: ("topic-prefix", "payload-size"),
            payload_size: self.payload_size,
            qos: self.qos,
            expiry: None,
            comes_back: self.receive,
        }
    }

    /// A remark about the pace, where the broker is AWS IoT.
    pub(crate) fn aws_notice(&self, options: &Options) -> Option<String> {
        let is_fast = self.mode == BenchMode::Async || self.threads > 1;
        let is_limited = options.limits.rate.publishes.is_some();
        (options.is_aws_iot() && is_fast && is_limited).then(|| {
            "AWS IoT takes 100 publishes a second on one connection, and no more are sent: most of the time measured is \
             spent waiting for that"
                .to_owned()
        })
    }

    /// Each thread has a message in hand, whatever its size.
    pub(crate) fn memory_notice(&self) -> Option<String> {
        let held = self.threads.saturating_mul(self.payload_size);
        (held > MOST_WAITING).then(|| {
            format!(
                "--threads {} with --payload-size {}: that many messages alone are {} MiB of memory, and those on \
                 their way come on top",
                self.threads,
                self.payload_size,
                held >> 20
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use mqtt_connection_sharing::limits::Limits;

    use super::*;
    use crate::app::tests::bench_settings;

    #[test]
    fn threads_that_each_hold_a_large_message_are_worth_a_word() {
        let mut bench = bench_settings();
        assert_eq!(bench.memory_notice(), None);
        bench.threads = 1_024;
        assert_eq!(bench.memory_notice(), None);
        bench.payload_size = 1 << 20;
        let notice = bench.memory_notice().unwrap();
        assert!(notice.contains("1024 MiB"), "{notice}");
    }

    #[test]
    fn one_of_many_threads_waits_for_all_its_messages_at_once_unless_they_are_large() {
        let with = |threads, window, payload_size| BenchSettings {
            threads,
            window,
            payload_size,
            ..bench_settings()
        };
        for (bench, rounds) in [
            (with(4, 1_000, 64), 1),
            (with(1_024, 1, 0), 1),
            (with(3, 1_000, 64), 2),
            (with(4, 1_000, 262), 1),
            (with(4, 1_000, 263), 2),
            (with(4, 1_000, 60_000_000), 1),
        ] {
            assert_eq!(bench.rounds(), rounds, "{bench:?}");
        }
    }

    #[test]
    fn only_one_thread_that_waits_stays_within_what_aws_iot_takes() {
        let mut bench = bench_settings();
        let mut options = Options::new("abc-ats.iot.eu-central-1.amazonaws.com", "me");
        assert!(bench.aws_notice(&options).is_some());
        bench.mode = BenchMode::Sync;
        assert!(bench.aws_notice(&options).is_some());
        bench.threads = 1;
        assert_eq!(bench.aws_notice(&options), None);
        bench.mode = BenchMode::Async;
        options.limits.rate.publishes = None;
        assert_eq!(bench.aws_notice(&options), None, "more are sent");
        options.limits = Limits::aws_iot();
        options.host = "broker.example".into();
        assert_eq!(bench.aws_notice(&options), None);
    }
}
