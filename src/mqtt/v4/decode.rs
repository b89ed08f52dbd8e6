//! Decodes bytes from the broker as our packets, through rumqttc's codec and the checks that it leaves out.
//!
//! The packets of which there are many, PUBLISH and those with nothing but an identifier, are read in place.
//! A packet that MQTT 3.1.1 forbids a broker to send is a [`ProtocolError`]. The client must close the link
//! after it [MQTT-4.8.0-1]. A packet above the limit is refused on its fixed header alone, before its body
//! is buffered. Pure. Runs on the loop's thread.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rumqttc::mqttbytes::{self, v4};

use crate::mqtt::kept::KeptMemory;
use crate::mqtt::packet::{
    ConnectReturnCode, Incoming, Message, PacketId, ProtocolError, QoS, SHOWN_BYTES,
};
use crate::mqtt::taken::{beginning, make_room, take_acknowledgment, take_text};
use crate::mqtt::topic::{InvalidName, check_received_topic, is_plain_topic, shortened};

/// How many characters of a bad topic an error shows.
const SHOWN_CHARACTERS: usize = 40;

/// Problems that the codec finds, and the rules that they break.
const NOT_UTF8: &str = "MQTT-1.5.3-1";
const MISFIT: (&str, &str) = ("its parts do not fit into its length", "MQTT-4.8.0-1");

/// The parts of a fixed header.
pub(super) struct FixedHeader {
    packet: &'static str,
    flags: u8,
    kind: u8,
    /// The length of the packet, and how much of it this header is.
    length: usize,
    own_length: usize,
}

impl FixedHeader {
    pub(super) fn is_publish(&self) -> bool {
        self.kind == 3
    }

    fn is_retained(&self) -> bool {
        self.flags & 1 != 0
    }

    fn is_repeated(&self) -> bool {
        self.flags & 8 != 0
    }
}

/// The packet that stands first in the buffer.
pub(super) enum Read {
    /// It was taken out.
    Packet(Incoming),
    Incomplete,
    /// A packet above the limit, which is still there.
    TooLarge(FixedHeader),
}

/// Takes the first packet out of `buffer`. Returns `None` while the packet is not complete.
///
/// # Errors
/// [`ProtocolError`] when the bytes are not a packet that a broker may send, or the packet is larger than
/// `max_packet_size` (fixed header included). The content of the buffer is then of no more use.
pub fn decode(
    buffer: &mut BytesMut,
    max_packet_size: usize,
) -> Result<Option<Incoming>, ProtocolError> {
    match read(buffer, max_packet_size, &mut KeptMemory::default())? {
        Read::Packet(packet) => Ok(Some(packet)),
        Read::Incomplete => Ok(None),
        Read::TooLarge(header) => Err(too_large(buffer, &header, max_packet_size)),
    }
}

