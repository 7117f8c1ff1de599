//! ChaCha20 (RFC 8439, section 2.4), six blocks at a time, or four.
//!
//! Four blocks stand upright: a vector holds one word of each. Their sixteen words are sixteen of
//! the 32 registers, and a chain of operations for each column is too little for a processor with
//! more than two vector units, or slow ones. So two more blocks lie beside them, a row of the state
//! in a vector. That makes half as many chains again, for three more instructions a round and block,
//! and everything stays in registers. Two sets of four upright blocks do not.
//!
//! Two rounds are 182 instructions for six blocks, 114 for four. By the models of processors in LLVM
//! that is a quarter or more fewer cycles a block where instructions overtake each other, and a
//! twentieth more on a Cortex-A55. It has not been measured on hardware.
//!
//! What the blocks started as lies in memory meanwhile. It changes little from set to set: while the
//! lanes belong to the same packets, only the block numbers do.

#![allow(
    unsafe_code,
    reason = "rows and tables are read and written through pointers"
)]
#![allow(clippy::wildcard_imports, reason = "the names of the instructions")]

use core::arch::aarch64::*;
use core::hint::black_box;

use super::super::rows::{Lanes, PACKETS, Row};
use super::super::text::ROW;
use super::super::{CONSTANTS, Packets};

/// Four rows of a state, or four of its words, each of four blocks.
type Four = [uint32x4_t; 4];

/// Combines a block of keystream with the row of every lane.
#[target_feature(enable = "neon")]
#[inline(never)]
pub(super) fn xor(packets: &Packets, lanes: &Lanes<'_>) {
    let mut start = Start::new();
    let mut at = 0;
    while at < lanes.len() {
        let live = lanes.len().wrapping_sub(at);
        if is_for_four(live) {
            let Some((numbers, blocks, rows)) = lanes.get::<4>(at) else {
                return;
            };
            start.upright.set(packets, numbers, blocks);
            four(&mut start, rows);
            at = at.wrapping_add(4);
        } else {
            let Some((numbers, blocks, rows)) = lanes.get::<6>(at) else {
                return;
            };
            start.set(packets, numbers, blocks);
            six(&mut start, rows);
            at = at.wrapping_add(6);
        }
    }
}

/// Whether the next set shall be one of four, so that few lanes are idle.
#[inline]
const fn is_for_four(live: usize) -> bool {
    matches!(live, 0..=4 | 7 | 8)
}

/// The blocks before the first round. Erased on drop.
#[repr(align(64))]
struct Start {
    upright: Upright,
    lying: [Lying; 2],
}

impl Start {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new() -> Self {
        Self {
            upright: Upright::new(),
            lying: [Lying::new(); 2],
        }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn set(&mut self, packets: &Packets, numbers: &[u32; 6], blocks: &[u32; 6]) {
        let (numbers, blocks) = (numbers.split_first_chunk(), blocks.split_first_chunk());
        if let (Some((numbers, lying_numbers)), Some((blocks, lying_blocks))) = (numbers, blocks) {
            self.upright.set(packets, numbers, blocks);
            let lying = self.lying.iter_mut().zip(lying_numbers);
            for ((lying, number), block) in lying.zip(lying_blocks) {
                lying.set(packets, *number, *block);
            }
        }
    }
}

impl Drop for Start {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this code is compiled only for targets all of whose processors have NEON.
        (self.upright, self.lying) = unsafe { (Upright::new(), [Lying::new(); 2]) };
        zeroize::optimization_barrier(self);
    }
}

/// The words of four blocks, but the constants.
struct Upright {
    key: [uint32x4_t; 8],
    block: uint32x4_t,
    nonce: [uint32x4_t; 3],
    /// Whose key and nonce these are.
    numbers: [u32; 4],
}

