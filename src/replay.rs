//! The window that refuses replayed counters.
//!
//! A bitmap of 8192 counters as in RFC 6479, with the kernel's width: one block of 64 is given up
//! so that moving forward clears whole words and never shifts, which leaves 8192 - 64 counters
//! behind the greatest accepted one. The limit on the number of messages under a key is the
//! session's affair: the window takes any counter.
//!
//! Mark a counter only after the message's tag verified, or a forged message moves the window.

use core::fmt;

/// How many counters behind the greatest accepted one can still be accepted.
pub(crate) const WIDTH: u64 = BITS - WORD_BITS;

const BITS: u64 = 8192;
const WORD_BITS: u64 = 64;
const WORDS: usize = 128;

/// The counters seen under one key: 1032 bytes, O(1) for all but a jump ahead, which clears at
/// most 128 words.
pub(crate) struct Window {
    /// The greatest counter accepted; 0 at first, when no bit is set.
    greatest: u64,
    /// A ring: the bit of counter `c` is bit `c % 64` of word `c / 64 % 128`.
    seen: [u64; WORDS],
}

impl Window {
    /// Makes a window that has seen nothing.
    pub(crate) const fn new() -> Self {
        Self {
            greatest: 0,
            seen: [0; WORDS],
        }
    }

    /// Whether [`mark`](Self::mark) would accept `counter` now.
    #[inline]
    pub(crate) fn check(&self, counter: u64) -> bool {
        if counter > self.greatest {
            return true;
        }
        let word = self.seen.get(position(counter / WORD_BITS));
        self.greatest - counter <= WIDTH && word.is_some_and(|word| word & bit(counter) == 0)
    }

    /// Accepts `counter` unless it was accepted before or lies behind the window.
    #[inline]
    pub(crate) fn mark(&mut self, counter: u64) -> bool {
        if !self.check(counter) {
            return false;
        }
        if counter > self.greatest {
            self.advance(counter);
        }
        if let Some(word) = self.seen.get_mut(position(counter / WORD_BITS)) {
            *word |= bit(counter);
        }
        true
    }

    /// Clears the words that the window moves onto.
    fn advance(&mut self, counter: u64) {
        let block = counter / WORD_BITS;
        let fresh = (block - self.greatest / WORD_BITS).min(BITS / WORD_BITS);
        for back in 0..fresh {
            if let Some(word) = self.seen.get_mut(position(block - back)) {
                *word = 0;
            }
        }
        self.greatest = counter;
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window")
            .field("greatest", &self.greatest)
            .finish_non_exhaustive()
    }
}

#[inline]
fn bit(counter: u64) -> u64 {
    1 << (counter % WORD_BITS)
}

