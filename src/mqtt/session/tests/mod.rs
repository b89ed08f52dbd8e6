//! How the session is judged.
//!
//! Transcripts read like a packet capture: `transcript.rs` is the harness, and the files named after a subject
//! are told with it.

mod broker;
mod ending;
mod fanout;
mod packets;
mod publishing;
mod receiving;
mod renewing;
mod resuming;
mod storm;
mod subscribing;
mod timing;
mod transcript;

use transcript::{HANG, QOS, Token, Transcript};
