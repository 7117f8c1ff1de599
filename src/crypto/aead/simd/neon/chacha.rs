//! ChaCha20 (RFC 8439, section 2.4), four blocks at a time: a vector holds one word of each.
//!
//! The sixteen words of the state are sixteen of the 32 registers, and the rounds need few more, so
//! nothing goes through memory there. A second set of four blocks would fill the rest and spill.
//! What the state started as lies in memory meanwhile. It changes little from set to set: as long as
//! the lanes belong to the same packets, only the block numbers do.

#![allow(
    unsafe_code,
    reason = "rows and tables are read and written through pointers"
)]
#![allow(clippy::wildcard_imports, reason = "the names of the instructions")]

use core::arch::aarch64::*;
use core::hint::black_box;

use super::super::Packets;
use super::super::rows::{Lanes, PACKETS, Row};

/// Words 0 to 3 of the state.
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// How many blocks a set has.
const SET: usize = 4;

/// A row, or the same words of four of them.
type Four = [uint32x4_t; 4];

/// Combines a block of keystream with the row of every lane.
#[target_feature(enable = "neon")]
#[inline(never)]
pub(super) fn xor(packets: &Packets, lanes: &Lanes<'_>) {
    let mut start = Start::new();
    for at in (0..lanes.len()).step_by(SET) {
        if let Some((numbers, blocks, rows)) = lanes.get::<SET>(at) {
            start.set(packets, numbers, blocks);
            set(&mut start, rows);
        }
    }
}

/// The state before the first round: its words, each of four blocks. Erased on drop.
#[repr(align(64))]
struct Start {
    words: [Four; 4],
    /// Whose key and nonce are in it.
    numbers: [u32; SET],
}

impl Start {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new() -> Self {
        let zero = [vdupq_n_u32(0); 4];
        Self {
            words: [CONSTANTS.map(|word| vdupq_n_u32(word)), zero, zero, zero],
            numbers: [u32::MAX; SET],
        }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn set(&mut self, packets: &Packets, numbers: &[u32; SET], blocks: &[u32; SET]) {
        let [_, key_low, key_high, [number, nonce @ ..]] = &mut self.words;
        *number = load(blocks);
        if self.numbers != *numbers {
            self.numbers = *numbers;
            let words = key_low.iter_mut().chain(key_high).zip(&packets.key);
            let index = index(load(numbers));
            for (word, table) in words.chain(nonce.iter_mut().zip(&packets.nonce)) {
                *word = pick(table, index);
            }
        }
    }
}

impl Drop for Start {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: vectors are plain numbers, of which zero is one; and the target has NEON.
        let zero = unsafe { vdupq_n_u32(0) };
        self.words = [[zero; 4]; 4];
        zeroize::optimization_barrier(self);
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load(words: &[u32; SET]) -> uint32x4_t {
    // SAFETY: as many bytes as the vector has.
    unsafe { vld1q_u32(words.as_ptr()) }
}

/// The places of the bytes of numbered words.
#[target_feature(enable = "neon")]
#[inline]
fn index(numbers: uint32x4_t) -> uint8x16_t {
    let first = vdupq_n_u32(0x0302_0100);
    vreinterpretq_u8_u32(vmlaq_n_u32(first, numbers, 0x0404_0404))
}

/// The words of a table that stand at the places.
#[target_feature(enable = "neon")]
#[inline]
fn pick(table: &[u32; PACKETS], index: uint8x16_t) -> uint32x4_t {
    const { assert!(size_of::<uint8x16x4_t>() == size_of::<[u32; PACKETS]>()) };
    // SAFETY: as many bytes as the vectors have.
    let table = unsafe { vld1q_u8_x4(table.as_ptr().cast()) };
    vreinterpretq_u32_u8(vqtbl4q_u8(table, index))
}

/// `d` becomes `(d ^ a)` rotated left, `a` having become `a + b`; four times side by side.
macro_rules! step {
    ($left:tt, $($a:ident $b:ident $d:ident),+) => {
        $( $a = vaddq_u32($a, $b); )+
        $( $d = veorq_u32($d, $a); )+
        $( $d = rotate!($left, $d); )+
    };
}

macro_rules! rotate {
    ((by 16), $x:ident) => {
        vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32($x)))
    };
    ((by 8 with $places:ident), $x:ident) => {
        vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32($x), $places))
    };
    ((by $left:literal), $x:ident) => {
        vsriq_n_u32::<{ 32 - $left }>(vshlq_n_u32::<$left>($x), $x)
    };
}

