//! Poly1305 (RFC 8439, section 2.5) of eight texts side by side, a lane each.
//!
//! Lanes end together: a shorter text begins later, and until then its value is zero and stays so.
//! So no power of a key is needed but the square, by which two blocks are taken in one step. What a
//! group of packets costs is what the longest costs.

#![allow(unsafe_code, reason = "vector loads from texts of any alignment")]
#![allow(
    clippy::large_types_passed_by_value,
    clippy::many_single_char_names,
    clippy::similar_names,
    reason = "vectors that stay in registers, and are numbered"
)]

use core::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpge_epu64_mask, _mm512_cmplt_epu64_mask,
    _mm512_loadu_si512, _mm512_mask_add_epi64, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_storeu_si512,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::super::TAG_LEN;
use super::super::cost::{Cost, blocks};
use super::super::poly1305;
use super::super::text::ROW;
use super::limbs::{BLOCK_END, Factor, Limbs, Sum};
use super::{Avx512, poly_one};

/// How many texts go side by side.
const SIDE_BY_SIDE: usize = 8;

/// [`tags_of_lanes`], for eight texts or fewer, and the blocks of the longest. So texts of 64 bytes
/// go side by side from seven on, of 256 from four, of 1420 from six.
const LANES: Cost = Cost {
    once: 320,
    per_block: 30,
};

/// [`poly_one`], for one text: worth it from 321 bytes on.
const ONE: Cost = Cost {
    once: 220,
    per_block: 4,
};

/// The bits of r that may be set, in two halves.
pub(super) const CLAMP: [i64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];

#[inline]
pub(super) fn tags(token: Avx512, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
    let groups = keys.chunks(SIDE_BY_SIDE).zip(texts.chunks(SIDE_BY_SIDE));
    for ((keys, texts), tags) in groups.zip(tags.chunks_mut(SIDE_BY_SIDE)) {
        if !is_side_by_side(texts) {
            for ((key, text), tag) in keys.iter().zip(texts).zip(tags) {
                *tag = tag_of_one(token, key, text);
            }
        } else if let ([key, ..], [text, ..]) = (keys, texts) {
            let mut lanes = Lanes::all(key, text);
            lanes.fill(keys, texts);
            // SAFETY: the token says that the processor has the features of the function.
            let (lows, highs) = unsafe { tags_of_lanes(token, &lanes) };
            for ((tag, low), high) in tags.iter_mut().zip(&lows).zip(&highs) {
                *tag = (u128::from(*low) | u128::from(*high) << 64).to_le_bytes();
            }
        }
    }
}

#[inline]
fn tag_of_one(token: Avx512, key: &[u8; ROW], text: &[u8]) -> [u8; TAG_LEN] {
    let blocks = blocks(text);
    match key.first_chunk() {
        Some(key) if Cost::SCALAR.of(blocks) < ONE.of(blocks) => poly1305::tag(key, &[], text),
        _ => poly_one::tag(token, key, text),
    }
}

/// Whether the vectors are full of texts of one size. Mostly so.
#[inline]
fn are_alike(texts: &[&[u8]]) -> bool {
    let mut lengths = texts.iter().map(|text| text.len());
    let first = lengths.next();
    texts.len() == SIDE_BY_SIDE && lengths.all(|length| Some(length) == first)
}

#[inline]
fn is_side_by_side(texts: &[&[u8]]) -> bool {
    are_alike(texts) || cost_side_by_side(texts) <= cost_apart(texts)
}

#[inline]
fn cost_apart(texts: &[&[u8]]) -> usize {
    let each = texts.iter().map(|text| blocks(text));
    each.map(|blocks| Cost::SCALAR.of(blocks).min(ONE.of(blocks)))
        .sum()
}

#[inline]
fn cost_side_by_side(texts: &[&[u8]]) -> usize {
    LANES.of(texts.iter().map(|text| blocks(text)).max().unwrap_or(0))
}

