//! What the vector kernels share: which lane works on which block of which packet, and in what order.
//!
//! A kernel computes several blocks of ChaCha20 at once, and several tags of Poly1305. Most packets
//! are too small to fill its lanes, so the lanes of one pass belong to all packets of a chunk: first
//! one lane each for the one-time keys, then the packets' blocks one after the other. Sealing makes
//! the ciphertext and then the tags. Opening makes the one-time keys, then the tags, and deciphers
//! only what is authentic, so that a forged message leaves no plaintext and costs no pass.
//!
//! Nothing here depends on secret bytes but the verdict itself: lanes follow from lengths.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod plain;
mod rows;
#[cfg(test)]
mod timing;

use subtle::ConstantTimeEq;

use super::poly1305;
use super::{Forged, OpenLane, SealLane, TAG_LEN, nonce};
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(test)]
pub(super) use plain::Plain;
use rows::{LEN_MAX, Lanes, PACKETS, ROW, Scratch, Text};

/// The code of one instruction set. A value is proof that this machine has it.
pub(super) trait Kernel: Copy {
    /// How many packets a chunk has: as many as the kernel computes one-time keys in one go.
    const PACKETS: usize;

    /// Combines a block of keystream with the row of every lane.
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>);

    /// Computes the tags of texts (without associated data) under their one-time keys, which are the
    /// first 32 bytes of a row. The three slices have the same length, at most [`Kernel::PACKETS`].
    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]);
}

/// How many packets are collected before the first is sealed, so that neighbours are alike.
const WINDOW: usize = 64;

/// Words 4 to 15 of the cipher's state but the block number, of every packet: `words[word][packet]`.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Packets {
    /// Words 4 to 11, the key.
    key: [[u32; PACKETS]; 8],
    /// Words 13 to 15, the nonce.
    nonce: [[u32; PACKETS]; 3],
}

impl Packets {
    #[inline]
    const fn new() -> Self {
        Self {
            key: [[0; PACKETS]; 8],
            nonce: [[0; PACKETS]; 3],
        }
    }

    #[inline]
    fn set(&mut self, packet: usize, key: &[u8; 32], nonce: &[u8; 12]) {
        let (key, _) = key.as_chunks();
        let (nonce, _) = nonce.as_chunks();
        let words = self.key.iter_mut().zip(key);
        for (word, bytes) in words.chain(self.nonce.iter_mut().zip(nonce)) {
            if let Some(word) = word.get_mut(packet) {
                *word = u32::from_le_bytes(*bytes);
            }
        }
    }
}

impl Drop for Packets {
    #[inline]
    fn drop(&mut self) {
        self.key = [[0; PACKETS]; 8];
        zeroize::optimization_barrier(self);
    }
}

/// The next block to be given a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    packet: usize,
    block: usize,
}

impl Cursor {
    /// Gives lanes to the blocks that come next, until there are no more; false when lanes are short.
    #[inline]
    fn fill<'a>(
        &mut self,
        lanes: &mut Lanes<'a>,
        texts: &[Text<'a>],
        wanted: impl Fn(usize) -> bool,
    ) -> bool {
        while let Some(text) = texts.get(self.packet) {
            if wanted(self.packet) {
                self.block = lanes.push_text(self.packet, text, self.block);
                if self.block < text.blocks() {
                    return false;
                }
            }
            *self = Self {
                packet: self.packet.wrapping_add(1),
                block: 0,
            };
        }
        true
    }

    /// Gives lanes that would be idle to the blocks that come next, before it is known whether their
    /// packets are authentic.
    #[inline]
    fn fill_ahead<'a>(&mut self, lanes: &mut Lanes<'a>, texts: &[Text<'a>]) {
        while let Some(text) = texts.get(self.packet) {
            while self.block < text.blocks() {
                if lanes.is_even() || !lanes.push_ahead(self.packet, self.block) {
                    return;
                }
                self.block = self.block.wrapping_add(1);
            }
            *self = Self {
                packet: self.packet.wrapping_add(1),
                block: 0,
            };
        }
    }
}

