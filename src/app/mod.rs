//! The program: settings, demo and bench.
//!
//! Compiled into the binary only. Uses the library's public interface and nothing else of it. The main
//! thread runs it; each file says which other threads it starts.

pub(crate) mod bench;
mod checks;
pub(crate) mod command_line;
pub(crate) mod demo;
mod endpoint;
mod files;
mod help;
pub(crate) mod local;
pub(crate) mod logging;
pub(crate) mod names;
pub(crate) mod print;
mod remote;
pub(crate) mod resolve;
pub(crate) mod settings;
pub(crate) mod signals;
pub(crate) mod sources;
#[cfg(test)]
mod tests;
mod traffic;
mod units;
mod usage;
mod values;
mod will;
