//! Batches of the cipher on every backend of this machine, against another implementation.
//!
//! The input says what the lanes of a batch are: keys, counters, lengths, places in memory, padding,
//! forgeries, buffers too short for a tag. Every backend runs the batch and each lane alone; then
//! one batch has its lanes on backends in turn.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use quietwire::Backend;
use quietwire::internals::{Aead, Open, Seal, TAG_LEN, open_batch, seal_batch};

use super::input::{Input, Rng};

/// More than two windows of lanes.
const MOST_LANES: usize = 130;

/// The bytes of all lanes, roughly; a bound on the time of one input.
const MOST_BYTES: usize = 60_000;

/// Seals and opens one batch on every backend.
pub fn aead_diff(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut lanes, mut bytes) = (Vec::new(), 0);
    while !input.is_empty() && lanes.len() < MOST_LANES && bytes < MOST_BYTES {
        let lane = Lane::read(&mut input, lanes.len() as u64);
        bytes += lane.sealed.len();
        lanes.push(lane);
    }
    let backends: Vec<_> = Backend::available().collect();
    for backend in &backends {
        run(&lanes, |_| *backend);
        lanes.iter().for_each(|lane| lane.run_alone(*backend));
    }
    run(&lanes, |at| backends[at % backends.len()]);
}

/// A message, where it lies, and what happens to it.
#[derive(Debug)]
struct Lane {
    key: [u8; 32],
    counter: u64,
    text: Vec<u8>,
    padding: usize,
    in_place: bool,
    /// Where source and buffer begin, modulo 64.
    places: [usize; 2],
    sealed: Vec<u8>,
    /// The bit that is flipped before it is opened.
    forged: Option<usize>,
    /// In its place a buffer of this length is sealed and opened, in which no tag fits.
    short: Option<usize>,
}

impl Lane {
    fn read(input: &mut Input<'_>, seed: u64) -> Self {
        let flags = input.byte();
        let key = Rng(input.below(5) as u64).array();
        let counter = match input.below(8) {
            0 => input.u64(),
            1 => u64::MAX - u64::from(input.byte()),
            2 => (1 << 32) + u64::from(input.byte()) - 128,
            3 => (1 << 63) + u64::from(input.byte()) - 128,
            _ => u64::from(input.byte()),
        };
        let len = match flags >> 6 {
            0 => usize::from(input.byte()),
            1 => usize::from(input.byte()) * 64 % 2048,
            2 => usize::from(input.u16()) % 2101,
            _ => usize::from(input.u16()) % 17_000,
        };
        let places = [input.below(64), input.below(64)];
        let in_place = flags & 1 == 0;
        let padding = if in_place { 0 } else { input.below(48) };
        let mut rng = Rng(seed);
        let text = match flags >> 4 & 3 {
            0 => vec![0xff; len],
            1 => vec![0; len],
            _ => (0..len).map(|_| rng.array::<1>()[0]).collect(),
        };
        let sealed = oracle(&key, counter, &[&text[..], &vec![0; padding]].concat());
        let forged = (flags & 2 != 0).then(|| usize::from(input.u16()) % (8 * sealed.len()));
        let short = (flags & 0b1100 == 0b1100).then(|| input.below(TAG_LEN));
        Self {
            key,
            counter,
            text,
            padding,
            in_place,
            places,
            sealed,
            forged,
            short,
        }
    }

    fn source(&self) -> Option<Fenced> {
        (!self.in_place).then(|| Fenced::new(self.places[0], &self.text))
    }

    /// What is handed over to be sealed.
    fn unsealed(&self) -> Fenced {
        let mut content = vec![0xaa; self.sealed.len()];
        if self.in_place {
            content[..self.text.len()].copy_from_slice(&self.text);
        }
        self.fenced(&content)
    }

    /// What is handed over to be opened.
    fn arrived(&self) -> Fenced {
        let mut content = self.sealed.clone();
        if let Some(bit) = self.forged {
            content[bit / 8] ^= 1 << (bit % 8);
        }
        self.fenced(&content)
    }

    fn fenced(&self, content: &[u8]) -> Fenced {
        match self.short {
            Some(len) => Fenced::new(self.places[1], &vec![0x77; len]),
            None => Fenced::new(self.places[1], content),
        }
    }

    fn is_authentic(&self) -> bool {
        self.forged.is_none() && self.short.is_none()
    }

    fn assert_sealed(&self, buffer: &Fenced) {
        match self.short {
            Some(len) => assert_eq!(buffer.bytes(), vec![0x77; len]),
            None => assert!(buffer.bytes() == self.sealed, "{self:?}"),
        }
        buffer.assert_fences();
    }

