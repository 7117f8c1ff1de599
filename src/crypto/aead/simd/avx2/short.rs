//! ChaCha20 (RFC 8439, section 2.3), with the rows of a state abreast: a vector has one row of two
//! blocks.
//!
//! For the first blocks of one packet: lanes side by side would mostly be idle. What takes time here
//! is one step after the other, so four blocks take no longer than two.

#![allow(
    unsafe_code,
    reason = "loads and stores by pointer; nothing else here needs it"
)]

use core::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_broadcastsi128_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_shuffle_epi32,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_xor_si256,
};
use core::hint::black_box;

use super::super::text::ROW;
use super::super::{SIGNED_CONSTANTS, State};
use super::chacha::masks;

/// A quarter round on all columns of some pairs of blocks.
macro_rules! quarter_rounds {
    ($masks:ident: $($a:ident $b:ident $c:ident $d:ident),*) => {
        $($a = _mm256_add_epi32($a, $b);)*
        $($d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $masks.by_16);)*
        $($c = _mm256_add_epi32($c, $d);)*
        $($b = rotate!(_mm256_xor_si256($b, $c), 12);)*
        $($a = _mm256_add_epi32($a, $b);)*
        $($d = _mm256_shuffle_epi8(_mm256_xor_si256($d, $a), $masks.by_8);)*
        $($c = _mm256_add_epi32($c, $d);)*
        $($b = rotate!(_mm256_xor_si256($b, $c), 7);)*
    };
}

/// Ten times a round on the columns, and one on the diagonals, which become columns for it.
///
/// It is the second row that stays: it is the one that is ready last.
macro_rules! rounds {
    ($masks:ident: $($a:ident $b:ident $c:ident $d:ident),*) => {
        for _ in 0..10 {
            quarter_rounds!($masks: $($a $b $c $d),*);
            $($c = _mm256_shuffle_epi32::<0x39>($c);)*
            $($d = _mm256_shuffle_epi32::<0x4e>($d);)*
            $($a = _mm256_shuffle_epi32::<0x93>($a);)*
            quarter_rounds!($masks: $($a $b $c $d),*);
            $($c = _mm256_shuffle_epi32::<0x93>($c);)*
            $($d = _mm256_shuffle_epi32::<0x4e>($d);)*
            $($a = _mm256_shuffle_epi32::<0x39>($a);)*
        }
    };
}

/// Writes the first four blocks of keystream, or six, or all eight.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn keystream(state: &State, blocks: usize, rows: &mut [[u8; ROW]; 8]) {
    match blocks {
        0..=4 => four(state, rows),
        5..=6 => six(state, rows),
        _ => eight(state, rows),
    }
}

#[target_feature(enable = "avx2")]
#[inline(never)]
fn four(state: &State, rows: &mut [[u8; ROW]; 8]) {
    let masks = masks();
    let [mut a0, mut b0, mut c0, mut d0] = start(state, 0);
    let [mut a1, mut b1, mut c1, mut d1] = start(state, 2);
    rounds!(masks: a0 b0 c0 d0, a1 b1 c1 d1);
    let [r0, r1, r2, r3, ..] = rows;
    store([a0, b0, c0, d0], again(state, 0), r0, r1);
    store([a1, b1, c1, d1], again(state, 2), r2, r3);
}

#[target_feature(enable = "avx2")]
#[inline(never)]
fn six(state: &State, rows: &mut [[u8; ROW]; 8]) {
    let masks = masks();
    let [mut a0, mut b0, mut c0, mut d0] = start(state, 0);
    let [mut a1, mut b1, mut c1, mut d1] = start(state, 2);
    let [mut a2, mut b2, mut c2, mut d2] = start(state, 4);
    rounds!(masks: a0 b0 c0 d0, a1 b1 c1 d1, a2 b2 c2 d2);
    let [r0, r1, r2, r3, r4, r5, ..] = rows;
    store([a0, b0, c0, d0], again(state, 0), r0, r1);
    store([a1, b1, c1, d1], again(state, 2), r2, r3);
    store([a2, b2, c2, d2], again(state, 4), r4, r5);
}

#[target_feature(enable = "avx2")]
#[inline(never)]
fn eight(state: &State, rows: &mut [[u8; ROW]; 8]) {
    let masks = masks();
    let [mut a0, mut b0, mut c0, mut d0] = start(state, 0);
    let [mut a1, mut b1, mut c1, mut d1] = start(state, 2);
    let [mut a2, mut b2, mut c2, mut d2] = start(state, 4);
    let [mut a3, mut b3, mut c3, mut d3] = start(state, 6);
    rounds!(masks: a0 b0 c0 d0, a1 b1 c1 d1, a2 b2 c2 d2, a3 b3 c3 d3);
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    store([a0, b0, c0, d0], again(state, 0), r0, r1);
    store([a1, b1, c1, d1], again(state, 2), r2, r3);
    store([a2, b2, c2, d2], again(state, 4), r4, r5);
    store([a3, b3, c3, d3], again(state, 6), r6, r7);
}

/// The rows of blocks `number` and `number + 1`.
#[target_feature(enable = "avx2")]
#[inline]
fn start(state: &State, number: i32) -> [__m256i; 4] {
    let [w0, w1, w2, w3] = SIGNED_CONSTANTS;
    let words = state.0.as_ptr();
    // SAFETY: the state has 16 words, of which these are the first twelve.
    let (b, c, d) = unsafe {
        (
            _mm_loadu_si128(words.cast()),
            _mm_loadu_si128(words.add(4).cast()),
            _mm_loadu_si128(words.add(8).cast()),
        )
    };
    let numbers = _mm256_setr_epi32(number, 0, 0, 0, number.wrapping_add(1), 0, 0, 0);
    [
        _mm256_setr_epi32(w0, w1, w2, w3, w0, w1, w2, w3),
        _mm256_broadcastsi128_si256(b),
        _mm256_broadcastsi128_si256(c),
        _mm256_add_epi32(_mm256_broadcastsi128_si256(d), numbers),
    ]
}

/// The same once more. Otherwise LLVM would keep it, on the stack, where the key would stay.
#[target_feature(enable = "avx2")]
#[inline]
fn again(state: &State, number: i32) -> [__m256i; 4] {
    start(black_box(state), number)
}

/// Adds what two blocks were before the rounds.
#[target_feature(enable = "avx2")]
#[inline]
fn store(rows: [__m256i; 4], start: [__m256i; 4], first: &mut [u8; ROW], second: &mut [u8; ROW]) {
    let ([a, b, c, d], [a0, b0, c0, d0]) = (rows, start);
    let (a, b) = (_mm256_add_epi32(a, a0), _mm256_add_epi32(b, b0));
    let (c, d) = (_mm256_add_epi32(c, c0), _mm256_add_epi32(d, d0));
    let halves = [
        (
            first,
            _mm256_permute2x128_si256::<0x20>(a, b),
            _mm256_permute2x128_si256::<0x20>(c, d),
        ),
        (
            second,
            _mm256_permute2x128_si256::<0x31>(a, b),
            _mm256_permute2x128_si256::<0x31>(c, d),
        ),
    ];
    for (block, low, high) in halves {
        // SAFETY: a block has 64 bytes.
        unsafe {
            _mm256_storeu_si256(block.as_mut_ptr().cast(), low);
            _mm256_storeu_si256(block.as_mut_ptr().add(32).cast(), high);
        }
    }
}
