//! The command sub: each message to standard output, and then acknowledged.
//!
//! The main thread runs the loop. A printing thread takes message after message from the inbox and writes it, as slowly as
//! its reader wants. In a session that the broker keeps, a message of QoS 1 and 2 is acknowledged after it was written, and
//! one that was not written comes again to the next run. In a clean session it is acknowledged when it is taken to be
//! written. In both the broker holds back what has no room here.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{
    Accept, Answer, ByHand, Client, ConnectionState, Filter, Handle, Inbox, InboxError,
    InboxMessage, Message, Outcome, Ticket, Unacknowledged,
};

use super::form::{MessageForm, text};
use super::report::SubReport;
use super::settings::SubSettings;
use super::{EarlyEnd, FAILED, REFUSED, TOO_LATE, pipe, spawn};
use crate::app::answers::{self, Attempted, MadeBy};
use crate::app::demo::{Interrupt, leave_no_session};
use crate::app::ends_loop::EndsLoop;
use crate::app::events::{EventOutput, OutputEvent, write};
use crate::app::json::SCHEMA;
use crate::app::lines::Many;
use crate::app::problems::last_loss;
use crate::app::signals::INTERRUPTED;
use crate::app::stuck::PATIENCE;
use crate::app::view::View;

/// Messages that may wait for the printing thread. More of QoS 0 are dropped, of QoS 1 and 2 they stay with the broker.
const INBOX: usize = 1_000;

/// Subscribes and prints.
///
/// # Errors
/// When the options or filters are wrong, or no connection could be had at the beginning. Later failures are in the
/// report.
pub(crate) fn subscribe(
    options: Options,
    settings: &SubSettings,
    interrupt: &Arc<Interrupt>,
    (view, events): (&View, &Arc<EventOutput>),
) -> Result<SubReport, Error> {
    let begin = Instant::now();
    let client = Client::new(options)?;
    let keeps_session = !client.options().clean_session;
    let (agent, handle) = client.open();
    let seen = handle.events();
    interrupt.watch(handle.clone(), Duration::ZERO);
    let shared = Arc::new(SubShared {
        handle: handle.clone(),
        settings: settings.clone(),
        interrupt: Arc::clone(interrupt),
        events: Arc::clone(events),
        received: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        is_closed: AtomicBool::new(false),
    });
    let unwritten = Arc::clone(&shared);
    // The end of the run tells the error.
    let watching = events.watch_or(&handle, move || unwritten.close());
    // Before the loop runs, so that what the session has stored finds its inbox.
    let printing = match keeps_session {
        true => {
            let inbox = handle.inbox_by_hand(INBOX, ByHand::default());
            start(&shared, inbox, Unacknowledged::done)?
        }
        // Nothing survives this process, so that it makes no difference.
        false => start(&shared, handle.inbox(INBOX, Accept::OnceTaken), drop)?,
    };
    drop(handle);
    let closed = Arc::clone(&shared);
    pipe::when_closed(move || closed.close());
    let ended = agent.run();
    interrupt.loop_ended(&ended);
    let printed = select! {
        recv(printing) -> printed => Some(printed),
        // The printing thread cannot end where its reader does not read.
        recv(interrupt.requests()) -> _ => match printing.recv_timeout(PATIENCE) {
            Err(error) if error.is_timeout() => None,
            printed => Some(printed.map_err(|_| crossbeam_channel::RecvError)),
        },
    };
    let (printed, is_stuck) = match printed {
        Some(Ok(Printed { ended, is_stuck })) => (Some(ended), is_stuck),
        Some(Err(_)) => (None, false),
        None => (None, true),
    };
    if !is_stuck {
        watching.end();
    }
    let interrupted = interrupt.is_requested();
    let is_closed = shared.is_closed.load(Ordering::SeqCst);
    let connects = ended.stats.connects;
    let error = ended.result.err();
    if let (Some(error), 0, false, false) = (&error, connects, interrupted, is_closed) {
        return Err(error.clone());
    }
    let problem = match (interrupted, is_closed, &error, printed) {
        (true, ..) => Some(EarlyEnd::new(INTERRUPTED, "interrupted")),
        (false, true, ..) => None,
        (false, false, Some(error), _) => Some(EarlyEnd::of_error(error)),
        (false, false, None, Some(printed)) => printed
            .err()
            .map(|problem| problem.told(last_loss(seen).as_ref())),
        (false, false, None, None) => Some(EarlyEnd::new(FAILED, "the printing thread panicked")),
    };
    if settings.made_up_id && keeps_session && connects > 0 {
        leave_no_session(ended.client, interrupt, view, true, error.is_some());
    }
    Ok(SubReport {
        schema: SCHEMA,
        filters: settings.filters.clone(),
        qos: settings.qos as u8,
        success: problem.is_none(),
        received: shared.received.load(Ordering::SeqCst),
        dropped: shared.dropped.load(Ordering::SeqCst),
        connects,
        elapsed_ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        interrupted,
        exit_status: problem.as_ref().map_or(0, |problem| problem.exit_status),
        reason_code: problem.as_ref().and_then(|problem| problem.reason_code),
        error: problem.map(|problem| problem.text),
        is_stuck,
    })
}

