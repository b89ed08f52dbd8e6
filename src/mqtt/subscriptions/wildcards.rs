//! Finds the filters with wildcards that may match a topic.
//!
//! The beginnings of filters, level by level, are nodes, as far as filters share them; a node is
//! found by the hash of its path: no text is kept or compared here. Where two paths have the same
//! hash they share a node, so a filter may be named that does not match, or be named twice, but none
//! that matches is left out; `filters.rs` compares the text.
//!
//! A topic costs a hash of each of its levels, once and no deeper than filters go, and the nodes that
//! it meets, which are at most as many as filters made, however long it is and however `+` branches.
//! Nothing recurses: a filter may have 65,535 levels, a thread's stack has not. Pure; the loop's
//! thread.

use std::hash::{BuildHasher, Hasher};
use std::mem;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::filters::{FilterId, Slot};

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
#[derive(Debug)]
#[repr(align(32))]
struct Node {
    path: u64,
    ways: Ways,
}

/// How filters go on from a node.
#[derive(Debug)]
enum Ways {
    /// One filter came here so far. It stays here, without nodes for what is left of it from this
    /// place on, which would be places in memory to wait for.
    Only { filter: FilterId, rest: u32 },
    Several {
        /// How many filters go through here or end here.
        filters: u32,
        /// How many go on with a level that is no wildcard.
        literals: u32,
        /// How many go on with `+`.
        any_level: u32,
        /// The first that ends here.
        here: FilterId,
        /// The first that goes on with `#`, which matches this level as well
        /// [MQTT 3.1.1, 4.7.1.2].
        below: FilterId,
    },
}

/// What follows a node in a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// A level, by its hash, and where begins what is left after it.
    Literal(u64, u32),
    AnyLevel(u32),
    Below,
    End,
}

impl Wildcards {
    /// Adds a filter.
    pub(super) fn insert<V>(
        &mut self,
        id: FilterId,
        slots: &mut [Slot<V>],
        hasher: &impl BuildHasher,
    ) {
        let mut on_their_way = vec![(id, ROOT, 0)];
        while let Some((filter, path, rest)) = on_their_way.pop() {
            let same = |node: &Node| node.path == path;
            let node = match self.nodes.entry(path, same, |node| node.path) {
                Entry::Vacant(vacant) => {
                    slots[filter as usize].next = NONE;
                    let ways = Ways::Only { filter, rest };
                    vacant.insert(Node { path, ways });
                    continue;
                }
                Entry::Occupied(node) => node.into_mut(),
            };
            match &mut node.ways {
                Ways::Only {
                    filter: other,
                    rest: others,
                } => {
                    on_their_way.push((*other, path, *others));
                    on_their_way.push((filter, path, rest));
                    node.ways = Ways::Several {
                        filters: 0,
                        literals: 0,
                        any_level: 0,
                        here: NONE,
                        below: NONE,
                    };
                }
                Ways::Several {
                    filters,
                    literals,
                    any_level,
                    here,
                    below,
                } => {
                    *filters += 1;
                    let slot = &mut slots[filter as usize];
                    match Next::of(slot.levels(), rest, hasher) {
                        Next::Literal(level, rest) => {
                            *literals += 1;
                            on_their_way.push((filter, child(hasher, path, level), rest));
                        }
                        Next::AnyLevel(rest) => {
                            *any_level += 1;
                            on_their_way.push((filter, child(hasher, path, ANY_LEVEL), rest));
                        }
                        Next::Below => slot.next = mem::replace(below, filter),
                        Next::End => slot.next = mem::replace(here, filter),
                    }
                }
            }
        }
    }

    /// Removes a filter, and the nodes that nothing needs any more.
    pub(super) fn remove<V>(
        &mut self,
        id: FilterId,
        slots: &mut [Slot<V>],
        hasher: &impl BuildHasher,
    ) {
        let (mut path, mut rest) = (ROOT, 0);
        while let Ok(mut node) = self.nodes.find_entry(path, |node| node.path == path) {
            let (more, left) = match &mut node.get_mut().ways {
                Ways::Only { .. } => (None, 0),
                Ways::Several {
                    filters,
                    literals,
                    any_level,
                    here,
                    below,
                } => {
                    *filters -= 1;
                    let more = match Next::of(slots[id as usize].levels(), rest, hasher) {
                        Next::Literal(level, rest) => {
                            *literals -= 1;
                            Some((child(hasher, path, level), rest))
                        }
                        Next::AnyLevel(rest) => {
                            *any_level -= 1;
                            Some((child(hasher, path, ANY_LEVEL), rest))
                        }
                        Next::Below => unlink(below, id, slots),
                        Next::End => unlink(here, id, slots),
                    };
                    (more, *filters)
                }
            };
            if left == 0 {
                node.remove();
            }
            let Some(more) = more else {
                return;
            };
            (path, rest) = more;
        }
    }