    fn assert_opened(&self, buffer: &Fenced, authentic: bool) {
        assert_eq!(authentic, self.is_authentic(), "{self:?}");
        buffer.assert_fences();
        if let Some(len) = self.short {
            assert_eq!(buffer.bytes(), vec![0x77; len]);
        } else if authentic {
            let (text, padding) = buffer.bytes().split_at(self.text.len());
            assert!(text == self.text, "{self:?}");
            assert_eq!(padding[..self.padding], vec![0; self.padding]);
        } else {
            let same = self.text.windows(8).zip(buffer.bytes().windows(8));
            assert!(same.into_iter().all(|(a, b)| a != b), "{self:?}");
        }
    }

    /// By single calls, which have no source apart.
    fn run_alone(&self, backend: Backend) {
        let aead = Aead::new(self.key, backend);
        if self.in_place && self.short.is_none() {
            let mut buffer = self.unsealed();
            aead.seal(self.counter, &[], buffer.bytes_mut());
            self.assert_sealed(&buffer);
        }
        let mut buffer = self.arrived();
        let authentic = aead.open(self.counter, &[], buffer.bytes_mut());
        self.assert_opened(&buffer, authentic);
    }
}

fn run(lanes: &[Lane], backend: impl Fn(usize) -> Backend) {
    let keys = || {
        let keys = lanes.iter().enumerate();
        let keys = keys.map(|(at, lane)| Aead::new(lane.key, backend(at)));
        keys.collect::<Vec<_>>()
    };
    let (mut used, sources) = (keys(), lanes.iter().map(Lane::source));
    let sources: Vec<_> = sources.collect();
    let mut buffers: Vec<_> = lanes.iter().map(Lane::unsealed).collect();
    let parts = lanes.iter().zip(&mut used).zip(&sources).zip(&mut buffers);
    seal_batch(parts.map(|(((lane, key), source), buffer)| Seal {
        key,
        counter: lane.counter,
        source: source.as_ref().map(Fenced::bytes),
        buffer: buffer.bytes_mut(),
    }));
    for ((lane, source), buffer) in lanes.iter().zip(sources).zip(&buffers) {
        lane.assert_sealed(buffer);
        if let Some(source) = source {
            assert!(source.bytes() == lane.text);
            source.assert_fences();
        }
    }
    assert_erased(lanes, &used);

    let mut used = keys();
    let mut buffers: Vec<_> = lanes.iter().map(Lane::arrived).collect();
    let mut verdicts: Vec<_> = lanes.iter().map(|lane| !lane.is_authentic()).collect();
    let parts = lanes.iter().zip(&mut used).zip(&mut buffers);
    let parts = parts.zip(&mut verdicts);
    open_batch(parts.map(|(((lane, key), buffer), authentic)| Open {
        key,
        counter: lane.counter,
        buffer: buffer.bytes_mut(),
        authentic,
    }));
    for ((lane, buffer), authentic) in lanes.iter().zip(&buffers).zip(verdicts) {
        lane.assert_opened(buffer, authentic);
    }
    assert_erased(lanes, &used);
}

/// A key that was used is all zeros now, which shows in what it makes.
fn assert_erased(lanes: &[Lane], keys: &[Aead]) {
    let zero = oracle(&[0; 32], 7, &[]);
    for (lane, key) in lanes.iter().zip(keys) {
        if lane.short.is_none() {
            let mut tag = [0; TAG_LEN];
            key.seal(7, &[], &mut tag);
            assert_eq!(tag, zero[..], "{key:?}");
        }
    }
}

/// Bytes at a chosen place modulo 64, between two fences that nobody may write to.
#[derive(Debug)]
struct Fenced {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Fenced {
    const FENCE: usize = 128;

    fn new(place: usize, content: &[u8]) -> Self {
        let memory = vec![0xf5; content.len() + 64 + 2 * Self::FENCE];
        let first = memory.as_ptr().addr() + Self::FENCE;
        let mut fenced = Self {
            memory,
            start: Self::FENCE + (place % 64 + 64 - first % 64) % 64,
            len: content.len(),
        };
        fenced.bytes_mut().copy_from_slice(content);
        fenced
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    fn assert_fences(&self) {
        let (before, rest) = self.memory.split_at(self.start);
        let mut fences = before.iter().chain(&rest[self.len..]);
        assert!(fences.all(|byte| *byte == 0xf5), "written outside");
    }
}

fn oracle(key: &[u8; 32], counter: u64, text: &[u8]) -> Vec<u8> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    let mut sealed = text.to_vec();
    let cipher = ChaCha20Poly1305::new(key.into());
    let tag = cipher
        .encrypt_inout_detached(&nonce.into(), &[], sealed.as_mut_slice().into())
        .unwrap();
    sealed.extend_from_slice(&tag);
    sealed
}
