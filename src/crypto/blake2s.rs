//! BLAKE2s (RFC 7693) and the key derivation built on it.
//!
//! [`hash`] chains the handshake transcript, [`mac`] makes mac1, mac2 and cookies, and the `kdf`
//! functions are HKDF (RFC 5869) with HMAC-BLAKE2s-256 and an empty `info`, which is what the Noise
//! protocol framework calls HKDF. The compression function and HMAC are those of the `blake2` and
//! `hkdf` crates.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use hkdf::HmacImpl;
use hkdf::hmac::SimpleHmac;

use super::secret::Secret;

/// Hashes the concatenation of `parts` with BLAKE2s-256.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::default();
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

/// Computes the 16-byte keyed BLAKE2s of the concatenation of `parts`.
///
/// The protocol uses keys of 16 bytes (a cookie) and 32 bytes. BLAKE2s defines keys of 1 to 32
/// bytes; so that every call has a result, a key of any other length stands for its
/// [`hash`]. Verify the result with a constant-time comparison.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut state = keyed(key);
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

fn keyed(key: &[u8]) -> Blake2sMac<U16> {
    Some(key)
        .filter(|key| !key.is_empty())
        .and_then(|key| Blake2sMac::new_from_slice(key).ok())
        .unwrap_or_else(|| Blake2sMac::new(&hash(&[key]).into()))
}

/// Derives one key from a chaining key and an input: `KDF1` of the paper.
///
/// The chaining key is 32 bytes in the protocol; HMAC takes any length.
pub(crate) fn kdf1(key: &[u8], input: &[u8]) -> Secret<32> {
    let root = hmac(key, &[input]);
    hmac(root.expose(), &[&[1]])
}

/// Derives two keys: `KDF2` of the paper.
pub(crate) fn kdf2(key: &[u8], input: &[u8]) -> (Secret<32>, Secret<32>) {
    let root = hmac(key, &[input]);
    let first = hmac(root.expose(), &[&[1]]);
    let second = hmac(root.expose(), &[first.expose(), &[2]]);
    (first, second)
}

/// Derives three keys: `KDF3` of the paper.
pub(crate) fn kdf3(key: &[u8], input: &[u8]) -> (Secret<32>, Secret<32>, Secret<32>) {
    let root = hmac(key, &[input]);
    let first = hmac(root.expose(), &[&[1]]);
    let second = hmac(root.expose(), &[first.expose(), &[2]]);
    let third = hmac(root.expose(), &[second.expose(), &[3]]);
    (first, second, third)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret<32> {
    let mut state = <SimpleHmac<Blake2s256> as HmacImpl>::new_from_slice(key);
    for part in parts {
        HmacImpl::update(&mut state, part);
    }
    Secret::new(HmacImpl::finalize(state).into())
}

#[cfg(test)]
mod tests {
    use blake2::Blake2s;
    use blake2::digest::consts::{U20, U28, U32};
    use std::vec::Vec;

    use super::super::vectors::{decode_array, parse};
    use super::*;

    /// RFC 7693 appendix B.2.
    #[test]
    fn hash_of_abc() {
        let expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
        assert_eq!(hash(&[b"abc"]), decode_array(expected));
        assert_eq!(hash(&[b"", b"a", b"", b"bc"]), decode_array(expected));
    }

    /// RFC 7693 appendix E: a hash of hashes over four output lengths, with and without keys. Of
    /// these the protocol has two, and one more gathers them; the others come from the crate.
    #[test]
    fn self_test_of_the_rfc() {
        let mut digests = Vec::new();
        for length in [16, 20, 28, 32] {
            for text in [0, 3, 64, 65, 255, 1024].map(sequence) {
                let key = sequence(length);
                let (plain, keyed) = match length {
                    16 => (
                        digest(Blake2s::<U16>::default(), &text),
                        mac(&key, &[&text]).to_vec(),
                    ),
                    20 => (
                        digest(Blake2s::<U20>::default(), &text),
                        with_key::<Blake2sMac<U20>>(&key, &text),
                    ),
                    28 => (
                        digest(Blake2s::<U28>::default(), &text),
                        with_key::<Blake2sMac<U28>>(&key, &text),
                    ),
                    _ => (
                        hash(&[&text]).to_vec(),
                        with_key::<Blake2sMac<U32>>(&key, &text),
                    ),
                };
                digests.extend([plain, keyed]);
            }
        }
        let parts: Vec<_> = digests.iter().map(|digest| &digest[..]).collect();
        let expected = "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe";
        assert_eq!(hash(&parts), decode_array(expected));
    }

    /// The RFC's test sequence, which is seeded with its own length.
    fn sequence(length: usize) -> Vec<u8> {
        let mut a = 0xdead_4bad_u32.wrapping_mul(u32::try_from(length).unwrap());
        let mut b = 1_u32;
        let next = || {
            let sum = a.wrapping_add(b);
            (a, b) = (b, sum);
            sum.to_be_bytes()[0]
        };
        core::iter::repeat_with(next).take(length).collect()
    }

    fn digest(mut state: impl FixedOutput, text: &[u8]) -> Vec<u8> {
        state.update(text);
        state.finalize_fixed().to_vec()
    }

    fn with_key<M: KeyInit + FixedOutput>(key: &[u8], text: &[u8]) -> Vec<u8> {
        digest(M::new_from_slice(key).unwrap(), text)
    }

    #[test]
    fn mac_agrees_with_another_implementation() {
        for test in &parse(include_str!("../../tests/vectors/blake2s_mac.txt")) {
            let (key, text) = (test.bytes("key"), test.bytes("text"));
            let expected = test.array("mac");
            assert_eq!(mac(&key, &[&text]), expected, "{test:?}");
            let (head, tail) = text.split_at(text.len() / 3);
            assert_eq!(mac(&key, &[head, &[], tail]), expected, "{test:?}");
        }
    }

    #[test]
    fn a_mac_key_of_another_length_stands_for_its_hash() {
        for length in [0, 33, 64, 65, 200] {
            let key = sequence(length);
            assert_eq!(mac(&key, &[b"text"]), mac(&hash(&[&key]), &[b"text"]));
        }
    }

    #[test]
    fn kdf_vectors() {
        for test in &parse(include_str!("../../tests/vectors/kdf.txt")) {
            let (key, input) = (test.bytes("key"), test.bytes("input"));
            let expected = ["first", "second", "third"].map(|name| test.array::<32>(name));
            let (first, second, third) = kdf3(&key, &input);
            assert_eq!([&first, &second, &third].map(|key| *key.expose()), expected);
            let (first, second) = kdf2(&key, &input);
            assert_eq!([&first, &second].map(|key| *key.expose()), expected[..2]);
            assert_eq!(*kdf1(&key, &input).expose(), expected[0]);
        }
    }
}
