//! The connection's way from offline to online and back.
//!
//! Offline by request, waiting for the next attempt, connecting, greeting (CONNECT is out), online,
//! closing. Whatever fails before CONNACK is an attempt that failed and counts towards the limit of
//! attempts, and so does a link that is lost soon and without any acknowledgment on it. Any other
//! link that is lost is made anew; the delays start over only after it had been up for a while.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::Agent;
use crate::client::ticket::Completions;
use crate::error::{Blame, Error};
use crate::link::Link;
use crate::link::connect::{Attempt, Progress, plain};
use crate::link::tls;
use crate::mqtt::packet::{Connect, ConnectReturnCode};
use crate::mqtt::session::{LinkLoss, Outcome, Reason};
use crate::mqtt::v4;
use crate::options::Security;

/// A link that was up for this long shows that connecting works: the delays start over.
const LASTING: Duration = Duration::from_secs(10);

/// How long the broker may take to close its side after DISCONNECT.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// Where the connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// A thread asked for DISCONNECT.
    Offline,
    /// The next attempt starts at this time.
    Waiting {
        until: Instant,
    },
    Connecting(Attempt),
    /// CONNECT is out; CONNACK has to come by this time.
    Greeting {
        deadline: Instant,
    },
    Online {
        since: Instant,
    },
    /// DISCONNECT is on its way; once it is out (`finished`) the broker has until the deadline to
    /// close its side.
    Closing {
        deadline: Instant,
        finished: bool,
        done: Completions,
    },
}

