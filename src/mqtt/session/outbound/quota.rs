//! How many PUBLISHes a broker of MQTT 5 takes at one time, and what waits for that. Messages that are never answered and
//! take all of that number are found out, one in eight links at least, if these live long enough (`../suspects.rs`, point 6).
//! Pure; the loop's thread.

use std::time::Instant;

use super::super::entry::Entry;
use super::Outbound;
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::PacketId;

impl<T> Outbound<T> {
    /// With MQTT 5, the broker takes so many PUBLISHes of QoS 1 and 2 at one time on this link; with MQTT 3.1.1 it says
    /// nothing.
    pub(in crate::mqtt::session) fn set_quota(&mut self, quota: Option<u16>) {
        self.quota = quota;
    }

    /// Whether the broker takes one more PUBLISH of QoS 1 or 2 [MQTT-4.9.0-2].
    pub(in crate::mqtt::session) fn has_quota(&self) -> bool {
        let has_some = |quota| self.in_quota < usize::from(quota);
        self.quota.is_none_or(has_some)
    }

    /// Whether the window has room for one more message. With MQTT 3.1.1 it was asked before the command was handed in.
    pub(super) fn has_window(&self) -> bool {
        self.quota.is_none() || self.in_flight() < usize::from(self.window)
    }

    /// How many messages of QoS 1 may be handed in one after the other.
    pub(in crate::mqtt::session) fn room(&self) -> usize {
        if !self.suspects.is_off() {
            return usize::from(self.has_room());
        }
        let quota = self.quota.map_or(usize::MAX, usize::from);
        let window = usize::from(self.window).saturating_sub(self.in_flight());
        window
            .min(quota.saturating_sub(self.in_quota))
            .min(self.ring.room())
    }

    /// Whether a PUBLISH of QoS 1 may be sent at once. With MQTT 3.1.1 it was asked before the command was handed in.
    pub(in crate::mqtt::session) fn lets_publish(&self) -> bool {
        self.quota.is_none() || self.has_quota() && self.has_window() && !self.has_waiting()
    }

    /// Whether a PUBLISH of QoS 0 may be sent at once: with MQTT 5 it overtakes no message that waits.
    pub(in crate::mqtt::session) fn lets_pass(&self) -> bool {
        self.quota.is_none() || !self.has_waiting()
    }

    /// The first suspect of the messages that stand without an answer on a trial link, where they are all that the broker
    /// takes at one time.
    pub(super) fn suspect_that_takes_the_quota(&self) -> Option<PacketId> {
        let quota = usize::from(self.quota?);
        let is_held = |id: &PacketId| {
            let entry = self.ring.get(*id);
            entry.is_some_and(|entry| entry.in_quota && entry.is_publish())
        };
        let standing = self.suspects.standing().iter();
        if standing.filter(|id| is_held(id)).count() < quota {
            return None;
        }
        self.standing_suspects().into_iter().find(is_held)
    }

    /// A message that was given up, where such messages are all that the broker takes at one time. It counts them until it
    /// answers them, so that no other could be sent on this link.
    pub(in crate::mqtt::session) fn holds_all_of_the_quota(&self) -> Option<PacketId> {
        let quota = usize::from(self.quota.filter(|_| self.given_up > 0)?);
        let is_held = |entry: &Entry<T>| entry.is_given_up() && entry.in_quota;
        let mut held = self.ring.iter().filter(|(_, entry)| is_held(entry));
        let (id, _) = held.next()?;
        (1 + held.count() >= quota).then_some(id)
    }

    /// Whether commands may be handed in although there is no room for a PUBLISH, because others are among them that the
    /// broker's quota must not delay [MQTT-3.3.4-8]. The commands in front of those wait here, so that their number is bounded.
    pub(in crate::mqtt::session) fn has_room_for_requests(&self) -> bool {
        self.quota.is_some()
            && (self.suspects.is_off() || self.suspects.wants_witness())
            && self.ring.room() > 0
            && self.waiting.len() < self.max_waiting
            && self.waiting.bytes() < self.max_waiting_bytes
    }

    /// With MQTT 5, messages of QoS 0 wait behind others: the next of them, if it may be sent now, and since when its
    /// command waits.
    pub(in crate::mqtt::session) fn poll_unacknowledged(
        &mut self,
        is_renewing: bool,
    ) -> Option<(Outgoing, T, Instant)> {
        let is_renewing = is_renewing && self.suspects.is_off();
        if self.quota.is_none()
            || is_renewing
            || self.recovery.is_resending()
            || !self.suspects.lets_send()
        {
            return None;
        }
        self.waiting.poll_unacknowledged()
    }
}
