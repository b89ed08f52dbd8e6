//! Packets to a server, byte by byte.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};

use crate::mqtt::packet::{
    Ack, Connect, ConnectTerms, Credentials, Filter, MessageProperties, PacketId, Publish, QoS,
    ReasonCode, RetainHandling, SubscribeOptions, Will, WillProperties,
};
use crate::mqtt::v5::{
    PublishParts, encode_ack5, encode_connect5, encode_disconnect5, encode_publish5,
    encode_subscribe5, encode_unsubscribe5, subscribe_length5, unsubscribe_length5,
};
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

fn connect<'a>() -> Connect<'a> {
    Connect {
        client_id: "me",
        clean_session: true,
        keep_alive: 60,
        last_will: None,
        credentials: None,
        terms: None,
    }
}

#[test]
fn connect_leaves_out_what_the_standard_has_by_default() {
    let terms = ConnectTerms::default();
    assert_eq!(
        bytes(|out| encode_connect5(&connect(), &terms, out)),
        b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02me"
    );
    let empty = Connect {
        client_id: "",
        ..connect()
    };
    assert_eq!(
        bytes(|out| encode_connect5(&empty, &terms, out)),
        b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00"
    );
}

#[test]
fn connect_states_our_limits_the_will_and_the_password() {
    let credentials = Credentials {
        username: "u".into(),
        password: Secret::from(vec![0, 0xff]),
    };
    let mut will = Will::new("w", QoS::AtLeastOnce, &b"gone"[..]);
    will.properties = WillProperties {
        delay: 5,
        message: MessageProperties {
            payload_is_text: true,
            ..MessageProperties::default()
        },
    };
    let full = Connect {
        clean_session: false,
        last_will: Some(&will),
        credentials: Some(&credentials),
        ..connect()
    };
    let terms = ConnectTerms {
        session_expiry: 3600,
        receive_maximum: 20,
        maximum_packet_size: Some(131_072),
        topic_alias_maximum: 8,
        topic_aliases: 5,
        user_properties: vec![("a".to_owned(), "b".to_owned())],
    };
    let properties =
        b"\x11\x00\x00\x0e\x10\x21\x00\x14\x27\x00\x02\x00\x00\x22\x00\x08\x26\x00\x01a\x00\x01b";
    let expected = [
        &b"\x00\x04MQTT\x05\xcc\x00\x3c"[..],
        &[properties.len() as u8],
        properties,
        b"\x00\x02me\x07\x18\x00\x00\x00\x05\x01\x01\x00\x01w\x00\x04gone\x00\x01u\x00\x02\x00\xff",
    ]
    .concat();
    assert_eq!(
        bytes(|out| encode_connect5(&full, &terms, out)),
        super::packet(0x10, &expected)
    );
}

#[test]
fn publish_has_properties_between_identifier_and_payload() {
    let none = MessageProperties::default();
    let mut publish = Publish::new("a/b", QoS::AtMostOnce, &b"xy"[..]);
    let encoded = |publish: &Publish, properties: &MessageProperties, id, dup, alias, known| {
        let alias = NonZeroU16::new(alias);
        let parts = PublishParts {
            topic: publish.topic(),
            payload: publish.payload(),
            qos: publish.qos(),
            retain: publish.retain(),
            dup,
            id,
            properties: (!properties.is_empty()).then_some(properties),
            expiry: properties.expiry,
            alias,
            topic_is_known: known,
        };
        bytes(|out| encode_publish5(&parts, out))
    };
    assert_eq!(
        encoded(&publish, &none, None, false, 0, false),
        b"\x30\x08\x00\x03a/b\x00xy"
    );
    publish = Publish::new("a/b", QoS::AtLeastOnce, &b"xy"[..]).with_retain(true);
    assert_eq!(
        encoded(&publish, &none, Some(id(10)), true, 0, false),
        b"\x3b\x0a\x00\x03a/b\x00\x0a\x00xy"
    );
    assert_eq!(
        encoded(&publish, &none, Some(id(10)), false, 3, true),
        b"\x33\x0a\x00\x00\x00\x0a\x03\x23\x00\x03xy"
    );
    let properties = MessageProperties {
        payload_is_text: true,
        expiry: Some(60),
        content_type: Some("t".to_owned()),
        response_topic: Some("r".to_owned()),
        correlation_data: Some(Bytes::from_static(b"c")),
        user_properties: vec![("k".to_owned(), "v".to_owned())],
    };
    assert_eq!(properties.check(), Ok(()));
    let all = encoded(&publish, &properties, Some(id(1)), false, 0, false);
    let super::Incoming5::Publish(back) = super::decoded(&all).unwrap().unwrap() else {
        panic!("no PUBLISH");
    };
    assert_eq!(
        (back.properties, &back.payload[..]),
        (properties, &b"xy"[..])
    );
}

