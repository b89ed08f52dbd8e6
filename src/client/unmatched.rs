//! \[9\] Messages that match no subscription: the default inbox, and the wait for a subscription before it.
//!
//! A broker that kept the session of an earlier process sends what it had stored as soon as the new one is
//! connected, and the new one's threads may not have subscribed yet. So for a while after that, messages of
//! QoS 1 and 2 wait here, unacknowledged and in order. So they do after an inbox that accepts by hand was dropped with
//! messages that are not done. They are bounded as all messages that wait are, by the
//! session's account. It runs on the loop's thread and never waits; `now` is passed in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};

use crate::client::default_inbox::DefaultInbox;
use crate::client::recording::{DEFAULT_INBOX, Recorder, What};
use crate::client::tasks::{Tasks, WakesAtEnd};
use crate::mqtt::packet::Message;
use crate::mqtt::session::DeliveryId;
use crate::mqtt::topic::shortened;

/// How many characters of a topic a line of the log shows.
const SHOWN_CHARACTERS: usize = 100;

/// The loop's end of the default inbox, and what waits before it.
pub(crate) struct Unmatched {
    /// With their numbers in a recording.
    inbox: Sender<(Arc<Message>, u64)>,
    /// Comes after `inbox`.
    tasks: WakesAtEnd,
    count: u64,
    dropped: u64,
    /// Until then messages wait for a subscription.
    hold_until: Option<Instant>,
    held: VecDeque<(DeliveryId, Arc<Message>)>,
    recorder: Option<Recorder>,
}

impl Unmatched {
    /// A default inbox for `capacity` messages (at least one), and the receiving end of it.
    pub(crate) fn new(capacity: usize, recorder: Option<Recorder>) -> (Self, DefaultInbox) {
        let (inbox, receiver) = bounded(capacity.max(1));
        let tasks = Arc::<Tasks>::default();
        let default_inbox = DefaultInbox::new(receiver, Arc::clone(&tasks), recorder.clone());
        let unmatched = Unmatched {
            inbox,
            tasks: WakesAtEnd(tasks),
            count: 0,
            dropped: 0,
            hold_until: None,
            held: VecDeque::new(),
            recorder,
        };
        (unmatched, default_inbox)
    }

