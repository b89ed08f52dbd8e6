//! For tests: what `inspect.rs` shows and breaks of the sending half.

use super::super::entry::Entry;
use super::super::suspects::Suspects;
use super::Outbound;
use crate::mqtt::packet::PacketId;

impl<T> Outbound<T> {
    pub(in crate::mqtt::session) fn is_at_rest(&self) -> bool {
        self.in_flight() == 0 && self.waiting.is_empty()
    }

    pub(in crate::mqtt::session) fn oldest_token(&self) -> Option<T>
    where
        T: Copy,
    {
        self.ring.in_order().find_map(|(_, entry)| entry.token)
    }

    pub(in crate::mqtt::session) fn hash_state(&self, state: &mut impl std::hash::Hasher)
    where
        T: std::hash::Hash,
    {
        use std::hash::Hash;

        self.ring.hash(state);
        self.waiting.hash_state(state);
        self.leaving.hash(state);
        (self.quota, self.in_quota).hash(state);
        self.recovery.hash_state(state);
        self.suspects.hash_state(state);
    }

    pub(in crate::mqtt::session) fn quota(&self) -> Option<u16> {
        self.quota
    }

    pub(in crate::mqtt::session) fn break_place(&mut self, id: PacketId, makes_room: bool) {
        if let Some(entry) = self.ring.get_mut(id)
            && std::mem::take(&mut entry.in_quota)
        {
            self.in_quota -= usize::from(makes_room);
        }
    }

    pub(in crate::mqtt::session) fn suspects_to_break(&mut self) -> &mut Suspects {
        &mut self.suspects
    }

    pub(in crate::mqtt::session) fn break_link_of(&mut self, id: PacketId) {
        if let Some(entry) = self.ring.get_mut(id) {
            entry.on_this_link = true;
        }
    }

    pub(in crate::mqtt::session) fn break_overtaken(&mut self, id: PacketId) {
        if let Some(entry) = self.ring.get_mut(id) {
            entry.has_overtaken = false;
        }
    }

    pub(in crate::mqtt::session) fn break_turn(&mut self) -> Option<PacketId> {
        let mut waiting = self.waiting.drain();
        let first = waiting.next();
        waiting.for_each(|entry| self.waiting.push_back(entry));
        self.reserve(first?)
    }

    pub(in crate::mqtt::session) fn break_suspicion(&mut self) {
        self.suspects.break_suspicion();
    }

    pub(in crate::mqtt::session) fn break_given_up(&mut self) {
        let given_up = self.ring.iter().filter(|(_, entry)| entry.is_given_up());
        let ids: Vec<_> = given_up.map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.ring.free(id));
        self.given_up = 0;
    }

    pub(in crate::mqtt::session) fn break_in_flight(&mut self) {
        self.exactly_once = 0;
        self.ring.drain().for_each(drop);
    }

    pub(in crate::mqtt::session) fn break_unknown(&mut self, id: PacketId) {
        let entry = self.ring.get(id);
        if entry.is_some_and(|entry| entry.is_release() && entry.token.is_none()) {
            self.ring.remove(id);
            self.exactly_once -= 1;
        }
    }

    pub(in crate::mqtt::session) fn break_window_qos2(&mut self) {
        self.window_qos2 = u16::MAX;
    }

    pub(in crate::mqtt::session) fn break_sending_order(&mut self) {
        let mut ids: Vec<_> = self.ring.iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        for id in ids {
            let entry = self.ring.remove(id);
            entry.map(|entry| self.ring.insert(id, entry).ok());
        }
    }

    pub(in crate::mqtt::session) fn break_identifier(&mut self, id: PacketId) -> bool {
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
