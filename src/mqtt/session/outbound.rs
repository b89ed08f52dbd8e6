//! The sending half of the session: commands on their way to their acknowledgment.
//!
//! A command gets an identifier and a slot in the ring, and then its packet goes into the output: a packet that
//! is out always has a slot.
//!
//! Whether the link is up and which filters the broker serves is not known here: the front door in `mod.rs` asks
//! for the next packet when it may be sent. Pure; the loop's thread.

#[cfg(test)]
mod inspect;
mod links;
mod quota;
mod requests;
#[cfg(test)]
mod tests;
mod trials;
mod unsent;

use std::time::Instant;

use super::entry::{Body, Entry, FILTERS_PER_PACKET, Subscribing, packets};
use super::event::{Events, FirstUnanswered, OnSessionLost, SessionOptions};
use super::leaving::Leaving;
use super::output::Output;
use super::recovery::Recovery;
use super::ring::Ring;
use super::suspects::{Suspects, Suspicion};
use super::waiting::{Room, Waiting};
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::{Answer, Filter, PacketId, QoS};

/// Identifiers that new commands leave free for renewals and for the next packets of commands with many
/// filters.
const SPARE_IDENTIFIERS: u16 = 16;

/// The answer that a PUBREC asks for: PUBREL, unless the command was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// The first one for this message: PUBREL is to be sent, and PUBCOMP is awaited.
    First,
    /// A repeated one: PUBREL is to be sent once more, and nothing else changes. The repetition may not put
    /// off the PUBCOMP that is awaited.
    Again,
    /// Nothing is known of the message, and PUBCOMP is awaited as with the first one.
    Unknown,
    /// Nothing is known of the message, and another packet has its identifier: PUBREL is to be sent.
    UnknownInUse,
    /// None: a PUBREL was given up, and nothing more is sent under its identifier.
    GivenUp,
    /// With MQTT 5: nothing is known of the message, and PUBREL says so [MQTT-3.6.2-1].
    NotFound,
}

/// A packet that awaits an acknowledgment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) id: PacketId,
    /// When it left, or was encoded if it has not left yet, by the clock of answers.
    pub(super) sent: Instant,
    /// Where it ends in the output.
    pub(super) end: u64,
}

/// Commands that have not ended.
#[derive(Debug, Clone)]
pub(super) struct Outbound<T> {
    /// How many commands may be in flight at one time.
    window: u16,
    /// How many of them may be QoS 2 messages.
    window_qos2: u16,
    /// So many commands, and bytes of their messages, may wait so that a request behind them is reached.
    max_waiting: usize,
    max_waiting_bytes: usize,
    /// How many PUBLISHes of QoS 1 and 2 the broker takes at one time [MQTT-4.9.0-1]: with MQTT 5 alone.
    quota: Option<u16>,
    /// How many of those that were sent on this link have not ended.
    in_quota: usize,
    on_session_lost: OnSessionLost,
    ring: Ring<Entry<T>>,
    /// QoS 2 messages in the ring between PUBLISH and PUBCOMP that were not given up.
    exactly_once: usize,
    waiting: Waiting<T>,
    leaving: Leaving<T>,
    next_release: u64,
    recovery: Recovery,
    suspects: Suspects,
    /// Identifiers of commands that were given up and may still be answered.
    given_up: usize,
    /// Whether PUBREC ever came for a message of ours.
    has_qos2: bool,
}

/// The entry that an acknowledgment may be for. A packet that was never in the output has none. PUBREL may have left
/// ahead of its turn, in answer to a repeated PUBREC.
fn sent<T>(ring: &mut Ring<Entry<T>>, id: PacketId) -> Option<&mut Entry<T>> {
    ring.get_mut(id)
        .filter(|entry| entry.ever_sent || entry.is_release())
}

