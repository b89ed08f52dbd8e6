//! Packets that have not left the output as a whole: what becomes of them when the link takes them, or is lost.
//!
//! A packet that awaits an acknowledgment starts to wait when it has left, and was never sent if the link took
//! nothing of it. A QoS 0 PUBLISH is done when it has left. Pure; the loop's thread.

use std::collections::VecDeque;
use std::time::Instant;

use super::entry::Entry;
use super::event::Events;
use super::outcome::{Outcome, Reason};
use super::output::Output;
use super::ring::Ring;
use crate::mqtt::packet::PacketId;

/// A packet that awaits an acknowledgment. It ends where its entry says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Packet {
    id: PacketId,
    /// Where it begins in the output.
    begin: u64,
    /// The entry's state before, which comes back if the link takes nothing of the packet.
    ever_sent: bool,
    sent_in_session: bool,
}

/// A QoS 0 PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LeavingPublish<T> {
    token: T,
    /// Where it begins and ends in the output.
    begin: u64,
    end: u64,
    since: Instant,
}

/// The packets, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leaving<T> {
    packets: VecDeque<Packet>,
    unacknowledged: VecDeque<LeavingPublish<T>>,
}

impl<T> Default for Leaving<T> {
    fn default() -> Self {
        Leaving {
            packets: VecDeque::new(),
            unacknowledged: VecDeque::new(),
        }
    }
}

impl<T> Leaving<T> {
    /// The entry's packet is about to be put into the output.
    pub(super) fn push(&mut self, id: PacketId, entry: &Entry<T>, output: &Output) {
        self.packets.push_back(Packet {
            id,
            begin: output.position(),
            ever_sent: entry.ever_sent,
            sent_in_session: entry.sent_in_session,
        });
    }

    /// A QoS 0 PUBLISH that begins here was put into the output.
    pub(super) fn push_unacknowledged(
        &mut self,
        token: T,
        begin: u64,
        output: &Output,
        now: Instant,
    ) {
        self.unacknowledged.push_back(LeavingPublish {
            token,
            begin,
            end: output.position(),
            since: now,
        });
    }

    /// The link took bytes: ends each QoS 0 PUBLISH that has left.
    pub(super) fn end_left(&mut self, output: &Output, events: &mut Events<T>, now: Instant) {
        let is_out = |first: &LeavingPublish<T>| first.end <= output.written();
        while self.unacknowledged.front().is_some_and(is_out) {
            if let Some(done) = self.unacknowledged.pop_front() {
                let latency = now.saturating_duration_since(done.since);
                events.resolve(done.token, Outcome::delivered(1, latency));
            }
        }
    }

    /// The link is gone. A packet that begins at the position `taken` or behind it was not sent.
    pub(super) fn take_back(&mut self, taken: u64, ring: &mut Ring<Entry<T>>) {
        for back in std::mem::take(&mut self.packets) {
            if back.begin >= taken
                && let Some(entry) = ring.get_mut(back.id)
            {
                entry.on_this_link = false;
                entry.ever_sent = back.ever_sent;
                entry.sent_in_session = back.sent_in_session;
                let attempts = u32::from(!entry.is_release());
                entry.attempts = entry.attempts.saturating_sub(attempts);
            }
        }
    }

    /// Ends every QoS 0 PUBLISH, with `unsent` if it begins at the position `taken` or behind it.
    pub(super) fn end_unacknowledged(
        &mut self,
        taken: u64,
        unsent: fn(Reason) -> Outcome,
        reason: Reason,
        events: &mut Events<T>,
    ) {
        for ended in std::mem::take(&mut self.unacknowledged) {
            let outcome = match ended.begin < taken {
                true => Outcome::PerhapsDelivered(reason),
                false => unsent(reason),
            };
            events.resolve(ended.token, outcome);
        }
    }

    /// How many QoS 0 PUBLISHes have not left.
    pub(super) fn unresolved(&self) -> usize {
        self.unacknowledged.len()
    }

