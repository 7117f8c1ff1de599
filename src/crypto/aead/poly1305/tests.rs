//! Tests against the vectors of RFC 8439 and a model that multiplies bit by bit.

use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::{CLAMP, Poly1305, narrow, tag, wide};

/// The authenticator before `s` is added, by both implementations, which must agree.
fn residue(r: u128, blocks: &[[u8; 16]]) -> u128 {
    let mut wide = wide::Accumulator::new(r & CLAMP);
    let mut narrow = narrow::Accumulator::new(r & CLAMP);
    wide.absorb(blocks);
    narrow.absorb(blocks);
    assert_eq!(wide.residue(), narrow.residue(), "r {r:x}, {blocks:x?}");
    wide.residue()
}

/// A number modulo 2^130 - 5: the low 128 bits and the rest.
#[derive(Clone, Copy)]
struct Model(u128, u8);

impl Model {
    fn plus(self, other: Self) -> Self {
        let (low, carry) = self.0.overflowing_add(other.0);
        Self(low, self.1 + other.1 + u8::from(carry)).reduced()
    }

    /// Of something below twice the modulus.
    fn reduced(self) -> Self {
        const MODULUS: (u8, u128) = (3, u128::MAX - 4);
        if (self.1, self.0) < MODULUS {
            return self;
        }
        let (low, borrow) = self.0.overflowing_sub(MODULUS.1);
        Self(low, self.1 - MODULUS.0 - u8::from(borrow))
    }

    fn times(self, factor: u128) -> Self {
        (0..128).rev().fold(Self(0, 0), |sum, bit| {
            let twice = sum.plus(sum);
            if factor >> bit & 1 == 1 {
                twice.plus(self)
            } else {
                twice
            }
        })
    }

    fn residue(r: u128, blocks: &[[u8; 16]]) -> u128 {
        let add = |sum: Self, block: &[u8; 16]| sum.plus(Self(u128::from_le_bytes(*block), 1));
        let start = Self(0, 0);
        let sum = blocks
            .iter()
            .fold(start, |sum, block| add(sum, block).times(r & CLAMP));
        sum.0
    }
}

fn block(first: u8, others: u8) -> [u8; 16] {
    let mut block = [others; 16];
    block[0] = first;
    block
}

/// The vectors of appendix A.3 that consist of whole blocks, numbers 1 and 5 to 11.
#[test]
fn vectors_of_the_rfc() {
    let words = |low: u64, high: u64| (u128::from(low) | u128::from(high) << 64).to_le_bytes();
    let long = [
        words(0xb943_5e50_d794_35e3, 0),
        words(0xcd79_435e_50d7_9433, 1),
        [0; 16],
        block(1, 0),
    ];
    let (r, s) = (1 | 4 << 64, u128::MAX);
    let cases: [(u128, u128, &[[u8; 16]], u128); 8] = [
        (0, 0, &[[0; 16]; 4], 0),
        (2, 0, &[[0xff; 16]], 3),
        (2, s, &[block(2, 0)], 3),
        (1, 0, &[[0xff; 16], block(0xf0, 0xff), block(0x11, 0)], 5),
        (1, 0, &[[0xff; 16], block(0xfb, 0xfe), [1; 16]], 0),
        (2, 0, &[block(0xfd, 0xff)], u128::MAX - 5),
        (r, 0, &long, 0x14 | 0x55 << 64),
        (r, 0, &long[..3], 0x13),
    ];
    for (number, (r, s, blocks, tag)) in cases.into_iter().enumerate() {
        assert_eq!(residue(r, blocks).wrapping_add(s), tag, "case {number}");
        assert_eq!(Model::residue(r, blocks).wrapping_add(s), tag, "{number}");
    }
}

#[test]
fn values_around_the_modulus() {
    // r = 1 leaves the sum of the blocks, each with 2^128 added: four come to 2^130 and the rest.
    for rest in (0..12_u128).map(|small| u128::MAX - 8 + small.min(8)) {
        for small in 0..12_u128 {
            let blocks = [rest, small, 0, 0].map(u128::to_le_bytes);
            for count in 1..=4 {
                let blocks = &blocks[..count];
                assert_eq!(residue(1, blocks), Model::residue(1, blocks), "{blocks:x?}");
            }
        }
    }
}

#[test]
fn the_largest_limbs() {
    for r in [u128::MAX, u128::MAX << 64, u128::MAX >> 64, 0xffff_ffff] {
        for byte in [0, 1, 0x7f, 0x80, 0xfe, 0xff] {
            for count in 0..40 {
                let blocks = std::vec![[byte; 16]; count];
                assert_eq!(residue(r, &blocks), Model::residue(r, &blocks), "{count}");
            }
        }
    }
}

#[test]
fn what_is_left_of_a_key_is_the_clamped_half() {
    let bits = |word: u32| u128::from(word);
    let clamp = bits(0x0fff_ffff)
        | bits(0x0fff_fffc) << 32
        | bits(0x0fff_fffc) << 64
        | bits(0x0fff_fffc) << 96;
    assert_eq!(CLAMP, clamp);
    let key: [u8; 32] = core::array::from_fn(|at| u8::try_from(at).unwrap());
    let mut bare = key;
    // Bits that clamping clears: the top four of bytes 3, 7, 11, 15, the low two of 4, 8, 12.
    for at in [3, 7, 11, 15] {
        bare[at] |= 0xf0;
    }
    for at in [4, 8, 12] {
        bare[at] |= 3;
    }
    assert_eq!(tag(&key, b"aad", b"text"), tag(&bare, b"aad", b"text"));
    bare[16] ^= 1;
    assert_ne!(tag(&key, b"aad", b"text"), tag(&bare, b"aad", b"text"));
}

#[test]
fn debug_shows_no_state() {
    let mut mac = Poly1305::new(&[0xab; 32]);
    mac.update_padded(&[0xcd; 16]);
    assert_eq!(std::format!("{mac:?}"), "Poly1305(..)");
    let parts = (wide::Accumulator::new(1), narrow::Accumulator::new(1));
    assert_eq!(
        std::format!("{parts:?}"),
        "(Accumulator(..), Accumulator(..))"
    );
}

proptest! {
    #[test]
    fn random_messages(
        key: [u8; 32],
        aad in vec(any::<u8>(), 0..40),
        text in vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let (r, s) = (&key[..16], &key[16..]);
        let [r, s] = [r, s].map(|half| u128::from_le_bytes(half.try_into().unwrap()));
        let mut message = Vec::new();
        for part in [&aad, &text] {
            message.extend_from_slice(part);
            message.resize(message.len().next_multiple_of(16), 0);
        }
        for part in [&aad, &text] {
            message.extend_from_slice(&u64::try_from(part.len()).unwrap().to_le_bytes());
        }
        let blocks = message.as_chunks().0;
        let expected = Model::residue(r, blocks).wrapping_add(s).to_le_bytes();
        prop_assert_eq!(residue(r, blocks).wrapping_add(s).to_le_bytes(), expected);
        prop_assert_eq!(tag(&key, &aad, &text), expected);

        let mut mac = Poly1305::new(&key);
        mac.update_padded(&aad);
        let (head, tail) = text.split_at(cut.index(text.len() / 16 + 1) * 16);
        mac.update_padded(head);
        mac.update_padded(tail);
        let lengths = [&aad, &text].map(|part| u64::try_from(part.len()).unwrap());
        prop_assert_eq!(mac.finish(lengths[0], lengths[1]), expected);
    }
}
