//! \[2\] Many messages that a thread waits for together, and the completion's side of it.
//!
//! A [`Batch`] does for any number of messages what a [`Ticket`](crate::Ticket) does for one command,
//! and needs no memory for each. The batch belongs to one publishing thread at a time. The loop's
//! thread tells it how each message ended, and takes a lock only for a message that was not
//! delivered and for the last one that the publishing thread or task waits for. A callback that the
//! application may have given runs on the loop's thread, once for messages that end together.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::client::ends::Ends;
use crate::client::loop_thread;
use crate::client::recording::CommandMark;
use crate::mqtt::session::Outcome;

/// Messages that are published together and waited for together: see
/// [`Handle::publish_in`](crate::Handle::publish_in).
///
/// A batch can be used again after it was waited for. It keeps what was not delivered until it is asked
/// for it, so a thread that uses one for ever should wait for it now and then. After it is dropped no
/// thread learns how its messages end; they go on all the same.
///
/// It is also a future of what [`Batch::wait`] returns. `(&mut batch).await` leaves it to be used again.
#[derive(Default)]
pub struct Batch {
    shared: Arc<BatchState>,
    /// For the next messages: see [`Batch::next`].
    more: Vec<Arc<BatchState>>,
    pushed: u64,
}

/// The state that the batch and its completions share.
#[derive(Default)]
pub(crate) struct BatchState {
    ends: Ends,
    undelivered: Mutex<Vec<(u64, Outcome)>>,
    callback: Option<Box<Callback>>,
    /// Of its first message, if there is a recording.
    mark: OnceLock<CommandMark>,
}

/// Code of the application, for messages that have ended.
type Callback = dyn Fn(&[(u64, Outcome)]) + Send + Sync;

impl Batch {
    /// A batch without messages.
    pub fn new() -> Self {
        Batch::default()
    }

    /// A batch that also calls back for its messages as they end, with their numbers and how they ended: to time each
    /// message, or to act on the first one that fails. Messages that were acknowledged together are told in one call, in
    /// the order of their acknowledgments, so the callback can do once for all of them what would be dear for each.
    /// [`Batch::wait`] returns after the callbacks of the messages that it waited for. One callback serves them all, so
    /// it costs no memory for each.
    ///
    /// The loop's thread calls it. What [`Handle::publish_then`](crate::Handle::publish_then) says of its callback
    /// holds for this one, too. A handle that it captures is held for as long as the batch and its messages last.
    ///
    /// ```no_run
    /// # use mqtt_connection_sharing::{Batch, Handle, Outcome, Publish, QoS, Rejected};
    /// # fn f(handle: Handle) -> Result<(), Rejected<Publish>> {
    /// let mut batch = Batch::with_callback(|ends: &[(u64, Outcome)]| {
    ///     for (number, outcome) in ends {
    ///         println!("message {number}: {outcome}");
    ///     }
    /// });
    /// handle.publish_in(Publish::new("rooms/1/light", QoS::AtLeastOnce, "on"), &mut batch)?;
    /// println!("{} failed", batch.wait().len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_callback(callback: impl Fn(&[(u64, Outcome)]) + Send + Sync + 'static) -> Self {
        let mut shared = BatchState::default();
        shared.callback = Some(Box::new(callback));
        Batch {
            shared: Arc::new(shared),
            more: Vec::new(),
            pushed: 0,
        }
    }

    /// Messages pushed with it since it was made. The next one has this number.
    pub fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Messages that have not ended yet.
    pub fn outstanding(&self) -> u64 {
        self.pushed - self.shared.ends.count()
    }

    /// Waits until every message has ended. Returns those that were not delivered since the last call,
    /// in the order of their ends: their numbers, from 0 in the order of pushing, and how they ended.
    /// Empty is good news.
    ///
    /// # Panics
    /// As [`Ticket::wait`](crate::Ticket::wait). (A thread that unwinds from a panic gets what was not delivered until
    /// then.)
    #[track_caller]
    #[must_use = "it says which messages were not delivered"]
    pub fn wait(&mut self) -> Vec<(u64, Outcome)> {
        self.record_wait();
        self.shared.ends.wait_for(self.pushed, None);
        self.record_end();
        std::mem::take(&mut lock(&self.shared.undelivered))
    }

    /// As [`Batch::wait`], but waits at most this long. Returns `None` if not all have ended by then.
    /// Can be called again.
    ///
    /// # Panics
    /// As [`Batch::wait`], unless `timeout` is zero.
    #[track_caller]
    #[must_use = "it says whether all messages have ended, and which were not delivered"]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Vec<(u64, Outcome)>> {
        let deadline = Instant::now().checked_add(timeout);
        if !timeout.is_zero() {
            self.record_wait();
        }
        let all_ended = self.shared.ends.wait_for(self.pushed, deadline);
        if all_ended {
            self.record_end();
        }
        all_ended.then(|| std::mem::take(&mut *lock(&self.shared.undelivered)))
    }

    /// The current thread is about to wait.
    fn record_wait(&self) {
        if let Some(mark) = self.shared.mark.get()
            && self.outstanding() > 0
        {
            mark.waits_for_batch(self.pushed);
        }
    }

    /// The current thread knows that all have ended.
    fn record_end(&self) {
        if let Some(mark) = self.shared.mark.get()
            && self.outstanding() == 0
        {
            mark.batch_told(self.pushed);
        }
    }

    /// The loop's side of the next message, and its number. Where many are pushed, several sides are made at a time: the
    /// loop writes to the same memory, and the two would take it away from each other with each message.
    pub(crate) fn next(&mut self) -> (Arc<BatchState>, u64) {
        if self.more.is_empty() {
            let sides = match self.pushed {
                ..FEW => 0,
                many => many.min(TOGETHER as u64),
            };
            let side = |_| Arc::clone(&self.shared);
            self.more.extend((0..sides).map(side));
        }
        let side = self.more.pop();
        let side = side.unwrap_or_else(|| Arc::clone(&self.shared));
        (side, self.pushed)
    }

    /// The next message was queued.
    pub(crate) fn was_pushed(&mut self) {
        self.pushed += 1;
    }

    /// The last message was not queued after all.
    pub(crate) fn was_withdrawn(&mut self) {
        self.pushed -= 1;
    }
}