/// How the printing ended.
struct Printed {
    ended: Result<(), EarlyEnd>,
    /// The thread that prints still writes, and waits for the reader.
    is_stuck: bool,
}

/// Subscribes, and starts the thread that prints. The first value of the channel is how it ended.
fn start<M>(
    shared: &Arc<SubShared>,
    inbox: Inbox<M>,
    done: fn(M),
) -> Result<Receiver<Printed>, Error>
where
    M: InboxMessage + Deref<Target = Message> + 'static,
{
    let settings = &shared.settings;
    let filter =
        |name: &String| Filter::new(name.as_str(), settings.qos).with_options(settings.options);
    let filters = settings.filters.iter().map(filter).collect();
    let subscribed = shared.handle.subscribe(&inbox, filters)?;
    // One of the thread that prints, one of the thread that watches its time.
    let (sender, printed) = bounded(2);
    let shared = Arc::clone(shared);
    spawn("printer", move || {
        let ends = EndsLoop {
            handle: shared.handle.clone(),
            grace: Duration::ZERO,
            needed: true,
        };
        let ended = shared.print(&inbox, subscribed, done, &sender);
        shared.dropped.store(inbox.dropped(), Ordering::SeqCst);
        // Nobody waits for it after an interrupt.
        let is_stuck = false;
        let _ = sender.send(Printed { ended, is_stuck });
        drop(ends);
        // Without its inbox the loop would unsubscribe, in a session that is to stay as it is.
        let is_ended = ConnectionState::is_ended;
        let _ = shared.handle.wait_for_connection(Duration::MAX, is_ended);
    })?;
    Ok(printed)
}

/// The parts that all threads of sub share.
struct SubShared {
    handle: Handle,
    settings: SubSettings,
    interrupt: Arc<Interrupt>,
    events: Arc<EventOutput>,
    /// Messages that were written.
    received: AtomicU64,
    /// Messages of QoS 0 that found the inbox full.
    dropped: AtomicU64,
    /// Standard output takes nothing any more.
    is_closed: AtomicBool,
}

