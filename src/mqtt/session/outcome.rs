//! How a command ended, and why it was not delivered. Pure data; made on the loop's thread, read on any.

use std::fmt;
use std::time::Duration;

use crate::mqtt::packet::{Answer, BrokerLimit, QoS};

/// How a command ended. Each variant says what is known about the broker's side.
///
/// An outcome that nobody looks at is a warning of the compiler:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use mqtt_connection_sharing::Ticket;
/// # fn wait(ticket: Ticket) {
/// ticket.wait();
/// # }
/// ```
///
/// For callers to whom only "delivered" is good news:
///
/// ```
/// #![deny(unused_must_use)]
/// # use mqtt_connection_sharing::{Handle, Publish, QoS};
/// # fn publish(handle: &Handle) -> Result<(), Box<dyn std::error::Error>> {
/// let message = Publish::new("rooms/1/light", QoS::AtLeastOnce, "on");
/// handle.publish(message)?.wait().into_result()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "only the outcome says whether the command was done; see `Outcome::into_result`"]
#[non_exhaustive]
pub enum Outcome {
    /// The broker acknowledged it. A command without an acknowledgment was done: a QoS 0 PUBLISH was handed
    /// to the link, DISCONNECT closed it, RECONNECT brought it up.
    Delivered {
        /// How often it was sent; 1 when nothing went wrong.
        attempts: u32,
        /// From the moment the loop took it to the acknowledgment.
        latency: Duration,
        /// SUBSCRIBE only: the granted quality of service, filter by filter.
        granted: Vec<QoS>,
        /// MQTT 5 only: the broker's words, if it said more than yes.
        answer: Option<Box<Answer>>,
    },
    /// Nothing of it went out: it is safe to do it again.
    NeverSent(Reason),
    /// It was sent and the acknowledgment never came: the broker may or may not have it.
    PerhapsDelivered(Reason),
    /// The broker answered no.
    Refused {
        /// SUBSCRIBE: the granted quality of service, filter by filter, `None` where refused. Granted filters stay.
        granted: Vec<Option<QoS>>,
        /// MQTT 5 only: why.
        answer: Option<Box<Answer>>,
    },
    /// The loop ended, or was told to, before anything of it went out.
    Cancelled(Reason),
}

/// Why an outcome is not "delivered".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The link went down.
    LinkLost,
    /// The broker no longer had the session that it belonged to.
    SessionLost,
    /// TERMINATE came first, or its grace time ran out.
    Terminated,
    /// The loop ended without a word (it panicked, or was dropped).
    LoopEnded,
    /// More filters than `max_subscriptions`.
    SubscriptionLimit,
    /// Its inbox was dropped before it could be subscribed.
    InboxClosed,
    /// The connection could not be made.
    NoConnection,
    /// Nothing is known of its end: it was waited for on the thread of a loop, which must not wait, while that
    /// thread was unwinding from a panic.
    OnLoopThread,
    /// The broker answered a QoS 2 message with PUBACK, as for QoS 1. Use QoS 1 with this broker.
    AnsweredAsQos1,
    /// It was unanswered on three links that were closed or reset, or on which its own acknowledgment was late, and then
    /// on five that were closed or reset soon after it was sent alone. So it is not sent again. Links that ended in
    /// another way stand between them and do not count.
    Parked,
    /// It was unanswered on three links that were closed or reset, or on which its own acknowledgment was late. On a
    /// later one it stood alone for the acknowledgment time-out, and then the broker answered another command. Or, with
    /// MQTT 5, it stood so on five links, each time with as many messages as the broker takes, so that no other message
    /// could be sent. So it is not sent again.
    Unanswered,
    /// Its expiry passed before it was sent ([`MessageProperties::expiry`]). MQTT 5 only.
    ///
    /// [`MessageProperties::expiry`]: crate::mqtt::packet::MessageProperties::expiry
    Expired,
    /// The client identifier that the broker has chosen makes no topic for responses
    /// ([`Version5::response_prefix`](crate::options::Version5::response_prefix)). MQTT 5 only.
    NoResponseTopic,
    /// It exceeds a limit that the broker stated when the connection was made. MQTT 5 only.
    BrokerLimit(BrokerLimit),
}

