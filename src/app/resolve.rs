//! Raw settings in, a valid [`Config`] out.
//!
//! [`resolve`] is the way in: command line over environment over the `--config` file over defaults,
//! checked, with one error of one line where something is wrong. `layers.rs` reads the sources and
//! lays them over each other, `remote.rs` makes of them the way to a broker, `checks.rs` says which
//! values are possible, `bench.rs` has what belongs to that command alone, `will.rs` makes the last will,
//! `endpoint.rs` and `value.rs` hold the notations. The defaults are [`Options::new`], [`DemoSettings::default`] and [`BenchSettings::default`]
//! and nowhere else: help and `config/demo.toml` show what [`default_settings`] makes of them.
//!
//! No thread, socket or clock; what comes from the process is in [`Surroundings`], and files are
//! read in `files.rs` alone: settings and passwords, never certificates. The main thread runs it,
//! once, before anything else.

use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::bench::settings as bench;
use super::sources::{self as layers, Layer, Layers, Source};
use super::{checks, files, remote, will};
use crate::app::names::Names;
use crate::app::settings::{Cli, Settings, Task};
use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::error::{Blame, Error};
pub(super) use mqtt_connection_sharing::options::LARGEST_QUEUE;
use mqtt_connection_sharing::options::{Options, Retry};

pub use super::bench::settings::{BenchMode, BenchSettings};
pub(crate) use super::endpoint::is_endpoint;
#[cfg(test)]
pub(crate) use super::sources::keys;
pub use super::usage::usage_error;
pub use super::values::{ByteSize, TimeSpan};

/// Bytes that a message of the demo may have when nothing pads it.
pub(super) const TEXT_ROOM: usize = 64;
/// Commands that may wait in the demo, as in its original. The library's default is larger: few
/// commands at a time are handed over one by one.
pub(super) const DEMO_COMMAND_QUEUE: usize = 12;
/// Settings that reach a broker elsewhere, and mean nothing to an embedded one.
pub(super) const REMOTE_ONLY: [&str; 11] = [
    "endpoint",
    "port",
    "username",
    "password-file",
    "cert",
    "key",
    "ca-file",
    "pkcs12",
    "pkcs12-password-file",
    "alpn",
    "tls-server-name",
];

/// Everything the program needs to know, valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// How to reach the broker. With [`Config::local`] the host, port and security are stand-ins, to
    /// be replaced by the embedded broker's.
    pub options: Options,
    /// What the demo does.
    pub demo: DemoSettings,
    /// What the bench does, if that was asked for in place of the demo.
    pub bench: Option<BenchSettings>,
    /// Form of the result.
    pub output: Output,
    /// How much to log.
    pub verbosity: Verbosity,
    /// Whether to start an embedded broker and to connect to that.
    pub local: bool,
    /// Remarks for the log, one line each: settings that were left out of account, and likely slips.
    pub notices: Vec<String>,
    /// Where the settings that count were given.
    pub names: Names,
}

/// What the demo does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoSettings {
    /// Times it runs; 0 = until stopped.
    pub iterations: u64,
    /// Messages in each iteration, at least 1, shared out between both publishers.
    pub publish_count: u64,
    /// Pause of each publisher between two messages; zero = none.
    pub publish_delay: Duration,
    /// Pause between two iterations; zero = none.
    pub iteration_delay: Duration,
    /// Bytes that each message is padded to; 0 = just its text.
    pub payload_size: usize,
    /// Quality of service of messages and subscription.
    pub qos: QoS,
    /// Topics are `<prefix>/sync/<i>` and `<prefix>/async/<i>`, the filter is `<prefix>/+/+`. Has no
    /// wildcard, no `$` at its beginning, no slash at its end.
    pub topic_prefix: String,
    /// Messages that may wait for the subscriber, at least 1.
    pub response_queue: usize,
}

impl Default for DemoSettings {
    fn default() -> Self {
        DemoSettings {
            iterations: 3,
            publish_count: 8,
            publish_delay: Duration::from_millis(100),
            iteration_delay: Duration::from_secs(5),
            payload_size: 0,
            qos: QoS::AtLeastOnce,
            topic_prefix: "filter".into(),
            response_queue: 10,
        }
    }
}