/// An error about the packet at the beginning of `buffer`. It is known by its first `known` bytes, which must not
/// depend on how many have come.
fn fail(
    buffer: &[u8],
    known: usize,
    packet: &'static str,
    (problem, rule): (String, &'static str),
) -> ProtocolError {
    ProtocolError::unexpected(packet, problem, rule)
        .with_beginning(buffer)
        .about(&buffer[..known.min(buffer.len())])
}

/// The error for a packet above the limit.
pub(super) fn too_large(
    buffer: &[u8],
    header: &FixedHeader,
    max_packet_size: usize,
) -> ProtocolError {
    let problem = format!(
        "{} bytes, above the limit of {max_packet_size}",
        header.length
    );
    let problem = (problem, "max-packet-size");
    fail(buffer, header.own_length, header.packet, problem)
}

/// As [`decode`], and leaves the decision about a packet above the limit to the caller.
pub(super) fn read(
    buffer: &mut BytesMut,
    max_packet_size: usize,
    memory: &mut KeptMemory,
) -> Result<Read, ProtocolError> {
    if let Some(packet) = take_acknowledgment(buffer) {
        return Ok(Read::Packet(packet));
    }
    let header = match fixed_header(buffer) {
        Ok(Some(header)) => header,
        Ok(None) => return Ok(Read::Incomplete),
        Err((packet, problem, rule)) => return Err(fail(buffer, 1, packet, (problem, rule))),
    };
    if header.length > max_packet_size {
        return Ok(Read::TooLarge(header));
    }
    if let Err(problem) = check_flags_and_length(&header) {
        return Err(fail(buffer, header.own_length, header.packet, problem));
    }
    if buffer.len() < header.length {
        make_room(buffer, header.length, memory);
        return Ok(Read::Incomplete);
    }
    if let Some(answer) = answer_with_identifier(&header) {
        return match identifier(u16::from_be_bytes([buffer[2], buffer[3]])) {
            Ok(id) => {
                buffer.advance(header.length);
                Ok(Read::Packet(answer(id)))
            }
            Err(problem) => Err(fail(buffer, header.length, header.packet, problem)),
        };
    }
    if header.is_publish() {
        // The codec would allocate topic and payload for each of them.
        return match take_publish(buffer, &header, memory) {
            Ok(packet) => Ok(Read::Packet(packet)),
            Err(problem) => Err(fail(buffer, header.length, header.packet, problem)),
        };
    }
    let beginning = beginning(buffer);
    let shown = header.length.min(SHOWN_BYTES);
    // The codec ignores the reserved bits of CONNACK's first byte.
    let reserved_bits = header.kind == 2 && beginning[2] & 0xfe != 0;
    let decoded = v4::Packet::read(buffer, max_packet_size)
        .map_err(|error| (codec_problem(&error), codec_rule(&error)))
        .and_then(ours)
        .and_then(|packet| match reserved_bits {
            true => Err(("reserved bits are set".to_owned(), "MQTT 3.1.1, 3.2.2.1")),
            false => Ok(packet),
        });
    match decoded {
        Ok(packet) => Ok(Read::Packet(packet)),
        Err(problem) => Err(fail(&beginning[..shown], shown, header.packet, problem)),
    }
}

/// Reads what stands before the payload of a PUBLISH above the limit: the identifier, and the message without its
/// payload. Returns how many bytes that took, too, or `None` while some of them are missing.
pub(super) fn begin_publish(
    buffer: &[u8],
    header: &FixedHeader,
) -> Result<Option<(Option<PacketId>, Message, usize)>, ProtocolError> {
    let error = |problem| fail(buffer, header.own_length, header.packet, problem);
    check_flags_and_length(header).map_err(error)?;
    let error = |problem| fail(buffer, header.length, header.packet, problem);
    let Some((id, qos, topic, end)) = begin_of_publish(buffer, header).map_err(error)? else {
        return Ok(None);
    };
    let message = Message {
        // A packet that states its length has no more bytes than that.
        too_large: u32::try_from(header.length).unwrap_or(u32::MAX),
        retain: header.is_retained(),
        dup: header.is_repeated(),
        ..Message::copied(topic, qos, &[])
    };
    Ok(Some((id, message, end)))
}

/// Takes a whole PUBLISH out of the buffer. An error leaves it there.
fn take_publish(
    buffer: &mut BytesMut,
    header: &FixedHeader,
    memory: &mut KeptMemory,
) -> Result<Incoming, (String, &'static str)> {
    let Some((id, qos, topic, payload_begin)) = begin_of_publish(buffer, header)? else {
        // The whole packet is there.
        return Err((MISFIT.0.to_owned(), MISFIT.1));
    };
    let topic_begin = header.own_length + 2;
    let topic = topic_begin..topic_begin + topic.len();
    let message = Arc::new(Message {
        text: take_text(buffer, header.length, topic, payload_begin, memory),
        qos,
        retain: header.is_retained(),
        dup: header.is_repeated(),
        too_large: 0,
        received: None,
    });
    Ok(Incoming::Publish { id, message })
}

/// The parts of a PUBLISH before its payload, and where that begins.
type BeginOfPublish<'a> = (Option<PacketId>, QoS, &'a [u8], usize);

