//! The command line: which flags exist, and which command they belong to. `help.rs` has what is around them in
//! the help.
//!
//! Declarations only. Nothing here decides what a value means, reads a file or the environment, or
//! knows a default: `config` does, and the defaults that the help shows come from there. The fields
//! of [`Settings`] are at the same time the flags, the keys of the configuration file and, in
//! capitals behind `MQTT_`, the names in the environment, so the three cannot drift apart.
//!
//! Runs on the main thread, once.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::{ArgAction, Args, FromArgMatches, Parser};
use serde::{Deserialize, Serialize};

use crate::app::resolve::{BenchMode, ByteSize, Output, TimeSpan, Verbosity};
use crate::app::resolve::{is_endpoint, usage_error};
use mqtt_connection_sharing::error::Error;

pub use super::help::command_of;

pub(super) const CONNECTION: &str = "Connection";
pub(super) const TLS: &str = "TLS";
pub(super) const DEMO: &str = "Demo";
pub(super) const BENCH: &str = "Bench";
pub(super) const TUNING: &str = "Tuning";
pub(super) const OUTPUT: &str = "Output";

/// The word that asks for [`Task::Bench`].
pub(crate) const BENCH_WORD: &str = "bench";

/// What the program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// The demo: no word, flags only.
    #[default]
    Demo,
    /// `bench`: publishing, measured.
    Bench,
}

impl Task {
    /// The only task that a setting belongs to; none if it belongs to all.
    pub fn of_setting(key: &str) -> Option<Task> {
        match key {
            "iterations" | "publish-count" | "publish-delay" | "iteration-delay"
            | "max-inflight" | "command-queue" | "response-queue" => Some(Task::Demo),
            "mode" | "threads" | "messages" | "window" | "receive" => Some(Task::Bench),
            _ => None,
        }
    }
}

/// Runs a demo in which three threads share one TLS connection to an MQTT broker: one publishes
/// and waits, one publishes without waiting, one receives everything back.
#[derive(Debug, Clone, Default, Parser)]
#[command(version, after_help = super::help::AFTER_HELP, max_term_width = 100, args_override_self = true,
    allow_negative_numbers = true)]
pub struct Cli {
    /// What to do.
    #[arg(skip)]
    pub task: Task,

    /// TOML file with settings; paths in it are relative to its folder.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What can also come from the environment and from the file.
    #[command(flatten)]
    pub settings: Settings,

    /// Log more: -v what happens to each message, -vv everything.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = OUTPUT)]
    pub verbose: u8,

    /// Log errors only.
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,
}

