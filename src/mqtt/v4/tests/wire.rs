//! A second reader and writer of packets, written from the text of MQTT 3.1.1 alone. It uses neither the codec
//! nor the checks of the crate, so that it does not repeat their mistakes. Pure.

use std::sync::Arc;

use crate::mqtt::packet::{ConnectReturnCode, Incoming, Message, PacketId, QoS};

/// A packet of the client.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum FromClient<'a> {
    Connect {
        clean_session: bool,
    },
    Publish {
        dup: bool,
        qos: u8,
        retain: bool,
        topic: &'a str,
        id: u16,
        payload: &'a [u8],
    },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe {
        id: u16,
        filters: Vec<(&'a str, u8)>,
    },
    Unsubscribe {
        id: u16,
        filters: Vec<&'a str>,
    },
    PingReq,
    Disconnect,
}

/// The length of the fixed header and of the whole packet [2.2.3]. Returns `None` while bytes of the remaining
/// length are missing.
pub(in crate::mqtt) fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let mut remaining = 0;
    for place in 1..=4 {
        let Some(byte) = bytes.get(place) else {
            return Ok(None);
        };
        remaining += usize::from(byte % 128) << (7 * (place - 1));
        match byte {
            0 if place > 1 => return Err("a remaining length with bytes to spare"),
            0..128 => return Ok(Some((place + 1, place + 1 + remaining))),
            _ => {}
        }
    }
    Err("a remaining length of more than four bytes")
}

/// Takes fields off the front of a packet's body. Each method returns `None` for a field that is cut off or wrong.
pub(in crate::mqtt) struct Fields<'a>(pub(in crate::mqtt) &'a [u8]);

impl<'a> Fields<'a> {
    pub(in crate::mqtt) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(in crate::mqtt) fn number(&mut self) -> Option<u16> {
        Some(u16::from(self.byte()?) << 8 | u16::from(self.byte()?))
    }

    pub(in crate::mqtt) fn identifier(&mut self) -> Option<u16> {
        self.number().filter(|id| *id != 0)
    }

    /// A string as [1.5.3] defines it: UTF-8, without U+0000.
    pub(in crate::mqtt) fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.number()?);
        let bytes = self.0.get(..length)?;
        self.0 = &self.0[length..];
        let text = std::str::from_utf8(bytes).ok()?;
        (!bytes.contains(&0)).then_some(text)
    }

    pub(in crate::mqtt) fn topic(&mut self) -> Option<&'a str> {
        let topic = self.text()?;
        let wrong = topic.is_empty() || topic.bytes().any(|b| b == b'+' || b == b'#');
        (!wrong).then_some(topic)
    }

    pub(in crate::mqtt) fn filter(&mut self) -> Option<&'a str> {
        self.text().filter(|filter| !filter.is_empty())
    }

    pub(in crate::mqtt) fn end<T>(self, whole: T) -> Option<T> {
        self.0.is_empty().then_some(whole)
    }
}

/// Reads the first packet of `bytes`, which a server sent. Returns the packet and its length, or `None` while the
/// packet is not complete and nothing in it is wrong.
///
/// # Errors
/// A packet that a server must not send, or one above the limit. An error that the fixed header shows is returned
/// as soon as the fixed header is there.
pub(in crate::mqtt) fn from_server(
    bytes: &[u8],
    limit: usize,
) -> Result<Option<(Incoming, usize)>, &'static str> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    if !matches!(first >> 4, 2..=7 | 9 | 11 | 13) {
        return Err("no packet of a server");
    }
    let Some((header, whole)) = lengths(bytes)? else {
        return Ok(None);
    };
    let flags_are_right = match first {
        0x30..=0x3f => first & 0b0110 != 0b0110 && first & 0b1110 != 0b1000,
        0x60..=0x6f => *first == 0x62,
        _ => first & 0x0f == 0,
    };
    let length_is_right = match first >> 4 {
        3 => true,
        9 => whole > 4,
        13 => whole == 2,
        _ => whole == 4,
    };
    if whole > limit || !flags_are_right || !length_is_right {
        return Err("a bad fixed header");
    }
    let Some(body) = bytes.get(header..whole) else {
        return Ok(None);
    };
    let packet = server_packet(*first, body).ok_or("a malformed packet")?;
    Ok(Some((packet, whole)))
}

