//! A second reader of the client's packets of MQTT 5, and a writer of the broker's, from the text of the standard alone.
//! They use neither the codec nor the checks of the crate. Pure.

use crate::mqtt::packet::{Answer, Answering, ConnAck5, Incoming, QoS};
use crate::mqtt::v4::tests::wire::{
    Fields, FromClient, acknowledgment, complete, lengths, server_bytes, whole,
};

/// A packet of the client: the parts that MQTT 3.1.1 has, too, and those that it has not.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct FromClient5<'a> {
    pub(in crate::mqtt) packet: FromClient<'a>,
    pub(in crate::mqtt) more: More,
}

/// The parts of a packet that MQTT 5 adds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::mqtt) struct More {
    /// The reason code of PUBACK, PUBREC, PUBREL, PUBCOMP and DISCONNECT.
    pub(in crate::mqtt) code: u8,
    /// The keep alive of CONNECT.
    pub(in crate::mqtt) keep_alive: u16,
    /// The session expiry of CONNECT, or the message expiry of PUBLISH.
    pub(in crate::mqtt) expiry: Option<u32>,
    /// The topic alias of PUBLISH.
    pub(in crate::mqtt) alias: Option<u16>,
    /// The identifier of a subscription.
    pub(in crate::mqtt) identifier: Option<u32>,
    /// The options byte of each filter of SUBSCRIBE.
    pub(in crate::mqtt) options: Vec<u8>,
}

/// Reads the first packet of `bytes`, which a client sent. The packet has to be complete.
///
/// # Errors
/// A packet that the standard forbids a client to send.
pub(in crate::mqtt) fn from_client5(bytes: &[u8]) -> Result<(FromClient5<'_>, usize), String> {
    let mut more = More::default();
    let (packet, length) = complete(bytes, |first, body| client_packet(first, body, &mut more))?;
    Ok((FromClient5 { packet, more }, length))
}

