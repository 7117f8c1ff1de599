//! Poly1305's running value in words of 32 bits.

use core::fmt;

/// `h` and `r` of RFC 8439: `h` becomes `(h + block) * r` modulo 2^130 - 5 with each block.
pub(super) struct Accumulator {
    /// The low 128 bits of `h`, the least first.
    low: [u32; 4],
    /// The bits from 2^128 on, at most 4.
    high: u32,
    r: [u32; 4],
}

impl Accumulator {
    /// An empty sum; `r` is clamped.
    #[inline]
    pub(super) const fn new(r: u128) -> Self {
        Self {
            low: [0; 4],
            high: 0,
            r: words(r.to_le_bytes()),
        }
    }

    /// Absorbs whole blocks.
    pub(super) fn absorb(&mut self, blocks: &[[u8; 16]]) {
        let [r0, r1, r2, r3] = self.r;
        let (s1, s2, s3) = (r1 + (r1 >> 2), r2 + (r2 >> 2), r3 + (r3 >> 2));
        for block in blocks {
            let (sum, carry) = add(self.low, words(*block));
            let [h0, h1, h2, h3] = sum;
            let h4 = self.high + 1 + carry;

            // Words of r are below 2^28, s1 to s3 below 1.25 * 2^28 and h4 at most 6: nothing
            // overflows.
            let d0 = product(h0, r0) + product(h1, s3) + product(h2, s2) + product(h3, s1);
            let d1 = product(h0, r1) + product(h1, r0) + product(h2, s3) + product(h3, s2);
            let d2 = product(h0, r2) + product(h1, r1) + product(h2, r0) + product(h3, s3);
            let d3 = product(h0, r3) + product(h1, r2) + product(h2, r1) + product(h3, r0);
            let [d0, carry] = halves(d0);
            let [d1, carry] = halves(d1 + u64::from(h4 * s1) + u64::from(carry));
            let [d2, carry] = halves(d2 + u64::from(h4 * s2) + u64::from(carry));
            let [d3, carry] = halves(d3 + u64::from(h4 * s3) + u64::from(carry));
            let d4 = h4 * r0 + carry;

            let over = (d4 >> 2) + (d4 & !3);
            let (low, carry) = add([d0, d1, d2, d3], [over, 0, 0, 0]);
            self.low = low;
            self.high = (d4 & 3) + carry;
        }
    }

    /// The sum modulo 2^130 - 5, without the bits from 2^128 on.
    #[inline]
    pub(super) fn residue(&self) -> u128 {
        // h is below twice the modulus; it reaches the modulus if h + 5 reaches 2^130.
        let (_, carry) = add(self.low, [5, 0, 0, 0]);
        let excess = (self.high + carry) >> 2;
        let ([a, b, c, d], _) = add(self.low, [5 * excess, 0, 0, 0]);
        let half = |low, high| u64::from(low) | u64::from(high) << 32;
        u128::from(half(a, b)) | u128::from(half(c, d)) << 64
    }
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accumulator(..)")
    }
}

#[inline]
fn product(a: u32, b: u32) -> u64 {
    u64::from(a) * u64::from(b)
}

/// The sum of two numbers of 128 bits, and what it carries out.
#[inline]
fn add(a: [u32; 4], b: [u32; 4]) -> ([u32; 4], u32) {
    let mut carry = 0;
    let mut sum = a;
    for (a, b) in sum.iter_mut().zip(b) {
        [*a, carry] = halves(u64::from(*a) + u64::from(b) + u64::from(carry));
    }
    (sum, carry)
}

/// The low and the high half.
#[inline]
const fn halves(x: u64) -> [u32; 2] {
    match x.to_le_bytes().as_chunks() {
        ([low, high], _) => [u32::from_le_bytes(*low), u32::from_le_bytes(*high)],
        // Eight bytes are two chunks: the compiler leaves nothing of this.
        _ => [0; 2],
    }
}

#[inline]
const fn words(bytes: [u8; 16]) -> [u32; 4] {
    match bytes.as_chunks() {
        ([a, b, c, d], _) => [
            u32::from_le_bytes(*a),
            u32::from_le_bytes(*b),
            u32::from_le_bytes(*c),
            u32::from_le_bytes(*d),
        ],
        // As above.
        _ => [0; 4],
    }
}
