//! The sending half of the session: commands on their way to their acknowledgment. What is sent again
//! after a reconnect is in `recovery.rs`.
//!
//! An identifier and a slot in the ring come first, then the packet goes into the output, so a packet that
//! is out always has a slot. What has to be sent again, or sent before anything new, and has no
//! identifier yet stands in `waiting`: renewed subscriptions first, and nothing behind them moves
//! until they are granted. A SUBSCRIBE or UNSUBSCRIBE also waits there while another one for one of
//! its filters is unanswered. What is kept of each command is in `entry.rs`. Pure; the loop's thread.

use std::collections::BTreeSet;
use std::time::Instant;

use super::entry::{Body, Entry, Leaving, Subscribing, Unsubscribing};
use super::ring::Ring;
use super::{Event, LinkState, Outcome, Session, Unacknowledged};
use crate::mqtt::packet::{Ack, Filter, PacketId, ProtocolError, QoS};
use crate::mqtt::v4::Outgoing;

/// What an acknowledgment may be for: nothing that was never put into the output.
fn sent<T>(ring: &mut Ring<Entry<T>>, id: PacketId) -> Option<&mut Entry<T>> {
    ring.get_mut(id).filter(|entry| entry.ever_sent)
}

/// When the oldest packet was sent that awaits an acknowledgment on this link. What has not left the
/// output yet has time as long as the link takes anything at all.
pub(super) fn oldest_unanswered<T>(
    ring: &Ring<Entry<T>>,
    written: u64,
    last_taken: Instant,
) -> Option<Instant> {
    let on_this_link = ring.iter().filter(|(_, entry)| entry.on_this_link);
    let sent = on_this_link.map(|(_, entry)| match entry.end <= written {
        true => entry.sent,
        false => entry.sent.max(last_taken),
    });
    sent.min()
}

impl<T> Session<T> {
    /// PUBLISH. Call only while [`Session::wants_commands`].
    pub fn publish(&mut self, mut message: Outgoing, token: T, now: Instant) {
        if message.qos() == QoS::AtMostOnce {
            let begin = self.output.position();
            self.output.publish(&mut message, None, false);
            let end = self.output.position();
            self.unacknowledged.push_back(Unacknowledged {
                token,
                begin,
                end,
                since: now,
            });
        } else {
            self.submit(Entry::new(Some(token), Body::Publish(message), now), now);
        }
    }

    /// SUBSCRIBE, eight filters to a packet. Call only while [`Session::wants_commands`].
    pub fn subscribe(&mut self, filters: Vec<Filter>, token: T, now: Instant) {
        let body = Body::Subscribe(Subscribing::new(filters, false));
        self.waiting.push_back(Entry::new(Some(token), body, now));
        self.send_waiting(now);
    }

    /// UNSUBSCRIBE, eight filters to a packet. Call only while [`Session::wants_commands`].
    pub fn unsubscribe(&mut self, filters: Vec<String>, token: T, now: Instant) {
        for filter in &filters {
            self.filters.remove(filter);
        }
        let body = Body::Unsubscribe(Box::new(Unsubscribing { filters, done: 0 }));
        self.waiting.push_back(Entry::new(Some(token), body, now));
        self.send_waiting(now);
    }

    /// PINGREQ. Call only while [`Session::wants_commands`].
    pub fn ping(&mut self, token: T, now: Instant) {
        self.liveness.send_ping(Some(token), &mut self.output, now);
    }

    /// Sends what has to be sent again and then what stands in `waiting`, as far as identifiers and the
    /// output have room.
    pub(super) fn send_waiting(&mut self, now: Instant) {
        // At each acknowledgment, and hardly ever anything to do.
        if !self.waiting.is_empty() || !self.resending.is_empty() {
            self.send_what_waits(now);
        }
    }

    fn send_what_waits(&mut self, now: Instant) {
        while self.link == LinkState::Up && !self.output.is_full() {
            if let Some(id) = self.resending.pop_front() {
                // It may have been answered meanwhile.
                if self.ring.get(id).is_some_and(|entry| !entry.on_this_link) {
                    self.send(id, now);
                }
                continue;
            }
            let Some(next) = self.waiting.front() else {
                return;
            };
            let held_back = self.filters.is_renewing() && !next.is_renewal();
            if held_back || self.ring.room() == 0 || self.would_overtake() {
                return;
            }
            if let Some(entry) = self.waiting.pop_front() {
                self.submit(entry, now);
            }
        }
    }