/// Reads identifier, QoS and topic of a PUBLISH. Returns where its payload begins, too, or `None` while some of the
/// bytes are missing.
fn begin_of_publish<'a>(
    buffer: &'a [u8],
    header: &FixedHeader,
) -> Result<Option<BeginOfPublish<'a>>, (String, &'static str)> {
    let qos = match (header.flags >> 1) & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let topic_begin = header.own_length + 2;
    let Some(&[high, low]) = buffer.get(header.own_length..topic_begin) else {
        return Ok(None);
    };
    let topic_end = topic_begin + usize::from(u16::from_be_bytes([high, low]));
    let end = topic_end + if qos == QoS::AtMostOnce { 0 } else { 2 };
    if end > header.length {
        return Err((MISFIT.0.to_owned(), MISFIT.1));
    }
    if buffer.len() < end {
        return Ok(None);
    }
    let topic = &buffer[topic_begin..topic_end];
    if !is_plain_topic(topic) {
        check_incoming_topic(topic)?;
    }
    let id = match buffer[topic_end..end] {
        [high, low] => Some(identifier(u16::from_be_bytes([high, low]))?),
        _ => None,
    };
    Ok(Some((id, qos, topic, end)))
}

/// Reads type, flags and remaining length. Returns `None` while some of their bytes are missing.
fn fixed_header(
    buffer: &[u8],
) -> Result<Option<FixedHeader>, (&'static str, String, &'static str)> {
    let Some(&first) = buffer.first() else {
        return Ok(None);
    };
    let kind = first >> 4;
    let packet = match kind {
        1 => "CONNECT",
        2 => "CONNACK",
        3 => "PUBLISH",
        4 => "PUBACK",
        5 => "PUBREC",
        6 => "PUBREL",
        7 => "PUBCOMP",
        8 => "SUBSCRIBE",
        9 => "SUBACK",
        10 => "UNSUBSCRIBE",
        11 => "UNSUBACK",
        12 => "PINGREQ",
        13 => "PINGRESP",
        14 => "DISCONNECT",
        _ => "packet",
    };
    if matches!(kind, 0 | 15) {
        let problem = format!("type {kind} is reserved");
        return Err((packet, problem, "MQTT 3.1.1, 2.2.1"));
    }
    if matches!(kind, 1 | 8 | 10 | 12 | 14) {
        let problem = "only a client may send it".to_owned();
        return Err((packet, problem, "MQTT 3.1.1, 2.2.1"));
    }
    let mut remaining = 0_usize;
    for (index, &byte) in buffer[1..].iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                let problem = "remaining length with more bytes than it needs".to_owned();
                return Err((packet, problem, "MQTT 3.1.1, 2.2.3"));
            }
            return Ok(Some(FixedHeader {
                packet,
                flags: first & 0x0f,
                kind,
                length: 2 + index + remaining,
                own_length: 2 + index,
            }));
        }
    }
    if buffer.len() > 4 {
        let problem = "remaining length of more than four bytes".to_owned();
        return Err((packet, problem, "MQTT 3.1.1, 2.2.3"));
    }
    Ok(None)
}

/// Checks everything that the fixed header alone shows.
fn check_flags_and_length(header: &FixedHeader) -> Result<(), (String, &'static str)> {
    let flags = header.flags;
    if header.kind == 3 {
        let qos = (flags >> 1) & 3;
        if qos == 3 {
            return Err(("both QoS bits are set".to_owned(), "MQTT-3.3.1-4"));
        }
        if qos == 0 && flags & 8 != 0 {
            return Err(("DUP is set on QoS 0".to_owned(), "MQTT-3.3.1-2"));
        }
    } else {
        let expected = if header.kind == 6 { 2 } else { 0 };
        if flags != expected {
            let problem = format!("flags {flags:04b} where {expected:04b} is required");
            return Err((problem, "MQTT-2.2.2-2"));
        }
    }
    if header.kind == 9 && header.length <= 4 {
        return Err(("no return code".to_owned(), "MQTT-3.9.3-1"));
    }
    let expected = match header.kind {
        13 => Some(2),
        2 | 4 | 5 | 6 | 7 | 11 => Some(4),
        _ => None,
    };
    match expected {
        Some(length) if header.length != length => {
            let problem = format!("{} bytes long instead of {length}", header.length);
            Err((problem, "MQTT 3.1.1, 3"))
        }
        _ => Ok(()),
    }
}

/// The constructor for a packet that holds nothing but an identifier, or `None` for any other packet. The
/// caller has checked the packet's length.
fn answer_with_identifier(header: &FixedHeader) -> Option<fn(PacketId) -> Incoming> {
    Some(match header.kind {
        4 => Incoming::PubAck,
        5 => Incoming::PubRec,
        6 => Incoming::PubRel,
        7 => Incoming::PubComp,
        11 => Incoming::UnsubAck,
        _ => return None,
    })
}

