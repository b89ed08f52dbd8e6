//! From offline to online and back: what the loop does when the connection moves on, when a link comes
//! up, fails or is lost, and at RECONNECT.
//!
//! `connection.rs` knows where the connection is and decides when it goes on; `advice.rs` says what went
//! wrong. This file connects them with the wire, the session and the requests. The loop's thread.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::Agent;
use super::advice;
use super::connection::{NextStep, Phase};
use super::violations;
use super::words5;
use crate::client::events::{ConnectionState, EventKind};
use crate::client::recording::{Loss, What};
use crate::client::ticket::Completions;
use crate::error::{Blame, Error};
use crate::link::Link;
use crate::link::connect::Attempt;
use crate::link::plain;
use crate::link::steps::AttemptStep;
use crate::link::tls;
use crate::mqtt::packet::{ConnAck5, Connect, ConnectReturnCode, ReasonCode};
use crate::mqtt::session::{LinkEnd, LinkLoss, Outcome, Reason};
use crate::mqtt::v4;

impl Agent {
    /// Moves the connection on if it is time.
    pub(super) fn advance_connection(&mut self, now: Instant) -> bool {
        let output_is_empty = self.session.output().is_empty();
        let readiness = self.wire.readiness();
        let connection = &mut self.connection;
        let step = connection.advance(&mut self.client, readiness, output_is_empty, now);
        if let NextStep::Began = step {
            self.tell_attempt();
        }
        self.tell_problems();
        self.tell_steps();
        match step {
            NextStep::Nothing => return false,
            NextStep::Began | NextStep::GoesOn => {}
            NextStep::Linked(link, deadline) => self.greet(link, deadline, now),
            NextStep::Failed(error) => self.attempt_failed(error, now),
            NextStep::AnswerIsLate => {
                self.read_the_rest(now);
                if self.connection.is_greeting() {
                    self.drop_link(now);
                    self.address_failed(advice::unanswered(&self.client), now);
                }
            }
            NextStep::Finish => self.wire.finish(),
            NextStep::ClosingIsLate => {
                self.read_the_rest(now);
                let unsent = self.session.output().len();
                let until = now + self.client.options.ack_timeout;
                let connection = &mut self.connection;
                // TERMINATE sets a time that holds.
                let is_over = self.requests.is_ending() || !connection.closes_slowly(unsent, until);
                if is_over && connection.is_closing() {
                    self.closed(now);
                }
            }
        }
        true
    }

    /// CONNACK came.
    pub(super) fn connected(&mut self, session_present: bool, resubscribing: usize, now: Instant) {
        let attempt = self.connection.attempt();
        let told = attempt.and_then(Attempt::told_address);
        let address = attempt.and_then(Attempt::reached);
        let tls = attempt.and_then(Attempt::tls);
        self.client.accepted(address);
        let negotiated = self.session.negotiated().cloned().map(Arc::new);
        let assigned = negotiated
            .as_ref()
            .and_then(|it| it.assigned_client_id.clone());
        self.client.assign_client_id(assigned);
        self.connection.go_online(now);
        self.meter.online.start(now);
        let again = self.meter.connects.get() > 0;
        if session_present && !again {
            // Of an earlier loop or process. The threads of this one may not have subscribed yet.
            self.hold_unmatched(now);
        }
        self.meter.connects.add(1);
        self.record(What::Connected { session_present });
        if again {
            self.meter.reconnects.add(1);
            self.meter.resumed.add(u64::from(session_present));
            self.meter.resubscribed.add(resubscribing as u64);
        }
        log::info!(
            "{} to {}{} as {:?}, session {}{}",
            if again { "reconnected" } else { "connected" },
            self.client.options.address(),
            told.map_or(String::new(), |address| format!(" ({address})")),
            self.client.client_id(),
            if session_present { "resumed" } else { "new" },
            match resubscribing {
                0 => String::new(),
                1 => ", renewing 1 subscription".to_owned(),
                n => format!(", renewing {n} subscriptions"),
            },
        );
        let clean_session = self.connection.clean_session();
        let shorter = negotiated
            .as_ref()
            .and_then(|connack| words5::shorter_session(&self.client, clean_session, connack));
        if let Some(line) = shorter.filter(|_| !again) {
            log::warn!("{line}");
        }
        let state = ConnectionState::Online {
            session_present,
            address,
            tls,
            since: now,
            negotiated,
        };
        self.reporter.change_with(state, || EventKind::Connected {
            session_present,
            address,
            renewing: resubscribing,
        });
        let connected = Outcome::delivered(1, Duration::ZERO);
        self.requests.end_reconnects(&connected);
    }

    /// The broker answered CONNECT with no.
    pub(super) fn refused(&mut self, code: ConnectReturnCode, now: Instant) {
        self.drop_link(now);
        self.reporter
            .tell(|| EventKind::Refused { code: code as u8 });
        let refusal = advice::refusal(&self.client, code);
        let refusal = match self.connection.attempt() {
            Some(attempt) => attempt.named(refusal),
            None => refusal,
        };
        self.attempt_failed(refusal, now);
    }

