//! \[0\] The demo: three threads share one connection, again and again, and the result is judged.
//!
//! The main thread runs this. First it clears the session of an earlier run; then in
//! each iteration it starts the three threads of `threads.rs`, runs the command loop until
//! TERMINATE, joins every thread and looks at every result. `traffic.rs` keeps account of the messages,
//! `report.rs` tells the result, `interrupt.rs` stops it.

mod interrupt;
mod on_their_way;
mod report;
pub(crate) mod settings;
mod threads;
mod took;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::app::bench::settings::UNRECEIVED;
use crate::app::ends_loop::EndsLoop;
use crate::app::events::EventOutput;
use crate::app::lines::{Seconds, Shared};
use crate::app::logging::quiet_library;
use crate::app::picture::{MessageCounts, Recordings};
use crate::app::problems::{came_twice, last_loss, left_unfinished, not_started, panicked};
use crate::app::traffic::{ASYNC, Plan, SYNC};
use crate::app::view::{Activity, Bounds, Now, View, Work};
use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, ConnectionEvents, Ended, EventKind, Handle};
use on_their_way::OnTheirWay;
use report::SessionFound;
use settings::DemoSettings;
use threads::{DemoShared, PublisherResult, Receiving, Said, SubscriberResult, Trouble};

pub(crate) use interrupt::Interrupt;
pub(crate) use report::{DemoReport, Published, Run};

/// The subscriber waits that much longer for its next message than for an acknowledgment.
const EXTRA_PATIENCE: Duration = Duration::from_secs(8);

/// Time for messages in flight to finish after an interrupt.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the demo; `on_run` is told of each iteration when it is over, and whether to go on. `recordings` gets theirs, if there are any.
///
/// # Errors
/// When the options are wrong or no connection could be had at the beginning. Later failures are in
/// the report.
pub(crate) fn run(
    options: Options,
    settings: &DemoSettings,
    interrupt: &Interrupt,
    recordings: &mut Recordings,
    (view, events): (&View, &Arc<EventOutput>),
    mut on_run: impl FnMut(Run) -> bool,
) -> Result<DemoReport, Error> {
    let mut client = Client::new(options)?;
    client = clear_session(client, interrupt, (view, Some(events)), recordings)?;
    let mut report = DemoReport::default();
    let mut number = 0;
    let mut has_session = false;
    let mut has_failed = false;
    while !interrupt.is_requested() {
        number += 1;
        let (run, ended) = iterate(
            number,
            client,
            settings,
            interrupt,
            recordings,
            (view, events),
        );
        client = ended.client;
        has_session |= ended.stats.connects > 0;
        report.count(&run);
        let is_read = on_run(run);
        let failure = ended.result.err();
        has_failed = failure.is_some();
        let pointless = failure.is_some_and(|error| error.is_permanent());
        if pointless || !is_read || settings.iterations != 0 && number >= settings.iterations {
            break;
        }
        view.count_down("next iteration", settings.iteration_delay);
        interrupt.wait(settings.iteration_delay);
    }
    if has_session && !client.options().clean_session {
        leave_no_session(client, interrupt, view, settings.made_up_id, has_failed);
    }
    Ok(report)
}

/// Clears the session at the end. After an interrupt the program does so only for a made-up identifier, whose session
/// nobody would ever find again. It takes a few seconds at the most then, and also where the loop has failed: its
/// patience is used up.
pub(crate) fn leave_no_session(
    client: Client,
    interrupt: &Interrupt,
    view: &View,
    made_up_id: bool,
    has_failed: bool,
) {
    // A picture is of what came before.
    let aside = &mut Recordings::default();
    let mut cleared = match (interrupt.is_requested(), has_failed) {
        (false, false) => clear_session(client, interrupt, (view, None), aside),
        (false, true) => clear_quickly(client, view),
        (true, _) => Ok(client),
    };
    if interrupt.is_requested() && made_up_id {
        cleared = cleared.and_then(|client| clear_quickly(client, view));
    }
    if let Err(error) = cleared {
        log::warn!("the broker may keep an empty session: {error}");
    }
}

/// As [`clear_session`], within [`GRACE`].
fn clear_quickly(client: Client, view: &View) -> Result<Client, Error> {
    let address = client.options().address();
    log::debug!("clearing the session at {address}");
    let _quiet = quiet_library();
    let recordings = &mut Recordings::default();
    let shown = (view, None);
    let (answered, client) = connect_and_ping(client, GRACE, shown, None, recordings)?;
    match answered {
        Ok(()) => Ok(client),
        Err(_) => Err(Error::new(
            Blame::Network,
            format!("clearing the session at {address}"),
            format!("the broker did not answer within {}", Seconds(GRACE)),
            "it goes with the broker's own limit for sessions that nobody uses",
        )),
    }
}

