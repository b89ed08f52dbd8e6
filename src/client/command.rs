//! \[2\] The commands that threads queue for the loop, and why one was not queued.
//!
//! A [`Command`] owns all of its data: the thread that pushed it may time out, go away or panic
//! without anything dangling. Every command ends in exactly one [`Outcome`](crate::Outcome), told through its
//! completion (`ticket.rs`). A thread gets a command that was not queued back whole in a
//! [`Rejected`]. Pure data; made on any thread, consumed on the loop's.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::outlet::InboxId;
use crate::client::recording::{PacketKind, Recorder, What};
use crate::client::request_mark::RequestMark;
use crate::client::response::ResponseState;
use crate::client::ticket::Completion;
use crate::error::{Blame, Error};
use crate::mqtt::limits::LimitExceeded;
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{Filter, Publish, QoS};
use crate::mqtt::topic::{InvalidName, shortened};

/// Characters of a topic or filter that a refusal shows.
const SHOWN_CHARACTERS: usize = 100;

/// One command and the way to tell how it ended.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) completion: Completion,
}

/// The commands that wait in the queue. The other four go ahead of it: DISCONNECT, RECONNECT, TERMINATE
/// and PROCESSLOOP (`lane.rs`).
#[derive(Debug)]
pub(crate) enum Request {
    Publish(Outgoing),
    /// PUBLISH that awaits a response.
    Ask(Box<Asking>),
    Subscribe {
        /// The number under which the lane announced it.
        number: u64,
        inbox: InboxId,
        filters: Vec<Filter>,
        mark: RequestMark,
    },
    Unsubscribe {
        inbox: InboxId,
        filters: Vec<String>,
        mark: RequestMark,
    },
    Ping(RequestMark),
}

/// A message that awaits a response. The loop adds where the response is to come.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) publish: Publish,
    pub(crate) state: Arc<ResponseState>,
    /// When the thread made it: an expiry of its own counts from here.
    pub(crate) pushed: Instant,
    /// There must be a response by then.
    pub(crate) deadline: Instant,
}

impl Asking {
    /// Bytes of its correlation data.
    pub(crate) const CORRELATION: usize = 16;
}

/// A command that was not queued, with what it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected<T> {
    /// The command, handed back unchanged.
    pub command: T,
    /// Why it was not queued.
    pub reason: RejectReason,
}

/// Why a command was not queued.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectReason {
    /// There was no room in the queue for as long as the caller may be made to wait (zero on the thread of a
    /// loop, which must never wait for itself).
    QueueFull {
        /// How long the caller waited.
        waited: Duration,
    },
    /// Something in it cannot be sent; which part, and the rule.
    Invalid {
        /// The offending topic or filter, or the name of the property of MQTT 5: a field of
        /// [`MessageProperties`](crate::MessageProperties).
        name: String,
        /// The rule that it breaks.
        problem: InvalidName,
    },
    /// The broker does not allow it: see [`Options::limits`](crate::options::Options::limits).
    Limit {
        /// The topic, or the filter if there is a single one to name.
        name: String,
        /// The limit and what exceeds it.
        exceeded: LimitExceeded,
    },
    /// SUBSCRIBE or UNSUBSCRIBE without a filter [MQTT-3.8.3-3] [MQTT-3.10.3-2].
    NoFilter,
    /// SUBSCRIBE of an inbox that accepts by hand, and the broker is asked to forget the session with the connection:
    /// [`Options::clean_session`](crate::options::Options::clean_session), or
    /// [`Client::open_clean`](crate::Client::open_clean). It would forget the messages that are not done.
    CleanSession,
    /// A request, and the connection speaks MQTT 3.1.1, which has neither response topics nor correlation data: see
    /// [`Options::protocol`](crate::options::Options::protocol).
    NeedsVersion5,
    /// The loop has ended.
    Terminated,
}

impl Request {
    /// It is about to be pushed. Marks it, unless it is a PUBLISH.
    pub(crate) fn mark(&mut self, new_mark: impl FnOnce() -> RequestMark) {
        match self {
            Request::Publish(_) | Request::Ask(_) => {}
            Request::Subscribe { mark, .. }
            | Request::Unsubscribe { mark, .. }
            | Request::Ping(mark) => *mark = new_mark(),
        }
    }

    /// The message of a PUBLISH that comes back.
    pub(crate) fn into_publish(self) -> Publish {
        match self {
            Request::Publish(message) => message.into(),
            Request::Ask(asking) => asking.publish,
            _ => Publish::new(String::new(), QoS::AtMostOnce, Vec::new()),
        }
    }