    /// Reserves an identifier, then encodes; without a free one it waits for its turn.
    pub(super) fn submit(&mut self, entry: Entry<T>, now: Instant) {
        let renewal = entry.is_renewal();
        match self.ring.push(entry) {
            Ok(id) => {
                if renewal {
                    self.filters.handle_renewal_sent();
                }
                self.send(id, now);
            }
            Err(entry) => {
                // What was first until now may have been held by another.
                self.held_by = None;
                self.waiting.push_front(entry);
            }
        }
    }

    /// Encodes the entry's packet, with DUP where the broker may have seen it.
    pub(super) fn send(&mut self, id: PacketId, now: Instant) {
        let begin = self.output.position();
        let Some(entry) = self.ring.get_mut(id) else {
            return;
        };
        match &mut entry.body {
            Body::Publish(message) => {
                let dup = entry.sent_in_session;
                self.output.publish(message, Some(id), dup);
            }
            Body::Release { .. } => self.output.release(id),
            Body::Subscribe(asked) => {
                self.output.subscribe(id, asked.packet());
            }
            Body::Unsubscribe(left) => {
                self.output.unsubscribe(id, left.packet());
                // A SUBSCRIBE that it waited for may have been granted meanwhile.
                for filter in left.packet() {
                    self.filters.remove(filter);
                }
            }
        }
        if !matches!(entry.body, Body::Release { .. }) {
            entry.attempts += 1;
        }
        self.leaving.push_back(Leaving {
            id,
            begin,
            ever_sent: entry.ever_sent,
            sent_in_session: entry.sent_in_session,
        });
        entry.ever_sent = true;
        entry.sent_in_session = true;
        entry.on_this_link = true;
        entry.sent = now;
        entry.end = self.output.position();
        self.liveness.handle_sent(now);
    }

    /// Forgets which packets were in the output and have left. If that was some time after they were
    /// encoded, they start to wait for their acknowledgment only now.
    pub(super) fn forget_left(&mut self, now: Instant) {
        let first = self.leaving.front();
        let first = first.and_then(|first| self.ring.get(first.id));
        let late = first.is_some_and(|first| first.sent < now);
        if self.output.is_empty() && !late {
            return self.leaving.clear();
        }
        while let Some(first) = self.leaving.front() {
            match self.ring.get_mut(first.id) {
                Some(entry) if entry.end > self.output.written() => return,
                Some(entry) if late => entry.sent = now,
                _ => {}
            }
            self.leaving.pop_front();
        }
    }

    /// The link is gone that took this many bytes: packets of which it took nothing were not sent.
    pub(super) fn take_back(&mut self, taken: u64) {
        for back in std::mem::take(&mut self.leaving) {
            if back.begin >= taken
                && let Some(entry) = self.ring.get_mut(back.id)
            {
                entry.on_this_link = false;
                entry.ever_sent = back.ever_sent;
                entry.sent_in_session = back.sent_in_session;
                let attempts = u32::from(!entry.is_release());
                entry.attempts = entry.attempts.saturating_sub(attempts);
            }
        }
    }

    pub(super) fn on_puback(&mut self, id: PacketId, now: Instant) {
        let expected = |body: &Body| body.is_publish(QoS::AtLeastOnce);
        self.complete_answered("PUBACK", id, expected, now);
    }

    pub(super) fn on_pubrec(&mut self, id: PacketId, now: Instant) {
        let order = self.next_release;
        match sent(&mut self.ring, id).map(|entry| &mut entry.body) {
            // From here on the message itself is never sent again [MQTT-4.3.3-1].
            Some(body) if body.is_publish(QoS::ExactlyOnce) => {
                self.next_release += 1;
                *body = Body::Release { order };
            }
            // Repeated, it is answered again, and that is all: neither may it put off the PUBCOMP that
            // is awaited, nor may the answers pile up unread.
            Some(Body::Release { .. }) => return self.output.acknowledge(Ack::PubRel, id),
            _ => return self.ignore_unsolicited("PUBREC", Some(id)),
        }
        self.progress = true;
        self.send(id, now);
    }

    pub(super) fn on_pubcomp(&mut self, id: PacketId, now: Instant) {
        let expected = |body: &Body| matches!(body, Body::Release { .. });
        self.complete_answered("PUBCOMP", id, expected, now);
    }

