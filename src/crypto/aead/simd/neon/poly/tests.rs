//! Tests of four tags at a time against the scalar code, which has its own tests.

use proptest::collection::vec;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::super::super::poly1305;
use super::*;

fn check(keys: &[[u8; ROW]; 4], texts: [&[u8]; 4]) {
    let mut made = [[0xaa; TAG_LEN]; 4];
    // SAFETY: this code is compiled only for targets all of whose processors have NEON.
    unsafe { tags(keys, &texts, &mut made) };
    for ((key, text), made) in keys.iter().zip(texts).zip(made) {
        let expected = poly1305::tag(key.first_chunk().unwrap(), &[], text);
        assert_eq!(
            made,
            expected,
            "{} bytes, r and s {:x?}",
            text.len(),
            &key[..32]
        );
    }
}

fn row(r: [u8; 16], s: [u8; 16]) -> [u8; ROW] {
    let mut row = [0x5a; ROW];
    row[..16].copy_from_slice(&r);
    row[16..32].copy_from_slice(&s);
    row
}

/// Values of every limb at their ends: the largest products, and sums about the modulus.
#[test]
fn extreme_numbers() {
    let rs = [
        [0; 16],
        [0xff; 16],
        1_u128.to_le_bytes(),
        2_u128.to_le_bytes(),
        4_u128.to_le_bytes(),
    ];
    let blocks = [0, 1, 2, 3, 4, 5, 6].map(|under: u128| under.wrapping_neg().to_le_bytes());
    let mut texts: Vec<Vec<u8>> = blocks.map(|block| block.repeat(40)).into();
    // One block of each kind after another, and many of a kind before it.
    texts.extend(
        blocks
            .iter()
            .map(|block| [&[0xff; 16 * 30][..], block].concat()),
    );
    texts.extend(
        blocks
            .iter()
            .map(|block| [&block[..], &[0; 16], &block[..], block].concat()),
    );
    for r in rs {
        for s in [[0; 16], [0xff; 16]] {
            for four in texts.windows(4) {
                let [a, b, c, d] = four else { unreachable!() };
                check(&[row(r, s); 4], [a, b, c, d]);
            }
        }
    }
}

#[test]
fn every_length_beside_others() {
    let text: Vec<u8> = (0..300_u32)
        .map(|at| u8::try_from(at * 7 % 251).unwrap())
        .collect();
    let keys = [3, 5, 7, 11].map(|seed| [seed; ROW]);
    for length in 0..text.len() {
        let texts = [
            &text[..length],
            &text[..length / 2],
            &text[..],
            &text[length..],
        ];
        check(&keys, texts);
        check(&keys, [&text[..length]; 4]);
    }
}

#[test]
fn lanes_are_worth_it_when_three_of_them_work() {
    let text = vec![0; 1500];
    let four = |lengths: [usize; 4]| pays(&lengths.map(|length| &text[..length]));
    assert!(four([1424; 4]));
    assert!(four([0; 4]));
    assert!(four([1424, 1424, 1424, 0]));
    assert!(!four([1424, 1424, 1000, 0]));
    assert!(!four([1424, 0, 0, 0]));
}

proptest! {
    #[test]
    fn random_keys_and_texts(
        keys in prop::array::uniform4(prop::array::uniform32(any::<u8>())),
        texts in prop::array::uniform4(vec(any::<u8>(), 0..400)),
    ) {
        let keys = keys.map(|key| {
            let mut row = [0; ROW];
            row[..32].copy_from_slice(&key);
            row
        });
        check(&keys, texts.each_ref().map(|text| &text[..]));
    }
}