/// Four quarter rounds side by side.
macro_rules! round {
    ($places:ident, $($a:ident $b:ident $c:ident $d:ident),+) => {
        step!((by 16), $($a $b $d),+);
        step!((by 12), $($c $d $b),+);
        step!((by 8 with $places), $($a $b $d),+);
        step!((by 7), $($c $d $b),+);
    };
}

/// Combines four blocks of keystream with their rows.
#[target_feature(enable = "neon")]
#[inline]
fn set(start: &mut Start, rows: &[Row; SET]) {
    let [
        [mut x0, mut x1, mut x2, mut x3],
        [mut x4, mut x5, mut x6, mut x7],
        [mut x8, mut x9, mut x10, mut x11],
        [mut x12, mut x13, mut x14, mut x15],
    ] = start.words;
    let places = vreinterpretq_u8_u32(index_of_bytes());
    for _ in 0..10 {
        round!(places, x0 x4 x8 x12, x1 x5 x9 x13, x2 x6 x10 x14, x3 x7 x11 x15);
        round!(places, x0 x5 x10 x15, x1 x6 x11 x12, x2 x7 x8 x13, x3 x4 x9 x14);
    }
    // The sum reads it from memory again: there are no registers to keep it in, and the compiler
    // would keep a copy that nobody erases.
    let [a, b, c, d] = black_box(start).words;
    let a = by_block(add([x0, x1, x2, x3], a));
    let b = by_block(add([x4, x5, x6, x7], b));
    let c = by_block(add([x8, x9, x10, x11], c));
    let d = by_block(add([x12, x13, x14, x15], d));
    for ((((row, a), b), c), d) in rows.iter().zip(a).zip(b).zip(c).zip(d) {
        combine(*row, [a, b, c, d]);
    }
}

/// The places of the bytes of words that are rotated left by 8.
#[target_feature(enable = "neon")]
#[inline]
fn index_of_bytes() -> uint32x4_t {
    load(&[0x0201_0003, 0x0605_0407, 0x0a09_080b, 0x0e0d_0c0f])
}

#[target_feature(enable = "neon")]
#[inline]
fn add(mut sum: Four, more: Four) -> Four {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = vaddq_u32(*sum, more);
    }
    sum
}

macro_rules! halves {
    ($of:ident, $x:ident, $y:ident) => {
        vreinterpretq_u32_u64($of(vreinterpretq_u64_u32($x), vreinterpretq_u64_u32($y)))
    };
}

/// From one word of four blocks in each vector to four words of one block.
#[target_feature(enable = "neon")]
#[inline]
fn by_block([a, b, c, d]: Four) -> Four {
    let (ab02, ab13) = (vtrn1q_u32(a, b), vtrn2q_u32(a, b));
    let (cd02, cd13) = (vtrn1q_u32(c, d), vtrn2q_u32(c, d));
    [
        halves!(vtrn1q_u64, ab02, cd02),
        halves!(vtrn1q_u64, ab13, cd13),
        halves!(vtrn2q_u64, ab02, cd02),
        halves!(vtrn2q_u64, ab13, cd13),
    ]
}

/// Writes a row combined with keystream.
#[target_feature(enable = "neon")]
#[inline]
fn combine(row: Row, keystream: Four) {
    const { assert!(size_of::<Four>() == super::super::rows::ROW) };
    // SAFETY: rows are 64 bytes that may be read, and 64 that may be written.
    let mut text: Four = unsafe { row.from().cast::<Four>().read_unaligned() };
    for (text, keystream) in text.iter_mut().zip(keystream) {
        *text = veorq_u32(*text, keystream);
    }
    // SAFETY: as above.
    unsafe { row.to().cast::<Four>().write_unaligned(text) };
}
