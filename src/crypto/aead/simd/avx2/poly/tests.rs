//! Tests against the scalar code, which is tested against a model of its own.

use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::super::super::{Kernel, poly1305, text::ROW};
use super::super::Avx2;
use super::{four, long};

/// Compares the tags of texts, each with a key, with those of the scalar code.
fn check(lanes: &[(&[u8; 32], &[u8])]) {
    let Some(kernel) = Avx2::detect() else { return };
    let mut keys = Vec::new();
    for (key, _) in lanes {
        // What follows the one-time key in its row is of no account.
        let mut row = [0xa5; ROW];
        row[..32].copy_from_slice(*key);
        keys.push(row);
    }
    let texts: Vec<&[u8]> = lanes.iter().map(|(_, text)| *text).collect();
    let wanted: Vec<_> = lanes
        .iter()
        .map(|(key, text)| poly1305::tag(key, &[], text))
        .collect();
    let mut tags = std::vec![[0x5a; 16]; lanes.len()];
    kernel.tags(&keys, &texts, &mut tags);
    let lens: Vec<_> = texts.iter().map(|text| text.len()).collect();
    assert_eq!(tags, wanted, "lengths {lens:?}");

    // Also in the way that would not be chosen.
    for ((key, text), wanted) in keys.iter().zip(&texts).zip(&wanted) {
        // SAFETY: `kernel` is the proof that this processor has AVX2.
        let tag = unsafe { long(key, text) };
        assert_eq!(tag, *wanted, "length {}", text.len());
    }
    for ((keys, texts), wanted) in keys.chunks(4).zip(texts.chunks(4)).zip(wanted.chunks(4)) {
        let at = |lane: usize| lane % keys.len();
        let (keys, texts) = (
            [0, 1, 2, 3].map(|lane| &keys[at(lane)]),
            [0, 1, 2, 3].map(|lane| texts[at(lane)]),
        );
        // SAFETY: as above.
        let tags = unsafe { four(keys, texts) };
        assert_eq!(tags[..wanted.len()], *wanted, "lengths {lens:?}");
    }
}

fn key(r: u128, s: u128) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&r.to_le_bytes());
    key[16..].copy_from_slice(&s.to_le_bytes());
    key
}

/// Different keys and bytes for every lane.
fn sample(lane: usize, len: usize) -> ([u8; 32], Vec<u8>) {
    let seed = u128::try_from(lane + 1).unwrap();
    let key = key(
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        !seed,
    );
    let mut state = lane * 7919 + len;
    let text = (0..len).map(|_| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state.to_be_bytes()[0]
    });
    (key, text.collect())
}

fn check_lengths(lengths: &[usize]) {
    let lanes: Vec<_> = lengths
        .iter()
        .enumerate()
        .map(|(lane, len)| sample(lane, *len))
        .collect();
    let lanes: Vec<_> = lanes.iter().map(|(key, text)| (key, &text[..])).collect();
    check(&lanes);
}

#[test]
fn every_length_in_every_count() {
    for count in 0..=8 {
        for len in 0..=300 {
            check_lengths(&std::vec![len; count]);
        }
    }
}

#[test]
fn every_length_alone() {
    for len in 0..=1500 {
        check_lengths(&[len]);
    }
}

#[test]
fn lengths_side_by_side() {
    for a in 0..=70 {
        for b in 0..=70 {
            check_lengths(&[a, b]);
            check_lengths(&[70, a, b, 3, 1420, 0, b]);
        }
    }
}

/// The largest limbs: every text byte and every bit of `r` that clamping leaves.
#[test]
fn largest_limbs() {
    let key = key(u128::MAX, u128::MAX);
    for len in (0..=160).chain([1420, 65_535]) {
        let text = std::vec![0xff; len];
        for count in 1..=4 {
            check(&std::vec![(&key, &text[..]); count]);
        }
    }
}

/// Sums just below and above the modulus: with `r` = 1 and without `s` the tag is the sum of blocks.
#[test]
fn around_the_modulus() {
    let key = key(1, 0);
    // The block of lengths adds its own to these: 2^128 and a multiple of 2^64.
    for blocks in 1..=12 {
        let lengths = (1_u128 << 64).wrapping_mul(16 * blocks);
        for offset in 0..=16 {
            let filler = u128::MAX;
            let sum = lengths.wrapping_add(filler.wrapping_mul(blocks - 1));
            let last = offset_u128(offset).wrapping_sub(sum);
            let mut text = Vec::new();
            for _ in 1..blocks {
                text.extend(filler.to_le_bytes());
            }
            text.extend(last.to_le_bytes());
            check(&[(&key, &text)]);
            check(&[(&key, &text), (&key, &text)]);
        }
    }
}

/// -8 to 8.
fn offset_u128(step: u128) -> u128 {
    step.wrapping_sub(8)
}

proptest! {
    #[test]
    fn random_lanes(lanes in vec((any::<[u8; 32]>(), vec(any::<u8>(), 0..700)), 0..=8)) {
        let lanes: Vec<_> = lanes.iter().map(|(key, text)| (key, &text[..])).collect();
        check(&lanes);
    }
}
