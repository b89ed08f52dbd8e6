//! \[9\] The loop's end of an inbox, and the state that both of its ends share.
//!
//! The queue of an inbox is bounded, and the loop never waits for room in it. When something waits
//! aside (`fanout.rs`), the thread that makes room wakes the loop (`inbox.rs`), and only then. There is
//! no lock while the loop runs, unless a task awaits the next message (`tasks.rs`). Items that wait aside when the loop
//! ends move to the threads' end. The loop's thread offers; the threads' end is a receiver.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::client::recording::{Recorder, What};
use crate::client::tasks::{Tasks, WakesAtEnd};
use crate::mqtt::packet::Message;
use crate::mqtt::session::DeliveryId;
use crate::options::ranges;

/// Names an inbox. Inboxes are numbered over all loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InboxId(pub(crate) u64);

/// In place of an inbox: the loop itself takes the responses to requests (`responses.rs`). No inbox has this number.
pub(crate) const RESPONSES: InboxId = InboxId(u64::MAX);

/// The policy for a message for which an inbox has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// QoS 1 and 2 wait aside until there is room; QoS 0 is dropped and counted. While something waits aside for less
    /// than a second, it is not acknowledged. From then on the inbox is slow, until nothing waits aside: what comes
    /// for it is acknowledged at once, so that it delays no other inbox. See
    /// [`Options::max_packet_size`](crate::options::Options::max_packet_size) for how much may wait.
    #[default]
    WaitAside,
    /// The oldest message in the queue makes room, and is counted.
    DropOldest,
    /// The message itself is dropped, and counted.
    DropNewest,
}

/// The moment at which an inbox accepts a message of QoS 1 or 2. Once every inbox that wants a message has accepted
/// it, the loop acknowledges it, and the broker forgets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Accept {
    /// As soon as it is in the inbox. A message in the inbox is lost if the process dies.
    #[default]
    OnceQueued,
    /// Once a thread has taken it out of the inbox, so that no message is acknowledged before.
    ///
    /// This has a price for all other inboxes. Acknowledgments leave in the order of arrival [MQTT-4.6.0-2], and a
    /// broker sends only so many messages without one (20 with Mosquitto, 100 with AWS IoT Core). So while a
    /// thread leaves that many in such an inbox, no other inbox gets a message. Take them quickly, or drop the inbox:
    /// then all of its messages count as taken. [`WhenFull::WaitAside`] holds for what finds no room, and such an
    /// inbox is never slow.
    ///
    /// Where a message must be acknowledged only after the work on it, see
    /// [`Handle::inbox_by_hand`](crate::Handle::inbox_by_hand).
    OnceTaken,
}

/// How an inbox takes messages that its threads acknowledge when they are done: see
/// [`Handle::inbox_by_hand`](crate::Handle::inbox_by_hand).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ByHand {
    /// After so many times that a message was dropped undone, [`EventKind::DroppedUndone`](crate::EventKind) and a
    /// warning in the log name it, and again after twice as many, four times as many, and so on. It is offered again
    /// all the same. 5 by default; 0 counts as 1.
    pub told_after: u32,
}

impl Default for ByHand {
    fn default() -> Self {
        ByHand { told_after: 5 }
    }
}

/// How an inbox takes messages: a [`WhenFull`], or an [`Accept`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct InboxPolicy {
    when_full: WhenFull,
    accept: Accept,
    by_hand: Option<ByHand>,
}

impl InboxPolicy {
    /// Only for an inbox whose messages carry the duty to tell.
    pub(crate) fn by_hand(by_hand: ByHand) -> Self {
        InboxPolicy {
            by_hand: Some(by_hand),
            ..InboxPolicy::default()
        }
    }
}

impl From<WhenFull> for InboxPolicy {
    fn from(when_full: WhenFull) -> Self {
        InboxPolicy {
            when_full,
            ..InboxPolicy::default()
        }
    }
}

impl From<Accept> for InboxPolicy {
    fn from(accept: Accept) -> Self {
        InboxPolicy {
            accept,
            ..InboxPolicy::default()
        }
    }
}

/// An item that travels through an inbox.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// With its number in a recording.
    Message(Arc<Message>, u64),
    /// Of QoS 1 or 2, in an inbox that accepts by hand.
    ByHand(Held),
    SubscriptionRefused {
        filter: String,
    },
}

/// A message that is accepted once a thread says that it is done.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) message: Arc<Message>,
    pub(crate) delivery: DeliveryId,
    /// How many times it was offered, this time included.
    pub(crate) attempts: u32,
    /// In a recording.
    pub(crate) number: u64,
}

/// The state that both ends share.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Something waits aside for room.
    waiting: AtomicBool,
    dropped: AtomicU64,
    /// The loop counts what is taken.
    is_once_taken: bool,
    /// How many items were taken, if the loop counts them.
    taken: AtomicU64,
    /// Items that waited aside when the loop ended.
    rest: Mutex<VecDeque<Item>>,
    /// Tasks that await the next item.
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) recorder: Option<Recorder>,
}

