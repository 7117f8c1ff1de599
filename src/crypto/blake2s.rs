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
