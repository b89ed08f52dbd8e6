//! The command check: one step of connecting after the other, until one fails, with the causes of that.
//!
//! The main thread runs this; `connected.rs` has the thread of the loop and that of an observer. `walk.rs` reads the
//! events, `files.rs` tells of the certificates, `causes.rs` has the causes, `report.rs` the lines.
//!
//! It harms as little as it can. It cleans no session that it has not made. A session that is there already is another
//! client's: nothing is subscribed in it, and what the broker sends from it is not acknowledged.

mod aws;
mod causes;
mod connected;
mod files;
mod limits;
mod report;
pub(crate) mod settings;
mod versions;
mod walk;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mqtt_connection_sharing::error::{Blame, Error};
use mqtt_connection_sharing::options::{Options, Security};
use mqtt_connection_sharing::{
    Client, ClientCertificate, ConnAck5, EventKind, Filter, Inbox, Outcome, Protocol, Publish, QoS,
    Reason, RejectReason, WhenFull,
};

use crate::app::answers::{self, Attempted, MadeBy};
use crate::app::demo::{Interrupt, leave_no_session};
use crate::app::events::EventOutput;
use crate::app::json::SCHEMA;
use crate::app::names::as_given;
use crate::app::signals::INTERRUPTED;
use crate::app::view::View;
use causes::{Facts, FailureSeen, causes};
use connected::{Connected, interrupted};
pub(crate) use report::CheckReport;
#[cfg(test)]
pub(crate) use report::example;
use report::{Cause, CheckLine, CheckStep, Remark, Status, milliseconds, time_text};
use settings::CheckSettings;
use walk::Walk;

/// The longest wait for a message of its own that the broker has acknowledged.
const ECHO: Duration = Duration::from_secs(5);

/// Longer than any check: messages of a session that is another client's wait unacknowledged until the end.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A step failed without an error of the connection: exit status.
const FAILED: u8 = 1;
const REFUSED: u8 = 4;

/// Runs the check. `show` gets each line for people as soon as it is there.
///
/// # Errors
/// Only where the system has no thread left; everything else is in the report.
pub(crate) fn run(
    mut options: Options,
    settings: &CheckSettings,
    interrupt: &Interrupt,
    (view, events): (&View, &Arc<EventOutput>),
    show: &mut dyn FnMut(&dyn Display),
) -> Result<CheckReport, Error> {
    options.clean_session = false;
    options.unmatched_hold = NEVER;
    // Zero has another meaning there.
    options.retry.connect_for = settings.wait.max(Duration::from_millis(1));
    (options.retry.base, options.retry.max) = (Duration::from_millis(200), Duration::from_secs(1));
    let mut ladder = Ladder::new(&options, settings, show);
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => {
            ladder.failed(CheckStep::Files, FailureSeen::Files(&error));
            return Ok(ladder.report());
        }
    };
    ladder.certificate = client.certificate();
    let line = files::line(&ladder.options, ladder.certificate.as_ref());
    ladder.push(line);
    if !settings.made_up_id {
        ladder.remark(format!(
            "a client that is connected as {:?} loses its connection now",
            ladder.options.client_id
        ));
        if ladder.options.protocol == Protocol::V5 {
            ladder.remark(
                "a session of that name ends now: with MQTT 5 a new program begins a new one"
                    .to_owned(),
            );
        }
    }
    let connected = Connected::begin(client, settings, interrupt, events)?;
    let mut is_ours = false;
    climb(&mut ladder, &connected, &mut is_ours);
    let has_lost = connected.has_lost.load(Ordering::SeqCst);
    let ended = connected.end(interrupt)?;
    if is_ours && (settings.made_up_id || !has_lost) {
        let is_clear = ladder.versions(interrupt)?;
        if !is_clear {
            leave_no_session(ended.client, interrupt, view, true, true);
        }
    } else {
        ladder.without_other_version();
    }
    if interrupt.is_requested() {
        ladder.exit_status = INTERRUPTED;
    }
    Ok(ladder.report())
}

