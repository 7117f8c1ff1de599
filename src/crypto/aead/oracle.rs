//! The `chacha20poly1305` crate, which every backend is tested against.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};

use super::{Forged, TAG_LEN};

/// Seals in place; the last [`TAG_LEN`] bytes of `buffer` become the tag.
pub(super) fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) {
    let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>().unwrap();
    let cipher = ChaCha20Poly1305::new(key.into());
    let made = cipher.encrypt_inout_detached(nonce.into(), aad, (&mut *text).into());
    *tag = made.unwrap().into();
}

/// Opens in place.
pub(super) fn open(
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>().unwrap();
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher
        .decrypt_inout_detached(nonce.into(), aad, text.into(), &Tag::from(*tag))
        .map_err(|_| Forged)
}