impl Future for Batch {
    type Output = Vec<(u64, Outcome)>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Vec<(u64, Outcome)>> {
        match self.shared.ends.poll(self.pushed, context.waker()) {
            true => {
                self.record_end();
                Poll::Ready(std::mem::take(&mut lock(&self.shared.undelivered)))
            }
            false => Poll::Pending,
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.shared.ends.forget_task();
    }
}

/// Messages of one batch that were delivered, one right after the other, and are not counted yet. The publishing thread
/// writes to the memory of its batch for each message that it pushes, so the loop writes there once for many.
#[derive(Default)]
pub(crate) struct Uncounted {
    batches: Vec<Arc<BatchState>>,
    /// For the callback of their batch: empty if it has none.
    ends: Vec<(u64, Outcome)>,
}

/// So many messages of a batch are counted together at most.
const TOGETHER: usize = 64;

/// A batch of no more messages than these takes no memory ahead.
const FEW: u64 = 8;

impl Uncounted {
    /// One more that was delivered. Those of another batch are counted.
    pub(crate) fn add(&mut self, batch: Arc<BatchState>, number: u64, delivered: Outcome) {
        let goes_on = |last: &Arc<BatchState>| Arc::ptr_eq(last, &batch);
        if self.batches.len() >= TOGETHER || !self.batches.last().is_none_or(goes_on) {
            self.count();
        }
        if batch.callback.is_some() {
            self.ends.push((number, delivered));
        }
        self.batches.push(batch);
    }

    /// Counts them all, and calls back for them.
    // Before most events there are none.
    #[inline]
    pub(crate) fn count(&mut self) {
        if !self.batches.is_empty() {
            self.count_some();
        }
    }

    fn count_some(&mut self) {
        if let Some(batch) = self.batches.last() {
            batch.call_back(&self.ends);
            batch.ends.add(self.batches.len() as u64);
            self.batches.clear();
            self.ends.clear();
        }
    }
}

impl Drop for Uncounted {
    /// Also when the loop panics.
    fn drop(&mut self) {
        self.count();
    }
}

impl BatchState {
    /// A message of the batch is recorded under this mark.
    pub(crate) fn record(&self, mark: CommandMark) {
        // The first one stays.
        let _ = self.mark.set(mark);
    }

