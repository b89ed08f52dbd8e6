//! The work that runs at present, as the library's public interface shows it and as threads say it.
//!
//! The thread that begins the work makes it. The view's thread looks at it, and holds up nobody: a look reads
//! atomics, and the state of the connection under the lock that its changes take.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use mqtt_connection_sharing::options::{Options, Security};
use mqtt_connection_sharing::{
    ConnectionEvents, ConnectionState, EventKind, Handle, Inbox, QoS, Stats,
};

use super::activity::{Activity, Now};
use super::growth::Growth;
use super::text::{Countdown, LatencyText, LinkNow, Number, Row, Snapshot};
use crate::app::lines::Seconds;
use crate::app::names::as_given;

/// Work that the view shows.
pub(crate) struct Work {
    title: String,
    handle: Handle,
    bounds: Bounds,
    threads: Vec<ShownThreads>,
    /// The next thing to happen, and when it does.
    next: Option<(&'static str, Instant)>,
    /// The events of the connection, from the beginning of the work.
    events: ConnectionEvents,
    /// Why the connection, or the last attempt, failed, while there is no other one.
    cause: Option<String>,
}

/// The options of the connection, as far as they are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    tls: bool,
    /// Places in the command queue.
    queue: u64,
    /// Commands that may await their acknowledgment.
    window: u64,
}

/// A thread, or several that do the same.
struct ShownThreads {
    name: String,
    total: u64,
    role: Role,
}

enum Role {
    Publisher(Arc<Activity>, QoS),
    Subscriber(Arc<Activity>, SharedInbox, usize),
    Counted(Counted),
}

struct Counted {
    count: Box<dyn Fn() -> u64 + Send>,
    growth: Growth,
    /// Of threads that publish. The latencies are those of their messages.
    qos: Option<QoS>,
}

/// Where a thread puts its inbox for the view, which does not keep it.
pub(crate) type SharedInbox = Arc<OnceLock<Weak<Inbox>>>;

/// Columns for a rate.
const RATE: usize = 16;

/// Below this time without a message the rate tells enough.
const STILL: Duration = Duration::from_secs(1);

impl Bounds {
    pub(crate) fn of(options: &Options) -> Self {
        Bounds {
            tls: matches!(options.security, Security::Tls(_)),
            queue: options.command_queue as u64,
            window: options.max_inflight.into(),
        }
    }
}

impl Work {
    /// Work without threads. `handle` is one of the loop that is about to run.
    pub(crate) fn new(title: impl Into<String>, handle: &Handle, bounds: Bounds) -> Self {
        Work {
            title: title.into(),
            events: handle.events(),
            handle: handle.clone(),
            bounds,
            threads: Vec::new(),
            next: None,
            cause: None,
        }
    }

    /// A thread that publishes so many messages.
    pub(crate) fn publisher(self, name: &str, total: u64, doing: &Arc<Activity>, qos: QoS) -> Self {
        self.with(name, total, Role::Publisher(Arc::clone(doing), qos))
    }

    /// A thread that receives so many messages through an inbox with so many places.
    pub(crate) fn subscriber(
        self,
        name: &str,
        total: u64,
        doing: &Arc<Activity>,
        (inbox, places): (&SharedInbox, usize),
    ) -> Self {
        let role = Role::Subscriber(Arc::clone(doing), Arc::clone(inbox), places);
        self.with(name, total, role)
    }

    /// Threads that publish, of which only the count of their messages is known. The view's thread calls `count`.
    pub(crate) fn publishers(
        self,
        name: impl Into<String>,
        total: u64,
        qos: QoS,
        count: impl Fn() -> u64 + Send + 'static,
    ) -> Self {
        self.counted(name.into(), total, Some(qos), Box::new(count))
    }

    /// As [`Work::publishers`], for the thread that receives their messages.
    pub(crate) fn receiver(
        self,
        name: impl Into<String>,
        total: u64,
        count: impl Fn() -> u64 + Send + 'static,
    ) -> Self {
        self.counted(name.into(), total, None, Box::new(count))
    }

    fn counted(
        self,
        name: String,
        total: u64,
        qos: Option<QoS>,
        count: Box<dyn Fn() -> u64 + Send>,
    ) -> Self {
        let growth = Growth::default();
        self.with(name, total, Role::Counted(Counted { count, growth, qos }))
    }

    fn with(mut self, name: impl Into<String>, total: u64, role: Role) -> Self {
        let name = name.into();
        self.threads.push(ShownThreads { name, total, role });
        self
    }

    /// This is the next thing to happen.
    pub(super) fn set_next(&mut self, what: &'static str, at: Instant) {
        self.next = Some((what, at));
    }

