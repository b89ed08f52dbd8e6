//! Whether the broker is still there: PINGREQ and PINGRESP, keep alive, and when an answer is overdue.
//!
//! All deadlines of the session are kept here. An expired deadline leads to a PINGREQ or to the end of the link.
//! Answers are timed by the clock of `clock.rs`, which stands still while bytes pass. A late acknowledgment alone
//! does not end the link: the broker is asked with a PINGREQ, and the acknowledgment is late if the broker answers
//! that first, or nothing comes. Which packets await an acknowledgment is not known here: the sending half says
//! which one is the oldest. Nothing ticks: the caller asks for the next deadline. Pure; the loop's thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::clock::AnswerClock;
use super::event::{Events, LinkLoss, SessionOptions};
use super::outbound::Unanswered;
use super::outcome::{Outcome, Reason};
use super::output::Output;

/// PINGREQs that may await their PINGRESP before no further command is taken. They have no packet
/// identifiers; there may be as many as there are identifiers.
const UNANSWERED_PINGS: usize = 65_535;

/// A PINGREQ that awaits its PINGRESP.
#[derive(Debug, Clone)]
struct Ping<T> {
    /// `None` if the session sent it on its own.
    token: Option<T>,
    since: Instant,
    /// When it left, or was encoded if it has not left yet, by the clock of answers.
    sent: Instant,
    /// Where it ends in the output.
    end: u64,
}

/// A packet that the broker was asked about with a PINGREQ.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Where the packet ends in the output.
    packet: u64,
    /// Where the PINGREQ ends in the output.
    ping: u64,
    answered: Option<Instant>,
}

/// The purpose of a deadline. Each may expire early, never late.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// The link has been silent for nearly the keep alive interval: send PINGREQ.
    KeepAlive,
    /// PINGREQ was sent: see whether nothing came back.
    PingResponse,
    /// A packet was sent that awaits an acknowledgment: see whether it is overdue.
    Acknowledgment,
}

const TIMERS: usize = 3;

/// A table of deadlines, one for each [`Timer`].
#[derive(Debug, Clone, Default)]
struct Timers([Option<Instant>; TIMERS]);

/// When the broker was heard of last, and what it still has to answer.
#[derive(Debug, Clone)]
pub(super) struct Liveness<T> {
    /// Zero turns it off.
    wanted_keep_alive: Duration,
    /// The one that is in force on this link.
    keep_alive: Duration,
    ack_timeout: Duration,
    clock: AnswerClock,
    pings: VecDeque<Ping<T>>,
    /// How many of them, the last ones, have not left the output.
    pings_leaving: usize,
    asked: Option<Asked>,
    /// How long the clock had stood still when the first acknowledgment was awaited, or the broker was asked or
    /// answered.
    stood_still: Duration,
    last_sent: Instant,
    last_received: Instant,
    /// The same by the clock of answers.
    last_heard: Instant,
    timers: Timers,
}