/// Commands on their way into the output.
impl<T> Outbound<T> {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        let spare_identifiers = SPARE_IDENTIFIERS.min(options.identifiers / 4);
        let most = options.identifiers - spare_identifiers;
        Outbound {
            window: options.max_inflight.min(most),
            window_qos2: options.max_inflight_qos2.max(1),
            max_waiting: options.max_waiting,
            max_waiting_bytes: options.max_waiting_bytes,
            quota: None,
            in_quota: 0,
            on_session_lost: options.on_session_lost,
            ring: Ring::new(options.identifiers, options.first_identifier),
            exactly_once: 0,
            waiting: Waiting::default(),
            leaving: Leaving::default(),
            next_release: 0,
            recovery: Recovery::default(),
            suspects: Suspects::new(options, now),
            given_up: 0,
            has_qos2: false,
        }
    }

    /// Encodes a QoS 0 PUBLISH, whose command began at `since`.
    pub(super) fn send_unacknowledged(
        &mut self,
        mut message: Outgoing,
        token: T,
        output: &mut Output,
        since: Instant,
        now: Instant,
    ) {
        let begin = output.position();
        let expiry = message.expiry(now);
        output.publish(&mut message, None, false, expiry);
        self.suspects.note_company();
        self.leaving
            .push_unacknowledged(token, begin, output, since);
    }

    /// Lets a command wait for its turn.
    pub(super) fn wait(&mut self, token: T, body: Body, now: Instant) {
        self.waiting.push_back(Entry::new(Some(token), body, now));
    }

    /// Lets renewals of these filters wait, ahead of every other command: one filter to a packet if each packet
    /// is to be tried alone, or `alone` says so.
    pub(super) fn renew(&mut self, filters: &[Filter], alone: bool, now: Instant) {
        let size = match self.suspects.is_off() && !alone {
            true => FILTERS_PER_PACKET,
            false => 1,
        };
        for filters in packets(filters, size).rev() {
            let body = Body::Subscribe(Subscribing::new(filters.to_vec(), true));
            let mut entry = Entry::new(None, body, now);
            if let [alone] = filters {
                entry.suspicion = self.suspects.of_renewal(&alone.filter);
            }
            self.waiting.push_front(entry);
        }
    }

    /// Reserves an identifier for a packet that is to be sent now. Without a free one the command waits, ahead
    /// of every other.
    // An entry is large: it must not be moved once more.
    #[inline(always)]
    pub(super) fn reserve(&mut self, entry: Entry<T>) -> Option<PacketId> {
        let is_exactly_once = entry.is_exactly_once();
        match self.ring.push(entry) {
            Ok(id) => {
                self.exactly_once += usize::from(is_exactly_once);
                Some(id)
            }
            Err(entry) => {
                self.waiting.push_front(entry);
                None
            }
        }
    }

    /// The next packet that may be sent: first those that have to be sent again, then what stands in `waiting`.
    /// While subscriptions are being renewed, only further renewals may. On a trial link one packet may at a time,
    /// and renewals are the first of them. A QoS 2 message waits for room in its window, and what stands behind it
    /// waits with it.
    pub(super) fn poll_unsent(&mut self, is_renewing: bool) -> Option<PacketId> {
        if !self.suspects.lets_send() {
            return None;
        }
        // Some are left when a trial has ended.
        if let Some(id) = self.poll_renewal() {
            return Some(id);
        }
        let has_quota = self.has_quota();
        if let Some(id) = self.recovery.poll_unsent(&self.ring, has_quota) {
            return Some(id);
        }
        let has_room = Room {
            qos2: self.qos2_in_flight() < usize::from(self.window_qos2),
            quota: has_quota && self.has_window(),
            requests_pass: self.quota.is_some(),
        };
        let standing = self.standing_suspects();
        let is_renewing = is_renewing && self.suspects.is_off();
        let entry = self
            .waiting
            .poll(&self.ring, is_renewing, &standing, has_room)?;
        self.reserve(entry)
    }

    /// The next renewal, if it may be sent and there is an identifier for it.
    pub(super) fn poll_renewal(&mut self) -> Option<PacketId> {
        if !self.suspects.lets_send() {
            return None;
        }
        let entry = self.waiting.poll_renewal(&self.ring)?;
        self.reserve(entry)
    }

    /// Encodes the packet under this identifier, with DUP where the broker may have seen it. Returns what it is.
    /// The clock of answers shows `clock`.
    pub(super) fn send(
        &mut self,
        id: PacketId,
        output: &mut Output,
        now: Instant,
        clock: Instant,
    ) -> Option<&Body> {
        let entry = self.ring.get_mut(id).filter(|entry| !entry.is_given_up())?;
        self.leaving.push(id, entry, output);
        match &mut entry.body {
            Body::Publish(message) => {
                let expiry = message.expiry(now);
                output.publish(message, Some(id), entry.sent_in_session, expiry);
                entry.in_quota = self.quota.is_some();
                self.in_quota += usize::from(entry.in_quota);
            }
            Body::Release { .. } => output.release(id),
            Body::Subscribe(asked) => output.subscribe(id, asked.packet()),
            Body::Unsubscribe(left) => output.unsubscribe(id, left.packet()),
            Body::GivenUp { .. } => return None,
        }
        if !entry.is_release() {
            entry.attempts += 1;
        }
        entry.ever_sent = true;
        entry.sent_in_session = true;
        entry.on_this_link = true;
        entry.sent = clock;
        entry.end = output.position();
        self.suspects.handle_sent(id, now);
        Some(&entry.body)
    }

    /// The command under this identifier, if there is one: its token, and whether its next packet was sent before.
    pub(super) fn token(&self, id: PacketId) -> Option<(Option<&T>, bool)> {
        let entry = self.ring.get(id)?;
        // Its PUBLISH was sent on this link, its PUBREL was not.
        let is_next = entry.is_release() && entry.on_this_link;
        Some((entry.token.as_ref(), entry.ever_sent && !is_next))
    }

    /// The link took bytes. The clock of answers shows `clock`.
    pub(super) fn handle_written(
        &mut self,
        output: &Output,
        events: &mut Events<T>,
        now: Instant,
        clock: Instant,
    ) {
        self.leaving.forget_left(output, &mut self.ring, clock);
        self.leaving.end_left(output, events, now);
    }
}

