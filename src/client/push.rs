//! \[2\] The futures that bring a command into the queue: a task waits for room where a thread would.
//!
//! A task stands in the same line as the threads that wait (`line.rs`), for as long as its future lives, and blocks
//! none of its executor's threads. A future that is dropped takes its command out of the line. Any thread polls; the
//! loop's thread wakes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::client::batch::Batch;
use crate::client::command::{Command, RejectReason, Rejected, Request};
use crate::client::lane::LaneSender;
use crate::client::queue::{CommandSender, Entering};
use crate::client::recording::Recorder;
use crate::client::ticket::{Completion, Ticket};
use crate::mqtt::packet::Publish;

/// A command on its way into the queue, for a task: see [`Handle::publish_async`](crate::Handle::publish_async).
///
/// Nothing is queued before it is awaited. Where the queue is full it waits for room, behind the threads and tasks that
/// wait already, without an end of its own: an executor's time-out can drop it, or [`Pushing::give_up`] asks for the
/// command back. A future that is dropped, or given up, pushes nothing, unless the loop took the command in before; then
/// the command goes on. It can be awaited on any thread; on a loop's own, too, because it never blocks.
///
/// # Errors
/// The command is handed back, as in the methods that wait, when it breaks a rule and when the loop has ended.
#[must_use = "a future does nothing unless it is awaited"]
pub struct Pushing<'a, T, S = Ticket> {
    commands: &'a CommandSender,
    state: State<T, S>,
    take_back: fn(Request) -> T,
    /// A SUBSCRIBE that the loop knows of already.
    announced: Option<(&'a LaneSender, u64)>,
    waits_since: Option<Instant>,
    recorder: Option<&'a Recorder>,
}

enum State<T, S> {
    /// The command breaks a rule.
    Refused(Rejected<T>),
    /// It is on its way, and this is for the task once it is in.
    Enters(Entering, S),
    Over,
}

/// A message of a batch on its way into the queue, for a task: see
/// [`Handle::publish_in_async`](crate::Handle::publish_in_async), and [`Pushing`] for what holds of it.
#[must_use = "a future does nothing unless it is awaited"]
pub struct PushingIn<'a> {
    pushing: Pushing<'a, Publish, ()>,
    batch: &'a mut Batch,
    /// The batch counts the message from the first look on: the loop may take it in, and tell its end, at any time.
    is_counted: bool,
}

impl<'a, T> Pushing<'a, T> {
    /// With a ticket, unless the command was refused.
    pub(crate) fn new(
        commands: &'a CommandSender,
        request: Result<Request, Rejected<T>>,
        take_back: fn(Request) -> T,
    ) -> Self {
        let (ticket, completion) = Ticket::new();
        Pushing::with(commands, request, take_back, completion, ticket)
    }

    /// The SUBSCRIBE with this number was announced, and is withdrawn if it is not queued.
    pub(crate) fn announced(mut self, lane: &'a LaneSender, number: u64) -> Self {
        self.announced = Some((lane, number));
        self
    }
}

impl<'a, T, S> Pushing<'a, T, S> {
    /// With this for the task once the command is in.
    pub(crate) fn with(
        commands: &'a CommandSender,
        request: Result<Request, Rejected<T>>,
        take_back: fn(Request) -> T,
        completion: Completion,
        done: S,
    ) -> Self {
        let state = match request {
            Ok(request) => {
                let command = Command {
                    request,
                    completion,
                };
                State::Enters(Entering::Command(command), done)
            }
            Err(rejected) => {
                completion.withdraw();
                State::Refused(rejected)
            }
        };
        Pushing {
            commands,
            state,
            take_back,
            announced: None,
            waits_since: None,
            recorder: None,
        }
    }

    /// It is pushed under the eyes of this recorder.
    pub(crate) fn recorded(mut self, recorder: Option<&'a Recorder>) -> Self {
        self.recorder = recorder;
        self
    }