/// The loop's end of an inbox.
pub(crate) struct Outlet {
    pub(crate) id: InboxId,
    when_full: WhenFull,
    by_hand: Option<ByHand>,
    items: Sender<Item>,
    /// For [`WhenFull::DropOldest`] only: a second receiver would hide that the inbox was dropped.
    oldest: Option<Receiver<Item>>,
    flow: Arc<Flow>,
    /// The inbox does not keep up, and the loop has not noted it yet.
    overflowed: Cell<bool>,
    /// Comes after `items`.
    tasks: WakesAtEnd,
}

/// How an offer to an inbox ended.
#[derive(Debug)]
pub(crate) enum Offer {
    /// The item is in the queue, or was dropped as the inbox's policy says.
    Accepted,
    /// There is no room; this gives the item back.
    Full(Item),
    /// The inbox was dropped.
    Gone,
}

impl Flow {
    /// The inbox's thread has taken an item. Returns whether it has to wake the loop, which waits for that. Each thread
    /// does so until the loop waits no more: the system may stop another one before it has.
    pub(crate) fn taken(&self) -> bool {
        if self.is_once_taken {
            self.taken.fetch_add(1, Ordering::Release);
            return true;
        }
        // Pairs with the fence in `Outlet::wait_for_room`: either this thread sees that something waits,
        // or the loop sees the room.
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many messages were dropped for want of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The next item that waited aside when the loop ended. Call this once the queue is disconnected.
    pub(crate) fn take_rest(&self) -> Option<Item> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.pop_front()
    }
}

impl Outlet {
    /// An inbox for `capacity` messages (at least one): the loop's end, the threads' end, and what both
    /// know.
    pub(crate) fn new(
        id: InboxId,
        capacity: usize,
        policy: InboxPolicy,
        recorder: Option<Recorder>,
    ) -> (Outlet, Receiver<Item>, Arc<Flow>) {
        let InboxPolicy {
            when_full,
            accept,
            by_hand,
        } = policy;
        let (sender, receiver) =
            bounded(capacity.clamp(*ranges::QUEUE.start(), *ranges::QUEUE.end()));
        let flow = Arc::new(Flow {
            is_once_taken: accept == Accept::OnceTaken,
            recorder,
            ..Flow::default()
        });
        let outlet = Outlet {
            id,
            when_full,
            by_hand,
            items: sender,
            oldest: (when_full == WhenFull::DropOldest).then(|| receiver.clone()),
            flow: Arc::clone(&flow),
            overflowed: Cell::new(false),
            tasks: WakesAtEnd(Arc::clone(&flow.tasks)),
        };
        (outlet, receiver, flow)
    }

    /// Puts an item into the queue if there is room, and wakes the tasks that await it. Never waits.
    pub(crate) fn offer(&self, item: Item) -> Offer {
        let offer = self.put(item);
        // A task may have found the queue empty while it was searched for the oldest message.
        if matches!(offer, Offer::Accepted) || self.oldest.is_some() {
            self.tasks.wake_all();
        }
        offer
    }

    /// Puts items into the queue, which has room for them, and wakes the tasks that await them.
    pub(crate) fn hand_over(&self, items: impl Iterator<Item = Item>) {
        for item in items {
            let sent = self.items.try_send(item);
            // An inbox that was dropped meanwhile accepts all.
            debug_assert!(!matches!(sent, Err(TrySendError::Full(_))));
        }
        self.tasks.wake_all();
    }

    fn put(&self, item: Item) -> Offer {
        let message = number_of(&item);
        match self.items.try_send(item) {
            Ok(()) => {
                self.record_offered(message);
                Offer::Accepted
            }
            Err(TrySendError::Disconnected(_)) => Offer::Gone,
            // The news that a subscription is gone is never dropped.
            Err(TrySendError::Full(item @ Item::SubscriptionRefused { .. })) => Offer::Full(item),
            Err(TrySendError::Full(item)) => match self.when_full {
                WhenFull::WaitAside => Offer::Full(item),
                WhenFull::DropNewest => {
                    self.drop_one(message);
                    Offer::Accepted
                }
                WhenFull::DropOldest => {
                    self.drop_oldest();
                    match self.items.try_send(item) {
                        Ok(()) => {
                            self.record_offered(message);
                            Offer::Accepted
                        }
                        Err(TrySendError::Disconnected(_)) => Offer::Accepted,
                        Err(TrySendError::Full(item)) => Offer::Full(item),
                    }
                }
            },
        }
    }

