//! Packets at random, judged by the codec of another project.
//!
//! That codec takes some packets that MQTT 5 forbids and refuses none that it allows. So it must take all that is taken
//! here, and find the same in it: what it writes again reads the same.

use std::num::NonZeroU32;

use bytes::BytesMut;
use mqtt5_protocol::packet::MqttPacket;
use mqtt5_protocol::{FixedHeader, Packet};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::{decoded, packet};
use crate::mqtt::packet::{
    Ack, Filter, MessageProperties, PacketId, Publish, QoS, ReasonCode, RetainHandling,
    SubscribeOptions,
};
use crate::mqtt::v5::{
    Incoming5, PublishParts, encode_ack5, encode_disconnect5, encode_publish5, encode_subscribe5,
};

/// The judge reads these bytes, and writes again.
fn judged(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut rest = bytes;
    let header = FixedHeader::decode(&mut rest).map_err(|error| error.to_string())?;
    let mut body = &rest[..header.remaining_length as usize];
    let read = Packet::decode_from_body(header.packet_type, &header, &mut body);
    let read = read.map_err(|error| error.to_string())?;
    let mut out = BytesMut::new();
    let written = match read {
        Packet::ConnAck(it) => it.encode(&mut out),
        Packet::Publish(it) => it.encode(&mut out),
        Packet::PubAck(it) => it.encode(&mut out),
        Packet::PubRec(it) => it.encode(&mut out),
        Packet::PubRel(it) => it.encode(&mut out),
        Packet::PubComp(it) => it.encode(&mut out),
        Packet::SubAck(it) => it.encode(&mut out),
        Packet::UnsubAck(it) => it.encode(&mut out),
        Packet::Disconnect(it) => it.encode(&mut out),
        Packet::Subscribe(it) => it.encode(&mut out),
        Packet::PingResp => return Ok(bytes.to_vec()),
        other => return Err(format!("not from a server: {other:?}")),
    };
    written.map_err(|error| error.to_string())?;
    Ok(out.to_vec())
}

/// Whether both agree on the packet. A CONNACK of MQTT 3.1.1 is none of MQTT 5 for the judge.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(Some(ours)) = decoded(bytes) else {
        return Ok(());
    };
    if matches!(&ours, Incoming5::ConnAck(connack) if connack.is_of_3_1_1) {
        return Ok(());
    }
    let written = judged(bytes).map_err(|error| {
        TestCaseError::fail(format!(
            "{bytes:02x?} is {ours:?}, and the judge says: {error}"
        ))
    })?;
    prop_assert_eq!(decoded(&written), Ok(Some(ours)), "{:02x?}", bytes);
    Ok(())
}

