//! One attempt to reach the broker: name resolution, then TCP (`race.rs`) and TLS with one address of the name
//! after the other, until one of them is of use.
//!
//! An attempt runs on the loop's thread and never blocks it: resolution happens on a short-lived
//! thread ([`Resolver`]), the sockets are non-blocking, and [`Attempt::poll`] goes on whenever the loop
//! is woken. So the loop serves a stop request at once at every stage. The bytes that the two sides
//! exchange over the link are not this file's business: if a link turns out to be of no use, its owner says so,
//! and the attempt goes on with the next address.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use native_tls::{HandshakeError, MidHandshakeTlsStream, TlsStream};

use crate::error::{Blame, Error, exhaustion};
use crate::link::look::Look;
use crate::link::race::{Race, RaceEvent};
use crate::link::readiness::Readiness;
use crate::link::resolve::Resolver;
use crate::link::secured::SecuredLink;
use crate::link::steps::AttemptStep;
use crate::link::tls::{self, Connector, TlsDetails};
use crate::link::{Link, Socket};
use crate::options::{Options, Security};

/// How far an attempt has come.
pub(crate) enum AttemptProgress {
    /// It goes on at the next wake-up, at [`Attempt::deadline`] at the latest.
    Pending,
    /// The link is there, and the readiness thread still watches it. The other side has to prove by
    /// this time that it is of use.
    Done(Box<dyn Link>, Instant),
    /// Every address failed.
    Failed(Error),
}

/// One attempt.
pub(crate) struct Attempt {
    stage: AttemptStage,
    /// `host:port`.
    address: String,
    time_limit: Duration,
    /// The address that goes first, if the name still has it.
    first: Option<SocketAddr>,
    race: Race,
    /// Whether the name has several addresses. Then errors say which one they are about.
    is_one_of_several: bool,
    /// The address that TCP reached last.
    to: Option<SocketAddr>,
    /// The last failure of any address.
    last: Option<Error>,
    /// The last failure of an address that TCP had reached.
    reached: Option<Error>,
    /// The agreement of the last TLS handshake that ended well.
    tls: Option<Arc<TlsDetails>>,
    /// Those that [`Attempt::take_steps`] has not given out yet, with their times.
    steps: Vec<(Instant, AttemptStep)>,
}

enum AttemptStage {
    Resolving {
        deadline: Instant,
    },
    /// TCP with the addresses that are left.
    Racing,
    Handshaking {
        handshake: Box<MidHandshakeTlsStream<Socket>>,
        deadline: Instant,
    },
    /// The broker's certificate did not pass; it is looked at for the error.
    Looking(Box<(native_tls::Error, Look)>),
    /// The link is there, or the attempt failed.
    Over,
}

