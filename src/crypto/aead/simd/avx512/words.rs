//! Words in and out of vectors: what loads, sorts and transposes them.

#![allow(unsafe_code, reason = "vector loads and stores of arrays")]
#![allow(
    clippy::many_single_char_names,
    clippy::similar_names,
    reason = "vectors of four packets each, numbered by word"
)]

use core::arch::x86_64::{
    __m256i, __m512i, _mm256_loadu_si256, _mm256_permutex2var_epi32, _mm512_loadu_si512,
    _mm512_permutexvar_epi32, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::super::rows::PACKETS;
use super::super::{Packets, State};
use super::Avx512F;

/// Sorts the states of a chunk by word.
#[inline]
pub(super) fn sort(_: Avx512F, states: &[&State], packets: &mut Packets) {
    let mut all = [&State::ZERO; PACKETS];
    for (place, state) in all.iter_mut().zip(states) {
        *place = *state;
    }
    // SAFETY: the token says that the processor has the features of the function.
    unsafe { sort_16(&all, packets) }
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn sort_16(states: &[&State; PACKETS], packets: &mut Packets) {
    let ([a, b, c, d], _) = states.as_chunks() else {
        return;
    };
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (words_of(a), words_of(b));
    let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (words_of(c), words_of(d));
    let [k0, k1, k2, k3, k4, k5, k6, k7] = &mut packets.key;
    let [n0, n1, n2] = &mut packets.nonce;
    let [w0, w4, _, _] = transpose_pieces(a0, b0, c0, d0);
    let [w1, w5, w9, _] = transpose_pieces(a1, b1, c1, d1);
    let [w2, w6, w10, _] = transpose_pieces(a2, b2, c2, d2);
    let [w3, w7, w11, _] = transpose_pieces(a3, b3, c3, d3);
    let key = [k0, k1, k2, k3, k4, k5, k6, k7].into_iter();
    let vectors = [w0, w1, w2, w3, w4, w5, w6, w7, w9, w10, w11];
    for (words, vector) in key.chain([n0, n1, n2]).zip(vectors) {
        store_512(words, vector);
    }
}

/// Four states, the words of one kind side by side in each 128 bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn words_of(states: &[&State; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = states;
    let (a, b, c, d) = (
        load_512(&a.0),
        load_512(&b.0),
        load_512(&c.0),
        load_512(&d.0),
    );
    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (ab_high, cd_high) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab, cd),
        _mm512_unpackhi_epi64(ab, cd),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Transposes 4 by 4 pieces of 128 bits.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose_pieces(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    let (ab, cd) = (
        _mm512_shuffle_i32x4::<0x44>(a, b),
        _mm512_shuffle_i32x4::<0x44>(c, d),
    );
    let (ab_high, cd_high) = (
        _mm512_shuffle_i32x4::<0xee>(a, b),
        _mm512_shuffle_i32x4::<0xee>(c, d),
    );
    [
        _mm512_shuffle_i32x4::<0x88>(ab, cd),
        _mm512_shuffle_i32x4::<0xdd>(ab, cd),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
    ]
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_512(words: &[u32; 16]) -> __m512i {
    // SAFETY: 16 words are 64 bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store_512(words: &mut [u32; 16], vector: __m512i) {
    // SAFETY: 16 words are 64 bytes.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) }
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_256(words: &[u32; 8]) -> __m256i {
    // SAFETY: 8 words are 32 bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// The entries of a table at the places that `at` says.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn pick_512(at: __m512i, table: &[u32; 16]) -> __m512i {
    _mm512_permutexvar_epi32(at, load_512(table))
}

#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
pub(super) fn pick_256(at: __m256i, table: &[u32; 16]) -> __m256i {
    // SAFETY: 16 words are twice 32 bytes.
    let (low, high) = unsafe {
        let low = table.as_ptr();
        (
            _mm256_loadu_si256(low.cast()),
            _mm256_loadu_si256(low.add(8).cast()),
        )
    };
    _mm256_permutex2var_epi32(low, at, high)
}
