//! Every backend of this machine against another implementation: lengths, places in memory, padding,
//! counters, batch sizes, keys, and forgeries at every place of a batch.
//!
//! Each round also looks at what must stay as it is: the bytes around a buffer, the source, the other
//! messages of the batch; and at what must be gone: the key of each, the plaintext of the forged.

use std::vec;
use std::vec::Vec;

use super::super::super::vectors::parse;
use super::super::backend::{Kind, on_kernel};
#[cfg(feature = "simd")]
use super::super::simd::Kernel;
use super::super::{AeadKey, Backend, OpenLane, SealLane, TAG_LEN, open_batch, seal_batch};
use super::super::{Forged, poly1305};
use super::cases::*;
use super::{CHACHA, RFC, assert_no_plaintext, key};

/// Around the ends of blocks of 16 and 64 bytes, and of what a set of vectors holds.
const TELLING: [usize; 26] = [
    0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 65, 127, 128, 129, 191, 192, 255, 256, 257, 511,
    512, 513, 1024, 1420,
];

/// Where something rare begins: block numbers of more than 8 bits, and the sizes of GSO.
const LONG: [usize; 12] = [
    4095, 4096, 4097, 8191, 16_320, 16_321, 16_384, 16_448, 32_769, 65_519, 65_535, 65_536,
];

/// What is found to run here is what the standard library finds, not less and not more.
#[test]
#[cfg(all(feature = "simd", target_arch = "x86_64", not(miri)))]
fn detection_agrees_with_the_standard_library() {
    use std::arch::is_x86_feature_detected as has;
    let avx2 = has!("avx2");
    let base = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq");
    let found = |name| Backend::available().any(|b| std::format!("{b}") == name);
    assert_eq!(found("avx2"), avx2);
    assert_eq!(found("avx512f"), avx2 && base);
    assert_eq!(found("avx512"), avx2 && base && has!("avx512ifma"));
}

fn thinned(lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    lengths.filter(|length| length.is_multiple_of(step()) || TELLING.contains(length))
}

#[test]
fn every_length_alone_and_beside_its_neighbours() {
    announce();
    let mut rng = Rng(1);
    let lengths: Vec<_> = thinned(0..=2100).chain(LONG).collect();
    for some in lengths.chunks(12) {
        for in_place in [false, true] {
            let cases: Vec<_> = some
                .iter()
                .map(|length| Case::new(&mut rng, *length, 0, in_place))
                .collect();
            cases.iter().for_each(check_alone);
            check_batch(&cases);
        }
    }
}

/// The number of a block has more than 16 bits from here on.
#[test]
#[cfg_attr(any(debug_assertions, miri), ignore = "long")]
fn a_message_of_four_megabytes() {
    let mut rng = Rng(2);
    let case = Case::new(&mut rng, 65_537 * 64 + 7, 9, false);
    let small = Case::new(&mut rng, 100, 0, true);
    check_alone(&case);
    check_batch(&[small.clone(), case, small]);
}

#[test]
fn every_pair_of_places() {
    let mut rng = Rng(3);
    for shift in (0..64).step_by(step().min(16)) {
        let cases: Vec<_> = (0..64)
            .map(|place| {
                let case = Case::new(&mut rng, 130 + place, 0, shift == 0);
                case.at_places([place, (place + shift) % 64])
            })
            .collect();
        check_batch(&cases);
        cases.iter().step_by(step().min(16)).for_each(check_alone);
    }
}

#[test]
fn every_padding() {
    let mut rng = Rng(4);
    for length in thinned(0..=140).chain([300, 1400]) {
        let cases: Vec<_> = (0..48)
            .map(|padding| Case::new(&mut rng, length, padding, false))
            .collect();
        check_batch(&cases);
        let by = if step() == 1 { 1 } else { 5 };
        cases.iter().step_by(by).for_each(check_alone);
    }
}

#[test]
fn counters_around_carries() {
    let mut rng = Rng(5);
    let marks = [0, 1 << 32, 1 << 63, u64::MAX, 1 << 8, 1 << 16, 1 << 31];
    for length in [0, 70, 600] {
        let counters = marks.iter().flat_map(|mark| {
            let near = |by| u64::wrapping_add(*mark, by);
            [
                near(u64::MAX - 1),
                near(u64::MAX),
                near(0),
                near(1),
                near(2),
            ]
        });
        let cases: Vec<_> = counters
            .map(|counter| Case::new(&mut rng, length, 0, true).with_counter(counter))
            .collect();
        check_batch(&cases);
        cases.iter().for_each(check_alone);
    }
}

/// Most are like the traffic of a tunnel, some like nothing.
fn mixed(rng: &mut Rng, count: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for _ in 0..count {
        let longest = [80, 80, 80, 260, 260, 700, 1500][rng.below(7)];
        let (length, padding) = (rng.below(longest), rng.below(48));
        let in_place = rng.below(2) == 0;
        cases.push(Case::new(rng, length, padding, in_place));
    }
    cases
}

