//! Where the lanes of a vector kernel read and write: raw rows of 64 bytes, checked when they are made.
//!
//! A kernel works on many places at once, some of them in one buffer that it both reads and writes,
//! which references cannot say. So this file turns slices into pointers, and makes sure of what the
//! kernels rely on: every [`Row`] that [`Lanes`] hands out points to 64 bytes that may be read and 64
//! that may be written for as long as the lanes live. What does not fill a row (the end of a message)
//! goes through a scratch row, and is combined here.

#![allow(
    unsafe_code,
    reason = "slices become rows of a vector kernel here, and only here"
)]

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::stack::Stack;
use super::text::{ROW, Text};

/// The most lanes that are filled at a time.
pub(super) const LANES: usize = 32;

/// The most packets of a chunk.
pub(super) const PACKETS: usize = 16;

/// Lanes are written in pieces of this many, so their arrays are longer by as much.
const PIECE: usize = 8;

const CAPACITY: usize = LANES + PIECE;

static ZEROS: [u8; ROW] = [0; ROW];

/// Room for the rows of lanes that lead into no message: one-time keys, and keystream that is combined
/// later. [`Lanes`] erase what they used of it.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Scratch<const KEYS: usize> {
    keys: [MaybeUninit<[u8; ROW]>; KEYS],
    /// The first is for lanes that have nothing to do.
    rows: [MaybeUninit<[u8; ROW]>; LANES + 1],
}

impl<const KEYS: usize> Scratch<KEYS> {
    #[inline]
    pub(super) const fn new() -> Self {
        Self {
            keys: [const { MaybeUninit::uninit() }; KEYS],
            rows: [const { MaybeUninit::uninit() }; LANES + 1],
        }
    }
}

/// 64 bytes to read and 64 bytes to write, the same ones or others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    from: *const [u8; ROW],
    to: *mut [u8; ROW],
}

impl Row {
    /// Where the text is read. Valid while the lanes are borrowed that it came from.
    #[inline]
    pub(super) const fn from(self) -> *const [u8; ROW] {
        self.from
    }

    /// Where the result goes. Valid like `from`; nothing else refers to it meanwhile but another row.
    #[inline]
    pub(super) const fn to(self) -> *mut [u8; ROW] {
        self.to
    }
}

/// What each lane of a kernel works on: a block of a packet, and its row.
///
/// Filled by the `push_` functions, handed to [`Kernel::xor`](super::Kernel::xor), cleared by
/// [`combine`](Self::combine).
#[derive(Debug)]
#[repr(align(64))]
pub(in super::super) struct Lanes<'a> {
    packet: [MaybeUninit<u32>; CAPACITY],
    block: [MaybeUninit<u32>; CAPACITY],
    rows: [MaybeUninit<Row>; CAPACITY],
    len: usize,
    /// Up to here lanes have been written since they were last emptied, in whole pieces.
    closed: usize,
    /// Blocks whose keystream goes to a scratch row.
    parts: Stack<Part, LANES>,
    /// Room for so many one-time keys, and how many of them have been written.
    keys: *mut [u8; ROW],
    keys_room: usize,
    keys_len: usize,
    /// `LANES + 1` rows, and how many of them have been written.
    scratch: *mut [u8; ROW],
    scratch_len: usize,
    life: PhantomData<&'a mut [u8]>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    packet: usize,
    text_block: usize,
}

