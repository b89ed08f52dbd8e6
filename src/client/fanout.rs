//! \[9\] Puts incoming messages into the inboxes, and keeps aside those that find no room.
//!
//! It runs on the loop's thread and never waits. Messages are handed over in groups (`queue.rs`), so a thread that is woken
//! for one finds the others. A message that a full inbox cannot take waits aside, in order. It counts as accepted by an
//! inbox that has it, that was dropped, or that is slow (`queue.rs`): so a slow inbox delays the acknowledgments, and
//! thereby the messages, of no other one. A message that every inbox has accepted in one of these ways counts as
//! accepted. It waits on for those that do not have it, and is never dropped. The session bounds in one account what waits
//! here and before the default inbox (`unmatched.rs`), and does not let a message count as accepted beyond that. A QoS 0
//! message that finds no room is dropped and counted. An inbox that accepts by hand accepts a message only when a thread
//! says that it is done (`by_hand.rs`), and not by being dropped (`orphans.rs`).

mod orphans;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::client::default_inbox::DefaultInbox;
use crate::client::lane::HandEnd;
use crate::client::outlet::{InboxId, Item, Outlet, RESPONSES};
use crate::client::recording::{Recorder, What};
use crate::client::responses::Responses;
use crate::client::unmatched::Unmatched;
use crate::mqtt::packet::Message;
use crate::mqtt::session::DeliveryId;
use crate::mqtt::subscriptions::{Matches, Subscriptions};
use orphans::{Orphan, Orphans};
use queue::{Put, Queue};

/// The inboxes, and what waits for room in them.
pub(crate) struct Fanout {
    queues: BTreeMap<InboxId, Queue>,
    /// The messages that not every inbox has.
    waiting: BTreeMap<DeliveryId, Undelivered>,
    /// Inboxes that have accepted something that their threads cannot see yet.
    ready: Vec<InboxId>,
    /// Inboxes with something aside.
    full: Vec<InboxId>,
    /// Inboxes whose messages count as accepted only once they are taken, or done.
    late: Vec<InboxId>,
    orphans: Orphans,
    unmatched: Unmatched,
    responses: Responses,
    matched: Matches<InboxId>,
    acceptances: VecDeque<Acceptance>,
    /// Inboxes that do not keep up, and of which the loop has not told yet.
    overflows: Vec<InboxId>,
    recorder: Option<Recorder>,
}

/// An inbox that does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow {
    pub(crate) inbox: InboxId,
    /// Items in it and aside.
    pub(crate) waiting: usize,
    /// Messages that were dropped so far.
    pub(crate) dropped: u64,
}

/// A message that waits for inboxes.
struct Undelivered {
    /// How many do not have it.
    inboxes: usize,
    /// How many of these delay its acknowledgment.
    delaying: usize,
    /// The inboxes that accept by hand and have it done, while others do not.
    done_by: Vec<InboxId>,
}

/// News for the session of a message that did not count as accepted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// Every inbox has it.
    Complete(DeliveryId),
    /// It counts as accepted, and waits for so many slow inboxes.
    Early(DeliveryId, usize),
}

impl Fanout {
    /// No inboxes yet, and the receiving end of the default inbox, which takes `unmatched` messages.
    pub(crate) fn new(unmatched: usize, recorder: Option<Recorder>) -> (Self, DefaultInbox) {
        let (unmatched, default_inbox) = Unmatched::new(unmatched, recorder.clone());
        let fanout = Fanout {
            queues: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ready: Vec::new(),
            full: Vec::new(),
            late: Vec::new(),
            orphans: Orphans::default(),
            unmatched,
            responses: Responses::default(),
            matched: Matches::default(),
            acceptances: VecDeque::new(),
            overflows: Vec::new(),
            recorder,
        };
        (fanout, default_inbox)
    }

    pub(crate) fn open(&mut self, outlet: Outlet) {
        let id = outlet.id;
        let queue = Queue::new(outlet);
        if queue.accepts_late() {
            self.late.push(id);
        }
        self.queues.insert(id, queue);
    }

    pub(crate) fn is_open(&self, inbox: InboxId) -> bool {
        self.queues.contains_key(&inbox)
    }

    /// The requests that await a response.
    pub(crate) fn responses(&mut self) -> &mut Responses {
        &mut self.responses
    }

    pub(crate) fn is_by_hand(&self, inbox: InboxId) -> bool {
        self.queues.get(&inbox).is_some_and(Queue::is_by_hand)
    }

