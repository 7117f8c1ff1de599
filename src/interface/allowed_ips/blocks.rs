//! Short runs of items in one vector, in blocks of 1 to 128 places.
//!
//! The children of a trie node lie side by side, so that a count of bits finds one; this is where
//! they lie. A block's size is the number of its items rounded up to a power of two, so whoever
//! knows the number of items and the place of the first knows the block. Nothing here knows whose
//! block is whose: a wrong number corrupts the neighbours' contents, never memory.

use alloc::vec::Vec;

/// An arena of blocks. Blocks given back are used again, split when they are larger.
///
/// They are never merged: the owner copies everything to a new arena when this one
/// [is sparse](Self::is_sparse).
#[derive(Debug)]
pub(super) struct Blocks<T> {
    items: Vec<T>,
    /// The places of free blocks, by the logarithm of their size.
    free: [Vec<usize>; CLASSES],
    used: usize,
}

impl<T: Copy + Default> Blocks<T> {
    /// The item at a place, counted over all blocks.
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.items.get(at)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.items.get_mut(at)
    }

    /// The number of places, used and free.
    pub(super) fn places(&self) -> usize {
        self.items.len()
    }

    /// Whether more than three quarters of the places are wasted.
    pub(super) fn is_sparse(&self) -> bool {
        self.items.len() / 4 > self.used + 16
    }

    /// Puts `item` before the one of rank `rank` in a block of `len` items, and returns where the
    /// block is now.
    pub(super) fn insert(&mut self, base: usize, len: usize, rank: usize, item: T) -> usize {
        let base = if len == size(len) {
            self.grow(base, len)
        } else {
            base
        };
        let rest = self.items.get_mut(base + rank..=base + len);
        if let Some(rest) = rest {
            rest.rotate_right(1);
        }
        if let Some(place) = self.items.get_mut(base + rank) {
            *place = item;
        }
        self.used += 1;
        base
    }

    /// Takes the item of rank `rank` out of a block of `len` items, which stays where it is.
    pub(super) fn remove(&mut self, base: usize, len: usize, rank: usize) {
        if let Some(rest) = self.items.get_mut(base + rank..base + len) {
            rest.rotate_left(1);
        }
        self.used = self.used.saturating_sub(1);
        let left = size(len.saturating_sub(1));
        if left < size(len) {
            self.release(base + left, size(len) - left);
        }
    }

    /// Copies a block of `len` items of another arena to this one, and returns where it is.
    pub(super) fn adopt(&mut self, other: &Self, base: usize, len: usize) -> usize {
        let to = self.allocate(size(len));
        for rank in 0..len {
            if let (Some(place), Some(&item)) = (self.get_mut(to + rank), other.get(base + rank)) {
                *place = item;
            }
        }
        self.used += len;
        to
    }

    /// Moves a full block to one that is the next size.
    fn grow(&mut self, base: usize, len: usize) -> usize {
        let to = self.allocate(size(len + 1));
        for rank in 0..len {
            if let Some(&item) = self.get(base + rank)
                && let Some(place) = self.get_mut(to + rank)
            {
                *place = item;
            }
        }
        self.release(base, len);
        to
    }

    /// Finds a block: a free one, what is needed of a larger free one, or a new one at the end.
    fn allocate(&mut self, size: usize) -> usize {
        let needed = class(size);
        let mut classes = self.free.iter_mut().enumerate().skip(needed);
        let found = classes.find_map(|(class, free)| Some((class, free.pop()?)));
        let Some((larger, base)) = found else {
            let base = self.items.len();
            self.items.resize(base + size, T::default());
            return base;
        };
        for class in needed..larger {
            self.release(base + (1 << class), 1 << class);
        }
        base
    }

    fn release(&mut self, base: usize, size: usize) {
        if size > 0
            && let Some(free) = self.free.get_mut(class(size))
        {
            free.push(base);
        }
    }
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: [const { Vec::new() }; CLASSES],
            used: 0,
        }
    }
}

/// Blocks of 1, 2, 4, …, 128 places.
const CLASSES: usize = 8;

/// The places of a block of `len` items; none when there are none.
fn size(len: usize) -> usize {
    if len == 0 { 0 } else { len.next_power_of_two() }
}

/// The logarithm of a size.
fn class(size: usize) -> usize {
    usize::try_from(size.trailing_zeros()).unwrap_or(CLASSES)
}

#[cfg(test)]
impl<T: Copy + Default> Blocks<T> {
    /// Checks the account of all places, given the number of items in every block.
    pub(super) fn check(&self, blocks: &[usize]) {
        let free = (0..)
            .zip(&self.free)
            .map(|(class, list)| list.len() << class);
        let taken: usize = blocks.iter().map(|&len| size(len)).sum();
        assert_eq!(self.items.len(), taken + free.sum::<usize>());
        assert_eq!(self.used, blocks.iter().sum::<usize>());
        assert!(self.items.len() < 4 * self.used + 68);
    }
}
