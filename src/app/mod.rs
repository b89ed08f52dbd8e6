//! The program: settings, demo, bench, check, pub and sub.
//!
//! Compiled into the binary only. Uses the library's public interface and nothing else of it. The main
//! thread runs it; each file says which other threads it starts. Settings are made of what is passed in: their
//! files read no clock and wait for nothing, which a lint holds.

#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod answers;
mod base64;
pub(crate) mod bench;
pub(crate) mod check;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod checks;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod choice;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod chosen;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
pub(crate) mod cli;
pub(crate) mod command_line;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod completions;
pub(crate) mod demo;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod endpoint;
mod ends_loop;
pub(crate) mod events;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod files;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod foreign;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod help;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
pub(crate) mod in_force;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod json;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod lines;
pub(crate) mod local;
pub(crate) mod logging;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod man;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
pub(crate) mod names;
pub(crate) mod picture;
pub(crate) mod print;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod problems;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod properties;
pub(crate) mod pub_sub;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod refusal;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod remote;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
pub(crate) mod resolve;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
pub(crate) mod settings;
pub(crate) mod signals;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod sources;
mod streams;
mod stuck;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
pub(crate) mod surroundings;
#[cfg(test)]
mod tests;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod traffic;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod units;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod unused;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod usage;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
pub(crate) mod values;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod verbs;
pub(crate) mod view;
#[cfg_attr(not(test), deny(clippy::disallowed_methods))]
mod will;
