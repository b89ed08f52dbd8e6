//! \[0\] \[9\] The three threads that share the connection: two publishers and a subscriber.
//!
//! Each runs on a thread of its own and holds nothing but a handle; no thread touches the connection.
//! The publishers start once the broker has granted the subscription. Every result is looked at: a
//! thread returns what it did, and the first thing that went wrong in words.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::{
    Filter, Handle, Inbox, InboxError, Outcome, Publish, QoS, RejectReason, Rejected, Ticket,
    WhenFull,
};

use super::on_their_way::OnTheirWay;
use super::took::Took;
use crate::app::answers::{self, Attempted, MadeBy};
use crate::app::lines::Seconds;
use crate::app::names::as_given;
use crate::app::problems::{explained, is_given_up, panicked, were_dropped};
use crate::app::traffic::{ASYNC, Account, Plan, ReceivedCounts, SYNC};
use crate::app::view::{Activity, Now, SharedInbox};

/// The subscriber waits that long with QoS 0, once everything was published.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);

/// How often a subscriber to which nothing comes looks whether something can still come.
const LOOK: Duration = Duration::from_secs(1);

/// Things that every thread of an iteration knows.
#[derive(Clone)]
pub(super) struct DemoShared {
    pub(super) handle: Handle,
    pub(super) plan: Plan,
    pub(super) qos: QoS,
    pub(super) publish_delay: Duration,
    pub(super) on_their_way: OnTheirWay,
    /// Disconnected when the iteration is over: nobody needs to wait for anything any more.
    pub(super) over: Receiver<()>,
    pub(super) said: Said,
}

/// The words of each thread about itself, for the view.
#[derive(Clone, Default)]
pub(super) struct Said {
    pub(super) sync_publisher: Arc<Activity>,
    pub(super) async_publisher: Arc<Activity>,
    pub(super) subscriber: Arc<Activity>,
    pub(super) inbox: SharedInbox,
}

/// The result of a publisher.
#[derive(Debug, Default)]
pub(super) struct PublisherResult {
    /// Messages that the loop took.
    pub(super) published: u64,
    /// Messages that the broker acknowledged (QoS 0: that went out).
    pub(super) acknowledged: u64,
    /// How long these took, from the call to the acknowledgment.
    pub(super) times: Took,
    /// How long it took to queue each message.
    pub(super) queuing: Took,
    /// The first thing that went wrong.
    pub(super) problem: Option<Trouble>,
}

/// The result of the subscriber.
#[derive(Debug)]
pub(super) struct SubscriberResult {
    pub(super) received: ReceivedCounts,
    /// Messages of QoS 0 that found no room in the inbox.
    pub(super) dropped: u64,
    /// The first thing that went wrong.
    pub(super) problem: Option<Trouble>,
}

/// A thing that went wrong.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) text: String,
    /// The broker's reason code, if it gave one.
    pub(super) reason_code: Option<u8>,
    /// A command was given up, so that the broker may have said why when it ended the connection.
    is_given_up: bool,
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Trouble {
            text,
            reason_code: None,
            is_given_up: false,
        }
    }
}

impl Trouble {
    /// The loop ended with this error.
    pub(super) fn of_error(error: &Error) -> Self {
        Trouble {
            reason_code: error.reason_code(),
            ..as_given(&error.to_string()).into_owned().into()
        }
    }

    /// A command ended like this, and this is how that is told.
    fn of(outcome: &Outcome, text: String) -> Self {
        Trouble {
            text,
            reason_code: answers::reason_code(outcome),
            is_given_up: is_given_up(outcome),
        }
    }

    /// With what the broker said when it ended the last connection, if that may be why.
    pub(super) fn after(mut self, last_loss: Option<&Error>) -> Self {
        let last_loss = last_loss.filter(|_| self.is_given_up);
        if let Some((loss, code)) =
            last_loss.and_then(|loss| explained(loss, "see the broker's log"))
        {
            self.text.push_str("; ");
            self.text.push_str(&loss);
            self.reason_code = Some(code);
        }
        self
    }
}

