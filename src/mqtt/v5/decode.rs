//! Decodes bytes from a server that speaks MQTT 5.
//!
//! Each byte is read once, by one rule: flags, lengths, identifiers, codes, properties (`properties.rs`) and texts. A
//! packet that the standard forbids a server to send is a [`Violation`], with the reason code that DISCONNECT carries
//! before the client closes the link [MQTT 5, 4.13]. A packet above the limit is told by its fixed header alone,
//! before its body is buffered. Pure. Runs on the loop's thread.

use std::num::NonZeroU16;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use crate::mqtt::kept::KeptMemory;
use crate::mqtt::packet::{ConnAck5, Details, MessageProperties, PacketId, QoS, ReasonCode};
use crate::mqtt::taken::make_room;
use crate::mqtt::topic::{check_received_topic, is_plain_topic, shortened};
use crate::mqtt::v5::codes;
use crate::mqtt::v5::connack;
use crate::mqtt::v5::problem::{Problem, Violation};
use crate::mqtt::v5::properties::{Value, take_detail, take_of_message, walk};
use crate::mqtt::v5::property::{Carrier, Property};
use crate::mqtt::v5::reader::Reader;
use crate::mqtt::v5::varint;
#[cfg(any(test, fuzzing))]
use crate::mqtt::{packet::Message, taken::take_text};

/// How many characters of a bad topic an error shows.
const SHOWN_CHARACTERS: usize = 40;

/// A packet from a server that has passed every check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Incoming5 {
    /// Answer to CONNECT.
    ConnAck(Box<ConnAck5>),
    /// A message.
    Publish(Box<ReceivedPublish>),
    /// Acknowledges a QoS 1 PUBLISH, or refuses it.
    PubAck(PacketId, ReasonCode, Details),
    /// First acknowledgment of a QoS 2 PUBLISH. A failure ends its flow [MQTT-4.3.3-4].
    PubRec(PacketId, ReasonCode, Details),
    /// Releases a QoS 2 message that the server sent.
    PubRel(PacketId, ReasonCode, Details),
    /// Last acknowledgment of a QoS 2 PUBLISH.
    PubComp(PacketId, ReasonCode, Details),
    /// Answer to SUBSCRIBE: a code for each filter, in order; 0 to 2 are the granted quality of service.
    SubAck(PacketId, Vec<ReasonCode>, Details),
    /// Answer to UNSUBSCRIBE: a code for each filter, in order.
    UnsubAck(PacketId, Vec<ReasonCode>, Details),
    /// Answer to PINGREQ.
    PingResp,
    /// The server closes the connection, and says why.
    Disconnect {
        /// Why.
        code: ReasonCode,
        /// Another server to use.
        server_reference: Option<String>,
        /// The server's own words on it.
        details: Details,
    },
}

/// A message as it came, before its topic alias is resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ReceivedPublish {
    /// Identifier to acknowledge; `None` for QoS 0.
    pub id: Option<PacketId>,
    /// Quality of service at which it arrived.
    pub qos: QoS,
    /// Whether it was a retained message.
    pub retain: bool,
    /// Whether the server marked it as sent before.
    pub dup: bool,
    /// Topic name. It is empty if the alias stands for it.
    pub topic: String,
    /// Stands for the topic from now on, or, where that is empty, as it was stated before on this connection.
    pub alias: Option<NonZeroU16>,
    /// The identifiers of the subscriptions for which it came.
    pub subscription_identifiers: Vec<u32>,
    /// The additions of its publisher.
    pub properties: MessageProperties,
    /// Application message.
    pub payload: Bytes,
}

/// The packets that a server may send, AUTH among them, which is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FromServer {
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    SubAck,
    UnsubAck,
    PingResp,
    Disconnect,
    Auth,
}

/// Type, flags and lengths of a packet.
pub(super) struct Header {
    kind: FromServer,
    packet: &'static str,
    flags: u8,
    /// The length of the packet, and how much of it this header is.
    pub(super) length: usize,
    own_length: usize,
}

impl Header {
    pub(super) fn is_publish(&self) -> bool {
        self.kind == FromServer::Publish
    }

