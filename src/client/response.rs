//! \[2\] The end of a request that a thread or a task holds: it waits for the response [MQTT 5, 4.10].
//!
//! The loop ends a request once, by the first of these: the response, the end of its PUBLISH that rules a response out, or
//! the end of its time. A thread that waits looks at the clock itself, because the loop takes no command while there is no
//! connection. Any thread holds it; the loop's thread tells (`responses.rs`).

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::client::ends::Ends;
use crate::mqtt::packet::{Answer, Message, ReasonCode};
use crate::mqtt::session::{Outcome, Reason};

/// The message waits in the queue.
const QUEUED: u8 = 0;
/// The loop has taken it to send it. It may wait there for the broker to take more.
const TAKEN: u8 = 1;
/// The thread gave up before: the loop is not to send it.
const GIVEN_UP: u8 = 2;

/// A request under way: see [`Handle::start_request`](crate::Handle::start_request).
///
/// It can be waited on, waited on again after a time-out, moved to another thread, or dropped: the request goes on all the
/// same, and its response then counts in [`Stats::late_responses`](crate::Stats::late_responses). It is also a future of
/// what [`PendingResponse::wait`] returns, for any executor.
#[must_use = "without it nobody learns of the response"]
pub struct PendingResponse {
    state: Arc<ResponseState>,
    deadline: Instant,
}

/// The state that both ends share.
#[derive(Default)]
pub(crate) struct ResponseState {
    end: OnceLock<Result<Arc<Message>, NoResponse>>,
    /// Counts the one end.
    ends: Ends,
    stage: AtomicU8,
}

/// Why a request has no response.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoResponse {
    /// Nothing of the request went out: it is safe to repeat it. [`Reason::Expired`]: its time was over before the loop took
    /// it, as where there was no connection, or before the message could be sent.
    NeverSent(Reason),
    /// The broker refused the request's message, and says why: a reason code of 0x80 and above in PUBACK or PUBREC
    /// [MQTT 5, 3.4.2.1]. With QoS 0 no broker can say so.
    Refused(Box<Answer>),
    /// The broker took the request's message and says that nobody has subscribed to its topic: reason code 0x10. A broker
    /// need not say so, and with QoS 0 none can.
    NoSubscribers(Box<Answer>),
    /// The broker did not grant the filter on which responses come, and this is the end of its SUBSCRIBE. The request
    /// itself may have been answered.
    NotSubscribed(Box<Outcome>),
    /// After a reconnect the subscription on which responses come was not renewed: the broker refused it, or allows no such
    /// filter on this connection, or gave no answer. The request itself may have been answered. The next request subscribes
    /// again.
    NotRenewed,
    /// No response came in time. The request was perhaps sent. It may also wait for the broker to take more messages: then
    /// it still goes out, until it expires.
    TimedOut,
    /// The request was sent, or perhaps sent, and no response can be told any more, for this reason.
    PerhapsDelivered(Reason),
}

impl ResponseState {
    /// The loop is about to send the request. Returns `false` if the thread gave up before.
    pub(crate) fn take(&self) -> bool {
        self.leave_queue(TAKEN)
    }

    /// The request has ended, unless it had before. Returns whether this is its end.
    pub(crate) fn end(&self, end: Result<Arc<Message>, NoResponse>) -> bool {
        let is_first = self.end.set(end).is_ok();
        if is_first {
            self.ends.add(1);
        }
        is_first
    }

    /// The PUBLISH of the request has ended like this.
    pub(crate) fn published(&self, outcome: Outcome) {
        let no_response = match outcome {
            Outcome::Delivered { answer, .. } => match answer {
                Some(answer) if answer.code == ReasonCode::NO_MATCHING_SUBSCRIBERS => {
                    NoResponse::NoSubscribers(answer)
                }
                // The response may come, or has come already.
                _ => return,
            },
            Outcome::Refused { answer, .. } => NoResponse::Refused(answer.unwrap_or_default()),
            Outcome::NeverSent(reason) | Outcome::Cancelled(reason) => {
                NoResponse::NeverSent(reason)
            }
            Outcome::PerhapsDelivered(reason) => NoResponse::PerhapsDelivered(reason),
        };
        self.end(Err(no_response));
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    fn leave_queue(&self, stage: u8) -> bool {
        let order = Ordering::AcqRel;
        let left = self
            .stage
            .compare_exchange(QUEUED, stage, order, Ordering::Acquire);
        left.is_ok()
    }
}

impl PendingResponse {
    /// A request that has to end by then, and the loop's end of it.
    pub(crate) fn new(deadline: Instant) -> (PendingResponse, Arc<ResponseState>) {
        let state = Arc::<ResponseState>::default();
        let loops_end = Arc::clone(&state);
        (PendingResponse { state, deadline }, loops_end)
    }

    /// Waits for the response, until the request's time is over.
    ///
    /// # Errors
    /// [`NoResponse`] says why there is none.
    ///
    /// # Panics
    /// On the thread of a loop, as [`Ticket::wait`](crate::Ticket::wait) does.
    #[track_caller]
    pub fn wait(self) -> Result<Arc<Message>, NoResponse> {
        self.state.ends.wait_for(1, Some(self.deadline));
        self.end_in_time()
    }

    /// Waits at most this long. Returns `None` if there is neither a response nor an end by then. Can be called again.
    ///
    /// # Panics
    /// As [`PendingResponse::wait`], unless `timeout` is zero.
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Result<Arc<Message>, NoResponse>> {
        let until = Instant::now().checked_add(timeout);
        let until = until.map_or(self.deadline, |until| until.min(self.deadline));
        self.state.ends.wait_for(1, Some(until));
        match Instant::now() < self.deadline {
            true => self.outcome(),
            false => Some(self.end_in_time()),
        }
    }

