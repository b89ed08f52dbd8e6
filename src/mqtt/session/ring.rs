//! Packet identifiers, and the entry that awaits an acknowledgment under each: one allocator for PUBLISH,
//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! Identifiers are handed out in a circle. One that is in use is passed over [MQTT-2.3.1-2], so an entry may stay
//! for any time while the circle goes round. The entries keep the order in which they came, which is the order in
//! which everything has to be sent again [MQTT-4.6.0-1]; the order of the identifiers says nothing about it.
//!
//! A table of two bytes for each identifier says where its entry stands. A place that becomes free is the next one
//! to be used, so there are as many places as there ever were entries at one time, and they stay in the processor's
//! cache. Entries are numbered as they come and sorted when their order is asked for, which is rare. The kind of
//! entry does not matter here. Pure; the loop's thread.

use crate::mqtt::packet::PacketId;

/// The identifiers in use, with their entries.
#[derive(Debug, Clone)]
pub(crate) struct Ring<E> {
    /// Position on the circle of the next identifier, 0 for identifier 1. It may be in use.
    next: u16,
    /// Where the entry of each identifier stands, counted from 1; 0 if the identifier is free.
    places: Vec<u16>,
    entries: Vec<Slot<E>>,
    /// The next place to be used. Each free one has the one after it.
    free: usize,
    occupied: usize,
    /// How many entries there ever were.
    count: u64,
}

/// A place. An entry is large, so it ends where it stands.
#[derive(Debug, Clone)]
enum Slot<E> {
    Free(usize),
    Taken(Numbered<E>),
}

impl<E> Slot<E> {
    fn taken(&self) -> Option<&Numbered<E>> {
        match self {
            Slot::Free(_) => None,
            Slot::Taken(numbered) => Some(numbered),
        }
    }

    fn taken_mut(&mut self) -> Option<&mut Numbered<E>> {
        match self {
            Slot::Free(_) => None,
            Slot::Taken(numbered) => Some(numbered),
        }
    }
}

/// An entry and its place in the order.
#[derive(Debug, Clone)]
struct Numbered<E> {
    number: u64,
    id: PacketId,
    entry: E,
}

impl<E> Ring<E> {
    /// An empty table over the identifiers 1 to `identifiers`, beginning at this position.
    pub(crate) fn new(identifiers: u16, first: u16) -> Self {
        let identifiers = identifiers.max(1);
        Ring {
            next: first % identifiers,
            places: vec![0; usize::from(identifiers)],
            entries: Vec::new(),
            free: 0,
            occupied: 0,
            count: 0,
        }
    }

    /// Gives `entry` the next identifier that is free; hands it back when all are in use.
    // An entry is large: it must not be moved once more.
    #[inline(always)]
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
    #[inline(always)]
    fn append(&mut self, id: PacketId, entry: E) {
        let number = self.count;
        self.count += 1;
        let place = self.free;
        // An entry is moved once: each of the two ways has a value of its own.
        match self.entries.get_mut(place) {
            Some(free) => {
                if let Slot::Free(next) = free {
                    self.free = *next;
                }
                *free = Slot::Taken(Numbered { number, id, entry });
            }
            None => {
                let taken = Slot::Taken(Numbered { number, id, entry });
                self.entries.push(taken);
                self.free = place + 1;
            }
        }
        self.occupied += 1;
        // There are no more entries than identifiers.
        self.places[position(id)] = u16::try_from(place + 1).unwrap_or_default();
    }

    /// Takes the entry out and frees its identifier.
    pub(crate) fn remove(&mut self, id: PacketId) -> Option<E> {
        let free = Slot::Free(self.free);
        let place = self.vacate(id)?;
        match std::mem::replace(&mut self.entries[place], free) {
            Slot::Free(_) => None,
            Slot::Taken(numbered) => Some(numbered.entry),
        }
    }

    /// Frees the identifier of an entry that has ended. [`Ring::remove`] would copy the entry once more.
    #[inline(always)]
    pub(crate) fn free(&mut self, id: PacketId) {
        let free = Slot::Free(self.free);
        if let Some(place) = self.vacate(id) {
            self.entries[place] = free;
        }
    }

    /// The place of the entry is the next one to be used. The caller has to free it.
    fn vacate(&mut self, id: PacketId) -> Option<usize> {
        let place = self.place(id)?;
        self.places[position(id)] = 0;
        self.free = place;
        self.occupied -= 1;
        Some(place)
    }

