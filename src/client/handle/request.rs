//! \[1\] A request: PUBLISH, and the response to it [MQTT 5, 4.10]. Any thread.
//!
//! The thread checks it and queues it with the end that waits (`response.rs`). The loop adds the topic for the response and
//! the correlation data, because a broker may choose the client identifier only when it accepts the connection.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Handle;
use crate::client::command::{Asking, RUNNING_LOOP, RejectReason, Rejected, Request};
use crate::client::push::Pushing;
use crate::client::response::{NoResponse, PendingResponse};
use crate::client::ticket::Completion;
use crate::error::{Blame, Error};
use crate::mqtt::packet::{Message, Protocol, Publish};
use crate::mqtt::session::Reason;
use crate::mqtt::topic::check_topic;
use crate::options::Options;

/// Why [`Handle::request`] gives no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// The request was not queued, and is handed back. Boxed, because a message is large.
    Rejected(Box<Rejected<Publish>>),
    /// It was queued, and there is no response.
    NoResponse(NoResponse),
}

impl Handle {
    /// Publishes a request and waits for its response, at most this long. MQTT 5 only.
    ///
    /// The loop sets the request's response topic, `PREFIX/CLIENT-ID/response`, and its correlation data, a number of its
    /// own; they replace those of `publish`. It subscribes to `PREFIX/CLIENT-ID/#` before the first request, and keeps that
    /// subscription (to that topic alone at a broker that takes no wildcards); [`Version5::response_prefix`](crate::options::Version5::response_prefix) is the prefix. The side that
    /// answers publishes to the response topic and hands the correlation data back ([`Message::response`] does both). Any number of threads
    /// may have any number of requests under way; each response goes to its own.
    ///
    /// A request without an expiry of its own expires at the broker with its time, in whole seconds. So its time may be no
    /// longer than the broker lets a message live: 7 days with AWS IoT Core. With QoS 0 a refusal
    /// looks like no response in time, so QoS 1 is the better choice.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use mqtt_connection_sharing::{Handle, Publish, QoS, RequestError};
    /// # fn f(handle: &Handle) -> Result<(), RequestError> {
    /// let request = Publish::new("square", QoS::AtLeastOnce, "7");
    /// let response = handle.request(request, Duration::from_secs(5))?;
    /// println!("{:?}", response.payload());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError::Rejected`] as [`Handle::start_request`]; [`RequestError::NoResponse`] says what is known of a request
    /// that was queued.
    ///
    /// # Panics
    /// On the thread of a loop, as [`Ticket::wait`](crate::Ticket::wait) does.
    #[track_caller]
    pub fn request(
        &self,
        publish: Publish,
        timeout: Duration,
    ) -> Result<Arc<Message>, RequestError> {
        Ok(self.start_request(publish, timeout)?.wait()?)
    }

    /// As [`Handle::request`], but returns once the request is queued. The time counts from this call. Room in the queue is
    /// waited for at most as long, and no longer than the block time.
    ///
    /// # Errors
    /// The request is handed back as by [`Handle::publish`], and with [`RejectReason::NeedsVersion5`] where
    /// [`Options::protocol`](crate::options::Options::protocol) is MQTT 3.1.1. [`RejectReason::Invalid`] or
    /// [`RejectReason::Limit`] name the response topic or its filter where the client identifier makes none that MQTT and
    /// [`Options::limits`](crate::options::Options::limits) allow.
    pub fn start_request(
        &self,
        publish: Publish,
        timeout: Duration,
    ) -> Result<PendingResponse, Rejected<Publish>> {
        let (request, completion, pending) = self.make_request(publish, timeout);
        let request = match request {
            Ok(request) => request,
            Err(rejected) => {
                completion.withdraw();
                return Err(rejected);
            }
        };
        self.queue(request, completion, self.block_time.min(timeout))
            .map_err(|rejected| rejected.map(Request::into_publish))?;
        Ok(pending)
    }

