//! \[6\] The connection to the broker, once it is up: non-blocking bytes in and out.
//!
//! The law of this room: sockets and TLS, and nothing of MQTT or of commands. It calls back where a
//! thread of its own has news (`readiness.rs`, `errand.rs`). It uses mio, socket2, native-tls, backoff, zeroize, the
//! crates that read keys and certificates (`tls/`), a channel for an answer, and of this crate only `error`,
//! `options` and `secret`.
//!
//! The loop's thread alone owns a link; TLS state cannot be shared or split. Both reading and writing
//! can say that they would block, in either direction of TLS; the readiness thread tells when to try
//! again.

pub(crate) mod backoff;
#[cfg(test)]
#[path = "../../tests/support/black_hole.rs"]
#[allow(missing_docs, clippy::expect_used)]
pub(crate) mod black_hole;
pub(crate) mod connect;
pub(crate) mod errand;
mod look;
mod race;
pub(crate) mod readiness;
pub(crate) mod resolve;
mod secured;
pub(crate) mod steps;
pub(crate) mod tls;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use tls::hello::{Cipher, HelloReader, TlsVersion};

/// Eight of TLS's records. After each read the system tells the other side that there is room again, which wakes it.
/// The part that no read has filled takes no memory of the system.
const READ_AHEAD: usize = 128 * 1024;

/// A stream of bytes to and from the broker that never blocks.
pub(crate) trait Link: Read + Write + Send {
    /// The socket below, for watching its readiness.
    fn socket(&mut self) -> &mut TcpStream;

    /// How many bytes have come over the socket. With TLS, those of a record are handed out once all of it is there.
    fn received(&self) -> u64;

    /// From now on the owner watches the socket anew whenever it waits, which tells at once of bytes that
    /// are there already. So no read that would block need follow one that took less than it could have.
    fn trust_short_reads(&mut self);

    /// How many pieces so many bytes leave in that it took at once: one, or with TLS one for each record.
    fn pieces(&self, _bytes: usize) -> u64 {
        1
    }

    /// Says that nothing more will be sent. Bytes that were sent are still delivered.
    fn finish(&mut self);
}

/// A socket that is read in large pieces. TLS asks for the header of a record, then for its body,
/// then for the next header: three system calls where one does. Several records that TLS writes leave together, if
/// they are gathered (`secured.rs`).
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    ahead: Box<[u8]>,
    received: u64,
    /// Looks at what comes first, where that may be a ServerHello.
    hello: Option<HelloReader>,
    /// The part of it that is filled and not read yet.
    filled: std::ops::Range<usize>,
    trusts_short_reads: bool,
    /// The last read took less than it could have: there was no more.
    drained: bool,
    /// Bytes to send, whether TLS adds to them, and how many of them the system has taken.
    gathered: Vec<u8>,
    gathers: bool,
    sent: usize,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Socket {
            stream,
            ahead: vec![0; READ_AHEAD].into_boxed_slice(),
            received: 0,
            hello: None,
            filled: 0..0,
            trusts_short_reads: false,
            drained: false,
            gathered: Vec::new(),
            gathers: false,
            sent: 0,
        }
    }

    /// A socket for TLS: it notes what the server chooses in its ServerHello.
    pub(crate) fn for_tls(stream: TcpStream) -> Self {
        Socket {
            hello: Some(HelloReader::default()),
            ..Socket::new(stream)
        }
    }

    /// Takes the version and the cipher suite that the server has chosen. From now on nothing is looked at any more.
    pub(crate) fn take_chosen(&mut self) -> Option<(TlsVersion, Cipher)> {
        self.hello.take()?.chosen()
    }

    /// Writes stay in memory until [`Socket::end_gathering`]. Call it when all that was gathered has left.
    fn gather(&mut self) {
        self.gathered.clear();
        self.sent = 0;
        self.gathers = true;
    }

    fn end_gathering(&mut self) {
        self.gathers = false;
    }

    /// How many bytes were gathered, those that have left included.
    fn gathered(&self) -> usize {
        self.gathered.len()
    }

    /// Has the system take what was gathered, with one call. Returns how much of it has left, with this call and
    /// before.
    fn send_gathered(&mut self) -> io::Result<usize> {
        if self.sent < self.gathered.len() {
            self.sent += self.stream.write(&self.gathered[self.sent..])?;
        }
        Ok(self.sent)
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.filled.is_empty() {
            if std::mem::take(&mut self.drained) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let length = self.stream.read(&mut self.ahead)?;
            self.filled = 0..length;
            self.received += length as u64;
            if let Some(hello) = &mut self.hello {
                hello.look(&self.ahead[..length]);
            }
            self.drained = self.trusts_short_reads && 0 < length && length < self.ahead.len();
        }
        let length = into.len().min(self.filled.len());
        let from = self.filled.start;
        into[..length].copy_from_slice(&self.ahead[from..from + length]);
        self.filled.start += length;
        Ok(length)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathers {
            self.gathered.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        // TLS answers by itself, an update of keys for one. Its bytes keep their place behind the others.
        if self.send_gathered()? < self.gathered.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Plain TCP: `mqtt://`.
impl Link for Socket {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn trust_short_reads(&mut self) {
        // Elsewhere a socket tells of new data only after a read that would have blocked.
        self.trusts_short_reads = cfg!(unix);
    }

    fn finish(&mut self) {
        ignore_lost(self.stream.shutdown(Shutdown::Write));
    }
}

impl fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

/// The system's words without its numbers where they are well known.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens on that port".to_owned(),
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        io::ErrorKind::ConnectionReset => "the other side reset the connection".to_owned(),
        io::ErrorKind::BrokenPipe => "the other side has closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// A broker that closed its side first leaves nothing to say goodbye to. So it is with each healthy end: the broker
/// closes at DISCONNECT.
fn ignore_lost(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotConnected
    {
        log::debug!("the link was closed already: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    const HANG: Duration = Duration::from_secs(30);

    fn pair() -> (Socket, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Socket::new(stream), listener.accept().unwrap().0)
    }

    /// Reads until the other side has closed.
    fn read_all(socket: &mut Socket, piece: usize) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), vec![0; piece]);
        let start = Instant::now();
        while start.elapsed() < HANG {
            match socket.read(&mut piece) {
                Ok(0) => return all,
                Ok(length) => all.extend_from_slice(&piece[..length]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    thread::yield_now();
                }
            }
        }
        panic!("no end after {} bytes", all.len());
    }

    #[test]
    fn what_was_read_ahead_arrives_whole_in_any_pieces() {
        let sent: Vec<u8> = (0..3 * READ_AHEAD + 17).map(|i| (i % 251) as u8).collect();
        for (piece, trusts) in [(5, false), (READ_AHEAD * 2, false), (1000, true)] {
            let (mut socket, mut peer) = pair();
            if trusts {
                socket.trust_short_reads();
            }
            let writer = thread::spawn({
                let sent = sent.clone();
                move || peer.write_all(&sent).unwrap()
            });
            assert!(read_all(&mut socket, piece) == sent, "in pieces of {piece}");
            writer.join().unwrap();
        }
    }

    #[test]
    fn an_end_right_behind_the_data_is_seen() {
        for trusts in [false, true] {
            let (mut socket, mut peer) = pair();
            if trusts {
                socket.trust_short_reads();
            }
            peer.write_all(b"last").unwrap();
            drop(peer);
            assert_eq!(read_all(&mut socket, 100), b"last");
        }
    }
}
