//! Commands that have no packet identifier yet, ahead of every new command.
//!
//! Renewed subscriptions stand first, and nothing behind them moves until they are granted. A SUBSCRIBE or
//! UNSUBSCRIBE also waits while another request for one of its filters is unanswered. Two at a time could
//! take effect in another order than they were made in, because the rest of a long one leaves later, or
//! because only one is sent again on the next link. The rest of a long one waits ahead of every new command. Pure; the
//! loop's thread.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::entry::{Body, Entry};
use super::ring::Ring;
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::PacketId;

/// The commands, in order.
#[derive(Debug, Clone)]
pub(super) struct Waiting<T> {
    entries: VecDeque<Entry<T>>,
    /// The request under way that the first request must not overtake, if one was found.
    held_by: Option<PacketId>,
    /// How many of them are requests.
    requests: usize,
    /// The bytes of their messages.
    bytes: usize,
    /// None of so many at the front is a request. It is no more than a hint where to look, so that a request behind many
    /// messages is not looked for from the beginning with each acknowledgment.
    messages_first: usize,
}

/// The room for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// For one of QoS 2.
    pub(super) qos2: bool,
    /// For one of QoS 1 or 2, by the broker's quota.
    pub(super) quota: bool,
    /// Whether SUBSCRIBE and UNSUBSCRIBE pass messages that wait for room [MQTT-3.3.4-8].
    pub(super) requests_pass: bool,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting {
            entries: VecDeque::new(),
            held_by: None,
            requests: 0,
            bytes: 0,
            messages_first: 0,
        }
    }
}

impl<T> Waiting<T> {
    pub(super) fn push_back(&mut self, entry: Entry<T>) {
        self.count(&entry);
        self.entries.push_back(entry);
    }

    pub(super) fn push_front(&mut self, entry: Entry<T>) {
        // Another request may have held the one that stood first until now.
        self.held_by = None;
        self.count(&entry);
        self.messages_first = match entry.is_request() {
            true => 0,
            false => self.messages_first + 1,
        };
        self.entries.push_front(entry);
    }

    /// Puts a request that has overtaken the rest of an older one behind that rest.
    pub(super) fn push_behind(&mut self, request: Entry<T>) {
        self.held_by = None;
        let rest = self.entries.iter().rposition(is_rest_for(&request));
        let place = rest.map_or(0, |place| place + 1);
        self.count(&request);
        self.messages_first = self.messages_first.min(place);
        self.entries.insert(place, request);
    }

    /// Takes the first command if it may be sent. While subscriptions are being renewed, only renewals may. The
    /// requests in `standing` hold nothing back: they are suspected, and the next answer to another command ends them.
    /// A message may if there is room for it.
    pub(super) fn poll(
        &mut self,
        ring: &Ring<Entry<T>>,
        is_renewing: bool,
        standing: &[PacketId],
        room: Room,
    ) -> Option<Entry<T>> {
        let first = self.entries.front()?;
        if is_renewing && !first.is_renewal() || ring.room() == 0 {
            return None;
        }
        let is_held_back =
            !room.qos2 && first.is_exactly_once() || !room.quota && first.is_publish();
        // One of QoS 0 has no identifier, and another way out.
        let is_held_back = is_held_back || first.is_unacknowledged();
        let place = match is_held_back {
            false => 0,
            true if !room.requests_pass || self.requests == 0 => return None,
            true => self.first_request()?,
        };
        if self.would_overtake(place, ring, standing) {
            return None;
        }
        let mut first = self.take(place)?;
        first.has_overtaken |=
            !standing.is_empty() && find_request_before(&first, ring, &[]).is_some();
        Some(first)
    }

    /// Takes the first command if it is a renewal.
    pub(super) fn poll_renewal(&mut self, ring: &Ring<Entry<T>>) -> Option<Entry<T>> {
        if ring.room() == 0 || !self.entries.front()?.is_renewal() {
            return None;
        }
        self.take(0)
    }

