//! \[2\] The bounded command queue between the threads and the loop, a crossbeam channel: with one
//! wake-up for a batch, in both directions.
//!
//! A thread that queues a command rings for the loop (`doorbell.rs`), which costs nothing while the
//! loop is awake. A thread that finds the queue full, or others that wait for room already, stands in line
//! (`line.rs`). The loop fills the queue from the line once half of it is free, so that one wake-up of the
//! loop serves many threads, and before it sleeps.
//!
//! The loop fetches at once all that it is about to handle. Taking commands one by one would make it
//! contend with publishers for one cache line per command.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::client::command::Command;
use crate::client::doorbell::Doorbell;
use crate::client::line::{Line, NotAdmitted, Patience};
use crate::client::loop_thread;
use crate::client::request_mark::RequestMark;
use crate::client::waiter::Waiter;

/// From this capacity on a thread that is let in has a share of the queue: one of so many, or less. In a smaller queue
/// each command waits in the line.
const LARGE: usize = 64;
const SHARES: usize = 2;

/// No thread waits for longer, or for a larger part of its patience, while others use their shares.
const OVERDUE: Duration = Duration::from_secs(1);
const OVERDUE_PART: u32 = 4;

/// The threads' end of the queue.
#[derive(Clone)]
pub(crate) struct CommandSender {
    shared: Arc<QueueState>,
}

/// The loop's end. Dropping it, whether the loop ran or not, cancels what is queued and what a
/// thread queues at the same moment. A queue that lost its receiver would keep such commands, and
/// their tickets open, for as long as a thread holds a handle.
pub(crate) struct CommandQueue {
    shared: Arc<QueueState>,
    /// Commands that were fetched and not taken yet. They stand before the channel's first.
    fetched: VecDeque<Command>,
    /// Memory for the threads and tasks that are let in.
    woken: Vec<Waiter>,
}

struct QueueState {
    sender: Sender<Command>,
    /// The loop receives; a thread only to cancel when the loop has ended.
    commands: Receiver<Command>,
    capacity: usize,
    ended: AtomicBool,
    /// Commands other than PUBLISH that are queued or wait for room.
    requests: Arc<AtomicU64>,
    doorbell: Arc<Doorbell>,
    line: Line<Command>,
}

/// How a command came into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueEntry {
    AtOnce,
    /// The thread waited for room.
    AfterWaiting,
}

/// Why a command was not queued; it comes back.
pub(crate) enum NotQueued {
    /// There was no room for it for as long as the caller may be made to wait.
    Full {
        command: Box<Command>,
        /// For so long.
        waited: Duration,
    },
    /// The loop has ended.
    Ended(Box<Command>),
}

/// A command that a task brings into the queue: see [`CommandSender::poll_send`].
pub(crate) enum Entering {
    /// It has not asked yet.
    Command(Command),
    /// It stands in the line, under this number.
    InLine(u64),
    /// The command is in the queue, or came back.
    Over,
}

/// A queue for `capacity` commands (at least one).
pub(crate) fn command_queue(
    capacity: usize,
    doorbell: Arc<Doorbell>,
) -> (CommandSender, CommandQueue) {
    let capacity = capacity.max(1);
    let (sender, commands) = bounded(capacity);
    let shared = Arc::new(QueueState {
        sender,
        commands,
        capacity,
        ended: AtomicBool::new(false),
        requests: Arc::default(),
        doorbell,
        line: Line::new(match capacity {
            LARGE.. => capacity / SHARES,
            _ => 1,
        }),
    });
    let sender = CommandSender {
        shared: Arc::clone(&shared),
    };
    let queue = CommandQueue {
        shared,
        fetched: VecDeque::new(),
        woken: Vec::new(),
    };
    (sender, queue)
}