    /// Stops waiting for room. Returns the ticket if the loop took the command in before.
    ///
    /// # Errors
    /// Otherwise the command is handed back, with [`RejectReason::QueueFull`] and the time since it was first awaited, or
    /// [`RejectReason::Terminated`] if the loop has ended.
    ///
    /// # Panics
    /// If it was awaited to its end before.
    pub fn give_up(mut self) -> Result<S, Rejected<T>> {
        match self.stop() {
            Some(result) => result,
            None => panic!("{AWAITED_BEFORE}"),
        }
    }

    /// `None` if it is over.
    fn stop(&mut self) -> Option<Result<S, Rejected<T>>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Refused(rejected) => Some(Err(rejected)),
            State::Enters(mut entering, done) => match self.commands.give_up(&mut entering) {
                Some(command) => {
                    let since = self.waits_since;
                    let waited = since.map_or(Duration::ZERO, |since| since.elapsed());
                    let reason = match self.commands.has_ended() {
                        true => RejectReason::Terminated,
                        false => RejectReason::QueueFull { waited },
                    };
                    Some(Err(self.hand_back(command, reason)))
                }
                None => Some(Ok(done)),
            },
            State::Over => None,
        }
    }

    fn hand_back(&mut self, command: Command, reason: RejectReason) -> Rejected<T> {
        if let Some((lane, number)) = self.announced.take() {
            lane.withdraw(number);
        }
        if let Some(recorder) = self.recorder {
            command.record_hand_back(recorder);
        }
        command.into_rejected(reason).map(self.take_back)
    }
}

const AWAITED_BEFORE: &str = "this future was awaited to its end before";

// Nothing is pinned.
impl<T, S> Unpin for Pushing<'_, T, S> {}

impl<T, S> Future for Pushing<'_, T, S> {
    type Output = Result<S, Rejected<T>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match std::mem::replace(&mut this.state, State::Over) {
            State::Refused(rejected) => Poll::Ready(Err(rejected)),
            State::Enters(mut entering, done) => {
                if let Entering::Command(command) = &mut entering {
                    // Not before: a future that nobody awaits must not have the loop take what is queued.
                    command.request.mark(|| this.commands.mark_request());
                    if let Some(recorder) = this.recorder {
                        command.record_push(recorder);
                    }
                }
                match this.commands.poll_send(&mut entering, context.waker()) {
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(done)),
                    Poll::Ready(Err(command)) => {
                        Poll::Ready(Err(this.hand_back(*command, RejectReason::Terminated)))
                    }
                    Poll::Pending => {
                        this.waits_since.get_or_insert_with(Instant::now);
                        this.state = State::Enters(entering, done);
                        Poll::Pending
                    }
                }
            }
            State::Over => panic!("{AWAITED_BEFORE}"),
        }
    }
}

impl<T, S> Drop for Pushing<'_, T, S> {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

impl<'a> PushingIn<'a> {
    pub(crate) fn new(
        commands: &'a CommandSender,
        request: Result<Request, Rejected<Publish>>,
        batch: &'a mut Batch,
    ) -> Self {
        let completion = Completion::batch(batch);
        let take_back = Request::into_publish;
        PushingIn {
            pushing: Pushing::with(commands, request, take_back, completion, ()),
            batch,
            is_counted: false,
        }
    }

    /// As [`Pushing::recorded`].
    pub(crate) fn recorded(mut self, recorder: Option<&'a Recorder>) -> Self {
        self.pushing.recorder = recorder;
        self
    }

    /// Stops waiting for room. The message is part of the batch if the loop took it in before.
    ///
    /// # Errors
    /// As [`Pushing::give_up`].
    ///
    /// # Panics
    /// As [`Pushing::give_up`].
    pub fn give_up(mut self) -> Result<(), Rejected<Publish>> {
        match self.stop() {
            Some(result) => result,
            None => panic!("{AWAITED_BEFORE}"),
        }
    }

