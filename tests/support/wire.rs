//! The bytes of packets, taken apart without any codec, for tests that compare the wire byte by byte
//! with literals written by hand.
//!
//! This file knows only the fixed header [MQTT 3.1.1, 2.2], which tells where a packet ends. So neither
//! this crate's own reading of MQTT nor the library behind it is the judge.

use std::time::{Duration, Instant};

use super::scripted::Stream;
use super::{Connection, Event, HANG};

/// The length of the first packet in these bytes; `None` while there are too few bytes to tell.
///
/// # Panics
/// When its remaining length has more than four bytes.
#[track_caller]
pub fn first_length(bytes: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for (index, byte) in bytes.iter().skip(1).enumerate() {
        assert!(index < 4, "a remaining length of five bytes: {bytes:02x?}");
        remaining += usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(1 + index + 1 + remaining);
        }
    }
    None
}

/// Splits these bytes into packets.
///
/// # Panics
/// When the last one is not complete.
#[track_caller]
pub fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let length = first_length(bytes).filter(|length| *length <= bytes.len());
        let Some(length) = length else {
            panic!("half a packet: {}", hex(bytes));
        };
        let (packet, rest) = bytes.split_at(length);
        packets.push(packet.to_vec());
        bytes = rest;
    }
    packets
}

/// Bytes in the form that errors use: `40 02 00 01`.
pub fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

/// The result of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// A whole packet.
    Packet(Vec<u8>),
    /// The peer closed the connection at a packet's end, or reset it.
    Closed,
    /// Nothing more came in the given time.
    Silence,
}

impl<S: Stream> Connection<S> {
    /// Reads the bytes of the next packet.
    ///
    /// # Panics
    /// When the connection ends first, or nothing comes within [`HANG`].
    #[track_caller]
    pub fn read_bytes(&mut self) -> Vec<u8> {
        match self.read_bytes_within(HANG) {
            Bytes::Packet(bytes) => bytes,
            other => panic!("expected a packet, came: {other:?}"),
        }
    }

    /// Reads the bytes of the next packet, or returns what came instead of it.
    #[track_caller]
    pub fn read_bytes_within(&mut self, limit: Duration) -> Bytes {
        let deadline = Instant::now() + limit;
        loop {
            let length = first_length(&self.unread);
            if let Some(length) = length.filter(|length| *length <= self.unread.len()) {
                return Bytes::Packet(self.unread.split_to(length).to_vec());
            }
            match self.receive(deadline) {
                None => {}
                Some(Event::Closed) => return Bytes::Closed,
                Some(_) => return Bytes::Silence,
            }
        }
    }

    /// Checks that the next packet is these bytes.
    #[track_caller]
    pub fn expect_bytes(&mut self, expected: impl AsRef<[u8]>) {
        let came = self.read_bytes();
        let expected = expected.as_ref();
        assert_eq!(
            hex(&came),
            hex(expected),
            "{:?}",
            came.escape_ascii().to_string()
        );
    }

    /// Checks that nothing comes for a moment; it always takes that moment.
    #[track_caller]
    pub fn expect_no_bytes(&mut self) {
        let came = self.read_bytes_within(Duration::from_millis(20));
        assert_eq!(came, Bytes::Silence);
    }

    /// The packets that come until the peer closes the connection.
    ///
    /// # Panics
    /// When it does not close it within [`HANG`].
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            match self.read_bytes_within(HANG) {
                Bytes::Packet(packet) => packets.push(packet),
                Bytes::Closed => return packets,
                Bytes::Silence => panic!("the connection was not closed in {HANG:?}"),
            }
        }
    }
}
