//! Packets of MQTT 5 as packets of MQTT 3.1.1 and back, in bytes: a script that is written once plays a broker, or a
//! client, of either version ([`super::ScriptedBroker::speaking`]).
//!
//! It translates only what both versions can say. Properties of a packet that comes are left out. A packet that comes and
//! that MQTT 3.1.1 has no word for, such as a DISCONNECT with a reason, fails the test: such a test reads bytes.

use std::collections::BTreeMap;

use super::scripted5::packet5;
use super::wire::hex;

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const DISCONNECT: u8 = 14;

/// Return codes of CONNACK in MQTT 3.1.1, and their reason codes in MQTT 5.
const CONNACK_CODES: [(u8, u8); 6] = [
    (0, 0),
    (1, 0x84),
    (2, 0x85),
    (3, 0x88),
    (4, 0x86),
    (5, 0x87),
];

/// The length of properties that there are none of.
const NO_PROPERTIES: &[u8] = &[0];

/// The session outlives its connection, for as long as the broker likes.
const SESSION_IS_KEPT: &[u8] = &[5, 0x11, 0xff, 0xff, 0xff, 0xff];

/// Translates the packets of one connection.
#[derive(Default)]
pub struct Translator {
    /// How many filters each UNSUBSCRIBE has that came: UNSUBACK of MQTT 5 has a code for each.
    unsubscribed: BTreeMap<u16, usize>,
}

impl Translator {
    /// The packet of MQTT 3.1.1 that says what came in MQTT 5.
    ///
    /// # Panics
    /// When there is none.
    pub fn incoming(&mut self, packet: &[u8]) -> Vec<u8> {
        let (first, mut rest) = Rest::of(packet);
        let body = match first >> 4 {
            CONNECT => connect_from_5(&mut rest),
            CONNACK => {
                let present = rest.byte();
                let code = rest.byte();
                let found = CONNACK_CODES.iter().find(|(_, of_5)| *of_5 == code);
                let Some((of_3, _)) = found else {
                    panic!("no return code of MQTT 3.1.1: {}", hex(packet));
                };
                vec![present, *of_3]
            }
            PUBLISH => {
                let mut body = rest.string().to_vec();
                if first & 6 != 0 {
                    body.extend(rest.take(2));
                }
                rest.skip_properties();
                [body, rest.0.to_vec()].concat()
            }
            PUBACK | PUBREC => {
                let id = rest.take(2).to_vec();
                let code = rest.0.first().copied().unwrap_or(0);
                assert!(code < 0x80, "it refuses: {}", hex(packet));
                id
            }
            // The only code is 0x92: the other side has done it before, which is no error on a later link [3.7.2.1].
            PUBREL | PUBCOMP => rest.take(2).to_vec(),
            SUBSCRIBE => {
                let mut body = rest.take(2).to_vec();
                rest.skip_properties();
                while !rest.0.is_empty() {
                    body.extend(rest.string());
                    // The QoS. The other options belong to MQTT 5.
                    body.push(rest.byte() & 3);
                }
                body
            }
            SUBACK => {
                let mut body = rest.take(2).to_vec();
                rest.skip_properties();
                body.extend(rest.0.iter().map(|code| (*code).min(0x80)));
                body
            }
            UNSUBSCRIBE => {
                let mut body = rest.take(2).to_vec();
                rest.skip_properties();
                let id = u16::from_be_bytes([body[0], body[1]]);
                body.extend(rest.0);
                let mut count = 0;
                while !rest.0.is_empty() {
                    rest.string();
                    count += 1;
                }
                self.unsubscribed.insert(id, count);
                body
            }
            UNSUBACK => rest.take(2).to_vec(),
            DISCONNECT => {
                let code = rest.0.first().copied().unwrap_or(0);
                assert_eq!(code, 0, "a DISCONNECT with a reason: {}", hex(packet));
                Vec::new()
            }
            _ => rest.0.to_vec(),
        };
        packet5(first, &body)
    }

    /// The packet of MQTT 5 that says what this one of MQTT 3.1.1 does.
    pub fn outgoing(&mut self, packet: &[u8]) -> Vec<u8> {
        let (first, mut rest) = Rest::of(packet);
        let body = match first >> 4 {
            CONNECT => connect_to_5(&mut rest),
            CONNACK => {
                let present = rest.byte();
                let code = rest.byte();
                let found = CONNACK_CODES.iter().find(|(of_3, _)| *of_3 == code);
                let (_, of_5) = found.expect("a return code of MQTT 3.1.1");
                [&[present, *of_5], NO_PROPERTIES].concat()
            }
            PUBLISH => {
                let mut head = rest.string().to_vec();
                if first & 6 != 0 {
                    head.extend(rest.take(2));
                }
                [&head, NO_PROPERTIES, rest.0].concat()
            }
            SUBSCRIBE | SUBACK | UNSUBSCRIBE => {
                let id = rest.take(2);
                [id, NO_PROPERTIES, rest.0].concat()
            }
            UNSUBACK => {
                let id = rest.take(2);
                let filters = u16::from_be_bytes([id[0], id[1]]);
                let filters = self.unsubscribed.remove(&filters).unwrap_or(1);
                [id, NO_PROPERTIES, &vec![0; filters]].concat()
            }
            // The short forms of the others mean the same in both versions.
            _ => rest.0.to_vec(),
        };
        packet5(first, &body)
    }
}

fn connect_from_5(rest: &mut Rest<'_>) -> Vec<u8> {
    let mut body = rest.string().to_vec();
    assert_eq!(rest.byte(), 5, "the version of MQTT in CONNECT");
    body.push(4);
    let flags = rest.byte();
    body.push(flags);
    body.extend(rest.take(2));
    rest.skip_properties();
    body.extend(rest.string());
    let has_will = flags & 4 != 0;
    if has_will {
        rest.skip_properties();
    }
    body.extend(rest.0);
    body
}

fn connect_to_5(rest: &mut Rest<'_>) -> Vec<u8> {
    let mut body = rest.string().to_vec();
    assert_eq!(rest.byte(), 4, "the version of MQTT in CONNECT");
    body.push(5);
    let flags = rest.byte();
    body.push(flags);
    body.extend(rest.take(2));
    let is_clean = flags & 2 != 0;
    body.extend(match is_clean {
        true => NO_PROPERTIES,
        false => SESSION_IS_KEPT,
    });
    body.extend(rest.string());
    let has_will = flags & 4 != 0;
    if has_will {
        body.extend(NO_PROPERTIES);
    }
    body.extend(rest.0);
    body
}

/// Bytes of a packet that are not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// The first byte of a packet, and what stands behind its length.
    fn of(packet: &'a [u8]) -> (u8, Rest<'a>) {
        let mut rest = Rest(packet);
        let first = rest.byte();
        let length = rest.length();
        assert_eq!(length, rest.0.len(), "a whole packet");
        (first, rest)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    /// A string with the two bytes of its length.
    fn string(&mut self) -> &'a [u8] {
        let length = u16::from_be_bytes([self.0[0], self.0[1]]);
        self.take(2 + usize::from(length))
    }

    /// A variable byte integer.
    fn length(&mut self) -> usize {
        let mut length = 0;
        for place in 0..4 {
            let byte = self.byte();
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return length;
            }
        }
        panic!("a length of more than four bytes");
    }

    fn skip_properties(&mut self) {
        let length = self.length();
        self.take(length);
    }
}