    /// An inbox was dropped: it accepts all that waited for it, unless it accepts by hand. Returns how many messages
    /// are not done and wait for another inbox.
    pub(crate) fn close(&mut self, inbox: InboxId) -> usize {
        let undone = self.queues.remove(&inbox).map(|queue| {
            queue.close(|delivery, delayed| {
                accept_one(&mut self.waiting, &mut self.acceptances, delivery, delayed);
            })
        });
        self.full.retain(|id| *id != inbox);
        self.late.retain(|id| *id != inbox);
        let undone = undone.unwrap_or_default();
        let count = undone.len();
        self.orphans.keep(inbox, undone.into_values());
        count
    }

    /// A thread has a message no more: the inbox accepts it, or it is offered again. Returns the message and how often
    /// it was dropped undone, if that is to be told.
    pub(crate) fn end_hand(&mut self, end: HandEnd) -> Option<(Arc<Message>, u32)> {
        let HandEnd {
            inbox,
            delivery,
            is_done,
        } = end;
        let Some(queue) = self.queues.get_mut(&inbox) else {
            // A message outlives its inbox in the hands of a thread.
            if is_done && self.orphans.end(delivery, inbox) {
                accept_one(&mut self.waiting, &mut self.acceptances, delivery, true);
            }
            return None;
        };
        if is_done {
            if queue.end_undone(delivery) {
                accept_one(&mut self.waiting, &mut self.acceptances, delivery, true);
                if let Some(one) = self.waiting.get_mut(&delivery) {
                    one.done_by.push(inbox);
                }
            }
            return None;
        }
        let had_aside = queue.has_aside();
        let told = queue.offer_undone(delivery);
        match (had_aside, queue.has_aside()) {
            (false, true) => self.full.push(inbox),
            (true, false) => self.full.retain(|id| *id != inbox),
            _ => {}
        }
        told
    }

    /// Delivers a message to every inbox that wants it, or to the default inbox. Returns whether it counts as accepted
    /// and waits for none; otherwise [`Fanout::poll`] tells. Its threads see it after [`Fanout::hand_over`], which has to
    /// come before its acknowledgment is written.
    pub(crate) fn deliver(
        &mut self,
        subscriptions: &Subscriptions<InboxId>,
        message: &Arc<Message>,
        delivery: Option<DeliveryId>,
        now: Instant,
    ) -> bool {
        let number = self.record_arrival(message, delivery);
        match self.deliver_matched(subscriptions, message, delivery, number, now) {
            Some(accepted) => accepted,
            None => {
                self.hand_over();
                self.unmatched.put(message, delivery, number)
            }
        }
    }

    /// Returns the message's number in the recording, 0 without one.
    fn record_arrival(&self, message: &Message, delivery: Option<DeliveryId>) -> u64 {
        let Some(recorder) = &self.recorder else {
            return 0;
        };
        let number = recorder.number_message(delivery);
        recorder.on_loop(What::Arrived {
            message: number,
            qos: message.qos(),
            bytes: message.too_large().unwrap_or(message.size()) as u64,
        });
        number
    }

    /// From now until then, messages of QoS 1 and 2 that match no subscription wait for one.
    pub(crate) fn hold_unmatched(&mut self, until: Instant) {
        self.unmatched.hold(until);
    }

    /// The loop ends: the default inbox takes the messages that still wait for a subscription, but for those that
    /// the broker sends again.
    pub(crate) fn end_hold(&mut self, comes_again: impl Fn(DeliveryId) -> bool) {
        for Orphan { held, .. } in self.orphans.take() {
            self.unmatched.keep(held.delivery, held.message);
        }
        self.unmatched.end(comes_again);
    }

    /// There are new subscriptions, or inboxes were dropped: delivers the messages that wait for an inbox.
    pub(crate) fn offer_held(&mut self, subscriptions: &Subscriptions<InboxId>, now: Instant) {
        self.offer_orphans(subscriptions, now);
        for (delivery, message) in self.unmatched.take_held() {
            let number = delivery.number();
            match self.deliver_matched(subscriptions, &message, Some(delivery), number, now) {
                Some(true) => self.acceptances.push_back(Acceptance::Complete(delivery)),
                Some(false) => {}
                None => self.unmatched.keep(delivery, message),
            }
        }
        self.hand_over();
    }

