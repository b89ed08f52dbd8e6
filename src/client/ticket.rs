//! \[2\] The two ends of a command's outcome: the [`Ticket`] that a thread holds, and the `Completion`
//! that travels with the command.
//!
//! Telling the outcome consumes a completion, so it is told once. A completion that is dropped untold
//! tells "cancelled". Telling never blocks, and makes no system call unless a thread waits. Tickets
//! live on any thread and in any task, completions end on the loop's thread.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::client::batch::{Batch, BatchState, Uncounted};
use crate::client::ends::Ends;
use crate::client::loop_thread;
use crate::client::recording::CommandMark;
use crate::mqtt::session::{Outcome, Reason};

/// Tells how a command ended: exactly once, and as often as it is asked.
///
/// It can be waited on, waited on again after a time-out, moved to another thread, or dropped: the
/// command goes on all the same.
///
/// It is also a future of the [`Outcome`], for any executor: the loop's thread wakes the task. `&mut ticket` is one,
/// too, for a task that awaits it beside something else and keeps it. Awaiting needs no other thread, and no feature.
///
/// ```no_run
/// # use mqtt_connection_sharing::{Handle, Publish, QoS};
/// # async fn f(handle: Handle) -> Result<(), Box<dyn std::error::Error>> {
/// let message = Publish::new("rooms/1/light", QoS::AtLeastOnce, "on");
/// let ticket = handle.publish_async(message).await?;
/// ticket.await.into_result()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "without its ticket nobody learns how the command ended; drop it if that is meant"]
pub struct Ticket {
    shared: Arc<TicketState>,
}

#[derive(Default)]
struct TicketState {
    outcome: OnceLock<Outcome>,
    /// Counts the one command.
    ends: Ends,
    /// Set before the command is queued, if there is a recording.
    mark: OnceLock<CommandMark>,
}

/// The loop's end: consumed by telling the outcome.
pub(crate) struct Completion {
    notify: Notify,
}

/// Completions that end together. A completion whose ticket was dropped is not kept for long: there are
/// never many more of them than tickets that threads hold, however often a thread repeats its request.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    kept: Vec<Completion>,
    /// Forgets what no thread awaits once so many are kept.
    forget_at: usize,
}

/// Completions that are kept before the first look at which of them are awaited.
const FORGET_FROM: usize = 64;

/// Each has the number of the command in a recording, or 0. It stands in each variant because there it takes no memory.
enum Notify {
    Nobody,
    Ticket(u32, Arc<TicketState>),
    Callback(u32, Box<dyn FnOnce(Outcome) + Send>),
    /// A message with this number in the batch.
    Batch(u32, Arc<BatchState>, u64),
}

impl Ticket {
    /// A ticket and the completion that resolves it.
    pub(crate) fn new() -> (Ticket, Completion) {
        let shared = Arc::new(TicketState::default());
        let completion = Completion {
            notify: Notify::Ticket(0, Arc::clone(&shared)),
        };
        (Ticket { shared }, completion)
    }

    /// Waits until the command has ended. A command ends while [`Agent::run`](crate::Agent::run) runs: the thread that is to
    /// run the loop must not wait before.
    ///
    /// # Panics
    /// On the thread of a loop, as inside a callback of [`Handle::publish_then`](crate::Handle::publish_then), if the
    /// command has not ended yet: the loop, which would have to end it, would wait for itself. (A thread that
    /// unwinds from a panic gets [`Reason::OnLoopThread`] in place of another panic.)
    #[track_caller]
    pub fn wait(self) -> Outcome {
        self.record_wait();
        self.shared.ends.wait_for(1, None);
        let unknown = Outcome::PerhapsDelivered(Reason::OnLoopThread);
        self.outcome().unwrap_or(unknown)
    }

    /// Waits at most this long. Returns `None` if the command has not ended by then. Can be called
    /// again.
    ///
    /// # Panics
    /// As [`Ticket::wait`], unless `timeout` is zero.
    #[track_caller]
    #[must_use = "it says whether the command has ended, and how"]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Outcome> {
        let deadline = Instant::now().checked_add(timeout);
        if !timeout.is_zero() {
            self.record_wait();
        }
        self.shared.ends.wait_for(1, deadline);
        self.outcome()
    }

    /// The outcome, if the command has ended. Never waits.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let outcome = self.shared.outcome.get().cloned();
        if let (Some(_), Some(mark)) = (&outcome, self.shared.mark.get()) {
            mark.told();
        }
        outcome
    }

    /// The current thread is about to wait.
    fn record_wait(&self) {
        if let Some(mark) = self.shared.mark.get()
            && self.shared.outcome.get().is_none()
        {
            mark.waits();
        }
    }
}

