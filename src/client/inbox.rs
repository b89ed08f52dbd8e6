//! \[9\] The response queue of a subscribed thread.
//!
//! An [`Inbox`] is the thread's end, an `Outlet` the loop's. The queue is bounded; the loop never
//! waits for room in it (see `fanout.rs`), so when something waits aside the thread that makes room
//! wakes the loop. No lock; a wake-up only when something waits aside.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};

use crate::client::command::Urgent;
use crate::client::lane::Waker;
use crate::mqtt::packet::Message;
use crate::options::LARGEST_QUEUE;

/// Names a response queue within one loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InboxId(pub(crate) u64);

/// What happens to a message for which a response queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenFull {
    /// QoS 1 and 2 wait aside, unacknowledged, until there is room; QoS 0 is dropped and counted.
    #[default]
    WaitAside,
    /// The oldest message in the queue makes room, and is counted.
    DropOldest,
    /// The message itself is dropped, and counted.
    DropNewest,
}

/// The response queue of one thread: what the broker sends for its subscriptions.
///
/// Dropping it ends its subscriptions.
pub struct Inbox {
    id: InboxId,
    items: Receiver<Item>,
    flow: Arc<Flow>,
    waker: Waker,
    /// The loop is told of it.
    opened: bool,
}

/// Why there is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// None came in time.
    #[error("no message arrived in time")]
    Timeout,
    /// The loop has ended and everything it delivered was taken.
    #[error("the loop has ended")]
    Closed,
    /// It was not opened: see [`Handle::inbox`](crate::Handle::inbox).
    #[error("the inbox was not opened: too many requests go ahead of the command queue already")]
    NotOpened,
    /// After a reconnect the broker refused to subscribe to this filter again.
    #[error("the broker refused to subscribe again to {filter:?}")]
    SubscriptionRefused {
        /// The filter that is no longer subscribed.
        filter: String,
    },
}

/// What travels through a response queue.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Message(Arc<Message>),
    SubscriptionRefused { filter: String },
}

/// What both ends know of each other.
#[derive(Debug, Default)]
struct Flow {
    /// Something waits aside for room.
    waiting: AtomicBool,
    dropped: AtomicU64,
}

/// The loop's end of a response queue.
pub(crate) struct Outlet {
    pub(crate) id: InboxId,
    pub(crate) when_full: WhenFull,
    items: Sender<Item>,
    /// For [`WhenFull::DropOldest`] only: a second receiver would hide that the inbox went away.
    oldest: Option<Receiver<Item>>,
    flow: Arc<Flow>,
}

/// How an offer to a response queue ended.
#[derive(Debug)]
pub(crate) enum Offer {
    /// It is in the queue, or was dropped as its policy says.
    Accepted,
    /// No room; here it is back.
    Full(Item),
    /// The inbox went away.
    Gone,
}

impl Inbox {
    /// A response queue for `capacity` messages (at least one) and the loop's end of it.
    pub(crate) fn new(
        id: InboxId,
        capacity: usize,
        when_full: WhenFull,
        waker: Waker,
    ) -> (Inbox, Outlet) {
        let (sender, receiver) = bounded(capacity.clamp(1, LARGEST_QUEUE));
        let flow = Arc::new(Flow::default());
        let outlet = Outlet {
            id,
            when_full,
            items: sender,
            oldest: (when_full == WhenFull::DropOldest).then(|| receiver.clone()),
            flow: Arc::clone(&flow),
        };
        let inbox = Inbox {
            id,
            items: receiver,
            flow,
            waker,
            opened: true,
        };
        (inbox, outlet)
    }