    /// Looks at everything once.
    pub(super) fn look(&mut self, now: Instant) -> Snapshot {
        self.take_events();
        let (state, stats) = (self.handle.connection(), self.handle.stats());
        self.seen(&state, &stats, now)
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match &event.kind {
                EventKind::Connected { .. } => self.cause = None,
                EventKind::Lost { error, .. } | EventKind::AttemptFailed { error } => {
                    // The log has the rest.
                    let problem = error.problem().split("; ").next();
                    self.cause = problem.map(|problem| as_given(problem).into_owned());
                }
                _ => {}
            }
        }
    }

    pub(super) fn seen(
        &mut self,
        state: &ConnectionState,
        stats: &Stats,
        now: Instant,
    ) -> Snapshot {
        let rows: Vec<Row> = self
            .threads
            .iter_mut()
            .map(|threads| threads.row(stats, now))
            .collect();
        let link = link(state, self.bounds.tls, self.cause.is_some(), now);
        let mut notes = Vec::new();
        if !matches!(link, LinkNow::Up { .. }) {
            notes.extend(self.cause.clone());
        }
        if !rows.is_empty() {
            notes.extend(meanwhile(link, stats));
        }
        // Elsewhere an inbox may accept only what is taken out of it, and the count has those, too.
        let has_inbox = |threads: &ShownThreads| matches!(threads.role, Role::Subscriber(..));
        if self.threads.iter().any(has_inbox) {
            notes.extend(aside(stats));
        }
        notes.extend(self.time_left());
        notes.extend(self.next.map(|(what, at)| {
            let left = at.saturating_duration_since(now);
            format!("{what} in {}", Countdown(left))
        }));
        Snapshot {
            title: self.title.clone(),
            link,
            queue: (
                stats.queued,
                if rows.is_empty() {
                    0
                } else {
                    self.bounds.queue
                },
            ),
            window: (stats.in_flight, self.bounds.window),
            rows,
            notes,
        }
    }

    /// How long all flows together will take, or what they wait for.
    fn time_left(&self) -> Option<String> {
        let flows: Vec<(u64, f64)> = self
            .threads
            .iter()
            .filter_map(|threads| match &threads.role {
                Role::Counted(flow) => {
                    let missing = threads.total.saturating_sub((flow.count)());
                    Some((missing, flow.growth.per_second()))
                }
                _ => None,
            })
            .collect();
        let open = flows.iter().filter(|(missing, _)| *missing > 0);
        let seconds = open
            .map(|(missing, rate)| *missing as f64 / rate)
            .fold(0.0, f64::max);
        match flows[..] {
            [(0, _), .., (missing @ 1.., rate)] if rate < 1.0 => Some(format!(
                "everything is {}, and {} {} yet to come back",
                self.done_with(),
                many(missing, "message"),
                if missing == 1 { "has" } else { "have" },
            )),
            _ if seconds > 0.0 && seconds < 1e6 => {
                let left = Duration::from_secs_f64(seconds.round().max(1.0));
                Some(format!("about {} left", Seconds(left)))
            }
            _ => None,
        }
    }

    /// The end of a message on its way to the broker. Nobody acknowledges QoS 0.
    fn done_with(&self) -> &'static str {
        let is_qos_0 = |threads: &ShownThreads| match &threads.role {
            Role::Counted(flow) => flow.qos == Some(QoS::AtMostOnce),
            _ => false,
        };
        match self.threads.iter().any(is_qos_0) {
            true => "sent",
            false => "acknowledged",
        }
    }
}

impl ShownThreads {
    fn row(&mut self, stats: &Stats, now: Instant) -> Row {
        let total = self.total;
        let mut row = Row {
            name: self.name.clone(),
            now: String::new(),
            room: 0,
            short: String::new(),
            short_room: 0,
            ended: None,
            done: 0,
            total,
            last: None,
        };
        match &mut self.role {
            Role::Publisher(doing, qos) => {
                (row.now, row.short, row.ended) = told(doing, *qos);
                // Those of the last message: all others have as many or fewer.
                row.room = awaiting(total, *qos).len();
                row.short_room = format!("waits {}", end(*qos)).len();
                row.done = doing.done();
                row.last = doing
                    .last()
                    .map(|took| ("last", LatencyText(took).to_string()));
            }
            Role::Subscriber(doing, inbox, places) => {
                (row.now, row.short, row.ended) = told(doing, QoS::AtMostOnce);
                row.done = doing.done();
                let inbox = inbox.get().and_then(Weak::upgrade);
                row.last = inbox.map(|inbox| {
                    let waiting = Number(inbox.waiting() as u64);
                    ("inbox", format!("{waiting} of {}", Number(*places as u64)))
                });
            }
            Role::Counted(flow) => {
                (row.room, row.short_room) = (RATE, RATE);
                row.done = (flow.count)();
                flow.growth.add(row.done, now);
                let (still, rate) = (flow.growth.still(now), flow.growth.per_second());
                row.ended = (row.done >= total).then_some(true);
                row.now = match row.ended {
                    Some(_) => "done".to_owned(),
                    None if still >= STILL => format!("nothing for {}", Seconds(still)),
                    None if rate < 1.0 => String::new(),
                    None => format!("{}/s", Number(rate.round() as u64)),
                };
                row.short = row.now.clone();
                let round_trip = stats.latencies.quantile(0.5);
                let round_trip = round_trip.filter(|_| flow.qos.is_some());
                row.last = round_trip.map(|took| ("round trip", LatencyText(took).to_string()));
            }
        }
        row
    }
}