    pub(super) fn on_suback(
        &mut self,
        id: PacketId,
        answers: &[Option<QoS>],
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let Some(Entry {
            body: Body::Subscribe(asked),
            ..
        }) = sent(&mut self.ring, id)
        else {
            self.ignore_unsolicited("SUBACK", Some(id));
            return Ok(());
        };
        let expected = asked.packet().len();
        if answers.len() != expected {
            return Err(ProtocolError::unexpected(
                "SUBACK",
                format!("{} return codes for {expected} filters", answers.len()),
                "MQTT-3.9.3-1",
            ));
        }
        self.progress = true;
        let filters = asked.packet();
        for filter in self.filters.handle_suback(filters, answers, asked.renewal) {
            self.events.push(Event::SubscriptionRefused { filter });
        }
        asked.granted.extend_from_slice(answers);
        let done = asked.left().is_empty();
        self.go_on(id, done, now);
        self.send_waiting(now);
        Ok(())
    }

    pub(super) fn on_unsuback(&mut self, id: PacketId, now: Instant) {
        let Some(Entry {
            body: Body::Unsubscribe(left),
            ..
        }) = sent(&mut self.ring, id)
        else {
            return self.ignore_unsolicited("UNSUBACK", Some(id));
        };
        self.progress = true;
        left.done += left.packet().len();
        let done = left.left().is_empty();
        self.go_on(id, done, now);
    }

    /// A request that was answered is done, or its next packet is sent, if it has more filters than one
    /// packet takes.
    fn go_on(&mut self, id: PacketId, done: bool, now: Instant) {
        if done {
            self.complete(id, now);
        } else if let Some(mut entry) = self.ring.remove(id) {
            entry.sent_in_session = false;
            entry.attempts = 0;
            self.submit(entry, now);
        }
    }

    /// Ends a command that the broker has answered, and frees its identifier. In place, under load: an
    /// entry is too large to be moved about for each message.
    fn complete(&mut self, id: PacketId, now: Instant) {
        let Some(entry) = self.ring.get_mut(id) else {
            return;
        };
        let granted = match &mut entry.body {
            Body::Subscribe(asked) => std::mem::take(&mut asked.granted),
            _ => Vec::new(),
        };
        let outcome = match granted.iter().copied().collect() {
            Some(granted) => Outcome::Delivered {
                attempts: entry.attempts,
                latency: now.saturating_duration_since(entry.since),
                granted,
            },
            None => Outcome::Refused { granted },
        };
        let token = entry.token.take();
        self.ring.free(id);
        if self.ring.occupied() == 0 {
            self.liveness.handle_all_acknowledged();
        }
        if let Some(token) = token {
            self.events.resolve(token, outcome);
        }
        self.send_waiting(now);
    }

    /// Ends the command if the acknowledgment is one that its entry awaits; any other is logged and
    /// ignored.
    fn complete_answered(
        &mut self,
        name: &str,
        id: PacketId,
        expected: impl Fn(&Body) -> bool,
        now: Instant,
    ) {
        if !sent(&mut self.ring, id).is_some_and(|entry| expected(&entry.body)) {
            return self.ignore_unsolicited(name, Some(id));
        }
        self.progress = true;
        self.complete(id, now);
    }

    /// Whether a request for one of the filters of what stands first in `waiting` is under way. That waits
    /// until it is answered: two at a time could take effect in another order than they were made in,
    /// because the rest of a long one leaves later, or because only one is sent again on the next link.
    fn would_overtake(&mut self) -> bool {
        let holds = |id: PacketId| self.ring.get(id).is_some_and(Entry::is_request);
        // Looked for once, not at each acknowledgment that comes meanwhile.
        if !self.held_by.is_some_and(holds) {
            let next = self.waiting.front();
            self.held_by = next.and_then(|next| self.find_request_before(next));
        }
        self.held_by.is_some()
    }

    fn find_request_before(&self, entry: &Entry<T>) -> Option<PacketId> {
        if !entry.is_request() || entry.is_renewal() {
            return None;
        }
        let filters: BTreeSet<_> = entry.filters().collect();
        let mut others = self.ring.iter();
        let found =
            others.find(|(_, other)| other.filters().any(|filter| filters.contains(filter)));
        found.map(|(id, _)| id)
    }
}