impl Outcome {
    /// Delivered without an acknowledgment that grants anything.
    pub(crate) fn delivered(attempts: u32, latency: Duration) -> Self {
        Outcome::Delivered {
            attempts,
            latency,
            granted: Vec::new(),
            answer: None,
        }
    }

    /// The broker's words on it: with MQTT 5, of a command that was refused, or that was done and more was said of it.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Outcome::Delivered { answer, .. } | Outcome::Refused { answer, .. } => {
                answer.as_deref()
            }
            _ => None,
        }
    }

    /// Whether it was acknowledged.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Outcome::Delivered { .. })
    }

    /// Makes an error of every outcome but [`Outcome::Delivered`], for callers to whom only that is good news.
    ///
    /// # Errors
    /// The outcome itself, as a [`NotDelivered`].
    pub fn into_result(self) -> Result<(), NotDelivered> {
        match self {
            Outcome::Delivered { .. } => Ok(()),
            outcome => Err(NotDelivered { outcome }),
        }
    }
}

/// A command was not delivered: the error of [`Outcome::into_result`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NotDelivered {
    outcome: Outcome,
}

impl NotDelivered {
    /// How the command ended.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

impl fmt::Display for NotDelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the command was not delivered: {}", self.outcome)
    }
}

impl std::error::Error for NotDelivered {}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Delivered {
                attempts, latency, ..
            } => match attempts {
                0 => write!(f, "delivered, nothing had to be sent"),
                1 => write!(f, "delivered after {latency:?}"),
                _ => write!(f, "delivered after {latency:?}, sent {attempts} times"),
            },
            Outcome::NeverSent(reason) => write!(f, "never sent: {reason}"),
            Outcome::PerhapsDelivered(reason) => write!(f, "perhaps delivered: {reason}"),
            Outcome::Refused { granted, answer } => {
                f.write_str("refused by the broker")?;
                if !granted.is_empty() {
                    let refused = granted.iter().filter(|g| g.is_none()).count();
                    write!(f, " ({refused} of {} filters)", granted.len())?;
                }
                match answer {
                    Some(answer) => write!(f, ", {answer}"),
                    None => Ok(()),
                }
            }
            Outcome::Cancelled(reason) => write!(f, "cancelled: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::BrokerLimit(limit) => return limit.fmt(f),
            Reason::NoResponseTopic => "the client identifier makes no topic for responses",
            Reason::Expired => "it expired before it could be sent",
            Reason::LinkLost => "the link was lost",
            Reason::SessionLost => "the broker lost the session",
            Reason::Terminated => "the loop was told to end",
            Reason::LoopEnded => "the loop ended",
            Reason::SubscriptionLimit => "the limit of subscriptions is reached",
            Reason::InboxClosed => "its inbox is gone",
            Reason::NoConnection => "there is no connection",
            Reason::OnLoopThread => "a loop's own thread cannot wait for its end",
            Reason::AnsweredAsQos1 => {
                "the broker answered QoS 2 with PUBACK, as for QoS 1; use `qos` 1 with it"
            }
            Reason::Parked => {
                "connections ended again and again while it was unanswered, also where it was sent alone"
            }
            Reason::Unanswered => "the broker answers other packets, and did not answer this one",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_delivered_command_is_no_error() {
        assert_eq!(Outcome::delivered(1, Duration::ZERO).into_result(), Ok(()));
        for (outcome, text) in [
            (
                Outcome::NeverSent(Reason::LinkLost),
                "the command was not delivered: never sent: the link was lost",
            ),
            (
                Outcome::Refused {
                    granted: vec![None, Some(QoS::AtMostOnce)],
                    answer: None,
                },
                "the command was not delivered: refused by the broker (1 of 2 filters)",
            ),
        ] {
            let error = outcome.clone().into_result().unwrap_err();
            assert_eq!(error.outcome(), &outcome);
            assert_eq!(error.to_string(), text);
        }
    }
}