/// Connects with a clean session, so that nothing of an earlier run is left at the broker, makes
/// sure that it answers, and disconnects. A connection that breaks in between is made again.
/// `recordings` gets those of its loops if it fails or is interrupted: nothing else will have run then.
/// The output tells of its events before a run, not after it.
pub(crate) fn clear_session(
    client: Client,
    interrupt: &Interrupt,
    shown: (&View, Option<&Arc<EventOutput>>),
    recordings: &mut Recordings,
) -> Result<Client, Error> {
    let mut own = Recordings::of(client.options());
    let cleared = try_to_clear(client, interrupt, shown, &mut own);
    if cleared.is_err() || interrupt.is_requested() {
        *recordings = own;
    }
    cleared
}

fn try_to_clear(
    mut client: Client,
    interrupt: &Interrupt,
    shown: (&View, Option<&Arc<EventOutput>>),
    recordings: &mut Recordings,
) -> Result<Client, Error> {
    let address = client.options().address();
    log::debug!("clearing the session at {address}");
    // The connection that counts comes later, or is over.
    let _quiet = quiet_library();
    let begin = Instant::now();
    let mut delays = None;
    for times in 1.. {
        let answered;
        // Every attempt may use all of its time: TERMINATE must not cut one short.
        let time = Duration::MAX;
        (answered, client) = connect_and_ping(client, time, shown, Some(interrupt), recordings)?;
        let Err(loss) = answered else {
            break;
        };
        if interrupt.is_requested() {
            break;
        }
        // The first connection was there: the patience for further ones counts.
        let delays = delays.get_or_insert_with(|| client.retry_delays());
        let Some(delay) = delays.next() else {
            let seconds = begin.elapsed().as_secs_f64();
            let problem = format!(
                "the broker accepts the connection, but a PINGREQ is not answered on it ({times} attempts in \
                 {seconds:.1} s)"
            );
            let (problem, advice) = match &loss {
                Some(loss) => (
                    format!("{problem}, and the last one is {}", loss.problem()),
                    loss.advice(),
                ),
                None => (problem, "see the broker's log"),
            };
            let tried = format!("clearing the session at {address}");
            return Err(Error::new(Blame::Network, tried, problem, advice));
        };
        interrupt.wait(delay);
    }
    Ok(client)
}

/// The broker answered the PINGREQ in time; or it did not, and the connection was lost like this.
type Answered = Result<(), Option<Error>>;

/// Connects once, and asks the broker for a sign of life. An interrupt ends it.
fn connect_and_ping(
    client: Client,
    time: Duration,
    (view, told): (&View, Option<&Arc<EventOutput>>),
    interrupt: Option<&Interrupt>,
    recordings: &mut Recordings,
) -> Result<(Answered, Client), Error> {
    let title = "clearing the session";
    let bounds = Bounds::of(client.options());
    let (agent, handle) = client.open_clean();
    let (recording, events) = (handle.recording(), handle.events());
    let watching = told.map(|told| told.watch(&handle));
    view.show(Work::new(title, &handle, bounds));
    if let Some(interrupt) = interrupt {
        // There is nothing worth finishing.
        interrupt.watch(handle.clone(), Duration::ZERO);
    }
    let ping = handle.ping();
    drop(handle.terminate(time));
    drop(handle);
    let ended = agent.run();
    if let Some(interrupt) = interrupt {
        interrupt.loop_ended(&ended);
    }
    if let Some(watching) = watching {
        watching.end();
    }
    let loss = last_loss(events.clone());
    recordings.keep(recording, events, MessageCounts::default());
    ended.result?;
    let answered = match ping.is_ok_and(|ticket| ticket.wait().is_delivered()) {
        true => Ok(()),
        false => Err(loss),
    };
    Ok((answered, ended.client))
}