impl<T> Liveness<T> {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        Liveness {
            wanted_keep_alive: options.keep_alive,
            keep_alive: options.keep_alive,
            ack_timeout: options.ack_timeout,
            clock: AnswerClock::new(options.ack_timeout, now),
            pings: VecDeque::new(),
            pings_leaving: 0,
            asked: None,
            stood_still: Duration::ZERO,
            last_sent: now,
            last_received: now,
            last_heard: now,
            timers: Timers::default(),
        }
    }

    /// The time that the clock of answers shows.
    pub(super) fn clock(&self, now: Instant) -> Instant {
        self.clock.read(now)
    }

    /// CONNECT is in the output of a new link.
    pub(super) fn handle_link_up(&mut self, now: Instant) {
        self.last_sent = now;
        self.hear(now);
    }

    /// The broker accepted CONNECT. A broker that speaks MQTT 5 may have set another keep alive [MQTT-3.1.2-21].
    pub(super) fn handle_connected(&mut self, server_keep_alive: Option<u16>) {
        let seconds = server_keep_alive.map(|seconds| Duration::from_secs(seconds.into()));
        self.keep_alive = seconds.unwrap_or(self.wanted_keep_alive);
        self.set_keep_alive();
    }

    /// A packet arrived.
    pub(super) fn handle_received(&mut self, now: Instant) {
        self.clock.received(now);
        self.hear(now);
    }

    /// So many bytes have come of a packet that has not ended.
    pub(super) fn handle_unfinished(&mut self, bytes: usize, now: Instant) {
        self.clock.receives(bytes as u64, now);
    }

    /// The link took bytes.
    pub(super) fn handle_written(&mut self, output: &Output, now: Instant) {
        self.last_sent = now;
        match output.is_empty() {
            true => self.clock.sent(now),
            false => self.clock.sends(output.written(), now),
        }
        while self.pings_leaving > 0 {
            let first = self.pings.len() - self.pings_leaving;
            let ping = &mut self.pings[first];
            if ping.end > output.written() {
                break;
            }
            ping.sent = self.clock.read(now);
            self.pings_leaving -= 1;
        }
    }

    /// A packet that awaits an acknowledgment was encoded.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        if !self.timers.is_set(Timer::Acknowledgment) {
            self.stood_still = self.clock.stood_still();
            let due = now + self.ack_timeout;
            self.timers.set(Timer::Acknowledgment, due);
        }
    }

    /// The last packet that awaited an acknowledgment was acknowledged.
    pub(super) fn handle_all_acknowledged(&mut self) {
        self.timers.stop(Timer::Acknowledgment);
        self.asked = None;
    }

    /// Encodes PINGREQ. The token of a command is resolved by PINGRESP.
    pub(super) fn send_ping(&mut self, token: Option<T>, output: &mut Output, now: Instant) {
        output.ping();
        self.last_sent = now;
        self.pings.push_back(Ping {
            token,
            since: now,
            sent: self.clock.read(now),
            end: output.position(),
        });
        self.pings_leaving += 1;
        if !self.timers.is_set(Timer::PingResponse) {
            let due = now + self.ping_grace(now);
            self.timers.set(Timer::PingResponse, due);
        }
    }

    /// PINGRESP answers the oldest PINGREQ. Returns whether there was one.
    pub(super) fn handle_pingresp(&mut self, events: &mut Events<T>, now: Instant) -> bool {
        let Some(ping) = self.pings.pop_front() else {
            return false;
        };
        // A broker may answer what it cannot have.
        self.pings_leaving = self.pings_leaving.min(self.pings.len());
        if self.pings.is_empty() {
            self.timers.stop(Timer::PingResponse);
        }
        if let Some(asked) = &mut self.asked
            && asked.ping == ping.end
        {
            asked.answered = Some(now);
            self.stood_still = self.clock.stood_still();
            // The acknowledgment may have come right behind: it is looked for before anything is judged.
            self.timers.set(Timer::Acknowledgment, now);
        }
        if let Some(token) = ping.token {
            let latency = now.saturating_duration_since(ping.since);
            events.answer(token, Outcome::delivered(1, latency));
        }
        true
    }

    /// Handles the deadlines that have expired: sends PINGREQ, or returns why the link has to be closed.
    /// `oldest_unanswered` returns the packet that has awaited an acknowledgment for the longest time.
    pub(super) fn handle_timeout(
        &mut self,
        oldest_unanswered: impl Fn() -> Option<Unanswered>,
        output: &mut Output,
        now: Instant,
    ) -> Option<LinkLoss> {
        if self.timers.take_expired(Timer::PingResponse, now) && self.is_silent(now) {
            let oldest = oldest_unanswered().filter(|oldest| self.is_asked_about(oldest, now));
            return Some(match oldest {
                _ if self.pings_leaving == self.pings.len() => LinkLoss::Stuck,
                Some(oldest) => LinkLoss::AckTimeout(oldest.id),
                None => LinkLoss::KeepAliveExpired,
            });
        }
        if self.timers.take_expired(Timer::Acknowledgment, now)
            && let Some(oldest) = oldest_unanswered()
        {
            let loss = match oldest.end <= output.written() {
                true => self.judge(oldest, output, now),
                false => self.judge_link(oldest, now),
            };
            if loss.is_some() {
                return loss;
            }
        }
        if self.timers.take_expired(Timer::KeepAlive, now) {
            if self.keep_alive_due() <= now {
                self.send_ping(None, output, now);
            }
            self.set_keep_alive();
        }
        None
    }

    /// Nothing is awaited any more: the link is gone or about to go.
    pub(super) fn stop(&mut self) {
        self.timers.stop_all();
        self.clock.stop();
        self.asked = None;
    }

    /// Ends every PING command. It went out, and the answer will not come.
    pub(super) fn end_pings(&mut self, reason: Reason, events: &mut Events<T>) {
        self.pings_leaving = 0;
        for ping in std::mem::take(&mut self.pings) {
            if let Some(token) = ping.token {
                events.resolve(token, Outcome::PerhapsDelivered(reason));
            }
        }
    }

    /// When [`Liveness::handle_timeout`] wants to be called.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether one more PINGREQ may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.pings.len() < UNANSWERED_PINGS
    }

    /// The command, if there is one, whose PINGREQ comes next to be answered.
    pub(super) fn first_ping(&self) -> Option<&T> {
        self.pings.front()?.token.as_ref()
    }

    /// Whether each PINGREQ was answered.
    pub(super) fn all_answered(&self) -> bool {
        self.pings.is_empty()
    }

    /// How many PING commands have not ended.
    pub(super) fn unresolved(&self) -> usize {
        self.pings.iter().filter(|p| p.token.is_some()).count()
    }

    fn hear(&mut self, now: Instant) {
        self.last_received = now;
        self.last_heard = self.clock.read(now);
    }

    /// Whether PINGRESP is overdue. If it is not, sets the time at which to look again.
    fn is_silent(&mut self, now: Instant) -> bool {
        let Some(first) = self.pings.front() else {
            return false;
        };
        // Any packet that arrived meanwhile shows that the broker lives.
        let due = first.sent.max(self.last_heard) + self.ping_grace(now);
        // A broker that sends other packets may still not answer a PINGREQ that a thread waits for, and may never
        // get one that does not leave.
        let none_left = self.pings_leaving == self.pings.len();
        let mut pings = self.pings.iter();
        let awaited = pings.find(|ping| none_left || ping.token.is_some());
        let overdue = awaited.map(|ping| ping.sent + self.ack_timeout);
        let due = overdue.map_or(due, |overdue| overdue.min(due));
        let next = match due > self.clock.read(now) {
            true => Some(self.when(due, now)),
            false => self.clock.may_stand_still_until(now),
        };
        match next {
            Some(next) => self.timers.set(Timer::PingResponse, next),
            None => return true,
        }
        false
    }

    /// Whether the broker was asked about this packet and nothing came since for as long as an acknowledgment may
    /// take.
    fn is_asked_about(&self, oldest: &Unanswered, now: Instant) -> bool {
        self.asked.is_some_and(|asked| asked.packet == oldest.end)
            && self.last_heard + self.ack_timeout <= self.clock.read(now)
    }

    /// Asks the broker about a packet whose acknowledgment is overdue. Returns the loss once a question was
    /// answered first. So that a link on which large packets follow each other without end hides nothing, it also
    /// asks when the clock has stood still for long. An acknowledgment has time after such an answer, too.
    fn judge(&mut self, oldest: Unanswered, output: &mut Output, now: Instant) -> Option<LinkLoss> {
        let due = oldest.sent + self.ack_timeout;
        let is_overdue = due <= self.clock.read(now);
        let asked = self.asked.filter(|asked| asked.packet == oldest.end);
        let due = self.when(due, now);
        match asked.map(|asked| asked.answered) {
            Some(Some(answered)) => {
                let due = due.min(answered + self.ack_timeout);
                if is_overdue || due <= now {
                    return Some(LinkLoss::AckTimeout(oldest.id));
                }
                self.timers.set(Timer::Acknowledgment, due);
            }
            // PINGRESP sets the timer, or does not come.
            Some(None) => {}
            None if is_overdue || self.has_stood_still_for_long() => {
                self.send_ping(None, output, now);
                self.stood_still = self.clock.stood_still();
                self.asked = Some(Asked {
                    packet: oldest.end,
                    ping: output.position(),
                    answered: None,
                });
            }
            None => self.timers.set(Timer::Acknowledgment, due),
        }
        None
    }

    /// A packet that has not left is no broker's fault: the link has to take some bytes in time.
    fn judge_link(&mut self, oldest: Unanswered, now: Instant) -> Option<LinkLoss> {
        let due = oldest.sent + self.ack_timeout;
        let next = match due > self.clock.read(now) {
            true => Some(self.when(due, now)),
            false => self.clock.may_stand_still_until(now),
        };
        match next {
            Some(next) => self.timers.set(Timer::Acknowledgment, next),
            None => return Some(LinkLoss::Stuck),
        }
        None
    }

    fn has_stood_still_for_long(&self) -> bool {
        self.clock.stood_still() - self.stood_still >= self.ack_timeout
    }

    /// When the clock of answers will show this, unless it stands still.
    fn when(&self, shown: Instant, now: Instant) -> Instant {
        now + shown.saturating_duration_since(self.clock.read(now))
    }

    fn set_keep_alive(&mut self) {
        if !self.keep_alive.is_zero() {
            self.timers.set(Timer::KeepAlive, self.keep_alive_due());
        }
    }

    /// A little before the interval is over, for sending [MQTT-3.1.2-23] and for receiving: a broker that
    /// fell silent while we go on sending has to be noticed too.
    fn keep_alive_due(&self) -> Instant {
        let margin = (self.keep_alive / 10).min(Duration::from_secs(1));
        let silent_since = match self.pings.is_empty() {
            true => self.last_sent.min(self.last_received),
            // The broker has been asked already.
            false => self.last_sent,
        };
        silent_since + (self.keep_alive - margin)
    }

    /// How long PINGRESP may take, so that a stalled broker is noticed within 1.5 times the keep alive. Behind
    /// bytes that a slow link took, PINGREQ may be on its way for longer.
    fn ping_grace(&self, now: Instant) -> Duration {
        match self.keep_alive / 2 {
            half if half.is_zero() || self.clock.is_slow(now) => self.ack_timeout,
            half => half.min(self.ack_timeout),
        }
    }
}

impl Timers {
    fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    fn stop_all(&mut self) {
        self.0 = Default::default();
    }

    /// Stops the timer if it has expired; returns whether it had.
    fn take_expired(&mut self, timer: Timer, now: Instant) -> bool {
        let deadline = &mut self.0[timer as usize];
        deadline.take_if(|at| *at <= now).is_some()
    }

    fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// The next deadline of all.
    fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests;