impl<'a> Lanes<'a> {
    #[inline]
    pub(super) const fn new<const KEYS: usize>(scratch: &'a mut Scratch<KEYS>) -> Self {
        Self {
            packet: [const { MaybeUninit::uninit() }; CAPACITY],
            block: [const { MaybeUninit::uninit() }; CAPACITY],
            rows: [const { MaybeUninit::uninit() }; CAPACITY],
            len: 0,
            closed: 0,
            parts: Stack::new(),
            keys: scratch.keys.as_mut_ptr().cast(),
            keys_room: KEYS,
            keys_len: 0,
            scratch: scratch.rows.as_mut_ptr().cast(),
            scratch_len: 0,
            life: PhantomData,
        }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether no lane would be idle.
    #[inline]
    pub(super) const fn is_even(&self) -> bool {
        self.len.is_multiple_of(PIECE)
    }

    /// How many more lanes fit.
    #[inline]
    pub(super) const fn room(&self) -> usize {
        LANES.saturating_sub(self.len)
    }

    /// The packets, blocks and rows of `N` lanes from lane `at` on. `None` past the last piece of 8,
    /// whose lanes behind the last one are idle.
    #[inline]
    pub(super) fn get<const N: usize>(
        &self,
        at: usize,
    ) -> Option<(&[u32; N], &[u32; N], &[Row; N])> {
        // SAFETY: lanes below `closed` have been written.
        unsafe {
            Some((
                written(self.packet.get(at..self.closed)?)?,
                written(self.block.get(at..self.closed)?)?,
                written(self.rows.get(at..self.closed)?)?,
            ))
        }
    }

    /// A lane for the first block of each packet, which is its one-time key.
    #[inline]
    pub(super) fn push_keys(&mut self, packets: usize) {
        let count = packets.min(self.keys_room).min(self.room());
        for key in 0..count {
            // SAFETY: there is room for so many. So the keys may be read even if no kernel ran.
            unsafe { self.keys.add(key).write([0; ROW]) }
        }
        self.keys_len = self.keys_len.max(count);
        for first in (0..count).step_by(PIECE) {
            let keys = self.keys.wrapping_add(first);
            self.write_piece(first, |lane| {
                let packet = number(first).wrapping_add(lane);
                let to = keys.wrapping_add(usize_of(lane));
                (
                    packet,
                    0,
                    Row {
                        from: &raw const ZEROS,
                        to,
                    },
                )
            });
        }
        self.len = self.len.wrapping_add(count);
    }

    /// Lanes for the blocks of a text from `block` on, as many as fit; the first one that does not.
    #[inline]
    pub(super) fn push_text(&mut self, packet: usize, text: &Text<'a>, block: usize) -> usize {
        let run = text.full_blocks().saturating_sub(block).min(self.room());
        if run > 0 {
            let (from, to) = text.row(block);
            let first = number(block).wrapping_add(1);
            self.push(number(packet), first, from, to, run);
        }
        let mut block = block.wrapping_add(run);
        while block >= text.full_blocks() && block < text.blocks() && self.push_ahead(packet, block)
        {
            block = block.wrapping_add(1);
        }
        block
    }

    /// A lane that leaves its keystream for [`combine`](Self::combine), if there is room.
    #[inline]
    pub(super) fn push_ahead(&mut self, packet: usize, block: usize) -> bool {
        if self.room() == 0 {
            return false;
        }
        self.parts.push(Part {
            packet,
            text_block: block,
        });
        let row = self.parts.get().len();
        self.start_rows(row.wrapping_add(1));
        let to = self.scratch.wrapping_add(row);
        let first = number(block).wrapping_add(1);
        self.push(number(packet), first, &raw const ZEROS, to, 1);
        true
    }

    /// Makes the lanes behind the last one idle, to the end of a piece.
    #[inline]
    pub(super) fn close(&mut self) {
        self.closed = self.len.next_multiple_of(PIECE);
        if self.closed > self.len {
            self.start_rows(1);
            let idle = Row {
                from: &raw const ZEROS,
                to: self.scratch,
            };
            self.write_piece(0, |_| (0, u32::MAX, idle));
        }
    }

    /// Sees that the first `count` scratch rows have been written.
    #[inline]
    fn start_rows(&mut self, count: usize) {
        while self.scratch_len < count.min(LANES + 1) {
            // SAFETY: there is room for `LANES + 1`.
            unsafe { self.scratch.add(self.scratch_len).write([0; ROW]) }
            self.scratch_len = self.scratch_len.wrapping_add(1);
        }
    }

    /// Writes `count` lanes, in whole pieces: what is too much is written again later.
    #[inline]
    fn push(
        &mut self,
        packet: u32,
        block: u32,
        from: *const [u8; ROW],
        to: *mut [u8; ROW],
        count: usize,
    ) {
        if count == 1 {
            self.write_lane(packet, block, Row { from, to });
            self.len = self.len.wrapping_add(1);
            return;
        }
        for done in (0..count).step_by(PIECE) {
            let (from, to) = (from.wrapping_add(done), to.wrapping_add(done));
            let block = block.wrapping_add(number(done));
            self.write_piece(done, |lane| {
                let by = usize_of(lane);
                let (from, to) = (from.wrapping_add(by), to.wrapping_add(by));
                (packet, block.wrapping_add(lane), Row { from, to })
            });
        }
        self.len = self.len.wrapping_add(count);
    }

    /// Writes the lane behind the last one.
    #[inline]
    fn write_lane(&mut self, packet: u32, block: u32, row: Row) {
        if let (Some(packet_of), Some(block_of), Some(row_of)) = (
            self.packet.get_mut(self.len),
            self.block.get_mut(self.len),
            self.rows.get_mut(self.len),
        ) {
            packet_of.write(packet);
            block_of.write(block);
            row_of.write(row);
        }
    }

    /// Writes a piece of lanes, `ahead` lanes behind the last one.
    #[inline]
    fn write_piece(&mut self, ahead: usize, lane: impl Fn(u32) -> (u32, u32, Row)) {
        let at = self.len.wrapping_add(ahead);
        let (Some(packets), Some(blocks), Some(rows)) = (
            piece(&mut self.packet, at),
            piece(&mut self.block, at),
            piece(&mut self.rows, at),
        ) else {
            return;
        };
        let places = packets.iter_mut().zip(blocks.iter_mut().zip(rows));
        for (number, (packet_of, (block_of, row_of))) in (0..).zip(places) {
            let (packet, block, row) = lane(number);
            packet_of.write(packet);
            block_of.write(block);
            row_of.write(row);
        }
    }

    /// The one-time keys that the key lanes have made.
    #[inline]
    pub(super) const fn keys(&self) -> &[[u8; ROW]] {
        // SAFETY: rows of a `Scratch` borrowed for 'a, which have been written. Only kernels write to
        // them again, and not while the result is borrowed.
        unsafe { core::slice::from_raw_parts(self.keys, self.keys_len) }
    }

    /// Combines what went through scratch with its text, for the packets that are wanted, and
    /// empties the lanes.
    #[inline]
    pub(super) fn combine(&mut self, texts: &[Text<'a>], wanted: impl Fn(usize) -> bool) {
        for (row, part) in (1_usize..).zip(self.parts.get()) {
            let Some(text) = texts.get(part.packet) else {
                continue;
            };
            if wanted(part.packet) {
                // SAFETY: `push_ahead` has seen to it that the row has been written; as for `keys`.
                let keystream = unsafe { &*self.scratch.wrapping_add(row) };
                text.xor(part.text_block, keystream);
            }
        }
        self.parts.clear();
        self.len = 0;
        self.closed = 0;
    }
}

impl Drop for Lanes<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the rows of a `Scratch` borrowed for 'a, of which so many have been written.
        unsafe {
            erase(core::slice::from_raw_parts_mut(self.keys, self.keys_len));
            erase(core::slice::from_raw_parts_mut(
                self.scratch,
                self.scratch_len,
            ));
        }
    }
}

#[inline]
fn erase(rows: &mut [[u8; ROW]]) {
    for row in &mut *rows {
        *row = [0; ROW];
    }
    zeroize::optimization_barrier(rows);
}

#[inline]
fn piece<T>(lanes: &mut [T; CAPACITY], at: usize) -> Option<&mut [T; PIECE]> {
    lanes.get_mut(at..)?.first_chunk_mut()
}

/// The first `N` items.
///
/// # Safety
///
/// The items have been written.
#[inline]
unsafe fn written<T, const N: usize>(items: &[MaybeUninit<T>]) -> Option<&[T; N]> {
    let items: &[MaybeUninit<T>; N] = items.first_chunk()?;
    // SAFETY: a written item is a `T`, as the caller says.
    Some(unsafe { &*core::ptr::from_ref(items).cast() })
}

/// A lane's number, which is small.
#[inline]
fn usize_of(lane: u32) -> usize {
    usize::try_from(lane).unwrap_or(0)
}

/// No message has as many blocks as this cannot say: see [`Text`].
#[inline]
fn number(block: usize) -> u32 {
    u32::try_from(block).unwrap_or(u32::MAX)
}
