//! What the vector kernels share: which lane works on which block of which packet, and in what order.
//!
//! A kernel computes several blocks of ChaCha20 at once, and several tags of Poly1305. Most packets
//! are too small to fill its lanes, so the lanes of one pass belong to all packets of a chunk: first
//! one lane each for the one-time keys, then the packets' blocks one after the other. Sealing makes
//! the ciphertext and then the tags. Opening makes the one-time keys, then the tags, and deciphers
//! only what is authentic, so that a forged message leaves no plaintext. What it costs is the pass
//! that makes its key, and its tag.
//!
//! Nothing here depends on secret bytes but the verdict itself: lanes follow from lengths.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod batch;
#[cfg(target_arch = "x86_64")]
mod cost;
mod driver;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
mod one;
#[cfg(test)]
mod plain;
mod rows;
mod stack;
mod text;
mod window;

use super::poly1305;
#[cfg(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", target_feature = "neon")
))]
use super::soft::CONSTANTS;
use super::{AeadKey, Forged, OpenLane, SealLane, TAG_LEN, nonce};
#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::{Avx512, Avx512F};
pub(super) use batch::{open_batch, seal_batch};
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(super) use neon::Neon;
pub(super) use one::{open, seal};
#[cfg(test)]
pub(super) use plain::Plain;
use rows::{Lanes, PACKETS};
use text::{ROW, Text};

/// The first words of every block, as the intrinsics of x86-64 take them.
#[cfg(target_arch = "x86_64")]
const SIGNED_CONSTANTS: [i32; 4] = {
    let [a, b, c, d] = CONSTANTS;
    [
        a.cast_signed(),
        b.cast_signed(),
        c.cast_signed(),
        d.cast_signed(),
    ]
};

/// The code of one instruction set. A value is proof that this machine has it.
pub(super) trait Kernel: Copy {
    /// How many packets a chunk has: as many as the kernel computes one-time keys in one go, at most 16.
    const PACKETS: usize;

    /// Sorts the states of up to [`Kernel::PACKETS`] packets by word.
    #[inline]
    fn sort(self, states: &[&State], packets: &mut Packets) {
        packets.sort(states);
    }

    /// How many blocks of one packet the kernel makes at a time better than lane by lane: 0, 8 or 24.
    const ABREAST: usize = 0;

    /// Writes the first `blocks` blocks of one packet's keystream, or more. The first is its one-time
    /// key. For kernels whose [`Kernel::ABREAST`] is not 0.
    #[inline]
    fn keystream_8(self, _state: &State, _blocks: usize, _rows: &mut [[u8; ROW]; 8]) {}

    /// As `keystream_8`, for kernels whose [`Kernel::ABREAST`] is 24.
    #[inline]
    fn keystream_24(self, _state: &State, _blocks: usize, _rows: &mut [[u8; ROW]; 24]) {}

    /// Combines the first blocks of a text with keystream; the first block for which there was none.
    #[inline]
    fn combine(self, text: &Text<'_>, rows: &[[u8; ROW]]) -> usize {
        text.combine(rows)
    }

    /// Combines a block of keystream with the row of every lane.
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>);

    /// Computes the tags of texts (without associated data) under their one-time keys, which are the
    /// first 32 bytes of a row. The three slices have the same length, at most [`Kernel::PACKETS`].
    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]);
}

/// Words 4 to 15 of the cipher's state, of one packet: its key, a zero for the block number, its
/// nonce; and four zeros.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct State([u32; 16]);

impl State {
    const ZERO: Self = Self([0; 16]);

    #[inline]
    fn new(key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = words(key);
        let [n0, n1, n2] = words(nonce);
        Self([k0, k1, k2, k3, k4, k5, k6, k7, 0, n0, n1, n2, 0, 0, 0, 0])
    }

    #[inline]
    fn erase(&mut self) {
        *self = Self::ZERO;
        zeroize::optimization_barrier(self);
    }
}

/// Little-endian words.
#[inline]
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u32; WORDS] {
    const { assert!(BYTES == 4 * WORDS) };
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// The states of a chunk, by word: `key[word][packet]`. Entries without a packet are of no account.
#[repr(align(64))]
pub(super) struct Packets {
    /// Words 4 to 11.
    key: [[u32; PACKETS]; 8],
    /// Words 13 to 15.
    nonce: [[u32; PACKETS]; 3],
}

impl Packets {
    const ZERO: Self = Self {
        key: [[0; PACKETS]; 8],
        nonce: [[0; PACKETS]; 3],
    };

    /// The state of one packet, in every entry.
    #[inline]
    const fn of(State(state): &State) -> Self {
        let [k0, k1, k2, k3, k4, k5, k6, k7, _, n0, n1, n2, ..] = *state;
        Self {
            key: [
                [k0; PACKETS],
                [k1; PACKETS],
                [k2; PACKETS],
                [k3; PACKETS],
                [k4; PACKETS],
                [k5; PACKETS],
                [k6; PACKETS],
                [k7; PACKETS],
            ],
            nonce: [[n0; PACKETS], [n1; PACKETS], [n2; PACKETS]],
        }
    }

    /// What [`Kernel::sort`] does unless a kernel does it faster.
    #[inline]
    fn sort(&mut self, states: &[&State]) {
        for (packet, State(state)) in states.iter().enumerate() {
            let [k0, k1, k2, k3, k4, k5, k6, k7, _, n0, n1, n2, ..] = *state;
            let words = self.key.iter_mut().zip([k0, k1, k2, k3, k4, k5, k6, k7]);
            for (words, word) in words.chain(self.nonce.iter_mut().zip([n0, n1, n2])) {
                if let Some(place) = words.get_mut(packet) {
                    *place = word;
                }
            }
        }
    }
}

impl Drop for Packets {
    #[inline]
    fn drop(&mut self) {
        self.key = [[0; PACKETS]; 8];
        zeroize::optimization_barrier(self);
    }
}

impl AeadKey {
    #[inline]
    const fn expose(&self) -> &[u8; 32] {
        self.key.expose()
    }
}
