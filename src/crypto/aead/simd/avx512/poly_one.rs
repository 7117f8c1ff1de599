//! Poly1305 (RFC 8439, section 2.5) of one long text, its blocks taking turns over eight lanes.
//!
//! A lane steps over eight blocks at a time, so it multiplies by r^8, and two groups of eight go in one
//! step with r^16. At the last group every lane multiplies by the power that its block still lacks.
//! Groups are aligned at the end, where the block of lengths is: what is missing in front has the
//! value zero.

#![allow(unsafe_code, reason = "vector loads from a text of any alignment")]

use core::arch::x86_64::{
    __m512i, _mm_cvtsi128_si64, _mm512_and_si512, _mm512_broadcastq_epi64, _mm512_castsi512_si128,
    _mm512_cmpge_epu64_mask, _mm512_loadu_si512, _mm512_mask_blend_epi64, _mm512_maskz_loadu_epi8,
    _mm512_maskz_mov_epi64, _mm512_reduce_add_epi64, _mm512_set_epi64, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::super::TAG_LEN;
use super::super::text::ROW;
use super::Avx512;
use super::limbs::{BLOCK_END, Factor, Limbs, Sum};
use super::poly::{CLAMP, part};

/// Blocks of a group: one for each lane.
const GROUP: usize = 8;

/// Bytes of a group.
const GROUP_LEN: usize = GROUP * TAG_LEN;

/// The tag of `text` under the one-time key in the first 32 bytes of `key`.
#[inline]
pub(super) fn tag(token: Avx512, key: &[u8; ROW], text: &[u8]) -> [u8; TAG_LEN] {
    let (halves, _) = key.as_chunks::<8>();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(halves) {
        *word = u64::from_le_bytes(*bytes);
    }
    let [r_low, r_high, s_low, s_high] = words;
    // SAFETY: the token says that the processor has the features of the function.
    let (low, high) = unsafe { residue(token, r_low, r_high, text) };
    let wide = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
    wide(low, high)
        .wrapping_add(wide(s_low, s_high))
        .to_le_bytes()
}

/// Where the groups of a text lie.
#[derive(Clone, Copy)]
struct Groups<'t> {
    text: &'t [u8],
    /// How many blocks are missing in front.
    missing: usize,
    /// An odd number, so that but for the last they come in pairs.
    count: usize,
}

impl<'t> Groups<'t> {
    #[inline]
    fn new(text: &'t [u8]) -> Self {
        // One more for the lengths.
        let blocks = text.len().div_ceil(TAG_LEN).wrapping_add(1);
        let count = blocks.div_ceil(GROUP) | 1;
        Self {
            text,
            missing: count.wrapping_mul(GROUP).wrapping_sub(blocks),
            count,
        }
    }

    /// Whether a group is all text.
    #[inline]
    fn is_full(&self, group: usize) -> bool {
        let missing = self.missing.wrapping_mul(TAG_LEN);
        let at = group.wrapping_mul(GROUP_LEN);
        at >= missing && at.wrapping_add(GROUP_LEN).wrapping_sub(missing) <= self.text.len()
    }

    /// Which of the 64 bytes at `at`, counted from the first group's beginning, are text.
    #[inline]
    fn mask(&self, at: usize) -> u64 {
        let begin = self.missing.wrapping_mul(TAG_LEN);
        let end = begin.wrapping_add(self.text.len());
        let before = begin.saturating_sub(at);
        let after = at.wrapping_add(ROW).saturating_sub(end);
        shl(u64::MAX, before) & shr(u64::MAX, after)
    }

    #[inline]
    fn pointer(&self, at: usize) -> *const u8 {
        let missing = self.missing.wrapping_mul(TAG_LEN);
        self.text.as_ptr().wrapping_add(at).wrapping_sub(missing)
    }

