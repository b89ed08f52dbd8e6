//! The sending half of the session: commands on their way to their acknowledgment.
//!
//! A command gets an identifier and a slot in the ring, and then its packet goes into the output: a packet that
//! is out always has a slot.
//!
//! Whether the link is up and which filters the broker serves is not known here: the front door in `mod.rs` asks
//! for the next packet when it may be sent. Pure; the loop's thread.

use std::time::Instant;

use super::entry::{Body, Entry, FILTERS_PER_PACKET, Subscribing, Unsubscribing};
use super::event::{Event, Events, FirstUnanswered, LinkEnd, OnSessionLost, SessionOptions};
use super::leaving::Leaving;
use super::outcome::{Outcome, Reason};
use super::output::Output;
use super::recovery::Recovery;
use super::ring::Ring;
use super::suspects::{Suspects, Suspicion};
use super::waiting::Waiting;
use crate::mqtt::packet::{Filter, PacketId, QoS};
use crate::mqtt::v4::Outgoing;

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
    /// None: the command was given up, and nothing more is sent under its identifier.
    GivenUp,
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

/// The request that an acknowledgment may be for. The session that a broker keeps has no requests in it, so it has
/// to be one that was sent on this link.
fn asked<T>(ring: &mut Ring<Entry<T>>, id: PacketId) -> Option<&mut Body> {
    let entry = ring.get_mut(id).filter(|entry| entry.on_this_link)?;
    Some(&mut entry.body)
}

