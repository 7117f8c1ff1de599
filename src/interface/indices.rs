//! From a receiver index to the slot of the peer that owns it.
//!
//! Open addressing with linear probing and deletion by shifting back, so there are no tombstones
//! and a lookup never allocates. The indices are our own random numbers: their low bits are the
//! hash, and nobody outside can choose them. Clustered indices stay correct and only get slower.

use alloc::vec::Vec;
use core::mem;

/// A map from `u32` receiver index to `u32` slot; every operation is O(1) expected.
///
/// Memory: 8 bytes per place. The table is at most half full; it doubles when it would be fuller
/// and halves when less than an eighth is used, so it has at most `max(16, 8 * len)` places, plus
/// what a doubling holds twice while it runs. An empty table that was never used holds nothing.
#[derive(Debug, Default)]
pub(crate) struct IndexTable {
    /// The length is 0 or a power of two.
    places: Vec<Place>,
    len: usize,
}

impl IndexTable {
    /// Makes an empty table without allocating.
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            len: 0,
        }
    }

    /// The number of indices in use.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Whether `index` is in use.
    pub(crate) fn contains(&self, index: u32) -> bool {
        self.get(index).is_some()
    }

    /// Finds the slot of `index`.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<u32> {
        let mut at = self.home(index);
        loop {
            let place = self.at(at);
            if place.is_empty() {
                return None;
            }
            if place.index == index {
                return Some(place.slot);
            }
            at = self.next(at);
        }
    }

    /// Gives `index` to `slot`; `false` when the index is taken.
    ///
    /// The slot `u32::MAX` marks a place without an index, so it cannot be stored: `false` too.
    pub(crate) fn insert(&mut self, index: u32, slot: u32) -> bool {
        let place = Place { index, slot };
        if place.is_empty() || self.contains(index) {
            return false;
        }
        if (self.len + 1) * 2 > self.places.len() {
            self.resize((self.places.len() * 2).max(MIN_PLACES));
        }
        self.put(place);
        self.len += 1;
        true
    }

    /// Gives an index back and returns the slot that had it.
    pub(crate) fn remove(&mut self, index: u32) -> Option<u32> {
        let mut at = self.home(index);
        let removed = loop {
            let place = self.at(at);
            if place.is_empty() {
                return None;
            }
            if place.index == index {
                break place.slot;
            }
            at = self.next(at);
        };
        self.close(at);
        self.len -= 1;
        if self.places.len() > MIN_PLACES && self.len * 8 < self.places.len() {
            self.resize(self.places.len() / 2);
        }
        Some(removed)
    }

    /// Empties a place and moves back whatever was pushed past it, up to the end of the cluster.
    fn close(&mut self, mut hole: usize) {
        let mut at = hole;
        loop {
            at = self.next(at);
            let place = self.at(at);
            if place.is_empty() {
                break;
            }
            // It may move only if the hole lies between its home and where it stands.
            if self.distance(self.home(place.index), at) >= self.distance(hole, at) {
                self.set(hole, place);
                hole = at;
            }
        }
        self.set(hole, Place::EMPTY);
    }

    fn resize(&mut self, places: usize) {
        let old = mem::replace(&mut self.places, alloc::vec![Place::EMPTY; places]);
        for place in old.into_iter().filter(|place| !place.is_empty()) {
            self.put(place);
        }
    }

    /// Stores a place whose index is not in the table. There is room.
    fn put(&mut self, place: Place) {
        let mut at = self.home(place.index);
        while !self.at(at).is_empty() {
            at = self.next(at);
        }
        self.set(at, place);
    }

    fn mask(&self) -> usize {
        self.places.len().wrapping_sub(1)
    }

    #[inline]
    fn home(&self, index: u32) -> usize {
        usize::try_from(index).unwrap_or(usize::MAX) & self.mask()
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.mask()
    }

    /// How many steps forward lead from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.mask()
    }

    /// A table that never held anything reads as empty everywhere.
    #[inline]
    fn at(&self, at: usize) -> Place {
        self.places.get(at).copied().unwrap_or(Place::EMPTY)
    }

    fn set(&mut self, at: usize, place: Place) {
        if let Some(stored) = self.places.get_mut(at) {
            *stored = place;
        }
    }
}

