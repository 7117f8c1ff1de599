//! Arithmetic modulo 2^130 - 5 on eight values side by side, in limbs of 44, 44 and 42 bits.
//!
//! The multiplier takes 52 bits and gives the low or the high 52 of a product, so a limb has room
//! for the carries that are put off: [`Sum`] collects products of limbs, and is carried once.
//! Everything here runs the same instructions whatever the values are.

use core::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_mask_blend_epi64, _mm512_or_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_srli_epi64, _mm512_ternarylogic_epi64, _mm512_test_epi64_mask,
};

const MASK_44: i64 = (1 << 44) - 1;
const MASK_42: i64 = (1 << 42) - 1;

/// 2^128 in the highest limb: the bit that Poly1305 puts behind every whole block.
pub(super) const BLOCK_END: i64 = 1 << 40;

/// A value: each limb may pass its size by a few bits.
#[derive(Clone, Copy)]
pub(super) struct Limbs(pub(super) __m512i, pub(super) __m512i, pub(super) __m512i);

/// A factor: the limbs, and 20 times the two higher ones, for what passes 2^132.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    r: Limbs,
    r1_20: __m512i,
    r2_20: __m512i,
}

/// A sum of products before it is carried: the low and the high 52 bits of each.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    low: Limbs,
    high: Limbs,
}

impl Limbs {
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn zero() -> Self {
        let zero = _mm512_setzero_si512();
        Self(zero, zero, zero)
    }

    /// Splits 128 bits, and sets the bit behind them where `end` has [`BLOCK_END`].
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn split(low: __m512i, high: __m512i, end: __m512i) -> Self {
        let mask = _mm512_set1_epi64(MASK_44);
        let middle_low = _mm512_srli_epi64::<44>(low);
        let middle_high = _mm512_slli_epi64::<20>(high);
        Self(
            _mm512_and_si512(low, mask),
            // (a | b) & c
            _mm512_ternarylogic_epi64::<0xa8>(middle_low, middle_high, mask),
            _mm512_or_si512(_mm512_srli_epi64::<24>(high), end),
        )
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn plus(self, other: Self) -> Self {
        Self(
            _mm512_add_epi64(self.0, other.0),
            _mm512_add_epi64(self.1, other.1),
            _mm512_add_epi64(self.2, other.2),
        )
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn times(self, factor: &Factor) -> Self {
        Sum::zero().plus_product(self, factor).carry()
    }

    /// The value modulo 2^130 - 5, and of that the low 128 bits, in two halves.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn residue(self) -> (__m512i, __m512i) {
        let (mask_44, mask_42) = (_mm512_set1_epi64(MASK_44), _mm512_set1_epi64(MASK_42));
        let Self(h0, h1, h2) = self.carried().carried();
        // The value is below 2^130. If adding 5 passes that, it was at least 2^130 - 5.
        let g0 = _mm512_add_epi64(h0, _mm512_set1_epi64(5));
        let g1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<44>(g0));
        let g2 = _mm512_add_epi64(h2, _mm512_srli_epi64::<44>(g1));
        let passes = _mm512_test_epi64_mask(g2, _mm512_set1_epi64(1 << 42));
        let h0 = _mm512_mask_blend_epi64(passes, h0, _mm512_and_si512(g0, mask_44));
        let h1 = _mm512_mask_blend_epi64(passes, h1, _mm512_and_si512(g1, mask_44));
        let h2 = _mm512_mask_blend_epi64(passes, h2, _mm512_and_si512(g2, mask_42));
        (
            _mm512_or_si512(h0, _mm512_slli_epi64::<44>(h1)),
            _mm512_or_si512(_mm512_srli_epi64::<20>(h1), _mm512_slli_epi64::<24>(h2)),
        )
    }

    /// Carries from the lowest limb through the highest and back into the lowest.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn carried(self) -> Self {
        let (mask_44, mask_42) = (_mm512_set1_epi64(MASK_44), _mm512_set1_epi64(MASK_42));
        let h1 = _mm512_add_epi64(self.1, _mm512_srli_epi64::<44>(self.0));
        let h2 = _mm512_add_epi64(self.2, _mm512_srli_epi64::<44>(h1));
        let h0 = _mm512_and_si512(self.0, mask_44);
        Self(
            _mm512_add_epi64(h0, five_times(_mm512_srli_epi64::<42>(h2))),
            _mm512_and_si512(h1, mask_44),
            _mm512_and_si512(h2, mask_42),
        )
    }
}

