//! ChaCha20-Poly1305 (RFC 8439) in safe code, for every target.
//!
//! ChaCha20 computes [`LANES`] blocks at a time. The same word of all of them stands in one row, and
//! a double round is a loop over the lanes, which the compiler turns into vector instructions where
//! the target has them by default; that is the reason for the shape of [`double_rounds`]. The first
//! pass makes the key of the authenticator (block 0) and the first blocks of the message.
//!
//! No branch and no address depends on a key or a message, only on lengths. What is erased: the
//! input block, the working rows, the keystream and the one-time key. What the compiler keeps in
//! registers or spills from them is out of reach.

use core::fmt;

use subtle::ConstantTimeEq;

use super::super::secret::Secret;
use super::{Forged, TAG_LEN, poly1305};

/// Blocks a pass: as many words as a vector register has that every processor of the target has.
const LANES: usize = if cfg!(target_feature = "avx2") {
    8
} else if cfg!(any(
    target_feature = "sse2",
    target_feature = "neon",
    target_feature = "simd128"
)) {
    4
} else {
    1
};

const BLOCK: usize = 64;

/// The first words of every input block: "expand 32-byte k".
pub(super) const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Seals in place. A `buffer` shorter than a tag is left as it is, one too long for the block
/// counter (256 GiB) is filled with zero bytes: plaintext must not pass for ciphertext.
pub(super) fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8]) {
    let Some((text, tag)) = buffer.split_last_chunk_mut::<TAG_LEN>() else {
        return;
    };
    if is_too_long(text) {
        buffer.fill(0);
        return;
    }
    *tag = if is_short(text) {
        seal_by::<1>(key, nonce, aad, text)
    } else {
        seal_by::<LANES>(key, nonce, aad, text)
    };
}

/// Opens in place, after it verified the tag; a forged `buffer` is left as it is.
pub(super) fn open(
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
    if is_too_long(text) {
        return Err(Forged);
    }
    if is_short(text) {
        open_by::<1>(key, nonce, aad, text, tag)
    } else {
        open_by::<LANES>(key, nonce, aad, text, tag)
    }
}

/// Encrypts `text`, `N` blocks at a time, and makes its tag.
#[inline]
fn seal_by<const N: usize>(
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    text: &mut [u8],
) -> [u8; TAG_LEN] {
    let mut stream = Stream::<N>::new(key, nonce);
    let key = stream.one_time_key();
    stream.apply(text);
    poly1305::tag(key.expose(), aad, text)
}

/// Decrypts `text`, `N` blocks at a time, if its tag is right.
#[inline]
fn open_by<const N: usize>(
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    text: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), Forged> {
    let mut stream = Stream::<N>::new(key, nonce);
    let key = stream.one_time_key();
    let expected = poly1305::tag(key.expose(), aad, text);
    if !bool::from(expected.ct_eq(tag)) {
        return Err(Forged);
    }
    stream.apply(text);
    Ok(())
}

/// Whether one block is all that is needed. Already two take as long as [`LANES`].
fn is_short(text: &[u8]) -> bool {
    LANES == 1 || text.is_empty()
}

/// Whether the counter of blocks would come round, to the block that keys the authenticator.
fn is_too_long(text: &[u8]) -> bool {
    u32::try_from(text.len().div_ceil(BLOCK)).is_err()
}

/// The keystream of one message, made `N` blocks at a time; erased on drop.
struct Stream<const N: usize> {
    /// The input block that comes next.
    input: [u32; 16],
    /// Where [`pass`] works, so that it is erased once a message.
    rows: [[u32; N]; 16],
    blocks: [[u8; BLOCK]; N],
}

impl<const N: usize> Stream<N> {
    #[inline]
    fn new(key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        Self {
            input: input(key, nonce),
            rows: [[0; N]; 16],
            blocks: [[0; BLOCK]; N],
        }
    }

    /// Makes the first `N` blocks, of which the first holds the key of the authenticator.
    #[inline]
    fn one_time_key(&mut self) -> Secret<32> {
        self.make_blocks();
        let block = self.blocks.first().and_then(|block| block.first_chunk());
        block.map_or_else(Secret::zeroed, |key| Secret::new(*key))
    }

