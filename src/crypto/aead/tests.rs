//! Tests of every backend of this machine, one message at a time, against published vectors.

mod cases;
mod matrix;

use std::vec;
use std::vec::Vec;

use super::super::secret::Secret;
use super::super::vectors::{Vector, parse};
use super::*;

const RFC: &str = include_str!("../../../tests/vectors/rfc8439.txt");
const CHACHA: &str = include_str!("../../../tests/vectors/wycheproof_chacha20_poly1305.txt");
const XCHACHA: &str = include_str!("../../../tests/vectors/wycheproof_xchacha20_poly1305.txt");

/// How many vectors were authentic, were forged, and cannot be said because of their nonce's size.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    authentic: usize,
    forged: usize,
    unsayable: usize,
}

impl Tally {
    /// Runs one vector through `seal` and `open`, which work in place.
    fn check<const N: usize>(
        &mut self,
        vector: &Vector<'_>,
        seal: impl Fn(&[u8; N], &[u8], &mut [u8]),
        open: impl Fn(&[u8; N], &[u8], &mut [u8]) -> Result<(), Forged>,
    ) {
        let Ok(nonce) = <[u8; N]>::try_from(vector.bytes("nonce")) else {
            assert_eq!(vector.text("result"), "invalid");
            self.unsayable += 1;
            return;
        };
        let (aad, text, sealed) = (
            vector.bytes("aad"),
            vector.bytes("text"),
            vector.bytes("sealed"),
        );
        let mut buffer = sealed.clone();
        let verdict = open(&nonce, &aad, &mut buffer);
        if vector.text("result") == "valid" {
            assert_eq!(verdict, Ok(()), "{vector:?}");
            assert_eq!(buffer[..text.len()], text, "{vector:?}");
            buffer[text.len()..].fill(0xaa);
            seal(&nonce, &aad, &mut buffer);
            assert_eq!(buffer, sealed, "{vector:?}");
            self.authentic += 1;
        } else {
            assert_eq!(verdict, Err(Forged), "{vector:?}");
            assert_no_plaintext(&text, &buffer);
            self.forged += 1;
        }
    }
}

/// No eight bytes of the plaintext stand where opening would have put them.
pub(super) fn assert_no_plaintext(text: &[u8], buffer: &[u8]) {
    for (plain, left) in text.chunks_exact(8).zip(buffer.chunks_exact(8)) {
        assert_ne!(plain, left);
    }
}

pub(super) fn key(vector: &Vector<'_>, backend: Backend) -> AeadKey {
    AeadKey::with_backend(Secret::new(vector.array("key")), backend)
}

#[test]
fn published_vectors() {
    for backend in Backend::available() {
        let mut tally = Tally::default();
        for vector in parse(RFC).iter().chain(&parse(CHACHA)) {
            let key = key(vector, backend);
            tally.check(
                vector,
                |nonce, aad, buffer| key.seal_at(nonce, aad, buffer),
                |nonce, aad, buffer| key.open_at(nonce, aad, buffer),
            );
        }
        let expected = Tally {
            authentic: 2 + 256,
            forged: 60,
            unsayable: 9,
        };
        assert_eq!(tally, expected, "{backend}");
    }
}

#[test]
fn published_vectors_of_the_extended_nonce() {
    let mut tally = Tally::default();
    let mut cookies = 0;
    for vector in &parse(XCHACHA) {
        let key = vector.array("key");
        tally.check(
            vector,
            |nonce, aad, buffer| portable::xseal(&key, nonce, aad, buffer),
            |nonce, aad, buffer| portable::xopen(&key, nonce, aad, buffer),
        );
        cookies += usize::from(check_cookie(vector));
    }
    assert_eq!(
        tally,
        Tally {
            authentic: 246,
            forged: 60,
            unsayable: 9
        }
    );
    assert!(
        cookies > 50,
        "only {cookies} vectors have the size of a cookie"
    );
}

/// Runs a vector through the functions for cookies if it has the size of one.
fn check_cookie(vector: &Vector<'_>) -> bool {
    let Ok(text) = <[u8; 16]>::try_from(vector.bytes("text")) else {
        return false;
    };
    let Ok(nonce) = vector.bytes("nonce").try_into() else {
        return false;
    };
    let (key, aad, sealed) = (
        vector.array("key"),
        vector.bytes("aad"),
        vector.array("sealed"),
    );
    if vector.text("result") == "valid" {
        assert_eq!(xseal(&key, &nonce, &aad, &text), sealed);
        assert_eq!(xopen(&key, &nonce, &aad, &sealed), Some(text));
    } else {
        assert_eq!(xopen(&key, &nonce, &aad, &sealed), None);
    }
    true
}

