//! ChaCha20 (RFC 8439, section 2.3), vertical: a register holds one word of the state of 16 blocks.
//!
//! No round moves a word from lane to lane, so any lane may belong to any packet: what differs is
//! picked out of the packets' tables by the lanes' packet numbers. The price is one transposition of
//! 16 by 16 words at the end. Two sets of 16 words fill all 32 registers, and hide each other's
//! latencies; one set is for up to 16 lanes, and a set of half registers for up to 8.
//!
//! Macros, because helpers of this size stay calls and push the state through memory.

#![allow(
    unsafe_code,
    reason = "vector loads and stores through the rows of lanes"
)]

use core::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi32, _mm256_loadu_si256, _mm256_permute2x128_si256,
    _mm256_rol_epi32, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
    _mm512_add_epi32, _mm512_loadu_si512, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_storeu_si512,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    _mm512_xor_si512,
};

use super::super::rows::{Lanes, Row};
use super::super::{Packets, SIGNED_CONSTANTS};
use super::Avx512F;
use super::words::{load_256, load_512, pick_256, pick_512, transpose_pieces};

/// Packet numbers, block numbers and rows of some lanes.
type Part<'l, const N: usize> = (&'l [u32; N], &'l [u32; N], &'l [Row; N]);

/// Combines a block of keystream with the row of every lane.
#[inline]
pub(super) fn xor(_: Avx512F, packets: &Packets, lanes: &Lanes<'_>) {
    let mut at = 0;
    while let Some(first) = lanes.get::<16>(at) {
        at = at.wrapping_add(16);
        if let Some(second) = lanes.get::<16>(at) {
            at = at.wrapping_add(16);
            // SAFETY: the token says that the processor has the features of the function.
            unsafe { xor_32(packets, first, second) }
        } else if let Some(second) = lanes.get::<8>(at) {
            at = at.wrapping_add(8);
            // SAFETY: as above.
            unsafe { xor_24(packets, first, second) }
        } else {
            // SAFETY: as above.
            unsafe { xor_16(packets, first) }
        }
    }
    if let Some(last) = lanes.get::<8>(at) {
        // SAFETY: as above.
        unsafe { xor_8(packets, last) }
    }
}

/// Binds the words of a state.
macro_rules! let_words {
    ($($x:ident)+ = $start:expr) => {
        let [$(mut $x),+] = $start;
    };
}

/// One step of some quarter rounds: `a += b; d = (d ^ a) <<< by`.
macro_rules! step {
    ($add:ident, $xor:ident, $rol:ident, $by:literal; $($a:ident $b:ident $d:ident),+) => {
        $($a = $add($a, $b);)+
        $($d = $xor($d, $a);)+
        $($d = $rol::<$by>($d);)+
    };
}

/// Four quarter rounds on each of some sets of registers, the sets taking turns.
macro_rules! quarters {
    ($([$add:ident $xor:ident $rol:ident; $(($a:ident $b:ident $c:ident $d:ident))+])+) => {
        $(step!($add, $xor, $rol, 16; $($a $b $d),+);)+
        $(step!($add, $xor, $rol, 12; $($c $d $b),+);)+
        $(step!($add, $xor, $rol, 8; $($a $b $d),+);)+
        $(step!($add, $xor, $rol, 7; $($c $d $b),+);)+
    };
}

/// A round over the columns and one over the diagonals.
macro_rules! double_round {
    ($([$add:ident $xor:ident $rol:ident; $x0:ident $x1:ident $x2:ident $x3:ident
        $x4:ident $x5:ident $x6:ident $x7:ident $x8:ident $x9:ident $x10:ident $x11:ident
        $x12:ident $x13:ident $x14:ident $x15:ident])+) => {
        quarters!($([$add $xor $rol; ($x0 $x4 $x8 $x12) ($x1 $x5 $x9 $x13)
            ($x2 $x6 $x10 $x14) ($x3 $x7 $x11 $x15)])+);
        quarters!($([$add $xor $rol; ($x0 $x5 $x10 $x15) ($x1 $x6 $x11 $x12)
            ($x2 $x7 $x8 $x13) ($x3 $x4 $x9 $x14)])+);
    };
}

/// The words of the state before the first round, as an array.
macro_rules! start {
    ($packets:ident, $part:ident, $set1:ident, $load:ident, $pick:ident) => {{
        let at = $load($part.0);
        let [k0, k1, k2, k3, k4, k5, k6, k7] = &$packets.key;
        let [n0, n1, n2] = &$packets.nonce;
        let [c0, c1, c2, c3] = SIGNED_CONSTANTS;
        [
            $set1(c0),
            $set1(c1),
            $set1(c2),
            $set1(c3),
            $pick(at, k0),
            $pick(at, k1),
            $pick(at, k2),
            $pick(at, k3),
            $pick(at, k4),
            $pick(at, k5),
            $pick(at, k6),
            $pick(at, k7),
            $load($part.1),
            $pick(at, n0),
            $pick(at, n1),
            $pick(at, n2),
        ]
    }};
}

