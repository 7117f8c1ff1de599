//! The cipher step by itself, for benchmarks and fuzzing. Not part of what this crate promises.
//!
//! Programs have no use for it: a [`SealJob`](crate::SealJob) and an [`OpenJob`](crate::OpenJob)
//! run the same code and keep counters, replay windows and keys in order.

use core::fmt;

use crate::crypto::aead::{self, AeadKey, Backend};
use crate::crypto::secret::Secret;

/// The number of bytes of a tag.
pub const TAG_LEN: usize = aead::TAG_LEN;

/// A key and the code that uses it.
#[derive(Clone)]
pub struct Aead(AeadKey);

impl Aead {
    /// Makes a key for one backend.
    #[must_use]
    pub const fn new(key: [u8; 32], backend: Backend) -> Self {
        Self(AeadKey::with_backend(Secret::new(key), backend))
    }

    /// Seals in place: the last [`TAG_LEN`] bytes of `buffer` become the tag of those before.
    pub fn seal(&self, counter: u64, aad: &[u8], buffer: &mut [u8]) {
        self.0.seal(counter, aad, buffer);
    }

    /// Opens in place; whether the tag was right.
    #[must_use]
    pub fn open(&self, counter: u64, aad: &[u8], buffer: &mut [u8]) -> bool {
        self.0.open(counter, aad, buffer).is_ok()
    }
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message to be sealed by [`seal_batch`].
#[derive(Debug)]
pub struct Seal<'a> {
    /// Its key.
    pub key: &'a mut Aead,
    /// Its counter.
    pub counter: u64,
    /// The plaintext, if it does not lie in `buffer` already; zero padding follows it.
    pub source: Option<&'a [u8]>,
    /// The plaintext and room for the tag.
    pub buffer: &'a mut [u8],
}

/// A message to be opened by [`open_batch`].
#[derive(Debug)]
pub struct Open<'a> {
    /// Its key.
    pub key: &'a mut Aead,
    /// Its counter.
    pub counter: u64,
    /// The ciphertext and the tag.
    pub buffer: &'a mut [u8],
    /// Whether the tag was right.
    pub authentic: &'a mut bool,
}

/// Seals every message, and erases its key.
pub fn seal_batch<'a>(messages: impl IntoIterator<Item = Seal<'a>>) {
    aead::seal_batch(messages.into_iter().map(|message| aead::SealLane {
        key: &mut message.key.0,
        counter: message.counter,
        source: message.source,
        buffer: message.buffer,
    }));
}

/// Opens every message, and erases its key.
pub fn open_batch<'a>(messages: impl IntoIterator<Item = Open<'a>>) {
    aead::open_batch(messages.into_iter().map(|message| aead::OpenLane {
        key: &mut message.key.0,
        counter: message.counter,
        buffer: message.buffer,
        authentic: message.authentic,
    }));
}
