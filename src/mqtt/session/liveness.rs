//! Whether the broker is still there: PINGREQ and PINGRESP, keep alive, and when an answer is overdue.
//!
//! All deadlines of the session are kept here. An expired deadline leads to a PINGREQ or to the end of the link.
//! Which packets await an acknowledgment is not known here: the sending half says since when. Nothing ticks: the
//! caller asks for the next deadline. Pure; the loop's thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
    /// `None` if keep alive sent it.
    token: Option<T>,
    since: Instant,
}

/// The purpose of a deadline.
#[derive(Debug, Clone, Copy)]
enum Timer {
    /// The link has been silent for nearly the keep alive interval: send PINGREQ.
    KeepAlive,
    /// PINGREQ was sent: see whether nothing came back.
    PingResponse,
    /// A packet was sent that awaits an acknowledgment: see whether it is overdue. This one may expire
    /// early, never late.
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
    keep_alive: Duration,
    ack_timeout: Duration,
    pings: VecDeque<Ping<T>>,
    last_sent: Instant,
    /// When the link last took bytes. A PINGREQ in the output changes `last_sent` only.
    last_taken: Instant,
    last_received: Instant,
    timers: Timers,
}

impl<T> Liveness<T> {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        Liveness {
            keep_alive: options.keep_alive,
            ack_timeout: options.ack_timeout,
            pings: VecDeque::new(),
            last_sent: now,
            last_taken: now,
            last_received: now,
            timers: Timers::default(),
        }
    }

    /// CONNECT is in the output of a new link.
    pub(super) fn handle_link_up(&mut self, now: Instant) {
        self.last_sent = now;
        self.last_received = now;
    }

    /// The broker accepted CONNECT.
    pub(super) fn handle_connected(&mut self) {
        self.set_keep_alive();
    }

    /// A packet arrived.
    pub(super) fn handle_received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// The link took bytes.
    pub(super) fn handle_written(&mut self, now: Instant) {
        self.last_sent = now;
        self.last_taken = now;
    }

    /// A packet that awaits an acknowledgment was encoded.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        if !self.timers.is_set(Timer::Acknowledgment) {
            let due = now + self.ack_timeout;
            self.timers.set(Timer::Acknowledgment, due);
        }
    }

    /// The last packet that awaited an acknowledgment was acknowledged.
    pub(super) fn handle_all_acknowledged(&mut self) {
        self.timers.stop(Timer::Acknowledgment);
    }

    /// Encodes PINGREQ. The token of a command is resolved by PINGRESP.
    pub(super) fn send_ping(&mut self, token: Option<T>, output: &mut Output, now: Instant) {
        output.ping();
        self.last_sent = now;
        self.pings.push_back(Ping { token, since: now });
        if !self.timers.is_set(Timer::PingResponse) {
            self.timers
                .set(Timer::PingResponse, now + self.ping_grace());
        }
    }

    /// PINGRESP answers the oldest PINGREQ. Returns whether there was one.
    pub(super) fn handle_pingresp(&mut self, events: &mut Events<T>, now: Instant) -> bool {
        let Some(ping) = self.pings.pop_front() else {
            return false;
        };
        if self.pings.is_empty() {
            self.timers.stop(Timer::PingResponse);
        }
        if let Some(token) = ping.token {
            let latency = now.saturating_duration_since(ping.since);
            events.resolve(token, Outcome::delivered(1, latency));
        }
        true
    }

    /// Handles the deadlines that have expired: sends PINGREQ, or returns why the link has to be closed.
    /// `oldest_unanswered` returns the packet that has awaited an acknowledgment for the longest time; its argument
    /// is when the link last took bytes.
    pub(super) fn handle_timeout(
        &mut self,
        oldest_unanswered: impl FnOnce(Instant) -> Option<Unanswered>,
        output: &mut Output,
        now: Instant,
    ) -> Option<LinkLoss> {
        if self.timers.take_expired(Timer::PingResponse, now) {
            // Any packet that arrived meanwhile shows that the broker lives.
            let due = self.last_received + self.ping_grace();
            if due <= now {
                return Some(LinkLoss::KeepAliveExpired);
            }
            // A broker that sends other packets may still not answer a PINGREQ that a thread waits for.
            let asked = self.pings.iter().find(|ping| ping.token.is_some());
            let overdue = asked.map(|ping| ping.since + self.ack_timeout);
            if overdue.is_some_and(|overdue| overdue <= now) {
                return Some(LinkLoss::KeepAliveExpired);
            }
            let due = overdue.map_or(due, |overdue| overdue.min(due));
            self.timers.set(Timer::PingResponse, due);
        }
        if self.timers.take_expired(Timer::Acknowledgment, now)
            && let Some(oldest) = oldest_unanswered(self.last_taken)
        {
            let due = oldest.sent + self.ack_timeout;
            if due <= now {
                return Some(LinkLoss::AckTimeout(oldest.id));
            }
            self.timers.set(Timer::Acknowledgment, due);
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
    }

    /// Ends every PING command. It went out, and the answer will not come.
    pub(super) fn end_pings(&mut self, reason: Reason, events: &mut Events<T>) {
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

    /// How many PING commands have not ended.
    pub(super) fn unresolved(&self) -> usize {
        self.pings.iter().filter(|p| p.token.is_some()).count()
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

    /// How long PINGRESP may take, so that a stalled broker is noticed within 1.5 times the keep alive.
    fn ping_grace(&self) -> Duration {
        match self.keep_alive / 2 {
            half if half.is_zero() => self.ack_timeout,
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
mod tests {
    use super::*;
    use crate::mqtt::packet::PacketId;
    use crate::mqtt::session::{Event, OnSessionLost};

    const PINGREQ: [u8; 2] = [0xc0, 0];

    fn id() -> PacketId {
        PacketId::new(7).unwrap()
    }

    struct Fixture {
        liveness: Liveness<u8>,
        output: Output,
        events: Events<u8>,
        base: Instant,
        /// When the oldest packet was sent that awaits an acknowledgment.
        unanswered: Option<Instant>,
        /// Whether that packet stands in the output and has time while the link takes bytes.
        is_leaving: bool,
    }

    impl Fixture {
        fn connected(keep_alive: u64) -> Self {
            let options = SessionOptions {
                max_inflight: 1,
                ack_timeout: Duration::from_secs(20),
                keep_alive: Duration::from_secs(keep_alive),
                on_session_lost: OnSessionLost::Republish,
                identifiers: u16::MAX,
                first_identifier: 0,
                fruitless_links: 5,
                max_owed_bytes: 0,
            };
            let base = Instant::now();
            let mut liveness = Liveness::new(&options, base);
            liveness.handle_link_up(base);
            liveness.handle_connected();
            Fixture {
                liveness,
                output: Output::default(),
                events: Events::default(),
                base,
                unanswered: None,
                is_leaving: false,
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.base + Duration::from_secs(seconds)
        }

        fn timeout(&mut self, seconds: u64) -> Option<LinkLoss> {
            let now = self.at(seconds);
            let (sent, is_leaving) = (self.unanswered, self.is_leaving);
            let oldest = |last_taken: Instant| {
                let sent = match is_leaving {
                    true => sent.max(Some(last_taken)),
                    false => sent,
                }?;
                Some(Unanswered { id: id(), sent })
            };
            self.liveness.handle_timeout(oldest, &mut self.output, now)
        }

        fn next(&self) -> Option<u64> {
            let next = self.liveness.next_timer()?;
            Some(next.duration_since(self.base).as_secs())
        }
    }

    #[test]
    fn a_silent_broker_is_asked_and_then_given_up() {
        let mut fixture = Fixture::connected(60);
        assert_eq!(fixture.next(), Some(59));
        assert_eq!(fixture.timeout(59), None);
        assert_eq!(fixture.output.bytes(), PINGREQ);
        assert_eq!(fixture.next(), Some(79));
        assert_eq!(fixture.timeout(79), Some(LinkLoss::KeepAliveExpired));
    }

    #[test]
    fn traffic_in_both_directions_puts_the_ping_off() {
        let mut fixture = Fixture::connected(60);
        fixture.liveness.handle_written(fixture.at(40));
        fixture.liveness.handle_received(fixture.at(30));
        assert_eq!(fixture.timeout(59), None);
        assert!(fixture.output.is_empty());
        assert_eq!(fixture.next(), Some(89));
    }

    #[test]
    fn pingresp_ends_the_oldest_ping_and_no_more() {
        let mut fixture = Fixture::connected(0);
        for token in [None, Some(7)] {
            let now = fixture.at(1);
            fixture.liveness.send_ping(token, &mut fixture.output, now);
        }
        assert_eq!(fixture.liveness.unresolved(), 1);
        for (answered, ended) in [(true, 0), (true, 1), (false, 1)] {
            let now = fixture.at(2);
            let found = fixture.liveness.handle_pingresp(&mut fixture.events, now);
            assert_eq!((found, fixture.events.len()), (answered, ended));
        }
        assert_eq!(fixture.next(), None);
    }

    #[test]
    fn a_ping_that_a_thread_waits_for_is_answered_in_time_or_the_link_ends() {
        let mut fixture = Fixture::connected(0);
        let now = fixture.at(1);
        fixture
            .liveness
            .send_ping(Some(7), &mut fixture.output, now);
        fixture.liveness.handle_received(fixture.at(15));
        assert_eq!(fixture.timeout(21), Some(LinkLoss::KeepAliveExpired));
        fixture.liveness.stop();
        fixture
            .liveness
            .end_pings(Reason::LinkLost, &mut fixture.events);
        assert!(matches!(
            fixture.events.poll(),
            Some(Event::Resolved { token: 7, .. })
        ));
        assert_eq!(fixture.next(), None);
    }

    #[test]
    fn an_acknowledgment_is_awaited_from_the_oldest_packet_on() {
        let mut fixture = Fixture::connected(0);
        fixture.liveness.handle_sent(fixture.at(1));
        fixture.liveness.handle_sent(fixture.at(2));
        assert_eq!(fixture.next(), Some(21));
        fixture.unanswered = Some(fixture.at(2));
        assert_eq!(fixture.timeout(21), None);
        assert_eq!(fixture.next(), Some(22));
        assert_eq!(fixture.timeout(22), Some(LinkLoss::AckTimeout(id())));
        fixture.liveness.handle_sent(fixture.at(23));
        fixture.liveness.handle_all_acknowledged();
        assert_eq!(fixture.next(), None);
    }

    #[test]
    fn the_time_of_a_packet_that_is_leaving_begins_when_the_link_last_took_bytes() {
        let mut fixture = Fixture::connected(0);
        fixture.liveness.handle_sent(fixture.at(1));
        (fixture.unanswered, fixture.is_leaving) = (Some(fixture.at(1)), true);
        fixture.liveness.handle_written(fixture.at(5));
        // The link has not taken this PINGREQ.
        let now = fixture.at(7);
        fixture.liveness.send_ping(None, &mut fixture.output, now);
        fixture.liveness.handle_received(now);
        assert_eq!(fixture.timeout(21), None);
        assert_eq!(fixture.next(), Some(25));
        assert_eq!(fixture.timeout(25), Some(LinkLoss::AckTimeout(id())));
    }
}
