//! Events as JSON, one object on a line, written when they happen: `--output jsonl`, and the messages of `sub`.
//!
//! Any thread writes, one at a time, and first what has happened to the connection before: so the lines have the order of
//! the events. A thread of its own waits for the events of the connection. Nothing is kept, so that a run may last for
//! months. A reader that is slow delays the threads that write, never the loop, and is told how many events it missed.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use mqtt_connection_sharing::error::Error;
use mqtt_connection_sharing::{ConnectionEvent, ConnectionEvents, EventKind, Handle, Message};
use serde::Serialize;
use serde_json::Value;

use super::base64::base64;
use super::json::{SCHEMA, to_json};
use super::names::as_given;
use super::properties::ReceivedProperties;
use super::streams::StandardOutput;
use super::stuck::on_main_thread;
use super::view::screen::above;

/// The content of a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum OutputEvent<'a> {
    /// The broker has accepted the connection.
    Connected {
        /// Whether the broker had kept the session: `new` or `resumed`.
        session: &'static str,
        /// The address of the broker.
        address: Option<String>,
    },
    /// A connection is lost.
    Lost {
        #[serde(flatten)]
        failure: Failure,
        /// For how long it was there, in milliseconds.
        lasted_ms: u64,
    },
    /// An attempt to connect has failed.
    AttemptFailed {
        #[serde(flatten)]
        failure: Failure,
    },
    /// The reader was slow: so many events of the connection are left out here.
    Missed { count: u64 },
    /// An iteration of the demo is over.
    Iteration { run: Value },
    /// A message came.
    Message {
        topic: &'a str,
        /// `None` where it is no UTF-8.
        payload: Option<&'a str>,
        /// Only where it is no UTF-8.
        #[serde(skip_serializing_if = "Option::is_none")]
        payload_base64: Option<String>,
        qos: u8,
        retain: bool,
        duplicate: bool,
        /// What MQTT 5 adds to it, if anything.
        #[serde(skip_serializing_if = "Option::is_none")]
        properties: Option<ReceivedProperties<'a>>,
    },
    /// The run is over.
    End {
        exit_status: u8,
        /// The reason why it failed or ended early.
        error: Option<String>,
        /// The object that `--output json` prints.
        result: Option<Value>,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Failure {
    reason: String,
    remedy: Option<String>,
    /// The broker's reason code, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_code: Option<u8>,
    /// Milliseconds until the next attempt; `None` if there is none.
    retry_in_ms: Option<u64>,
}

impl Failure {
    fn of(error: &Error) -> Self {
        let told = |text: &str| as_given(text).into_owned();
        let advice = error.advice();
        Failure {
            reason: told(error.problem()),
            remedy: (!advice.is_empty()).then(|| told(advice)),
            reason_code: error.reason_code(),
            retry_in_ms: None,
        }
    }
}

impl<'a> OutputEvent<'a> {
    /// A message that came.
    pub(crate) fn message(message: &'a Message) -> Self {
        let payload = std::str::from_utf8(message.payload()).ok();
        OutputEvent::Message {
            topic: message.topic(),
            payload,
            payload_base64: payload.is_none().then(|| base64(message.payload())),
            qos: message.qos() as u8,
            retain: message.retain(),
            duplicate: message.dup(),
            properties: message.received().and_then(ReceivedProperties::of),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            OutputEvent::Connected { .. } => "connected",
            OutputEvent::Lost { .. } => "lost",
            OutputEvent::AttemptFailed { .. } => "attempt_failed",
            OutputEvent::Missed { .. } => "missed",
            OutputEvent::Iteration { .. } => "iteration",
            OutputEvent::Message { .. } => "message",
            OutputEvent::End { .. } => "end",
        }
    }

    fn failure(&mut self) -> Option<&mut Failure> {
        match self {
            OutputEvent::Lost { failure, .. } | OutputEvent::AttemptFailed { failure } => {
                Some(failure)
            }
            _ => None,
        }
    }
}

/// A line.
#[derive(Serialize)]
struct EventLine<'a> {
    schema: u32,
    event: &'static str,
    /// As RFC 3339 has it, in UTC.
    time: String,
    endpoint: &'a str,
    client_id: &'a str,
    #[serde(flatten)]
    what: &'a OutputEvent<'a>,
}

