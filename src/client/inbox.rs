//! \[9\] The inbox of a subscribed thread: the thread's end of it.
//!
//! The queue is bounded and the loop never waits for room in it (`outlet.rs`, `fanout.rs`). So the
//! thread that takes a message wakes the loop if another message waits aside for room. Any thread, and any task.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, TryRecvError};

use crate::client::by_hand::{Hold, InboxMessage, Unacknowledged};
use crate::client::inbox_error::InboxError;
use crate::client::lane::{HandEnd, LaneSender};
use crate::client::loop_thread;
use crate::client::next_message::{AnyInbox, InboxIter, NextMessage};
use crate::client::outlet::{ByHand, Flow, Held, InboxId, InboxPolicy, Item, Outlet};
use crate::client::recording::{Recorder, What};
use crate::client::tasks::Tasks;
use crate::mqtt::packet::Message;

/// The inbox of one thread: what the broker sends for its subscriptions.
///
/// Dropping it ends its subscriptions.
///
/// A thread waits for the next message ([`Inbox::recv`]), for all of them (`for message in &inbox`), or for several
/// inboxes and channels at once ([`Inbox::add_to`]); a task awaits it ([`Inbox::recv_async`]). Where several threads or
/// tasks receive from one inbox, each message goes to one of them.
///
/// It gives messages that are acknowledged as its policy says ([`Handle::inbox`](crate::Handle::inbox)), or each as an
/// [`Unacknowledged`] message, which a thread acknowledges
/// ([`Handle::inbox_by_hand`](crate::Handle::inbox_by_hand)).
pub struct Inbox<M = Arc<Message>> {
    id: InboxId,
    items: Receiver<Item>,
    flow: Arc<Flow>,
    lane: LaneSender,
    gives: PhantomData<fn() -> M>,
}

impl Inbox {
    /// An inbox for `capacity` messages (at least one) and the loop's end of it.
    pub(crate) fn new(
        id: InboxId,
        capacity: usize,
        policy: InboxPolicy,
        lane: LaneSender,
        recorder: Option<Recorder>,
    ) -> (Self, Outlet) {
        Inbox::open(id, capacity, policy, lane, recorder)
    }
}

impl Inbox<Unacknowledged> {
    /// As [`Inbox::new`], for messages that are acknowledged by hand.
    pub(crate) fn by_hand(
        id: InboxId,
        capacity: usize,
        by_hand: ByHand,
        lane: LaneSender,
        recorder: Option<Recorder>,
    ) -> (Self, Outlet) {
        let policy = InboxPolicy::by_hand(by_hand);
        Inbox::open(id, capacity, policy, lane, recorder)
    }
}

impl<M: InboxMessage> Inbox<M> {
    /// Waits for the next message.
    ///
    /// # Errors
    /// [`InboxError::Closed`] once the loop has ended and everything that waited for this inbox was taken;
    /// [`InboxError::TooLarge`] for each message of QoS 1 and 2 that was passed over, and
    /// [`InboxError::SubscriptionRefused`] once for each subscription that the broker refused to
    /// renew. Receiving goes on after both: see [`InboxError::is_end`]. [`InboxError::OnLoopThread`] where the thread
    /// would have to wait and must not.
    pub fn recv(&self) -> Result<M, InboxError> {
        if loop_thread::is_current() {
            return self.recv_on_loop_thread();
        }
        self.record_wait();
        let item = self.items.recv();
        self.taken(item.or_else(|_| self.rest())?)
    }

