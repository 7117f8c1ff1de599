//! The primitives that the protocol is built from, each behind the few functions it needs.
//!
//! Everything here is pure: no time, no randomness, no state beyond a key. The mathematics comes
//! from the crates named in each file; what these modules add is totality (no input makes them
//! panic), redaction and erasure of secrets, and the shape that the protocol wants. They are not
//! a general cryptographic library: parameters that the protocol never varies are fixed.

pub(crate) mod aead;
pub(crate) mod blake2s;
pub(crate) mod secret;
#[cfg(test)]
pub(crate) mod vectors;
pub(crate) mod x25519;

pub use aead::Backend;
