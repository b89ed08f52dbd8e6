//! Encodes packets of MQTT 5, through rumqttc's codec where it writes what it should.
//!
//! The codec truncates length fields silently, writes DISCONNECT one byte too long, and would copy the topic of each
//! PUBLISH. So every packet is checked before it gets here: names by `topic.rs`, properties by
//! [`MessageProperties::check`]. PUBLISH, acknowledgments and DISCONNECT are written here, except for properties. All
//! functions append to `out`.
//!
//! Pure. Runs on the loop's thread: a thread that publishes a small message encodes it for MQTT 3.1.1, and the loop
//! changes that packet (`outgoing.rs`).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::{self, v5};

use crate::mqtt::packet::{
    Ack, Connect, ConnectTerms, Filter, MessageProperties, PacketId, QoS, ReasonCode,
    RetainHandling, WillProperties,
};
use crate::mqtt::v5::varint;

const DISCONNECT_BYTES: usize = 3;

/// Appends CONNECT. Of the password there is no copy but the one in `out`, and `out` does not move before a DISCONNECT
/// is appended. `connect.terms` are not looked at.
pub fn encode_connect5(connect: &Connect<'_>, terms: &ConnectTerms, out: &mut BytesMut) {
    let some_unless = |value: u32, default: u32| Some(value).filter(|value| *value != default);
    let packet = v5::Connect {
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.to_owned(),
        clean_start: connect.clean_session,
        properties: Some(v5::ConnectProperties {
            session_expiry_interval: some_unless(terms.session_expiry, 0),
            receive_maximum: Some(terms.receive_maximum).filter(|most| *most != u16::MAX),
            max_packet_size: terms.maximum_packet_size,
            topic_alias_max: Some(terms.topic_alias_maximum).filter(|most| *most != 0),
            request_response_info: None,
            request_problem_info: None,
            user_properties: terms.user_properties.clone(),
            authentication_method: None,
            authentication_data: None,
        }),
    };
    let will = connect.last_will.map(|will| v5::LastWill {
        topic: Bytes::copy_from_slice(will.topic.as_bytes()),
        message: will.payload.clone(),
        qos: codec_qos(will.qos),
        retain: will.retain,
        properties: Some(will_properties(&will.properties)),
    });
    // The codec would take a password as text and leave copies behind. It gets others of the same length.
    let login = connect
        .credentials
        .map(|c| v5::Login::new(c.username.clone(), "*".repeat(c.password.len())));
    // The codec patches the flags at an absolute index, so it needs an empty buffer.
    let mut alone = BytesMut::with_capacity(packet.size(&will, &login));
    written(packet.write(&will, &login, &mut alone));
    out.reserve(alone.len() + DISCONNECT_BYTES);
    out.extend_from_slice(&alone);
    if let Some(credentials) = connect.credentials {
        // The password comes last [MQTT-3.1.3-1].
        let password = credentials.password.expose();
        let start = out.len() - password.len();
        out[start..].copy_from_slice(password);
    }
}

fn will_properties(of: &WillProperties) -> v5::LastWillProperties {
    let WillProperties { delay, message } = of;
    v5::LastWillProperties {
        delay_interval: Some(*delay).filter(|delay| *delay != 0),
        payload_format_indicator: message.payload_is_text.then_some(1),
        message_expiry_interval: message.expiry,
        content_type: message.content_type.clone(),
        response_topic: message.response_topic.clone(),
        correlation_data: message.correlation_data.clone(),
        user_properties: message.user_properties.clone(),
    }
}

/// The parts of PUBLISH.
#[derive(Debug, Clone, Copy)]
pub struct PublishParts<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Application message.
    pub payload: &'a [u8],
    /// Quality of service.
    pub qos: QoS,
    /// Whether the server keeps it for later subscribers.
    pub retain: bool,
    /// Whether the server may have seen it.
    pub dup: bool,
    /// Its identifier, unless it is QoS 0.
    pub id: Option<PacketId>,
    /// The properties, whose expiry is not looked at.
    pub properties: Option<&'a MessageProperties>,
    /// Seconds after which the server drops it.
    pub expiry: Option<u32>,
    /// The alias of its topic.
    pub alias: Option<NonZeroU16>,
    /// Whether the server has seen the alias with this topic on this connection. Then the topic is left out.
    pub topic_is_known: bool,
}

/// Appends PUBLISH.
pub fn encode_publish5(parts: &PublishParts<'_>, out: &mut BytesMut) {
    let topic = match parts.topic_is_known {
        true => "",
        false => parts.topic,
    };
    let properties = properties(parts);
    let id_length = if parts.id.is_some() { 2 } else { 0 };
    let length = 2 + topic.len() + id_length + properties.len() + parts.payload.len();
    let flags = u8::from(parts.dup) << 3 | (parts.qos as u8) << 1 | u8::from(parts.retain);
    out.put_u8(0x30 | flags);
    varint::write(length, out);
    // `check` has seen that the topic has at most 65,535 bytes.
    out.put_u16(topic.len() as u16);
    out.extend_from_slice(topic.as_bytes());
    if let Some(id) = parts.id {
        out.put_u16(id.value());
    }
    out.extend_from_slice(&properties);
    out.extend_from_slice(parts.payload);
}