    /// Waits for the next message, at most this long.
    ///
    /// # Errors
    /// As [`Inbox::recv`], and [`InboxError::Timeout`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<M, InboxError> {
        if loop_thread::is_current() && !timeout.is_zero() {
            return self.recv_on_loop_thread();
        }
        if !timeout.is_zero() {
            self.record_wait();
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
    pub fn try_recv(&self) -> Result<M, InboxError> {
        let item = self.items.try_recv();
        self.taken(item.or_else(|e| match e {
            TryRecvError::Empty => Err(InboxError::Timeout),
            TryRecvError::Disconnected => self.rest(),
        })?)
    }

    /// A future of the next message, as [`Inbox::recv`] gives it, for any executor. The loop's thread wakes the task.
    ///
    /// A future that is dropped takes no message with it. Each message wakes all tasks that await one of this inbox.
    ///
    /// ```no_run
    /// # use mqtt_connection_sharing::{Inbox, InboxError};
    /// # async fn f(inbox: Inbox) {
    /// loop {
    ///     match inbox.recv_async().await {
    ///         Ok(message) => println!("{}", message.topic()),
    ///         Err(end) if end.is_end() => break,
    ///         Err(problem) => println!("{problem}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn recv_async(&self) -> NextMessage<'_, M> {
        NextMessage::of(self)
    }

    /// All messages and problems to come, as [`Inbox::recv`] gives them. Waits for each. Ends where
    /// [`InboxError::is_end`] holds: without a word once the loop has ended, and after the error on a loop's thread.
    pub fn iter(&self) -> InboxIter<'_, M> {
        InboxIter::of(self)
    }

    /// Whether [`Inbox::try_recv`] has something to give: a message, a problem, or the end.
    pub fn ready(&self) -> bool {
        let mut select = Select::new();
        self.add_to(&mut select);
        select.try_ready().is_ok()
    }

    /// Adds this inbox to a [`Select`] of crossbeam-channel 0.5, which waits for several inboxes and channels at once.
    /// Returns its number there. Call [`Select::ready`] (or `try_ready`, `ready_timeout`, `ready_deadline`) and then
    /// [`Inbox::try_recv`], which tells the loop that there is room; it gives [`InboxError::Timeout`] if another thread
    /// was faster. `Select::select` is of no use here: it wants the channel itself, and panics.
    ///
    /// A callback on the loop's thread must not wait so: no error tells it.
    ///
    /// ```no_run
    /// # use crossbeam_channel::{Receiver, Select};
    /// # use mqtt_connection_sharing::{Inbox, InboxError};
    /// # fn f(inbox: Inbox, stop: Receiver<()>) -> Result<(), InboxError> {
    /// let mut select = Select::new();
    /// let messages = inbox.add_to(&mut select);
    /// select.recv(&stop);
    /// while select.ready() == messages {
    ///     match inbox.try_recv() {
    ///         Ok(message) => println!("{}", message.topic()),
    ///         Err(end) if end.is_end() => return Err(end),
    ///         Err(problem) => println!("{problem}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_to<'a>(&'a self, select: &mut Select<'a>) -> usize {
        select.recv(&self.items)
    }

    /// How many messages are in this inbox now. Those that wait aside for room in it are not counted, and a problem counts
    /// as a message. Any thread may ask.
    pub fn waiting(&self) -> usize {
        self.items.len()
    }

    fn recv_on_loop_thread(&self) -> Result<M, InboxError> {
        self.try_recv().map_err(InboxError::where_none_may_wait)
    }

    /// The loop has ended and the queue is empty: what waited aside comes next.
    fn rest(&self) -> Result<Item, InboxError> {
        self.flow.take_rest().ok_or(InboxError::Closed)
    }

    /// There is room now. The loop has to know if something waits for it.
    fn taken(&self, item: Item) -> Result<M, InboxError> {
        if let Some(recorder) = &self.flow.recorder
            && let Item::Message(_, message)
            | Item::ByHand(Held {
                number: message, ..
            }) = &item
        {
            let (message, inbox) = (*message, self.number());
            recorder.on_thread(What::TakenOut { message, inbox });
        }
        if self.flow.taken() {
            self.lane.inject_process_loop();
        }
        let (message, hold) = match item {
            Item::Message(message, _) => (message, None),
            Item::ByHand(held) => {
                let end = HandEnd {
                    inbox: self.id,
                    delivery: held.delivery,
                    is_done: false,
                };
                let hold = Hold::new(self.lane.clone(), end, held.attempts);
                (held.message, Some(hold))
            }
            Item::SubscriptionRefused { filter } => {
                return Err(InboxError::SubscriptionRefused { filter });
            }
        };
        let Some(size) = message.too_large() else {
            return Ok(M::given(message, hold));
        };
        hold.into_iter().for_each(Hold::pass_over);
        Err(InboxError::TooLarge {
            topic: message.topic().to_owned(),
            size,
        })
    }
}