/// The steps from the name on. `is_ours` tells whether the broker has a session now that this check has made.
fn climb(ladder: &mut Ladder<'_>, connected: &Connected, is_ours: &mut bool) -> Option<()> {
    let found = ladder.connect(connected)?;
    *is_ours = !found;
    ladder.connack = connected.handle.negotiated();
    let inbox = ladder.subscribe(connected, found)?;
    ladder.publish(connected, inbox.as_ref())?;
    ladder.session(connected, found)?;
    ladder.disconnect(connected)
}

/// The lines so far, and what the causes are made of.
struct Ladder<'a> {
    options: Options,
    settings: &'a CheckSettings,
    certificate: Option<ClientCertificate>,
    show: &'a mut dyn FnMut(&dyn Display),
    began: Instant,
    remarks: Vec<String>,
    lines: Vec<CheckLine>,
    exit_status: u8,
    /// The broker's answer to CONNECT of MQTT 5.
    connack: Option<Arc<ConnAck5>>,
    /// The earliest moment for another connection.
    next_connection: Instant,
}

impl<'a> Ladder<'a> {
    fn new(
        options: &Options,
        settings: &'a CheckSettings,
        show: &'a mut dyn FnMut(&dyn Display),
    ) -> Self {
        let mut ladder = Ladder {
            options: options.clone(),
            settings,
            certificate: None,
            show,
            began: Instant::now(),
            remarks: Vec::new(),
            lines: Vec::new(),
            exit_status: 0,
            connack: None,
            next_connection: Instant::now(),
        };
        for remark in &settings.remarks {
            ladder.remark(remark.clone());
        }
        ladder
    }

    fn has_tls(&self) -> bool {
        matches!(self.options.security, Security::Tls(_))
    }

    fn remark(&mut self, remark: String) {
        (self.show)(&Remark(&remark));
        self.remarks.push(remark);
    }

    fn push(&mut self, line: CheckLine) {
        (self.show)(&line);
        self.lines.push(line);
    }

    fn ok(&mut self, step: CheckStep, detail: impl Into<String>, time: Option<Duration>) {
        self.push(CheckLine::new(step, Status::Ok, detail).within(time));
    }

    /// The step failed with the error in `seen`.
    fn failed(&mut self, step: CheckStep, seen: FailureSeen<'_>) {
        let Some(error) = seen.error() else {
            return;
        };
        let tried = match seen {
            FailureSeen::Files(_) => format!("{}: ", error.tried()),
            _ => String::new(),
        };
        self.fails(
            step,
            format!("{tried}{}", error.problem()),
            seen,
            error.exit_status(),
        );
        if let Some(line) = self.lines.last_mut() {
            line.reason_code = error.reason_code();
        }
    }

    /// The step failed: the detail, the causes, the exit status.
    fn fails(
        &mut self,
        step: CheckStep,
        detail: impl Into<String>,
        seen: FailureSeen<'_>,
        exit_status: u8,
    ) {
        let facts = Facts {
            options: &self.options,
            certificate: self.certificate.as_ref(),
            topic: self.settings.topic.as_deref().unwrap_or_default(),
            qos: self.settings.qos,
        };
        let told = |text: &str| as_given(text).into_owned();
        let mut line = CheckLine::new(step, Status::Failed, told(&detail.into()));
        let found = causes(seen, &facts).into_iter();
        let named = found.map(|cause| Cause {
            cause: told(&cause.cause),
            remedy: told(&cause.remedy),
            command: cause.command,
        });
        line.causes = named.collect();
        self.exit_status = exit_status;
        self.push(line);
    }

    /// Connections keep their distance from now on.
    fn has_connected(&mut self) {
        self.next_connection = Instant::now() + self.options.connect_interval;
    }

