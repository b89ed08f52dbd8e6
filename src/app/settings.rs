//! Every setting of the program, once: flag, variable and key of the file have one name.
//!
//! A field's doc comment is its help, its type says what is allowed, and [`Task::of_setting`] says which commands it
//! belongs to. Defaults stand in `config/demo.toml`. Declarations only: `sources.rs` reads
//! the sources, `chosen.rs` says which value counts, `resolve.rs` makes the configuration. Runs on the main thread, once.

use clap::{Args, Command};
use mqtt_connection_sharing::options::{OnSessionLost, OnTooLarge};
use serde::Deserialize;

use super::pub_sub::form::MessageForm;
use super::units::*;
use super::values::*;

pub(super) const CONNECTION: &str = "Connection";
pub(super) const TLS: &str = "TLS";
pub(super) const DEMO: &str = "Demo";
pub(super) const BENCH: &str = "Bench";
pub(super) const CHECK: &str = "Check";
pub(super) const PUB: &str = "Pub";
pub(super) const SUB: &str = "Sub";
pub(super) const VERSION_5: &str = "MQTT 5";
pub(super) const TUNING: &str = "Tuning";
pub(super) const OUTPUT: &str = "Output";

/// The word that asks for [`Task::Bench`], and the table of its settings in a file.
pub(crate) const BENCH_WORD: &str = "bench";

/// The tasks of the program, each a command of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Task {
    /// `demo`, or no word: three threads that share a connection.
    #[default]
    Demo,
    /// `bench`: publishing, measured.
    Bench,
    /// `check`: one step of connecting after the other, until one fails.
    Check,
    /// `pub`: messages of a script, published.
    Pub,
    /// `sub`: messages, written to standard output.
    Sub,
}

/// The settings that belong to some commands only. Every other one belongs to all.
const OF_SOME: [(&[Task], &[&str]); 13] = [
    (
        &[Task::Demo],
        &[
            "iterations",
            "publish-count",
            "publish-delay",
            "iteration-delay",
            "command-queue",
            "inbox",
        ],
    ),
    (&[Task::Demo, Task::Pub], &["max-inflight"]),
    (&[Task::Bench], &["mode", "messages", "window", "receive"]),
    (&[Task::Bench, Task::Pub], &["threads"]),
    (&[Task::Check], &["wait"]),
    (&[Task::Check, Task::Pub], &["topic"]),
    (
        &[Task::Pub],
        &[
            "message",
            "file",
            "lines",
            "retain",
            "content-type",
            "message-expiry",
            "response-topic",
            "user-property",
        ],
    ),
    (
        &[Task::Sub],
        &[
            "filter",
            "count",
            "within",
            "format",
            "no-local",
            "retain-as-published",
            "retain-handling",
        ],
    ),
    (&[Task::Demo, Task::Bench, Task::Pub], &["topic-aliases"]),
    (
        &[Task::Demo, Task::Bench, Task::Sub],
        &["unmatched-hold", "max-packet-size", "on-too-large"],
    ),
    // A check sends one message, over its own connections.
    (
        &[Task::Demo, Task::Bench, Task::Pub, Task::Sub],
        &[
            "clean-session",
            "retry-base",
            "retry-max",
            "retry-for",
            "retry-attempts",
        ],
    ),
    (
        &[Task::Demo, Task::Bench, Task::Pub],
        &[
            "on-session-lost",
            "max-inflight-qos2",
            "message-rate",
            "byte-rate",
        ],
    ),
    (
        &[Task::Demo, Task::Bench],
        &["payload-size", "topic-prefix", "timeline", "trace", "view"],
    ),
];

/// The settings that only MQTT 5 has a place for.
pub(super) const OF_VERSION_5: [&str; 10] = [
    "session-expiry",
    "topic-aliases",
    "will-delay",
    "content-type",
    "message-expiry",
    "response-topic",
    "user-property",
    "no-local",
    "retain-as-published",
    "retain-handling",
];

