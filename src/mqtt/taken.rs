//! \[5\] What both decoders do with the bytes that came: room for a packet, an acknowledgment or a message out of them.
//! Pure.

use std::ops::Range;

use bytes::{Buf, BytesMut};

use crate::mqtt::kept::KeptMemory;
use crate::mqtt::packet::{Incoming, PacketId, SHOWN_BYTES, Text};

/// The shortest payload, in bytes, that gets memory which is kept for the next one.
const KEPT_PAYLOAD: usize = 4 * 1024;

/// The longest payload, in bytes, that is always copied out of the read buffer. A longer one takes the buffer's memory
/// along, and makes new memory necessary, unless it is shorter than what comes behind it.
pub(super) const COPIED_PAYLOAD: usize = 32 * 1024;

/// The most bytes for which room is made at once when a packet has come in part. A broker must not be able to claim
/// more by stating a length.
pub(super) const ROOM: usize = 2 * 1024 * 1024;

/// Bytes are read in pieces of at most this length: a TLS record holds no more.
pub(crate) const READ_SIZE: usize = 16 * 1024;

/// Makes room for the rest of a packet of this length. A buffer that grew piece by piece would copy all that has come
/// several times. The last piece may go past the packet's end.
pub(super) fn make_room(buffer: &mut BytesMut, length: usize, memory: &mut KeptMemory) {
    let end = length.min((buffer.len() / ROOM + 1) * ROOM);
    let room = end + READ_SIZE;
    if length <= COPIED_PAYLOAD {
        buffer.reserve(room - buffer.len());
    } else if buffer.capacity() < room {
        let mut large = memory.take(room);
        large.extend_from_slice(buffer);
        *buffer = large;
    }
}

/// Takes an acknowledgment without code and properties out of the buffer, if one is the first packet. Under load nearly
/// every packet is one.
#[inline]
pub(super) fn take_acknowledgment(buffer: &mut BytesMut) -> Option<Incoming> {
    let &[first, 2, high, low, ..] = &**buffer else {
        return None;
    };
    let id = PacketId::new(u16::from_be_bytes([high, low]))?;
    let packet = match first {
        0x40 => Incoming::PubAck(id),
        0x50 => Incoming::PubRec(id),
        0x62 => Incoming::PubRel(id),
        0x70 => Incoming::PubComp(id),
        _ => return None,
    };
    buffer.advance(4);
    Some(packet)
}

/// Takes a whole PUBLISH of this length out of the buffer. The topic, which was checked, and the payload stand there.
pub(super) fn take_text(
    buffer: &mut BytesMut,
    length: usize,
    topic: Range<usize>,
    payload_begin: usize,
    memory: &mut KeptMemory,
) -> Text {
    let payload = &buffer[payload_begin..length];
    let behind = &buffer[length..];
    if payload.len() <= COPIED_PAYLOAD.max(behind.len()) {
        let text = if payload.len() < KEPT_PAYLOAD {
            Text::copied(&buffer[topic], payload)
        } else {
            let mut copy = memory.take(topic.len() + payload.len());
            copy.extend_from_slice(&buffer[topic.clone()]);
            copy.extend_from_slice(payload);
            Text::Long {
                topic: topic.len(),
                payload_begin: topic.len(),
                bytes: memory.share(copy),
            }
        };
        buffer.advance(length);
        return text;
    }
    // The rest goes on in memory of its own: another message there would keep all of this alive.
    let behind = BytesMut::from(behind);
    let mut packet = std::mem::replace(buffer, behind);
    packet.truncate(length);
    packet.advance(topic.start);
    Text::Long {
        topic: topic.len(),
        payload_begin: payload_begin - topic.start,
        bytes: memory.share(packet),
    }
}

/// The first bytes. Zeros stand for bytes that are missing.
pub(crate) fn beginning(bytes: &[u8]) -> [u8; SHOWN_BYTES] {
    bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut beginning = [0; SHOWN_BYTES];
        beginning[..bytes.len()].copy_from_slice(bytes);
        beginning
    })
}