/// Combines the texts of the wanted packets with their keystream, from the cursor on.
#[inline]
fn cipher<'a, K: Kernel>(
    kernel: K,
    packets: &Packets,
    lanes: &mut Lanes<'a>,
    texts: &[Text<'a>],
    mut cursor: Cursor,
    wanted: impl Fn(usize) -> bool,
) {
    loop {
        let is_last = cursor.fill(lanes, texts, &wanted);
        run(kernel, packets, lanes);
        lanes.combine(texts, &wanted);
        if is_last {
            return;
        }
    }
}

#[inline]
fn run<K: Kernel>(kernel: K, packets: &Packets, lanes: &mut Lanes<'_>) {
    if lanes.len() > 0 {
        lanes.close();
        kernel.xor(packets, lanes);
    }
}

/// Seals one message, with associated data. Too short a buffer is left alone.
pub(super) fn seal<K: Kernel>(
    kernel: K,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) {
    if let Some((text, tag)) = buffer.split_last_chunk_mut() {
        seal_one(kernel, key, nonce, aad, Text::in_place(text), tag);
    }
}

#[inline]
fn seal_one<K: Kernel>(
    kernel: K,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    text: Text<'_>,
    tag: &mut [u8; TAG_LEN],
) {
    let mut packets = Packets::new();
    packets.set(0, key, nonce);
    let mut scratch = Scratch::<1, 3>::new();
    let mut lanes = Lanes::new(&mut scratch);
    lanes.push_key(0);
    let texts = [text];
    cipher(
        kernel,
        &packets,
        &mut lanes,
        &texts,
        Cursor::default(),
        |_| true,
    );
    *tag = tag_of_one(kernel, lanes.keys(), aad, text.written());
}

/// Opens one message, with associated data.
pub(super) fn open<K: Kernel>(
    kernel: K,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let (text, tag) = buffer.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
    let texts = [Text::in_place(text)];
    let mut packets = Packets::new();
    packets.set(0, key, nonce);
    let mut scratch = Scratch::<1, 9>::new();
    let mut lanes = Lanes::new(&mut scratch);
    let mut cursor = Cursor::default();
    lanes.push_key(0);
    cursor.fill_ahead(&mut lanes, &texts);
    run(kernel, &packets, &mut lanes);
    let [text] = &texts;
    let made = tag_of_one(kernel, lanes.keys(), aad, text.written());
    if !bool::from(made.ct_eq(tag)) {
        return Err(Forged);
    }
    lanes.combine(&texts, |_| true);
    cipher(kernel, &packets, &mut lanes, &texts, cursor, |_| true);
    Ok(())
}

#[inline]
fn tag_of_one<K: Kernel>(kernel: K, keys: &[[u8; ROW]], aad: &[u8], text: &[u8]) -> [u8; TAG_LEN] {
    let mut tags = [[0; TAG_LEN]];
    if aad.is_empty() {
        kernel.tags(keys, &[text], &mut tags);
    } else if let Some(key) = keys.first().and_then(|row| row.first_chunk()) {
        // Only handshakes have associated data, and little of everything.
        tags = [poly1305::tag(key, aad, text)];
    }
    let [tag] = tags;
    tag
}

/// The packets of a chunk.
struct Chunk<'a> {
    packets: Packets,
    texts: [Text<'a>; PACKETS],
    len: usize,
}

impl<'a> Chunk<'a> {
    const fn new() -> Self {
        Self {
            packets: Packets::new(),
            texts: [Text::EMPTY; PACKETS],
            len: 0,
        }
    }

    #[inline]
    fn push(&mut self, key: &[u8; 32], counter: u64, text: Text<'a>) {
        if let Some(place) = self.texts.get_mut(self.len) {
            *place = text;
            self.packets.set(self.len, key, &nonce(counter));
            self.len = self.len.wrapping_add(1);
        }
    }

    #[inline]
    fn texts(&self) -> &[Text<'a>] {
        self.texts.get(..self.len).unwrap_or_default()
    }

