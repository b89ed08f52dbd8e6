//! The decoder of one packet: what it takes, what it refuses, and the memory that it needs.

use std::sync::Arc;

use super::*;
use crate::mqtt::taken::{COPIED_PAYLOAD, READ_SIZE, ROOM};

fn decoded(bytes: &[u8]) -> Result<Option<Incoming>, ProtocolError> {
    decode(&mut BytesMut::from(bytes), 1024)
}

fn rule(bytes: &[u8]) -> &'static str {
    decoded(bytes).expect_err("a protocol error").rule()
}

#[test]
fn complete_packets_are_taken_one_by_one() {
    let mut buffer = BytesMut::from(&b"\x40\x02\x00\x01\xd0\x00\x20"[..]);
    let id = PacketId::new(1).unwrap();
    assert_eq!(decode(&mut buffer, 1024), Ok(Some(Incoming::PubAck(id))));
    assert_eq!(decode(&mut buffer, 1024), Ok(Some(Incoming::PingResp)));
    assert_eq!(decode(&mut buffer, 1024), Ok(None));
    assert_eq!(&buffer[..], b"\x20");
}

#[test]
fn every_prefix_of_a_good_packet_asks_for_more() {
    let packet = b"\x3a\x08\x00\x01a\x00\x07xyz";
    for cut in 0..packet.len() {
        assert_eq!(decoded(&packet[..cut]), Ok(None), "{cut} bytes");
    }
    assert!(matches!(
        decoded(packet),
        Ok(Some(Incoming::Publish { id: Some(_), .. }))
    ));
}

#[test]
fn connack_and_suback_carry_their_codes() {
    assert_eq!(
        decoded(b"\x20\x02\x01\x00"),
        Ok(Some(Incoming::ConnAck {
            session_present: true,
            code: ConnectReturnCode::Accepted
        }))
    );
    assert_eq!(
        decoded(b"\x90\x05\x00\x01\x00\x80\x02"),
        Ok(Some(Incoming::SubAck {
            id: PacketId::new(1).unwrap(),
            granted: vec![Some(QoS::AtMostOnce), None, Some(QoS::ExactlyOnce)]
        }))
    );
}

#[test]
fn a_packet_that_a_broker_must_not_send_is_refused_by_its_rule() {
    assert_eq!(rule(b"\x00\x00"), "MQTT 3.1.1, 2.2.1");
    assert_eq!(rule(b"\xf0\x00"), "MQTT 3.1.1, 2.2.1");
    for client_packet in [
        b"\x10\x00",
        b"\x82\x00",
        b"\xa2\x00",
        b"\xc0\x00",
        b"\xe0\x00",
    ] {
        assert_eq!(rule(client_packet), "MQTT 3.1.1, 2.2.1");
    }
    assert_eq!(rule(b"\x41\x02\x00\x01"), "MQTT-2.2.2-2");
    assert_eq!(rule(b"\x60\x02\x00\x01"), "MQTT-2.2.2-2");
    assert_eq!(rule(b"\xd1\x00"), "MQTT-2.2.2-2");
    assert_eq!(rule(b"\x36\x05\x00\x01a\x00\x01"), "MQTT-3.3.1-4");
    assert_eq!(rule(b"\x38\x03\x00\x01a"), "MQTT-3.3.1-2");
    assert_eq!(rule(b"\x40\x03\x00\x01\x00"), "MQTT 3.1.1, 3");
    assert_eq!(rule(b"\xd0\x01\x00"), "MQTT 3.1.1, 3");
    assert_eq!(rule(b"\x40\x02\x00\x00"), "MQTT-2.3.1-1");
    assert_eq!(rule(b"\x32\x05\x00\x01a\x00\x00"), "MQTT-2.3.1-1");
    assert_eq!(rule(b"\x40\x82\x00\x00\x01"), "MQTT 3.1.1, 2.2.3");
    assert_eq!(rule(b"\x30\x80\x80\x80\x80\x01"), "MQTT 3.1.1, 2.2.3");
    assert_eq!(rule(b"\x30\x02\x00\x00"), "MQTT-4.7.3-1");
    assert_eq!(rule(b"\x30\x04\x00\x02a\0"), "MQTT-1.5.3-2");
    assert_eq!(rule(b"\x30\x04\x00\x02a#"), "MQTT-3.3.2-2");
    assert_eq!(rule(b"\x30\x03\x00\x01\xff"), "MQTT-1.5.3-1");
    assert_eq!(rule(b"\x30\x03\x00\x09a"), "MQTT-4.8.0-1");
    assert_eq!(rule(b"\x90\x03\x00\x01\x03"), "MQTT-3.9.3-2");
    assert_eq!(rule(b"\x20\x02\x01\x05"), "MQTT-3.2.2-4");
    assert_eq!(rule(b"\x20\x02\x00\x06"), "MQTT 3.1.1, 3.2.2.3");
    assert_eq!(rule(b"\x20\x02\x02\x00"), "MQTT 3.1.1, 3.2.2.1");
}

