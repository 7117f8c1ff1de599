//! Poly1305 (RFC 8439, section 2.5), four sums at a time: each vector has one limb of every sum.
//!
//! Limbs are of 26 bits, so that a product is of 52 and ten of them can be added. A step absorbs two
//! blocks into each sum, `h` becoming `(h + m) r^2 + n r`, and carries once. The sums are those of
//! four texts, or parts of one long text, where block `i` belongs to sum `i` modulo 4 and `r^4` is
//! in the place of `r` until the last step. Texts end together; a sum that starts later absorbs
//! empty blocks before, zero and without the bit at 2^128, which leave it zero.

#![allow(
    unsafe_code,
    reason = "loads and stores by pointer; nothing else here needs it"
)]

use core::arch::x86_64::{
    _mm256_add_epi64, _mm256_and_si256, _mm256_blend_epi32, _mm256_mul_epu32, _mm256_or_si256,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srli_epi64,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};

use super::super::cost::{Cost, blocks};
use super::super::text::ROW;
use super::super::{TAG_LEN, poly1305};
use blocks::{BIT, Block, Edge, Ends, align, before_end, bits, ending, full, longest};
use limbs::{Factors, LIMB, Limbs, clamp, factor, load, load_pair, nothing, store};

mod blocks;
#[macro_use]
mod limbs;

/// The tags of texts under their one-time keys.
#[target_feature(enable = "avx2")]
#[inline(never)]
pub(super) fn tags(keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
    let groups = keys.chunks(4).zip(texts.chunks(4));
    for ((keys, texts), tags) in groups.zip(tags.chunks_mut(4)) {
        match (keys, texts) {
            ([first_key, ..], [first_text, ..]) if is_worth_four(texts) => {
                // What is missing in a group is done twice.
                let (mut four_keys, mut four_texts) = ([first_key; 4], [*first_text; 4]);
                for (place, key) in four_keys.iter_mut().zip(keys) {
                    *place = key;
                }
                for (place, text) in four_texts.iter_mut().zip(texts) {
                    *place = text;
                }
                for (tag, made) in tags.iter_mut().zip(four(four_keys, four_texts)) {
                    *tag = made;
                }
            }
            _ => {
                for ((key, text), tag) in keys.iter().zip(texts).zip(tags) {
                    *tag = one(key, text);
                }
            }
        }
    }
}

/// Whether [`four`] takes less time for up to four texts than [`one`] for one after the other.
#[inline]
fn is_worth_four(texts: &[&[u8]]) -> bool {
    let longest = texts.iter().map(|text| blocks(text)).max();
    let apart = texts.iter().map(|text| cost_of_one(blocks(text)));
    FOUR.of(longest.unwrap_or(0)) < apart.sum()
}

/// The tag of one text.
#[target_feature(enable = "avx2")]
#[inline]
fn one(key: &[u8; ROW], text: &[u8]) -> [u8; TAG_LEN] {
    let blocks = blocks(text);
    if LONG.of(blocks) < Cost::SCALAR.of(blocks) {
        long(key, text)
    } else {
        poly1305::tag(one_time(key).0, &[], text)
    }
}

/// [`long`], for one text: worth it from 753 bytes on. Two chains of scalar code side by side are
/// slower than one after the other below 192 bytes, and no match for vectors above.
const LONG: Cost = Cost {
    once: 350,
    per_block: 7,
};

/// [`four`], for as many texts, and the blocks of the longest. So four are worth their vectors from
/// 145 bytes on, three from 273, two never.
const FOUR: Cost = Cost {
    once: 345,
    per_block: 25,
};

#[inline]
fn cost_of_one(blocks: usize) -> usize {
    Cost::SCALAR.of(blocks).min(LONG.of(blocks))
}

