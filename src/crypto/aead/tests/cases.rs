//! What the matrix is built from: fenced memory, messages with their sealed form, and the rounds in
//! which a backend has to reproduce it.
//!
//! The sealed form comes from another implementation.

use std::io::Write;
use std::vec;
use std::vec::Vec;

use super::super::super::secret::Secret;
use super::super::{
    AeadKey, Backend, OpenLane, SealLane, TAG_LEN, nonce, open_batch, oracle, seal_batch,
};
use super::assert_no_plaintext;

/// Every backend that there is on some processor.
const KNOWN: [&str; 5] = ["avx512", "avx512f", "avx2", "neon", "portable"];

/// Says in the output of the tests, also of those that pass, what was not tested.
pub(super) fn announce() {
    let here: Vec<_> = Backend::available().map(|b| std::format!("{b}")).collect();
    let mut out = std::io::stderr();
    writeln!(out, "aead: tested: {}", here.join(", ")).unwrap();
    for name in KNOWN.iter().filter(|name| !here.iter().any(|b| b == *name)) {
        writeln!(
            out,
            "aead: skipped: {name} (not this processor, or not built)"
        )
        .unwrap();
    }
    if step() > 1 {
        writeln!(
            out,
            "aead: one case in {} of the dense tests, for lack of optimization",
            step()
        )
        .unwrap();
    }
}

/// Of how many cases one is run: optimized code runs all of them.
///
/// `QW_AEAD_STEP` is for emulators.
pub(super) fn step() -> usize {
    match std::env::var("QW_AEAD_STEP") {
        Ok(step) => step.parse().unwrap(),
        Err(_) if cfg!(miri) => 997,
        Err(_) if cfg!(debug_assertions) => 5,
        Err(_) => 1,
    }
}

/// A `SplitMix64`, the same in every run.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap();
        usize::try_from(self.number() % end).unwrap()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.number().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Bytes at a chosen place modulo 64, between two fences that nobody may write to.
pub(super) struct Fenced {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Fenced {
    const FENCE: [u8; 128] = [0xf5; 128];

    pub(super) fn new(place: usize, content: &[u8]) -> Self {
        let memory = vec![0xf5; content.len() + 64 + 2 * Self::FENCE.len()];
        let first = memory.as_ptr().addr() + Self::FENCE.len();
        let start = Self::FENCE.len() + (place % 64 + 64 - first % 64) % 64;
        let mut fenced = Self {
            memory,
            start,
            len: content.len(),
        };
        fenced.bytes_mut().copy_from_slice(content);
        fenced
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    pub(super) fn assert_fences(&self) {
        let (before, rest) = self.memory.split_at(self.start);
        let (_, after) = rest.split_at(self.len);
        assert!(before.iter().chain(after).all(|byte| *byte == 0xf5));
        assert!(before.ends_with(&Self::FENCE) && after.starts_with(&Self::FENCE));
    }
}

/// A message, where its bytes lie, and what it becomes.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) key: [u8; 32],
    pub(super) counter: u64,
    pub(super) text: Vec<u8>,
    pub(super) padding: usize,
    in_place: bool,
    /// Where source and buffer begin, modulo 64.
    places: [usize; 2],
    sealed: Vec<u8>,
}

impl Case {
    /// A message at random places, with a random key and counter.
    pub(super) fn new(rng: &mut Rng, len: usize, padding: usize, in_place: bool) -> Self {
        let mut case = Self {
            key: rng.bytes(32).try_into().unwrap(),
            counter: rng.number(),
            text: rng.bytes(len),
            padding,
            in_place,
            places: [rng.below(64), rng.below(64)],
            sealed: Vec::new(),
        };
        case.seal_again();
        case
    }

    pub(super) fn with_counter(mut self, counter: u64) -> Self {
        self.counter = counter;
        self.seal_again();
        self
    }

    pub(super) fn at_places(self, places: [usize; 2]) -> Self {
        Self { places, ..self }
    }

    pub(super) fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    fn seal_again(&mut self) {
        self.sealed = seal(&self.key, &nonce(self.counter), &[], &self.padded());
    }

    fn padded(&self) -> Vec<u8> {
        [&self.text[..], &vec![0; self.padding]].concat()
    }

    fn aead(&self, backend: Backend) -> AeadKey {
        AeadKey::with_backend(Secret::new(self.key), backend)
    }

    fn source(&self) -> Fenced {
        Fenced::new(self.places[0], &self.text)
    }

    /// What the caller hands over to be sealed.
    fn unsealed(&self) -> Fenced {
        let mut content = vec![0xaa; self.sealed.len()];
        if self.in_place {
            content[..self.sealed.len() - TAG_LEN].copy_from_slice(&self.padded());
        }
        Fenced::new(self.places[1], &content)
    }

    /// Seals and opens it by single calls.
    pub(super) fn check_alone(&self, backend: Backend) {
        let aead = self.aead(backend);
        let (source, mut buffer) = (self.source(), self.unsealed());
        if self.in_place {
            aead.seal(self.counter, &[], buffer.bytes_mut());
        } else {
            aead.seal_from(self.counter, &[], source.bytes(), buffer.bytes_mut());
        }
        self.assert_sealed(&buffer, backend);
        let verdict = aead.open(self.counter, &[], buffer.bytes_mut());
        assert_eq!(verdict, Ok(()), "{}", self.name(backend));
        self.assert_opened(&buffer, backend);
    }

