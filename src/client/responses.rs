//! \[9\] The requests that await their response, and the responses that come for them [MQTT 5, 4.10].
//!
//! A request carries a number as its correlation data, and its response brings that back. A response that belongs to no
//! request that waits is counted: a late one, also one that comes a second time, and an unknown one, as for a request of an
//! earlier process. The table belongs to the fan-out. It runs on the loop's thread and never waits; `now` is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::client::response::{NoResponse, ResponseState};
use crate::mqtt::packet::Message;
use crate::mqtt::session::{Outcome, Reason};

/// Requests in the table before the first look at which of them are awaited.
const FORGET_FROM: usize = 64;

/// Requests that were sent, and what became of their responses.
pub(crate) struct Responses {
    /// Begins each correlation: requests of other loops have another one.
    key: u64,
    next: u64,
    open: BTreeMap<u64, Open>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Forgets what has ended, or nobody awaits, once so many are open.
    forget_at: usize,
    /// Whether the filter on which they come is granted, or on its way to be.
    is_subscribed: bool,
    answered: u64,
    late: u64,
    unknown: u64,
}

struct Open {
    state: Arc<ResponseState>,
    deadline: Instant,
}

impl Default for Responses {
    fn default() -> Self {
        Responses {
            // The keys of hash maps are the standard library's random numbers.
            key: RandomState::new().hash_one(()),
            next: 0,
            open: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            forget_at: FORGET_FROM,
            is_subscribed: false,
            answered: 0,
            late: 0,
            unknown: 0,
        }
    }
}

impl Responses {
    /// Whether the filter on which responses come is granted, or its SUBSCRIBE is on its way.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    /// The SUBSCRIBE is on its way.
    pub(crate) fn subscribing(&mut self) {
        self.is_subscribed = true;
    }

    /// The filter is not granted: no response can come. Ends all requests. The next one subscribes again.
    pub(crate) fn not_subscribed(&mut self, outcome: &Outcome) {
        self.is_subscribed = false;
        self.end_all(|| NoResponse::NotSubscribed(Box::new(outcome.clone())));
    }

    /// The filter was granted, and is not granted again after a reconnect: as with [`Responses::not_subscribed`].
    pub(crate) fn not_renewed(&mut self) {
        self.is_subscribed = false;
        self.end_all(|| NoResponse::NotRenewed);
    }

    /// A request is about to be sent. Returns its correlation data.
    pub(crate) fn open(&mut self, state: Arc<ResponseState>, deadline: Instant) -> Bytes {
        if self.open.len() >= self.forget_at {
            self.forget();
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Open { state, deadline });
        self.deadlines.insert((deadline, number));
        let data = [self.key.to_be_bytes(), number.to_be_bytes()].concat();
        Bytes::from(data)
    }

    /// A message has come on the topic of responses.
    pub(crate) fn take(&mut self, message: &Arc<Message>) {
        let received = message.received();
        let data = received.and_then(|it| it.properties.correlation_data.as_ref());
        let number = data.and_then(|data| self.number_of(data));
        let Some(number) = number else {
            self.unknown += 1;
            // Ever more rarely: a broker must not be able to flood the log.
            if self.unknown.is_power_of_two() {
                log::warn!(
                    "a response answers no request of this connection ({} so far)",
                    self.unknown
                );
            }
            return;
        };
        let open = self.open.remove(&number);
        let is_awaited = open.is_some_and(|open| {
            self.deadlines.remove(&(open.deadline, number));
            is_awaited(&open) && open.state.end(Ok(Arc::clone(message)))
        });
        match is_awaited {
            true => self.answered += 1,
            false => self.late += 1,
        }
    }

    /// When [`Responses::handle_timeout`] wants to be called.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends the requests whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, number)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, number));
            if let Some(open) = self.open.remove(&number) {
                open.state.end(Err(NoResponse::TimedOut));
            }
        }
    }

    /// Whether a thread or a task awaits a response.
    pub(crate) fn are_awaited(&self) -> bool {
        self.open.values().any(is_awaited)
    }

    /// The loop ends: no response can come any more.
    pub(crate) fn end(&mut self, reason: Reason) {
        self.end_all(|| NoResponse::PerhapsDelivered(reason));
    }

    /// How many requests were answered, and how many responses were late or unknown.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        (self.answered, self.late, self.unknown)
    }

    fn end_all(&mut self, why: impl Fn() -> NoResponse) {
        self.deadlines.clear();
        for open in std::mem::take(&mut self.open).into_values() {
            open.state.end(Err(why()));
        }
    }

    /// The number of the request that has this correlation data, if this loop has made such a request.
    fn number_of(&self, data: &[u8]) -> Option<u64> {
        let number = data.strip_prefix(&self.key.to_be_bytes())?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        (number < self.next).then_some(number)
    }

    /// Forgets the requests that have ended, or that nobody awaits.
    fn forget(&mut self) {
        let deadlines = &mut self.deadlines;
        self.open.retain(|number, open| {
            let stays = is_awaited(open);
            if !stays {
                deadlines.remove(&(open.deadline, *number));
            }
            stays
        });
        self.forget_at = FORGET_FROM.max(2 * self.open.len());
    }
}

