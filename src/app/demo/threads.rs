//! \[0\] \[9\] The three threads that share the connection: two publishers and a subscriber.
//!
//! Each runs on a thread of its own and holds nothing but a handle; none touches the connection.
//! The publishers start once the broker has granted the subscription. Every result is looked at: a
//! thread ends with what it did, or with the first thing that went wrong in words.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::verdict::{Plan, Published, Publisher, Verdict};
use mqtt_connection_sharing::Handle;
use mqtt_connection_sharing::Ticket;
use mqtt_connection_sharing::{Filter, Publish, QoS};
use mqtt_connection_sharing::{Inbox, InboxError, WhenFull};
use mqtt_connection_sharing::{Outcome, RejectReason, Rejected};

/// What every thread of an iteration knows.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) published: Arc<Published>,
    pub(super) qos: QoS,
    pub(super) publish_delay: Duration,
    /// Disconnected when the iteration is over: nobody needs to wait for anything any more.
    pub(super) over: Receiver<()>,
}

/// What a publisher did.
#[derive(Debug, Default)]
pub(super) struct PublisherResult {
    /// Messages that the loop took.
    pub(super) published: u64,
    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(super) acknowledged: u64,
    /// The first thing that went wrong.
    pub(super) problem: Option<String>,
}

/// What the subscriber did.
#[derive(Debug)]
pub(super) struct SubscriberResult {
    pub(super) verdict: Verdict,
    /// The first thing that went wrong.
    pub(super) problem: Option<String>,
}

/// Ends the loop when the thread that holds it is gone, also by a panic or because it could not be
/// started: without the subscriber nobody else would, and without a publisher the subscriber would
/// wait for messages that never come.
pub(super) struct EndsLoop {
    pub(super) handle: Handle,
    pub(super) grace: Duration,
    /// Cleared by a thread that has done its work while others go on.
    pub(super) needed: bool,
}

impl Drop for EndsLoop {
    fn drop(&mut self) {
        if self.needed {
            drop(self.handle.terminate(self.grace));
        }
    }
}

/// Publishes one message after the other, each once the one before is acknowledged.
pub(super) fn sync_publisher(shared: &Shared, start: &Receiver<()>) -> PublisherResult {
    let mut result = PublisherResult::default();
    if start.recv().is_err() {
        return result;
    }
    for index in 0..shared.plan.count(Publisher::Sync) {
        let push = |publish| shared.handle.publish(publish);
        let outcome = match publish(shared, Publisher::Sync, index, push) {
            Ok(ticket) => ticket.wait(),
            Err(problem) => {
                result.problem.get_or_insert(problem);
                return result;
            }
        };
        result.published += 1;
        log::debug!("sync publisher: message {index} {outcome}");
        match outcome.is_delivered() {
            true => result.acknowledged += 1,
            false => {
                let problem = format!("synchronous message {index}: {outcome}");
                result.problem.get_or_insert(problem);
            }
        }
        pause(shared);
    }
    result
}

/// Queues all its messages without waiting, then collects the acknowledgments in any order.
pub(super) fn async_publisher(shared: &Shared, start: &Receiver<()>) -> PublisherResult {
    let mut result = PublisherResult::default();
    if start.recv().is_err() {
        return result;
    }
    let (all_settled, settled) = bounded(1);
    let collector = Arc::new(Collector {
        settled: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        problem: OnceLock::new(),
        expected: OnceLock::new(),
        all_settled,
    });
    for index in 0..shared.plan.count(Publisher::Async) {
        let push = |message| {
            let collector = Arc::clone(&collector);
            let callback = move |outcome: Outcome| {
                let _settles = Settles(&collector);
                collector.note(index, &outcome);
            };
            shared.handle.publish_then(message, callback)
        };
        if let Err(problem) = publish(shared, Publisher::Async, index, push) {
            result.problem.get_or_insert(problem);
            break;
        }
        result.published += 1;
        pause(shared);
    }
    collector.expect(result.published);
    // Every accepted command ends, so this does too.
    if settled.recv().is_err() {
        result
            .problem
            .get_or_insert("the acknowledgments were not collected".to_owned());
    }
    result.acknowledged = collector.acknowledged.load(Ordering::Acquire);
    if result.problem.is_none() {
        result.problem = collector.problem.get().cloned();
    }
    result
}

/// Receives every message back, unsubscribes and ends the iteration with TERMINATE.
pub(super) fn subscriber(
    shared: &Shared,
    start: Sender<()>,
    response_queue: usize,
    patience: Duration,
    grace: Duration,
) -> SubscriberResult {
    let inbox = shared.handle.inbox(response_queue, WhenFull::WaitAside);
    let mut verdict = Verdict::new(shared.plan.clone());
    let mut problem = receive_all(shared, start, &inbox, &mut verdict, patience).err();
    if let (Some(problem), dropped @ 1..) = (&mut problem, inbox.dropped()) {
        problem.push_str(&format!(
            "; the response queue was full and {dropped} messages of QoS 0 were dropped, raise \
             --response-queue or --publish-delay"
        ));
    }
    // What is still in the queue belongs to the verdict.
    while let Ok(message) = inbox.try_recv() {
        verdict.judge(&shared.published, message.topic(), message.payload());
    }
    while let Ok(message) = shared.handle.unmatched().try_recv() {
        verdict.judge(&shared.published, message.topic(), message.payload());
    }
    let end = shared.handle.terminate(grace).wait();
    let problem = problem.or_else(|| match end.is_delivered() {
        true => None,
        false => Some(format!("TERMINATE: {end}")),
    });
    SubscriberResult { verdict, problem }
}