/// The tags of four texts.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn four(keys: [&[u8; ROW]; 4], texts: [&[u8]; 4]) -> [[u8; TAG_LEN]; 4] {
    let [(_, r0, s0), (_, r1, s1), (_, r2, s2), (_, r3, s3)] = keys.map(one_time);
    let r = clamp(r0, r1, r2, r3);
    let second = factor(r);
    let mut factors = Factors {
        first: factor(carry!(product!(r, &second))),
        second,
    };
    // Not to be simplified by what LLVM knows of them here: see `step`.
    zeroize::optimization_barrier(&factors);

    let (ends, bodies) = Ends::split(texts);
    let (starts, [b0, b1, b2, b3]) = align(bodies);
    let bit = _mm256_set1_epi64x(BIT.cast_signed());
    let mut h = nothing();
    let mut left = longest(starts).next_multiple_of(2);
    while left > 0 {
        let (first, second) = (
            before_end(starts, left),
            before_end(starts, left.wrapping_sub(1)),
        );
        h = edge_step(h, first, second, &factors);
        left = left.wrapping_sub(2);
    }
    for ((([a0, c0], [a1, c1]), [a2, c2]), [a3, c3]) in b0.iter().zip(b1).zip(b2).zip(b3) {
        let first = with_bit!(limbs!(a0, a1, a2, a3), bit);
        let second = with_bit!(limbs!(c0, c1, c2, c3), bit);
        h = step!(h, first, second, &factors);
    }
    let [l0, l1, l2, l3] = &ends.last;
    let last = with_bit!(limbs!(l0, l1, l2, l3), load(&ends.bits));
    let lengths = split!(_mm256_setzero_si256(), load(&ends.lengths));
    h = outer_step(h, last, with_bit!(lengths, bit), &factors);
    factors = Factors::zero();
    zeroize::optimization_barrier(&factors);
    Stored::new(carry!(h)).tags([s0, s1, s2, s3])
}

/// The tag of one text, in four sums.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn long(key: &[u8; ROW], text: &[u8]) -> [u8; TAG_LEN] {
    let (_, r, s) = one_time(key);
    let mut factors = powers(clamp(r, r, r, r));
    zeroize::optimization_barrier(&factors);
    let [steps, last] = &factors;

    let (ends, [body]) = Ends::split([text]);
    let (body, end) = body
        .split_at_checked(body.len().saturating_sub(6))
        .unwrap_or_default();
    let (start, body) = body.as_rchunks();
    let mut sum = nothing();
    if !start.is_empty() {
        let [first, second] = ending(start.iter().rev().map(full));
        sum = edge_step(sum, first, second, steps);
    }
    let bit = _mm256_set1_epi64x(BIT.cast_signed());
    for [a0, a1, a2, a3, b0, b1, b2, b3] in body {
        let first = with_bit!(limbs!(a0, a1, a2, a3), bit);
        let second = with_bit!(limbs!(b0, b1, b2, b3), bit);
        sum = step!(sum, first, second, steps);
    }
    let end = end.iter().rev().map(full);
    let ([block], [bit], [length]) = (&ends.last, ends.bits, ends.lengths);
    let lengths = (u128::from(length) << 64).to_le_bytes();
    let [first, second] = ending([full(&lengths), (block, bit)].into_iter().chain(end));
    sum = edge_step(sum, first, second, last);
    factors = [Factors::zero(), Factors::zero()];
    zeroize::optimization_barrier(&factors);
    Stored::new(carry!(sum)).tag_of_all(s)
}

/// The factors of four sums of one text: of most steps, and of the last one, after which block `i`
/// from the end is to have been multiplied by `r^i`.
#[target_feature(enable = "avx2")]
#[inline]
fn powers(r1: Limbs) -> [Factors; 2] {
    let r2 = carry!(product!(r1, &factor(r1)));
    let r4 = carry!(product!(r2, &factor(r2)));
    let r8 = carry!(product!(r4, &factor(r4)));
    // The sums are multiplied by (r^2 r^2, r^2 r, r r, 1 r).
    let mut left = r2;
    let mut right = r1;
    let mut one = _mm256_set1_epi64x(1);
    for ((left, right), (r1, r2)) in left.iter_mut().zip(&mut right).zip(r1.iter().zip(r2)) {
        *left = _mm256_blend_epi32::<0b0011_0000>(r2, *r1);
        *left = _mm256_blend_epi32::<0b1100_0000>(*left, one);
        *right = _mm256_blend_epi32::<0b0000_0011>(*r1, r2);
        one = _mm256_setzero_si256();
    }
    let last = carry!(product!(left, &factor(right)));
    let before = carry!(product!(last, &factor(r4)));
    [
        Factors {
            first: factor(r8),
            second: factor(r4),
        },
        Factors {
            first: factor(before),
            second: factor(last),
        },
    ]
}

