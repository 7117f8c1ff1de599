//! ChaCha20 (RFC 8439, section 2.3), 8 blocks at a time: each vector has one word of every block.

#![allow(
    unsafe_code,
    reason = "loads and stores by pointer; nothing else here needs it"
)]

use core::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_or_si256, _mm256_permute2x128_si256,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
    _mm256_xor_si256,
};
use core::hint::black_box;

use super::super::Packets;
use super::super::rows::{Lanes, Row};

/// The rotations by whole bytes, as shuffles.
struct Masks {
    by_16: __m256i,
    by_8: __m256i,
}

/// Four quarter rounds need no more than four vectors of each row, but those and what is in between
/// are more than there are registers. So they go in pairs, in an order in which a double round
/// changes the pair of the third row only twice.
macro_rules! double_round {
    (
        $masks:ident: $a0:ident $a1:ident $a2:ident $a3:ident, $b0:ident $b1:ident $b2:ident $b3:ident,
        $c0:ident $c1:ident $c2:ident $c3:ident, $d0:ident $d1:ident $d2:ident $d3:ident
    ) => {
        quarter_rounds!($masks: $a0 $b0 $c0 $d0, $a1 $b1 $c1 $d1);
        quarter_rounds!($masks: $a2 $b2 $c2 $d2, $a3 $b3 $c3 $d3);
        quarter_rounds!($masks: $a0 $b1 $c2 $d3, $a1 $b2 $c3 $d0);
        quarter_rounds!($masks: $a2 $b3 $c0 $d1, $a3 $b0 $c1 $d2);
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

/// Combines 8 words of 8 blocks with the half of 8 rows that they belong to.
macro_rules! combine_half {
    ($half:literal, $rows:ident, $w:expr) => {{
        let [w0, w1, w2, w3, w4, w5, w6, w7] = $w;
        let (a, b) = (_mm256_unpacklo_epi32(w0, w1), _mm256_unpackhi_epi32(w0, w1));
        let (c, d) = (_mm256_unpacklo_epi32(w2, w3), _mm256_unpackhi_epi32(w2, w3));
        let (e, f) = (_mm256_unpacklo_epi32(w4, w5), _mm256_unpackhi_epi32(w4, w5));
        let (g, h) = (_mm256_unpacklo_epi32(w6, w7), _mm256_unpackhi_epi32(w6, w7));
        let [r0, r1, r2, r3, r4, r5, r6, r7] = $rows;
        combine_rows!(
            $half,
            _mm256_unpacklo_epi64(a, c),
            _mm256_unpacklo_epi64(e, g),
            r0,
            r4
        );
        combine_rows!(
            $half,
            _mm256_unpackhi_epi64(a, c),
            _mm256_unpackhi_epi64(e, g),
            r1,
            r5
        );
        combine_rows!(
            $half,
            _mm256_unpacklo_epi64(b, d),
            _mm256_unpacklo_epi64(f, h),
            r2,
            r6
        );
        combine_rows!(
            $half,
            _mm256_unpackhi_epi64(b, d),
            _mm256_unpackhi_epi64(f, h),
            r3,
            r7
        );
    }};
}

macro_rules! combine_rows {
    ($half:literal, $first:expr, $second:expr, $low:ident, $high:ident) => {{
        let (first, second) = ($first, $second);
        combine::<$half>(*$low, _mm256_permute2x128_si256::<0x20>(first, second));
        combine::<$half>(*$high, _mm256_permute2x128_si256::<0x31>(first, second));
    }};
}

/// Combines every lane's block of keystream with its row.
#[target_feature(enable = "avx2")]
#[inline(never)]
pub(super) fn xor(packets: &Packets, lanes: &Lanes<'_>) {
    // LLVM would take shuffles apart that it sees the meaning of.
    let masks = black_box(Masks {
        by_16: _mm256_setr_epi8(
            2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11,
            8, 9, 14, 15, 12, 13,
        ),
        by_8: _mm256_setr_epi8(
            3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9,
            10, 15, 12, 13, 14,
        ),
    });
    let mut first = [_mm256_setzero_si256(); 12];
    let [k0, k1, k2, k3, k4, k5, k6, k7] = &packets.key;
    let [n0, n1, n2] = &packets.nonce;
    let mut at = 0;
    while let Some((numbers, blocks, rows)) = lanes.get::<8>(at) {
        let numbers = load(numbers);
        let [c0, c1, c2, c3] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
        let [mut a0, mut a1, mut a2, mut a3] = [
            _mm256_set1_epi32(c0),
            _mm256_set1_epi32(c1),
            _mm256_set1_epi32(c2),
            _mm256_set1_epi32(c3),
        ];
        first = [
            select(k0, numbers),
            select(k1, numbers),
            select(k2, numbers),
            select(k3, numbers),
            select(k4, numbers),
            select(k5, numbers),
            select(k6, numbers),
            select(k7, numbers),
            load(blocks),
            select(n0, numbers),
            select(n1, numbers),
            select(n2, numbers),
        ];
        let [
            mut b0,
            mut b1,
            mut b2,
            mut b3,
            mut e0,
            mut e1,
            mut e2,
            mut e3,
            mut d0,
            mut d1,
            mut d2,
            mut d3,
        ] = first;
        zeroize::optimization_barrier(&first);
        for _ in 0..10 {
            double_round!(masks: a0 a1 a2 a3, b0 b1 b2 b3, e0 e1 e2 e3, d0 d1 d2 d3);
        }
        let [k0, k1, k2, k3, k4, k5, k6, k7, n0, n1, n2, n3] = first;
        combine_half!(
            0,
            rows,
            [
                _mm256_add_epi32(a0, _mm256_set1_epi32(c0)),
                _mm256_add_epi32(a1, _mm256_set1_epi32(c1)),
                _mm256_add_epi32(a2, _mm256_set1_epi32(c2)),
                _mm256_add_epi32(a3, _mm256_set1_epi32(c3)),
                _mm256_add_epi32(b0, k0),
                _mm256_add_epi32(b1, k1),
                _mm256_add_epi32(b2, k2),
                _mm256_add_epi32(b3, k3),
            ]
        );
        combine_half!(
            32,
            rows,
            [
                _mm256_add_epi32(e0, k4),
                _mm256_add_epi32(e1, k5),
                _mm256_add_epi32(e2, k6),
                _mm256_add_epi32(e3, k7),
                _mm256_add_epi32(d0, n0),
                _mm256_add_epi32(d1, n1),
                _mm256_add_epi32(d2, n2),
                _mm256_add_epi32(d3, n3),
            ]
        );
        at = at.wrapping_add(8);
    }
    first = [_mm256_setzero_si256(); 12];
    zeroize::optimization_barrier(&first);
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
fn combine<const AT: usize>(row: Row, keystream: __m256i) {
    const { assert!(AT <= 32) };
    // SAFETY: while the lanes are borrowed, 64 bytes may be read at `from` and 64 written at `to`.
    unsafe {
        let text = _mm256_loadu_si256(row.from().byte_add(AT).cast());
        let sum = _mm256_xor_si256(text, keystream);
        _mm256_storeu_si256(row.to().byte_add(AT).cast(), sum);
    }
}
