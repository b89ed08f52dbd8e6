//! \[9\] Puts incoming messages into the inboxes, and keeps aside those that find no room.
//!
//! It runs on the loop's thread and never waits. A message that a full inbox cannot take waits aside,
//! in order and unacknowledged, so the broker's own window bounds how much waits. A QoS 0 message is
//! dropped instead, and counted. An inbox that was dropped counts as accepting.
//!
//! When the broker loses the session, its window begins anew, although messages that wait here are still
//! to be delivered. So that this does not add up, one inbox never has more aside than
//! [`LARGEST_ASIDE`], and all of them together no more bytes than the session lets one broker session
//! have unacknowledged.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::client::outlet::{InboxId, Item, Offer, Outlet};
use crate::client::unmatched::Unmatched;
use crate::mqtt::packet::{Message, QoS};
use crate::mqtt::session::DeliveryId;
use crate::mqtt::subscriptions::{Matches, Subscriptions};

/// Messages that may wait aside for one inbox: as many as one session can have unacknowledged, since
/// there are no more packet identifiers. Only over several lost sessions more could come together. Then
/// the oldest is dropped and counted; no broker awaits its acknowledgment any more.
const LARGEST_ASIDE: usize = 65_535;

/// The inboxes, and what waits for room in them.
pub(crate) struct Fanout {
    queues: HashMap<InboxId, Queue>,
    /// The messages that not every inbox has accepted yet, in the order of arrival.
    missing: BTreeMap<DeliveryId, Missing>,
    /// Bytes of these messages.
    missing_bytes: usize,
    largest_missing_bytes: usize,
    /// Inboxes with something aside.
    full: Vec<InboxId>,
    unmatched: Unmatched,
    matched: Matches<InboxId>,
    largest_aside: usize,
    /// Messages dropped because more than that would have waited aside.
    given_up: u64,
    /// Those that thereby count as accepted, until the next [`Fanout::retry`].
    accepted_unread: Vec<DeliveryId>,
}

struct Queue {
    outlet: Outlet,
    aside: VecDeque<Aside>,
}

/// A message that is aside somewhere.
struct Missing {
    /// How many inboxes have not accepted it.
    queues: usize,
    bytes: usize,
}

struct Aside {
    item: Item,
    delivery: Option<DeliveryId>,
}

impl Fanout {
    /// No inboxes yet, and the receiving end of the default inbox, which takes `unmatched` messages. A
    /// broker session may have messages of `max_owed_bytes` unacknowledged.
    pub(crate) fn new(unmatched: usize, max_owed_bytes: usize) -> (Self, Receiver<Arc<Message>>) {
        let (unmatched, receiver) = Unmatched::new(unmatched);
        let fanout = Fanout {
            queues: HashMap::new(),
            missing: BTreeMap::new(),
            missing_bytes: 0,
            largest_missing_bytes: max_owed_bytes,
            full: Vec::new(),
            unmatched,
            matched: Matches::default(),
            largest_aside: LARGEST_ASIDE,
            given_up: 0,
            accepted_unread: Vec::new(),
        };
        (fanout, receiver)
    }

    pub(crate) fn open(&mut self, outlet: Outlet) {
        let queue = Queue {
            outlet,
            aside: VecDeque::new(),
        };
        self.queues.insert(queue.outlet.id, queue);
    }

    pub(crate) fn is_open(&self, inbox: InboxId) -> bool {
        self.queues.contains_key(&inbox)
    }

    /// An inbox was dropped: it accepts all that waited for it. Puts the messages that every inbox has
    /// accepted thereby into `accepted`.
    pub(crate) fn close(&mut self, inbox: InboxId, accepted: &mut Vec<DeliveryId>) {
        if let Some(queue) = self.queues.remove(&inbox) {
            for waiting in queue.aside {
                self.accept_one(waiting.delivery, accepted);
            }
        }
        self.full.retain(|id| *id != inbox);
    }

    /// Delivers a message to every inbox that wants it, or to the default inbox. Returns whether all accepted it at
    /// once.
    pub(crate) fn deliver(
        &mut self,
        subscriptions: &Subscriptions<InboxId>,
        message: &Arc<Message>,
        delivery: Option<DeliveryId>,
    ) -> bool {
        match self.deliver_matched(subscriptions, message, delivery) {
            Some(accepted) => accepted,
            None => self.unmatched.put(message, delivery),
        }
    }