    /// From now until then, messages of QoS 1 and 2 wait for a subscription.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.hold_until = Some(until);
    }

    /// Takes a message that matches no subscription. Returns whether it counts as accepted.
    pub(crate) fn put(
        &mut self,
        message: &Arc<Message>,
        delivery: Option<DeliveryId>,
        number: u64,
    ) -> bool {
        if let (Some(_), Some(delivery)) = (self.hold_until, delivery) {
            self.keep(delivery, Arc::clone(message));
            return false;
        }
        self.deliver(message, number);
        true
    }

    /// Takes out all messages that wait for a subscription.
    pub(crate) fn take_held(&mut self) -> VecDeque<(DeliveryId, Arc<Message>)> {
        std::mem::take(&mut self.held)
    }

    /// Has a message wait, behind those that came before it.
    pub(crate) fn keep(&mut self, delivery: DeliveryId, message: Arc<Message>) {
        let place = self.held.partition_point(|(other, _)| *other < delivery);
        self.held.insert(place, (delivery, message));
    }

    /// When [`Unmatched::handle_timeout`] wants to be called.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.hold_until.filter(|_| !self.held.is_empty())
    }

    /// The default inbox takes the messages that have waited long enough. Calls `accepted` with each of them.
    pub(crate) fn handle_timeout(&mut self, now: Instant, mut accepted: impl FnMut(DeliveryId)) {
        if self.hold_until.is_some_and(|at| at <= now) {
            self.hold_until = None;
            for (delivery, message) in self.take_held() {
                self.deliver(&message, delivery.number());
                accepted(delivery);
            }
        }
    }

    /// The loop ends: the default inbox takes the messages that still wait, but for those that the broker sends again.
    pub(crate) fn end(&mut self, comes_again: impl Fn(DeliveryId) -> bool) {
        for (delivery, message) in self.take_held() {
            if !comes_again(delivery) {
                self.deliver(&message, delivery.number());
            }
        }
    }

    /// How many messages wait for a subscription.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// How many messages found no room in the default inbox.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn deliver(&mut self, message: &Arc<Message>, number: u64) {
        if message.too_large().is_some() {
            // The log and the loop's counts tell of it.
            return;
        }
        self.count += 1;
        // Ever more rarely: a broker must not be able to flood the log.
        if self.count.is_power_of_two() {
            log::warn!(
                "a message on {} matches no subscription and goes to the default inbox ({} so far)",
                shortened(message.topic(), SHOWN_CHARACTERS),
                self.count
            );
        }
        let item = (Arc::clone(message), number);
        let has_room = self.inbox.try_send(item).is_ok();
        if let Some(recorder) = &self.recorder {
            let (message, inbox) = (number, DEFAULT_INBOX);
            recorder.on_loop(match has_room {
                true => What::Offered { message, inbox },
                false => What::Dropped { message, inbox },
            });
        }
        if has_room {
            self.tasks.wake_all();
        } else {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                log::warn!(
                    "the default inbox is full: a message on {}, which matches no subscription, is \
                     dropped ({} so far)",
                    shortened(message.topic(), SHOWN_CHARACTERS),
                    self.dropped
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::Select;

    use super::*;
    use crate::client::inbox_error::InboxError;
    use crate::client::waiter::tests::{Task, block_on};
    use crate::mqtt::packet::QoS;
    use crate::mqtt::session::tests::Transcript;
    use crate::mqtt::session::tests::packets::message;

    #[test]
    fn messages_wait_for_the_time_given_and_then_go_to_the_default_inbox_in_order() {
        let start = Instant::now();
        let (mut unmatched, inbox) = Unmatched::new(2, None);
        let mut t = Transcript::connected();
        let mut put = |unmatched: &mut Unmatched, id: u16, qos: usize| {
            t.receives(message(id, qos, "x"));
            let delivery = t.delivers("t \"x\"");
            let qos = QoS::try_from(qos as u8).unwrap();
            let message = Arc::new(Message::new(id.to_string(), qos, ""));
            (unmatched.put(&message, delivery, 0), delivery)
        };
        unmatched.hold(start + Duration::from_secs(5));
        assert_eq!(unmatched.next_timer(), None, "the loop may sleep on");
        let (accepted, first) = put(&mut unmatched, 1, 1);
        assert!(
            !accepted && put(&mut unmatched, 0, 0).0,
            "QoS 0 does not wait"
        );
        let (accepted, second) = put(&mut unmatched, 2, 2);
        assert!(!accepted);
        let mut accepted = Vec::new();
        let early = start + Duration::from_millis(4_999);
        unmatched.handle_timeout(early, |delivery| accepted.push(delivery));
        assert_eq!((accepted.len(), inbox.len(), unmatched.held()), (0, 1, 2));
        let due = unmatched.next_timer().unwrap();
        unmatched.handle_timeout(due, |delivery| accepted.push(delivery));
        assert_eq!(accepted, [first.unwrap(), second.unwrap()]);
        // One had room; the other is dropped and counted.
        let topics = inbox.try_iter().map(|message| message.topic().to_owned());
        assert_eq!(topics.collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!((unmatched.dropped(), unmatched.next_timer()), (1, None));
        assert!(put(&mut unmatched, 3, 1).0, "nothing waits any more");
        assert_eq!(inbox.len(), 1);
    }

    /// Those of an inbox that was dropped join them at the end.
    #[test]
    fn messages_wait_in_the_order_in_which_they_came() {
        let (mut unmatched, inbox) = Unmatched::new(3, None);
        let mut t = Transcript::connected();
        let messages = [1, 2, 3].map(|id| {
            t.receives(message(id, 1, "x"));
            let message = Message::new(id.to_string(), QoS::AtLeastOnce, "");
            (t.delivers("t \"x\"").unwrap(), Arc::new(message))
        });
        for place in [1, 2, 0] {
            let (delivery, message) = &messages[place];
            unmatched.keep(*delivery, Arc::clone(message));
        }
        unmatched.end(|_| false);
        let topics = inbox.try_iter().map(|message| message.topic().to_owned());
        assert_eq!(topics.collect::<Vec<_>>(), ["1", "2", "3"]);
    }

    #[test]
    fn a_task_awaits_what_comes_into_the_default_inbox_and_its_end() {
        let (mut unmatched, inbox) = Unmatched::new(2, None);
        let task = Arc::<Task>::default();
        let message = |topic: &str| Arc::new(Message::new(topic.to_owned(), QoS::AtMostOnce, ""));
        let mut next = inbox.recv_async();
        assert!(task.poll(&mut next).is_pending());
        assert!(unmatched.put(&message("a"), None, 0));
        assert_eq!(task.woken(), 1);
        assert_eq!(block_on(&mut next).unwrap().topic(), "a");
        assert!(task.poll(&mut next).is_pending());
        drop(unmatched);
        assert_eq!(task.woken(), 2);
        assert_eq!(block_on(next).map(drop), Err(InboxError::Closed));
        assert!(inbox.iter().next().is_none());
        assert!(inbox.ready());
        let mut select = Select::new();
        let place = inbox.add_to(&mut select);
        assert_eq!(select.try_ready(), Ok(place), "the end is told, too");
    }
}
