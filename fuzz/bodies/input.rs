//! Decisions read from bytes, and randomness that is the same in every run.

use core::convert::Infallible;

use quietwire::rand_core::{TryCryptoRng, TryRng};

/// A stream of decisions. At its end every answer is zero, so each prefix of an input is one too.
#[derive(Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is at most 256. Zero if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    /// At most `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// A span of time in nanoseconds: zero, around a protocol constant, or anything up to an hour.
    pub fn nanos(&mut self) -> u64 {
        const MILLI: u64 = 1_000_000;
        const MARKS: [u64; 12] = [
            0, 1, 20, 333, 1_000, 5_000, 10_000, 15_000, 90_000, 120_000, 180_000, 540_000,
        ];
        let near = |mark: u64, offset: u8| {
            (mark * MILLI).saturating_add_signed((i64::from(offset) - 128) * 1_000)
        };
        match self.byte() {
            mark @ 0..=11 => MARKS[usize::from(mark)] * MILLI,
            mark @ 12..=23 => near(MARKS[usize::from(mark) - 12], self.byte()),
            _ => u64::from(self.u32()) * 1_000 % (3_600_000 * MILLI),
        }
    }
}

/// A `SplitMix64`: repeatable, and as secret as its seed.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.step().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }

    fn step(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.array()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.step())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.step().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Rng {}
