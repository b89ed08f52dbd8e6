//! How threads watch the connection: its state, a wait for a state, and events for any number of observers.
//!
//! One board holds the state and the last events. The loop writes on it when something happens to the connection, which
//! is rare, and never for a message. Each observer has a place of its own in the row of events. So another observer costs
//! the loop nothing, and a slow one stops nobody: events that it has not taken are pushed out by new ones, and it is
//! told how many. The lock is held for moments, never while code of a caller runs. Nothing is kept without observers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::events::{ConnectionEvent, ConnectionState, EventKind};
use crate::client::loop_thread;
use crate::client::tasks::Tasks;
use crate::error::Error;

/// The last events that are kept for observers.
const KEPT: usize = 256;

/// The loop's end. Dropping it says that the loop has ended.
pub(crate) struct Reporter(Arc<Board>);

/// The threads' end.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Board>);

/// The events of a connection, for one observer: see [`Handle::events`](crate::Handle::events).
///
/// It holds no handle: observers keep no loop from ending. A clone goes on from the same place.
pub struct ConnectionEvents {
    board: Arc<Board>,
    /// The number of the next event.
    next: u64,
}

/// Why there is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NoEvent {
    /// None came in time.
    #[error("no event came in time")]
    Timeout,
    /// The loop has ended, and every event was taken.
    #[error("the loop has ended, and every event was taken")]
    Ended,
    /// The calling thread runs a loop, as inside a callback of
    /// [`Handle::publish_then`](crate::Handle::publish_then): it must not wait, because the loop would wait for itself.
    #[error("a loop's own thread cannot wait for an event; receive on another thread")]
    OnLoopThread,
}

/// Why a state was not reached: see [`Handle::wait_for_connection`](crate::Handle::wait_for_connection).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReached {
    /// It was not reached in time. This is the state then.
    #[error("the connection has not come to this state in time: {0}")]
    Timeout(ConnectionState),
    /// The loop has ended, and the state will not change any more.
    #[error("the loop has ended")]
    Ended,
    /// The calling thread runs a loop, which would wait for itself.
    #[error("a loop's own thread cannot wait for the connection; wait on another thread")]
    OnLoopThread,
}

struct Board {
    written: Mutex<Written>,
    changed: Condvar,
    /// Tasks that await an event.
    tasks: Tasks,
}

struct Written {
    state: ConnectionState,
    /// How often the state has changed.
    changes: u64,
    events: VecDeque<Arc<ConnectionEvent>>,
    /// The number of the first of them.
    first: u64,
    observers: usize,
}

/// A board, and its two ends.
pub(crate) fn watch() -> (Reporter, Watch) {
    let board = Arc::new(Board {
        written: Mutex::new(Written {
            state: ConnectionState::Offline,
            changes: 0,
            events: VecDeque::new(),
            first: 0,
            observers: 0,
        }),
        changed: Condvar::new(),
        tasks: Tasks::default(),
    });
    (Reporter(Arc::clone(&board)), Watch(board))
}

impl Reporter {
    /// The connection is in this state now.
    pub(crate) fn change(&self, state: ConnectionState) {
        self.write(Some(state), || None);
    }

    /// The connection is in this state now, because of this event. Nobody sees one without the other.
    pub(crate) fn change_with(&self, state: ConnectionState, kind: impl FnOnce() -> EventKind) {
        self.write(Some(state), || Some((Instant::now(), kind())));
    }

    /// Something happened that leaves the state as it is. `kind` is called only if there are observers.
    pub(crate) fn tell(&self, kind: impl FnOnce() -> EventKind) {
        self.tell_at(Instant::now(), kind);
    }

    /// As [`Reporter::tell`], for something that happened at this time.
    pub(crate) fn tell_at(&self, at: Instant, kind: impl FnOnce() -> EventKind) {
        self.write(None, || Some((at, kind())));
    }

    /// The loop has ended.
    pub(crate) fn end(&self, error: Option<Error>) {
        self.change_with(ConnectionState::Ended, || EventKind::Ended { error });
    }

    /// For checks: where the loop has said that the connection is.
    pub(crate) fn told_state(&self) -> ConnectionState {
        self.0.lock().state.clone()
    }

    fn write(
        &self,
        state: Option<ConnectionState>,
        event: impl FnOnce() -> Option<(Instant, EventKind)>,
    ) {
        // An event may hold an error of the application: it is dropped when the lock is free.
        let mut pushed_out = None;
        {
            let mut written = self.0.lock();
            if written.state.is_ended() || state.is_none() && written.observers == 0 {
                return;
            }
            if let Some(state) = state {
                written.state = state;
                written.changes += 1;
            }
            if written.observers > 0
                && let Some((at, kind)) = event()
            {
                pushed_out = written.push(at, kind);
            }
        }
        drop(pushed_out);
        // A system call, also if no thread waits.
        self.0.changed.notify_all();
        self.0.tasks.wake_all();
    }
}