    /// The step failed because the broker refused the command, or has stated a limit that the command exceeds.
    fn refused(&mut self, asked: Attempted, topic: &str, outcome: &Outcome) {
        let (step, what) = match asked {
            Attempted::Subscribe(_) => (CheckStep::Subscribe, "the subscription to"),
            Attempted::Publish(_) => (CheckStep::Publish, "the message to"),
        };
        let detail = match outcome {
            Outcome::NeverSent(_) => format!("{what} {topic:?} was {outcome}"),
            _ => match outcome.answer() {
                Some(answer) => format!("the broker refuses {what} {topic:?} with {answer}"),
                None => format!("the broker refuses {what} {topic:?}"),
            },
        };
        self.fails(step, detail, FailureSeen::Refused(asked, outcome), REFUSED);
        if let Some(line) = self.lines.last_mut() {
            line.reason_code = answers::reason_code(outcome);
        }
    }

    /// The lines of both versions, where all steps are well. The other one is tried, which also ends the session of the
    /// check. Returns whether it did.
    fn versions(&mut self, interrupt: &Interrupt) -> Result<bool, Error> {
        let is_well = self.lines.iter().all(|line| line.status != Status::Failed);
        if !is_well || interrupt.is_requested() {
            return Ok(false);
        }
        let version = self.options.protocol;
        let (line, is_clear) = versions::try_other(
            &self.options,
            versions::other(version),
            self.next_connection,
            interrupt,
        )?;
        let own = versions::spoken(version, self.connack.as_deref());
        self.both(own, line);
        Ok(is_clear)
    }

    /// The lines of both versions, where all steps are well and there is a session that the check has to leave alone.
    fn without_other_version(&mut self) {
        if self.lines.iter().any(|line| line.status == Status::Failed) {
            return;
        }
        let version = self.options.protocol;
        let own = versions::spoken(version, self.connack.as_deref());
        let reason = "it would end the session that is there; another --client-id has none";
        self.both(own, versions::not_tried(versions::other(version), reason));
    }

    /// MQTT 5 first.
    fn both(&mut self, own: CheckLine, other: CheckLine) {
        let lines = match self.options.protocol {
            Protocol::V5 => [own, other],
            _ => [other, own],
        };
        for line in lines {
            self.push(line);
        }
    }

    /// Up to CONNACK. Returns whether the broker had a session already.
    fn connect(&mut self, connected: &Connected) -> Option<bool> {
        let mut walk = Walk::new(&self.options.host);
        let has_tls = self.has_tls();
        let is_patient = !self.settings.wait.is_zero();
        let mut says_that_it_waits = is_patient;
        // The lines of the last attempt that failed.
        let mut failure = None;
        while let Ok(event) = connected.events.recv() {
            walk.take(&event);
            match &event.kind {
                EventKind::Connected { .. } => {
                    failure = None;
                    break;
                }
                EventKind::AttemptFailed { error } => {
                    failure = Some((walk.told(has_tls, Some(error)), error.clone()));
                    if !is_patient {
                        break;
                    }
                }
                EventKind::Retrying { .. } if says_that_it_waits => {
                    says_that_it_waits = false;
                    let why = failure.as_ref().map_or("", |(_, error)| error.problem());
                    let wait = humantime::format_duration(self.settings.wait);
                    self.remark(format!(
                        "waiting up to {wait} for the broker: {}",
                        as_given(why)
                    ));
                }
                _ => {}
            }
        }
        let (lines, failed) = match (failure, walk.session_present) {
            (Some((told, _)), _) => told,
            (None, Some(_)) => walk.told(has_tls, None),
            (None, None) => walk.told(has_tls, Some(&interrupted("connecting"))),
        };
        for line in lines {
            self.push(line);
        }
        if let Some((step, error)) = failed {
            let seen = match step {
                CheckStep::Name => FailureSeen::Name(&error),
                CheckStep::Tcp => FailureSeen::Tcp(&error),
                CheckStep::Tls => FailureSeen::Tls(&error),
                _ => FailureSeen::Connect(&error),
            };
            self.failed(step, seen);
            return None;
        }
        let found = walk.session_present?;
        self.has_connected();
        let id = &self.options.client_id;
        let session = match found {
            true => "a session of that name is there, and is left alone",
            false => "a new session",
        };
        let attempts = match walk.failed_before {
            0 => String::new(),
            before => format!(", attempt {}", before + 1),
        };
        self.ok(
            CheckStep::Connect,
            format!("accepted as {id:?}{attempts}; {session}"),
            walk.answered_within(),
        );
        Some(found)
    }

