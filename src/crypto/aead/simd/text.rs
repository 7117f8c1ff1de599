//! The body of a message, as pointers: it may be read and written in the same place.

#![allow(
    unsafe_code,
    reason = "what a reference cannot say: read here, write there or here"
)]

use core::marker::PhantomData;

use super::TAG_LEN;

/// The size of a keystream block, and of a row of a kernel.
pub(super) const ROW: usize = 64;

/// The most bytes that the cipher can seal under one nonce: its first block is the one-time key.
pub(super) const LEN_MAX: u64 = 0xffff_ffff * 64;

/// The body of one message: where its bytes are read, and where they and then its tag are written.
///
/// In place both are the same. Otherwise what is read may be shorter: zeros follow it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Text<'a> {
    from: *const u8,
    from_len: usize,
    to: *mut u8,
    len: usize,
    life: PhantomData<&'a mut [u8]>,
}

impl<'a> Text<'a> {
    /// A text and, behind it, its tag. `None` when there is no room for a tag, or when
    /// the cipher cannot do so much: then the text is erased.
    #[inline]
    pub(super) fn in_place(buffer: &'a mut [u8]) -> Option<Self> {
        let len = buffer.len().checked_sub(TAG_LEN)?;
        if !u64::try_from(len).is_ok_and(|len| len <= LEN_MAX) {
            // Its keystream would repeat, and plaintext must not pass for ciphertext.
            buffer.fill(0);
            return None;
        }
        let to = buffer.as_mut_ptr();
        Some(Self {
            from: to.cast_const(),
            from_len: len,
            to,
            len,
            life: PhantomData,
        })
    }

    /// A text that is read elsewhere. `None` when it does not fit in front of the tag.
    #[inline]
    pub(super) fn apart(packet: &'a [u8], buffer: &'a mut [u8]) -> Option<Self> {
        let text = Self::in_place(buffer)?;
        (packet.len() <= text.len).then_some(Self {
            from: packet.as_ptr(),
            from_len: packet.len(),
            ..text
        })
    }

    /// How many blocks of keystream it takes.
    #[inline]
    pub(super) const fn blocks(&self) -> usize {
        self.len.div_ceil(ROW)
    }

    /// How many of them are read and written in full.
    #[inline]
    pub(super) const fn full_blocks(&self) -> usize {
        self.from_len / ROW
    }

    /// Puts the tag behind the text.
    #[inline]
    pub(super) fn put_tag(&self, tag: &[u8; TAG_LEN]) {
        // SAFETY: the constructors have seen 16 more bytes behind `len`.
        unsafe { self.to.add(self.len).cast::<[u8; TAG_LEN]>().write(*tag) }
    }

    /// The tag behind the text.
    #[inline]
    pub(super) const fn tag(&self) -> [u8; TAG_LEN] {
        // SAFETY: as for `put_tag`.
        unsafe { self.to.add(self.len).cast::<[u8; TAG_LEN]>().read() }
    }

    /// Overwrites what is written of the message, its tag too, with zeros.
    #[cold]
    pub(super) fn erase(&self) {
        // SAFETY: the constructors have seen `len` and 16 more bytes.
        unsafe { self.to.write_bytes(0, self.len.wrapping_add(TAG_LEN)) }
    }

    /// Where a block is read and where it is written. It may be followed if the block is a full one.
    #[inline]
    pub(super) const fn row(&self, block: usize) -> (*const [u8; ROW], *mut [u8; ROW]) {
        let at = block.wrapping_mul(ROW);
        (
            self.from.wrapping_add(at).cast(),
            self.to.wrapping_add(at).cast(),
        )
    }

    /// What stands where it is written. To be dropped before a kernel runs, or anything else here writes.
    #[inline]
    pub(super) const fn written(&self) -> &[u8] {
        // SAFETY: `to` and `len` are those of a slice borrowed for 'a, and nothing writes to it while
        // the result is borrowed: it is borrowed to compute a tag, which writes nothing, and only then.
        unsafe { core::slice::from_raw_parts(self.to, self.len) }
    }

    /// Combines the first blocks with keystream; the first block for which there was none.
    #[inline]
    pub(super) fn combine(&self, rows: &[[u8; ROW]]) -> usize {
        for (block, keystream) in (0..self.blocks()).zip(rows) {
            self.xor(block, keystream);
        }
        self.blocks().min(rows.len())
    }

    /// Combines block `block` with keystream, as far as it goes.
    #[inline]
    pub(super) fn xor(&self, block: usize, keystream: &[u8; ROW]) {
        let at = block.wrapping_mul(ROW);
        let len = self.len.saturating_sub(at).min(ROW);
        let read = self.from_len.saturating_sub(at).min(len);
        if read == ROW {
            let (from, to) = (self.from.wrapping_add(at), self.to.wrapping_add(at));
            // SAFETY: all of the row is within `from_len`, which is at most `len`.
            unsafe {
                let text = from.cast::<[u8; ROW]>().read();
                to.cast::<[u8; ROW]>().write(combined(text, keystream));
            }
            return;
        }
        let mut row = [0; ROW];
        // SAFETY: `at + read` is at most `from_len`, and `at + len` at most `len`, unless that length
        // is 0. Both are at most the row, which is apart from either.
        unsafe { copy_short(self.from.wrapping_add(at), row.as_mut_ptr(), read) }
        row = combined(row, keystream);
        // SAFETY: as above.
        unsafe { copy_short(row.as_ptr(), self.to.wrapping_add(at), len) }
    }
}

#[inline]
fn combined(mut text: [u8; ROW], keystream: &[u8; ROW]) -> [u8; ROW] {
    for (byte, key) in text.iter_mut().zip(keystream) {
        *byte ^= key;
    }
    text
}

/// Copies up to 64 bytes, in steps of powers of two: no call, and no branch for each byte.
///
/// # Safety
///
/// `len` is at most 64; so many bytes may be read at `from` and written at `to`, and do not overlap.
#[inline]
unsafe fn copy_short(mut from: *const u8, mut to: *mut u8, len: usize) {
    macro_rules! steps {
        ($($step:literal)+) => {$(
            if len & $step != 0 {
                // SAFETY: the steps taken add up to `len`.
                unsafe { to.cast::<[u8; $step]>().write(from.cast::<[u8; $step]>().read()) }
                from = from.wrapping_add($step);
                to = to.wrapping_add($step);
            }
        )+};
    }
    steps!(64 32 16 8 4 2 1);
    let _ = (from, to);
}
