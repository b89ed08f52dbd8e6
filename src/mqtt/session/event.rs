//! The settings of a session, and the events that it tells its caller. Pure data; the loop's thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{DeliveryId, Outcome, Reason};
use crate::mqtt::packet::{
    BrokerDisconnect, ConnAck5, ConnectReturnCode, Message, PacketId, ProtocolError, ReasonCode,
};
use crate::mqtt::rate::RateLimits;

/// The settings of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionOptions {
    /// Commands awaiting their acknowledgment at one time.
    pub max_inflight: u16,
    /// Messages of QoS 2 among them, each counted from PUBLISH to PUBCOMP.
    pub max_inflight_qos2: u16,
    /// Longest wait for an acknowledgment. Time does not count in which at least 1 KiB passed, within each wait as
    /// long as this one, of a packet that was coming in or of packets that were leaving.
    pub ack_timeout: Duration,
    /// Longest silence before PINGREQ. Zero turns it off.
    pub keep_alive: Duration,
    /// The fate of QoS 1 publishes in flight when the broker lost the session.
    pub on_session_lost: OnSessionLost,
    /// How many packet identifiers there are: 65,535, fewer only in tests.
    pub identifiers: u16,
    /// Position on the circle of identifiers to begin at, 0 for identifier 1.
    pub first_identifier: u16,
    /// Losses in a row that count against a command, after which it is suspected and tried alone.
    pub suspected_after: u32,
    /// Links that the broker closed with a command alone, one after the other, after which it is given up.
    pub given_up_after: u32,
    /// Bytes of incoming messages that may count as accepted while they wait for a receiver. Each message counts
    /// its topic, its payload and 256 bytes for each receiver. Beyond that messages wait unacknowledged, up to a
    /// quarter more. The next message, and every one behind it, is left with the broker until half of the bytes
    /// are read and a new link asks for it. A message alone may be larger.
    pub max_waiting_bytes: usize,
    /// With MQTT 5, commands that may wait here for the broker to take more messages: requests stand behind them in the
    /// queue. Their messages may have [`SessionOptions::max_waiting_bytes`] bytes, but for the last one. While as much
    /// waits, nothing more is taken.
    pub max_waiting: usize,
    /// Messages, and bytes of their packets, that may leave in one second.
    pub rate: RateLimits,
}

/// The fate of QoS 1 publishes in flight when the broker answers CONNECT without the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnSessionLost {
    /// They are sent again as new messages: at least once is kept, duplicates are possible.
    #[default]
    Republish,
    /// They resolve as perhaps delivered and the caller decides.
    Fail,
}

impl std::str::FromStr for OnSessionLost {
    /// The words that are possible.
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "republish" => Ok(OnSessionLost::Republish),
            "fail" => Ok(OnSessionLost::Fail),
            _ => Err("republish or fail"),
        }
    }
}

/// Something the caller has to react to.
#[derive(Debug, Clone)]
pub enum Event<T> {
    /// The broker accepted CONNECT.
    Connected {
        /// It kept the session: the packets in flight are being sent again.
        session_present: bool,
        /// Filters that are being subscribed again.
        resubscribing: usize,
    },
    /// The broker refused CONNECT; it closes the link.
    ConnectRefused(ConnectReturnCode),
    /// The broker refused CONNECT of MQTT 5; it closes the link.
    ConnectRefused5(Box<ConnAck5>),
    /// A command has ended.
    Resolved {
        /// The token that was handed in with it.
        token: T,
        /// How it ended.
        outcome: Outcome,
        /// Whether an acknowledgment of the broker ended it.
        answered: bool,
    },
    /// A message is to be delivered. Unless `delivery` is `None`,
    /// [`Session::accept`](super::Session::accept) must be called once every receiver has it.
    Message {
        /// The message.
        message: Arc<Message>,
        /// The name of this delivery.
        delivery: Option<DeliveryId>,
    },
    /// A command, or the renewal of a subscription, is given up: it is not sent again.
    GivenUp {
        /// Its packet, and its topic or filters.
        command: String,
        /// The reason, as the outcome of the command has it.
        reason: Reason,
    },
    /// After a reconnect the broker has granted these subscriptions again: those of one packet.
    Renewed {
        /// Their filters.
        filters: Vec<String>,
    },
    /// After a reconnect the broker refused to renew this subscription.
    SubscriptionRefused {
        /// Its filter.
        filter: String,
    },
    /// There is no room for the next message among those that wait for receivers: new ones are left with the
    /// broker.
    Unread,
    /// The link has to be closed.
    Close(LinkLoss),
}

/// Events that the caller has not taken yet, in order.
#[derive(Debug, Clone)]
pub(super) struct Events<T>(VecDeque<Event<T>>);

impl<T> Default for Events<T> {
    fn default() -> Self {
        Events(VecDeque::new())
    }
}