/// Whether somebody may still learn of its response. A PUBLISH that has not ended holds its state, too.
fn is_awaited(open: &Open) -> bool {
    !open.state.has_ended() && Arc::strong_count(&open.state) > 1
}

impl Drop for Responses {
    /// Also when the loop panics.
    fn drop(&mut self) {
        self.end(Reason::LoopEnded);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::response::PendingResponse;
    use crate::mqtt::packet::{MessageProperties, QoS};

    const SECOND: Duration = Duration::from_secs(1);

    fn response(data: Option<Bytes>) -> Arc<Message> {
        let properties = MessageProperties {
            correlation_data: data,
            ..MessageProperties::default()
        };
        Arc::new(Message::new("r", QoS::AtLeastOnce, "4").with_properties(properties))
    }

    fn open(responses: &mut Responses, deadline: Instant) -> (PendingResponse, Bytes) {
        let (pending, state) = PendingResponse::new(deadline);
        assert!(state.take());
        (pending, responses.open(state, deadline))
    }

    #[test]
    fn responses_in_any_order_go_to_their_requests_and_the_rest_is_counted() {
        let mut responses = Responses::default();
        let deadline = Instant::now() + 60 * SECOND;
        let (first, one) = open(&mut responses, deadline);
        let (second, two) = open(&mut responses, deadline);
        for data in [&two, &one, &one] {
            responses.take(&response(Some(data.clone())));
        }
        assert_eq!(first.outcome(), Some(Ok(response(Some(one)))));
        assert_eq!(second.outcome(), Some(Ok(response(Some(two.clone())))));
        assert_eq!(responses.counts(), (2, 1, 0), "one came twice");
        // No correlation, that of another loop, one too long, and one that was never given.
        let other = open(&mut Responses::default(), deadline).1;
        let long = [&two[..], &[0]].concat().into();
        let mut next = two.to_vec();
        next[15] += 1;
        for data in [None, Some(other), Some(long), Some(next.into())] {
            responses.take(&response(data));
        }
        assert_eq!(responses.counts(), (2, 1, 4));
        assert_eq!(responses.next_timer(), None);
    }

    #[test]
    fn each_request_ends_at_its_time_and_its_response_is_late_then() {
        let mut responses = Responses::default();
        let now = Instant::now();
        let (later, _) = open(&mut responses, now + 2 * SECOND);
        let (sooner, data) = open(&mut responses, now + SECOND);
        assert_eq!(responses.next_timer(), Some(now + SECOND));
        responses.handle_timeout(now + SECOND);
        assert_eq!(sooner.outcome(), Some(Err(NoResponse::TimedOut)));
        assert_eq!(later.outcome(), None);
        assert_eq!(responses.next_timer(), Some(now + 2 * SECOND));
        responses.take(&response(Some(data)));
        assert_eq!(responses.counts(), (0, 1, 0));
        drop(responses);
        let ended = NoResponse::PerhapsDelivered(Reason::LoopEnded);
        assert_eq!(later.outcome(), Some(Err(ended)));
    }

    #[test]
    fn requests_that_nobody_awaits_do_not_stay() {
        let mut responses = Responses::default();
        let deadline = Instant::now() + 60 * SECOND;
        for _ in 0..10 * FORGET_FROM {
            drop(open(&mut responses, deadline));
        }
        assert!(responses.open.len() <= FORGET_FROM);
        assert_eq!(responses.open.len(), responses.deadlines.len());
        assert!(!responses.are_awaited());
        let (kept, _) = open(&mut responses, deadline);
        assert!(responses.are_awaited());
        responses.not_subscribed(&Outcome::NeverSent(Reason::SubscriptionLimit));
        assert!(!responses.are_awaited() && !responses.is_subscribed());
        let outcome = Box::new(Outcome::NeverSent(Reason::SubscriptionLimit));
        let ended = NoResponse::NotSubscribed(outcome);
        assert_eq!(kept.outcome(), Some(Err(ended)));
    }
}
