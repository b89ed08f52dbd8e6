//! The next message of an inbox, or of the default inbox: a future of it for tasks, and an iterator over all of them for
//! threads.
//!
//! A task waits in the list of `tasks.rs` where a thread would, and blocks none of its executor's threads. Any thread
//! polls; the loop's thread wakes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::client::inbox_error::InboxError;
use crate::client::tasks::Tasks;
use crate::mqtt::packet::Message;

/// An inbox of a thread, or the default inbox.
pub(crate) trait AnyInbox<M>: fmt::Debug + Sync {
    /// As [`Inbox::recv`](crate::Inbox::recv).
    fn receive(&self) -> Result<M, InboxError>;

    /// As [`Inbox::try_recv`](crate::Inbox::try_recv).
    fn try_receive(&self) -> Result<M, InboxError>;

    /// The tasks that wait for a message.
    fn tasks(&self) -> &Tasks;
}

/// The next message of an inbox: see [`Inbox::recv_async`](crate::Inbox::recv_async).
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited"]
pub struct NextMessage<'a, M = Arc<Message>> {
    inbox: &'a dyn AnyInbox<M>,
    /// Under which the task waits.
    number: Option<u64>,
}

impl<M> Future for NextMessage<'_, M> {
    type Output = Result<M, InboxError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let inbox = this.inbox;
        let received = match inbox.try_receive() {
            Err(InboxError::Timeout) => {
                let tasks = inbox.tasks();
                tasks.enter(&mut this.number, context.waker());
                inbox.try_receive()
            }
            received => received,
        };
        match received {
            Err(InboxError::Timeout) => Poll::Pending,
            received => {
                this.wait_no_more();
                Poll::Ready(received)
            }
        }
    }
}

impl<'a, M> NextMessage<'a, M> {
    pub(crate) fn of(inbox: &'a dyn AnyInbox<M>) -> Self {
        NextMessage {
            inbox,
            number: None,
        }
    }

    fn wait_no_more(&mut self) {
        if let Some(number) = self.number.take() {
            self.inbox.tasks().leave(number);
        }
    }
}

impl<M> Drop for NextMessage<'_, M> {
    fn drop(&mut self) {
        self.wait_no_more();
    }
}

/// All that comes into an inbox: see [`Inbox::iter`](crate::Inbox::iter).
#[derive(Debug)]
pub struct InboxIter<'a, M = Arc<Message>> {
    inbox: &'a dyn AnyInbox<M>,
    has_ended: bool,
}

impl<'a, M> InboxIter<'a, M> {
    pub(crate) fn of(inbox: &'a dyn AnyInbox<M>) -> Self {
        InboxIter {
            inbox,
            has_ended: false,
        }
    }
}

impl<M> Iterator for InboxIter<'_, M> {
    type Item = Result<M, InboxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let received = self.inbox.receive();
        self.has_ended = received.as_ref().is_err_and(InboxError::is_end);
        match received {
            Err(InboxError::Closed) => None,
            received => Some(received),
        }
    }
}

impl<M> std::iter::FusedIterator for InboxIter<'_, M> {}
