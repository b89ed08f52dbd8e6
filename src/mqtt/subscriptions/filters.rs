//! Filters with what belongs to each, and finding those that match a topic.
//!
//! What matching costs goes by the depth of the topic and by what matches, not by the number of
//! filters, neither in work nor, as far as can be, in places of memory to wait for: a filter without
//! wildcards is found by one hash of the whole topic, one with wildcards by `wildcards.rs`, and
//! what either finds counts only after its text was compared byte for byte. So the hashes decide
//! how long it takes, never what is found. They are keyed, with a key of each table's own, and fast
//! rather than proof against an enemy who could choose the filters: who sends topics adds nothing to
//! the table. Pure; the loop's thread.

use std::hash::BuildHasher;
use std::mem;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::text::Text;
use super::wildcards::{NONE, OpenNodes, Wildcards, hash};
use crate::mqtt::names::filter_without_share;

/// Stands for a filter, as long as it is in the table.
pub(super) type FilterId = u32;

/// The filters, each with a value.
#[derive(Debug, Default)]
pub(super) struct Filters<V, S = DefaultHashBuilder> {
    /// By [`FilterId`]; what is free has no text.
    slots: Vec<Slot<V>>,
    free: Vec<FilterId>,
    /// Filters without wildcards, by the hash of what they match.
    exact: HashTable<Exact>,
    wildcards: Wildcards,
    hasher: S,
}

/// A filter: all that a message needs of it, in two cache lines side by side.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Slot<V> {
    text: Text,
    value: V,
    /// Without wildcards: the hash that it is found by.
    hash: u64,
    /// With wildcards: another that ends at the same node.
    pub(super) next: FilterId,
    /// Where in the text begins what topics are matched with.
    shared: u32,
}

impl<V> Slot<V> {
    /// What topics are matched with.
    pub(super) fn levels(&self) -> &[u8] {
        &self.text.as_bytes()[self.shared as usize..]
    }
}

#[derive(Debug)]
struct Exact {
    /// A part of the hash, so that few others' texts are looked at.
    tag: u32,
    id: FilterId,
}

impl<V: Default, S: BuildHasher> Filters<V, S> {
    /// Adds a valid filter that is not there yet.
    pub(super) fn insert(&mut self, filter: &str, value: V) -> FilterId {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.slots.push(Slot::default());
                let last = self.slots.len() - 1;
                // Slots up to there would take 512 GiB.
                assert!(last < NONE as usize, "too many filters");
                last as FilterId
            }
        };
        let levels = filter_without_share(filter);
        let slot = &mut self.slots[id as usize];
        slot.text = filter.into();
        slot.shared = (filter.len() - levels.len()) as u32;
        slot.value = value;
        if has_wildcards(levels.as_bytes()) {
            self.wildcards.insert(id, &mut self.slots, &self.hasher);
        } else {
            slot.hash = hash(&self.hasher, levels.as_bytes());
            let (hash, tag) = (slot.hash, tag(slot.hash));
            let again = |exact: &Exact| self.slots[exact.id as usize].hash;
            self.exact.insert_unique(hash, Exact { tag, id }, again);
        }
        id
    }

    /// Removes a filter, which is handed out.
    pub(super) fn remove(&mut self, id: FilterId) -> Option<String> {
        let slot = self.slots.get(id as usize)?;
        if slot.text.as_bytes().is_empty() {
            return None;
        }
        if has_wildcards(slot.levels()) {
            self.wildcards.remove(id, &mut self.slots, &self.hasher);
        } else if let Ok(exact) = self.exact.find_entry(slot.hash, |exact| exact.id == id) {
            exact.remove();
        }
        self.free.push(id);
        Some(mem::take(&mut self.slots[id as usize]).text.to_text())
    }

    pub(super) fn value_mut(&mut self, id: FilterId) -> Option<&mut V> {
        self.slots.get_mut(id as usize).map(|slot| &mut slot.value)
    }

    pub(super) fn value(&self, id: FilterId) -> Option<&V> {
        self.slots.get(id as usize).map(|slot| &slot.value)
    }

    /// The text of a filter.
    pub(super) fn text(&self, id: FilterId) -> Option<String> {
        self.slots.get(id as usize).map(|slot| slot.text.to_text())
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Finds a filter by its whole text.
    pub(super) fn find(&self, filter: &str) -> Option<FilterId> {
        let is_it = |id: FilterId| self.slots[id as usize].text.as_bytes() == filter.as_bytes();
        let levels = filter_without_share(filter).as_bytes();
        if has_wildcards(levels) {
            let first = self.wildcards.first(levels, &self.hasher);
            self.from(first).find(|id| is_it(*id))
        } else {
            self.exact(levels).find(|id| is_it(*id))
        }
    }

    /// Calls `found` with what belongs to each filter that matches `topic`; twice with the same only
    /// when hashes collide.
    pub(super) fn matching(&self, topic: &str, open: &mut OpenNodes, mut found: impl FnMut(&V)) {
        let topic = topic.as_bytes();
        for id in self.exact(topic) {
            let slot = &self.slots[id as usize];
            if slot.levels() == topic {
                found(&slot.value);
            }
        }
        let candidates = |first| {
            for id in self.from(first) {
                let slot = &self.slots[id as usize];
                if matches(slot.levels(), topic) {
                    found(&slot.value);
                }
            }
        };
        self.wildcards
            .candidates(topic, &self.hasher, open, candidates);
    }

    /// Filters without wildcards that may be these levels.
    fn exact(&self, levels: &[u8]) -> impl Iterator<Item = FilterId> {
        let hash = hash(&self.hasher, levels);
        let same_hash = self.exact.iter_hash(hash);
        same_hash
            .filter(move |exact| exact.tag == tag(hash))
            .map(|exact| exact.id)
    }

    /// Filters with wildcards that end at the same node, from this one on.
    fn from(&self, first: FilterId) -> impl Iterator<Item = FilterId> {
        let some = |id: FilterId| (id != NONE).then_some(id);
        std::iter::successors(some(first), move |id| some(self.slots[*id as usize].next))
    }
}

