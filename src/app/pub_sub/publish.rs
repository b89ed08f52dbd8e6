//! The command pub: threads publish what a script hands over, and the run ends when all of it is acknowledged.
//!
//! The main thread runs the loop. A conductor thread starts the publishers, waits for them, and ends the loop. The
//! publishers take their messages from one channel, which the thread of `input.rs` fills: so the messages of one
//! publisher leave in the order of their lines, and those of several in any order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Batch, Client, Handle, Outcome, Publish, QoS};

use super::input::{Input, Read1};
use super::report::PubReport;
use super::settings::{MessageSource, PubSettings};
use super::{EarlyEnd, FAILED, GRACE, spawn};
use crate::app::answers::{Attempted, MadeBy};
use crate::app::demo::{Interrupt, leave_no_session};
use crate::app::events::EventOutput;
use crate::app::json::SCHEMA;
use crate::app::problems::last_loss;
use crate::app::signals::INTERRUPTED;
use crate::app::view::View;

/// Stack of a publisher: there may be thousands of them.
const STACK: usize = 256 * 1024;

/// Publishes everything.
///
/// # Errors
/// When the options are wrong, the file cannot be opened, or no connection could be had at the beginning. Later
/// failures are in the report.
pub(crate) fn publish(
    options: Options,
    settings: &PubSettings,
    interrupt: &Interrupt,
    (view, events): (&View, &Arc<EventOutput>),
) -> Result<PubReport, Error> {
    let begin = Instant::now();
    let source = settings.messages.clone();
    let messages = Input::start(move || Input::open(&source), interrupt)?;
    let client = Client::new(options)?;
    let grace = client.options().ack_timeout;
    let (agent, handle) = client.open();
    let watching = events.watch(&handle);
    let seen = handle.events();
    interrupt.watch(handle.clone(), GRACE);
    let shared = Arc::new(PubShared {
        handle,
        settings: settings.clone(),
        published: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        problem: Mutex::new(None),
        is_over: AtomicBool::new(false),
    });
    // Dropped when the loop has ended: nobody waits for further messages then.
    let (runs, ended) = bounded(0);
    let conductor = PubConductor {
        shared: Arc::clone(&shared),
        grace,
    };
    let conductor = spawn("conductor", move || conductor.conduct(&messages, &ended))?;
    let ended = agent.run();
    drop::<Sender<()>>(runs);
    interrupt.loop_ended(&ended);
    watching.end();
    if conductor.join().is_err() {
        shared.note(EarlyEnd::new(FAILED, "the conducting thread panicked"));
    }
    let interrupted = interrupt.is_requested();
    let connects = ended.stats.connects;
    let error = ended.result.err();
    if let (Some(error), 0, false) = (&error, connects, interrupted) {
        return Err(error.clone());
    }
    // The messages have failed because of it.
    let problem = match error.as_ref() {
        Some(error) => Some(EarlyEnd::of_error(error)),
        None => shared
            .problem()
            .or_else(|| perhaps_missing(settings.qos, connects)),
    };
    let problem = match interrupted {
        true => Some(EarlyEnd::new(INTERRUPTED, "interrupted")),
        false => problem.map(|problem| problem.told(last_loss(seen).as_ref())),
    };
    if settings.made_up_id && !ended.client.options().clean_session && connects > 0 {
        leave_no_session(ended.client, interrupt, view, true, error.is_some());
    }
    Ok(PubReport {
        schema: SCHEMA,
        topic: settings.topic.clone(),
        qos: settings.qos as u8,
        retain: settings.retain,
        threads: settings.threads,
        success: problem.is_none(),
        published: shared.published.load(Ordering::SeqCst),
        acknowledged: shared.acknowledged.load(Ordering::SeqCst),
        connects,
        elapsed_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        interrupted,
        exit_status: problem.as_ref().map_or(0, |problem| problem.exit_status),
        reason_code: problem.as_ref().and_then(|problem| problem.reason_code),
        error: problem.map(|problem| problem.text),
    })
}

/// The answer after the last message speaks for the last link alone.
fn perhaps_missing(qos: QoS, connects: u64) -> Option<EarlyEnd> {
    let text = "a link was lost, and messages of QoS 0 are not sent again, so some may be missing; use --qos 1";
    (qos == QoS::AtMostOnce && connects > 1).then(|| EarlyEnd::new(FAILED, text))
}

/// The parts that all threads of pub share.
struct PubShared {
    handle: Handle,
    settings: PubSettings,
    published: AtomicU64,
    acknowledged: AtomicU64,
    /// The first thing that went wrong.
    problem: Mutex<Option<EarlyEnd>>,
    /// Nothing more is to be published.
    is_over: AtomicBool,
}

