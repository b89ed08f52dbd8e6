//! How the session is judged.
//!
//! Transcripts read like a packet capture: `transcript.rs` is the harness, and the files named after a subject
//! are told with it. `rules/` is the rule book of the session, and `drivers/` drive a session through it: every
//! interleaving of a small world, random stories, and bytes from an enemy. Pure.

pub(in crate::mqtt) mod drivers;
mod rules;

#[cfg(test)]
mod ending;
#[cfg(test)]
pub(crate) mod packets;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod receiving;
#[cfg(test)]
mod renewing;
#[cfg(test)]
mod resuming;
#[cfg(test)]
mod subscribing;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod transcript;

#[cfg(test)]
pub(crate) use transcript::Transcript;
#[cfg(test)]
use transcript::{HANG, QOS, options};
