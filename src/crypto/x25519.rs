//! X25519 (RFC 7748): private keys and the key agreement.
//!
//! A wrapper of the `x25519-dalek` crate that makes the check of the result part of the operation.
//! Public keys are plain `[u8; 32]` here: every 32 bytes are a valid public key to X25519, and the
//! ones of low order show themselves in the result.

use core::fmt;

use x25519_dalek::{PublicKey, StaticSecret};

use super::secret::Secret;

/// A private key, static or ephemeral; erased on drop.
#[derive(Clone)]
pub(crate) struct Private(StaticSecret);

impl Private {
    /// Takes any 32 bytes; they are clamped when they are used, not when they are stored.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// Returns the bytes that [`from_bytes`](Self::from_bytes) took, unclamped.
    #[cfg(test)]
    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Computes the public key. Costs one fixed-base multiplication.
    pub(crate) fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// Agrees on a shared secret with the owner of `their_public`.
    ///
    /// Returns `None` when the result is all zero, which means that `their_public` is of low order
    /// and contributes nothing; the test takes constant time. Costs one variable-base multiplication.
    pub(crate) fn diffie_hellman(&self, their_public: &[u8; 32]) -> Option<Secret<32>> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*their_public));
        shared
            .was_contributory()
            .then(|| Secret::new(shared.to_bytes()))
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{Vector, decode_array, parse};
    use super::*;

    const RFC: &str = include_str!("../../tests/vectors/rfc7748.txt");
    const WYCHEPROOF: &str = include_str!("../../tests/vectors/wycheproof_x25519.txt");
    const BASE_POINT: [u8; 32] = {
        let mut point = [0; 32];
        point[0] = 9;
        point
    };

    fn agree(test: &Vector<'_>) -> Option<[u8; 32]> {
        let private = Private::from_bytes(test.array("private"));
        let shared = private.diffie_hellman(&test.array("public"))?;
        Some(*shared.expose())
    }

    #[test]
    fn rfc_vectors() {
        let tests = parse(RFC);
        let tests = tests.iter().filter(|test| test.get("shared").is_some());
        assert_eq!(tests.clone().count(), 4);
        for test in tests {
            assert_eq!(agree(test), Some(test.array("shared")), "{test:?}");
            if test.get("own_public").is_some() {
                let private = Private::from_bytes(test.array("private"));
                assert_eq!(private.public(), test.array("own_public"));
            }
        }
    }

    #[test]
    fn rfc_iterations() {
        assert_eq!(iterate_up_to(1000), 2);
    }

    #[test]
    #[ignore = "takes a minute in a release build"]
    fn rfc_million_iterations() {
        assert_eq!(iterate_up_to(1_000_000), 3);
    }

    /// Returns how many of the RFC's checkpoints were passed.
    fn iterate_up_to(limit: u64) -> usize {
        let tests = parse(RFC);
        let is_checkpoint = |test: &&Vector<'_>| test.get("iterations").is_some();
        let checkpoints = tests.iter().filter(is_checkpoint);
        let checkpoints = checkpoints.filter(|test| test.number("iterations") <= limit);
        let (mut scalar, mut point) = (BASE_POINT, BASE_POINT);
        let mut done = 0;
        let mut passed = 0;
        for test in checkpoints {
            while done < test.number("iterations") {
                let shared = Private::from_bytes(scalar).diffie_hellman(&point).unwrap();
                (scalar, point) = (*shared.expose(), scalar);
                done += 1;
            }
            assert_eq!(scalar, test.array("result"), "after {done}");
            passed += 1;
        }
        passed
    }

    #[test]
    fn wycheproof_vectors() {
        let (mut agreed, mut refused) = (0, 0);
        for test in &parse(WYCHEPROOF) {
            let shared: [u8; 32] = test.array("shared");
            if test.text("flags").contains("ZeroSharedSecret") {
                assert_eq!(shared, [0; 32]);
                assert_eq!(agree(test), None, "{test:?}");
                refused += 1;
            } else {
                assert_eq!(agree(test), Some(shared), "{test:?}");
                agreed += 1;
            }
        }
        assert_eq!((agreed, refused), (518 - 31, 31));
    }

    /// The u-coordinates of order 1, 2, 4 and 8 on the curve and its twist: 0, 1, p - 1 and the two
    /// of order 8, then the encodings p and p + 1 of the first two.
    const LOW_ORDER: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    /// RFC 7748 ignores the top bit of a public key, so each of them has two encodings.
    #[test]
    fn low_order_points_are_refused() {
        for point in LOW_ORDER {
            for top_bit in [0, 0x80] {
                let mut point: [u8; 32] = decode_array(point);
                point[31] |= top_bit;
                for scalar in [[0; 32], [0xff; 32], [0x42; 32]] {
                    let shared = Private::from_bytes(scalar).diffie_hellman(&point);
                    assert!(shared.is_none(), "{point:02x?}");
                }
            }
        }
    }

    #[test]
    fn public_key_is_the_multiple_of_the_base_point() {
        for seed in 0..20 {
            let private = Private::from_bytes([seed * 13; 32]);
            let shared = private.diffie_hellman(&BASE_POINT).unwrap();
            assert_eq!(private.public(), *shared.expose());
        }
    }

    #[test]
    fn bytes_are_kept_and_not_shown() {
        let private = Private::from_bytes([0xab; 32]);
        assert_eq!(private.to_bytes(), [0xab; 32]);
        assert_eq!(private.clone().to_bytes(), [0xab; 32]);
        assert_eq!(std::format!("{private:?}"), "Private(..)");
        assert!(core::mem::needs_drop::<Private>());
    }
}
