//! \[5\] MQTT 3.1.1: encodes our packets as bytes and decodes bytes as our packets, through rumqttc's codec.

mod decode;
mod decoder;
mod encode;
#[cfg(any(test, fuzzing))]
pub(super) mod tests;

pub use decode::decode;
pub use decoder::{Decoder, OnTooLarge};
pub use encode::{encode_ack, encode_connect, encode_disconnect, encode_ping};
pub use encode::{encode_publish, encode_subscribe, encode_unsubscribe};
