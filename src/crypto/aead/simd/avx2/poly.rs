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
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_blend_epi32, _mm256_loadu_si256,
    _mm256_loadu2_m128i, _mm256_mul_epu32, _mm256_or_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};
use core::hint::black_box;

use super::super::rows::ROW;
use super::super::{TAG_LEN, poly1305};

const LIMB: i64 = 0x3ff_ffff;

/// The bits of `r` that RFC 8439, section 2.5.1, leaves as they are: of its low and its high half.
const CLAMP: [i64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];

/// 2^128 in the last limb.
const BIT: u64 = 1 << 24;

type Block = [u8; 16];

/// The limbs of four numbers, the least first.
type Limbs = [__m256i; 5];

/// What numbers are multiplied by: limbs, and five times those but the first, which stand for them
/// where a product passes 2^130.
struct Factor {
    r: Limbs,
    s: [__m256i; 4],
}

/// The factor of a step's first blocks, and of its second ones.
struct Factors {
    first: Factor,
    second: Factor,
}

/// A block where texts start or end, and its bit at 2^128, in the last limb.
type Edge<'a> = (&'a Block, u64);

/// In front of a text.
const NOTHING: Edge<'static> = (&[0; 16], 0);

/// Limbs of four blocks, without the bits at 2^128.
macro_rules! limbs {
    ($b0:expr, $b1:expr, $b2:expr, $b3:expr) => {{
        let (even, odd) = (load_pair($b0, $b2), load_pair($b1, $b3));
        split!(
            _mm256_unpacklo_epi64(even, odd),
            _mm256_unpackhi_epi64(even, odd)
        )
    }};
}

/// The low and the high halves of four numbers, in limbs.
macro_rules! split {
    ($low:expr, $high:expr) => {{
        let (low, high, limb) = ($low, $high, _mm256_set1_epi64x(LIMB));
        let middle = _mm256_or_si256(_mm256_srli_epi64::<52>(low), _mm256_slli_epi64::<12>(high));
        [
            _mm256_and_si256(low, limb),
            _mm256_and_si256(_mm256_srli_epi64::<26>(low), limb),
            _mm256_and_si256(middle, limb),
            _mm256_and_si256(_mm256_srli_epi64::<14>(high), limb),
            _mm256_srli_epi64::<40>(high),
        ]
    }};
}

/// The products of numbers and a factor, in limbs that are to be carried.
macro_rules! product {
    ($x:expr, $factor:expr) => {{
        let ([x0, x1, x2, x3, x4], factor) = ($x, $factor);
        let ([r0, r1, r2, r3, r4], [s1, s2, s3, s4]) = (&factor.r, &factor.s);
        let d = [
            _mm256_mul_epu32(x0, *r0),
            _mm256_mul_epu32(x0, *r1),
            _mm256_mul_epu32(x0, *r2),
            _mm256_mul_epu32(x0, *r3),
            _mm256_mul_epu32(x0, *r4),
        ];
        let d = multiply_add!(d, x1, [s4, r0, r1, r2, r3]);
        let d = multiply_add!(d, x2, [s3, s4, r0, r1, r2]);
        let d = multiply_add!(d, x3, [s2, s3, s4, r0, r1]);
        multiply_add!(d, x4, [s1, s2, s3, s4, r0])
    }};
}

macro_rules! multiply_add {
    ($d:ident, $x:ident, [$f0:ident, $f1:ident, $f2:ident, $f3:ident, $f4:ident]) => {{
        let [d0, d1, d2, d3, d4] = $d;
        [
            _mm256_add_epi64(d0, _mm256_mul_epu32($x, *$f0)),
            _mm256_add_epi64(d1, _mm256_mul_epu32($x, *$f1)),
            _mm256_add_epi64(d2, _mm256_mul_epu32($x, *$f2)),
            _mm256_add_epi64(d3, _mm256_mul_epu32($x, *$f3)),
            _mm256_add_epi64(d4, _mm256_mul_epu32($x, *$f4)),
        ]
    }};
}

macro_rules! add {
    ($a:expr, $b:expr) => {{
        let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = ($a, $b);
        [
            _mm256_add_epi64(a0, b0),
            _mm256_add_epi64(a1, b1),
            _mm256_add_epi64(a2, b2),
            _mm256_add_epi64(a3, b3),
            _mm256_add_epi64(a4, b4),
        ]
    }};
}

