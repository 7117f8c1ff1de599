//! The portable backend: the `chacha20poly1305` crate, one message after the other.
//!
//! The fallback on every target, the code of cold paths (handshakes, cookies) and the oracle that
//! every other backend is tested against. That crate verifies the tag before it decrypts, compares
//! it in constant time, and erases its copies of the key, the cipher state and the one-time key.

use chacha20poly1305::aead::{AeadInOut, KeyInit, Nonce};
use chacha20poly1305::consts::U16;
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};

use super::super::secret::Secret;
use super::{Forged, OpenLane, SealLane, TAG_LEN, nonce};

pub(super) fn seal(key: &Secret<32>, counter: u64, aad: &[u8], buffer: &mut [u8]) {
    let cipher = ChaCha20Poly1305::new(key.expose().into());
    seal_with(&cipher, &nonce(counter).into(), aad, buffer);
}

pub(super) fn seal_from(key: &Secret<32>, counter: u64, aad: &[u8], packet: &[u8], out: &mut [u8]) {
    if lay_out(packet, out).is_some() {
        seal(key, counter, aad, out);
    }
}

pub(super) fn open(
    key: &Secret<32>,
    counter: u64,
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let cipher = ChaCha20Poly1305::new(key.expose().into());
    open_with(&cipher, &nonce(counter).into(), aad, buffer)
}

pub(super) fn seal_batch(lanes: &mut [SealLane<'_>]) {
    for lane in lanes {
        match lane.source {
            Some(packet) => seal_from(&lane.key.key, lane.counter, &[], packet, lane.buffer),
            None => seal(&lane.key.key, lane.counter, &[], lane.buffer),
        }
    }
}

pub(super) fn open_batch(lanes: &mut [OpenLane<'_>]) {
    for lane in lanes {
        lane.authentic = open(&lane.key.key, lane.counter, &[], lane.buffer).is_ok();
    }
}

pub(super) fn xseal(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    plaintext: &[u8; 16],
) -> [u8; 32] {
    let mut sealed = [0; 32];
    if lay_out(plaintext, &mut sealed).is_some() {
        let cipher = XChaCha20Poly1305::new(key.into());
        seal_with(&cipher, nonce.into(), aad, &mut sealed);
    }
    sealed
}

pub(super) fn xopen(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    sealed: &[u8; 32],
) -> Option<[u8; 16]> {
    let mut buffer = *sealed;
    let cipher = XChaCha20Poly1305::new(key.into());
    open_with(&cipher, nonce.into(), aad, &mut buffer).ok()?;
    buffer.first_chunk().copied()
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

/// Writes the packet and its zero padding in front of the place of the tag; `None` and nothing
/// written when they do not fit.
fn lay_out(packet: &[u8], out: &mut [u8]) -> Option<()> {
    let (text, _tag) = out.split_last_chunk_mut::<TAG_LEN>()?;
    let (head, padding) = text.split_at_mut_checked(packet.len())?;
    head.copy_from_slice(packet);
    padding.fill(0);
    Some(())
}
