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
