//! Tests of the codec of MQTT 5: packets one by one, a codec of others as the judge, and streams of any bytes.

#[cfg(test)]
mod encoded;
#[cfg(test)]
mod judged;
#[cfg(test)]
mod received;
mod stream;
pub(in crate::mqtt) mod wire;
mod written;

pub use stream::decode5_stream;

#[cfg(test)]
use super::{Incoming5, Violation, decode5};

/// More than any packet of these tests.
#[cfg(test)]
const LIMIT: usize = 100_000;

/// A whole packet: its first byte, its length and this body.
#[cfg(test)]
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::from(&[first][..]);
    super::varint::write(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes.to_vec()
}

#[cfg(test)]
fn decoded(bytes: &[u8]) -> Result<Option<Incoming5>, Violation> {
    decode5(&mut bytes::BytesMut::from(bytes), LIMIT)
}