/// Publishes one message after the other, each once the one before is acknowledged.
pub(super) fn sync_publisher(shared: &DemoShared, start: &Receiver<()>) -> PublisherResult {
    let mut result = PublisherResult::default();
    let doing = &shared.said.sync_publisher;
    if start.recv().is_err() {
        return result;
    }
    let count = shared.plan.count(SYNC);
    for index in 0..count {
        let number = index + 1;
        doing.is(Now::Queuing(number));
        let push = |publish| shared.handle.publish(publish);
        shared.on_their_way.begin(SYNC, index, &shared.over);
        let begin = Instant::now();
        let ticket = match publish(shared, SYNC, index, push) {
            Ok(ticket) => ticket,
            Err(problem) => {
                result.problem.get_or_insert(problem.into());
                return result;
            }
        };
        result.queuing.add(begin.elapsed());
        doing.is(Now::Awaiting(number));
        let outcome = ticket.wait();
        let took = begin.elapsed();
        shared.on_their_way.ended(SYNC, index, &outcome);
        result.published += 1;
        log::debug!("sync publisher: message {number} of {count} {outcome}");
        match outcome.is_delivered() {
            true => {
                doing.one_done(took);
                result.acknowledged += 1;
                result.times.add(took);
            }
            false => {
                let told = shared.plan.told(&outcome, result.acknowledged);
                let problem = format!("synchronous message {number} of {count}: {told}");
                result
                    .problem
                    .get_or_insert_with(|| Trouble::of(&outcome, problem));
            }
        }
        pause(shared, doing);
    }
    result
}

/// Queues all its messages without waiting for any acknowledgment, then collects the acknowledgments in any order.
pub(super) fn async_publisher(shared: &DemoShared, start: &Receiver<()>) -> PublisherResult {
    let mut result = PublisherResult::default();
    let doing = &shared.said.async_publisher;
    if start.recv().is_err() {
        return result;
    }
    let ends = Arc::new(Mutex::new(Endings::default()));
    // Disconnected once every callback is gone: each has run by then, or has panicked.
    let (callback_is_there, all_ended) = bounded::<()>(0);
    let count = shared.plan.count(ASYNC);
    for index in 0..count {
        let number = index + 1;
        doing.is(Now::Queuing(number));
        shared.on_their_way.begin(ASYNC, index, &shared.over);
        let begin = Instant::now();
        let push = |message| {
            let (ends, is_there) = (Arc::clone(&ends), callback_is_there.clone());
            let (doing, on_their_way) = (Arc::clone(doing), shared.on_their_way.clone());
            let callback = move |outcome: Outcome| {
                log::debug!("async publisher: message {number} of {count} {outcome}");
                let took = begin.elapsed();
                if outcome.is_delivered() {
                    doing.one_done(took);
                }
                on_their_way.ended(ASYNC, index, &outcome);
                lock(&ends).note(number, outcome, took);
                drop(is_there);
            };
            shared.handle.publish_then(message, callback)
        };
        if let Err(problem) = publish(shared, ASYNC, index, push) {
            result.problem.get_or_insert(problem.into());
            break;
        }
        result.queuing.add(begin.elapsed());
        result.published += 1;
        pause(shared, doing);
    }
    doing.is(Now::AwaitingAll(result.published));
    drop(callback_is_there);
    // Nothing is ever sent. Every accepted command ends, so this does too.
    let _ = all_ended.recv();
    let mut ends = lock(&ends);
    result.acknowledged = ends.acknowledged;
    result.times = std::mem::take(&mut ends.times);
    if ends.noted < result.published {
        result
            .problem
            .get_or_insert_with(|| panicked("a callback").into());
    }
    if let (None, Some((number, outcome))) = (&result.problem, &ends.failed) {
        let told = shared.plan.told(outcome, ends.acknowledged);
        let problem = format!("asynchronous message {number} of {count}: {told}");
        result.problem = Some(Trouble::of(outcome, problem));
    }
    result
}

/// The subscriber's settings.
pub(super) struct Receiving {
    /// Messages that may wait for it.
    pub(super) inbox: usize,
    /// The longest wait for the next message.
    pub(super) patience: Duration,
    /// Time for messages in flight to finish.
    pub(super) grace: Duration,
    /// Disconnected once both publishers have ended, and with them all that they published.
    pub(super) published: Receiver<()>,
}