/// Makes limbs of 26 bits; those after the first and the fourth may be a little above.
macro_rules! carry {
    ($d:expr) => {{
        let ([d0, d1, d2, d3, d4], limb) = ($d, _mm256_set1_epi64x(LIMB));
        // Two chains of carries: from the first limb, and from the fourth over the end.
        let (h3, d4) = carry_into!(d3, d4, limb);
        let (h0, d1) = carry_into!(d0, d1, limb);
        let over = _mm256_srli_epi64::<26>(d4);
        let h4 = _mm256_and_si256(d4, limb);
        let h0 = _mm256_add_epi64(h0, times_5!(over));
        let (h1, d2) = carry_into!(d1, d2, limb);
        let (h2, h3) = carry_into!(d2, h3, limb);
        let (h0, h1) = carry_into!(h0, h1, limb);
        let (h3, h4) = carry_into!(h3, h4, limb);
        [h0, h1, h2, h3, h4]
    }};
}

macro_rules! carry_into {
    ($low:expr, $high:expr, $limb:ident) => {{
        let low = $low;
        (
            _mm256_and_si256(low, $limb),
            _mm256_add_epi64($high, _mm256_srli_epi64::<26>(low)),
        )
    }};
}

macro_rules! times_5 {
    ($x:expr) => {{
        let x = $x;
        _mm256_add_epi64(x, _mm256_slli_epi64::<2>(x))
    }};
}

/// Absorbs two blocks into each sum, which is left to be carried.
///
/// LLVM multiplies in full where it does not see that the high halves are zero, and it does not see
/// that of what comes from another block of code. So carrying belongs to the next product.
macro_rules! step {
    ($sum:expr, $first:expr, $second:expr, $factors:expr) => {{
        let factors = $factors;
        let second = product!($second, &factors.second);
        let first = product!(add!(carry!($sum), $first), &factors.first);
        add!(first, second)
    }};
}

macro_rules! with_bit {
    ($limbs:expr, $bit:expr) => {{
        let [l0, l1, l2, l3, l4] = $limbs;
        [l0, l1, l2, l3, _mm256_or_si256(l4, $bit)]
    }};
}

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
    let apart = texts.iter().map(|text| Cost::of_one(blocks(text)));
    Cost::FOUR.of(longest.unwrap_or(0)) < apart.sum()
}

/// The tag of one text.
#[target_feature(enable = "avx2")]
#[inline]
fn one(key: &[u8; ROW], text: &[u8]) -> [u8; TAG_LEN] {
    let blocks = blocks(text);
    if Cost::LONG.of(blocks) < Cost::SCALAR.of(blocks) {
        long(key, text)
    } else {
        poly1305::tag(one_time(key).0, &[], text)
    }
}

/// How many cycles something takes on Zen 4.
struct Cost {
    once: usize,
    per_block: usize,
}

impl Cost {
    /// The scalar code, for one text.
    const SCALAR: Self = Self {
        once: 8,
        per_block: 14,
    };
    /// [`long`], for one text.
    const LONG: Self = Self {
        once: 350,
        per_block: 7,
    };
    /// [`four`], for as many texts, and the blocks of the longest.
    const FOUR: Self = Self {
        once: 345,
        per_block: 25,
    };

    #[inline]
    const fn of(&self, blocks: usize) -> usize {
        self.per_block
            .saturating_mul(blocks)
            .saturating_add(self.once)
    }

    #[inline]
    fn of_one(blocks: usize) -> usize {
        Self::SCALAR.of(blocks).min(Self::LONG.of(blocks))
    }
}

/// How many blocks are absorbed for a text, with that of the lengths.
#[inline]
const fn blocks(text: &[u8]) -> usize {
    text.len().div_ceil(16).wrapping_add(1)
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

/// What texts end with.
struct Ends<const N: usize> {
    /// Their last blocks, filled up with zero bytes.
    last: [Block; N],
    /// The bits of those: none of an empty text.
    bits: [u64; N],
    /// Their lengths, which are the high half of their last blocks.
    lengths: [u64; N],
}

impl<const N: usize> Ends<N> {
    /// Also the blocks before the last ones.
    #[inline]
    fn split<'a>(texts: [&'a [u8]; N]) -> (Self, [&'a [Block]; N]) {
        let mut ends = Self {
            last: [[0; 16]; N],
            bits: [0; N],
            lengths: [0; N],
        };
        let mut bodies: [&[Block]; N] = [&[]; N];
        let places = ends.last.iter_mut().zip(&mut ends.bits);
        let places = places.zip(&mut ends.lengths).zip(&mut bodies);
        for ((((last, bit), length), body), text) in places.zip(texts) {
            let (blocks, rest) = text.as_chunks();
            (*body, *bit) = match (blocks, rest) {
                ([], []) => (blocks, 0),
                ([body @ .., full], []) => {
                    *last = *full;
                    (body, BIT)
                }
                _ => {
                    for (byte, from) in last.iter_mut().zip(rest) {
                        *byte = *from;
                    }
                    (blocks, BIT)
                }
            };
            // No target has longer addresses.
            *length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        }
        (ends, bodies)
    }
}