/// Their answers. Each function returns whether the answer was awaited, or `None` where it was not.
impl<T> Outbound<T> {
    pub(super) fn handle_puback(
        &mut self,
        id: PacketId,
        answer: Option<Box<Answer>>,
        events: &mut Events<T>,
        now: Instant,
    ) -> bool {
        // A broker without QoS 2 answers it in the same way.
        let expected = |body: &Body| matches!(body, Body::Publish(_));
        self.complete(id, expected, answer, events, now)
    }

    /// PUBREC of MQTT 5 with a failure: it ends the message, and no PUBREL follows [MQTT-4.3.3-4].
    pub(super) fn handle_refusal(
        &mut self,
        id: PacketId,
        answer: Box<Answer>,
        events: &mut Events<T>,
        now: Instant,
    ) -> bool {
        let expected = |body: &Body| body.is_publish(QoS::ExactlyOnce);
        let awaited = self.complete(id, expected, Some(answer), events, now);
        self.has_qos2 |= awaited;
        awaited
    }

    /// From the first PUBREC on the message itself is never sent again [MQTT-4.3.3-1].
    ///
    /// A broker that kept the session may hold a QoS 2 message of an earlier life of this client. Until that is
    /// released, the broker may take another message under its identifier for the same one, and swallow it. So the
    /// identifier is in use until PUBCOMP, or until the broker has lost the session. That of a command that was given up
    /// is, too, unless it was a PUBREL.
    pub(super) fn handle_pubrec(
        &mut self,
        id: PacketId,
        answer: Option<Box<Answer>>,
        now: Instant,
    ) -> Released {
        if self.quota.is_some() && !self.awaits_pubrec(id) {
            self.suspects.note_company();
            return Released::NotFound;
        }
        if self.ring.is_free(id) {
            let release = Entry::release(&mut self.next_release, now);
            self.suspects.note_company();
            return match self.ring.insert(id, release) {
                Ok(()) => {
                    self.exactly_once += 1;
                    Released::Unknown
                }
                Err(_) => Released::UnknownInUse,
            };
        }
        let is_beside = !self.suspects.tries(id);
        let released = match self.ring.get_mut(id) {
            Some(entry) if entry.is_release() => Released::Again,
            Some(Entry {
                body:
                    Body::GivenUp {
                        until_session_ends: true,
                    },
                ..
            }) => {
                // No PUBREL answers it, so nothing leaves beside what is tried.
                return Released::GivenUp;
            }
            Some(entry) if entry.is_given_up() => {
                entry.body.release(&mut self.next_release, None);
                self.given_up -= 1;
                self.exactly_once += 1;
                Released::Unknown
            }
            Some(entry) if entry.ever_sent && entry.body.is_publish(QoS::ExactlyOnce) => {
                self.has_qos2 = true;
                entry.body.release(&mut self.next_release, answer);
                entry.suspicion = Suspicion::default();
                let is_witness = entry.on_this_link;
                self.handle_answered(id, is_witness);
                Released::First
            }
            Some(entry) => {
                entry.shares_identifier = true;
                // A packet that was not sent on this link follows behind this PUBREL.
                entry.follows_release |= !entry.on_this_link;
                Released::UnknownInUse
            }
            None => Released::UnknownInUse,
        };
        if is_beside || released == Released::UnknownInUse {
            self.suspects.note_company();
        }
        released
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        id: PacketId,
        answer: Option<Box<Answer>>,
        events: &mut Events<T>,
        now: Instant,
    ) -> bool {
        if let Some(entry) = self.ring.get_mut(id)
            && std::mem::take(&mut entry.shares_identifier)
        {
            // A broker that took the message has acknowledged it before it saw the PUBREL.
            if entry.body.is_publish(QoS::AtLeastOnce) && !entry.follows_release {
                entry.follows_release = true;
                entry.on_this_link = false;
                self.recovery.send_again(id);
                self.suspects.handle_answered(id, false);
            }
            return true;
        }
        let expected = |body: &Body| matches!(body, Body::Release { .. });
        self.complete(id, expected, answer, events, now)
    }