/// Receives every message back, unsubscribes and ends the iteration with TERMINATE.
pub(super) fn subscriber(
    shared: &DemoShared,
    start: Sender<()>,
    receiving: &Receiving,
) -> SubscriberResult {
    let inbox = shared.handle.inbox(receiving.inbox, WhenFull::WaitAside);
    let inbox = Arc::new(inbox);
    let _ = shared.said.inbox.set(Arc::downgrade(&inbox));
    let mut account = shared.on_their_way.account(&shared.plan);
    let mut problem = receive_all(shared, start, &inbox, &mut account, receiving).err();
    let dropped = inbox.dropped();
    if let (Some(problem), 1..) = (&mut problem, dropped) {
        problem.text.push_str(&format!(
            "; the inbox was full and {}, raise --inbox or --publish-delay",
            were_dropped(dropped)
        ));
    }
    // Messages that are still in the inbox count as well.
    loop {
        match inbox.try_recv() {
            Ok(message) => {
                account.add(&message);
            }
            Err(InboxError::Timeout) => break,
            Err(problem) if problem.is_end() => break,
            Err(problem) => log::debug!("subscriber: {problem}"),
        }
    }
    while let Ok(message) = shared.handle.unmatched().try_recv() {
        account.add(&message);
    }
    shared.said.subscriber.is(Now::Ending);
    let end = shared.handle.terminate(receiving.grace).wait();
    let problem = problem.or_else(|| match end.is_delivered() {
        true => None,
        false => Some(format!("TERMINATE: {end}").into()),
    });
    SubscriberResult {
        received: account.received(),
        dropped,
        problem,
    }
}

fn receive_all(
    shared: &DemoShared,
    start: Sender<()>,
    inbox: &Inbox,
    account: &mut Account,
    receiving: &Receiving,
) -> Result<(), Trouble> {
    let patience = receiving.patience;
    let doing = &shared.said.subscriber;
    doing.is(Now::Subscribing);
    let filter = shared.plan.filter().to_owned();
    let subscribe = vec![Filter::new(filter.clone(), shared.qos)];
    let ticket = shared.handle.subscribe(inbox, subscribe);
    let granted = expect("SUBSCRIBE", ticket, patience)?;
    if granted.iter().any(|granted| *granted < shared.qos) {
        return Err(format!("SUBSCRIBE: {}", shared.plan.granted_less(&granted)).into());
    }
    log::debug!("subscriber: the broker granted {filter}");
    // Both wait for one of these; if one is gone already, its own result says why.
    let _ = start.send(());
    let _ = start.send(());
    drop(start);
    // Since the last message of ours that is new. Messages of others do not prolong the wait.
    let mut silence = Duration::ZERO;
    let mut counted = Instant::now();
    doing.is(Now::Receiving);
    while !account.is_complete() {
        let look = LOOK.min(patience.saturating_sub(silence));
        let next = inbox.recv_timeout(look);
        // At most one look, however long the system has stopped the program.
        silence += counted.elapsed().min(look);
        counted = Instant::now();
        match next {
            Ok(message) => {
                let (topic, bytes) = (message.topic(), message.payload().len());
                log::debug!("subscriber: received {topic}, {bytes} bytes");
                if account.add(&message) {
                    doing.set_done(account.received().distinct);
                    shared.on_their_way.has_come();
                    silence = Duration::ZERO;
                }
            }
            Err(InboxError::Timeout) => {}
            Err(problem @ InboxError::SubscriptionRefused { .. }) => {
                return Err(format!("receiving: {problem}").into());
            }
            Err(problem) if problem.is_end() => {
                return Err(format!("receiving: {problem}").into());
            }
            // None of ours: the settings are refused if ours are too large.
            Err(problem) => log::debug!("subscriber: {problem}"),
        }
        let received = account.received().distinct;
        let total = shared.plan.total();
        let all_published = receiving.published.try_recv() == Err(TryRecvError::Disconnected);
        if all_published && received < total && account.has_all_that_may_come() {
            return Err(format!("no more can come: {received} of {total} received").into());
        }
        // Nobody sends a message of QoS 0 again: what has not come soon after the last one does not come.
        let is_gone = all_published && shared.qos == QoS::AtMostOnce && silence >= SHORT_PATIENCE;
        if is_gone || silence >= patience {
            let silence = Seconds(silence);
            let told = format!("no message for {silence}: {received} of {total} received");
            let told = match inbox.dropped() {
                0 => format!("{told}; {}", remedy_for_silence(shared)),
                // That has a remedy of its own.
                _ => told,
            };
            return Err(told.into());
        }
    }
    doing.is(Now::Unsubscribing);
    let ticket = shared.handle.unsubscribe(inbox, vec![filter]);
    expect("UNSUBSCRIBE", ticket, patience).map(drop)
}