    /// The packet has this problem. It is known by so many of its first bytes.
    fn violation(&self, problem: Problem, buffer: &[u8], known: usize) -> Violation {
        let come = buffer.len().min(self.length);
        problem.of(self.packet, &buffer[..come], known)
    }
}

/// The packet that stands first in the buffer.
pub(super) enum Found {
    /// It was taken out.
    Packet(Incoming5),
    /// It is still there.
    Publish(FoundPublish),
    /// It is above the limit, and the part of it that has come is still there.
    TooLarge(Header),
}

/// A PUBLISH in the buffer.
pub(super) struct FoundPublish {
    /// Without topic and payload.
    pub(super) publish: ReceivedPublish,
    /// Where its topic stands in the packet.
    pub(super) topic: Range<usize>,
    pub(super) payload_begin: usize,
    /// How much of the packet is there: all of it, or all that stands before its payload.
    pub(super) length: usize,
}

/// Takes the first packet out of `buffer`. Returns `None` while the packet is not complete.
///
/// # Errors
/// [`Violation`] when the bytes are not a packet that a server may send, or the packet is larger than
/// `max_packet_size` (fixed header included). The content of the buffer is then of no more use.
#[cfg(any(test, fuzzing))]
pub fn decode5(
    buffer: &mut BytesMut,
    max_packet_size: usize,
) -> Result<Option<Incoming5>, Violation> {
    let memory = &mut KeptMemory::default();
    let found = match read(buffer, max_packet_size, memory)? {
        None => return Ok(None),
        Some(Found::Packet(packet)) => return Ok(Some(packet)),
        Some(Found::Publish(found)) => found,
        Some(Found::TooLarge(header)) => return Err(too_large(buffer, &header, max_packet_size)),
    };
    let mut publish = found.publish;
    let (topic, payload_begin) = (found.topic, found.payload_begin);
    let text = take_text(buffer, found.length, topic, payload_begin, memory);
    let message = Message {
        text,
        ..Message::copied(&[], publish.qos, &[])
    };
    publish.topic = message.topic().to_owned();
    publish.payload = message.to_payload();
    Ok(Some(Incoming5::Publish(Box::new(publish))))
}

/// Takes the first packet out of `buffer`, unless it is a PUBLISH or above the limit. Returns `None` while the packet is
/// not complete.
///
/// # Errors
/// [`Violation`] when the bytes are not a packet that a server may send.
pub(super) fn read(
    buffer: &mut BytesMut,
    max_packet_size: usize,
    memory: &mut KeptMemory,
) -> Result<Option<Found>, Violation> {
    let Some(header) = header(buffer)? else {
        return Ok(None);
    };
    if header.length > max_packet_size {
        return Ok(Some(Found::TooLarge(header)));
    }
    let of_header = |problem| header.violation(problem, buffer, header.own_length);
    check_header(&header).map_err(of_header)?;
    if buffer.len() < header.length {
        make_room(buffer, header.length, memory);
        return Ok(None);
    }
    let body = &buffer[header.own_length..header.length];
    let packet = &buffer[..header.length];
    let of_packet = |problem: Problem| problem.of(header.packet, packet, header.length);
    if header.kind == FromServer::Publish {
        let (publish, topic, begin) = publish(body, header.flags).map_err(of_packet)?;
        return Ok(Some(Found::Publish(FoundPublish {
            publish,
            topic: header.own_length + 2..header.own_length + 2 + topic,
            payload_begin: header.own_length + begin,
            length: header.length,
        })));
    }
    let received = answer(header.kind, body).map_err(of_packet)?;
    buffer.advance(header.length);
    Ok(Some(Found::Packet(received)))
}

/// A packet above the limit that is not read away.
pub(super) fn too_large(buffer: &[u8], header: &Header, max_packet_size: usize) -> Violation {
    let problem = format!(
        "{} bytes, above the limit of {max_packet_size}",
        header.length
    );
    let problem = Problem::forbidden(problem, "max-packet-size");
    let problem = problem.answered(ReasonCode::PACKET_TOO_LARGE);
    header.violation(problem, buffer, header.own_length)
}

