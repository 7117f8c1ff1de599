//! The three kinds of key that a user handles, each 32 bytes: [`PrivateKey`], [`PublicKey`],
//! [`PresharedKey`].
//!
//! They read and write the texts of `wg(8)`: base64 of 44 characters in files, 64 hexadecimal
//! digits in the userspace interface. Both readers take exactly one key and nothing around it.
//! The two secret kinds are wiped when dropped, print nothing, and compare only by `ct_eq`;
//! their bytes come out through `expose`, their text through `to_base64` and `to_hex`, so that
//! every place where a secret leaves its type can be searched for. Key agreement is not here.

mod text;

use core::fmt;
use core::str::FromStr;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

pub use text::KeyText;

/// Bytes of a key.
const KEY_LEN: usize = 32;

/// A key in base64: 44 characters.
pub type Base64Key = KeyText<{ text::BASE64_LEN }>;

/// A key in hexadecimal: 64 lower-case digits.
pub type HexKey = KeyText<{ text::HEX_LEN }>;

/// An X25519 private key: who this side is.
///
/// Always *clamped*: the lowest three bits and the highest bit of the scalar are cleared and the
/// next to highest is set, as X25519 (RFC 7748, section 5) does with every key when it uses it.
/// `wg genkey` makes clamped keys and Linux clamps the key that it is given, so the text of a
/// `PrivateKey` is what `wg showconf` shows; its public key is that of the unclamped bytes.
///
/// Wiped when dropped; `Debug` shows no key text; equality only by [`PrivateKey::ct_eq`].
#[derive(Clone)]
pub struct PrivateKey([u8; KEY_LEN]);

