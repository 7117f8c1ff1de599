//! The steps of sealing and opening: lanes are filled, a kernel runs, the rest is combined.

use subtle::ConstantTimeEq;

use super::rows::Lanes;
use super::text::Text;
use super::{Kernel, Packets, TAG_LEN};

/// The next block to be given a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) packet: usize,
    pub(super) block: usize,
}

impl Cursor {
    pub(super) const START: Self = Self {
        packet: 0,
        block: 0,
    };

    /// Gives lanes to the blocks that come next, until there are no more; false when lanes are short.
    #[inline]
    pub(super) fn fill<'a>(
        &mut self,
        lanes: &mut Lanes<'a>,
        texts: &[Text<'a>],
        wanted: impl Fn(usize) -> bool,
    ) -> bool {
        while let Some(text) = texts.get(self.packet) {
            if wanted(self.packet) {
                self.block = lanes.push_text(self.packet, text, self.block);
                if self.block < text.blocks() {
                    return false;
                }
            }
            *self = Self {
                packet: self.packet.wrapping_add(1),
                block: 0,
            };
        }
        true
    }

    /// Gives lanes that would be idle to the blocks that come next, before it is known whether their
    /// packets are authentic. What they make is combined when that is known.
    #[inline]
    pub(super) fn fill_ahead<'a>(&mut self, lanes: &mut Lanes<'a>, texts: &[Text<'a>]) {
        while let Some(text) = texts.get(self.packet) {
            while self.block < text.blocks() {
                if lanes.is_even() || !lanes.push_ahead(self.packet, self.block) {
                    return;
                }
                self.block = self.block.wrapping_add(1);
            }
            *self = Self {
                packet: self.packet.wrapping_add(1),
                block: 0,
            };
        }
    }
}

/// Combines the texts of the wanted packets with their keystream, from the cursor on.
#[inline]
pub(super) fn cipher<'a, K: Kernel>(
    kernel: K,
    packets: &Packets,
    lanes: &mut Lanes<'a>,
    texts: &[Text<'a>],
    mut cursor: Cursor,
    wanted: impl Fn(usize) -> bool,
) {
    loop {
        let is_last = cursor.fill(lanes, texts, &wanted);
        run(kernel, packets, lanes);
        lanes.combine(texts, &wanted);
        if is_last {
            return;
        }
    }
}

#[inline]
pub(super) fn run<K: Kernel>(kernel: K, packets: &Packets, lanes: &mut Lanes<'_>) {
    if lanes.len() > 0 {
        lanes.close();
        kernel.xor(packets, lanes);
    }
}

/// Compares in constant time, at one go: as bytes that takes as long as a block of the cipher.
#[inline]
pub(super) fn is_right(made: &[u8; TAG_LEN], text: &Text<'_>) -> bool {
    let wanted = text.tag();
    let words = made.as_chunks().0.iter().zip(wanted.as_chunks().0);
    let difference = words.fold(0, |difference, (made, wanted)| {
        difference | (u64::from_ne_bytes(*made) ^ u64::from_ne_bytes(*wanted))
    });
    difference.ct_eq(&0).into()
}