    /// As [`Handle::start_request`], for a task of any executor: a future that waits for room in the queue, and then gives
    /// the [`PendingResponse`], which is a future of its own. The time counts from this call.
    ///
    /// The loop takes nothing from the queue while there is no connection, and does not end a request there: a task that
    /// must not wait for the connection has its executor end the wait.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use mqtt_connection_sharing::{Handle, Publish, QoS, RequestError};
    /// # async fn f(handle: Handle) -> Result<(), RequestError> {
    /// let request = Publish::new("square", QoS::AtLeastOnce, "7");
    /// let response = handle.request_async(request, Duration::from_secs(5)).await?.await?;
    /// println!("{:?}", response.payload());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Handle::start_request`].
    pub fn request_async(
        &self,
        publish: Publish,
        timeout: Duration,
    ) -> Pushing<'_, Publish, PendingResponse> {
        let (request, completion, pending) = self.make_request(publish, timeout);
        let take_back = Request::into_publish;
        Pushing::with(&self.commands, request, take_back, completion, pending)
            .recorded(self.recorder.as_ref())
    }

    /// The command of a request, unless it breaks a rule, its end for the loop, and its end for the thread.
    fn make_request(
        &self,
        publish: Publish,
        timeout: Duration,
    ) -> (
        Result<Request, Rejected<Publish>>,
        Completion,
        PendingResponse,
    ) {
        let now = Instant::now();
        let deadline = now.checked_add(timeout).unwrap_or_else(|| now + FAR_AWAY);
        let (pending, state) = PendingResponse::new(deadline);
        let completion = Completion::callback({
            let state = Arc::clone(&state);
            move |outcome| state.published(outcome)
        });
        let request = match self.check_request(&publish, timeout) {
            Ok(()) => Ok(Request::Ask(Box::new(Asking {
                publish,
                state,
                pushed: now,
                deadline,
            }))),
            Err(reason) => Err(Rejected {
                command: publish,
                reason,
            }),
        };
        (request, completion, pending)
    }

    fn check_request(&self, publish: &Publish, timeout: Duration) -> Result<(), RejectReason> {
        let topic = match &*self.response_topic {
            Ok(topic) => topic.clone(),
            Err(reason) => return Err(reason.clone()),
        };
        // As large as the loop makes it, and with the longest expiry that the loop may give it.
        let correlation = vec![0; Asking::CORRELATION].into();
        let seconds = timeout.as_millis().div_ceil(1000).max(1);
        let expiry = u32::try_from(seconds).unwrap_or(u32::MAX);
        self.check_publish(&publish.clone().into_request(topic, correlation, expiry))
    }
}

/// A longer time is cut: the clock cannot tell every time.
const FAR_AWAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The topic for responses, or why this client can make no requests. It is not the last word where the broker chooses the
/// client identifier.
pub(super) fn response_topic(options: &Options) -> Result<String, RejectReason> {
    if options.protocol != Protocol::V5 {
        return Err(RejectReason::NeedsVersion5);
    }
    let (topic, filter) = options.version5.response_names(&options.client_id);
    let checked = check_topic(&topic);
    checked.map_err(|problem| RejectReason::Invalid {
        name: topic.clone(),
        problem,
    })?;
    let checked = options.limits.check_filter(&filter);
    checked.map_err(|exceeded| RejectReason::Limit {
        name: filter.filter,
        exceeded,
    })?;
    Ok(topic)
}

impl From<Rejected<Publish>> for RequestError {
    fn from(rejected: Rejected<Publish>) -> Self {
        RequestError::Rejected(Box::new(rejected))
    }
}

