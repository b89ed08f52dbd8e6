//! \[2\] The bounded command queue between the threads and the loop, a crossbeam channel: with one
//! wake-up for a batch, in both directions.
//!
//! A thread that queues a command rings for the loop (`doorbell.rs`), which costs nothing while the
//! loop is awake. A thread that finds the queue full waits at a gate. The loop opens the gate when it
//! has made room for many, or after a moment if there is little room; it does not open it for each
//! command. A thread that comes through lets the next one in while there is still room for many. Only
//! threads that have to wait take the gate's lock, and the loop when one waits.
//!
//! The loop fetches at once all that it is about to handle. Taking commands one by one would make it
//! contend with publishers for one cache line per command.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::client::command::Command;
use crate::client::doorbell::Doorbell;

/// The threads' end of the queue.
#[derive(Clone)]
pub(crate) struct CommandSender {
    commands: Sender<Command>,
    shared: Arc<QueueState>,
}

/// The loop's end. Dropping it, whether the loop ran or not, cancels what is queued and what a
/// thread queues at the same moment. A queue that lost its receiver would keep such commands, and
/// their tickets open, for as long as a thread holds a handle.
pub(crate) struct CommandQueue {
    shared: Arc<QueueState>,
    /// Commands that were fetched and not taken yet. They stand before the channel's first.
    fetched: VecDeque<Command>,
}

struct QueueState {
    /// The loop receives; a thread only to cancel when the loop has ended.
    commands: Receiver<Command>,
    capacity: usize,
    ended: AtomicBool,
    doorbell: Arc<Doorbell>,
    gate: Gate,
}

/// Where threads wait for room.
#[derive(Default)]
struct Gate {
    waiting: AtomicUsize,
    lock: Mutex<()>,
    opened: Condvar,
}

/// Why a command was not queued; it comes back.
pub(crate) enum NotQueued {
    /// It stayed full for as long as the caller may be made to wait.
    Full {
        command: Box<Command>,
        /// For so long.
        waited: Duration,
    },
    /// The loop has ended.
    Ended(Box<Command>),
}

/// A queue for `capacity` commands (at least one).
pub(crate) fn command_queue(
    capacity: usize,
    doorbell: Arc<Doorbell>,
) -> (CommandSender, CommandQueue) {
    let capacity = capacity.max(1);
    let (commands, receiver) = bounded(capacity);
    let shared = Arc::new(QueueState {
        commands: receiver,
        capacity,
        ended: AtomicBool::new(false),
        doorbell,
        gate: Gate::default(),
    });
    let sender = CommandSender {
        commands,
        shared: Arc::clone(&shared),
    };
    let queue = CommandQueue {
        shared,
        fetched: VecDeque::new(),
    };
    (sender, queue)
}

