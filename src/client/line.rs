//! \[2\] The line of threads and tasks at a full queue: the one that has waited longest goes first.
//!
//! A thread that finds no room leaves its item in the line and sleeps. The loop moves items from the line
//! into the queue, in their order, and wakes the threads that they came from. So no later comer takes the
//! room, and a thread that the system is slow to run holds up no other one: its item is in the queue before
//! it wakes. A thread whose time is over takes its item back. Only threads that have to wait take the lock,
//! and the loop when one waits. A task of an executor stands in the same line: it is woken in place of a thread, and
//! takes its item back when its future is dropped.
//!
//! Where many threads publish without a pause, waking one for each item would cost more than all the rest. So
//! it is the turn of the threads that were let in last until others are: each may put a share of the room into the
//! queue, although others wait. Others are let in once these threads stand in the line again, when little is queued,
//! or when the loop has slept for a moment with room left. After such a moment the next share is half as large, so
//! that more threads fill the room: threads that wait for each message use little of it. A thread that used its share
//! at once makes the next one twice as large. A turn ends when the first in the line is overdue, too: then each item is
//! let in by itself, in the order of the line. Tasks have no shares.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::waiter::Waiter;

/// Threads that publish without a pause have used their shares by then.
const TURN_TIME: Duration = Duration::from_millis(1);

/// In a smaller share, no thread could show that it uses more.
const SMALLEST_SHARE: usize = 2;

thread_local! {
    /// The line that let this thread in last, by its place in memory, the round in which it did so, and how many
    /// items the thread has put into the room that was left for it. A thread that runs only after the next round has
    /// begun takes part in that one.
    static TURN: Cell<(usize, u64, usize)> = const { Cell::new((0, 0, 0)) };
}

/// The line. `T` is what threads want to put into the queue.
pub(crate) struct Line<T> {
    /// How many items a thread may put into the queue in its turn, at the most.
    largest_share: usize,
    /// How many threads and tasks stand in the line. Written under the lock only.
    length: AtomicUsize,
    /// An item with a lower number is in the queue, unless it was taken back. Written under the lock only.
    admitted: AtomicU64,
    /// How often threads were let in. Written under the lock only.
    rounds: AtomicU64,
    /// How many items each thread may put into the queue that was let in last. Written under the lock only.
    share_now: AtomicUsize,
    places: Mutex<Places<T>>,
}

struct Places<T> {
    /// In the order of their numbers.
    waiting: VecDeque<Place<T>>,
    next_number: u64,
    /// `None` once all who were let in last have used their shares.
    turn: Option<Turn>,
    /// The share of each thread in the next turn.
    next_share: usize,
}

/// The turn of the threads that were let in last.
struct Turn {
    /// Those of them that do not stand in the line again.
    threads: usize,
    /// A sleeping loop leaves the room to them until then.
    until: Instant,
}

/// A thread or a task that waits, and its item.
struct Place<T> {
    number: u64,
    item: T,
    /// `None` for a task that was woken because the queue is closed.
    waiter: Option<Waiter>,
    overdue: Instant,
}

/// How long a thread waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until it takes its item back.
    pub(crate) deadline: Option<Instant>,
    /// Until it is to be let in before anybody has another share.
    pub(crate) overdue: Instant,
}

/// Why an item did not get into the queue; it comes back.
pub(crate) enum NotAdmitted<T> {
    /// There was no room in time.
    TimedOut(T),
    /// The queue was closed.
    Closed(T),
}

impl<T> Line<T> {
    /// A line before a queue in which a thread may have so much room in its turn (at least 1).
    pub(crate) fn new(largest_share: usize) -> Self {
        let places = Places {
            waiting: VecDeque::new(),
            next_number: 0,
            turn: None,
            next_share: largest_share,
        };
        Line {
            largest_share,
            length: AtomicUsize::new(0),
            admitted: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            share_now: AtomicUsize::new(1),
            places: Mutex::new(places),
        }
    }

    /// Whether the next room in the queue belongs to a thread in the line. Costs one load.
    pub(crate) fn has_waiting(&self) -> bool {
        self.length.load(Ordering::Relaxed) > 0
    }

    /// Whether the calling thread was let in last, and has not used its share of the room.
    pub(crate) fn is_turn_of_caller(&self) -> bool {
        let share = self.share_now.load(Ordering::Relaxed);
        let (line, round, used) = TURN.get();
        let is_turn = used < share && (line, round) == self.turn();
        if is_turn {
            TURN.set((line, round, used + 1));
        }
        is_turn
    }

    /// As [`Line::has_waiting`], for the loop once it has made room: either the loop sees that a thread waits, or
    /// the thread sees the room.
    pub(crate) fn has_waiting_for_room(&self) -> bool {
        // Pairs with the fence in `enter`.
        fence(Ordering::SeqCst);
        self.has_waiting()
    }