#[cfg(test)]
impl Reporter {
    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.0))
    }
}

#[cfg(test)]
impl Watch {
    /// Calls `during` while no other thread can write on the board or read it.
    pub(crate) fn while_held<T>(&self, during: impl FnOnce() -> T) -> T {
        let _held = self.0.lock();
        during()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end(None);
    }
}

impl Watch {
    pub(crate) fn state(&self) -> ConnectionState {
        self.0.lock().state.clone()
    }

    /// See [`Handle::wait_for_connection`](crate::Handle::wait_for_connection).
    pub(crate) fn wait_for(
        &self,
        timeout: Duration,
        mut is_reached: impl FnMut(&ConnectionState) -> bool,
    ) -> Result<ConnectionState, NotReached> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let (state, changes) = {
                let written = self.0.lock();
                (written.state.clone(), written.changes)
            };
            // Not under the lock: it is the caller's code.
            if is_reached(&state) {
                return Ok(state);
            }
            if state.is_ended() {
                return Err(NotReached::Ended);
            }
            if !timeout.is_zero() && loop_thread::is_current() {
                return Err(NotReached::OnLoopThread);
            }
            let is_new = |written: &Written| written.changes != changes;
            if self.0.wait_until(deadline, is_new).is_none() {
                return Err(NotReached::Timeout(state));
            }
        }
    }

    /// A new observer, which sees the events from now on.
    pub(crate) fn events(&self) -> ConnectionEvents {
        let mut written = self.0.lock();
        written.observers += 1;
        ConnectionEvents {
            board: Arc::clone(&self.0),
            next: written.next(),
        }
    }
}

impl ConnectionEvents {
    /// Waits for the next event. If some were lost because this observer was slow, that comes first:
    /// [`EventKind::Missed`].
    ///
    /// # Errors
    /// [`NoEvent::Ended`] once the loop has ended and every event was taken; [`NoEvent::OnLoopThread`] where the thread
    /// would have to wait and must not.
    pub fn recv(&mut self) -> Result<Arc<ConnectionEvent>, NoEvent> {
        self.recv_by(None)
    }

    /// As [`ConnectionEvents::recv`], but waits at most this long.
    ///
    /// # Errors
    /// As [`ConnectionEvents::recv`], and [`NoEvent::Timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Arc<ConnectionEvent>, NoEvent> {
        match timeout.is_zero() {
            true => self.try_recv(),
            false => self.recv_by(Instant::now().checked_add(timeout)),
        }
    }

    /// As [`ConnectionEvents::recv`], but never waits. Any thread may call it.
    ///
    /// # Errors
    /// [`NoEvent::Timeout`] if there is none now, [`NoEvent::Ended`] if there never will be one.
    pub fn try_recv(&mut self) -> Result<Arc<ConnectionEvent>, NoEvent> {
        let board = Arc::clone(&self.board);
        let written = board.lock();
        self.take(&written).ok_or(match written.state.is_ended() {
            true => NoEvent::Ended,
            false => NoEvent::Timeout,
        })
    }

    /// Whether [`ConnectionEvents::try_recv`] has something to give: an event, or the end.
    pub fn ready(&self) -> bool {
        let written = self.board.lock();
        written.next() > self.next || written.state.is_ended()
    }

    /// The tasks that await an event of this connection.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.board.tasks
    }

    fn recv_by(&mut self, deadline: Option<Instant>) -> Result<Arc<ConnectionEvent>, NoEvent> {
        match self.try_recv() {
            Err(NoEvent::Timeout) if loop_thread::is_current() => Err(NoEvent::OnLoopThread),
            Err(NoEvent::Timeout) => {
                let next = self.next;
                let has_news =
                    |written: &Written| written.next() > next || written.state.is_ended();
                // If the time is over, there is none now.
                drop(self.board.wait_until(deadline, has_news));
                self.try_recv()
            }
            received => received,
        }
    }

    fn take(&mut self, written: &Written) -> Option<Arc<ConnectionEvent>> {
        let missed = written.first.saturating_sub(self.next);
        if missed > 0 {
            self.next = written.first;
            return Some(Arc::new(ConnectionEvent {
                at: written.events.front()?.at,
                kind: EventKind::Missed { count: missed },
            }));
        }
        let place = usize::try_from(self.next - written.first).ok()?;
        let event = written.events.get(place)?;
        self.next += 1;
        Some(Arc::clone(event))
    }
}

