//! \[9\] The default inbox: the messages that matched no subscription. Any thread and any task takes them.
//!
//! It is bounded, and the loop drops and counts a message that finds no room in it (`fanout.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, TryRecvError};

use crate::client::inbox_error::InboxError;
use crate::client::loop_thread;
use crate::client::next_message::{AnyInbox, InboxIter, NextMessage};
use crate::client::recording::{DEFAULT_INBOX, Recorder, What};
use crate::client::tasks::Tasks;
use crate::mqtt::packet::Message;

/// The messages that matched no subscription: see [`Handle::unmatched`](crate::Handle::unmatched). Each goes to one
/// of the threads that take them.
#[derive(Clone)]
pub struct DefaultInbox {
    /// With their numbers in a recording.
    messages: Receiver<(Arc<Message>, u64)>,
    tasks: Arc<Tasks>,
    recorder: Option<Recorder>,
}

impl DefaultInbox {
    pub(crate) fn new(
        messages: Receiver<(Arc<Message>, u64)>,
        tasks: Arc<Tasks>,
        recorder: Option<Recorder>,
    ) -> Self {
        DefaultInbox {
            messages,
            tasks,
            recorder,
        }
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
        self.record_wait();
        let message = self.messages.recv();
        message
            .map(|it| self.taken(it))
            .map_err(|_| InboxError::Closed)
    }

    /// Waits for the next message, at most this long.
    ///
    /// # Errors
    /// As [`DefaultInbox::recv`], and [`InboxError::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Arc<Message>, InboxError> {
        if loop_thread::is_current() && !timeout.is_zero() {
            return self.recv_on_loop_thread();
        }
        if !timeout.is_zero() {
            self.record_wait();
        }
        let message = self.messages.recv_timeout(timeout);
        message.map(|it| self.taken(it)).map_err(|e| match e {
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
        let message = self.messages.try_recv();
        message.map(|it| self.taken(it)).map_err(|e| match e {
            TryRecvError::Empty => InboxError::Timeout,
            TryRecvError::Disconnected => InboxError::Closed,
        })
    }

    /// A future of the next message, for a task of any executor: see [`Inbox::recv_async`](crate::Inbox::recv_async).
    pub fn recv_async(&self) -> NextMessage<'_> {
        NextMessage::of(self)
    }

    /// All messages to come. Waits for each: see [`Inbox::iter`](crate::Inbox::iter).
    pub fn iter(&self) -> InboxIter<'_> {
        InboxIter::of(self)
    }

    /// Whether [`DefaultInbox::try_recv`] has something to give: a message, or the end.
    pub fn ready(&self) -> bool {
        let mut select = Select::new();
        self.add_to(&mut select);
        select.try_ready().is_ok()
    }

    /// Adds this inbox to a [`Select`] of crossbeam-channel 0.5: see [`Inbox::add_to`](crate::Inbox::add_to). Returns its
    /// number there.
    pub fn add_to<'a>(&'a self, select: &mut Select<'a>) -> usize {
        select.recv(&self.messages)
    }

    /// The messages that are there. Never waits.
    pub fn try_iter(&self) -> impl Iterator<Item = Arc<Message>> {
        self.messages.try_iter().map(|it| self.taken(it))
    }

    /// How many messages are there.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is there.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn taken(&self, (message, number): (Arc<Message>, u64)) -> Arc<Message> {
        if let Some(recorder) = &self.recorder {
            let (message, inbox) = (number, DEFAULT_INBOX);
            recorder.on_thread(What::TakenOut { message, inbox });
        }
        message
    }

    /// The current thread may have to wait.
    fn record_wait(&self) {
        if let Some(recorder) = &self.recorder
            && self.is_empty()
        {
            let inbox = DEFAULT_INBOX;
            recorder.on_thread(What::WaitsForMessage { inbox });
        }
    }

    fn recv_on_loop_thread(&self) -> Result<Arc<Message>, InboxError> {
        self.try_recv().map_err(InboxError::where_none_may_wait)
    }
}

impl AnyInbox<Arc<Message>> for DefaultInbox {
    fn receive(&self) -> Result<Arc<Message>, InboxError> {
        self.recv()
    }

    fn try_receive(&self) -> Result<Arc<Message>, InboxError> {
        self.try_recv()
    }

    fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}

impl<'a> IntoIterator for &'a DefaultInbox {
    type Item = Result<Arc<Message>, InboxError>;
    type IntoIter = InboxIter<'a>;

    fn into_iter(self) -> InboxIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for DefaultInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultInbox")
            .field("waiting", &self.len())
            .finish_non_exhaustive()
    }
}