    /// Ends the command that the broker has answered, and frees its identifier; returns false if its entry awaits
    /// another answer. The entry ends in place: it is too large to be moved about for each message.
    fn complete(
        &mut self,
        id: PacketId,
        expected: impl Fn(&Body) -> bool,
        answer: Option<Box<Answer>>,
        events: &mut Events<T>,
        now: Instant,
    ) -> bool {
        let entry = sent(&mut self.ring, id).filter(|entry| expected(&entry.body));
        let Some(entry) = entry else {
            let late = self.ring.get_mut(id).filter(|entry| entry.is_given_up());
            let was_in_quota = late.is_some_and(|entry| std::mem::take(&mut entry.in_quota));
            self.in_quota -= usize::from(was_in_quota);
            return false;
        };
        let token = entry.token.take();
        if token.is_some() {
            self.suspects.note_answer();
        }
        let is_witness = entry.on_this_link && !entry.is_release();
        let outcome = entry.outcome(answer, now);
        self.in_quota -= usize::from(std::mem::take(&mut entry.in_quota));
        if std::mem::take(&mut entry.shares_identifier) {
            self.exactly_once += usize::from(!entry.is_exactly_once());
            entry.body.release(&mut self.next_release, None);
            entry.suspicion = Suspicion::default();
            // Its time goes on from the PUBLISH, if that was sent on this link. PUBREL was.
            if !std::mem::replace(&mut entry.on_this_link, true) {
                (entry.sent, entry.end) = (now, 0);
            }
        } else {
            self.exactly_once -= usize::from(entry.is_exactly_once());
            self.ring.free(id);
        }
        self.handle_answered(id, is_witness);
        if let Some(token) = token {
            events.answer(token, outcome);
        }
        true
    }

    /// The packet under this identifier was answered.
    fn handle_answered(&mut self, id: PacketId, is_witness: bool) {
        self.recovery.note_progress();
        self.suspects.handle_answered(id, is_witness);
    }
}

/// Questions.
impl<T> Outbound<T> {
    /// Whether PUBREC may come for this identifier, and be answered as one of ours.
    fn awaits_pubrec(&self, id: PacketId) -> bool {
        self.ring.get(id).is_some_and(|entry| match &entry.body {
            Body::Release { .. } => true,
            Body::GivenUp { until_session_ends } => *until_session_ends,
            body => entry.ever_sent && body.is_publish(QoS::ExactlyOnce),
        })
    }

    /// The command under this identifier, of which a packet is to be sent.
    pub(super) fn entry(&self, id: PacketId) -> Option<&Entry<T>> {
        self.ring.get(id)
    }