impl Upright {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new() -> Self {
        let zero = vdupq_n_u32(0);
        Self {
            key: [zero; 8],
            block: zero,
            nonce: [zero; 3],
            numbers: [u32::MAX; 4],
        }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn set(&mut self, packets: &Packets, numbers: &[u32; 4], blocks: &[u32; 4]) {
        self.block = load(blocks);
        if self.numbers != *numbers {
            self.numbers = *numbers;
            // Or the compiler copies all tables to the stack, ahead of time.
            let packets = black_box(packets);
            let index = index(load(numbers));
            for (words, table) in self.key.iter_mut().zip(&packets.key) {
                *words = pick(table, index);
            }
            for (words, table) in self.nonce.iter_mut().zip(&packets.nonce) {
                *words = pick(table, index);
            }
        }
    }
}

/// The rows of one block, but the constants.
#[derive(Clone, Copy)]
struct Lying {
    rows: [uint32x4_t; 3],
    /// Whose key and nonce these are.
    number: u32,
}

impl Lying {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new() -> Self {
        Self {
            rows: [vdupq_n_u32(0); 3],
            number: u32::MAX,
        }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn set(&mut self, packets: &Packets, number: u32, block: u32) {
        if self.number != number {
            self.number = number;
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            let word = |table: &[u32; PACKETS]| table.get(place).copied().unwrap_or_default();
            let key = packets.key.each_ref().map(word);
            let [n0, n1, n2] = packets.nonce.each_ref().map(word);
            if let ([low, high], _) = key.as_chunks() {
                self.rows = [load(low), load(high), load(&[0, n0, n1, n2])];
            }
        }
        let [_, _, row] = &mut self.rows;
        *row = vsetq_lane_u32::<0>(block, *row);
    }
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load(words: &[u32; 4]) -> uint32x4_t {
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

/// `a` becomes `a + b`, and then `d` becomes `d ^ a` rotated left.
macro_rules! step {
    ($left:tt, $($a:ident $b:ident $d:ident),+) => {
        $( $a = vaddq_u32($a, $b); )+
        $( $d = veorq_u32($d, $a); )+
        $( $d = rotate!($left, $d); )+
    };
}

/// Quarter rounds side by side.
macro_rules! quarter_rounds {
    ($places:ident, $($a:ident $b:ident $c:ident $d:ident),+) => {
        step!((by 16), $($a $b $d),+);
        step!((by 12), $($c $d $b),+);
        step!((by 8 with $places), $($a $b $d),+);
        step!((by 7), $($c $d $b),+);
    };
}

/// Moves the words of rows to the left.
macro_rules! turn {
    ($($by:literal $row:ident),*) => {
        $( $row = vextq_u32::<$by>($row, $row); )*
    };
}

/// The rounds of four upright blocks and of any number of lying ones, whose names are given.
macro_rules! rounds {
    (
        $x0:ident $x1:ident $x2:ident $x3:ident $x4:ident $x5:ident $x6:ident $x7:ident
        $x8:ident $x9:ident $x10:ident $x11:ident $x12:ident $x13:ident $x14:ident $x15:ident
        $(, $a:ident $b:ident $c:ident $d:ident)*
    ) => {
        let places = vreinterpretq_u8_u32(load(&LEFT_BY_8));
        for _ in 0..10 {
            // In this order the compiler has enough registers.
            quarter_rounds!(
                places, $($a $b $c $d,)*
                $x0 $x4 $x8 $x12, $x1 $x5 $x9 $x13, $x2 $x6 $x10 $x14, $x3 $x7 $x11 $x15
            );
            turn!($(1 $b, 2 $c, 3 $d),*);
            quarter_rounds!(
                places, $($a $b $c $d,)*
                $x0 $x5 $x10 $x15, $x1 $x6 $x11 $x12, $x2 $x7 $x8 $x13, $x3 $x4 $x9 $x14
            );
            turn!($(3 $b, 2 $c, 1 $d),*);
        }
    };
}

/// Where the bytes come from when words are rotated left by 8.
const LEFT_BY_8: [u32; 4] = [0x0201_0003, 0x0605_0407, 0x0a09_080b, 0x0e0d_0c0f];

/// Combines four blocks of keystream with their rows.
#[target_feature(enable = "neon")]
#[inline]
fn four(start: &mut Start, rows: &[Row; 4]) {
    let [mut x0, mut x1, mut x2, mut x3] = CONSTANTS.map(|word| vdupq_n_u32(word));
    let [
        mut x4,
        mut x5,
        mut x6,
        mut x7,
        mut x8,
        mut x9,
        mut x10,
        mut x11,
    ] = start.upright.key;
    let (mut x12, [mut x13, mut x14, mut x15]) = (start.upright.block, start.upright.nonce);
    rounds!(x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15);
    let state = [
        [x0, x1, x2, x3],
        [x4, x5, x6, x7],
        [x8, x9, x10, x11],
        [x12, x13, x14, x15],
    ];
    combine_upright(&reload(start).upright, state, rows);
}

/// Combines six blocks of keystream with their rows.
#[target_feature(enable = "neon")]
#[inline]
fn six(start: &mut Start, rows: &[Row; 6]) {
    let [mut x0, mut x1, mut x2, mut x3] = CONSTANTS.map(|word| vdupq_n_u32(word));
    let [
        mut x4,
        mut x5,
        mut x6,
        mut x7,
        mut x8,
        mut x9,
        mut x10,
        mut x11,
    ] = start.upright.key;
    let (mut x12, [mut x13, mut x14, mut x15]) = (start.upright.block, start.upright.nonce);
    let [mut a0, mut a1] = [load(&CONSTANTS); 2];
    let [[mut b0, mut c0, mut d0], [mut b1, mut c1, mut d1]] = start.lying.map(|lying| lying.rows);
    rounds!(
        x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15,
        a0 b0 c0 d0, a1 b1 c1 d1
    );
    let upright = [
        [x0, x1, x2, x3],
        [x4, x5, x6, x7],
        [x8, x9, x10, x11],
        [x12, x13, x14, x15],
    ];
    let [r0, r1, r2, r3, lying_rows @ ..] = *rows;
    let start = reload(start);
    let lying = [[a0, b0, c0, d0], [a1, b1, c1, d1]];
    for ((row, start), state) in lying_rows.iter().zip(start.lying).zip(lying) {
        let [b, c, d] = start.rows;
        combine(*row, add(state, [load(&CONSTANTS), b, c, d]));
    }
    combine_upright(&start.upright, upright, &[r0, r1, r2, r3]);
}

/// The start again, from memory: there are no registers to keep it in during the rounds, and the
/// compiler would keep a copy that nobody erases.
#[inline]
fn reload(start: &mut Start) -> &Start {
    black_box(start)
}

#[target_feature(enable = "neon")]
#[inline]
fn combine_upright(start: &Upright, [a, b, c, d]: [Four; 4], rows: &[Row; 4]) {
    let [k0, k1, k2, k3, k4, k5, k6, k7] = start.key;
    let [n0, n1, n2] = start.nonce;
    let a = transpose(add(a, CONSTANTS.map(|word| vdupq_n_u32(word))));
    let b = transpose(add(b, [k0, k1, k2, k3]));
    let c = transpose(add(c, [k4, k5, k6, k7]));
    let d = transpose(add(d, [start.block, n0, n1, n2]));
    for ((((row, a), b), c), d) in rows.iter().zip(a).zip(b).zip(c).zip(d) {
        combine(*row, [a, b, c, d]);
    }
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

/// From one word of four blocks in each vector to four words of one block, and back.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn transpose([a, b, c, d]: Four) -> Four {
    let (ab02, ab13) = (vtrn1q_u32(a, b), vtrn2q_u32(a, b));
    let (cd02, cd13) = (vtrn1q_u32(c, d), vtrn2q_u32(c, d));
    [
        halves!(vtrn1q_u64, ab02, cd02),
        halves!(vtrn1q_u64, ab13, cd13),
        halves!(vtrn2q_u64, ab02, cd02),
        halves!(vtrn2q_u64, ab13, cd13),
    ]
}

/// Combines a row with its block of keystream.
#[target_feature(enable = "neon")]
#[inline]
fn combine(row: Row, keystream: Four) {
    const { assert!(size_of::<Four>() == ROW) };
    // SAFETY: rows are 64 bytes that may be read, and 64 that may be written.
    let mut text: Four = unsafe { row.from().cast::<Four>().read_unaligned() };
    for (text, keystream) in text.iter_mut().zip(keystream) {
        *text = veorq_u32(*text, keystream);
    }
    // SAFETY: as above.
    unsafe { row.to().cast::<Four>().write_unaligned(text) };
}

#[cfg(test)]
mod tests {
    use super::super::super::rows::LANES;
    use super::*;

    /// Lanes come in pieces of eight: no set may need more than there are.
    #[test]
    fn sets_end_within_the_last_piece() {
        for len in 1..=LANES {
            let mut at = 0;
            while at < len {
                at += if is_for_four(len - at) { 4 } else { 6 };
                assert!(at <= len.next_multiple_of(8), "{len} lanes");
            }
        }
    }
}
