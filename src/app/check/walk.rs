//! An attempt to connect, read from its events: how far it came, when, and where it failed.
//!
//! An attempt may walk over several addresses. The one that came furthest is the one to tell of. Pure data, made of
//! what the events say; the main thread uses it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::{AttemptStep, ConnectionEvent, EventKind, TlsDetails};

use super::files;
use super::report::{CheckLine, CheckStep, Status};

/// The attempt so far.
#[derive(Debug, Default)]
pub(super) struct Walk {
    host: String,
    /// Attempts before this one.
    pub(super) failed_before: u32,
    began: Option<Instant>,
    resolved: Option<(Vec<SocketAddr>, Instant)>,
    /// The addresses to which TCP was begun, and when.
    tcp_began: Vec<(SocketAddr, Instant)>,
    /// The address that is in use, and how far it came.
    now: AddressWay,
    /// The addresses that were of no use.
    failures: Vec<(AddressWay, Option<SocketAddr>, Error)>,
    /// Whether the broker had kept the session, once it has accepted the connection.
    pub(super) session_present: Option<bool>,
}

/// How far one address came.
#[derive(Debug, Clone, Default)]
struct AddressWay {
    tcp: Option<(SocketAddr, Instant, Option<Duration>)>,
    tls: Option<(Arc<TlsDetails>, Instant)>,
    connect: Option<Instant>,
    connack: Option<Instant>,
}

impl AddressWay {
    /// The step at which it stands.
    fn at(&self, has_tls: bool) -> CheckStep {
        match self {
            AddressWay {
                connect: Some(_), ..
            } => CheckStep::Connect,
            AddressWay { tls: Some(_), .. } => CheckStep::Connect,
            AddressWay { tcp: Some(_), .. } if has_tls => CheckStep::Tls,
            AddressWay { tcp: Some(_), .. } => CheckStep::Connect,
            _ => CheckStep::Tcp,
        }
    }
}

impl Walk {
    pub(super) fn new(host: &str) -> Self {
        Walk {
            host: host.to_owned(),
            ..Walk::default()
        }
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, event: &ConnectionEvent) {
        let at = event.at;
        match &event.kind {
            EventKind::Attempt { .. } => {
                let failed_before = self.failed_before + u32::from(self.began.is_some());
                let host = std::mem::take(&mut self.host);
                *self = Walk {
                    host,
                    failed_before,
                    began: Some(at),
                    ..Walk::default()
                };
            }
            EventKind::Step(step) => self.step(step, at),
            EventKind::Connected {
                session_present, ..
            } => {
                self.now.connack = Some(at);
                self.session_present = Some(*session_present);
            }
            EventKind::Refused { .. } => self.now.connack = Some(at),
            _ => {}
        }
    }

    fn step(&mut self, step: &AttemptStep, at: Instant) {
        match step {
            AttemptStep::Resolving { .. } => self.began = Some(at),
            AttemptStep::Resolved { addresses } => self.resolved = Some((addresses.clone(), at)),
            AttemptStep::TcpBegan { to } => self.tcp_began.push((*to, at)),
            AttemptStep::TcpDone { to } => {
                let mut began = self.tcp_began.iter().rev();
                let began = began
                    .find(|(known, _)| known == to)
                    .map(|(_, began)| *began);
                let took = began.map(|began| at.saturating_duration_since(began));
                self.now = AddressWay {
                    tcp: Some((*to, at, took)),
                    ..AddressWay::default()
                };
            }
            AttemptStep::TlsDone { tls } => self.now.tls = Some((Arc::clone(tls), at)),
            AttemptStep::ConnectSent => self.now.connect = Some(at),
            AttemptStep::AddressFailed { to, error } => {
                let way = std::mem::take(&mut self.now);
                self.failures.push((way, *to, error.clone()));
            }
            _ => {}
        }
    }

    /// The lines of the steps that are done, and the step that failed with its error, if one did. `last` is the error
    /// of the attempt.
    pub(super) fn told(
        &self,
        has_tls: bool,
        last: Option<&Error>,
    ) -> (Vec<CheckLine>, Option<(CheckStep, Error)>) {
        let Some((addresses, resolved)) = &self.resolved else {
            return (
                Vec::new(),
                last.map(|error| (CheckStep::Name, error.clone())),
            );
        };
        let count = match &addresses[..] {
            [only] if only.ip().to_string() == self.host => format!("{} is an address", self.host),
            [only] => format!("{}: {}", self.host, only.ip()),
            several => format!("{}: {} addresses", self.host, several.len()),
        };
        let time = self
            .began
            .map(|began| resolved.saturating_duration_since(began));
        let mut lines = vec![CheckLine::new(CheckStep::Name, Status::Ok, count).within(time)];
        // The one that came furthest; of several the last.
        let mut way = (&self.now, None);
        if last.is_some() {
            let failures = self.failures.iter();
            let stands = |way: &AddressWay| way.at(has_tls);
            let furthest = failures.max_by_key(|(way, _, _)| stands(way));
            if let Some((failed, _, error)) =
                furthest.filter(|(failed, _, _)| stands(failed) >= stands(&self.now))
            {
                way = (failed, Some(error));
            }
        }
        let (way, error) = way;
        let failed = last.map(|last| (way.at(has_tls), error.unwrap_or(last).clone()));
        if let Some((to, at, took)) = &way.tcp {
            let mut tcp = CheckLine::new(CheckStep::Tcp, Status::Ok, to.to_string()).within(*took);
            tcp.remarks = self.of_no_use(*to);
            lines.push(tcp);
            if let Some((tls, done)) = &way.tls {
                lines.push(handshake(tls).within(Some(done.saturating_duration_since(*at))));
            } else if !has_tls {
                lines.push(CheckLine::new(
                    CheckStep::Tls,
                    Status::Skipped,
                    "not wanted: the endpoint says mqtt://",
                ));
            }
        }
        (lines, failed)
    }

    /// The time from CONNECT to its answer.
    pub(super) fn answered_within(&self) -> Option<Duration> {
        Some(
            self.now
                .connack?
                .saturating_duration_since(self.now.connect?),
        )
    }

    /// A remark for each address before this one that was of no use.
    fn of_no_use(&self, used: SocketAddr) -> Vec<String> {
        let others = self.failures.iter().filter(|(_, to, _)| *to != Some(used));
        let remark =
            |(_, _, error): &(AddressWay, Option<SocketAddr>, Error)| error.problem().to_owned();
        others.map(remark).collect()
    }
}

/// The step TLS where it went well.
fn handshake(tls: &TlsDetails) -> CheckLine {
    let mut parts = vec![tls.to_string()];
    parts.extend(tls.certificate.as_ref().map(files::of_broker));
    parts.extend(
        tls.alpn
            .as_ref()
            .map(|name| format!("ALPN {}", name.escape_debug())),
    );
    CheckLine::new(CheckStep::Tls, Status::Ok, parts.join(", "))
}
