//! The present work of a thread: the thread says it, the view reads it.
//!
//! Atomics: a thread that says something waits for nobody and allocates nothing. Three values that are read one after
//! the other need not be of one moment, which a picture of a tenth of a second can bear.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The present work of a thread, and how far it is. All threads share it.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// The kind in the lowest byte, a number above it.
    now: AtomicU64,
    done: AtomicU64,
    /// How long the last message took from the call to the acknowledgment, in nanoseconds; 0 = there is none.
    last: AtomicU64,
}

/// The kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Now {
    /// It waits until it may begin.
    Starting,
    /// It puts the message with this number, from 1, into the command queue, and waits if there is no room.
    Queuing(u64),
    /// It waits until the message with this number is acknowledged.
    Awaiting(u64),
    /// It has queued so many messages, and waits until the last one is acknowledged.
    AwaitingAll(u64),
    /// It makes the pause between two messages.
    Pausing,
    /// It waits until its subscription is granted.
    Subscribing,
    /// It waits for the next message.
    Receiving,
    /// It waits until its subscription is ended.
    Unsubscribing,
    /// It waits for the end of the connection.
    Ending,
    /// It has ended, and well.
    Done,
    /// It has ended because something went wrong.
    Failed,
}

/// Numbers above this one are said as this one.
const LARGEST: u64 = u64::MAX >> 8;

impl Activity {
    /// From now on the thread does this.
    pub(crate) fn is(&self, now: Now) {
        self.now.store(now.to_word(), Ordering::Relaxed);
    }

    /// So many of its messages are acknowledged, or received.
    pub(crate) fn set_done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// One more is acknowledged, so long after the call.
    pub(crate) fn one_done(&self, took: Duration) {
        self.done.fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.last.store(nanoseconds.max(1), Ordering::Relaxed);
    }

    /// The thread's present work.
    pub(crate) fn now(&self) -> Now {
        Now::of_word(self.now.load(Ordering::Relaxed))
    }

    /// How many of its messages are acknowledged, or received.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How long its last message took from the call to the acknowledgment.
    pub(crate) fn last(&self) -> Option<Duration> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
}

impl Now {
    fn to_word(self) -> u64 {
        let (kind, number) = match self {
            Now::Starting => (0, 0),
            Now::Queuing(number) => (1, number),
            Now::Awaiting(number) => (2, number),
            Now::AwaitingAll(number) => (3, number),
            Now::Pausing => (4, 0),
            Now::Subscribing => (5, 0),
            Now::Receiving => (6, 0),
            Now::Unsubscribing => (7, 0),
            Now::Ending => (8, 0),
            Now::Done => (9, 0),
            Now::Failed => (10, 0),
        };
        number.min(LARGEST) << 8 | kind
    }

    fn of_word(word: u64) -> Self {
        let number = word >> 8;
        match word & 0xff {
            0 => Now::Starting,
            1 => Now::Queuing(number),
            2 => Now::Awaiting(number),
            3 => Now::AwaitingAll(number),
            4 => Now::Pausing,
            5 => Now::Subscribing,
            6 => Now::Receiving,
            7 => Now::Unsubscribing,
            8 => Now::Ending,
            9 => Now::Done,
            _ => Now::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_says_is_what_the_view_reads() {
        let doing = Activity::default();
        assert_eq!(doing.now(), Now::Starting);
        assert_eq!((doing.done(), doing.last()), (0, None));
        for now in [
            Now::Starting,
            Now::Queuing(0),
            Now::Awaiting(17),
            Now::AwaitingAll(LARGEST),
            Now::Pausing,
            Now::Subscribing,
            Now::Receiving,
            Now::Unsubscribing,
            Now::Ending,
            Now::Done,
            Now::Failed,
        ] {
            doing.is(now);
            assert_eq!(doing.now(), now);
        }
        doing.is(Now::Awaiting(u64::MAX));
        assert_eq!(doing.now(), Now::Awaiting(LARGEST));
        doing.one_done(Duration::from_micros(310));
        doing.one_done(Duration::ZERO);
        assert_eq!(doing.done(), 2);
        assert_eq!(doing.last(), Some(Duration::from_nanos(1)));
        doing.set_done(7);
        assert_eq!(doing.done(), 7);
    }
}