    /// The tags of all packets, one-time keys being there.
    #[inline]
    fn tags<K: Kernel>(&self, kernel: K, lanes: &Lanes<'_>) -> [[u8; TAG_LEN]; PACKETS] {
        let mut made = [[0; TAG_LEN]; PACKETS];
        let mut written: [&[u8]; PACKETS] = [&[]; PACKETS];
        for (written, text) in written.iter_mut().zip(self.texts()) {
            *written = text.written();
        }
        let keys = lanes.keys().get(..self.len);
        let (texts, tags) = (written.get(..self.len), made.get_mut(..self.len));
        if let (Some(keys), Some(texts), Some(tags)) = (keys, texts, tags) {
            kernel.tags(keys, texts, tags);
        }
        made
    }
}

/// Seals the messages of an iterator, and erases their keys.
#[inline]
pub(super) fn seal_batch<'a, K: Kernel>(
    kernel: K,
    first: SealLane<'a>,
    rest: &mut impl Iterator<Item = SealLane<'a>>,
) {
    let Some(second) = rest.next() else {
        return seal_lane(kernel, first);
    };
    let mut window = Window::collect([first, second], rest, |lane| lane.buffer.len());
    for order in window.order.chunks(K::PACKETS) {
        seal_chunk(kernel, order, &mut window.lanes);
    }
}

fn seal_lane<K: Kernel>(kernel: K, lane: SealLane<'_>) {
    if let Some((text, tag)) = lane.buffer.split_last_chunk_mut() {
        if let Some(text) = text_of(lane.source, text) {
            let nonce = nonce(lane.counter);
            seal_one(kernel, lane.key.expose(), &nonce, &[], text, tag);
        }
    }
    lane.key.erase();
}

#[inline]
fn text_of<'a>(source: Option<&'a [u8]>, text: &'a mut [u8]) -> Option<Text<'a>> {
    match source {
        Some(packet) => Text::apart(packet, text),
        None => Some(Text::in_place(text)),
    }
}

fn seal_chunk<'a, K: Kernel>(kernel: K, order: &[u8], lanes: &mut [Option<SealLane<'a>>; WINDOW]) {
    let mut chunk = Chunk::new();
    let mut tags: [Option<&mut [u8; TAG_LEN]>; PACKETS] = [const { None }; PACKETS];
    for lane in order.iter().filter_map(|at| take(lanes, *at)) {
        let Some((text, tag)) = lane.buffer.split_last_chunk_mut() else {
            continue;
        };
        if let (Some(text), Some(place)) = (text_of(lane.source, text), tags.get_mut(chunk.len)) {
            *place = Some(tag);
            chunk.push(lane.key.expose(), lane.counter, text);
        }
        lane.key.erase();
    }
    let mut scratch = Scratch::<PACKETS, 17>::new();
    let mut lanes = Lanes::new(&mut scratch);
    for packet in 0..chunk.len {
        lanes.push_key(packet);
    }
    let (packets, texts) = (&chunk.packets, chunk.texts());
    cipher(
        kernel,
        packets,
        &mut lanes,
        texts,
        Cursor::default(),
        |_| true,
    );
    for (place, tag) in tags.iter_mut().flatten().zip(chunk.tags(kernel, &lanes)) {
        **place = tag;
    }
}

/// Opens the messages of an iterator, and erases their keys.
#[inline]
pub(super) fn open_batch<'a, K: Kernel>(
    kernel: K,
    first: OpenLane<'a>,
    rest: &mut impl Iterator<Item = OpenLane<'a>>,
) {
    let Some(second) = rest.next() else {
        let nonce = nonce(first.counter);
        *first.authentic = open(kernel, first.key.expose(), &nonce, &[], first.buffer).is_ok();
        first.key.erase();
        return;
    };
    let mut window = Window::collect([first, second], rest, |lane| lane.buffer.len());
    for order in window.order.chunks(K::PACKETS) {
        open_chunk(kernel, order, &mut window.lanes);
    }
}

