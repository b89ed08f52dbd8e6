//! \[9\] One inbox as the loop sees it: what waits aside for room in it, and what its thread has not taken.
//!
//! An inbox with something aside for a second is slow until nothing is aside any more. It delays no acknowledgment
//! then. An inbox whose messages count as accepted only once they are taken, or done, is never slow. When the loop ends,
//! what is aside goes to the thread's end, behind the queue. It runs on the loop's thread and never waits; `now` is passed in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::outlet::{Held, Item, Offer, Outlet, number_of};
use crate::mqtt::packet::{Message, QoS};
use crate::mqtt::session::DeliveryId;

/// So many items are handed over together at most. A thread that got one after the other would take each at once and
/// look for the next in vain, again and again.
const TOGETHER: usize = 32;

/// An inbox that has something aside for this long is slow.
const SLOW_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Queue {
    outlet: Outlet,
    /// Items that the inbox has accepted and its threads cannot see yet. It has room for them.
    ready: Vec<Item>,
    /// For so many, since the first of them came.
    room: usize,
    aside: VecDeque<(Item, Option<DeliveryId>)>,
    /// Since when something is aside.
    since: Option<Instant>,
    is_slow: bool,
    /// The items in the queue, if its messages count as accepted only once they are taken.
    untaken: VecDeque<Option<DeliveryId>>,
    /// How many items the thread had taken when the loop looked last.
    taken: u64,
    /// The messages that it has and that are not done, if it accepts by hand: in the queue, aside and in the hands of
    /// threads.
    undone: BTreeMap<DeliveryId, Held>,
}

/// Where an item went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// The inbox has accepted it.
    Accepted,
    /// Its acceptance is awaited. Whether it delays the acknowledgment.
    Waits { delays: bool },
}

impl Queue {
    pub(super) fn new(outlet: Outlet) -> Self {
        Queue {
            outlet,
            ready: Vec::new(),
            room: 0,
            aside: VecDeque::new(),
            since: None,
            is_slow: false,
            untaken: VecDeque::new(),
            taken: 0,
            undone: BTreeMap::new(),
        }
    }

    /// Puts an item into the inbox, or aside. A message of QoS 0 that finds no room is dropped and counted.
    pub(super) fn put(&mut self, item: Item, delivery: Option<DeliveryId>, now: Instant) -> Put {
        let item = self.as_it_accepts(item, delivery);
        if let Item::ByHand(held) = &item {
            self.undone.insert(held.delivery, held.clone());
        }
        let item = match self.has_aside() {
            true => item,
            false => match self.offer(item, delivery) {
                Ok(put) => return put,
                Err(item) => item,
            },
        };
        // The account bounds what waits aside, and knows no QoS 0.
        if let Item::Message(message, number) = &item
            && message.qos() == QoS::AtMostOnce
        {
            self.outlet.drop_one(*number);
            return Put::Accepted;
        }
        let item = match self.has_aside() {
            true => item,
            false => {
                self.outlet.wait_for_room();
                // The thread may have made room before the loop asked to be told.
                match self.offer(item, delivery) {
                    Ok(put) => {
                        self.outlet.wait_no_more();
                        return put;
                    }
                    Err(item) => {
                        self.since = Some(now);
                        item
                    }
                }
            }
        };
        self.outlet.record_aside(number_of(&item));
        self.aside.push_back((item, delivery));
        Put::Waits {
            delays: !self.is_slow,
        }
    }

    /// A message as this inbox gives it to its threads.
    fn as_it_accepts(&self, item: Item, delivery: Option<DeliveryId>) -> Item {
        match (item, delivery, self.outlet.by_hand()) {
            (Item::Message(message, number), Some(delivery), Some(_)) => Item::ByHand(Held {
                message,
                delivery,
                attempts: 1,
                number,
            }),
            (Item::ByHand(held), _, None) => Item::Message(held.message, held.number),
            (item, ..) => item,
        }
    }

    /// Gives the item back if there is no room.
    fn offer(&mut self, item: Item, delivery: Option<DeliveryId>) -> Result<Put, Item> {
        let is_by_hand = matches!(item, Item::ByHand(_));
        match self.enter(item) {
            Offer::Full(item) => Err(item),
            // Also if the inbox is gone: a message that nobody took is not done. The loop hears of it next.
            _ if is_by_hand => Ok(Put::Waits { delays: true }),
            Offer::Accepted if self.outlet.is_once_taken() => {
                self.untaken.push_back(delivery);
                Ok(Put::Waits { delays: true })
            }
            _ => Ok(Put::Accepted),
        }
    }

    /// Puts an item into the inbox, for its threads to see with the next ones.
    fn enter(&mut self, item: Item) -> Offer {
        if self.ready.is_empty() {
            // Threads only make more room. They see these items while there is room for as many more, so one that keeps
            // up loses none.
            self.room = (self.outlet.room() / 2).min(TOGETHER);
        }
        if self.ready.len() < self.room {
            self.outlet.record_offered(number_of(&item));
            self.ready.push(item);
            return Offer::Accepted;
        }
        self.hand_over();
        self.outlet.offer(item)
    }

    /// Gives the threads what they cannot see yet.
    pub(super) fn hand_over(&mut self) {
        if !self.ready.is_empty() {
            self.outlet.hand_over(self.ready.drain(..));
        }
    }

