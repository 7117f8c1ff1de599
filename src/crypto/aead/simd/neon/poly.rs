//! Poly1305 (RFC 8439, section 2.5), the tags of four texts at a time.
//!
//! A vector holds a limb of 26 bits of each text's running value, so that an instruction makes a
//! product for two texts. A block of each of four takes 118 instructions, 50 of them multiplications.
//! That is as many as the scalar code needs (120, 40 of them multiplications), but the scalar ones
//! multiply words of 64 bits, for which a Cortex-A72 takes three or four cycles each. By the models
//! of processors in LLVM these four blocks take half the scalar time on the large cores of Apple, two
//! thirds to nearly all of it on others, and a seventh more on a `ThunderX2`. It has not been measured
//! on hardware.
//!
//! Texts are aligned at their ends. A shorter one waits: nothing, times `r`, is nothing.

#![allow(unsafe_code, reason = "blocks are read through pointers")]
#![allow(clippy::wildcard_imports, reason = "the names of the instructions")]

use core::arch::aarch64::*;
use core::slice;

use super::super::TAG_LEN;
use super::super::text::ROW;
use super::chacha::{load, transpose};

type Block = [u8; 16];

/// A limb of four texts each.
type Limbs = [uint32x4_t; 5];

/// Whether a text may have idle lanes beside it: as long as the four keep three lanes busy.
pub(super) fn pays(texts: &[&[u8]; 4]) -> bool {
    let blocks = texts.map(|text| text.len().div_ceil(size_of::<Block>()).saturating_add(1));
    let sum = blocks
        .iter()
        .fold(0, |sum: usize, blocks| sum.saturating_add(*blocks));
    blocks.iter().all(|blocks| blocks.saturating_mul(3) <= sum)
}

/// Computes the tags of texts, without associated data, under the keys that start the rows.
#[target_feature(enable = "neon")]
pub(super) fn tags(keys: &[[u8; ROW]; 4], texts: &[&[u8]; 4], tags: &mut [[u8; TAG_LEN]; 4]) {
    let lanes = texts.map(Lane::new);
    let lengths = lanes.each_ref().map(|lane| lane.blocks.len());
    let shortest = lengths.into_iter().min().unwrap_or(0);
    let longest = lengths.into_iter().max().unwrap_or(0);

    let mut state = State::new(keys);
    for from_end in (shortest..longest).rev() {
        state.absorb_some(
            lanes
                .each_ref()
                .map(|lane| lane.blocks.iter().rev().nth(from_end)),
        );
    }
    state.absorb(
        lanes.each_ref().map(|lane| tail(lane.blocks, shortest)),
        vdupq_n_u32(PAD),
    );
    state.absorb_some(lanes.each_ref().map(|lane| lane.last.as_ref()));
    state.absorb_some(lanes.each_ref().map(|lane| Some(&lane.lengths)));
    for ((tag, sum), row) in tags.iter_mut().zip(state.residues()).zip(keys) {
        if let [_, s, ..] = row.as_chunks().0 {
            *tag = sum.wrapping_add(u128::from_le_bytes(*s)).to_le_bytes();
        }
    }
}

/// The last `count` blocks.
#[inline]
fn tail(blocks: &[Block], count: usize) -> &[Block] {
    let at = blocks.len().saturating_sub(count);
    blocks.get(at..).unwrap_or_default()
}

/// What is absorbed of a text: its blocks, the last of which may be filled up, and its length.
struct Lane<'a> {
    blocks: &'a [Block],
    last: Option<Block>,
    lengths: Block,
}

impl<'a> Lane<'a> {
    #[inline]
    fn new(text: &'a [u8]) -> Self {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let lengths = (u128::from(length) << 64).to_le_bytes();
        let (mut blocks, rest) = text.as_chunks();
        let last = if rest.is_empty() {
            blocks.split_last().map(|(last, before)| {
                blocks = before;
                *last
            })
        } else {
            let mut last = [0; 16];
            for (byte, from) in last.iter_mut().zip(rest) {
                *byte = *from;
            }
            Some(last)
        };
        Self {
            blocks,
            last,
            lengths,
        }
    }
}

/// 2^128, as a part of its limb: each block has it.
const PAD: u32 = 1 << 24;

const LIMB: u32 = (1 << 26) - 1;

