//! ChaCha20 (RFC 8439, section 2.3), 8 blocks at a time: each vector has one word of every block.
//!
//! The 16 words of a state are as many as there are registers, so some of them are always in memory.
//! That costs next to nothing; what costs is that the four quarter rounds of a half round wait for
//! themselves. So two states, or three, take turns where there are enough lanes, although most words
//! are in memory then: on Zen 4 a double round of 8 blocks takes 45 cycles instead of 55.

#![allow(
    unsafe_code,
    reason = "loads and stores by pointer; nothing else here needs it"
)]

use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_or_si256, _mm256_permute2x128_si256,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_shuffle_epi8,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};
use core::hint::black_box;

use super::super::rows::{Lanes, Row};
use super::super::{Packets, SIGNED_CONSTANTS, State as PacketState};

/// The rotations by whole bytes, as shuffles.
pub(super) struct Masks {
    pub(super) by_16: __m256i,
    pub(super) by_8: __m256i,
}

/// The state of 8 blocks.
struct State {
    a: [__m256i; 4],
    b: [__m256i; 4],
    c: [__m256i; 4],
    d: [__m256i; 4],
}

/// Computes the blocks of lanes, and combines them with their rows.
macro_rules! pass {
    ($packets:ident, $masks:ident, $($state:ident $lanes:ident),*) => {
        $(let mut $state = state($packets, $lanes.0, $lanes.1);)*
        for _ in 0..10 {
            double_round!($masks: $($state),*);
        }
        $(
            let rows = $lanes.2;
            combine!($state, again($packets, $lanes.0, $lanes.1), rows);
        )*
    };
}

/// A double round of every state, taking turns.
macro_rules! double_round {
    ($masks:ident: $($state:ident),*) => {
        $(half_round!($masks: $state);)*
        $(turn!($state, b, c, d);)*
        $(half_round!($masks: $state);)*
        $(turn!($state, d, c, b);)*
    };
}

/// Turns rows by one, two and three words: diagonals become columns, or columns diagonals again.
/// That changes names only.
macro_rules! turn {
    ($state:ident, $by_1:ident, $by_2:ident, $by_3:ident) => {
        let [w0, w1, w2, w3] = $state.$by_1;
        $state.$by_1 = [w1, w2, w3, w0];
        let [w0, w1, w2, w3] = $state.$by_2;
        $state.$by_2 = [w2, w3, w0, w1];
        let [w0, w1, w2, w3] = $state.$by_3;
        $state.$by_3 = [w3, w0, w1, w2];
    };
}

/// The quarter rounds of four columns.
///
/// They go in pairs: LLVM keeps to the order, and needs fewer temporaries than for all four.
macro_rules! half_round {
    ($masks:ident: $state:ident) => {
        let [mut a0, mut a1, mut a2, mut a3] = $state.a;
        let [mut b0, mut b1, mut b2, mut b3] = $state.b;
        let [mut c0, mut c1, mut c2, mut c3] = $state.c;
        let [mut d0, mut d1, mut d2, mut d3] = $state.d;
        quarter_rounds!($masks: a0 b0 c0 d0, a1 b1 c1 d1);
        quarter_rounds!($masks: a2 b2 c2 d2, a3 b3 c3 d3);
        $state = State {
            a: [a0, a1, a2, a3],
            b: [b0, b1, b2, b3],
            c: [c0, c1, c2, c3],
            d: [d0, d1, d2, d3],
        };
    };
}

macro_rules! quarter_rounds {
    ($masks:ident: $($a:ident $b:ident $c:ident $d:ident),*) => {
        $($a = _mm256_add_epi32($a, $b);)*
        $($d = _mm256_xor_si256($d, $a);)*
        $($d = _mm256_shuffle_epi8($d, $masks.by_16);)*
        $($c = _mm256_add_epi32($c, $d);)*
        $($b = _mm256_xor_si256($b, $c);)*
        $($b = rotate!($b, 12);)*
        $($a = _mm256_add_epi32($a, $b);)*
        $($d = _mm256_xor_si256($d, $a);)*
        $($d = _mm256_shuffle_epi8($d, $masks.by_8);)*
        $($c = _mm256_add_epi32($c, $d);)*
        $($b = _mm256_xor_si256($b, $c);)*
        $($b = rotate!($b, 7);)*
    };
}

macro_rules! rotate {
    ($x:expr, $by:literal) => {
        _mm256_or_si256(
            _mm256_slli_epi32::<$by>($x),
            _mm256_srli_epi32::<{ 32 - $by }>($x),
        )
    };
}

