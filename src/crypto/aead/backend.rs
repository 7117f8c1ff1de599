//! The choice of code that runs the AEAD.
//!
//! A [`Backend`] names an implementation that this machine can run. The variant of a vector kernel
//! carries the kernel's token, a type that only run-time detection can make, so that a value of this
//! type is proof enough to call the kernel. To add one: a file with the kernel and its token, a
//! variant here, a line in [`Backend::available`], and the arms that the compiler then asks for in
//! the parent module. No caller changes.

use core::fmt;

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
use super::simd::{Avx2, Avx512};
#[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
use super::simd::Neon;
#[cfg(all(test, feature = "simd"))]
use super::simd::Plain;

/// An implementation of ChaCha20-Poly1305 that this machine can run.
///
/// All of them compute the same function; they differ in speed only. What a variant carries cannot
/// be made by hand: it is the proof that the processor was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Safe code for every target.
    Portable,
    /// AVX-512 with F, BW, VL, DQ and IFMA.
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Avx512(Avx512),
    /// AVX2.
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Avx2(Avx2),
    /// NEON, which every 64-bit Arm has unless it is told to do without.
    #[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
    Neon(Neon),
    /// Tests what the vector kernels share, also where none of them runs.
    #[cfg(all(test, feature = "simd"))]
    Plain(Plain),
}

impl Backend {
    /// The fastest implementation that this machine can run.
    #[must_use]
    #[inline]
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Every implementation that this machine can run, the fastest first.
    ///
    /// [`Portable`](Self::Portable) is always the last.
    pub fn available() -> impl Iterator<Item = Self> {
        let all = [
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Avx512::detect().map(Self::Avx512),
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Avx2::detect().map(Self::Avx2),
            #[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
            Neon::detect().map(Self::Neon),
            #[cfg(all(test, feature = "simd"))]
            Some(Self::Plain(Plain)),
            Some(Self::Portable),
        ];
        all.into_iter().flatten()
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portable => "portable",
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Self::Avx512(_) => "avx512",
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Self::Avx2(_) => "avx2",
            #[cfg(all(feature = "simd", target_arch = "aarch64", target_feature = "neon"))]
            Self::Neon(_) => "neon",
            #[cfg(all(test, feature = "simd"))]
            Self::Plain(_) => "plain",
        })
    }
}