/// The running values of four texts, erased on drop.
struct State {
    /// Below 2^26 and a few more.
    h: Limbs,
    r: Limbs,
    /// Limbs 1 to 4 of `r`, times 5.
    s: [uint32x4_t; 4],
}

/// `low` and `high` become the sums of products of texts 0 and 1, and of texts 2 and 3.
macro_rules! sum_of_products {
    ($low:ident $high:ident = $a:ident $b:ident $(+ $c:ident $d:ident)+) => {
        let mut $low = vmull_u32(vget_low_u32($a), vget_low_u32($b));
        let mut $high = vmull_high_u32($a, $b);
        $(
            $low = vmlal_u32($low, vget_low_u32($c), vget_low_u32($d));
            $high = vmlal_high_u32($high, $c, $d);
        )+
    };
}

/// Adds what overflows a limb's sum to that of the next.
macro_rules! carry {
    ($low:ident $high:ident -> $next_low:ident $next_high:ident) => {
        $next_low = vsraq_n_u64::<26>($next_low, $low);
        $next_high = vsraq_n_u64::<26>($next_high, $high);
    };
}

/// What overflows a limb's sum.
macro_rules! overflow {
    ($low:ident $high:ident) => {
        vshrn_high_n_u64::<26>(vshrn_n_u64::<26>($low), $high)
    };
}

/// What does not overflow it.
macro_rules! limb {
    ($low:ident $high:ident) => {
        vandq_u32(
            vuzp1q_u32(vreinterpretq_u32_u64($low), vreinterpretq_u32_u64($high)),
            vdupq_n_u32(LIMB),
        )
    };
}

impl State {
    #[target_feature(enable = "neon")]
    fn new(keys: &[[u8; ROW]; 4]) -> Self {
        let clamp = |words: [uint32x4_t; 4]| {
            let [first, rest @ ..] = words;
            let [a, b, c] = rest.map(|word| vandq_u32(word, vdupq_n_u32(0x0fff_fffc)));
            [vandq_u32(first, vdupq_n_u32(0x0fff_ffff)), a, b, c]
        };
        let r = keys
            .each_ref()
            .map(|row| load_block(row.first_chunk().unwrap_or(&[0; 16])));
        let r = limbs(clamp(transpose(r)));
        let [_, rest @ ..] = r;
        Self {
            h: [vdupq_n_u32(0); 5],
            r,
            s: rest.map(|limb| vmulq_n_u32(limb, 5)),
        }
    }

    /// Absorbs a block each, where there is one.
    #[target_feature(enable = "neon")]
    fn absorb_some(&mut self, blocks: [Option<&Block>; 4]) {
        let pad = blocks.map(|block| if block.is_some() { PAD } else { 0 });
        let blocks = blocks.map(|block| slice::from_ref(block.unwrap_or(&[0; 16])));
        self.absorb(blocks, load(&pad));
    }

    /// Absorbs as many blocks of each text.
    ///
    /// A limb of `r` is below 2^26 and the last below 2^20; a limb of `h` and a block's together are
    /// little more than 2^27. So sums of products are below 2^58, the last below 2^55.1: what
    /// overflows that one has room in 32 bits also when it is multiplied by 5.
    #[target_feature(enable = "neon")]
    #[inline(never)]
    fn absorb(&mut self, texts: [&[Block]; 4], pad: uint32x4_t) {
        let [mut h0, mut h1, mut h2, mut h3, mut h4] = self.h;
        let ([r0, r1, r2, r3, r4], [s1, s2, s3, s4]) = (self.r, self.s);
        let [first, second, third, fourth] = texts;
        for (((a, b), c), d) in first.iter().zip(second).zip(third).zip(fourth) {
            let [m0, m1, m2, m3, m4] =
                limbs(transpose([a, b, c, d].map(|block| load_block(block))));
            h0 = vaddq_u32(h0, m0);
            h1 = vaddq_u32(h1, m1);
            h2 = vaddq_u32(h2, m2);
            h3 = vaddq_u32(h3, m3);
            h4 = vaddq_u32(vaddq_u32(h4, m4), pad);

            sum_of_products!(d0 e0 = h0 r0 + h1 s4 + h2 s3 + h3 s2 + h4 s1);
            sum_of_products!(d1 e1 = h0 r1 + h1 r0 + h2 s4 + h3 s3 + h4 s2);
            sum_of_products!(d2 e2 = h0 r2 + h1 r1 + h2 r0 + h3 s4 + h4 s3);
            sum_of_products!(d3 e3 = h0 r3 + h1 r2 + h2 r1 + h3 r0 + h4 s4);
            sum_of_products!(d4 e4 = h0 r4 + h1 r3 + h2 r2 + h3 r1 + h4 r0);

            // From 3 over 4 to 0 and 1, and from 0 over 1 and 2 to 3 and 4: two short chains.
            carry!(d3 e3 -> d4 e4);
            carry!(d0 e0 -> d1 e1);
            (h3, h0) = (limb!(d3 e3), limb!(d0 e0));
            carry!(d1 e1 -> d2 e2);
            (h4, h1, h2) = (limb!(d4 e4), limb!(d1 e1), limb!(d2 e2));
            h0 = vmlaq_n_u32(h0, overflow!(d4 e4), 5);
            h3 = vaddq_u32(h3, overflow!(d2 e2));
            h1 = vsraq_n_u32::<26>(h1, h0);
            h4 = vsraq_n_u32::<26>(h4, h3);
            (h0, h3) = (within(h0), within(h3));
        }
        self.h = [h0, h1, h2, h3, h4];
    }