fn receive_all(
    shared: &Shared,
    start: Sender<()>,
    inbox: &Inbox,
    verdict: &mut Verdict,
    patience: Duration,
) -> Result<(), String> {
    let filter = shared.plan.filter();
    let subscribe = vec![Filter::new(filter.clone(), shared.qos)];
    let ticket = shared.handle.subscribe(inbox, subscribe);
    expect("SUBSCRIBE", ticket, patience, |granted| {
        granted.iter().all(|granted| *granted >= shared.qos)
    })?;
    log::debug!("subscriber: the broker granted {filter}");
    // Both wait for one of these; if one is gone already, its own result says why.
    let _ = start.send(());
    let _ = start.send(());
    drop(start);
    while verdict.received < shared.plan.total() {
        match inbox.recv_timeout(patience) {
            Ok(message) => {
                log::debug!("subscriber: received {}", message.topic());
                verdict.judge(&shared.published, message.topic(), message.payload());
            }
            Err(InboxError::Timeout) => {
                return Err(format!(
                    "no message for {patience:?}: {} of {} received",
                    verdict.received,
                    shared.plan.total()
                ));
            }
            Err(problem) => return Err(format!("receiving: {problem}")),
        }
    }
    let ticket = shared.handle.unsubscribe(inbox, vec![filter]);
    expect("UNSUBSCRIBE", ticket, patience, |_| true)
}

/// Waits until a command has ended, and well; at most this long, for a broker may close the
/// connection each time that it sees it.
fn expect<T>(
    command: &str,
    ticket: Result<Ticket, Rejected<T>>,
    patience: Duration,
    enough: impl Fn(&[QoS]) -> bool,
) -> Result<(), String> {
    let mut ticket = ticket.map_err(|rejected| format!("{command}: {}", rejected.reason))?;
    let outcome = ticket
        .wait_timeout(patience)
        .ok_or_else(|| format!("{command}: not answered for {patience:?}"))?;
    match &outcome {
        Outcome::Delivered { granted, .. } if enough(granted) => Ok(()),
        Outcome::Delivered { .. } => Err(format!("{command}: granted with a lower QoS")),
        _ => Err(format!("{command}: {outcome}")),
    }
}

/// Pushes one message; a full queue is waited for as long as the loop runs.
fn publish<T>(
    shared: &Shared,
    publisher: Publisher,
    index: u64,
    push: impl Fn(Publish) -> Result<T, Rejected<Publish>>,
) -> Result<T, String> {
    let topic = shared.plan.topic(publisher, index);
    let payload = shared.plan.payload(publisher, index);
    let mut message = Publish::new(topic, shared.qos, payload);
    shared.published.begin(publisher, index);
    loop {
        match push(message) {
            Ok(accepted) => return Ok(accepted),
            Err(rejected) if matches!(rejected.reason, RejectReason::QueueFull { .. }) => {
                message = rejected.command;
            }
            Err(rejected) => {
                let topic = rejected.command.topic();
                return Err(format!("publishing to {topic}: {}", rejected.reason));
            }
        }
    }
}

/// The gap between two messages; shorter only when the iteration is over.
fn pause(shared: &Shared) {
    if !shared.publish_delay.is_zero() {
        // Nothing is ever sent: it ends by time, or because the iteration is over.
        let _ = shared.over.recv_timeout(shared.publish_delay);
    }
}

/// Where the asynchronous publisher's acknowledgments come together, in constant memory.
struct Collector {
    settled: AtomicU64,
    acknowledged: AtomicU64,
    problem: OnceLock<String>,
    expected: OnceLock<u64>,
    all_settled: Sender<()>,
}

impl Collector {
    /// Called on the loop's thread, once for each message; [`Settles`] counts it.
    fn note(&self, index: u64, outcome: &Outcome) {
        log::debug!("async publisher: message {index} {outcome}");
        if outcome.is_delivered() {
            self.acknowledged.fetch_add(1, Ordering::AcqRel);
        } else {
            let _ = self
                .problem
                .set(format!("asynchronous message {index}: {outcome}"));
        }
    }

    /// All messages are queued; this many are to be settled.
    fn expect(&self, published: u64) {
        let _ = self.expected.set(published);
        self.tell_if_complete(self.settled.load(Ordering::SeqCst));
    }

    fn tell_if_complete(&self, settled: u64) {
        if self.expected.get() == Some(&settled) {
            // It holds one: being told twice is being told.
            let _ = self.all_settled.try_send(());
        }
    }
}

/// Counts a message as settled when its callback is over, also by a panic: the publisher waits for
/// all of them.
struct Settles<'a>(&'a Collector);

impl Drop for Settles<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.problem.set("a callback panicked".to_owned());
        }
        let settled = self.0.settled.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.tell_if_complete(settled);
    }
}