/// Waits for each event; ends as [`ConnectionEvents::recv`] errs.
impl Iterator for ConnectionEvents {
    type Item = Arc<ConnectionEvent>;

    fn next(&mut self) -> Option<Arc<ConnectionEvent>> {
        self.recv().ok()
    }
}

impl Clone for ConnectionEvents {
    fn clone(&self) -> Self {
        self.board.lock().observers += 1;
        ConnectionEvents {
            board: Arc::clone(&self.board),
            next: self.next,
        }
    }
}

impl Drop for ConnectionEvents {
    fn drop(&mut self) {
        let mut written = self.board.lock();
        let mut events = VecDeque::new();
        written.observers -= 1;
        if written.observers == 0 {
            written.first = written.next();
            std::mem::swap(&mut written.events, &mut events);
        }
        // They may hold errors of the application, and go when the lock is free.
        drop(written);
        drop(events);
    }
}

impl fmt::Debug for ConnectionEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.board.lock().next() - self.next;
        f.debug_struct("ConnectionEvents")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Written {
    /// The number of the event that comes next.
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Returns the event that makes room. The new one is not earlier than the one before it.
    fn push(&mut self, at: Instant, kind: EventKind) -> Option<Arc<ConnectionEvent>> {
        let mut pushed_out = None;
        if self.events.len() == KEPT {
            pushed_out = self.events.pop_front();
            self.first += 1;
        }
        let at = self.events.back().map_or(at, |last| last.at.max(at));
        self.events
            .push_back(Arc::new(ConnectionEvent { at, kind }));
        pushed_out
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is so. Returns `None` if the deadline came first.
    fn wait_until(
        &self,
        deadline: Option<Instant>,
        is_so: impl Fn(&Written) -> bool,
    ) -> Option<MutexGuard<'_, Written>> {
        let mut written = self.lock();
        while !is_so(&written) {
            written = match deadline {
                None => {
                    let waited = self.changed.wait(written);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let waited = self.changed.wait_timeout(written, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Some(written)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const HANG: Duration = Duration::from_secs(60);

    fn attempt(number: u32) -> EventKind {
        EventKind::Attempt { number }
    }

    fn connecting(attempt: u32) -> ConnectionState {
        ConnectionState::Connecting {
            attempt,
            next_try: None,
        }
    }

    fn kinds(events: &mut ConnectionEvents) -> Vec<EventKind> {
        let next = || events.try_recv().ok();
        std::iter::from_fn(next)
            .map(|event| event.kind.clone())
            .collect()
    }

    #[test]
    fn an_event_has_its_own_time_and_none_is_earlier_than_the_one_before() {
        let (reporter, watch) = watch();
        let mut events = watch.events();
        let begin = Instant::now();
        for after in [3, 5, 4] {
            reporter.tell_at(begin + Duration::from_millis(after), || attempt(1));
        }
        let times = std::iter::from_fn(|| events.try_recv().ok()).map(|event| event.at - begin);
        let times: Vec<_> = times.map(|time| time.as_millis()).collect();
        assert_eq!(times, [3, 5, 5]);
    }

    #[test]
    fn each_observer_sees_the_events_since_it_began_in_order() {
        let (reporter, watch) = watch();
        reporter.tell(|| panic!("there is no observer"));
        let mut early = watch.events();
        reporter.tell(|| attempt(1));
        let mut late = watch.events();
        let mut clone = early.clone();
        reporter.tell(|| attempt(2));
        assert_eq!(kinds(&mut early), [attempt(1), attempt(2)]);
        assert_eq!(kinds(&mut clone), [attempt(1), attempt(2)]);
        assert_eq!(kinds(&mut late), [attempt(2)]);
        assert_eq!(late.try_recv(), Err(NoEvent::Timeout));
        assert_eq!(
            late.recv_timeout(Duration::from_millis(1)),
            Err(NoEvent::Timeout)
        );
    }

    #[test]
    fn a_slow_observer_is_told_how_many_it_missed_and_others_miss_none() {
        const MORE: u32 = 10;
        let (reporter, watch) = watch();
        let (mut slow, mut quick) = (watch.events(), watch.events());
        let last = KEPT as u32 + MORE;
        for number in 1..=last {
            reporter.tell(|| attempt(number));
            assert_eq!(kinds(&mut quick), [attempt(number)]);
        }
        let seen = kinds(&mut slow);
        let missed = EventKind::Missed {
            count: u64::from(MORE),
        };
        assert_eq!((&seen[0], seen.len()), (&missed, KEPT + 1));
        assert_eq!(
            (&seen[1], &seen[KEPT]),
            (&attempt(MORE + 1), &attempt(last))
        );
        // It has caught up.
        reporter.tell(|| attempt(0));
        assert_eq!(kinds(&mut slow), [attempt(0)]);
    }

    #[test]
    fn without_observers_nothing_is_kept() {
        let (reporter, watch) = watch();
        let events = watch.events();
        reporter.tell(|| attempt(1));
        drop(events.clone());
        assert_eq!(watch.0.lock().events.len(), 1);
        drop(events);
        assert_eq!(watch.0.lock().events.capacity(), 0);
        let mut events = watch.events();
        reporter.tell(|| attempt(2));
        assert_eq!(kinds(&mut events), [attempt(2)]);
    }

    #[test]
    fn the_end_is_the_last_event_and_the_last_state_whoever_tells_it() {
        for tells in [true, false] {
            let (reporter, watch) = watch();
            let mut events = watch.events();
            if tells {
                reporter.end(None);
                reporter.change_with(connecting(1), || attempt(1));
            }
            drop(reporter);
            assert_eq!(watch.state(), ConnectionState::Ended);
            let ended = EventKind::Ended { error: None };
            assert_eq!(events.recv().unwrap().kind, ended);
            assert_eq!(events.recv(), Err(NoEvent::Ended));
            assert_eq!(events.next(), None);
            assert_eq!(watch.events().recv(), Err(NoEvent::Ended));
            let never = watch.wait_for(HANG, ConnectionState::is_online);
            assert_eq!(never, Err(NotReached::Ended));
            let ended = watch.wait_for(HANG, ConnectionState::is_ended);
            assert_eq!(ended, Ok(ConnectionState::Ended));
        }
    }

    #[test]
    fn a_state_is_waited_for_until_it_comes_or_the_time_is_over() {
        let (reporter, watch) = watch();
        let is_third = |state: &ConnectionState| *state == connecting(3);
        let late = watch.wait_for(Duration::from_millis(1), is_third);
        assert_eq!(late, Err(NotReached::Timeout(ConnectionState::Offline)));
        let waiting = thread::spawn({
            let watch = watch.clone();
            // It asks for the state itself meanwhile.
            let inner = watch.clone();
            move || watch.wait_for(HANG, |state| is_third(state) && inner.state() == *state)
        });
        for number in 1..=3 {
            reporter.change_with(connecting(number), || attempt(number));
        }
        assert_eq!(waiting.join().unwrap(), Ok(connecting(3)));
    }

    #[test]
    fn a_loops_thread_gets_what_is_there_and_does_not_wait() {
        let (reporter, watch) = watch();
        let mut events = watch.events();
        reporter.change_with(connecting(1), || attempt(1));
        let _loop = loop_thread::enter();
        assert_eq!(events.recv().unwrap().kind, attempt(1));
        assert_eq!(events.recv(), Err(NoEvent::OnLoopThread));
        assert_eq!(events.recv_timeout(HANG), Err(NoEvent::OnLoopThread));
        assert_eq!(events.recv_timeout(Duration::ZERO), Err(NoEvent::Timeout));
        let online = watch.wait_for(HANG, ConnectionState::is_online);
        assert_eq!(online, Err(NotReached::OnLoopThread));
        let there = watch.wait_for(HANG, |state| *state == connecting(1));
        assert_eq!(there, Ok(connecting(1)));
    }

    /// Some read, some are never read, some come and go: those that read miss nothing, or are told.
    #[test]
    fn a_thousand_observers_stop_nobody() {
        const OBSERVERS: usize = 1_000;
        const READERS: usize = 8;
        const EVENTS: u32 = 2_000;
        let (reporter, watch) = watch();
        let unread: Vec<_> = (0..OBSERVERS - READERS).map(|_| watch.events()).collect();
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let events = watch.events();
                thread::spawn(move || {
                    let (mut seen, mut last) = (0, 0);
                    for event in events {
                        match event.kind {
                            EventKind::Attempt { number } => {
                                assert!(number > last, "{number} after {last}");
                                (seen, last) = (seen + 1, number);
                            }
                            EventKind::Missed { count } => seen += count,
                            EventKind::Ended { .. } => {}
                            _ => panic!("{event}"),
                        }
                    }
                    (seen, last)
                })
            })
            .collect();
        for number in 1..=EVENTS {
            reporter.tell(|| attempt(number));
            drop(watch.events());
        }
        drop(reporter);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (u64::from(EVENTS), EVENTS));
        }
        assert_eq!(watch.0.lock().events.len(), KEPT);
        for mut events in unread {
            let seen = kinds(&mut events);
            let missed = u64::from(EVENTS) + 1 - KEPT as u64;
            assert_eq!(seen[0], EventKind::Missed { count: missed });
            assert_eq!(seen.len(), KEPT + 1);
        }
    }
}
