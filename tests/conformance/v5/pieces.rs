//! The packets of a server that carry properties, and the properties that there are: what the tables of violations are
//! made of.

use crate::support::scripted5::{packet5, with_length};

/// A packet with properties: what stands before their length, and behind them.
#[derive(Clone, Copy)]
pub struct Carrier {
    pub name: &'static str,
    first: u8,
    before: &'static [u8],
    behind: &'static [u8],
    /// Its letter in [`PROPERTIES`].
    letter: char,
}

/// PUBLISH, the acknowledgments and DISCONNECT: packets that a link that is up can take.
pub const CARRIERS: [Carrier; 8] = [
    carrier("PUBLISH", 0x30, b"\x00\x02in", b"x", 'P'),
    carrier("PUBACK", 0x40, b"\x00\x01\x00", b"", 'A'),
    carrier("PUBREC", 0x50, b"\x00\x01\x00", b"", 'A'),
    carrier("PUBREL", 0x62, b"\x00\x01\x00", b"", 'A'),
    carrier("PUBCOMP", 0x70, b"\x00\x01\x00", b"", 'A'),
    carrier("SUBACK", 0x90, b"\x00\x01", b"\x00", 'A'),
    carrier("UNSUBACK", 0xb0, b"\x00\x01", b"\x00", 'A'),
    carrier("DISCONNECT", 0xe0, b"\x00", b"", 'D'),
];

pub const CONNACK: Carrier = carrier("CONNACK", 0x20, b"\x00\x00", b"", 'C');

const fn carrier(
    name: &'static str,
    first: u8,
    before: &'static [u8],
    behind: &'static [u8],
    letter: char,
) -> Carrier {
    Carrier {
        name,
        first,
        before,
        behind,
        letter,
    }
}

impl Carrier {
    /// The packet with these properties.
    pub fn with(&self, properties: &[u8]) -> Vec<u8> {
        self.with_raw(&with_length(properties))
    }

    /// The packet with these bytes as the length of its properties and the properties.
    pub fn with_raw(&self, length_and_properties: &[u8]) -> Vec<u8> {
        let body = [self.before, length_and_properties, self.behind].concat();
        packet5(self.first, &body)
    }

    /// Whether it may carry this property.
    pub fn may_have(&self, property: &Property) -> bool {
        property.carriers.contains(self.letter)
    }
}

/// The form of a property's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Number,
    Text,
    Binary,
    Pair,
}

/// A property with a value that it may have.
pub struct Property {
    pub number: u8,
    pub form: Form,
    pub value: &'static [u8],
    /// The packets of a server that may carry it: C for CONNACK, P for PUBLISH, A for acknowledgments, D for
    /// DISCONNECT. To a client that asks for neither enhanced authentication nor response information.
    carriers: &'static str,
}

impl Property {
    /// The property with its value.
    pub fn bytes(&self) -> Vec<u8> {
        self.with(self.value)
    }

    /// The property with another value.
    pub fn with(&self, value: &[u8]) -> Vec<u8> {
        [&[self.number], value].concat()
    }

    /// Whether it may stand in a packet more than once.
    pub fn may_repeat(&self) -> bool {
        matches!(self.number, 0x0b | 0x26)
    }
}

/// All 27 properties of the standard [MQTT 5, 2.2.2.2].
pub const PROPERTIES: [Property; 27] = [
    // The payload format indicator.
    property(0x01, Form::Number, b"\x01", "P"),
    // The message expiry interval.
    property(0x02, Form::Number, b"\x00\x00\x00\x3c", "P"),
    // The content type.
    property(0x03, Form::Text, b"\x00\x01t", "P"),
    // The response topic.
    property(0x08, Form::Text, b"\x00\x01r", "P"),
    // The correlation data.
    property(0x09, Form::Binary, b"\x00\x02\xff\x00", "P"),
    // The subscription identifier.
    property(0x0b, Form::Number, b"\x07", "P"),
    // The session expiry interval.
    property(0x11, Form::Number, b"\x00\x00\x0e\x10", "C"),
    // The assigned client identifier.
    property(0x12, Form::Text, b"\x00\x04loop", "C"),
    // The server keep alive.
    property(0x13, Form::Number, b"\x00\x3c", "C"),
    // The authentication method.
    property(0x15, Form::Text, b"\x00\x01m", ""),
    // The authentication data.
    property(0x16, Form::Binary, b"\x00\x01d", ""),
    // The request problem information.
    property(0x17, Form::Number, b"\x01", ""),
    // The will delay interval.
    property(0x18, Form::Number, b"\x00\x00\x00\x01", ""),
    // The request response information.
    property(0x19, Form::Number, b"\x01", ""),
    // The response information.
    property(0x1a, Form::Text, b"\x00\x01r", ""),
    // The server reference.
    property(0x1c, Form::Text, b"\x00\x01s", "CD"),
    // The reason string.
    property(0x1f, Form::Text, b"\x00\x02no", "CAD"),
    // The receive maximum.
    property(0x21, Form::Number, b"\x00\x14", "C"),
    // The topic alias maximum.
    property(0x22, Form::Number, b"\x00\x08", "C"),
    // The topic alias.
    property(0x23, Form::Number, b"\x00\x01", "P"),
    // The maximum QoS.
    property(0x24, Form::Number, b"\x01", "C"),
    // The retain available.
    property(0x25, Form::Number, b"\x01", "C"),
    // The user property.
    property(0x26, Form::Pair, b"\x00\x01a\x00\x01b", "CPAD"),
    // The maximum packet size.
    property(0x27, Form::Number, b"\x00\x10\x00\x00", "C"),
    // The wildcard subscription available.
    property(0x28, Form::Number, b"\x01", "C"),
    // The subscription identifiers available.
    property(0x29, Form::Number, b"\x01", "C"),
    // The shared subscription available.
    property(0x2a, Form::Number, b"\x01", "C"),
];

const fn property(
    number: u8,
    form: Form,
    value: &'static [u8],
    carriers: &'static str,
) -> Property {
    Property {
        number,
        form,
        value,
        carriers,
    }
}