impl SubShared {
    /// Standard output takes nothing any more.
    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        drop(self.handle.terminate(Duration::ZERO));
    }

    fn is_over(&self) -> bool {
        self.interrupt.is_requested() || self.is_closed.load(Ordering::SeqCst)
    }

    /// Prints until there is a reason to end.
    fn print<M>(
        self: &Arc<Self>,
        inbox: &Inbox<M>,
        subscribed: Ticket,
        done: fn(M),
        printed: &Sender<Printed>,
    ) -> Result<(), EarlyEnd>
    where
        M: InboxMessage + Deref<Target = Message>,
    {
        self.judge(subscribed.wait())?;
        let SubSettings { count, within, .. } = self.settings;
        let deadline = (!within.is_zero()).then(|| Instant::now() + within);
        // Dropped at the end.
        let (_prints, ends) = bounded(0);
        if deadline.is_some() {
            let (shared, printed) = (Arc::clone(self), printed.clone());
            spawn("deadline", move || shared.end_in_time(&ends, &printed))
                .map_err(|error| EarlyEnd::of_error(&error))?;
        }
        let mut received = 0;
        while !self.is_over() && (count == 0 || received < count) {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let next = match left {
                None => inbox.recv(),
                Some(Duration::ZERO) => Err(InboxError::Timeout),
                Some(left) => inbox.recv_timeout(left),
            };
            match next {
                Ok(message) => {
                    if let Err(error) = self.write(&message) {
                        return self.not_written(&error);
                    }
                    done(message);
                    received += 1;
                    self.received.store(received, Ordering::SeqCst);
                }
                Err(InboxError::Timeout) => return self.time_is_over(),
                Err(InboxError::SubscriptionRefused { filter }) => {
                    return Err(refused(&[filter.as_str()], None));
                }
                Err(problem) if problem.is_end() => break,
                // The log has told of a message that is too large.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Ends the run soon after its time is over if the thread that prints cannot, because its reader does not read.
    fn end_in_time(&self, ends: &Receiver<()>, printed: &Sender<Printed>) {
        let patience = self.settings.within.saturating_add(PATIENCE);
        if ends.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            let (ended, is_stuck) = (self.time_is_over(), true);
            let _ = printed.send(Printed { ended, is_stuck });
            drop(self.handle.terminate(Duration::ZERO));
        }
    }

    /// How a run ends that has not had all of its messages in time.
    fn time_is_over(&self) -> Result<(), EarlyEnd> {
        let SubSettings { count, within, .. } = self.settings;
        if count == 0 {
            return Ok(());
        }
        let received = self.received.load(Ordering::SeqCst);
        let within = humantime::format_duration(within);
        let remedy = match received {
            0 => {
                "raise --within, or see whether anybody publishes there and the broker's rules let this client read it"
            }
            _ => "raise --within, or lower --count",
        };
        let messages = Many(count, "message");
        let text = format!("{received} of {messages} came within {within}; {remedy}");
        Err(EarlyEnd::new(TOO_LATE, text))
    }

    /// Whether the broker takes the subscription.
    fn judge(&self, outcome: Outcome) -> Result<(), EarlyEnd> {
        let filters = &self.settings.filters;
        match outcome {
            // The library tells of filters that are granted with a lower QoS.
            Outcome::Delivered { .. } => Ok(()),
            Outcome::Refused { granted, answer } => {
                let refused_ones = filters.iter().zip(granted);
                let names = refused_ones.filter(|(_, granted)| granted.is_none());
                let names: Vec<&str> = names.map(|(filter, _)| filter.as_str()).collect();
                Err(refused(&names, answer.as_deref()))
            }
            other => {
                let command = "the SUBSCRIBE";
                Err(EarlyEnd::of_outcome(
                    command,
                    Attempted::Subscribe(MadeBy::Caller),
                    &other,
                ))
            }
        }
    }

    fn write(&self, message: &Message) -> io::Result<()> {
        match self.settings.form {
            MessageForm::Jsonl => self.events.tell(&OutputEvent::message(message)),
            MessageForm::Text => write(text(message).as_bytes()),
            MessageForm::Raw => write(message.payload()),
        }
    }

    fn not_written(&self, error: &io::Error) -> Result<(), EarlyEnd> {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.close();
            return Ok(());
        }
        let text = format!(
            "writing a message to standard output: {error}; check where it is redirected to"
        );
        Err(EarlyEnd::new(FAILED, text))
    }
}

/// The broker refuses these filters; with MQTT 5 it says why.
fn refused(filters: &[&str], answer: Option<&Answer>) -> EarlyEnd {
    let filters: Vec<String> = filters.iter().map(|filter| format!("{filter:?}")).collect();
    let (why, remedy) = match answer {
        Some(answer) => (
            format!(" with {answer}"),
            answers::of_answer(Attempted::Subscribe(MadeBy::Caller), answer),
        ),
        None => (String::new(), "see what its rules allow this client"),
    };
    let text = format!(
        "the broker refuses the subscription to {}{why}; {remedy}",
        filters.join(" and ")
    );
    EarlyEnd {
        reason_code: answer.map(|answer| answer.code.value()),
        ..EarlyEnd::new(REFUSED, text)
    }
}
