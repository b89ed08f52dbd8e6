//! The broker's side of one connection, for tests that count. A thread answers every PUBLISH of QoS 1
//! with PUBACK, all answers to one read in one write. It allocates nothing once it runs, so that the
//! counted allocations are the library's.

use std::io::{Error, ErrorKind, Read, Write};
use std::thread::{self, JoinHandle};

use super::Connection;
use super::scripted::Stream;

/// Room for one read after the beginning of an incomplete packet.
const BUFFER: usize = 256 * 1024;

/// Packets seen until the client closed the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// PUBLISHes, each acknowledged.
    pub publishes: u64,
    /// PUBACKs of the client.
    pub acknowledgments: u64,
}

/// Serves the rest of a connection on which CONNACK has been sent.
pub fn acknowledge(link: &mut Connection) -> JoinHandle<Seen> {
    let stream = link.stream().try_clone().expect("a second end");
    stream.set_read_timeout(None).expect("no read limit");
    serve(stream)
}

/// As [`acknowledge`], for any blocking stream.
pub fn serve(mut stream: impl Stream + Send + 'static) -> JoinHandle<Seen> {
    let mut unread = vec![0; BUFFER];
    let mut answers = Vec::with_capacity(BUFFER);
    let run = move || {
        let mut seen = Seen::default();
        let mut filled = 0;
        loop {
            let count = match stream.read(&mut unread[filled..]) {
                Ok(0) => return seen,
                Ok(count) => count,
                Err(error) if is_closed(&error) => return seen,
                Err(error) => panic!("cannot read: {error}"),
            };
            filled += count;
            let taken = answer(&unread[..filled], &mut answers, &mut seen);
            unread.copy_within(taken..filled, 0);
            filled -= taken;
            match stream.write_all(&answers) {
                Ok(()) => answers.clear(),
                // Either end may close the connection while answers are on their way.
                Err(error) if is_closed(&error) => return seen,
                Err(error) => panic!("cannot write: {error}"),
            }
        }
    };
    let thread = thread::Builder::new()
        .name("acknowledger".into())
        .spawn(run);
    thread.expect("a thread")
}

fn is_closed(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

/// Answers the complete packets in these bytes and returns their length.
fn answer(bytes: &[u8], answers: &mut Vec<u8>, seen: &mut Seen) -> usize {
    let mut taken = 0;
    while let Some(length) = super::wire::first_length(&bytes[taken..]) {
        let Some(packet) = bytes.get(taken..taken + length) else {
            assert!(length <= BUFFER, "a packet of {length} bytes");
            break;
        };
        match packet[0] {
            // QoS 1, with any DUP and RETAIN.
            first if first & 0xf6 == 0x32 => {
                let header = length - remaining(packet);
                let topic = usize::from(u16::from_be_bytes([packet[header], packet[header + 1]]));
                let id = &packet[header + 2 + topic..][..2];
                answers.extend_from_slice(&[0x40, 2, id[0], id[1]]);
                seen.publishes += 1;
            }
            0x40 => seen.acknowledgments += 1,
            0xc0 => answers.extend_from_slice(&[0xd0, 0]),
            // DISCONNECT: the client closes next.
            0xe0 => {}
            other => panic!("it is not served here: {other:02x}"),
        }
        taken += length;
    }
    taken
}

/// The remaining length of a whole packet.
fn remaining(packet: &[u8]) -> usize {
    let mut value = 0;
    for (index, byte) in packet[1..].iter().enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
