//! The contenders. Each works in its own way and through its public interface.

mod bench;
mod libmosquitto;
mod ntex;
mod ntex5;
mod paho;
mod raw;
mod rumqttc;
mod rumqttc5;
mod rumqttc_next;
mod sharing;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::source;
use crate::work::{Contender, Latencies, Meter, Mode, Quota, Start, Work};

/// All contenders. The first is the limit that TLS sets, the next four are this project, the rest are its peers.
pub const ALL: [Contender; 16] = [
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
        name: "bench",
        what: "this project's program, its command bench",
        run: bench::run,
    },
    Contender {
        name: "bench-receive",
        what: "the same, and it receives everything back",
        run: bench::run_received,
    },
    Contender {
        name: "ntex-mqtt",
        what: "ntex-mqtt, which publishes on its own runtime thread",
        run: ntex::run,
    },
    Contender {
        name: "ntex-mqtt-fed",
        what: "ntex-mqtt, whose runtime thread gets its messages from threads over a channel",
        run: ntex::run_fed,
    },
    Contender {
        name: "libmosquitto",
        what: "Mosquitto's own C library, over mosquitto-rs",
        run: libmosquitto::run,
    },
    Contender {
        name: "rumqttc-next",
        what: "a successor of rumqttc, which handles requests in batches",
        run: rumqttc_next::run,
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
    Contender {
        name: "mqtt-connection-sharing-5",
        what: "this project's library, with MQTT 5",
        run: sharing::run5,
    },
    Contender {
        name: "ntex-mqtt-5",
        what: "ntex-mqtt with MQTT 5, which publishes on its own runtime thread",
        run: ntex5::run,
    },
    Contender {
        name: "ntex-mqtt-fed-5",
        what: "the same, whose runtime thread gets its messages from threads over a channel",
        run: ntex5::run_fed,
    },
    Contender {
        name: "rumqttc-5",
        what: "rumqttc's synchronous client, with MQTT 5",
        run: rumqttc5::run,
    },
    Contender {
        name: "paho-mqtt-5",
        what: "Eclipse Paho for Rust, with MQTT 5",
        run: paho::run5,
    },
];

/// Messages that may wait for their turn, whatever the window, with contenders that have a queue for
/// them: a thousand, and no more bytes than four MiB.
fn queue(work: &Work) -> usize {
    (4 * 1024 * 1024 / work.payload_size.max(1)).clamp(1, 1_000)
}

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

/// The same for MQTT 5, which the sink reads the window from.
fn client_id5(name: &str, work: &Work) -> String {
    format!("{}-w{}", client_id(name), work.window)
}

/// Publisher threads, each with a clone of `publish`, which waits for room. Ends when the tally has counted an
/// acknowledgment of every message. Returns their number.
fn publish_from_threads<P>(work: &Work, tally: &Tally, publish: P) -> Result<(Meter, u64)>
where
    P: FnMut(&str, Vec<u8>) -> Result<()> + Clone + Send + 'static,
{
    let mut threads = Vec::new();
    let (shares, start) = Quota::shares(work);
    for (index, mut quota) in shares.into_iter().enumerate() {
        let (mut publish, work) = (publish.clone(), work.clone());
        let run = move || -> Result<u64> {
            let topic = topic(index);
            let mut sent = 0;
            quota.begin();
            while quota.next() {
                publish(&topic, work.payload(sent))?;
                sent += 1;
            }
            Ok(sent)
        };
        threads.push(spawn(run)?);
    }
    let meter = start.go()?;
    let mut messages = 0;
    for thread in threads {
        messages += join(thread)??;
    }
    tally.wait_for(messages);
    Ok((meter, messages))
}

/// This thread publishes one message after the other. `publish` returns when the message was acknowledged.
fn publish_one_by_one(
    work: &Work,
    mut publish: impl FnMut(&str, Vec<u8>) -> Result<()>,
) -> Result<(Meter, u64, Latencies)> {
    let topic = topic(0);
    let mut latencies = Latencies::new()?;
    let mut messages = 0;
    let (mut quota, meter) = Quota::of_this_thread(work)?;
    while quota.next() {
        let begin = Instant::now();
        publish(&topic, work.payload(messages))?;
        latencies.add(begin);
        messages += 1;
    }
    Ok((meter, messages, latencies))
}

/// Takes the messages of a contender that receives: counts them where they come, or hands them to threads that do.
enum Receiving<M> {
    Here {
        quota: Quota,
        count: u64,
        done: Option<Sender<u64>>,
    },
    Threads(Vec<Sender<M>>),
}

/// Waits for the end of a [`Receiving`].
struct Received {
    start: Start,
    here: Option<Receiver<u64>>,
    threads: Vec<JoinHandle<u64>>,
}

impl<M: Send + 'static> Receiving<M> {
    /// With one thread, messages are counted where they come. So are those that come while nothing is received.
    fn new(work: &Work) -> Result<(Self, Received)> {
        if work.threads == 1 || work.mode != Mode::Receive {
            let (quota, start) = Quota::alone(work);
            let (done, here) = bounded(1);
            let receiving = Receiving::Here {
                quota,
                count: 0,
                done: Some(done),
            };
            let received = Received {
                start,
                here: Some(here),
                threads: Vec::new(),
            };
            return Ok((receiving, received));
        }
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        let (shares, start) = Quota::shares(work);
        for mut quota in shares {
            let (sender, messages) = bounded::<M>(queue(work));
            senders.push(sender);
            threads.push(spawn(move || {
                let mut count = 0;
                quota.begin();
                while quota.next() && messages.recv().is_ok() {
                    count += 1;
                }
                count
            })?);
        }
        let received = Received {
            start,
            here: None,
            threads,
        };
        Ok((Receiving::Threads(senders), received))
    }

    /// Takes a message, and waits for room if threads do not keep up.
    #[inline]
    fn take(&mut self, message: M, topic: impl FnOnce(&M) -> &str) {
        match self {
            Receiving::Here { quota, count, done } => {
                if quota.next() {
                    *count += 1;
                } else if let Some(done) = done.take() {
                    let _ = done.send(*count);
                }
            }
            Receiving::Threads(senders) => {
                let thread = topic(&message)
                    .as_bytes()
                    .last()
                    .map_or(0, |last| last - b'0');
                // A thread that has ended takes none.
                let _ = senders[usize::from(thread)].send(message);
            }
        }
    }
}

impl Received {
    /// Subscribes for each thread, and waits until the time is over. Returns the number of messages.
    fn finish(
        self,
        work: &Work,
        mut subscribe: impl FnMut(String) -> Result<()>,
    ) -> Result<(Meter, u64)> {
        let meter = self.start.go()?;
        filters(work).try_for_each(&mut subscribe)?;
        let mut messages = 0;
        for thread in self.threads {
            messages += join(thread)?;
        }
        if let Some(here) = self.here {
            messages += here.recv()?;
        }
        Ok((meter, messages))
    }
}

/// The filters of the receiving threads.
fn filters(work: &Work) -> impl Iterator<Item = String> {
    let Work {
        window,
        payload_size,
        threads,
        ..
    } = *work;
    (0..threads).map(move |thread| source::filter(window, payload_size, threads, thread))
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
