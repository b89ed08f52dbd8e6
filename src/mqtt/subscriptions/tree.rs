//! Finds the subscribers whose filters match a topic.
//!
//! A filter without wildcards equals the topics that it matches, and is looked up by its whole text. The other
//! filters form a tree. A branch stands for levels that several filters begin with, and knows how these filters
//! go on. A filter that shares no further level with another one needs no further branch: the rest of its text
//! is compared as a whole. So a topic costs one look-up, and one more for each level that filters with wildcards
//! share, however many filters there are; and it reads few places in memory.
//!
//! The tree knows filters and subscribers. It does not know why a subscriber wants a filter (`mod.rs` does).
//! Branches lie in one vector and nothing recurses, because a filter may have 65,535 levels and a thread's
//! stack has no room for so many calls. Pure. Runs on the loop's thread.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// The branch before the first level.
const ROOT: usize = 0;

/// Branches that a topic has reached, each with where in the topic its next level begins. The caller keeps
/// it from one topic to the next, so that matching allocates nothing.
pub(super) type Open = Vec<(usize, usize)>;

/// Filters, each with a subscriber. Several subscribers may have the same filter, and one may have it twice.
#[derive(Debug)]
pub(super) struct LevelTree<S> {
    /// Filters without wildcards, which equal the topics that they match.
    exact: HashMap<Arc<[u8]>, Wanted<S>, BuildHasherDefault<LevelHasher>>,
    /// The others, level by level.
    branches: Vec<Branch<S>>,
    /// Branches that are not in use.
    free: Vec<usize>,
}

/// The subscribers of a filter without wildcards: mostly one, which is found beside the filter.
#[derive(Debug)]
struct Wanted<S> {
    first: S,
    more: Vec<S>,
}

/// Filters that begin with the levels that lead to this branch, by how they go on.
#[derive(Debug)]
struct Branch<S> {
    /// Filters that go on with a level that is no wildcard.
    levels: HashMap<Level, Next<S>, BuildHasherDefault<LevelHasher>>,
    /// Filters that go on with `+`.
    any_level: Option<(Level, Next<S>)>,
    /// Subscribers of filters that go on with `#`, which matches the levels that lead here as well
    /// [MQTT 3.1.1, 4.7.1.2].
    below: Vec<S>,
    /// Subscribers of filters that end here.
    here: Vec<S>,
}

/// A level, kept as a part of a filter that has it. Two levels with the same text are equal.
#[derive(Debug)]
struct Level {
    filter: Arc<[u8]>,
    begin: usize,
    end: usize,
}

/// How a filter goes on after a level.
#[derive(Debug)]
enum Next<S> {
    /// One filter: the rest of the text that the level is a part of.
    Rest(S),
    /// Several filters, by the place of their branch.
    Branch(usize),
}

impl<S: Copy + PartialEq> LevelTree<S> {
    /// Adds a valid filter, which matches literally.
    pub(super) fn insert(&mut self, filter: &Arc<str>, subscriber: S) {
        let filter = Arc::<[u8]>::from(Arc::clone(filter));
        if !has_wildcard(&filter) {
            match self.exact.get_mut(&filter) {
                Some(wanted) => wanted.more.push(subscriber),
                None => {
                    let (first, more) = (subscriber, Vec::new());
                    self.exact.insert(filter, Wanted { first, more });
                }
            }
            return;
        }
        let mut to_place = vec![(ROOT, filter, 0, subscriber)];
        while let Some((at, filter, begin, subscriber)) = to_place.pop() {
            let branch = &mut self.branches[at];
            let level = match level_at(&filter, begin) {
                None => {
                    branch.here.push(subscriber);
                    continue;
                }
                Some(b"#") => {
                    branch.below.push(subscriber);
                    continue;
                }
                Some(level) => level,
            };
            let end = begin + level.len();
            let next = match branch.remove(level) {
                None => Next::Rest(subscriber),
                Some((_, Next::Branch(next))) => {
                    to_place.push((next, Arc::clone(&filter), end + 1, subscriber));
                    Next::Branch(next)
                }
                Some((other, Next::Rest(others))) => {
                    let next = self.free.pop().unwrap_or(self.branches.len());
                    if next == self.branches.len() {
                        self.branches.push(Branch::default());
                    }
                    to_place.push((next, other.filter, other.end + 1, others));
                    to_place.push((next, Arc::clone(&filter), end + 1, subscriber));
                    Next::Branch(next)
                }
            };
            self.branches[at].insert(Level { filter, begin, end }, next);
        }
    }

