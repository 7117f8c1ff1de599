//! ChaCha20 (RFC 8439, section 2.3), horizontal: a register holds a row of the state of four blocks.
//!
//! For one packet by itself. Sixteen lanes would mostly be idle for a short one, where what takes time
//! is one round after the other: two sets of four blocks take hardly longer than one. Six sets are a
//! packet of full size. There are no packets' tables and no transposition of words.

#![allow(unsafe_code, reason = "vector loads and stores of arrays")]
#![allow(
    clippy::many_single_char_names,
    clippy::similar_names,
    reason = "the rows of the state are a, b, c and d in the paper, and the sets are numbered"
)]

use core::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm_set_epi32, _mm512_add_epi32, _mm512_broadcast_i32x4,
    _mm512_rol_epi32, _mm512_set_epi32, _mm512_shuffle_epi32, _mm512_storeu_si512,
    _mm512_xor_si512,
};

use super::super::text::{ROW, Text};
use super::super::{SIGNED_CONSTANTS, State};
use super::Avx512F;
use super::words::transpose_pieces;

/// Writes the first four or eight blocks of keystream.
#[inline]
pub(super) fn keystream_8(_: Avx512F, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 8]) {
    if blocks > 4 {
        // SAFETY: the token says that the processor has the features of the function.
        unsafe { eight(state, rows) }
    } else if let Some(rows) = rows.first_chunk_mut() {
        // SAFETY: as above.
        unsafe { four(state, rows) }
    }
}

/// Writes the first twelve blocks of keystream, or all.
#[inline]
pub(super) fn keystream_24(_: Avx512F, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 24]) {
    if blocks > 12 {
        // SAFETY: as above.
        unsafe { twenty_four(state, rows) }
    } else if let Some(rows) = rows.first_chunk_mut() {
        // SAFETY: as above.
        unsafe { twelve(state, rows) }
    }
}

/// Combines a text with its keystream in whole rows.
#[inline]
pub(super) fn combine(_: Avx512F, text: &Text<'_>, rows: &[[u8; ROW]]) -> usize {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline(never)]
    fn combine(text: &Text<'_>, rows: &[[u8; ROW]]) -> usize {
        text.combine(rows)
    }
    // SAFETY: as above.
    unsafe { combine(text, rows) }
}

/// A quarter round on all columns of some sets of four blocks.
macro_rules! quarter {
    ($($a:ident $b:ident $c:ident $d:ident),+) => {
        $($a = _mm512_add_epi32($a, $b);)+
        $($d = _mm512_rol_epi32::<16>(_mm512_xor_si512($d, $a));)+
        $($c = _mm512_add_epi32($c, $d);)+
        $($b = _mm512_rol_epi32::<12>(_mm512_xor_si512($b, $c));)+
        $($a = _mm512_add_epi32($a, $b);)+
        $($d = _mm512_rol_epi32::<8>(_mm512_xor_si512($d, $a));)+
        $($c = _mm512_add_epi32($c, $d);)+
        $($b = _mm512_rol_epi32::<7>(_mm512_xor_si512($b, $c));)+
    };
}

