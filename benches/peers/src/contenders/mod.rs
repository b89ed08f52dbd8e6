//! The contenders. Each works in its own way and through its public interface.

mod paho;
mod raw;
mod rumqttc;
mod sharing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

use anyhow::{Context as _, Result, anyhow};

use crate::work::Contender;

/// All contenders. The first is the limit that TLS sets, the second and third are this project,
/// the rest are its peers.
pub const ALL: [Contender; 5] = [
    Contender {
        name: "raw",
        what: "ready-made packets over TLS, no client at all",
        run: raw::run,
    },
    Contender {
        name: "mqtt-connection-sharing",
        what: "this project's library",
        run: sharing::run,
    },
    Contender {
        name: "recorded",
        what: "this project's library with a recording, which is read ten times a second",
        run: sharing::recorded,
    },
    Contender {
        name: "rumqttc",
        what: "rumqttc's synchronous client",
        run: rumqttc::run,
    },
    Contender {
        name: "paho-mqtt",
        what: "Eclipse Paho for Rust, over the Paho C library",
        run: paho::run,
    },
];

/// Messages that may wait for their turn, whatever the window, with contenders that have a queue for
/// them.
const QUEUE: usize = 1_000;

/// Stack of a publisher thread: small, because there may be a thousand threads.
const STACK: usize = 256 * 1024;

fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    let builder = thread::Builder::new().stack_size(STACK);
    builder.spawn(run).context("starting a publisher thread")
}

fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))
}

fn topic(thread: usize) -> String {
    format!("peers/{thread}")
}

/// A client identifier that no other run uses at the same time.
fn client_id(name: &str) -> String {
    format!("peers-{name}-{}", std::process::id())
}

/// Counts acknowledgments, and wakes one thread at the count that it waits for.
struct Tally {
    count: AtomicU64,
    wake_at: AtomicU64,
    waiter: Thread,
}

impl Tally {
    /// A tally on which the calling thread can wait.
    fn of_this_thread() -> Self {
        Tally {
            count: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            waiter: thread::current(),
        }
    }

    /// Counts one more. Wakes the thread only at the count that it waits for.
    #[inline]
    fn add(&self) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count == self.wake_at.load(Ordering::SeqCst) {
            self.waiter.unpark();
        }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    fn wait_for(&self, count: u64) {
        // Of this store and the last addition, the later one sees the other.
        self.wake_at.store(count, Ordering::SeqCst);
        while self.count() < count {
            thread::park();
        }
    }
}
