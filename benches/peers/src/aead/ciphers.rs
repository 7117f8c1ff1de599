//! ChaCha20-Poly1305 of other crates, each behind [`Cipher`].
//!
//! A key is set up once. Messages are sealed and opened in place with empty associated data.

use aws_lc_rs::aead as aws;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use ring::aead as ring_aead;
use rscrypto::aead::Nonce96;
use rscrypto::aead::expert::AeadWithNonce as _;

use crate::tunnel::BUFFER;

/// The number of bytes of a tag.
pub const TAG: usize = 16;

/// A key in the form in which an implementation wants to keep it.
pub trait Cipher {
    /// Sets the key up.
    fn new(key: [u8; 32]) -> Self;

    /// Seals in place: the last [`TAG`] bytes of `buffer` become the tag of those before.
    fn seal(&mut self, counter: u64, buffer: &mut [u8]);

    /// Opens in place what `seal` made; says whether the tag was right.
    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool;
}

/// The protocol's nonce.
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// Text and tag.
fn parts(buffer: &mut [u8]) -> (&mut [u8], &mut [u8; TAG]) {
    buffer
        .split_last_chunk_mut()
        .expect("there is room for the tag")
}

/// `ring`.
#[derive(Debug)]
pub struct Ring(ring_aead::LessSafeKey);

impl Cipher for Ring {
    fn new(key: [u8; 32]) -> Self {
        let key = ring_aead::UnboundKey::new(&ring_aead::CHACHA20_POLY1305, &key);
        Self(ring_aead::LessSafeKey::new(key.expect("32 bytes")))
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        let nonce = ring_aead::Nonce::assume_unique_for_key(nonce(counter));
        let (text, tag) = parts(buffer);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, ring_aead::Aad::empty(), text);
        tag.copy_from_slice(sealed.expect("it is short").as_ref());
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        let nonce = ring_aead::Nonce::assume_unique_for_key(nonce(counter));
        let opened = self.0.open_in_place(nonce, ring_aead::Aad::empty(), buffer);
        opened.is_ok()
    }
}

/// `aws-lc-rs`.
#[derive(Debug)]
pub struct AwsLc(aws::LessSafeKey);

impl Cipher for AwsLc {
    fn new(key: [u8; 32]) -> Self {
        let key = aws::UnboundKey::new(&aws::CHACHA20_POLY1305, &key);
        Self(aws::LessSafeKey::new(key.expect("32 bytes")))
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        let nonce = aws::Nonce::assume_unique_for_key(nonce(counter));
        let (text, tag) = parts(buffer);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, aws::Aad::empty(), text);
        tag.copy_from_slice(sealed.expect("it is short").as_ref());
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        let nonce = aws::Nonce::assume_unique_for_key(nonce(counter));
        let opened = self.0.open_in_place(nonce, aws::Aad::empty(), buffer);
        opened.is_ok()
    }
}

/// `RustCrypto`'s `chacha20poly1305`.
#[derive(Debug)]
pub struct RustCrypto(ChaCha20Poly1305);

impl Cipher for RustCrypto {
    fn new(key: [u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(&key.into()))
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        let nonce = nonce(counter).into();
        let (text, tag) = parts(buffer);
        let sealed = self.0.encrypt_inout_detached(&nonce, &[], text.into());
        *tag = sealed.expect("it is short").into();
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        let nonce = nonce(counter).into();
        let (text, tag) = parts(buffer);
        let opened = self
            .0
            .decrypt_inout_detached(&nonce, &[], text.into(), (&*tag).into());
        opened.is_ok()
    }
}

/// `graviola`.
pub struct Graviola(graviola::aead::ChaCha20Poly1305);

impl Cipher for Graviola {
    fn new(key: [u8; 32]) -> Self {
        Self(graviola::aead::ChaCha20Poly1305::new(key))
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        let (text, tag) = parts(buffer);
        self.0.encrypt(&nonce(counter), &[], text, tag);
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        let (text, tag) = parts(buffer);
        self.0.decrypt(&nonce(counter), &[], text, tag).is_ok()
    }
}

/// `rscrypto`.
pub struct Rscrypto(rscrypto::ChaCha20Poly1305);

impl Cipher for Rscrypto {
    fn new(key: [u8; 32]) -> Self {
        let key = rscrypto::ChaCha20Poly1305Key::from_bytes(key);
        Self(rscrypto::ChaCha20Poly1305::new(&key))
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        let nonce = Nonce96::from_bytes(nonce(counter));
        let (text, tag) = parts(buffer);
        let sealed = self.0.encrypt_in_place(&nonce, &[], text);
        *tag = sealed.expect("it is short").to_bytes();
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        let nonce = Nonce96::from_bytes(nonce(counter));
        let (text, tag) = parts(buffer);
        let tag = rscrypto::ChaCha20Poly1305Tag::from_bytes(*tag);
        self.0.decrypt_in_place(&nonce, &[], text, &tag).is_ok()
    }
}

/// `libcrux-chacha20poly1305`, which cannot work in place: a copy comes first.
pub struct Libcrux {
    key: [u8; 32],
    copy: Vec<u8>,
}

impl Cipher for Libcrux {
    fn new(key: [u8; 32]) -> Self {
        let copy = vec![0; BUFFER];
        Self { key, copy }
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        let (text, tag) = parts(buffer);
        let copy = &mut self.copy[..text.len()];
        copy.copy_from_slice(text);
        libcrux_chacha20poly1305::encrypt_detached(
            &self.key,
            copy,
            text,
            tag,
            &[],
            &nonce(counter),
        )
        .expect("it is short");
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        let (text, tag) = parts(buffer);
        let copy = &mut self.copy[..text.len()];
        copy.copy_from_slice(text);
        libcrux_chacha20poly1305::decrypt_detached(&self.key, text, copy, tag, &[], &nonce(counter))
            .is_ok()
    }
}

/// OpenSSL's EVP interface: one context for each direction, which keeps the key.
#[cfg(feature = "openssl")]
pub struct OpenSsl {
    sealing: openssl::cipher_ctx::CipherCtx,
    opening: openssl::cipher_ctx::CipherCtx,
}

#[cfg(feature = "openssl")]
impl Cipher for OpenSsl {
    fn new(key: [u8; 32]) -> Self {
        let cipher = openssl::cipher::Cipher::chacha20_poly1305();
        let context = || openssl::cipher_ctx::CipherCtx::new().expect("there is memory");
        let [mut sealing, mut opening] = [context(), context()];
        sealing
            .encrypt_init(Some(cipher), Some(&key), None)
            .expect("32 bytes");
        opening
            .decrypt_init(Some(cipher), Some(&key), None)
            .expect("32 bytes");
        Self { sealing, opening }
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        let context = &mut self.sealing;
        let (text, tag) = parts(buffer);
        context
            .encrypt_init(None, None, Some(&nonce(counter)))
            .and_then(|()| context.cipher_update_inplace(text, text.len()))
            .and_then(|_| context.cipher_final(&mut []))
            .and_then(|_| context.tag(tag))
            .expect("it is short");
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        let context = &mut self.opening;
        let (text, tag) = parts(buffer);
        context
            .decrypt_init(None, None, Some(&nonce(counter)))
            .and_then(|()| context.set_tag(tag))
            .and_then(|()| context.cipher_update_inplace(text, text.len()))
            .and_then(|_| context.cipher_final(&mut []))
            .is_ok()
    }
}
