//! The connection's way from offline to online and back: where it is, and when it goes on.
//!
//! Offline by request, waiting for the next attempt, preparing it, connecting, greeting (CONNECT is out), online,
//! closing. An attempt goes on with the next address of the name after any failure before CONNACK; CONNACK
//! is an answer and ends it, whatever it says. An attempt that failed counts towards the limits of time and of
//! attempts, and so does a link that is lost soon and without any acknowledgment on it. After any other
//! loss the loop makes a new link; the delays start over only after one had been up for a while. The
//! connection decides and times; the loop's thread asks it, and `reconnect.rs` does what it says.

use std::time::{Duration, Instant};

use super::Client;
use super::losses::{LASTING, Losses};
use super::prepare::{self, Preparation, Prepared};
use super::violations::Violations;
use crate::client::ticket::Completions;
use crate::error::Error;
use crate::link::Link;
use crate::link::backoff::Backoff;
use crate::link::connect::{Attempt, AttemptProgress};
use crate::link::readiness::Readiness;
use crate::link::resolve::Resolver;
use crate::link::steps::AttemptStep;
use crate::mqtt::session::{FirstUnanswered, LinkLoss, Outcome};
use crate::options::NextAttempt;

/// Bytes that a link has to take in each acknowledgment time-out, so that DISCONNECT behind them is not late.
const LEAST_BYTES: usize = 1024;

/// How long the broker may take to close its side after DISCONNECT.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// Where the connection is, and what it needs for the next attempt.
pub(super) struct Connection {
    phase: Phase,
    backoff: Backoff,
    losses: Losses,
    violations: Violations,
    resolver: Resolver,
    clean_session: bool,
    /// Why there is no connection, as long as it is tried again.
    last_failure: Option<Error>,
    /// Why new credentials, certificates or keys were not taken, until the loop has told it.
    problems: Vec<Error>,
}

/// Where the connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// A thread asked for DISCONNECT.
    Offline,
    /// The next attempt starts at this time, or the one under way goes on with its next address.
    Waiting {
        until: Instant,
        attempt: Option<Box<Attempt>>,
    },
    /// An attempt has begun with what it needs first (`prepare.rs`). It goes on without by this time.
    Preparing {
        deadline: Instant,
    },
    Connecting(Box<Attempt>),
    /// CONNECT is out; CONNACK has to come by this time. Else the attempt goes on.
    Greeting {
        deadline: Instant,
        attempt: Option<Box<Attempt>>,
    },
    Online {
        since: Instant,
    },
    /// DISCONNECT is on its way; once it is out (`finished`) the broker closes its side. Both have to be done by the
    /// deadline.
    Closing {
        deadline: Instant,
        /// Bytes that waited for the link when the deadline was set.
        unsent: usize,
        finished: bool,
        done: Completions,
    },
}

/// The loop's next step to move the connection on.
pub(super) enum NextStep {
    Nothing,
    /// An attempt has begun.
    Began,
    /// The attempt is prepared, or goes on with its next address.
    GoesOn,
    /// A link is there; CONNACK has to come by this time.
    Linked(Box<dyn Link>, Instant),
    Failed(Error),
    /// CONNACK is late, unless it came and was not read yet.
    AnswerIsLate,
    /// DISCONNECT is out: nothing more will be written.
    Finish,
    /// The broker has not closed its side in time, unless that was not seen yet.
    ClosingIsLate,
}

impl Connection {
    pub(super) fn new(
        client: &Client,
        clean_session: bool,
        resolver: Resolver,
        now: Instant,
    ) -> Self {
        Connection {
            // The loop before this one may have connected just now.
            phase: Phase::Waiting {
                until: client.next_connect(now),
                attempt: None,
            },
            backoff: client.backoff(),
            losses: Losses::default(),
            violations: Violations::default(),
            resolver,
            clean_session,
            last_failure: None,
            problems: Vec::new(),
        }
    }

