//! A link in memory, and a loop that is connected over it, for tests.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::{Agent, Client};
use crate::client::batch::Batch;
use crate::client::handle::Handle;
use crate::link::Link;
use crate::mqtt::packet::{Publish, QoS};
use crate::options::{Options, Security};

/// Commands that a loop of [`client`] has in flight at most.
pub(super) const WINDOW: u16 = 100;

/// The other side of the link: what the broker has sent and was sent.
#[derive(Default)]
pub(super) struct Peer {
    /// Each is read at once; an empty one says that there is nothing for now.
    pub(super) to_read: VecDeque<Vec<u8>>,
    /// It is read again and again once nothing else is left.
    pub(super) flood: Option<Vec<u8>>,
    pub(super) bytes_read: usize,
    /// Each was written at once.
    pub(super) written: Vec<Vec<u8>>,
    pub(super) is_broken: bool,
    /// The link takes nothing.
    pub(super) is_full: bool,
    /// The link takes so many bytes and then nothing. `None` is no limit.
    pub(super) takes: Option<usize>,
    /// Bytes that came and cannot be read yet, as those of a part of a TLS record.
    pub(super) held: u64,
}

struct MemoryLink {
    peer: Arc<Mutex<Peer>>,
    /// Never used: the loop wants something to watch.
    socket: TcpStream,
}

/// A link and its other side.
pub(super) fn memory_link() -> (Box<dyn Link>, Arc<Mutex<Peer>>) {
    let peer = Arc::new(Mutex::new(Peer::default()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let link = MemoryLink {
        peer: Arc::clone(&peer),
        socket,
    };
    (Box::new(link), peer)
}

pub(super) fn client() -> Client {
    client_with(|_| {})
}

pub(super) fn client_with(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options::new("localhost", "exchange");
    options.security = Security::Plain;
    options.max_inflight = WINDOW;
    change(&mut options);
    Client::new(options).unwrap().with_first_identifier(1)
}

/// A loop that is connected over memory, with `count` messages queued.
pub(super) fn connected(client: Client, count: u64) -> (Agent, Handle, Batch, Arc<Mutex<Peer>>) {
    let (mut agent, handle) = client.open();
    let mut batch = Batch::new();
    for number in 0..count {
        let message = Publish::new("t", QoS::AtLeastOnce, number.to_string());
        handle.publish_in(message, &mut batch).unwrap();
    }
    let (link, peer) = memory_link();
    let now = Instant::now();
    agent.greet(link, now + Duration::from_secs(60), now);
    peer.lock().unwrap().to_read.push_back(vec![0x20, 2, 0, 0]);
    agent.exchange(now);
    (agent, handle, batch, peer)
}

/// Does with the link what a turn of the loop does. Returns how many portions it took.
pub(super) fn turn(agent: &mut Agent) -> usize {
    agent.wire.look_for_input();
    agent.exchange(Instant::now());
    let mut portions = 1;
    while agent.wire.has_unhandled() {
        agent.exchange(Instant::now());
        portions += 1;
    }
    portions
}

/// The broker sends a PUBACK for each of these identifiers, all of them together.
pub(super) fn acknowledge(peer: &Arc<Mutex<Peer>>, ids: impl Iterator<Item = u16>) {
    let acknowledgments = ids.flat_map(|id| {
        let [high, low] = id.to_be_bytes();
        [0x40, 2, high, low]
    });
    let together = acknowledgments.collect();
    peer.lock().unwrap().to_read.push_back(together);
}

impl Read for MemoryLink {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut peer = self.peer.lock().unwrap();
        let piece = peer.to_read.pop_front().or(peer.flood.clone());
        let piece = piece.filter(|piece| !piece.is_empty());
        let piece = piece.ok_or(io::ErrorKind::WouldBlock)?;
        peer.bytes_read += piece.len();
        into[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Write for MemoryLink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut peer = self.peer.lock().unwrap();
        if peer.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if peer.is_full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = match &mut peer.takes {
            None => bytes.len(),
            Some(0) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(left) => {
                let length = bytes.len().min(*left);
                *left -= length;
                length
            }
        };
        peer.written.push(bytes[..length].to_vec());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Link for MemoryLink {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    fn received(&self) -> u64 {
        self.peer.lock().unwrap().held
    }

    fn trust_short_reads(&mut self) {}

    fn finish(&mut self) {}
}
