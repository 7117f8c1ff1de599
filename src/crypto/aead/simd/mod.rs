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
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
#[cfg(test)]
mod plain;
mod rows;
mod stack;
mod window;

use subtle::ConstantTimeEq;

use super::poly1305;
use super::{AeadKey, Forged, OpenLane, SealLane, TAG_LEN, nonce};
#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::{Avx512, Avx512F};
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(super) use neon::Neon;
#[cfg(test)]
pub(super) use plain::Plain;
use rows::{Lanes, PACKETS, ROW, Scratch, Text};
use stack::Stack;
use window::{Chunk, WINDOW, Window};

/// The code of one instruction set. A value is proof that this machine has it.
pub(super) trait Kernel: Copy {
    /// How many packets a chunk has: as many as the kernel computes one-time keys in one go.
    const PACKETS: usize;

    /// Sorts the states of up to [`Kernel::PACKETS`] packets by word.
    #[inline]
    fn sort(self, states: &[&State], packets: &mut Packets) {
        packets.sort(states);
    }

    /// Up to how many blocks [`keystream`](Self::keystream) is better with than [`xor`](Self::xor).
    const SHORT: usize = 0;

    /// Writes at least `blocks` blocks of one packet's keystream, of which the first is its one-time
    /// key. At most [`Kernel::SHORT`].
    #[inline]
    fn keystream(self, _state: &State, _blocks: usize, _rows: &mut [[u8; ROW]; 8]) {}

    /// Combines a block of keystream with the row of every lane.
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>);

    /// Computes the tags of texts (without associated data) under their one-time keys, which are the
    /// first 32 bytes of a row. The three slices have the same length, at most [`Kernel::PACKETS`].
    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]);
}

/// Words 4 to 15 of the cipher's state, of one packet: its key, a zero for the block number, its
/// nonce; and four zeros.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct State([u32; 16]);

impl State {
    const ZERO: Self = Self([0; 16]);

    #[inline]
    fn new(key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = words(key);
        let [n0, n1, n2] = words(nonce);
        Self([k0, k1, k2, k3, k4, k5, k6, k7, 0, n0, n1, n2, 0, 0, 0, 0])
    }

    #[inline]
    fn erase(&mut self) {
        *self = Self::ZERO;
        zeroize::optimization_barrier(self);
    }
}

/// Little-endian words.
#[inline]
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u32; WORDS] {
    const { assert!(BYTES == 4 * WORDS) };
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// The states of a chunk, by word: `key[word][packet]`. Entries without a packet are of no account.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Packets {
    /// Words 4 to 11.
    key: [[u32; PACKETS]; 8],
    /// Words 13 to 15.
    nonce: [[u32; PACKETS]; 3],
}

impl Packets {
    const ZERO: Self = Self {
        key: [[0; PACKETS]; 8],
        nonce: [[0; PACKETS]; 3],
    };

    /// The state of one packet.
    #[inline]
    fn of(state: &State) -> Self {
        let mut packets = Self::ZERO;
        packets.sort(&[state]);
        packets
    }