    /// The broker answered CONNECT of MQTT 5 with no.
    pub(super) fn refused5(&mut self, connack: &ConnAck5, now: Instant) {
        self.drop_link(now);
        let code = connack.code.value();
        self.reporter.tell(|| EventKind::Refused { code });
        let refusal = words5::refusal5(&self.client, connack);
        let refusal = match self.connection.attempt() {
            Some(attempt) => attempt.named(refusal),
            None => refusal,
        };
        self.attempt_failed(refusal, now);
    }

    /// Reading or writing failed. Before CONNACK it may be the broker's verdict on our certificate, which
    /// TLS 1.3 delivers only now.
    pub(super) fn link_failed(&mut self, error: io::Error, now: Instant) {
        if self.connection.is_greeting()
            && let Some(connector) = &self.client.connector
            && let Some(told) = tls::alert_error(&error, &self.client.options, connector)
        {
            self.drop_link(now);
            self.address_failed(told.with_source(error), now);
            return;
        }
        let loss = match error.kind() {
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => LinkLoss::Network(plain(&error)),
            _ => LinkLoss::Reset(plain(&error)),
        };
        self.lose_link(loss, Some(error), now);
    }

    /// The link is gone, or has to go.
    pub(super) fn link_lost(&mut self, loss: LinkLoss, now: Instant) {
        self.lose_link(loss, None, now);
    }

    fn lose_link(&mut self, loss: LinkLoss, cause: Option<io::Error>, now: Instant) {
        let with_cause = |error: Error| match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        };
        if loss == LinkLoss::LeftWithBroker {
            self.take_leave();
        }
        let unanswered = self.session.first_unanswered();
        self.end_link(loss.end(), now);
        match *self.connection.phase() {
            Phase::Greeting { .. } => {
                let error = advice::lost_before_connack(&self.client, &loss);
                self.address_failed(with_cause(error), now);
            }
            Phase::Online { since } => {
                self.meter.losses.add(1);
                let lasted = now.saturating_duration_since(since);
                let address = self.client.options.address();
                let error = self.connection.lost(&address, &loss, lasted, unanswered);
                let progress = self.session.made_progress();
                let delay = self
                    .connection
                    .delay_after_loss(&loss, progress, lasted, now);
                let times = self.connection.count_violation(&loss, lasted);
                let retry = self.client.options.retry;
                let (error, delay) = if was_taken_over(&loss) {
                    // The other client would be thrown out in its turn, and so on.
                    (error.permanent(), None)
                } else if times < violations::ENOUGH {
                    (with_cause(error), delay)
                } else {
                    let error = advice::on_so_many_links(&error, &loss, times);
                    match retry.has_no_limit() {
                        true => (error, Some(retry.max)),
                        false => (error.permanent(), None),
                    }
                };
                self.record(What::Lost {
                    loss: Loss::from(&loss),
                });
                if let LinkLoss::Disconnected(said) = &loss {
                    let advice = words5::advice(said.code);
                    self.reporter.tell(|| EventKind::BrokerDisconnected {
                        disconnect: said.clone(),
                        advice,
                    });
                }
                self.tell_lost(&error, lasted);
                self.try_again(error, delay, now);
            }
            Phase::Closing { .. } => self.closed(now),
            Phase::Offline
            | Phase::Waiting { .. }
            | Phase::Preparing { .. }
            | Phase::Connecting(_) => {}
        }
    }

    /// Gives the present link or attempt up and makes a new one at once (RECONNECT).
    pub(super) fn reconnect(&mut self, done: Completions, now: Instant) {
        if self.requests.is_ending() {
            done.tell(&Outcome::Cancelled(Reason::Terminated));
            return;
        }
        log::info!("RECONNECT to {}", self.client.options.address());
        if self.connection.is_online() {
            let loss = Loss::Reconnect;
            self.record(What::Lost { loss });
        }
        self.drop_link(now);
        // A DISCONNECT that was on its way, or still waited for commands before it, has what it wanted.
        self.connection.closed();
        self.go_offline_if_due(now);
        self.requests.reconnect(done);
        self.connection.start_over(now, &self.client);
        let state = self.waiting_state();
        self.reporter.change_with(state, || EventKind::Reconnecting);
    }

    /// DISCONNECT on a link that is closed on purpose and has nothing else to send: else the broker would
    /// publish the last will. If it does not fit, the broker takes the link for lost.
    fn take_leave(&mut self) {
        let mut goodbye = BytesMut::new();
        v4::encode_disconnect(&mut goodbye);
        let before = self.wire.bytes_written();
        self.wire.write_last(&goodbye);
        let bytes = self.wire.bytes_written() - before;
        self.record_write(bytes as usize);
    }

    /// Closes the link without a word.
    pub(super) fn drop_link(&mut self, now: Instant) {
        self.end_link(LinkEnd::Otherwise, now);
    }

    fn end_link(&mut self, end: LinkEnd, now: Instant) {
        self.wire.drop_link();
        self.meter.online.stop(now);
        self.session.handle_link_lost(end, now);
        self.record_packets();
    }

    /// The link that DISCONNECT went out on is closed.
    pub(super) fn closed(&mut self, now: Instant) {
        self.drop_link(now);
        self.connection.closed();
        self.tell_offline();
    }

    /// A link is there: CONNECT goes out.
    pub(super) fn greet(&mut self, link: Box<dyn Link>, deadline: Instant, now: Instant) {
        self.wire.attach(link);
        self.record(What::LinkUp);
        self.client.connected_at(now);
        let options = &self.client.options;
        let clean_session = self.connection.clean_session();
        let terms = options.connect_terms(clean_session);
        let has_session = terms.is_none() || self.session.keeps_session(now);
        let connect = Connect {
            client_id: self.client.client_id(),
            clean_session: clean_session || !has_session,
            // `Options::check` keeps it in range.
            keep_alive: u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX),
            last_will: options.last_will.as_ref(),
            credentials: options.credentials.as_ref(),
            terms: terms.as_ref(),
        };
        self.session.handle_link_up(&connect, now);
        self.connection.greet(deadline);
        self.reporter
            .tell(|| EventKind::Step(AttemptStep::ConnectSent));
    }

    /// There was no CONNACK on the link.
    fn address_failed(&mut self, error: Error, now: Instant) {
        match self.connection.next_address(error, &self.client, now) {
            None => self.tell_steps(),
            Some((error, steps)) => {
                self.tell_taken(steps);
                self.attempt_failed(error, now);
            }
        }
    }

    pub(super) fn attempt_failed(&mut self, error: Error, now: Instant) {
        // The next credentials or certificates of a provider may be accepted.
        let may_pass = matches!(error.blame(), Blame::Tls | Blame::Refused);
        let error = match self.client.options.provider {
            Some(_) if may_pass => error.passing(),
            _ => error,
        };
        self.reporter.tell(|| EventKind::AttemptFailed {
            error: error.clone(),
        });
        let delay = self.connection.delay_after_failure(&error, now);
        self.try_again(error, delay, now);
    }

    /// Says what happened and when it goes on. Without a delay, gives up.
    fn try_again(&mut self, error: Error, delay: Option<Duration>, now: Instant) {
        match delay {
            Some(delay) => {
                let until = self.connection.wait(now + delay, &self.client);
                let delay = until.saturating_duration_since(now);
                log::warn!("{error}; trying again in {} ms", delay.as_millis());
                self.connection.keep_failure(error);
                self.tell_retrying(until, now);
            }
            None => {
                self.connection.go_offline();
                let no_connection = Outcome::NeverSent(Reason::NoConnection);
                self.requests.end_reconnects(&no_connection);
                self.failure = Some(self.connection.gave_up(error, now));
            }
        }
    }
}