    /// The first of the filters that end where one of these levels would.
    pub(super) fn first(&self, levels: &[u8], hasher: &impl BuildHasher) -> FilterId {
        let (mut path, mut rest) = (ROOT, 0);
        while let Some(node) = self.node(path) {
            let (here, below) = match node.ways {
                Ways::Only { filter, .. } => return filter,
                Ways::Several { here, below, .. } => (here, below),
            };
            match Next::of(levels, rest, hasher) {
                Next::Literal(level, left) => {
                    (path, rest) = (child(hasher, path, level), left);
                }
                Next::AnyLevel(left) => (path, rest) = (child(hasher, path, ANY_LEVEL), left),
                Next::Below => return below,
                Next::End => return here,
            }
        }
        NONE
    }

    /// Calls `found` with the first of each group of filters that may match `topic`.
    pub(super) fn candidates(
        &self,
        topic: &[u8],
        hasher: &impl BuildHasher,
        open: &mut OpenNodes,
        mut found: impl FnMut(FilterId),
    ) {
        let OpenNodes { now, next } = open;
        now.clear();
        // A wildcard does not match the first level of `$` topics [MQTT-4.7.2-1].
        let wildcards = !topic.starts_with(b"$");
        if let Some(root) = self.node(ROOT)
            && let Some(mut root) = root.visit(false, &mut found)
        {
            root.any_level &= wildcards;
            now.push(root);
        }
        let mut left = Some(topic);
        while let (Some(levels), false) = (left, now.is_empty()) {
            let level;
            (level, left) = split_level(levels);
            let level = hash(hasher, level);
            let mut visit = |path| {
                if let Some(node) = self.node(path) {
                    next.extend(node.visit(left.is_none(), &mut found));
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
    }

    fn node(&self, path: u64) -> Option<&Node> {
        self.nodes.find(path, |node| node.path == path)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl Node {
    /// Calls `found` for what may match a topic that has come here, and gives where it goes on.
    fn visit(&self, at_end: bool, mut found: impl FnMut(FilterId)) -> Option<Open> {
        match self.ways {
            Ways::Only { filter, .. } => {
                found(filter);
                None
            }
            Ways::Several {
                literals,
                any_level,
                here,
                below,
                ..
            } => {
                if below != NONE {
                    found(below);
                }
                if at_end && here != NONE {
                    found(here);
                }
                let open = Open {
                    path: self.path,
                    literals: literals > 0,
                    any_level: any_level > 0,
                };
                (open.literals || open.any_level).then_some(open)
            }
        }
    }
}

impl Next {
    /// What follows in a filter, of which `rest` is left: more than its length when nothing is.
    fn of(levels: &[u8], rest: u32, hasher: &impl BuildHasher) -> Self {
        let Some(left) = levels.get(rest as usize..) else {
            return Next::End;
        };
        let (level, _) = split_level(left);
        let rest = rest + level.len() as u32 + 1;
        match level {
            b"#" => Next::Below,
            b"+" => Next::AnyLevel(rest),
            _ => Next::Literal(hash(hasher, level), rest),
        }
    }
}

/// The first level, and what is after it.
fn split_level(levels: &[u8]) -> (&[u8], Option<&[u8]>) {
    match levels.iter().position(|byte| *byte == b'/') {
        Some(end) => (&levels[..end], Some(&levels[end + 1..])),
        None => (levels, None),
    }
}

/// Takes a filter out of those that end where it does. Gives that nothing is left to do.
fn unlink<V, T>(first: &mut FilterId, id: FilterId, slots: &mut [Slot<V>]) -> Option<T> {
    let next = slots[id as usize].next;
    if *first == id {
        *first = next;
        return None;
    }
    let mut before = *first;
    while before != NONE {
        let slot = &mut slots[before as usize];
        if slot.next == id {
            slot.next = next;
            return None;
        }
        before = slot.next;
    }
    None
}

/// The hash of a text.
pub(super) fn hash(hasher: &impl BuildHasher, text: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(text);
    state.finish()
}

/// The path that goes on from this one with a level.
fn child(hasher: &impl BuildHasher, path: u64, level: u64) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u64(path);
    state.write_u64(level);
    state.finish()
}
