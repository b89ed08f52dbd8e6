//! What the session does when it hears nothing: it asks, with PINGREQ, and gives the link up when an
//! answer or an acknowledgment is overdue. Pure.

use std::time::{Duration, Instant};

use super::timers::Timer;
use super::{Event, LinkLoss, Outcome, Ping, Session};

impl<T> Session<T> {
    /// Handles the timers that have rung.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timers.take_expired(Timer::PingResponse, now) {
            // Whatever arrived meanwhile shows that the broker lives.
            let due = self.last_received + self.ping_grace();
            if due <= now {
                self.events.push(Event::Close(LinkLoss::KeepAliveExpired));
                return;
            }
            // It does not answer a PING that somebody waits for.
            let asked = self.pings.iter().find(|ping| ping.token.is_some());
            let overdue = asked.map(|ping| ping.since + self.options.ack_timeout);
            if overdue.is_some_and(|overdue| overdue <= now) {
                self.events.push(Event::Close(LinkLoss::AckTimeout));
                return;
            }
            let due = overdue.map_or(due, |overdue| overdue.min(due));
            self.timers.set(Timer::PingResponse, due);
        }
        if self.timers.take_expired(Timer::Acknowledgment, now) {
            match self.next_ack_deadline() {
                Some(due) if due <= now => {
                    self.events.push(Event::Close(LinkLoss::AckTimeout));
                    return;
                }
                Some(due) => self.timers.set(Timer::Acknowledgment, due),
                None => {}
            }
        }
        if self.timers.take_expired(Timer::KeepAlive, now) {
            if self.keep_alive_due() <= now {
                self.send_ping(None, now);
            }
            self.set_keep_alive();
        }
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(super) fn on_pingresp(&mut self, now: Instant) {
        let Some(ping) = self.pings.pop_front() else {
            return self.ignore_unsolicited("PINGRESP", None);
        };
        self.progress = true;
        if self.pings.is_empty() {
            self.timers.stop(Timer::PingResponse);
        }
        if let Some(token) = ping.token {
            let latency = now.saturating_duration_since(ping.since);
            self.events.resolve(token, Outcome::delivered(1, latency));
        }
    }

    pub(super) fn send_ping(&mut self, token: Option<T>, now: Instant) {
        self.output.ping();
        self.last_sent = now;
        self.pings.push_back(Ping { token, since: now });
        if !self.timers.is_set(Timer::PingResponse) {
            self.timers
                .set(Timer::PingResponse, now + self.ping_grace());
        }
    }

    pub(super) fn set_keep_alive(&mut self) {
        if !self.options.keep_alive.is_zero() {
            self.timers.set(Timer::KeepAlive, self.keep_alive_due());
        }
    }

    /// A little before the interval is over, for sending [MQTT-3.1.2-23] as well as for receiving:
    /// a broker that fell silent while we go on sending has to be noticed too.
    fn keep_alive_due(&self) -> Instant {
        let keep_alive = self.options.keep_alive;
        let margin = (keep_alive / 10).min(Duration::from_secs(1));
        let silent_since = match self.pings.is_empty() {
            true => self.last_sent.min(self.last_received),
            // The broker has been asked already.
            false => self.last_sent,
        };
        silent_since + (keep_alive - margin)
    }

    /// So that a stalled broker is noticed within 1.5 times the keep alive.
    fn ping_grace(&self) -> Duration {
        match self.options.keep_alive / 2 {
            half if half.is_zero() => self.options.ack_timeout,
            half => half.min(self.options.ack_timeout),
        }
    }
}
