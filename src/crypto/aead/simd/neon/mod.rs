//! NEON: six blocks of ChaCha20 side by side, tags one after the other.

mod chacha;

use super::rows::{Lanes, PACKETS, ROW};
use super::{Kernel, Packets, TAG_LEN, poly1305};

/// The proof that this processor has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neon(());

impl Neon {
    #[inline]
    #[expect(clippy::unnecessary_wraps, reason = "as every kernel")]
    pub(in super::super) const fn detect() -> Option<Self> {
        Some(Self(()))
    }
}

impl Kernel for Neon {
    const PACKETS: usize = PACKETS;

    #[inline]
    #[allow(unsafe_code, reason = "to enter code for this instruction set")]
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>) {
        // SAFETY: this code is compiled only for targets all of whose processors have NEON.
        unsafe { chacha::xor(packets, lanes) }
    }

    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        for ((row, text), tag) in keys.iter().zip(texts).zip(tags) {
            if let Some(key) = row.first_chunk() {
                *tag = poly1305::tag(key, &[], text);
            }
        }
    }
}