/// Every setting, as far as one source gives it: a flag, a variable `MQTT_…` in the environment and
/// a key of the configuration file, always of the same name.
#[derive(Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// The broker. `mqtts://` and `ssl://` may precede it and change nothing; `mqtt://` turns TLS
    /// off. IPv6 addresses go in brackets.
    #[arg(long, value_name = "HOST[:PORT]", help_heading = CONNECTION)]
    pub endpoint: Option<String>,
    /// TCP port, if not in the endpoint [default: 8883, with mqtt:// 1883].
    #[arg(long, value_name = "PORT", help_heading = CONNECTION)]
    pub port: Option<u16>,
    /// Client identifier. A broker drops the older of two connections with the same one [default:
    /// mqtt-connection-sharing-HOST-PROCESS].
    #[arg(long, value_name = "ID", help_heading = CONNECTION)]
    pub client_id: Option<String>,
    /// User name for the broker.
    #[arg(long, value_name = "NAME", help_heading = CONNECTION)]
    pub username: Option<String>,
    /// File that holds the password for the user name, or set MQTT_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub password_file: Option<PathBuf>,
    /// Topic of a last will, which the broker publishes when this program is gone without a goodbye.
    #[arg(long, value_name = "TOPIC", help_heading = CONNECTION)]
    pub will_topic: Option<String>,
    /// File that holds the payload of the will; without it the will is empty.
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub will_payload_file: Option<PathBuf>,
    /// Quality of service of the will: 0, 1 or 2 [default: 1].
    #[arg(long, value_name = "LEVEL", help_heading = CONNECTION)]
    pub will_qos: Option<u8>,
    /// Make the broker keep the will for later subscribers.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", hide_possible_values = true, help_heading = CONNECTION)]
    pub will_retain: Option<bool>,
    /// Use an embedded broker with certificates of its own; needs no endpoint.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", hide_possible_values = true, help_heading = CONNECTION)]
    pub local: Option<bool>,

    /// Client certificate (PEM), followed by its intermediates.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate (PEM: PKCS#8, PKCS#1 or SEC1).
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub key: Option<PathBuf>,
    /// Certificate authorities to trust (PEM) in place of the system's.
    #[arg(long, value_name = "FILE", visible_alias = "root-ca", help_heading = TLS)]
    pub ca_file: Option<PathBuf>,
    /// Client certificate and key in one PKCS#12 archive, in place of --cert and --key.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub pkcs12: Option<PathBuf>,
    /// File that holds the archive's password, or set MQTT_PKCS12_PASSWORD.
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub pkcs12_password_file: Option<PathBuf>,
    /// Application protocols to offer (ALPN), in order; repeatable, or separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = TLS)]
    pub alpn: Option<Vec<String>>,
    /// Name expected in the broker's certificate, if it is not the endpoint's.
    #[arg(long, value_name = "NAME", help_heading = TLS)]
    pub tls_server_name: Option<String>,

    /// Times the demo runs; 0 = until stopped.
    #[arg(long, value_name = "N", help_heading = DEMO)]
    pub iterations: Option<u64>,
    /// Messages in each iteration, shared out between both publishers.
    #[arg(long, value_name = "N", help_heading = DEMO)]
    pub publish_count: Option<u64>,
    /// Pause of each publisher between two messages.
    #[arg(long, value_name = "DURATION", help_heading = DEMO)]
    pub publish_delay: Option<TimeSpan>,
    /// Pause between two iterations.
    #[arg(long, value_name = "DURATION", help_heading = DEMO)]
    pub iteration_delay: Option<TimeSpan>,
    /// Pad each message to this size; 0 = just its text.
    #[arg(long, value_name = "SIZE", help_heading = DEMO)]
    pub payload_size: Option<ByteSize>,
    /// Quality of service of messages and subscription: 0, 1 or 2.
    #[arg(long, value_name = "LEVEL", help_heading = DEMO)]
    pub qos: Option<u8>,
    /// First level or levels of all topics: PREFIX/sync/1 and so on.
    #[arg(long, value_name = "PREFIX", help_heading = DEMO)]
    pub topic_prefix: Option<String>,

    /// How threads publish: async, without waiting; or sync, each waits for its acknowledgment.
    #[arg(long, value_name = "MODE", hide_possible_values = true, help_heading = BENCH)]
    pub mode: Option<BenchMode>,
    /// Threads that publish.
    #[arg(long, value_name = "N", help_heading = BENCH)]
    pub threads: Option<usize>,
    /// Messages in all, shared out between the threads.
    #[arg(long, value_name = "N", help_heading = BENCH)]
    pub messages: Option<u64>,
    /// Messages that may await their acknowledgment at one time, over all threads; 20 with QoS 2.
    #[arg(long, value_name = "N", help_heading = BENCH)]
    pub window: Option<u16>,
    /// Also subscribe, receive everything back, and check it.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", hide_possible_values = true, help_heading = BENCH)]
    pub receive: Option<bool>,

    /// Longest silence on the connection, in whole seconds; 0 = no limit.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub keep_alive: Option<TimeSpan>,
    /// Make the broker forget the session at each connection.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", hide_possible_values = true, help_heading = TUNING)]
    pub clean_session: Option<bool>,
    /// Commands that may await their acknowledgment at one time.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub max_inflight: Option<u16>,
    /// Commands that may wait for the connection's thread.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub command_queue: Option<usize>,
    /// Messages that may wait for a subscribed thread.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub response_queue: Option<usize>,
    /// Longest wait for an acknowledgment before connecting anew.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub ack_timeout: Option<TimeSpan>,
    /// Longest wait for each address (TCP), and again for TLS and the broker's answer.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub connect_timeout: Option<TimeSpan>,
    /// Ceiling of the random delay before the first retry; it doubles each time.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub retry_base: Option<TimeSpan>,
    /// Where that ceiling stops growing.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub retry_max: Option<TimeSpan>,
    /// Attempts after a failed one; 0 = no limit.
    #[arg(long, value_name = "N", help_heading = TUNING)]
    pub retry_attempts: Option<u32>,
    /// Least time between two connections.
    #[arg(long, value_name = "DURATION", help_heading = TUNING)]
    pub connect_interval: Option<TimeSpan>,
    /// Largest packet accepted from the broker, headers included.
    #[arg(long, value_name = "SIZE", help_heading = TUNING)]
    pub max_packet_size: Option<ByteSize>,

    /// Form of the result on standard output: text or json.
    #[arg(long, value_name = "FORMAT", hide_possible_values = true, help_heading = OUTPUT)]
    pub output: Option<Output>,
}

