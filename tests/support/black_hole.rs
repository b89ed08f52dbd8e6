//! An address at which nobody answers: SYNs to it are swallowed.
//!
//! It is a listener whose queue is full. The tests of the library's inside use this file, too, so it knows
//! nothing of the other support code.

use std::net::{IpAddr, SocketAddr, TcpListener};

use mio::net::TcpStream;

/// More than the queue of a listener of the standard library holds.
const MORE_THAN_THE_QUEUE: usize = 160;

pub struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// A black hole at this address, on a port that the system chooses.
    pub fn open(at: impl Into<IpAddr>) -> BlackHole {
        let listener = TcpListener::bind((at.into(), 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let connect = |_| TcpStream::connect(address).expect("a socket");
        let queue: Vec<TcpStream> = (0..MORE_THAN_THE_QUEUE).map(connect).collect();
        let last = queue.last().expect("a socket");
        assert!(last.peer_addr().is_err(), "the queue takes more than that");
        BlackHole {
            address,
            _listener: listener,
            _queue: queue,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
