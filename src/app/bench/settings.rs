//! What the command bench does: its settings with their defaults, and what they mean for the
//! library's options.
//!
//! Pure; the main thread uses it, once.

use std::num::NonZeroUsize;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::app::checks;
use crate::app::resolve::{self, set, wrong};
use crate::app::settings::Settings;
use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::{LARGEST_QUEUE, Options};

/// How the threads of the bench publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BenchMode {
    /// Without waiting, as long as the window has room.
    #[default]
    Async,
    /// One message after the other, each once the one before is acknowledged.
    Sync,
}

impl BenchMode {
    /// As settings and results name it.
    pub fn name(self) -> &'static str {
        match self {
            BenchMode::Async => "async",
            BenchMode::Sync => "sync",
        }
    }
}

/// What the bench does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchSettings {
    /// How the threads publish.
    pub mode: BenchMode,
    /// Threads that publish.
    pub threads: NonZeroUsize,
    /// Messages in all, shared out between the threads; at least 1.
    pub messages: u64,
    /// Bytes in each message.
    pub payload_size: usize,
    /// Messages that may await their acknowledgment at one time, at least 1.
    pub window: u16,
    /// Quality of service of messages and subscription.
    pub qos: QoS,
    /// First level or levels of all topics, as the demo's.
    pub topic_prefix: String,
    /// Whether to subscribe and to receive everything back.
    pub receive: bool,
}

impl Default for BenchSettings {
    fn default() -> Self {
        BenchSettings {
            mode: BenchMode::Async,
            threads: NonZeroUsize::MIN.saturating_add(3),
            messages: 100_000,
            payload_size: 64,
            window: 1000,
            qos: QoS::AtLeastOnce,
            topic_prefix: resolve::DemoSettings::default().topic_prefix,
            receive: false,
        }
    }
}

/// What a bench leaves behind is of no use to the next one.
pub(in crate::app) const CLEAN_SESSION: bool = true;

/// Fewer outstanding messages than this in a thread, and one that is woken finds hardly anything to do.
const LEAST_OUTSTANDING: usize = 64;
/// Mosquitto takes no more of QoS 2, unless told so, and closes the connection.
const WINDOW_OF_QOS_2: u16 = 20;
/// Bytes of payload that may wait in the command queue and for their acknowledgment.
const MOST_WAITING: usize = 64 * 1024 * 1024;

impl BenchSettings {
    /// How many messages of its own an asynchronous thread may have outstanding: its share of twice
    /// the window, one half on its way, the other ready for when room is made; less where payloads
    /// are large, since all of that is held in memory.
    pub fn outstanding(&self) -> usize {
        let threads = self.threads.get();
        let share = (2 * usize::from(self.window)).div_ceil(threads);
        let in_memory = MOST_WAITING / self.payload_size.max(1) / threads;
        share.max(LEAST_OUTSTANDING).min(in_memory).max(1)
    }
}

/// The settings of the bench, and the library's options changed to suit them.
pub(in crate::app) fn bench(
    settings: &Settings,
    options: &mut Options,
) -> Result<BenchSettings, Error> {
    let mut bench = BenchSettings::default();
    set(&mut bench.mode, settings.mode);
    let threads = settings.threads.and_then(NonZeroUsize::new);
    set(&mut bench.threads, threads);
    set(&mut bench.messages, settings.messages);
    set(&mut bench.payload_size, settings.payload_size.map(|s| s.0));
    set(&mut bench.qos, resolve::quality("qos", settings.qos)?);
    if bench.qos == QoS::ExactlyOnce {
        bench.window = WINDOW_OF_QOS_2;
    }
    set(&mut bench.window, settings.window);
    set(&mut bench.topic_prefix, settings.topic_prefix.clone());
    set(&mut bench.receive, settings.receive);

    options.max_inflight = bench.window;
    let outstanding = match bench.mode {
        BenchMode::Async => bench.outstanding(),
        BenchMode::Sync => 1,
    };
    let queue = bench.threads.get().saturating_mul(outstanding);
    options.command_queue = queue.clamp(LEAST_OUTSTANDING, LARGEST_QUEUE);
    options.clean_session = settings.clean_session.unwrap_or(CLEAN_SESSION);
    if settings.max_packet_size.is_none() {
        // Headers and topic beside the payload.
        let needed = bench.payload_size.saturating_add(128 * 1024);
        options.max_packet_size = options.max_packet_size.max(needed);
    }
    Ok(bench)
}