impl Agent {
    /// Moves the connection on if it is time.
    pub(super) fn advance_connection(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Offline | Phase::Online { .. } => false,
            Phase::Waiting { until } if *until <= now => {
                match Attempt::start(&self.client.options, &mut self.resolver, now) {
                    Ok(attempt) => self.phase = Phase::Connecting(attempt),
                    Err(error) => self.attempt_failed(error, now),
                }
                true
            }
            Phase::Waiting { .. } => false,
            Phase::Connecting(attempt) => {
                let connector = self.client.connector.as_ref();
                let (resolver, readiness) = (&mut self.resolver, self.wire.readiness());
                match attempt.poll(&self.client.options, connector, resolver, readiness, now) {
                    Progress::Pending => false,
                    Progress::Done(link, deadline) => {
                        self.greet(link, deadline, now);
                        true
                    }
                    Progress::Failed(error) => {
                        self.attempt_failed(error, now);
                        true
                    }
                }
            }
            Phase::Greeting { deadline } if *deadline <= now => {
                self.read_the_rest(now);
                if !matches!(self.phase, Phase::Greeting { .. }) {
                    return true;
                }
                self.drop_link();
                let error = Error::new(
                    Blame::Network,
                    self.connecting(),
                    "the broker did not answer CONNECT in time",
                    "check that it is an MQTT broker and not overloaded, or raise `connect_timeout`",
                );
                self.attempt_failed(error, now);
                true
            }
            Phase::Greeting { .. } => false,
            Phase::Closing {
                deadline, finished, ..
            } => {
                if *deadline <= now {
                    self.read_the_rest(now);
                    if matches!(self.phase, Phase::Closing { .. }) {
                        self.closed();
                    }
                    return true;
                }
                if !*finished && self.session.output().is_empty() {
                    *finished = true;
                    *deadline = now + CLOSING_TIME;
                    self.wire.finish();
                    return true;
                }
                false
            }
        }
    }

    /// When [`Agent::advance_connection`] has to be called again at the latest.
    pub(super) fn phase_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Offline | Phase::Online { .. } => None,
            Phase::Waiting { until } => Some(*until),
            Phase::Connecting(attempt) => attempt.deadline(),
            Phase::Greeting { deadline } | Phase::Closing { deadline, .. } => Some(*deadline),
        }
    }

    /// CONNACK came.
    pub(super) fn connected(&mut self, session_present: bool, resubscribing: usize, now: Instant) {
        self.phase = Phase::Online { since: now };
        let again = self.stats.connects > 0;
        self.stats.connects += 1;
        if again {
            self.stats.reconnects += 1;
            self.stats.resumed += u64::from(session_present);
            self.stats.resubscribed += resubscribing as u64;
        }
        log::info!(
            "{} to {} as {:?}, session {}{}",
            if again { "reconnected" } else { "connected" },
            self.client.options.address(),
            self.client.options.client_id,
            if session_present { "resumed" } else { "new" },
            match resubscribing {
                0 => String::new(),
                n => format!(", renewing {n} subscriptions"),
            },
        );
        let connected = Outcome::delivered(1, Duration::ZERO);
        self.requests.end_reconnects(&connected);
    }

    /// The broker answered CONNECT with no.
    pub(super) fn refused(&mut self, code: ConnectReturnCode, now: Instant) {
        self.drop_link();
        let error = refusal(self.connecting(), code, &self.client.options.client_id);
        self.attempt_failed(error, now);
    }

    /// Reading or writing failed. Before CONNACK it may be the broker's verdict on our certificate, which
    /// TLS 1.3 delivers only now.
    pub(super) fn link_failed(&mut self, error: &io::Error, now: Instant) {
        if let (Phase::Greeting { .. }, Security::Tls(options)) =
            (&self.phase, &self.client.options.security)
            && let Some(error) = tls::alert_error(error, &self.client.options.address(), options)
        {
            self.drop_link();
            self.attempt_failed(error, now);
            return;
        }
        self.link_lost(LinkLoss::Io(plain(error)), now);
    }

    /// The link is gone, or has to go.
    pub(super) fn link_lost(&mut self, loss: LinkLoss, now: Instant) {
        if loss == LinkLoss::LeftWithBroker {
            self.take_leave();
        }
        self.drop_link();
        match self.phase {
            Phase::Greeting { .. } => {
                let error = lost_before_connack(self.connecting(), &loss, &self.client);
                self.attempt_failed(error, now);
            }
            Phase::Online { since } => {
                self.stats.losses += 1;
                let lasted = now.saturating_duration_since(since);
                let error = lost_after_connack(&self.client, &loss, lasted);
                if lasted >= LASTING {
                    self.backoff.reset();
                }
                // Nothing failed; CONNECTs keep their distance all the same.
                if lasted >= LASTING || loss == LinkLoss::LeftWithBroker {
                    self.reconnect_after(&error, Duration::ZERO, now);
                } else if self.session.made_progress() {
                    self.backoff.made_progress();
                    let delay = self.backoff.next_delay();
                    self.reconnect_after(&error, delay, now);
                } else {
                    // As good as an attempt that failed: it may go on like this for ever.
                    self.attempt_failed(error, now);
                }
            }
            Phase::Closing { .. } => self.closed(),
            Phase::Offline | Phase::Waiting { .. } | Phase::Connecting(_) => {}
        }
    }

    /// Gives the present link or attempt up and makes a new one at once (RECONNECT).
    pub(super) fn reconnect(&mut self, done: Completions, now: Instant) {
        if self.requests.is_ending() {
            done.tell(&Outcome::Cancelled(Reason::Terminated));
            return;
        }
        log::info!("RECONNECT to {}", self.client.options.address());
        self.drop_link();
        if let Phase::Closing { .. } = self.phase {
            self.closed();
        }
        // A DISCONNECT that still waited for commands before it has what it wanted.
        self.phase = Phase::Offline;
        self.go_offline_if_due(now);
        self.requests.reconnect(done);
        self.connect_at(now);
    }

    /// DISCONNECT on a link that is closed on purpose and has nothing else to send: else the broker would
    /// publish the last will. If it does not fit, the broker takes the link for lost.
    fn take_leave(&mut self) {
        let mut goodbye = BytesMut::new();
        v4::encode_disconnect(&mut goodbye);
        self.wire.write_last(&goodbye);
    }

    /// Closes the link without a word.
    pub(super) fn drop_link(&mut self) {
        self.wire.drop_link();
        self.session.handle_link_lost();
    }

    /// The link that DISCONNECT went out on is closed.
    pub(super) fn closed(&mut self) {
        self.drop_link();
        let phase = std::mem::replace(&mut self.phase, Phase::Offline);
        if let Phase::Closing { done, finished, .. } = phase {
            done.tell(&Outcome::delivered(u32::from(finished), Duration::ZERO));
        }
    }

    /// A link is there: CONNECT goes out.
    pub(super) fn greet(&mut self, link: Box<dyn Link>, deadline: Instant, now: Instant) {
        self.wire.attach(link);
        self.client.last_connect = Some(now);
        let options = &self.client.options;
        let connect = Connect {
            client_id: &options.client_id,
            clean_session: self.clean_session,
            // `Options::check` keeps it in range.
            keep_alive: u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX),
            last_will: options.last_will.as_ref(),
            credentials: options.credentials.as_ref(),
        };
        self.session.handle_link_up(&connect, now);
        self.phase = Phase::Greeting { deadline };
    }

    /// Waits for another attempt, or gives up if that is pointless.
    fn attempt_failed(&mut self, error: Error, now: Instant) {
        let delay = match error.is_permanent() {
            true => None,
            false => self.backoff.after_failure(),
        };
        match delay {
            Some(delay) => self.reconnect_after(&error, delay, now),
            None => {
                self.phase = Phase::Offline;
                let no_connection = Outcome::NeverSent(Reason::NoConnection);
                self.requests.end_reconnects(&no_connection);
                self.failure = Some(error);
            }
        }
    }

    /// Says what happened and when it goes on.
    fn reconnect_after(&mut self, error: &Error, delay: Duration, now: Instant) {
        self.connect_at(now + delay);
        let delay = match self.phase {
            Phase::Waiting { until } => until.saturating_duration_since(now),
            _ => delay,
        };
        log::warn!("{error}; trying again in {} ms", delay.as_millis());
    }

    /// The next attempt, at the earliest; CONNECTs keep their distance.
    pub(super) fn connect_at(&mut self, at: Instant) {
        let allowed = self
            .client
            .last_connect
            .map(|last| last + self.client.options.connect_interval);
        let until = allowed.map_or(at, |allowed| allowed.max(at));
        self.phase = Phase::Waiting { until };
    }

    fn connecting(&self) -> String {
        format!("connecting to {}", self.client.options.address())
    }
}

