//! Packets that cannot be read: types, flags, lengths, identifiers, strings and topics. DISCONNECT says 0x81, or 0x82
//! where the packet can be read but must not come.

use super::pieces::{CARRIERS, CONNACK, Carrier, Form, PROPERTIES};
use super::violations::{
    Bad, expect_each_ends_the_link, expect_each_ends_the_link_instead_of_connack, forbidden,
    malformed,
};

/// Each packet of a server, as short as it can be, and its name.
const SHORTEST: [(&[u8], &str); 10] = [
    (b"\x20\x03\x00\x00\x00", "CONNACK"),
    (b"\x40\x02\x00\x01", "PUBACK"),
    (b"\x50\x02\x00\x01", "PUBREC"),
    (b"\x62\x02\x00\x01", "PUBREL"),
    (b"\x70\x02\x00\x01", "PUBCOMP"),
    (b"\x90\x04\x00\x01\x00\x00", "SUBACK"),
    (b"\xb0\x04\x00\x01\x00\x00", "UNSUBACK"),
    (b"\xd0\x00", "PINGRESP"),
    (b"\xe0\x00", "DISCONNECT"),
    (b"\xf0\x00", "AUTH"),
];

/// Strings that are not UTF-8: a lone byte, a lone first byte, a surrogate, U+0000 in two bytes, a code point above
/// U+10FFFF, and a character that ends early.
const NOT_UTF8: [&[u8]; 6] = [
    b"\xff",
    b"\xc3(",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"a\xe2\x82",
];

/// Types that there are not, and packets that only a client sends [MQTT-4.13.2-1]. Some of them are what a frame with text
/// begins with, which WebSocket would have [MQTT-6.0.0-1].
#[test]
fn a_packet_that_no_server_sends_ends_the_link() {
    const RULE: &str = "MQTT 5, 2.1.2";
    let connect = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00";
    let rows = [
        malformed(b"\x00\x00", "packet", RULE),
        malformed(b"\x0f\x02ab", "packet", RULE),
        forbidden(connect, "CONNECT", RULE),
        forbidden(b"\x82\x07\x00\x01\x00\x00\x01a\x00", "SUBSCRIBE", RULE),
        forbidden(b"\xa2\x06\x00\x01\x00\x00\x01a", "UNSUBSCRIBE", RULE),
        forbidden(b"\xc0\x00", "PINGREQ", RULE),
        // A frame of WebSocket with five characters.
        forbidden(b"\x81\x05hello", "SUBSCRIBE", RULE),
    ];
    expect_each_ends_the_link(&rows);
    expect_each_ends_the_link_instead_of_connack(&rows);
}

/// The reserved flags of every packet [MQTT-2.1.3-1 receive], those of PUBREL [MQTT-3.6.1-1 receive], DISCONNECT
/// [MQTT-3.14.1-1 receive] and AUTH [MQTT-3.15.1-1] among them.
#[test]
fn other_flags_than_the_standard_has_for_a_packet_end_the_link() {
    let mut rows = Vec::new();
    for (bytes, name) in SHORTEST {
        for flags in (0..16).filter(|flags| *flags != bytes[0] & 15) {
            let mut other = bytes.to_vec();
            other[0] = bytes[0] & 0xf0 | flags;
            rows.push(malformed(other, name, "MQTT-2.1.3-1"));
        }
    }
    assert_eq!(rows.len(), 150);
    expect_each_ends_the_link(&rows);
}

/// Both QoS bits [MQTT-3.3.1-4 receive], and DUP on QoS 0 [MQTT-3.3.1-2 receive].
#[test]
fn a_publish_of_qos_3_and_a_repeated_one_of_qos_0_end_the_link() {
    let mut rows = Vec::new();
    for first in [0x36, 0x37, 0x3e, 0x3f] {
        let bytes = [&[first], &b"\x06\x00\x01a\x00\x01\x00"[..]].concat();
        rows.push(malformed(bytes, "PUBLISH", "MQTT-3.3.1-4"));
    }
    for first in [0x38, 0x39] {
        let bytes = [&[first], &b"\x05\x00\x01a\x00x"[..]].concat();
        rows.push(forbidden(bytes, "PUBLISH", "MQTT-3.3.1-2"));
    }
    expect_each_ends_the_link(&rows);
}