    /// Encrypts or decrypts the text, once, after [`one_time_key`](Self::one_time_key).
    #[inline]
    fn apply(&mut self, text: &mut [u8]) {
        let ready = text.len().min((N - 1) * BLOCK);
        let Some((head, body)) = text.split_at_mut_checked(ready) else {
            return;
        };
        xor(head, self.blocks.iter().skip(1));
        for part in body.chunks_mut(N * BLOCK) {
            if part.len() > BLOCK {
                self.make_blocks();
            } else {
                self.make_block();
            }
            xor(part, self.blocks.iter());
        }
    }

    /// Makes the next `N` blocks.
    #[inline]
    fn make_blocks(&mut self) {
        if N == 1 {
            self.make_block();
        } else {
            pass(&mut self.input, &mut self.rows, &mut self.blocks);
        }
    }

    /// Makes the next block, as the first one.
    #[inline]
    fn make_block(&mut self) {
        if let Some(block) = self.blocks.first_mut() {
            single(&mut self.input, block);
        }
    }
}

impl<const N: usize> fmt::Debug for Stream<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream(..)")
    }
}

impl<const N: usize> Drop for Stream<N> {
    #[inline]
    fn drop(&mut self) {
        erase(&mut self.input, [0; 16]);
        erase(&mut self.rows, [[0; N]; 16]);
        erase(&mut self.blocks, [[0; BLOCK]; N]);
    }
}