    /// Has inboxes that accept by hand take the place of those that were dropped. No inbox gets a message twice.
    fn offer_orphans(&mut self, subscriptions: &Subscriptions<InboxId>, now: Instant) {
        let mut matched = std::mem::take(&mut self.matched);
        for orphan in self.orphans.take() {
            let delivery = orphan.held.delivery;
            let Some(one) = self.waiting.get(&delivery) else {
                continue;
            };
            subscriptions.matching(orphan.held.message.topic(), &mut matched);
            matched.subscribers.retain(|inbox| {
                let may_take = |queue: &Queue| queue.is_by_hand() && !queue.has_undone(delivery);
                self.queues.get(inbox).is_some_and(may_take) && !one.done_by.contains(inbox)
            });
            if matched.subscribers.is_empty() {
                self.orphans.put_back(orphan);
                continue;
            }
            for inbox in &matched.subscribers {
                let item = Item::ByHand(orphan.held.clone());
                if let Some(Put::Waits { delays }) = self.put(*inbox, item, Some(delivery), now)
                    && let Some(one) = self.waiting.get_mut(&delivery)
                {
                    one.inboxes += 1;
                    one.delaying += usize::from(delays);
                }
            }
            for _ in orphan.inboxes {
                accept_one(&mut self.waiting, &mut self.acceptances, delivery, true);
            }
        }
        self.matched = matched;
    }

    /// Delivers a message to every inbox that wants it. Returns whether it waits for none, or `None` if no inbox
    /// wants it.
    fn deliver_matched(
        &mut self,
        subscriptions: &Subscriptions<InboxId>,
        message: &Arc<Message>,
        delivery: Option<DeliveryId>,
        number: u64,
        now: Instant,
    ) -> Option<bool> {
        let mut matched = std::mem::take(&mut self.matched);
        subscriptions.matching(message.topic_bytes(), &mut matched);
        // Then there is nothing to receive, and the broker awaits nothing.
        let is_passed_over = message.too_large().is_some() && delivery.is_none();
        let (mut is_wanted, mut inboxes, mut delaying) = (false, 0, 0);
        for inbox in &matched.subscribers {
            if *inbox == RESPONSES {
                // A thread that has a response finds the messages that came before it.
                self.hand_over();
                self.responses.take(message);
                is_wanted = true;
                continue;
            }
            let put = match is_passed_over {
                true => self.pass_over(*inbox),
                false => {
                    let item = Item::Message(Arc::clone(message), number);
                    self.put(*inbox, item, delivery, now)
                }
            };
            is_wanted |= put.is_some();
            if let Some(Put::Waits { delays }) = put {
                inboxes += 1;
                delaying += usize::from(delays);
            }
        }
        self.matched = matched;
        if let Some(delivery) = delivery
            && inboxes > 0
        {
            let undelivered = Undelivered {
                inboxes,
                delaying,
                done_by: Vec::new(),
            };
            self.waiting.insert(delivery, undelivered);
            if delaying == 0 {
                self.acceptances
                    .push_back(Acceptance::Early(delivery, inboxes));
            }
            return Some(false);
        }
        is_wanted.then_some(true)
    }

    /// Tells an inbox that one of its subscriptions is gone. The news waits aside like a message.
    pub(crate) fn tell_refused(&mut self, inbox: InboxId, filter: &str, now: Instant) {
        if inbox == RESPONSES {
            return self.responses.not_renewed();
        }
        let filter = filter.to_owned();
        self.put(inbox, Item::SubscriptionRefused { filter }, None, now);
        self.hand_over();
    }

    /// Returns `None` if there is no such inbox any more.
    fn put(
        &mut self,
        inbox: InboxId,
        item: Item,
        delivery: Option<DeliveryId>,
        now: Instant,
    ) -> Option<Put> {
        let queue = self.queues.get_mut(&inbox)?;
        let (had_aside, had_ready) = (queue.has_aside(), queue.has_ready());
        let put = queue.put(item, delivery, now);
        if !had_aside && queue.has_aside() {
            self.full.push(inbox);
        }
        if !had_ready && queue.has_ready() {
            self.ready.push(inbox);
        }
        if queue.take_overflow() {
            self.overflows.push(inbox);
        }
        Some(put)
    }

    /// An inbox gets nothing of a message, and counts it. Returns `None` if there is no such inbox any more.
    fn pass_over(&self, inbox: InboxId) -> Option<Put> {
        self.queues.get(&inbox)?.count_dropped();
        Some(Put::Accepted)
    }

    /// Gives the threads the messages that were delivered since the last call.
    #[inline]
    pub(crate) fn hand_over(&mut self) {
        if !self.ready.is_empty() {
            self.hand_over_ready();
        }
    }