/// The remaining length, the length of properties, the number of a property and the subscription identifier in more
/// bytes than they need, or in more than four [MQTT-1.5.5-1 receive].
#[test]
fn a_variable_byte_integer_of_another_form_ends_the_link() {
    const RULE: &str = "MQTT-1.5.5-1";
    let mut rows = Vec::new();
    for (bytes, name) in SHORTEST {
        for length in [
            &[bytes[1] | 0x80, 0][..],
            &[bytes[1] | 0x80, 0x80, 0],
            &[0xff, 0xff, 0xff, 0xff],
        ] {
            let longer = [&bytes[..1], length, &bytes[2..]].concat();
            rows.push(malformed(longer, name, RULE));
        }
    }
    for carrier in CARRIERS {
        for length in [&b"\x80\x00"[..], b"\x80\x80\x80\x80\x01"] {
            rows.push(malformed(carrier.with_raw(length), carrier.name, RULE));
        }
        // A user property, the number of which has two bytes.
        let number = carrier.with(b"\xa6\x00\x00\x01a\x00\x01b");
        rows.push(malformed(number, carrier.name, RULE));
    }
    for identifier in [&b"\x0b\x87\x00"[..], b"\x0b\xff\xff\xff\xff\x01"] {
        let publish = CARRIERS[0].with(identifier);
        rows.push(malformed(publish, "PUBLISH", RULE));
    }
    expect_each_ends_the_link(&rows);
}

/// Identifier 0 where there must be one [MQTT-2.2.1-4].
#[test]
fn packet_identifier_0_ends_the_link() {
    const RULE: &str = "MQTT 5, 2.2.1";
    let mut rows = vec![
        malformed(b"\x32\x06\x00\x01a\x00\x00\x00", "PUBLISH", RULE),
        malformed(b"\x34\x06\x00\x01a\x00\x00\x00", "PUBLISH", RULE),
        malformed(b"\x90\x04\x00\x00\x00\x00", "SUBACK", RULE),
        malformed(b"\xb0\x04\x00\x00\x00\x00", "UNSUBACK", RULE),
    ];
    let acknowledgments = [
        (0x40, "PUBACK"),
        (0x50, "PUBREC"),
        (0x62, "PUBREL"),
        (0x70, "PUBCOMP"),
    ];
    for (first, name) in acknowledgments {
        rows.push(malformed([first, 2, 0, 0], name, RULE));
        rows.push(malformed([first, 3, 0, 0, 0], name, RULE));
        rows.push(malformed([first, 4, 0, 0, 0, 0], name, RULE));
    }
    expect_each_ends_the_link(&rows);
}

/// Parts that do not fit into the length of their packet, and bytes behind its end [MQTT-4.13.2-1].
#[test]
fn a_packet_that_is_too_short_or_too_long_ends_the_link() {
    const RULE: &str = "MQTT 5, 4.13.1";
    let mut rows = vec![
        // PUBLISH: no topic, half a length, a topic that crosses the end, half an identifier, no properties.
        malformed(b"\x30\x00", "PUBLISH", RULE),
        malformed(b"\x30\x01\x00", "PUBLISH", RULE),
        malformed(b"\x30\x04\x00\x09a\x00", "PUBLISH", RULE),
        malformed(b"\x32\x04\x00\x01a\x00", "PUBLISH", RULE),
        malformed(b"\x32\x05\x00\x01a\x00\x01", "PUBLISH", RULE),
        malformed(b"\x30\x03\x00\x01a", "PUBLISH", RULE),
        malformed(b"\x30\x02\x00\x00", "PUBLISH", RULE),
        // SUBACK and UNSUBACK as MQTT 3.1.1 has them.
        malformed(b"\x90\x03\x00\x01\x00", "SUBACK", RULE),
        malformed(b"\xb0\x02\x00\x01", "UNSUBACK", RULE),
        malformed(b"\xb0\x03\x00\x01\x00", "UNSUBACK", RULE),
        malformed(b"\xd0\x01\x00", "PINGRESP", RULE),
        malformed(b"\xe0\x03\x81\x00\x00", "DISCONNECT", RULE),
    ];
    for (bytes, name) in &SHORTEST[1..7] {
        for length in 0..2 {
            let shorter = [&[bytes[0], length], &bytes[2..2 + usize::from(length)]].concat();
            rows.push(malformed(shorter, name, RULE));
        }
    }
    for (bytes, name) in &SHORTEST[1..5] {
        let longer = [&[bytes[0], 5], &bytes[2..4], &[0, 0, 0]].concat();
        rows.push(malformed(longer, name, RULE));
    }
    expect_each_ends_the_link(&rows);
    expect_each_ends_the_link_instead_of_connack(&[
        malformed(b"\x20\x00", "CONNACK", RULE),
        malformed(b"\x20\x01\x00", "CONNACK", RULE),
        malformed(b"\x20\x04\x00\x00\x00\x00", "CONNACK", RULE),
    ]);
}

