//! The door of the two fuzz targets. libFuzzer drives them from the package `tests/fuzz` (`scripts/fuzz.sh`);
//! `cargo test` replays the corpus of that package and mutates it a little. Built for tests and fuzzing only.
//!
//! What an input stands for is told where the targets are: [`decode`] in `mqtt/v4/tests/`, [`session`] in
//! `story/`.

#[cfg(test)]
pub(in crate::mqtt) mod corpus;
mod record;
mod story;

#[cfg(test)]
mod tests;

pub use super::v4::tests::decode;
use super::v4::tests::wire;

/// What an input showed: nothing, or the rule that was broken.
type Rule = Result<(), String>;

/// Plays a story with a session.
///
/// # Panics
/// When the session breaks a rule: that is a finding.
pub fn session(input: &[u8]) {
    if let Err(broken) = story::play(input, story::Fault::None) {
        panic!("{broken}");
    }
}