/// Waits until one of these commands has ended, at most this long. Returns its place among them, the first one's if
/// several have ended; its ticket then has the outcome. Returns `None` if none has ended by then, and at once if there
/// are none. Can be called again.
///
/// ```no_run
/// # use std::time::Duration;
/// # use mqtt_connection_sharing::{Handle, Publish, QoS, Ticket, wait_any};
/// # fn f(mut tickets: Vec<Ticket>) {
/// while let Some(place) = wait_any(&mut tickets, Duration::from_secs(30)) {
///     println!("{:?}", tickets.swap_remove(place).outcome());
/// }
/// # }
/// ```
///
/// # Panics
/// As [`Ticket::wait_timeout`].
#[track_caller]
#[must_use = "it says which command has ended"]
pub fn wait_any<'t>(
    tickets: impl IntoIterator<Item = &'t mut Ticket>,
    timeout: Duration,
) -> Option<usize> {
    let deadline = Instant::now().checked_add(timeout);
    let mut all = Vec::new();
    for ticket in tickets {
        all.push(&ticket.shared.ends);
    }
    match all.is_empty() {
        true => None,
        false => Ends::wait_for_any(&all, 1, deadline),
    }
}

impl Future for Ticket {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.shared.ends.poll(1, context.waker());
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.ends.forget_task();
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Printing tells the application nothing, so the recording has none of it.
        let outcome = self.shared.outcome.get();
        f.debug_tuple("Ticket").field(&outcome).finish()
    }
}

impl Completion {
    /// For a command whose end no thread wants to know.
    pub(crate) fn nobody() -> Self {
        Completion {
            notify: Notify::Nobody,
        }
    }

    /// Whether a thread may still learn the outcome.
    fn is_awaited(&self) -> bool {
        match &self.notify {
            Notify::Nobody => false,
            Notify::Ticket(_, shared) => Arc::strong_count(shared) > 1,
            Notify::Callback(..) | Notify::Batch(..) => true,
        }
    }

    /// Calls back on the loop's thread.
    pub(crate) fn callback(callback: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Completion {
            notify: Notify::Callback(0, Box::new(callback)),
        }
    }

    /// For the batch's next message.
    pub(crate) fn batch(batch: &mut Batch) -> Self {
        let (shared, number) = batch.next();
        Completion {
            notify: Notify::Batch(0, shared, number),
        }
    }

    /// The command is recorded under this mark from now on.
    pub(crate) fn record(&mut self, mark: CommandMark) {
        match &mut self.notify {
            Notify::Nobody => {}
            Notify::Callback(number, _) => *number = mark.command(),
            Notify::Ticket(number, shared) => {
                *number = mark.command();
                // The cell is empty: a command is pushed once.
                let _ = shared.mark.set(mark);
            }
            Notify::Batch(number, shared, _) => {
                *number = mark.command();
                shared.record(mark);
            }
        }
    }

    /// The command's number in a recording, 0 for none.
    pub(crate) fn recorded(&self) -> u32 {
        match self.notify {
            Notify::Nobody => 0,
            Notify::Ticket(number, _) | Notify::Callback(number, _) | Notify::Batch(number, ..) => {
                number
            }
        }
    }

    /// Tells how the command ended.
    pub(crate) fn tell(mut self, outcome: Outcome) {
        tell(std::mem::replace(&mut self.notify, Notify::Nobody), outcome);
    }

    /// As [`Completion::tell`], but does not count a message of a batch yet that was delivered. Others that are not
    /// counted are counted first, unless they are of the same batch.
    pub(crate) fn tell_uncounted(mut self, outcome: Outcome, uncounted: &mut Uncounted) {
        match std::mem::replace(&mut self.notify, Notify::Nobody) {
            Notify::Batch(_, shared, number) if outcome.is_delivered() => {
                uncounted.add(shared, number, outcome);
            }
            notify => {
                uncounted.count();
                tell(notify, outcome);
            }
        }
    }