/// Form of the result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How much to log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Errors only (`-q`).
    Quiet,
    /// What a person wants to know of a run.
    #[default]
    Normal,
    /// What happens to each message (`-v`).
    Verbose,
    /// Everything (`-vv`).
    Everything,
}

impl Verbosity {
    /// The level up to which to log.
    pub fn level(self) -> log::LevelFilter {
        match self {
            Verbosity::Quiet => log::LevelFilter::Error,
            Verbosity::Normal => log::LevelFilter::Info,
            Verbosity::Verbose => log::LevelFilter::Debug,
            Verbosity::Everything => log::LevelFilter::Trace,
        }
    }
}

/// What the configuration takes from the process around it.
pub struct Surroundings<'a> {
    /// Looks up a variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// This computer's name, as far as it is known.
    pub host_name: Option<String>,
    /// Number of this process.
    pub process: u32,
}

impl Surroundings<'static> {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let named = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Surroundings {
            variable: &|name| std::env::var_os(name),
            host_name: files::host_name()
                .or_else(|| named("HOSTNAME"))
                .or_else(|| named("COMPUTERNAME")),
            process: std::process::id(),
        }
    }
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("host_name", &self.host_name)
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

/// The defaults as settings: what help and `config/demo.toml` show. Settings that have no default,
/// or one that depends on others, are none.
pub fn default_settings() -> Settings {
    let options = Options::new("", "");
    let demo = DemoSettings::default();
    Settings {
        local: Some(false),
        iterations: Some(demo.iterations),
        publish_count: Some(demo.publish_count),
        publish_delay: Some(TimeSpan(demo.publish_delay)),
        iteration_delay: Some(TimeSpan(demo.iteration_delay)),
        payload_size: Some(ByteSize(demo.payload_size)),
        qos: Some(demo.qos as u8),
        topic_prefix: Some(demo.topic_prefix),
        keep_alive: Some(TimeSpan(options.keep_alive)),
        clean_session: Some(options.clean_session),
        max_inflight: Some(options.max_inflight),
        command_queue: Some(DEMO_COMMAND_QUEUE),
        response_queue: Some(demo.response_queue),
        ack_timeout: Some(TimeSpan(options.ack_timeout)),
        connect_timeout: Some(TimeSpan(options.connect_timeout)),
        retry_base: Some(TimeSpan(options.retry.base)),
        retry_max: Some(TimeSpan(options.retry.max)),
        retry_attempts: Some(options.retry.attempts),
        connect_interval: Some(TimeSpan(options.connect_interval)),
        max_packet_size: Some(ByteSize(options.max_packet_size)),
        output: Some(Output::default()),
        ..Settings::default()
    }
}

/// The defaults of the bench, as [`default_settings`] are those of the demo.
pub fn default_bench_settings() -> Settings {
    let bench = BenchSettings::default();
    Settings {
        mode: Some(bench.mode),
        threads: Some(bench.threads.get()),
        messages: Some(bench.messages),
        window: Some(bench.window),
        receive: Some(bench.receive),
        payload_size: Some(ByteSize(bench.payload_size)),
        qos: Some(bench.qos as u8),
        topic_prefix: Some(bench.topic_prefix),
        clean_session: Some(bench::CLEAN_SESSION),
        ..default_settings()
    }
}