impl PrivateKey {
    /// Makes a new key from 32 bytes of `rng`.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        rng.fill_bytes(bytes.as_mut());
        Self::from_bytes(*bytes)
    }

    /// Takes 32 bytes as a key and clamps them. Wiping the caller's copy is up to the caller.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        let mut key = Self(bytes);
        let [first, .., last] = &mut key.0;
        *first &= 0b1111_1000;
        *last = (*last & 0b0111_1111) | 0b0100_0000;
        key
    }

    /// Reads the 44 characters that `wg genkey` prints, without its newline; clamps the key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless `text` is the canonical base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        text::from_base64(text).map(|bytes| Self::from_bytes(*bytes))
    }

    /// Reads 64 hexadecimal digits of either case; clamps the key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless `text` is exactly that.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        text::from_hex(text).map(|bytes| Self::from_bytes(*bytes))
    }

    /// Computes the public key. Costs one X25519 multiplication of the base point.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let public = multiply_base(&self.0);
        wipe_dead_stack();
        PublicKey(public)
    }

    /// The secret as base64; the text is wiped when dropped.
    #[must_use]
    pub fn to_base64(&self) -> Base64Key {
        text::to_base64(&self.0)
    }

    /// The secret in hexadecimal; the text is wiped when dropped.
    #[must_use]
    pub fn to_hex(&self) -> HexKey {
        text::to_hex(&self.0)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether both are the same key, in time that does not depend on the keys.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

#[inline(never)]
fn multiply_base(private: &[u8; KEY_LEN]) -> [u8; KEY_LEN] {
    x25519_dalek::PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

/// Overwrites what the function that was called just before has left on the stack.
///
/// A key that was moved stays where it was, and `curve25519-dalek` clamps a copy of it; values that are
/// built there later would carry it on in their padding. This frame begins where that one began. Costs
/// some 50 ns, next to a multiplication of 10 to 40 µs.
#[inline(never)]
pub(crate) fn wipe_dead_stack() {
    core::hint::black_box(&mut [0_u8; 4096]);
}

/// An X25519 public key: who a peer is.
///
/// Any 32 bytes are one; that a key is of low order, and thus useless, shows when it is used.
/// `Display` and `Debug` print base64. The order is that of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// Takes 32 bytes as a key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Reads the 44 characters that `wg pubkey` prints, without its newline.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless `text` is the canonical base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        text::from_base64(text).map(|bytes| Self(*bytes))
    }

    /// Reads 64 hexadecimal digits of either case.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless `text` is exactly that.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        text::from_hex(text).map(|bytes| Self(*bytes))
    }

    /// The key as base64.
    #[must_use]
    pub fn to_base64(&self) -> Base64Key {
        text::to_base64(&self.0)
    }

    /// The key in hexadecimal.
    #[must_use]
    pub fn to_hex(&self) -> HexKey {
        text::to_hex(&self.0)
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

/// A secret that both sides of a tunnel mix into their handshakes, in addition to the key pairs.
///
/// The default, [`PresharedKey::NONE`], is 32 zero bytes: on the wire "no preshared key" and the
/// key of zeros are the same thing.
///
/// Wiped when dropped; `Debug` shows no key text; equality only by [`PresharedKey::ct_eq`].
#[derive(Clone, Default)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PresharedKey {
    /// No preshared key: 32 zero bytes.
    pub const NONE: Self = Self([0; KEY_LEN]);

    /// Makes a new key from 32 bytes of `rng`.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut key = Self::NONE;
        rng.fill_bytes(&mut key.0);
        key
    }

    /// Takes 32 bytes as a key. Wiping the caller's copy is up to the caller.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Reads the 44 characters that `wg genpsk` prints, without its newline.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless `text` is the canonical base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        text::from_base64(text).map(|bytes| Self(*bytes))
    }

    /// Reads 64 hexadecimal digits of either case.
    ///
    /// # Errors
    ///
    /// [`KeyError`] unless `text` is exactly that.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        text::from_hex(text).map(|bytes| Self(*bytes))
    }

    /// The secret as base64; the text is wiped when dropped.
    #[must_use]
    pub fn to_base64(&self) -> Base64Key {
        text::to_base64(&self.0)
    }

    /// The secret in hexadecimal; the text is wiped when dropped.
    #[must_use]
    pub fn to_hex(&self) -> HexKey {
        text::to_hex(&self.0)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether this is [`PresharedKey::NONE`], in time that does not depend on the key.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.ct_eq(&Self::NONE)
    }

    /// Whether both are the same key, in time that does not depend on the keys.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Why a text is not a key. Never holds or prints any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The text has another number of characters.
    Length {
        /// The characters of the text.
        got: usize,
        /// The characters of a key in this format.
        expected: usize,
    },
    /// A character is not a digit of this format.
    Character {
        /// Where it stands, in characters, counted from 1.
        position: usize,
    },
    /// The 44th character of a base64 key is not `=`.
    Padding,
    /// The 43rd character of a base64 key has bits that belong to no byte.
    NotCanonical,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length { got, expected } => {
                let format = if expected == text::HEX_LEN {
                    "hexadecimal"
                } else {
                    "base64"
                };
                write!(f, "a key in {format} has {expected} characters, not {got}")?;
                f.write_str(length_hint(got, expected))
            }
            Self::Character { position } => write!(
                f,
                "character {position} is not a digit of the key's format: copy the key again"
            ),
            Self::Padding => f.write_str("a key in base64 ends in `=`: copy the key again"),
            Self::NotCanonical => f.write_str(
                "the character before the final `=` is not one that a key of 32 bytes can have: \
                 copy the key again",
            ),
        }
    }
}

impl core::error::Error for KeyError {}

fn length_hint(got: usize, expected: usize) -> &'static str {
    match (got, expected) {
        (text::HEX_LEN, text::BASE64_LEN) => ": is this hexadecimal?",
        (text::BASE64_LEN, text::HEX_LEN) => ": is this base64?",
        (43, text::BASE64_LEN) => ": is the final `=` missing?",
        (0, _) => ": the text is empty",
        _ if got > expected => ": remove what surrounds the key, line ends and spaces too",
        _ => ": copy the whole key",
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    /// Reads base64, as [`PrivateKey::from_base64`].
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_base64(text)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Reads base64, as [`PublicKey::from_base64`].
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_base64(text)
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    /// Reads base64, as [`PresharedKey::from_base64`].
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_base64(text)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_base64().fmt(f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for PresharedKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests;