/// Where the ring holds a block of 64 counters. The remainder fits any `usize`.
#[inline]
fn position(block: u64) -> usize {
    usize::try_from(block % (BITS / WORD_BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    /// Marks one counter after the other and compares the verdicts.
    fn run(steps: &[(u64, bool)]) {
        let mut window = Window::new();
        for (n, &(counter, accepted)) in steps.iter().enumerate() {
            assert_eq!(window.check(counter), accepted, "step {n}: check {counter}");
            assert_eq!(window.mark(counter), accepted, "step {n}: mark {counter}");
        }
    }

    #[test]
    fn zero_is_accepted_exactly_once() {
        run(&[(0, true), (0, false), (1, true), (0, false)]);
        run(&[(1, true), (0, true), (0, false), (1, false)]);
    }

    #[test]
    fn small_steps_back_and_forth() {
        run(&[
            (0, true),
            (1, true),
            (1, false),
            (7, true),
            (6, true),
            (5, true),
            (5, false),
        ]);
    }

    #[test]
    fn the_tail_of_the_window() {
        run(&[(8128, true), (0, true), (0, false)]);
        run(&[(8129, true), (0, false), (1, true), (1, false)]);
        run(&[
            (50_000, true),
            (50_000 - 8128, true),
            (50_000 - 8129, false),
            (0, false),
        ]);
        run(&[
            (3, true),
            (8131 + 16, true),
            (3, false),
            (18, false),
            (19, true),
        ]);
    }

    /// Whatever the greatest counter's place in its word, exactly 8128 older ones are accepted.
    #[test]
    fn the_measured_width_is_the_documented_one() {
        for greatest in (20_000..20_130).chain([u64::MAX - 64, u64::MAX - 1, u64::MAX]) {
            let mut window = Window::new();
            assert!(window.mark(greatest));
            let accepted = (greatest - 9000..greatest)
                .filter(|&c| window.mark(c))
                .count();
            assert_eq!(accepted, 8128);
        }
        assert_eq!(WIDTH, 8128);
    }

    #[test]
    fn rising_and_falling_runs() {
        let mut window = Window::new();
        assert!((1..=8128).all(|c| window.mark(c)));
        assert!(window.mark(0));
        assert!((0..=8128).all(|c| !window.mark(c)));

        let mut window = Window::new();
        assert!((2..=8129).all(|c| window.mark(c)));
        assert!(window.mark(1));
        assert!(!window.mark(0));

        let mut window = Window::new();
        assert!((0..=8128).rev().all(|c| window.mark(c)));

        let mut window = Window::new();
        assert!((1..=8129).rev().all(|c| window.mark(c)));
        assert!(!window.mark(0));

        let mut window = Window::new();
        assert!((1..=8128).rev().all(|c| window.mark(c)));
        assert!(window.mark(8129));
        assert!(!window.mark(0));
    }

    /// A distance kept in 32 bits would take these for neighbours.
    #[test]
    fn jumps_of_two_to_the_32() {
        let far = 1 << 32;
        run(&[
            (5, true),
            (far + 5, true),
            (5, false),
            (6, false),
            (far + 4, true),
            (far + 5, false),
        ]);
        run(&[
            (far * 7, true),
            (far * 6, false),
            (far * 7 - 8128, true),
            (far * 7 - 8129, false),
        ]);
        run(&[
            (100, true),
            (100 + 8192, true),
            (101 + 8192 * 2, true),
            (100 + 8192, false),
        ]);
    }

    /// The oldest place of the window held a counter one turn of the ring ago.
    #[test]
    fn a_turn_of_the_ring_leaves_nothing_behind() {
        run(&[(64, true), (64 + 8192 + 8128, true), (64 + 8192, true)]);
    }

    #[test]
    fn the_last_counters() {
        const LIMIT: u64 = u64::MAX - (1 << 13);
        run(&[
            (LIMIT - 1, true),
            (LIMIT - 1, false),
            (LIMIT - 2, true),
            (LIMIT - 3, true),
            (0, false),
        ]);
        run(&[
            (u64::MAX, true),
            (u64::MAX, false),
            (u64::MAX - 1, true),
            (0, false),
        ]);
        run(&[
            (0, true),
            (u64::MAX - 1, true),
            (u64::MAX, true),
            (u64::MAX - 8128, true),
        ]);
        run(&[
            (u64::MAX, true),
            (u64::MAX - 8129, false),
            (LIMIT, false),
            (u64::MAX - 8128, true),
        ]);
    }

    #[test]
    fn a_check_changes_nothing() {
        let mut window = Window::new();
        assert!(window.mark(10));
        assert!(window.check(1 << 40));
        assert!(window.check(9));
        assert!(window.mark(9));
    }

    /// Every counter ever accepted, and the greatest.
    #[derive(Default)]
    struct Model {
        accepted: BTreeSet<u64>,
    }

    impl Model {
        fn mark(&mut self, counter: u64) -> bool {
            let greatest = self.accepted.last().copied().unwrap_or(0);
            u128::from(counter) + 8192 - 64 >= u128::from(greatest) && self.accepted.insert(counter)
        }
    }

    fn counters() -> impl Strategy<Value = std::vec::Vec<u64>> {
        let base = prop_oneof![
            Just(0),
            Just(1 << 32),
            Just(u64::MAX - 20_000),
            Just(u64::MAX - 300),
            any::<u64>()
        ];
        let step = prop_oneof![
            8 => 0_u64..200,
            4 => 0_u64..20_000,
            2 => (0_u64..4).prop_flat_map(|n| (n * 8192).saturating_sub(66)..=n * 8192 + 66),
            1 => (0_u64..3, 0_u64..3).prop_map(|(n, m)| (n << 32) + m),
            1 => any::<u64>()
        ];
        (base, proptest::collection::vec(step, 1..300))
            .prop_map(|(base, steps)| steps.into_iter().map(|s| base.wrapping_add(s)).collect())
    }

    proptest! {
        #[test]
        fn agrees_with_the_set_of_all_counters(counters in counters()) {
            let mut window = Window::new();
            let mut model = Model::default();
            for counter in counters {
                let wanted = model.mark(counter);
                prop_assert_eq!(window.check(counter), wanted);
                prop_assert_eq!(window.mark(counter), wanted);
                prop_assert!(!window.check(counter));
            }
        }
    }
}