/// What lies in each lane. Lanes without a text repeat the first.
struct Lanes<'t> {
    keys: [&'t [u8; ROW]; SIDE_BY_SIDE],
    texts: [&'t [u8]; SIDE_BY_SIDE],
    /// The number of the first block of each text, so that all end together.
    starts: [u64; SIDE_BY_SIDE],
    lengths: [u64; SIDE_BY_SIDE],
    /// How many groups of four blocks there are, and which of them every text fills.
    groups: usize,
    full: core::ops::Range<usize>,
}

impl<'t> Lanes<'t> {
    /// One text in every lane.
    #[inline]
    const fn all(key: &'t [u8; ROW], text: &'t [u8]) -> Self {
        Self {
            keys: [key; SIDE_BY_SIDE],
            texts: [text; SIDE_BY_SIDE],
            starts: [0; SIDE_BY_SIDE],
            lengths: [0; SIDE_BY_SIDE],
            groups: 0,
            full: 0..0,
        }
    }

    /// Gives each text a lane, from the first on.
    #[inline]
    fn fill(&mut self, keys: &'t [[u8; ROW]], texts: &[&'t [u8]]) {
        for (place, key) in self.keys.iter_mut().zip(keys) {
            *place = key;
        }
        for (place, text) in self.texts.iter_mut().zip(texts) {
            *place = text;
        }
        let groups = self.texts.iter().map(|text| text.len().div_ceil(ROW));
        self.groups = groups.max().unwrap_or(0);
        let blocks = self.groups.saturating_mul(4);
        let mut latest = 0;
        let mut all_whole = true;
        let places = self.starts.iter_mut().zip(&mut self.lengths);
        for (text, (start, length)) in self.texts.iter().zip(places) {
            let first = blocks.saturating_sub(text.len().div_ceil(TAG_LEN));
            latest = latest.max(first);
            all_whole &= text.len().is_multiple_of(TAG_LEN);
            *start = u64::try_from(first).unwrap_or(u64::MAX);
            *length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        }
        let end = self.groups.saturating_sub(usize::from(!all_whole));
        self.full = latest.div_ceil(4)..end;
    }

    /// Where the first group of each text would begin if all were as long as the longest.
    #[inline]
    fn origins(&self) -> [*const u8; SIDE_BY_SIDE] {
        let mut origins = [core::ptr::null(); SIDE_BY_SIDE];
        for (origin, (text, start)) in origins.iter_mut().zip(self.texts.iter().zip(self.starts)) {
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            *origin = text.as_ptr().wrapping_sub(start.wrapping_mul(TAG_LEN));
        }
        origins
    }

    /// Which of the 64 bytes of a group belong to each text.
    #[inline]
    fn masks(&self, group: usize) -> [u64; SIDE_BY_SIDE] {
        let mut masks = [0; SIDE_BY_SIDE];
        let places = self.texts.iter().zip(self.starts);
        for (mask, (text, start)) in masks.iter_mut().zip(places) {
            let start = usize::try_from(start)
                .unwrap_or(usize::MAX)
                .wrapping_mul(TAG_LEN);
            let (at, end) = (group.wrapping_mul(ROW), start.wrapping_add(text.len()));
            let before = start.saturating_sub(at);
            let after = at.wrapping_add(ROW).saturating_sub(end);
            *mask = shifted(u64::MAX, before, u64::checked_shl)
                & shifted(u64::MAX, after, u64::checked_shr);
        }
        masks
    }
}

/// Nothing is left of what is shifted by 64 or more.
#[inline]
fn shifted(bits: u64, by: usize, shift: impl Fn(u64, u32) -> Option<u64>) -> u64 {
    u32::try_from(by)
        .ok()
        .and_then(|by| shift(bits, by))
        .unwrap_or(0)
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline(never)]
fn tags_of_lanes(_: Avx512, lanes: &Lanes<'_>) -> ([u64; SIDE_BY_SIDE], [u64; SIDE_BY_SIDE]) {
    let [k0, k1, k2, k3, k4, k5, k6, k7] = lanes.keys;
    let [r_low, r_high, s_low, s_high, ..] = transpose([
        load(k0),
        load(k1),
        load(k2),
        load(k3),
        load(k4),
        load(k5),
        load(k6),
        load(k7),
    ]);
    let [clamp_low, clamp_high] = CLAMP;
    let r = Factor::new(Limbs::split(
        _mm512_and_si512(r_low, _mm512_set1_epi64(clamp_low)),
        _mm512_and_si512(r_high, _mm512_set1_epi64(clamp_high)),
        _mm512_setzero_si512(),
    ));
    let r_squared = Factor::new(r.limbs().times(&r));
    let h = absorb(lanes, &r, &r_squared);

    let lengths = load_words(&lanes.lengths);
    let end = _mm512_set1_epi64(BLOCK_END);
    let last = Limbs::split(_mm512_setzero_si512(), lengths, end);
    let (low, high) = h.plus(last).times(&r).residue();
    let tag_low = _mm512_add_epi64(low, s_low);
    let carry = _mm512_cmplt_epu64_mask(tag_low, low);
    let tag_high = _mm512_add_epi64(high, s_high);
    let one = _mm512_set1_epi64(1);
    let tag_high = _mm512_mask_add_epi64(tag_high, carry, tag_high, one);
    (store_words(tag_low), store_words(tag_high))
}