macro_rules! add_start {
    ($add:ident, $start:expr; $($x:ident)+) => {{
        let mut start = $start.into_iter();
        $(if let Some(word) = start.next() { $x = $add($x, word); })+
    }};
}

/// Transposes 4 by 4 words in each 128 bits: four registers of words become registers of lanes.
macro_rules! transpose_words {
    ($lo32:ident, $hi32:ident, $lo64:ident, $hi64:ident; $a:ident $b:ident $c:ident $d:ident) => {
        let (ab, cd) = ($lo32($a, $b), $lo32($c, $d));
        let (ab_high, cd_high) = ($hi32($a, $b), $hi32($c, $d));
        let ($a, $b) = ($lo64(ab, cd), $hi64(ab, cd));
        let ($c, $d) = ($lo64(ab_high, cd_high), $hi64(ab_high, cd_high));
    };
}

/// Combines four whole blocks with their rows, out of pieces of 128 bits.
macro_rules! xor_rows {
    ($a:ident $b:ident $c:ident $d:ident; $r0:ident $r1:ident $r2:ident $r3:ident) => {{
        let [block0, block1, block2, block3] = transpose_pieces($a, $b, $c, $d);
        xor_row(*$r0, block0);
        xor_row(*$r1, block1);
        xor_row(*$r2, block2);
        xor_row(*$r3, block3);
    }};
}

macro_rules! finish {
    ($packets:ident, $part:ident; $x0:ident $x1:ident $x2:ident $x3:ident
        $x4:ident $x5:ident $x6:ident $x7:ident $x8:ident $x9:ident $x10:ident $x11:ident
        $x12:ident $x13:ident $x14:ident $x15:ident) => {
        add_start!(_mm512_add_epi32,
            start!($packets, $part, _mm512_set1_epi32, load_512, pick_512);
            $x0 $x1 $x2 $x3 $x4 $x5 $x6 $x7 $x8 $x9 $x10 $x11 $x12 $x13 $x14 $x15);
        transpose_words!(_mm512_unpacklo_epi32, _mm512_unpackhi_epi32, _mm512_unpacklo_epi64,
            _mm512_unpackhi_epi64; $x0 $x1 $x2 $x3);
        transpose_words!(_mm512_unpacklo_epi32, _mm512_unpackhi_epi32, _mm512_unpacklo_epi64,
            _mm512_unpackhi_epi64; $x4 $x5 $x6 $x7);
        transpose_words!(_mm512_unpacklo_epi32, _mm512_unpackhi_epi32, _mm512_unpacklo_epi64,
            _mm512_unpackhi_epi64; $x8 $x9 $x10 $x11);
        transpose_words!(_mm512_unpacklo_epi32, _mm512_unpackhi_epi32, _mm512_unpacklo_epi64,
            _mm512_unpackhi_epi64; $x12 $x13 $x14 $x15);
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15] = $part.2;
        xor_rows!($x0 $x4 $x8 $x12; r0 r4 r8 r12);
        xor_rows!($x1 $x5 $x9 $x13; r1 r5 r9 r13);
        xor_rows!($x2 $x6 $x10 $x14; r2 r6 r10 r14);
        xor_rows!($x3 $x7 $x11 $x15; r3 r7 r11 r15);
    };
}

/// Transposes 8 by 8 words and combines them with one half of each row.
macro_rules! store_halves {
    ($half:literal, $part:ident; $x0:ident $x1:ident $x2:ident $x3:ident
        $x4:ident $x5:ident $x6:ident $x7:ident) => {{
        transpose_words!(_mm256_unpacklo_epi32, _mm256_unpackhi_epi32, _mm256_unpacklo_epi64,
            _mm256_unpackhi_epi64; $x0 $x1 $x2 $x3);
        transpose_words!(_mm256_unpacklo_epi32, _mm256_unpackhi_epi32, _mm256_unpacklo_epi64,
            _mm256_unpackhi_epi64; $x4 $x5 $x6 $x7);
        let [r0, r1, r2, r3, r4, r5, r6, r7] = $part.2;
        xor_half::<$half>(*r0, _mm256_permute2x128_si256::<0x20>($x0, $x4));
        xor_half::<$half>(*r1, _mm256_permute2x128_si256::<0x20>($x1, $x5));
        xor_half::<$half>(*r2, _mm256_permute2x128_si256::<0x20>($x2, $x6));
        xor_half::<$half>(*r3, _mm256_permute2x128_si256::<0x20>($x3, $x7));
        xor_half::<$half>(*r4, _mm256_permute2x128_si256::<0x31>($x0, $x4));
        xor_half::<$half>(*r5, _mm256_permute2x128_si256::<0x31>($x1, $x5));
        xor_half::<$half>(*r6, _mm256_permute2x128_si256::<0x31>($x2, $x6));
        xor_half::<$half>(*r7, _mm256_permute2x128_si256::<0x31>($x3, $x7));
    }};
}