/// Writes the lines of a run.
pub(crate) struct EventOutput {
    /// Whether more than messages is told.
    is_on: bool,
    endpoint: String,
    client_id: String,
    state: Mutex<EventState>,
}

#[derive(Default)]
struct EventState {
    /// The events of the loop that runs.
    watched: Option<ConnectionEvents>,
    /// A failure, and when it was. It is told once it is known whether another attempt follows.
    failed: Option<(OutputEvent<'static>, Instant)>,
    /// The first error of writing.
    broken: Option<io::Error>,
}

impl EventOutput {
    /// Of a run with this broker. Unless it `is_on`, messages alone are told.
    pub(crate) fn new(is_on: bool, endpoint: String, client_id: String) -> Arc<Self> {
        Arc::new(EventOutput {
            is_on,
            endpoint,
            client_id,
            state: Mutex::default(),
        })
    }

    /// From now on the events of this connection are told.
    pub(crate) fn watch(self: &Arc<Self>, handle: &Handle) -> Watching {
        self.watch_or(handle, || {})
    }

    /// As [`EventOutput::watch`]. After an error of writing each further event calls `broken`, too.
    pub(crate) fn watch_or(
        self: &Arc<Self>,
        handle: &Handle,
        broken: impl Fn() + Send + 'static,
    ) -> Watching {
        if !self.is_on {
            return Watching(None);
        }
        let events = handle.events();
        let mut wakes = events.clone();
        self.lock().watched = Some(events);
        let told = Arc::clone(self);
        let tell = move || {
            while wakes.recv().is_ok() {
                let mut state = told.lock();
                told.catch_up(&mut state);
                if state.broken.is_some() {
                    broken();
                }
            }
        };
        let spawned = thread::Builder::new().name("events".to_owned()).spawn(tell);
        match spawned {
            Ok(thread) => Watching(Some((Arc::clone(self), thread))),
            Err(error) => {
                log::warn!("events are told late, because no thread can be started: {error}");
                Watching(None)
            }
        }
    }

