//! The properties of packets that come: which packet may carry which, how often, and with which values.

use super::pieces::{CARRIERS, CONNACK, Carrier, PROPERTIES, Property};
use super::violations::{
    Bad, bad, expect_each_ends_the_link, expect_each_ends_the_link_instead_of_connack, forbidden,
    malformed,
};

const RULE: &str = "MQTT 5, 2.2.2.2";

/// The statements that forbid a property in a packet more exactly than the table of properties does: a method or data of
/// authentication [MQTT-4.12.0-6] and response information [MQTT-3.1.2-28] in CONNACK, as CONNECT asks for neither, and a
/// session expiry in DISCONNECT [MQTT-3.14.2-2].
fn misplaced(carrier: Carrier, property: &Property) -> Bad {
    let bytes = carrier.with(&property.bytes());
    match (carrier.name, property.number) {
        ("CONNACK", 0x15 | 0x16) => forbidden(bytes, carrier.name, "MQTT-4.12.0-6"),
        ("CONNACK", 0x1a) => forbidden(bytes, carrier.name, "MQTT-3.1.2-28"),
        ("DISCONNECT", 0x11) => forbidden(bytes, carrier.name, "MQTT-3.14.2-2"),
        _ => malformed(bytes, carrier.name, RULE),
    }
}

fn all_misplaced(carrier: Carrier) -> impl Iterator<Item = Bad> {
    let others = PROPERTIES.iter().filter(move |it| !carrier.may_have(it));
    others.map(move |property| misplaced(carrier, property))
}

/// A session expiry in DISCONNECT [MQTT-3.14.2-2], and every other property in a packet that is not to have it.
#[test]
fn a_property_of_another_packet_ends_the_link() {
    let rows: Vec<_> = CARRIERS.into_iter().flat_map(all_misplaced).collect();
    // PUBLISH may have 8, DISCONNECT 3, and each of six acknowledgments 2.
    assert_eq!(rows.len(), 27 - 8 + 27 - 3 + 6 * (27 - 2));
    expect_each_ends_the_link(&rows);
}

/// A method of authentication without one of ours [MQTT-4.12.0-6], response information that was not asked for
/// [MQTT-3.1.2-28], and properties that are not for CONNACK.
#[test]
fn a_property_that_connack_is_not_to_have_ends_the_link() {
    let rows: Vec<_> = all_misplaced(CONNACK).collect();
    assert_eq!(rows.len(), 27 - 14);
    expect_each_ends_the_link_instead_of_connack(&rows);
}

/// Numbers that no property has [MQTT-4.13.2-1].
#[test]
fn a_property_that_there_is_not_ends_the_link() {
    let mut rows = Vec::new();
    for carrier in CARRIERS {
        for number in [0, 4, 7, 0x0a, 0x10, 0x14, 0x1b, 0x1d, 0x20, 0x2b, 0x7f] {
            rows.push(malformed(carrier.with(&[number, 1]), carrier.name, RULE));
        }
        // 130, the low seven bits of which are those of the message expiry interval.
        let large = carrier.with(b"\x82\x01\x00\x00\x00\x01");
        rows.push(malformed(large, carrier.name, RULE));
    }
    expect_each_ends_the_link(&rows);
}

fn all_twice(carrier: Carrier) -> impl Iterator<Item = Bad> {
    let own = PROPERTIES.iter().filter(move |it| carrier.may_have(it));
    let once = own.filter(|it| !it.may_repeat());
    once.map(move |property| {
        let twice = carrier.with(&property.bytes().repeat(2));
        forbidden(twice, carrier.name, RULE)
    })
}

/// A property that may come once comes twice [MQTT-4.13.2-1].
#[test]
fn a_property_that_comes_twice_ends_the_link() {
    let rows: Vec<_> = CARRIERS.into_iter().flat_map(all_twice).collect();
    assert_eq!(rows.len(), 6 + 2 + 6);
    expect_each_ends_the_link(&rows);
    let rows: Vec<_> = all_twice(CONNACK).collect();
    assert_eq!(rows.len(), 13);
    expect_each_ends_the_link_instead_of_connack(&rows);
}

/// Each property that the packet may have, without its last byte: where the properties end, and where the packet does.
fn all_cut(carrier: Carrier) -> Vec<Bad> {
    let mut rows = Vec::new();
    for property in PROPERTIES.iter().filter(|it| carrier.may_have(it)) {
        let whole = property.bytes();
        let cut = carrier.with(&whole[..whole.len() - 1]);
        rows.push(malformed(cut, carrier.name, "MQTT 5, 4.13.1"));
        // A subscription identifier that goes on beyond the properties.
        if property.number == 0x0b {
            let cut = carrier.with(b"\x0b\x80");
            rows.push(malformed(cut, carrier.name, "MQTT 5, 4.13.1"));
        }
    }
    // A length beyond the packet.
    let beyond = carrier.with_raw(b"\x7f\x26");
    rows.push(malformed(beyond, carrier.name, "MQTT 5, 2.2.2.1"));
    rows
}

/// The end of the properties, or of the packet, lies within one of them [MQTT-4.13.2-1].
#[test]
fn a_property_that_crosses_the_end_ends_the_link() {
    let rows: Vec<_> = CARRIERS.into_iter().flat_map(all_cut).collect();
    assert_eq!(rows.len(), 8 + 1 + 3 + 6 * 2 + 8);
    expect_each_ends_the_link(&rows);
    expect_each_ends_the_link_instead_of_connack(&all_cut(CONNACK));
}

/// Values out of range [MQTT 5, 2.2.2.2]; a topic alias of 0 has a code of its own [MQTT-4.13.2-1].
#[test]
fn a_value_that_a_property_cannot_have_ends_the_link() {
    let publish = CARRIERS[0];
    let rows = [
        forbidden(publish.with(b"\x0b\x00"), "PUBLISH", RULE),
        bad(
            publish.with(b"\x23\x00\x00"),
            "PUBLISH",
            "MQTT-3.3.2-8",
            0x94,
        ),
    ];
    expect_each_ends_the_link(&rows);
    let mut rows = vec![
        forbidden(CONNACK.with(b"\x21\x00\x00"), "CONNACK", RULE),
        forbidden(CONNACK.with(b"\x27\x00\x00\x00\x00"), "CONNACK", RULE),
    ];
    // A maximum QoS is stated if it is 0 or 1. The others are true or false.
    for number in [0x24, 0x25, 0x28, 0x29, 0x2a] {
        for value in [2, 0xff] {
            rows.push(forbidden(CONNACK.with(&[number, value]), "CONNACK", RULE));
        }
    }
    expect_each_ends_the_link_instead_of_connack(&rows);
}
