//! AVX-512: 16 blocks of ChaCha20 in a register set, 8 tags of Poly1305 in a vector of 52-bit products.

use super::rows::{Lanes, ROW};
use super::{Kernel, Packets, TAG_LEN};

mod features {
    #![allow(unsafe_code, reason = "the macro asks the processor")]
    cpufeatures::new!(
        detected, "avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512ifma"
    );
    pub(super) use detected::get;
}

/// The proof that this processor has AVX-512 F, BW, VL, DQ and IFMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Avx512(());

impl Avx512 {
    #[inline]
    pub(in super::super) fn detect() -> Option<Self> {
        None
    }
}

impl Kernel for Avx512 {
    const PACKETS: usize = 16;
    fn xor(self, _packets: &Packets, _lanes: &Lanes<'_>) {}
    fn tags(self, _keys: &[[u8; ROW]], _texts: &[&[u8]], _tags: &mut [[u8; TAG_LEN]]) {}
}
