//! Reads the test vectors in `tests/vectors/`.
//!
//! A file is a list of tests set apart by empty lines. A test is a list of `name=value` lines; byte
//! strings are in hexadecimal. Lines that start with `#` are comments.

use std::vec::Vec;

/// One test of a vector file.
#[derive(Debug)]
pub(crate) struct Vector<'a>(Vec<(&'a str, &'a str)>);

/// Splits a file into its tests.
pub(crate) fn parse(file: &str) -> Vec<Vector<'_>> {
    let mut tests = std::vec![Vector(Vec::new())];
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once('=') {
            Some(field) => tests.last_mut().unwrap().0.push(field),
            None => tests.push(Vector(Vec::new())),
        }
    }
    tests.retain(|test| !test.0.is_empty());
    assert!(!tests.is_empty(), "a file without tests");
    tests
}

impl<'a> Vector<'a> {
    /// The value as it is written, or `None` when this test has no such line.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.0.iter();
        fields.find(|field| field.0 == name).map(|field| field.1)
    }

    /// The value as it is written.
    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.get(name)
            .unwrap_or_else(|| panic!("{name} is missing: {self:?}"))
    }

    /// The value as a decimal number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap()
    }

    /// The value as a byte string.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        decode(self.text(name))
    }

    /// The value as a byte string of a known length.
    pub(crate) fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }
}

/// Decodes hexadecimal digits.
pub(crate) fn decode(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "half a byte: {digits}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// Decodes hexadecimal digits into a byte string of a known length.
pub(crate) fn decode_array<const N: usize>(digits: &str) -> [u8; N] {
    decode(digits).try_into().unwrap()
}
