//! SUBSCRIBE and UNSUBSCRIBE: their answers, and the packets of a long one that follow. Pure; the loop's thread.

use std::time::Instant;

use super::super::entry::{Body, Entry, Subscribing, Unsubscribing};
use super::super::event::Events;
use super::super::ring::Ring;
use super::super::suspects::Suspicion;
use super::super::waiting::is_rest_for;
use super::Outbound;
use crate::mqtt::packet::PacketId;

/// The request that an acknowledgment may be for. The session that a broker keeps has no requests in it, so it has
/// to be one that was sent on this link.
fn asked<T>(ring: &mut Ring<Entry<T>>, id: PacketId) -> Option<&mut Body> {
    let entry = ring.get_mut(id).filter(|entry| entry.on_this_link)?;
    Some(&mut entry.body)
}

impl<T> Outbound<T> {
    /// The SUBSCRIBE that a SUBACK answers.
    pub(in crate::mqtt::session) fn subscribing(
        &mut self,
        id: PacketId,
    ) -> Option<&mut Subscribing> {
        match asked(&mut self.ring, id)? {
            Body::Subscribe(asked) => Some(asked),
            _ => None,
        }
    }

    /// The UNSUBSCRIBE under this identifier, of which a packet is to be sent, or was.
    pub(in crate::mqtt::session) fn unsubscribe(
        &mut self,
        id: PacketId,
    ) -> Option<&mut Unsubscribing> {
        match &mut self.ring.get_mut(id)?.body {
            Body::Unsubscribe(left) => Some(left),
            _ => None,
        }
    }

    /// The UNSUBSCRIBE that an UNSUBACK answers.
    pub(in crate::mqtt::session) fn unsubscribing(
        &mut self,
        id: PacketId,
    ) -> Option<&mut Unsubscribing> {
        match asked(&mut self.ring, id)? {
            Body::Unsubscribe(left) => Some(left),
            _ => None,
        }
    }

    /// The broker has lost this filter, and does not grant it again: it is not granted to a long SUBSCRIBE either that goes on.
    pub(in crate::mqtt::session) fn withdraw(&mut self, filter: &str) {
        let under_way = self.ring.iter_mut().map(|(_, entry)| entry);
        for entry in under_way.chain(self.waiting.iter_mut()) {
            if let Body::Subscribe(asked) = &mut entry.body {
                asked.withdraw(filter);
            }
        }
    }

    /// Whether the youngest request for this filter is a SUBSCRIBE; `None` if none is under way.
    pub(in crate::mqtt::session) fn asks_for(&self, filter: &str) -> Option<bool> {
        let has_filter = |entry: &Entry<T>| entry.filters().any(|one| one == filter);
        let waiting = self.waiting.requests().filter(|entry| has_filter(entry));
        let youngest = waiting.last().or_else(|| self.ring.last(has_filter))?;
        Some(matches!(youngest.body, Body::Subscribe(_)))
    }

    /// The packet of the request under this identifier was answered. The request is done, or its next packet waits ahead
    /// of every other command. A request that has overtaken the rest of an older one is made once more, behind that.
    pub(in crate::mqtt::session) fn handle_request_answered(
        &mut self,
        id: PacketId,
        events: &mut Events<T>,
        now: Instant,
    ) {
        let Some(entry) = self.ring.get(id) else {
            return;
        };
        if entry.is_renewal() {
            let filters = entry.filters();
            filters.for_each(|filter| self.suspects.forget_renewal(filter));
        }
        let is_too_early = entry.has_overtaken && self.has_rest_for(id, entry);
        if entry.is_answered() && !is_too_early {
            self.complete(id, |_| true, None, events, now);
            return;
        }
        self.handle_answered(id, true);
        let Some(mut entry) = self.ring.remove(id) else {
            return;
        };
        entry.sent_in_session = false;
        entry.on_this_link = false;
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
        if is_too_early {
            entry.forget_answers();
            self.waiting.push_behind(entry);
        } else {
            self.waiting.push_front(entry);
        }
    }

    /// Whether more is to come of an older request for one of the filters of this one, which is answered: that gives up what
    /// is suspected and stands without an answer.
    fn has_rest_for(&self, id: PacketId, request: &Entry<T>) -> bool {
        let is_rest = is_rest_for(request);
        let standing = self.standing_suspects();
        let is_other = |other: &PacketId| *other != id && !standing.contains(other);
        let others = self.ring.iter().filter(|(other, _)| is_other(other));
        let mut others = others.map(|(_, other)| other).chain(self.waiting.iter());
        others.any(is_rest)
    }
}