    /// Takes the oldest message out of the queue. Only this thread adds, so there is room then,
    /// unless the queue holds nothing but refusals, which stay.
    fn drop_oldest(&self) {
        let Some(oldest) = &self.oldest else {
            return;
        };
        let mut kept = Vec::new();
        loop {
            match oldest.try_recv() {
                Ok(Item::Message(_, number) | Item::ByHand(Held { number, .. })) => {
                    self.drop_one(number);
                    break;
                }
                Ok(refused) => kept.push(refused),
                Err(_) => break,
            }
        }
        for refused in kept {
            // It has the room that it was taken from.
            let _ = self.items.try_send(refused);
        }
    }

    /// Asks to be woken once there is room. The caller must repeat its offer once after this call: the
    /// thread may have made room just before it.
    pub(crate) fn wait_for_room(&self) {
        self.flow.waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Nothing waits aside any more.
    pub(crate) fn wait_no_more(&self) {
        self.flow.waiting.store(false, Ordering::Relaxed);
    }

    /// Whether the inbox accepts a message only once it is taken.
    pub(crate) fn is_once_taken(&self) -> bool {
        self.flow.is_once_taken
    }

    /// How the inbox accepts by hand, if it does.
    pub(crate) fn by_hand(&self) -> Option<ByHand> {
        self.by_hand
    }

    /// How many items were taken, if the inbox accepts a message only then.
    pub(crate) fn taken(&self) -> u64 {
        self.flow.taken.load(Ordering::Acquire)
    }

    /// For how many items the queue has room, or for more by now.
    pub(crate) fn room(&self) -> usize {
        let capacity = self.items.capacity().unwrap_or(0);
        capacity.saturating_sub(self.items.len())
    }

    /// How many items are in the queue.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The loop ends: leaves what waits aside to the thread, behind what is in the queue.
    pub(crate) fn leave(&self, rest: impl Iterator<Item = Item>) {
        let all = self.flow.rest.lock();
        all.unwrap_or_else(PoisonError::into_inner).extend(rest);
    }

    /// A message is dropped because there is no room. The loop notes it ever more rarely: see
    /// [`Outlet::take_overflow`].
    pub(crate) fn drop_one(&self, number: u64) {
        self.record(number, |message, inbox| What::Dropped { message, inbox });
        self.count_dropped();
        if self.dropped().is_power_of_two() {
            self.note_overflow();
        }
    }

    pub(crate) fn count_dropped(&self) {
        self.flow.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A message goes into the queue.
    pub(crate) fn record_offered(&self, number: u64) {
        self.record(number, |message, inbox| What::Offered { message, inbox });
    }

    /// A message waits aside.
    pub(crate) fn record_aside(&self, number: u64) {
        self.record(number, |message, inbox| What::Aside { message, inbox });
    }

    /// The message with this number, if it is one, goes on.
    fn record(&self, number: u64, what: impl FnOnce(u64, u64) -> What) {
        if let Some(recorder) = &self.flow.recorder
            && number > 0
        {
            recorder.on_loop(what(number, self.id.0));
        }
    }

    /// How many messages were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.flow.dropped()
    }

    /// The inbox does not keep up.
    pub(crate) fn note_overflow(&self) {
        self.overflowed.set(true);
    }

    /// Whether the inbox was noted as one that does not keep up since the last call.
    pub(crate) fn take_overflow(&self) -> bool {
        self.overflowed.replace(false)
    }
}

/// The number of a message in a recording; 0 without one, and for other items.
pub(crate) fn number_of(item: &Item) -> u64 {
    match item {
        Item::Message(_, number) | Item::ByHand(Held { number, .. }) => *number,
        Item::SubscriptionRefused { .. } => 0,
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_that_makes_room_wakes_the_loop_until_the_loop_waits_no_more() {
        let (outlet, _receiver, flow) =
            Outlet::new(InboxId(0), 1, WhenFull::WaitAside.into(), None);
        assert!(!flow.taken());
        outlet.wait_for_room();
        assert!(flow.taken(), "by a thread that is stopped before it does");
        assert!(flow.taken(), "by another one");
        outlet.wait_no_more();
        assert!(!flow.taken());
    }

    /// The queue is empty for a moment while the oldest message is looked for.
    #[test]
    fn a_task_is_woken_also_when_nothing_could_be_dropped() {
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let (outlet, _receiver, flow) =
            Outlet::new(InboxId(0), 1, WhenFull::DropOldest.into(), None);
        let refused = Item::SubscriptionRefused {
            filter: "a".to_owned(),
        };
        assert!(matches!(outlet.offer(refused), Offer::Accepted));
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        flow.tasks.enter(&mut None, &Arc::clone(&flag).into());
        let message = Message::new("b", crate::mqtt::packet::QoS::AtLeastOnce, "x");
        let offered = outlet.offer(Item::Message(Arc::new(message), 0));
        assert!(matches!(offered, Offer::Full(_)));
        assert!(flag.0.load(Ordering::SeqCst));
    }
}
