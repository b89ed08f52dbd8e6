//! A link in memory, for tests: what the broker has sent and was sent.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use mio::net::TcpStream;

use crate::link::Link;

/// The other side of the link.
#[derive(Default)]
pub(super) struct Peer {
    /// Each is read at once; an empty one says that there is nothing for now.
    pub(super) to_read: VecDeque<Vec<u8>>,
    /// Each was written at once.
    pub(super) written: Vec<Vec<u8>>,
    pub(super) is_broken: bool,
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

impl Read for MemoryLink {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.peer.lock().unwrap().to_read.pop_front();
        let piece = piece.filter(|piece| !piece.is_empty());
        let piece = piece.ok_or(io::ErrorKind::WouldBlock)?;
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
        peer.written.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Link for MemoryLink {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    fn trust_short_reads(&mut self) {}

    fn finish(&mut self) {}
}
