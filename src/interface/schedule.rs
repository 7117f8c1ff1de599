//! When which peer has to be looked at: the deadlines, and who is ready now.
//!
//! [`Schedule`] holds one deadline per slot, [`ReadyList`] the slots that owe something. Neither
//! knows what a slot is for. A deadline on file may be earlier than the true one: whoever pops it
//! looks, and files it anew. So the data path only ever asks whether a deadline became earlier.
//!
//! Slots are small dense numbers, the positions of a peer in its storage: both structures keep an
//! array by slot, as long as the greatest slot ever filed.

use alloc::vec::Vec;

use crate::time::Instant;

/// One deadline at most for every slot, the earliest at hand.
///
/// A min-heap of four children per node with the position of every slot beside it. Ties go to the
/// smaller slot, so the order depends on nothing but the contents. Memory: 16 bytes for each
/// deadline on file at the peak, and 4 bytes for each slot up to the greatest.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    heap: Vec<Entry>,
    /// By slot: where the heap has it, or [`NONE`].
    positions: Vec<u32>,
}

impl Schedule {
    /// Makes an empty schedule without allocating.
    pub(crate) const fn new() -> Self {
        Self {
            heap: Vec::new(),
            positions: Vec::new(),
        }
    }

    /// Makes room for all slots up to `slot`, so that filing their deadlines does not allocate.
    pub(crate) fn cover(&mut self, slot: u32) {
        extend(&mut self.positions, slot, NONE);
        let slots = self.positions.len();
        self.heap.reserve(slots.saturating_sub(self.heap.len()));
    }

    /// The earliest deadline on file. O(1).
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// The deadline on file for `slot`. O(1).
    #[inline]
    pub(crate) fn filed(&self, slot: u32) -> Option<Instant> {
        self.heap.get(self.position(slot)?).map(|entry| entry.at)
    }

    /// Files `at` if the slot has no deadline or a later one. O(1) when it has an earlier one,
    /// O(log n) otherwise.
    #[inline]
    pub(crate) fn earlier(&mut self, slot: u32, at: Instant) {
        if self.filed(slot).is_none_or(|filed| at < filed) {
            self.file(slot, at);
        }
    }

    /// Files `at` in place of what the slot had, or nothing. O(log n).
    pub(crate) fn set(&mut self, slot: u32, at: Option<Instant>) {
        match at {
            Some(at) => self.file(slot, at),
            None => self.remove(slot),
        }
    }

    /// Takes the slot's deadline off the file, if it has one. O(log n).
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(at) = self.position(slot) else {
            return;
        };
        self.heap.swap_remove(at);
        self.note(slot, NONE);
        if let Some(&moved) = self.heap.get(at) {
            self.settle(at, moved);
        }
    }

    /// Takes the earliest deadline off the file if it is not after `now`, and returns its slot.
    /// O(log n).
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let entry = *self.heap.first().filter(|entry| entry.at <= now)?;
        self.remove(entry.slot);
        Some(entry.slot)
    }

    fn file(&mut self, slot: u32, at: Instant) {
        let entry = Entry { at, slot };
        let position = self.position(slot).unwrap_or(self.heap.len());
        if position == self.heap.len() {
            extend(&mut self.positions, slot, NONE);
            self.heap.push(entry);
        }
        self.settle(position, entry);
    }

    /// Puts an entry where it belongs, starting at a place that is its to overwrite.
    fn settle(&mut self, at: usize, entry: Entry) {
        let at = self.rise(at, entry);
        let at = self.sink(at, entry);
        self.place(at, entry);
    }

    /// Moves ancestors that come after `entry` down, and returns the place left free.
    fn rise(&mut self, mut at: usize, entry: Entry) -> usize {
        while let Some(above) = at.checked_sub(1).map(|below| below / ARITY) {
            match self.heap.get(above) {
                Some(&parent) if entry < parent => self.place(at, parent),
                _ => break,
            }
            at = above;
        }
        at
    }

    /// Moves descendants that come before `entry` up, and returns the place left free.
    fn sink(&mut self, mut at: usize, entry: Entry) -> usize {
        while let Some((below, child)) = self.first_child(at) {
            if entry < child {
                break;
            }
            self.place(at, child);
            at = below;
        }
        at
    }

    /// The earliest of the children of a place, with its own place.
    fn first_child(&self, at: usize) -> Option<(usize, Entry)> {
        let first = at * ARITY + 1;
        let children = self.heap.get(first..)?.iter().take(ARITY);
        (first..)
            .zip(children.copied())
            .min_by_key(|&(_, entry)| entry)
    }

    fn place(&mut self, at: usize, entry: Entry) {
        if let Some(stored) = self.heap.get_mut(at) {
            *stored = entry;
            self.note(entry.slot, u32::try_from(at).unwrap_or(NONE));
        }
    }

    fn note(&mut self, slot: u32, position: u32) {
        if let Some(stored) = self.positions.get_mut(widen(slot)) {
            *stored = position;
        }
    }

    #[inline]
    fn position(&self, slot: u32) -> Option<usize> {
        let position = *self.positions.get(widen(slot))?;
        (position != NONE).then(|| widen(position))
    }
}

