//! A look at the certificate of a broker that did not pass: a second connection, for the error alone.
//!
//! The TLS library tells only that a certificate did not pass. The names in it, or who signed it, tell what
//! to do. Nothing is sent here but the handshake, without the client's certificate, and the connection
//! never becomes a link. Runs on the loop's thread and does not block.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mio::net::TcpStream;
use native_tls::{HandshakeError, MidHandshakeTlsStream};

use crate::link::race::is_connected;
use crate::link::readiness::Readiness;
use crate::link::tls::{Connector, first_certificate};

/// The bytes of a handshake that are kept at most.
const KEPT: usize = 64 * 1024;

/// A look that is under way.
pub(crate) struct Look {
    stage: Stage,
    seen: Arc<Mutex<Vec<u8>>>,
    deadline: Instant,
}

enum Stage {
    Connecting(TcpStream),
    Handshaking(Box<MidHandshakeTlsStream<Tap>>),
    Over,
}

impl Look {
    /// Opens the second connection. Returns `None` if the system has no socket.
    pub(crate) fn start(to: SocketAddr, deadline: Instant, readiness: &Readiness) -> Option<Look> {
        let mut socket = TcpStream::connect(to).ok()?;
        readiness.watch(&mut socket, true, true).ok()?;
        Some(Look {
            stage: Stage::Connecting(socket),
            seen: Arc::default(),
            deadline,
        })
    }

    /// Goes on as far as possible. Returns `None` while it is under way, and at its end the certificate in
    /// DER, empty if it could not be seen.
    pub(crate) fn poll(
        &mut self,
        connector: &Connector,
        host: &str,
        now: Instant,
    ) -> Option<Vec<u8>> {
        let result = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Connecting(socket) => match is_connected(&socket) {
                Ok(true) => {
                    let seen = Arc::clone(&self.seen);
                    connector.look(host, Tap { socket, seen })
                }
                Ok(false) if now < self.deadline => {
                    self.stage = Stage::Connecting(socket);
                    return None;
                }
                _ => return Some(Vec::new()),
            },
            Stage::Handshaking(handshake) if now < self.deadline => handshake.handshake(),
            Stage::Handshaking(_) | Stage::Over => return Some(Vec::new()),
        };
        match result {
            Ok(stream) => {
                let certificate = stream.peer_certificate().ok().flatten();
                Some(
                    certificate
                        .and_then(|it| it.to_der().ok())
                        .unwrap_or_default(),
                )
            }
            Err(HandshakeError::WouldBlock(handshake)) => {
                self.stage = Stage::Handshaking(Box::new(handshake));
                None
            }
            // Such as a broker that wants a client's certificate: until TLS 1.2 its own came before, unencrypted.
            Err(HandshakeError::Failure(_)) => {
                let seen = self.seen.lock().map(|seen| first_certificate(&seen));
                Some(seen.ok().flatten().unwrap_or_default())
            }
        }
    }

    /// When [`Look::poll`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// A socket that keeps what was read from it.
#[derive(Debug)]
struct Tap {
    socket: TcpStream,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Read for Tap {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.socket.read(into)?;
        if let Ok(mut seen) = self.seen.lock() {
            let room = KEPT.saturating_sub(seen.len());
            seen.extend_from_slice(&into[..length.min(room)]);
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