    /// Message `number` has ended. To be called once for each.
    pub(crate) fn tell(&self, number: u64, outcome: Outcome) {
        let end = (number, outcome);
        self.call_back(std::slice::from_ref(&end));
        if !end.1.is_delivered() {
            lock(&self.undelivered).push(end);
        }
        self.ends.add(1);
    }

    fn call_back(&self, ends: &[(u64, Outcome)]) {
        if let Some(callback) = &self.callback {
            loop_thread::run_foreign("the callback of a batch", || callback(ends));
        }
    }
}

impl Drop for BatchState {
    fn drop(&mut self) {
        // The captured values are the application's, and this may be the loop's thread.
        if let Some(callback) = self.callback.take() {
            loop_thread::run_foreign("the end of a batch's callback", || drop(callback));
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("pushed", &self.pushed)
            .field("outstanding", &self.outstanding())
            .finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::thread;

    use super::*;
    use crate::client::waiter::tests::{Task, block_on};
    use crate::mqtt::session::Reason;

    fn delivered() -> Outcome {
        Outcome::delivered(1, Duration::from_millis(3))
    }

    /// Tells how one message ended.
    fn push(batch: &mut Batch) -> impl FnOnce(Outcome) + use<> {
        let (shared, number) = batch.next();
        batch.was_pushed();
        move |outcome| shared.tell(number, outcome)
    }

    #[test]
    fn only_what_was_not_delivered_is_named_and_once() {
        let mut batch = Batch::new();
        let first = push(&mut batch);
        let second = push(&mut batch);
        let third = push(&mut batch);
        third(Outcome::NeverSent(Reason::LinkLost));
        first(delivered());
        assert_eq!(batch.outstanding(), 1);
        assert_eq!(batch.wait_timeout(Duration::ZERO), None);
        second(Outcome::Cancelled(Reason::LoopEnded));
        let undelivered = [
            (2, Outcome::NeverSent(Reason::LinkLost)),
            (1, Outcome::Cancelled(Reason::LoopEnded)),
        ];
        assert_eq!(batch.wait(), undelivered);
        assert_eq!(batch.wait(), []);
        push(&mut batch)(Outcome::NeverSent(Reason::LinkLost));
        assert_eq!(batch.wait(), [(3, Outcome::NeverSent(Reason::LinkLost))]);
    }

    /// A program may make a batch for each few messages.
    #[test]
    fn a_batch_of_a_few_messages_takes_no_memory_ahead() {
        let mut batch = Batch::new();
        for _ in 0..FEW {
            push(&mut batch)(delivered());
            assert_eq!(batch.more.capacity(), 0);
        }
        push(&mut batch)(delivered());
        assert_eq!(batch.more.len() as u64, FEW - 1);
        assert_eq!(batch.wait(), []);
    }

    #[test]
    fn what_was_not_queued_does_not_count() {
        let mut batch = Batch::new();
        drop(batch.next());
        assert_eq!((batch.pushed(), batch.outstanding()), (0, 0));
        assert_eq!(batch.wait(), []);
    }

    #[test]
    fn a_callback_has_run_for_each_message_before_the_batch_is_waited_for() {
        let told = Arc::<Mutex<Vec<_>>>::default();
        let tell = Arc::clone(&told);
        let mut batch = Batch::with_callback(move |ends: &[_]| {
            assert!(loop_thread::is_current());
            lock(&tell).extend_from_slice(ends);
        });
        let ends = [push(&mut batch), push(&mut batch)];
        drop(batch.next());
        let failed = Outcome::NeverSent(Reason::LinkLost);
        let [first, second] = ends;
        let loop_thread = thread::spawn({
            let failed = failed.clone();
            move || {
                second(failed);
                first(delivered());
            }
        });
        assert_eq!(batch.wait(), [(1, failed.clone())]);
        assert_eq!(*lock(&told), [(1, failed), (0, delivered())]);
        loop_thread.join().unwrap();
        drop(batch);
        assert_eq!(Arc::strong_count(&told), 1);
    }

    #[test]
    fn a_callback_that_panics_changes_nothing_else() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("another bug of a caller");
            }
        }
        let bomb = Bomb;
        let mut batch = Batch::with_callback(move |_| {
            let _captured = &bomb;
            panic!("a bug of a caller");
        });
        push(&mut batch)(delivered());
        push(&mut batch)(Outcome::NeverSent(Reason::LinkLost));
        assert_eq!(batch.wait(), [(1, Outcome::NeverSent(Reason::LinkLost))]);
        drop(batch);
    }