impl<M> Inbox<M> {
    fn open(
        id: InboxId,
        capacity: usize,
        policy: InboxPolicy,
        lane: LaneSender,
        recorder: Option<Recorder>,
    ) -> (Self, Outlet) {
        let (outlet, receiver, flow) = Outlet::new(id, capacity, policy, recorder);
        let inbox = Inbox {
            id,
            items: receiver,
            flow,
            lane,
            gives: PhantomData,
        };
        (inbox, outlet)
    }

    /// How many messages were dropped for want of room, or because they were of QoS 0 and above `max_packet_size`.
    pub fn dropped(&self) -> u64 {
        self.flow.dropped()
    }

    /// Names the inbox in a [recording](crate::recording).
    pub fn number(&self) -> u64 {
        self.id.0
    }

    /// The current thread may have to wait.
    fn record_wait(&self) {
        if let Some(recorder) = &self.flow.recorder
            && self.items.is_empty()
        {
            let inbox = self.number();
            recorder.on_thread(What::WaitsForMessage { inbox });
        }
    }

    pub(crate) fn id(&self) -> InboxId {
        self.id
    }
}

impl<M: InboxMessage> AnyInbox<M> for Inbox<M> {
    fn receive(&self) -> Result<M, InboxError> {
        self.recv()
    }

    fn try_receive(&self) -> Result<M, InboxError> {
        self.try_recv()
    }

    fn tasks(&self) -> &Tasks {
        &self.flow.tasks
    }
}

impl<'a, M: InboxMessage> IntoIterator for &'a Inbox<M> {
    type Item = Result<M, InboxError>;
    type IntoIter = InboxIter<'a, M>;