impl PubShared {
    /// Something went wrong: the run ends once those in flight have ended.
    fn note(&self, problem: EarlyEnd) {
        lock(&self.problem).get_or_insert(problem);
        self.is_over.store(true, Ordering::SeqCst);
        drop(self.handle.terminate(GRACE));
    }

    fn problem(&self) -> Option<EarlyEnd> {
        lock(&self.problem).clone()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

/// Runs the publishers. Dropping it, also in a panic, ends the loop.
struct PubConductor {
    shared: Arc<PubShared>,
    grace: Duration,
}

impl Drop for PubConductor {
    fn drop(&mut self) {
        drop(self.shared.handle.terminate(self.grace));
    }
}

impl PubConductor {
    fn conduct(self, messages: &Receiver<Read1>, ended: &Receiver<()>) {
        for publisher in self.start(messages, ended) {
            if publisher.join().is_err() {
                let problem = EarlyEnd::new(FAILED, "a publishing thread panicked");
                self.shared.note(problem);
            }
        }
        let shared = &self.shared;
        let nothing_acknowledged = shared.acknowledged.load(Ordering::SeqCst) == 0;
        if (shared.settings.qos == QoS::AtMostOnce || nothing_acknowledged) && !shared.is_over() {
            self.wait_for_an_answer();
        }
    }

    /// Nobody acknowledges QoS 0. But the broker takes the messages before a PINGREQ on the same link before it answers
    /// that.
    fn wait_for_an_answer(&self) {
        let outcome = match self.shared.handle.ping() {
            Ok(ticket) => ticket.wait(),
            Err(_) => return,
        };
        if !outcome.is_delivered() {
            let problem = EarlyEnd::of_outcome(
                "the PINGREQ after the last message",
                Attempted::Publish(MadeBy::Caller),
                &outcome,
            );
            self.shared.note(problem);
        }
    }

    fn start(&self, messages: &Receiver<Read1>, ended: &Receiver<()>) -> Vec<JoinHandle<()>> {
        let mut publishers = Vec::new();
        for number in 0..self.shared.settings.threads {
            let (shared, messages, ended) =
                (Arc::clone(&self.shared), messages.clone(), ended.clone());
            let publisher = thread::Builder::new()
                .name(format!("publisher-{number}"))
                .stack_size(STACK)
                .spawn(move || publish_all(&shared, &messages, &ended));
            match publisher {
                Ok(publisher) => publishers.push(publisher),
                Err(error) => {
                    let text = format!("only {number} threads could be started: {error}");
                    self.shared.note(EarlyEnd::new(FAILED, text));
                    break;
                }
            }
        }
        publishers
    }
}

/// Publishes messages as they come, until there are no more, or one has failed, or the loop has ended. Returns when all
/// that it has published have ended.
fn publish_all(shared: &Arc<PubShared>, messages: &Receiver<Read1>, ended: &Receiver<()>) {
    let tells = Arc::clone(shared);
    let mut batch = Batch::with_callback(move |ends: &[(u64, Outcome)]| {
        for (_, outcome) in ends {
            match outcome.is_delivered() {
                true => {
                    tells.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                false => tells.note(EarlyEnd::of_outcome(
                    "a message",
                    Attempted::Publish(MadeBy::Caller),
                    outcome,
                )),
            }
        }
    });
    let settings = &shared.settings;
    // Nobody writes it by mistake.
    let empty = MessageSource::Text(String::new());
    while !shared.is_over() {
        let next = select! {
            recv(messages) -> next => next,
            recv(ended) -> _ => break,
        };
        let payload = match next {
            Ok(Ok(payload)) => payload,
            Ok(Err(problem)) => {
                shared.note(problem);
                break;
            }
            // There are no more.
            Err(_) => break,
        };
        if settings.retain && payload.is_empty() && settings.messages != empty {
            log::warn!("the message is empty: it clears what the broker has kept for the topic");
        }
        let message = Publish::new(settings.topic.as_str(), settings.qos, payload);
        let message = message.with_retain(settings.retain);
        let message = match settings.properties.is_empty() {
            true => message,
            false => message.with_properties(settings.properties.clone()),
        };
        match shared.handle.publish_in(message, &mut batch) {
            Ok(()) => {
                shared.published.fetch_add(1, Ordering::Relaxed);
            }
            Err(rejected) => {
                shared.note(EarlyEnd::of_error(&Error::from(rejected)));
                break;
            }
        }
    }
    // The callback has told of those that were not delivered.
    let _ = batch.wait();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