/// Whether another client has taken the session over, and the broker has said so.
fn was_taken_over(loss: &LinkLoss) -> bool {
    matches!(loss, LinkLoss::Disconnected(said) if said.code == ReasonCode::SESSION_TAKEN_OVER)
}

#[cfg(test)]
mod tests {
    use super::super::memory::{client, connected, memory_link};
    use super::*;

    #[test]
    fn a_reconnect_ends_a_disconnect_that_still_waits_for_commands() {
        let (mut agent, handle, batch, _peer) = connected(client(), 1);
        let now = Instant::now();
        let offline = handle.disconnect();
        agent.take_urgent(now);
        assert_eq!(offline.outcome(), None);
        let again = handle.reconnect();
        agent.take_urgent(now);
        assert_eq!(
            offline.outcome(),
            Some(Outcome::delivered(0, Duration::ZERO))
        );
        agent.exchange(now);
        assert!(matches!(agent.connection.phase(), Phase::Waiting { .. }));
        let (link, peer) = memory_link();
        agent.greet(link, now + Duration::from_secs(60), now);
        peer.lock().unwrap().to_read.push_back(vec![0x20, 2, 0, 0]);
        agent.exchange(now);
        agent.exchange(now);
        assert_eq!(again.outcome(), Some(Outcome::delivered(1, Duration::ZERO)));
        assert!(agent.connection.is_online());
        assert_eq!(agent.session.in_flight(), 1, "the command is out");
        drop((handle, batch));
    }

    #[test]
    fn a_reconnect_after_terminate_is_cancelled_and_leaves_the_link_alone() {
        let (mut agent, handle, _batch, _peer) = connected(client(), 0);
        let now = Instant::now();
        let end = handle.terminate(Duration::from_secs(60));
        agent.take_urgent(now);
        let again = handle.reconnect();
        agent.take_urgent(now);
        let cancelled = Outcome::Cancelled(Reason::Terminated);
        assert_eq!(again.outcome(), Some(cancelled));
        assert!(agent.connection.is_online() && agent.wire.is_up());
        drop((handle, end));
    }
}