/// Waits until a command has ended, and well; at most this long, for a broker may close the
/// connection each time that it sees it.
fn expect<T>(
    command: &str,
    ticket: Result<Ticket, Rejected<T>>,
    patience: Duration,
) -> Result<Vec<QoS>, Trouble> {
    let mut ticket = ticket.map_err(|rejected| format!("{command}: {}", rejected.reason))?;
    let outcome = ticket.wait_timeout(patience).ok_or_else(|| {
        format!(
            "{command}: not answered for {}; the log says whether there was a connection, the broker's log why it \
             does not answer",
            Seconds(patience)
        )
    })?;
    match outcome {
        Outcome::Delivered { granted, .. } => Ok(granted),
        _ => {
            let told = answers::told(Attempted::Subscribe(MadeBy::Plan), &outcome);
            Err(Trouble::of(&outcome, format!("{command}: {told}")))
        }
    }
}

/// Advice where messages were published and do not come back.
fn remedy_for_silence(shared: &DemoShared) -> &'static str {
    match (shared.handle.connection().is_online(), shared.qos) {
        (false, _) => "there is no connection: the log says why",
        (true, QoS::AtMostOnce) => "QoS 0 may be lost, use --qos 1 or raise --publish-delay",
        (true, _) => {
            "if all are acknowledged, the broker does not deliver them: have its rules allow this client to publish \
             and to read them (AWS IoT: iot:Receive), or have it keep more, in Mosquitto with max_queued_messages"
        }
    }
}

/// Pushes one message that was begun. A full queue is waited for as long as the loop runs.
fn publish<T>(
    shared: &DemoShared,
    publisher: usize,
    index: u64,
    push: impl Fn(Publish) -> Result<T, Rejected<Publish>>,
) -> Result<T, String> {
    let mut message = shared.plan.message(publisher, index);
    let name = if publisher == SYNC { "sync" } else { "async" };
    let (number, count) = (index + 1, shared.plan.count(publisher));
    let (topic, bytes) = (message.topic(), message.payload().len());
    log::debug!("{name} publisher: publishing message {number} of {count}: {topic}, {bytes} bytes");
    loop {
        match push(message) {
            Ok(accepted) => return Ok(accepted),
            Err(rejected) if matches!(rejected.reason, RejectReason::QueueFull { .. }) => {
                message = rejected.command;
            }
            Err(rejected) => {
                shared.on_their_way.cannot_come(publisher, index);
                let topic = rejected.command.topic();
                return Err(format!("publishing to {topic}: {}", rejected.reason));
            }
        }
    }
}

/// The gap between two messages; shorter only when the iteration is over.
fn pause(shared: &DemoShared, doing: &Activity) {
    if !shared.publish_delay.is_zero() {
        doing.is(Now::Pausing);
        // Nothing is ever sent: it ends by time, or because the iteration is over.
        let _ = shared.over.recv_timeout(shared.publish_delay);
    }
}

/// How the asynchronous publisher's messages ended.
#[derive(Default)]
struct Endings {
    noted: u64,
    acknowledged: u64,
    /// How long these took.
    times: Took,
    /// The number of the first message that was not delivered, and its outcome.
    failed: Option<(u64, Outcome)>,
}

impl Endings {
    /// Called on the loop's thread, once for each message.
    fn note(&mut self, number: u64, outcome: Outcome, took: Duration) {
        self.noted += 1;
        match outcome.is_delivered() {
            true => {
                self.acknowledged += 1;
                self.times.add(took);
            }
            false => drop(self.failed.get_or_insert((number, outcome))),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
