//! The choice of code that runs the AEAD.
//!
//! A [`Backend`] names an implementation that this machine can run. The variant of a SIMD kernel
//! carries the kernel's detection token, a type that only run-time detection can make, so that a
//! value of this type is proof enough to call the kernel. To add one: a file with the kernel and
//! its token, a variant here, a line in [`Backend::available`], and the arms that the compiler then
//! asks for in the parent module. No caller changes.

use core::fmt;

/// An implementation of ChaCha20-Poly1305 that this machine can run.
///
/// All of them compute the same function; they differ in speed only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// The `chacha20poly1305` crate: every target, no unsafe code here.
    Portable,
}

impl Backend {
    /// The fastest implementation that this machine can run.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Every implementation that this machine can run, the fastest first.
    ///
    /// [`Portable`](Self::Portable) is always among them.
    pub fn available() -> impl Iterator<Item = Self> {
        [Some(Self::Portable)].into_iter().flatten()
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portable => "portable",
        })
    }
}