    /// Puts an item into the queue, behind those that wait already, with patience. `offer` gives the item back if
    /// the queue is full; `is_closed` says whether the queue takes nothing any more; `in_line` is called once the item
    /// stands in the line. Returns whether the thread had to wait: there may be room by now.
    pub(crate) fn wait(
        &self,
        item: T,
        patience: Patience,
        mut offer: impl FnMut(T) -> Result<(), T>,
        is_closed: impl Fn() -> bool,
        in_line: impl FnOnce(),
    ) -> Result<bool, NotAdmitted<T>> {
        let waiter = Waiter::current();
        let overdue = patience.overdue;
        let Some(number) = self.enter(item, waiter, overdue, &mut offer, &is_closed)? else {
            return Ok(false);
        };
        // Not under the lock: the loop that is woken takes it.
        in_line();
        loop {
            if self.is_admitted(number) {
                let (line, round) = self.turn();
                TURN.set((line, round, 1));
                return Ok(true);
            }
            if is_closed() {
                let left = self.leave(number).map_err(NotAdmitted::Closed);
                return left.map(|()| true);
            }
            match patience
                .deadline
                .map(|at| at.saturating_duration_since(Instant::now()))
            {
                None => thread::park(),
                Some(left) if !left.is_zero() => thread::park_timeout(left),
                Some(_) => {
                    // There may be room that the loop has not given away yet.
                    self.admit_all(offer, &mut Vec::new());
                    let left = self.leave(number).map_err(NotAdmitted::TimedOut);
                    return left.map(|()| true);
                }
            }
        }
    }

    /// For a loop that has taken items, with so much room: lets in as many threads as fill the room with their shares.
    /// While threads that were let in before have not used theirs, others wait until little is queued. If the first
    /// in the line is overdue, lets in one item of each thread. `offer` and `woken` are as with [`Line::admit_all`].
    pub(crate) fn admit_in_turn(
        &self,
        room: usize,
        now: Instant,
        offer: impl FnMut(T) -> Result<(), T>,
        woken: &mut Vec<Waiter>,
    ) {
        let mut places = self.lock();
        if self.gives_no_shares(&places, now) {
            self.admit(room, 1, &mut places, offer, woken);
        } else if places.turn.is_none() || room > places.next_share + places.next_share / 2 {
            self.begin_turn(room, now, &mut places, offer, woken);
        }
        drop(places);
        wake(woken);
    }

    /// For a loop that is about to sleep, with so much room: as [`Line::admit_in_turn`], but threads that do not use
    /// their shares within a moment leave the room to others. Returns when to call this again, at the latest.
    pub(crate) fn admit_before_sleep(
        &self,
        room: usize,
        now: Instant,
        offer: impl FnMut(T) -> Result<(), T>,
        woken: &mut Vec<Waiter>,
    ) -> Option<Instant> {
        let mut places = self.lock();
        let until = places.turn.as_ref().map(|turn| turn.until);
        if self.gives_no_shares(&places, now) {
            self.admit(room, 1, &mut places, offer, woken);
        } else if until.is_none_or(|until| until <= now) {
            if until.is_some() {
                places.next_share = SMALLEST_SHARE.max(places.next_share / 2);
            }
            self.begin_turn(room, now, &mut places, offer, woken);
        }
        let turn = places.turn.as_ref();
        let until = turn.map(|turn| turn.until);
        let until = until.filter(|_| !places.waiting.is_empty());
        drop(places);
        wake(woken);
        until
    }

    /// Moves items into the queue, in their order, until `offer` gives one back, and wakes their threads. `woken` is
    /// for memory that is kept from one call to the next.
    pub(crate) fn admit_all(&self, offer: impl FnMut(T) -> Result<(), T>, woken: &mut Vec<Waiter>) {
        let mut places = self.lock();
        self.admit(usize::MAX, 1, &mut places, offer, woken);
        drop(places);
        wake(woken);
    }

    /// Whether each item waits in the line: the queue is small, or the first in the line is overdue.
    fn gives_no_shares(&self, places: &Places<T>, now: Instant) -> bool {
        let first = places.waiting.front();
        self.largest_share == 1 || first.is_none_or(|first| first.overdue <= now)
    }

    /// Lets in as many as fill this room, each thread with its share.
    fn begin_turn(
        &self,
        room: usize,
        now: Instant,
        places: &mut Places<T>,
        offer: impl FnMut(T) -> Result<(), T>,
        woken: &mut Vec<Waiter>,
    ) {
        self.admit(room, places.next_share, places, offer, woken);
        let threads = woken.iter().filter(|one| one.is_thread()).count();
        let until = now + TURN_TIME;
        places.turn = (threads > 0).then_some(Turn { threads, until });
    }

    /// Lets in as many as fill this room: a task takes one place in the queue, a thread has this share of it.
    fn admit(
        &self,
        mut room: usize,
        share: usize,
        places: &mut Places<T>,
        mut offer: impl FnMut(T) -> Result<(), T>,
        woken: &mut Vec<Waiter>,
    ) {
        let round = self.rounds.load(Ordering::Relaxed) + 1;
        self.rounds.store(round, Ordering::Relaxed);
        self.share_now.store(share, Ordering::Relaxed);
        places.turn = None;
        while room > 0
            && let Some(mut place) = places.waiting.pop_front()
        {
            match offer(place.item) {
                Ok(()) => {
                    self.admitted.store(place.number + 1, Ordering::Release);
                    let is_thread = place.waiter.as_ref().is_some_and(Waiter::is_thread);
                    room = room.saturating_sub(if is_thread { share } else { 1 });
                    woken.extend(place.waiter);
                }
                Err(item) => {
                    place.item = item;
                    places.waiting.push_front(place);
                    break;
                }
            }
        }
        self.count(places);
    }

