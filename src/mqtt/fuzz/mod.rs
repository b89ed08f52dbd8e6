//! Bytes from an enemy: the bodies of the two fuzz targets.
//!
//! [`decode`] puts a stream of bytes through the decoder, in one piece and in several; [`session`]
//! plays a story with a whole session in it. What an input stands for is told in `decoding.rs` and
//! `story.rs`. What is right they do not ask the crate: `wire.rs` reads packets on its own, and
//! `record.rs` keeps what the session was told and sent, and holds it to that.
//!
//! libFuzzer drives them from the package `tests/fuzz` (`scripts/fuzz.sh`). `cargo test` replays the
//! corpus of that package and mutates it a little, and shows with deliberate faults that the rules
//! notice what they are there for. Pure, like what they try; built for tests and for fuzzing only.

mod decoding;
mod record;
mod story;
mod wire;

#[cfg(test)]
mod mutation;
#[cfg(test)]
mod tests;

/// What an input showed: nothing, or the rule that was broken.
type Rule = Result<(), String>;

/// Feeds the decoder.
///
/// # Panics
/// When the decoder breaks a rule: that is a finding.
pub fn decode(input: &[u8]) {
    if let Err(broken) = decoding::check(input, crate::mqtt::v4::decode) {
        panic!("{broken}");
    }
}

/// Plays a story with a session.
///
/// # Panics
/// When the session breaks a rule: that is a finding.
pub fn session(input: &[u8]) {
    if let Err(broken) = story::play(input, story::Fault::None) {
        panic!("{broken}");
    }
}