    fn subscribe(&mut self, connected: &Connected, found: bool) -> Option<Option<Inbox>> {
        let Some(topic) = self.settings.topic.clone() else {
            self.push(CheckLine::new(
                CheckStep::Subscribe,
                Status::Skipped,
                "not tried: no --topic is given",
            ));
            return Some(None);
        };
        if found {
            self.push(CheckLine::new(
                CheckStep::Subscribe,
                Status::Skipped,
                "not tried: it would change the session that is there; another --client-id has none",
            ));
            return Some(None);
        }
        let began = Instant::now();
        let inbox = connected.handle.inbox(100, WhenFull::DropOldest);
        let filter = Filter::new(topic.clone(), self.settings.qos);
        let outcome = match connected.handle.subscribe(&inbox, vec![filter]) {
            Ok(ticket) => ticket.wait(),
            Err(rejected) => {
                self.not_queued(CheckStep::Subscribe, connected, &rejected.reason);
                return None;
            }
        };
        match outcome {
            Outcome::Delivered { granted, .. } => {
                let asked = self.settings.qos;
                let granted = granted.first().copied().unwrap_or(asked);
                let mut line = CheckLine::new(
                    CheckStep::Subscribe,
                    Status::Ok,
                    format!("{topic:?}, QoS {}", level(granted)),
                );
                if granted < asked {
                    let (granted, asked) = (level(granted), level(asked));
                    line.remarks.push(format!(
                        "granted with QoS {granted}, and {asked} was asked for"
                    ));
                }
                self.push(line.within(Some(began.elapsed())));
                Some(Some(inbox))
            }
            outcome if answers::is_refused(&outcome) => {
                self.refused(Attempted::Subscribe(MadeBy::Check), &topic, &outcome);
                None
            }
            other => {
                let error = connected.loss(&other);
                self.failed(CheckStep::Subscribe, FailureSeen::LostSubscribing(&error));
                None
            }
        }
    }

