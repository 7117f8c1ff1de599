//! AVX-512: 16 blocks of ChaCha20 in a register set, 8 values of Poly1305 in vectors of 52-bit products.
//!
//! [`chacha`] fills lanes of 32 bits with blocks of any packets. [`poly`] fills lanes of 64 bits with
//! packets, one each, or all of them with one long packet. Both come in as few shapes as pay:
//! the code of a pass stays under the size of an instruction cache.

mod chacha;
mod chacha_one;
mod limbs;
mod poly;
mod poly_one;
mod words;

use super::avx2::Avx2;
use super::rows::Lanes;
use super::text::{ROW, Text};
use super::{Kernel, Packets, State, TAG_LEN};

mod features {
    #![allow(
        unsafe_code,
        reason = "the macro's own: it asks the processor by CPUID and XGETBV"
    )]

    cpufeatures::new!(base, "avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq");
    cpufeatures::new!(ifma, "avx512ifma");

    pub(super) fn has_base() -> bool {
        base::get()
    }

    pub(super) fn has_ifma() -> bool {
        ifma::get()
    }
}

/// The proof that this processor has AVX-512 F, BW, VL, DQ and IFMA, and that the system saves its
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Avx512(Avx512F);

/// The proof that this processor has AVX-512 F, BW, VL and DQ.
///
/// As a kernel by itself it makes its tags with AVX2, which every such processor has: the multiplier
/// of 52 bits is what AVX-512 would win by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Avx512F(Avx2);

impl Avx512 {
    /// Asks the processor, once.
    #[inline]
    pub(in super::super) fn detect() -> Option<Self> {
        Avx512F::detect().filter(|_| features::has_ifma()).map(Self)
    }
}

impl Avx512F {
    /// Asks the processor, once.
    #[inline]
    pub(in super::super) fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| features::has_base()).map(Self)
    }
}

impl Kernel for Avx512 {
    const PACKETS: usize = Avx512F::PACKETS;
    const ABREAST: usize = Avx512F::ABREAST;

    #[inline]
    fn sort(self, states: &[&State], packets: &mut Packets) {
        self.0.sort(states, packets);
    }

    #[inline]
    fn keystream_8(self, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 8]) {
        self.0.keystream_8(state, blocks, rows);
    }

    #[inline]
    fn keystream_24(self, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 24]) {
        self.0.keystream_24(state, blocks, rows);
    }

    #[inline]
    fn combine(self, text: &Text<'_>, rows: &[[u8; ROW]]) -> usize {
        self.0.combine(text, rows)
    }

    #[inline]
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>) {
        self.0.xor(packets, lanes);
    }

    #[inline]
    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        poly::tags(self, keys, texts, tags);
    }
}

impl Kernel for Avx512F {
    const PACKETS: usize = 16;
    const ABREAST: usize = 24;

    #[inline]
    fn sort(self, states: &[&State], packets: &mut Packets) {
        words::sort(self, states, packets);
    }

    #[inline]
    fn keystream_8(self, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 8]) {
        chacha_one::keystream_8(self, state, blocks, rows);
    }

    #[inline]
    fn keystream_24(self, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 24]) {
        chacha_one::keystream_24(self, state, blocks, rows);
    }

    #[inline]
    fn combine(self, text: &Text<'_>, rows: &[[u8; ROW]]) -> usize {
        chacha_one::combine(self, text, rows)
    }

    #[inline]
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>) {
        chacha::xor(self, packets, lanes);
    }

    #[inline]
    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        self.0.tags(keys, texts, tags);
    }
}