impl From<NoResponse> for RequestError {
    fn from(no_response: NoResponse) -> Self {
        RequestError::NoResponse(no_response)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Rejected(rejected) => rejected.fmt(f),
            RequestError::NoResponse(no_response) => no_response.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<RequestError> for Error {
    /// For callers that only want to report it; a request that was handed back is lost.
    fn from(error: RequestError) -> Error {
        let no_response = match error {
            RequestError::Rejected(rejected) => return (*rejected).into(),
            RequestError::NoResponse(no_response) => no_response,
        };
        let (blame, advice) = match &no_response {
            NoResponse::Refused(_) | NoResponse::NotSubscribed(_) => (
                Blame::Refused,
                "have the broker allow the topic of the request and that of its response",
            ),
            NoResponse::NoSubscribers(_) => (
                Blame::Misuse,
                "start the program that answers, or change the topic",
            ),
            NoResponse::NeverSent(Reason::BrokerLimit(_)) => (
                Blame::Misuse,
                "change the request, or have the broker allow it",
            ),
            NoResponse::NeverSent(Reason::NoResponseTopic) => (
                Blame::Configuration,
                "give a client identifier without wildcards",
            ),
            NoResponse::NeverSent(Reason::SubscriptionLimit) => {
                (Blame::Configuration, "allow more subscriptions")
            }
            // A request ends with these only where the loop does.
            NoResponse::NeverSent(
                Reason::Terminated | Reason::LoopEnded | Reason::NoConnection,
            )
            | NoResponse::PerhapsDelivered(
                Reason::Terminated | Reason::LoopEnded | Reason::NoConnection,
            ) => (Blame::Misuse, RUNNING_LOOP),
            NoResponse::PerhapsDelivered(Reason::AnsweredAsQos1) => {
                (Blame::Broker, "make the request with QoS 1")
            }
            NoResponse::PerhapsDelivered(Reason::Parked | Reason::Unanswered) => (
                Blame::Network,
                "compare its topic and its size with what the broker allows",
            ),
            NoResponse::NotRenewed | NoResponse::TimedOut | NoResponse::PerhapsDelivered(_) => (
                Blame::Network,
                "try again if the request may be carried out twice",
            ),
            _ => (Blame::Network, "try again"),
        };
        Error::new(blame, "making a request", no_response.to_string(), advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::BrokerLimit;

    #[test]
    fn only_a_request_that_another_attempt_may_help_is_to_be_tried_again() {
        let told = |no_response| {
            let error = Error::from(RequestError::NoResponse(no_response));
            (error.blame(), error.advice().to_owned())
        };
        for (reason, blame, advice) in [
            (Reason::Expired, Blame::Network, "try again"),
            (Reason::LinkLost, Blame::Network, "try again"),
            (
                Reason::BrokerLimit(BrokerLimit::MaximumQos),
                Blame::Misuse,
                "change the request, or have the broker allow it",
            ),
            (
                Reason::NoResponseTopic,
                Blame::Configuration,
                "give a client identifier without wildcards",
            ),
            (
                Reason::SubscriptionLimit,
                Blame::Configuration,
                "allow more subscriptions",
            ),
            (Reason::Terminated, Blame::Misuse, RUNNING_LOOP),
            (Reason::NoConnection, Blame::Misuse, RUNNING_LOOP),
        ] {
            let no_response = NoResponse::NeverSent(reason);
            assert_eq!(told(no_response), (blame, advice.to_owned()), "{reason}");
        }
        let twice = "try again if the request may be carried out twice";
        let compare = "compare its topic and its size with what the broker allows";
        for (reason, blame, advice) in [
            (Reason::LinkLost, Blame::Network, twice),
            (Reason::SessionLost, Blame::Network, twice),
            (Reason::Terminated, Blame::Misuse, RUNNING_LOOP),
            (Reason::LoopEnded, Blame::Misuse, RUNNING_LOOP),
            (Reason::NoConnection, Blame::Misuse, RUNNING_LOOP),
            (
                Reason::AnsweredAsQos1,
                Blame::Broker,
                "make the request with QoS 1",
            ),
            (Reason::Parked, Blame::Network, compare),
            (Reason::Unanswered, Blame::Network, compare),
        ] {
            let no_response = NoResponse::PerhapsDelivered(reason);
            assert_eq!(told(no_response), (blame, advice.to_owned()), "{reason}");
        }
    }
}