/// The carrier with each of its texts in turn; `text` in the place of it.
fn with_each_text(carrier: Carrier, text: &[u8]) -> Vec<Vec<u8>> {
    let length = u16::try_from(text.len()).expect("a short text");
    let text = [&length.to_be_bytes(), text].concat();
    let mut packets = Vec::new();
    for property in PROPERTIES.iter().filter(|it| carrier.may_have(it)) {
        match property.form {
            Form::Text => packets.push(carrier.with(&property.with(&text))),
            Form::Pair => {
                for pair in [[&text[..], b"\x00\x01b"], [b"\x00\x01a", &text]] {
                    packets.push(carrier.with(&property.with(&pair.concat())));
                }
            }
            Form::Number | Form::Binary => {}
        }
    }
    packets
}

/// Ill-formed UTF-8 [MQTT-1.5.4-1 receive] and U+0000 [MQTT-1.5.4-2 receive] in each string of each packet.
fn bad_texts(carrier: Carrier) -> Vec<Bad> {
    let mut rows = Vec::new();
    for text in NOT_UTF8 {
        for packet in with_each_text(carrier, text) {
            rows.push(malformed(packet, carrier.name, "MQTT-1.5.4-1"));
        }
    }
    for text in [&b"\0"[..], b"a\0b"] {
        for packet in with_each_text(carrier, text) {
            rows.push(malformed(packet, carrier.name, "MQTT-1.5.4-2"));
        }
    }
    rows
}

/// Strings in properties [MQTT-1.5.4-1 receive] [MQTT-1.5.4-2 receive].
#[test]
fn a_string_of_a_property_that_is_none_ends_the_link() {
    let rows: Vec<_> = CARRIERS.into_iter().flat_map(bad_texts).collect();
    // Four texts in PUBLISH and in DISCONNECT, three in each of six acknowledgments.
    assert_eq!(rows.len(), (4 + 4 + 6 * 3) * 8);
    expect_each_ends_the_link(&rows);
}

/// Strings in CONNACK [MQTT-1.5.4-1 receive] [MQTT-1.5.4-2 receive].
#[test]
fn a_string_of_connack_that_is_none_ends_the_link() {
    let rows = bad_texts(CONNACK);
    assert_eq!(rows.len(), 5 * 8);
    expect_each_ends_the_link_instead_of_connack(&rows);
}

/// The topic name: no UTF-8 [MQTT-1.5.4-1 receive], U+0000 [MQTT-1.5.4-2 receive], a wildcard [MQTT-3.3.2-2 receive], and
/// none at all.
#[test]
fn a_topic_that_is_none_ends_the_link() {
    let publish = |topic: &[u8]| {
        let length = u8::try_from(topic.len()).expect("a short topic");
        [&[0x30, length + 4, 0, length], topic, b"\x00x"].concat()
    };
    let mut rows = vec![forbidden(publish(b""), "PUBLISH", "MQTT 5, 3.3.2.1")];
    for topic in NOT_UTF8 {
        rows.push(malformed(publish(topic), "PUBLISH", "MQTT-1.5.4-1"));
    }
    for topic in [&b"\0"[..], b"in\0", b"a/\0/b"] {
        rows.push(malformed(publish(topic), "PUBLISH", "MQTT-1.5.4-2"));
    }
    for topic in [&b"#"[..], b"+", b"in/#", b"in/+/a", b"a+", b"#a"] {
        rows.push(malformed(publish(topic), "PUBLISH", "MQTT-3.3.2-2"));
    }
    expect_each_ends_the_link(&rows);
}
