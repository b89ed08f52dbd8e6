//! \[0\] The bench: threads publish over one shared connection at full rate, and the program measures that.
//!
//! The main thread runs the command loop, as in the demo. A conductor thread waits until the link is
//! up, lets the publishers of `publisher.rs` go, and ends the loop when everything has ended.
//! `traffic.rs` says which messages there are and keeps account of what comes back, `verdict.rs` says what
//! went wrong, `report.rs` tells the result, `resources.rs` asks the system what it cost.

mod publisher;
mod report;
mod resources;
pub(crate) mod settings;
mod verdict;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::app::answers::{self, Attempted, MadeBy};
use crate::app::demo::{self, Interrupt};
use crate::app::events::EventOutput;
use crate::app::json::SCHEMA;
use crate::app::lines::{Seconds, Shared};
use crate::app::picture::{MessageCounts, Recordings};
use crate::app::problems::{last_loss, not_started, panicked, were_dropped};
use crate::app::traffic::{Account, Plan, ReceivedCounts};
use crate::app::values::BenchMode;
use crate::app::view::{Bounds, View, Work};
use mqtt_connection_sharing::Outcome;
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Accept, Inbox, InboxError};
use mqtt_connection_sharing::{Client, Handle};
use mqtt_connection_sharing::{Filter, QoS};
use publisher::{BenchShared, Tally};
use settings::BenchSettings;
use verdict::Evidence;

pub(crate) use report::{BenchReport, Latency};

/// Time for messages in flight to finish after an interrupt or a failure.
const GRACE: Duration = Duration::from_secs(5);

/// The receiver waits that much longer for its next message than for an acknowledgment.
const EXTRA_PATIENCE: Duration = Duration::from_secs(8);

/// The receiver waits that long with QoS 0, which may be lost.
const SHORT_PATIENCE: Duration = Duration::from_secs(3);

/// Messages that may wait for the receiver. Large, because QoS 0 finds its room here or nowhere.
const INBOX: usize = 16 * 1024;

/// The publishers get room for messages that came, few as they are, if no other one comes for this long.
const MOMENT: Duration = Duration::from_millis(5);

/// Stack of a publisher: there may be thousands of them.
const STACK: usize = 256 * 1024;

/// Publishes and measures. `recordings` gets the one of the loop, if there is one.
///
/// # Errors
/// When the options are wrong or no connection could be had at the beginning. Later failures are in
/// the report.
pub(crate) fn run(
    options: Options,
    settings: &BenchSettings,
    interrupt: &Arc<Interrupt>,
    recordings: &mut Recordings,
    (view, told): (&View, &Arc<EventOutput>),
) -> Result<BenchReport, Error> {
    let mut client = Client::new(options)?;
    let keeps_session = !client.options().clean_session;
    if keeps_session {
        client = demo::clear_session(client, interrupt, (view, Some(told)), recordings)?;
    }
    let tally = Arc::new(Tally::new()?);
    let plan = Plan::of_bench(settings);
    let patience = match settings.qos {
        QoS::AtMostOnce => SHORT_PATIENCE,
        _ => client.options().ack_timeout + EXTRA_PATIENCE,
    };
    let grace = client.options().ack_timeout;
    let received = Arc::new(AtomicU64::new(0));
    let bounds = Bounds::of(client.options());
    let (agent, handle) = client.open();
    let (recording, events) = (handle.recording(), handle.events());
    let watching = told.watch(&handle);
    view.show(work(settings, bounds, &handle, &tally, &received));
    // Nothing of the user's is in flight before the connection is there.
    interrupt.watch(handle.clone(), Duration::ZERO);
    let (on_their_way, arrived) = bounded(settings.unreceived());
    // QoS 0 may be lost, and nobody waits for it.
    let waits = settings.receive && settings.qos != QoS::AtMostOnce;
    let conductor = Conductor {
        arrived: waits.then_some(arrived),
        shared: Arc::new(BenchShared {
            handle,
            plan,
            tally: Arc::clone(&tally),
            interrupt: Arc::clone(interrupt),
            outstanding: settings.outstanding() as u64,
            rounds: settings.rounds() as u64,
            on_their_way: waits.then_some(on_their_way),
            times_each: waits || settings.pushes_slowly(),
        }),
        settings: settings.clone(),
        patience,
        grace,
        received,
    };
    let conductor = thread::Builder::new()
        .name("conductor".to_owned())
        .spawn(move || conductor.conduct());
    let ended = agent.run();
    interrupt.loop_ended(&ended);
    watching.end();
    let measured = match conductor.map(JoinHandle::join) {
        Ok(Ok(measured)) => measured,
        Ok(Err(_)) => Measured::nothing(panicked("the conducting thread")),
        Err(error) => Measured::nothing(not_started("the conducting thread", &error)),
    };
    let evidence = Evidence {
        settings,
        keeps_session,
        tally: &tally,
        measured: &measured,
        ended: &ended,
        last_loss: last_loss(events.clone()),
        is_interrupted: interrupt.is_requested(),
    };
    recordings.keep(recording, events, counts(&evidence));
    let reported = report(&evidence);
    if keeps_session && ended.stats.connects > 0 {
        let has_failed = ended.result.is_err();
        demo::leave_no_session(
            ended.client,
            interrupt,
            view,
            settings.made_up_id,
            has_failed,
        );
    }
    reported
}

