//! MQTT 5 for a scripted broker, in bytes: options that speak it, the CONNECT that they make, packets to send, and the
//! end of a link.
//!
//! No codec is behind this file: a test writes what it sends and expects by hand, and reads with
//! [`Connection::read_bytes`] and [`Connection::expect_bytes`]. The loop reads CONNACK on its own thread; a test that
//! needs it online takes a link with [`Running::greet5`], which waits for that.

use std::sync::Arc;
use std::time::Duration;

use mqtt_connection_sharing::Protocol;
use mqtt_connection_sharing::options::Options;

use super::running::{Running, options, told};
use super::scripted::Stream;
use super::wire::hex;
use super::{Connection, ScriptedBroker, wait_until};

/// The first CONNECT with [`options5`]: clean start, keep alive 60 s, session expiry 3,600 s, receive maximum 256,
/// largest packet 256 KiB, 8 topic aliases, client identifier `loop`.
pub const FIRST_CONNECT: &[u8] =
    b"\x10\x21\x00\x04MQTT\x05\x02\x00\x3c\x10\x11\x00\x00\x0e\x10\x21\x01\x00\x27\x00\x04\x00\x00\x22\x00\x08\x00\x04loop";

/// Each further CONNECT with [`options5`]: the session is to go on.
pub const NEXT_CONNECT: &[u8] =
    b"\x10\x21\x00\x04MQTT\x05\x00\x00\x3c\x10\x11\x00\x00\x0e\x10\x21\x01\x00\x27\x00\x04\x00\x00\x22\x00\x08\x00\x04loop";

/// CONNACK: accepted, without a session and without properties.
pub const ACCEPTED5: &[u8] = b"\x20\x03\x00\x00\x00";

/// CONNACK: accepted, with a session and without properties.
pub const RESUMED5: &[u8] = b"\x20\x03\x01\x00\x00";

/// As [`options`], with MQTT 5.
pub fn options5(broker: &ScriptedBroker) -> Options {
    let mut options = options(broker);
    options.protocol = Protocol::V5;
    options
}

/// CONNACK that accepts, with these properties, and with the session if it is present.
pub fn connack5(session_present: bool, properties: &[u8]) -> Vec<u8> {
    let head = [u8::from(session_present), 0];
    packet5(0x20, &[&head, &with_length(properties)[..]].concat())
}

/// CONNACK that refuses with this code.
pub fn refusal5(code: u8) -> [u8; 5] {
    [0x20, 3, 0, code, 0]
}

/// A packet of any length.
pub fn packet5(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], &with_length(body)[..]].concat()
}

/// These bytes behind their length as a variable byte integer: properties, or the body of a packet.
pub fn with_length(bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = bytes.len();
    loop {
        let more = rest >> 7 != 0;
        // Seven bits fit into a byte.
        all.push((rest & 0x7f) as u8 | u8::from(more) << 7);
        rest >>= 7;
        if !more {
            break;
        }
    }
    all.extend_from_slice(bytes);
    all
}

/// A PUBLISH from the broker. `first` gives QoS and flags; the packet has the identifier above QoS 0 only.
pub fn message5(first: u8, topic: &str, id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(topic.len()).expect("a topic");
    let mut body = [&length.to_be_bytes(), topic.as_bytes()].concat();
    if first & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(with_length(properties));
    body.extend(payload);
    packet5(first, &body)
}

/// PUBACK `0x40`, PUBREC `0x50`, PUBREL `0x62` or PUBCOMP `0x70` with this reason code, written out also if it is 0.
pub fn ack5(first: u8, id: u16, code: u8) -> [u8; 5] {
    let [high, low] = id.to_be_bytes();
    [first, 3, high, low, code]
}

/// SUBACK `0x90` or UNSUBACK `0xb0` with a code for each filter.
pub fn answers5(first: u8, id: u16, codes: &[u8]) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    packet5(first, &[&[high, low, 0], codes].concat())
}

impl<S: Stream> Connection<S> {
    /// Checks that DISCONNECT with this code comes next, and that the link ends with it.
    #[track_caller]
    pub fn expect_disconnect5(&mut self, code: u8) {
        let rest = self.read_to_end();
        let expected: &[u8] = match code {
            0 => b"\xe0\x00",
            code => &[0xe0, 1, code],
        };
        let shown: Vec<_> = rest.iter().map(|packet| hex(packet)).collect();
        assert_eq!(shown, [hex(expected)], "the last packet of the link");
    }
}

impl Running {
    /// Runs a loop with [`options5`] and brings it online; CONNACK has these properties.
    #[track_caller]
    pub fn online5(broker: &mut ScriptedBroker, properties: &[u8]) -> (Running, Connection) {
        Running::online5_with(options5(broker), broker, properties)
    }

    /// As [`Running::online5`], with other options.
    #[track_caller]
    pub fn online5_with(
        options: Options,
        broker: &mut ScriptedBroker,
        properties: &[u8],
    ) -> (Running, Connection) {
        let running = Running::start(options);
        let (link, _) = running.greet5(broker, &connack5(false, properties));
        (running, link)
    }

    /// Accepts the next connection and answers its CONNECT, which it returns, with this CONNACK. The loop is online when
    /// this returns.
    #[track_caller]
    pub fn greet5(&self, broker: &mut ScriptedBroker, connack: &[u8]) -> (Connection, Vec<u8>) {
        let before = self.handle().negotiated();
        let mut link = broker.accept();
        let connect = link.read_bytes();
        link.send(connack);
        wait_until("the loop to be online", || {
            let now = self.handle().negotiated();
            match (&before, &now) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            }
        });
        (link, connect)
    }

    /// The broker closes this link. The next one, on which the session is present, is online when this returns.
    #[track_caller]
    pub fn resume5(&self, broker: &mut ScriptedBroker, link: Connection) -> Connection {
        link.close();
        let (link, _) = self.greet5(broker, RESUMED5);
        link
    }

    /// TERMINATE without grace. Returns the packets that came before the end of the link, DISCONNECT included.
    #[track_caller]
    pub fn terminate5(self, mut link: Connection) -> Vec<Vec<u8>> {
        let ticket = self.handle().terminate(Duration::ZERO);
        let rest = link.read_to_end();
        link.close();
        let ended = self.join();
        assert!(ended.result.is_ok(), "{ended:?}");
        assert!(told(ticket).is_delivered());
        rest
    }
}
