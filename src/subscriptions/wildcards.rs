//! Finds the filters with wildcards that may match a topic.
//!
//! The beginnings of filters, level by level, are nodes, and a node is found by the hash of its
//! path: no text is kept or compared here. Where two paths have the same hash they share a node, so
//! a filter may be named that does not match, or be named twice, but none that matches is left out;
//! `filters.rs` compares the text.
//!
//! A topic costs a hash of each of its levels once, and what nodes it meets, which are at most as
//! many as filters made, however long it is and however `+` branches. Nothing recurses: a filter may
//! have 65,535 levels, a thread's stack has not. Pure; the loop's thread.

use std::hash::{BuildHasher, Hasher};
use std::mem;

use hashbrown::HashTable;

use super::filters::FilterId;

/// Stands for no filter.
pub(super) const NONE: FilterId = FilterId::MAX;

/// The path to before the first level.
const ROOT: u64 = 0;

/// In place of the hash of a level, for `+`.
const ANY_LEVEL: u64 = 0;

/// What a topic goes on from, and what it will at its next level: kept from one topic to the next.
#[derive(Debug, Default)]
pub(crate) struct OpenNodes {
    pub(super) now: Vec<Open>,
    pub(super) next: Vec<Open>,
}

#[cfg(test)]
impl OpenNodes {
    /// As if a topic had been left in the middle.
    pub(super) fn left_over() -> Self {
        let open = Open {
            path: 99,
            literals: true,
            any_level: true,
        };
        OpenNodes {
            now: vec![open],
            next: Vec::new(),
        }
    }
}

/// A node with something below.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    path: u64,
    literals: bool,
    any_level: bool,
}

/// The nodes, by the hashes of their paths. Of the filters it knows the first that ends at a node,
/// and whoever has the filters knows the next.
#[derive(Debug, Default)]
pub(super) struct Wildcards {
    nodes: HashTable<Node>,
}

/// Two of them share a cache line, and none lies across two.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
struct Node {
    path: u64,
    /// How many filters go through here or end here.
    filters: u32,
    /// How many go on with a level that is no wildcard.
    literals: u32,
    /// How many go on with `+`.
    any_level: u32,
    /// The first that ends here.
    here: FilterId,
    /// The first that goes on with `#`, which matches this level as well [MQTT 3.1.1, 4.7.1.2].
    below: FilterId,
}

/// What follows a node in a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Literal,
    AnyLevel,
    Below,
    End,
}

impl Wildcards {
    /// Adds a filter. Gives the one that it became the first before.
    pub(super) fn insert(
        &mut self,
        filter: &str,
        hasher: &impl BuildHasher,
        id: FilterId,
    ) -> FilterId {
        let mut first = NONE;
        self.change_along(filter, hasher, |node, next| {
            node.filters += 1;
            match next {
                Next::Literal => node.literals += 1,
                Next::AnyLevel => node.any_level += 1,
                Next::Below => first = mem::replace(&mut node.below, id),
                Next::End => first = mem::replace(&mut node.here, id),
            }
        });
        first
    }

    /// Removes a filter that `next` comes after, and the nodes that nothing needs any more. Gives
    /// the first one where this is another.
    pub(super) fn remove(
        &mut self,
        filter: &str,
        hasher: &impl BuildHasher,
        id: FilterId,
        next: FilterId,
    ) -> Option<FilterId> {
        let mut first = None;
        let mut unlink = |head: &mut FilterId| {
            if *head == id {
                *head = next;
            } else {
                first = Some(*head);
            }
        };
        self.change_along(filter, hasher, |node, next| {
            node.filters -= 1;
            match next {
                Next::Literal => node.literals -= 1,
                Next::AnyLevel => node.any_level -= 1,
                Next::Below => unlink(&mut node.below),
                Next::End => unlink(&mut node.here),
            }
        });
        first
    }

    /// The first of the filters that end where this one does.
    pub(super) fn first(&self, filter: &str, hasher: &impl BuildHasher) -> FilterId {
        let mut path = ROOT;
        let mut below = false;
        for level in filter.split('/') {
            match level {
                "#" => below = true,
                "+" => path = child(hasher, path, ANY_LEVEL),
                _ => path = child(hasher, path, hash(hasher, level)),
            }
        }
        match self.node(path) {
            Some(node) if below => node.below,
            Some(node) => node.here,
            None => NONE,
        }
    }

    /// Calls `found` with the first of each group of filters that may match `topic`.
    pub(super) fn candidates(
        &self,
        topic: &str,
        hasher: &impl BuildHasher,
        open: &mut OpenNodes,
        mut found: impl FnMut(FilterId),
    ) {
        let OpenNodes { now, next } = open;
        now.clear();
        let Some(root) = self.node(ROOT) else {
            return;
        };
        // A wildcard does not match the first level of `$` topics [MQTT-4.7.2-1].
        let wildcards = !topic.starts_with('$');
        if wildcards && root.below != NONE {
            found(root.below);
        }
        now.push(Open {
            path: ROOT,
            literals: root.literals > 0,
            any_level: wildcards && root.any_level > 0,
        });
        let mut left = Some(topic);
        while let (Some(levels), false) = (left, now.is_empty()) {
            let level;
            (level, left) = match levels.split_once('/') {
                Some((level, rest)) => (level, Some(rest)),
                None => (levels, None),
            };
            let level = hash(hasher, level);
            let mut visit = |path| {
                let Some(node) = self.node(path) else {
                    return;
                };
                if node.below != NONE {
                    found(node.below);
                }
                if left.is_none() && node.here != NONE {
                    found(node.here);
                }
                let on = Open {
                    path,
                    literals: node.literals > 0,
                    any_level: node.any_level > 0,
                };
                if on.literals || on.any_level {
                    next.push(on);
                }
            };
            for open in now.drain(..) {
                if open.literals {
                    visit(child(hasher, open.path, level));
                }
                if open.any_level {
                    visit(child(hasher, open.path, ANY_LEVEL));
                }
            }
            mem::swap(now, next);
        }
        now.clear();
    }

    fn node(&self, path: u64) -> Option<&Node> {
        self.nodes.find(path, |node| node.path == path)
    }

    /// Lets `change` at each node of a filter, the first time and the last time that there is one.
    fn change_along(
        &mut self,
        filter: &str,
        hasher: &impl BuildHasher,
        mut change: impl FnMut(&mut Node, Next),
    ) {
        let mut path = ROOT;
        let mut levels = filter.split('/');
        loop {
            let level = levels.next();
            let (next, level) = match level {
                Some("#") => (Next::Below, ROOT),
                Some("+") => (Next::AnyLevel, ANY_LEVEL),
                Some(level) => (Next::Literal, hash(hasher, level)),
                None => (Next::End, ROOT),
            };
            let fresh = Node {
                path,
                filters: 0,
                literals: 0,
                any_level: 0,
                here: NONE,
                below: NONE,
            };
            let same = |node: &Node| node.path == path;
            let mut node = self
                .nodes
                .entry(path, same, |node| node.path)
                .or_insert(fresh);
            change(node.get_mut(), next);
            if node.get().filters == 0 {
                node.remove();
            }
            if matches!(next, Next::Below | Next::End) {
                return;
            }
            path = child(hasher, path, level);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// The hash of a text.
pub(super) fn hash(hasher: &impl BuildHasher, text: &str) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(text.as_bytes());
    state.finish()
}

/// The path that goes on from this one with a level.
fn child(hasher: &impl BuildHasher, path: u64, level: u64) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u64(path);
    state.write_u64(level);
    state.finish()
}