    /// Seals it with associated data, opens it, and fails to once a bit has changed.
    pub(super) fn check_with_aad(&self, backend: Backend, aad: &[u8]) {
        let (cipher, name) = (self.aead(backend), self.name(backend));
        let padded = self.padded();
        let unsealed = [&padded[..], &[0; TAG_LEN]].concat();
        let mut buffer = Fenced::new(self.places[1], &unsealed);
        cipher.seal(self.counter, aad, buffer.bytes_mut());
        let expected = seal(&self.key, &nonce(self.counter), aad, &padded);
        assert_eq!(buffer.bytes(), expected, "{name}");
        let mut forged = Fenced::new(0, &expected);
        forged.bytes_mut()[expected.len() / 2] ^= 4;
        let verdict = cipher.open(self.counter, aad, forged.bytes_mut());
        assert!(verdict.is_err(), "{name}");
        assert_no_plaintext(&self.text, forged.bytes());
        let verdict = cipher.open(self.counter, aad, buffer.bytes_mut());
        assert_eq!(verdict, Ok(()), "{name}");
        self.assert_opened(&buffer, backend);
        forged.assert_fences();
    }

    /// It cannot be opened alone once the bit has changed.
    pub(super) fn check_forged_alone(&self, backend: Backend, bit: usize) {
        let mut buffer = self.forged(bit);
        let verdict = self
            .aead(backend)
            .open(self.counter, &[], buffer.bytes_mut());
        assert!(verdict.is_err(), "{}", self.name(backend));
        self.assert_lost(&buffer, backend);
    }

    fn forged(&self, bit: usize) -> Fenced {
        let mut buffer = Fenced::new(self.places[1], &self.sealed);
        buffer.bytes_mut()[bit / 8] ^= 1 << (bit % 8);
        buffer
    }

    fn assert_sealed(&self, buffer: &Fenced, backend: Backend) {
        assert!(buffer.bytes() == self.sealed, "{}", self.name(backend));
        buffer.assert_fences();
    }

    fn assert_opened(&self, buffer: &Fenced, backend: Backend) {
        let text = &buffer.bytes()[..self.sealed.len() - TAG_LEN];
        assert!(text == self.padded(), "{}", self.name(backend));
        buffer.assert_fences();
    }

    fn assert_lost(&self, buffer: &Fenced, backend: Backend) {
        let same = self.text.windows(8).zip(buffer.bytes().windows(8));
        let mut same = same.filter(|(plain, left)| plain == left);
        assert!(same.next().is_none(), "{}", self.name(backend));
        buffer.assert_fences();
    }

    fn name(&self, backend: Backend) -> std::string::String {
        std::format!(
            "{backend}: {} + {} bytes, counter {}, places {:?}, in place: {}",
            self.text.len(),
            self.padding,
            self.counter,
            self.places,
            self.in_place
        )
    }
}

fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> Vec<u8> {
    let mut sealed = [text, &[0; TAG_LEN]].concat();
    oracle::seal(key, nonce, aad, &mut sealed);
    sealed
}

fn keys(cases: &[Case], backend: Backend) -> Vec<AeadKey> {
    cases.iter().map(|case| case.aead(backend)).collect()
}

pub(super) fn assert_erased(keys: &[AeadKey]) {
    for key in keys {
        assert_eq!(key.key.expose(), &[0; 32], "{} keeps a key", key.backend);
    }
}

/// Seals them in one batch.
pub(super) fn check_sealing(cases: &[Case], backend: Backend) {
    let mut keys = keys(cases, backend);
    let sources: Vec<_> = cases.iter().map(Case::source).collect();
    let mut buffers: Vec<_> = cases.iter().map(Case::unsealed).collect();
    let lanes = cases.iter().zip(&mut keys).zip(&sources).zip(&mut buffers);
    seal_batch(lanes.map(|(((case, key), source), buffer)| SealLane {
        key,
        counter: case.counter,
        source: (!case.in_place).then_some(source.bytes()),
        buffer: buffer.bytes_mut(),
    }));
    assert_erased(&keys);
    for ((case, source), buffer) in cases.iter().zip(&sources).zip(&buffers) {
        case.assert_sealed(buffer, backend);
        assert!(source.bytes() == case.text, "{}", case.name(backend));
        source.assert_fences();
    }
}

/// Opens them in one batch, each with the bit flipped that stands in its place, if one does.
pub(super) fn check_opening(cases: &[Case], bits: &[Option<usize>], backend: Backend) {
    let mut keys = keys(cases, backend);
    let mut buffers: Vec<_> = cases
        .iter()
        .zip(bits)
        .map(|(case, bit)| match bit {
            Some(bit) => case.forged(*bit),
            None => Fenced::new(case.places[1], &case.sealed),
        })
        .collect();
    // The opposite of what they are going to be.
    let mut verdicts: Vec<_> = bits.iter().map(Option::is_some).collect();
    let lanes = cases.iter().zip(&mut keys).zip(&mut buffers);
    let lanes = lanes.zip(&mut verdicts);
    open_batch(lanes.map(|(((case, key), buffer), authentic)| OpenLane {
        key,
        counter: case.counter,
        buffer: buffer.bytes_mut(),
        authentic,
    }));
    assert_erased(&keys);
    for (((case, bit), buffer), authentic) in cases.iter().zip(bits).zip(&buffers).zip(verdicts) {
        assert_eq!(authentic, bit.is_none(), "{}", case.name(backend));
        if authentic {
            case.assert_opened(buffer, backend);
        } else {
            case.assert_lost(buffer, backend);
        }
    }
}

/// Seals and opens them, in batches on every backend.
pub(super) fn check_batch(cases: &[Case]) {
    for backend in Backend::available() {
        check_sealing(cases, backend);
        check_opening(cases, &vec![None; cases.len()], backend);
    }
}

/// Seals and opens it, alone on every backend.
pub(super) fn check_alone(case: &Case) {
    for backend in Backend::available() {
        case.check_alone(backend);
    }
}