#[test]
fn a_packet_above_the_limit_is_refused_before_its_body_comes() {
    assert_eq!(rule(b"\x30\xff\x7f"), "max-packet-size");
}

/// A PUBLISH of QoS 0 to `a` with a payload of this length, at least 16 KiB.
fn publish(length: usize) -> Vec<u8> {
    let remaining = length + 3;
    let mut packet = vec![0x30];
    packet.extend((0..3).map(|n| (remaining >> (7 * n)) as u8 & 0x7f | 0x80));
    packet[3] &= 0x7f;
    packet.extend(b"\x00\x01a");
    packet.resize(packet.len() + length, 7);
    packet
}

fn decoded_publish(buffer: &mut BytesMut) -> Option<Arc<Message>> {
    match decode(buffer, usize::MAX).unwrap()? {
        Incoming::Publish { message, .. } => Some(message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_packet_is_not_moved_once_its_length_is_known_also_with_another_behind_it() {
    const LENGTH: usize = 200_000;
    let mut buffer = BytesMut::new();
    let mut messages = 0;
    for piece in publish(LENGTH).repeat(2).chunks(READ_SIZE) {
        let (has_begun, capacity) = (!buffer.is_empty(), buffer.capacity());
        buffer.extend_from_slice(piece);
        assert!(!has_begun || buffer.capacity() == capacity);
        while let Some(message) = decoded_publish(&mut buffer) {
            assert_eq!(message.payload().len(), LENGTH);
            messages += 1;
        }
        assert!(buffer.capacity() <= LENGTH + 2 * READ_SIZE);
    }
    assert_eq!(messages, 2);
}

#[test]
fn a_packet_finds_no_more_room_than_its_stated_length_makes_likely() {
    let mut buffer = BytesMut::from(&b"\x30\xff\xff\xff\x7f"[..]);
    let mut capacities = Vec::new();
    while buffer.len() < ROOM - READ_SIZE {
        assert_eq!(decode(&mut buffer, usize::MAX), Ok(None));
        capacities.push(buffer.capacity());
        buffer.extend_from_slice(&[b'a'; READ_SIZE]);
    }
    assert!(capacities.iter().all(|one| *one == ROOM + READ_SIZE));
    while buffer.len() < 5 * ROOM {
        assert_eq!(decode(&mut buffer, usize::MAX), Ok(None));
        assert!(buffer.capacity() <= 2 * (buffer.len() + ROOM));
        let capacity = buffer.capacity();
        buffer.extend_from_slice(&[b'a'; READ_SIZE]);
        assert_eq!(buffer.capacity(), capacity, "room was made before");
    }
}

#[test]
fn only_a_large_payload_keeps_the_read_buffer_alive() {
    for (length, is_shared) in [(COPIED_PAYLOAD, false), (COPIED_PAYLOAD + 1, true)] {
        let mut buffer = BytesMut::from(&publish(length)[..]);
        let memory = buffer.as_ptr_range();
        let message = decoded_publish(&mut buffer).unwrap();
        assert_eq!((message.topic(), message.payload().len()), ("a", length));
        assert_eq!(memory.contains(&message.payload().as_ptr()), is_shared);
    }
}

#[test]
fn a_payload_keeps_no_memory_of_the_packets_beside_it_alive() {
    const LARGE: usize = 250_000;
    const SMALLER: usize = COPIED_PAYLOAD + 1;
    for lengths in [[LARGE, SMALLER], [SMALLER, LARGE]] {
        let packets = lengths.map(publish).concat();
        let mut buffer = BytesMut::from(&packets[..]);
        let memory = buffer.as_ptr_range();
        let messages = lengths.map(|_| decoded_publish(&mut buffer).unwrap());
        for (message, length) in messages.iter().zip(lengths) {
            assert_eq!(message.payload(), vec![7; length]);
            let is_shared = memory.contains(&message.payload().as_ptr());
            assert!(length == LARGE || !is_shared);
        }
    }
}

#[test]
fn a_long_bad_topic_makes_no_long_line() {
    let mut packet = b"\x30\xc2\x07\x03\xc0".to_vec();
    packet.extend([0; 0x3c0]);
    let error = decoded(&packet).unwrap_err().to_string();
    assert!(error.contains("and so on is not a topic name"), "{error}");
    assert!(error.len() < 400, "{error}");
}

#[test]
fn the_error_shows_the_rule_and_the_beginning() {
    let error = decoded(b"\x41\x02\x00\x01").unwrap_err();
    assert_eq!(
        error.to_string(),
        "PUBACK: flags 0001 where 0000 is required [MQTT-2.2.2-2], beginning 41 02 00 01"
    );
}
