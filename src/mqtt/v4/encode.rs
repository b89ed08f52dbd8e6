//! Encodes our packets as bytes, through rumqttc's codec.
//!
//! The codec truncates length fields silently, and it leaves partial bytes behind when it fails. So
//! every packet is checked before it gets here: names by `topic.rs`, sizes by [`Publish::check`]
//! and [`Will::check`]. After these checks no function here can fail. All of them append to `out`.
//!
//! Pure. Runs on the loop's thread, and on the thread that publishes a small message.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::{self, v4};

use crate::mqtt::packet::{Ack, Connect, Filter, PacketId, Publish, QoS};

const DISCONNECT_BYTES: usize = 2;

/// Appends CONNECT. Of the password there is no copy but the one in `out`, and `out` does not move before a DISCONNECT
/// is appended.
pub fn encode_connect(connect: &Connect<'_>, out: &mut BytesMut) {
    let packet = v4::Connect {
        protocol: mqttbytes::Protocol::V4,
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.to_owned(),
        clean_session: connect.clean_session,
        last_will: connect.last_will.map(|will| v4::LastWill {
            topic: will.topic.clone(),
            message: will.payload.clone(),
            qos: codec_qos(will.qos),
            retain: will.retain,
        }),
        // The codec would take a password as text and leave copies behind. It gets others of the same length.
        login: connect
            .credentials
            .map(|c| v4::Login::new(c.username.clone(), "*".repeat(c.password.len()))),
    };
    // The codec patches the flags at an absolute index, so it needs an empty buffer.
    let mut alone = BytesMut::with_capacity(packet.size());
    written(packet.write(&mut alone));
    out.reserve(alone.len() + DISCONNECT_BYTES);
    out.extend_from_slice(&alone);
    if let Some(credentials) = connect.credentials {
        // The password comes last [MQTT-3.1.3-1].
        let password = credentials.password.expose();
        let start = out.len() - password.len();
        out[start..].copy_from_slice(password);
    }
}

/// Appends PUBLISH. The codec takes the payload and gives it back, so `publish` is unchanged afterwards.
/// Clones may share the topic's text, so the codec gets a copy of it in `topic`. The next call can use
/// the memory of `topic` again.
pub fn encode_publish(
    publish: &mut Publish,
    id: Option<PacketId>,
    dup: bool,
    topic: &mut String,
    out: &mut BytesMut,
) {
    topic.clear();
    topic.push_str(&publish.topic);
    let packet = v4::Publish {
        dup,
        qos: codec_qos(publish.qos),
        retain: publish.retain,
        topic: std::mem::take(topic),
        pkid: id.map_or(0, PacketId::value),
        payload: std::mem::replace(&mut publish.payload, Bytes::new()),
    };
    written(packet.write(out));
    *topic = packet.topic;
    publish.payload = packet.payload;
}

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP.
pub fn encode_ack(ack: Ack, id: PacketId, out: &mut BytesMut) {
    let id = id.value();
    written(match ack {
        Ack::PubAck => v4::PubAck::new(id).write(out),
        Ack::PubRec => v4::PubRec::new(id).write(out),
        Ack::PubRel => v4::PubRel::new(id).write(out),
        Ack::PubComp => v4::PubComp::new(id).write(out),
    });
}

/// Appends SUBSCRIBE with at least one filter [MQTT-3.8.3-3].
pub fn encode_subscribe(id: PacketId, filters: &[Filter], out: &mut BytesMut) {
    debug_assert!(!filters.is_empty());
    let filters = filters
        .iter()
        .map(|f| v4::SubscribeFilter::new(f.filter.clone(), codec_qos(f.qos)))
        .collect();
    written(
        v4::Subscribe {
            pkid: id.value(),
            filters,
        }
        .write(out),
    );
}

/// Appends UNSUBSCRIBE with at least one filter [MQTT-3.10.3-2].
pub fn encode_unsubscribe(id: PacketId, filters: &[String], out: &mut BytesMut) {
    debug_assert!(!filters.is_empty());
    written(
        v4::Unsubscribe {
            pkid: id.value(),
            topics: filters.to_vec(),
        }
        .write(out),
    );
}

/// Appends PINGREQ.
pub fn encode_ping(out: &mut BytesMut) {
    written(v4::PingReq.write(out));
}

/// Appends DISCONNECT.
pub fn encode_disconnect(out: &mut BytesMut) {
    written(v4::Disconnect.write(out));
}

fn codec_qos(qos: QoS) -> mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => mqttbytes::QoS::ExactlyOnce,
    }
}

