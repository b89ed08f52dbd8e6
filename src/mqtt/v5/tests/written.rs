//! Writes what a server sends, in one of the forms that the standard allows. For tests and fuzzing only.

use bytes::{BufMut, BytesMut};

use crate::mqtt::packet::{ConnAck5, Details, PacketId, QoS, ReasonCode};
use crate::mqtt::v5::{Incoming5, ReceivedPublish, varint};

/// The bytes of a packet from a server.
pub(super) fn written(packet: &Incoming5) -> Vec<u8> {
    let mut body = BytesMut::new();
    let first = match packet {
        Incoming5::ConnAck(it) if it.is_of_3_1_1 => return vec![0x20, 2, 0, 1],
        Incoming5::ConnAck(it) => {
            connack(it, &mut body);
            0x20
        }
        Incoming5::Publish(it) => publish(it, &mut body),
        Incoming5::PubAck(id, code, details) => {
            acknowledgment(0x40, *id, *code, details, &mut body)
        }
        Incoming5::PubRec(id, code, details) => {
            acknowledgment(0x50, *id, *code, details, &mut body)
        }
        Incoming5::PubRel(id, code, details) => {
            acknowledgment(0x62, *id, *code, details, &mut body)
        }
        Incoming5::PubComp(id, code, details) => {
            acknowledgment(0x70, *id, *code, details, &mut body)
        }
        Incoming5::SubAck(id, codes, details) => several(0x90, *id, codes, details, &mut body),
        Incoming5::UnsubAck(id, codes, details) => several(0xb0, *id, codes, details, &mut body),
        Incoming5::PingResp => 0xd0,
        Incoming5::Disconnect {
            code,
            server_reference,
            details,
        } => {
            body.put_u8(code.value());
            let mut properties = BytesMut::new();
            text(28, server_reference.as_deref(), &mut properties);
            of_details(details, &mut properties);
            with_length(&properties, &mut body);
            0xe0
        }
    };
    let mut out = BytesMut::from(&[first][..]);
    with_length(&body, &mut out);
    out.to_vec()
}

fn with_length(bytes: &[u8], out: &mut BytesMut) {
    varint::write(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn string(bytes: &[u8], out: &mut BytesMut) {
    // It came with two bytes of length.
    out.put_u16(bytes.len() as u16);
    out.extend_from_slice(bytes);
}

fn text(number: u8, value: Option<&str>, out: &mut BytesMut) {
    if let Some(value) = value {
        out.put_u8(number);
        string(value.as_bytes(), out);
    }
}

fn two(number: u8, value: Option<u16>, out: &mut BytesMut) {
    if let Some(value) = value {
        out.put_u8(number);
        out.put_u16(value);
    }
}

fn four(number: u8, value: Option<u32>, out: &mut BytesMut) {
    if let Some(value) = value {
        out.put_u8(number);
        out.put_u32(value);
    }
}

fn flag(number: u8, value: Option<u8>, out: &mut BytesMut) {
    if let Some(value) = value {
        out.extend_from_slice(&[number, value]);
    }
}

fn pairs(pairs: &[(String, String)], out: &mut BytesMut) {
    for (name, value) in pairs {
        out.put_u8(38);
        string(name.as_bytes(), out);
        string(value.as_bytes(), out);
    }
}

fn of_details(details: &Details, out: &mut BytesMut) {
    text(31, details.reason.as_deref(), out);
    pairs(&details.user_properties, out);
}

fn acknowledgment(
    first: u8,
    id: PacketId,
    code: ReasonCode,
    details: &Details,
    out: &mut BytesMut,
) -> u8 {
    out.put_u16(id.value());
    out.put_u8(code.value());
    let mut properties = BytesMut::new();
    of_details(details, &mut properties);
    with_length(&properties, out);
    first
}

fn several(
    first: u8,
    id: PacketId,
    codes: &[ReasonCode],
    details: &Details,
    out: &mut BytesMut,
) -> u8 {
    out.put_u16(id.value());
    let mut properties = BytesMut::new();
    of_details(details, &mut properties);
    with_length(&properties, out);
    out.extend(codes.iter().map(|code| code.value()));
    first
}

fn connack(connack: &ConnAck5, out: &mut BytesMut) {
    out.extend_from_slice(&[u8::from(connack.session_present), connack.code.value()]);
    let mut properties = BytesMut::new();
    let it = &mut properties;
    let unless = |is: bool| (!is).then_some(0);
    four(17, connack.session_expiry, it);
    two(33, Some(connack.receive_maximum), it);
    let qos = Some(connack.maximum_qos).filter(|qos| *qos != QoS::ExactlyOnce);
    flag(36, qos.map(|qos| qos as u8), it);
    flag(37, unless(connack.retain_available), it);
    four(39, connack.maximum_packet_size, it);
    text(18, connack.assigned_client_id.as_deref(), it);
    two(34, Some(connack.topic_alias_maximum), it);
    flag(40, unless(connack.wildcard_available), it);
    flag(41, unless(connack.identifiers_available), it);
    flag(42, unless(connack.shared_available), it);
    two(19, connack.server_keep_alive, it);
    text(28, connack.server_reference.as_deref(), it);
    of_details(&connack.details, it);
    with_length(&properties, out);
}

fn publish(publish: &ReceivedPublish, out: &mut BytesMut) -> u8 {
    string(publish.topic.as_bytes(), out);
    if let Some(id) = publish.id {
        out.put_u16(id.value());
    }
    let mut properties = BytesMut::new();
    let it = &mut properties;
    let more = &publish.properties;
    flag(1, more.payload_is_text.then_some(1), it);
    four(2, more.expiry, it);
    text(3, more.content_type.as_deref(), it);
    text(8, more.response_topic.as_deref(), it);
    if let Some(data) = &more.correlation_data {
        it.put_u8(9);
        string(data, it);
    }
    for id in &publish.subscription_identifiers {
        it.put_u8(11);
        varint::write(*id as usize, it);
    }
    two(35, publish.alias.map(Into::into), it);
    pairs(&more.user_properties, it);
    with_length(&properties, out);
    out.extend_from_slice(&publish.payload);
    let flags = u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    0x30 | flags
}