impl Task {
    pub(crate) const ALL: [Task; 5] = [Task::Demo, Task::Bench, Task::Check, Task::Pub, Task::Sub];

    /// The word that asks for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Task::Demo => "demo",
            Task::Bench => BENCH_WORD,
            Task::Check => "check",
            Task::Pub => "pub",
            Task::Sub => "sub",
        }
    }

    /// The advice to look at its flags.
    pub(super) fn see_help(self) -> String {
        format!("see {} --help", self.word())
    }

    /// Whether a setting is one of this task.
    pub(crate) fn takes(self, key: &str) -> bool {
        Task::of_setting(key).contains(&self)
    }

    /// The tasks that a setting belongs to.
    pub(crate) fn of_setting(key: &str) -> &'static [Task] {
        let some = OF_SOME.iter().find(|(_, keys)| keys.contains(&key));
        some.map_or(&Task::ALL, |(tasks, _)| tasks)
    }
}

/// Every setting, as far as some source gives it: a flag, a variable `MQTT_…` in the environment and a
/// key of the settings file, always of the same name.
#[derive(Debug, Clone, Default, PartialEq, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// The broker. `mqtts://` and `ssl://` may precede it and change nothing; `mqtt://` turns TLS
    /// off. IPv6 addresses go in brackets, link-local ones with their zone: [fe80::1%eth0].
    #[arg(long, value_name = "HOST[:PORT]", help_heading = CONNECTION)]
    pub(crate) endpoint: Option<Given<Address>>,
    /// TCP port, if not in the endpoint [default: 8883, with mqtt:// 1883].
    #[arg(long, value_name = "PORT", help_heading = CONNECTION)]
    pub(crate) port: Option<Given<Port>>,
    /// Version of MQTT: 3.1.1 or 5.
    #[arg(long, value_name = "VERSION", help_heading = CONNECTION)]
    pub(crate) mqtt: Option<Given<MqttVersion>>,
    /// Client identifier. A broker drops the older of two connections with the same one [default:
    /// mqtt-connection-sharing-HOST-RANDOM].
    #[arg(long, value_name = "ID", help_heading = CONNECTION)]
    pub(crate) client_id: Option<Given<ClientId>>,
    /// User name for the broker.
    #[arg(long, value_name = "NAME", help_heading = CONNECTION)]
    pub(crate) username: Option<Given<UserName>>,
    /// File that holds the password for the user name, or set MQTT_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub(crate) password_file: Option<Given<FilePath>>,
    /// Topic of a last will, which the broker publishes when this program is gone without a goodbye.
    #[arg(long, value_name = "TOPIC", help_heading = CONNECTION)]
    pub(crate) will_topic: Option<Given<TopicName>>,
    /// File that holds the payload of the will; without it the will is empty.
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub(crate) will_payload_file: Option<Given<FilePath>>,
    /// Quality of service of the will: 0, 1 or 2 [default: 1].
    #[arg(long, value_name = "LEVEL", help_heading = CONNECTION)]
    pub(crate) will_qos: Option<Given<Quality>>,
    /// Make the broker keep the will for later subscribers.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = CONNECTION)]
    pub(crate) will_retain: Option<Given<Switch>>,
    /// Use an embedded broker with certificates of its own; needs no endpoint.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = CONNECTION)]
    pub(crate) local: Option<Given<Switch>>,

    /// Client certificate (PEM), followed by its intermediates.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub(crate) cert: Option<Given<FilePath>>,
    /// Private key of the certificate (PEM: PKCS#8, PKCS#1 or SEC1).
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub(crate) key: Option<Given<FilePath>>,
    /// Certificate authorities to trust (PEM) in place of the system's.
    #[arg(long, value_name = "FILE", visible_alias = "root-ca", help_heading = TLS)]
    pub(crate) ca_file: Option<Given<FilePath>>,
    /// Client certificate and key in one PKCS#12 archive, in place of --cert and --key.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub(crate) pkcs12: Option<Given<FilePath>>,
    /// File that holds the archive's password, or set MQTT_PKCS12_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub(crate) pkcs12_password_file: Option<Given<FilePath>>,
    /// Application protocols to offer (ALPN), in order; repeatable, or separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = TLS)]
    pub(crate) alpn: Option<Vec<Given<AlpnName>>>,
    /// Name expected in the broker's certificate, if it is not the endpoint's.
    #[arg(long, value_name = "NAME", help_heading = TLS)]
    pub(crate) tls_server_name: Option<Given<ServerName>>,

    /// Times the demo runs; 0 = until stopped.
    #[arg(long, value_name = "N", help_heading = DEMO)]
    pub(crate) iterations: Option<Given<Number>>,
    /// Messages in each iteration, shared out between both publishers.
    #[arg(long, value_name = "N", help_heading = DEMO)]
    pub(crate) publish_count: Option<Given<PublishCount>>,
    /// Pause of each publisher between two messages.
    #[arg(long, value_name = "DURATION", help_heading = DEMO)]
    pub(crate) publish_delay: Option<Given<Span>>,
    /// Pause between two iterations.
    #[arg(long, value_name = "DURATION", help_heading = DEMO)]
    pub(crate) iteration_delay: Option<Given<Span>>,
    /// Pad each message to this size; 0 = just its text.
    #[arg(long, value_name = "SIZE", help_heading = DEMO)]
    pub(crate) payload_size: Option<Given<Size>>,
    /// Quality of service of messages and subscription: 0, 1 or 2.
    #[arg(long, value_name = "LEVEL", help_heading = DEMO)]
    pub(crate) qos: Option<Given<Quality>>,
    /// First level or levels of all topics: PREFIX/sync/1 and so on.
    #[arg(long, value_name = "PREFIX", help_heading = DEMO)]
    pub(crate) topic_prefix: Option<Given<TopicPrefix>>,

    /// How threads publish: async, without waiting; or sync, each waits for its acknowledgment.
    #[arg(long, value_name = "MODE", help_heading = BENCH)]
    pub(crate) mode: Option<Given<Word<BenchMode>>>,
    /// Threads that publish.
    #[arg(long, value_name = "N", help_heading = BENCH)]
    pub(crate) threads: Option<Given<Threads>>,
    /// Messages in all, shared out between the threads.
    #[arg(long, value_name = "N", help_heading = BENCH)]
    pub(crate) messages: Option<Given<Messages>>,
    /// Messages that may await their acknowledgment at one time, over all threads; 20 with QoS 2.
    #[arg(long, value_name = "N", help_heading = BENCH)]
    pub(crate) window: Option<Given<InFlight>>,
    /// Also subscribe, receive everything back, and check it.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = BENCH)]
    pub(crate) receive: Option<Given<Switch>>,

    /// Topic to subscribe and to publish one message to; without it neither is tried.
    #[arg(long, value_name = "TOPIC", help_heading = CHECK)]
    pub(crate) topic: Option<Given<TopicName>>,
    /// How long to try again until the broker accepts a connection; 0 = not at all.
    #[arg(long, value_name = "DURATION", help_heading = CHECK)]
    pub(crate) wait: Option<Given<Span>>,

    /// Text of the message. Without it and --file, standard input is the message.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, help_heading = PUB)]
    pub(crate) message: Option<Given<MessageText>>,
    /// File that is the message, whatever its bytes.
    #[arg(long, value_name = "FILE", help_heading = PUB)]
    pub(crate) file: Option<Given<FilePath>>,
    /// Make each line of --file or of standard input a message of its own.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = PUB)]
    pub(crate) lines: Option<Given<Switch>>,
    /// Make the broker keep the message for later subscribers; an empty one clears it.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = PUB)]
    pub(crate) retain: Option<Given<Switch>>,

    /// Type of the payload, such as application/json (MQTT 5).
    #[arg(long, value_name = "TYPE", help_heading = PUB)]
    pub(crate) content_type: Option<Given<PropertyText>>,
    /// How long a broker may keep the message for a subscriber, in whole seconds (MQTT 5).
    #[arg(long, value_name = "DURATION", help_heading = PUB)]
    pub(crate) message_expiry: Option<Given<Lifetime>>,
    /// Topic for an answer (MQTT 5).
    #[arg(long, value_name = "TOPIC", help_heading = PUB)]
    pub(crate) response_topic: Option<Given<TopicName>>,
    /// A name and a value that go with the message (MQTT 5); repeatable, one in a variable.
    #[arg(long, value_name = "NAME=VALUE", allow_hyphen_values = true, help_heading = PUB)]
    pub(crate) user_property: Option<Vec<Given<UserProperty>>>,

    /// Filter to subscribe to, as the words behind sub; repeatable, one in a variable.
    #[arg(long, value_name = "FILTER", help_heading = SUB)]
    pub(crate) filter: Option<Vec<Given<TopicFilter>>>,
    /// End after so many messages; 0 = do not end.
    #[arg(long, value_name = "N", help_heading = SUB)]
    pub(crate) count: Option<Given<Number>>,
    /// End so long after the broker has granted the subscription; 0 = do not end.
    #[arg(long, value_name = "DURATION", help_heading = SUB)]
    pub(crate) within: Option<Given<Span>>,
    /// Form of each message on standard output: text, jsonl or raw.
    #[arg(long, value_name = "FORMAT", help_heading = SUB)]
    pub(crate) format: Option<Given<Word<MessageForm>>>,

    /// Leave out what this client has published itself (MQTT 5).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = SUB)]
    pub(crate) no_local: Option<Given<Switch>>,
    /// Show the retain flags of the publishers (MQTT 5).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = SUB)]
    pub(crate) retain_as_published: Option<Given<Switch>>,
    /// Retained messages to get: always, new (where the subscription is a new one), or never (MQTT 5).
    #[arg(long, value_name = "WORD", help_heading = SUB)]
    pub(crate) retain_handling: Option<Given<RetainWord>>,

    /// How long the broker keeps the session after a connection, in whole seconds, unless it is a clean one; 0 = not at
    /// all.
    #[arg(long, value_name = "DURATION", help_heading = VERSION_5)]
    pub(crate) session_expiry: Option<Given<WholeSeconds>>,
    /// Topics that are sent as a number after the first time, if the broker takes as many.
    #[arg(long, value_name = "N", help_heading = VERSION_5)]
    pub(crate) topic_aliases: Option<Given<Aliases>>,
    /// Pause between the end of the connection and the will, in whole seconds.
    #[arg(long, value_name = "DURATION", help_heading = VERSION_5)]
    pub(crate) will_delay: Option<Given<WholeSeconds>>,

    /// Longest silence on the connection, in whole seconds; 0 = no limit.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) keep_alive: Option<Given<KeepAlive>>,
    /// Make the broker forget the session at each connection.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = TUNING)]
    pub(crate) clean_session: Option<Given<Switch>>,
    /// Fate of QoS 1 messages in flight when the broker has lost the session: republish, which may
    /// duplicate them, or fail.
    #[arg(long, value_name = "WORD", help_heading = TUNING)]
    pub(crate) on_session_lost: Option<Given<Word<OnSessionLost>>>,
    /// How long messages of an earlier session wait for a subscription; 0 = not at all.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) unmatched_hold: Option<Given<Span>>,
    /// Commands that may await their acknowledgment at one time.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub(crate) max_inflight: Option<Given<InFlight>>,
    /// Messages of QoS 2 that may be between PUBLISH and PUBCOMP at one time.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub(crate) max_inflight_qos2: Option<Given<InFlight>>,
    /// Messages that leave in one second at most, such as 100/s; off = no limit [default: 100/s on
    /// AWS IoT, else off].
    #[arg(long, value_name = "RATE", help_heading = TUNING)]
    pub(crate) message_rate: Option<Given<MessageRate>>,
    /// Bytes of their packets that leave in one second at most, such as 512KiB/s; off = no limit
    /// [default: 512KiB/s on AWS IoT, else off].
    #[arg(long, value_name = "RATE", help_heading = TUNING)]
    pub(crate) byte_rate: Option<Given<ByteRate>>,
    /// Commands that may wait for the connection's thread.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub(crate) command_queue: Option<Given<QueueSize>>,
    /// Messages that may wait in the inbox of a subscribed thread; with QoS 0 all that are published.
    #[arg(long, value_name = "N", alias = former_name("inbox"), help_heading = TUNING)]
    pub(crate) inbox: Option<Given<QueueSize>>,
    /// Longest wait for an acknowledgment before connecting anew.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) ack_timeout: Option<Given<Wait>>,
    /// Longest wait for each address (TCP), and again for TLS and the broker's answer; no limit of
    /// retries cuts it short.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) connect_timeout: Option<Given<Wait>>,
    /// Ceiling of the random delay before the first retry; it doubles each time.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) retry_base: Option<Given<Span>>,
    /// Where that ceiling stops growing.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) retry_max: Option<Given<Span>>,
    /// How long to try again; an attempt that has begun is always finished. 0 = no limit [default:
    /// 10s until the first connection, then 60s].
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) retry_for: Option<Given<Span>>,
    /// Attempts after a failed one, within that time; 0 = no limit.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub(crate) retry_attempts: Option<Given<Attempts>>,
    /// Least time between two connections.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub(crate) connect_interval: Option<Given<Span>>,
    /// Largest packet accepted from the broker, headers included. With MQTT 5 the broker is told, and
    /// drops larger ones without a word.
    #[arg(long, value_name = "SIZE", help_heading = TUNING)]
    pub(crate) max_packet_size: Option<Given<PacketSize>>,
    /// Fate of a larger message that comes: skip, which acknowledges it and says so, or close, which
    /// ends the connection.
    #[arg(long, value_name = "WORD", help_heading = TUNING)]
    pub(crate) on_too_large: Option<Given<Word<OnTooLarge>>>,

    /// Form of the result on standard output: text, json, or jsonl, an object for each event.
    #[arg(long, value_name = "FORMAT", help_heading = OUTPUT)]
    pub(crate) output: Option<Given<Word<Format>>>,
    /// Draw the run: what each thread waits for, each command and message. As .html to look around in,
    /// as .svg for papers; repeatable, one in a variable.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) timeline: Option<Vec<Given<TimelinePath>>>,
    /// Write the same as .json for Perfetto (Chrome's trace event format).
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    pub(crate) trace: Option<Given<TracePath>>,
    /// Live view on standard error: auto, on a terminal; or off. Without it the log gets a line every ten
    /// seconds.
    #[arg(long, value_name = "WORD", help_heading = OUTPUT)]
    pub(crate) view: Option<Given<Word<ViewMode>>>,
}

/// All settings as flags: they know the keys, in order, and how to read a text.
pub(super) fn flags() -> Command {
    Settings::augment_args(Command::new("settings"))
        .no_binary_name(true)
        .disable_help_flag(true)
}

/// The keys of all settings.
pub(super) fn keys() -> Vec<String> {
    flags()
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect()
}

/// Former names of settings, which are still read in each source, with the names of now.
const FORMER_NAMES: [(&str, &str); 1] = [("response-queue", "inbox")];

/// The former name of a setting.
pub(super) fn former_name(key: &str) -> Option<&'static str> {
    let mut names = FORMER_NAMES.into_iter();
    names.find_map(|(former, now)| (now == key).then_some(former))
}

/// The name of now for a name, which may be a former one.
pub(super) fn now_called(name: &str) -> &str {
    let mut names = FORMER_NAMES.into_iter();
    names
        .find_map(|(former, now)| (former == name).then_some(now))
        .unwrap_or(name)
}

/// The name in the environment of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("MQTT_{}", key.replace('-', "_").to_ascii_uppercase())
}