/// Reads what stands before the payload of a PUBLISH above the limit. Returns `None` while some of it is missing.
///
/// # Errors
/// As `decode5`. It is above the limit, too, where this part of it alone is.
pub(super) fn begin_publish(
    buffer: &[u8],
    header: &Header,
    max_packet_size: usize,
) -> Result<Option<FoundPublish>, Violation> {
    let of_header = |problem| header.violation(problem, buffer, header.own_length);
    check_header(header).map_err(of_header)?;
    let come = &buffer[header.own_length..buffer.len().min(header.length)];
    let most = max_packet_size.saturating_sub(header.own_length);
    let end = match length_before_payload(come, header, most).map_err(of_header)? {
        None => return Ok(None),
        Some(BeforePayload::TooLarge) => return Err(too_large(buffer, header, max_packet_size)),
        Some(BeforePayload::Come(end)) => end,
    };
    let length = header.own_length + end;
    let of_beginning = |problem: Problem| problem.of(header.packet, &buffer[..length], length);
    let (publish, topic, begin) = publish(&come[..end], header.flags).map_err(of_beginning)?;
    Ok(Some(FoundPublish {
        publish,
        topic: header.own_length + 2..header.own_length + 2 + topic,
        payload_begin: header.own_length + begin,
        length,
    }))
}

/// How much of a PUBLISH stands before its payload.
enum BeforePayload {
    /// So many bytes, fixed header not included. All of them have come.
    Come(usize),
    /// More than the limit.
    TooLarge,
}

/// How much of the body of a PUBLISH stands before its payload. Returns `None` while that cannot be told, or some of it is
/// missing. No more than `most` bytes are waited for.
fn length_before_payload(
    come: &[u8],
    header: &Header,
    most: usize,
) -> Result<Option<BeforePayload>, Problem> {
    let remaining = header.length - header.own_length;
    let Some(&[high, low]) = come.first_chunk() else {
        return Ok(None);
    };
    let id = if header.flags & 6 == 0 { 0 } else { 2 };
    let properties = 2 + usize::from(u16::from_be_bytes([high, low])) + id;
    if properties >= remaining {
        return Err(Problem::misfit());
    }
    if properties >= most {
        return Ok(Some(BeforePayload::TooLarge));
    }
    let Some(rest) = come.get(properties..) else {
        return Ok(None);
    };
    let end = match varint::read(rest) {
        Ok(Some((length, own_length))) => properties + own_length + length,
        Ok(None) if come.len() == remaining => return Err(Problem::misfit()),
        Ok(None) => return Ok(None),
        Err(bad) => return Err(Problem::varint("the length of the properties", bad)),
    };
    if end > remaining {
        return Err(Problem::malformed(
            "the properties do not fit into the packet",
            "MQTT 5, 2.2.2.1",
        ));
    }
    if end > most {
        return Ok(Some(BeforePayload::TooLarge));
    }
    Ok((come.len() >= end).then_some(BeforePayload::Come(end)))
}

/// Reads type, flags and remaining length. Returns `None` while some of their bytes are missing.
fn header(buffer: &[u8]) -> Result<Option<Header>, Violation> {
    let Some(&first) = buffer.first() else {
        return Ok(None);
    };
    let client = |packet| {
        let problem = Problem::forbidden("only a client may send it", "MQTT 5, 2.1.2");
        Err(problem.of(packet, buffer, 1))
    };
    let (kind, packet) = match first >> 4 {
        2 => (FromServer::ConnAck, "CONNACK"),
        3 => (FromServer::Publish, "PUBLISH"),
        4 => (FromServer::PubAck, "PUBACK"),
        5 => (FromServer::PubRec, "PUBREC"),
        6 => (FromServer::PubRel, "PUBREL"),
        7 => (FromServer::PubComp, "PUBCOMP"),
        9 => (FromServer::SubAck, "SUBACK"),
        11 => (FromServer::UnsubAck, "UNSUBACK"),
        13 => (FromServer::PingResp, "PINGRESP"),
        14 => (FromServer::Disconnect, "DISCONNECT"),
        15 => (FromServer::Auth, "AUTH"),
        1 => return client("CONNECT"),
        8 => return client("SUBSCRIBE"),
        10 => return client("UNSUBSCRIBE"),
        12 => return client("PINGREQ"),
        _ => {
            let problem = Problem::malformed("type 0 is reserved", "MQTT 5, 2.1.2");
            return Err(problem.of("packet", buffer, 1));
        }
    };
    match varint::read(&buffer[1..]) {
        Ok(Some((remaining, length))) => Ok(Some(Header {
            kind,
            packet,
            flags: first & 0x0f,
            length: 1 + length + remaining,
            own_length: 1 + length,
        })),
        Ok(None) => Ok(None),
        Err(bad) => Err(Problem::varint("the remaining length", bad).of(packet, buffer, 1)),
    }
}