/// Makes the report of the measurements; an error where there is nothing to report.
fn report(seen: &Evidence<'_>) -> Result<BenchReport, Error> {
    let (settings, tally, measured) = (seen.settings, seen.tally, seen.measured);
    let (ended, interrupted) = (seen.ended, seen.is_interrupted);
    if let (Err(error), 0, false) = (&ended.result, ended.stats.connects, interrupted) {
        return Err(error.clone());
    }
    let error = seen.problem();
    let latencies = tally.latencies();
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let (acknowledged, received) = (tally.acknowledged(), measured.received);
    let seconds = measured.took.as_secs_f64();
    Ok(BenchReport {
        schema: SCHEMA,
        mode: settings.mode.name(),
        threads: settings.threads,
        messages: settings.messages,
        payload_bytes: settings.payload_size,
        window: settings.window,
        qos: settings.qos as u8,
        success: error.is_none(),
        published: tally.published(),
        acknowledged,
        seconds: rounded(seconds),
        messages_per_second: match seconds > 0.0 {
            true => rounded(acknowledged as f64 / seconds),
            false => 0.0,
        },
        latency_us: (!latencies.is_empty()).then(|| Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latencies.max() as f64 / 1e3,
        }),
        cpu_seconds: measured.cpu_seconds.map(rounded),
        peak_rss_bytes: resources::usage().map(|usage| usage.peak_rss_bytes),
        received: received.map(|received| received.distinct),
        lost: seen.lost(),
        dropped: seen.missing().map(|missing| missing.min(measured.dropped)),
        duplicated: received.map(|received| received.duplicated),
        reordered: received.map(|received| received.reordered),
        unexpected: received.map(|received| received.unexpected),
        reconnects: ended.stats.reconnects,
        rate_limited_seconds: rounded(ended.stats.rate_limited.as_secs_f64()),
        shared: Shared::of(ended),
        interrupted,
        reason_code: error.as_ref().and_then(|_| seen.reason_code()),
        error,
    })
}

/// For a picture: as in the report.
fn counts(seen: &Evidence<'_>) -> MessageCounts {
    let received = seen.measured.received;
    let missing = seen.missing().unwrap_or(0);
    MessageCounts {
        published: seen.tally.published(),
        acknowledged: seen.tally.acknowledged(),
        received: received.map(|received| received.distinct),
        duplicated: received.map_or(0, |received| received.duplicated),
        dropped: missing.min(seen.measured.dropped),
        qos: seen.settings.qos as u8,
    }
}

/// To a millionth: no clock here says more.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// The bench as the view shows it.
fn work(
    settings: &BenchSettings,
    bounds: Bounds,
    handle: &Handle,
    tally: &Arc<Tally>,
    received: &Arc<AtomicU64>,
) -> Work {
    let (threads, total) = (settings.threads, settings.messages);
    let title = format!("bench, {}", settings.mode.name());
    let publishers = match threads {
        1 => "1 publisher".to_owned(),
        threads => format!("{threads} publishers"),
    };
    let (tally, received) = (Arc::clone(tally), Arc::clone(received));
    let work = Work::new(title, handle, bounds);
    let acknowledged = move || tally.acknowledged();
    let work = work.publishers(publishers, total, settings.qos, acknowledged);
    match settings.receive {
        true => work.receiver("receiver", total, move || received.load(Ordering::Relaxed)),
        false => work,
    }
}

/// The conductor's result.
#[derive(Debug, Default)]
struct Measured {
    took: Duration,
    cpu_seconds: Option<f64>,
    received: Option<ReceivedCounts>,
    /// Messages of QoS 0 that found the receiver's inbox full.
    dropped: u64,
    /// The first thing that went wrong.
    problem: Option<String>,
}

impl Measured {
    fn nothing(problem: String) -> Self {
        Measured {
            problem: Some(problem),
            ..Measured::default()
        }
    }
}

