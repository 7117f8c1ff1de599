//! The Internet checksum, fast enough to be taken of every byte that passes.
//!
//! Sums are kept in the byte order of the memory they are taken from: one's complement addition
//! does not mind (RFC 1071, section 2(B)), and no word has to be swapped. Words are added in pairs,
//! in lanes of 32 bits, a shape that LLVM turns into vector instructions of any x86-64 without a
//! word of unsafe code.

/// A sum of 16-bit words, not yet folded. Has room for 2⁴⁷ words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

/// So many bytes are summed in one go: a lane's sum of high halves stays below 2³².
const BLOCK: usize = 1 << 20;
const LANES: usize = 8;
const STEP: usize = 4 * LANES;

impl Sum {
    /// Adds the words of `bytes`; an odd last byte counts as the first of a word whose second is
    /// zero. All that is summed before has to be of even length.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        bytes.chunks(BLOCK).fold(self, |sum, block| {
            let mut lanes = Lanes::default();
            let (steps, tail) = block.as_chunks();
            for step in steps {
                lanes.add(step);
            }
            Self(sum.0 + lanes.total() + short(tail))
        })
    }

    /// Copies `from` to `to` and adds its words, as [`bytes`](Self::bytes) does. Of slices that
    /// differ in length it takes the beginning.
    #[inline]
    #[must_use]
    pub fn copied(self, from: &[u8], to: &mut [u8]) -> Self {
        from.chunks(BLOCK)
            .zip(to.chunks_mut(BLOCK))
            .fold(self, |sum, (from, to)| {
                let length = from.len().min(to.len());
                let ((from, from_tail), (to, to_tail)) =
                    (from[..length].as_chunks(), to[..length].as_chunks_mut());
                let mut lanes = Lanes::default();
                for (from, to) in from.iter().zip(to) {
                    *to = *from;
                    lanes.add(from);
                }
                to_tail.copy_from_slice(from_tail);
                Self(sum.0 + lanes.total() + short(from_tail))
            })
    }

    /// Adds one number, which stands in the packet with its high byte first.
    #[inline]
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(word.to_be_bytes())))
    }

    /// Adds a number of 32 bits, which stands in the packet with its high byte first.
    #[inline]
    #[must_use]
    pub fn double(self, double: u32) -> Self {
        Self(self.0 + u64::from(u32::from_ne_bytes(double.to_be_bytes())))
    }

    /// The sum as it stands in a packet that is to be completed later.
    #[inline]
    #[must_use]
    pub fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum: the complement of the sum.
    #[inline]
    #[must_use]
    pub fn complement(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum as UDP has it: never zero, which would say that there is none.
    #[inline]
    #[must_use]
    pub fn nonzero(self) -> [u8; 2] {
        match self.complement() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// Whether this is the sum of something that contains its own right checksum.
    #[inline]
    #[must_use]
    pub fn is_right(self) -> bool {
        self.fold() == u16::MAX
    }

    #[inline]
    fn fold(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        u16::try_from(sum).unwrap_or(u16::MAX)
    }
}

/// Per lane: the sum of all words of 32 bits modulo 2³², and that of their high halves, from which
/// the sum of the low halves follows. It saves the masking.
#[derive(Default)]
struct Lanes {
    all: [u32; LANES],
    high: [u32; LANES],
}

impl Lanes {
    #[inline]
    fn add(&mut self, step: &[u8; STEP]) {
        let (words, _) = step.as_chunks();
        for ((all, high), word) in self.all.iter_mut().zip(&mut self.high).zip(words) {
            let word = u32::from_ne_bytes(*word);
            *all = all.wrapping_add(word);
            *high = high.wrapping_add(word >> 16);
        }
    }

    #[inline]
    fn total(&self) -> u64 {
        let both =
            |(all, high): (&u32, &u32)| u64::from(all.wrapping_sub(high << 16)) + u64::from(*high);
        self.all.iter().zip(&self.high).map(both).sum()
    }
}

/// The sum of fewer than [`STEP`] bytes.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks();
    let words = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum::<u64>();
    let last = match *tail {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    words + u64::from(u32::from_ne_bytes(last))
}
