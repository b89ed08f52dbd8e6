//! Deadlines, PINGREQs and late acknowledgments, second by second.

use super::*;
use crate::mqtt::packet::{PacketId, Publish, QoS};
use crate::mqtt::rate::RateLimits;
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
    /// When the oldest packet was sent that awaits an acknowledgment, and where it ends.
    unanswered: Option<(Instant, u64)>,
}

impl Fixture {
    fn connected(keep_alive: u64) -> Self {
        let options = SessionOptions {
            max_inflight: 1,
            max_inflight_qos2: 1,
            ack_timeout: Duration::from_secs(20),
            keep_alive: Duration::from_secs(keep_alive),
            on_session_lost: OnSessionLost::Republish,
            identifiers: u16::MAX,
            first_identifier: 0,
            suspected_after: 3,
            given_up_after: 5,
            max_waiting_bytes: 0,
            max_waiting: 0,
            rate: RateLimits::default(),
        };
        let base = Instant::now();
        let mut liveness = Liveness::new(&options, base);
        liveness.handle_link_up(base);
        liveness.handle_connected(None);
        Fixture {
            liveness,
            output: Output::default(),
            events: Events::default(),
            base,
            unanswered: None,
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.base + Duration::from_secs(seconds)
    }

    fn timeout(&mut self, seconds: u64) -> Option<LinkLoss> {
        let now = self.at(seconds);
        let unanswered = self.unanswered;
        let oldest = || {
            let (sent, end) = unanswered?;
            Some(Unanswered {
                id: id(),
                sent,
                end,
            })
        };
        self.liveness.handle_timeout(oldest, &mut self.output, now)
    }

    /// A packet that left at once awaits its acknowledgment since the beginning, and the broker was asked.
    fn overdue() -> Self {
        let mut fixture = Fixture::overdue_without_leaving();
        fixture.take_at(20);
        fixture
    }

    /// The same; the link does not take the PINGREQ.
    fn overdue_without_leaving() -> Self {
        let mut fixture = Fixture::connected(0);
        fixture.liveness.handle_sent(fixture.at(0));
        fixture.unanswered = Some((fixture.at(0), 0));
        assert_eq!(fixture.timeout(20), None);
        assert_eq!(fixture.output.bytes(), PINGREQ);
        fixture
    }

    fn ping(&mut self, token: Option<u8>, seconds: u64) {
        let now = self.at(seconds);
        self.liveness.send_ping(token, &mut self.output, now);
        self.take_at(seconds);
    }

    fn answer(&mut self, seconds: u64) {
        let now = self.at(seconds);
        assert!(self.liveness.handle_pingresp(&mut self.events, now));
    }

    fn publish(&mut self, bytes: usize) {
        let message = Publish::new("t", QoS::AtMostOnce, vec![0; bytes]);
        self.output.publish(&mut message.into(), None, false, None);
    }

    /// The link takes all of the output.
    fn take_at(&mut self, seconds: u64) {
        self.output.advance(self.output.bytes().len());
        let now = self.at(seconds);
        self.liveness.handle_written(&self.output, now);
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
    fixture.take_at(59);
    assert_eq!(fixture.next(), Some(79));
    assert_eq!(fixture.timeout(79), Some(LinkLoss::KeepAliveExpired));
}

#[test]
fn traffic_in_both_directions_puts_the_ping_off() {
    let mut fixture = Fixture::connected(60);
    fixture
        .liveness
        .handle_written(&fixture.output, fixture.at(40));
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
    fixture.ping(Some(7), 1);
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
fn the_broker_is_asked_about_the_oldest_packet_when_its_acknowledgment_is_overdue() {
    let mut fixture = Fixture::connected(0);
    fixture.liveness.handle_sent(fixture.at(1));
    fixture.liveness.handle_sent(fixture.at(2));
    assert_eq!(fixture.next(), Some(21));
    fixture.unanswered = Some((fixture.at(2), 0));
    assert_eq!(fixture.timeout(21), None);
    assert_eq!(fixture.next(), Some(22));
    assert_eq!(fixture.timeout(22), None);
    assert_eq!(fixture.output.bytes(), PINGREQ);
    fixture.liveness.handle_sent(fixture.at(23));
    fixture.liveness.handle_all_acknowledged();
    assert_eq!(fixture.next(), Some(42), "PINGRESP is awaited still");
}

#[test]
fn an_acknowledgment_is_late_when_a_later_pingreq_is_answered_first() {
    let mut fixture = Fixture::overdue();
    fixture.liveness.handle_received(fixture.at(30));
    fixture.answer(30);
    assert_eq!(fixture.next(), Some(30), "the rest is read first");
    assert_eq!(fixture.timeout(30), Some(LinkLoss::AckTimeout(id())));
}

#[test]
fn an_acknowledgment_is_late_when_nothing_came() {
    let mut fixture = Fixture::overdue();
    fixture.liveness.handle_received(fixture.at(25));
    assert_eq!(fixture.timeout(40), None);
    assert_eq!(fixture.timeout(44), None);
    assert_eq!(fixture.timeout(45), Some(LinkLoss::AckTimeout(id())));
}

#[test]
fn an_acknowledgment_that_came_before_pingresp_was_not_late() {
    let mut fixture = Fixture::overdue();
    fixture.unanswered = Some((fixture.at(15), 9));
    fixture.answer(30);
    assert_eq!(fixture.timeout(30), None);
    assert_eq!(fixture.next(), Some(35), "the next packet's time");
}

#[test]
fn large_packets_without_end_do_not_hide_a_missing_acknowledgment() {
    let mut fixture = Fixture::connected(0);
    fixture.liveness.handle_sent(fixture.at(0));
    fixture.unanswered = Some((fixture.at(0), 0));
    let mut asked = None;
    for second in 0..60 {
        let now = fixture.at(second);
        fixture.liveness.handle_received(now);
        fixture.liveness.handle_unfinished(2_000, now);
        if fixture.next().is_some_and(|next| next <= second) {
            let loss = fixture.timeout(second);
            assert_eq!(loss.is_some(), second == 55, "{second}");
            if loss.is_some() {
                return;
            }
        }
        if asked.is_none() && !fixture.output.is_empty() {
            fixture.take_at(second);
            asked = Some(second);
        }
        if second == 35 {
            assert_eq!(asked, Some(20));
            fixture.answer(second);
        }
    }
    panic!("it is never noticed");
}

#[test]
fn a_pingreq_has_its_time_from_when_it_has_left() {
    let mut fixture = Fixture::connected(10);
    fixture.publish(2_000);
    assert_eq!(fixture.timeout(9), None);
    assert!(fixture.output.bytes().ends_with(&PINGREQ));
    for second in (10..40).step_by(10) {
        fixture.publish(2_000);
        fixture.output.advance(1_500);
        let now = fixture.at(second);
        fixture.liveness.handle_written(&fixture.output, now);
        assert_eq!(fixture.timeout(second), None);
    }
    fixture.take_at(40);
    assert_eq!(fixture.timeout(59), None);
    assert_eq!(fixture.timeout(60), Some(LinkLoss::KeepAliveExpired));
}

#[test]
fn a_link_that_takes_nothing_is_stuck() {
    let mut fixture = Fixture::connected(0);
    fixture.liveness.handle_sent(fixture.at(1));
    fixture.unanswered = Some((fixture.at(1), 100));
    fixture.liveness.handle_received(fixture.at(20));
    assert_eq!(fixture.timeout(21), Some(LinkLoss::Stuck));

    let mut fixture = Fixture::overdue_without_leaving();
    for second in 20..40 {
        fixture.liveness.handle_received(fixture.at(second));
        assert_eq!(fixture.timeout(second), None);
    }
    assert_eq!(fixture.timeout(40), Some(LinkLoss::Stuck));
}