    /// The queue is closed: wakes all threads and tasks, so that they take their items back.
    pub(crate) fn wake_all(&self) {
        let mut places = self.lock();
        let waiting = places.waiting.iter_mut();
        let woken: Vec<Waiter> = waiting
            .filter_map(|place| Waiter::take_from(&mut place.waiter))
            .collect();
        drop(places);
        woken.into_iter().for_each(|waiter| waiter.wake());
    }

    /// Takes a place at the end of the line. Returns its number, or `None` if there was no line and the queue
    /// had room. `overdue`, `offer` and `is_closed` are as with [`Line::wait`]. A task asks with [`Line::poll`] then.
    pub(crate) fn enter(
        &self,
        mut item: T,
        waiter: Waiter,
        overdue: Instant,
        offer: &mut impl FnMut(T) -> Result<(), T>,
        is_closed: &impl Fn() -> bool,
    ) -> Result<Option<u64>, NotAdmitted<T>> {
        let mut places = self.lock();
        if waiter.is_thread() {
            self.end_turn_of_caller(&mut places);
        }
        if places.waiting.is_empty() {
            // The loop may have made room just now, and has seen no thread that waits for it.
            self.length.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            match offer(item) {
                Ok(()) => {
                    self.count(&places);
                    return Ok(None);
                }
                Err(back) => item = back,
            }
        }
        if is_closed() {
            self.count(&places);
            return Err(NotAdmitted::Closed(item));
        }
        let number = places.next_number;
        places.next_number += 1;
        places.waiting.push_back(Place {
            number,
            item,
            waiter: Some(waiter),
            overdue,
        });
        self.count(&places);
        Ok(Some(number))
    }

    /// Whether a task's item is in the queue. If not, wakes the task once it is, or once the queue is closed: then
    /// gives the item back.
    pub(crate) fn poll(
        &self,
        number: u64,
        waker: &Waker,
        is_closed: impl Fn() -> bool,
    ) -> Poll<Result<(), T>> {
        if self.is_admitted(number) {
            return Poll::Ready(Ok(()));
        }
        let waiter = Waiter::Task(waker.clone());
        let mut places = self.lock();
        // Not before the lock: a thread that closes the queue wakes the waiter that it finds here.
        let Some(place) = places.find(number).filter(|_| !is_closed()) else {
            drop(places);
            return Poll::Ready(self.leave(number));
        };
        let earlier = place.waiter.replace(waiter);
        drop(places);
        // Foreign code, hence not under the lock.
        drop(earlier);
        Poll::Pending
    }

    /// Gives an item back to its thread or task, unless it was admitted.
    pub(crate) fn leave(&self, number: u64) -> Result<(), T> {
        let mut places = self.lock();
        let at = places.position(number);
        let place = at.and_then(|at| places.waiting.remove(at));
        self.count(&places);
        drop(places);
        place.map_or(Ok(()), |place| Err(place.item))
    }

    /// Whether the item with this number is in the queue, unless its thread or task took it back.
    fn is_admitted(&self, number: u64) -> bool {
        self.admitted.load(Ordering::Acquire) > number
    }

    /// The calling thread was let in last perhaps, and is back.
    fn end_turn_of_caller(&self, places: &mut Places<T>) {
        let (line, round, used) = TURN.get();
        TURN.set((0, 0, 0));
        if (line, round) == self.turn()
            && let Some(turn) = &mut places.turn
        {
            turn.threads -= 1;
            if turn.threads == 0 {
                places.turn = None;
            }
            if used >= self.share_now.load(Ordering::Relaxed) {
                places.next_share = self.largest_share.min(places.next_share * 2);
            }
        }
    }

    fn turn(&self) -> (usize, u64) {
        let place = std::ptr::from_ref(self).addr();
        (place, self.rounds.load(Ordering::Relaxed))
    }

    fn count(&self, places: &Places<T>) {
        self.length.store(places.waiting.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Places<T>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Call this without the lock.
fn wake(woken: &mut Vec<Waiter>) {
    woken.drain(..).for_each(Waiter::wake);
}

impl<T> Places<T> {
    fn position(&self, number: u64) -> Option<usize> {
        let found = self.waiting.binary_search_by_key(&number, |p| p.number);
        found.ok()
    }

    fn find(&mut self, number: u64) -> Option<&mut Place<T>> {
        let at = self.position(number)?;
        self.waiting.get_mut(at)
    }
}

#[cfg(test)]
impl<T> Line<T> {
    /// How many threads stand in the line.
    pub(crate) fn length(&self) -> usize {
        self.length.load(Ordering::SeqCst)
    }

    /// How large the shares of the next turn are.
    pub(crate) fn next_share(&self) -> usize {
        self.lock().next_share
    }
}
