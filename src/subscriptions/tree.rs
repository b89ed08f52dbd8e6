//! Finds the filters that match a topic: a tree of topic levels.
//!
//! The cost goes by the depth of the topic, not by the number of filters. Nodes are kept by index
//! and walked without recursion: a filter may have 65,535 levels, a thread's stack has not. Pure.

use std::collections::HashMap;

use crate::packet::filter_without_share;

/// Stands for a filter in the tree.
pub(super) type FilterId = usize;

const ROOT: usize = 0;

/// Nodes still to be visited, each with where in the topic begins what is left below it; none where
/// nothing is left.
pub(super) type OpenNodes = Vec<(usize, Option<usize>)>;

/// Filters by their levels.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, usize>,
    /// The child for `+`.
    any_level: Option<usize>,
    /// Filters that end here.
    here: Vec<FilterId>,
    /// Filters that end with `#` below here, which match this level as well [MQTT 3.1.1, 4.7.1.2].
    below: Vec<FilterId>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree {
            nodes: vec![Node::default()],
            free: Vec::new(),
        }
    }
}

impl Tree {
    /// Adds a valid filter.
    pub(super) fn insert(&mut self, filter: &str, id: FilterId) {
        let mut at = ROOT;
        for level in filter_without_share(filter).split('/') {
            if level == "#" {
                self.nodes[at].below.push(id);
                return;
            }
            at = match self.child(at, level) {
                Some(next) => next,
                None => self.grow(at, level),
            };
        }
        self.nodes[at].here.push(id);
    }

    /// Removes a filter, and the branches that nothing needs any more.
    pub(super) fn remove(&mut self, filter: &str, id: FilterId) {
        let mut path = Vec::new();
        let mut at = ROOT;
        let mut multi_level = false;
        for level in filter_without_share(filter).split('/') {
            if level == "#" {
                multi_level = true;
                break;
            }
            let Some(next) = self.child(at, level) else {
                return;
            };
            path.push((at, level));
            at = next;
        }
        let node = &mut self.nodes[at];
        let filters = if multi_level {
            &mut node.below
        } else {
            &mut node.here
        };
        filters.retain(|other| *other != id);
        while let Some((parent, level)) = path.pop() {
            if !self.nodes[at].is_empty() {
                return;
            }
            self.free.push(at);
            let parent_node = &mut self.nodes[parent];
            if level == "+" {
                parent_node.any_level = None;
            } else {
                parent_node.children.remove(level);
            }
            at = parent;
        }
    }

    /// Calls `found` for each filter that matches `topic`. Uses `open` to work with.
    pub(super) fn matching(
        &self,
        topic: &str,
        open: &mut OpenNodes,
        mut found: impl FnMut(FilterId),
    ) {
        open.clear();
        open.push((ROOT, Some(0)));
        while let Some((at, rest)) = open.pop() {
            let node = &self.nodes[at];
            // A wildcard does not match the first level of `$` topics [MQTT-4.7.2-1].
            let wildcards = at != ROOT || !topic.starts_with('$');
            if wildcards {
                node.below.iter().copied().for_each(&mut found);
            }
            let Some(begin) = rest else {
                node.here.iter().copied().for_each(&mut found);
                continue;
            };
            let (level, rest) = match topic[begin..].split_once('/') {
                Some((level, _)) => (level, Some(begin + level.len() + 1)),
                None => (&topic[begin..], None),
            };
            if let Some(&child) = node.children.get(level) {
                open.push((child, rest));
            }
            if let (true, Some(child)) = (wildcards, node.any_level) {
                open.push((child, rest));
            }
        }
    }

    fn child(&self, at: usize, level: &str) -> Option<usize> {
        match level {
            "+" => self.nodes[at].any_level,
            _ => self.nodes[at].children.get(level).copied(),
        }
    }

    fn grow(&mut self, at: usize, level: &str) -> usize {
        let next = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = Node::default();
                free
            }
            None => {
                self.nodes.push(Node::default());
                self.nodes.len() - 1
            }
        };
        if level == "+" {
            self.nodes[at].any_level = Some(next);
        } else {
            self.nodes[at].children.insert(level.into(), next);
        }
        next
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any_level.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn found(tree: &Tree, topic: &str) -> Vec<FilterId> {
        let mut ids = Vec::new();
        tree.matching(topic, &mut OpenNodes::new(), |id| ids.push(id));
        ids.sort_unstable();
        ids
    }

    fn matches(filter: &str, topic: &str) -> bool {
        let mut tree = Tree::default();
        tree.insert(filter, 7);
        found(&tree, topic) == [7]
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
        let mut tree = Tree::default();
        tree.insert(&deep, 1);
        assert_eq!(found(&tree, &deep), [1]);
        tree.remove(&deep, 1);
        assert_eq!(found(&tree, &deep), [0; 0]);
    }

    #[test]
    fn removing_leaves_no_branch_behind() {
        let mut tree = Tree::default();
        let filters = ["a/b/c", "a/+/c", "a/#", "#", "a/b", "$share/g/a/b"];
        for (id, filter) in filters.iter().enumerate() {
            tree.insert(filter, id);
        }
        for (id, filter) in filters.iter().enumerate() {
            tree.remove(filter, id);
        }
        assert!(tree.nodes[ROOT].is_empty());
        assert_eq!(tree.free.len(), tree.nodes.len() - 1);
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_matcher(
            filters in prop::collection::vec("(\\$share/(g|ä)/)?(#|(\\$S|a|b|ä|😀|\\+|)(/(a|b|ö|\\$S|\\+|)){0,3}(/#)?)", 1..20),
            removed in prop::collection::vec(any::<bool>(), 20),
            topic in "(\\$S|\\$|a|b|ä|😀|)(/(a|b|ö|\\$S|)){0,4}",
        ) {
            let mut tree = Tree::default();
            let filters: Vec<_> = filters
                .iter()
                .filter(|f| crate::packet::check_filter(f).is_ok())
                .enumerate()
                .collect();
            for (id, filter) in &filters {
                tree.insert(filter, *id);
            }
            for (id, filter) in filters.iter().filter(|(id, _)| removed[*id]) {
                tree.remove(filter, *id);
            }
            let expected: Vec<_> = filters
                .iter()
                .filter(|(id, filter)| !removed[*id] && plainly_matches(filter, &topic))
                .map(|(id, _)| *id)
                .collect();
            prop_assert_eq!(found(&tree, &topic), expected);
        }
    }
}
