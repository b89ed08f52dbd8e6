//! \[8\] The table of subscriptions: which subscribers want a topic, and when to tell the broker.
//!
//! Several subscribers may want one filter. SUBSCRIBE asks for the highest QoS among them, and UNSUBSCRIBE
//! goes out when the last one leaves. `tree.rs` finds the filters that match a topic. `S` names a subscriber;
//! the table does not know what a subscriber is. Pure. Runs on the loop's thread.

mod tree;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::mqtt::packet::{Filter, QoS};
use crate::mqtt::topic::matched_filters;
use tree::{LevelTree, Open};

/// One subscriber's interest in one filter, as one SUBSCRIBE made it. A second SUBSCRIBE of the same filter
/// makes another interest, so that the answer to an UNSUBSCRIBE in between does not take it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterestId<S> {
    subscriber: S,
    number: u64,
}

/// The subscribers that want a topic. It is kept from one message to the next, so that finding them
/// allocates nothing.
#[derive(Debug)]
pub struct Matches<S> {
    /// Each subscriber once, in ascending order.
    pub subscribers: Vec<S>,
    open: Open,
}

/// The table of subscriptions.
#[derive(Debug)]
pub struct Subscriptions<S> {
    /// The interests in each filter, in the order in which they came.
    filters: BTreeMap<Arc<str>, Vec<Interest<S>>>,
    /// The filter of each interest.
    interests: BTreeMap<InterestId<S>, Arc<str>>,
    /// The filters of SUBSCRIBEs that are to come, by their numbers.
    announced: BTreeMap<u64, (S, Vec<Announced>)>,
    /// All of these filters and subscribers once more, for matching.
    tree: LevelTree<S>,
    next_number: u64,
}

/// A filter that is to come, and the one to match with, if the application named one.
type Announced = (Arc<str>, Option<Arc<str>>);

#[derive(Debug)]
struct Interest<S> {
    id: InterestId<S>,
    qos: QoS,
    /// The filter to match with, if the application named one.
    matching: Option<Arc<str>>,
    /// The broker has granted it.
    granted: bool,
    /// Its UNSUBSCRIBE is under way.
    leaving: bool,
}

impl<S: Copy + Ord> Subscriptions<S> {
    /// A SUBSCRIBE with this number is to come. Its subscriber gets the messages that match from now on. Until
    /// [`Subscriptions::add`] its filters count for nothing else.
    pub fn announce(&mut self, number: u64, subscriber: S, filters: &[Filter]) {
        let announced = filters.iter().map(|filter| {
            let matching = filter.matching.as_deref().map(Arc::from);
            (filter.filter.as_str().into(), matching)
        });
        let announced: Vec<Announced> = announced.collect();
        for (name, matching) in &announced {
            self.insert(name, matching.as_ref(), subscriber);
        }
        self.announced.insert(number, (subscriber, announced));
    }

    /// The SUBSCRIBE with this number has come, or will not come.
    pub fn end_announcement(&mut self, number: u64) {
        if let Some((subscriber, announced)) = self.announced.remove(&number) {
            for (name, matching) in &announced {
                for matched in matched(name, matching.as_ref()) {
                    self.tree.remove(&matched, subscriber);
                }
            }
        }
    }

    fn insert(&mut self, name: &Arc<str>, matching: Option<&Arc<str>>, subscriber: S) {
        for matched in matched(name, matching) {
            self.tree.insert(&matched, subscriber);
        }
    }