    /// From now until then, messages of QoS 1 and 2 that match no subscription wait for one.
    pub(crate) fn hold_unmatched(&mut self, until: Instant) {
        self.unmatched.hold(until);
    }

    /// There are new subscriptions: delivers the messages that waited for them. Puts those that every inbox has
    /// accepted at once into `accepted`.
    pub(crate) fn offer_held(
        &mut self,
        subscriptions: &Subscriptions<InboxId>,
        accepted: &mut Vec<DeliveryId>,
    ) {
        for (delivery, message) in self.unmatched.take_held() {
            match self.deliver_matched(subscriptions, &message, Some(delivery)) {
                Some(true) => accepted.push(delivery),
                Some(false) => {}
                None => self.unmatched.keep(delivery, message),
            }
        }
    }

    /// When [`Fanout::handle_timeout`] wants to be called.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.unmatched.next_timer()
    }

    /// The default inbox takes the messages that waited long enough for a subscription. Puts them into `accepted`.
    pub(crate) fn handle_timeout(&mut self, now: Instant, accepted: &mut Vec<DeliveryId>) {
        self.unmatched.handle_timeout(now, accepted);
    }

    /// Delivers a message to every inbox that wants it. Returns whether all accepted it at once, or `None` if no
    /// inbox wants it.
    fn deliver_matched(
        &mut self,
        subscriptions: &Subscriptions<InboxId>,
        message: &Arc<Message>,
        delivery: Option<DeliveryId>,
    ) -> Option<bool> {
        let mut matched = std::mem::take(&mut self.matched);
        subscriptions.matching(message.topic(), &mut matched);
        let inboxes = &mut matched.subscribers;
        inboxes.retain(|inbox| self.queues.contains_key(inbox));
        let is_wanted = !inboxes.is_empty();
        if message.too_large().is_some() && delivery.is_none() {
            // There is nothing to receive, and the broker awaits nothing.
            inboxes.retain(|inbox| {
                let queue = self.queues.get(inbox);
                queue.inspect(|queue| queue.outlet.count_dropped());
                false
            });
        }
        let mut missing = 0;
        for inbox in inboxes.iter() {
            missing += usize::from(!self.put(*inbox, Item::Message(Arc::clone(message)), delivery));
        }
        self.matched = matched;
        if !is_wanted {
            return None;
        }
        Some(match (delivery, missing) {
            (Some(delivery), queues @ 1..) => {
                let bytes = message.size();
                self.missing.insert(delivery, Missing { queues, bytes });
                self.missing_bytes += bytes;
                while self.missing_bytes > self.largest_missing_bytes
                    && self.missing.len() > 1
                    && self.drop_oldest_message()
                {}
                false
            }
            _ => true,
        })
    }

    /// Tells an inbox that one of its subscriptions is gone. The news waits aside like a message.
    pub(crate) fn tell_refused(&mut self, inbox: InboxId, filter: &str) {
        let filter = filter.to_owned();
        self.put(inbox, Item::SubscriptionRefused { filter }, None);
    }

    /// Offers again what waits aside. Puts the messages that every inbox has now accepted into `accepted`.
    pub(crate) fn retry(&mut self, accepted: &mut Vec<DeliveryId>) {
        accepted.append(&mut self.accepted_unread);
        for inbox in std::mem::take(&mut self.full) {
            let Some(queue) = self.queues.get_mut(&inbox) else {
                continue;
            };
            let mut taken = queue.drain();
            if !queue.aside.is_empty() {
                queue.outlet.wait_for_room();
                taken.extend(queue.drain());
            }
            if queue.aside.is_empty() {
                queue.outlet.wait_no_more();
            } else {
                self.full.push(inbox);
            }
            for delivery in taken {
                self.accept_one(delivery, accepted);
            }
        }
    }

    /// How many messages found neither a subscription nor room in the default inbox.
    pub(crate) fn unmatched_dropped(&self) -> u64 {
        self.unmatched.dropped()
    }

    /// Returns whether the inbox has accepted it. A dropped message counts as accepted.
    fn put(&mut self, inbox: InboxId, item: Item, delivery: Option<DeliveryId>) -> bool {
        let Some(queue) = self.queues.get_mut(&inbox) else {
            return true;
        };
        let item = if queue.aside.is_empty() {
            match queue.outlet.offer(item) {
                Offer::Accepted | Offer::Gone => return true,
                Offer::Full(item) => item,
            }
        } else {
            item
        };
        // The broker's window bounds what waits aside, and knows no QoS 0.
        if let Item::Message(message) = &item
            && message.qos() == QoS::AtMostOnce
        {
            queue.outlet.count_dropped();
            return true;
        }
        if queue.aside.is_empty() {
            self.full.push(inbox);
            queue.outlet.wait_for_room();
            // The thread may have made room before the loop asked to be told.
            return match queue.outlet.offer(item) {
                Offer::Accepted | Offer::Gone => true,
                Offer::Full(item) => {
                    queue.aside.push_back(Aside { item, delivery });
                    false
                }
            };
        }
        queue.aside.push_back(Aside { item, delivery });
        if queue.aside.len() > self.largest_aside {
            self.drop_oldest_aside(inbox);
        }
        false
    }

    /// Makes an inbox give up the oldest message that waits aside for it. It never gives up the news that a
    /// subscription is gone.
    fn drop_oldest_aside(&mut self, inbox: InboxId) {
        let Some(queue) = self.queues.get_mut(&inbox) else {
            return;
        };
        let is_message = |aside: &Aside| matches!(aside.item, Item::Message(_));
        let Some(oldest) = queue.aside.iter().position(is_message) else {
            return;
        };
        self.drop_aside(inbox, oldest);
    }

    /// Makes every inbox that it waits for give up the message that waits longest of all.
    fn drop_oldest_message(&mut self) -> bool {
        let Some((&oldest, _)) = self.missing.first_key_value() else {
            return false;
        };
        let mut dropped = false;
        for inbox in self.full.clone() {
            // Messages aside for an inbox stand in the order of arrival.
            let first = self.queues.get(&inbox).and_then(|queue| {
                let is_message = |aside: &Aside| aside.delivery.is_some();
                let place = queue.aside.iter().position(is_message)?;
                (queue.aside[place].delivery == Some(oldest)).then_some(place)
            });
            if let Some(place) = first {
                self.drop_aside(inbox, place);
                dropped = true;
            }
        }
        dropped
    }

    fn drop_aside(&mut self, inbox: InboxId, place: usize) {
        let Some(queue) = self.queues.get_mut(&inbox) else {
            return;
        };
        let dropped = queue.aside.remove(place).and_then(|aside| aside.delivery);
        if queue.aside.is_empty() {
            queue.outlet.wait_no_more();
            self.full.retain(|id| *id != inbox);
        }
        queue.outlet.count_dropped();
        self.given_up += 1;
        if self.given_up.is_power_of_two() {
            log::error!(
                "a thread does not read its inbox and the broker has lost the session: what \
                 waited longest for it is dropped ({} so far)",
                self.given_up
            );
        }
        let mut accepted = std::mem::take(&mut self.accepted_unread);
        self.accept_one(dropped, &mut accepted);
        self.accepted_unread = accepted;
    }

    fn accept_one(&mut self, delivery: Option<DeliveryId>, accepted: &mut Vec<DeliveryId>) {
        let Some(delivery) = delivery else {
            return;
        };
        if let Some(missing) = self.missing.get_mut(&delivery) {
            missing.queues -= 1;
            if missing.queues == 0 {
                self.missing_bytes -= missing.bytes;
                self.missing.remove(&delivery);
                accepted.push(delivery);
            }
        }
    }
}

impl Queue {
    /// Moves what has room into the inbox. Returns the deliveries that it accepted.
    fn drain(&mut self) -> Vec<Option<DeliveryId>> {
        let mut taken = Vec::new();
        while let Some(Aside { item, delivery }) = self.aside.pop_front() {
            match self.outlet.offer(item) {
                Offer::Accepted | Offer::Gone => taken.push(delivery),
                Offer::Full(item) => {
                    self.aside.push_front(Aside { item, delivery });
                    break;
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests;
