//! Fixed-size secret bytes.
//!
//! A [`Secret`] erases its bytes when it is dropped, never prints them and has no `PartialEq`, so
//! that a comparison which leaks timing cannot be written by accident. It does not lock memory and
//! cannot erase copies that the compiler made by moving it.

use core::fmt;

use subtle::ConstantTimeEq;

/// `N` secret bytes, erased on drop.
#[derive(Clone)]
pub(crate) struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes over `bytes`. The caller's own copy, if it keeps one, is its own to erase.
    pub(crate) const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// Makes a secret of `N` zero bytes.
    pub(crate) const fn zeroed() -> Self {
        Self([0; N])
    }

    /// Shows the bytes. The name is meant to stand out wherever secret bytes leave this type.
    pub(crate) const fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// Compares in constant time.
    pub(crate) fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    #[inline]
    fn drop(&mut self) {
        // As `zeroize` does, but in whole words: every packet's job drops a key, and `zeroize`
        // writes single bytes.
        self.0 = [0; N];
        zeroize::optimization_barrier(&self.0);
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_redacted() {
        let shown = std::format!(
            "{:?} {:#?}",
            Secret::new([0xab; 32]),
            Secret::new([0xab; 16])
        );
        assert_eq!(shown, "Secret(..) Secret(..)");
    }

    #[test]
    fn comparison_sees_every_bit() {
        let secret = Secret::new([0x5a; 32]);
        assert!(secret.ct_eq(&secret.clone()));
        for bit in 0..256 {
            let mut bytes = *secret.expose();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!secret.ct_eq(&Secret::new(bytes)), "bit {bit}");
        }
        assert!(Secret::<7>::zeroed().ct_eq(&Secret::new([0; 7])));
    }

    #[test]
    fn there_is_a_destructor_to_erase_with() {
        assert!(core::mem::needs_drop::<Secret<32>>());
    }
}