/// Turns the codec's packet into ours, and makes the checks that need the body.
fn ours(packet: v4::Packet) -> Result<Incoming, (String, &'static str)> {
    match packet {
        v4::Packet::ConnAck(ack) => connack(&ack),
        v4::Packet::SubAck(ack) => Ok(Incoming::SubAck {
            id: identifier(ack.pkid)?,
            granted: ack
                .return_codes
                .iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => Some(our_qos(*qos)),
                    v4::SubscribeReasonCode::Failure => None,
                })
                .collect(),
        }),
        v4::Packet::PingResp => Ok(Incoming::PingResp),
        // The check of the fixed header has ruled these out.
        other => Err((
            format!("{other:?} is not for a client"),
            "MQTT 3.1.1, 2.2.1",
        )),
    }
}

fn connack(ack: &v4::ConnAck) -> Result<Incoming, (String, &'static str)> {
    let code = match ack.code {
        v4::ConnectReturnCode::Success => ConnectReturnCode::Accepted,
        v4::ConnectReturnCode::RefusedProtocolVersion => {
            ConnectReturnCode::UnacceptableProtocolVersion
        }
        v4::ConnectReturnCode::BadClientId => ConnectReturnCode::IdentifierRejected,
        v4::ConnectReturnCode::ServiceUnavailable => ConnectReturnCode::ServerUnavailable,
        v4::ConnectReturnCode::BadUserNamePassword => ConnectReturnCode::BadUserNameOrPassword,
        v4::ConnectReturnCode::NotAuthorized => ConnectReturnCode::NotAuthorized,
    };
    if ack.session_present && code != ConnectReturnCode::Accepted {
        let problem = "session present together with a refusal".to_owned();
        return Err((problem, "MQTT-3.2.2-4"));
    }
    Ok(Incoming::ConnAck {
        session_present: ack.session_present,
        code,
    })
}

fn check_incoming_topic(topic: &[u8]) -> Result<(), (String, &'static str)> {
    let topic = std::str::from_utf8(topic).map_err(|_| {
        let shown = shortened(&String::from_utf8_lossy(topic), SHOWN_CHARACTERS);
        (format!("topic {shown} is not UTF-8"), NOT_UTF8)
    })?;
    check_received_topic(topic).map_err(|problem| {
        let rule = match problem {
            InvalidName::Character { .. } => "MQTT-1.5.3-2",
            InvalidName::Empty => "MQTT-4.7.3-1",
            _ => "MQTT-3.3.2-2",
        };
        // The topic may have 65,535 bytes, and the error becomes one line of the log.
        let shown = shortened(topic, SHOWN_CHARACTERS);
        (format!("topic {shown} is not a topic name"), rule)
    })
}

fn identifier(value: u16) -> Result<PacketId, (String, &'static str)> {
    PacketId::new(value).ok_or_else(|| ("packet identifier 0".to_owned(), "MQTT-2.3.1-1"))
}

fn our_qos(qos: mqttbytes::QoS) -> QoS {
    match qos {
        mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        mqttbytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
        mqttbytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn codec_problem(error: &mqttbytes::Error) -> String {
    match error {
        mqttbytes::Error::TopicNotUtf8 => "a string that is not UTF-8".to_owned(),
        mqttbytes::Error::PacketIdZero => "packet identifier 0".to_owned(),
        mqttbytes::Error::InvalidSubscribeReasonCode(code) => {
            format!("return code {code:#04x} is reserved")
        }
        mqttbytes::Error::InvalidConnectReturnCode(code) => {
            format!("return code {code} is reserved")
        }
        _ => MISFIT.0.to_owned(),
    }
}

fn codec_rule(error: &mqttbytes::Error) -> &'static str {
    match error {
        mqttbytes::Error::TopicNotUtf8 => NOT_UTF8,
        mqttbytes::Error::PacketIdZero => "MQTT-2.3.1-1",
        mqttbytes::Error::InvalidSubscribeReasonCode(_) => "MQTT-3.9.3-2",
        mqttbytes::Error::InvalidConnectReturnCode(_) => "MQTT 3.1.1, 3.2.2.3",
        _ => MISFIT.1,
    }
}

#[cfg(test)]
mod tests;
