//! One attempt to reach the broker: name resolution, TCP to each address in turn, TLS.
//!
//! An attempt runs on the loop's thread and never blocks it: resolution happens on a short-lived
//! thread ([`Resolver`]), the socket is non-blocking, and [`Attempt::poll`] goes on whenever the loop
//! is woken. So the loop serves a stop request at once at every stage. The bytes that the two sides
//! exchange over the link are not this file's business.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use native_tls::{HandshakeError, MidHandshakeTlsStream, TlsConnector};

use crate::error::{Blame, Error, exhaustion};
use crate::link::readiness::Readiness;
use crate::link::resolve::Resolver;
use crate::link::tls;
use crate::link::{Link, Socket};
use crate::options::{Options, Security};

/// How far an attempt has come.
pub(crate) enum AttemptProgress {
    /// It goes on at the next wake-up, at [`Attempt::deadline`] at the latest.
    Pending,
    /// The link is there, and the readiness thread still watches it. The other side has to prove by
    /// this time that it is of use.
    Done(Box<dyn Link>, Instant),
    /// It failed.
    Failed(Error),
}

/// One attempt.
pub(crate) struct Attempt {
    stage: AttemptStage,
    address: String,
    time_limit: Duration,
}

enum AttemptStage {
    Resolving {
        deadline: Instant,
    },
    Connecting(Connecting),
    Handshaking {
        handshake: Box<MidHandshakeTlsStream<Socket>>,
        deadline: Instant,
    },
    /// Done or failed.
    Over,
}

struct Connecting {
    socket: TcpStream,
    to: SocketAddr,
    rest: std::vec::IntoIter<SocketAddr>,
    deadline: Instant,
}

impl Attempt {
    /// Starts with resolving the name.
    pub(crate) fn start(
        options: &Options,
        resolver: &mut Resolver,
        now: Instant,
    ) -> Result<Self, Error> {
        let address = options.address();
        resolver
            .start(&options.host, options.port)
            .map_err(|error| {
                Error::new(
                    Blame::Network,
                    format!("connecting to {address}"),
                    format!("no thread for name resolution: {error}"),
                    "free some of the system's resources",
                )
            })?;
        Ok(Attempt {
            stage: AttemptStage::Resolving {
                deadline: now + options.connect_timeout,
            },
            address,
            time_limit: options.connect_timeout,
        })
    }

    /// Goes on as far as possible without blocking.
    pub(crate) fn poll(
        &mut self,
        options: &Options,
        connector: Option<&TlsConnector>,
        resolver: &mut Resolver,
        readiness: &Readiness,
        now: Instant,
    ) -> AttemptProgress {
        loop {
            match std::mem::replace(&mut self.stage, AttemptStage::Over) {
                AttemptStage::Resolving { deadline } => match resolver.poll() {
                    Some(Ok(addresses)) => {
                        let mut rest = addresses.into_iter();
                        let nothing = self.network("the name has no address", CHECK_HOST);
                        if let Err(error) = self.connect_next(&mut rest, nothing, readiness, now) {
                            return AttemptProgress::Failed(error);
                        }
                    }
                    Some(Err(error)) => {
                        return AttemptProgress::Failed(self.network(
                            format!("the host name cannot be resolved ({error})"),
                            exhaustion(&error).unwrap_or(CHECK_HOST),
                        ));
                    }
                    None if now < deadline => {
                        self.stage = AttemptStage::Resolving { deadline };
                        return AttemptProgress::Pending;
                    }
                    None => {
                        return AttemptProgress::Failed(self.network(
                            format!(
                                "the host name was not resolved within {:?}",
                                self.time_limit
                            ),
                            "check the name server, or raise `connect_timeout`",
                        ));
                    }
                },
                AttemptStage::Connecting(mut connecting) => {
                    let problem = match is_connected(&connecting.socket) {
                        Ok(true) => return self.secure(connecting.socket, options, connector, now),
                        Ok(false) if now < connecting.deadline => {
                            self.stage = AttemptStage::Connecting(connecting);
                            return AttemptProgress::Pending;
                        }
                        Ok(false) => format!("no answer within {:?}", self.time_limit),
                        Err(error) => plain(&error),
                    };
                    readiness.unwatch(&mut connecting.socket);
                    log::debug!("{}: {}: {problem}", self.address, connecting.to);
                    let failed = self.network(
                        format!("{problem} ({})", connecting.to),
                        "check that the broker runs, the port, and any firewall between",
                    );
                    let mut rest = connecting.rest;
                    if let Err(error) = self.connect_next(&mut rest, failed, readiness, now) {
                        return AttemptProgress::Failed(error);
                    }
                }
                AttemptStage::Handshaking {
                    handshake,
                    deadline,
                } => {
                    if now >= deadline {
                        return AttemptProgress::Failed(Error::new(
                            Blame::Tls,
                            format!("TLS handshake with {}", self.address),
                            format!("no end within {:?}", self.time_limit),
                            "check that the port speaks TLS, or raise `connect_timeout`",
                        ));
                    }
                    return self.handshaken(handshake.handshake(), deadline, options);
                }
                AttemptStage::Over => {
                    return AttemptProgress::Failed(self.network("the attempt is over", ""));
                }
            }
        }
    }

