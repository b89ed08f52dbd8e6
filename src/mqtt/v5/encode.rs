//! Encodes packets of MQTT 5, through rumqttc's codec where it writes what it should.
//!
//! The codec truncates length fields silently, writes DISCONNECT one byte too long, and would copy the topic of each
//! PUBLISH. So every packet is checked before it gets here: names by `topic.rs`, properties by
//! [`MessageProperties::check`]. PUBLISH, acknowledgments and DISCONNECT are written here, except for properties. All
//! functions append to `out`.
//!
//! Pure. Runs on the loop's thread, and on the thread that publishes a small message.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::{self, v5};

use crate::mqtt::packet::{
    Ack, Credentials, Filter, MessageProperties, PacketId, Publish, QoS, ReasonCode,
    RetainHandling, SubscribeOptions, Will, WillProperties,
};
use crate::mqtt::v5::varint;

/// The fields of CONNECT.
#[derive(Debug, Clone)]
pub struct Connect5<'a> {
    /// Client identifier; if it is empty the server chooses one.
    pub client_id: &'a str,
    /// Whether the server is to forget the session that it has.
    pub clean_start: bool,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Seconds that the session outlives the connection; `u32::MAX` for ever.
    pub session_expiry: u32,
    /// How many messages of QoS 1 and 2 may wait for our acknowledgment, at least 1.
    pub receive_maximum: u16,
    /// The largest packet, in bytes, that we take; `None` without a limit.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias that we take; 0 allows none.
    pub topic_alias_maximum: u16,
    /// The message that the server publishes when the link ends without DISCONNECT.
    pub last_will: Option<(&'a Will, &'a WillProperties)>,
    /// User name and password.
    pub credentials: Option<&'a Credentials>,
    /// Pairs of a name and a value.
    pub user_properties: &'a [(String, String)],
}

/// Appends CONNECT. Of the password there is no copy but the one in `out`.
pub fn encode_connect5(connect: &Connect5<'_>, out: &mut BytesMut) {
    let some_unless = |value: u32, default: u32| Some(value).filter(|value| *value != default);
    let packet = v5::Connect {
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.to_owned(),
        clean_start: connect.clean_start,
        properties: Some(v5::ConnectProperties {
            session_expiry_interval: some_unless(connect.session_expiry, 0),
            receive_maximum: Some(connect.receive_maximum).filter(|most| *most != u16::MAX),
            max_packet_size: connect.maximum_packet_size,
            topic_alias_max: Some(connect.topic_alias_maximum).filter(|most| *most != 0),
            request_response_info: None,
            request_problem_info: None,
            user_properties: connect.user_properties.to_vec(),
            authentication_method: None,
            authentication_data: None,
        }),
    };
    let will = connect.last_will.map(|(will, more)| v5::LastWill {
        topic: Bytes::copy_from_slice(will.topic.as_bytes()),
        message: will.payload.clone(),
        qos: codec_qos(will.qos),
        retain: will.retain,
        properties: Some(v5::LastWillProperties {
            delay_interval: some_unless(more.delay, 0),
            payload_format_indicator: more.message.payload_is_text.then_some(1),
            message_expiry_interval: more.message.expiry,
            content_type: more.message.content_type.clone(),
            response_topic: more.message.response_topic.clone(),
            correlation_data: more.message.correlation_data.clone(),
            user_properties: more.message.user_properties.clone(),
        }),
    });
    // The codec would take a password as text and leave copies behind. It gets others of the same length.
    let login = connect
        .credentials
        .map(|c| v5::Login::new(c.username.clone(), "*".repeat(c.password.len())));
    // The codec patches the flags at an absolute index, so it needs an empty buffer.
    let mut alone = BytesMut::with_capacity(packet.size(&will, &login));
    written(packet.write(&will, &login, &mut alone));
    out.extend_from_slice(&alone);
    if let Some(credentials) = connect.credentials {
        // The password comes last [MQTT-3.1.3-1].
        let password = credentials.password.expose();
        let start = out.len() - password.len();
        out[start..].copy_from_slice(password);
    }
}

/// Appends PUBLISH. With `topic_is_known` the server has seen the alias with this topic on this connection, and the
/// topic is left out.
pub fn encode_publish5(
    publish: &Publish,
    properties: &MessageProperties,
    id: Option<PacketId>,
    dup: bool,
    alias: Option<NonZeroU16>,
    topic_is_known: bool,
    out: &mut BytesMut,
) {
    let topic: &str = match topic_is_known {
        true => "",
        false => &publish.topic,
    };
    let codec = v5::PublishProperties {
        payload_format_indicator: properties.payload_is_text.then_some(1),
        message_expiry_interval: properties.expiry,
        topic_alias: alias.map(NonZeroU16::get),
        response_topic: properties.response_topic.clone(),
        correlation_data: properties.correlation_data.clone(),
        user_properties: properties.user_properties.clone(),
        subscription_identifiers: Vec::new(),
        content_type: properties.content_type.clone(),
    };
    // The length comes before the properties.
    let mut written_properties = BytesMut::new();
    written(codec.write(&mut written_properties));
    let id_length = if id.is_some() { 2 } else { 0 };
    let length = 2 + topic.len() + id_length + written_properties.len() + publish.payload.len();
    let flags = u8::from(dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain);
    out.put_u8(0x30 | flags);
    varint::write(length, out);
    // `check` has seen that the topic has at most 65,535 bytes.
    out.put_u16(topic.len() as u16);
    out.extend_from_slice(topic.as_bytes());
    if let Some(id) = id {
        out.put_u16(id.value());
    }
    out.extend_from_slice(&written_properties);
    out.extend_from_slice(&publish.payload);
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
    filters: &[(Filter, SubscribeOptions)],
    subscription_identifier: Option<u32>,
    out: &mut BytesMut,
) {
    debug_assert!(!filters.is_empty());
    let filters = filters.iter().map(|(filter, options)| v5::Filter {
        path: filter.filter.clone(),
        qos: codec_qos(filter.qos),
        nolocal: options.no_local,
        preserve_retain: options.retain_as_published,
        retain_forward_rule: match options.retain_handling {
            RetainHandling::Always => v5::RetainForwardRule::OnEverySubscribe,
            RetainHandling::IfNew => v5::RetainForwardRule::OnNewSubscribe,
            RetainHandling::Never => v5::RetainForwardRule::Never,
        },
    });
    let packet = v5::Subscribe {
        pkid: id.value(),
        filters: filters.collect(),
        properties: subscription_identifier.map(|id| v5::SubscribeProperties {
            id: Some(id as usize),
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
