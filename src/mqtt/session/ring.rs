//! Packet identifiers, and the entry that awaits an acknowledgment under each: one allocator for PUBLISH,
//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! Identifiers are handed out in a circle. The table is the arc of the circle that is in use, in
//! the order of sending. So an identifier in use cannot be handed out again [MQTT-2.3.1-2], a look-up
//! is an index, and the table is in the order in which everything has to be sent again [MQTT-4.6.0-1].
//! The kind of entry does not matter here. Pure; the loop's thread.

use std::collections::VecDeque;

use crate::mqtt::packet::PacketId;

/// The arc of identifiers in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ring<E> {
    /// How many identifiers there are: 65,535, fewer only in tests.
    identifiers: u16,
    /// Position of the first slot on the circle, 0 for identifier 1.
    first: u16,
    /// From the oldest entry on. An answered entry leaves a hole until it is the oldest.
    slots: VecDeque<Option<E>>,
    occupied: usize,
}

impl<E> Ring<E> {
    /// An empty table over the identifiers 1 to `identifiers`, beginning at this position.
    pub(crate) fn new(identifiers: u16, first: u16) -> Self {
        let identifiers = identifiers.max(1);
        Ring {
            identifiers,
            first: first % identifiers,
            slots: VecDeque::new(),
            occupied: 0,
        }
    }

    /// Gives `entry` the next identifier; hands it back when all are in use.
    pub(crate) fn push(&mut self, entry: E) -> Result<PacketId, E> {
        if self.room() == 0 {
            return Err(entry);
        }
        let Some(id) = self.identifier(self.slots.len()) else {
            return Err(entry);
        };
        self.slots.push_back(Some(entry));
        self.occupied += 1;
        Ok(id)
    }

    /// Takes the entry out and frees its identifier.
    pub(crate) fn remove(&mut self, id: PacketId) -> Option<E> {
        let entry = self.slots.get_mut(self.index(id)?)?.take()?;
        self.forget_one();
        Some(entry)
    }

    /// Drops the entry where it is and frees its identifier.
    pub(crate) fn free(&mut self, id: PacketId) {
        let slot = self.index(id).and_then(|index| self.slots.get_mut(index));
        if let Some(slot @ Some(_)) = slot {
            *slot = None;
            self.forget_one();
        }
    }

    /// Takes everything out, oldest first. Later identifiers go on from where the circle was.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = E> + use<E> {
        self.first = self.next_position();
        self.occupied = 0;
        std::mem::take(&mut self.slots).into_iter().flatten()
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut E> {
        let index = self.index(id)?;
        self.slots.get_mut(index)?.as_mut()
    }

    /// All entries with their identifiers, oldest first.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PacketId, &mut E)> {
        let (first, identifiers) = (self.first, self.identifiers);
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(move |(index, slot)| {
                Some((identifier(first, index, identifiers)?, slot.as_mut()?))
            })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, &E)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((self.identifier(index)?, slot.as_ref()?)))
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&E> {
        self.slots.get(self.index(id)?)?.as_ref()
    }

    /// How many entries there are.
    pub(crate) fn occupied(&self) -> usize {
        self.occupied
    }

    /// Position on the circle of the next identifier.
    pub(crate) fn next_position(&self) -> u16 {
        let next = usize::from(self.first) + self.slots.len();
        u16::try_from(next % usize::from(self.identifiers)).unwrap_or(0)
    }

    /// How many entries can still be pushed.
    pub(crate) fn room(&self) -> usize {
        usize::from(self.identifiers) - self.slots.len()
    }

    /// A slot has become a hole.
    fn forget_one(&mut self) {
        self.occupied -= 1;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first = (self.first + 1) % self.identifiers;
        }
    }

    fn identifier(&self, index: usize) -> Option<PacketId> {
        identifier(self.first, index, self.identifiers)
    }

    fn index(&self, id: PacketId) -> Option<usize> {
        let position = id.value() - 1;
        if position >= self.identifiers {
            return None;
        }
        let distance = if position >= self.first {
            position - self.first
        } else {
            self.identifiers - self.first + position
        };
        Some(usize::from(distance))
    }
}

fn identifier(first: u16, index: usize, identifiers: u16) -> Option<PacketId> {
    let position = (usize::from(first) + index) % usize::from(identifiers);
    PacketId::new(u16::try_from(position + 1).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    #[test]
    fn identifiers_go_round_and_skip_what_is_in_use() {
        let mut ring = Ring::new(3, 0);
        assert_eq!(ring.push('a'), Ok(id(1)));
        assert_eq!(ring.push('b'), Ok(id(2)));
        assert_eq!(ring.push('c'), Ok(id(3)));
        assert_eq!(ring.push('d'), Err('d'));
        assert_eq!(ring.remove(id(2)), Some('b'));
        assert_eq!(ring.push('d'), Err('d'), "the next one, 1, is in use");
        assert_eq!(ring.remove(id(1)), Some('a'));
        assert_eq!(ring.push('d'), Ok(id(1)));
        assert_eq!(ring.push('e'), Ok(id(2)));
        let order: Vec<_> = ring.iter().map(|(i, e)| (i.value(), *e)).collect();
        assert_eq!(order, [(3, 'c'), (1, 'd'), (2, 'e')]);
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
}