    fn stop(&mut self) -> Option<Result<(), Rejected<Publish>>> {
        let result = self.pushing.stop()?;
        self.settle(&result);
        Some(result)
    }

    fn settle(&mut self, result: &Result<(), Rejected<Publish>>) {
        if result.is_err() && std::mem::take(&mut self.is_counted) {
            self.batch.was_withdrawn();
        }
    }
}

impl Future for PushingIn<'_> {
    type Output = Result<(), Rejected<Publish>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.is_counted && matches!(this.pushing.state, State::Enters(..)) {
            this.batch.was_pushed();
            this.is_counted = true;
        }
        let polled = Pin::new(&mut this.pushing).poll(context);
        if let Poll::Ready(result) = &polled {
            this.settle(result);
        }
        polled
    }
}

impl Drop for PushingIn<'_> {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

impl<T, S> fmt::Debug for Pushing<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Refused(_) => "Pushing(refused)",
            State::Enters(Entering::InLine(_), _) => "Pushing(waits for room)",
            State::Enters(..) => "Pushing(not awaited)",
            State::Over => "Pushing(over)",
        })
    }
}

impl fmt::Debug for PushingIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PushingIn").field(&self.pushing).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::client::lane::{Announcement, urgent_lane};
    use crate::client::loop_thread;
    use crate::client::outlet::InboxId;
    use crate::client::queue::{CommandQueue, command_queue};
    use crate::client::request_mark::RequestMark;
    use crate::client::waiter::tests::{Task, block_on};
    use crate::mqtt::packet::{Filter, QoS};
    use crate::mqtt::session::{Outcome, Reason};

    const HANG: Duration = Duration::from_secs(60);

    fn message(number: u8) -> Publish {
        Publish::new("t", QoS::AtLeastOnce, vec![number])
    }

    fn request(number: u8) -> Result<Request, Rejected<Publish>> {
        Ok(Request::Publish(message(number).into()))
    }

    fn push(commands: &CommandSender, number: u8) -> Pushing<'_, Publish> {
        Pushing::new(commands, request(number), Request::into_publish)
    }

    /// A queue for `capacity` messages that has as many, numbered from 0.
    fn full_queue(capacity: u8) -> (CommandSender, CommandQueue) {
        let (commands, queue) = command_queue(usize::from(capacity), Arc::default());
        for number in 0..capacity {
            drop(block_on(push(&commands, number)).unwrap());
        }
        (commands, queue)
    }

    /// Takes so many messages and tells that they were delivered.
    fn take(queue: &mut CommandQueue, count: usize) -> Vec<u8> {
        let now = Instant::now();
        let commands = std::iter::from_fn(|| queue.take(1, now)).take(count);
        let numbers = commands.map(|command| {
            command.completion.tell(Outcome::delivered(1, HANG));
            command.request.into_publish().payload()[0]
        });
        let numbers = numbers.collect();
        queue.admit_waiting(Instant::now());
        numbers
    }

    fn is_full(rejected: &Rejected<Publish>) -> bool {
        matches!(rejected.reason, RejectReason::QueueFull { .. })
    }

    #[test]
    fn a_task_waits_in_the_line_between_threads() {
        let (commands, mut queue) = full_queue(1);
        let wait = |number| {
            let commands = commands.clone();
            let length = commands.waiting();
            let run = move || {
                let (ticket, completion) = Ticket::new();
                let request = request(number).unwrap();
                let command = Command {
                    request,
                    completion,
                };
                assert!(commands.send(command, HANG * 2).is_ok());
                ticket.wait()
            };
            (length, thread::spawn(run))
        };
        let wait_in_line = |number| {
            let (length, thread) = wait(number);
            let start = Instant::now();
            while commands.waiting() == length {
                assert!(start.elapsed() < HANG, "it does not wait");
                thread::yield_now();
            }
            thread
        };
        let first = wait_in_line(1);
        let task = Arc::<Task>::default();
        let mut second = push(&commands, 2);
        assert!(task.poll(&mut second).is_pending());
        let third = wait_in_line(3);
        assert_eq!(take(&mut queue, 1), [0]);
        assert_eq!((take(&mut queue, 1), task.woken()), (vec![1], 1));
        assert_eq!(take(&mut queue, 2), [2, 3]);
        let ticket = block_on(second).unwrap();
        assert!(block_on(ticket).is_delivered());
        for thread in [first, third] {
            assert!(thread.join().unwrap().is_delivered());
        }
    }

    #[test]
    fn a_future_that_is_dropped_takes_its_message_out_of_the_line() {
        let (commands, mut queue) = full_queue(1);
        let task = Arc::<Task>::default();
        let mut dropped = push(&commands, 1);
        let mut kept = push(&commands, 2);
        assert!(task.poll(&mut dropped).is_pending());
        assert!(task.poll(&mut kept).is_pending());
        drop(dropped);
        drop(push(&commands, 3));
        assert_eq!(take(&mut queue, 9), [0, 2]);
        drop(kept);
        assert_eq!(Arc::strong_count(&task), 1, "no waker is left");
    }

    #[test]
    fn a_future_that_is_given_up_hands_the_message_back_or_the_ticket() {
        let (commands, mut queue) = full_queue(1);
        let task = Arc::<Task>::default();
        for is_awaited in [false, true] {
            let mut pushing = push(&commands, 1);
            if is_awaited {
                assert!(task.poll(&mut pushing).is_pending());
            }
            let rejected = pushing.give_up().unwrap_err();
            assert!(is_full(&rejected) && rejected.command == message(1));
        }
        let mut pushing = push(&commands, 2);
        assert!(task.poll(&mut pushing).is_pending());
        assert_eq!(take(&mut queue, 1), [0]);
        let ticket = pushing.give_up().unwrap();
        assert_eq!(ticket.outcome(), None);
        assert_eq!(take(&mut queue, 1), [2]);
        assert!(ticket.wait().is_delivered());
    }

    #[test]
    fn the_end_of_the_loop_wakes_the_last_waker_of_each_task_and_hands_the_message_back() {
        let (commands, queue) = full_queue(1);
        let (earlier, later) = (Arc::<Task>::default(), Arc::<Task>::default());
        let mut pushing = push(&commands, 1);
        assert!(earlier.poll(&mut pushing).is_pending());
        assert!(later.poll(&mut pushing).is_pending());
        drop(queue);
        assert_eq!((earlier.woken(), later.woken()), (0, 1));
        for pushing in [pushing, push(&commands, 1)] {
            let rejected = block_on(pushing).unwrap_err();
            assert_eq!(rejected.reason, RejectReason::Terminated);
            assert_eq!(rejected.command, message(1));
        }
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_behind_it_from_the_queue() {
        let (commands, mut queue) = full_queue(1);
        let bomb = Task::doing(|| panic!("a bug in an executor"));
        let task = Arc::<Task>::default();
        let (mut first, mut second) = (push(&commands, 1), push(&commands, 2));
        assert!(bomb.poll(&mut first).is_pending());
        assert!(task.poll(&mut second).is_pending());
        assert_eq!(take(&mut queue, 9), [0, 1, 2]);
        assert_eq!((bomb.woken(), task.woken()), (1, 1));
    }

    #[test]
    fn a_task_that_runs_inside_its_waker_may_push_again() {
        let (commands, mut queue) = full_queue(1);
        let again = commands.clone();
        let task = Task::doing(move || {
            let mut next = push(&again, 2);
            assert!(Arc::<Task>::default().poll(&mut next).is_pending());
            assert!(next.give_up().is_err());
        });
        let mut pushing = push(&commands, 1);
        assert!(task.poll(&mut pushing).is_pending());
        assert_eq!(take(&mut queue, 1), [0]);
        assert_eq!((task.woken(), take(&mut queue, 9)), (1, vec![1]));
    }

    #[test]
    fn on_a_loops_thread_a_future_waits_for_room_without_blocking_it() {
        let (commands, mut queue) = full_queue(1);
        let _loop = loop_thread::enter();
        let task = Arc::<Task>::default();
        let mut pushing = push(&commands, 1);
        assert!(task.poll(&mut pushing).is_pending());
        assert_eq!((take(&mut queue, 1), task.woken()), (vec![0], 1));
        assert!(task.poll(&mut pushing).is_ready());
    }

    #[test]
    fn a_batch_counts_a_message_that_the_loop_took_in_and_no_other() {
        let (commands, mut queue) = full_queue(1);
        let task = Arc::<Task>::default();
        let mut batch = Batch::new();
        let mut push_in = |number| {
            let mut pushing = PushingIn::new(&commands, request(number), &mut batch);
            assert!(task.poll(&mut pushing).is_pending());
            if number == 1 {
                let rejected = pushing.give_up().unwrap_err();
                assert!(is_full(&rejected) && rejected.command == message(1));
            } else if number == 2 {
                drop(pushing);
            } else if number == 3 {
                assert_eq!(take(&mut queue, 1), [0]);
                drop(pushing);
            } else {
                assert_eq!(take(&mut queue, 1), [3]);
                // Nobody learns that it was taken in.
                std::mem::forget(pushing);
            }
        };
        (1..=4).for_each(&mut push_in);
        assert_eq!((batch.pushed(), batch.outstanding()), (2, 1));
        drop(queue);
        let cancelled = Outcome::Cancelled(Reason::LoopEnded);
        assert_eq!(block_on(&mut batch), [(1, cancelled)]);
        let rejected = block_on(PushingIn::new(&commands, request(5), &mut batch));
        assert_eq!(rejected.unwrap_err().reason, RejectReason::Terminated);
        assert_eq!((batch.pushed(), batch.outstanding()), (2, 0));
        let mut over = PushingIn::new(&commands, request(5), &mut batch);
        assert!(task.poll(&mut over).is_ready());
        let again = || task.poll(&mut over).is_ready();
        assert!(catch_unwind(AssertUnwindSafe(again)).is_err(), "misuse");
        drop(over);
        assert_eq!((batch.pushed(), batch.outstanding()), (2, 0));
    }

    #[test]
    fn a_subscription_that_is_not_queued_counts_no_more() {
        let (commands, mut queue) = full_queue(1);
        let (lane, taken) = urgent_lane(Arc::default());
        let subscribe = |number| {
            let filters = vec![Filter::new("f", QoS::AtLeastOnce)];
            let inbox = InboxId(0);
            lane.announce(Announcement {
                number,
                inbox,
                filters: filters.clone(),
            });
            let request = Request::Subscribe {
                number,
                inbox,
                filters,
                mark: RequestMark::default(),
            };
            let take_back = Request::into_filters;
            Pushing::new(&commands, Ok(request), take_back).announced(&lane, number)
        };
        let task = Arc::<Task>::default();
        let (mut kept, mut dropped) = (subscribe(1), subscribe(2));
        assert!(!queue.has_requests(), "none is pushed yet");
        assert!(task.poll(&mut kept).is_pending());
        assert!(task.poll(&mut dropped).is_pending());
        assert_eq!(take(&mut queue, 1), [0]);
        drop(dropped);
        drop(kept);
        assert!(queue.has_requests());
        let news = taken.take_news().unwrap();
        let announced: Vec<u64> = news.announced.iter().map(|one| one.number).collect();
        assert_eq!(announced, [1], "it was in the queue before");
        assert_eq!(queue.len(), 1);
        drop(queue.take(1, Instant::now()));
        assert!(!queue.has_requests());
    }
}
