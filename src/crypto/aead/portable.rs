//! The portable backend: the `chacha20poly1305` crate, one message after the other.
//!
//! The fallback on every target, the code of cold paths (handshakes, cookies) and the oracle that
//! every other backend is tested against. That crate verifies the tag, in constant time, before it
//! decrypts anything. It erases its copies of the key, the keystream and the one-time key; the
//! running Poly1305 state is erased by the `poly1305` crate if that one's `zeroize` feature is on.

use chacha20poly1305::aead::{AeadInOut, KeyInit, Nonce};
use chacha20poly1305::consts::U16;
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};

use super::super::secret::Secret;
use super::{Forged, OpenLane, SealLane, TAG_LEN, lay_out, nonce};

pub(super) fn seal(key: &Secret<32>, nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) {
    let cipher = ChaCha20Poly1305::new(key.expose().into());
    seal_with(&cipher, nonce.into(), aad, buffer);
}

pub(super) fn open(
    key: &Secret<32>,
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let cipher = ChaCha20Poly1305::new(key.expose().into());
    open_with(&cipher, nonce.into(), aad, buffer)
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
    seal_with(
        &XChaCha20Poly1305::new(key.into()),
        nonce.into(),
        aad,
        buffer,
    );
}

pub(super) fn xopen(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    open_with(
        &XChaCha20Poly1305::new(key.into()),
        nonce.into(),
        aad,
        buffer,
    )
}

fn seal_with<C>(cipher: &C, nonce: &Nonce<C>, aad: &[u8], buffer: &mut [u8])
where
    C: AeadInOut<TagSize = U16>,
{
    let Some((text, tag)) = buffer.split_last_chunk_mut::<TAG_LEN>() else {
        return;
    };
    match cipher.encrypt_inout_detached(nonce, aad, (&mut *text).into()) {
        Ok(made) => *tag = made.into(),
        // Only for a message of 256 GiB, whose keystream would repeat: refused untouched, and
        // plaintext must not pass for ciphertext.
        Err(_) => buffer.fill(0),
    }
}

fn open_with<C>(cipher: &C, nonce: &Nonce<C>, aad: &[u8], buffer: &mut [u8]) -> Result<(), Forged>
where
    C: AeadInOut<TagSize = U16>,
{
    let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
    cipher
        .decrypt_inout_detached(nonce, aad, text.into(), (&*tag).into())
        .map_err(|_| Forged)
}