    /// A thread says that a message is done. Returns whether the inbox had it undone.
    pub(super) fn end_undone(&mut self, delivery: DeliveryId) -> bool {
        self.undone.remove(&delivery).is_some()
    }

    /// A thread has dropped a message undone: offers it again, before what waits aside. Returns the message and how
    /// often that has happened, if the inbox wants this told.
    pub(super) fn offer_undone(&mut self, delivery: DeliveryId) -> Option<(Arc<Message>, u32)> {
        let held = self.undone.get_mut(&delivery)?;
        let undone = held.attempts;
        held.attempts = undone.saturating_add(1);
        let message = Arc::clone(&held.message);
        let item = Item::ByHand(held.clone());
        self.aside.push_front((item, Some(delivery)));
        self.offer_again(|_, _| {});
        let told_after = self.outlet.by_hand()?.told_after.max(1);
        let is_told = undone % told_after == 0 && (undone / told_after).is_power_of_two();
        is_told.then_some((message, undone))
    }

    /// Whether it has this message, which is not done.
    pub(super) fn has_undone(&self, delivery: DeliveryId) -> bool {
        self.undone.contains_key(&delivery)
    }

    /// Moves what has room from aside into the inbox. Calls `accepted` with each delivery that the inbox accepts, and
    /// whether the inbox delayed it until now.
    pub(super) fn offer_again(&mut self, mut accepted: impl FnMut(DeliveryId, bool)) {
        let delayed = !self.is_slow;
        self.drain(&mut |delivery| accepted(delivery, delayed));
        if self.has_aside() {
            self.outlet.wait_for_room();
            self.drain(&mut |delivery| accepted(delivery, delayed));
        }
        if !self.has_aside() {
            self.outlet.wait_no_more();
            self.since = None;
            self.is_slow = false;
        }
        self.hand_over();
    }

    fn drain(&mut self, accepted: &mut impl FnMut(DeliveryId)) {
        while let Some((item, delivery)) = self.aside.pop_front() {
            match self.offer(item, delivery) {
                Ok(Put::Accepted) => delivery.into_iter().for_each(&mut *accepted),
                Ok(Put::Waits { .. }) => {}
                Err(item) => {
                    self.aside.push_front((item, delivery));
                    return;
                }
            }
        }
    }

    /// Calls `accepted` with each delivery that the thread has taken since the last call.
    pub(super) fn look_what_was_taken(&mut self, accepted: impl FnMut(DeliveryId)) {
        let taken = self.outlet.taken();
        let count = usize::try_from(taken - self.taken).unwrap_or(usize::MAX);
        self.taken = taken;
        let count = count.min(self.untaken.len());
        self.untaken.drain(..count).flatten().for_each(accepted);
    }

    /// Makes the inbox slow if it is time. Then calls `delays_no_more` with each delivery that it does not delay any
    /// more.
    pub(super) fn become_slow_if_due(
        &mut self,
        now: Instant,
        delays_no_more: impl FnMut(DeliveryId),
    ) {
        if self.slow_at().is_some_and(|at| at <= now) {
            self.is_slow = true;
            self.outlet.note_overflow();
            let aside = self.aside.iter().filter_map(|(_, delivery)| *delivery);
            aside.for_each(delays_no_more);
        }
    }

    /// When it becomes slow.
    pub(super) fn slow_at(&self) -> Option<Instant> {
        let may_be_slow = !self.is_slow && !self.accepts_late();
        self.since.filter(|_| may_be_slow).map(|at| at + SLOW_AFTER)
    }

    /// The inbox was dropped. Calls `accepted` as [`Queue::offer_again`] does. Returns the messages that nobody accepts,
    /// because they are not done.
    pub(super) fn close(
        mut self,
        mut accepted: impl FnMut(DeliveryId, bool),
    ) -> BTreeMap<DeliveryId, Held> {
        let delayed = !self.is_slow;
        for delivery in std::mem::take(&mut self.untaken).into_iter().flatten() {
            accepted(delivery, delayed);
        }
        for (item, delivery) in std::mem::take(&mut self.aside) {
            match (item, delivery) {
                (Item::ByHand(_), _) | (_, None) => {}
                (_, Some(delivery)) => accepted(delivery, delayed),
            }
        }
        std::mem::take(&mut self.undone)
    }

    /// A message for it is passed over, and counted.
    pub(super) fn count_dropped(&self) {
        self.outlet.count_dropped();
    }

    /// Whether it was found since the last call that the inbox does not keep up.
    pub(super) fn take_overflow(&self) -> bool {
        self.outlet.take_overflow()
    }

    /// How many messages were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.outlet.dropped()
    }

    pub(super) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many items wait, in the queue, aside or in the hands of threads.
    pub(super) fn waiting(&self) -> usize {
        let queued = self.outlet.len() + self.ready.len();
        (queued + self.aside.len()).max(self.undone.len())
    }

    /// Whether its messages count as accepted only once they are taken, or done.
    pub(super) fn accepts_late(&self) -> bool {
        self.outlet.is_once_taken() || self.is_by_hand()
    }

    /// Whether its messages count as accepted only once they are done.
    pub(super) fn is_by_hand(&self) -> bool {
        self.outlet.by_hand().is_some()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.hand_over();
        let rest = std::mem::take(&mut self.aside).into_iter();
        self.outlet.leave(rest.map(|(item, _)| item));
    }
}
