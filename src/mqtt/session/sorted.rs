//! A map for keys that come and go in ascending order, as those of incoming messages do: the newest
//! key is the largest but for rare exceptions, and the oldest leaves first.
//!
//! In this order inserting and removing move nothing, and memory is kept from one message to the next. In
//! any other order at most half of the entries are moved. Pure; the loop's thread.

use std::collections::VecDeque;

/// Entries in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sorted<K, V>(VecDeque<(K, V)>);

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Sorted(VecDeque::new())
    }
}

impl<K: Ord + Copy, V> Sorted<K, V> {
    /// Inserts `value`. Returns false if it took the place of one with the same key.
    pub(super) fn insert(&mut self, key: K, value: V) -> bool {
        if self.0.back().is_none_or(|(last, _)| *last < key) {
            self.0.push_back((key, value));
            return true;
        }
        match self.find(key) {
            Ok(at) => {
                self.0[at].1 = value;
                false
            }
            Err(at) => {
                self.0.insert(at, (key, value));
                true
            }
        }
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let removed = match self.find(key).ok()? {
            0 => self.0.pop_front(),
            at => self.0.remove(at),
        };
        removed.map(|(_, value)| value)
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Where the key is (`Ok`) or belongs (`Err`). The oldest key is asked for most, and one that is to come next.
    fn find(&self, key: K) -> Result<usize, usize> {
        match (self.0.front(), self.0.back()) {
            (Some((first, _)), _) if *first == key => Ok(0),
            (_, Some((last, _))) if *last < key => Err(self.0.len()),
            _ => self.0.binary_search_by(|(other, _)| other.cmp(&key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// It is a map for keys in any order.
        #[test]
        fn agrees_with_another_map(steps in prop::collection::vec((any::<bool>(), 0_u8..12), 0..80)) {
            let mut sorted = Sorted::default();
            let mut plain = BTreeMap::new();
            for (step, (adds, key)) in steps.into_iter().enumerate() {
                if adds {
                    prop_assert_eq!(sorted.insert(key, step), plain.insert(key, step).is_none());
                } else {
                    prop_assert_eq!(sorted.remove(key), plain.remove(&key));
                }
                prop_assert_eq!(sorted.get(key), plain.get(&key));
                prop_assert_eq!(sorted.get_mut(key), plain.get_mut(&key));
                prop_assert!(sorted.values().eq(plain.values()));
                prop_assert_eq!(sorted.len(), plain.len());
            }
            sorted.clear();
            prop_assert_eq!(sorted.len(), 0);
        }
    }
}