/// Adds what a state was before the rounds, and combines the blocks with their rows.
macro_rules! combine {
    ($state:ident, $start:expr, $rows:ident) => {
        let start = $start;
        combine_half!(0, $rows, $state.a, start.a, $state.b, start.b);
        combine_half!(32, $rows, $state.c, start.c, $state.d, start.d);
    };
}

/// Sums of 8 words of 8 blocks, combined with the halves of the rows that they belong to.
macro_rules! combine_half {
    ($half:literal, $rows:ident, $x:expr, $x_start:expr, $y:expr, $y_start:expr) => {
        let ([w0, w1, w2, w3], [w4, w5, w6, w7]) = (sums!($x, $x_start), sums!($y, $y_start));
        let [b0, b1, b2, b3, b4, b5, b6, b7] = transpose!(w0, w1, w2, w3, w4, w5, w6, w7);
        let [r0, r1, r2, r3, r4, r5, r6, r7] = $rows;
        combine_row::<$half>(*r0, b0);
        combine_row::<$half>(*r4, b4);
        combine_row::<$half>(*r1, b1);
        combine_row::<$half>(*r5, b5);
        combine_row::<$half>(*r2, b2);
        combine_row::<$half>(*r6, b6);
        combine_row::<$half>(*r3, b3);
        combine_row::<$half>(*r7, b7);
    };
}

macro_rules! sums {
    ($x:expr, $y:expr) => {{
        let ([x0, x1, x2, x3], [y0, y1, y2, y3]) = ($x, $y);
        [
            _mm256_add_epi32(x0, y0),
            _mm256_add_epi32(x1, y1),
            _mm256_add_epi32(x2, y2),
            _mm256_add_epi32(x3, y3),
        ]
    }};
}

/// Exchanges words and vectors.
macro_rules! transpose {
    (
        $w0:expr, $w1:expr, $w2:expr, $w3:expr, $w4:expr, $w5:expr, $w6:expr, $w7:expr
    ) => {{
        let (a, b) = (
            _mm256_unpacklo_epi32($w0, $w1),
            _mm256_unpackhi_epi32($w0, $w1),
        );
        let (c, d) = (
            _mm256_unpacklo_epi32($w2, $w3),
            _mm256_unpackhi_epi32($w2, $w3),
        );
        let (e, f) = (
            _mm256_unpacklo_epi32($w4, $w5),
            _mm256_unpackhi_epi32($w4, $w5),
        );
        let (g, h) = (
            _mm256_unpacklo_epi32($w6, $w7),
            _mm256_unpackhi_epi32($w6, $w7),
        );
        let (p0, q0) = (_mm256_unpacklo_epi64(a, c), _mm256_unpacklo_epi64(e, g));
        let (p1, q1) = (_mm256_unpackhi_epi64(a, c), _mm256_unpackhi_epi64(e, g));
        let (p2, q2) = (_mm256_unpacklo_epi64(b, d), _mm256_unpacklo_epi64(f, h));
        let (p3, q3) = (_mm256_unpackhi_epi64(b, d), _mm256_unpackhi_epi64(f, h));
        [
            _mm256_permute2x128_si256::<0x20>(p0, q0),
            _mm256_permute2x128_si256::<0x20>(p1, q1),
            _mm256_permute2x128_si256::<0x20>(p2, q2),
            _mm256_permute2x128_si256::<0x20>(p3, q3),
            _mm256_permute2x128_si256::<0x31>(p0, q0),
            _mm256_permute2x128_si256::<0x31>(p1, q1),
            _mm256_permute2x128_si256::<0x31>(p2, q2),
            _mm256_permute2x128_si256::<0x31>(p3, q3),
        ]
    }};
}

