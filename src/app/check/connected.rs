//! A loop on a thread of its own, and an observer of its events on another.
//!
//! The observer ends the loop at the first failure for which the check has no patience, so that nothing is tried twice
//! and nothing hides behind a retry. The main thread holds [`Connected`].

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::{
    Client, ConnectionEvent, ConnectionEvents, Ended, EventKind, Handle,
};

use super::settings::CheckSettings;
use crate::app::demo::Interrupt;
use crate::app::events::{EventOutput, Watching};

/// A loop that runs, and its events.
pub(super) struct Connected {
    pub(super) handle: Handle,
    running: thread::JoinHandle<Ended>,
    watching: Watching,
    pub(super) events: Receiver<Arc<ConnectionEvent>>,
    /// Whether a connection was lost.
    pub(super) has_lost: Arc<AtomicBool>,
}

impl Connected {
    pub(super) fn begin(
        client: Client,
        settings: &CheckSettings,
        interrupt: &Interrupt,
        told: &Arc<EventOutput>,
    ) -> Result<Self, Error> {
        let (agent, handle) = client.open();
        let watching = told.watch(&handle);
        let seen = handle.events();
        let (events, receiver) = unbounded();
        let ends = handle.clone();
        let has_lost = Arc::new(AtomicBool::new(false));
        let loses = Arc::clone(&has_lost);
        let is_patient = !settings.wait.is_zero();
        spawn("observer", move || {
            observe(seen, is_patient, &ends, |event| {
                if matches!(event.kind, EventKind::Lost { .. }) {
                    loses.store(true, Ordering::SeqCst);
                }
                // Nobody listens any more once the ladder has ended.
                drop(events.send(event));
            });
        })?;
        let running = spawn("loop", move || agent.run())?;
        interrupt.watch(handle.clone(), Duration::ZERO);
        Ok(Connected {
            handle,
            running,
            watching,
            events: receiver,
            has_lost,
        })
    }

    /// Whether the next connection found a session.
    pub(super) fn next_connection(&self) -> Result<bool, Error> {
        let mut last = None;
        while let Ok(event) = self.events.recv() {
            match &event.kind {
                EventKind::Connected {
                    session_present, ..
                } => return Ok(*session_present),
                EventKind::AttemptFailed { error } | EventKind::Lost { error, .. } => {
                    last = Some(error.clone());
                }
                _ => {}
            }
        }
        Err(last.unwrap_or_else(|| interrupted("connecting again")))
    }

    /// The error of the connection because of which a command ended like this. The loop ends with it, so that what has
    /// happened to the connection is known.
    pub(super) fn loss(&self, ended: &impl Display) -> Error {
        drop(self.handle.terminate(Duration::ZERO));
        let errors = self.events.iter().filter_map(|event| match &event.kind {
            EventKind::Lost { error, .. } | EventKind::AttemptFailed { error } => {
                Some(error.clone())
            }
            _ => None,
        });
        errors
            .last()
            .unwrap_or_else(|| interrupted(&ended.to_string()))
    }

    pub(super) fn end(self, interrupt: &Interrupt) -> Result<Ended, Error> {
        drop(self.handle.terminate(Duration::ZERO));
        drop(self.handle);
        let ended = self.running.join().map_err(|_| {
            Error::new(
                Blame::Misuse,
                "running the loop",
                "its thread panicked",
                "report it as a bug",
            )
        })?;
        interrupt.loop_ended(&ended);
        self.watching.end();
        Ok(ended)
    }
}

/// Passes the events on, and ends the loop at the first failure for which nobody has patience.
fn observe(
    mut seen: ConnectionEvents,
    mut is_patient: bool,
    ends: &Handle,
    pass_on: impl Fn(Arc<ConnectionEvent>),
) {
    while let Ok(event) = seen.recv() {
        let is_end = match &event.kind {
            EventKind::AttemptFailed { .. } => !is_patient,
            EventKind::Lost { .. } => true,
            _ => false,
        };
        if matches!(event.kind, EventKind::Connected { .. }) {
            is_patient = false;
        }
        pass_on(event);
        if is_end {
            drop(ends.terminate(Duration::ZERO));
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>, Error> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(no_thread)
}

/// The system has no thread left.
pub(super) fn no_thread(error: io::Error) -> Error {
    Error::new(
        Blame::Configuration,
        "starting a thread",
        error.to_string(),
        "free some of the system's threads or memory",
    )
}

/// The problem where nothing went wrong but that the end of the run was asked for.
const INTERRUPTED: &str = "interrupted";

pub(super) fn interrupted(tried: &str) -> Error {
    Error::new(Blame::Network, tried, INTERRUPTED, "")
}

pub(super) fn is_interruption(error: &Error) -> bool {
    error.problem() == INTERRUPTED
}
