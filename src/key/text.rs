//! Keys as text: base64 as `wg` prints it, hexadecimal as the userspace interface speaks it.
//!
//! A key that is being encoded or decoded is a secret, so neither direction looks anything up in
//! memory at a secret index, nor branches on a secret: every digit goes through all runs of its
//! alphabet and masks select the one that applies. Only a text that is *not* a key is searched
//! in variable time, for the position to report. The formats are those of RFC 4648, section 4
//! (with padding, canonical) and section 8.

use core::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{KEY_LEN, KeyError};

/// Characters of a key in base64: ten groups of four and a last one that ends in `=`.
pub(super) const BASE64_LEN: usize = 44;
/// Characters of a key in hexadecimal.
pub(super) const HEX_LEN: usize = 64;

/// The text of one key, inline, without allocation; wiped when dropped.
///
/// Made by `to_base64` (`KeyText<44>`) and `to_hex` (`KeyText<64>`) of the three key types.
/// `Debug` shows no key text, because the key may be a secret; [`KeyText::as_str`] and `Display`
/// show it all.
pub struct KeyText<const N: usize>([u8; N]);

impl<const N: usize> KeyText<N> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The digits are ASCII, so the alternative cannot happen.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl<const N: usize> AsRef<str> for KeyText<N> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> fmt::Display for KeyText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for KeyText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(..)")
    }
}

impl<const N: usize> Drop for KeyText<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Consecutive digits: `first` stands for `value`, the next character for `value + 1`, and so on.
struct Run {
    first: u8,
    value: u8,
    count: u8,
}

const fn run(first: u8, value: u8, count: u8) -> Run {
    Run {
        first,
        value,
        count,
    }
}

const BASE64: [Run; 5] = [
    run(b'A', 0, 26),
    run(b'a', 26, 26),
    run(b'0', 52, 10),
    run(b'+', 62, 1),
    run(b'/', 63, 1),
];
const HEX_LOWER: [Run; 2] = [run(b'0', 0, 10), run(b'a', 10, 6)];
const HEX_UPPER: [Run; 1] = [run(b'A', 10, 6)];

pub(super) fn to_base64(key: &[u8; KEY_LEN]) -> KeyText<BASE64_LEN> {
    let mut text = KeyText([b'='; BASE64_LEN]);
    for (bytes, digits) in key.chunks(3).zip(text.0.chunks_mut(4)) {
        let mut bits = 0_u32;
        for position in 0..3 {
            bits = (bits << 8) | u32::from(bytes.get(position).copied().unwrap_or(0));
        }
        // n bytes need n + 1 digits; what is left of the last group stays `=`.
        for (digit, shift) in digits.iter_mut().take(bytes.len() + 1).zip([18, 12, 6, 0]) {
            *digit = digit_of(&BASE64, low_byte(bits >> shift) & 63);
        }
    }
    text
}

pub(super) fn to_hex(key: &[u8; KEY_LEN]) -> KeyText<HEX_LEN> {
    let mut text = KeyText([0; HEX_LEN]);
    for (byte, digits) in key.iter().zip(text.0.as_chunks_mut::<2>().0) {
        *digits = [
            digit_of(&HEX_LOWER, byte >> 4),
            digit_of(&HEX_LOWER, byte & 15),
        ];
    }
    text
}

pub(super) fn from_base64(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let [body @ .., pad] = digits::<BASE64_LEN>(text)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    let mut invalid = 0;
    let mut left_over = 0;
    for (digits, bytes) in body.chunks(4).zip(key.chunks_mut(3)) {
        let mut bits = 0;
        for position in 0..4 {
            let value = value_of(&[&BASE64], digits.get(position).copied().unwrap_or(b'A'));
            invalid |= value;
            bits = (bits << 6) | (value & 63);
        }
        let [low, middle, high, _] = bits.to_le_bytes();
        for (byte, decoded) in bytes.iter_mut().zip([high, middle, low]) {
            *byte = decoded;
        }
        // Whole groups use their lowest byte; in the last one it is beyond the key's end.
        left_over = low;
    }
    if invalid < 0 {
        return Err(first_bad_character(body, &[&BASE64]));
    }
    if *pad != b'=' {
        return Err(KeyError::Padding);
    }
    if left_over != 0 {
        return Err(KeyError::NotCanonical);
    }
    Ok(key)
}

pub(super) fn from_hex(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let alphabet: [&[Run]; 2] = [&HEX_LOWER, &HEX_UPPER];
    let digits = digits::<HEX_LEN>(text)?;
    let mut key = Zeroizing::new([0; KEY_LEN]);
    let mut invalid = 0;
    for ([high, low], byte) in digits.as_chunks::<2>().0.iter().zip(key.iter_mut()) {
        let (high, low) = (value_of(&alphabet, *high), value_of(&alphabet, *low));
        invalid |= high | low;
        let [value, ..] = ((high << 4) | (low & 15)).to_le_bytes();
        *byte = value;
    }
    if invalid < 0 {
        return Err(first_bad_character(digits, &alphabet));
    }
    Ok(key)
}

/// The digits of `text` when it has the right length.
fn digits<const N: usize>(text: &str) -> Result<&[u8; N], KeyError> {
    <&[u8; N]>::try_from(text.as_bytes()).map_err(|_| {
        let got = text.chars().count();
        match text.chars().position(|character| !character.is_ascii()) {
            Some(before) if got == N => KeyError::Character {
                position: before + 1,
            },
            _ => KeyError::Length { got, expected: N },
        }
    })
}

/// Names the first character outside of the alphabet. Not constant-time: `digits` is no key.
fn first_bad_character(digits: &[u8], alphabet: &[&[Run]]) -> KeyError {
    // All before it are ASCII, so its position in bytes is that in characters.
    let before = digits
        .iter()
        .take_while(|digit| value_of(alphabet, **digit) >= 0)
        .count();
    KeyError::Character {
        position: before + 1,
    }
}

/// The value of `digit`, or -1. Takes the same time for every digit.
fn value_of(alphabet: &[&[Run]], digit: u8) -> i32 {
    let mut value_plus_one = 0;
    for run in alphabet.iter().copied().flatten() {
        let offset = i32::from(digit) - i32::from(run.first);
        value_plus_one |= within(offset, run.count) & (offset + i32::from(run.value) + 1);
    }
    value_plus_one - 1
}

/// The digit for `value`. Takes the same time for every value.
fn digit_of(alphabet: &[Run], value: u8) -> u8 {
    let mut digit = 0;
    for run in alphabet {
        let offset = i32::from(value) - i32::from(run.value);
        digit |= within(offset, run.count) & (offset + i32::from(run.first));
    }
    let [digit, ..] = digit.to_le_bytes();
    digit
}

/// All ones when `0 <= offset < count`, otherwise all zeros.
fn within(offset: i32, count: u8) -> i32 {
    // Either difference has its sign bit set exactly when its bound is violated.
    !((offset | (i32::from(count) - 1 - offset)) >> 31)
}

fn low_byte(bits: u32) -> u8 {
    let [low, ..] = bits.to_le_bytes();
    low
}
