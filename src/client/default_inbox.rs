//! \[9\] The default inbox: the messages that matched no subscription. Any thread takes them.
//!
//! It is bounded, and the loop drops and counts a message that finds no room in it (`fanout.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use crate::client::inbox::InboxError;
use crate::client::loop_thread;
use crate::mqtt::packet::Message;

/// The messages that matched no subscription: see [`Handle::unmatched`](crate::Handle::unmatched). Each goes to one
/// of the threads that take them.
#[derive(Clone)]
pub struct DefaultInbox {
    messages: Receiver<Arc<Message>>,
}

impl DefaultInbox {
    pub(crate) fn new(messages: Receiver<Arc<Message>>) -> Self {
        DefaultInbox { messages }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`InboxError::Closed`] once the loop has ended and the inbox is empty; [`InboxError::OnLoopThread`] where the
    /// thread would have to wait and must not.
    pub fn recv(&self) -> Result<Arc<Message>, InboxError> {
        if loop_thread::is_current() {
            return self.recv_on_loop_thread();
        }
        self.messages.recv().map_err(|_| InboxError::Closed)
    }

    /// Waits for the next message, at most this long.
    ///
    /// # Errors
    /// As [`DefaultInbox::recv`], and [`InboxError::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Arc<Message>, InboxError> {
        if loop_thread::is_current() && !timeout.is_zero() {
            return self.recv_on_loop_thread();
        }
        self.messages.recv_timeout(timeout).map_err(|e| match e {
            RecvTimeoutError::Timeout => InboxError::Timeout,
            RecvTimeoutError::Disconnected => InboxError::Closed,
        })
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// [`InboxError::Closed`] once the loop has ended and the inbox is empty, [`InboxError::Timeout`] when it is only
    /// empty.
    pub fn try_recv(&self) -> Result<Arc<Message>, InboxError> {
        self.messages.try_recv().map_err(|e| match e {
            TryRecvError::Empty => InboxError::Timeout,
            TryRecvError::Disconnected => InboxError::Closed,
        })
    }

    /// The messages that are there. Never waits.
    pub fn try_iter(&self) -> impl Iterator<Item = Arc<Message>> {
        self.messages.try_iter()
    }

    /// How many messages are there.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is there.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn recv_on_loop_thread(&self) -> Result<Arc<Message>, InboxError> {
        self.try_recv().map_err(InboxError::where_none_may_wait)
    }
}

impl fmt::Debug for DefaultInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultInbox")
            .field("waiting", &self.len())
            .finish_non_exhaustive()
    }
}