impl Factor {
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn new(r: Limbs) -> Self {
        Self {
            r,
            r1_20: _mm512_slli_epi64::<2>(five_times(r.1)),
            r2_20: _mm512_slli_epi64::<2>(five_times(r.2)),
        }
    }

    pub(super) const fn limbs(&self) -> Limbs {
        self.r
    }
}

impl Sum {
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn zero() -> Self {
        Self {
            low: Limbs::zero(),
            high: Limbs::zero(),
        }
    }

    /// Adds the product of `h`, whose limbs have at most 52 bits, with `factor`.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    pub(super) fn plus_product(self, h: Limbs, factor: &Factor) -> Self {
        let Limbs(r0, r1, r2) = factor.r;
        let (s1, s2) = (factor.r1_20, factor.r2_20);
        let Limbs(mut low0, mut low1, mut low2) = self.low;
        let Limbs(mut high0, mut high1, mut high2) = self.high;
        low0 = _mm512_madd52lo_epu64(low0, h.2, s1);
        high0 = _mm512_madd52hi_epu64(high0, h.2, s1);
        low1 = _mm512_madd52lo_epu64(low1, h.2, s2);
        high1 = _mm512_madd52hi_epu64(high1, h.2, s2);
        low2 = _mm512_madd52lo_epu64(low2, h.2, r0);
        high2 = _mm512_madd52hi_epu64(high2, h.2, r0);
        low0 = _mm512_madd52lo_epu64(low0, h.0, r0);
        high0 = _mm512_madd52hi_epu64(high0, h.0, r0);
        low1 = _mm512_madd52lo_epu64(low1, h.0, r1);
        high1 = _mm512_madd52hi_epu64(high1, h.0, r1);
        low2 = _mm512_madd52lo_epu64(low2, h.0, r2);
        high2 = _mm512_madd52hi_epu64(high2, h.0, r2);
        low0 = _mm512_madd52lo_epu64(low0, h.1, s2);
        high0 = _mm512_madd52hi_epu64(high0, h.1, s2);
        low1 = _mm512_madd52lo_epu64(low1, h.1, r0);
        high1 = _mm512_madd52hi_epu64(high1, h.1, r0);
        low2 = _mm512_madd52lo_epu64(low2, h.1, r1);
        high2 = _mm512_madd52hi_epu64(high2, h.1, r1);
        Self {
            low: Limbs(low0, low1, low2),
            high: Limbs(high0, high1, high2),
        }
    }

    /// The sum, its middle limb at most 44 bits and a little, the others 44 and 42.
    ///
    /// High parts count 2^52, which is 2^8 above the next limb of 44 bits and 2^10 above that of 42.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) fn carry(self) -> Limbs {
        let (mask_44, mask_42) = (_mm512_set1_epi64(MASK_44), _mm512_set1_epi64(MASK_42));
        let Self { low, high } = self;
        let to_1 = _mm512_add_epi64(low.1, _mm512_slli_epi64::<8>(high.0));
        let to_2 = _mm512_add_epi64(low.2, _mm512_slli_epi64::<8>(high.1));
        let d1 = _mm512_add_epi64(to_1, _mm512_srli_epi64::<44>(low.0));
        let d2 = _mm512_add_epi64(to_2, _mm512_srli_epi64::<44>(d1));
        let over = _mm512_add_epi64(_mm512_slli_epi64::<10>(high.2), _mm512_srli_epi64::<42>(d2));
        let d0 = _mm512_add_epi64(_mm512_and_si512(low.0, mask_44), five_times(over));
        let h1 = _mm512_and_si512(d1, mask_44);
        Limbs(
            _mm512_and_si512(d0, mask_44),
            _mm512_add_epi64(h1, _mm512_srli_epi64::<44>(d0)),
            _mm512_and_si512(d2, mask_42),
        )
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn five_times(x: __m512i) -> __m512i {
    _mm512_add_epi64(x, _mm512_slli_epi64::<2>(x))
}
