//! Poly1305 (RFC 8439, section 2.5) as the AEAD of section 2.8 uses it, in safe scalar code.
//!
//! The running value has limbs of a whole machine word, not of the 44 or 26 bits that leave room
//! for carries: the clamping of `r` makes that room. It clears the top four bits of each of its
//! 32-bit words, and the low two of all but the first, so that `5/4` of those is a whole number and
//! stands for them where a product passes 2^130. [`wide`] is for 64-bit machines: four wide products
//! a block. `narrow` is the same with 32-bit words: sixteen.
//!
//! No branch and no address depends on the key or the message, only on lengths. Not here: messages
//! that do not fill their last block otherwise than by the AEAD's zero padding.

#[cfg(any(test, not(target_pointer_width = "64")))]
mod narrow;
#[cfg(any(test, target_pointer_width = "64"))]
mod wide;

use core::fmt;

#[cfg(not(target_pointer_width = "64"))]
use narrow::Accumulator;
#[cfg(target_pointer_width = "64")]
use wide::Accumulator;

/// The bits of `r` that RFC 8439, section 2.5.1, leaves as they are.
const CLAMP: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;

/// The authenticator of one message; erased on drop.
pub(super) struct Poly1305 {
    accumulator: Accumulator,
    s: [u8; 16],
}

impl Poly1305 {
    /// Takes the one-time key: `r`, which is clamped here, and `s`.
    #[inline]
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let (r, s) = halves(key);
        Self {
            accumulator: Accumulator::new(u128::from_le_bytes(r) & CLAMP),
            s,
        }
    }

    /// Absorbs `data`, its last block filled up with zero bytes.
    #[inline]
    pub(super) fn update_padded(&mut self, data: &[u8]) {
        let (blocks, rest) = data.as_chunks();
        self.accumulator.absorb(blocks);
        if !rest.is_empty() {
            let mut last = [0; 16];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.accumulator.absorb(&[last]);
        }
    }

    /// Absorbs the block of lengths, in bytes, and makes the tag.
    #[inline]
    pub(super) fn finish(mut self, aad_len: u64, text_len: u64) -> [u8; 16] {
        let lengths = u128::from(aad_len) | u128::from(text_len) << 64;
        self.accumulator.absorb(&[lengths.to_le_bytes()]);
        let sum = self.accumulator.residue();
        sum.wrapping_add(u128::from_le_bytes(self.s)).to_le_bytes()
    }
}

impl fmt::Debug for Poly1305 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poly1305(..)")
    }
}

impl Drop for Poly1305 {
    #[inline]
    fn drop(&mut self) {
        // In whole words: `zeroize` writes single bytes.
        self.accumulator = Accumulator::new(0);
        self.s = [0; 16];
        zeroize::optimization_barrier(self);
    }
}

/// The tag of the AEAD over `aad` and `text` under a one-time key.
#[inline]
pub(super) fn tag(key: &[u8; 32], aad: &[u8], text: &[u8]) -> [u8; 16] {
    let mut mac = Poly1305::new(key);
    mac.update_padded(aad);
    mac.update_padded(text);
    mac.finish(length(aad), length(text))
}

fn length(bytes: &[u8]) -> u64 {
    // No target has longer addresses.
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn halves(key: &[u8; 32]) -> ([u8; 16], [u8; 16]) {
    let mut halves = [[0; 16]; 2];
    for (half, bytes) in halves.iter_mut().zip(key.as_chunks().0) {
        *half = *bytes;
    }
    let [r, s] = halves;
    (r, s)
}

#[cfg(test)]
mod tests;