    /// The values modulo 2^130 - 5, without the bits from 2^128 on.
    #[target_feature(enable = "neon")]
    fn residues(&self) -> [u128; 4] {
        let mut limbs = self.h.map(|limb| words(limb));
        let mut residues = [0; 4];
        let [l0, l1, l2, l3, l4] = &limbs;
        let lanes = l0.iter().zip(l1).zip(l2).zip(l3).zip(l4);
        for (residue, ((((l0, l1), l2), l3), l4)) in residues.iter_mut().zip(lanes) {
            let low = u128::from(*l0)
                + (u128::from(*l1) << 26)
                + (u128::from(*l2) << 52)
                + (u128::from(*l3) << 78);
            // It is below 2^130 and 2^110, thus below twice the modulus. It reaches the modulus if
            // it reaches 2^130 with 5 more.
            let (low, carry) = low.overflowing_add(u128::from(*l4) << 104);
            let high = (l4 >> 24) + u32::from(carry);
            let excess = (high + u32::from(low.overflowing_add(5).1)) >> 2;
            *residue = low.wrapping_add(u128::from(5 * excess));
        }
        limbs = [[0; 4]; 5];
        zeroize::optimization_barrier(&limbs);
        residues
    }
}

impl Drop for State {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this code is compiled only for targets all of whose processors have NEON.
        let zero = unsafe { vdupq_n_u32(0) };
        (self.h, self.r, self.s) = ([zero; 5], [zero; 5], [zero; 4]);
        zeroize::optimization_barrier(self);
    }
}

/// Limbs of numbers of four words.
#[target_feature(enable = "neon")]
#[inline]
fn limbs([w0, w1, w2, w3]: [uint32x4_t; 4]) -> Limbs {
    [
        within(w0),
        within(vsriq_n_u32::<26>(vshlq_n_u32::<6>(w1), w0)),
        within(vsriq_n_u32::<20>(vshlq_n_u32::<12>(w2), w1)),
        within(vsriq_n_u32::<14>(vshlq_n_u32::<18>(w3), w2)),
        vshrq_n_u32::<8>(w3),
    ]
}

#[target_feature(enable = "neon")]
#[inline]
fn within(limb: uint32x4_t) -> uint32x4_t {
    vandq_u32(limb, vdupq_n_u32(LIMB))
}

#[target_feature(enable = "neon")]
#[inline]
fn load_block(block: &Block) -> uint32x4_t {
    // SAFETY: as many bytes as the vector has.
    vreinterpretq_u32_u8(unsafe { vld1q_u8(block.as_ptr()) })
}

#[target_feature(enable = "neon")]
#[inline]
fn words(vector: uint32x4_t) -> [u32; 4] {
    let mut words = [0; 4];
    // SAFETY: as many bytes as the vector has.
    unsafe { vst1q_u32(words.as_mut_ptr(), vector) };
    words
}

#[cfg(test)]
mod tests;
