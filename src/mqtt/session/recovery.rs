//! What happens to the sending half of the session when the link comes back, or does not stay.
//!
//! With the session kept, what was in flight is sent again in order; without it, every subscription
//! is renewed first and what was in flight is sent as new. What seems to cost one link after the
//! other is given up. Pure; the loop's thread.

use std::collections::VecDeque;
use std::time::Instant;

use super::entry::{Body, Entry, Subscribing};
use super::{FILTERS_PER_PACKET, OnSessionLost, Outcome, Reason, Session};
use crate::mqtt::packet::{Filter, QoS};

impl<T> Session<T> {
    /// The broker kept the session: PUBRELs in the order of their PUBRECs, then everything else in
    /// the order in which it was sent first [MQTT-4.4.0-1]. That is left to [`Session::send_waiting`],
    /// which looks for room in the output: messages may share their payload where they are, not in there.
    pub(super) fn resume(&mut self, now: Instant) {
        self.send_renewals(now);
        let mut releases = Vec::new();
        let mut others = VecDeque::new();
        for (id, entry) in self.ring.iter() {
            match entry.body {
                _ if entry.on_this_link => {}
                Body::Release { order } => releases.push((order, id)),
                _ => others.push_back(id),
            }
        }
        releases.sort_unstable();
        for (_, id) in releases {
            self.send(id, now);
        }
        self.resending = others;
    }

    /// The broker has no session: every subscription is renewed before anything else; what was in
    /// flight is sent as new, except where that could deliver a QoS 2 message twice.
    pub(super) fn start_over(&mut self, now: Instant) {
        self.inbound.handle_session_lost();
        self.filters.owe_all();
        let in_flight: Vec<_> = self.ring.drain().collect();
        let still_waiting = std::mem::take(&mut self.waiting);
        for mut entry in in_flight.into_iter().chain(still_waiting) {
            if entry.is_renewal() {
                continue;
            }
            if self.ends_with_session(&entry) {
                if let Some(token) = entry.token {
                    self.events
                        .resolve(token, Outcome::PerhapsDelivered(Reason::SessionLost));
                }
                continue;
            }
            entry.sent_in_session = false;
            entry.on_this_link = false;
            self.waiting.push_back(entry);
        }
        self.filters.forget_renewals();
        self.send_renewals(now);
    }

    /// The link is gone: nothing is on the wire, and renewals that were not granted are owed again.
    pub(super) fn return_to_owed(&mut self) {
        let mut renewals = Vec::new();
        for (id, entry) in self.ring.iter_mut() {
            entry.on_this_link = false;
            if entry.is_renewal() {
                renewals.push(id);
            }
        }
        for id in renewals {
            self.ring.remove(id);
        }
        self.waiting.retain(|entry| !entry.is_renewal());
        self.filters.forget_renewals();
    }

    /// A broker may close the connection because of what it was sent (AWS IoT does so for a topic
    /// that its policy does not allow), and sending that again would go on for ever. When links are
    /// lost again and again without a single acknowledgment, the command that stands first is given
    /// up, so that the others go on.
    pub(super) fn park_if_fruitless(&mut self) {
        let first = self.ring.iter().find(|(_, entry)| entry.on_this_link);
        let Some((id, first)) = first else {
            return;
        };
        self.fruitless_links += 1;
        // A release is no cause, and a renewal is made anew on each link.
        if self.fruitless_links < self.options.fruitless_links
            || first.token.is_none()
            || first.is_release()
        {
            return;
        }
        self.fruitless_links = 0;
        log::error!(
            "{} links were lost one after the other with {} first in flight; it is given up: the \
             broker may not allow it",
            self.options.fruitless_links,
            first.body.name()
        );
        let order = self.next_release;
        let Some(entry) = self.ring.get_mut(id) else {
            return;
        };
        let token = entry.token.take();
        match &mut entry.body {
            // The broker may hold the identifier: it is free on both sides after PUBREL and PUBCOMP.
            body if body.is_publish(QoS::ExactlyOnce) => {
                *body = Body::Release { order };
                self.next_release += 1;
            }
            _ => drop(self.ring.remove(id)),
        }
        if let Some(token) = token {
            self.events
                .resolve(token, Outcome::PerhapsDelivered(Reason::Parked));
        }
    }

    /// Whether an entry's fate is unknown for good once the broker lost the session.
    fn ends_with_session(&self, entry: &Entry<T>) -> bool {
        match &entry.body {
            Body::Release { .. } => true,
            Body::Publish(message) => {
                entry.sent_in_session
                    && (message.qos() == QoS::ExactlyOnce
                        || self.options.on_session_lost == OnSessionLost::Fail)
            }
            Body::Subscribe(_) | Body::Unsubscribe(_) => false,
        }
    }

    /// Sends a SUBSCRIBE for every owed filter with the QoS that was requested, ahead of everything
    /// that waits.
    fn send_renewals(&mut self, now: Instant) {
        let owed = self.filters.owed();
        let owed: Vec<_> = owed.map(|(filter, qos)| Filter::new(filter, qos)).collect();
        for filters in owed.chunks(FILTERS_PER_PACKET).rev() {
            let body = Body::Subscribe(Subscribing::new(filters.to_vec(), true));
            self.waiting.push_front(Entry::new(None, body, now));
        }
        while self.ring.room() > 0 && self.waiting.front().is_some_and(Entry::is_renewal) {
            if let Some(entry) = self.waiting.pop_front() {
                self.submit(entry, now);
            }
        }
    }
}