#[test]
fn every_batch_size() {
    let mut rng = Rng(6);
    let dense = if step() == 1 { 130 } else { 34 };
    for size in (1..=dense).chain([63, 64, 65, 66, 127, 128, 129, 130]) {
        let cases = mixed(&mut rng, size);
        check_batch(&cases);
        let bits: Vec<_> = cases
            .iter()
            .map(|case| (rng.below(4) == 0).then(|| rng.below(8 * case.sealed().len())))
            .collect();
        for backend in Backend::available() {
            check_opening(&cases, &bits, backend);
        }
    }
}

/// Messages of one length, so that the order of lanes is the order of the batch, then of many.
#[test]
fn a_forgery_at_every_position() {
    let mut rng = Rng(7);
    for size in [
        1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130,
    ] {
        if size > 33 && step() > 1 {
            continue;
        }
        for length in [0, 20, 64, 150, usize::MAX] {
            let cases = match length {
                usize::MAX => mixed(&mut rng, size),
                _ => (0..size)
                    .map(|_| Case::new(&mut rng, length, 0, true))
                    .collect(),
            };
            forge_each(&mut rng, &cases);
        }
    }
}

fn forge_each(rng: &mut Rng, cases: &[Case]) {
    for (at, case) in cases.iter().enumerate() {
        let tag = 8 * (case.sealed().len() - TAG_LEN);
        let in_tag = Some(tag + rng.below(8 * TAG_LEN));
        let in_body = (tag > 0).then(|| rng.below(tag));
        for bit in [in_tag, in_body].into_iter().flatten() {
            let mut bits = vec![None; cases.len()];
            bits[at] = Some(bit);
            for backend in Backend::available() {
                check_opening(cases, &bits, backend);
            }
        }
    }
}

#[test]
fn all_forged_but_one() {
    let mut rng = Rng(8);
    let cases = mixed(&mut rng, 21);
    for spared in 0..cases.len() {
        let mut bits: Vec<_> = cases
            .iter()
            .map(|case| Some(rng.below(8 * case.sealed().len())))
            .collect();
        bits[spared] = None;
        for backend in Backend::available() {
            check_opening(&cases, &bits, backend);
        }
    }
}

#[test]
fn a_single_forgery_of_every_telling_length() {
    let mut rng = Rng(9);
    for length in thinned(0..=300).chain(TELLING).chain([2000, 16_400]) {
        let case = Case::new(&mut rng, length, 0, true);
        let bits = 8 * case.sealed().len();
        for bit in [
            0,
            bits / 2,
            bits.saturating_sub(129),
            bits - 128,
            bits - 65,
            bits - 1,
        ] {
            for backend in Backend::available() {
                case.check_forged_alone(backend, bit);
            }
        }
    }
}

#[test]
fn associated_data() {
    let mut rng = Rng(10);
    for aad_len in thinned(0..=80).chain([200, 1000]) {
        let aad = rng.bytes(aad_len);
        for length in [0, 1, 12, 16, 32, 64, 100, 500] {
            let case = Case::new(&mut rng, length, 0, true);
            for backend in Backend::available() {
                case.check_with_aad(backend, &aad);
            }
        }
    }
}

/// Those that hold no tag, at any place of a batch: left alone, and their neighbours served.
#[test]
fn buffers_too_short_for_a_tag() {
    let mut rng = Rng(11);
    for size in [1, 2, 3, 5, 16, 17, 33] {
        let cases = mixed(&mut rng, size);
        for at in 0..=size {
            for (short, backend) in [0, 1, 15]
                .into_iter()
                .flat_map(|short| Backend::available().map(move |backend| (short, backend)))
            {
                seal_with_a_short_one(&cases, at, short, backend);
                open_with_a_short_one(&cases, at, short, backend);
            }
        }
    }
}

fn seal_with_a_short_one(cases: &[Case], at: usize, short: usize, backend: Backend) {
    let mut buffers = buffers(cases, |case| {
        [&case.text[..], &vec![0; case.padding + TAG_LEN]].concat()
    });
    buffers.insert(at, Fenced::new(5, &vec![0x77; short]));
    let mut keys = keys_with_one_more(cases, at, backend);
    let counters = counters_with_one_more(cases, at);
    let lanes = buffers.iter_mut().zip(&mut keys).zip(&counters);
    seal_batch(lanes.map(|((buffer, key), counter)| SealLane {
        key,
        counter: *counter,
        source: None,
        buffer: buffer.bytes_mut(),
    }));
    assert_eq!(buffers.remove(at).bytes(), vec![0x77; short]);
    for (case, buffer) in cases.iter().zip(&buffers) {
        assert!(buffer.bytes() == case.sealed());
        buffer.assert_fences();
    }
    assert_erased(&keys);
}