    /// Takes the first command if it is a message of QoS 0, and since when it waits.
    pub(super) fn poll_unacknowledged(&mut self) -> Option<(Outgoing, T, Instant)> {
        if !self.entries.front()?.is_unacknowledged() {
            return None;
        }
        let first = self.take(0)?;
        match (first.body, first.token) {
            (Body::Publish(message), Some(token)) => Some((message, token, first.since)),
            _ => None,
        }
    }

    /// Takes every message of QoS 0.
    pub(super) fn take_unacknowledged(&mut self) -> Vec<T> {
        let (gone, left) = self
            .entries
            .drain(..)
            .partition(|entry| entry.is_unacknowledged());
        self.entries = left;
        self.count_again();
        let gone: VecDeque<Entry<T>> = gone;
        gone.into_iter().filter_map(|entry| entry.token).collect()
    }

    /// The link is gone. Renewals are made anew on the next one.
    pub(super) fn handle_link_lost(&mut self) {
        self.held_by = None;
        self.entries.retain(|entry| !entry.is_renewal());
        self.count_again();
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry<T>> + use<T> {
        let entries = std::mem::take(&mut self.entries);
        self.count_again();
        entries.into_iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of the messages that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.iter()
    }

    /// The requests, in order. The messages before the first of them are not looked at, as far as it is known where it stands.
    pub(super) fn requests(&self) -> impl Iterator<Item = &Entry<T>> {
        let first = match self.requests {
            0 => self.entries.len(),
            _ => self.messages_first.min(self.entries.len()),
        };
        let entries = self.entries.range(first..);
        entries.filter(|entry| entry.is_request())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry<T>> {
        self.entries.iter_mut()
    }

    /// The place of the first request.
    fn first_request(&mut self) -> Option<usize> {
        let known = self.messages_first.min(self.entries.len());
        let mut others = self.entries.range(known..);
        let behind = others.position(Entry::is_request);
        self.messages_first = behind.map_or(self.entries.len(), |behind| known + behind);
        behind.map(|_| self.messages_first)
    }

    /// Whether a request for one of the filters of this command is under way, which is the first request or a message.
    fn would_overtake(
        &mut self,
        place: usize,
        ring: &Ring<Entry<T>>,
        standing: &[PacketId],
    ) -> bool {
        let command = &self.entries[place];
        if !command.is_request() {
            return false;
        }
        let holds =
            |id: PacketId| !standing.contains(&id) && ring.get(id).is_some_and(Entry::is_request);
        // It is looked for once, not at each acknowledgment that comes meanwhile.
        if !self.held_by.is_some_and(holds) {
            self.held_by = find_request_before(command, ring, standing);
        }
        self.held_by.is_some()
    }

    /// Takes the command at this place, in front of which no request stands.
    fn take(&mut self, place: usize) -> Option<Entry<T>> {
        let taken = self.entries.remove(place)?;
        self.requests -= usize::from(taken.is_request());
        self.bytes -= taken.message_bytes();
        if place < self.messages_first {
            self.messages_first -= 1;
        }
        Some(taken)
    }

    fn count(&mut self, entry: &Entry<T>) {
        self.requests += usize::from(entry.is_request());
        self.bytes += entry.message_bytes();
    }

    /// Many have gone.
    fn count_again(&mut self) {
        let requests = self.entries.iter().filter(|entry| entry.is_request());
        self.requests = requests.count();
        self.bytes = self.entries.iter().map(Entry::message_bytes).sum();
        self.messages_first = 0;
    }

    /// Hashes what decides which command is sent next.
    #[cfg(test)]
    pub(super) fn hash_state(&self, state: &mut impl std::hash::Hasher)
    where
        T: std::hash::Hash,
    {
        let Waiting {
            entries,
            held_by,
            requests,
            bytes: _,
            messages_first: _,
        } = self;
        std::hash::Hash::hash(&(entries, held_by, requests), state);
    }
}

fn find_request_before<T>(
    entry: &Entry<T>,
    ring: &Ring<Entry<T>>,
    standing: &[PacketId],
) -> Option<PacketId> {
    if !entry.is_request() || entry.is_renewal() {
        return None;
    }
    let overlaps = overlaps(entry.filters_to_send());
    let mut others = ring.iter().filter(|(id, _)| !standing.contains(id));
    let found = others.find(|(_, other)| overlaps(other));
    found.map(|(id, _)| id)
}

/// Says of another request whether more of it is to come, and it has a filter of this one.
pub(super) fn is_rest_for<T>(request: &Entry<T>) -> impl Fn(&Entry<T>) -> bool {
    let overlaps = overlaps(request.filters());
    move |other| other.is_rest() && overlaps(other)
}

/// Says of a request whether it has one of these filters.
fn overlaps<'a, T>(filters: impl Iterator<Item = &'a str>) -> impl Fn(&Entry<T>) -> bool {
    let filters: BTreeSet<_> = filters.collect();
    move |other| other.filters().any(|filter| filters.contains(filter))
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Subscribing, Unsubscribing, looks};
    use super::*;
    use crate::mqtt::packet::{Filter, Publish, QoS};

