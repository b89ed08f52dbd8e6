//! Tells threads that watch the connection where it is and what happened (`watch.rs`). The loop's thread.

use std::time::{Duration, Instant};

use super::Agent;
use super::connection::Phase;
use crate::client::events::{ConnectionState, EventKind};
use crate::client::recording::What;
use crate::error::Error;
use crate::link::steps::AttemptStep;

impl Agent {
    /// The state while there is no connection, and one is wanted.
    pub(super) fn waiting_state(&self) -> ConnectionState {
        let next_try = match *self.connection.phase() {
            Phase::Waiting {
                until,
                attempt: None,
            } => Some(until),
            _ => None,
        };
        ConnectionState::Connecting {
            attempt: self.connection.attempt_number(),
            next_try,
        }
    }

    /// The loop begins.
    pub(super) fn tell_waiting(&self) {
        self.reporter.change(self.waiting_state());
    }

    /// An attempt begins.
    pub(super) fn tell_attempt(&self) {
        let number = self.connection.attempt_number();
        self.record(What::Attempt {
            number: number.into(),
        });
        let state = self.waiting_state();
        self.reporter
            .change_with(state, || EventKind::Attempt { number });
    }

    /// The attempt has gone on.
    pub(super) fn tell_steps(&mut self) {
        let steps = self.connection.take_steps();
        self.tell_taken(steps);
    }

    /// These steps were taken at these times.
    pub(super) fn tell_taken(&self, steps: Vec<(Instant, AttemptStep)>) {
        for (at, step) in steps {
            self.reporter.tell_at(at, || EventKind::Step(step));
        }
    }

    /// New credentials, certificates or keys were not taken.
    pub(super) fn tell_problems(&mut self) {
        for error in self.connection.take_problems() {
            log::warn!("{error}; the last good ones stay in force");
            self.reporter.tell(|| EventKind::NotRenewed { error });
        }
    }

    /// A connection is lost that the broker had accepted.
    pub(super) fn tell_lost(&self, error: &Error, lasted: Duration) {
        let state = ConnectionState::Connecting {
            attempt: self.connection.attempt_number(),
            next_try: None,
        };
        let error = error.clone();
        self.reporter
            .change_with(state, || EventKind::Lost { error, lasted });
    }

    /// There will be another attempt at this time.
    pub(super) fn tell_retrying(&self, next_try: Instant, now: Instant) {
        self.record(What::Retrying {
            delay: next_try.saturating_duration_since(now),
        });
        let attempt = self.connection.attempt_number();
        let state = ConnectionState::Connecting {
            attempt,
            next_try: Some(next_try),
        };
        self.reporter
            .change_with(state, || EventKind::Retrying { attempt, next_try });
    }

    /// The link is closed, and no attempt is made.
    pub(super) fn tell_offline(&self) {
        self.record(What::Offline);
        self.reporter
            .change_with(ConnectionState::Offline, || EventKind::Disconnected);
    }

    /// Whether the state that was told is the one in which the connection is.
    pub(super) fn state_is_told(&self) -> bool {
        let told = self.reporter.told_state();
        match self.connection.phase() {
            Phase::Offline => told == ConnectionState::Offline,
            Phase::Waiting { .. }
            | Phase::Preparing { .. }
            | Phase::Connecting(_)
            | Phase::Greeting { .. } => told == self.waiting_state(),
            Phase::Online { .. } | Phase::Closing { .. } => told.is_online(),
        }
    }
}