#[test]
fn acknowledgments_and_disconnect_leave_success_out() {
    let ack = |ack, code| bytes(|out| encode_ack5(ack, id(258), ReasonCode::new(code), out));
    assert_eq!(ack(Ack::PubAck, 0), b"\x40\x02\x01\x02");
    assert_eq!(ack(Ack::PubRec, 0), b"\x50\x02\x01\x02");
    assert_eq!(ack(Ack::PubRel, 0x92), b"\x62\x03\x01\x02\x92");
    assert_eq!(ack(Ack::PubComp, 0x92), b"\x70\x03\x01\x02\x92");
    let disconnect = |code| bytes(|out| encode_disconnect5(ReasonCode::new(code), out));
    assert_eq!(disconnect(0), b"\xe0\x00");
    assert_eq!(disconnect(4), b"\xe0\x01\x04");
    assert_eq!(disconnect(0x81), b"\xe0\x01\x81");
}

#[test]
fn subscribe_has_options_for_each_filter_and_no_reserved_bit() {
    let options = |no_local, retain_as_published, retain_handling| SubscribeOptions {
        no_local,
        retain_as_published,
        retain_handling,
        identifier: None,
    };
    let handlings = [
        RetainHandling::Always,
        RetainHandling::IfNew,
        RetainHandling::Never,
    ];
    for (handling, bits) in handlings.into_iter().zip([0x00, 0x10, 0x20]) {
        for (qos, level) in [
            (QoS::AtMostOnce, 0),
            (QoS::AtLeastOnce, 1),
            (QoS::ExactlyOnce, 2),
        ] {
            for (no_local, published) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                let options = options(no_local, published, handling);
                let filters = [Filter::new("a", qos).with_options(options)];
                let option = bits | level | u8::from(no_local) << 2 | u8::from(published) << 3;
                let expected = [&b"\x82\x07\x00\x05\x00\x00\x01a"[..], &[option]].concat();
                assert_eq!(
                    bytes(|out| encode_subscribe5(id(5), &filters, None, out)),
                    expected
                );
            }
        }
    }
    let filters = [Filter::new("#", QoS::AtMostOnce)];
    assert_eq!(
        bytes(|out| encode_subscribe5(id(5), &filters, NonZeroU32::new(128), out)),
        b"\x82\x0a\x00\x05\x03\x0b\x80\x01\x00\x01#\x00"
    );
    assert_eq!(
        bytes(|out| encode_unsubscribe5(id(6), &["a".to_owned()], out)),
        b"\xa2\x06\x00\x06\x00\x00\x01a"
    );
}

#[test]
fn the_lengths_of_requests_are_those_of_their_bytes() {
    for length in [
        1, 119, 120, 121, 122, 123, 16_375, 16_376, 16_377, 16_378, 16_379,
    ] {
        for number in [0, 127, 128, 268_435_455] {
            let name = "f".repeat(length);
            let identifier = NonZeroU32::new(number);
            let filters = [name.as_str(), "g"].map(|name| Filter::new(name, QoS::AtLeastOnce));
            let subscribe = bytes(|out| encode_subscribe5(id(5), &filters, identifier, out));
            assert_eq!(subscribe_length5(&filters, identifier), subscribe.len());
            let names = [name, "g".to_owned()];
            let unsubscribe = bytes(|out| encode_unsubscribe5(id(5), &names, out));
            assert_eq!(unsubscribe_length5(&names), unsubscribe.len());
        }
    }
}