    /// Takes everything out, oldest first. Later identifiers go on from where the circle was.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = E> + use<E> {
        self.places.fill(0);
        (self.free, self.occupied) = (0, 0);
        let all = self.entries.drain(..).filter_map(|place| match place {
            Slot::Free(_) => None,
            Slot::Taken(numbered) => Some(numbered),
        });
        let mut drained: Vec<_> = all.collect();
        drained.sort_unstable_by_key(|one| one.number);
        drained.into_iter().map(|one| one.entry)
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&E> {
        let numbered = self.entries.get(self.place(id)?)?.taken()?;
        Some(&numbered.entry)
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> Option<&mut E> {
        let place = self.place(id)?;
        let numbered = self.entries.get_mut(place)?.taken_mut()?;
        Some(&mut numbered.entry)
    }

    /// All entries with their identifiers, oldest first. They are sorted for it.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = (PacketId, &E)> {
        let mut all: Vec<_> = self.entries.iter().filter_map(Slot::taken).collect();
        all.sort_unstable_by_key(|one| one.number);
        all.into_iter().map(|one| (one.id, &one.entry))
    }

    /// All entries with their identifiers, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (PacketId, &E)> {
        let all = self.entries.iter().filter_map(Slot::taken);
        all.map(|one| (one.id, &one.entry))
    }

    /// The youngest entry of which this is true.
    pub(crate) fn last(&self, is_one: impl Fn(&E) -> bool) -> Option<&E> {
        let all = self.entries.iter().filter_map(Slot::taken);
        let found = all.filter(|one| is_one(&one.entry));
        found.max_by_key(|one| one.number).map(|one| &one.entry)
    }

    /// As [`Ring::iter`].
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PacketId, &mut E)> {
        let all = self.entries.iter_mut().filter_map(Slot::taken_mut);
        all.map(|one| (one.id, &mut one.entry))
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
        self.places.get(position(id)) == Some(&0)
    }

    /// How many entries can still be pushed.
    pub(crate) fn room(&self) -> usize {
        self.places.len() - self.occupied
    }

    /// Goes on to the next identifier that is free.
    fn next_free(&mut self) -> Option<PacketId> {
        if self.room() == 0 {
            return None;
        }
        loop {
            let id = PacketId::new(self.next + 1)?;
            self.next += 1;
            if usize::from(self.next) == self.places.len() {
                self.next = 0;
            }
            if self.is_free(id) {
                return Some(id);
            }
        }
    }

    /// Where the entry of an identifier in use stands.
    fn place(&self, id: PacketId) -> Option<usize> {
        let place = *self.places.get(position(id))?;
        usize::from(place).checked_sub(1)
    }
}

/// The place of an identifier in the table.
fn position(id: PacketId) -> usize {
    usize::from(id.value()) - 1
}

/// Two tables are the same if they will give out the same, in the same order.
#[cfg(test)]
impl<E: std::hash::Hash> std::hash::Hash for Ring<E> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.next.hash(state);
        self.occupied().hash(state);
        self.in_order().for_each(|entry| entry.hash(state));
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
        ring.in_order().map(|(id, e)| (id.value(), *e)).collect()
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
        assert_eq!(ring.remove(id(2)), Some('x'));
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
                    prop_assert_eq!(ring.remove(id(value)), Some(entry));
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
                prop_assert!(ring.entries.capacity() <= (2 * most).max(4), "{} for {most}", ring.entries.capacity());
            }
            let entries: Vec<_> = model.entries.iter().map(|(_, entry)| *entry).collect();
            prop_assert_eq!(ring.drain().collect::<Vec<_>>(), entries);
        }
    }

    /// Places for a window of 100 are enough, however long the oldest entry stays.
    #[test]
    fn memory_is_bounded_by_the_entries_while_the_oldest_stays() {
        let mut ring = Ring::new(u16::MAX, 0);
        let oldest = ring.push(0).unwrap();
        let mut second = ring.push(1).unwrap();
        for number in 2..200_000 {
            ring.push(number).unwrap();
            if ring.occupied() > 100 {
                ring.remove(second).unwrap();
                second = ring.in_order().nth(1).unwrap().0;
            }
        }
        assert_eq!(ring.get(oldest), Some(&0));
        assert_eq!((ring.occupied(), ring.entries.capacity()), (100, 128));
    }
}