/// Checks everything that the fixed header alone shows.
fn check_header(header: &Header) -> Result<(), Problem> {
    let flags = header.flags;
    if header.kind == FromServer::Publish {
        return match (flags >> 1) & 3 {
            3 => Err(Problem::malformed("both QoS bits are set", "MQTT-3.3.1-4")),
            0 if flags & 8 != 0 => Err(Problem::forbidden("DUP is set on QoS 0", "MQTT-3.3.1-2")),
            _ => Ok(()),
        };
    }
    let expected = match header.kind {
        FromServer::PubRel => 2,
        _ => 0,
    };
    if flags != expected {
        let problem = format!("flags {flags:04b} where {expected:04b} is required");
        return Err(Problem::malformed(problem, "MQTT-2.1.3-1"));
    }
    let remaining = header.length - header.own_length;
    let least = match header.kind {
        FromServer::ConnAck
        | FromServer::PubAck
        | FromServer::PubRec
        | FromServer::PubRel
        | FromServer::PubComp => 2,
        FromServer::SubAck | FromServer::UnsubAck => 4,
        _ => 0,
    };
    if remaining < least || header.kind == FromServer::PingResp && remaining > 0 {
        return Err(Problem::misfit());
    }
    match header.kind {
        // No CONNECT of ours names an authentication method.
        FromServer::Auth => Err(Problem::forbidden(
            "no authentication method was asked for",
            "MQTT-4.12.0-6",
        )),
        _ => Ok(()),
    }
}

/// Reads all packets but PUBLISH. `body` is what follows the fixed header.
fn answer(kind: FromServer, body: &[u8]) -> Result<Incoming5, Problem> {
    match kind {
        FromServer::ConnAck => Ok(Incoming5::ConnAck(Box::new(connack::read(body)?))),
        FromServer::PubAck => acknowledgment(body, codes::PUBACK, Incoming5::PubAck),
        FromServer::PubRec => acknowledgment(body, codes::PUBACK, Incoming5::PubRec),
        FromServer::PubRel => acknowledgment(body, codes::PUBREL, Incoming5::PubRel),
        FromServer::PubComp => acknowledgment(body, codes::PUBREL, Incoming5::PubComp),
        FromServer::SubAck => several(body, codes::SUBACK, "MQTT-3.9.3-1", Incoming5::SubAck),
        FromServer::UnsubAck => {
            several(body, codes::UNSUBACK, "MQTT-3.11.3-1", Incoming5::UnsubAck)
        }
        FromServer::Disconnect => disconnect(body),
        // `check_header` has refused AUTH, and PUBLISH is read elsewhere.
        FromServer::PingResp | FromServer::Auth | FromServer::Publish => Ok(Incoming5::PingResp),
    }
}

/// Reads a packet with one identifier and one code. Code and properties may be missing at its end, which means success
/// and none [MQTT 5, 3.4.2.1].
fn acknowledgment(
    body: &[u8],
    codes: &[u8],
    make: fn(PacketId, ReasonCode, Details) -> Incoming5,
) -> Result<Incoming5, Problem> {
    let mut reader = Reader { bytes: body, at: 0 };
    let id = identifier(reader.two()?)?;
    let (code, details) = code_and_details(&body[2..], codes, Carrier::Acknowledgment, |_, _| {})?;
    Ok(make(id, code, details))
}