/// The default of a setting as help shows it; none where there is none, and for switches that are off.
pub fn default_text(task: Task, key: &str) -> Option<String> {
    let defaults = match task {
        Task::Demo => default_settings(),
        Task::Bench => default_bench_settings(),
    };
    let table = toml::Table::try_from(defaults).ok()?;
    match table.get(key)? {
        // It follows from the payload's size.
        _ if task == Task::Bench && key == "max-packet-size" => None,
        toml::Value::Boolean(false) => None,
        toml::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Makes a valid configuration of the command line and what surrounds it. Reads the `--config` file
/// and the password files; nothing is connected or started.
///
/// # Errors
/// [`Blame::Configuration`], naming the setting and where it was given.
pub fn resolve(cli: Cli, surroundings: &Surroundings<'_>) -> Result<Config, Error> {
    let verbosity = cli.verbosity();
    let mut sources = vec![
        Layer::new(Source::CommandLine, cli.settings)?,
        layers::from_environment(surroundings.variable)?,
    ];
    if let Some(path) = &cli.config {
        sources.push(layers::from_toml(&files::read_settings(path)?, path)?);
    }
    let layers = Layers(sources);
    refuse_misplaced(&layers, cli.task)?;
    let settings = layers.merged();
    let mut notices = Vec::new();
    let mut names = Names::default();

    let local = settings.local.unwrap_or(false);
    for key in layers::given(&settings) {
        if let Some(name) = layers.name(&key)
            && !(local && REMOTE_ONLY.contains(&key.as_str()))
        {
            names.insert(&key, name);
        }
    }
    let client_id = settings
        .client_id
        .clone()
        .unwrap_or_else(|| default_client_id(surroundings));
    let mut options = if local {
        check_local(&layers, surroundings, &mut notices)?;
        Options::new("localhost", client_id)
    } else {
        let remarks = remote::Remarks {
            notices: &mut notices,
            names: &mut names,
        };
        remote::options(&layers, &settings, client_id, surroundings, remarks)?
    };
    options.last_will = will::last_will(&layers, &settings)?;
    tune(&mut options, &settings);
    let demo = demo(&settings)?;
    let bench = match cli.task {
        Task::Demo => {
            checks::together(&options, &checks::Sent::by_demo(&demo))?;
            notices.extend(aws_notices(&options, &demo));
            None
        }
        Task::Bench => {
            let bench = bench::bench(&settings, &mut options)?;
            bench::check(&options, &bench)?;
            notices.extend(bench::aws_notice(&options, &bench));
            notices.extend(bench::memory_notice(&bench));
            Some(bench)
        }
    };
    Ok(Config {
        options,
        demo,
        bench,
        output: settings.output.unwrap_or_default(),
        verbosity,
        local,
        notices,
        names,
    })
}

/// A configuration error.
pub(super) fn wrong(
    tried: impl Into<String>,
    problem: impl Into<String>,
    advice: impl Into<String>,
) -> Error {
    Error::new(Blame::Configuration, tried, problem, advice)
}

/// With an embedded broker, settings for another one are refused on the command line, where they
/// contradict it, and left out of account elsewhere.
fn check_local(
    layers: &Layers,
    surroundings: &Surroundings<'_>,
    notices: &mut Vec<String>,
) -> Result<(), Error> {
    let local = layers.name("local").unwrap_or_default();
    for layer in &layers.0 {
        for key in layers::given(&layer.settings) {
            if !REMOTE_ONLY.contains(&key.as_str()) {
                continue;
            }
            let name = layer.source.name(&key);
            if layer.source == Source::CommandLine {
                return Err(wrong(
                    format!("preparing the embedded broker ({local})"),
                    format!("{name} is for a broker elsewhere"),
                    "leave it out, or give --local=false",
                ));
            }
            notices.push(format!(
                "{name} is not used: {local} uses an embedded broker"
            ));
        }
    }
    for name in [remote::PASSWORD, remote::PKCS12_PASSWORD] {
        if remote::secret_variable(name, surroundings)?.is_some() {
            notices.push(format!(
                "{name} is not used: {local} uses an embedded broker"
            ));
        }
    }
    Ok(())
}

/// Takes over what has a default in the library.
fn tune(options: &mut Options, settings: &Settings) {
    set(&mut options.keep_alive, settings.keep_alive.map(|s| s.0));
    set(&mut options.clean_session, settings.clean_session);
    set(&mut options.max_inflight, settings.max_inflight);
    options.command_queue = settings.command_queue.unwrap_or(DEMO_COMMAND_QUEUE);
    set(&mut options.ack_timeout, settings.ack_timeout.map(|s| s.0));
    set(
        &mut options.connect_timeout,
        settings.connect_timeout.map(|s| s.0),
    );
    set(
        &mut options.connect_interval,
        settings.connect_interval.map(|s| s.0),
    );
    set(
        &mut options.max_packet_size,
        settings.max_packet_size.map(|s| s.0),
    );
    let Retry {
        base,
        max,
        attempts,
    } = &mut options.retry;
    set(base, settings.retry_base.map(|s| s.0));
    set(max, settings.retry_max.map(|s| s.0));
    set(attempts, settings.retry_attempts);
}

fn demo(settings: &Settings) -> Result<DemoSettings, Error> {
    let mut demo = DemoSettings::default();
    set(&mut demo.qos, quality("qos", settings.qos)?);
    set(&mut demo.iterations, settings.iterations);
    set(&mut demo.publish_count, settings.publish_count);
    set(&mut demo.publish_delay, settings.publish_delay.map(|s| s.0));
    set(
        &mut demo.iteration_delay,
        settings.iteration_delay.map(|s| s.0),
    );
    set(&mut demo.payload_size, settings.payload_size.map(|s| s.0));
    set(&mut demo.topic_prefix, settings.topic_prefix.clone());
    set(&mut demo.response_queue, settings.response_queue);
    Ok(demo)
}

/// A pace that AWS IoT answers with silence, or by closing the connection without a reason.
fn aws_notices(options: &Options, demo: &DemoSettings) -> Vec<String> {
    // Two threads publish.
    let too_quick = demo.publish_delay < Duration::from_millis(20);
    let remarks = [
        (
            options.max_inflight > 100,
            "AWS IoT takes 100 publishes in flight on one connection and does not acknowledge what \
             exceeds that: lower --max-inflight",
        ),
        (
            too_quick && demo.publish_count > 100,
            "AWS IoT takes 100 publishes a second on one connection and does not acknowledge what \
             exceeds that: give --publish-delay 20ms or more",
        ),
        (
            options.connect_interval < Duration::from_secs(1),
            "AWS IoT takes one CONNECT a second for each client identifier: give \
             --connect-interval 1s or more",
        ),
    ];
    let remarks = remarks.into_iter().filter(|(holds, _)| *holds);
    match options.is_aws_iot() {
        true => remarks.map(|(_, remark)| remark.to_owned()).collect(),
        false => Vec::new(),
    }
}

pub(super) fn quality(key: &str, level: Option<u8>) -> Result<Option<QoS>, Error> {
    level.map(QoS::try_from).transpose().map_err(|level| {
        let problem = format!("{level} is not a quality of service");
        wrong(format!("checking --{key}"), problem, "use 0, 1 or 2")
    })
}

/// Flags of the other task are refused. In the environment and in the file they may stand: those are
/// for both.
fn refuse_misplaced(layers: &Layers, task: Task) -> Result<(), Error> {
    let flags = layers
        .0
        .iter()
        .filter(|layer| layer.source == Source::CommandLine);
    for layer in flags {
        for key in layers::given(&layer.settings) {
            if Task::of_setting(&key).is_some_and(|only| only != task) {
                return Err(bench::misplaced(&layer.source.name(&key), &key, task));
            }
        }
    }
    Ok(())
}

pub(super) fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// The client identifier where none is given: `mqtt-connection-sharing-<host>-<process>`.
///
/// A broker drops the older of two connections with one identifier, so two programs must not share
/// it by accident, on one computer or on two. The persistent session that belongs to it must outlive
/// a link but not the program, which clears it at its start: the process is the right scope.
/// An identifier that is to stay the same from run to run is given with `--client-id`.
pub(super) fn default_client_id(surroundings: &Surroundings<'_>) -> String {
    let host: String = surroundings
        .host_name
        .as_deref()
        .unwrap_or_default()
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .take(63)
        .collect();
    let host = if host.is_empty() {
        // No name: a random number keeps two computers apart.
        format!("{:08x}", RandomState::new().hash_one(()) as u32)
    } else {
        host
    };
    format!("mqtt-connection-sharing-{host}-{}", surroundings.process)
}