    /// Removes a filter that [`LevelTree::insert`] added, and the branches that no filter needs any more.
    pub(super) fn remove(&mut self, filter: &str, subscriber: S) {
        let filter = filter.as_bytes();
        if !has_wildcard(filter) {
            if let Some(wanted) = self.exact.get_mut(filter) {
                if wanted.first != subscriber {
                    remove_one(&mut wanted.more, subscriber);
                } else if let Some(next) = wanted.more.pop() {
                    wanted.first = next;
                } else {
                    self.exact.remove(filter);
                }
            }
            return;
        }
        let mut way = Vec::new();
        let (mut at, mut begin) = (ROOT, 0);
        loop {
            let branch = &mut self.branches[at];
            let level = match level_at(filter, begin) {
                None => break remove_one(&mut branch.here, subscriber),
                Some(b"#") => break remove_one(&mut branch.below, subscriber),
                Some(level) => level,
            };
            begin += level.len() + 1;
            match branch.get(level) {
                Some((_, Next::Branch(next))) => {
                    way.push((at, level));
                    at = *next;
                }
                Some((_, Next::Rest(_))) => {
                    branch.remove(level);
                    break;
                }
                None => break,
            }
        }
        while self.branches[at].is_empty()
            && let Some((before, level)) = way.pop()
        {
            self.branches[at] = Branch::default();
            self.free.push(at);
            self.branches[before].remove(level);
            at = before;
        }
    }

    /// Calls `found` with the subscriber of each filter that matches `topic`, byte for byte
    /// [MQTT-4.7.3-4].
    pub(super) fn matching(&self, topic: &[u8], open: &mut Open, mut found: impl FnMut(S)) {
        if let Some(wanted) = self.exact.get(topic) {
            found(wanted.first);
            wanted.more.iter().for_each(|one| found(*one));
        }
        if self.branches[ROOT].is_empty() {
            return;
        }
        open.clear();
        open.push((ROOT, 0));
        while let Some((at, begin)) = open.pop() {
            let branch = &self.branches[at];
            // A wildcard does not match the first level of `$` topics [MQTT-4.7.2-1].
            let wildcards = begin > 0 || !topic.starts_with(b"$");
            if wildcards {
                branch.below.iter().for_each(|one| found(*one));
            }
            let Some(level) = level_at(topic, begin) else {
                branch.here.iter().for_each(|one| found(*one));
                continue;
            };
            let end = begin + level.len();
            let any_level = branch.get(b"+").filter(|_| wildcards);
            for (level, next) in [branch.get(level), any_level].into_iter().flatten() {
                match next {
                    Next::Branch(next) => open.push((*next, end + 1)),
                    Next::Rest(one) if rest_matches(level.rest(), &topic[end..]) => found(*one),
                    Next::Rest(_) => {}
                }
            }
        }
    }
}

impl<S> Branch<S> {
    fn insert(&mut self, level: Level, next: Next<S>) {
        if level.text() == b"+" {
            self.any_level = Some((level, next));
        } else {
            self.levels.insert(level, next);
        }
    }

    fn remove(&mut self, level: &[u8]) -> Option<(Level, Next<S>)> {
        match level {
            b"+" => self.any_level.take(),
            _ => self.levels.remove_entry(level),
        }
    }

    fn get(&self, level: &[u8]) -> Option<(&Level, &Next<S>)> {
        match level {
            b"+" => self.any_level.as_ref().map(|(level, next)| (level, next)),
            _ => self.levels.get_key_value(level),
        }
    }

    fn is_empty(&self) -> bool {
        self.levels.is_empty()
            && self.any_level.is_none()
            && self.below.is_empty()
            && self.here.is_empty()
    }
}

impl Level {
    #[inline]
    fn text(&self) -> &[u8] {
        &self.filter[self.begin..self.end]
    }

    /// The text of the filter after this level: empty, or with a `/` at its head.
    #[inline]
    fn rest(&self) -> &[u8] {
        &self.filter[self.end..]
    }
}

impl Borrow<[u8]> for Level {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self.text()
    }
}

impl PartialEq for Level {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Level {}

impl Hash for Level {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

/// Hashes eight bytes at a time. It has no secret key: topics add nothing to the tree, so nobody who sends
/// topics can make levels collide.
#[derive(Debug, Default)]
struct LevelHasher(u64);

impl Hasher for LevelHasher {
    #[inline]
    fn write(&mut self, text: &[u8]) {
        let (words, rest) = text.as_chunks();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        let rest = rest
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        for word in words.chain([rest]) {
            let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
            self.0 = product as u64 ^ (product >> 64) as u64;
        }
    }

