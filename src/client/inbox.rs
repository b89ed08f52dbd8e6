//! \[9\] The inbox of a subscribed thread: the thread's end of it.
//!
//! The queue is bounded and the loop never waits for room in it (`outlet.rs`, `fanout.rs`). So the
//! thread that takes a message wakes the loop if another message waits aside for room. Any thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use crate::client::lane::LaneSender;
use crate::client::loop_thread;
use crate::client::outlet::{Flow, InboxId, InboxPolicy, Item, Outlet};
use crate::mqtt::packet::Message;

/// The inbox of one thread: what the broker sends for its subscriptions.
///
/// Dropping it ends its subscriptions.
pub struct Inbox {
    id: InboxId,
    items: Receiver<Item>,
    flow: Arc<Flow>,
    lane: LaneSender,
}

/// Why there is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// None came in time.
    #[error("no message arrived in time")]
    Timeout,
    /// The loop has ended and everything that waited for this inbox was taken.
    #[error("the loop has ended")]
    Closed,
    /// The inbox is empty, and the calling thread runs a loop, as inside a callback of
    /// [`Handle::publish_then`](crate::Handle::publish_then): it must not wait, because the loop would wait for itself.
    #[error(
        "a loop's own thread cannot wait for a message; receive on another thread, not inside a callback of `publish_then`"
    )]
    OnLoopThread,
    /// A message for this inbox is above `max_packet_size`. It was read away, and receiving goes on.
    #[error(
        "a message on {topic:?} of {size} bytes is above `max_packet_size` and was passed over"
    )]
    TooLarge {
        /// The topic that it was published to.
        topic: String,
        /// Bytes of its packet, fixed header included.
        size: usize,
    },
    /// After a reconnect the broker refused to subscribe to this filter again.
    #[error("the broker refused to subscribe again to {filter:?}")]
    SubscriptionRefused {
        /// The filter that is no longer subscribed.
        filter: String,
    },
}

impl InboxError {
    /// Whether a loop that receives is to end: nothing will ever come any more, or this thread may not wait for it.
    pub fn is_end(&self) -> bool {
        matches!(self, InboxError::Closed | InboxError::OnLoopThread)
    }

    /// The error that an empty inbox gives to a thread that must not wait.
    pub(crate) fn where_none_may_wait(self) -> Self {
        match self {
            InboxError::Timeout => InboxError::OnLoopThread,
            other => other,
        }
    }
}

impl Inbox {
    /// An inbox for `capacity` messages (at least one) and the loop's end of it.
    pub(crate) fn new(
        id: InboxId,
        capacity: usize,
        policy: InboxPolicy,
        lane: LaneSender,
    ) -> (Inbox, Outlet) {
        let (outlet, receiver, flow) = Outlet::new(id, capacity, policy);
        let inbox = Inbox {
            id,
            items: receiver,
            flow,
            lane,
        };
        (inbox, outlet)
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`InboxError::Closed`] once the loop has ended and everything that waited for this inbox was taken;
    /// [`InboxError::TooLarge`] for each message of QoS 1 and 2 that was passed over, and
    /// [`InboxError::SubscriptionRefused`] once for each subscription that the broker refused to
    /// renew. Receiving goes on after both: see [`InboxError::is_end`]. [`InboxError::OnLoopThread`] where the thread
    /// would have to wait and must not.
    pub fn recv(&self) -> Result<Arc<Message>, InboxError> {
        if loop_thread::is_current() {
            return self.recv_on_loop_thread();
        }
        let item = self.items.recv();
        self.taken(item.or_else(|_| self.rest())?)
    }

    /// Waits for the next message, at most this long.
    ///
    /// # Errors
    /// As [`Inbox::recv`], and [`InboxError::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Arc<Message>, InboxError> {
        if loop_thread::is_current() && !timeout.is_zero() {
            return self.recv_on_loop_thread();
        }
        let item = self.items.recv_timeout(timeout);
        self.taken(item.or_else(|e| match e {
            RecvTimeoutError::Timeout => Err(InboxError::Timeout),
            RecvTimeoutError::Disconnected => self.rest(),
        })?)
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// As [`Inbox::recv`], and [`InboxError::Timeout`] when the queue is empty.
    pub fn try_recv(&self) -> Result<Arc<Message>, InboxError> {
        let item = self.items.try_recv();
        self.taken(item.or_else(|e| match e {
            TryRecvError::Empty => Err(InboxError::Timeout),
            TryRecvError::Disconnected => self.rest(),
        })?)
    }

    fn recv_on_loop_thread(&self) -> Result<Arc<Message>, InboxError> {
        self.try_recv().map_err(InboxError::where_none_may_wait)
    }

    /// How many messages were dropped for want of room, or because they were of QoS 0 and above `max_packet_size`.
    pub fn dropped(&self) -> u64 {
        self.flow.dropped()
    }

    pub(crate) fn id(&self) -> InboxId {
        self.id
    }

    /// The loop has ended and the queue is empty: what waited aside comes next.
    fn rest(&self) -> Result<Item, InboxError> {
        self.flow.take_rest().ok_or(InboxError::Closed)
    }

    /// There is room now. The loop has to know if something waits for it.
    fn taken(&self, item: Item) -> Result<Arc<Message>, InboxError> {
        if self.flow.taken() {
            self.lane.inject_process_loop();
        }
        match item {
            Item::Message(message) => match message.too_large() {
                None => Ok(message),
                Some(size) => Err(InboxError::TooLarge {
                    topic: message.topic().to_owned(),
                    size,
                }),
            },
            Item::SubscriptionRefused { filter } => Err(InboxError::SubscriptionRefused { filter }),
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.lane.close_inbox(self.id);
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