/// The slots that owe something, first come first served, each at most once.
///
/// A doubly linked list through an array by slot. Every operation is O(1) but for growth, and the
/// memory is 8 bytes for each slot up to the greatest.
#[derive(Debug)]
pub(crate) struct ReadyList {
    links: Vec<Link>,
    first: u32,
    last: u32,
}

impl ReadyList {
    /// Makes an empty list without allocating.
    pub(crate) const fn new() -> Self {
        Self {
            links: Vec::new(),
            first: NONE,
            last: NONE,
        }
    }

    /// Makes room for all slots up to `slot`, so that pushing them does not allocate.
    pub(crate) fn cover(&mut self, slot: u32) {
        extend(&mut self.links, slot, Link::ABSENT);
    }

    /// Whether no slot waits.
    #[cfg(test)]
    pub(crate) const fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// The slot that has waited longest.
    pub(crate) fn peek(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Puts `slot` at the end, unless it waits already.
    pub(crate) fn push(&mut self, slot: u32) {
        extend(&mut self.links, slot, Link::ABSENT);
        if self.link(slot) != Link::ABSENT {
            return;
        }
        self.set(
            slot,
            Link {
                before: self.last,
                after: NONE,
            },
        );
        self.join(self.last, slot);
        self.last = slot;
    }

    /// Takes the slot that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let slot = self.peek()?;
        self.remove(slot);
        Some(slot)
    }

    /// Takes `slot` out, wherever it is.
    pub(crate) fn remove(&mut self, slot: u32) {
        let link = self.link(slot);
        if link == Link::ABSENT {
            return;
        }
        self.set(slot, Link::ABSENT);
        self.join(link.before, link.after);
        if link.after == NONE {
            self.last = link.before;
        } else {
            self.set(
                link.after,
                Link {
                    before: link.before,
                    ..self.link(link.after)
                },
            );
        }
    }

    /// Makes `after` the successor of `before`, or the first when there is no `before`.
    fn join(&mut self, before: u32, after: u32) {
        if before == NONE {
            self.first = after;
        } else {
            self.set(
                before,
                Link {
                    after,
                    ..self.link(before)
                },
            );
        }
    }

    fn link(&self, slot: u32) -> Link {
        self.links.get(widen(slot)).copied().unwrap_or(Link::ABSENT)
    }

    fn set(&mut self, slot: u32, link: Link) {
        if let Some(stored) = self.links.get_mut(widen(slot)) {
            *stored = link;
        }
    }
}

impl Default for ReadyList {
    fn default() -> Self {
        Self::new()
    }
}

/// Ordered by time, then by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Instant,
    slot: u32,
}

/// The neighbours of a slot in the list; [`NONE`] at its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    before: u32,
    after: u32,
}

impl Link {
    /// Not in the list. No slot has the number [`OUT`], so no link in the list looks like this.
    const ABSENT: Self = Self {
        before: OUT,
        after: OUT,
    };
}

/// Stands for no slot and for no position.
const NONE: u32 = u32::MAX;
const OUT: u32 = u32::MAX - 1;
const ARITY: usize = 4;

