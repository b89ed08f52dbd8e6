//! Where the connection is, and the events on its way: what observers see (`watch.rs`). Pure data; the loop's thread
//! makes it, any thread reads it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::link::steps::AttemptStep;
use crate::link::tls::TlsDetails;
use crate::mqtt::packet::{BrokerDisconnect, ConnAck5, ReasonCode};
use crate::mqtt::session::Reason;

/// Where the connection is: see [`Handle::connection`](crate::Handle::connection).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// There is none, and none is tried: a thread asked for DISCONNECT, or the loop does not run yet.
    Offline,
    /// There is none, and one is wanted.
    Connecting {
        /// Which attempt it is, from 1. The count starts over after a connection on which something was acknowledged,
        /// after one that lasted 10 s, and at RECONNECT.
        attempt: u32,
        /// When this attempt begins. `None`: it is under way.
        next_try: Option<Instant>,
    },
    /// The broker has accepted CONNECT, and the link is not lost yet as far as the loop knows.
    Online {
        /// Whether the broker had kept the session.
        session_present: bool,
        /// The address of the broker.
        address: Option<SocketAddr>,
        /// The agreement of the TLS handshake. `None` without TLS.
        tls: Option<Arc<TlsDetails>>,
        /// When CONNACK came.
        since: Instant,
        /// The broker's terms for this connection. `None` with MQTT 3.1.1.
        negotiated: Option<Arc<ConnAck5>>,
    },
    /// The loop has ended, or was dropped before it ran. Nothing follows.
    Ended,
}

impl ConnectionState {
    /// Whether the broker has accepted the connection.
    pub fn is_online(&self) -> bool {
        matches!(self, ConnectionState::Online { .. })
    }

    /// Whether the loop has ended, so that the state never changes again.
    pub fn is_ended(&self) -> bool {
        matches!(self, ConnectionState::Ended)
    }
}

/// An event of the connection: see [`Handle::events`](crate::Handle::events).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConnectionEvent {
    /// When it happened, never earlier than the event before it.
    pub at: Instant,
    /// The event itself.
    pub kind: EventKind,
}

/// The kinds of events. The text of each is one line for people.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// An attempt to connect begins.
    Attempt {
        /// Which one it is: see [`ConnectionState::Connecting`].
        number: u32,
    },
    /// The attempt has come to this step.
    Step(AttemptStep),
    /// A provider failed, or new credentials, certificates or keys cannot be used. The attempt goes on with the last good
    /// ones.
    NotRenewed {
        /// The cause.
        error: Error,
    },
    /// CONNACK came: the broker accepts the connection. The state is [`ConnectionState::Online`] from now on.
    Connected {
        /// Whether the broker had kept the session.
        session_present: bool,
        /// The address of the broker.
        address: Option<SocketAddr>,
        /// How many subscriptions are being renewed, because the broker had not kept them.
        renewing: usize,
    },
    /// CONNACK came: the broker refuses the connection. [`EventKind::AttemptFailed`] follows and says it in words.
    Refused {
        /// The return code of MQTT 3.1.1, 1 to 5 (table 3.1 there), or the reason code of MQTT 5, 0x80 and above.
        code: u8,
    },
    /// The attempt has failed, at each address. [`EventKind::Retrying`] or [`EventKind::Ended`] follows.
    AttemptFailed {
        /// The cause.
        error: Error,
    },
    /// The broker of MQTT 5 closes the connection and says why [MQTT 5, 3.14]. [`EventKind::Lost`] follows.
    BrokerDisconnected {
        /// Its code, its words, and another server if it names one.
        disconnect: Box<BrokerDisconnect>,
        /// The remedy.
        advice: &'static str,
    },
    /// A connection is lost that the broker had accepted. [`EventKind::Retrying`] or [`EventKind::Ended`] follows.
    Lost {
        /// The cause, and what stood unanswered.
        error: Error,
        /// For how long the connection was there.
        lasted: Duration,
    },
    /// There will be another attempt.
    Retrying {
        /// Which one it is.
        attempt: u32,
        /// When it begins.
        next_try: Instant,
    },
    /// A thread asked for RECONNECT: the connection, or the attempt, is given up for a new one.
    Reconnecting,
    /// DISCONNECT is done: the link is closed. No attempt is made before a thread asks for RECONNECT.
    Disconnected,
    /// The broker has granted these subscriptions again, which it had forgotten.
    Renewed {
        /// Their filters: those of one SUBACK.
        filters: Vec<String>,
    },
    /// The broker refused to renew this subscription, or the loop gave it up. Each inbox that it was for is told, too.
    SubscriptionRefused {
        /// Its filter.
        filter: String,
    },
    /// A message above `max_packet_size` was passed over. Told for the first one of the loop, the second, the fourth, and
    /// so on: a broker must not be able to push out all other events.
    MessageTooLarge {
        /// The topic that it was published to.
        topic: String,
        /// Bytes of its packet, fixed header included.
        size: usize,
        /// How many there were so far.
        so_far: u64,
    },
    /// An inbox does not keep up: something has waited aside for a second, or a message was dropped because there was no
    /// room for it. A drop is told for the first message of the inbox, the second, the fourth, and so on.
    InboxOverflowing {
        /// The inbox, named by its filters.
        inbox: String,
        /// Messages that wait for the inbox, in it and aside.
        waiting: usize,
        /// Messages that were dropped so far.
        dropped: u64,
    },
    /// So many bytes wait for inboxes that others may have to wait, too. Told as the log tells it.
    InboxesFull {
        /// The inbox for which most messages wait, named by its filters. `None` if they wait for a subscription.
        inbox: Option<String>,
        /// Messages that wait for it.
        waiting: usize,
        /// Whether messages are left with the broker until half of that is read. If not, they wait unacknowledged.
        left_with_broker: bool,
    },
    /// A message of an inbox that accepts by hand was dropped undone as often as [`ByHand::told_after`](crate::ByHand)
    /// says. It is offered again.
    DroppedUndone {
        /// The topic that it was published to.
        topic: String,
        /// How often it was dropped undone.
        times: u32,
    },
    /// A command is given up, because the broker closes each link on which it is sent, or never answers it.
    CommandGivenUp {
        /// Its packet, and its topic or filters.
        command: String,
        /// The reason, as its outcome has it.
        reason: Reason,
    },
    /// The loop has ended. No event follows.
    Ended {
        /// The error of [`Ended::result`](crate::Ended::result). `None` also for a loop that panicked, or that was dropped
        /// before it ran.
        error: Option<Error>,
    },
    /// This observer was slow: so many events were lost before the next one. The other observers have them.
    Missed {
        /// How many.
        count: u64,
    },
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionState::Offline => f.write_str("offline"),
            ConnectionState::Connecting { attempt, next_try } => match next_try {
                Some(_) => write!(f, "waiting for attempt {attempt}"),
                None => write!(f, "connecting, attempt {attempt}"),
            },
            ConnectionState::Online { address, tls, .. } => {
                f.write_str("online")?;
                if let Some(address) = address {
                    write!(f, ", {address}")?;
                }
                match tls.as_ref().map(|tls| tls.version) {
                    Some(Some(version)) => write!(f, ", {version}"),
                    Some(None) => f.write_str(", TLS"),
                    None => Ok(()),
                }
            }
            ConnectionState::Ended => f.write_str("ended"),
        }
    }
}

impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Attempt { number } => write!(f, "attempt {number} begins"),
            EventKind::Step(step) => step.fmt(f),
            EventKind::NotRenewed { error } => {
                write!(f, "{error}; the last good ones stay in force")
            }
            EventKind::Connected {
                session_present,
                renewing,
                ..
            } => {
                let session = if *session_present { "resumed" } else { "new" };
                write!(f, "connected, session {session}")?;
                match renewing {
                    0 => Ok(()),
                    1 => write!(f, ", renewing 1 subscription"),
                    n => write!(f, ", renewing {n} subscriptions"),
                }
            }
            EventKind::Refused { code } => match ReasonCode::new(*code) {
                code if code.is_failure() => write!(f, "CONNACK refuses with {code}"),
                _ => write!(f, "CONNACK refuses with return code {code}"),
            },
            EventKind::BrokerDisconnected { disconnect, advice } => {
                write!(f, "DISCONNECT from the broker: {disconnect}; {advice}")
            }
            EventKind::AttemptFailed { error } | EventKind::Lost { error, .. } => error.fmt(f),
            EventKind::Retrying { attempt, .. } => write!(f, "attempt {attempt} will follow"),
            EventKind::Reconnecting => f.write_str("RECONNECT"),
            EventKind::Disconnected => f.write_str("disconnected"),
            EventKind::Renewed { filters } => write!(f, "subscriptions renewed: {filters:?}"),
            EventKind::SubscriptionRefused { filter } => {
                write!(f, "the subscription to {filter:?} is not renewed")
            }
            EventKind::MessageTooLarge {
                topic,
                size,
                so_far,
            } => write!(
                f,
                "a message of {size} bytes on {topic:?} is too large ({so_far} so far)"
            ),
            EventKind::InboxOverflowing {
                inbox,
                waiting,
                dropped,
            } => write!(
                f,
                "the inbox of {inbox} does not keep up: {waiting} messages wait, {dropped} are dropped"
            ),
            EventKind::InboxesFull {
                inbox,
                waiting,
                left_with_broker,
            } => {
                let fate = match left_with_broker {
                    true => "are left with the broker",
                    false => "wait unacknowledged",
                };
                match inbox {
                    Some(name) => write!(f, "{waiting} messages wait for the inbox of {name}")?,
                    None => write!(f, "{waiting} messages wait for a subscription")?,
                }
                write!(f, ": new ones {fate}")
            }
            EventKind::DroppedUndone { topic, times } => {
                write!(f, "a message on {topic:?} was dropped undone {times} times")
            }
            EventKind::CommandGivenUp { command, reason } => {
                write!(f, "{command} is given up: {reason}")
            }
            EventKind::Ended { error: None } => f.write_str("the loop has ended"),
            EventKind::Ended { error: Some(error) } => write!(f, "the loop has ended: {error}"),
            EventKind::Missed { count } => write!(f, "{count} events were missed"),
        }
    }
}
