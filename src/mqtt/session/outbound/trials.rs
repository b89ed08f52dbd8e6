//! Commands that links may be lost because of: what becomes of them in the ring and in the line.
//!
//! Whether one is suspected, and when a trial goes on, is decided in `../suspects.rs`. Pure; the loop's thread.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::entry::Body;
use super::super::event::{Event, Events, LinkEnd};
use super::super::outcome::{Outcome, Reason};
use super::super::suspects::Suspicion;
use super::Outbound;
use crate::mqtt::packet::{Filter, PacketId, QoS};

impl<T> Outbound<T> {
    /// Makes the link that came up a trial link if a command or one of the filters that are owed is suspected, and the
    /// last one did not end on its own. Returns whether it is one.
    pub(in crate::mqtt::session) fn begin_trials(&mut self, owed: &[Filter], now: Instant) -> bool {
        let owed = owed.iter().map(|owed| owed.filter.as_str());
        self.suspects.keep_renewals(owed);
        let Some(suspect) = self.name_of_suspect() else {
            return false;
        };
        let Some(idle) = self.suspects.begin(now) else {
            log::warn!(
                "the last link ended, and that shows nothing about {suspect}: everything leaves on this one"
            );
            return false;
        };
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
    pub(in crate::mqtt::session) fn goes_on_trying(&mut self, now: Instant) -> bool {
        self.suspects.becomes_ready(now)
    }

    /// PINGRESP came.
    pub(in crate::mqtt::session) fn handle_pingresp(&mut self) {
        self.recovery.note_progress();
        self.suspects.handle_pingresp();
    }

    /// The acknowledgment under this identifier is late, and the clock of answers shows `clock`. Returns whether it is let
    /// stand, so that the link goes on: not unless the broker has answered every PINGREQ.
    pub(in crate::mqtt::session) fn handle_late(
        &mut self,
        id: PacketId,
        broker_answers: bool,
        now: Instant,
        clock: Instant,
    ) -> bool {
        if let Some(entry) = self.ring.get_mut(id) {
            entry.suspicion.count_loss();
        }
        broker_answers && self.suspects.lets_stand(id, now, clock)
    }

    /// A packet was answered on a trial link: if it is a witness, those that stand without an answer are given up. That may
    /// end the trials. Returns the filters whose renewals are given up.
    pub(in crate::mqtt::session) fn judge(&mut self, events: &mut Events<T>) -> Vec<String> {
        if self.suspects.is_off() {
            return Vec::new();
        }
        let standing = match self.suspects.take_witness() {
            true => self.standing_suspects(),
            false => Vec::new(),
        };
        let give_up = |id| self.give_up(id, Reason::Unanswered, events);
        let refused = standing.into_iter().filter_map(give_up).collect();
        self.end_trials();
        refused
    }

    /// The link is no trial link any more if nothing suspect is left.
    pub(in crate::mqtt::session) fn end_trials(&mut self) {
        if self.is_trying() && !self.has_suspects() {
            self.suspects.end();
        }
    }

    /// The command that stands without an answer for the longest time, if no other has shown in time that the
    /// broker answers. If no other message could, the link counts against the first suspect, which may be given up: not
    /// if the clock of answers, which shows `clock`, has stood still.
    pub(in crate::mqtt::session) fn late_without_witness(
        &mut self,
        events: &mut Events<T>,
        now: Instant,
        clock: Instant,
    ) -> Option<PacketId> {
        let suspect = self.suspect_that_takes_the_quota();
        let all = suspect.is_some();
        let (late, went_on) = self.suspects.late_without_witness(all, now, clock)?;
        if went_on
            && let Some(id) = suspect
            && let Some(entry) = self.ring.get_mut(id)
            && self.suspects.judges_filled(&mut entry.suspicion)
        {
            self.give_up(id, Reason::Unanswered, events);
        }
        Some(late)
    }

    /// Whether packets are tried one at a time.
    pub(in crate::mqtt::session) fn is_trying(&self) -> bool {
        !self.suspects.is_off()
    }

    /// When the trial goes on.
    pub(in crate::mqtt::session) fn next_timer(&self) -> Option<Instant> {
        self.suspects.next_timer()
    }

    /// Those that stand without an answer and are given up with the next answer to another command.
    pub(super) fn standing_suspects(&self) -> Vec<PacketId> {
        let standing = self.suspects.standing().iter().copied();
        let is_suspect = |id: &PacketId| {
            let entry = self.ring.get(*id);
            entry.is_some_and(|entry| self.suspects.suspects(entry.suspicion))
        };
        standing.filter(is_suspect).collect()
    }

    /// Lets requests wait for those for the same filters that they overtook because these were suspected, and for one that
    /// waits so itself. Otherwise both would be sent again at once, and might be answered in any order.
    pub(super) fn wait_again(&mut self) {
        let requests = self.ring.in_order().filter(|(_, entry)| entry.is_request());
        let mut known = BTreeSet::new();
        let mut later = Vec::new();
        for (id, entry) in requests {
            if entry.filters().any(|filter| known.contains(filter)) {
                later.push(id);
            }
            known.extend(entry.filters());
        }
        for id in later.into_iter().rev() {
            let entry = self.ring.remove(id);
            entry
                .into_iter()
                .for_each(|entry| self.waiting.push_front(entry));
        }
    }

    fn has_suspects(&self) -> bool {
        let entries = self.ring.iter().map(|(_, entry)| entry);
        let mut entries = entries.chain(self.waiting.iter());
        self.suspects.suspected_renewal().is_some()
            || entries.any(|entry| self.suspects.suspects(entry.suspicion))
    }

    /// Counts the loss of a link against those that were unanswered on it. Returns the one that is given up.
    pub(super) fn count_loss(
        &mut self,
        taken: u64,
        end: Option<LinkEnd>,
        now: Instant,
    ) -> Option<PacketId> {
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
    pub(super) fn give_up(
        &mut self,
        id: PacketId,
        reason: Reason,
        events: &mut Events<T>,
    ) -> Option<String> {
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
            entry.body.release(&mut self.next_release, None);
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