impl<T> Events<T> {
    pub(super) fn push(&mut self, event: Event<T>) {
        self.0.push_back(event);
    }

    /// Ends a command that the broker has not acknowledged: its token goes back to the caller.
    pub(super) fn resolve(&mut self, token: T, outcome: Outcome) {
        self.end(token, outcome, false);
    }

    /// Ends a command that the broker has acknowledged.
    pub(super) fn answer(&mut self, token: T, outcome: Outcome) {
        self.end(token, outcome, true);
    }

    /// This is the only place where a token goes back.
    fn end(&mut self, token: T, outcome: Outcome, answered: bool) {
        self.push(Event::Resolved {
            token,
            outcome,
            answered,
        });
    }

    pub(super) fn poll(&mut self) -> Option<Event<T>> {
        self.0.pop_front()
    }

    /// The link is gone. The caller would take events about it for events about the next link.
    pub(super) fn handle_link_lost(&mut self) {
        self.0
            .retain(|event| !matches!(event, Event::Connected { .. } | Event::Close(_)));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// For people: the command that was sent first of those that are unanswered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstUnanswered {
    /// Its packet, and its topic or filters.
    pub name: String,
    /// How many are unanswered.
    pub count: usize,
    /// Whether a QoS 2 message is among them, and the broker has never answered one.
    pub lacks_qos2: bool,
}

/// The side that ended a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkEnd {
    /// The broker closed or reset it.
    ByBroker,
    /// We did, or the network.
    Otherwise,
}

/// Why a link is given up, or went away by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LinkLoss {
    /// The broker closed it.
    PeerClosed,
    /// The broker reset it, or TLS broke.
    Reset(String),
    /// The network gave it up.
    Network(String),
    /// Nothing came back after PINGREQ, or everything but its answer for too long.
    KeepAliveExpired,
    /// The packet under this identifier was not acknowledged in time: the broker answered a later PINGREQ first, or
    /// sent nothing at all.
    AckTimeout(PacketId),
    /// The link took next to nothing of what waits for it in the time that an acknowledgment may take.
    Stuck,
    /// A thread that had not read its inbox has caught up, and messages that were left with the broker
    /// meanwhile come only on a new link.
    LeftWithBroker,
    /// The broker sent what it must not send [MQTT-4.8.0-1].
    Protocol(ProtocolError),
    /// The broker closed it with DISCONNECT of MQTT 5, and said why.
    Disconnected(Box<BrokerDisconnect>),
}

impl LinkLoss {
    /// The side that ended the link.
    pub fn end(&self) -> LinkEnd {
        match self {
            LinkLoss::PeerClosed | LinkLoss::Reset(_) => LinkEnd::ByBroker,
            LinkLoss::Disconnected(said) if !has_other_cause(said.code) => LinkEnd::ByBroker,
            _ => LinkEnd::Otherwise,
        }
    }
}

/// Whether DISCONNECT with this code has a cause other than a command of ours: the broker is busy, shut down or
/// administered, another client took the session over, or another server is to be used [MQTT 5, 3.14.2.1].
fn has_other_cause(code: ReasonCode) -> bool {
    matches!(
        code.value(),
        0x89 | 0x8b | 0x8d | 0x8e | 0x98 | 0x9c | 0x9d | 0x9f | 0xa0
    )
}

impl fmt::Display for LinkLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkLoss::PeerClosed => f.write_str("the broker closed the connection"),
            LinkLoss::Reset(problem) | LinkLoss::Network(problem) => {
                write!(f, "the connection broke: {problem}")
            }
            LinkLoss::KeepAliveExpired => f.write_str("the broker did not answer a PINGREQ"),
            LinkLoss::AckTimeout(id) => write!(
                f,
                "an acknowledgment did not come in time (packet identifier {id})"
            ),
            LinkLoss::Stuck => f.write_str(
                "less than 1 KiB could be sent in the time that an acknowledgment may take",
            ),
            LinkLoss::LeftWithBroker => f.write_str(
                "a thread reads its inbox again, and the broker is to send what was left with it",
            ),
            LinkLoss::Protocol(error) => write!(f, "the broker broke the protocol: {error}"),
            LinkLoss::Disconnected(said) => {
                write!(f, "the broker closed the connection with DISCONNECT {said}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_link_takes_its_own_events_with_it_and_no_others() {
        let mut events = Events::default();
        events.push(Event::Connected {
            session_present: true,
            resubscribing: 0,
        });
        events.resolve(7, Outcome::delivered(1, Duration::ZERO));
        events.push(Event::Close(LinkLoss::PeerClosed));
        events.handle_link_lost();
        assert_eq!(events.len(), 1);
        assert!(matches!(
            events.poll(),
            Some(Event::Resolved { token: 7, .. })
        ));
        assert!(events.poll().is_none());
    }
}