    fn hand_over_ready(&mut self) {
        for inbox in self.ready.drain(..) {
            if let Some(queue) = self.queues.get_mut(&inbox) {
                queue.hand_over();
            }
        }
    }

    /// Looks what was taken, offers again what waits aside, and does what is due by now.
    pub(crate) fn retry(&mut self, now: Instant) {
        let Fanout {
            queues,
            waiting,
            full,
            late,
            unmatched,
            responses,
            acceptances,
            overflows,
            ..
        } = self;
        full.retain(|inbox| {
            let Some(queue) = queues.get_mut(inbox) else {
                return false;
            };
            queue.offer_again(|delivery, delayed| {
                accept_one(waiting, acceptances, delivery, delayed);
            });
            queue.become_slow_if_due(now, |delivery| {
                delay_no_more(waiting, acceptances, delivery);
            });
            if queue.take_overflow() {
                overflows.push(*inbox);
            }
            queue.has_aside()
        });
        for inbox in late {
            if let Some(queue) = queues.get_mut(inbox) {
                queue.look_what_was_taken(|delivery| {
                    accept_one(waiting, acceptances, delivery, true);
                });
            }
        }
        responses.handle_timeout(now);
        unmatched.handle_timeout(now, |delivery| {
            acceptances.push_back(Acceptance::Complete(delivery));
        });
    }

    /// When [`Fanout::retry`] wants to be called.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let full = self.full.iter().filter_map(|inbox| self.queues.get(inbox));
        let slow = full.filter_map(Queue::slow_at).min();
        let others = [self.unmatched.next_timer(), self.responses.next_timer()];
        slow.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// The next news for the session.
    pub(crate) fn poll(&mut self) -> Option<Acceptance> {
        self.acceptances.pop_front()
    }

    /// The next inbox that does not keep up: something has waited aside for a second, or a message was dropped, the
    /// first of it, the second, the fourth, and so on.
    pub(crate) fn poll_overflow(&mut self) -> Option<Overflow> {
        let inbox = self.overflows.pop()?;
        let queue = self.queues.get(&inbox);
        Some(Overflow {
            inbox,
            waiting: queue.map_or(0, Queue::waiting),
            dropped: queue.map_or(0, Queue::dropped),
        })
    }

    /// The inbox for which most items wait, in it and aside, and how many; `None` if they wait for a subscription.
    pub(crate) fn fullest(&self) -> (Option<InboxId>, usize) {
        let inboxes = self.full.iter().chain(&self.late);
        let waiting = |inbox: &InboxId| Some((Some(*inbox), self.queues.get(inbox)?.waiting()));
        let held = (None, self.unmatched.held() + self.orphans.len());
        let all = inboxes.filter_map(waiting).chain([held]);
        all.max_by_key(|(_, waiting)| *waiting).unwrap_or(held)
    }

    /// How many messages wait for an inbox, or for a subscription.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len() + self.unmatched.held()
    }

    /// How many requests were answered, and how many responses were late or unknown.
    pub(crate) fn response_counts(&self) -> (u64, u64, u64) {
        self.responses.counts()
    }

    /// Whether a thread or a task awaits a response.
    pub(crate) fn awaits_response(&self) -> bool {
        self.responses.are_awaited()
    }

    /// How many messages found neither a subscription nor room in the default inbox.
    pub(crate) fn unmatched_dropped(&self) -> u64 {
        self.unmatched.dropped()
    }
}

/// An inbox has a message now, which it may have delayed until now.
fn accept_one(
    waiting: &mut BTreeMap<DeliveryId, Undelivered>,
    acceptances: &mut VecDeque<Acceptance>,
    delivery: DeliveryId,
    delayed: bool,
) {
    let Some(one) = waiting.get_mut(&delivery) else {
        return;
    };
    one.inboxes -= 1;
    if one.inboxes == 0 {
        waiting.remove(&delivery);
        acceptances.push_back(Acceptance::Complete(delivery));
    } else if delayed {
        delay_no_more(waiting, acceptances, delivery);
    }
}

/// One inbox less delays a message.
fn delay_no_more(
    waiting: &mut BTreeMap<DeliveryId, Undelivered>,
    acceptances: &mut VecDeque<Acceptance>,
    delivery: DeliveryId,
) {
    if let Some(one) = waiting.get_mut(&delivery) {
        one.delaying -= 1;
        if one.delaying == 0 {
            acceptances.push_back(Acceptance::Early(delivery, one.inboxes));
        }
    }
}

#[cfg(test)]
mod tests;
