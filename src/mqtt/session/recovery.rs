//! The beginning of a new link: which packets are sent again.
//!
//! The entries themselves are in the ring of the sending half. This file chooses among them and changes none.
//! Pure; the loop's thread.

use std::collections::VecDeque;

use super::entry::{Body, Entry};
use super::ring::Ring;
use crate::mqtt::packet::PacketId;

/// The packets that are sent again, and how the link fares.
#[derive(Debug, Clone, Default)]
pub(super) struct Recovery {
    /// Packets that are still to be sent again on this link, ahead of every other.
    resending: VecDeque<PacketId>,
    /// So many at the front are PUBLISHes, or have left. It is no more than a hint where to look, so that a request behind
    /// many messages is not looked for from the beginning with each acknowledgment.
    publishes_first: usize,
    /// Whether anything was acknowledged on this link, or on the last one if there is none.
    progress: bool,
}

impl Recovery {
    /// The broker accepted CONNECT: nothing is acknowledged on this link yet.
    pub(super) fn handle_connected(&mut self) {
        self.forget();
        self.progress = false;
    }

    /// The broker kept the session. Returns the PUBRELs to be sent at once, in the order of their PUBRECs
    /// [MQTT-4.6.0-4]. Every other packet follows in the order in which it was sent first [MQTT-4.4.0-1], by
    /// [`Recovery::poll_unsent`], when the output has room: messages may share their payload in their entries,
    /// not in the output.
    pub(super) fn resume<T>(&mut self, ring: &Ring<Entry<T>>) -> Vec<PacketId> {
        let mut releases = Vec::new();
        self.forget();
        for (id, entry) in ring.in_order() {
            match entry.body {
                _ if entry.on_this_link || entry.is_given_up() => {}
                Body::Release { order, .. } => releases.push((order, id)),
                _ => self.resending.push_back(id),
            }
        }
        releases.sort_unstable();
        releases.into_iter().map(|(_, id)| id).collect()
    }

    /// One more packet is to be sent again on this link.
    pub(super) fn send_again(&mut self, id: PacketId) {
        self.resending.push_back(id);
    }

    /// Lets these be sent again ahead of the others.
    pub(super) fn resend_first(&mut self, ids: Vec<PacketId>) {
        for id in ids.into_iter().rev() {
            self.resending.push_front(id);
        }
        self.publishes_first = 0;
    }

    /// Takes the next packet that is to be sent again. Without quota that is no PUBLISH.
    pub(super) fn poll_unsent<T>(
        &mut self,
        ring: &Ring<Entry<T>>,
        has_quota: bool,
    ) -> Option<PacketId> {
        // Some may have been answered meanwhile.
        let is_unsent = |id: &PacketId| ring.get(*id).is_some_and(|entry| !entry.on_this_link);
        while self.resending.front().is_some_and(|id| !is_unsent(id)) {
            self.take_first();
        }
        if has_quota {
            return self.take_first();
        }
        let known = self.publishes_first.min(self.resending.len());
        let mut others = self.resending.range(known..);
        let behind = others
            .position(|id| is_unsent(id) && ring.get(*id).is_some_and(|entry| !entry.is_publish()));
        self.publishes_first = behind.map_or(self.resending.len(), |behind| known + behind);
        self.resending.remove(self.publishes_first)
    }

    fn take_first(&mut self) -> Option<PacketId> {
        self.publishes_first = self.publishes_first.saturating_sub(1);
        self.resending.pop_front()
    }

    fn forget(&mut self) {
        self.resending.clear();
        self.publishes_first = 0;
    }

    /// The link was of use: the broker acknowledged something.
    pub(super) fn note_progress(&mut self) {
        self.progress = true;
    }

    /// The link is gone.
    pub(super) fn handle_link_lost(&mut self) {
        self.forget();
    }

    /// Whether anything was acknowledged on this link, or on the last one if there is none.
    pub(super) fn made_progress(&self) -> bool {
        self.progress
    }

    /// Whether packets are still to be sent again on this link.
    pub(super) fn is_resending(&self) -> bool {
        !self.resending.is_empty()
    }

    /// Hashes what decides which packet is sent next.
    #[cfg(test)]
    pub(super) fn hash_state(&self, state: &mut impl std::hash::Hasher) {
        std::hash::Hash::hash(&self.resending, state);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::entry::{Unsubscribing, looks};
    use super::*;
    use crate::mqtt::packet::{Publish, QoS};

    /// Entries under the identifiers from 1 on, none sent on this link.
    fn ring(bodies: Vec<Body>) -> Ring<Entry<u8>> {
        let mut ring = Ring::new(u16::MAX, 0);
        let now = Instant::now();
        for (token, body) in (1..=u8::MAX).cycle().zip(bodies) {
            ring.push(Entry::new(Some(token), body, now)).unwrap();
        }
        ring
    }

    fn publish() -> Body {
        Body::Publish(Publish::new("t", QoS::AtLeastOnce, "x").into())
    }

    fn release(order: u64) -> Body {
        let answer = None;
        Body::Release { order, answer }
    }

    fn value(id: PacketId) -> u16 {
        id.value()
    }

    #[test]
    fn releases_come_first_in_their_own_order_and_then_everything_else_in_the_old_one() {
        let mut ring = ring(vec![publish(), release(2), publish(), release(1)]);
        let mut recovery = Recovery::default();
        let releases = recovery.resume(&ring);
        assert_eq!(releases.into_iter().map(value).collect::<Vec<_>>(), [4, 2]);
        assert_eq!(recovery.poll_unsent(&ring, true).map(value), Some(1));
        assert!(recovery.is_resending());
        // It was answered before its turn came.
        ring.remove(PacketId::new(3).unwrap());
        assert_eq!(recovery.poll_unsent(&ring, true), None);
        assert!(!recovery.is_resending());
    }

    /// With each acknowledgment there is quota for one, and then none.
    #[test]
    fn a_request_behind_many_messages_is_looked_for_once() {
        const MANY: usize = 60_000;
        let mut bodies: Vec<_> = (0..MANY).map(|_| publish()).collect();
        let left = Unsubscribing::new(vec!["a".to_owned()], None);
        bodies.push(Body::Unsubscribe(left));
        let mut ring = ring(bodies);
        let mut recovery = Recovery::default();
        recovery.resume(&ring);
        let request = recovery.poll_unsent(&ring, false).unwrap();
        assert_eq!(usize::from(request.value()), MANY + 1);
        ring.get_mut(request).unwrap().on_this_link = true;
        let before = looks();
        for _ in 0..1_000 {
            let next = recovery.poll_unsent(&ring, true).unwrap();
            ring.get_mut(next).unwrap().on_this_link = true;
            assert_eq!(recovery.poll_unsent(&ring, false), None);
        }
        assert!(looks() - before <= 1_000, "{}", looks() - before);
        recovery.send_again(request);
        ring.get_mut(request).unwrap().on_this_link = false;
        assert_eq!(recovery.poll_unsent(&ring, false), Some(request));
    }

    #[test]
    fn a_lost_link_ends_the_resending() {
        let ring = ring(vec![publish()]);
        let mut recovery = Recovery::default();
        recovery.resume(&ring);
        recovery.handle_link_lost();
        assert!(!recovery.is_resending());
    }
}
