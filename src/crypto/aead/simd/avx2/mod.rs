//! AVX2: 8 blocks of ChaCha20 side by side, 4 tags of Poly1305 side by side in limbs of 26 bits.
//!
//! [`chacha`] fills lanes of 32 bits with blocks of any packets, [`short`] makes the few blocks of one
//! short packet. [`poly`] has four packets in a vector, or one long one; short ones are for the scalar
//! code.

#![allow(
    unsafe_code,
    reason = "functions with a target feature are called here, and only here"
)]

#[macro_use]
mod chacha;
mod poly;
mod short;

use super::rows::Lanes;
use super::text::ROW;
use super::{Kernel, Packets, State, TAG_LEN};

mod features {
    #![allow(unsafe_code, reason = "the macro asks the processor")]
    cpufeatures::new!(detected, "avx2");
    pub(super) use detected::get;
}

/// The proof that this processor has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Avx2(());

impl Avx2 {
    #[inline]
    pub(in super::super) fn detect() -> Option<Self> {
        features::get().then_some(Self(()))
    }
}

impl Kernel for Avx2 {
    const PACKETS: usize = 8;

    #[inline]
    fn sort(self, states: &[&State], packets: &mut Packets) {
        // SAFETY: as below.
        unsafe { chacha::sort(states, packets) }
    }

    const ABREAST: usize = 8;

    #[inline]
    fn keystream_8(self, state: &State, blocks: usize, rows: &mut [[u8; ROW]; 8]) {
        // SAFETY: as below.
        unsafe { short::keystream(state, blocks, rows) }
    }

    #[inline]
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>) {
        // SAFETY: only `detect` makes a value of this type, on a processor that has AVX2.
        unsafe { chacha::xor(packets, lanes) }
    }

    #[inline]
    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        // SAFETY: as above.
        unsafe { poly::tags(keys, texts, tags) }
    }
}
