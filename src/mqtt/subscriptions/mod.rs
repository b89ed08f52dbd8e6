//! \[8\] Which response queues want a topic: filters, matching, and when the broker has to be told.
//!
//! Several queues may subscribe to one filter: SUBSCRIBE asks for the highest QoS among them, and
//! UNSUBSCRIBE goes out when the last one leaves. Matching (`filters.rs`) is byte for byte
//! [MQTT-4.7.3-4]; `$share/<name>/<filter>` matches as `<filter>`. Pure; the loop's thread.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod filters;
mod interests;
mod text;
mod wildcards;

use std::collections::{BTreeSet, HashSet};

use crate::client::inbox::InboxId;
use crate::mqtt::packet::{Filter, QoS};
use filters::{FilterId, Filters};
use interests::{Interest, Interests};
use wildcards::OpenNodes;

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
    filters: Filters<Interests>,
    /// Every interest: whose, in which filter, its number.
    interests: BTreeSet<(InboxId, FilterId, u64)>,
    next_number: u64,
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
            let number = self.next_number;
            self.next_number += 1;
            let interest = Interest {
                inbox,
                number,
                qos: *qos,
                granted: false,
                leaving: false,
            };
            let (id, highest) = self.add_interest(filter, interest);
            self.interests.insert((inbox, id, number));
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
            if let Some(id) = self.filters.find(filter)
                && let Some(interests) = self.filters.value_mut(id)
            {
                for interest in interests.as_mut_slice() {
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
            let Some(interests) = self.filters.value_mut(*filter) else {
                continue;
            };
            let mut interests = interests.as_mut_slice().iter_mut();
            let Some(interest) = interests.find(|i| i.number == *number) else {
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
        let all = (inbox, FilterId::MIN, u64::MIN)..=(inbox, FilterId::MAX, u64::MAX);
        let mut ids: Vec<_> = self.interests.range(all).map(|(_, id, _)| *id).collect();
        ids.dedup();
        for id in ids {
            let Some(interests) = self.filters.value(id) else {
                continue;
            };
            // Of those that are leaving the broker has been told, or will be by whoever stays.
            let wanted_by = |own: bool| {
                let mut staying = interests.as_slice().iter().filter(|i| !i.leaving);
                staying.any(|interest| (interest.inbox == inbox) == own)
            };
            if wanted_by(true) && !wanted_by(false) {
                unwanted.extend(self.filters.text(id));
            }
            self.retain(id, |interest| interest.inbox != inbox);
        }
        unwanted
    }

    /// The broker no longer serves this filter. Gives the queues that had been granted it; who has
    /// asked for it since is still to be answered.
    pub(crate) fn remove_filter(&mut self, filter: &str) -> Vec<InboxId> {
        let Some((id, interests)) = self.find(filter) else {
            return Vec::new();
        };
        let granted = interests.as_slice().iter().filter(|i| i.granted);
        let mut inboxes: Vec<_> = granted.map(|i| i.inbox).collect();
        inboxes.sort_unstable();
        inboxes.dedup();
        self.retain(id, |interest| !interest.granted);
        inboxes
    }

    /// How many interests there are: a filter counts once for each queue that wants it.
    pub(crate) fn len(&self) -> usize {
        self.interests.len()
    }

    /// How many different filters there would be together with these: what the broker counts.
    pub(crate) fn filters_with(&self, filters: &[Filter]) -> usize {
        let names = filters.iter().map(|filter| filter.filter.as_str());
        let unknown: HashSet<&str> = names.filter(|name| self.find(name).is_none()).collect();
        self.filters.len() + unknown.len()
    }

    /// Finds each queue that wants this topic, once however many filters match.
    pub(crate) fn matching(&self, topic: &str, matches: &mut Matches) {
        let Matches { inboxes, open } = matches;
        inboxes.clear();
        self.filters.matching(topic, open, |interests| {
            inboxes.extend(interests.as_slice().iter().map(|i| i.inbox));
        });
        inboxes.sort_unstable();
        inboxes.dedup();
    }

    fn find(&self, filter: &str) -> Option<(FilterId, &Interests)> {
        let id = self.filters.find(filter)?;
        self.filters.value(id).map(|interests| (id, interests))
    }

    /// Gives also the highest QoS that is now asked for.
    fn add_interest(&mut self, filter: &str, interest: Interest) -> (FilterId, QoS) {
        let qos = interest.qos;
        if let Some(id) = self.filters.find(filter)
            && let Some(interests) = self.filters.value_mut(id)
        {
            interests.push(interest);
            let staying = interests.as_slice().iter().filter(|i| !i.leaving);
            let highest = staying.map(|i| i.qos).max().unwrap_or(qos);
            return (id, highest);
        }
        (self.filters.insert(filter, Interests::One(interest)), qos)
    }

    /// Keeps some of a filter's interests; without any it is forgotten, and handed out.
    fn retain(&mut self, filter: FilterId, stays: impl Fn(&Interest) -> bool) -> Option<String> {
        let all = &mut self.interests;
        let interests = self.filters.value_mut(filter)?;
        interests.retain(|interest| {
            let stays = stays(interest);
            if !stays {
                all.remove(&(interest.inbox, filter, interest.number));
            }
            stays
        });
        if !interests.as_slice().is_empty() {
            return None;
        }
        self.filters.remove(filter)
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
            open: OpenNodes::left_over(),
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