    /// The response, or why there is none, if the request has ended. Never waits.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Arc<Message>, NoResponse>> {
        self.state.end.get().cloned()
    }

    /// Ends the request if it has not ended: its time is over.
    fn end_in_time(&self) -> Result<Arc<Message>, NoResponse> {
        if let Some(end) = self.outcome() {
            return end;
        }
        let no_response = match self.state.leave_queue(GIVEN_UP) {
            true => NoResponse::NeverSent(Reason::Expired),
            false => NoResponse::TimedOut,
        };
        // The loop may have been quicker: then its word counts.
        self.state.end(Err(no_response.clone()));
        self.outcome().unwrap_or(Err(no_response))
    }
}

impl Future for PendingResponse {
    type Output = Result<Arc<Message>, NoResponse>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.state.ends.poll(1, context.waker());
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for PendingResponse {
    fn drop(&mut self) {
        self.state.ends.forget_task();
    }
}

impl fmt::Debug for PendingResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingResponse")
            .field(&self.state.end.get())
            .finish()
    }
}

impl fmt::Debug for ResponseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ResponseState")
            .field(&self.end.get())
            .finish()
    }
}

impl fmt::Display for NoResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoResponse::NeverSent(reason) => write!(f, "the request was never sent: {reason}"),
            NoResponse::Refused(answer) => {
                write!(f, "the broker refused the request, {answer}")
            }
            NoResponse::NoSubscribers(_) => {
                f.write_str("nobody has subscribed to the request's topic, 0x10")
            }
            NoResponse::NotSubscribed(outcome) => {
                write!(
                    f,
                    "no response can come, its topic is not subscribed: {outcome}"
                )
            }
            NoResponse::NotRenewed => f.write_str(
                "no response can come, the subscription to its topic was not renewed after a reconnect",
            ),
            NoResponse::TimedOut => f.write_str(
                "no response came in time; the request was perhaps sent, or still will be",
            ),
            NoResponse::PerhapsDelivered(reason) => write!(
                f,
                "the request was perhaps delivered, and no response can be told: {reason}"
            ),
        }
    }
}

impl std::error::Error for NoResponse {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::waiter::tests::{Task, block_on};
    use crate::mqtt::packet::{Details, QoS};

    const HANG: Duration = Duration::from_secs(60);

    fn pending() -> (PendingResponse, Arc<ResponseState>) {
        PendingResponse::new(Instant::now() + HANG)
    }

    fn response() -> Arc<Message> {
        Arc::new(Message::new("r", QoS::AtLeastOnce, "4"))
    }

    #[test]
    fn the_first_end_counts() {
        let (mut pending, state) = pending();
        assert!(state.take());
        assert_eq!(pending.wait_timeout(Duration::ZERO), None);
        // The response overtakes the acknowledgment.
        assert!(state.end(Ok(response())));
        state.published(Outcome::PerhapsDelivered(Reason::LinkLost));
        assert!(!state.end(Err(NoResponse::TimedOut)));
        assert_eq!(pending.outcome(), Some(Ok(response())));
        assert_eq!(pending.wait(), Ok(response()));
    }

    #[test]
    fn an_acknowledged_publish_ends_a_request_only_if_no_response_can_come() {
        let answer = |code| {
            let answer = Answer::new(ReasonCode::new(code), Details::default());
            Some(Box::new(answer))
        };
        let delivered = |code| Outcome::Delivered {
            attempts: 1,
            latency: Duration::ZERO,
            granted: Vec::new(),
            answer: answer(code),
        };
        let refused = |code| Outcome::Refused {
            granted: Vec::new(),
            answer: answer(code),
        };
        for (outcome, end) in [
            (Outcome::delivered(1, HANG), None),
            (delivered(0), None),
            (delivered(0x10), answer(0x10).map(NoResponse::NoSubscribers)),
            (refused(0x87), answer(0x87).map(NoResponse::Refused)),
            (
                Outcome::Cancelled(Reason::Terminated),
                Some(NoResponse::NeverSent(Reason::Terminated)),
            ),
            (
                Outcome::PerhapsDelivered(Reason::SessionLost),
                Some(NoResponse::PerhapsDelivered(Reason::SessionLost)),
            ),
        ] {
            let (pending, state) = pending();
            state.published(outcome);
            assert_eq!(pending.outcome(), end.map(Err));
        }
    }

    #[test]
    fn a_thread_that_waits_ends_it_in_time_and_says_whether_the_loop_had_it() {
        let (pending, state) = PendingResponse::new(Instant::now());
        assert_eq!(pending.wait(), Err(NoResponse::NeverSent(Reason::Expired)));
        assert!(!state.take(), "the loop is not to send it");
        let (mut pending, state) = PendingResponse::new(Instant::now());
        assert!(state.take());
        assert_eq!(pending.wait_timeout(HANG), Some(Err(NoResponse::TimedOut)));
        assert!(!state.end(Ok(response())), "it is late");
    }

    #[test]
    fn a_task_is_woken_by_the_end() {
        let (mut pending, state) = pending();
        let task = Arc::<Task>::default();
        assert!(task.poll(&mut pending).is_pending());
        state.end(Ok(response()));
        assert_eq!(task.woken(), 1);
        assert_eq!(block_on(pending), Ok(response()));
    }
}