    /// Writes an event.
    ///
    /// # Errors
    /// When it cannot be written, or an earlier one could not.
    pub(crate) fn tell(&self, event: &OutputEvent<'_>) -> io::Result<()> {
        let mut state = self.lock();
        self.catch_up(&mut state);
        self.write(&mut state, event, SystemTime::now());
        match &state.broken {
            None => Ok(()),
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// The first error of writing.
    pub(crate) fn broken(&self) -> Option<io::Error> {
        let state = self.lock();
        let broken = state.broken.as_ref();
        broken.map(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// Tells what has happened to the connection.
    fn catch_up(&self, state: &mut EventState) {
        while let Some(Ok(event)) = state.watched.as_mut().map(ConnectionEvents::try_recv) {
            self.take(state, &event);
        }
    }

    fn take(&self, state: &mut EventState, event: &ConnectionEvent) {
        let told = match &event.kind {
            EventKind::Connected {
                session_present,
                address,
                ..
            } => OutputEvent::Connected {
                session: match session_present {
                    true => "resumed",
                    false => "new",
                },
                address: address.map(|address| address.to_string()),
            },
            EventKind::Missed { count } => OutputEvent::Missed { count: *count },
            EventKind::Lost { error, lasted } => {
                let failure = Failure::of(error);
                let lasted_ms = milliseconds(*lasted);
                self.tell_failed(state, None);
                state.failed = Some((OutputEvent::Lost { failure, lasted_ms }, event.at));
                return;
            }
            EventKind::AttemptFailed { error } => {
                let failure = Failure::of(error);
                self.tell_failed(state, None);
                state.failed = Some((OutputEvent::AttemptFailed { failure }, event.at));
                return;
            }
            EventKind::Retrying { next_try, .. } => {
                let wait = next_try.saturating_duration_since(event.at);
                self.tell_failed(state, Some(milliseconds(wait)));
                return;
            }
            EventKind::Ended { .. } => return self.tell_failed(state, None),
            _ => return,
        };
        self.tell_failed(state, None);
        self.write(state, &told, time_of(event.at));
    }

    fn tell_failed(&self, state: &mut EventState, retry_in_ms: Option<u64>) {
        if let Some((mut event, at)) = state.failed.take() {
            if let Some(failure) = event.failure() {
                failure.retry_in_ms = retry_in_ms;
            }
            self.write(state, &event, time_of(at));
        }
    }

    fn write(&self, state: &mut EventState, event: &OutputEvent<'_>, time: SystemTime) {
        if state.broken.is_some() {
            return;
        }
        let mut line = self.line(event, time);
        line.push('\n');
        state.broken = write(line.as_bytes()).err();
    }

    fn line(&self, event: &OutputEvent<'_>, time: SystemTime) -> String {
        to_json(&EventLine {
            schema: SCHEMA,
            event: event.name(),
            time: humantime::format_rfc3339_millis(time).to_string(),
            endpoint: &self.endpoint,
            client_id: &self.client_id,
            what: event,
        })
    }

    fn lock(&self) -> MutexGuard<'_, EventState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watch over a loop.
#[must_use]
pub(crate) struct Watching(Option<(Arc<EventOutput>, JoinHandle<()>)>);

impl Watching {
    /// The loop has ended, and the main thread waits until all of its events are told.
    pub(crate) fn end(self) {
        if let Some((events, thread)) = self.0 {
            on_main_thread(|| {
                // Its panic is in the log.
                let _ = thread.join();
                let mut state = events.lock();
                events.catch_up(&mut state);
                state.watched = None;
            });
        }
    }
}

/// Writes bytes to standard output, all of them and at once. The log shares the terminal with the view, and must not wait
/// for a reader that is slow, because the loop would wait with it: so only a terminal is shared.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    let write = || {
        let mut out = StandardOutput::new();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    match io::stdout().is_terminal() {
        true => above(write),
        false => write(),
    }
}

fn time_of(at: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::demo::Run;
    use crate::support::schema::Schema;
    use mqtt_connection_sharing::QoS;
    use mqtt_connection_sharing::error::Blame;

    fn line(event: &OutputEvent<'_>) -> Value {
        let events = EventOutput::new(true, "a:1".to_owned(), "me".to_owned());
        let line = events.line(event, SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        assert!(!line.contains('\n'), "{line}");
        let value = serde_json::from_str(&line).unwrap();
        assert_eq!(Schema::of_the_output().offences(&value), [""; 0], "{line}");
        value
    }

    #[test]
    fn each_event_fits_the_schema_and_says_when_where_and_who() {
        let mut failure = Failure::of(&Error::new(Blame::Network, "t", "p", "do this"));
        failure.retry_in_ms = Some(3);
        let run = serde_json::to_value(Run::empty(1, 8)).unwrap();
        for event in [
            OutputEvent::Connected {
                session: "new",
                address: None,
            },
            OutputEvent::Lost {
                failure: failure.clone(),
                lasted_ms: 4,
            },
            OutputEvent::AttemptFailed {
                failure: Failure::of(&Error::new(Blame::Network, "t", "p", "")),
            },
            OutputEvent::Missed { count: 3 },
            OutputEvent::Iteration { run },
            OutputEvent::End {
                exit_status: 130,
                error: Some("x".to_owned()),
                result: None,
            },
        ] {
            let line = line(&event);
            assert_eq!(line["event"], event.name());
            assert_eq!(line["time"], "1970-01-01T00:00:01.500Z");
            assert_eq!(
                (&line["endpoint"], &line["client_id"]),
                (&"a:1".into(), &"me".into())
            );
        }
        let lost = line(&OutputEvent::Lost {
            failure,
            lasted_ms: 4,
        });
        assert_eq!(
            (&lost["reason"], &lost["remedy"], &lost["retry_in_ms"]),
            (&"p".into(), &"do this".into(), &3.into())
        );
    }

    #[test]
    fn a_payload_is_a_text_or_else_base64() {
        let text = Message::new("a", QoS::AtLeastOnce, "\"on\"\n\u{1b}é");
        let shown = line(&OutputEvent::message(&text));
        assert_eq!(shown["payload"], "\"on\"\n\u{1b}é");
        assert_eq!(shown.get("payload_base64"), None);
        let bytes = Message::new("a", QoS::AtMostOnce, vec![0xff, 0]);
        let shown = line(&OutputEvent::message(&bytes));
        assert_eq!(
            (&shown["payload"], &shown["payload_base64"]),
            (&Value::Null, &"/wA=".into())
        );
    }
}
