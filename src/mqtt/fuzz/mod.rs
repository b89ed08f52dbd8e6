//! The door of the fuzz targets. libFuzzer drives them from the package `tests/fuzz` (`scripts/fuzz.sh`);
//! `cargo test` replays the corpus of that package and mutates it a little. Built for tests and fuzzing only.
//!
//! The targets are [`decode`] in `mqtt/v4/tests/`, [`decode5_stream`] in `mqtt/v5/tests/` and [`session`] and
//! [`session5`] in `mqtt/session/tests/drivers/`; the meaning of an input is told there.

#[cfg(test)]
pub(super) mod corpus;

pub use super::session::tests::drivers::bytes::session;
pub use super::session::tests::drivers::bytes5::session5;
pub use super::v4::tests::decode;
pub use super::v5::tests::decode5_stream;