/// The input block number 0.
#[inline]
fn input(key: &[u8; 32], nonce: &[u8; 12]) -> [u32; 16] {
    let mut input = [0; 16];
    for (word, constant) in input.iter_mut().zip(CONSTANTS) {
        *word = constant;
    }
    for (word, bytes) in input.iter_mut().skip(4).zip(key.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    for (word, bytes) in input.iter_mut().skip(13).zip(nonce.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    input
}

/// Overwrites a secret in whole words; `zeroize` writes single bytes.
#[inline]
fn erase<T>(secret: &mut T, zero: T) {
    *secret = zero;
    zeroize::optimization_barrier(secret);
}

/// Makes one block of keystream and advances the counter of the input block.
#[inline(never)]
fn single(input: &mut [u32; 16], block: &mut [u8; BLOCK]) {
    let mut words = *input;
    for _ in 0..10 {
        double_round(&mut words);
    }
    for ((bytes, word), add) in block.as_chunks_mut().0.iter_mut().zip(words).zip(&*input) {
        *bytes = word.wrapping_add(*add).to_le_bytes();
    }
    advance(input);
}

/// Makes `N` blocks of keystream and advances the counter of the input block past them.
#[inline(never)]
fn pass<const N: usize>(
    input: &mut [u32; 16],
    rows: &mut [[u32; N]; 16],
    blocks: &mut [[u8; BLOCK]; N],
) {
    for (row, word) in rows.iter_mut().zip(&*input) {
        *row = [*word; N];
    }
    count(rows);
    for _ in 0..10 {
        double_rounds(rows);
    }
    for (row, word) in rows.iter_mut().zip(&*input) {
        for lane in row {
            *lane = lane.wrapping_add(*word);
        }
    }
    count(rows);
    for (lane, block) in blocks.iter_mut().enumerate() {
        for (bytes, row) in block.as_chunks_mut().0.iter_mut().zip(&*rows) {
            *bytes = row.get(lane).map_or([0; 4], |word| word.to_le_bytes());
        }
    }
    (0..N).for_each(|_| advance(input));
}

#[inline]
fn advance(input: &mut [u32; 16]) {
    let [.., counter, _, _, _] = input;
    *counter = counter.wrapping_add(1);
}

/// Adds a lane's number to its counter.
#[inline]
fn count<const N: usize>(rows: &mut [[u32; N]; 16]) {
    let [.., counters, _, _, _] = rows;
    for (counter, lane) in counters.iter_mut().zip(0..) {
        *counter = counter.wrapping_add(lane);
    }
}

/// A double round of every lane.
///
/// The compiler makes vectors of the lanes because this is one loop over them, without loops in it
/// and with a body too large to be unrolled. It does not for arithmetic on `[u32; 4]`, nor if the
/// body calls what is not `#[inline]`, such as `map` of an array or `zip`: that may lie in another
/// unit of code generation and come too late.
#[inline]
fn double_rounds<const N: usize>(rows: &mut [[u32; N]; 16]) {
    for lane in 0..N {
        let mut block = [0; 16];
        for (at, word) in block.iter_mut().enumerate() {
            *word = rows
                .get(at)
                .and_then(|row| row.get(lane))
                .copied()
                .unwrap_or_default();
        }
        if cfg!(target_arch = "x86") {
            // Eight vector registers are too few for the other.
            double_round(&mut block);
        } else {
            double_round_abreast(&mut block);
        }
        for (at, row) in rows.iter_mut().enumerate() {
            if let (Some(to), Some(word)) = (row.get_mut(lane), block.get(at)) {
                *to = *word;
            }
        }
    }
}

/// A double round, one quarter round after the other: most of a block stays in registers.
#[inline]
fn double_round(block: &mut [u32; 16]) {
    let [
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        b2,
        b3,
        c0,
        c1,
        c2,
        c3,
        d0,
        d1,
        d2,
        d3,
    ] = block;
    quarter_round(a0, b0, c0, d0);
    quarter_round(a1, b1, c1, d1);
    quarter_round(a2, b2, c2, d2);
    quarter_round(a3, b3, c3, d3);
    quarter_round(a0, b1, c2, d3);
    quarter_round(a1, b2, c3, d0);
    quarter_round(a2, b3, c0, d1);
    quarter_round(a3, b0, c1, d2);
}

/// The same, four quarter rounds abreast: while a step of one waits, the others go on.
#[inline]
fn double_round_abreast(block: &mut [u32; 16]) {
    macro_rules! steps {
        ($turn:literal, $($a:ident $b:ident $d:ident),*) => {
            $(*$a = $a.wrapping_add(*$b);)*
            $(*$d = (*$d ^ *$a).rotate_left($turn);)*
        };
    }
    let [
        a0,
        a1,
        a2,
        a3,
        b0,
        b1,
        b2,
        b3,
        c0,
        c1,
        c2,
        c3,
        d0,
        d1,
        d2,
        d3,
    ] = block;
    steps!(16, a0 b0 d0, a1 b1 d1, a2 b2 d2, a3 b3 d3);
    steps!(12, c0 d0 b0, c1 d1 b1, c2 d2 b2, c3 d3 b3);
    steps!(8, a0 b0 d0, a1 b1 d1, a2 b2 d2, a3 b3 d3);
    steps!(7, c0 d0 b0, c1 d1 b1, c2 d2 b2, c3 d3 b3);
    steps!(16, a0 b1 d3, a1 b2 d0, a2 b3 d1, a3 b0 d2);
    steps!(12, c2 d3 b1, c3 d0 b2, c0 d1 b3, c1 d2 b0);
    steps!(8, a0 b1 d3, a1 b2 d0, a2 b3 d1, a3 b0 d2);
    steps!(7, c2 d3 b1, c3 d0 b2, c0 d1 b3, c1 d2 b0);
}

#[inline]
fn quarter_round(a: &mut u32, b: &mut u32, c: &mut u32, d: &mut u32) {
    *a = a.wrapping_add(*b);
    *d = (*d ^ *a).rotate_left(16);
    *c = c.wrapping_add(*d);
    *b = (*b ^ *c).rotate_left(12);
    *a = a.wrapping_add(*b);
    *d = (*d ^ *a).rotate_left(8);
    *c = c.wrapping_add(*d);
    *b = (*b ^ *c).rotate_left(7);
}

/// Adds keystream to a text that is not longer.
#[inline]
fn xor<'a>(text: &mut [u8], blocks: impl Iterator<Item = &'a [u8; BLOCK]>) {
    for (part, block) in text.chunks_mut(BLOCK).zip(blocks) {
        if let Ok(part) = <&mut [u8; BLOCK]>::try_from(&mut *part) {
            xor_bytes(part, block);
        } else {
            xor_bytes(part, block);
        }
    }
}

#[inline]
fn xor_bytes(text: &mut [u8], keystream: &[u8]) {
    for (byte, key) in text.iter_mut().zip(keystream) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests;