#[inline]
fn widen(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// Makes an array long enough to have a place for `slot`.
fn extend<T: Clone>(array: &mut Vec<T>, slot: u32, filler: T) {
    let needed = widen(slot).saturating_add(1);
    if array.len() < needed {
        array.resize(needed, filler);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::{BTreeMap, VecDeque};

    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_only() {
        let mut schedule = Schedule::new();
        assert_eq!(
            (schedule.next(), schedule.pop_due(at(u64::MAX))),
            (None, None)
        );
        schedule.earlier(3, at(50));
        schedule.earlier(3, at(60));
        assert_eq!(schedule.filed(3), Some(at(50)));
        schedule.earlier(3, at(40));
        assert_eq!(
            (schedule.next(), schedule.filed(3)),
            (Some(at(40)), Some(at(40)))
        );
        schedule.set(3, Some(at(70)));
        assert_eq!((schedule.next(), schedule.filed(2)), (Some(at(70)), None));
        schedule.set(3, None);
        assert_eq!((schedule.next(), schedule.filed(3)), (None, None));
    }

    #[test]
    fn due_means_not_after_now_and_ties_go_by_slot() {
        let mut schedule = Schedule::new();
        for slot in [9, 4, 7, 0] {
            schedule.set(slot, Some(at(10)));
        }
        schedule.set(5, Some(at(9)));
        assert_eq!(schedule.pop_due(at(8)), None);
        let popped: Vec<_> = core::iter::from_fn(|| schedule.pop_due(at(10))).collect();
        assert_eq!(popped, [5, 0, 4, 7, 9]);
        assert_eq!(schedule.filed(4), None);
    }

    #[test]
    fn memory_is_one_entry_for_each_slot() {
        let mut schedule = Schedule::new();
        for n in 0..100_000_u64 {
            schedule.set(
                u32::try_from(n % 64).unwrap(),
                Some(at(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
            );
        }
        assert_eq!((schedule.heap.len(), schedule.positions.len()), (64, 64));
    }

    #[test]
    fn the_ready_list_is_first_come_first_served() {
        let mut list = ReadyList::new();
        assert_eq!(
            (list.is_empty(), list.peek(), list.pop()),
            (true, None, None)
        );
        for slot in [2, 0, 2, 5, 0] {
            list.push(slot);
        }
        list.remove(0);
        list.remove(17);
        assert_eq!(
            (list.peek(), list.pop(), list.pop(), list.pop()),
            (Some(2), Some(2), Some(5), None)
        );
        list.push(2);
        assert_eq!(
            (list.is_empty(), list.pop(), list.is_empty()),
            (false, Some(2), true)
        );
        assert_eq!(list.links.len(), 6);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Earlier(u32, u64),
        Set(u32, Option<u64>),
        Remove(u32),
        PopDue(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let nanos = || prop_oneof![3 => 0_u64..100, 1 => any::<u64>()];
        prop_oneof![
            3 => (0_u32..40, nanos()).prop_map(|(slot, at)| Step::Earlier(slot, at)),
            3 => (0_u32..40, proptest::option::of(nanos())).prop_map(|(slot, at)| Step::Set(slot, at)),
            1 => (0_u32..45).prop_map(Step::Remove),
            2 => nanos().prop_map(Step::PopDue)
        ]
    }

    /// The model's earliest slot, by deadline and then by number.
    fn earliest(model: &BTreeMap<u32, u64>) -> Option<(u64, u32)> {
        model.iter().map(|(&slot, &at)| (at, slot)).min()
    }

    proptest! {
        #[test]
        fn the_schedule_agrees_with_a_map(steps in proptest::collection::vec(step(), 0..400)) {
            let mut schedule = Schedule::new();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Earlier(slot, nanos) => {
                        schedule.earlier(slot, at(nanos));
                        model.entry(slot).and_modify(|filed| *filed = nanos.min(*filed)).or_insert(nanos);
                    }
                    Step::Set(slot, nanos) => {
                        schedule.set(slot, nanos.map(at));
                        model.remove(&slot);
                        model.extend(nanos.map(|nanos| (slot, nanos)));
                    }
                    Step::Remove(slot) => {
                        schedule.remove(slot);
                        model.remove(&slot);
                    }
                    Step::PopDue(now) => {
                        let due = earliest(&model).filter(|&(at, _)| at <= now).map(|(_, slot)| slot);
                        prop_assert_eq!(schedule.pop_due(at(now)), due);
                        due.map(|slot| model.remove(&slot));
                    }
                }
                prop_assert_eq!(schedule.next(), earliest(&model).map(|(nanos, _)| at(nanos)));
                prop_assert_eq!(schedule.heap.len(), model.len());
                for slot in 0..50 {
                    prop_assert_eq!(schedule.filed(slot), model.get(&slot).copied().map(at));
                }
            }
        }

        #[test]
        fn the_ready_list_agrees_with_a_queue(
            steps in proptest::collection::vec((0_u8..4, 0_u32..12), 0..300)
        ) {
            let mut list = ReadyList::new();
            let mut model = VecDeque::new();
            for (kind, slot) in steps {
                match kind {
                    0 | 1 => {
                        list.push(slot);
                        if !model.contains(&slot) {
                            model.push_back(slot);
                        }
                    }
                    2 => {
                        list.remove(slot);
                        model.retain(|&waiting| waiting != slot);
                    }
                    _ => prop_assert_eq!(list.pop(), model.pop_front()),
                }
                prop_assert_eq!(list.peek(), model.front().copied());
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
            while let Some(slot) = model.pop_front() {
                prop_assert_eq!(list.pop(), Some(slot));
            }
            prop_assert!(list.is_empty());
        }
    }
}