impl CommandSender {
    /// Queues a command. If there is no room, or threads wait for room already, waits behind them at most this
    /// long. A loop's thread, which would wait for itself, takes any room and never waits.
    pub(crate) fn send(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<QueueEntry, NotQueued> {
        let shared = &*self.shared;
        if shared.ended.load(Ordering::Relaxed) {
            return Err(NotQueued::Ended(Box::new(command)));
        }
        let mut command = command;
        let is_turn = || !patience.is_zero() && shared.line.is_turn_of_caller();
        if !shared.line.has_waiting() || is_turn() || loop_thread::is_current() {
            match shared.offer(command) {
                Ok(()) => {
                    shared.queued();
                    return Ok(QueueEntry::AtOnce);
                }
                Err(back) => command = back,
            }
        }
        if patience.is_zero() || loop_thread::is_current() {
            return Err(NotQueued::Full {
                command: Box::new(command),
                waited: Duration::ZERO,
            });
        }
        self.wait_for_room(command, patience)
    }

    /// As [`CommandSender::send`] with patience without end, for a task, which is woken when it has to ask again.
    /// Gives a command back only if the loop has ended. Nothing comes of asking again after that.
    pub(crate) fn poll_send(
        &self,
        entering: &mut Entering,
        waker: &Waker,
    ) -> Poll<Result<(), Box<Command>>> {
        let shared = &*self.shared;
        let is_closed = || shared.ended.load(Ordering::Relaxed);
        let sent = match std::mem::replace(entering, Entering::Over) {
            Entering::Command(command) => match shared.enter(command, waker) {
                Ok(None) => Ok(()),
                Ok(Some(number)) => {
                    *entering = Entering::InLine(number);
                    return Poll::Pending;
                }
                Err(back) => Err(back),
            },
            Entering::InLine(number) => match shared.line.poll(number, waker, is_closed) {
                Poll::Ready(sent) => sent,
                Poll::Pending => {
                    *entering = Entering::InLine(number);
                    return Poll::Pending;
                }
            },
            Entering::Over => return Poll::Pending,
        };
        if sent.is_ok() {
            shared.queued();
        }
        Poll::Ready(sent.map_err(Box::new))
    }

    /// A task gives up. Gives its command back, unless it is in the queue.
    pub(crate) fn give_up(&self, entering: &mut Entering) -> Option<Command> {
        match std::mem::replace(entering, Entering::Over) {
            Entering::Command(command) => Some(command),
            Entering::InLine(number) => self.shared.line.leave(number).err(),
            Entering::Over => None,
        }
    }

    /// A mark for a command other than PUBLISH.
    pub(crate) fn mark_request(&self) -> RequestMark {
        RequestMark::new(&self.shared.requests)
    }

    /// Whether the loop has ended, so that nothing is queued any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.shared.commands.len()
    }

    fn wait_for_room(&self, command: Command, patience: Duration) -> Result<QueueEntry, NotQueued> {
        let shared = &*self.shared;
        let now = Instant::now();
        let waits = Patience {
            deadline: now.checked_add(patience),
            overdue: now + OVERDUE.min(patience / OVERDUE_PART),
        };
        let offer = |command| shared.offer(command);
        let is_closed = || shared.ended.load(Ordering::Relaxed);
        let in_line = || shared.stands_in_line();
        match shared.line.wait(command, waits, offer, is_closed, in_line) {
            Ok(has_waited) => {
                shared.queued();
                Ok(match has_waited {
                    true => QueueEntry::AfterWaiting,
                    false => QueueEntry::AtOnce,
                })
            }
            Err(NotAdmitted::TimedOut(command)) => {
                // It may have let in others, and their threads may not run for a while.
                shared.queued();
                Err(NotQueued::Full {
                    command: Box::new(command),
                    waited: patience,
                })
            }
            Err(NotAdmitted::Closed(command)) => Err(NotQueued::Ended(Box::new(command))),
        }
    }
}

impl CommandQueue {
    /// The next command, if there is one. If none is fetched, fetches at most so many, which the loop is
    /// about to take, and lets in threads that wait for room once half of the queue is free. A fetched
    /// command that cannot be taken after all stays first. `now` may be some time ago.
    // A command fills two cache lines: it must not be moved once more.
    #[inline]
    pub(crate) fn take(&mut self, most: usize, now: Instant) -> Option<Command> {
        if self.fetched.is_empty() {
            self.fetch(most, now);
        }
        self.fetched.pop_front()
    }

    // Once for many commands: it must not keep `take` from being inlined.
    #[inline(never)]
    fn fetch(&mut self, most: usize, now: Instant) {
        debug_assert!(most > 0, "none would look like an empty queue");
        let shared = &*self.shared;
        // Threads fill the channel again meanwhile.
        let most = most.min(shared.capacity);
        self.fetched.extend(shared.commands.try_iter().take(most));
        let queued = shared.commands.len();
        if shared.line.has_waiting_for_room()
            && queued <= shared.capacity / 2
            && !shared.ended.load(Ordering::Relaxed)
        {
            // The rest of the room is for what these threads publish next.
            let room = shared.capacity - queued;
            let offer = |command| shared.offer(command);
            let line = &shared.line;
            line.admit_in_turn(room, now, offer, &mut self.woken);
        }
    }

