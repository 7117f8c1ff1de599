//! ChaCha20 (RFC 8439, section 2.3), horizontal: a register holds a row of the state of four blocks.
//!
//! For the first blocks of one packet. Sixteen lanes would mostly be idle, and what takes time is one
//! round after the other; this needs no packets' tables and no transposition of words. Two sets of
//! four blocks take hardly longer than one.

#![allow(unsafe_code, reason = "vector loads and stores of arrays")]
#![allow(
    clippy::many_single_char_names,
    reason = "the rows of the state are a, b, c and d in the paper"
)]

use core::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm_set_epi32, _mm512_add_epi32, _mm512_broadcast_i32x4,
    _mm512_rol_epi32, _mm512_set_epi32, _mm512_shuffle_epi32, _mm512_storeu_si512,
    _mm512_xor_si512,
};

use super::super::State;
use super::super::text::ROW;
use super::Avx512F;
use super::chacha::CONSTANTS;
use super::words::transpose_pieces;

/// Writes the first four or eight blocks of keystream.
#[inline]
pub(super) fn keystream(_: Avx512F, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 8]) {
    if blocks > 4 {
        // SAFETY: the token says that the processor has the features of the function.
        unsafe { eight(state, rows) }
    } else if let Some(rows) = rows.first_chunk_mut() {
        // SAFETY: as above.
        unsafe { four(state, rows) }
    }
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
    let [mut a, mut b, mut c, mut d] = start;
    rounds!(a b c d);
    store(start, [a, b, c, d], rows);
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn eight(state: &State, rows: &mut [[u8; ROW]; 8]) {
    let start = rows_of(state);
    let [mut a, mut b, mut c, mut d] = start;
    let d_next = _mm512_add_epi32(d, _mm512_broadcast_i32x4(_mm_set_epi32(0, 0, 0, 4)));
    let start_next = [a, b, c, d_next];
    let [mut e, mut f, mut g, mut h] = start_next;
    rounds!(a b c d, e f g h);
    let ([first, second], _) = rows.as_chunks_mut() else {
        return;
    };
    store(start, [a, b, c, d], first);
    store(start_next, [e, f, g, h], second);
}

/// The rows of the state, for four blocks.
#[target_feature(enable = "avx512f")]
#[inline]
fn rows_of(state: &State) -> [__m512i; 4] {
    let [c0, c1, c2, c3] = CONSTANTS;
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
fn store(start: [__m512i; 4], end: [__m512i; 4], rows: &mut [[u8; ROW]; 4]) {
    let [a, b, c, d] = end;
    let [a0, b0, c0, d0] = start;
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
