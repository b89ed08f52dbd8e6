//! The flags of the program: those of all settings, and a few that no other source has.
//!
//! Declarations only; `command_line.rs` parses. The main thread uses it.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

use super::settings::{OUTPUT, Task};
use super::sources::Layer;

/// Runs a demo in which three threads share one TLS connection to an MQTT broker: one publishes
/// and waits, one publishes without waiting, one receives everything back.
#[derive(Debug, Clone, Parser)]
#[command(
    version,
    max_term_width = 100,
    args_override_self = true,
    allow_negative_numbers = true
)]
pub(crate) struct Cli {
    /// The command.
    #[arg(skip)]
    pub(crate) task: Task,

    /// TOML file with settings; paths in it are relative to its folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Settings that can also come from the environment and from the file.
    #[command(flatten)]
    pub(crate) given: Layer,

    /// Log more: -v who sends and receives what, -vv each packet, with its size and thread.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = OUTPUT)]
    pub(crate) verbose: u8,

    /// Log errors only.
    #[arg(short, long, help_heading = OUTPUT)]
    pub(crate) quiet: bool,
}

/// How much to log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors only (`-q`).
    Quiet,
    /// The lines that a person wants to read of a run.
    Normal,
    /// Each message of the demo's threads as well (`-v`).
    Verbose,
    /// Each packet as well, and the thread of each line (`-vv`).
    Everything,
}

impl Verbosity {
    /// The level up to which to log.
    pub(crate) fn level(self) -> log::LevelFilter {
        match self {
            Verbosity::Quiet => log::LevelFilter::Error,
            Verbosity::Normal => log::LevelFilter::Info,
            Verbosity::Verbose => log::LevelFilter::Debug,
            Verbosity::Everything => log::LevelFilter::Trace,
        }
    }
}

impl Cli {
    /// How much to log while it runs. A check tells what the log's warnings say in lines of its own.
    pub(crate) fn logged(&self) -> Verbosity {
        match (self.task, self.verbosity()) {
            (Task::Check, Verbosity::Normal) => Verbosity::Quiet,
            (_, verbosity) => verbosity,
        }
    }

    /// How much to log. Does not need the other settings, so that logging can start first.
    pub(crate) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Everything,
        }
    }
}