/// Logs a failure of the codec. It fails on a zero identifier, which our types rule out, and on a packet
/// that is too large, which the checks before a command is queued rule out.
fn written(result: Result<usize, mqttbytes::Error>) {
    debug_assert!(result.is_ok(), "{result:?}");
    if let Err(error) = result {
        log::error!("a packet that was checked could not be encoded: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::{Credentials, Will};
    use crate::secret::Secret;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    fn bytes(encode: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::from(&b"before"[..]);
        encode(&mut out);
        assert_eq!(&out[..6], b"before");
        out[6..].to_vec()
    }

    #[test]
    fn connect_carries_flags_and_fields_in_order() {
        let credentials = Credentials {
            username: "u".into(),
            password: "p".into(),
        };
        let connect = Connect {
            client_id: "me",
            clean_session: true,
            keep_alive: 60,
            last_will: None,
            credentials: Some(&credentials),
            terms: None,
        };
        assert_eq!(
            bytes(|out| encode_connect(&connect, out)),
            b"\x10\x14\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02me\x00\x01u\x00\x01p"
        );
    }

    #[test]
    fn a_password_is_bytes_of_any_kind() {
        let credentials = Credentials {
            username: "u".into(),
            password: Secret::from(vec![0, 0xff, 0xfe]),
        };
        let connect = Connect {
            client_id: "me",
            clean_session: true,
            keep_alive: 60,
            last_will: None,
            credentials: Some(&credentials),
            terms: None,
        };
        let encoded = bytes(|out| encode_connect(&connect, out));
        assert!(
            encoded.ends_with(b"\x00\x01u\x00\x03\x00\xff\xfe"),
            "{encoded:02x?}"
        );
    }

    #[test]
    fn a_disconnect_behind_connect_does_not_move_the_password() {
        let credentials = Credentials {
            username: "u".into(),
            password: "p".repeat(5000).into(),
        };
        let connect = Connect {
            client_id: "me",
            clean_session: true,
            keep_alive: 60,
            last_will: None,
            credentials: Some(&credentials),
            terms: None,
        };
        let mut out = BytesMut::new();
        encode_connect(&connect, &mut out);
        let place = out.as_ptr();
        encode_disconnect(&mut out);
        assert_eq!(out.as_ptr(), place);
    }

    #[test]
    fn connect_carries_the_will_between_identifier_and_user_name() {
        let credentials = Credentials {
            username: "u".into(),
            password: Secret::default(),
        };
        let encoded = |will: &Will, credentials| {
            let connect = Connect {
                client_id: "me",
                clean_session: false,
                keep_alive: 60,
                last_will: Some(will),
                credentials,
                terms: None,
            };
            bytes(|out| encode_connect(&connect, out))
        };
        let mut will = Will::new("w/t", QoS::AtLeastOnce, &b"gone"[..]);
        assert_eq!(
            encoded(&will, None),
            b"\x10\x19\x00\x04MQTT\x04\x0c\x00\x3c\x00\x02me\x00\x03w/t\x00\x04gone"
        );
        will.retain = true;
        will.qos = QoS::ExactlyOnce;
        will.payload = Bytes::new();
        assert_eq!(
            encoded(&will, Some(&credentials)),
            b"\x10\x18\x00\x04MQTT\x04\xb4\x00\x3c\x00\x02me\x00\x03w/t\x00\x00\x00\x01u"
        );
        will.qos = QoS::AtMostOnce;
        assert_eq!(encoded(&will, None)[9], 0x24);
    }

    #[test]
    fn the_largest_will_keeps_its_length() {
        let will = Will::new("t", QoS::AtMostOnce, vec![7; Will::LARGEST_PAYLOAD]);
        assert_eq!(will.check(), Ok(()));
        let connect = Connect {
            client_id: "me",
            clean_session: true,
            keep_alive: 0,
            last_will: Some(&will),
            credentials: None,
            terms: None,
        };
        let encoded = bytes(|out| encode_connect(&connect, out));
        // Remaining length: 10 + 4 + 3 + 2 + 65,535.
        assert_eq!(encoded[..4], [0x10, 0x92, 0x80, 0x04]);
        assert_eq!(encoded.len(), 4 + 65_554);
        assert_eq!(encoded[21..23], [0xff, 0xff]);
        assert!(encoded[23..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_publish_is_unchanged_after_it_was_encoded() {
        let mut publish = Publish::new("a/b", QoS::AtLeastOnce, &b"xy"[..]);
        let before = publish.clone();
        let encoded =
            bytes(|out| encode_publish(&mut publish, Some(id(10)), true, &mut String::new(), out));
        assert_eq!(encoded, b"\x3a\x09\x00\x03a/b\x00\x0axy");
        assert_eq!(publish, before);
    }

    #[test]
    fn a_qos_0_publish_has_no_identifier() {
        let mut publish = Publish::new("a", QoS::AtMostOnce, &b"x"[..]);
        publish.retain = true;
        let encoded =
            bytes(|out| encode_publish(&mut publish, None, false, &mut String::new(), out));
        assert_eq!(encoded, b"\x31\x04\x00\x01ax");
    }

    #[test]
    fn the_other_packets_have_their_reserved_flags() {
        assert_eq!(
            bytes(|o| encode_ack(Ack::PubAck, id(1), o)),
            b"\x40\x02\x00\x01"
        );
        assert_eq!(
            bytes(|o| encode_ack(Ack::PubRec, id(2), o)),
            b"\x50\x02\x00\x02"
        );
        assert_eq!(
            bytes(|o| encode_ack(Ack::PubRel, id(3), o)),
            b"\x62\x02\x00\x03"
        );
        assert_eq!(
            bytes(|o| encode_ack(Ack::PubComp, id(4), o)),
            b"\x70\x02\x00\x04"
        );
        let filters = [
            Filter::new("a", QoS::AtLeastOnce),
            Filter::new("#", QoS::AtMostOnce),
        ];
        assert_eq!(
            bytes(|o| encode_subscribe(id(5), &filters, o)),
            b"\x82\x0a\x00\x05\x00\x01a\x01\x00\x01#\x00"
        );
        assert_eq!(
            bytes(|o| encode_unsubscribe(id(6), &["a".to_owned()], o)),
            b"\xa2\x05\x00\x06\x00\x01a"
        );
        assert_eq!(bytes(encode_ping), b"\xc0\x00");
        assert_eq!(bytes(encode_disconnect), b"\xe0\x00");
    }
}