/// As [`from_server`] behind CONNACK, where a PUBLISH above the limit is read away: it is complete without its
/// payload, at its end, and its topic and identifier are looked at as soon as they are there.
pub(in crate::mqtt) fn from_server_without_payload(
    bytes: &[u8],
    limit: usize,
) -> Result<Option<(Incoming, usize)>, &'static str> {
    let Some(first @ 0x30..=0x3f) = bytes.first() else {
        return from_server(bytes, limit);
    };
    let Some((header, whole)) = lengths(bytes)?.filter(|(_, whole)| *whole > limit) else {
        return from_server(bytes, limit);
    };
    // Without a body, an unlimited packet shows what its fixed header shows.
    from_server(&bytes[..header], usize::MAX)?;
    let Some(length) = bytes.get(header..header + 2) else {
        return Ok(None);
    };
    let identifier = if first & 0b0110 == 0 { 0 } else { 2 };
    let begin = 2 + usize::from(length[0]) * 256 + usize::from(length[1]) + identifier;
    if header + begin > whole {
        return Err("parts that do not fit");
    }
    let Some(body) = bytes.get(header..header + begin) else {
        return Ok(None);
    };
    let mut packet = server_packet(*first, body).ok_or("a malformed packet")?;
    if let Incoming::Publish { message, .. } = &mut packet {
        Arc::make_mut(message).too_large = whole as u32;
    }
    Ok((bytes.len() >= whole).then_some((packet, whole)))
}

fn server_packet(first: u8, body: &[u8]) -> Option<Incoming> {
    let mut fields = Fields(body);
    match first >> 4 {
        2 => {
            let session_present = match fields.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            let code = match fields.byte()? {
                0 => ConnectReturnCode::Accepted,
                1 => ConnectReturnCode::UnacceptableProtocolVersion,
                2 => ConnectReturnCode::IdentifierRejected,
                3 => ConnectReturnCode::ServerUnavailable,
                4 => ConnectReturnCode::BadUserNameOrPassword,
                5 => ConnectReturnCode::NotAuthorized,
                _ => return None,
            };
            if session_present && code != ConnectReturnCode::Accepted {
                return None;
            }
            fields.end(Incoming::ConnAck {
                session_present,
                code,
            })
        }
        3 => {
            let qos = QoS::try_from(first >> 1 & 3).ok()?;
            let topic = fields.topic()?.to_owned();
            let id = match qos {
                QoS::AtMostOnce => None,
                _ => Some(PacketId::new(fields.identifier()?)?),
            };
            let message = Message {
                retain: first & 1 != 0,
                dup: first & 8 != 0,
                ..Message::new(topic, qos, fields.0.to_vec())
            };
            let message = Arc::new(message);
            Some(Incoming::Publish { id, message })
        }
        9 => {
            let id = PacketId::new(fields.identifier()?)?;
            let mut granted = Vec::with_capacity(fields.0.len());
            while let Some(code) = fields.byte() {
                granted.push(match code {
                    0x80 => None,
                    code => Some(QoS::try_from(code).ok()?),
                });
            }
            (!granted.is_empty()).then_some(Incoming::SubAck { id, granted })
        }
        13 => fields.end(Incoming::PingResp),
        kind => {
            let id = PacketId::new(fields.identifier()?)?;
            let packet = match kind {
                4 => Incoming::PubAck(id),
                5 => Incoming::PubRec(id),
                6 => Incoming::PubRel(id),
                7 => Incoming::PubComp(id),
                11 => Incoming::UnsubAck(id),
                _ => return None,
            };
            fields.end(packet)
        }
    }
}

/// Reads the first packet of `bytes`, which a client sent. The packet has to be complete.
///
/// # Errors
/// A packet that the standard forbids a client to send.
pub(in crate::mqtt) fn from_client(bytes: &[u8]) -> Result<(FromClient<'_>, usize), String> {
    complete(bytes, client_packet)
}

/// The first packet of a client, and its length; `read` takes its first byte and its body.
///
/// # Errors
/// A packet that is not complete, or that `read` refuses.
pub(in crate::mqtt) fn complete<'a, P>(
    bytes: &'a [u8],
    read: impl FnOnce(u8, &'a [u8]) -> Option<P>,
) -> Result<(P, usize), String> {
    let refused = |why: &str| {
        let shown = &bytes[..bytes.len().min(40)];
        format!("the client sends {why}: {shown:02x?}")
    };
    let (header, whole) = lengths(bytes)
        .map_err(refused)?
        .ok_or_else(|| refused("half a fixed header"))?;
    let body = bytes
        .get(header..whole)
        .ok_or_else(|| refused("half a packet"))?;
    let packet = read(bytes[0], body).ok_or_else(|| refused("a malformed packet"))?;
    Ok((packet, whole))
}