/// The properties of PUBLISH, and their length before them.
fn properties(parts: &PublishParts<'_>) -> Bytes {
    if parts.properties.is_none() && parts.alias.is_none() {
        return Bytes::from_static(&[0]);
    }
    let none = MessageProperties::default();
    let properties = parts.properties.unwrap_or(&none);
    let codec = v5::PublishProperties {
        payload_format_indicator: properties.payload_is_text.then_some(1),
        message_expiry_interval: parts.expiry,
        topic_alias: parts.alias.map(NonZeroU16::get),
        response_topic: properties.response_topic.clone(),
        correlation_data: properties.correlation_data.clone(),
        user_properties: properties.user_properties.clone(),
        subscription_identifiers: Vec::new(),
        content_type: properties.content_type.clone(),
    };
    let mut bytes = BytesMut::new();
    written(codec.write(&mut bytes));
    bytes.freeze()
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP. Success is left out [MQTT 5, 3.4.2.1].
pub fn encode_ack5(ack: Ack, id: PacketId, code: ReasonCode, out: &mut BytesMut) {
    let first = match ack {
        Ack::PubAck => 0x40,
        Ack::PubRec => 0x50,
        Ack::PubRel => 0x62,
        Ack::PubComp => 0x70,
    };
    let [high, low] = id.value().to_be_bytes();
    match code {
        ReasonCode::SUCCESS => out.extend_from_slice(&[first, 2, high, low]),
        code => out.extend_from_slice(&[first, 3, high, low, code.value()]),
    }
}

/// Appends SUBSCRIBE with at least one filter [MQTT-3.8.3-2]. All of them get the identifier of the subscription.
pub fn encode_subscribe5(
    id: PacketId,
    filters: &[Filter],
    subscription_identifier: Option<NonZeroU32>,
    out: &mut BytesMut,
) {
    debug_assert!(!filters.is_empty());
    let filters = filters.iter().map(|filter| v5::Filter {
        path: filter.filter.clone(),
        qos: codec_qos(filter.qos),
        nolocal: filter.options.no_local,
        preserve_retain: filter.options.retain_as_published,
        retain_forward_rule: match filter.options.retain_handling {
            RetainHandling::Always => v5::RetainForwardRule::OnEverySubscribe,
            RetainHandling::IfNew => v5::RetainForwardRule::OnNewSubscribe,
            RetainHandling::Never => v5::RetainForwardRule::Never,
        },
    });
    let packet = v5::Subscribe {
        pkid: id.value(),
        filters: filters.collect(),
        properties: subscription_identifier.map(|id| v5::SubscribeProperties {
            id: Some(id.get() as usize),
            user_properties: Vec::new(),
        }),
    };
    written(packet.write(out));
}

/// Appends UNSUBSCRIBE with at least one filter [MQTT-3.10.3-2].
pub fn encode_unsubscribe5(id: PacketId, filters: &[String], out: &mut BytesMut) {
    debug_assert!(!filters.is_empty());
    let packet = v5::Unsubscribe {
        pkid: id.value(),
        filters: filters.to_vec(),
        properties: None,
    };
    written(packet.write(out));
}

/// The bytes of a packet, type and length included, that has so many behind them.
pub(crate) fn packet_length5(behind: usize) -> usize {
    1 + varint::length(behind) + behind
}

/// The bytes that properties take, their length included.
pub(crate) fn properties_length5(bytes: usize) -> usize {
    varint::length(bytes) + bytes
}

/// The bytes of a SUBSCRIBE.
pub(crate) fn subscribe_length5(
    filters: &[Filter],
    subscription_identifier: Option<NonZeroU32>,
) -> usize {
    let number = subscription_identifier.map(|id| 1 + varint::length(id.get() as usize));
    // Each filter has its length and its options, and the packet its identifier.
    let filters = filters.iter().map(|filter| 3 + filter.filter.len());
    packet_length5(2 + properties_length5(number.unwrap_or(0)) + filters.sum::<usize>())
}

/// The bytes of an UNSUBSCRIBE.
pub(crate) fn unsubscribe_length5(filters: &[String]) -> usize {
    let filters = filters.iter().map(|filter| 2 + filter.len());
    packet_length5(2 + properties_length5(0) + filters.sum::<usize>())
}

/// Appends DISCONNECT. A normal end is left out [MQTT 5, 3.14.2.1].
pub fn encode_disconnect5(code: ReasonCode, out: &mut BytesMut) {
    match code {
        ReasonCode::SUCCESS => out.extend_from_slice(&[0xe0, 0]),
        code => out.extend_from_slice(&[0xe0, 1, code.value()]),
    }
}

fn codec_qos(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
    }
}

/// Logs a failure of the codec. It fails on a packet that is too large, which the checks before a command is queued
/// rule out.
fn written<T: std::fmt::Debug>(result: Result<T, mqttbytes::Error>) {
    debug_assert!(result.is_ok(), "{result:?}");
    if let Err(error) = result {
        log::error!("a packet that was checked could not be encoded: {error}");
    }
}
