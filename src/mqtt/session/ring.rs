//! Packet identifiers, and the entry that awaits an acknowledgment under each: one allocator for PUBLISH,
//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! Identifiers are handed out in a circle. One that is in use is passed over [MQTT-2.3.1-2], so an entry may stay
//! for any time while the circle goes round. The entries keep the order in which they came, which is the order in
//! which everything has to be sent again [MQTT-4.6.0-1]; the order of the identifiers says nothing about it.
//!
//! An entry stands in the table at its identifier modulo the length of the table, so a look-up is an index.
//! Identifiers in use are mostly neighbours, and the table is at least twice as large as they are many. The few
//! entries whose place a later one needs are kept beside the table. Memory and searches are bounded by the number
//! of entries. The kind of entry does not matter here. Pure; the loop's thread.

use std::collections::BTreeMap;
use std::{iter, mem};

use crate::mqtt::packet::PacketId;

/// The identifiers in use, with their entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ring<E> {
    /// How many identifiers there are: 65,535, fewer only in tests.
    identifiers: u16,
    /// Position on the circle of the next identifier, 0 for identifier 1. It may be in use.
    next: u16,
    /// Its length is a power of two.
    table: Vec<Option<Slot<E>>>,
    /// Entries whose place in the table a later one has taken.
    displaced: BTreeMap<PacketId, Slot<E>>,
    occupied: usize,
    oldest: Option<PacketId>,
    newest: Option<PacketId>,
}

/// An entry and its place in the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot<E> {
    id: PacketId,
    older: Option<PacketId>,
    newer: Option<PacketId>,
    entry: E,
}

impl<E> Ring<E> {
    /// An empty table over the identifiers 1 to `identifiers`, beginning at this position.
    pub(crate) fn new(identifiers: u16, first: u16) -> Self {
        let identifiers = identifiers.max(1);
        Ring {
            identifiers,
            next: first % identifiers,
            table: vec![None],
            displaced: BTreeMap::new(),
            occupied: 0,
            oldest: None,
            newest: None,
        }
    }

    /// Gives `entry` the next identifier that is free; hands it back when all are in use.
    pub(crate) fn push(&mut self, entry: E) -> Result<PacketId, E> {
        let Some(id) = self.next_free() else {
            return Err(entry);
        };
        self.append(id, entry);
        Ok(id)
    }

    /// Gives `entry` this identifier; hands it back when that is in use.
    pub(crate) fn insert(&mut self, id: PacketId, entry: E) -> Result<(), E> {
        if !self.is_free(id) {
            return Err(entry);
        }
        self.append(id, entry);
        Ok(())
    }

    /// Puts the entry at the end of the order.
    fn append(&mut self, id: PacketId, entry: E) {
        self.grow_if_full();
        let older = self.newest.replace(id);
        match older.and_then(|older| self.slot_mut(older)) {
            Some(older) => older.newer = Some(id),
            None => self.oldest = Some(id),
        }
        self.occupied += 1;
        self.place(Slot {
            id,
            older,
            newer: None,
            entry,
        });
    }

    /// Takes the entry out and frees its identifier.
    pub(crate) fn remove(&mut self, id: PacketId) -> Option<E> {
        self.unlink(id)?;
        let index = self.index(id);
        let slot = match &mut self.table[index] {
            Some(slot) if slot.id == id => self.table[index].take(),
            _ => self.displaced.remove(&id),
        };
        slot.map(|slot| slot.entry)
    }

    /// Drops the entry where it is and frees its identifier.
    pub(crate) fn free(&mut self, id: PacketId) {
        if self.unlink(id).is_none() {
            return;
        }
        let index = self.index(id);
        match &mut self.table[index] {
            Some(slot) if slot.id == id => self.table[index] = None,
            _ => drop(self.displaced.remove(&id)),
        }
    }

    /// Takes everything out, oldest first. Later identifiers go on from where the circle was.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = E> + use<E> {
        let empty = Ring::new(self.identifiers, self.next);
        let mut drained = mem::replace(self, empty);
        iter::from_fn(move || drained.remove(drained.oldest?))
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&E> {
        Some(&self.slot(id)?.entry)
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut E> {
        Some(&mut self.slot_mut(id)?.entry)
    }

    /// All entries with their identifiers, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, &E)> {
        let oldest = self.oldest.and_then(|id| self.slot(id));
        let slots = iter::successors(oldest, |slot| self.slot(slot.newer?));
        slots.map(|slot| (slot.id, &slot.entry))
    }