    /// Ignores the length that a slice adds before its bytes.
    #[inline]
    fn write_usize(&mut self, _length: usize) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

impl<S> Default for LevelTree<S> {
    fn default() -> Self {
        LevelTree {
            exact: HashMap::default(),
            branches: vec![Branch::default()],
            free: Vec::new(),
        }
    }
}

impl<S> Default for Branch<S> {
    fn default() -> Self {
        Branch {
            levels: HashMap::default(),
            any_level: None,
            below: Vec::new(),
            here: Vec::new(),
        }
    }
}

fn has_wildcard(filter: &[u8]) -> bool {
    filter.iter().any(|byte| matches!(byte, b'+' | b'#'))
}

/// The level that begins at `begin`, or `None` if the text ends before it.
#[inline]
fn level_at(text: &[u8], begin: usize) -> Option<&[u8]> {
    let rest = text.get(begin..)?;
    let end = rest.iter().position(|byte| *byte == b'/');
    Some(&rest[..end.unwrap_or(rest.len())])
}

/// Whether the rest of a filter matches the rest of a topic. Both follow a level.
#[inline]
fn rest_matches(mut filter: &[u8], mut topic: &[u8]) -> bool {
    // Equal texts are found fastest as a whole.
    if filter == topic {
        return true;
    }
    loop {
        let same = filter.iter().zip(topic).take_while(|(a, b)| a == b).count();
        (filter, topic) = (&filter[same..], &topic[same..]);
        match filter {
            [] => return topic.is_empty(),
            [b'#'] => return true,
            // `/#` matches the level above as well [MQTT 3.1.1, 4.7.1.2].
            [b'/', b'#'] => return topic.is_empty(),
            [b'+', rest @ ..] => {
                let end = topic.iter().position(|byte| *byte == b'/');
                (filter, topic) = (rest, &topic[end.unwrap_or(topic.len())..]);
            }
            _ => return false,
        }
    }
}

fn remove_one<S: PartialEq>(all: &mut Vec<S>, one: S) {
    if let Some(at) = all.iter().position(|other| *other == one) {
        all.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic::check_filter;
    use proptest::prelude::*;

    /// Matches as the standard says it, level by level, in the plainest way.
    fn plainly_matches(filter: &str, topic: &str) -> bool {
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

    /// The subscribers of all filters that match, in ascending order.
    fn found(tree: &LevelTree<u32>, topic: &str, open: &mut Open) -> Vec<u32> {
        let mut subscribers = Vec::new();
        tree.matching(topic.as_bytes(), open, |one| subscribers.push(one));
        subscribers.sort_unstable();
        subscribers
    }

    fn is_empty(tree: &LevelTree<u32>) -> bool {
        tree.exact.is_empty()
            && tree.branches[ROOT].is_empty()
            && tree.free.len() + 1 == tree.branches.len()
    }

    /// Whether a filter matches a topic. Asks a tree with this filter alone, one with other filters that begin
    /// in the same way, and one in which two subscribers have the filter. All three have to agree.
    fn matches(filter: &str, topic: &str) -> bool {
        let mut tree = LevelTree::default();
        tree.insert(&filter.into(), 1);
        let matches = found(&tree, topic, &mut Open::new()) == [1];
        // Every level of the filter is a branch now.
        let mut beginnings: Vec<Arc<str>> = vec![format!("{filter}/x/x/x/x/x").into()];
        let ends = filter.match_indices('/').map(|(end, _)| &filter[..end]);
        beginnings.extend(ends.map(|beginning| format!("{beginning}/x/x/x/x/x").into()));
        beginnings.retain(|beginning| check_filter(beginning).is_ok());
        for beginning in &beginnings {
            tree.insert(beginning, 2);
        }
        let expected: &[u32] = if matches { &[1] } else { &[] };
        assert_eq!(found(&tree, topic, &mut Open::new()), expected);
        tree.insert(&filter.into(), 3);
        let expected: &[u32] = if matches { &[1, 3] } else { &[] };
        assert_eq!(found(&tree, topic, &mut Open::new()), expected);
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
    }

    #[test]
    fn levels_are_compared_byte_for_byte() {
        // One letter in two spellings [MQTT-4.7.3-4]; other cases; spaces; four bytes.
        assert!(!matches("\u{e9}", "e\u{301}"));
        assert!(!matches("Ä", "ä"));
        assert!(!matches(" a", "a"));
        assert!(matches("😀/+", "😀/😀"));
        assert!(matches("+/ö", "ä/ö"));
        // A topic that begins with a character of several bytes is no `$` topic.
        assert!(matches("#", "ä$"));
        assert!(matches("+/$a", "a/$a"));
        assert!(!matches("+", "$"));
        assert!(matches("$SYS/#", "$SYS"));
    }

    #[test]
    fn a_filter_of_65535_levels_is_no_danger() {
        let deep: Arc<str> = "/".repeat(65_534).into();
        let wild: Arc<str> = format!("{}+", "+/".repeat(32_766)).into();
        let below: Arc<str> = format!("{}#", "/".repeat(65_534)).into();
        let filters = [(&deep, 1), (&wild, 2), (&wild, 3), (&below, 4)];
        let mut tree = LevelTree::default();
        let open = &mut Open::new();
        for (filter, subscriber) in filters {
            tree.insert(filter, subscriber);
        }
        assert_eq!(found(&tree, &deep, open), [1, 4]);
        assert_eq!(found(&tree, &"/".repeat(32_766), open), [2, 3]);
        for (filter, subscriber) in filters {
            tree.remove(filter, subscriber);
        }
        assert_eq!(found(&tree, &deep, open), [0; 0]);
        assert!(is_empty(&tree));
    }

    /// Every level of these filters goes on in two ways, so there are 2^60 ways to go through them.
    #[test]
    fn a_topic_visits_no_more_branches_than_filters_made() {
        let mut tree = LevelTree::default();
        for plus in 0..60 {
            let mut levels = ["a"; 60];
            levels[plus] = "+";
            tree.insert(&levels.join("/").into(), plus as u32);
        }
        tree.insert(&"+/".repeat(60).trim_end_matches('/').into(), 60);
        let topic = ["a"; 60].join("/");
        let open = &mut Open::new();
        assert_eq!(found(&tree, &topic, open), Vec::from_iter(0..=60));
        assert_eq!(found(&tree, &format!("{topic}/a"), open), [0; 0]);
    }

    #[test]
    fn removing_leaves_nothing_behind() {
        let mut tree = LevelTree::default();
        let filters = ["a/b/c", "a/+/c", "a/#", "#", "a/b", "a/b"];
        for filter in filters {
            tree.insert(&filter.into(), 7);
        }
        for (removed, filter) in filters.iter().enumerate() {
            assert!(!is_empty(&tree));
            tree.remove(filter, 7);
            let left = &filters[removed + 1..];
            for topic in ["a", "a/b", "a/b/c", "b"] {
                let matching = left.iter().filter(|filter| plainly_matches(filter, topic));
                let found = found(&tree, topic, &mut Open::new());
                assert_eq!(found.len(), matching.count(), "{topic} in {left:?}");
            }
        }
        assert!(is_empty(&tree));
    }

    const FILTER: &str = "(#|(\\$S|a|b|ä|😀|\\+|)(/(a|b|ö|\\$S|\\+|)){0,3}(/#)?)";
    const TOPIC: &str = "(\\$S|\\$|a|b|ä|😀|)(/(a|b|ö|\\$S|)){0,4}";

    proptest! {
        /// Adds or removes one filter, then matches all topics, and repeats.
        #[test]
        fn agrees_with_the_plain_matcher(
            filters in prop::collection::vec(FILTER, 1..20),
            steps in prop::collection::vec(
                (any::<prop::sample::Index>(), any::<bool>(), 0..3_u32),
                1..60,
            ),
            topics in prop::collection::vec(TOPIC, 1..4),
        ) {
            let mut tree = LevelTree::default();
            let mut there: Vec<(&str, u32)> = Vec::new();
            let mut open = Open::new();
            for (index, remove, subscriber) in steps {
                let one = (index.get(&filters).as_str(), subscriber);
                match there.iter().position(|other| *other == one) {
                    Some(at) if remove => {
                        tree.remove(one.0, one.1);
                        there.swap_remove(at);
                    }
                    _ if check_filter(one.0).is_ok() => {
                        tree.insert(&one.0.into(), one.1);
                        there.push(one);
                    }
                    _ => {}
                }
                for topic in &topics {
                    let matching = there.iter().filter(|one| plainly_matches(one.0, topic));
                    let mut expected: Vec<_> = matching.map(|one| one.1).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found(&tree, topic, &mut open), expected, "{}", topic);
                }
            }
            for (filter, subscriber) in there {
                tree.remove(filter, subscriber);
            }
            prop_assert!(is_empty(&tree));
        }
    }
}