impl CommandSender {
    /// Queues a command; waits for room at most this long, and not at all on the loop's own thread,
    /// which would wait for itself.
    pub(crate) fn send(&self, command: Command, patience: Duration) -> Result<(), NotQueued> {
        if self.shared.ended.load(Ordering::Relaxed) {
            return Err(NotQueued::Ended(Box::new(command)));
        }
        match self.commands.try_send(command) {
            Ok(()) => {
                self.queued();
                Ok(())
            }
            Err(TrySendError::Disconnected(command)) => Err(NotQueued::Ended(Box::new(command))),
            Err(TrySendError::Full(command)) => {
                let waited = match self.shared.doorbell.is_loop_thread() {
                    true => Duration::ZERO,
                    false => patience,
                };
                self.send_when_there_is_room(command, waited)
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    fn send_when_there_is_room(
        &self,
        mut command: Command,
        patience: Duration,
    ) -> Result<(), NotQueued> {
        let gate = &self.shared.gate;
        let deadline = Instant::now().checked_add(patience);
        let mut guard = gate.lock.lock().unwrap_or_else(PoisonError::into_inner);
        gate.waiting.fetch_add(1, Ordering::SeqCst);
        let result = loop {
            // Pairs with the fence in `Gate::is_waited_at`: either the loop sees that this thread waits, or the
            // thread sees the room that the loop has made.
            fence(Ordering::SeqCst);
            match self.commands.try_send(command) {
                Ok(()) => break Ok(()),
                Err(TrySendError::Disconnected(back)) => {
                    break Err(NotQueued::Ended(Box::new(back)));
                }
                Err(TrySendError::Full(back)) => command = back,
            }
            if self.shared.ended.load(Ordering::Relaxed) {
                break Err(NotQueued::Ended(Box::new(command)));
            }
            guard = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => {
                    break Err(NotQueued::Full {
                        command: Box::new(command),
                        waited: patience,
                    });
                }
                Some(left) => {
                    let waited = gate.opened.wait_timeout(guard, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = gate.opened.wait(guard);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        };
        let others_wait = gate.waiting.fetch_sub(1, Ordering::SeqCst) > 1;
        drop(guard);
        if others_wait && self.has_room_for_another() {
            gate.opened.notify_one();
        }
        if result.is_ok() {
            self.queued();
        }
        result
    }

    /// Whether to let in another thread that waits at the gate. While the loop is about to take more, half
    /// a queue is enough for the thread that came through. A sleeping loop would open for no other.
    fn has_room_for_another(&self) -> bool {
        let queued = self.commands.len();
        queued <= self.shared.capacity / 2
            || queued < self.shared.capacity && self.shared.doorbell.is_asleep()
    }

    /// Call this after something was queued. It pairs with [`CommandQueue`]'s drop: either this thread
    /// sees that the loop has ended, or the loop sees what was queued.
    fn queued(&self) {
        self.shared.doorbell.ring_for_command();
        // The bell's fence stands between the queueing and this.
        if self.shared.ended.load(Ordering::Relaxed) {
            self.shared.cancel_if_ended();
        }
    }
}

impl CommandQueue {
    /// The next command, if there is one. If none is fetched, fetches at most so many, which the loop is
    /// about to take, and lets in threads that wait for room once half of the queue is free. A fetched
    /// command that cannot be taken after all stays first.
    // A command fills two cache lines: it must not be moved once more.
    #[inline]
    pub(crate) fn take(&mut self, most: usize) -> Option<Command> {
        if self.fetched.is_empty() {
            self.fetch(most);
        }
        self.fetched.pop_front()
    }

    fn fetch(&mut self, most: usize) {
        debug_assert!(most > 0, "none would look like an empty queue");
        // Threads fill the channel again meanwhile.
        let most = most.min(self.shared.capacity);
        self.fetched
            .extend(self.shared.commands.try_iter().take(most));
        if self.shared.gate.is_waited_at() && self.shared.commands.len() <= self.shared.capacity / 2
        {
            self.shared.gate.open();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fetched.is_empty() && self.shared.commands.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.fetched.len() + self.shared.commands.len()
    }

    /// Whether a thread waits although there is some room, because it is not much.
    pub(crate) fn keeps_waiting(&self) -> bool {
        self.shared.gate.is_waited_at() && self.shared.commands.len() < self.shared.capacity
    }

    /// Lets a thread in if there is any room at all. Call this once the doorbell says that the loop
    /// sleeps: a thread that was let in before that would keep the room behind it to itself.
    pub(crate) fn open_for_any(&self) {
        if self.keeps_waiting() {
            self.shared.gate.open();
        }
    }

    /// Accepts nothing more. Commands that are queued already can still be taken.
    pub(crate) fn close(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.gate.open_for_good();
    }
}

impl Drop for CommandQueue {
    fn drop(&mut self) {
        self.close();
        self.shared.cancel_if_ended();
    }
}

impl QueueState {
    fn cancel_if_ended(&self) {
        fence(Ordering::SeqCst);
        if self.ended.load(Ordering::Relaxed) {
            self.commands.try_iter().for_each(drop);
        }
    }
}

impl Gate {
    fn is_waited_at(&self) -> bool {
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Lets one thread in, which lets in the next one.
    fn open(&self) {
        // A thread that has looked for room in vain sleeps once the lock is free.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.opened.notify_one();
    }

    fn open_for_good(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.opened.notify_all();
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
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::client::command::Request;
    use crate::client::ticket::{Completion, Ticket};
    use crate::mqtt::packet::{Publish, QoS};
    use crate::mqtt::session::{Outcome, Reason};

    const HANG: Duration = Duration::from_secs(60);

    fn ping() -> Command {
        Command {
            request: Request::Ping,
            completion: Completion::nobody(),
        }
    }

    /// Waits until it is so.
    fn wait_for(is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < HANG, "it never came to that");
            thread::yield_now();
        }
    }

    #[test]
    fn while_the_loop_sleeps_all_come_in_for_whom_there_is_room() {
        let bell = Arc::new(Doorbell::default());
        bell.set_thread();
        let (sender, mut queue) = command_queue(8, Arc::clone(&bell));
        for _ in 0..8 {
            assert!(sender.send(ping(), Duration::ZERO).is_ok());
        }
        let (done, is_done) = channel();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let (sender, done) = (sender.clone(), done.clone());
                thread::spawn(move || done.send(sender.send(ping(), HANG * 2).is_ok()).unwrap())
            })
            .collect();
        wait_for(|| queue.shared.gate.waiting.load(Ordering::SeqCst) == 3);
        // More than half of the queue stays taken.
        queue.fetch(3);
        for _ in 0..3 {
            assert!(queue.take(1).is_some());
        }
        let ringing = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                let all: Vec<_> = (0..3).map(|_| is_done.recv_timeout(HANG)).collect();
                bell.ring();
                all
            }
        });
        bell.sleep(false, Some(Instant::now() + HANG * 2), || {
            queue.open_for_any();
            // The first may come in before the loop really sleeps.
            wait_for(|| queue.len() > 5);
            false
        });
        assert_eq!(ringing.join().unwrap(), [Ok(true); 3]);
        assert_eq!(queue.len(), 8);
        for thread in waiting {
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_was_fetched_stays_in_its_order_and_counts() {
        let (sender, mut queue) = command_queue(4, Arc::new(Doorbell::default()));
        let publish = |number: u8| Command {
            request: Request::Publish(Publish::new("t", QoS::AtMostOnce, vec![number]).into()),
            completion: Completion::nobody(),
        };
        for number in 0..3 {
            assert!(sender.send(publish(number), Duration::ZERO).is_ok());
        }
        queue.fetch(2);
        assert_eq!((queue.len(), sender.len()), (3, 1));
        assert!(sender.send(publish(3), Duration::ZERO).is_ok());
        let numbers = std::iter::from_fn(|| queue.take(1)).map(|command| match command.request {
            Request::Publish(message) => Publish::from(message).payload()[0],
            other => panic!("{other:?}"),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn no_more_is_fetched_than_the_queue_holds_while_it_is_filled_again() {
        const CAPACITY: usize = 10;
        let (sender, mut queue) = command_queue(CAPACITY, Arc::new(Doorbell::default()));
        let filling: Vec<_> = (0..2)
            .map(|_| {
                let sender = sender.clone();
                thread::spawn(move || while sender.send(ping(), HANG).is_ok() {})
            })
            .collect();
        for _ in 0..2_000 {
            queue.fetch(512);
            assert!(queue.fetched.len() <= CAPACITY);
            queue.fetched.clear();
        }
        drop(queue);
        for thread in filling {
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_was_fetched_is_cancelled_when_the_queue_goes_away() {
        let (sender, mut queue) = command_queue(4, Arc::new(Doorbell::default()));
        let (ticket, completion) = Ticket::new();
        let command = Command {
            request: Request::Ping,
            completion,
        };
        assert!(sender.send(command, Duration::ZERO).is_ok());
        queue.fetch(1);
        assert_eq!(ticket.outcome(), None);
        drop(queue);
        let cancelled = Outcome::Cancelled(Reason::LoopEnded);
        assert_eq!(ticket.outcome(), Some(cancelled));
    }
}