/// A step's blocks of one text, of which the last ones are given, in backward order.
#[inline]
fn ending<'a>(blocks: impl Iterator<Item = Edge<'a>>) -> [[Edge<'a>; 4]; 2] {
    let mut edges = [[NOTHING; 4]; 2];
    for (place, block) in edges.as_flattened_mut().iter_mut().rev().zip(blocks) {
        *place = block;
    }
    edges
}

/// The bodies of four texts: what is in front, and then pairs of blocks, as many of each.
#[inline]
fn align(bodies: [&[Block]; 4]) -> ([&[Block]; 4], [&[[Block; 2]]; 4]) {
    let shortest = bodies.iter().map(|body| body.len()).min().unwrap_or(0);
    let common = shortest & !1;
    let parts = bodies.map(|body| {
        let start = body.len().wrapping_sub(common);
        body.split_at_checked(start).unwrap_or_default()
    });
    (
        parts.map(|part| part.0),
        parts.map(|part| part.1.as_chunks().0),
    )
}

#[inline]
fn longest(blocks: [&[Block]; 4]) -> usize {
    blocks.iter().map(|blocks| blocks.len()).max().unwrap_or(0)
}

/// The blocks that are `left` blocks before the end, as far as there are any.
#[inline]
fn before_end(blocks: [&[Block]; 4], left: usize) -> [Edge<'_>; 4] {
    blocks.map(|blocks| {
        let block = blocks.len().checked_sub(left).and_then(|at| blocks.get(at));
        block.map_or(NOTHING, full)
    })
}

#[inline]
const fn full(block: &Block) -> Edge<'_> {
    (block, BIT)
}

#[inline]
fn bits(edges: [Edge<'_>; 4]) -> [u64; 4] {
    edges.map(|edge| edge.1)
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

/// Empty sums, of which LLVM does not know that: it would move a part of carrying in front of the
/// loop, out of the block of code where `step` needs it.
#[target_feature(enable = "avx2")]
#[inline]
fn nothing() -> Limbs {
    black_box([_mm256_setzero_si256(); 5])
}

impl Factors {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn zero() -> Self {
        let zero = [_mm256_setzero_si256(); 5];
        Self {
            first: factor(zero),
            second: factor(zero),
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn factor(r: Limbs) -> Factor {
    let [_, r1, r2, r3, r4] = r;
    let s = [times_5!(r1), times_5!(r2), times_5!(r3), times_5!(r4)];
    Factor { r, s }
}

/// Four `r`, of four keys' first halves.
#[target_feature(enable = "avx2")]
#[inline]
fn clamp(r0: &Block, r1: &Block, r2: &Block, r3: &Block) -> Limbs {
    let (even, odd) = (load_pair(r0, r2), load_pair(r1, r3));
    let [low, high] = CLAMP;
    split!(
        _mm256_and_si256(_mm256_unpacklo_epi64(even, odd), _mm256_set1_epi64x(low)),
        _mm256_and_si256(_mm256_unpackhi_epi64(even, odd), _mm256_set1_epi64x(high))
    )
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

/// A block in the low half, and one in the high half.
#[target_feature(enable = "avx2")]
#[inline]
fn load_pair(low: &Block, high: &Block) -> __m256i {
    // SAFETY: references to 16 bytes each.
    unsafe { _mm256_loadu2_m128i(high.as_ptr().cast(), low.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(words: &[u64; 4]) -> __m256i {
    // SAFETY: a reference to 32 bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(vector: __m256i) -> [u64; 4] {
    let mut words = [0; 4];
    // SAFETY: 32 bytes that may be written.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}

#[cfg(test)]
mod tests;