    /// Finds out what comes next. Of the session it wants to know whether all of its bytes are out.
    pub(super) fn advance(
        &mut self,
        client: &mut Client,
        readiness: &Readiness,
        output_is_empty: bool,
        now: Instant,
    ) -> NextStep {
        match &mut self.phase {
            Phase::Offline | Phase::Online { .. } => NextStep::Nothing,
            Phase::Waiting { until, attempt } if *until <= now => {
                if let Some(attempt) = attempt.take() {
                    self.phase = Phase::Connecting(attempt);
                    return NextStep::GoesOn;
                }
                match self.begin(client, now) {
                    Ok(()) => NextStep::Began,
                    Err(error) => NextStep::Failed(error),
                }
            }
            Phase::Waiting { .. } => NextStep::Nothing,
            Phase::Preparing { deadline } => {
                let late = (*deadline <= now).then(|| Prepared::late(&client.options));
                let done = client.preparer.poll();
                let done =
                    done.map(|it| it.unwrap_or_else(|_| Prepared::panicked(&client.options)));
                let Some(prepared) = done.or(late) else {
                    return NextStep::Nothing;
                };
                match self.prepared(client, prepared, now) {
                    Ok(()) => NextStep::GoesOn,
                    Err(error) => NextStep::Failed(error),
                }
            }
            Phase::Connecting(attempt) => {
                let connector = client.connector.as_ref();
                let resolver = &mut self.resolver;
                match attempt.poll(&client.options, connector, resolver, readiness, now) {
                    AttemptProgress::Pending => NextStep::Nothing,
                    AttemptProgress::Done(link, deadline) => NextStep::Linked(link, deadline),
                    AttemptProgress::Failed(error) => NextStep::Failed(error),
                }
            }
            Phase::Greeting { deadline, .. } if *deadline <= now => NextStep::AnswerIsLate,
            Phase::Greeting { .. } => NextStep::Nothing,
            Phase::Closing { deadline, .. } if *deadline <= now => NextStep::ClosingIsLate,
            Phase::Closing {
                deadline, finished, ..
            } if !*finished && output_is_empty => {
                *finished = true;
                *deadline = (*deadline).min(now + CLOSING_TIME);
                NextStep::Finish
            }
            Phase::Closing { .. } => NextStep::Nothing,
        }
    }

    /// Begins an attempt, with what it needs first.
    fn begin(&mut self, client: &mut Client, now: Instant) -> Result<(), Error> {
        self.backoff.begin(now);
        let next = NextAttempt::new(self.backoff.failures(), self.last_failure.clone());
        let connector = client.connector.as_ref();
        let Some(preparation) = Preparation::of(&client.options, connector, next) else {
            return self.connect(client, now);
        };
        let on_done = self.resolver.on_done();
        let started = client
            .preparer
            .start(move || preparation.run(), move || on_done());
        started.map_err(|error| prepare::no_thread(&client.options, error))?;
        self.phase = Phase::Preparing {
            deadline: now + client.options.connect_timeout,
        };
        Ok(())
    }

    /// The attempt has what it needs, or has to do with what was there before.
    fn prepared(
        &mut self,
        client: &mut Client,
        prepared: Prepared,
        now: Instant,
    ) -> Result<(), Error> {
        self.problems = client.take(prepared)?;
        self.connect(client, now)
    }

    fn connect(&mut self, client: &Client, now: Instant) -> Result<(), Error> {
        // Where links are accepted and lost again and again, another address may do better.
        let first = client.last_address.filter(|_| self.backoff.failures() < 2);
        let attempt = Attempt::start(&client.options, &mut self.resolver, first, now)?;
        self.phase = Phase::Connecting(Box::new(attempt));
        Ok(())
    }

