//! A bounded channel with weaker orderings than crossbeam's: a ring of slots, each with a stamp that says whose turn
//! it is.
//!
//! Places in the ring are reserved by a compare-and-exchange that acquires and releases, and values are released by
//! their stamp. crossbeam reserves with sequentially consistent accesses, and has a fence before it says that it is
//! full or empty. Here it has none, so that the models show that nothing relies on it. Waiting is crossbeam's own
//! affair: `recv` tries again here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use loom::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
struct Shared<T> {
    /// Places that were reserved for receiving and for sending since the beginning.
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Vec<Slot<T>>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

#[derive(Debug)]
struct Slot<T> {
    /// The place whose value may be written here; one more, if it may be read.
    stamp: AtomicUsize,
    /// More than one only if the stamps are wrong.
    value: Mutex<VecDeque<T>>,
}

#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

#[derive(Debug)]
pub enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

#[derive(Debug)]
pub enum TryRecvError {
    Empty,
    Disconnected,
}

#[derive(Debug)]
pub enum RecvTimeoutError {
    Timeout,
    Disconnected,
}

#[derive(Debug)]
pub struct RecvError;

pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let slot = |place| Slot {
        // Twice the place, so that a channel with one slot tells its stamps apart.
        stamp: AtomicUsize::new(2 * place),
        value: Mutex::default(),
    };
    let shared = Arc::new(Shared {
        head: AtomicUsize::new(0),
        tail: AtomicUsize::new(0),
        slots: (0..capacity).map(slot).collect(),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

#[derive(Debug)]
pub struct SendError<T>(pub T);

/// A bounded one in which no model puts more than it holds.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(4)
}

impl<T> TrySendError<T> {
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Disconnected(value) => value,
        }
    }
}

impl<T> Shared<T> {
    fn slot(&self, place: usize) -> &Slot<T> {
        &self.slots[place % self.slots.len()]
    }

    fn len(&self) -> usize {
        let tail = self.tail.load(Ordering::SeqCst);
        tail.saturating_sub(self.head.load(Ordering::SeqCst))
    }

    fn reserve(end: &AtomicUsize, place: usize) -> Result<usize, usize> {
        end.compare_exchange(place, place + 1, Ordering::SeqCst, Ordering::Relaxed)
    }

    fn receive(&self) -> Option<T> {
        let mut head = self.head.load(Ordering::Relaxed);
        let mut rounds = Rounds::default();
        loop {
            let slot = self.slot(head);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == 2 * head + 1 {
                match Self::reserve(&self.head, head) {
                    Ok(_) => {
                        let value = lock(&slot.value).pop_front();
                        let next = 2 * (head + self.slots.len());
                        slot.stamp.store(next, Ordering::Release);
                        return value;
                    }
                    Err(now) => head = now,
                }
                continue;
            }
            if stamp == 2 * head && self.tail.load(Ordering::Relaxed) == head {
                return None;
            }
            // A sender has reserved the place and has not filled it, or another receiver has emptied it.
            rounds.wait();
            head = self.head.load(Ordering::Relaxed);
        }
    }
}

/// The rounds in which a thread has waited for another one to fill or to empty a place that it reserved.
///
/// loom counts no preemption where a thread yields. So two threads that wait could take turns for ever, and loom would
/// follow them to its limit of branches. Waiting changes nothing: the same is explored after fewer rounds. After a
/// few rounds the rest of the execution is therefore run once, without variations.
#[derive(Debug, Default)]
struct Rounds(usize);

impl Rounds {
    const VARIED: usize = 2;

    fn wait(&mut self) {
        self.0 += 1;
        if self.0 > Self::VARIED {
            loom::skip_branch();
        }
        loom::thread::yield_now();
    }
}

impl<T> Sender<T> {
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let shared = &*self.0;
        let capacity = shared.slots.len();
        let mut tail = shared.tail.load(Ordering::Relaxed);
        let mut rounds = Rounds::default();
        loop {
            if shared.receivers.load(Ordering::Acquire) == 0 {
                return Err(TrySendError::Disconnected(value));
            }
            let slot = shared.slot(tail);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == 2 * tail {
                match Shared::<T>::reserve(&shared.tail, tail) {
                    Ok(_) => {
                        lock(&slot.value).push_back(value);
                        slot.stamp.store(2 * tail + 1, Ordering::Release);
                        return Ok(());
                    }
                    Err(now) => tail = now,
                }
                continue;
            }
            if stamp + 2 * capacity == 2 * tail + 1
                && shared.head.load(Ordering::Relaxed) + capacity == tail
            {
                return Err(TrySendError::Full(value));
            }
            rounds.wait();
            tail = shared.tail.load(Ordering::Relaxed);
        }
    }

    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.try_send(value).map_err(|error| match error {
            TrySendError::Disconnected(value) => SendError(value),
            TrySendError::Full(_) => panic!("a model sends more than its channel holds"),
        })
    }

    pub fn capacity(&self) -> Option<usize> {
        Some(self.0.slots.len())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if let Some(value) = self.0.receive() {
            return Ok(value);
        }
        if self.0.senders.load(Ordering::Acquire) > 0 {
            return Err(TryRecvError::Empty);
        }
        // The last sender may have sent just before it went.
        self.0.receive().ok_or(TryRecvError::Disconnected)
    }

    pub fn recv(&self) -> Result<T, RecvError> {
        loop {
            match self.try_recv() {
                Ok(value) => return Ok(value),
                Err(TryRecvError::Disconnected) => return Err(RecvError),
                Err(TryRecvError::Empty) => loom::thread::yield_now(),
            }
        }
    }

    /// The time-out alone, as `park_timeout`.
    pub fn recv_timeout(&self, time: Duration) -> Result<T, RecvTimeoutError> {
        self.try_recv().map_err(|e| match e {
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            TryRecvError::Empty => {
                crate::time::advance(time);
                RecvTimeoutError::Timeout
            }
        })
    }

    pub fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.senders.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.0.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            while self.0.receive().is_some() {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Not modelled: it waits as `recv` does.
#[derive(Debug, Default)]
pub struct Select<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> Select<'a> {
    pub fn new() -> Self {
        Select::default()
    }

    pub fn recv<T>(&mut self, _: &'a Receiver<T>) -> usize {
        0
    }

    pub fn try_ready(&mut self) -> Result<usize, TryRecvError> {
        Err(TryRecvError::Empty)
    }
}
