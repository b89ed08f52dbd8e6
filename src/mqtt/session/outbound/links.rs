//! Links and sessions that come and go: what becomes of the commands that have not ended. Pure; the loop's thread.

use std::time::Instant;

use super::super::entry::{Body, Entry};
use super::super::event::{Events, LinkEnd};
use super::super::outcome::{Outcome, Reason};
use super::Outbound;
use crate::mqtt::packet::PacketId;

impl<T> Outbound<T> {
    /// The broker accepted CONNECT.
    pub(in crate::mqtt::session) fn handle_connected(&mut self, now: Instant) {
        self.recovery.handle_connected();
        self.suspects.handle_connected(now);
    }

    /// The link is gone that took the bytes up to this position. A packet of which it took nothing was not
    /// sent. Commands wait for the next link, except for QoS 0 messages. Renewals are made anew on it. `end` is `None`
    /// if CONNACK had not come. Returns the filter of a renewal that is given up instead.
    pub(in crate::mqtt::session) fn handle_link_lost(
        &mut self,
        taken: u64,
        end: Option<LinkEnd>,
        events: &mut Events<T>,
        now: Instant,
    ) -> Option<String> {
        self.leaving.take_back(taken, &mut self.ring);
        self.recovery.handle_link_lost();
        self.in_quota = 0;
        self.waiting.handle_link_lost();
        let guilty = self.count_loss(taken, end, now);
        let refused = guilty.and_then(|id| self.give_up(id, Reason::Parked, events));
        let mut gone = Vec::new();
        for (id, entry) in self.ring.iter_mut() {
            entry.on_this_link = false;
            entry.shares_identifier = false;
            entry.in_quota = false;
            entry.follows_release = false;
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
        gone.into_iter().for_each(|id| self.ring.free(id));
        self.wait_again();
        self.leaving
            .end_unacknowledged(taken, Outcome::NeverSent, Reason::LinkLost, events);
        if self.quota.is_some() {
            for token in self.waiting.take_unacknowledged() {
                events.resolve(token, Outcome::NeverSent(Reason::LinkLost));
            }
        }
        refused
    }

    /// The broker kept the session. Returns the PUBRELs that have to be sent at once, in order. On a trial link
    /// they wait for their turn.
    pub(in crate::mqtt::session) fn resume(&mut self) -> Vec<PacketId> {
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
    pub(in crate::mqtt::session) fn handle_session_lost(&mut self, events: &mut Events<T>) {
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
            entry.handle_session_lost();
            self.waiting.push_back(entry);
        }
    }

    /// The broker may have forgotten every filter, also those that an UNSUBSCRIBE leaves if it is never sent.
    pub(in crate::mqtt::session) fn owe_filters(&mut self) {
        let under_way = self.ring.iter_mut().map(|(_, entry)| entry);
        let all = under_way.chain(self.waiting.iter_mut());
        all.for_each(Entry::owe_filters);
    }

    /// Ends every command.
    pub(in crate::mqtt::session) fn abandon(
        &mut self,
        reason: Reason,
        written: u64,
        events: &mut Events<T>,
    ) {
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