    fn into_iter(self) -> InboxIter<'a, M> {
        self.iter()
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        // A future that was leaked has left its task behind. It must not be woken under the lane's lock.
        self.flow.tasks.wake_all();
        self.lane.close_inbox(self.id);
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("waiting", &self.items.len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::bounded;

    use super::*;
    use crate::client::lane::{UrgentLane, urgent_lane};
    use crate::client::outlet::{Accept, Offer, WhenFull};
    use crate::client::waiter::tests::{Task, block_on};
    use crate::mqtt::packet::QoS;

    fn inbox(capacity: usize, policy: impl Into<InboxPolicy>) -> (Inbox, Outlet, UrgentLane) {
        let (sender, lane) = urgent_lane(Arc::default());
        let (inbox, outlet) = Inbox::new(InboxId(0), capacity, policy.into(), sender, None);
        (inbox, outlet, lane)
    }

    fn deliver(outlet: &Outlet, topic: &str) {
        let message = Message::new(topic.to_owned(), QoS::AtLeastOnce, "");
        let offer = outlet.offer(Item::Message(Arc::new(message), 0));
        assert!(matches!(offer, Offer::Accepted));
    }

    fn topic(received: Result<Arc<Message>, InboxError>) -> String {
        received.unwrap().topic().to_owned()
    }

    #[test]
    fn an_awaited_message_wakes_its_task_and_the_loop_learns_that_it_was_taken() {
        let (inbox, outlet, lane) = inbox(2, Accept::OnceTaken);
        let task = Arc::<Task>::default();
        let mut next = inbox.recv_async();
        assert!(task.poll(&mut next).is_pending());
        deliver(&outlet, "a");
        deliver(&outlet, "b");
        assert_eq!(task.woken(), 1, "it asks again before it is woken again");
        assert!(task.poll(&mut next).is_ready());
        assert!(lane.take_process_loop());
        assert_eq!(outlet.taken(), 1);
        assert_eq!(topic(block_on(inbox.recv_async())), "b");
    }

    #[test]
    fn a_future_that_is_dropped_takes_no_message_with_it() {
        let (inbox, outlet, _lane) = inbox(1, WhenFull::WaitAside);
        let (dropped, kept) = (Arc::<Task>::default(), Arc::<Task>::default());
        let (mut first, mut second) = (inbox.recv_async(), inbox.recv_async());
        assert!(dropped.poll(&mut first).is_pending());
        assert!(kept.poll(&mut second).is_pending());
        drop(first);
        deliver(&outlet, "a");
        assert_eq!((dropped.woken(), kept.woken()), (0, 1));
        assert!(kept.poll(&mut second).is_ready());
    }

    #[test]
    fn the_end_of_the_loop_wakes_a_task_after_the_queue_is_disconnected() {
        let (inbox, outlet, _lane) = inbox(1, WhenFull::WaitAside);
        let inbox = Arc::new(inbox);
        let (tell, ended) = bounded(1);
        let look = Arc::clone(&inbox);
        let task = Task::doing(move || tell.send(look.try_recv().map(drop)).unwrap());
        let mut next = inbox.recv_async();
        assert!(task.poll(&mut next).is_pending());
        drop(outlet);
        assert_eq!(ended.try_recv(), Ok(Err(InboxError::Closed)));
        assert_eq!(block_on(&mut next).map(drop), Err(InboxError::Closed));
    }

    #[test]
    fn a_message_wakes_each_task_once_also_one_that_awaits_again_inside_its_waker() {
        let (inbox, outlet, _lane) = inbox(1, WhenFull::WaitAside);
        let inbox = Arc::new(inbox);
        let again = Arc::clone(&inbox);
        let task = Task::doing(move || {
            // It is leaked, so that it goes on waiting.
            let mut next = again.recv_async();
            while again.try_recv().is_ok() {}
            assert!(Arc::<Task>::default().poll(&mut next).is_pending());
            std::mem::forget(next);
        });
        let mut next = inbox.recv_async();
        assert!(task.poll(&mut next).is_pending());
        deliver(&outlet, "a");
        assert_eq!(task.woken(), 1);
    }

    #[test]
    fn an_inbox_is_iterated_until_the_loop_has_ended_and_the_rest_is_taken() {
        let (inbox, outlet, _lane) = inbox(1, WhenFull::WaitAside);
        deliver(&outlet, "a");
        let filter = || "f".to_owned();
        let refused = Item::SubscriptionRefused { filter: filter() };
        outlet.leave(std::iter::once(refused));
        drop(outlet);
        let mut iter = inbox.iter();
        assert_eq!(iter.next().map(topic).as_deref(), Some("a"));
        let refused = InboxError::SubscriptionRefused { filter: filter() };
        assert_eq!(iter.next().unwrap().unwrap_err(), refused);
        assert!(iter.next().is_none() && iter.next().is_none());
    }

    #[test]
    fn on_a_loops_thread_an_empty_inbox_is_iterated_no_further_than_the_error() {
        let (inbox, outlet, _lane) = inbox(1, WhenFull::WaitAside);
        deliver(&outlet, "a");
        let _loop = loop_thread::enter();
        let all: Vec<_> = inbox.into_iter().map(|one| one.map(drop)).collect();
        assert_eq!(all, [Ok(()), Err(InboxError::OnLoopThread)]);
        let mut next = inbox.recv_async();
        assert!(Arc::<Task>::default().poll(&mut next).is_pending());
    }

    #[test]
    fn a_thread_selects_between_inboxes_and_a_channel_and_tells_the_loop_what_it_takes() {
        let (inbox, outlet, lane) = inbox(1, WhenFull::WaitAside);
        let (_other, quiet) = bounded::<()>(1);
        assert!(!inbox.ready());
        let mut select = Select::new();
        select.recv(&quiet);
        let place = inbox.add_to(&mut select);
        let delivering = thread::spawn(move || {
            deliver(&outlet, "a");
            outlet.wait_for_room();
            outlet
        });
        assert_eq!(select.ready(), place);
        assert!(inbox.ready());
        let outlet = delivering.join().unwrap();
        assert_eq!(topic(inbox.try_recv()), "a");
        assert!(lane.take_process_loop());
        assert!(!inbox.ready());
        drop(outlet);
        assert_eq!(select.ready(), place, "the end is told, too");
        assert_eq!(inbox.try_recv().map(drop), Err(InboxError::Closed));
    }
}