/// Runs the threads. Dropping it, also in a panic, ends the loop.
struct Conductor {
    /// For the receiver: has one item for each message that was published and not received.
    arrived: Option<Receiver<()>>,
    shared: Arc<BenchShared>,
    settings: BenchSettings,
    patience: Duration,
    grace: Duration,
    /// Distinct messages that came back so far.
    received: Arc<AtomicU64>,
}

impl Drop for Conductor {
    fn drop(&mut self) {
        drop(self.shared.handle.terminate(self.grace));
    }
}

impl Conductor {
    fn conduct(mut self) -> Measured {
        let mut measured = Measured::default();
        let over = Arc::new(AtomicBool::new(false));
        let receiver = match self.begin(&over) {
            Ok(receiver) => receiver,
            Err(problem) => return Measured::nothing(problem),
        };
        self.shared
            .interrupt
            .watch(self.shared.handle.clone(), GRACE);
        let before = resources::usage();
        let begin = Instant::now();
        let (publishers, problem) = self.start_publishers();
        measured.problem = problem;
        for publisher in publishers {
            if publisher.join().is_err() {
                measured
                    .problem
                    .get_or_insert_with(|| panicked("a publisher"));
            }
        }
        let fine = measured.problem.is_none() && self.shared.tally.problem().is_none();
        if self.settings.qos == QoS::AtMostOnce && fine {
            measured.problem = self.wait_until_taken();
        }
        measured.took = begin.elapsed();
        measured.cpu_seconds = before
            .zip(resources::usage())
            .map(|(before, after)| after.cpu_seconds - before.cpu_seconds);
        over.store(true, Ordering::Relaxed);
        if let Some(receiver) = receiver {
            match receiver.join() {
                Ok(receipt) => {
                    measured.received = Some(receipt.received);
                    measured.dropped = receipt.dropped;
                    measured.problem = measured.problem.or(receipt.problem);
                }
                Err(_) => measured.problem = Some(panicked("the receiver")),
            }
        }
        measured
    }

    /// Nobody acknowledges QoS 0. But the broker takes the messages before a PINGREQ on the same link before
    /// it answers that; if there was another link meanwhile, the run has failed anyway.
    fn wait_until_taken(&self) -> Option<String> {
        if self.shared.interrupt.is_requested() {
            return None;
        }
        let outcome = match self.shared.handle.ping() {
            Ok(ticket) => ticket.wait(),
            Err(rejected) => return Some(rejected.to_string()),
        };
        (!outcome.is_delivered()).then(|| format!("the PINGREQ after the last message: {outcome}"))
    }

    /// Waits until the link is up, with `--receive` until the subscription is granted.
    fn begin(&mut self, over: &Arc<AtomicBool>) -> Result<Option<JoinHandle<Receipt>>, String> {
        let handle = &self.shared.handle;
        if !self.settings.receive {
            let answered = handle.ping().map_err(|rejected| rejected.to_string())?;
            return match answered.wait() {
                Outcome::Delivered { .. } => Ok(None),
                other => Err(format!("the first PINGREQ: {other}")),
            };
        }
        // The broker is told only of messages that were received. QoS 0 finds its room in the inbox or nowhere.
        let inbox = handle.inbox(INBOX, Accept::OnceTaken);
        let filter = Filter::new(self.shared.plan.filter(), self.settings.qos);
        let subscribed = handle.subscribe(&inbox, vec![filter]);
        match subscribed.map_err(|rejected| rejected.to_string())?.wait() {
            Outcome::Delivered { granted, .. } if granted == [self.settings.qos] => {}
            Outcome::Delivered { granted, .. } => {
                return Err(self.shared.plan.granted_less(&granted));
            }
            other => {
                if let Some(code) = answers::reason_code(&other) {
                    self.shared.tally.has_reason_code(code);
                }
                let told = answers::told(Attempted::Subscribe(MadeBy::Plan), &other);
                return Err(format!("the subscription: {told}"));
            }
        }
        let (account, over) = (Account::new(&self.shared.plan), Arc::clone(over));
        let (patience, arrived) = (self.patience, self.arrived.take());
        let so_far = Arc::clone(&self.received);
        thread::Builder::new()
            .name("receiver".to_owned())
            .spawn(move || receive(&inbox, account, &so_far, arrived.as_ref(), &over, patience))
            .map(Some)
            .map_err(|error| not_started("the receiver", &error))
    }