#[test]
fn the_counter_is_the_tail_of_the_nonce() {
    for backend in Backend::available() {
        let tests = parse(RFC);
        let vector = &tests[1];
        assert_eq!(vector.text("nonce"), "000000000102030405060708");
        let counter = 0x0807_0605_0403_0201;
        let (aad, text, sealed) = (
            vector.bytes("aad"),
            vector.bytes("text"),
            vector.bytes("sealed"),
        );
        let key = key(vector, backend);

        let mut out = vec![0xaa; sealed.len()];
        key.seal_from(counter, &aad, &text, &mut out);
        assert_eq!(out, sealed);
        assert_eq!(key.open(counter, &aad, &mut out), Ok(()));
        assert_eq!(out[..text.len()], text);
        key.seal(counter, &aad, &mut out);
        assert_eq!(out, sealed);
        assert_eq!(key.open(counter + 1, &aad, &mut out), Err(Forged));
    }
}

#[test]
fn wrong_key_counter_or_associated_data_is_forged() {
    for backend in Backend::available() {
        let key = AeadKey::with_backend(Secret::new([1; 32]), backend);
        let other = AeadKey::with_backend(Secret::new([2; 32]), backend);
        let mut sealed = [0; 40];
        key.seal(9, b"aad", &mut sealed);
        for (key, counter, aad) in [
            (&other, 9, &b"aad"[..]),
            (&key, 8, b"aad"),
            (&key, 9 | 1 << 32, b"aad"),
            (&key, 9, b"aae"),
            (&key, 9, b"aad\0"),
            (&key, 9, b""),
        ] {
            assert_eq!(key.open(counter, aad, &mut sealed.clone()), Err(Forged));
        }
        assert_eq!(key.open(9, b"aad", &mut sealed), Ok(()));
    }
}

#[test]
fn what_does_not_fit_is_left_alone() {
    for backend in Backend::available() {
        let key = AeadKey::with_backend(Secret::new([1; 32]), backend);
        for length in 0..TAG_LEN {
            let mut short = vec![0x77; length];
            assert_eq!(key.open(0, &[], &mut short), Err(Forged));
            key.seal_at(&nonce(0), &[], &mut short);
            assert_eq!(short, vec![0x77; length]);

            let mut tight = vec![0x77; length + TAG_LEN];
            let packet = vec![0x11; length + 1];
            let source = Some(&packet[..]);
            let (tight_lane, short_lane) = (
                SealLane {
                    key: &mut key.clone(),
                    counter: 0,
                    source,
                    buffer: &mut tight,
                },
                SealLane {
                    key: &mut key.clone(),
                    counter: 0,
                    source: None,
                    buffer: &mut short,
                },
            );
            seal_batch([tight_lane, short_lane]);
            assert_eq!(tight, vec![0x77; length + TAG_LEN]);
            assert_eq!(short, vec![0x77; length]);
        }
    }
}

#[test]
fn available_backends_start_with_the_one_detected_and_end_with_portable() {
    let all: Vec<_> = Backend::available().collect();
    assert_eq!(all.first(), Some(&Backend::detect()));
    assert_eq!(all.last(), Some(&Backend::PORTABLE));
    for (at, backend) in all.iter().enumerate() {
        assert!(!all[..at].contains(backend), "{backend} twice");
    }
}

#[test]
fn debug_shows_neither_keys_nor_packets() {
    let mut key = AeadKey::new(Secret::new([0xab; 32]));
    let mut buffer = [0xab; 48];
    let source = [0xab; 32];
    let lane = SealLane {
        key: &mut key,
        counter: 1,
        source: Some(&source),
        buffer: &mut buffer,
    };
    let shown = std::format!("{lane:?}");
    let lane = OpenLane {
        key: &mut key,
        counter: 1,
        buffer: &mut buffer,
        authentic: &mut true,
    };
    let shown = std::format!("{shown} {lane:?} {:?}", lane.key);
    assert!(
        !shown.contains("171") && !shown.to_lowercase().contains("ab, "),
        "{shown}"
    );
}
