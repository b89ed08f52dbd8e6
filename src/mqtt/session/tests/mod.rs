//! Tests of the session.
//!
//! Transcripts read like a packet capture. `transcript.rs` is their harness, and each other file in this folder
//! holds the transcripts of one subject. `rules/` is the rule book of the session. `drivers/` drive a session
//! through the rule book: every interleaving of a small world, random runs, and bytes from a hostile broker. Pure.

pub(in crate::mqtt) mod drivers;
mod rules;

#[cfg(test)]
mod earlier;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod innocent;
#[cfg(test)]
pub(crate) mod packets;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod rate;
#[cfg(test)]
mod receiving;
#[cfg(test)]
mod renewing;
#[cfg(test)]
mod resuming;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod subscribing;
#[cfg(test)]
mod suspects;
#[cfg(test)]
mod timing;
#[cfg(test)]
mod transcript;
#[cfg(test)]
mod trials;
#[cfg(test)]
mod version5;

#[cfg(test)]
pub(crate) use transcript::Transcript;
#[cfg(test)]
use transcript::{HANG, QOS, options};