fn open_with_a_short_one(cases: &[Case], at: usize, short: usize, backend: Backend) {
    let mut buffers = buffers(cases, |case| case.sealed().to_vec());
    buffers.insert(at, Fenced::new(5, &vec![0x77; short]));
    let mut keys = keys_with_one_more(cases, at, backend);
    let counters = counters_with_one_more(cases, at);
    let mut verdicts: Vec<_> = (0..buffers.len()).map(|lane| lane == at).collect();
    let lanes = buffers.iter_mut().zip(&mut keys).zip(&counters);
    let lanes = lanes.zip(&mut verdicts);
    open_batch(lanes.map(|(((buffer, key), counter), authentic)| OpenLane {
        key,
        counter: *counter,
        buffer: buffer.bytes_mut(),
        authentic,
    }));
    assert!(!verdicts.remove(at), "{backend}");
    assert!(verdicts.iter().all(|authentic| *authentic), "{backend}");
    assert_eq!(buffers.remove(at).bytes(), vec![0x77; short]);
    for (case, buffer) in cases.iter().zip(&buffers) {
        assert!(buffer.bytes().starts_with(&case.text), "{backend}");
        buffer.assert_fences();
    }
    assert_erased(&keys);
}

fn buffers(cases: &[Case], content: impl Fn(&Case) -> Vec<u8>) -> Vec<Fenced> {
    let fenced = |case| Fenced::new(9, &content(case));
    cases.iter().map(fenced).collect()
}

fn keys_with_one_more(cases: &[Case], at: usize, backend: Backend) -> Vec<AeadKey> {
    let aead = |key| AeadKey::with_backend(super::Secret::new(key), backend);
    let mut keys: Vec<_> = cases.iter().map(|case| aead(case.key)).collect();
    keys.insert(at, aead([3; 32]));
    keys
}

fn counters_with_one_more(cases: &[Case], at: usize) -> Vec<u64> {
    let mut counters: Vec<_> = cases.iter().map(|case| case.counter).collect();
    counters.insert(at, 0);
    counters
}

/// Tags of messages with associated data are made by other code than those of packets, so that the
/// vectors without it must be many.
#[test]
fn published_vectors_without_associated_data() {
    for backend in Backend::available() {
        let (mut valid, mut forged) = (0, 0);
        for vector in parse(RFC).iter().chain(&parse(CHACHA)) {
            let Ok(nonce) = <[u8; 12]>::try_from(vector.bytes("nonce")) else {
                continue;
            };
            if !vector.text("aad").is_empty() {
                continue;
            }
            let (key, text, sealed) = (
                key(vector, backend),
                vector.bytes("text"),
                vector.bytes("sealed"),
            );
            assert_eq!(
                vector.text("result"),
                "valid",
                "none of the others is without"
            );
            let mut buffer = Fenced::new(valid, &sealed);
            let verdict = key.open_at(&nonce, &[], buffer.bytes_mut());
            assert_eq!(verdict, Ok(()), "{backend}, {vector:?}");
            assert_eq!(buffer.bytes()[..text.len()], text, "{backend}, {vector:?}");
            key.seal_at(&nonce, &[], buffer.bytes_mut());
            assert_eq!(buffer.bytes(), sealed, "{backend}, {vector:?}");
            valid += 1;
            // What those with associated data do to their tags.
            for flipped in [1, 63, 64, 128] {
                let mut forgery = Fenced::new(valid, &sealed);
                let bit = 8 * sealed.len() - flipped;
                forgery.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
                let verdict = key.open_at(&nonce, &[], forgery.bytes_mut());
                assert_eq!(verdict, Err(Forged), "{backend}, {vector:?}");
                assert_no_plaintext(&text, forgery.bytes());
                forged += 1;
            }
        }
        assert_eq!((valid, forged), (45, 45 * 4), "{backend}");
    }
}