    #[test]
    fn a_batch_is_waited_for_while_its_messages_end_elsewhere() {
        let mut batch = Batch::new();
        for round in 1..=200 {
            let ends: Vec<_> = (0..10).map(|_| push(&mut batch)).collect();
            let loop_thread = thread::spawn(move || {
                for end in ends {
                    end(delivered());
                }
            });
            assert_eq!(batch.wait(), []);
            assert_eq!((batch.pushed(), batch.outstanding()), (10 * round, 0));
            loop_thread.join().unwrap();
        }
    }

    #[test]
    fn messages_that_are_counted_together_are_counted_once_and_nothing_waits_for_another_batch() {
        let mut batches = [Batch::new(), Batch::new()];
        let mut told = Vec::new();
        let mut uncounted = Uncounted::default();
        let mut end = |batch: &mut Batch| {
            let (shared, number) = batch.next();
            batch.was_pushed();
            uncounted.add(shared, number, delivered());
        };
        for (place, times) in [(0, 3), (1, 2), (0, 1), (1, 2 * TOGETHER)] {
            (0..times).for_each(|_| end(&mut batches[place]));
            told.push(batches.each_ref().map(Batch::outstanding));
        }
        let together = TOGETHER as u64;
        assert_eq!(told, [[3, 0], [0, 2], [1, 0], [0, together]]);
        drop(uncounted);
        assert_eq!(batches.each_ref().map(Batch::outstanding), [0, 0]);
        assert_eq!(batches[1].wait(), []);
    }

    #[test]
    fn a_callback_is_called_once_for_messages_that_are_counted_together_before_they_are() {
        let told = Arc::<Mutex<Vec<_>>>::default();
        let mut batches = [0, 1].map(|place| {
            let (told, state) = (
                Arc::clone(&told),
                Arc::new(OnceLock::<Weak<BatchState>>::new()),
            );
            let own = Arc::clone(&state);
            let batch = Batch::with_callback(move |ends: &[(u64, Outcome)]| {
                assert!(loop_thread::is_current());
                let counted = own.get().unwrap().upgrade().unwrap().ends.count();
                let numbers: Vec<_> = ends.iter().map(|(number, _)| *number).collect();
                lock(&told).push((place, numbers, counted));
            });
            state.set(Arc::downgrade(&batch.shared)).unwrap();
            batch
        });
        let mut uncounted = Uncounted::default();
        for place in [0, 0, 0, 1, 0] {
            let (shared, number) = batches[place].next();
            batches[place].was_pushed();
            uncounted.add(shared, number, delivered());
        }
        assert_eq!(batches.each_ref().map(Batch::outstanding), [1, 0]);
        uncounted.count();
        uncounted.count();
        let expected = [(0, vec![0, 1, 2], 0), (1, vec![0], 0), (0, vec![3], 3)];
        assert_eq!(*lock(&told), expected);
        assert_eq!(batches.each_ref().map(Batch::outstanding), [0, 0]);
    }

    #[test]
    fn a_batch_that_is_gone_disturbs_no_other_thread() {
        let mut batch = Batch::new();
        let end = push(&mut batch);
        drop(batch);
        end(delivered());
    }

    #[test]
    fn a_task_awaits_all_messages_of_a_batch_and_uses_it_again() {
        let mut batch = Batch::new();
        assert_eq!(block_on(&mut batch), []);
        let task = Arc::<Task>::default();
        let (first, second) = (push(&mut batch), push(&mut batch));
        assert_eq!(task.poll(&mut batch), Poll::Pending);
        first(Outcome::NeverSent(Reason::LinkLost));
        assert_eq!((task.woken(), batch.outstanding()), (0, 1));
        second(delivered());
        assert_eq!(task.woken(), 1);
        let undelivered = vec![(0, Outcome::NeverSent(Reason::LinkLost))];
        assert_eq!(task.poll(&mut batch), Poll::Ready(undelivered));
        let third = push(&mut batch);
        assert_eq!(task.poll(&mut batch), Poll::Pending);
        third(delivered());
        assert_eq!(block_on(batch), []);
    }
}