/// Sorts the states of up to 8 packets by word.
#[target_feature(enable = "avx2")]
#[inline(never)]
pub(super) fn sort(states: &[&PacketState], packets: &mut Packets) {
    let mut eight = [&PacketState::ZERO; 8];
    for (place, state) in eight.iter_mut().zip(states) {
        *place = *state;
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = eight.map(halves);
    let key = transpose!(
        load(s0.0),
        load(s1.0),
        load(s2.0),
        load(s3.0),
        load(s4.0),
        load(s5.0),
        load(s6.0),
        load(s7.0)
    );
    for (words, vector) in packets.key.iter_mut().zip(key) {
        store(words, vector);
    }
    let [_, n0, n1, n2, ..] = transpose!(
        load(s0.1),
        load(s1.1),
        load(s2.1),
        load(s3.1),
        load(s4.1),
        load(s5.1),
        load(s6.1),
        load(s7.1)
    );
    for (words, vector) in packets.nonce.iter_mut().zip([n0, n1, n2]) {
        store(words, vector);
    }
}

/// The words of the key; a zero, the words of the nonce, and more zeros.
#[inline]
fn halves(state: &PacketState) -> (&[u32; 8], &[u32; 8]) {
    match state.0.as_chunks() {
        ([key, nonce], _) => (key, nonce),
        // Sixteen words are two times eight.
        _ => (&[0; 8], &[0; 8]),
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(words: &mut [u32; 16], vector: __m256i) {
    // SAFETY: the first 32 of 64 bytes.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), vector) }
}

/// Combines every lane's block of keystream with its row.
#[target_feature(enable = "avx2")]
#[inline(never)]
pub(super) fn xor(packets: &Packets, lanes: &Lanes<'_>) {
    let masks = masks();
    let mut at = 0;
    while let Some(first) = lanes.get::<8>(at) {
        let second = lanes.get::<8>(at.wrapping_add(8));
        let third = lanes.get::<8>(at.wrapping_add(16));
        let fourth = lanes.get::<8>(at.wrapping_add(24));
        let done = match (second, third, fourth) {
            // What one packet of 1420 bytes takes.
            (Some(second), Some(third), None) => {
                pass!(packets, masks, x first, y second, z third);
                24
            }
            (Some(second), ..) => {
                pass!(packets, masks, x first, y second);
                16
            }
            (None, ..) => {
                pass!(packets, masks, x first);
                8
            }
        };
        at = at.wrapping_add(done);
    }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn masks() -> Masks {
    // LLVM would take shuffles apart that it sees the meaning of.
    black_box(Masks {
        by_16: _mm256_setr_epi8(
            2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11,
            8, 9, 14, 15, 12, 13,
        ),
        by_8: _mm256_setr_epi8(
            3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9,
            10, 15, 12, 13, 14,
        ),
    })
}

/// The state of the blocks of lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn state(packets: &Packets, numbers: &[u32; 8], blocks: &[u32; 8]) -> State {
    let numbers = load(numbers);
    let [w0, w1, w2, w3] = SIGNED_CONSTANTS;
    let [k0, k1, k2, k3, k4, k5, k6, k7] = &packets.key;
    let [n0, n1, n2] = &packets.nonce;
    State {
        a: [
            _mm256_set1_epi32(w0),
            _mm256_set1_epi32(w1),
            _mm256_set1_epi32(w2),
            _mm256_set1_epi32(w3),
        ],
        b: [
            select(k0, numbers),
            select(k1, numbers),
            select(k2, numbers),
            select(k3, numbers),
        ],
        c: [
            select(k4, numbers),
            select(k5, numbers),
            select(k6, numbers),
            select(k7, numbers),
        ],
        d: [
            load(blocks),
            select(n0, numbers),
            select(n1, numbers),
            select(n2, numbers),
        ],
    }
}

/// The same once more. Otherwise LLVM would keep it, on the stack, where keys would stay.
#[target_feature(enable = "avx2")]
#[inline]
fn again(packets: &Packets, numbers: &[u32; 8], blocks: &[u32; 8]) -> State {
    state(black_box(packets), numbers, blocks)
}

/// The entries of a table that `numbers` name.
#[target_feature(enable = "avx2")]
#[inline]
fn select(table: &[u32; 16], numbers: __m256i) -> __m256i {
    let half = table.first_chunk().unwrap_or(&[0; 8]);
    _mm256_permutevar8x32_epi32(load(half), numbers)
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(words: &[u32; 8]) -> __m256i {
    // SAFETY: a reference to 32 bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Combines the 32 bytes of a row from byte `AT` on with keystream.
#[target_feature(enable = "avx2")]
#[inline]
fn combine_row<const AT: usize>(row: Row, keystream: __m256i) {
    const { assert!(AT <= 32) };
    // SAFETY: while the lanes are borrowed, 64 bytes may be read at `from` and 64 written at `to`.
    unsafe {
        let text = _mm256_loadu_si256(row.from().byte_add(AT).cast());
        let sum = _mm256_xor_si256(text, keystream);
        _mm256_storeu_si256(row.to().byte_add(AT).cast(), sum);
    }
}

#[cfg(test)]
mod tests;