/// Ten times a round on the columns, and one on the diagonals, which become columns for it.
macro_rules! rounds {
    ($($a:ident $b:ident $c:ident $d:ident),+) => {
        for _ in 0..10 {
            quarter!($($a $b $c $d),+);
            $($a = _mm512_shuffle_epi32::<0x93>($a);)+
            $($d = _mm512_shuffle_epi32::<0x4e>($d);)+
            $($c = _mm512_shuffle_epi32::<0x39>($c);)+
            quarter!($($a $b $c $d),+);
            $($a = _mm512_shuffle_epi32::<0x39>($a);)+
            $($d = _mm512_shuffle_epi32::<0x4e>($d);)+
            $($c = _mm512_shuffle_epi32::<0x93>($c);)+
        }
    };
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn four(state: &State, rows: &mut [[u8; ROW]; 4]) {
    let start = rows_of(state);
    let [mut a0, mut b0, mut c0, mut d0] = start;
    rounds!(a0 b0 c0 d0);
    store(start, 0, [a0, b0, c0, d0], rows);
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn eight(state: &State, rows: &mut [[u8; ROW]; 8]) {
    let start = rows_of(state);
    let [mut a0, mut b0, mut c0, mut d0] = start;
    let [mut a1, mut b1, mut c1, mut d1] = later(start, 4);
    rounds!(a0 b0 c0 d0, a1 b1 c1 d1);
    let ([first, second], _) = rows.as_chunks_mut() else {
        return;
    };
    store(start, 0, [a0, b0, c0, d0], first);
    store(start, 4, [a1, b1, c1, d1], second);
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn twelve(state: &State, rows: &mut [[u8; ROW]; 12]) {
    let start = rows_of(state);
    let [mut a0, mut b0, mut c0, mut d0] = start;
    let [mut a1, mut b1, mut c1, mut d1] = later(start, 4);
    let [mut a2, mut b2, mut c2, mut d2] = later(start, 8);
    rounds!(a0 b0 c0 d0, a1 b1 c1 d1, a2 b2 c2 d2);
    let ([first, second, third], _) = rows.as_chunks_mut() else {
        return;
    };
    store(start, 0, [a0, b0, c0, d0], first);
    store(start, 4, [a1, b1, c1, d1], second);
    store(start, 8, [a2, b2, c2, d2], third);
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn twenty_four(state: &State, rows: &mut [[u8; ROW]; 24]) {
    let start = rows_of(state);
    let [mut a0, mut b0, mut c0, mut d0] = start;
    let [mut a1, mut b1, mut c1, mut d1] = later(start, 4);
    let [mut a2, mut b2, mut c2, mut d2] = later(start, 8);
    let [mut a3, mut b3, mut c3, mut d3] = later(start, 12);
    let [mut a4, mut b4, mut c4, mut d4] = later(start, 16);
    let [mut a5, mut b5, mut c5, mut d5] = later(start, 20);
    rounds!(a0 b0 c0 d0, a1 b1 c1 d1, a2 b2 c2 d2, a3 b3 c3 d3, a4 b4 c4 d4, a5 b5 c5 d5);
    let ([first, second, third, fourth, fifth, sixth], _) = rows.as_chunks_mut() else {
        return;
    };
    store(start, 0, [a0, b0, c0, d0], first);
    store(start, 4, [a1, b1, c1, d1], second);
    store(start, 8, [a2, b2, c2, d2], third);
    store(start, 12, [a3, b3, c3, d3], fourth);
    store(start, 16, [a4, b4, c4, d4], fifth);
    store(start, 20, [a5, b5, c5, d5], sixth);
}

/// The state of four blocks that come so many blocks later.
#[target_feature(enable = "avx512f")]
#[inline]
fn later(start: [__m512i; 4], blocks: i32) -> [__m512i; 4] {
    let [a, b, c, d] = start;
    let by = _mm512_broadcast_i32x4(_mm_set_epi32(0, 0, 0, blocks));
    [a, b, c, _mm512_add_epi32(d, by)]
}

/// The rows of the state, for four blocks.
#[target_feature(enable = "avx512f")]
#[inline]
fn rows_of(state: &State) -> [__m512i; 4] {
    let [c0, c1, c2, c3] = SIGNED_CONSTANTS;
    let words = state.0.as_ptr();
    // SAFETY: the state has 16 words, of which these are the first twelve.
    let (b, c, d) = unsafe {
        (
            _mm_loadu_si128(words.cast()),
            _mm_loadu_si128(words.add(4).cast()),
            _mm_loadu_si128(words.add(8).cast()),
        )
    };
    let numbers = _mm512_set_epi32(0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0);
    [
        _mm512_broadcast_i32x4(_mm_set_epi32(c3, c2, c1, c0)),
        _mm512_broadcast_i32x4(b),
        _mm512_broadcast_i32x4(c),
        _mm512_add_epi32(_mm512_broadcast_i32x4(d), numbers),
    ]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(start: [__m512i; 4], blocks: i32, end: [__m512i; 4], rows: &mut [[u8; ROW]; 4]) {
    let [a, b, c, d] = end;
    let [a0, b0, c0, d0] = later(start, blocks);
    let blocks = transpose_pieces(
        _mm512_add_epi32(a, a0),
        _mm512_add_epi32(b, b0),
        _mm512_add_epi32(c, c0),
        _mm512_add_epi32(d, d0),
    );
    for (row, block) in rows.iter_mut().zip(blocks) {
        // SAFETY: a row has 64 bytes.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), block) }
    }
}