fn open_chunk<'a, K: Kernel>(kernel: K, order: &[u8], lanes: &mut [Option<OpenLane<'a>>; WINDOW]) {
    let mut chunk = Chunk::new();
    let mut tags = [[0; TAG_LEN]; PACKETS];
    let mut verdicts: [Option<&mut bool>; PACKETS] = [const { None }; PACKETS];
    for lane in order.iter().filter_map(|at| take(lanes, *at)) {
        *lane.authentic = false;
        if let (Some((text, tag)), Some(wanted), Some(verdict)) = (
            lane.buffer.split_last_chunk_mut(),
            tags.get_mut(chunk.len),
            verdicts.get_mut(chunk.len),
        ) {
            *wanted = *tag;
            *verdict = Some(lane.authentic);
            chunk.push(lane.key.expose(), lane.counter, Text::in_place(text));
        }
        lane.key.erase();
    }
    let mut scratch = Scratch::<PACKETS, 17>::new();
    let mut lanes = Lanes::new(&mut scratch);
    let mut cursor = Cursor::default();
    for packet in 0..chunk.len {
        lanes.push_key(packet);
    }
    cursor.fill_ahead(&mut lanes, chunk.texts());
    run(kernel, &chunk.packets, &mut lanes);
    let made = chunk.tags(kernel, &lanes);
    let mut authentic = [false; PACKETS];
    for (packet, authentic) in authentic.iter_mut().enumerate().take(chunk.len) {
        let (made, wanted) = (made.get(packet), tags.get(packet));
        *authentic = made.zip(wanted).is_some_and(|(a, b)| a.ct_eq(b).into());
    }
    for (verdict, authentic) in verdicts.iter_mut().flatten().zip(authentic) {
        **verdict = authentic;
    }
    let wanted = |packet: usize| authentic.get(packet).is_some_and(|authentic| *authentic);
    lanes.combine(chunk.texts(), wanted);
    cipher(
        kernel,
        &chunk.packets,
        &mut lanes,
        chunk.texts(),
        cursor,
        wanted,
    );
}

/// Messages collected from an iterator, and the order in which they go into chunks.
struct Window<L> {
    lanes: [Option<L>; WINDOW],
    order: Order,
}

impl<L> Window<L> {
    #[inline]
    fn collect(
        head: [L; 2],
        rest: &mut impl Iterator<Item = L>,
        len: impl Fn(&L) -> usize + Clone,
    ) -> Self {
        let mut lanes = [const { None }; WINDOW];
        for (place, lane) in lanes.iter_mut().zip(head.into_iter().chain(rest)) {
            *place = Some(lane);
        }
        let order = Order::by_length(lanes.iter().flatten().map(len));
        Self { lanes, order }
    }
}

#[inline]
fn take<L>(lanes: &mut [Option<L>; WINDOW], at: u8) -> Option<L> {
    lanes.get_mut(usize::from(at))?.take()
}

/// The places of a window, those of long messages first.
///
/// Tags are computed side by side, for as long as the longest takes. So neighbours should be alike.
struct Order {
    places: [u8; WINDOW],
    len: usize,
}

impl Order {
    const CLASSES: usize = 32;

    /// Sorts by number of blocks, coarsely, by counting.
    #[inline]
    fn by_length(lengths: impl Iterator<Item = usize> + Clone) -> Self {
        let class = |len: usize| {
            let shortness = Self::CLASSES.saturating_sub(len.div_ceil(ROW));
            shortness.min(Self::CLASSES - 1)
        };
        let mut ends = [0_u8; Self::CLASSES];
        for len in lengths.clone() {
            if let Some(end) = ends.get_mut(class(len)) {
                *end = end.wrapping_add(1);
            }
        }
        let mut len = 0;
        for place in &mut ends {
            (*place, len) = (len, place.wrapping_add(len));
        }
        let mut places = [0; WINDOW];
        for (lane, length) in (0..).zip(lengths) {
            if let Some(next) = ends.get_mut(class(length)) {
                if let Some(place) = places.get_mut(usize::from(*next)) {
                    *place = lane;
                }
                *next = next.wrapping_add(1);
            }
        }
        Self {
            places,
            len: len.into(),
        }
    }

    #[inline]
    fn chunks(&self, packets: usize) -> impl Iterator<Item = &[u8]> {
        self.places
            .get(..self.len)
            .unwrap_or_default()
            .chunks(packets)
    }
}
