//! \[8\] Which response queues want a topic: filters, matching, and when the broker has to be told.
//!
//! Several queues may subscribe to one filter: SUBSCRIBE asks for the highest QoS among them, and
//! UNSUBSCRIBE goes out when the last one leaves. Matching (`tree.rs`) is byte for byte
//! [MQTT-4.7.3-4]; `$share/<name>/<filter>` matches as `<filter>`. Pure; the loop's thread.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod tree;

use std::collections::{HashMap, HashSet};

use crate::inbox::InboxId;
use crate::packet::{Filter, QoS};
use tree::{FilterId, OpenNodes, Tree};

/// One queue's interest in one filter, as one SUBSCRIBE made it: so a later SUBSCRIBE of the same
/// filter is not taken away by the answer to an earlier UNSUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InterestId {
    filter: FilterId,
    number: u64,
}

/// The queues that want a topic; kept from one message to the next, so that finding them needs no
/// memory of its own.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) inboxes: Vec<InboxId>,
    open: OpenNodes,
}

/// The table of subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    ids: HashMap<String, FilterId>,
    /// By [`FilterId`]; an entry without interests is free.
    entries: Vec<Entry>,
    free: Vec<FilterId>,
    tree: Tree,
    next_number: u64,
    interests: usize,
}

#[derive(Debug, Default)]
struct Entry {
    filter: String,
    interests: Vec<Interest>,
}

#[derive(Debug)]
struct Interest {
    inbox: InboxId,
    number: u64,
    qos: QoS,
    /// Its SUBSCRIBE was answered.
    granted: bool,
    /// Its UNSUBSCRIBE is under way.
    leaving: bool,
}

impl Subscriptions {
    /// Adds a queue's interest in `filters`. Messages may arrive from now on, also before SUBACK.
    /// Gives what to ask the broker for, in the same order, and what to [`Subscriptions::remove`]
    /// should the broker refuse.
    pub(crate) fn add(
        &mut self,
        inbox: InboxId,
        filters: &[Filter],
    ) -> (Vec<Filter>, Vec<InterestId>) {
        let mut wanted = Vec::with_capacity(filters.len());
        let mut added = Vec::with_capacity(filters.len());
        for Filter { filter, qos } in filters {
            let id = self.filter_id(filter);
            let number = self.next_number;
            self.next_number += 1;
            self.interests += 1;
            let interests = &mut self.entries[id].interests;
            interests.push(Interest {
                inbox,
                number,
                qos: *qos,
                granted: false,
                leaving: false,
            });
            let staying = interests.iter().filter(|interest| !interest.leaving);
            let highest = staying.map(|interest| interest.qos).max().unwrap_or(*qos);
            wanted.push(Filter::new(filter.clone(), highest));
            added.push(InterestId { filter: id, number });
        }
        (wanted, added)
    }

    /// A queue leaves `filters`. Gives those that the broker is to be told about, because nobody
    /// else stays, and what to remove once it has answered: messages may still arrive until then.
    pub(crate) fn leave(
        &mut self,
        inbox: InboxId,
        filters: &[String],
    ) -> (Vec<String>, Vec<InterestId>) {
        let mut unwanted: Vec<String> = Vec::new();
        let mut leaving = Vec::new();
        for filter in filters {
            // One that is not known here the broker may know from an earlier session.
            let mut nobody_stays = true;
            if let Some(&id) = self.ids.get(filter) {
                for interest in &mut self.entries[id].interests {
                    if interest.inbox == inbox {
                        interest.leaving = true;
                        leaving.push(InterestId {
                            filter: id,
                            number: interest.number,
                        });
                    }
                    nobody_stays &= interest.leaving;
                }
            }
            if nobody_stays && !unwanted.contains(filter) {
                unwanted.push(filter.clone());
            }
        }
        (unwanted, leaving)
    }

    /// The broker granted these. They take the place of earlier ones of the same queue and filter:
    /// to subscribe again is not another subscription.
    pub(crate) fn grant(&mut self, granted: &[InterestId]) {
        for InterestId { filter, number } in granted {
            let Some(entry) = self.entries.get_mut(*filter) else {
                continue;
            };
            let Some(interest) = entry.interests.iter_mut().find(|i| i.number == *number) else {
                continue;
            };
            interest.granted = true;
            let inbox = interest.inbox;
            self.retain(*filter, |other| {
                other.inbox != inbox || other.number >= *number || other.leaving || !other.granted
            });
        }
    }