/// The value after all blocks of all texts.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
#[inline]
fn absorb(lanes: &Lanes<'_>, r: &Factor, r_squared: &Factor) -> Limbs {
    let end = _mm512_set1_epi64(BLOCK_END);
    let starts = load_words(&lanes.starts);
    let origins = lanes.origins();
    let mut h = Limbs::zero();
    for group in 0..lanes.groups {
        let at = group.wrapping_mul(ROW);
        let (rows, ends) = if lanes.full.contains(&group) {
            (load_full(&origins, at), [end; 4])
        } else {
            let first = _mm512_set1_epi64(i64::try_from(group).unwrap_or(0).wrapping_mul(4));
            (
                load_part(&origins, at, &lanes.masks(group)),
                ends_from(first, starts),
            )
        };
        let [low0, high0, low1, high1, low2, high2, low3, high3] = transpose(rows);
        let [end0, end1, end2, end3] = ends;
        let (b0, b1) = (
            Limbs::split(low0, high0, end0),
            Limbs::split(low1, high1, end1),
        );
        let sum = Sum::zero().plus_product(b1, r);
        h = sum.plus_product(h.plus(b0), r_squared).carry();
        let (b2, b3) = (
            Limbs::split(low2, high2, end2),
            Limbs::split(low3, high3, end3),
        );
        let sum = Sum::zero().plus_product(b3, r);
        h = sum.plus_product(h.plus(b2), r_squared).carry();
    }
    h
}

/// The bit behind each of four blocks, in the lanes whose text has begun.
#[target_feature(enable = "avx512f")]
#[inline]
fn ends_from(first: __m512i, starts: __m512i) -> [__m512i; 4] {
    let end = _mm512_set1_epi64(BLOCK_END);
    let one = _mm512_set1_epi64(1);
    let second = _mm512_add_epi64(first, one);
    let third = _mm512_add_epi64(second, one);
    let fourth = _mm512_add_epi64(third, one);
    [
        _mm512_maskz_mov_epi64(_mm512_cmpge_epu64_mask(first, starts), end),
        _mm512_maskz_mov_epi64(_mm512_cmpge_epu64_mask(second, starts), end),
        _mm512_maskz_mov_epi64(_mm512_cmpge_epu64_mask(third, starts), end),
        _mm512_maskz_mov_epi64(_mm512_cmpge_epu64_mask(fourth, starts), end),
    ]
}

macro_rules! each_origin {
    ($origins:ident, $origin:ident => $load:expr) => {{
        let [o0, o1, o2, o3, o4, o5, o6, o7] = *$origins;
        [
            {
                let $origin = o0;
                $load
            },
            {
                let $origin = o1;
                $load
            },
            {
                let $origin = o2;
                $load
            },
            {
                let $origin = o3;
                $load
            },
            {
                let $origin = o4;
                $load
            },
            {
                let $origin = o5;
                $load
            },
            {
                let $origin = o6;
                $load
            },
            {
                let $origin = o7;
                $load
            },
        ]
    }};
}

/// The 64 bytes of each text at `at`, which all texts must have.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_full(origins: &[*const u8; SIDE_BY_SIDE], at: usize) -> [__m512i; SIDE_BY_SIDE] {
    // SAFETY: called for the groups of `Lanes::full`, which lie within every text.
    each_origin!(origins, origin => unsafe { _mm512_loadu_si512(origin.wrapping_add(at).cast()) })
}

/// The bytes at `at` that the masks select, which must be within the texts.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn load_part(
    origins: &[*const u8; SIDE_BY_SIDE],
    at: usize,
    masks: &[u64; SIDE_BY_SIDE],
) -> [__m512i; SIDE_BY_SIDE] {
    let mut masks = masks.iter();
    each_origin!(origins, origin => {
        let mask = masks.next().copied().unwrap_or(0);
        let row = part(mask, origin.wrapping_add(at));
        // SAFETY: no byte is touched but those that `Lanes::masks` found within its text.
        unsafe { _mm512_maskz_loadu_epi8(mask, row.cast()) }
    })
}