/// A property: its number, and its value.
fn property(number: u8) -> BoxedStrategy<Vec<u8>> {
    let with = move |value: Vec<u8>| [&[number], &value[..]].concat();
    let text = || "[a-zä/]{0,6}".prop_map(|text| string(text.as_bytes()));
    match number {
        1 | 36 | 37 | 40 | 41 | 42 => (0..2_u8).prop_map(move |it| with(vec![it])).boxed(),
        2 | 17 | 39 => (1..u32::MAX)
            .prop_map(move |it| with(it.to_be_bytes().to_vec()))
            .boxed(),
        19 | 33 | 34 | 35 => (1..u16::MAX)
            .prop_map(move |it| with(it.to_be_bytes().to_vec()))
            .boxed(),
        11 => (1..200_000_usize)
            .prop_map(move |it| {
                let mut bytes = BytesMut::new();
                super::super::varint::write(it, &mut bytes);
                with(bytes.to_vec())
            })
            .boxed(),
        8 => "[a-z/]{1,6}"
            .prop_map(move |it| with(string(it.as_bytes())))
            .boxed(),
        9 => prop::collection::vec(any::<u8>(), 0..6)
            .prop_map(move |it| with(string(&it)))
            .boxed(),
        38 => (text(), text())
            .prop_map(move |(a, b)| with([a, b].concat()))
            .boxed(),
        _ => text().prop_map(with).boxed(),
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Some of these properties, each once and in this order, with their length before them.
fn properties(numbers: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    subsequence(numbers, 0..=numbers.len())
        .prop_flat_map(|some| some.into_iter().map(property).collect::<Vec<_>>())
        .prop_map(|all| {
            let all = all.concat();
            let mut bytes = BytesMut::new();
            super::super::varint::write(all.len(), &mut bytes);
            bytes.extend_from_slice(&all);
            bytes.to_vec()
        })
}

/// Packets that a server may send.
fn allowed() -> impl Strategy<Value = Vec<u8>> {
    let id = || (1..u16::MAX).prop_map(|id| id.to_be_bytes().to_vec());
    let of = |codes: &'static [u8]| prop::sample::select(codes);
    let acknowledgment = move |first: u8, codes: &'static [u8]| {
        let parts = (id(), of(codes), properties(&[31, 38]), 0..3_usize);
        parts.prop_map(move |(id, code, properties, length)| {
            let body = match length {
                0 => id,
                1 => [id, vec![code]].concat(),
                _ => [id, vec![code], properties].concat(),
            };
            packet(first, &body)
        })
    };
    let several = move |first: u8, codes: &'static [u8]| {
        let parts = (
            id(),
            properties(&[31, 38]),
            prop::collection::vec(of(codes), 1..5),
        );
        parts.prop_map(move |(id, properties, codes)| {
            packet(first, &[id, properties, codes].concat())
        })
    };
    const OF_CONNACK: &[u8] = &[17, 18, 19, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42];
    let connack = (
        of(&[0, 0x80, 0x87, 0x9f]),
        any::<bool>(),
        properties(OF_CONNACK),
    );
    let payload = prop_oneof![9 => 0..40_usize, 1 => 4000..5000_usize];
    let publish = (
        0..3_u8,
        any::<[bool; 2]>(),
        "[a-zä/ ]{1,9}",
        id(),
        properties(&[1, 2, 3, 8, 9, 11, 35, 38]),
        payload,
    );
    let disconnect = (
        of(&[0, 0x81, 0x8e, 0x9d]),
        properties(&[28, 31, 38]),
        0..3_usize,
    );
    prop_oneof![
        connack.prop_map(|(code, present, properties)| {
            let present = u8::from(present && code == 0);
            packet(0x20, &[vec![present, code], properties].concat())
        }),
        publish.prop_map(|(qos, [dup, retain], topic, id, properties, payload)| {
            let id = if qos == 0 { Vec::new() } else { id };
            let flags = u8::from(dup && qos > 0) << 3 | qos << 1 | u8::from(retain);
            let body = [
                string(topic.as_bytes()),
                id,
                properties,
                vec![b'p'; payload],
            ]
            .concat();
            packet(0x30 | flags, &body)
        }),
        acknowledgment(0x40, &[0, 0x10, 0x80, 0x87, 0x97]),
        acknowledgment(0x50, &[0, 0x10, 0x80, 0x87, 0x97]),
        acknowledgment(0x62, &[0, 0x92]),
        acknowledgment(0x70, &[0, 0x92]),
        several(0x90, &[0, 1, 2, 0x80, 0x87, 0x8f, 0x9e]),
        several(0xb0, &[0, 0x11, 0x80, 0x87]),
        disconnect.prop_map(|(code, properties, length)| {
            let body = match length {
                0 => Vec::new(),
                1 => vec![code],
                _ => [vec![code], properties].concat(),
            };
            packet(0xe0, &body)
        }),
        Just(packet(0xd0, &[])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_packet_that_is_allowed_is_taken_and_read_as_the_judge_reads_it(bytes in allowed()) {
        prop_assert!(matches!(decoded(&bytes), Ok(Some(_))), "{:?}", decoded(&bytes));
        check(&bytes)?;
    }

    #[test]
    fn whatever_is_taken_is_read_as_the_judge_reads_it(
        bytes in allowed(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut body = bytes;
        for (place, byte, kind) in changes {
            let at = place.index(body.len());
            match kind {
                0 => body.insert(at, byte),
                1 if body.len() > 2 => { body.remove(at); }
                2 => body[at] ^= 1 << (byte & 7),
                _ => body[at] = byte,
            }
        }
        check(&body)?;
    }

    #[test]
    fn the_judge_reads_what_is_encoded_here(
        topic in "[a-z/]{1,8}",
        pairs in prop::collection::vec(("[a-z]{0,4}", "[a-z]{0,4}"), 0..3),
        id in 1..u16::MAX,
        level in 0..3_u8,
        flags in any::<[bool; 3]>(),
        expiry in any::<Option<u32>>(),
    ) {
        let qos = QoS::try_from(level).unwrap();
        let id = PacketId::new(id).unwrap();
        let properties = MessageProperties { expiry, user_properties: pairs, ..MessageProperties::default() };
        let publish = Publish::new(topic.clone(), qos, &b"payload"[..]).with_retain(flags[0]);
        let mut out = BytesMut::new();
        let of_publish = (level > 0).then_some(id);
        encode_publish5(&PublishParts {
            topic: &topic,
            payload: publish.payload(),
            qos,
            retain: flags[0],
            dup: flags[1] && level > 0,
            id: of_publish,
            properties: Some(&properties),
            expiry,
            alias: None,
            topic_is_known: false,
        }, &mut out);
        check(&out)?;
        prop_assert!(matches!(decoded(&out), Ok(Some(Incoming5::Publish(it)))
            if it.topic == topic && it.properties == properties && it.id == of_publish));
        for (ack, code) in [(Ack::PubAck, 0), (Ack::PubRec, 0), (Ack::PubRel, 0x92), (Ack::PubComp, 0x92)] {
            out.clear();
            encode_ack5(ack, id, ReasonCode::new(code), &mut out);
            prop_assert!(decoded(&out).is_ok_and(|it| it.is_some()));
            check(&out)?;
        }
        out.clear();
        encode_disconnect5(ReasonCode::PROTOCOL_ERROR, &mut out);
        check(&out)?;
        out.clear();
        let options = SubscribeOptions {
            no_local: flags[0],
            retain_as_published: flags[1],
            retain_handling: if flags[2] { RetainHandling::IfNew } else { RetainHandling::Never },
            identifier: None,
        };
        encode_subscribe5(id, &[Filter::new(topic, qos).with_options(options)], NonZeroU32::new(7), &mut out);
        prop_assert_eq!(judged(&out), Ok(out.to_vec()));
    }
}