    /// Removes single interests: refused by the broker, or left. Gives the filters that nobody wants
    /// any more.
    pub(crate) fn remove(&mut self, gone: &[InterestId]) -> Vec<String> {
        let mut unwanted = Vec::new();
        for InterestId { filter, number } in gone {
            unwanted.extend(self.retain(*filter, |interest| interest.number != *number));
        }
        unwanted
    }

    /// A queue went away. Gives the filters that nobody wants any more.
    pub(crate) fn remove_inbox(&mut self, inbox: InboxId) -> Vec<String> {
        let mut unwanted = Vec::new();
        for id in 0..self.entries.len() {
            let Entry { filter, interests } = &self.entries[id];
            // Of those that are leaving the broker has been told, or will be by whoever stays.
            let wanted_by = |own: bool| {
                let mut staying = interests.iter().filter(|interest| !interest.leaving);
                staying.any(|interest| (interest.inbox == inbox) == own)
            };
            if wanted_by(true) && !wanted_by(false) {
                unwanted.push(filter.clone());
            }
            self.retain(id, |interest| interest.inbox != inbox);
        }
        unwanted
    }

    /// The broker no longer serves this filter. Gives the queues that had been granted it; who has
    /// asked for it since is still to be answered.
    pub(crate) fn remove_filter(&mut self, filter: &str) -> Vec<InboxId> {
        let Some(&id) = self.ids.get(filter) else {
            return Vec::new();
        };
        let granted = self.entries[id].interests.iter().filter(|i| i.granted);
        let mut inboxes: Vec<_> = granted.map(|i| i.inbox).collect();
        inboxes.sort_unstable();
        inboxes.dedup();
        self.retain(id, |interest| !interest.granted);
        inboxes
    }

    /// How many interests there are: a filter counts once for each queue that wants it.
    pub(crate) fn len(&self) -> usize {
        self.interests
    }

    /// How many different filters there would be together with these: what the broker counts.
    pub(crate) fn filters_with(&self, filters: &[Filter]) -> usize {
        let names = filters.iter().map(|filter| filter.filter.as_str());
        let unknown: HashSet<&str> = names.filter(|name| !self.ids.contains_key(*name)).collect();
        self.ids.len() + unknown.len()
    }

    /// Finds each queue that wants this topic, once however many filters match.
    pub(crate) fn matching(&self, topic: &str, matches: &mut Matches) {
        let Matches { inboxes, open } = matches;
        inboxes.clear();
        self.tree.matching(topic, open, |id| {
            inboxes.extend(self.entries[id].interests.iter().map(|i| i.inbox));
        });
        inboxes.sort_unstable();
        inboxes.dedup();
    }