    /// Why new credentials, certificates or keys were not taken, unless it was told.
    pub(super) fn take_problems(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.problems)
    }

    /// Waits for the next attempt, at this time at the earliest. Returns the time.
    pub(super) fn wait(&mut self, at: Instant, client: &Client) -> Instant {
        let until = client.next_connect(at);
        self.phase = Phase::Waiting {
            until,
            attempt: None,
        };
        until
    }

    /// CONNECT is out, and CONNACK has to come by this time.
    pub(super) fn greet(&mut self, deadline: Instant) {
        let attempt = self.take_attempt();
        self.phase = Phase::Greeting { deadline, attempt };
    }

    /// The link went, or has to go, before CONNACK. The attempt goes on with the next address once CONNECTs are
    /// far enough apart; if none is left, returns the error of the attempt, and its last steps.
    pub(super) fn next_address(
        &mut self,
        error: Error,
        client: &Client,
        now: Instant,
    ) -> Option<(Error, Vec<(Instant, AttemptStep)>)> {
        let Some(mut attempt) = self.take_attempt() else {
            return Some((error, Vec::new()));
        };
        if let Some(failed) = attempt.next_address(error) {
            return Some((failed, attempt.take_steps()));
        }
        self.phase = Phase::Waiting {
            until: client.next_connect(now),
            attempt: Some(attempt),
        };
        None
    }

    /// The attempt under way.
    fn take_attempt(&mut self) -> Option<Box<Attempt>> {
        match std::mem::replace(&mut self.phase, Phase::Offline) {
            Phase::Connecting(attempt) => Some(attempt),
            Phase::Waiting { attempt, .. } | Phase::Greeting { attempt, .. } => attempt,
            Phase::Offline
            | Phase::Preparing { .. }
            | Phase::Online { .. }
            | Phase::Closing { .. } => None,
        }
    }

    /// The attempt whose link is there.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        match &self.phase {
            Phase::Greeting { attempt, .. } => attempt.as_deref(),
            _ => None,
        }
    }

    /// The steps of the attempt that were not told yet, and when each was taken.
    pub(super) fn take_steps(&mut self) -> Vec<(Instant, AttemptStep)> {
        match &mut self.phase {
            Phase::Connecting(attempt) => attempt.take_steps(),
            Phase::Waiting { attempt, .. } | Phase::Greeting { attempt, .. } => {
                attempt.as_mut().map_or(Vec::new(), |it| it.take_steps())
            }
            Phase::Offline
            | Phase::Preparing { .. }
            | Phase::Online { .. }
            | Phase::Closing { .. } => Vec::new(),
        }
    }

    /// Which attempt is under way, or comes next, from 1.
    pub(super) fn attempt_number(&self) -> u32 {
        self.backoff.failures().saturating_add(1)
    }

    /// A thread asks for a new link: waits for the next attempt, with patience from then on.
    pub(super) fn start_over(&mut self, now: Instant, client: &Client) {
        self.backoff.start_over();
        self.last_failure = None;
        self.wait(now, client);
    }

    /// CONNACK came.
    pub(super) fn go_online(&mut self, now: Instant) {
        self.backoff.connected();
        self.last_failure = None;
        self.phase = Phase::Online { since: now };
    }

    /// No attempt is made until a thread asks for one.
    pub(super) fn go_offline(&mut self) {
        self.last_failure = None;
        self.phase = Phase::Offline;
    }

    /// DISCONNECT is on its way, with so many bytes to be sent. It has to be out, and the link closed, by this time.
    pub(super) fn close(&mut self, deadline: Instant, unsent: usize, done: Completions) {
        self.phase = Phase::Closing {
            deadline,
            unsent,
            finished: false,
            done,
        };
    }

    /// If DISCONNECT is on its way, it has to be out, and the link closed, by this time.
    pub(super) fn close_by(&mut self, time: Instant) {
        if let Phase::Closing { deadline, .. } = &mut self.phase {
            *deadline = (*deadline).min(time);
        }
    }

    /// DISCONNECT is late. Gives it time again if the link took some of the bytes before it meanwhile.
    pub(super) fn closes_slowly(&mut self, still_unsent: usize, until: Instant) -> bool {
        match &mut self.phase {
            Phase::Closing {
                deadline,
                unsent,
                finished: false,
                ..
            } if still_unsent + LEAST_BYTES <= *unsent => {
                (*deadline, *unsent) = (until, still_unsent);
                true
            }
            _ => false,
        }
    }

    /// Has another DISCONNECT end with the one that is on its way. Gives it back if there is none.
    pub(super) fn join_closing(&mut self, done: Completions) -> Option<Completions> {
        match &mut self.phase {
            Phase::Closing { done: all, .. } => {
                all.append(done);
                None
            }
            _ => Some(done),
        }
    }

    /// The link is closed that DISCONNECT went out on, if one did.
    pub(super) fn closed(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Offline);
        if let Phase::Closing { done, finished, .. } = phase {
            done.tell(&Outcome::delivered(u32::from(finished), Duration::ZERO));
        }
    }

    /// An attempt failed. Returns how long to wait before the next one, or `None` if that is pointless.
    pub(super) fn delay_after_failure(&mut self, error: &Error, now: Instant) -> Option<Duration> {
        match error.is_permanent() {
            true => None,
            false => self.backoff.after_failure(now),
        }
    }

    /// The error of the last attempt, with how often and how long it was tried. A permanent error needs neither.
    pub(super) fn gave_up(&self, error: Error, now: Instant) -> Error {
        match error.is_permanent() {
            true => error,
            false => error.last_of(&self.backoff.in_vain(now)),
        }
    }

    /// An attempt failed, or a link is lost, and there will be another attempt.
    pub(super) fn keep_failure(&mut self, error: Error) {
        self.last_failure = Some(error);
    }

    /// Why there is no connection although one is wanted: the last failure, with how often and how long it was
    /// tried, or what the first attempt waits for.
    pub(super) fn trouble(&self, client: &Client, now: Instant) -> Option<Error> {
        let under_way = match &self.phase {
            Phase::Offline | Phase::Online { .. } | Phase::Closing { .. } => return None,
            Phase::Preparing { .. } => None,
            Phase::Connecting(attempt) => Some(attempt),
            Phase::Waiting { attempt, .. } | Phase::Greeting { attempt, .. } => attempt.as_ref(),
        };
        let is_preparing = matches!(self.phase, Phase::Preparing { .. });
        match &self.last_failure {
            Some(error) if self.backoff.failures() > 0 => Some(self.gave_up(error.clone(), now)),
            Some(error) => Some(error.clone()),
            None => {
                let elapsed = self.backoff.elapsed(now);
                if is_preparing {
                    return Some(prepare::under_way(&client.options, elapsed));
                }
                under_way?.so_far(&client.options, client.connector.as_ref(), elapsed)
            }
        }
    }

    /// A link is lost that lasted so long, with this unanswered. Returns the line about it.
    pub(super) fn lost(
        &mut self,
        address: &str,
        loss: &LinkLoss,
        lasted: Duration,
        unanswered: Option<FirstUnanswered>,
    ) -> Error {
        self.losses.lost(address, loss, lasted, unanswered)
    }

    /// A link is lost that lasted so long. If the broker broke the protocol, returns how many links have ended in the
    /// same error, else 0.
    pub(super) fn count_violation(&mut self, loss: &LinkLoss, lasted: Duration) -> u32 {
        self.violations.link_lost(lasted);
        match loss {
            LinkLoss::Protocol(error) => self.violations.count(error),
            _ => 0,
        }
    }

    /// A link is lost that lasted so long. Returns how long to wait before the next attempt, or `None` if
    /// that is pointless.
    pub(super) fn delay_after_loss(
        &mut self,
        loss: &LinkLoss,
        made_progress: bool,
        lasted: Duration,
        now: Instant,
    ) -> Option<Duration> {
        if lasted >= LASTING {
            self.backoff.reset();
        }
        // Nothing failed; CONNECTs keep their distance all the same.
        if lasted >= LASTING || *loss == LinkLoss::LeftWithBroker {
            Some(Duration::ZERO)
        } else if made_progress {
            self.backoff.start_over();
            Some(self.backoff.next_delay())
        } else {
            // As good as an attempt that failed: it may go on like this for ever.
            self.backoff.after_failure(now)
        }
    }

    /// When [`Connection::advance`] has to be called again at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Offline | Phase::Online { .. } => None,
            Phase::Waiting { until, .. } => Some(*until),
            Phase::Connecting(attempt) => attempt.deadline(),
            Phase::Preparing { deadline }
            | Phase::Greeting { deadline, .. }
            | Phase::Closing { deadline, .. } => Some(*deadline),
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(super) fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting { .. })
    }

    pub(super) fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online { .. })
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// Whether CONNECT asks the broker to forget the session.
    pub(super) fn clean_session(&self) -> bool {
        self.clean_session
    }
}

#[cfg(test)]
mod tests;