/// Under `r` of 1 the authenticator is a sum, so that it can be led to any value. Those around the
/// modulus, which random messages never meet, tell whether the last reduction is complete.
#[test]
fn tags_around_the_modulus() {
    let mut rng = Rng(14);
    let counts = [1, 2, 3, 7, 8, 9, 16];
    for (count, shift) in counts
        .into_iter()
        .flat_map(|n| (0..16).map(move |at| (n, at)))
    {
        let (mut keys, mut texts, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for lane in 0..count {
            // From 8 below the modulus to 7 above.
            let above = (lane + shift) % 16;
            let pairs = [0, 4, 8, 12, 20, 44, 60][rng.below(7)];
            texts.push(text_above(&mut rng, pairs, above));
            let residue = above.wrapping_sub(if above < 8 { 8 + 5 } else { 8 });
            let s = u128::from(rng.number()) << 64 | u128::from(rng.number());
            keys.push(one_time_key(1, s));
            expected.push(residue.wrapping_add(s).to_le_bytes());
        }
        let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
        for backend in Backend::available() {
            assert_eq!(make_tags(backend, &keys, &texts), expected, "{backend}");
        }
    }
}

/// A text whose blocks, with the block of lengths, sum up to the modulus less 8 and `above`.
fn text_above(rng: &mut Rng, pairs: usize, above: u128) -> Vec<u8> {
    let mut text = Vec::new();
    // Each block has 2^128 besides. So has a pair of opposites 3 * 2^128 - 1, and four pairs have
    // 12 * 2^128 - 4, which is 3 * 5 - 4 modulo 4 * 2^128 - 5.
    assert!(pairs.is_multiple_of(4));
    for _ in 0..pairs {
        let block = u128::from(rng.number()) << 64 | u128::from(rng.number());
        text.extend([block.to_le_bytes(), (!block).to_le_bytes()].concat());
    }
    let opposites = 11 * u128::try_from(pairs / 4).unwrap();
    // With two more blocks and that of the lengths there are 3 * 2^128. The modulus has one more.
    let lengths = u128::try_from(text.len() + 32).unwrap() << 64;
    let first = u128::from(rng.number()) << 60;
    let second = u128::MAX - 4 - lengths - opposites - 8 + above - first;
    text.extend([first.to_le_bytes(), second.to_le_bytes()].concat());
    text
}

/// The largest limbs that there are, against the scalar code, which has a model of its own.
#[test]
fn tags_of_the_largest_limbs() {
    let powers = (0..16).map(|bit| 1 << (8 * bit));
    let factors: Vec<_> = powers.chain([0, 5, u128::MAX, u128::MAX >> 7]).collect();
    let full = [0xff; 2100];
    for (at, r) in factors.iter().enumerate() {
        for longest in thinned(0..=full.len()).skip(at % 2).step_by(2) {
            let keys = vec![one_time_key(*r, u128::MAX - 1); 1 + (longest + at) % 16];
            let texts: Vec<_> = (0..keys.len())
                .map(|lane| &full[..longest.saturating_sub(lane * lane)])
                .collect();
            let expected = make_tags(Backend::PORTABLE, &keys, &texts);
            for backend in Backend::available() {
                let made = make_tags(backend, &keys, &texts);
                assert_eq!(made, expected, "{backend}, r {r:x}, {longest} bytes");
            }
        }
    }
}

fn one_time_key(r: u128, s: u128) -> [u8; 64] {
    let mut key = [0xcc; 64];
    key[..16].copy_from_slice(&r.to_le_bytes());
    key[16..32].copy_from_slice(&s.to_le_bytes());
    key
}

/// Runs what makes tags by itself: no key of the cipher leads to a chosen one-time key.
fn make_tags(backend: Backend, keys: &[[u8; 64]], texts: &[&[u8]]) -> Vec<[u8; TAG_LEN]> {
    let mut tags = vec![[0; TAG_LEN]; keys.len()];
    on_kernel!(backend, kernel => kernel.tags(keys, texts, &mut tags), {
        for ((key, text), tag) in keys.iter().zip(texts).zip(&mut tags) {
            *tag = poly1305::tag(key.first_chunk().unwrap(), &[], text);
        }
    });
    tags
}

/// What vector kernels share, small enough for an interpreter that sees undefined behaviour. Not the
/// portable code, in which it could find none.
#[test]
fn rows_of_five() {
    let mut rng = Rng(12);
    let lengths = [0, 1, 63, 64, 70];
    for in_place in [false, true] {
        let cases: Vec<_> = lengths
            .iter()
            .map(|length| Case::new(&mut rng, *length, length % 3, in_place))
            .collect();
        for backend in Backend::available().filter(|b| *b != Backend::PORTABLE) {
            check_sealing(&cases, backend);
            let bits = [Some(3), None, Some(64), None, Some(600)];
            check_opening(&cases, &bits, backend);
            check_opening(&cases[..2], &[None; 2], backend);
            cases[4].check_alone(backend);
            cases[4].check_forged_alone(backend, 5);
            cases[3].check_with_aad(backend, &[1, 2, 3]);
        }
    }
}

/// More lanes than a pass has, and more packets than a chunk.
#[test]
fn rows_of_many() {
    let mut rng = Rng(13);
    let mut cases: Vec<_> = (0..16)
        .map(|at| Case::new(&mut rng, at % 3, 0, at % 2 == 0))
        .collect();
    cases.insert(4, Case::new(&mut rng, 18 * 64 + 1, 16, false));
    for backend in Backend::available().filter(|b| *b != Backend::PORTABLE) {
        check_sealing(&cases, backend);
        check_opening(&cases, &[None; 17], backend);
    }
}