    /// The link took bytes: forgets which packets were in the output and have left. A packet that left some time
    /// after it was encoded starts to wait for its acknowledgment only now, when the clock of answers shows `clock`.
    pub(super) fn forget_left(
        &mut self,
        output: &Output,
        ring: &mut Ring<Entry<T>>,
        clock: Instant,
    ) {
        let first = self.packets.front();
        let first = first.and_then(|first| ring.get(first.id));
        let late = first.is_some_and(|first| first.sent < clock);
        if output.is_empty() && !late {
            return self.packets.clear();
        }
        while let Some(first) = self.packets.front() {
            match ring.get_mut(first.id) {
                Some(entry) if entry.end > output.written() => return,
                Some(entry) if late => entry.sent = clock,
                _ => {}
            }
            self.packets.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::entry::Body;
    use super::*;
    use crate::mqtt::packet::{Publish, QoS};
    use crate::mqtt::session::Event;

    struct Fixture {
        leaving: Leaving<u8>,
        output: Output,
        ring: Ring<Entry<u8>>,
        events: Events<u8>,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            Fixture {
                leaving: Leaving::default(),
                output: Output::default(),
                ring: Ring::new(10, 0),
                events: Events::default(),
                now: Instant::now(),
            }
        }

        fn send(&mut self, qos: QoS) -> PacketId {
            let body = Body::Publish(Publish::new("t", qos, "x").into());
            let id = self.ring.push(Entry::new(Some(1), body, self.now)).unwrap();
            let entry = self.ring.get_mut(id).unwrap();
            self.leaving.push(id, entry, &self.output);
            let Body::Publish(message) = &mut entry.body else {
                panic!("a PUBLISH");
            };
            self.output.publish(message, Some(id), false, None);
            entry.attempts += 1;
            entry.ever_sent = true;
            entry.on_this_link = true;
            entry.end = self.output.position();
            id
        }

        fn send_unacknowledged(&mut self, token: u8) {
            let begin = self.output.position();
            let message = Publish::new("t", QoS::AtMostOnce, "x");
            self.output.publish(&mut message.into(), None, false, None);
            self.leaving
                .push_unacknowledged(token, begin, &self.output, self.now);
        }

        fn takes(&mut self, bytes: usize, seconds: u64) {
            self.output.advance(bytes);
            let now = self.now + Duration::from_secs(seconds);
            self.leaving.forget_left(&self.output, &mut self.ring, now);
            self.leaving.end_left(&self.output, &mut self.events, now);
        }

        fn resolved(&mut self) -> Option<(u8, Outcome)> {
            match self.events.poll()? {
                Event::Resolved { token, outcome, .. } => Some((token, outcome)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_packet_waits_for_its_acknowledgment_from_when_it_has_left() {
        let mut t = Fixture::new();
        let ids = [t.send(QoS::AtLeastOnce), t.send(QoS::AtLeastOnce)];
        let length = t.output.bytes().len() / 2;
        t.takes(length, 3);
        t.takes(length - 1, 4);
        t.takes(1, 5);
        for (id, left) in ids.into_iter().zip([3, 5]) {
            let sent = t.ring.get(id).unwrap().sent;
            assert_eq!(sent, t.now + Duration::from_secs(left));
        }
    }

    #[test]
    fn a_packet_of_which_the_link_took_nothing_was_not_sent() {
        let mut t = Fixture::new();
        let ids = [t.send(QoS::AtLeastOnce), t.send(QoS::AtLeastOnce)];
        t.takes(1, 0);
        let taken = t.output.handle_link_lost();
        t.leaving.take_back(taken, &mut t.ring);
        for (id, sent) in ids.into_iter().zip([true, false]) {
            let entry = t.ring.get(id).unwrap();
            assert_eq!((entry.ever_sent, entry.attempts), (sent, u32::from(sent)));
        }
    }

    #[test]
    fn a_message_without_acknowledgment_ends_when_its_bytes_are_out() {
        let mut t = Fixture::new();
        (1..=3).for_each(|token| t.send_unacknowledged(token));
        let length = t.output.bytes().len() / 3;
        t.takes(length + 1, 2);
        let delivered = Outcome::delivered(1, Duration::from_secs(2));
        assert_eq!(t.resolved(), Some((1, delivered)));
        assert_eq!(t.resolved(), None);
        assert_eq!(t.leaving.unresolved(), 2);
        let taken = t.output.handle_link_lost();
        let unsent = Outcome::NeverSent;
        t.leaving
            .end_unacknowledged(taken, unsent, Reason::LinkLost, &mut t.events);
        let perhaps = Outcome::PerhapsDelivered(Reason::LinkLost);
        assert_eq!(t.resolved(), Some((2, perhaps)));
        assert_eq!(t.resolved(), Some((3, unsent(Reason::LinkLost))));
    }
}