fn client_packet(first: u8, body: &[u8]) -> Option<FromClient<'_>> {
    let mut fields = Fields(body);
    match first {
        0x10 => {
            let name = fields.text()? == "MQTT" && fields.byte()? == 4;
            let flags = fields.byte()?;
            fields.number()?;
            fields.text()?;
            // The tests use neither a will nor credentials.
            let whole = FromClient::Connect {
                clean_session: flags == 2,
            };
            let whole = fields.end(whole)?;
            (name && flags & !2 == 0).then_some(whole)
        }
        0x30..=0x3f => {
            let qos = first >> 1 & 3;
            let dup = first & 8 != 0;
            if qos == 3 || qos == 0 && dup {
                return None;
            }
            let topic = fields.topic()?;
            let id = if qos == 0 { 0 } else { fields.identifier()? };
            Some(FromClient::Publish {
                dup,
                qos,
                retain: first & 1 != 0,
                topic,
                id,
                payload: fields.0,
            })
        }
        0x40 | 0x50 | 0x62 | 0x70 => {
            let id = fields.identifier()?;
            fields.end(acknowledgment(first, id))
        }
        0x82 => {
            let (id, mut filters) = (fields.identifier()?, Vec::new());
            while !fields.0.is_empty() {
                filters.push((fields.filter()?, fields.byte().filter(|qos| *qos < 3)?));
            }
            (!filters.is_empty()).then_some(FromClient::Subscribe { id, filters })
        }
        0xa2 => {
            let (id, mut filters) = (fields.identifier()?, Vec::new());
            while !fields.0.is_empty() {
                filters.push(fields.filter()?);
            }
            (!filters.is_empty()).then_some(FromClient::Unsubscribe { id, filters })
        }
        0xc0 => fields.end(FromClient::PingReq),
        0xe0 => fields.end(FromClient::Disconnect),
        _ => None,
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(in crate::mqtt) fn acknowledgment<'a>(first: u8, id: u16) -> FromClient<'a> {
    match first {
        0x40 => FromClient::PubAck(id),
        0x50 => FromClient::PubRec(id),
        0x62 => FromClient::PubRel(id),
        _ => FromClient::PubComp(id),
    }
}

/// Encodes a server's packet in its shortest form.
pub(in crate::mqtt) fn server_bytes(packet: &Incoming) -> Vec<u8> {
    let number = |id: &PacketId| id.value().to_be_bytes().to_vec();
    let (first, body) = match packet {
        Incoming::ConnAck {
            session_present,
            code,
        } => (0x20, vec![u8::from(*session_present), *code as u8]),
        Incoming::Publish { id, message } => {
            let flags = u8::from(message.dup) << 3 | (message.qos as u8) << 1;
            let length = u16::try_from(message.topic().len()).unwrap_or(u16::MAX);
            let mut body = length.to_be_bytes().to_vec();
            body.extend_from_slice(message.topic().as_bytes());
            body.extend(id.iter().flat_map(number));
            body.extend_from_slice(message.payload());
            (0x30 | flags | u8::from(message.retain), body)
        }
        Incoming::PubAck(id) => (0x40, number(id)),
        Incoming::PubRec(id) => (0x50, number(id)),
        Incoming::PubRel(id) => (0x62, number(id)),
        Incoming::PubComp(id) => (0x70, number(id)),
        Incoming::SubAck { id, granted } => {
            let codes = granted.iter().map(|qos| qos.map_or(0x80, |qos| qos as u8));
            (0x90, number(id).into_iter().chain(codes).collect())
        }
        Incoming::UnsubAck(id) => (0xb0, number(id)),
        Incoming::PingResp => (0xd0, Vec::new()),
        Incoming::ConnAck5(_) | Incoming::Answered { .. } | Incoming::Disconnect(_) => {
            unreachable!("a packet of MQTT 5")
        }
    };
    whole(first, &body)
}

/// A packet with its length between its first byte and its body.
pub(in crate::mqtt) fn whole(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    while length >= 128 {
        bytes.push(0x80 | (length % 128) as u8);
        length /= 128;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(body);
    bytes
}