impl fmt::Debug for Settings {
    /// The settings that have a value. An endpoint may hold a password where none should be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = toml::Table::try_from(self).map_err(|_| fmt::Error)?;
        let mut shown = f.debug_map();
        for (key, value) in table {
            match value.as_str() {
                Some(text) if key == "endpoint" && !is_endpoint(text) => {
                    shown.entry(&key, &"(not shown: it is none)")
                }
                _ => shown.entry(&key, &value.to_string()),
            };
        }
        shown.finish()
    }
}

impl Cli {
    /// How much to log. Does not need the other settings, so that logging can start first.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Everything,
        }
    }
}

/// Parses the program's arguments. Prints help or version, and ends the program with status 0, where
/// they are asked for.
///
/// # Errors
/// A usage error, as one line.
pub fn parse() -> Result<Cli, Error> {
    let command_line: Vec<OsString> = std::env::args_os().collect();
    match parse_from(&command_line) {
        Ok(cli) => Ok(cli),
        Err(error) if error.use_stderr() => Err(usage_error(&error, &command_line)),
        Err(wanted) => wanted.exit(),
    }
}

/// Parses arguments, the program's name first. `bench` as the first of them asks for that task; a
/// command line without such a word is the demo's.
///
/// # Errors
/// A usage error, or what was asked for in place of a run: help, version.
pub fn parse_from<I, T>(args: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let task = match args.get(1) {
        Some(word) if word == BENCH_WORD => Task::Bench,
        _ => Task::Demo,
    };
    if task == Task::Bench {
        args.remove(1);
    }
    let mut command = command_of(task);
    let matches = command.try_get_matches_from_mut(args)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Cli { task, ..cli })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        parse_from([&["mqtt-connection-sharing"], args].concat())
    }

    #[test]
    fn switches_can_be_given_alone_or_with_a_value() {
        let local = |args| parsed(args).unwrap().settings.local;
        assert_eq!(local(&[]), None);
        assert_eq!(local(&["--local"]), Some(true));
        assert_eq!(local(&["--local=true"]), Some(true));
        assert_eq!(local(&["--local=false"]), Some(false));
        assert!(parsed(&["--local", "false"]).is_err());
        assert!(parsed(&["--clean-session=maybe"]).is_err());
        let cli = parsed(&["--clean-session", "--iterations", "1"]).unwrap();
        assert_eq!(cli.settings.clean_session, Some(true));
        assert_eq!(cli.settings.iterations, Some(1));
    }

    #[test]
    fn alpn_is_repeatable_or_a_list() {
        let names = |args| parsed(args).unwrap().settings.alpn.unwrap();
        assert_eq!(names(&["--alpn", "a,b"]), ["a", "b"]);
        assert_eq!(names(&["--alpn", "a", "--alpn", "b"]), ["a", "b"]);
    }

    #[test]
    fn root_ca_is_another_name_for_ca_file() {
        let cli = parsed(&["--root-ca", "ca.crt"]).unwrap();
        assert_eq!(cli.settings.ca_file, Some(PathBuf::from("ca.crt")));
    }

    #[test]
    fn verbosity_counts_and_quiet_excludes_it() {
        let verbosity = |args| parsed(args).unwrap().verbosity();
        assert_eq!(verbosity(&[]), Verbosity::Normal);
        assert_eq!(verbosity(&["-q"]), Verbosity::Quiet);
        assert_eq!(verbosity(&["-v"]), Verbosity::Verbose);
        assert_eq!(verbosity(&["-vv"]), Verbosity::Everything);
        assert_eq!(verbosity(&["-v", "--verbose", "-v"]), Verbosity::Everything);
        assert!(parsed(&["-q", "-v"]).is_err());
    }

    #[test]
    fn usage_errors_end_with_status_2_and_say_what_is_allowed() {
        for (args, text) in [
            (&["--publish-delay", "5"][..], "100ms"),
            (&["--max-packet-size", "1MB"], "256KiB"),
            (&["--qos", "x"], "invalid"),
            (&["--output", "xml"], "json"),
            (&["--password", "x"], "--password-file"),
            (&["extra"], "unexpected"),
        ] {
            let error = parsed(args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
        assert_eq!(parsed(&["--version"]).unwrap_err().exit_code(), 0);
        assert_eq!(parsed(&["--help"]).unwrap_err().exit_code(), 0);
    }
}
