//! X25519 (RFC 7748): private keys and the key agreement.
//!
//! A wrapper of the `x25519-dalek` crate that makes the check of the result part of the operation.
//! Public keys are plain `[u8; 32]` here: every 32 bytes are a valid public key to X25519, and the
//! ones of low order show themselves in the result.
//!
//! On x86-64 the multiplication takes another way through `curve25519-dalek`, which is what that
//! crate stands on: over the Edwards form of the curve, where it has vector code and a window of
//! four bits. That is a third faster than the Montgomery ladder, for which it has neither, although
//! changing the form costs two exponentiations. The result is the same, and it takes constant time for
//! the same reasons; only whether the public key lies on the curve or on its twist shows.

use core::fmt;

#[cfg(any(target_arch = "x86_64", test))]
use curve25519_dalek::montgomery::MontgomeryPoint;
use x25519_dalek::{PublicKey, StaticSecret};
#[cfg(any(target_arch = "x86_64", test))]
use zeroize::Zeroize;

use super::secret::Secret;
use crate::key::wipe_dead_stack;

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

    /// Shows the bytes, unclamped.
    #[cfg(feature = "alloc")]
    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Computes the public key. Costs one fixed-base multiplication.
    pub(crate) fn public(&self) -> [u8; 32] {
        let public = self.multiply_base();
        wipe_dead_stack();
        public
    }

    #[inline(never)]
    fn multiply_base(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// Agrees on a shared secret with the owner of `their_public`.
    ///
    /// Returns `None` when the result is all zero, which means that `their_public` is of low order
    /// and contributes nothing; the test takes constant time. Costs one variable-base multiplication.
    pub(crate) fn diffie_hellman(&self, their_public: &[u8; 32]) -> Option<Secret<32>> {
        let shared = self.multiply(their_public);
        wipe_dead_stack();
        (!shared.ct_eq(&Secret::zeroed())).then_some(shared)
    }

    #[inline(never)]
    fn multiply(&self, point: &[u8; 32]) -> Secret<32> {
        #[cfg(target_arch = "x86_64")]
        let shared = self
            .multiply_edwards(point)
            .unwrap_or_else(|| self.multiply_montgomery(point));
        #[cfg(not(target_arch = "x86_64"))]
        let shared = self.multiply_montgomery(point);
        shared
    }

    fn multiply_montgomery(&self, point: &[u8; 32]) -> Secret<32> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*point));
        Secret::new(shared.to_bytes())
    }

    /// The same, or `None` when `point` is on the twist, which has no Edwards form here.
    ///
    /// Of the two points with this u-coordinate either will do: so have their multiples.
    #[cfg(any(target_arch = "x86_64", test))]
    fn multiply_edwards(&self, point: &[u8; 32]) -> Option<Secret<32>> {
        let point = MontgomeryPoint(*point).to_edwards(0)?;
        let mut product = point.mul_clamped(*self.0.as_bytes());
        let shared = Secret::new(product.to_montgomery().to_bytes());
        product.zeroize();
        Some(shared)
    }
}

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Private(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        /// Half of all public keys are on the twist.
        #[test]
        fn both_ways_lead_to_the_same_secret(scalar: [u8; 32], point: [u8; 32]) {
            let private = Private::from_bytes(scalar);
            let ladder = private.multiply_montgomery(&point);
            if let Some(edwards) = private.multiply_edwards(&point) {
                prop_assert_eq!(edwards.expose(), ladder.expose());
            }
            let public = private.public();
            let edwards = private.multiply_edwards(&public);
            let edwards = edwards.expect("the multiples of the base point are on the curve");
            let ladder = private.multiply_montgomery(&public);
            prop_assert_eq!(edwards.expose(), ladder.expose());
        }
    }

    /// What the change of form could get wrong: the point whose image is at infinity, points that are
    /// their own negative, the ends of the field, and encodings that are not reduced.
    #[test]
    fn both_ways_agree_at_the_edges() {
        let private = Private::from_bytes([0x42; 32]);
        let mut on_curve = 0;
        for low in (0..16).chain(0xe0..=0xff) {
            for high in [0x00, 0x7f, 0x80, 0xff] {
                let mut point = [if high == 0 || high == 0x80 { 0 } else { 0xff }; 32];
                (point[0], point[31]) = (low, high);
                if let Some(edwards) = private.multiply_edwards(&point) {
                    on_curve += 1;
                    let ladder = private.multiply_montgomery(&point);
                    assert_eq!(edwards.expose(), ladder.expose(), "{point:02x?}");
                }
            }
        }
        assert!((60..130).contains(&on_curve), "{on_curve} of 192");
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
