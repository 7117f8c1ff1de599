//! Tests against the oracle and the vectors of RFC 8439.

use proptest::collection::vec;
use proptest::prelude::*;
use std::vec::Vec;

use super::super::oracle;
use super::*;

/// Seals with both, opens what came out, and a forgery of it.
fn check(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8]) {
    let mut expected = [text, &[0xaa; TAG_LEN]].concat();
    let mut buffer = expected.clone();
    oracle::seal(key, nonce, aad, &mut expected);
    seal(key, nonce, aad, &mut buffer);
    assert_eq!(buffer, expected, "{} bytes", text.len());

    for bit in [0, 8 * text.len(), 8 * buffer.len() - 1] {
        let mut forged = buffer.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        let before = forged.clone();
        assert_eq!(open(key, nonce, aad, &mut forged), Err(Forged));
        assert_eq!(forged, before, "{} bytes", text.len());
        assert_eq!(oracle::open(key, nonce, aad, &mut forged), Err(Forged));
    }
    assert_eq!(open(key, nonce, aad, &mut buffer), Ok(()));
    assert_eq!(buffer[..text.len()], *text);
    assert_eq!(oracle::open(key, nonce, aad, &mut expected), Ok(()));
    assert_eq!(expected[..text.len()], *text);
}

#[test]
fn every_length_around_every_block() {
    let key: [u8; 32] = core::array::from_fn(|at| u8::try_from(at).unwrap());
    let text: Vec<u8> = (0..2100_u32)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let edges = (0..33).flat_map(|block| (0..3).map(move |at| 64 * block + at));
    for length in (0..=300).chain(edges) {
        let counter = u64::MAX - u64::try_from(length).unwrap();
        let nonce = super::super::nonce(counter);
        check(&key, &nonce, b"", &text[..length]);
        check(&key, &nonce, &text[..length % 40], &text[..length]);
    }
}

/// Every lane's output for one input block, and the input block after it.
fn keystream<const N: usize>(mut input: [u32; 16]) -> (Vec<u8>, [u32; 16]) {
    let (mut rows, mut blocks) = ([[0; N]; 16], [[0; BLOCK]; N]);
    pass(&mut input, &mut rows, &mut blocks);
    (blocks.concat(), input)
}

#[test]
fn lanes_are_blocks_in_order_whatever_their_number() {
    for counter in [0, 1, 7, u32::MAX - 8] {
        let mut input = core::array::from_fn(|at| 0x0101_0101 * u32::try_from(at).unwrap());
        input[12] = counter;
        let (mut one, mut next) = (Vec::new(), input);
        for _ in 0..8 {
            let mut block = [0; BLOCK];
            single(&mut next, &mut block);
            one.extend(block);
        }
        assert_eq!(keystream::<8>(input), (one.clone(), next));
        let (first, middle) = keystream::<4>(input);
        let (second, after) = keystream::<4>(middle);
        assert_eq!(([first, second].concat(), after), (one, next));
        assert_eq!(next[12], counter + 8);
    }
}

/// Section 2.1.1.
#[test]
fn quarter_round_of_the_rfc() {
    let [mut a, mut b, mut c, mut d] = [0x1111_1111, 0x0102_0304, 0x9b8d_6f43, 0x0123_4567];
    quarter_round(&mut a, &mut b, &mut c, &mut d);
    let expected = [0xea2a_92f4, 0xcb1c_f8ce, 0x4581_472e, 0x5881_c4bb];
    assert_eq!([a, b, c, d], expected);
}

/// Section 2.6.2: the key of the authenticator out of block 0.
#[test]
fn one_time_key_of_the_rfc() {
    let key = core::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
    let nonce = [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7];
    let expected = [
        0x8a, 0xd5, 0xa0, 0x8b, 0x90, 0x5f, 0x81, 0xcc, 0x81, 0x50, 0x40, 0x27, 0x4a, 0xb2, 0x94,
        0x71, 0xa8, 0x33, 0xb6, 0x37, 0xe3, 0xfd, 0x0d, 0xa5, 0x08, 0xdb, 0xb8, 0xe2, 0xfd, 0xd1,
        0xa6, 0x46,
    ];
    let by_one = Stream::<1>::new(&key, &nonce).one_time_key();
    assert_eq!(by_one.expose(), &expected);
    let by_lanes = Stream::<LANES>::new(&key, &nonce).one_time_key();
    assert_eq!(by_lanes.expose(), &expected);
}

proptest! {
    #[test]
    fn random_messages(
        key: [u8; 32],
        nonce: [u8; 12],
        aad in vec(any::<u8>(), 0..100),
        text in vec(any::<u8>(), 0..5000),
    ) {
        check(&key, &nonce, &aad, &text);
    }
}