    /// The blocks of a group.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn load(&self, group: usize) -> Limbs {
        let at = group.wrapping_mul(GROUP_LEN);
        let end = _mm512_set1_epi64(BLOCK_END);
        if self.is_full(group) {
            let first = self.pointer(at);
            // SAFETY: the group is full: 128 bytes from `first` on are text.
            let (a, b) = unsafe {
                (
                    _mm512_loadu_si512(first.cast()),
                    _mm512_loadu_si512(first.add(ROW).cast()),
                )
            };
            return Limbs::split(
                _mm512_unpacklo_epi64(a, b),
                _mm512_unpackhi_epi64(a, b),
                end,
            );
        }
        let (a, b) = (self.load_part(at), self.load_part(at.wrapping_add(ROW)));
        let (low, high) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        let number = i64::try_from(group.wrapping_mul(GROUP)).unwrap_or(0);
        let missing = i64::try_from(self.missing)
            .unwrap_or(0)
            .wrapping_sub(number);
        // Missing blocks are in front, so only the first groups lack the bit behind some.
        let begun = _mm512_cmpge_epu64_mask(places(), _mm512_set1_epi64(missing.max(0)));
        Limbs::split(low, high, _mm512_maskz_mov_epi64(begun, end))
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn load_part(&self, at: usize) -> __m512i {
        let mask = self.mask(at);
        let row = part(mask, self.pointer(at));
        // SAFETY: no byte is touched but those that the mask finds within the text.
        unsafe { _mm512_maskz_loadu_epi8(mask, row.cast()) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline(never)]
fn residue(_: Avx512, r_low: u64, r_high: u64, text: &[u8]) -> (u64, u64) {
    let groups = Groups::new(text);
    let [clamp_low, clamp_high] = CLAMP;
    let r = Factor::new(Limbs::split(
        _mm512_and_si512(
            _mm512_set1_epi64(r_low.cast_signed()),
            _mm512_set1_epi64(clamp_low),
        ),
        _mm512_and_si512(
            _mm512_set1_epi64(r_high.cast_signed()),
            _mm512_set1_epi64(clamp_high),
        ),
        _mm512_setzero_si512(),
    ));
    let powers = Powers::new(&r);
    let mut h = Limbs::zero();
    let mut group = 0;
    let last = groups.count.wrapping_sub(1);
    while group < last {
        let (first, second) = (groups.load(group), groups.load(group.wrapping_add(1)));
        let sum = Sum::zero().plus_product(second, &powers.r8);
        h = sum.plus_product(h.plus(first), &powers.r16).carry();
        group = group.wrapping_add(2);
    }
    let length = _mm512_set1_epi64(i64::try_from(text.len()).unwrap_or(i64::MAX));
    let lengths = _mm512_maskz_mov_epi64(LAST, length);
    let lengths = Limbs::split(_mm512_setzero_si512(), lengths, _mm512_setzero_si512());
    let h = h.plus(groups.load(last)).plus(lengths);
    let Limbs(h0, h1, h2) = h.times(&Factor::new(powers.each));
    let sum = Limbs(
        _mm512_set1_epi64(_mm512_reduce_add_epi64(h0)),
        _mm512_set1_epi64(_mm512_reduce_add_epi64(h1)),
        _mm512_set1_epi64(_mm512_reduce_add_epi64(h2)),
    );
    let (low, high) = sum.residue();
    (first_lane(low), first_lane(high))
}

/// The lane of a group's last block.
const LAST: u8 = 0b1000_0000;

/// Which block of a group each lane has: even and odd lanes come from one half each.
#[target_feature(enable = "avx512f")]
#[inline]
fn places() -> __m512i {
    _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn first_lane(x: __m512i) -> u64 {
    _mm_cvtsi128_si64(_mm512_castsi512_si128(x)).cast_unsigned()
}

/// Powers of r.
struct Powers {
    r8: Factor,
    r16: Factor,
    /// r^(8 - block) in the lane of that block.
    each: Limbs,
}

impl Powers {
    /// In four multiplications: lanes that are ahead wait, or compute another power meanwhile.
    #[target_feature(enable = "avx512f,avx512ifma")]
    #[inline]
    fn new(r: &Factor) -> Self {
        let r1 = r.limbs();
        let r2 = r1.times(r);
        // 2 2 1 1 2 2 1 1, times r^2 is 4 4 3 3 4 4 3 3, of which the lower half is wanted.
        let by_two = blend(0b0011_0011, r1, r2);
        let by_four = by_two.times(&Factor::new(r2));
        let r4 = broadcast(by_four);
        let by_half = blend(0b0000_1111, by_two, by_four);
        // 4 4 3 3 2 2 1 1, times r^4 is 8 8 7 7 6 6 5 5, of which the even lanes are wanted.
        let more = by_half.times(&Factor::new(r4));
        let r8 = broadcast(more);
        let r8_factor = Factor::new(r8);
        Self {
            r16: Factor::new(r8.times(&r8_factor)),
            r8: r8_factor,
            each: blend(0b0101_0101, by_half, more),
        }
    }
}

/// Lanes of `b` where the mask is set, of `a` elsewhere.
#[target_feature(enable = "avx512f")]
#[inline]
fn blend(mask: u8, a: Limbs, b: Limbs) -> Limbs {
    Limbs(
        _mm512_mask_blend_epi64(mask, a.0, b.0),
        _mm512_mask_blend_epi64(mask, a.1, b.1),
        _mm512_mask_blend_epi64(mask, a.2, b.2),
    )
}

/// The first lane in all lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn broadcast(x: Limbs) -> Limbs {
    Limbs(
        _mm512_broadcastq_epi64(_mm512_castsi512_si128(x.0)),
        _mm512_broadcastq_epi64(_mm512_castsi512_si128(x.1)),
        _mm512_broadcastq_epi64(_mm512_castsi512_si128(x.2)),
    )
}

/// Nothing is left of what is shifted by 64 or more.
#[inline]
fn shl(bits: u64, by: usize) -> u64 {
    u32::try_from(by)
        .ok()
        .and_then(|by| bits.checked_shl(by))
        .unwrap_or(0)
}

#[inline]
fn shr(bits: u64, by: usize) -> u64 {
    u32::try_from(by)
        .ok()
        .and_then(|by| bits.checked_shr(by))
        .unwrap_or(0)
}