impl Attempt {
    /// Starts with resolving the name. `first` is the address that goes first.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(
        options: &Options,
        resolver: &mut Resolver,
        first: Option<SocketAddr>,
        now: Instant,
    ) -> Result<Self, Error> {
        let address = options.address();
        resolver
            .start(&options.host, options.port)
            .map_err(|error| {
                let told = Error::new(
                    Blame::Network,
                    format!("connecting to {address}"),
                    format!("no thread for name resolution: {error}"),
                    "free some of the system's resources",
                );
                told.with_source(error)
            })?;
        Ok(Attempt {
            stage: AttemptStage::Resolving {
                deadline: now + options.connect_timeout,
            },
            address,
            time_limit: options.connect_timeout,
            first,
            race: Race::new(Vec::new(), None),
            is_one_of_several: false,
            to: None,
            last: None,
            reached: None,
            tls: None,
            steps: vec![(
                Instant::now(),
                AttemptStep::Resolving {
                    host: options.host.clone(),
                },
            )],
        })
    }

    /// Goes on as far as possible without blocking.
    pub(crate) fn poll(
        &mut self,
        options: &Options,
        connector: Option<&Connector>,
        resolver: &mut Resolver,
        readiness: &Readiness,
        now: Instant,
    ) -> AttemptProgress {
        loop {
            let progress = match std::mem::replace(&mut self.stage, AttemptStage::Over) {
                AttemptStage::Resolving { deadline } => self.resolve(resolver, deadline, now),
                AttemptStage::Racing => match self.race(readiness, now) {
                    RaceEvent::Pending => {
                        self.stage = AttemptStage::Racing;
                        Some(AttemptProgress::Pending)
                    }
                    RaceEvent::Connected(socket, to) => {
                        self.to = Some(to);
                        self.secure(socket, options, connector, readiness, now)
                    }
                    RaceEvent::Failed {
                        to,
                        problem,
                        advice,
                        cause,
                    } => {
                        let error = self.network(format!("{problem} ({to})"), advice);
                        let error = match cause {
                            Some(cause) => error.with_source(cause),
                            None => error,
                        };
                        self.address_failed(Some(to), error);
                        None
                    }
                    RaceEvent::Over => Some(AttemptProgress::Failed(self.verdict())),
                },
                AttemptStage::Handshaking {
                    handshake,
                    deadline,
                } if now < deadline => {
                    let result = handshake.handshake();
                    self.handshaken(result, deadline, options, connector, readiness)
                }
                AttemptStage::Handshaking { .. } => {
                    self.link_failed(Error::new(
                        Blame::Tls,
                        format!("TLS handshake with {}", self.address),
                        format!("no end within {:?}", self.time_limit),
                        "check that the port speaks TLS, or raise `connect_timeout`",
                    ));
                    None
                }
                AttemptStage::Looking(mut looking) => {
                    let (error, look) = &mut *looking;
                    let seen =
                        connector.map(|tls| (tls, look.poll(tls, &options.host, readiness, now)));
                    match seen {
                        Some((tls, Some(seen))) => {
                            let told = tls::handshake_error(error, options, tls, &seen);
                            self.link_failed(told.with_source(looking.0));
                            None
                        }
                        _ => {
                            self.stage = AttemptStage::Looking(looking);
                            Some(AttemptProgress::Pending)
                        }
                    }
                }
                AttemptStage::Over => Some(AttemptProgress::Failed(self.verdict())),
            };
            if let Some(progress) = progress {
                return progress;
            }
        }
    }

    /// When [`Attempt::poll`] has to be called again at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            AttemptStage::Resolving { deadline } | AttemptStage::Handshaking { deadline, .. } => {
                Some(*deadline)
            }
            AttemptStage::Racing => self.race.deadline(),
            AttemptStage::Looking(looking) => Some(looking.1.deadline()),
            AttemptStage::Over => None,
        }
    }

    /// The link was of no use. [`Attempt::poll`] goes on with the next address; if none is left, returns the
    /// error of the whole attempt.
    pub(crate) fn next_address(&mut self, error: Error) -> Option<Error> {
        self.link_failed(error);
        (self.race.left() == 0).then(|| self.verdict())
    }

    /// The step that is under way, or the failure of the last address if there is none. `elapsed` is the time since
    /// the first attempt began; earlier steps and addresses had their part of it.
    pub(crate) fn so_far(
        &self,
        options: &Options,
        connector: Option<&Connector>,
        elapsed: Duration,
    ) -> Option<Error> {
        let elapsed = format!(
            "{:.1} s after the first attempt began",
            elapsed.as_secs_f64()
        );
        let error = match &self.stage {
            AttemptStage::Resolving { .. } => self.network(
                format!("the host name was not resolved, {elapsed}"),
                "check the name server",
            ),
            AttemptStage::Racing => match self.race.tried() {
                none if none.is_empty() => return self.last.clone(),
                tried => self.network(format!("no answer from {tried}, {elapsed}"), CHECK_BROKER),
            },
            AttemptStage::Handshaking { .. } => self.named(Error::new(
                Blame::Tls,
                format!("TLS handshake with {}", self.address),
                format!("no end, {elapsed}"),
                "check that the port speaks TLS",
            )),
            // The look is for the error alone, which goes without it.
            AttemptStage::Looking(looking) => {
                self.named(tls::handshake_error(&looking.0, options, connector?, &[]))
            }
            AttemptStage::Over => self.named(self.network(
                format!("no answer to CONNECT, {elapsed}"),
                "check that it is an MQTT broker and not overloaded",
            )),
        };
        Some(error)
    }

    /// The address that TCP reached last.
    pub(crate) fn reached(&self) -> Option<SocketAddr> {
        self.to
    }

    /// The agreement of the TLS handshake on the link that is there.
    pub(crate) fn tls(&self) -> Option<Arc<TlsDetails>> {
        self.tls.clone()
    }

    /// The steps since the last call, and when each was taken: one poll may take several.
    pub(crate) fn take_steps(&mut self) -> Vec<(Instant, AttemptStep)> {
        std::mem::take(&mut self.steps)
    }

    fn step(&mut self, step: AttemptStep) {
        self.steps.push((Instant::now(), step));
    }

    /// The address that TCP reached last, if the name has others.
    pub(crate) fn told_address(&self) -> Option<SocketAddr> {
        self.to.filter(|_| self.is_one_of_several)
    }

    fn resolve(
        &mut self,
        resolver: &mut Resolver,
        deadline: Instant,
        now: Instant,
    ) -> Option<AttemptProgress> {
        match resolver.poll() {
            Some(Ok(addresses)) => {
                self.race = Race::new(addresses, self.first);
                self.is_one_of_several = self.race.left() > 1;
                let addresses = self.race.addresses();
                self.step(AttemptStep::Resolved { addresses });
                self.stage = AttemptStage::Racing;
                None
            }
            Some(Err(error)) => {
                let told = self.network(
                    format!("the host name cannot be resolved ({error})"),
                    exhaustion(&error).unwrap_or(CHECK_HOST),
                );
                Some(AttemptProgress::Failed(told.with_source(error)))
            }
            None if now < deadline => {
                self.stage = AttemptStage::Resolving { deadline };
                Some(AttemptProgress::Pending)
            }
            None => Some(AttemptProgress::Failed(self.network(
                format!(
                    "the host name was not resolved within {:?}",
                    self.time_limit
                ),
                "check the name server, or raise `connect_timeout`",
            ))),
        }
    }

    /// The next event of TCP, and the steps that led to it.
    fn race(&mut self, readiness: &Readiness, now: Instant) -> RaceEvent {
        let event = self.race.poll(self.time_limit, readiness, now);
        let begun = self.race.take_begun().into_iter();
        self.steps
            .extend(begun.map(|(at, to)| (at, AttemptStep::TcpBegan { to })));
        if let RaceEvent::Connected(_, to) = event {
            self.step(AttemptStep::TcpDone { to });
        }
        event
    }

    /// TCP is there: begins with TLS, if it is wanted. Returns `None` if another stage begins.
    fn secure(
        &mut self,
        socket: TcpStream,
        options: &Options,
        connector: Option<&Connector>,
        readiness: &Readiness,
        now: Instant,
    ) -> Option<AttemptProgress> {
        if let Err(error) = socket.set_nodelay(true) {
            log::debug!("small packets may be delayed: {error}");
        }
        if let Err(error) = bound_unsent(&socket) {
            log::debug!("the system may hold any number of unsent bytes: {error}");
        }
        self.tls = None;
        let deadline = now + self.time_limit;
        match (connector, &options.security) {
            (Some(tls), Security::Tls(_)) => {
                let result = tls.connect(&options.host, Socket::for_tls(socket));
                self.handshaken(result, deadline, options, connector, readiness)
            }
            _ => Some(AttemptProgress::Done(
                Box::new(Socket::new(socket)),
                deadline,
            )),
        }
    }

    fn handshaken(
        &mut self,
        result: Result<TlsStream<Socket>, HandshakeError<Socket>>,
        deadline: Instant,
        options: &Options,
        connector: Option<&Connector>,
        readiness: &Readiness,
    ) -> Option<AttemptProgress> {
        let error = match result {
            Ok(mut stream) => {
                let tls = Arc::new(details(&mut stream));
                self.tls = Some(Arc::clone(&tls));
                self.step(AttemptStep::TlsDone { tls });
                let link = Box::new(SecuredLink::new(stream));
                return Some(AttemptProgress::Done(link, deadline));
            }
            Err(HandshakeError::WouldBlock(handshake)) => {
                self.stage = AttemptStage::Handshaking {
                    handshake: Box::new(handshake),
                    deadline,
                };
                return Some(AttemptProgress::Pending);
            }
            Err(HandshakeError::Failure(error)) => error,
        };
        let to = self.to.filter(|_| tls::is_unverified(&error));
        let wants_issuers = tls::is_about_issuers(&error);
        let look = to.and_then(|to| Look::start(to, wants_issuers, deadline, readiness));
        if let Some(look) = look {
            self.stage = AttemptStage::Looking(Box::new((error, look)));
            return None;
        }
        let told = match connector {
            Some(connector) => tls::handshake_error(&error, options, connector, &[]),
            None => self.network(error.to_string(), ""),
        };
        self.link_failed(told.with_source(error));
        None
    }

    /// The error, with the address that TCP reached last if the name has others.
    pub(crate) fn named(&self, error: Error) -> Error {
        match self.to.filter(|_| self.is_one_of_several) {
            Some(to) => error.at(to),
            None => error,
        }
    }

    /// TCP reached the address, and it was of no use all the same.
    fn link_failed(&mut self, error: Error) {
        let error = self.named(error);
        self.reached = Some(error.clone());
        self.address_failed(self.to, error);
    }

    fn address_failed(&mut self, to: Option<SocketAddr>, error: Error) {
        self.step(AttemptStep::AddressFailed {
            to,
            error: error.clone(),
        });
        let left = self.race.left();
        if left > 0 {
            log::warn!("{error}; addresses left: {left}");
        }
        self.last = Some(error);
        self.stage = AttemptStage::Racing;
    }

    /// The error of the attempt: that of the last address. But an address that was not reached says nothing
    /// about those that were; their error is told, and may be another at the next attempt.
    fn verdict(&mut self) -> Error {
        match (self.last.take(), self.reached.take()) {
            (Some(last), Some(reached)) if last != reached => {
                log::warn!("{last}");
                reached.passing()
            }
            (Some(last), _) => last,
            (None, _) => self.network("the name has no address", CHECK_HOST),
        }
    }

    fn network(&self, problem: impl Into<String>, advice: &str) -> Error {
        let tried = format!("connecting to {}", self.address);
        Error::new(Blame::Network, tried, problem, advice)
    }
}

/// The agreement of the handshake that has made this stream.
fn details(stream: &mut TlsStream<Socket>) -> TlsDetails {
    let chosen = stream.get_mut().take_chosen();
    let alpn = stream.negotiated_alpn().ok().flatten();
    let certificate = stream.peer_certificate().ok().flatten();
    let certificate = certificate.and_then(|certificate| certificate.to_der().ok());
    TlsDetails::new(chosen, alpn.as_deref(), certificate.as_deref())
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.stage {
            AttemptStage::Resolving { .. } => "Attempt(resolving)",
            AttemptStage::Racing => "Attempt(racing)",
            AttemptStage::Handshaking { .. } => "Attempt(handshaking)",
            AttemptStage::Looking(_) => "Attempt(looking)",
            AttemptStage::Over => "Attempt(over)",
        })
    }
}

/// Bytes that the system may hold and has not sent. It takes more once half of them have gone.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 16 * 1024;

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

pub(crate) const CHECK_BROKER: &str =
    "check that the broker runs, the port, and any firewall between";
const CHECK_HOST: &str = "check the spelling of `host`, and the network";