    fn filter_id(&mut self, filter: &str) -> FilterId {
        if let Some(&id) = self.ids.get(filter) {
            return id;
        }
        let entry = Entry {
            filter: filter.to_owned(),
            interests: Vec::new(),
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.ids.insert(filter.to_owned(), id);
        self.tree.insert(filter, id);
        id
    }

    /// Keeps some of a filter's interests; without any it is forgotten, and handed out.
    fn retain(&mut self, id: FilterId, stays: impl Fn(&Interest) -> bool) -> Option<String> {
        let entry = self.entries.get_mut(id)?;
        let before = entry.interests.len();
        entry.interests.retain(stays);
        self.interests -= before - entry.interests.len();
        if before == 0 || !entry.interests.is_empty() {
            return None;
        }
        let filter = std::mem::take(&mut entry.filter);
        self.ids.remove(&filter);
        self.tree.remove(&filter, id);
        self.free.push(id);
        Some(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InboxId = InboxId(1);
    const B: InboxId = InboxId(2);

    fn filters(names: &[&str]) -> Vec<Filter> {
        names
            .iter()
            .map(|name| Filter::new(*name, QoS::AtLeastOnce))
            .collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn matching(table: &Subscriptions, topic: &str) -> Vec<InboxId> {
        let mut matches = Matches {
            inboxes: vec![InboxId(99)],
            open: vec![(99, None)],
        };
        table.matching(topic, &mut matches);
        matches.inboxes
    }

    #[test]
    fn a_filter_counts_once_for_the_broker_however_many_queues_want_it() {
        let mut table = Subscriptions::default();
        assert_eq!(table.filters_with(&filters(&["a", "b", "a"])), 2);
        let (_, added) = table.add(A, &filters(&["a", "b"]));
        table.add(B, &filters(&["a"]));
        assert_eq!(table.len(), 3);
        assert_eq!(table.filters_with(&[]), 2);
        assert_eq!(table.filters_with(&filters(&["a", "c"])), 3);
        table.remove(&added);
        assert_eq!(table.filters_with(&[]), 1);
    }

    #[test]
    fn each_queue_is_found_once_however_many_filters_match() {
        let mut table = Subscriptions::default();
        table.add(A, &filters(&["a/+", "a/b", "#"]));
        table.add(B, &filters(&["a/b"]));
        assert_eq!(matching(&table, "a/b"), [A, B]);
        assert_eq!(matching(&table, "a/c"), [A]);
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn the_highest_quality_of_service_is_asked_for() {
        let mut table = Subscriptions::default();
        table.add(A, &[Filter::new("a", QoS::ExactlyOnce)]);
        let (wanted, _) = table.add(B, &[Filter::new("a", QoS::AtMostOnce)]);
        assert_eq!(wanted, [Filter::new("a", QoS::ExactlyOnce)]);
    }

    #[test]
    fn the_broker_is_told_when_the_last_one_leaves() {
        let mut table = Subscriptions::default();
        table.add(A, &filters(&["a"]));
        table.add(B, &filters(&["a"]));
        let (unwanted, leaving) = table.leave(A, &names(&["a"]));
        assert_eq!(unwanted, names(&[]));
        assert_eq!(matching(&table, "a"), [A, B], "until it is removed");
        table.remove(&leaving);
        assert_eq!(matching(&table, "a"), [B]);
        let (unwanted, leaving) = table.leave(B, &names(&["a", "a"]));
        assert_eq!(unwanted, names(&["a"]));
        table.remove(&leaving);
        assert_eq!(matching(&table, "a"), []);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_new_subscription_survives_the_answer_to_an_earlier_unsubscribe() {
        let mut table = Subscriptions::default();
        table.add(A, &filters(&["a"]));
        let (_, leaving) = table.leave(A, &names(&["a"]));
        table.add(A, &filters(&["a"]));
        table.remove(&leaving);
        assert_eq!(matching(&table, "a"), [A]);
    }

    #[test]
    fn a_stale_interest_does_not_hit_a_filter_that_took_its_place() {
        let mut table = Subscriptions::default();
        let (_, added) = table.add(A, &filters(&["a"]));
        table.remove_inbox(A);
        table.add(B, &filters(&["b"]));
        table.remove(&added);
        assert_eq!(matching(&table, "b"), [B]);
    }

    #[test]
    fn a_queue_that_goes_away_takes_its_filters_along() {
        let mut table = Subscriptions::default();
        table.add(A, &filters(&["a", "b"]));
        let (_, asked) = table.add(B, &filters(&["b"]));
        assert_eq!(table.remove_inbox(A), names(&["a"]));
        assert_eq!(table.remove_filter("b"), [], "it is still to be answered");
        table.grant(&asked);
        assert_eq!(table.remove_filter("b"), [B]);
        assert_eq!(table.remove_filter("b"), []);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn who_is_leaving_does_not_keep_the_filter_of_a_queue_that_goes_away() {
        let mut table = Subscriptions::default();
        table.add(A, &filters(&["a"]));
        let (_, leaving) = table.leave(A, &names(&["a"]));
        table.add(B, &filters(&["a"]));
        assert_eq!(table.remove_inbox(B), names(&["a"]));
        assert_eq!(table.remove_inbox(A), names(&[]), "the broker was told");
        table.remove(&leaving);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn to_subscribe_again_is_not_another_subscription() {
        let mut table = Subscriptions::default();
        let (_, first) = table.add(A, &filters(&["a"]));
        table.grant(&first);
        let (_, other) = table.add(B, &filters(&["a"]));
        table.grant(&other);
        let (_, second) = table.add(A, &filters(&["a"]));
        assert_eq!(table.len(), 3, "until it is granted");
        table.grant(&second);
        assert_eq!(table.len(), 2);
        assert_eq!(matching(&table, "a"), [A, B]);
    }

    #[test]
    fn what_a_refusal_leaves_without_anybody_is_told() {
        let mut table = Subscriptions::default();
        let (_, first) = table.add(A, &filters(&["a"]));
        table.grant(&first);
        let (_, refused) = table.add(B, &filters(&["a"]));
        let (unwanted, leaving) = table.leave(A, &names(&["a"]));
        assert_eq!(unwanted, names(&[]), "B may still be granted it");
        assert_eq!(table.remove(&leaving), names(&[]));
        assert_eq!(table.remove(&refused), names(&["a"]));
    }

    #[test]
    fn a_filter_unknown_here_is_still_unsubscribed_at_the_broker() {
        let mut table = Subscriptions::default();
        let (unwanted, leaving) = table.leave(A, &names(&["from/before"]));
        assert_eq!((unwanted, leaving.len()), (names(&["from/before"]), 0));
    }
}