const MIN_PLACES: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Place {
    index: u32,
    slot: u32,
}

impl Place {
    const EMPTY: Self = Self {
        index: 0,
        slot: u32::MAX,
    };

    const fn is_empty(self) -> bool {
        self.slot == u32::MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn new_tables_are_empty_and_hold_nothing() {
        let mut table = IndexTable::new();
        assert_eq!(
            (table.len(), table.get(0), table.get(u32::MAX)),
            (0, None, None)
        );
        assert_eq!(table.remove(7), None);
        assert_eq!(table.places.capacity(), 0);
    }

    #[test]
    fn taken_indices_and_the_reserved_slot_are_refused() {
        let mut table = IndexTable::new();
        assert!(table.insert(5, 1));
        assert!(!table.insert(5, 2));
        assert_eq!(table.get(5), Some(1));
        assert!(!table.insert(6, u32::MAX));
        assert_eq!((table.len(), table.contains(6)), (1, false));
        assert_eq!(table.remove(5), Some(1));
        assert!(table.insert(5, 2));
    }

    /// Indices that share their low bits form one cluster that wraps round the end.
    #[test]
    fn a_cluster_survives_removal_in_any_place() {
        for gone in 0..6_u32 {
            let mut table = IndexTable::new();
            let indices: [u32; 6] = [15, 31, 14, 16, 47, 0];
            for (slot, &index) in (0..).zip(&indices) {
                assert!(table.insert(index, slot));
            }
            assert_eq!(table.remove(indices[gone as usize]), Some(gone));
            for (slot, &index) in (0..).zip(&indices) {
                assert_eq!(table.get(index), (slot != gone).then_some(slot));
            }
        }
    }

    #[test]
    fn grows_and_shrinks_within_the_documented_bound() {
        let mut table = IndexTable::new();
        let index = |n: u32| n.wrapping_mul(0x9e37_79b9);
        for n in 0..100_000 {
            assert!(table.insert(index(n), n));
            assert!(table.len() * 2 <= table.places.len());
            assert!(table.places.len() <= 16.max(8 * table.len()));
        }
        for n in 0..100_000 {
            assert_eq!(table.get(index(n)), Some(n));
            assert_eq!(table.remove(index(n)), Some(n));
            assert!(table.places.len() <= 16.max(8 * table.len()));
        }
        assert_eq!((table.len(), table.places.capacity()), (0, 16));
    }

    /// Few distinct indices, many of which share their low bits, and some anywhere.
    fn index() -> impl Strategy<Value = u32> {
        prop_oneof![
            4 => 0_u32..24,
            4 => (0_u32..8, 0_u32..3).prop_map(|(high, low)| (high << 4) | ((low + 14) % 16)),
            2 => (0_u32..16).prop_map(|high| high << 28),
            1 => any::<u32>(),
            1 => Just(u32::MAX)
        ]
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u32, u32),
        Remove(u32),
        Get(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (index(), 0..u32::MAX).prop_map(|(index, slot)| Step::Insert(index, slot)),
            2 => index().prop_map(Step::Remove),
            1 => index().prop_map(Step::Get)
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in proptest::collection::vec(step(), 0..400)) {
            let mut table = IndexTable::new();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(index, slot) => {
                        let free = !model.contains_key(&index);
                        prop_assert_eq!(table.insert(index, slot), free);
                        model.entry(index).or_insert(slot);
                    }
                    Step::Remove(index) => prop_assert_eq!(table.remove(index), model.remove(&index)),
                    Step::Get(index) => prop_assert_eq!(table.get(index), model.get(&index).copied()),
                }
                prop_assert_eq!(table.len(), model.len());
                for (&index, &slot) in &model {
                    prop_assert_eq!(table.get(index), Some(slot));
                }
            }
            let left = table.places.iter().filter(|place| !place.is_empty()).count();
            prop_assert_eq!(left, model.len());
        }
    }
}