    /// Whether one more command may be handed in.
    pub(super) fn has_room(&self) -> bool {
        !self.has_waiting()
            && self.has_quota()
            && match self.suspects.is_off() {
                true => self.in_flight() < usize::from(self.window),
                // One that shows whether the broker answers.
                false => self.suspects.wants_witness() && self.ring.room() > 0,
            }
    }

    /// Whether a QoS 2 message is unanswered on this link, and the broker has never answered one.
    fn lacks_qos2(&self) -> bool {
        let is_unanswered =
            |entry: &Entry<T>| entry.on_this_link && entry.body.is_publish(QoS::ExactlyOnce);
        !self.has_qos2 && self.ring.iter().any(|(_, entry)| is_unanswered(entry))
    }

    /// Whether there is this identifier, and it is not in use.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_free(&self, id: PacketId) -> bool {
        self.ring.is_free(id)
    }

    /// Whether the command under this identifier was given up, and may still be answered.
    pub(super) fn is_given_up(&self, id: PacketId) -> bool {
        self.ring.get(id).is_some_and(Entry::is_given_up)
    }

    /// Whether a packet waits to be sent.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.recovery.is_resending()
    }

    /// Whether something that was handed in has not been put into the output yet.
    pub(super) fn has_unsent(&self) -> bool {
        self.has_waiting() || self.ring.iter().any(|(_, entry)| entry.has_rest())
    }

    /// How many commands may be in flight at one time. A broker that takes fewer PUBLISHes makes it smaller.
    pub(super) fn window(&self) -> u16 {
        self.quota
            .map_or(self.window, |quota| quota.min(self.window))
    }

    /// How many commands are awaited that have an identifier.
    pub(super) fn in_flight(&self) -> usize {
        self.ring.occupied() - self.given_up - self.suspects.standing().len()
    }

    /// How many QoS 2 messages are awaited between PUBLISH and PUBCOMP.
    fn qos2_in_flight(&self) -> usize {
        let standing = self.suspects.standing().iter();
        let entries = standing.filter_map(|id| self.ring.get(*id));
        self.exactly_once - entries.filter(|entry| entry.is_exactly_once()).count()
    }

    /// How many commands have not ended.
    pub(super) fn unresolved(&self) -> usize {
        self.open().count() + self.leaving.unresolved()
    }

    pub(super) fn has_unresolved(&self) -> bool {
        self.leaving.unresolved() > 0 || self.open().next().is_some()
    }

    /// The entries of commands that have not ended.
    fn open(&self) -> impl Iterator<Item = &Entry<T>> {
        let entries = self.ring.iter().map(|(_, entry)| entry);
        let entries = entries.chain(self.waiting.iter());
        entries.filter(|entry| entry.token.is_some())
    }

    pub(super) fn made_progress(&self) -> bool {
        self.recovery.made_progress()
    }

    /// The position on the circle of identifiers of the next one. It may be in use.
    pub(super) fn next_position(&self) -> u16 {
        self.ring.next_position()
    }

    /// The packet that has awaited an acknowledgment on this link for the longest time.
    pub(super) fn oldest_unanswered(&self) -> Option<Unanswered> {
        let standing = self.suspects.standing();
        let is_awaited = |id: PacketId, entry: &Entry<T>| {
            entry.on_this_link && !entry.is_given_up() && !standing.contains(&id)
        };
        let all = self.ring.in_order();
        let on_this_link = all.filter(|(id, entry)| is_awaited(*id, entry));
        let unanswered = on_this_link.map(|(id, entry)| Unanswered {
            id,
            sent: entry.sent,
            end: entry.end,
        });
        unanswered.min_by_key(|unanswered| unanswered.sent)
    }
}

/// For people.
impl<T> Outbound<T> {
    /// The command that was sent first of those that are unanswered on this link.
    pub(super) fn first_unanswered(&self) -> Option<FirstUnanswered> {
        let entries = self.ring.in_order().map(|(_, entry)| entry);
        let mut unanswered = entries.filter(|entry| entry.on_this_link && !entry.is_given_up());
        let name = unanswered.next()?.body.name();
        let count = 1 + unanswered.count();
        let lacks_qos2 = self.lacks_qos2();
        Some(FirstUnanswered {
            name,
            count,
            lacks_qos2,
        })
    }
}
