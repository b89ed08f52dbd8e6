//! Why an inbox has no message for the thread or task that receives.

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
