//! ChaCha20-Poly1305 (RFC 8439) with the nonces of the protocol, one packet or many at a time.
//!
//! [`AeadKey`] seals and opens single messages. [`seal_batch`] and [`open_batch`] take lanes, each
//! with its own key, counter and buffer, so that a SIMD kernel can work across packets and across
//! peers. [`xseal`] and [`xopen`] are the extended-nonce variant, for cookie replies only.
//!
//! Which code runs is a [`Backend`], a property of the key. This module decides nothing but that:
//! it dispatches, and each backend offers the same functions. Nothing here keeps counters apart;
//! never to use one twice under a key is the session's duty.

mod backend;
#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod oracle;
mod poly1305;
mod portable;
#[cfg(all(
    feature = "simd",
    any(
        test,
        target_arch = "x86_64",
        all(target_arch = "aarch64", target_feature = "neon")
    )
))]
mod simd;
mod soft;
#[cfg(test)]
mod tests;

use core::fmt;

pub use backend::Backend;
use backend::{Kind, on_kernel};

use super::secret::Secret;

/// The number of bytes by which a sealed message is longer than its plaintext.
pub(crate) const TAG_LEN: usize = 16;

/// A message failed authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forged;

/// A 32-byte key and the code that will use it; erased on drop.
#[derive(Clone)]
pub(crate) struct AeadKey {
    key: Secret<32>,
    backend: Backend,
}

impl AeadKey {
    /// Makes a key that uses the fastest backend of this machine.
    pub(crate) fn new(key: Secret<32>) -> Self {
        Self::with_backend(key, Backend::detect())
    }

    /// Makes a key that uses `backend`.
    pub(crate) const fn with_backend(key: Secret<32>, backend: Backend) -> Self {
        Self { key, backend }
    }

    /// Seals in place: all of `buffer` but its last [`TAG_LEN`] bytes is plaintext and becomes
    /// ciphertext, those bytes become the tag.
    ///
    /// A `buffer` shorter than a tag is a mistake of the caller; it is left as it is.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], buffer: &mut [u8]) {
        debug_assert!(buffer.len() >= TAG_LEN, "no room for the tag");
        self.seal_at(&nonce(counter), aad, buffer);
    }

    /// Seals `packet` into `out`, filling the space between the packet's end and the tag, which
    /// stands at the end of `out`, with zero bytes of plaintext.
    ///
    /// An `out` shorter than the packet and a tag is a mistake of the caller; it is left as it is.
    #[cfg(test)]
    pub(crate) fn seal_from(&self, counter: u64, aad: &[u8], packet: &[u8], out: &mut [u8]) {
        let laid_out = lay_out(packet, out);
        debug_assert!(laid_out.is_some(), "no room for the packet and the tag");
        if laid_out.is_some() {
            self.seal_at(&nonce(counter), aad, out);
        }
    }

    /// Opens in place: on success all of `buffer` but its last [`TAG_LEN`] bytes is plaintext.
    ///
    /// # Errors
    ///
    /// [`Forged`] when the tag is not the right one or `buffer` is shorter than a tag. The buffer
    /// then holds no plaintext, and otherwise unspecified bytes.
    pub(crate) fn open(&self, counter: u64, aad: &[u8], buffer: &mut [u8]) -> Result<(), Forged> {
        self.open_at(&nonce(counter), aad, buffer)
    }

    #[inline]
    fn erase(&mut self) {
        self.key = Secret::zeroed();
    }

    fn seal_at(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) {
        on_kernel!(
            self.backend,
            kernel => simd::seal(kernel, self.key.expose(), nonce, aad, buffer),
            portable::seal(&self.key, nonce, aad, buffer)
        );
    }

    fn open_at(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) -> Result<(), Forged> {
        on_kernel!(
            self.backend,
            kernel => simd::open(kernel, self.key.expose(), nonce, aad, buffer),
            portable::open(&self.key, nonce, aad, buffer)
        )
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadKey")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// One message to be sealed by [`seal_batch`], with empty associated data.
pub(crate) struct SealLane<'a> {
    /// A job's copy of a key, erased when it was used.
    pub(crate) key: &'a mut AeadKey,
    pub(crate) counter: u64,
    /// As in `AeadKey::seal_from`; `None` seals in place, as [`AeadKey::seal`] does.
    pub(crate) source: Option<&'a [u8]>,
    pub(crate) buffer: &'a mut [u8],
}

impl fmt::Debug for SealLane<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealLane")
            .field("key", self.key)
            .field("counter", &self.counter)
            .field("len", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

/// One message to be opened by [`open_batch`], with empty associated data.
pub(crate) struct OpenLane<'a> {
    /// A job's copy of a key, erased when it was used.
    pub(crate) key: &'a mut AeadKey,
    pub(crate) counter: u64,
    pub(crate) buffer: &'a mut [u8],
    /// The verdict, written by [`open_batch`] whatever it was before.
    pub(crate) authentic: &'a mut bool,
}

impl fmt::Debug for OpenLane<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenLane")
            .field("key", self.key)
            .field("counter", &self.counter)
            .field("len", &self.buffer.len())
            .field("authentic", &self.authentic)
            .finish_non_exhaustive()
    }
}

/// Seals every lane as [`AeadKey::seal`] or `AeadKey::seal_from` would, up to the first `None`.
///
/// A backend that works across lanes takes those that follow too, up to a window, whatever their own
/// backend is; the portable one takes each as it comes.
#[inline]
pub(crate) fn seal_batch<'a>(lanes: impl IntoIterator<Item = SealLane<'a>>) {
    let mut lanes = lanes.into_iter().fuse();
    #[allow(clippy::while_let_on_iterator, reason = "vector code takes more lanes")]
    while let Some(mut lane) = lanes.next() {
        on_kernel!(lane.key.backend, kernel => simd::seal_batch(kernel, lane, &mut lanes), {
            portable::seal_lane(&mut lane);
            lane.key.erase();
        });
    }
}

/// Opens every lane as [`AeadKey::open`] would, up to the first `None`, and leaves the verdicts.
///
/// A forged message changes nothing for the other lanes.
#[inline]
pub(crate) fn open_batch<'a>(lanes: impl IntoIterator<Item = OpenLane<'a>>) {
    let mut lanes = lanes.into_iter().fuse();
    #[allow(clippy::while_let_on_iterator, reason = "vector code takes more lanes")]
    while let Some(mut lane) = lanes.next() {
        on_kernel!(lane.key.backend, kernel => simd::open_batch(kernel, lane, &mut lanes), {
            portable::open_lane(&mut lane);
            lane.key.erase();
        });
    }
}

/// Seals a cookie with XChaCha20-Poly1305. Rare, so no backend has code of its own for it.
pub(crate) fn xseal(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    plaintext: &[u8; 16],
) -> [u8; 32] {
    let mut sealed = [0; 32];
    if lay_out(plaintext, &mut sealed).is_some() {
        portable::xseal(key, nonce, aad, &mut sealed);
    }
    sealed
}

/// Opens a cookie sealed by [`xseal`]; `None` when it is forged.
pub(crate) fn xopen(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    sealed: &[u8; 32],
) -> Option<[u8; 16]> {
    let mut buffer = *sealed;
    portable::xopen(key, nonce, aad, &mut buffer).ok()?;
    buffer.first_chunk().copied()
}

/// The nonce of a message: four zero bytes, then the counter in little-endian.
#[inline]
fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    if let Some(tail) = nonce.last_chunk_mut() {
        *tail = counter.to_le_bytes();
    }
    nonce
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
