//! A command that is not sent, because the broker takes no such packet or because it has expired: how it ends. Pure; the
//! loop's thread.

use super::super::event::Events;
use super::super::outcome::{Outcome, Reason};
use super::super::suspects::Suspicion;
use super::Outbound;
use crate::mqtt::packet::{PacketId, QoS};

impl<T> Outbound<T> {
    /// The command under this identifier is not sent. A message of QoS 2 that the broker may hold is released. Returns the
    /// filters of a renewal.
    pub(in crate::mqtt::session) fn end_unsent(
        &mut self,
        id: PacketId,
        reason: Reason,
        events: &mut Events<T>,
    ) -> Vec<String> {
        if let Some(entry) = self.ring.get_mut(id)
            && entry.sent_in_session
            && entry.body.is_publish(QoS::ExactlyOnce)
        {
            entry.body.release(&mut self.next_release, None);
            entry.suspicion = Suspicion::default();
            self.recovery.send_again(id);
            if let Some(token) = entry.token.take() {
                events.resolve(token, Outcome::PerhapsDelivered(reason));
            }
            return Vec::new();
        }
        let Some(entry) = self.ring.remove(id) else {
            return Vec::new();
        };
        self.exactly_once -= usize::from(entry.is_exactly_once());
        let outcome = match entry.ever_sent {
            false => Outcome::NeverSent(reason),
            true => Outcome::PerhapsDelivered(reason),
        };
        let filters = match entry.is_renewal() {
            true => entry.filters().map(str::to_owned).collect(),
            false => Vec::new(),
        };
        if let Some(token) = entry.token {
            events.resolve(token, outcome);
        }
        filters
    }
}