/// One iteration: connect, three threads, the loop until TERMINATE, everything joined and judged.
fn iterate(
    number: u64,
    client: Client,
    settings: &DemoSettings,
    interrupt: &Interrupt,
    recordings: &mut Recordings,
    (view, told): (&View, &Arc<EventOutput>),
) -> (Run, Ended) {
    let begin = Instant::now();
    let plan = Plan::of_demo(settings);
    let ack_timeout = client.options().ack_timeout;
    let patience = ack_timeout + EXTRA_PATIENCE + settings.publish_delay;
    let said = Said::default();
    let bounds = Bounds::of(client.options());
    let (agent, handle) = client.open();
    let recording = handle.recording();
    let events = handle.events();
    let watching = told.watch(&handle);
    view.show(work(number, settings, &plan, &said, &handle, bounds));
    interrupt.watch(handle.clone(), GRACE);
    let (iteration, over) = bounded(0);
    let shared = DemoShared {
        handle,
        qos: settings.qos,
        publish_delay: settings.publish_delay,
        // One of QoS 0 may be lost on its way.
        on_their_way: OnTheirWay::new(
            &plan,
            (settings.qos != QoS::AtMostOnce).then_some(UNRECEIVED),
        ),
        plan,
        over,
        said,
    };
    let (start, started) = bounded(2);
    let (publishes, published) = bounded(0);
    let receiving = Receiving {
        inbox: settings.inbox,
        patience,
        grace: ack_timeout,
        published,
    };
    let ends_loop = || EndsLoop {
        handle: shared.handle.clone(),
        grace: ack_timeout,
        needed: true,
    };
    let sync_publisher = {
        let (shared, started) = (shared.clone(), started.clone());
        let (ends_loop, publishes) = (ends_loop(), publishes.clone());
        spawn("sync-publisher", move || {
            let (mut ends_loop, _publishes): (_, Sender<()>) = (ends_loop, publishes);
            let result = threads::sync_publisher(&shared, &started);
            has_ended(&shared.said.sync_publisher, &result.problem);
            ends_loop.needed = false;
            result
        })
    };
    let async_publisher = {
        let shared = shared.clone();
        let ends_loop = ends_loop();
        spawn("async-publisher", move || {
            let (mut ends_loop, _publishes) = (ends_loop, publishes);
            let result = threads::async_publisher(&shared, &started);
            has_ended(&shared.said.async_publisher, &result.problem);
            ends_loop.needed = false;
            result
        })
    };
    let subscriber = {
        let shared = shared.clone();
        let ends_loop = ends_loop();
        spawn("subscriber", move || {
            // Dropped at the end, in a panic, and also when the thread cannot be started.
            let _ends_loop = ends_loop;
            let result = threads::subscriber(&shared, start, &receiving);
            has_ended(&shared.said.subscriber, &result.problem);
            result
        })
    };
    let plan = shared.plan.clone();
    drop(shared);
    let ended = agent.run();
    interrupt.loop_ended(&ended);
    watching.end();
    drop(iteration);
    let sync_publisher = join("sync publisher", sync_publisher);
    let async_publisher = join("async publisher", async_publisher);
    let subscriber = join("subscriber", subscriber);

    let failure = ended.result.as_ref().err();
    let mut trouble = match interrupt.is_requested() {
        true => Some(Trouble::from("interrupted".to_owned())),
        false => failure.map(Trouble::of_error),
    };
    let mut run = Run {
        connects: ended.stats.connects,
        session: first_session(events.clone()),
        reconnects: ended.stats.reconnects,
        resumed: ended.stats.resumed,
        resubscribed: ended.stats.resubscribed,
        rate_limited_ms: milliseconds(ended.stats.rate_limited),
        elapsed_ms: milliseconds(begin.elapsed()),
        shared: Shared::of(&ended),
        qos: settings.qos as u8,
        ..Run::empty(number, plan.total())
    };
    let (published, problem) = add_publisher(&mut run, plan.count(SYNC), sync_publisher);
    run.sync_publisher = published;
    trouble = trouble.or(problem);
    let (published, problem) = add_publisher(&mut run, plan.count(ASYNC), async_publisher);
    run.async_publisher = published;
    trouble = trouble.or(problem);
    trouble = trouble.or(add_subscriber(&mut run, plan.total(), subscriber));
    let loss = last_loss(events.clone());
    recordings.keep(recording, events, run.counts());
    if ended.left > 0 {
        trouble.get_or_insert_with(|| left_unfinished(ended.left as u64).into());
    }
    if run.duplicated > 0 && settings.qos == QoS::ExactlyOnce {
        trouble.get_or_insert_with(|| came_twice(run.duplicated).into());
    }
    if let Some(trouble) = trouble {
        let Trouble {
            text, reason_code, ..
        } = trouble.after(loss.as_ref());
        (run.error, run.reason_code) = (Some(text), reason_code);
    }
    run.success = run.error.is_none()
        && run.lost == 0
        && run.acknowledged == plan.total()
        && run.received == plan.total();
    (run, ended)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the broker had kept the session, at the first connection of a loop that has ended.
fn first_session(mut events: ConnectionEvents) -> Option<SessionFound> {
    while let Ok(event) = events.try_recv() {
        if let EventKind::Connected {
            session_present, ..
        } = event.kind
        {
            return Some(match session_present {
                true => SessionFound::Resumed,
                false => SessionFound::New,
            });
        }
    }
    None
}

fn add_publisher(
    run: &mut Run,
    messages: u64,
    result: Result<PublisherResult, String>,
) -> (Published, Option<Trouble>) {
    let result = result.unwrap_or_else(|problem| PublisherResult {
        problem: Some(problem.into()),
        ..PublisherResult::default()
    });
    run.published += result.published;
    run.acknowledged += result.acknowledged;
    let published = Published {
        messages,
        published: result.published,
        acknowledged: result.acknowledged,
        median_us: result.times.median_us(),
        longest_us: result.times.longest_us(),
        queued_us: result.queuing.longest_us(),
    };
    (published, result.problem)
}

/// Comes after the publishers: only an acknowledged message can be lost.
fn add_subscriber(
    run: &mut Run,
    total: u64,
    result: Result<SubscriberResult, String>,
) -> Option<Trouble> {
    let problem = match result {
        Ok(result) => {
            let SubscriberResult {
                received,
                dropped,
                problem,
            } = result;
            run.received = received.distinct;
            // Messages of others may have been dropped as well.
            run.dropped = dropped.min(total - run.received);
            run.duplicated = received.duplicated;
            run.unexpected = received.unexpected;
            run.reordered = received.reordered;
            problem
        }
        Err(problem) => Some(problem.into()),
    };
    let missing = total - run.received - run.dropped;
    run.unacknowledged = total.saturating_sub(run.acknowledged).min(missing);
    run.lost = missing - run.unacknowledged;
    problem
}

/// An iteration as the view shows it.
fn work(
    number: u64,
    settings: &DemoSettings,
    plan: &Plan,
    said: &Said,
    handle: &Handle,
    bounds: Bounds,
) -> Work {
    let title = match settings.iterations {
        0 => format!("iteration {number}"),
        all => format!("iteration {number} of {all}"),
    };
    let inbox = (&said.inbox, settings.inbox);
    let (sync, asynchronous) = (&said.sync_publisher, &said.async_publisher);
    Work::new(title, handle, bounds)
        .publisher("sync publisher", plan.count(SYNC), sync, settings.qos)
        .publisher(
            "async publisher",
            plan.count(ASYNC),
            asynchronous,
            settings.qos,
        )
        .subscriber("subscriber", plan.total(), &said.subscriber, inbox)
}

/// A thread says that it has ended.
fn has_ended(doing: &Activity, problem: &Option<Trouble>) {
    doing.is(match problem {
        None => Now::Done,
        Some(_) => Now::Failed,
    });
}

type Spawned<T> = std::io::Result<JoinHandle<T>>;

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> Spawned<T> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// A thread that could not be started or that panicked is a result as well.
fn join<T>(name: &str, thread: Spawned<T>) -> Result<T, String> {
    thread
        .map_err(|error| not_started(format!("the {name}"), &error))?
        .join()
        .map_err(|_| panicked(format!("the {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::traffic::ReceivedCounts;

    #[test]
    fn a_message_that_found_no_room_here_is_dropped_and_not_lost() {
        for (distinct, dropped, expected) in [(10, 0, (0, 0)), (6, 3, (3, 1)), (9, 5, (1, 0))] {
            let mut run = Run::empty(1, 10);
            run.acknowledged = 10;
            let received = ReceivedCounts {
                distinct,
                ..ReceivedCounts::default()
            };
            let result = SubscriberResult {
                received,
                dropped,
                problem: None,
            };
            add_subscriber(&mut run, 10, Ok(result));
            assert_eq!((run.dropped, run.lost), expected);
            assert_eq!(run.received + run.dropped + run.lost, 10);
            assert_eq!(run.unacknowledged, 0);
        }
    }

    #[test]
    fn only_an_acknowledged_message_is_lost() {
        // Acknowledged, received, and of the others: lost, not acknowledged.
        for (acknowledged, received, expected) in [
            (7, Some(6), (1, 3)),
            (7, Some(7), (0, 3)),
            // Some were received, and the link was lost before their acknowledgment.
            (7, Some(9), (0, 1)),
            (0, Some(0), (0, 10)),
            (7, None, (7, 3)),
        ] {
            let mut run = Run::empty(1, 10);
            run.acknowledged = acknowledged;
            let result = received.map(|distinct| SubscriberResult {
                received: ReceivedCounts {
                    distinct,
                    ..ReceivedCounts::default()
                },
                dropped: 0,
                problem: None,
            });
            add_subscriber(&mut run, 10, result.ok_or_else(|| "it panicked".to_owned()));
            assert_eq!((run.lost, run.unacknowledged), expected, "{run:?}");
        }
    }
}