    /// The packet, and the bytes of its topic and payload, or of its filters.
    fn recorded(&self) -> (PacketKind, Option<QoS>, usize) {
        match self {
            Request::Publish(message) => (PacketKind::Publish, Some(message.qos()), message.size()),
            Request::Ask(asking) => {
                let publish = &asking.publish;
                let bytes = publish.topic().len() + publish.payload().len();
                (PacketKind::Publish, Some(publish.qos()), bytes)
            }
            Request::Subscribe { filters, .. } => {
                let bytes = filters.iter().map(|one| one.filter.len()).sum();
                (PacketKind::Subscribe, None, bytes)
            }
            Request::Unsubscribe { filters, .. } => {
                let bytes = filters.iter().map(String::len).sum();
                (PacketKind::Unsubscribe, None, bytes)
            }
            Request::Ping(_) => (PacketKind::PingReq, None, 0),
        }
    }

    /// The filters of a SUBSCRIBE that comes back.
    pub(crate) fn into_filters(self) -> Vec<Filter> {
        match self {
            Request::Subscribe { filters, .. } => filters,
            _ => Vec::new(),
        }
    }

    /// The filters of an UNSUBSCRIBE that comes back.
    pub(crate) fn into_names(self) -> Vec<String> {
        match self {
            Request::Unsubscribe { filters, .. } => filters,
            _ => Vec::new(),
        }
    }
}

impl Command {
    /// A thread is about to push the command.
    pub(crate) fn record_push(&mut self, recorder: &Recorder) {
        let Some(mark) = recorder.number_command() else {
            return;
        };
        let (packet, qos, bytes) = self.request.recorded();
        recorder.on_thread(What::Pushed {
            command: mark.command().into(),
            packet,
            qos,
            bytes: bytes as u64,
        });
        self.completion.record(mark);
    }

    /// The thread gets it back, after [`Command::record_push`].
    pub(crate) fn record_hand_back(&self, recorder: &Recorder) {
        // A task that gave up before it asked has pushed nothing.
        if let command @ 1.. = self.completion.recorded().into() {
            recorder.on_thread(What::HandedBack { command });
        }
    }

    /// For a command that was not queued: tells nothing.
    pub(crate) fn into_rejected(self, reason: RejectReason) -> Box<Rejected<Request>> {
        self.completion.withdraw();
        Box::new(Rejected {
            command: self.request,
            reason,
        })
    }
}

impl<T> Rejected<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Rejected<U> {
        Rejected {
            command: f(self.command),
            reason: self.reason,
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RejectReason::QueueFull { waited } => {
                write!(f, "the command queue stayed full for {waited:?}")
            }
            RejectReason::Invalid { name, problem } => {
                write!(f, "{}: {problem}", shortened(name, SHOWN_CHARACTERS))
            }
            RejectReason::Limit { name, exceeded } => {
                write!(f, "{}: {exceeded}", shortened(name, SHOWN_CHARACTERS))
            }
            RejectReason::NoFilter => f.write_str("it has no filter, and needs at least one"),
            RejectReason::CleanSession => f.write_str(
                "an inbox that accepts by hand needs a session that the broker keeps, and this one is clean",
            ),
            RejectReason::NeedsVersion5 => {
                f.write_str("a request needs MQTT 5, and this connection speaks MQTT 3.1.1")
            }
            RejectReason::Terminated => f.write_str("the loop has ended"),
        }
    }
}

impl<T> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command was not accepted: {}", self.reason)
    }
}

impl<T: fmt::Debug> std::error::Error for Rejected<T> {}

/// The advice where the loop has ended, or is about to.
pub(super) const RUNNING_LOOP: &str = "see why the loop has ended, and open another one";

impl<T> From<Rejected<T>> for Error {
    /// For callers that only want to report it; the command itself is lost.
    fn from(rejected: Rejected<T>) -> Error {
        let (blame, advice) = match &rejected.reason {
            RejectReason::QueueFull { .. } => (
                Blame::Network,
                "wait until the broker takes more, or allow a longer block time",
            ),
            RejectReason::Invalid { .. }
            | RejectReason::Limit { .. }
            | RejectReason::NoFilter
            | RejectReason::CleanSession
            | RejectReason::NeedsVersion5 => (Blame::Misuse, "correct the call"),
            RejectReason::Terminated => (Blame::Misuse, RUNNING_LOOP),
        };
        let problem = rejected.reason.to_string();
        Error::new(blame, "pushing a command", problem, advice)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_command_fills_two_cache_lines_of_the_queue_and_no_more() {
        let stamp = size_of::<usize>();
        assert_eq!(size_of::<super::Command>() + stamp, 128);
    }
}