    fn publish(&mut self, connected: &Connected, inbox: Option<&Inbox>) -> Option<()> {
        let Some(topic) = self.settings.topic.clone() else {
            self.push(CheckLine::new(
                CheckStep::Publish,
                Status::Skipped,
                "not tried: no --topic is given",
            ));
            return Some(());
        };
        let payload = self.settings.payload();
        let message = Publish::new(topic.clone(), self.settings.qos, payload.clone());
        let began = Instant::now();
        let outcome = match connected.handle.publish(message) {
            Ok(ticket) => ticket.wait(),
            Err(rejected) => {
                self.not_queued(CheckStep::Publish, connected, &rejected.reason);
                return None;
            }
        };
        if answers::is_refused(&outcome) {
            self.refused(Attempted::Publish(MadeBy::Check), &topic, &outcome);
            return None;
        }
        if matches!(outcome, Outcome::PerhapsDelivered(Reason::AnsweredAsQos1)) {
            let detail = format!("{topic:?}: the broker answered QoS 2 with PUBACK, as for QoS 1");
            let seen = FailureSeen::AnsweredAsQos1;
            self.fails(CheckStep::Publish, detail, seen, FAILED);
            return None;
        }
        if !outcome.is_delivered() {
            let error = connected.loss(&outcome);
            self.failed(CheckStep::Publish, FailureSeen::LostPublishing(&error));
            return None;
        }
        let acknowledged = match self.settings.qos {
            QoS::AtMostOnce => "sent".to_owned(),
            _ => format!("acknowledged after {}", short(began.elapsed())),
        };
        let Some(inbox) = inbox else {
            let detail =
                format!("{topic:?}: {acknowledged}; not subscribed, so nothing comes back");
            self.ok(CheckStep::Publish, detail, Some(began.elapsed()));
            return Some(());
        };
        let deadline = Instant::now() + ECHO;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match inbox.recv_timeout(left) {
                Ok(message) if message.payload() == payload.as_bytes() => break,
                Ok(_) => {}
                Err(problem) if !problem.is_end() && !left.is_zero() => {}
                Err(problem) if problem.is_end() => {
                    let error = connected.loss(&outcome);
                    self.failed(CheckStep::Publish, FailureSeen::LostPublishing(&error));
                    return None;
                }
                Err(_) => {
                    let detail = format!(
                        "{topic:?}: {acknowledged}, and it did not come back within {} s",
                        ECHO.as_secs()
                    );
                    self.fails(CheckStep::Publish, detail, FailureSeen::NoEcho, FAILED);
                    return None;
                }
            }
        }
        let round_trip = began.elapsed();
        let detail = format!(
            "{topic:?}: {acknowledged}, back after {}",
            short(round_trip)
        );
        self.ok(CheckStep::Publish, detail, Some(round_trip));
        Some(())
    }

    /// A second connection has to find the session of the first.
    fn session(&mut self, connected: &Connected, found: bool) -> Option<()> {
        if found {
            self.ok(
                CheckStep::Session,
                "this connection found the one of an earlier client",
                None,
            );
            return Some(());
        }
        let is_kept = self.options.protocol != Protocol::V5
            || !self.options.version5.session_expiry.is_zero();
        if !is_kept {
            self.push(CheckLine::new(
                CheckStep::Session,
                Status::Skipped,
                "not tried: --session-expiry 0 asks for none that lasts",
            ));
            return Some(());
        }
        let began = Instant::now();
        drop(connected.handle.reconnect());
        let next = connected.next_connection();
        self.has_connected();
        match next {
            Ok(true) => {
                self.ok(
                    CheckStep::Session,
                    "a second connection found it",
                    Some(began.elapsed()),
                );
                Some(())
            }
            Ok(false) => {
                let detail = "the broker did not keep the session: a second connection found none";
                self.fails(CheckStep::Session, detail, FailureSeen::NoSession, FAILED);
                None
            }
            Err(error) => {
                self.failed(CheckStep::Session, FailureSeen::Lost(&error));
                None
            }
        }
    }

    fn disconnect(&mut self, connected: &Connected) -> Option<()> {
        let began = Instant::now();
        let outcome = connected.handle.disconnect().wait();
        if outcome.is_delivered() {
            self.ok(CheckStep::Disconnect, "done", Some(began.elapsed()));
            return Some(());
        }
        let error = connected.loss(&outcome);
        self.failed(CheckStep::Disconnect, FailureSeen::Lost(&error));
        None
    }

    /// The library did not take the command.
    fn not_queued(&mut self, step: CheckStep, connected: &Connected, reason: &RejectReason) {
        if *reason == RejectReason::Terminated {
            // The observer has ended the loop, because the connection was lost before.
            let error = connected.loss(reason);
            return self.failed(step, FailureSeen::Lost(&error));
        }
        let error = Error::new(
            Blame::Configuration,
            format!("trying {}", step.name()),
            reason.to_string(),
            "give another --topic",
        );
        self.failed(step, FailureSeen::Files(&error));
    }

    fn report(self) -> CheckReport {
        let stopped = self.lines.iter().find(|line| line.status == Status::Failed);
        let stopped_at = stopped.map(|line| line.step);
        CheckReport {
            schema: SCHEMA,
            endpoint: self.options.address(),
            client_id: self.options.client_id.clone(),
            success: stopped_at.is_none(),
            stopped_at,
            remarks: self.remarks,
            steps: self.lines,
            elapsed_ms: milliseconds(self.began.elapsed()),
            exit_status: self.exit_status,
        }
    }
}

/// The number of a quality of service.
fn level(qos: QoS) -> u8 {
    match qos {
        QoS::AtMostOnce => 0,
        QoS::AtLeastOnce => 1,
        QoS::ExactlyOnce => 2,
    }
}

fn short(time: Duration) -> String {
    time_text(milliseconds(time))
}
