//! The program: settings, demo and bench.

pub mod bench;
pub mod cli;
pub mod config;
pub mod demo;
pub mod names;
