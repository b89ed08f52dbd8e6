//! Tests of the sending half.

use std::time::Duration;

use super::*;
use crate::mqtt::packet::Publish;
use crate::mqtt::session::event::LinkEnd;
use crate::mqtt::session::{Event, Outcome, Reason};

struct Fixture {
    outbound: Outbound<u8>,
    output: Output,
    events: Events<u8>,
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let options = SessionOptions {
            max_inflight: 10,
            max_inflight_qos2: 10,
            ack_timeout: Duration::ZERO,
            keep_alive: Duration::ZERO,
            on_session_lost: OnSessionLost::Republish,
            identifiers: 8,
            first_identifier: 0,
            suspected_after: 1,
            given_up_after: 1,
            max_waiting_bytes: 0,
            max_waiting: 0,
            rate: crate::mqtt::rate::RateLimits::default(),
        };
        let now = Instant::now();
        Fixture {
            outbound: Outbound::new(&options, now),
            output: Output::default(),
            events: Events::default(),
            now,
        }
    }

    /// Reserves an identifier and puts the packet into the output.
    fn publish(&mut self, token: u8, qos: QoS) -> PacketId {
        let message = Publish::new("t", qos, "x").into();
        let entry = Entry::new(Some(token), Body::Publish(message), self.now);
        let id = self.outbound.reserve(entry).expect("an identifier");
        self.outbound.send(id, &mut self.output, self.now, self.now);
        id
    }

    fn flush(&mut self) {
        self.output.advance(self.output.bytes().len());
        self.outbound
            .handle_written(&self.output, &mut self.events, self.now, self.now);
    }

    fn loses_link(&mut self) {
        let taken = self.output.handle_link_lost();
        let end = Some(LinkEnd::ByBroker);
        let given_up = self
            .outbound
            .handle_link_lost(taken, end, &mut self.events, self.now);
        assert_eq!(given_up, None);
    }

    fn resolved(&mut self) -> Option<(u8, Outcome)> {
        match self.events.poll()? {
            Event::Resolved { token, outcome, .. } => Some((token, outcome)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_quality_of_service_ends_with_its_own_acknowledgment() {
    let mut t = Fixture::new();
    let once = t.publish(1, QoS::AtLeastOnce);
    let exactly = t.publish(2, QoS::ExactlyOnce);
    assert!(t.outbound.handle_puback(once, None, &mut t.events, t.now));
    assert_eq!(
        t.resolved(),
        Some((1, Outcome::delivered(1, Duration::ZERO)))
    );
    let pubrec = t.outbound.handle_pubrec(exactly, None, t.now);
    assert_eq!(pubrec, Released::First);
    let pubrec = t.outbound.handle_pubrec(exactly, None, t.now);
    assert_eq!(pubrec, Released::Again);
    assert_eq!(t.resolved(), None);
    assert!(
        t.outbound
            .handle_pubcomp(exactly, None, &mut t.events, t.now)
    );
    assert_eq!(
        t.resolved(),
        Some((2, Outcome::delivered(1, Duration::ZERO)))
    );
    assert!(
        !t.outbound
            .handle_pubcomp(exactly, None, &mut t.events, t.now)
    );
    assert_eq!(t.outbound.in_flight(), 0);
}

#[test]
fn a_pubrec_for_what_is_not_known_takes_the_identifier_until_pubcomp() {
    let mut t = Fixture::new();
    let once = t.publish(1, QoS::AtLeastOnce);
    let [unknown, beyond] = [5, 9].map(|id| PacketId::new(id).unwrap());
    for (id, expected) in [
        (unknown, Released::Unknown),
        (unknown, Released::Again),
        (once, Released::UnknownInUse),
        // There are only eight.
        (beyond, Released::UnknownInUse),
    ] {
        assert_eq!(t.outbound.handle_pubrec(id, None, t.now), expected);
    }
    assert_eq!((t.outbound.in_flight(), t.outbound.unresolved()), (2, 1));
    assert!(t.outbound.handle_puback(once, None, &mut t.events, t.now));
    assert_eq!((t.outbound.in_flight(), t.outbound.unresolved()), (2, 0));
    assert!(t.outbound.handle_pubcomp(once, None, &mut t.events, t.now));
    assert_eq!(t.outbound.in_flight(), 1);
}

#[test]
fn without_an_identifier_a_command_waits_ahead_of_the_others() {
    let mut t = Fixture::new();
    for token in 0..8 {
        t.publish(token, QoS::AtLeastOnce);
    }
    let filter = |name: &str| vec![Filter::new(name, QoS::AtLeastOnce)];
    for (token, name) in [(8, "a"), (9, "b")] {
        let body = Body::Subscribe(Subscribing::new(filter(name), false));
        t.outbound.wait(token, body, t.now);
    }
    assert!(t.outbound.has_unsent() && !t.outbound.has_room());
    assert_eq!(t.outbound.poll_unsent(false), None);
    let first = PacketId::new(1).unwrap();
    assert!(t.outbound.handle_puback(first, None, &mut t.events, t.now));
    assert_eq!(t.outbound.poll_unsent(true), None);
    assert_eq!(t.outbound.poll_unsent(false), Some(first));
    assert_eq!(t.outbound.unresolved(), 9);
}

#[test]
fn a_lost_session_ends_what_could_be_delivered_twice_and_no_more() {
    let mut t = Fixture::new();
    t.publish(1, QoS::AtLeastOnce);
    t.publish(2, QoS::ExactlyOnce);
    t.flush();
    t.loses_link();
    t.outbound.handle_session_lost(&mut t.events);
    let lost = Outcome::PerhapsDelivered(Reason::SessionLost);
    assert_eq!(t.resolved(), Some((2, lost)));
    assert_eq!(t.resolved(), None);
    let id = t.outbound.poll_unsent(false).expect("the other one");
    t.outbound.send(id, &mut t.output, t.now, t.now);
    // Without DUP: it is new in this session.
    assert_eq!(t.output.bytes()[0], 0x32);
}