    #[cold]
    fn cancel(&mut self) {
        let notify = std::mem::replace(&mut self.notify, Notify::Nobody);
        tell(notify, Outcome::Cancelled(Reason::LoopEnded));
    }

    /// For a command that was never queued and goes back to its caller: tells nothing.
    pub(crate) fn withdraw(mut self) {
        self.notify = Notify::Nobody;
    }
}

impl Completions {
    pub(crate) fn push(&mut self, completion: Completion) {
        if self.kept.len() >= self.forget_at.max(FORGET_FROM) {
            self.kept.retain(Completion::is_awaited);
            self.forget_at = 2 * self.kept.len();
        }
        if completion.is_awaited() {
            self.kept.push(completion);
        }
    }

    pub(crate) fn append(&mut self, more: Completions) {
        if self.kept.is_empty() {
            *self = more;
        } else {
            more.kept.into_iter().for_each(|one| self.push(one));
        }
    }

    /// Tells all of them how their commands ended.
    pub(crate) fn tell(self, outcome: &Outcome) {
        for completion in self.kept {
            completion.tell(outcome.clone());
        }
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> Completions {
        std::mem::take(self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

impl Drop for Completion {
    // Nearly every completion was told before: looking is all that is done then.
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.notify, Notify::Nobody) {
            self.cancel();
        }
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.notify {
            Notify::Nobody => "Completion(nobody)",
            Notify::Ticket(..) => "Completion(ticket)",
            Notify::Callback(..) => "Completion(callback)",
            Notify::Batch(..) => "Completion(batch)",
        })
    }
}

fn tell(notify: Notify, outcome: Outcome) {
    match notify {
        Notify::Nobody => {}
        Notify::Ticket(_, shared) => {
            // The cell is empty: telling consumes a completion.
            let _ = shared.outcome.set(outcome);
            shared.ends.add(1);
        }
        Notify::Batch(_, shared, number) => shared.tell(number, outcome),
        Notify::Callback(_, callback) => {
            loop_thread::run_foreign("the callback of a command", || callback(outcome));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::bounded;

    use super::*;
    use crate::client::waiter::tests::{Task, block_on};

    fn done() -> Outcome {
        Outcome::delivered(1, Duration::from_millis(3))
    }

    #[test]
    fn an_outcome_told_before_or_during_the_wait_arrives() {
        let (ticket, completion) = Ticket::new();
        completion.tell(done());
        assert_eq!(ticket.wait(), done());

        let (ticket, completion) = Ticket::new();
        let waiter = thread::spawn(move || ticket.wait());
        completion.tell(done());
        assert_eq!(waiter.join().unwrap(), done());
    }

    #[test]
    fn a_ticket_can_be_waited_on_again_also_elsewhere() {
        let (mut ticket, completion) = Ticket::new();
        assert_eq!(ticket.wait_timeout(Duration::from_millis(1)), None);
        assert_eq!(ticket.outcome(), None);
        let (started, is_started) = bounded(0);
        let waiter = thread::spawn(move || {
            started.send(()).unwrap();
            let first = ticket.wait_timeout(Duration::from_secs(60));
            (first, ticket.wait_timeout(Duration::ZERO))
        });
        is_started.recv().unwrap();
        completion.tell(done());
        assert_eq!(waiter.join().unwrap(), (Some(done()), Some(done())));
    }

    #[test]
    fn a_dropped_completion_tells_cancelled() {
        let (ticket, completion) = Ticket::new();
        drop(completion);
        assert_eq!(ticket.wait(), Outcome::Cancelled(Reason::LoopEnded));
    }

    #[test]
    fn a_dropped_ticket_disturbs_nobody() {
        let (ticket, completion) = Ticket::new();
        drop(ticket);
        completion.tell(done());
    }

    #[test]
    fn of_completions_that_are_kept_only_those_with_a_ticket_stay() {
        let mut kept = Completions::default();
        let mut held = Vec::new();
        for number in 0..100_000 {
            let (ticket, completion) = Ticket::new();
            kept.push(completion);
            if number % 1_000 == 0 {
                held.push(ticket);
            }
            assert!(kept.kept.len() <= FORGET_FROM.max(2 * held.len()));
        }
        kept.push(Completion::nobody());
        let mut all = Completions::default();
        all.append(kept);
        all.append(Completions::default());
        all.take().tell(&done());
        assert!(all.is_empty());
        assert_eq!(held.len(), 100);
        for ticket in held {
            assert_eq!(ticket.outcome(), Some(done()));
        }
    }

    #[test]
    fn a_callback_is_called_once_and_its_panic_is_contained() {
        let (calls, called) = bounded(2);
        let completion = Completion::callback(move |outcome| {
            calls.send(outcome).unwrap();
            panic!("a bug in the caller's code");
        });
        completion.tell(done());
        assert_eq!(called.try_iter().collect::<Vec<_>>(), [done()]);
    }

    #[test]
    fn what_a_callback_panics_with_may_panic_when_it_is_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("another bug in the caller's code");
            }
        }
        Completion::callback(|_| std::panic::panic_any(Bomb)).tell(done());
    }