    /// One that the loop is never told of and that nothing arrives in.
    pub(crate) fn not_opened(id: InboxId, waker: Waker) -> Inbox {
        let (mut inbox, _) = Inbox::new(id, 1, WhenFull::DropNewest, waker);
        inbox.opened = false;
        inbox
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`InboxError::Closed`] once the loop has ended and the queue is empty;
    /// [`InboxError::SubscriptionRefused`] once for each subscription that the broker refused to
    /// renew, after which receiving goes on; [`InboxError::NotOpened`] always, if it was not opened.
    pub fn recv(&self) -> Result<Arc<Message>, InboxError> {
        let item = self.items.recv().map_err(|_| self.nothing_more())?;
        self.taken(item)
    }

    /// Waits for the next message, at most this long.
    ///
    /// # Errors
    /// As [`Inbox::recv`], and [`InboxError::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Arc<Message>, InboxError> {
        let item = self.items.recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout => InboxError::Timeout,
            RecvTimeoutError::Disconnected => self.nothing_more(),
        })?;
        self.taken(item)
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// As [`Inbox::recv`], and [`InboxError::Timeout`] when the queue is empty.
    pub fn try_recv(&self) -> Result<Arc<Message>, InboxError> {
        let item = self.items.try_recv().map_err(|e| match e {
            TryRecvError::Empty => InboxError::Timeout,
            TryRecvError::Disconnected => self.nothing_more(),
        })?;
        self.taken(item)
    }

    /// How many messages were dropped for want of room.
    pub fn dropped(&self) -> u64 {
        self.flow.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn id(&self) -> InboxId {
        self.id
    }

    pub(crate) fn is_opened(&self) -> bool {
        self.opened
    }

    fn nothing_more(&self) -> InboxError {
        match self.opened {
            true => InboxError::Closed,
            false => InboxError::NotOpened,
        }
    }

    /// There is room now: the loop wants to know if something waits for it.
    fn taken(&self, item: Item) -> Result<Arc<Message>, InboxError> {
        // Pairs with the fence in `Outlet::wait_for_room`: either we see that something waits, or
        // the loop sees the room that we made.
        fence(Ordering::SeqCst);
        if self.flow.waiting.load(Ordering::Relaxed) {
            self.flow.waiting.store(false, Ordering::Relaxed);
            self.waker.wake();
        }
        match item {
            Item::Message(message) => Ok(message),
            Item::SubscriptionRefused { filter } => Err(InboxError::SubscriptionRefused { filter }),
        }
    }
}

impl Drop for Inbox {
    /// Always heard: there are no more of these on the way than inboxes that were opened.
    fn drop(&mut self) {
        if self.opened {
            self.waker.tell(Urgent::CloseInbox(self.id));
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("waiting", &self.items.len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

impl Outlet {
    /// Puts an item into the queue if there is room. Never waits.
    pub(crate) fn offer(&self, item: Item) -> Offer {
        match self.items.try_send(item) {
            Ok(()) => Offer::Accepted,
            Err(TrySendError::Disconnected(_)) => Offer::Gone,
            // That a subscription is gone is never dropped.
            Err(TrySendError::Full(item @ Item::SubscriptionRefused { .. })) => Offer::Full(item),
            Err(TrySendError::Full(item)) => match self.when_full {
                WhenFull::WaitAside => Offer::Full(item),
                WhenFull::DropNewest => {
                    self.count_dropped();
                    Offer::Accepted
                }
                WhenFull::DropOldest => {
                    self.drop_oldest();
                    match self.items.try_send(item) {
                        Ok(()) | Err(TrySendError::Disconnected(_)) => Offer::Accepted,
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
                Ok(Item::Message(_)) => {
                    self.count_dropped();
                    break;
                }
                Ok(refused) => kept.push(refused),
                Err(_) => break,
            }
        }
        for refused in kept {
            // There is the room that it was taken from.
            let _ = self.items.try_send(refused);
        }
    }

    /// Asks to be woken once there is room. The offer must be repeated once after this call: room
    /// may have been made just before it.
    pub(crate) fn wait_for_room(&self) {
        self.flow.waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn count_dropped(&self) {
        self.flow.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