/// The end of a message's way, for the thread that waits for it.
fn end(qos: QoS) -> &'static str {
    match qos {
        QoS::AtMostOnce => "to leave",
        QoS::AtLeastOnce => "for PUBACK",
        QoS::ExactlyOnce => "for PUBCOMP",
    }
}

/// Says that the message with this number is on its way.
fn awaiting(number: u64, qos: QoS) -> String {
    format!("message {} waits {}", Number(number), end(qos))
}

/// The words for the work of a thread, the same in at most 17 columns, and whether it has ended well.
fn told(doing: &Activity, qos: QoS) -> (String, String, Option<bool>) {
    let now = doing.now();
    let waits = format!("waits {}", end(qos));
    let (text, short) = match now {
        Now::Starting => ("waiting to begin".to_owned(), "starting"),
        Now::Queuing(number) => (format!("queuing message {}", Number(number)), "queuing"),
        Now::Awaiting(number) => (awaiting(number, qos), &*waits),
        Now::AwaitingAll(queued) => match queued.saturating_sub(doing.done()) {
            1 => (format!("1 message {waits}"), &*waits),
            waiting => (
                format!("{} messages wait {}", Number(waiting), end(qos)),
                &*waits,
            ),
        },
        Now::Pausing => ("pausing".to_owned(), "pausing"),
        Now::Subscribing => ("waiting for SUBACK".to_owned(), "subscribing"),
        Now::Receiving => ("receiving".to_owned(), "receiving"),
        Now::Unsubscribing => ("waiting for UNSUBACK".to_owned(), "unsubscribing"),
        Now::Ending => ("ending the connection".to_owned(), "ending"),
        Now::Done => ("done".to_owned(), "done"),
        Now::Failed => ("failed".to_owned(), "failed"),
    };
    let ended = match now {
        Now::Done => Some(true),
        Now::Failed => Some(false),
        _ => None,
    };
    (text, short.to_owned(), ended)
}

/// `has_failed`: the connection was lost, or an attempt has failed.
fn link(state: &ConnectionState, tls: bool, has_failed: bool, now: Instant) -> LinkNow {
    match state {
        ConnectionState::Connecting { attempt, next_try } => {
            let left = next_try.map(|at| at.saturating_duration_since(now));
            match (*attempt, left) {
                (..=1, Some(left)) if !has_failed => LinkNow::Soon { left },
                (attempt, Some(left)) => LinkNow::Waiting { attempt, left },
                (attempt, None) => LinkNow::Connecting { attempt },
            }
        }
        ConnectionState::Online {
            session_present,
            since,
            ..
        } => LinkNow::Up {
            tls,
            since: now.saturating_duration_since(*since),
            resumed: *session_present,
        },
        ConnectionState::Ended => LinkNow::Closed,
        _ => LinkNow::Offline,
    }
}

/// The commands that wait for a connection.
fn meanwhile(link: LinkNow, stats: &Stats) -> Option<String> {
    if matches!(link, LinkNow::Up { .. } | LinkNow::Closed) {
        return None;
    }
    let (queued, in_flight) = (stats.queued, stats.in_flight);
    let wait = |count| match count {
        1 => "1 command waits".to_owned(),
        count => format!("{} commands wait", Number(count)),
    };
    match (queued, in_flight) {
        (0, 0) => None,
        (0, _) => Some(format!("meanwhile {} for an answer", wait(in_flight))),
        (_, 0) => Some(format!("meanwhile {} in the queue", wait(queued))),
        _ => Some(format!(
            "meanwhile {} in the queue, {} for an answer",
            wait(queued),
            Number(in_flight)
        )),
    }
}

/// The messages that wait for threads that do not read their inboxes.
fn aside(stats: &Stats) -> Option<String> {
    match stats.waiting_messages {
        0 => None,
        1 => Some("1 message waits aside for room in an inbox".to_owned()),
        count => Some(format!(
            "{} messages wait aside for room in an inbox",
            Number(count)
        )),
    }
}

fn many(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", Number(count))
}
