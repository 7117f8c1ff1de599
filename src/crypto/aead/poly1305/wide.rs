//! Poly1305's running value in words of 64 bits.

use core::fmt;

/// `h` and `r` of RFC 8439: `h` becomes `(h + block) * r` modulo 2^130 - 5 with each block.
pub(super) struct Accumulator {
    /// The low 128 bits of `h`.
    low: u128,
    /// The bits from 2^128 on, at most 4.
    high: u64,
    r: [u64; 2],
}

impl Accumulator {
    /// An empty sum; `r` is clamped.
    #[inline]
    pub(super) const fn new(r: u128) -> Self {
        Self {
            low: 0,
            high: 0,
            r: words(r),
        }
    }

    /// Absorbs whole blocks.
    #[inline]
    pub(super) fn absorb(&mut self, blocks: &[[u8; 16]]) {
        let [r0, r1] = self.r;
        let s1 = r1 + (r1 >> 2);
        let (mut low, mut high) = (self.low, self.high);
        // What overflowed 2^130, times 5. Adding it only with the next block takes the addition of
        // that block off the chain of operations that wait for each other.
        let mut over = 0;
        for block in blocks {
            let (sum, carry) = low.overflowing_add(u128::from_le_bytes(*block));
            let (sum, carry_over) = sum.overflowing_add(u128::from(over));
            let [h0, h1] = words(sum);
            let h2 = high + 1 + u64::from(carry) + u64::from(carry_over);

            // r0 and r1 are below 2^60, s1 below 1.25 * 2^60 and h2 at most 6: nothing overflows.
            let d0 = product(h0, r0) + product(h1, s1);
            let [d0, carry] = words(d0);
            let d1 = product(h0, r1) + product(h1, r0) + u128::from(h2 * s1) + u128::from(carry);
            let [d1, carry] = words(d1);
            let d2 = h2 * r0 + carry;

            low = u128::from(d0) | u128::from(d1) << 64;
            high = d2 & 3;
            over = (d2 >> 2) + (d2 & !3);
        }
        let (sum, carry) = low.overflowing_add(u128::from(over));
        self.low = sum;
        self.high = high + u64::from(carry);
    }

    /// The sum modulo 2^130 - 5, without the bits from 2^128 on.
    #[inline]
    pub(super) fn residue(&self) -> u128 {
        // h is below twice the modulus; it reaches the modulus if h + 5 reaches 2^130.
        let carry = self.low.overflowing_add(5).1;
        let excess = (self.high + u64::from(carry)) >> 2;
        self.low.wrapping_add(u128::from(5 * excess))
    }
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accumulator(..)")
    }
}

#[inline]
fn product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

/// The low and the high half.
#[inline]
const fn words(x: u128) -> [u64; 2] {
    match x.to_le_bytes().as_chunks() {
        ([low, high], _) => [u64::from_le_bytes(*low), u64::from_le_bytes(*high)],
        // Sixteen bytes are two chunks: the compiler leaves nothing of this.
        _ => [0; 2],
    }
}