fn has_wildcards(levels: &[u8]) -> bool {
    levels.iter().any(|byte| matches!(byte, b'+' | b'#'))
}

/// Bits of the hash that the table of 2^20 filters does not use itself.
fn tag(hash: u64) -> u32 {
    (hash >> 20) as u32
}

/// Whether a valid filter matches a topic, byte for byte [MQTT-4.7.3-4].
fn matches(mut filter: &[u8], mut topic: &[u8]) -> bool {
    // A wildcard does not match the first level of `$` topics [MQTT-4.7.2-1].
    if let ([b'+' | b'#', ..], [b'$', ..]) = (filter, topic) {
        return false;
    }
    loop {
        let same = filter.iter().zip(topic).take_while(|(a, b)| a == b).count();
        (filter, topic) = (&filter[same..], &topic[same..]);
        match filter {
            [] => return topic.is_empty(),
            [b'#'] => return true,
            // It matches the level above as well [MQTT 3.1.1, 4.7.1.2].
            [b'/', b'#'] => return topic.is_empty(),
            [b'+', rest @ ..] => {
                let end = topic.iter().position(|byte| *byte == b'/');
                (filter, topic) = (rest, &topic[end.unwrap_or(topic.len())..]);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::names::check_filter;
    use crate::mqtt::subscriptions::interests::Interests;
    use proptest::prelude::*;
    use std::hash::Hasher;

    /// The standard's words, level by level, as plainly as they can be written.
    fn plainly_matches(filter: &str, topic: &str) -> bool {
        let filter = filter_without_share(filter);
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let filter: Vec<&str> = filter.split('/').collect();
        let topic: Vec<&str> = topic.split('/').collect();
        for (index, level) in filter.iter().enumerate() {
            match *level {
                "#" => return true,
                "+" if index < topic.len() => {}
                other if topic.get(index) == Some(&other) => {}
                _ => return false,
            }
        }
        filter.len() == topic.len()
    }

    /// Hashes of so many different values, so that they collide.
    #[derive(Debug, Clone, Copy, Default)]
    struct Few<const VALUES: u64>(u64);

    impl<const VALUES: u64> BuildHasher for Few<VALUES> {
        type Hasher = Self;

        fn build_hasher(&self) -> Self {
            Few(7)
        }
    }

    impl<const VALUES: u64> Hasher for Few<VALUES> {
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(*byte));
            }
        }

        fn finish(&self) -> u64 {
            self.0 % VALUES
        }
    }

    type Table<S = DefaultHashBuilder> = Filters<u32, S>;

    /// The values of what matches, each once.
    fn found<S: BuildHasher>(table: &Table<S>, topic: &str) -> Vec<u32> {
        let mut values = Vec::new();
        table.matching(topic, &mut OpenNodes::default(), |value| {
            values.push(*value);
        });
        values.sort_unstable();
        values.dedup();
        values
    }

    /// What a topic finds among one filter, the real hash and a worst one agreeing.
    fn matches(filter: &str, topic: &str) -> bool {
        fn found_with<S: BuildHasher + Default>(filter: &str, topic: &str) -> bool {
            let mut table = Table::<S>::default();
            table.insert(filter, 7);
            found(&table, topic) == [7]
        }
        let matches = found_with::<DefaultHashBuilder>(filter, topic);
        assert_eq!(matches, found_with::<Few<1>>(filter, topic));
        matches
    }

    #[test]
    fn the_examples_of_the_standard() {
        for topic in [
            "sport/tennis/player1",
            "sport/tennis/player1/ranking",
            "sport/tennis/player1/score/x",
        ] {
            assert!(matches("sport/tennis/player1/#", topic), "{topic}");
        }
        assert!(matches("sport/#", "sport"));
        assert!(matches("#", "a/b"));
        assert!(matches("sport/tennis/+", "sport/tennis/player1"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(!matches("sport/+", "sport"));
        assert!(matches("sport/+", "sport/"));
        assert!(matches("+/+", "/finance"));
        assert!(matches("/+", "/finance"));
        assert!(!matches("+", "/finance"));
        assert!(!matches("#", "$SYS/x"));
        assert!(!matches("+/monitor/Clients", "$SYS/monitor/Clients"));
        assert!(matches("$SYS/#", "$SYS/x"));
        assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
        assert!(!matches("ACCOUNTS", "Accounts"));
        assert!(!matches("/A", "A"));
        assert!(matches("ä/+/ö", "ä/ü/ö"));
        assert!(matches("$share/group/a/+", "a/b"));
        assert!(!matches("$share/group/a/+", "$share/group/a/b"));
        assert!(!matches("$share/group/#", "$SYS/x"));
    }

    #[test]
    fn levels_are_compared_byte_for_byte() {
        // One letter in two spellings [MQTT-4.7.3-4]; other cases; spaces; four bytes.
        assert!(!matches("\u{e9}", "e\u{301}"));
        assert!(!matches("Ä", "ä"));
        assert!(!matches(" a", "a"));
        assert!(matches("😀/+", "😀/😀"));
        assert!(matches("+/ö", "ä/ö"));
        // What begins with a character of several bytes is no `$` topic.
        assert!(matches("#", "ä$"));
        assert!(matches("+/$a", "a/$a"));
        assert!(!matches("+", "$"));
        assert!(!matches("$share/g/+", "$a"));
        assert!(matches("$share/g/$SYS/#", "$SYS"));
    }

    #[test]
    fn a_filter_of_65535_levels_is_no_danger() {
        let deep = "/".repeat(65_534);
        let wild = format!("{}+", "+/".repeat(32_766));
        let below = format!("{}#", "/".repeat(65_534));
        let mut table: Table = Table::default();
        let ids = [&deep, &wild, &below].map(|filter| table.insert(filter, filter.len() as u32));
        assert_eq!(found(&table, &deep), [65_534, 65_535]);
        assert_eq!(found(&table, &"/".repeat(32_766)), [65_533]);
        for id in ids {
            assert!(table.remove(id).is_some());
        }
        assert_eq!(found(&table, &deep), [0; 0]);
        assert!(table.wildcards.is_empty());
    }

    /// Each level of the filters branches in two; were each way through them gone for itself, there
    /// would be 2^60 of them.
    #[test]
    fn a_topic_visits_no_more_nodes_than_filters_made() {
        let mut table: Table = Table::default();
        for plus in 0..60 {
            let mut levels = ["a"; 60];
            levels[plus] = "+";
            table.insert(&levels.join("/"), plus as u32);
        }
        table.insert("+/".repeat(60).trim_end_matches('/'), 60);
        let topic = ["a"; 60].join("/");
        assert_eq!(found(&table, &topic), Vec::from_iter(0..=60));
        assert_eq!(found(&table, &format!("{topic}/a")), [0; 0]);
    }

    #[test]
    fn removing_leaves_nothing_behind() {
        let mut table: Table = Table::default();
        let filters = ["a/b/c", "a/+/c", "a/#", "#", "a/b", "$share/g/a/b"];
        let ids = filters.map(|filter| table.insert(filter, 0));
        assert_eq!(table.len(), 6);
        for (id, filter) in ids.iter().zip(filters) {
            assert_eq!(table.find(filter), Some(*id));
            assert_eq!(table.remove(*id).as_deref(), Some(filter));
            assert_eq!(table.remove(*id), None, "it is gone");
            assert_eq!(table.find(filter), None);
        }
        assert_eq!(table.len(), 0);
        assert!(table.wildcards.is_empty() && table.exact.is_empty());
        assert_eq!(table.free.len(), table.slots.len());
    }

    #[test]
    fn a_message_needs_two_cache_lines_of_a_filter() {
        assert_eq!(size_of::<Slot<Interests>>(), 128);
        assert_eq!(size_of::<Exact>(), 8);
    }

    /// Adds and removes, then asks, in turn: whatever the hashes, what is found is what matches.
    fn agrees_with_the_plain_matcher<S: BuildHasher + Default>(
        steps: &[(String, bool)],
        topics: &[String],
    ) -> Result<(), TestCaseError> {
        let mut table = Table::<S>::default();
        let mut there: Vec<(&str, FilterId)> = Vec::new();
        let mut open = OpenNodes::default();
        for (number, (filter, remove)) in steps.iter().enumerate() {
            let at = there.iter().position(|(known, _)| known == filter);
            prop_assert_eq!(table.find(filter), at.map(|at| there[at].1));
            match at {
                Some(at) if *remove => {
                    let removed = table.remove(there.swap_remove(at).1);
                    prop_assert_eq!(removed.as_deref(), Some(filter.as_str()));
                }
                None if check_filter(filter).is_ok() => {
                    let id = table.insert(filter, number as u32);
                    there.push((filter, id));
                }
                _ => {}
            }
            prop_assert_eq!(table.len(), there.len());
            for topic in topics {
                let mut values = Vec::new();
                table.matching(topic, &mut open, |value| values.push(*value));
                values.sort_unstable();
                values.dedup();
                let matching = there
                    .iter()
                    .filter(|(filter, _)| plainly_matches(filter, topic));
                let mut expected: Vec<_> = matching
                    .map(|(_, id)| table.slots[*id as usize].value)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(values, expected, "{}", topic);
            }
        }
        for (_, id) in there {
            table.remove(id);
        }
        prop_assert!(table.wildcards.is_empty() && table.exact.is_empty());
        Ok(())
    }

    const FILTER: &str = "(\\$share/(g|ä)/)?(#|(\\$S|a|b|ä|😀|\\+|)(/(a|b|ö|\\$S|\\+|)){0,3}(/#)?)";
    const TOPIC: &str = "(\\$S|\\$|a|b|ä|😀|)(/(a|b|ö|\\$S|)){0,4}";

    proptest! {
        #[test]
        fn agrees_with_the_plain_matcher_whatever_the_hashes(
            filters in prop::collection::vec(FILTER, 1..20),
            steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..60),
            topics in prop::collection::vec(TOPIC, 1..4),
        ) {
            let steps: Vec<_> = steps
                .iter()
                .map(|(index, remove)| (index.get(&filters).clone(), *remove))
                .collect();
            agrees_with_the_plain_matcher::<DefaultHashBuilder>(&steps, &topics)?;
            agrees_with_the_plain_matcher::<Few<1>>(&steps, &topics)?;
            agrees_with_the_plain_matcher::<Few<2>>(&steps, &topics)?;
            agrees_with_the_plain_matcher::<Few<5>>(&steps, &topics)?;
        }
    }
}
