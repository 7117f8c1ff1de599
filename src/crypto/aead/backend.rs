//! The choice of code that runs the AEAD.
//!
//! A [`Backend`] names an implementation that this machine can run. Inside, a vector kernel is named
//! by its token, a type that only run-time detection can make, so that a value is proof enough to
//! call the kernel. To add one: a folder with the kernel and its token, and below a kind, a line in
//! [`Backend::available`], a name and an arm of [`on_kernel!`]. No caller changes.

use core::fmt;

#[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
use super::simd::Neon;
#[cfg(all(test, feature = "simd"))]
use super::simd::Plain;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
use super::simd::{Avx2, Avx512, Avx512F};

/// An implementation of ChaCha20-Poly1305 that this machine can run.
///
/// All of them compute the same function; they differ in speed only. A session uses the one that
/// [`detect`](Self::detect) finds. The name is what [`Display`](fmt::Display) shows: `avx512` (with
/// IFMA), `avx512f` (without), `avx2`, `neon`, `portable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backend(pub(super) Kind);

/// What runs, with the proof that it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Portable,
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Avx512(Avx512),
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Avx512F(Avx512F),
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Avx2(Avx2),
    #[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
    Neon(Neon),
    /// Tests what the vector kernels share, also where none of them runs.
    #[cfg(all(test, feature = "simd"))]
    Plain(Plain),
}

/// One expression for all vector kernels, compiled for each, and one for the portable code.
macro_rules! on_kernel {
    ($backend:expr, $kernel:ident => $vector:expr, $portable:expr) => {
        match $backend.0 {
            Kind::Portable => $portable,
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Kind::Avx512($kernel) => $vector,
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Kind::Avx512F($kernel) => $vector,
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Kind::Avx2($kernel) => $vector,
            #[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon($kernel) => $vector,
            #[cfg(all(test, feature = "simd"))]
            Kind::Plain($kernel) => $vector,
        }
    };
}
pub(super) use on_kernel;

impl Backend {
    /// Safe code, which every target can run.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// The fastest implementation that this machine can run.
    #[must_use]
    #[inline]
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::PORTABLE)
    }

    /// Every implementation that this machine can run, the fastest first.
    ///
    /// [`PORTABLE`](Self::PORTABLE) is always the last.
    #[inline]
    pub fn available() -> impl Iterator<Item = Self> {
        let all = [
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Avx512::detect().map(Kind::Avx512),
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Avx512F::detect().map(Kind::Avx512F),
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Avx2::detect().map(Kind::Avx2),
            #[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
            Neon::detect().map(Kind::Neon),
            #[cfg(all(test, feature = "simd"))]
            Some(Kind::Plain(Plain)),
            Some(Kind::Portable),
        ];
        all.into_iter().flatten().map(Self)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            Kind::Portable => "portable",
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Kind::Avx512(_) => "avx512",
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Kind::Avx512F(_) => "avx512f",
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Kind::Avx2(_) => "avx2",
            #[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon(_) => "neon",
            #[cfg(all(test, feature = "simd"))]
            Kind::Plain(_) => "plain",
        })
    }
}
