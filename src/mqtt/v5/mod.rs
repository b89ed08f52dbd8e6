//! \[5\] MQTT 5: encodes packets as bytes, partly through rumqttc's codec (`encode.rs`), and decodes bytes by a walk of its
//! own (`decode.rs`).
//!
//! rumqttc's decoder takes most packets that MQTT 5 forbids, and refuses or spoils some that it allows, so that every
//! byte would have to be read before it. A reader that has read every byte has decoded the packet.
//!
//! All files here are pure and run on the loop's thread.

mod aliases;
mod codes;
mod connack;
mod decode;
mod decoder;
mod encode;
mod problem;
mod properties;
mod property;
mod reader;
mod varint;

#[cfg(any(test, fuzzing))]
pub(super) mod tests;

pub(crate) use aliases::{SentAlias, SentAliases};
#[cfg(any(test, fuzzing))]
pub use decode::decode5;
pub use decode::{Incoming5, ReceivedPublish};
pub use decoder::Decoder5;
pub use encode::{PublishParts, encode_ack5, encode_connect5, encode_disconnect5, encode_publish5};
pub use encode::{encode_subscribe5, encode_unsubscribe5};
pub(crate) use encode::{
    packet_length5, properties_length5, subscribe_length5, unsubscribe_length5,
};
pub use problem::Violation;