    #[test]
    fn a_dropped_completion_of_a_batch_tells_cancelled_and_a_withdrawn_one_nothing() {
        let mut batch = Batch::new();
        Completion::batch(&mut batch).withdraw();
        assert_eq!(batch.wait(), []);
        let completion = Completion::batch(&mut batch);
        batch.was_pushed();
        drop(completion);
        assert_eq!(batch.wait(), [(0, Outcome::Cancelled(Reason::LoopEnded))]);
    }

    #[test]
    fn many_outcomes_reach_their_waiters() {
        let (queue, tickets) = bounded(16);
        let waiter = thread::spawn(move || {
            tickets
                .iter()
                .map(|ticket: Ticket| ticket.wait())
                .filter(Outcome::is_delivered)
                .count()
        });
        for _ in 0..2_000 {
            let (ticket, completion) = Ticket::new();
            queue.send(ticket).unwrap();
            completion.tell(done());
        }
        drop(queue);
        assert_eq!(waiter.join().unwrap(), 2_000);
    }

    #[test]
    fn an_awaited_ticket_gives_what_was_told_before_or_meanwhile_or_never() {
        let (ticket, completion) = Ticket::new();
        completion.tell(done());
        assert_eq!(block_on(ticket), done());

        for tells in [true, false] {
            let (mut ticket, completion) = Ticket::new();
            let task = Arc::<Task>::default();
            assert_eq!(task.poll(&mut ticket), Poll::Pending);
            let told = if tells {
                completion.tell(done());
                done()
            } else {
                drop(completion);
                Outcome::Cancelled(Reason::LoopEnded)
            };
            assert_eq!(task.woken(), 1);
            assert_eq!(task.poll(&mut ticket), Poll::Ready(told.clone()));
            assert_eq!(ticket.wait(), told, "as often as it is asked");
        }
    }

    #[test]
    fn a_ticket_that_is_dropped_while_it_is_awaited_lets_its_task_go() {
        let (mut ticket, completion) = Ticket::new();
        let task = Arc::<Task>::default();
        assert_eq!(task.poll(&mut ticket), Poll::Pending);
        drop(ticket);
        assert_eq!(Arc::strong_count(&task), 1);
        completion.tell(done());
        assert_eq!(task.woken(), 0);
    }

    #[test]
    fn a_ticket_is_awaited_on_a_loops_thread_where_it_must_not_be_waited_for() {
        let _loop = loop_thread::enter();
        let (mut ticket, completion) = Ticket::new();
        let task = Arc::<Task>::default();
        assert_eq!(task.poll(&mut ticket), Poll::Pending);
        let wait = |ticket: &mut Ticket| wait_any([ticket], Duration::MAX);
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait(&mut ticket)));
        assert!(refused.is_err());
        completion.tell(done());
        assert_eq!(task.poll(&mut ticket), Poll::Ready(done()));
    }

    #[test]
    fn of_several_tickets_the_first_that_has_ended_is_named() {
        let (mut tickets, completions): (Vec<_>, Vec<_>) = (0..3).map(|_| Ticket::new()).unzip();
        assert_eq!(wait_any(&mut tickets, Duration::from_millis(1)), None);
        let [_first, second, third] = completions.try_into().unwrap();
        let telling = thread::spawn(move || third.tell(done()));
        assert_eq!(wait_any(&mut tickets, Duration::MAX), Some(2));
        telling.join().unwrap();
        second.tell(done());
        assert_eq!(wait_any(&mut tickets, Duration::ZERO), Some(1));
        assert_eq!(wait_any(&mut [], Duration::MAX), None, "at once");
    }
}