/// Commands on their way into the output.
impl<T> Outbound<T> {
    pub(super) fn new(options: &SessionOptions, now: Instant) -> Self {
        let spare_identifiers = SPARE_IDENTIFIERS.min(options.identifiers / 4);
        let most = options.identifiers - spare_identifiers;
        Outbound {
            window: options.max_inflight.min(most),
            window_qos2: options.max_inflight_qos2.max(1),
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

    /// Encodes a QoS 0 PUBLISH.
    pub(super) fn send_unacknowledged(
        &mut self,
        mut message: Outgoing,
        token: T,
        output: &mut Output,
        now: Instant,
    ) {
        let begin = output.position();
        output.publish(&mut message, None, false);
        self.suspects.note_company();
        self.leaving.push_unacknowledged(token, begin, output, now);
    }

    /// Lets a command wait for its turn.
    pub(super) fn wait(&mut self, token: T, body: Body, now: Instant) {
        self.waiting.push_back(Entry::new(Some(token), body, now));
    }

    /// Lets renewals of these filters wait, ahead of every other command: one filter to a packet if each packet
    /// is to be tried alone.
    pub(super) fn renew(&mut self, filters: &[Filter], now: Instant) {
        let size = match self.suspects.is_off() {
            true => FILTERS_PER_PACKET,
            false => 1,
        };
        for filters in filters.chunks(size).rev() {
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
        if let Some(id) = self.recovery.poll_unsent(&self.ring) {
            return Some(id);
        }
        let has_room = self.qos2_in_flight() < usize::from(self.window_qos2);
        let standing = self.suspects.standing();
        let is_renewing = is_renewing && self.suspects.is_off();
        let entry = self
            .waiting
            .poll(&self.ring, is_renewing, standing, has_room)?;
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
            Body::Publish(message) => output.publish(message, Some(id), entry.sent_in_session),
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
        events: &mut Events<T>,
        now: Instant,
    ) -> bool {
        // A broker without QoS 2 answers it in the same way.
        let expected = |body: &Body| matches!(body, Body::Publish(_));
        self.complete(id, expected, events, now)
    }

    /// From the first PUBREC on the message itself is never sent again [MQTT-4.3.3-1].
    ///
    /// A broker that kept the session may hold a QoS 2 message of an earlier life of this client. Until that is
    /// released, the broker may take another message under its identifier for the same one, and swallow it. So the
    /// identifier is in use until PUBCOMP, or until the broker has lost the session.
    pub(super) fn handle_pubrec(&mut self, id: PacketId, now: Instant) -> Released {
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
            Some(entry) if entry.is_given_up() => Released::GivenUp,
            Some(entry) if entry.ever_sent && entry.body.is_publish(QoS::ExactlyOnce) => {
                self.has_qos2 = true;
                entry.body.release(&mut self.next_release);
                entry.suspicion = Suspicion::default();
                let is_witness = entry.on_this_link;
                self.handle_answered(id, is_witness);
                Released::First
            }
            Some(entry) => {
                // A packet that was not sent on this link follows behind this PUBREL.
                entry.shares_identifier = entry.on_this_link && !entry.was_resent;
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
        events: &mut Events<T>,
        now: Instant,
    ) -> bool {
        if let Some(entry) = self.ring.get_mut(id)
            && std::mem::take(&mut entry.shares_identifier)
        {
            // A broker that took the message has acknowledged it before it saw the PUBREL.
            if entry.body.is_publish(QoS::AtLeastOnce) {
                entry.was_resent = true;
                entry.on_this_link = false;
                self.recovery.send_again(id);
                self.suspects.handle_answered(id, false);
            }
            return true;
        }
        let expected = |body: &Body| matches!(body, Body::Release { .. });
        self.complete(id, expected, events, now)
    }

    /// The SUBSCRIBE that a SUBACK answers.
    pub(super) fn subscribing(&mut self, id: PacketId) -> Option<&mut Subscribing> {
        match asked(&mut self.ring, id)? {
            Body::Subscribe(asked) => Some(asked),
            _ => None,
        }
    }

    /// The UNSUBSCRIBE that an UNSUBACK answers.
    pub(super) fn unsubscribing(&mut self, id: PacketId) -> Option<&mut Unsubscribing> {
        match asked(&mut self.ring, id)? {
            Body::Unsubscribe(left) => Some(left),
            _ => None,
        }
    }

    /// The request under this identifier was answered: it is done, or its next packet has to be sent under the
    /// identifier that is returned, if there is one for it already.
    pub(super) fn handle_request_answered(
        &mut self,
        id: PacketId,
        events: &mut Events<T>,
        now: Instant,
    ) -> Option<PacketId> {
        if let Some(entry) = self.ring.get(id).filter(|entry| entry.is_renewal()) {
            let filters = entry.filters();
            filters.for_each(|filter| self.suspects.forget_renewal(filter));
        }
        if self.ring.get(id).is_some_and(Entry::is_answered) {
            self.complete(id, |_| true, events, now);
            return None;
        }
        self.handle_answered(id, true);
        let mut entry = self.ring.remove(id)?;
        entry.sent_in_session = false;
        entry.attempts = 0;
        if std::mem::take(&mut entry.shares_identifier) {
            let mut release = Entry::release(&mut self.next_release, now);
            release.ever_sent = true;
            release.on_this_link = true;
            release.sent = entry.sent;
            // The identifier was freed a moment ago.
            self.exactly_once += usize::from(self.ring.insert(id, release).is_ok());
        }
        entry.suspicion = Suspicion::default();
        self.reserve(entry)
    }

    /// Ends the command that the broker has answered, and frees its identifier; returns false if its entry awaits
    /// another answer. The entry ends in place: it is too large to be moved about for each message.
    fn complete(
        &mut self,
        id: PacketId,
        expected: impl Fn(&Body) -> bool,
        events: &mut Events<T>,
        now: Instant,
    ) -> bool {
        let entry = sent(&mut self.ring, id).filter(|entry| expected(&entry.body));
        let Some(entry) = entry else {
            return false;
        };
        let token = entry.token.take();
        if token.is_some() {
            self.suspects.note_answer();
        }
        let is_witness = entry.on_this_link && !entry.is_release();
        let outcome = entry.outcome(now);
        if std::mem::take(&mut entry.shares_identifier) {
            // Its time goes on from the PUBLISH.
            entry.body.release(&mut self.next_release);
            self.exactly_once += 1;
        } else {
            self.exactly_once -= usize::from(entry.is_exactly_once());
            self.ring.remove(id);
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

/// Links and sessions that come and go.
impl<T> Outbound<T> {
    /// The broker accepted CONNECT.
    pub(super) fn handle_connected(&mut self, now: Instant) {
        self.recovery.handle_connected();
        self.suspects.handle_connected(now);
    }

    /// The link is gone that took the bytes up to this position. A packet of which it took nothing was not
    /// sent. Commands wait for the next link, except for QoS 0 messages. Renewals are made anew on it. `end` is `None`
    /// if CONNACK had not come. Returns the filter of a renewal that is given up instead.
    pub(super) fn handle_link_lost(
        &mut self,
        taken: u64,
        end: Option<LinkEnd>,
        events: &mut Events<T>,
        now: Instant,
    ) -> Option<String> {
        self.leaving.take_back(taken, &mut self.ring);
        self.recovery.handle_link_lost();
        self.waiting.handle_link_lost();
        let guilty = self.count_loss(taken, end, now);
        let refused = guilty.and_then(|id| self.give_up(id, Reason::Parked, events));
        let mut gone = Vec::new();
        for (id, entry) in self.ring.iter_mut() {
            entry.on_this_link = false;
            entry.shares_identifier = false;
            entry.was_resent = false;
            if entry.is_renewal() {
                self.suspects.keep_renewal(entry.filters(), entry.suspicion);
                gone.push(id);
            }
            if let Body::GivenUp {
                until_session_ends: false,
            } = entry.body
            {
                self.given_up -= 1;
                gone.push(id);
            }
        }
        gone.into_iter().for_each(|id| drop(self.ring.remove(id)));
        self.leaving
            .end_unacknowledged(taken, Outcome::NeverSent, Reason::LinkLost, events);
        refused
    }

    /// The broker kept the session. Returns the PUBRELs that have to be sent at once, in order. On a trial link
    /// they wait for their turn.
    pub(super) fn resume(&mut self) -> Vec<PacketId> {
        let releases = self.recovery.resume(&self.ring);
        match self.suspects.is_off() {
            true => releases,
            false => {
                self.recovery.resend_first(releases);
                Vec::new()
            }
        }
    }

    /// The broker has no session: what was in flight is sent as new, except where that could deliver a QoS 2
    /// message twice.
    pub(super) fn handle_session_lost(&mut self, events: &mut Events<T>) {
        let waiting = self.waiting.drain();
        self.given_up = 0;
        self.exactly_once = 0;
        for mut entry in self.ring.drain().chain(waiting) {
            if entry.is_renewal() {
                continue;
            }
            if entry.ends_with_session(self.on_session_lost) {
                if let Some(token) = entry.token {
                    events.resolve(token, Outcome::PerhapsDelivered(Reason::SessionLost));
                }
                continue;
            }
            entry.sent_in_session = false;
            entry.on_this_link = false;
            self.waiting.push_back(entry);
        }
    }

    /// Ends every command.
    pub(super) fn abandon(&mut self, reason: Reason, written: u64, events: &mut Events<T>) {
        self.suspects.end();
        let waiting = self.waiting.drain();
        self.given_up = 0;
        self.exactly_once = 0;
        for entry in self.ring.drain().chain(waiting) {
            if let Some(token) = entry.token {
                let outcome = match entry.ever_sent {
                    false => Outcome::Cancelled(reason),
                    true => Outcome::PerhapsDelivered(reason),
                };
                events.resolve(token, outcome);
            }
        }
        self.leaving
            .end_unacknowledged(written, Outcome::Cancelled, reason, events);
    }
}

/// Commands that links may be lost because of: see `suspects.rs`.
impl<T> Outbound<T> {
    /// Makes the link that came up a trial link if a command or one of the filters that are owed is suspected.
    /// Returns whether it is one.
    pub(super) fn begin_trials(&mut self, owed: &[Filter], now: Instant) -> bool {
        let owed = owed.iter().map(|owed| owed.filter.as_str());
        self.suspects.keep_renewals(owed);
        let Some(suspect) = self.name_of_suspect() else {
            return false;
        };
        let idle = self.suspects.begin(now);
        log::warn!(
            "links were lost again and again while {suspect} was unanswered: this one stands idle for {} ms, and \
             then what is unanswered goes out one at a time",
            idle.as_millis()
        );
        true
    }

    /// For the log: the first command that is suspected.
    fn name_of_suspect(&self) -> Option<String> {
        let entries = self.ring.in_order().map(|(_, entry)| entry);
        let mut entries = entries.chain(self.waiting.iter());
        let suspect = entries.find(|entry| self.suspects.suspects(entry.suspicion));
        let renewal = || self.suspects.suspected_renewal();
        let renewal = || renewal().map(|filter| format!("SUBSCRIBE to {filter:?}"));
        suspect.map(|entry| entry.body.name()).or_else(renewal)
    }

    /// PINGRESP came, or time has passed. Returns whether packets may be sent that might not before.
    pub(super) fn goes_on_trying(&mut self, now: Instant) -> bool {
        self.suspects.becomes_ready(now)
    }

    /// PINGRESP came.
    pub(super) fn handle_pingresp(&mut self) {
        self.recovery.note_progress();
        self.suspects.handle_pingresp();
    }

    /// The acknowledgment under this identifier is late. Returns whether it is let stand, so that the link goes on:
    /// not unless the broker has answered every PINGREQ.
    pub(super) fn handle_late(&mut self, id: PacketId, broker_answers: bool, now: Instant) -> bool {
        if let Some(entry) = self.ring.get_mut(id) {
            entry.suspicion.count_loss();
        }
        broker_answers && self.suspects.lets_stand(id, now)
    }

    /// A packet was answered on a trial link: if it is a witness, those that stand without an answer are given up. The
    /// link is no trial link any more if nothing suspect is left. Returns the filters whose renewals are given up.
    pub(super) fn judge(&mut self, events: &mut Events<T>) -> Vec<String> {
        if self.suspects.is_off() {
            return Vec::new();
        }
        let mut standing = match self.suspects.take_witness() {
            true => self.suspects.standing().to_vec(),
            false => Vec::new(),
        };
        let is_suspect = |id: &PacketId| {
            let entry = self.ring.get(*id);
            entry.is_some_and(|entry| self.suspects.suspects(entry.suspicion))
        };
        standing.retain(is_suspect);
        let give_up = |id| self.give_up(id, Reason::Unanswered, events);
        let refused = standing.into_iter().filter_map(give_up).collect();
        if !self.has_suspects() {
            self.suspects.end();
        }
        refused
    }

    /// The command that stands without an answer for the longest time, if no other has shown in time that the
    /// broker answers.
    pub(super) fn late_without_witness(&mut self, now: Instant) -> Option<PacketId> {
        self.suspects.late_without_witness(now)
    }

    /// Whether packets are tried one at a time.
    pub(super) fn is_trying(&self) -> bool {
        !self.suspects.is_off()
    }

    /// When the trial goes on.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.suspects.next_timer()
    }

    fn has_suspects(&self) -> bool {
        let entries = self.ring.iter().map(|(_, entry)| entry);
        let mut entries = entries.chain(self.waiting.iter());
        self.suspects.suspected_renewal().is_some()
            || entries.any(|entry| self.suspects.suspects(entry.suspicion))
    }

    /// Counts the loss of a link against those that were unanswered on it. Returns the one that is given up.
    fn count_loss(&mut self, taken: u64, end: Option<LinkEnd>, now: Instant) -> Option<PacketId> {
        let by_broker = end? == LinkEnd::ByBroker;
        let tried = self.suspects.handle_link_lost(by_broker, now);
        if !by_broker {
            return None;
        }
        let mut has_news = false;
        for (_, entry) in self.ring.iter_mut().filter(|(_, entry)| entry.on_this_link) {
            has_news |= !self.suspects.suspects(entry.suspicion);
            entry.suspicion.count_loss();
        }
        let guilty = tried.and_then(|(id, counts)| {
            let entry = self.ring.get_mut(id).filter(|entry| entry.on_this_link)?;
            let counts = counts(entry.end <= taken);
            has_news |= counts;
            let is_guilty = self.suspects.judges(&mut entry.suspicion, counts);
            is_guilty.then_some(id)
        });
        // A link that tells something about a command was not made in vain.
        if has_news {
            self.recovery.note_progress();
        }
        guilty
    }

    /// Ends a command that the broker does not take. Returns the filter if it is a renewal.
    fn give_up(&mut self, id: PacketId, reason: Reason, events: &mut Events<T>) -> Option<String> {
        let entry = self.ring.get_mut(id)?;
        let command = entry.body.name();
        log::error!("{command} is given up: {reason}");
        events.push(Event::GivenUp { command, reason });
        let token = entry.token.take();
        let refused = match entry.is_renewal() {
            true => entry.filters().next().map(str::to_owned),
            false => None,
        };
        entry.suspicion = Suspicion::default();
        entry.on_this_link = false;
        if entry.body.is_publish(QoS::ExactlyOnce) {
            // The broker may hold the identifier: it is free on both sides after PUBREL and PUBCOMP.
            entry.body.release(&mut self.next_release);
            self.recovery.send_again(id);
        } else {
            let until_session_ends = entry.is_release();
            self.exactly_once -= usize::from(entry.is_exactly_once());
            entry.body = Body::GivenUp { until_session_ends };
            self.given_up += 1;
        }
        self.suspects.handle_answered(id, false);
        if let Some(filter) = &refused {
            self.suspects.forget_renewal(filter);
        }
        if let Some(token) = token {
            events.resolve(token, Outcome::PerhapsDelivered(reason));
        }
        refused
    }
}

/// Questions.
impl<T> Outbound<T> {
    /// Whether one more command may be handed in.
    pub(super) fn has_room(&self) -> bool {
        !self.has_waiting()
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

    /// Whether nothing more is sent under this identifier, although the broker may hold it.
    #[cfg(any(test, fuzzing))]
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

    pub(super) fn window(&self) -> u16 {
        self.window
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
        let entries = self.ring.iter().map(|(_, entry)| entry);
        let entries = entries.chain(self.waiting.iter());
        entries.filter(|entry| entry.token.is_some()).count() + self.leaving.unresolved()
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

/// For tests: see `inspect.rs`.
#[cfg(test)]
impl<T> Outbound<T> {
    pub(super) fn is_at_rest(&self) -> bool {
        self.in_flight() == 0 && self.waiting.is_empty()
    }

    pub(super) fn oldest_token(&self) -> Option<T>
    where
        T: Copy,
    {
        self.ring.in_order().find_map(|(_, entry)| entry.token)
    }

    pub(super) fn hash_state(&self, state: &mut impl std::hash::Hasher)
    where
        T: std::hash::Hash,
    {
        use std::hash::Hash;

        (&self.ring, &self.waiting, &self.leaving).hash(state);
        self.recovery.hash_state(state);
        self.suspects.hash_state(state);
    }

    pub(super) fn break_suspicion(&mut self) {
        self.suspects.break_suspicion();
    }

    pub(super) fn break_given_up(&mut self) {
        let given_up = self.ring.iter().filter(|(_, entry)| entry.is_given_up());
        let ids: Vec<_> = given_up.map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| drop(self.ring.remove(id)));
        self.given_up = 0;
    }

    pub(super) fn break_in_flight(&mut self) {
        self.exactly_once = 0;
        self.ring.drain().for_each(drop);
    }

    pub(super) fn break_unknown(&mut self, id: PacketId) {
        let entry = self.ring.get(id);
        if entry.is_some_and(|entry| entry.is_release() && entry.token.is_none()) {
            self.ring.remove(id);
            self.exactly_once -= 1;
        }
    }

    pub(super) fn break_window_qos2(&mut self) {
        self.window_qos2 = u16::MAX;
    }

    pub(super) fn break_sending_order(&mut self) {
        let mut ids: Vec<_> = self.ring.iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        for id in ids {
            let entry = self.ring.remove(id);
            entry.map(|entry| self.ring.insert(id, entry).ok());
        }
    }

    pub(super) fn break_identifier(&mut self, id: PacketId) -> bool {
        let entry = self.ring.remove(id);
        let found = entry.is_some();
        let is_exactly_once = entry.as_ref().is_some_and(Entry::is_exactly_once);
        self.exactly_once -= usize::from(is_exactly_once);
        let is_given_up = entry.as_ref().is_some_and(Entry::is_given_up);
        self.given_up -= usize::from(is_given_up);
        entry
            .into_iter()
            .for_each(|entry| self.waiting.push_back(entry));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mqtt::packet::Publish;
    use crate::mqtt::session::Event;

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
        assert!(t.outbound.handle_puback(once, &mut t.events, t.now));
        assert_eq!(
            t.resolved(),
            Some((1, Outcome::delivered(1, Duration::ZERO)))
        );
        let pubrec = t.outbound.handle_pubrec(exactly, t.now);
        assert_eq!(pubrec, Released::First);
        let pubrec = t.outbound.handle_pubrec(exactly, t.now);
        assert_eq!(pubrec, Released::Again);
        assert_eq!(t.resolved(), None);
        assert!(t.outbound.handle_pubcomp(exactly, &mut t.events, t.now));
        assert_eq!(
            t.resolved(),
            Some((2, Outcome::delivered(1, Duration::ZERO)))
        );
        assert!(!t.outbound.handle_pubcomp(exactly, &mut t.events, t.now));
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
            assert_eq!(t.outbound.handle_pubrec(id, t.now), expected);
        }
        assert_eq!((t.outbound.in_flight(), t.outbound.unresolved()), (2, 1));
        assert!(t.outbound.handle_puback(once, &mut t.events, t.now));
        assert_eq!((t.outbound.in_flight(), t.outbound.unresolved()), (2, 0));
        assert!(t.outbound.handle_pubcomp(once, &mut t.events, t.now));
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
        assert!(t.outbound.handle_puback(first, &mut t.events, t.now));
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
}