/// What a refusal means and what to do about it.
fn refusal(tried: String, code: ConnectReturnCode, client_id: &str) -> Error {
    let (problem, advice, permanent) = match code {
        ConnectReturnCode::Accepted => ("the broker accepted".to_owned(), "", false),
        ConnectReturnCode::UnacceptableProtocolVersion => (
            "the broker does not speak MQTT 3.1.1 (return code 1)".to_owned(),
            "use a broker that does",
            true,
        ),
        ConnectReturnCode::IdentifierRejected => (
            format!("the broker refused the client identifier {client_id:?} (return code 2)"),
            "give another one with `client_id`",
            true,
        ),
        ConnectReturnCode::ServerUnavailable => (
            "the broker is there, its service is not (return code 3)".to_owned(),
            "try again later",
            false,
        ),
        ConnectReturnCode::BadUserNameOrPassword => (
            "the broker refused the user name or password (return code 4)".to_owned(),
            "check `username` and `password`",
            true,
        ),
        ConnectReturnCode::NotAuthorized => (
            "the broker refused access (return code 5)".to_owned(),
            "check `username` and `password`, the client certificate, and what the broker \
             allows this client identifier",
            true,
        ),
    };
    let error = Error::new(Blame::Refused, tried, problem, advice);
    if permanent { error.permanent() } else { error }
}

/// A link that ended where CONNACK was expected.
fn lost_before_connack(tried: String, loss: &LinkLoss, client: &super::Client) -> Error {
    let (blame, moment) = match loss {
        LinkLoss::Protocol(_) => (Blame::Broker, "in answer to CONNECT"),
        _ => (Blame::Network, "before answering CONNECT"),
    };
    if let LinkLoss::Protocol(error) = loss
        && let Some((problem, advice)) = no_mqtt(error.beginning())
    {
        let problem = format!("{problem}, {moment}");
        return Error::new(blame, tried, problem, advice);
    }
    let advice = match (loss, &client.options.security) {
        (LinkLoss::Protocol(_), _) => {
            "check that the port is an MQTT broker's, or ask whoever runs the broker"
        }
        _ if client.options.is_aws_iot() => {
            "check that the certificate is active and attached to a policy that allows \
             iot:Connect for this client identifier"
        }
        (_, Security::Tls(_)) => {
            "see the broker's log: it may not accept this certificate or client identifier"
        }
        (_, Security::Plain) => "see the broker's log: the port may expect TLS",
    };
    Error::new(blame, tried, format!("{loss}, {moment}"), advice)
}

/// What speaks on the other side, if it is something well known that is not MQTT.
fn no_mqtt(beginning: &[u8]) -> Option<(String, &'static str)> {
    if beginning.starts_with(b"HTTP/") {
        let line = beginning.split(|byte| *byte < b' ').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
        return Some((
            format!("a web server answers on that port (it sent {line:?})"),
            "check that the port is an MQTT broker's; MQTT over WebSocket is not possible here",
        ));
    }
    // A TLS record that holds an alert.
    if beginning.starts_with(&[0x15, 3]) {
        return Some((
            "the port speaks TLS".to_owned(),
            "leave mqtt:// out of the endpoint",
        ));
    }
    None
}

/// A link that was up and is lost. If it did not last, the likely causes are known.
fn lost_after_connack(client: &super::Client, loss: &LinkLoss, lasted: Duration) -> Error {
    let blame = match loss {
        LinkLoss::Protocol(_) => Blame::Broker,
        _ => Blame::Network,
    };
    let advice = match loss {
        LinkLoss::PeerClosed | LinkLoss::Io(_) if lasted < LASTING => {
            "likely: another program uses the same client identifier, the broker does not allow a \
             topic, or it was restarted"
        }
        LinkLoss::Protocol(_) => "see what the broker sends; it may be no MQTT 3.1.1 broker",
        _ => "",
    };
    let tried = format!("connection to {}", client.options.address());
    let problem = format!("lost after {} ms: {loss}", lasted.as_millis());
    Error::new(blame, tried, problem, advice)
}
