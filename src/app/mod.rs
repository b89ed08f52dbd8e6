//! The program: settings, demo and bench.
//!
//! Compiled into the binary only. Uses the library's public interface and nothing else of it. The main
//! thread runs it; each file says which other threads it starts.

pub(crate) mod bench;
pub(crate) mod cli;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod names;
pub(crate) mod signals;
#[cfg(test)]
mod tests;