    /// All entries with their identifiers, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PacketId, &mut E)> {
        let table = self.table.iter_mut().flatten();
        let slots = table.chain(self.displaced.values_mut());
        slots.map(|slot| (slot.id, &mut slot.entry))
    }

    /// How many entries there are.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied
    }

    /// Position on the circle of the next identifier. It may be in use.
    pub(crate) fn next_position(&self) -> u16 {
        self.next
    }

    /// Whether there is this identifier, and it is not in use.
    pub(crate) fn is_free(&self, id: PacketId) -> bool {
        id.value() <= self.identifiers && self.slot(id).is_none()
    }

    /// How many entries can still be pushed.
    pub(crate) fn room(&self) -> usize {
        usize::from(self.identifiers) - self.occupied
    }

    /// Goes on to the next identifier that is free.
    fn next_free(&mut self) -> Option<PacketId> {
        if self.room() == 0 {
            return None;
        }
        loop {
            let id = PacketId::new(self.next + 1)?;
            self.next = (self.next + 1) % self.identifiers;
            if self.slot(id).is_none() {
                return Some(id);
            }
        }
    }

    /// Makes room for one more entry: the table stays at most half full, unless each identifier has its own place.
    fn grow_if_full(&mut self) {
        let length = self.table.len();
        if 2 * (self.occupied + 1) <= length || length > usize::from(self.identifiers) {
            return;
        }
        let larger = iter::repeat_with(|| None).take(2 * length).collect();
        let table = mem::replace(&mut self.table, larger);
        let displaced = mem::take(&mut self.displaced);
        // Those that were displaced first, so that they make way again for later ones.
        displaced
            .into_values()
            .chain(table.into_iter().flatten())
            .for_each(|slot| self.place(slot));
    }

    /// Puts the entry into the table, in place of one that stands there.
    fn place(&mut self, slot: Slot<E>) {
        let index = self.index(slot.id);
        if let Some(displaced) = self.table[index].replace(slot) {
            self.displaced.insert(displaced.id, displaced);
        }
    }

    /// Takes the entry out of the order.
    fn unlink(&mut self, id: PacketId) -> Option<()> {
        let Slot { older, newer, .. } = *self.slot(id)?;
        match older.and_then(|older| self.slot_mut(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.slot_mut(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.occupied -= 1;
        Some(())
    }

    fn slot(&self, id: PacketId) -> Option<&Slot<E>> {
        match &self.table[self.index(id)] {
            Some(slot) if slot.id == id => Some(slot),
            _ => self.displaced.get(&id),
        }
    }

    fn slot_mut(&mut self, id: PacketId) -> Option<&mut Slot<E>> {
        let index = self.index(id);
        match &mut self.table[index] {
            Some(slot) if slot.id == id => Some(slot),
            _ => self.displaced.get_mut(&id),
        }
    }

    fn index(&self, id: PacketId) -> usize {
        usize::from(id.value()) & (self.table.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    fn order<E: Copy>(ring: &Ring<E>) -> Vec<(u16, E)> {
        ring.iter().map(|(id, e)| (id.value(), *e)).collect()
    }

    #[test]
    fn identifiers_go_round_and_pass_over_what_is_in_use() {
        let mut ring = Ring::new(3, 0);
        assert_eq!(ring.push('a'), Ok(id(1)));
        assert_eq!(ring.push('b'), Ok(id(2)));
        assert_eq!(ring.push('c'), Ok(id(3)));
        assert_eq!(ring.push('d'), Err('d'));
        assert_eq!(ring.remove(id(2)), Some('b'));
        assert_eq!(ring.push('d'), Ok(id(2)), "the next one, 1, is in use");
        assert_eq!(ring.remove(id(1)), Some('a'));
        assert_eq!(ring.push('e'), Ok(id(1)));
        assert_eq!(order(&ring), [(3, 'c'), (2, 'd'), (1, 'e')]);
        assert_eq!(ring.occupied(), 3);
    }

    #[test]
    fn the_whole_range_wraps_past_65535_to_1() {
        let mut ring = Ring::new(u16::MAX, 0);
        for value in 1..=u16::MAX {
            assert_eq!(ring.push(value), Ok(id(value)));
            assert_eq!(ring.remove(id(value)), Some(value));
        }
        assert_eq!(ring.push(0), Ok(id(1)));
    }

    #[test]
    fn every_identifier_may_be_in_use() {
        let mut ring = Ring::new(u16::MAX, 40_000);
        for number in 0..u16::MAX {
            ring.push(number).unwrap();
        }
        assert_eq!((ring.room(), ring.push(0)), (0, Err(0)));
        assert!(ring.displaced.is_empty());
        // The only one that is free is found at once or after a whole round.
        for value in [7, 6, 7, 8] {
            assert!(ring.remove(id(value)).is_some());
            assert_eq!(ring.push(value), Ok(id(value)));
        }
        let newest: Vec<_> = order(&ring).into_iter().rev().take(3).collect();
        assert_eq!(newest, [(8, 8), (7, 7), (6, 6)]);
    }

    #[test]
    fn an_identifier_that_is_taken_is_passed_over() {
        let mut ring = Ring::new(4, 0);
        assert_eq!(ring.insert(id(2), 'x'), Ok(()));
        assert_eq!(ring.insert(id(2), 'y'), Err('y'));
        assert_eq!(ring.insert(id(5), 'y'), Err('y'));
        assert_eq!(ring.push('a'), Ok(id(1)));
        assert_eq!(ring.push('b'), Ok(id(3)));
        assert_eq!(order(&ring), [(2, 'x'), (1, 'a'), (3, 'b')]);
        ring.free(id(2));
        assert_eq!(ring.push('c'), Ok(id(4)));
    }

    #[test]
    fn unknown_identifiers_are_nothing() {
        let mut ring = Ring::new(10, 0);
        assert_eq!(ring.remove(id(1)), None);
        ring.push('a').unwrap();
        assert_eq!(ring.remove(id(2)), None);
        assert_eq!(ring.remove(id(11)), None);
        assert_eq!(ring.get(id(1)), Some(&'a'));
        assert_eq!(ring.remove(id(1)), Some('a'));
        assert_eq!(ring.remove(id(1)), None);
    }

    #[test]
    fn draining_keeps_the_order_and_goes_on_counting() {
        let mut ring = Ring::new(4, 0);
        for entry in ['a', 'b', 'c'] {
            ring.push(entry).unwrap();
        }
        ring.remove(id(1));
        assert_eq!(ring.drain().collect::<String>(), "bc");
        assert_eq!(ring.occupied(), 0);
        assert_eq!(ring.push('d'), Ok(id(4)));
        assert_eq!(ring.push('e'), Ok(id(1)));
    }

    /// The same in few lines, and slow: the entries in order.
    struct Model {
        identifiers: u16,
        next: u16,
        entries: Vec<(u16, u32)>,
    }

    impl Model {
        fn is_in_use(&self, id: u16) -> bool {
            self.entries.iter().any(|(other, _)| *other == id)
        }

        fn push(&mut self, entry: u32) -> Option<u16> {
            let circle = (self.next..self.identifiers).chain(0..self.next);
            let id = circle
                .map(|position| position + 1)
                .find(|id| !self.is_in_use(*id))?;
            self.next = id % self.identifiers;
            self.entries.push((id, entry));
            Some(id)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn entries_keep_their_order_however_often_the_circle_goes_round(
            identifiers in prop_oneof![1..20_u16, Just(u16::MAX)],
            first in any::<u16>(),
            // An entry that is older than this many others stays.
            window in 1..40_usize,
            steps in prop::collection::vec((0..5_u8, any::<usize>()), 1..2_000),
        ) {
            let mut ring = Ring::new(identifiers, first);
            let next = first % identifiers;
            let mut model = Model { identifiers, next, entries: Vec::new() };
            let mut most = 0;
            for (number, (step, which)) in (0..).zip(steps) {
                let held = model.entries.len();
                if step == 0 && held < window {
                    let value = u16::try_from(which % usize::from(identifiers)).unwrap() + 1;
                    let is_free = !model.is_in_use(value);
                    prop_assert_eq!(ring.insert(id(value), number).is_ok(), is_free);
                    model.entries.extend(is_free.then_some((value, number)));
                } else if step < 3 && held < window {
                    let given = ring.push(number).ok().map(PacketId::value);
                    prop_assert_eq!(given, model.push(number));
                } else if held > 3 {
                    // Three stay for good.
                    let (value, entry) = model.entries.remove(3 + which % (held - 3));
                    match which % 2 {
                        0 => prop_assert_eq!(ring.remove(id(value)), Some(entry)),
                        _ => ring.free(id(value)),
                    }
                }
                most = most.max(model.entries.len());
                prop_assert_eq!(order(&ring), &model.entries[..]);
                prop_assert_eq!(ring.occupied(), model.entries.len());
                for (value, entry) in &model.entries {
                    prop_assert_eq!(ring.get(id(*value)), Some(entry));
                }
                let mut all: Vec<_> = ring.iter_mut().map(|(id, e)| (id.value(), *e)).collect();
                all.sort_unstable_by_key(|(_, entry)| *entry);
                prop_assert_eq!(&all, &model.entries);
                prop_assert!(ring.table.len() <= (4 * most).max(1), "{} for {most}", ring.table.len());
            }
            let entries: Vec<_> = model.entries.iter().map(|(_, entry)| *entry).collect();
            prop_assert_eq!(ring.drain().collect::<Vec<_>>(), entries);
        }
    }

    /// A table for a window of 100 stays as large as for one, and so does what stands beside it.
    #[test]
    fn memory_is_bounded_by_the_entries_while_the_oldest_stays() {
        let mut ring = Ring::new(u16::MAX, 0);
        let oldest = ring.push(0).unwrap();
        for number in 1..200_000 {
            ring.push(number).unwrap();
            if ring.occupied() > 100 {
                let (second, _) = ring.iter().nth(1).unwrap();
                ring.free(second);
            }
        }
        assert_eq!(ring.get(oldest), Some(&0));
        assert_eq!((ring.occupied(), ring.table.len()), (100, 256));
        assert_eq!(ring.displaced.len(), 1);
    }
}