    fn subscribe(filter: &str, renewal: bool) -> Entry<u8> {
        let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
        let body = Body::Subscribe(Subscribing::new(filters, renewal));
        Entry::new((!renewal).then_some(1), body, Instant::now())
    }

    fn unsubscribe(filter: &str) -> Entry<u8> {
        let body = Body::Unsubscribe(Unsubscribing::new(vec![filter.to_owned()], None));
        Entry::new(Some(1), body, Instant::now())
    }

    fn room(qos2: bool) -> Room {
        Room {
            qos2,
            quota: true,
            requests_pass: false,
        }
    }

    fn publish() -> Entry<u8> {
        let body = Body::Publish(Publish::new("t", QoS::AtLeastOnce, "x").into());
        Entry::new(Some(1), body, Instant::now())
    }

    #[test]
    fn only_renewals_leave_while_subscriptions_are_renewed() {
        let ring = Ring::new(10, 0);
        let mut waiting = Waiting::default();
        waiting.push_back(publish());
        waiting.push_front(subscribe("a", true));
        assert!(
            waiting
                .poll(&ring, true, &[], room(true))
                .is_some_and(|e| e.is_renewal())
        );
        assert_eq!(waiting.poll(&ring, true, &[], room(true)), None);
        assert!(waiting.poll(&ring, false, &[], room(true)).is_some());
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_request_waits_for_another_one_for_the_same_filter() {
        let mut ring = Ring::new(10, 0);
        let under_way = ring.push(subscribe("a", false)).unwrap();
        let mut waiting = Waiting::default();
        waiting.push_back(unsubscribe("a"));
        assert_eq!(waiting.poll(&ring, false, &[], room(true)), None);
        // A request for another filter does not wait, but it goes in its turn.
        waiting.push_front(unsubscribe("b"));
        assert!(waiting.poll(&ring, false, &[], room(true)).is_some());
        assert_eq!(waiting.poll(&ring, false, &[], room(true)), None);
        ring.remove(under_way);
        assert!(waiting.poll(&ring, false, &[], room(true)).is_some());
    }

    #[test]
    fn a_qos_2_message_waits_for_room_and_the_others_behind_it() {
        let ring = Ring::new(10, 0);
        let mut waiting = Waiting::default();
        let message = Publish::new("t", QoS::ExactlyOnce, "x").into();
        let message = Entry::new(Some(2), Body::Publish(message), Instant::now());
        waiting.push_back(message);
        waiting.push_back(publish());
        assert_eq!(waiting.poll(&ring, false, &[], room(false)), None);
        waiting.push_front(subscribe("a", true));
        for (has_room, token) in [(false, None), (true, Some(2)), (false, Some(1))] {
            let next = waiting.poll(&ring, false, &[], room(has_room));
            assert_eq!(next.map(|entry| entry.token), Some(token));
        }
    }

    /// With each acknowledgment there is room for one, and then none.
    #[test]
    fn a_request_behind_many_messages_is_looked_for_once() {
        const MANY: usize = 60_000;
        let mut ring = Ring::new(10, 0);
        let under_way = ring.push(subscribe("a", false)).unwrap();
        let mut waiting = Waiting::default();
        (0..MANY).for_each(|_| waiting.push_back(publish()));
        waiting.push_back(unsubscribe("a"));
        let passing = |quota| Room {
            qos2: true,
            quota,
            requests_pass: true,
        };
        assert_eq!(waiting.poll(&ring, false, &[], passing(false)), None);
        let before = looks();
        for _ in 0..1_000 {
            let next = waiting.poll(&ring, false, &[], passing(true));
            assert!(next.is_some_and(|entry| entry.is_publish()));
            assert_eq!(waiting.poll(&ring, false, &[], passing(false)), None);
        }
        let each = (looks() - before) / 1_000;
        assert!(
            each <= 20,
            "{each} commands are looked at for each acknowledgment"
        );
        assert_eq!(waiting.len(), MANY - 1_000 + 1);
        ring.remove(under_way);
        let next = waiting.poll(&ring, false, &[], passing(false));
        assert!(next.is_some_and(|entry| entry.is_request()));
        assert_eq!(waiting.bytes(), (MANY - 1_000) * publish().message_bytes());
    }

    #[test]
    fn no_message_is_looked_at_before_the_first_request() {
        let mut waiting = Waiting::default();
        (0..1_000).for_each(|_| waiting.push_back(publish()));
        let looks_for = |waiting: &Waiting<u8>| {
            let before = looks();
            (waiting.requests().count(), looks() - before)
        };
        assert_eq!(looks_for(&waiting), (0, 0));
        waiting.push_back(subscribe("a", false));
        assert_eq!(waiting.first_request(), Some(1_000));
        waiting.push_back(publish());
        waiting.push_back(unsubscribe("a"));
        assert_eq!(looks_for(&waiting), (2, 3));
    }

    /// The hint where the first request stands follows what is put in, and what goes.
    #[test]
    fn the_first_request_is_found_wherever_commands_come_and_go() {
        let ring = Ring::new(10, 0);
        let room = Room {
            qos2: true,
            quota: false,
            requests_pass: true,
        };
        let mut waiting = Waiting::default();
        let next = |waiting: &mut Waiting<u8>| {
            let next = waiting.poll(&ring, false, &[], room)?;
            next.filters().next().map(str::to_owned)
        };
        waiting.push_back(publish());
        waiting.push_back(unsubscribe("a"));
        waiting.push_back(unsubscribe("b"));
        assert_eq!(next(&mut waiting).as_deref(), Some("a"));
        waiting.push_front(publish());
        waiting.push_behind(unsubscribe("c"));
        assert_eq!(next(&mut waiting).as_deref(), Some("c"));
        waiting.push_front(unsubscribe("d"));
        waiting.push_front(publish());
        assert_eq!(next(&mut waiting).as_deref(), Some("d"));
        waiting.handle_link_lost();
        assert_eq!(next(&mut waiting).as_deref(), Some("b"));
        assert_eq!(next(&mut waiting), None);
        waiting.push_back(unsubscribe("e"));
        assert_eq!(next(&mut waiting).as_deref(), Some("e"));
        assert_eq!(waiting.drain().count(), 3);
        assert_eq!((waiting.bytes(), waiting.requests), (0, 0));
    }

    #[test]
    fn nothing_leaves_without_an_identifier() {
        let mut ring = Ring::new(1, 0);
        ring.push(publish()).unwrap();
        let mut waiting = Waiting::default();
        waiting.push_back(subscribe("a", true));
        assert_eq!(waiting.poll(&ring, false, &[], room(true)), None);
        assert_eq!(waiting.poll_renewal(&ring), None);
    }

    #[test]
    fn a_lost_link_takes_renewals_with_it_and_nothing_else() {
        let mut waiting = Waiting::default();
        waiting.push_back(subscribe("a", true));
        waiting.push_back(subscribe("b", false));
        waiting.handle_link_lost();
        let left: Vec<_> = waiting.drain().collect();
        assert_eq!(left.len(), 1);
        assert!(!left[0].is_renewal());
    }
}