fn client_packet<'a>(first: u8, body: &'a [u8], more: &mut More) -> Option<FromClient<'a>> {
    let mut fields = Fields(body);
    match first {
        0x10 => {
            let name = fields.text()? == "MQTT" && fields.byte()? == 5;
            let flags = fields.byte()?;
            more.keep_alive = fields.number()?;
            properties(&mut fields, &[0x11, 0x21, 0x22, 0x26, 0x27], more)?;
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
            let topic = fields.text()?;
            let id = if qos == 0 { 0 } else { fields.identifier()? };
            let allowed = [0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26];
            properties(&mut fields, &allowed, more)?;
            let is_named = !topic.is_empty() || more.alias.is_some();
            let has_wildcard = topic.bytes().any(|b| b == b'+' || b == b'#');
            (is_named && !has_wildcard).then_some(FromClient::Publish {
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
            code(&mut fields, more)?;
            let is_defined = match (first, more.code) {
                (_, 0) | (0x62 | 0x70, 0x92) => true,
                (0x40 | 0x50, code) => {
                    matches!(code, 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
                }
                _ => false,
            };
            is_defined.then_some(acknowledgment(first, id))
        }
        0x82 => {
            let (id, mut filters) = (fields.identifier()?, Vec::new());
            properties(&mut fields, &[0x0b, 0x26], more)?;
            while !fields.0.is_empty() {
                let filter = fields.filter()?;
                let options = fields.byte()?;
                if options & 3 == 3 || options >> 4 > 2 {
                    return None;
                }
                more.options.push(options);
                filters.push((filter, options & 3));
            }
            (!filters.is_empty()).then_some(FromClient::Subscribe { id, filters })
        }
        0xa2 => {
            let (id, mut filters) = (fields.identifier()?, Vec::new());
            properties(&mut fields, &[0x26], more)?;
            while !fields.0.is_empty() {
                filters.push(fields.filter()?);
            }
            (!filters.is_empty()).then_some(FromClient::Unsubscribe { id, filters })
        }
        0xc0 => fields.end(FromClient::PingReq),
        0xe0 => {
            code(&mut fields, more)?;
            Some(FromClient::Disconnect)
        }
        _ => None,
    }
}

/// A reason code, and properties behind it, up to the end. Either may be left out.
fn code(fields: &mut Fields<'_>, more: &mut More) -> Option<()> {
    if !fields.0.is_empty() {
        more.code = fields.byte()?;
    }
    if !fields.0.is_empty() {
        properties(fields, &[0x11, 0x1f, 0x26], more)?;
    }
    fields.0.is_empty().then_some(())
}

/// The properties of a packet, of which these are allowed, each once but for pairs.
fn properties(fields: &mut Fields<'_>, allowed: &[u8], more: &mut More) -> Option<()> {
    let length = integer(fields)? as usize;
    let mut inside = Fields(fields.0.get(..length)?);
    fields.0 = &fields.0[length..];
    let mut seen = Vec::new();
    while !inside.0.is_empty() {
        let property = inside.byte()?;
        if !allowed.contains(&property) || property != 0x26 && seen.contains(&property) {
            return None;
        }
        seen.push(property);
        match property {
            0x01 => drop(inside.byte().filter(|byte| *byte < 2)?),
            0x02 | 0x11 => more.expiry = Some(long(&mut inside)?),
            0x27 => drop(long(&mut inside).filter(|size| *size > 0)?),
            0x03 | 0x08 | 0x1f => drop(inside.text()?),
            0x09 => {
                let length = usize::from(inside.number()?);
                inside.0 = inside.0.get(length..)?;
            }
            0x0b => more.identifier = Some(integer(&mut inside).filter(|id| *id > 0)?),
            0x21 => drop(inside.number().filter(|most| *most > 0)?),
            0x22 => drop(inside.number()?),
            0x23 => more.alias = Some(inside.number().filter(|alias| *alias > 0)?),
            _ => {
                inside.text()?;
                inside.text()?;
            }
        }
    }
    Some(())
}

fn long(fields: &mut Fields<'_>) -> Option<u32> {
    Some(u32::from(fields.number()?) << 16 | u32::from(fields.number()?))
}

/// A variable byte integer in its shortest form [1.5.5].
fn integer(fields: &mut Fields<'_>) -> Option<u32> {
    let mut value = 0;
    for place in 0..4 {
        let byte = fields.byte()?;
        value |= u32::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return (byte > 0 || place == 0).then_some(value);
        }
    }
    None
}

/// Encodes a broker's packet.
pub(in crate::mqtt) fn server_bytes5(packet: &Incoming) -> Vec<u8> {
    let (first, body) = match packet {
        Incoming::ConnAck5(connack) => (0x20, connack_body(connack)),
        Incoming::Publish { message, .. } => {
            // Behind the topic and the identifier there are no properties.
            let old = server_bytes(packet);
            let header = lengths(&old).ok().flatten().map_or(0, |(header, _)| header);
            let identifier = if message.qos == QoS::AtMostOnce { 0 } else { 2 };
            let mut body = old[header..].to_vec();
            body.insert(2 + message.topic().len() + identifier, 0);
            (old[0], body)
        }
        Incoming::SubAck { id, granted } => {
            let mut body = id.value().to_be_bytes().to_vec();
            body.push(0);
            body.extend(granted.iter().map(|qos| qos.map_or(0x80, |qos| qos as u8)));
            (0x90, body)
        }
        Incoming::Answered { packet, id, answer } => {
            let mut body = id.value().to_be_bytes().to_vec();
            body.extend(answer_body(*packet, answer));
            (first_byte(*packet), body)
        }
        Incoming::Disconnect(said) => (0xe0, vec![said.code.value()]),
        _ => return server_bytes(packet),
    };
    whole(first, &body)
}

fn first_byte(packet: Answering) -> u8 {
    match packet {
        Answering::PubAck => 0x40,
        Answering::PubRec => 0x50,
        Answering::PubRel => 0x62,
        Answering::PubComp => 0x70,
        Answering::SubAck => 0x90,
        Answering::UnsubAck => 0xb0,
    }
}

fn answer_body(packet: Answering, answer: &Answer) -> Vec<u8> {
    match packet {
        Answering::SubAck | Answering::UnsubAck => {
            let codes = answer.codes.iter().map(|code| code.value());
            std::iter::once(0).chain(codes).collect()
        }
        _ => vec![answer.code.value()],
    }
}

fn connack_body(connack: &ConnAck5) -> Vec<u8> {
    let mut properties = Vec::new();
    let mut property = |number: u8, value: &[u8]| {
        properties.push(number);
        properties.extend_from_slice(value);
    };
    if let Some(seconds) = connack.session_expiry {
        property(0x11, &seconds.to_be_bytes());
    }
    if connack.receive_maximum != u16::MAX {
        property(0x21, &connack.receive_maximum.to_be_bytes());
    }
    if connack.maximum_qos != QoS::ExactlyOnce {
        property(0x24, &[connack.maximum_qos as u8]);
    }
    if let Some(size) = connack.maximum_packet_size {
        property(0x27, &size.to_be_bytes());
    }
    for (number, is_available) in [
        (0x25, connack.retain_available),
        (0x28, connack.wildcard_available),
        (0x29, connack.identifiers_available),
        (0x2a, connack.shared_available),
    ] {
        if !is_available {
            property(number, &[0]);
        }
    }
    if let Some(seconds) = connack.server_keep_alive {
        property(0x13, &seconds.to_be_bytes());
    }
    // None of the tests has more than 127 bytes of them.
    let mut body = vec![
        u8::from(connack.session_present),
        connack.code.value(),
        properties.len() as u8,
    ];
    body.extend(properties);
    body
}