    /// Adds a subscriber's interest in `filters`. Messages may arrive from now on, also before SUBACK.
    /// Returns the filters to ask the broker for, in the same order, and the interests to
    /// [`remove`](Subscriptions::remove) if the broker refuses.
    pub fn add(&mut self, subscriber: S, filters: &[Filter]) -> (Vec<Filter>, Vec<InterestId<S>>) {
        let mut wanted = Vec::with_capacity(filters.len());
        let mut added = Vec::with_capacity(filters.len());
        for Filter {
            filter,
            qos,
            options,
            matching,
        } in filters
        {
            let id = InterestId {
                subscriber,
                number: self.next_number,
            };
            self.next_number += 1;
            let entry = self.filters.entry(filter.as_str().into());
            let name = Arc::clone(entry.key());
            let matching = matching.as_deref().map(Arc::from);
            let interests = entry.or_default();
            interests.push(Interest {
                id,
                qos: *qos,
                matching: Option::clone(&matching),
                granted: false,
                leaving: false,
            });
            let staying = interests.iter().filter(|interest| !interest.leaving);
            let highest = staying.map(|interest| interest.qos).max();
            self.insert(&name, matching.as_ref(), subscriber);
            self.interests.insert(id, name);
            let asked = Filter::new(filter.clone(), highest.unwrap_or(*qos));
            wanted.push(asked.with_options(*options));
            added.push(id);
        }
        (wanted, added)
    }

    /// Marks a subscriber as leaving `filters`. Returns the filters to unsubscribe at the broker, because no
    /// other subscriber stays, and the interests to remove once the broker has answered. Messages may still
    /// arrive until then.
    pub fn leave(
        &mut self,
        subscriber: S,
        filters: &[String],
    ) -> (Vec<String>, Vec<InterestId<S>>) {
        let mut unwanted: Vec<String> = Vec::new();
        let mut leaving = Vec::new();
        for filter in filters {
            // The broker may know a filter from an earlier session that is not known here.
            let mut nobody_stays = true;
            for interest in self.filters.get_mut(filter.as_str()).into_iter().flatten() {
                if interest.id.subscriber == subscriber {
                    interest.leaving = true;
                    leaving.push(interest.id);
                }
                nobody_stays &= interest.leaving;
            }
            if nobody_stays && !unwanted.contains(filter) {
                unwanted.push(filter.clone());
            }
        }
        (unwanted, leaving)
    }

    /// UNSUBSCRIBE for these interests was not sent: they stay.
    pub fn stay(&mut self, staying: &[InterestId<S>]) {
        for id in staying {
            let filter = self.interests.get(id).cloned();
            let interests = filter.and_then(|filter| self.filters.get_mut(&filter));
            for interest in interests.into_iter().flatten() {
                interest.leaving &= interest.id != *id;
            }
        }
    }

    /// Marks interests that the broker granted. They replace earlier interests of the same subscriber in the
    /// same filter, because subscribing again makes no second subscription.
    pub fn grant(&mut self, granted: &[InterestId<S>]) {
        for id in granted {
            let Some(filter) = self.interests.get(id).cloned() else {
                continue;
            };
            let mut interests = self.filters.get_mut(&filter).into_iter().flatten();
            if let Some(interest) = interests.find(|interest| interest.id == *id) {
                interest.granted = true;
            }
            self.retain(&filter, |other| {
                other.id.subscriber != id.subscriber
                    || other.id.number >= id.number
                    || other.leaving
                    || !other.granted
            });
        }
    }

    /// Removes single interests that the broker refused or that have left. Returns the filters that nobody
    /// wants any more.
    pub fn remove(&mut self, gone: &[InterestId<S>]) -> Vec<String> {
        let mut unwanted = Vec::new();
        for id in gone {
            if let Some(filter) = self.interests.get(id).cloned()
                && self.retain(&filter, |interest| interest.id != *id)
            {
                unwanted.push(filter.as_ref().into());
            }
        }
        unwanted
    }

