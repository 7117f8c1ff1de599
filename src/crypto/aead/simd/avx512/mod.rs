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

use super::rows::{Lanes, ROW};
use super::{Kernel, Packets, State, TAG_LEN};

mod features {
    #![allow(
        unsafe_code,
        reason = "the macro's own: it asks the processor by CPUID and XGETBV"
    )]

    cpufeatures::new!(
        all,
        "avx2",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512dq",
        "avx512ifma"
    );

    pub(super) use all::get;
}

/// The proof that this processor has AVX-512 F, BW, VL, DQ and IFMA, and that the system saves its
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Avx512(());

impl Avx512 {
    /// Asks the processor, once.
    #[inline]
    pub(in super::super) fn detect() -> Option<Self> {
        features::get().then_some(Self(()))
    }
}

impl Kernel for Avx512 {
    const PACKETS: usize = 16;

    #[inline]
    fn sort(self, states: &[&State], packets: &mut Packets) {
        words::sort(self, states, packets);
    }

    const SHORT: usize = 8;

    #[inline]
    fn keystream(self, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 8]) {
        chacha_one::keystream(self, state, blocks, rows);
    }

    #[inline]
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>) {
        chacha::xor(self, packets, lanes);
    }

    #[inline]
    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        poly::tags(self, keys, texts, tags);
    }
}
