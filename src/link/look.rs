//! A look at the certificate of a broker that did not pass: a second connection, for the error alone.
//!
//! The TLS library tells only that a certificate did not pass. The names in it, or who signed it, tell what
//! to do. TLS 1.3 shows that certificate alone; where those above it matter, a third connection with TLS 1.2 shows
//! them, if the broker has that. Nothing is sent here but the handshake, without the client's certificate, and the
//! connections never become a link. Runs on the loop's thread and does not block.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mio::net::TcpStream;
use native_tls::{HandshakeError, MidHandshakeTlsStream};

use crate::link::race::is_connected;
use crate::link::readiness::Readiness;
use crate::link::tls::{Connector, certificates};

/// The bytes of a handshake that are kept at most.
const KEPT: usize = 64 * 1024;

/// A look that is under way.
pub(crate) struct Look {
    to: SocketAddr,
    /// Whether those that the broker sends with its certificate are wanted, too.
    wants_issuers: bool,
    stage: Stage,
    /// The bytes that came, which TLS 1.3 encrypts.
    read: Arc<Mutex<Vec<u8>>>,
    /// The broker's certificate, if TLS 1.3 hid the others: they are looked for on a third connection.
    alone: Option<Vec<u8>>,
    deadline: Instant,
}

enum Stage {
    Connecting(TcpStream),
    Handshaking(Box<MidHandshakeTlsStream<Tap>>),
    Over,
}

impl Look {
    /// Opens the second connection. Returns `None` if the system has no socket.
    pub(crate) fn start(
        to: SocketAddr,
        wants_issuers: bool,
        deadline: Instant,
        readiness: &Readiness,
    ) -> Option<Look> {
        Some(Look {
            to,
            wants_issuers,
            stage: connect(to, readiness)?,
            read: Arc::default(),
            alone: None,
            deadline,
        })
    }

    /// Goes on as far as possible. Returns `None` while it is under way, and at its end the broker's certificate in DER
    /// and those sent with it, as far as they could be seen.
    pub(crate) fn poll(
        &mut self,
        connector: &Connector,
        host: &str,
        readiness: &Readiness,
        now: Instant,
    ) -> Option<Vec<Vec<u8>>> {
        let result = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Connecting(socket) => match is_connected(&socket) {
                Ok(true) => {
                    let read = Arc::clone(&self.read);
                    connector.look(host, Tap { socket, read }, self.alone.is_some())
                }
                Ok(false) if now < self.deadline => {
                    self.stage = Stage::Connecting(socket);
                    return None;
                }
                _ => return Some(self.alone.take().into_iter().collect()),
            },
            Stage::Handshaking(handshake) if now < self.deadline => handshake.handshake(),
            Stage::Handshaking(_) | Stage::Over => {
                return Some(self.alone.take().into_iter().collect());
            }
        };
        let own = match result {
            Ok(stream) => stream.peer_certificate().ok().flatten(),
            Err(HandshakeError::WouldBlock(handshake)) => {
                self.stage = Stage::Handshaking(Box::new(handshake));
                return None;
            }
            // Such as a broker that wants a client's certificate: until TLS 1.2 its own came before, unencrypted.
            Err(HandshakeError::Failure(_)) => None,
        };
        let read = self.read.lock();
        let sent = read.map_or_else(|_| Vec::new(), |read| certificates(&read));
        if let Some(alone) = self.alone.take() {
            // Where TLS 1.2 has another certificate, its issuers are no help.
            return Some(match sent.first() {
                Some(first) if *first == alone => sent,
                _ => vec![alone],
            });
        }
        let own = own.and_then(|own| own.to_der().ok());
        match (sent.is_empty(), own) {
            (true, Some(own)) if self.wants_issuers => {
                let Some(stage) = connect(self.to, readiness) else {
                    return Some(vec![own]);
                };
                self.stage = stage;
                self.alone = Some(own);
                self.read = Arc::default();
                None
            }
            (true, own) => Some(own.into_iter().collect()),
            (false, _) => Some(sent),
        }
    }

    /// When [`Look::poll`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

fn connect(to: SocketAddr, readiness: &Readiness) -> Option<Stage> {
    let mut socket = TcpStream::connect(to).ok()?;
    readiness.watch(&mut socket, true, true).ok()?;
    Some(Stage::Connecting(socket))
}

/// A socket that keeps what was read from it.
#[derive(Debug)]
struct Tap {
    socket: TcpStream,
    read: Arc<Mutex<Vec<u8>>>,
}

impl Read for Tap {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.socket.read(into)?;
        if let Ok(mut read) = self.read.lock() {
            let room = KEPT.saturating_sub(read.len());
            read.extend_from_slice(&into[..length.min(room)]);
        }
        Ok(length)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