    /// What [`Kernel::sort`] does unless a kernel does it faster.
    #[inline]
    fn sort(&mut self, states: &[&State]) {
        for (packet, State(state)) in states.iter().enumerate() {
            let [k0, k1, k2, k3, k4, k5, k6, k7, _, n0, n1, n2, ..] = *state;
            let words = self.key.iter_mut().zip([k0, k1, k2, k3, k4, k5, k6, k7]);
            for (words, word) in words.chain(self.nonce.iter_mut().zip([n0, n1, n2])) {
                if let Some(place) = words.get_mut(packet) {
                    *place = word;
                }
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
#[derive(Clone, Copy, Debug)]
struct Cursor {
    packet: usize,
    block: usize,
}

impl Cursor {
    const START: Self = Self {
        packet: 0,
        block: 0,
    };

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
    /// packets are authentic. What they make is combined when that is known.
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

impl AeadKey {
    #[inline]
    const fn expose(&self) -> &[u8; 32] {
        self.key.expose()
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
    if let Some(text) = Text::in_place(buffer) {
        seal_one(kernel, key, nonce, aad, text);
    }
}

#[inline]
fn seal_one<K: Kernel>(kernel: K, key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: Text<'_>) {
    let mut state = State::new(key, nonce);
    if text.blocks() < K::SHORT {
        let short = Short::new(kernel, &state, &text);
        text.combine(short.rows());
        text.put_tag(&short.tag(kernel, aad, &text));
        return state.erase();
    }
    let packets = Packets::of(&state);
    let mut scratch = Scratch::<1>::new();
    let mut lanes = Lanes::new(&mut scratch);
    lanes.push_keys(1);
    let texts = [text];
    cipher(kernel, &packets, &mut lanes, &texts, Cursor::START, |_| {
        true
    });
    text.put_tag(&tag_of_one(kernel, lanes.keys(), aad, text.written()));
    state.erase();
}

/// Opens one message, with associated data.
pub(super) fn open<K: Kernel>(
    kernel: K,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let text = Text::in_place(buffer).ok_or(Forged)?;
    let mut state = State::new(key, nonce);
    let is_authentic = if K::SHORT > 0 {
        let short = Short::new(kernel, &state, &text);
        let is_authentic = is_right(&short.tag(kernel, aad, &text), &text);
        if is_authentic {
            let block = text.combine(short.rows());
            if block < text.blocks() {
                cipher_rest(kernel, &state, text, block);
            }
        }
        is_authentic
    } else {
        open_by_lanes(kernel, &state, aad, text)
    };
    state.erase();
    is_authentic.then_some(()).ok_or(Forged)
}

/// Combines one text with its keystream from a block on.
fn cipher_rest<K: Kernel>(kernel: K, state: &State, text: Text<'_>, block: usize) {
    let packets = Packets::of(state);
    let mut scratch = Scratch::<1>::new();
    let mut lanes = Lanes::new(&mut scratch);
    let cursor = Cursor { packet: 0, block };
    cipher(kernel, &packets, &mut lanes, &[text], cursor, |_| true);
}

fn open_by_lanes<K: Kernel>(kernel: K, state: &State, aad: &[u8], text: Text<'_>) -> bool {
    let (packets, texts) = (Packets::of(state), [text]);
    let mut scratch = Scratch::<1>::new();
    let mut lanes = Lanes::new(&mut scratch);
    let mut cursor = Cursor::START;
    lanes.push_keys(1);
    cursor.fill_ahead(&mut lanes, &texts);
    run(kernel, &packets, &mut lanes);
    let made = tag_of_one(kernel, lanes.keys(), aad, text.written());
    let is_authentic = is_right(&made, &text);
    lanes.combine(&texts, |_| is_authentic);
    if is_authentic {
        cipher(kernel, &packets, &mut lanes, &texts, cursor, |_| true);
    }
    is_authentic
}

/// The first blocks of keystream of a message, if it is short all of them.
struct Short([[u8; ROW]; 8]);

impl Short {
    #[inline]
    fn new<K: Kernel>(kernel: K, state: &State, text: &Text<'_>) -> Self {
        let mut rows = [[0; ROW]; 8];
        kernel.keystream(state, text.blocks().wrapping_add(1).min(8), &mut rows);
        Self(rows)
    }

    /// What the text is combined with.
    #[inline]
    fn rows(&self) -> &[[u8; ROW]] {
        self.0.get(1..).unwrap_or_default()
    }

    #[inline]
    fn tag<K: Kernel>(&self, kernel: K, aad: &[u8], text: &Text<'_>) -> [u8; TAG_LEN] {
        tag_of_one(
            kernel,
            self.0.first_chunk::<1>().map_or(&[], |key| key),
            aad,
            text.written(),
        )
    }
}

impl Drop for Short {
    #[inline]
    fn drop(&mut self) {
        self.0 = [[0; ROW]; 8];
        zeroize::optimization_barrier(self);
    }
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

/// Compares in constant time, at one go: as bytes that takes as long as a block of the cipher.
#[inline]
fn is_right(made: &[u8; TAG_LEN], text: &Text<'_>) -> bool {
    let wanted = text.tag();
    let words = made.as_chunks().0.iter().zip(wanted.as_chunks().0);
    let difference = words.fold(0, |difference, (made, wanted)| {
        difference | (u64::from_ne_bytes(*made) ^ u64::from_ne_bytes(*wanted))
    });
    difference.ct_eq(&0).into()
}

/// Seals the messages of an iterator, and erases their keys.
#[inline]
pub(super) fn seal_batch<'a, K: Kernel>(
    kernel: K,
    first: SealLane<'a>,
    rest: &mut impl Iterator<Item = SealLane<'a>>,
) {
    let Some(second) = rest.next() else {
        if let Some(text) = text_of(first.source, first.buffer) {
            let nonce = nonce(first.counter);
            seal_one(kernel, first.key.expose(), &nonce, &[], text);
        }
        return first.key.erase();
    };
    let mut window = Window::new();
    for lane in [first, second].into_iter().chain(rest) {
        match text_of(lane.source, lane.buffer) {
            Some(text) => window.push(lane.key, lane.counter, text),
            None => lane.key.erase(),
        }
        if window.is_full() {
            break;
        }
    }
    window.each_chunk(K::PACKETS, |chunk| seal_chunk(kernel, chunk));
}

#[inline]
fn text_of<'a>(source: Option<&'a [u8]>, buffer: &'a mut [u8]) -> Option<Text<'a>> {
    match source {
        Some(packet) => Text::apart(packet, buffer),
        None => Text::in_place(buffer),
    }
}

fn seal_chunk<K: Kernel>(kernel: K, chunk: &Chunk<'_, '_>) {
    let mut packets = Packets::ZERO;
    kernel.sort(chunk.states.get(), &mut packets);
    let mut scratch = Scratch::<PACKETS>::new();
    let mut lanes = Lanes::new(&mut scratch);
    let texts = chunk.texts.get();
    lanes.push_keys(texts.len());
    cipher(kernel, &packets, &mut lanes, texts, Cursor::START, |_| true);
    let tags = tags(kernel, lanes.keys(), texts);
    for (text, tag) in texts.iter().zip(&tags) {
        text.put_tag(tag);
    }
}

/// The tags of all packets, one-time keys being there.
#[inline]
fn tags<K: Kernel>(kernel: K, keys: &[[u8; ROW]], texts: &[Text<'_>]) -> [[u8; TAG_LEN]; PACKETS] {
    let mut made = [[0; TAG_LEN]; PACKETS];
    let mut written = Stack::<&[u8], PACKETS>::new();
    for text in texts {
        written.push(text.written());
    }
    if let (Some(keys), Some(tags)) = (keys.get(..texts.len()), made.get_mut(..texts.len())) {
        kernel.tags(keys, written.get(), tags);
    }
    made
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
        return first.key.erase();
    };
    let mut window = Window::new();
    let mut verdicts = [const { None }; WINDOW];
    for lane in [first, second].into_iter().chain(rest) {
        *lane.authentic = false;
        match (Text::in_place(lane.buffer), verdicts.get_mut(window.len())) {
            (Some(text), Some(verdict)) => {
                window.push(lane.key, lane.counter, text);
                *verdict = Some(lane.authentic);
            }
            _ => lane.key.erase(),
        }
        if window.is_full() {
            break;
        }
    }
    window.each_chunk(K::PACKETS, |chunk| {
        let authentic = open_chunk(kernel, chunk);
        for (place, authentic) in chunk.places.get().iter().zip(authentic) {
            if let Some(Some(verdict)) = verdicts.get_mut(*place) {
                **verdict = authentic;
            }
        }
    });
}

fn open_chunk<K: Kernel>(kernel: K, chunk: &Chunk<'_, '_>) -> [bool; PACKETS] {
    let mut packets = Packets::ZERO;
    kernel.sort(chunk.states.get(), &mut packets);
    let mut scratch = Scratch::<PACKETS>::new();
    let mut lanes = Lanes::new(&mut scratch);
    let (texts, mut cursor) = (chunk.texts.get(), Cursor::START);
    lanes.push_keys(texts.len());
    cursor.fill_ahead(&mut lanes, texts);
    run(kernel, &packets, &mut lanes);
    let made = tags(kernel, lanes.keys(), texts);
    let mut authentic = [false; PACKETS];
    for (authentic, (text, made)) in authentic.iter_mut().zip(texts.iter().zip(made)) {
        *authentic = is_right(&made, text);
    }
    let wanted = |packet: usize| authentic.get(packet).is_some_and(|authentic| *authentic);
    lanes.combine(texts, wanted);
    cipher(kernel, &packets, &mut lanes, texts, cursor, wanted);
    authentic
}