/// Checks what the bench will send, as the demo's is checked.
pub(in crate::app) fn check(options: &Options, bench: &BenchSettings) -> Result<(), Error> {
    let mode = bench.mode.name();
    // Process, thread and number at their longest.
    let longest = format!("{}-{}-{}", u32::MAX, bench.threads, bench.messages);
    let sent = checks::Sent {
        topic: format!("{}/{mode}/{longest}", bench.topic_prefix),
        payload_size: bench.payload_size,
        qos: bench.qos,
        comes_back: bench.receive,
    };
    checks::together(options, &sent)
}

/// What is worth knowing of a bench against AWS IoT.
pub(in crate::app) fn aws_notice(options: &Options, bench: &BenchSettings) -> Option<String> {
    let is_fast = bench.mode == BenchMode::Async || bench.threads.get() > 1;
    (options.is_aws_iot() && is_fast).then(|| {
        "AWS IoT takes 100 publishes a second on one connection and 100 in flight, and does not \
         acknowledge what exceeds that: use --mode sync --threads 1"
            .to_owned()
    })
}

/// Each thread has a message in hand, whatever its size.
pub(in crate::app) fn memory_notice(bench: &BenchSettings) -> Option<String> {
    let held = bench.threads.get().saturating_mul(bench.payload_size);
    (held > MOST_WAITING).then(|| {
        format!(
            "--threads {} with --payload-size {}: that many messages alone are {} MiB of memory, and those on \
             their way come on top",
            bench.threads,
            bench.payload_size,
            held >> 20
        )
    })
}

/// A setting of the other task on the command line is refused: it would do nothing.
pub(in crate::app) fn misplaced(name: &str, key: &str, task: crate::app::settings::Task) -> Error {
    use crate::app::settings::Task;
    let (problem, advice) = match task {
        Task::Bench => {
            let advice = match key {
                "max-inflight" => "use --window",
                "publish-count" => "use --messages",
                "command-queue" | "response-queue" => "leave it out: it follows from --window",
                _ => "leave it out; bench --help shows what there is",
            };
            ("it is a flag of the demo, not of bench", advice.to_owned())
        }
        Task::Demo => (
            "it is a flag of the command bench, not of the demo",
            format!("write: mqtt-connection-sharing bench {name} …"),
        ),
    };
    wrong(format!("reading {name}"), problem, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_each_hold_a_large_message_are_worth_a_word() {
        let mut bench = BenchSettings::default();
        assert_eq!(memory_notice(&bench), None);
        bench.threads = NonZeroUsize::new(1_024).unwrap();
        assert_eq!(memory_notice(&bench), None);
        bench.payload_size = 1 << 20;
        let notice = memory_notice(&bench).unwrap();
        assert!(notice.contains("1024 MiB"), "{notice}");
    }

    #[test]
    fn only_one_thread_that_waits_stays_within_what_aws_iot_takes() {
        let mut bench = BenchSettings::default();
        let mut options = Options::new("abc-ats.iot.eu-central-1.amazonaws.com", "me");
        assert!(aws_notice(&options, &bench).is_some());
        bench.mode = BenchMode::Sync;
        assert!(aws_notice(&options, &bench).is_some());
        bench.threads = NonZeroUsize::MIN;
        assert_eq!(aws_notice(&options, &bench), None);
        bench.mode = BenchMode::Async;
        options.host = "broker.example".into();
        assert_eq!(aws_notice(&options, &bench), None);
    }
}