#[target_feature(enable = "avx2")]
#[inline]
fn edge_step(sum: Limbs, first: [Edge<'_>; 4], second: [Edge<'_>; 4], factors: &Factors) -> Limbs {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (first, second);
    let first = with_bit!(limbs!(a0.0, a1.0, a2.0, a3.0), load(&bits(first)));
    let second = with_bit!(limbs!(b0.0, b1.0, b2.0, b3.0), load(&bits(second)));
    outer_step(sum, first, second, factors)
}

/// A step outside the loop.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn outer_step(sum: Limbs, first: Limbs, second: Limbs, factors: &Factors) -> Limbs {
    step!(sum, first, second, factors)
}

/// Four sums in memory, limbs first; erased on drop.
struct Stored([[u64; 4]; 5]);

impl Stored {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(sums: Limbs) -> Self {
        let [h0, h1, h2, h3, h4] = sums;
        Self([store(h0), store(h1), store(h2), store(h3), store(h4)])
    }

    /// The tags of four texts.
    #[inline]
    fn tags(&self, s: [&Block; 4]) -> [[u8; TAG_LEN]; 4] {
        let mut tags = [[0; TAG_LEN]; 4];
        let [h0, h1, h2, h3, h4] = &self.0;
        let sums = h0.iter().zip(h1).zip(h2).zip(h3).zip(h4);
        for ((made, s), ((((h0, h1), h2), h3), h4)) in tags.iter_mut().zip(s).zip(sums) {
            *made = tag([*h0, *h1, *h2, *h3, *h4], s);
        }
        tags
    }

    /// The tag of the text that all of them belong to.
    #[inline]
    fn tag_of_all(&self, s: &Block) -> [u8; TAG_LEN] {
        tag(self.0.map(|limb| limb.iter().sum()), s)
    }
}

impl Drop for Stored {
    #[inline]
    fn drop(&mut self) {
        self.0 = [[0; 4]; 5];
        zeroize::optimization_barrier(self);
    }
}

/// A sum modulo 2^130 - 5, plus `s`, without the bits from 2^128 on. Its limbs are below 2^30.
#[inline]
fn tag(limbs: [u64; 5], s: &Block) -> [u8; TAG_LEN] {
    let [h0, h1, h2, h3, h4] = limbs.map(u128::from);
    let (low, carry) = (h0 + (h1 << 26) + (h2 << 52) + (h3 << 78)).overflowing_add(h4 << 104);
    let high = (h4 >> 24) + u128::from(carry);
    let (low, carry) = low.overflowing_add(5 * (high >> 2));
    let high = (high & 3) + u128::from(carry);
    // Now it is below twice the modulus; it reaches the modulus if 5 more reach 2^130.
    let carry = low.overflowing_add(5).1;
    let residue = low.wrapping_add(5 * ((high + u128::from(carry)) >> 2));
    residue.wrapping_add(u128::from_le_bytes(*s)).to_le_bytes()
}

/// The halves of a one-time key, and both.
#[inline]
fn one_time(row: &[u8; ROW]) -> (&[u8; 32], &Block, &Block) {
    // Four blocks are four.
    let (blocks, _) = row.as_chunks();
    let [r, s, ..] = blocks else {
        return (&[0; 32], &[0; 16], &[0; 16]);
    };
    (row.first_chunk().unwrap_or(&[0; 32]), r, s)
}

#[cfg(test)]
mod tests;
