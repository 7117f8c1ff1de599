//! What both proofs of constant time use: messages, and code that is not constant-time on purpose.

use std::hint::black_box;

use quietwire::Backend;
use quietwire::internals::{Aead, TAG_LEN};

/// A `SplitMix64`.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number().to_le_bytes()[5]).collect()
    }

    pub fn key(&mut self) -> [u8; 32] {
        self.bytes(32).try_into().unwrap()
    }
}

/// The text sealed under a key, counter 1.
pub fn sealed(key: [u8; 32], aad: &[u8], text: &[u8]) -> Vec<u8> {
    let mut buffer = [text, &[0; TAG_LEN]].concat();
    Aead::new(key, Backend::PORTABLE).seal(1, aad, &mut buffer);
    buffer
}

/// Compares as it should not be done: ends at the first difference.
#[inline(never)]
pub fn leaky_eq(a: &[u8], b: &[u8]) -> bool {
    for (a, b) in a.iter().zip(b) {
        if black_box(*a) != black_box(*b) {
            return false;
        }
    }
    true
}

/// A branch on a secret byte.
#[inline(never)]
pub fn leaky_branch(secret: &[u8]) -> u32 {
    if black_box(secret[0]) & 1 == 1 {
        black_box(7)
    } else {
        black_box(secret).iter().map(|byte| u32::from(*byte)).sum()
    }
}

/// A table whose index is a secret byte.
#[inline(never)]
pub fn leaky_table(secret: &[u8]) -> u8 {
    black_box(&[0x5a_u8; 256])[usize::from(black_box(secret[0]))]
}
