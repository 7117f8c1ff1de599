//! The portable backend: one message after the other, in safe code.
//!
//! The fallback on every target, and the code of cookies. Where there is no vector kernel, handshakes
//! and transport messages run [`soft`]. Cookies, which are rare and have the extended nonce, run the
//! `chacha20poly1305` crate on every backend. It too verifies the tag, in constant time, before it
//! decrypts anything, and erases its copies of the key, the keystream and the one-time key; the
//! running Poly1305 state is erased by the `poly1305` crate if that one's `zeroize` feature is on.

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};

use super::super::secret::Secret;
use super::{Forged, OpenLane, SealLane, TAG_LEN, lay_out, nonce, soft};

pub(super) fn seal(key: &Secret<32>, nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) {
    soft::seal(key.expose(), nonce, aad, buffer);
}

pub(super) fn open(
    key: &Secret<32>,
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    soft::open(key.expose(), nonce, aad, buffer)
}

pub(super) fn seal_lane(lane: &mut SealLane<'_>) {
    let source = lane.source;
    if source.is_none_or(|packet| lay_out(packet, lane.buffer).is_some()) {
        seal(&lane.key.key, &nonce(lane.counter), &[], lane.buffer);
    }
}

pub(super) fn open_lane(lane: &mut OpenLane<'_>) {
    *lane.authentic = open(&lane.key.key, &nonce(lane.counter), &[], lane.buffer).is_ok();
}

pub(super) fn xseal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], buffer: &mut [u8]) {
    let Some((text, tag)) = buffer.split_last_chunk_mut::<TAG_LEN>() else {
        return;
    };
    let cipher = XChaCha20Poly1305::new(key.into());
    match cipher.encrypt_inout_detached(nonce.into(), aad, (&mut *text).into()) {
        Ok(made) => *tag = made.into(),
        // Only for a message of 256 GiB, whose keystream would repeat: refused untouched, and
        // plaintext must not pass for ciphertext.
        Err(_) => buffer.fill(0),
    }
}

pub(super) fn xopen(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(nonce.into(), aad, text.into(), (&*tag).into())
        .map_err(|_| Forged)
}
