//! Numbers in five limbs of 26 bits, four of them side by side, modulo 2^130 - 5.
//!
//! What is used inside of loops are macros: as functions they would stay calls. They need the
//! intrinsics in scope where they are used.

use core::arch::x86_64::{
    __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_loadu_si256, _mm256_loadu2_m128i,
    _mm256_or_si256, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_slli_epi64,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};
use core::hint::black_box;

use super::blocks::Block;

pub(super) const LIMB: i64 = 0x3ff_ffff;

/// The bits of `r` that RFC 8439, section 2.5.1, leaves as they are: of its low and its high half.
const CLAMP: [i64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];

/// The limbs of four numbers, the least first.
pub(super) type Limbs = [__m256i; 5];

/// What numbers are multiplied by: limbs, and five times those but the first, which stand for them
/// where a product passes 2^130.
pub(super) struct Factor {
    pub(super) r: Limbs,
    pub(super) s: [__m256i; 4],
}

/// The factor of a step's first blocks, and of its second ones.
pub(super) struct Factors {
    pub(super) first: Factor,
    pub(super) second: Factor,
}

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

/// Four `r`, of four keys' first halves.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn clamp(r0: &Block, r1: &Block, r2: &Block, r3: &Block) -> Limbs {
    let (even, odd) = (load_pair(r0, r2), load_pair(r1, r3));
    let [low, high] = CLAMP;
    split!(
        _mm256_and_si256(_mm256_unpacklo_epi64(even, odd), _mm256_set1_epi64x(low)),
        _mm256_and_si256(_mm256_unpackhi_epi64(even, odd), _mm256_set1_epi64x(high))
    )
}

/// Empty sums, of which LLVM does not know that: it would move a part of carrying in front of the
/// loop, out of the block of code where `step` needs it.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn nothing() -> Limbs {
    black_box([_mm256_setzero_si256(); 5])
}

/// A block in the low half, and one in the high half.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_pair(low: &Block, high: &Block) -> __m256i {
    // SAFETY: references to 16 bytes each.
    unsafe { _mm256_loadu2_m128i(high.as_ptr().cast(), low.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load(words: &[u64; 4]) -> __m256i {
    // SAFETY: a reference to 32 bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store(vector: __m256i) -> [u64; 4] {
    let mut words = [0; 4];
    // SAFETY: 32 bytes that may be written.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) };
    words
}

impl Factors {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn zero() -> Self {
        let zero = [_mm256_setzero_si256(); 5];
        Self {
            first: factor(zero),
            second: factor(zero),
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn factor(r: Limbs) -> Factor {
    let [_, r1, r2, r3, r4] = r;
    let s = [times_5!(r1), times_5!(r2), times_5!(r3), times_5!(r4)];
    Factor { r, s }
}