macro_rules! finish_8 {
    ($packets:ident, $part:ident; $x0:ident $x1:ident $x2:ident $x3:ident
        $x4:ident $x5:ident $x6:ident $x7:ident $x8:ident $x9:ident $x10:ident $x11:ident
        $x12:ident $x13:ident $x14:ident $x15:ident) => {
        add_start!(_mm256_add_epi32,
            start!($packets, $part, _mm256_set1_epi32, load_256, pick_256);
            $x0 $x1 $x2 $x3 $x4 $x5 $x6 $x7 $x8 $x9 $x10 $x11 $x12 $x13 $x14 $x15);
        store_halves!(0, $part; $x0 $x1 $x2 $x3 $x4 $x5 $x6 $x7);
        store_halves!(32, $part; $x8 $x9 $x10 $x11 $x12 $x13 $x14 $x15);
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline(never)]
fn xor_32(packets: &Packets, first: Part<'_, 16>, second: Part<'_, 16>) {
    let_words!(x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 = start!(packets, first, _mm512_set1_epi32, load_512, pick_512));
    let_words!(y0 y1 y2 y3 y4 y5 y6 y7 y8 y9 y10 y11 y12 y13 y14 y15 = start!(packets, second, _mm512_set1_epi32, load_512, pick_512));
    for _ in 0..10 {
        double_round!(
            [_mm512_add_epi32 _mm512_xor_si512 _mm512_rol_epi32; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15]
            [_mm512_add_epi32 _mm512_xor_si512 _mm512_rol_epi32; y0 y1 y2 y3 y4 y5 y6 y7 y8 y9 y10 y11 y12 y13 y14 y15]);
    }
    finish!(packets, first; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15);
    finish!(packets, second; y0 y1 y2 y3 y4 y5 y6 y7 y8 y9 y10 y11 y12 y13 y14 y15);
}

/// The lanes of one packet of full size.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline(never)]
fn xor_24(packets: &Packets, first: Part<'_, 16>, second: Part<'_, 8>) {
    let_words!(x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 = start!(packets, first, _mm512_set1_epi32, load_512, pick_512));
    let_words!(y0 y1 y2 y3 y4 y5 y6 y7 y8 y9 y10 y11 y12 y13 y14 y15 = start!(packets, second, _mm256_set1_epi32, load_256, pick_256));
    for _ in 0..10 {
        double_round!(
            [_mm512_add_epi32 _mm512_xor_si512 _mm512_rol_epi32; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15]
            [_mm256_add_epi32 _mm256_xor_si256 _mm256_rol_epi32; y0 y1 y2 y3 y4 y5 y6 y7 y8 y9 y10 y11 y12 y13 y14 y15]);
    }
    finish!(packets, first; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15);
    finish_8!(packets, second; y0 y1 y2 y3 y4 y5 y6 y7 y8 y9 y10 y11 y12 y13 y14 y15);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline(never)]
fn xor_16(packets: &Packets, part: Part<'_, 16>) {
    let_words!(x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 = start!(packets, part, _mm512_set1_epi32, load_512, pick_512));
    for _ in 0..10 {
        double_round!(
            [_mm512_add_epi32 _mm512_xor_si512 _mm512_rol_epi32; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15]);
    }
    finish!(packets, part; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline(never)]
fn xor_8(packets: &Packets, part: Part<'_, 8>) {
    let_words!(x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 = start!(packets, part, _mm256_set1_epi32, load_256, pick_256));
    for _ in 0..10 {
        double_round!(
            [_mm256_add_epi32 _mm256_xor_si256 _mm256_rol_epi32; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15]);
    }
    finish_8!(packets, part; x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15);
}

#[target_feature(enable = "avx512f")]
#[inline]
fn xor_row(row: Row, keystream: __m512i) {
    // SAFETY: the lanes that lent the row are borrowed by the caller: it points to 64 bytes to read
    // and 64 to write.
    unsafe {
        let text = _mm512_loadu_si512(row.from().cast());
        _mm512_storeu_si512(row.to().cast(), _mm512_xor_si512(text, keystream));
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor_half<const AT: usize>(row: Row, keystream: __m256i) {
    const { assert!(AT == 0 || AT == 32) };
    // SAFETY: as in `xor_row`; `AT` and 32 more bytes are within the 64.
    unsafe {
        let text = _mm256_loadu_si256(row.from().cast::<u8>().add(AT).cast());
        let to = row.to().cast::<u8>().add(AT);
        _mm256_storeu_si256(to.cast(), _mm256_xor_si256(text, keystream));
    }
}