    /// When [`Attempt::poll`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            AttemptStage::Resolving { deadline } | AttemptStage::Handshaking { deadline, .. } => {
                Some(*deadline)
            }
            AttemptStage::Connecting(connecting) => Some(connecting.deadline),
            AttemptStage::Over => None,
        }
    }

    /// Opens a socket to the next address that takes one. `failed` is the error if none is left.
    fn connect_next(
        &mut self,
        rest: &mut std::vec::IntoIter<SocketAddr>,
        failed: Error,
        readiness: &Readiness,
        now: Instant,
    ) -> Result<(), Error> {
        let mut error = None;
        for to in rest.by_ref() {
            let opened = TcpStream::connect(to).and_then(|mut socket| {
                readiness.watch(&mut socket, true, true)?;
                Ok(socket)
            });
            match opened {
                Ok(socket) => {
                    self.stage = AttemptStage::Connecting(Connecting {
                        socket,
                        to,
                        rest: std::mem::take(rest),
                        deadline: now + self.time_limit,
                    });
                    return Ok(());
                }
                Err(problem) => {
                    error = Some(self.network(
                        format!("{} ({to})", plain(&problem)),
                        exhaustion(&problem).unwrap_or("check the network of this machine"),
                    ));
                }
            }
        }
        Err(error.unwrap_or(failed))
    }

    /// TCP is there: begins with TLS, if it is wanted.
    fn secure(
        &mut self,
        socket: TcpStream,
        options: &Options,
        connector: Option<&TlsConnector>,
        now: Instant,
    ) -> AttemptProgress {
        if let Err(error) = socket.set_nodelay(true) {
            log::debug!("small packets may be delayed: {error}");
        }
        if let Err(error) = bound_unsent(&socket) {
            log::debug!("the system may hold any number of unsent bytes: {error}");
        }
        match (connector, &options.security) {
            (Some(connector), Security::Tls(tls_options)) => {
                let name = tls::server_name(tls_options, &options.host);
                let result = connector.connect(name, Socket::new(socket));
                self.handshaken(result, now + self.time_limit, options)
            }
            _ => AttemptProgress::Done(Box::new(Socket::new(socket)), now + self.time_limit),
        }
    }

    fn handshaken(
        &mut self,
        result: Result<native_tls::TlsStream<Socket>, HandshakeError<Socket>>,
        deadline: Instant,
        options: &Options,
    ) -> AttemptProgress {
        match result {
            Ok(stream) => AttemptProgress::Done(Box::new(stream), deadline),
            Err(HandshakeError::WouldBlock(handshake)) => {
                self.stage = AttemptStage::Handshaking {
                    handshake: Box::new(handshake),
                    deadline,
                };
                AttemptProgress::Pending
            }
            Err(HandshakeError::Failure(error)) => {
                AttemptProgress::Failed(match &options.security {
                    Security::Tls(tls_options) => {
                        tls::handshake_error(&error, &self.address, tls_options, &options.host)
                    }
                    Security::Plain => self.network(error.to_string(), ""),
                })
            }
        }
    }

    fn network(&self, problem: impl Into<String>, advice: &str) -> Error {
        let tried = format!("connecting to {}", self.address);
        Error::new(Blame::Network, tried, problem, advice)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.stage {
            AttemptStage::Resolving { .. } => "Attempt(resolving)",
            AttemptStage::Connecting(_) => "Attempt(connecting)",
            AttemptStage::Handshaking { .. } => "Attempt(handshaking)",
            AttemptStage::Over => "Attempt(over)",
        })
    }
}

/// Bytes that the system may hold and has not sent. It takes more once half of them have gone.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 64 * 1024;

/// Has the system take no more than it can send soon, so that what it took has as good as left. Bytes on their way,
/// which the other side has not confirmed, do not count: a fast link stays fast.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound_unsent(socket: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT)
}

/// No safe call for it is known here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound_unsent(_socket: &TcpStream) -> io::Result<()> {
    Ok(())
}

const CHECK_HOST: &str = "check the spelling of `host`, and the network";

/// Returns whether a non-blocking connect has ended well, or an error if it has failed.
fn is_connected(socket: &TcpStream) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
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