    /// Removes a subscriber that went away. Returns the filters that nobody wants any more.
    pub fn remove_subscriber(&mut self, subscriber: S) -> Vec<String> {
        let announced = self.announced.iter();
        let own = announced.filter(|(_, (other, _))| *other == subscriber);
        for number in own.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.end_announcement(number);
        }
        let mut unwanted = Vec::new();
        let own: Vec<_> = self.filters_of(subscriber).map(Arc::<str>::from).collect();
        for filter in own {
            // The broker knows about leaving interests, or will be told when the last one leaves.
            let interests = self.filters.get(&filter).into_iter().flatten();
            let mut staying = interests.filter(|interest| !interest.leaving).peekable();
            if staying.peek().is_some() && staying.all(|other| other.id.subscriber == subscriber) {
                unwanted.push(filter.as_ref().into());
            }
            self.retain(&filter, |interest| interest.id.subscriber != subscriber);
        }
        unwanted
    }

    /// Removes the granted interests in a filter that the broker no longer serves. Returns their
    /// subscribers. An interest that the broker has not answered stays.
    pub fn remove_filter(&mut self, filter: &str) -> Vec<S> {
        let interests = self.filters.get(filter).into_iter().flatten();
        let granted = interests.filter(|interest| interest.granted);
        let mut subscribers: Vec<_> = granted.map(|interest| interest.id.subscriber).collect();
        subscribers.sort_unstable();
        subscribers.dedup();
        self.retain(filter, |interest| !interest.granted);
        subscribers
    }

    /// The filters that a subscriber wants.
    pub fn filters_of(&self, subscriber: S) -> impl Iterator<Item = &str> {
        let id = |number| InterestId { subscriber, number };
        let own = self.interests.range(id(u64::MIN)..=id(u64::MAX));
        own.map(|(_, filter)| &**filter)
    }

    /// Whether a subscriber wants this filter, or waits for the answer to its UNSUBSCRIBE.
    pub fn contains(&self, filter: &str) -> bool {
        self.filters.contains_key(filter)
    }

    /// The number of interests. A filter counts once for each subscriber that wants it.
    pub fn len(&self) -> usize {
        self.interests.len()
    }

    /// Whether there is no interest.
    pub fn is_empty(&self) -> bool {
        self.interests.is_empty()
    }

    /// The number of different filters that there would be together with `filters`. The broker counts these.
    pub fn filters_with(&self, filters: &[Filter]) -> usize {
        let names = filters.iter().map(|filter| filter.filter.as_str());
        let unknown: HashSet<&str> = names
            .filter(|name| !self.filters.contains_key(*name))
            .collect();
        self.filters.len() + unknown.len()
    }

    /// Finds each subscriber that wants this topic. It is found once, however many of its filters match.
    pub fn matching(&self, topic: impl AsRef<[u8]>, matches: &mut Matches<S>) {
        let Matches { subscribers, open } = matches;
        let topic = topic.as_ref();
        subscribers.clear();
        self.tree.matching(topic, open, |one| subscribers.push(one));
        subscribers.sort_unstable();
        subscribers.dedup();
    }

    /// Keeps those interests in a filter for which `stays` returns `true`. Forgets the filter if none is left,
    /// and returns whether it did so.
    fn retain(&mut self, filter: &str, stays: impl Fn(&Interest<S>) -> bool) -> bool {
        let Some((name, _)) = self.filters.get_key_value(filter) else {
            return false;
        };
        let name = Arc::clone(name);
        let Some(interests) = self.filters.get_mut(filter) else {
            return false;
        };
        interests.retain(|interest| {
            let stays = stays(interest);
            if !stays {
                self.interests.remove(&interest.id);
                for matched in matched(&name, interest.matching.as_ref()) {
                    self.tree.remove(&matched, interest.id.subscriber);
                }
            }
            stays
        });
        interests.is_empty() && self.filters.remove(filter).is_some()
    }
}

/// The filters that topics are matched with: the one that the application named, or those that follow from the
/// filter's name. A name that is matched as it is stays shared.
fn matched<'a>(
    name: &'a Arc<str>,
    matching: Option<&'a Arc<str>>,
) -> impl Iterator<Item = Arc<str>> + 'a {
    let following = matched_filters(name).filter(move |_| matching.is_none());
    let following = following.map(|filter| match filter.len() == name.len() {
        true => Arc::clone(name),
        false => filter.into(),
    });
    matching.cloned().into_iter().chain(following)
}

impl<S> Default for Subscriptions<S> {
    fn default() -> Self {
        Subscriptions {
            filters: BTreeMap::new(),
            interests: BTreeMap::new(),
            announced: BTreeMap::new(),
            tree: LevelTree::default(),
            next_number: 0,
        }
    }
}

impl<S> Default for Matches<S> {
    fn default() -> Self {
        Matches {
            subscribers: Vec::new(),
            open: Open::new(),
        }
    }
}

#[cfg(test)]
mod tests;