/// Reads a code and properties that may be missing at the end of a packet. `other` gets the properties that are
/// no details.
fn code_and_details(
    bytes: &[u8],
    codes: &[u8],
    carrier: Carrier,
    mut other: impl FnMut(Property, Value<'_>),
) -> Result<(ReasonCode, Details), Problem> {
    let mut details = Details::default();
    let Some((&code, properties)) = bytes.split_first() else {
        return Ok((ReasonCode::SUCCESS, details));
    };
    let code = ReasonCode::checked(code, codes)?;
    if !properties.is_empty() {
        let length = walk(properties, carrier, |property, value| {
            take_detail(&mut details, property, value);
            other(property, value);
        })?;
        if length != properties.len() {
            return Err(Problem::misfit());
        }
    }
    Ok((code, details))
}

/// Reads a packet with an identifier, properties, and a code for each filter. `rule` asks for the codes.
fn several(
    body: &[u8],
    codes: &[u8],
    rule: &'static str,
    make: fn(PacketId, Vec<ReasonCode>, Details) -> Incoming5,
) -> Result<Incoming5, Problem> {
    let mut reader = Reader { bytes: body, at: 0 };
    let id = identifier(reader.two()?)?;
    let mut details = Details::default();
    let length = walk(&body[2..], Carrier::Acknowledgment, |property, value| {
        take_detail(&mut details, property, value);
    })?;
    let found = &body[2 + length..];
    if found.is_empty() {
        return Err(Problem::forbidden("no reason code", rule));
    }
    let found = found.iter().map(|code| ReasonCode::checked(*code, codes));
    Ok(make(id, found.collect::<Result<_, _>>()?, details))
}

fn disconnect(body: &[u8]) -> Result<Incoming5, Problem> {
    let mut server_reference = None;
    let (code, details) = code_and_details(
        body,
        codes::DISCONNECT,
        Carrier::Disconnect,
        |property, value| {
            if let (Property::ServerReference, Value::Text(text)) = (property, value) {
                server_reference = Some(text.to_owned());
            }
        },
    )?;
    Ok(Incoming5::Disconnect {
        code,
        server_reference,
        details,
    })
}

/// Reads a PUBLISH up to its payload. Returns the length of its topic and where its payload begins, too.
fn publish(body: &[u8], flags: u8) -> Result<(ReceivedPublish, usize, usize), Problem> {
    let mut reader = Reader { bytes: body, at: 0 };
    let topic = reader.text("topic")?;
    let qos = match (flags >> 1) & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let id = match qos {
        QoS::AtMostOnce => None,
        _ => Some(identifier(reader.two()?)?),
    };
    let mut publish = ReceivedPublish {
        id,
        qos,
        retain: flags & 1 != 0,
        dup: flags & 8 != 0,
        ..ReceivedPublish::default()
    };
    let begin = reader.at;
    let length = walk(&body[begin..], Carrier::Publish, |property, value| {
        take(&mut publish, property, value);
    })?;
    // An empty topic needs an alias [MQTT 5, 3.3.2.1].
    let is_plain = is_plain_topic(topic.as_bytes());
    if !(is_plain || topic.is_empty() && publish.alias.is_some()) {
        check_received_topic(topic).map_err(|problem| {
            let shown = shortened(topic, SHOWN_CHARACTERS);
            let text = format!("{shown} is not a topic name: {problem}");
            match topic.is_empty() {
                true => Problem::forbidden(
                    "the topic is empty, and no alias stands for it",
                    "MQTT 5, 3.3.2.1",
                ),
                false => Problem::malformed(text, "MQTT-3.3.2-2"),
            }
        })?;
    }
    Ok((publish, topic.len(), begin + length))
}

/// Takes a property over. The walk has checked that it may stand here and fits its form.
fn take(publish: &mut ReceivedPublish, property: Property, value: Value<'_>) {
    match (property, value) {
        (Property::SubscriptionIdentifier, Value::Number(id)) => {
            publish.subscription_identifiers.push(id);
        }
        (Property::TopicAlias, Value::Number(alias)) => {
            publish.alias = u16::try_from(alias).ok().and_then(NonZeroU16::new);
        }
        _ => take_of_message(&mut publish.properties, property, value),
    }
}

fn identifier(value: u16) -> Result<PacketId, Problem> {
    PacketId::new(value)
        .ok_or_else(|| Problem::malformed("the packet identifier is 0", "MQTT 5, 2.2.1"))
}
