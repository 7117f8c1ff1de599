//! NEON: six blocks of ChaCha20 side by side, and the tags of four packets.

mod chacha;
mod poly;

use super::rows::{Lanes, PACKETS};
use super::text::ROW;
use super::{Kernel, Packets, TAG_LEN, poly1305};

/// The proof that this processor has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Neon(());

impl Neon {
    /// `None` where words and lanes are the other way round: this code has not been tried there.
    #[inline]
    pub(in super::super) const fn detect() -> Option<Self> {
        if cfg!(target_endian = "little") {
            Some(Self(()))
        } else {
            None
        }
    }
}

#[allow(unsafe_code, reason = "to enter code for this instruction set")]
impl Kernel for Neon {
    const PACKETS: usize = PACKETS;

    #[inline]
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>) {
        // SAFETY: this code is compiled only for targets all of whose processors have NEON.
        unsafe { chacha::xor(packets, lanes) }
    }

    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        let ((keys, key_rest), (texts, text_rest)) = (keys.as_chunks(), texts.as_chunks());
        let (tags, tag_rest) = tags.as_chunks_mut();
        for ((keys, texts), tags) in keys.iter().zip(texts).zip(tags) {
            if poly::pays(texts) {
                // SAFETY: as above.
                unsafe { poly::tags(keys, texts, tags) };
            } else {
                one_by_one(keys, texts, tags);
            }
        }
        one_by_one(key_rest, text_rest, tag_rest);
    }
}

fn one_by_one(keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
    for ((row, text), tag) in keys.iter().zip(texts).zip(tags) {
        if let Some(key) = row.first_chunk() {
            *tag = poly1305::tag(key, &[], text);
        }
    }
}