/// Where to load with a mask. Where nothing is to be loaded there may be no memory: that does no
/// harm, but takes the processor a hundred times longer to find out.
#[inline]
pub(super) fn part(mask: u64, row: *const u8) -> *const u8 {
    static NOTHING: [u8; ROW] = [0; ROW];
    if mask == 0 { NOTHING.as_ptr() } else { row }
}

/// Transposes 8 by 8 words: eight texts' 64 bytes become the words of eight lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(rows: [__m512i; SIDE_BY_SIDE]) -> [__m512i; SIDE_BY_SIDE] {
    let [a, b, c, d, e, f, g, h] = rows;
    let [w0, w2, w4, w6] = transpose_pairs(
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpacklo_epi64(e, f),
        _mm512_unpacklo_epi64(g, h),
    );
    let [w1, w3, w5, w7] = transpose_pairs(
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpackhi_epi64(c, d),
        _mm512_unpackhi_epi64(e, f),
        _mm512_unpackhi_epi64(g, h),
    );
    [w0, w1, w2, w3, w4, w5, w6, w7]
}

/// Transposes 4 by 4 pieces of 128 bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose_pairs(ab: __m512i, cd: __m512i, ef: __m512i, gh: __m512i) -> [__m512i; 4] {
    let (even_abcd, even_efgh) = (
        _mm512_shuffle_i64x2::<0x88>(ab, cd),
        _mm512_shuffle_i64x2::<0x88>(ef, gh),
    );
    let (odd_abcd, odd_efgh) = (
        _mm512_shuffle_i64x2::<0xdd>(ab, cd),
        _mm512_shuffle_i64x2::<0xdd>(ef, gh),
    );
    [
        _mm512_shuffle_i64x2::<0x88>(even_abcd, even_efgh),
        _mm512_shuffle_i64x2::<0x88>(odd_abcd, odd_efgh),
        _mm512_shuffle_i64x2::<0xdd>(even_abcd, even_efgh),
        _mm512_shuffle_i64x2::<0xdd>(odd_abcd, odd_efgh),
    ]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(row: &[u8; ROW]) -> __m512i {
    // SAFETY: a row has 64 bytes.
    unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load_words(words: &[u64; 8]) -> __m512i {
    // SAFETY: 8 words are 64 bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_words(words: __m512i) -> [u64; 8] {
    let mut stored = [0; 8];
    // SAFETY: 8 words are 64 bytes.
    unsafe { _mm512_storeu_si512(stored.as_mut_ptr().cast(), words) }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn pays(lengths: &[usize]) -> bool {
        let text = vec![0; 65_535];
        let texts: Vec<_> = lengths.iter().map(|len| &text[..*len]).collect();
        is_side_by_side(&texts)
    }

    /// A long message among short ones would take as long as eight long ones: whoever sends the worst
    /// lengths must not make a batch slower than its parts.
    #[test]
    fn texts_too_different_go_one_by_one() {
        for long in [1420, 9000, 65_535] {
            assert!(!pays(&[long, 0, 0]));
            assert!(!pays(&[long, 0, 0, 0, 0, 0, 0, 0]));
        }
        let one_jumbo = [65_535, 2048, 2048, 2048, 2048, 2048, 2048, 2048];
        assert!(!pays(&one_jumbo));
        // Texts come in the order of their sizes, but that is coarse.
        let one_inside = [2048, 65_535, 2048, 2048, 2048, 2048, 2048, 2048];
        assert!(!pays(&one_inside));
        for alike in [64, 256, 576, 1420, 1500] {
            assert!(pays(&[alike; 8]));
        }
    }

    #[test]
    fn rows_without_text_lead_nowhere_else() {
        let texts: [&[u8]; 3] = [&[1; 300], &[], &[2; 70]];
        let keys = [[0; ROW]; 3];
        let mut lanes = Lanes::all(&keys[0], texts[0]);
        lanes.fill(&keys, &texts);
        for group in 0..lanes.groups {
            let rows = lanes.origins().into_iter().zip(lanes.masks(group));
            for ((origin, mask), text) in rows.zip(lanes.texts) {
                let origin = origin.wrapping_add(group * ROW);
                let row = part(mask, origin);
                let is_inside = |byte: u32| {
                    let byte = row.wrapping_add(usize::try_from(byte).unwrap());
                    text.as_ptr_range().contains(&byte)
                };
                if mask == 0 {
                    assert_ne!(row, origin);
                } else {
                    assert!(is_inside(mask.trailing_zeros()) && is_inside(mask.ilog2()));
                }
            }
        }
    }
}