    /// Starts all publishers, or as many as the system allows.
    fn start_publishers(&self) -> (Vec<JoinHandle<()>>, Option<String>) {
        let mut publishers = Vec::new();
        for thread in 0..self.settings.threads {
            let shared = Arc::clone(&self.shared);
            let publish = match self.settings.mode {
                BenchMode::Async => publisher::publish_async,
                BenchMode::Sync => publisher::publish_sync,
            };
            let started: io::Result<_> = thread::Builder::new()
                .name(format!("publisher-{thread}"))
                .stack_size(STACK)
                .spawn(move || publish(&shared, thread));
            match started {
                Ok(publisher) => publishers.push(publisher),
                Err(error) => {
                    let count = publishers.len();
                    let threads = self.settings.threads;
                    let told = format!(
                        "only {count} of {threads} threads could be started: {error}; lower --threads, or raise the \
                         system's limit (ulimit -u)"
                    );
                    return (publishers, Some(told));
                }
            }
        }
        (publishers, None)
    }
}

/// The receiver's result.
struct Receipt {
    received: ReceivedCounts,
    /// Messages of QoS 0 that found its inbox full.
    dropped: u64,
    /// The first thing that went wrong.
    problem: Option<String>,
}

/// The room that received messages have made for others. The publishers get it in portions: each of them is woken for
/// many messages, and not for each one.
struct OwedRoom<'a> {
    arrived: Option<&'a Receiver<()>>,
    /// Messages that came, and for which the publishers have no room again yet.
    messages: usize,
    portion: usize,
}

impl<'a> OwedRoom<'a> {
    fn new(arrived: Option<&'a Receiver<()>>) -> Self {
        let room = arrived.and_then(Receiver::capacity).unwrap_or(0);
        OwedRoom {
            arrived,
            messages: 0,
            portion: room.div_ceil(4),
        }
    }

    /// A message came. Where no other one is on its way, the publishers get the room at once.
    fn add_one(&mut self) {
        self.messages += 1;
        let on_their_way = self.arrived.map_or(0, Receiver::len);
        if self.messages >= self.portion || self.messages >= on_their_way {
            self.give();
        }
    }

    fn is_owed(&self) -> bool {
        self.messages > 0
    }

    fn give(&mut self) {
        for _ in 0..std::mem::take(&mut self.messages) {
            // A message that came twice makes one room too many, which does no harm.
            self.arrived.map(Receiver::try_recv);
        }
    }
}

/// Receives until everything is there, until the loop has ended, or until nothing comes any more
/// although everything was published, or the publishers wait. `arrived` lets them go on.
fn receive(
    inbox: &Inbox,
    mut account: Account,
    so_far: &AtomicU64,
    arrived: Option<&Receiver<()>>,
    over: &AtomicBool,
    patience: Duration,
) -> Receipt {
    let mut problem = None;
    let mut room = OwedRoom::new(arrived);
    while !account.is_complete() {
        let wait = if room.is_owed() { MOMENT } else { patience };
        match inbox.recv_timeout(wait) {
            Ok(message) => {
                account.add(&message);
                so_far.store(account.received().distinct, Ordering::Relaxed);
                room.add_one();
            }
            Err(InboxError::Timeout) if room.is_owed() => room.give(),
            Err(InboxError::Timeout) => {
                let waited_for = arrived.is_some_and(Receiver::is_full);
                if waited_for || over.load(Ordering::Relaxed) {
                    problem.get_or_insert_with(|| format!("no message for {}", Seconds(patience)));
                    break;
                }
            }
            Err(error) if error.is_end() => break,
            Err(error) => {
                problem.get_or_insert_with(|| error.to_string());
            }
        }
    }
    let dropped = inbox.dropped();
    if dropped > 0 {
        // It says more than the silence.
        problem = Some(format!(
            "{}, because they came faster than they were checked; use --qos 1, which waits for the receiver",
            were_dropped(dropped)
        ));
    }
    Receipt {
        received: account.received(),
        dropped,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_get_room_in_portions_and_at_once_where_nothing_else_is_on_its_way() {
        let (on_their_way, arrived) = bounded(100);
        let mut room = OwedRoom::new(Some(&arrived));
        (0..40).for_each(|_| on_their_way.try_send(()).unwrap());
        // A quarter of all the room.
        for (came, left) in [(24, 40), (1, 15), (14, 15), (1, 0), (1, 0)] {
            (0..came).for_each(|_| room.add_one());
            assert_eq!(
                (arrived.len(), room.is_owed()),
                (left, [24, 14].contains(&came))
            );
        }
        on_their_way.try_send(()).unwrap();
        room.add_one();
        assert!(arrived.is_empty(), "a message came twice before");
    }
}