    /// Lets in threads that wait and for which there is room. Call this before the loop sleeps: it fetches nothing
    /// then. Returns when to call it again, at the latest: threads that were let in may leave room unused.
    pub(crate) fn admit_waiting(&mut self, now: Instant) -> Option<Instant> {
        let shared = &*self.shared;
        if !shared.line.has_waiting_for_room() || shared.ended.load(Ordering::Relaxed) {
            return None;
        }
        let room = shared.capacity - shared.commands.len();
        if room == 0 {
            return None;
        }
        let offer = |command| shared.offer(command);
        let line = &shared.line;
        line.admit_before_sleep(room, now, offer, &mut self.woken)
    }

    /// Whether commands other than PUBLISH are queued, or wait for room.
    pub(crate) fn has_requests(&self) -> bool {
        self.shared.requests.load(Ordering::Relaxed) > 0
    }

    /// Whether the next command was fetched with an earlier one.
    pub(crate) fn has_fetched(&self) -> bool {
        !self.fetched.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fetched.is_empty() && self.shared.commands.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.fetched.len() + self.shared.commands.len()
    }

    /// Accepts nothing more. Commands that are queued already can still be taken.
    pub(crate) fn close(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.line.wake_all();
    }
}

impl Drop for CommandQueue {
    fn drop(&mut self) {
        self.close();
        self.shared.cancel_if_ended();
    }
}

impl QueueState {
    /// Puts a command into the channel if it has room.
    fn offer(&self, command: Command) -> Result<(), Command> {
        self.sender
            .try_send(command)
            .map_err(TrySendError::into_inner)
    }

    /// Queues a task's command, or has it stand in the line and returns its number there.
    fn enter(&self, mut command: Command, waker: &Waker) -> Result<Option<u64>, Command> {
        let is_closed = || self.ended.load(Ordering::Relaxed);
        if is_closed() {
            return Err(command);
        }
        let mut offer = |command| self.offer(command);
        // A task has no turn: its thread has other tasks, and it may have other commands in the line.
        if !self.line.has_waiting() {
            match offer(command) {
                Ok(()) => return Ok(None),
                Err(back) => command = back,
            }
        }
        let waiter = Waiter::Task(waker.clone());
        let overdue = Instant::now() + OVERDUE;
        let entered = (self.line).enter(command, waiter, overdue, &mut offer, &is_closed);
        if let Ok(Some(_)) = entered {
            self.stands_in_line();
        }
        entered.map_err(|(NotAdmitted::TimedOut(back) | NotAdmitted::Closed(back))| back)
    }

    /// Call this after a thread's command was queued. It pairs with [`CommandQueue`]'s drop: either this thread
    /// sees that the loop has ended, or the loop sees what was queued.
    fn queued(&self) {
        self.doorbell.ring_for_command();
        // The mark was made before the command was queued. With another thread's, the loop is woken for that.
        if self.requests.load(Ordering::Relaxed) > 0 {
            self.doorbell.ring_for_request();
        }
        // The bell's fence stands between the queueing and this.
        if self.ended.load(Ordering::Relaxed) {
            self.cancel_if_ended();
        }
    }

    /// Call this after a command took a place in the line. A loop that takes no PUBLISH makes room for another command
    /// only if it is awake.
    fn stands_in_line(&self) {
        // With another thread's mark, the loop is woken for that. The own one was made before.
        if self.requests.load(Ordering::Relaxed) > 0 {
            // First for its fence: the loop sees the mark, or this thread sees that the loop sleeps.
            self.doorbell.ring_for_command();
            self.doorbell.ring_for_request();
        }
    }

    fn cancel_if_ended(&self) {
        fence(Ordering::SeqCst);
        if self.ended.load(Ordering::Relaxed) {
            self.commands.try_iter().for_each(drop);
        }
    }
}

#[cfg(test)]
impl CommandSender {
    /// How many threads and tasks wait for room.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.line.length()
    }
}

impl fmt::Debug for CommandQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandQueue")
            .field("queued", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
// The path stands here for the models, which include this file from elsewhere.
#[path = "queue/tests.rs"]
mod tests;
