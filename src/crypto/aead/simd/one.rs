//! One message at a time.

use super::driver::{Cursor, cipher, is_right, run};
use super::rows::{Lanes, Scratch};
use super::text::{ROW, Text};
use super::{Forged, Kernel, Packets, State, TAG_LEN, poly1305};

/// Seals one message, with associated data. Too short a buffer is left alone.
pub(in super::super) fn seal<K: Kernel>(
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
pub(super) fn seal_one<K: Kernel>(
    kernel: K,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    text: Text<'_>,
) {
    let mut state = State::new(key, nonce);
    if text.blocks() < K::ABREAST.min(8) {
        let mut short = Short::<8>::new();
        short.fill(kernel, &state, &text);
        short.seal(kernel, aad, &text);
        return state.erase();
    }
    // Beyond, lanes are as fast, and combine the text at once.
    if text.blocks() < K::ABREAST.min(12) {
        let mut short = Short::<24>::new();
        short.fill(kernel, &state, &text);
        short.seal(kernel, aad, &text);
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
pub(in super::super) fn open<K: Kernel>(
    kernel: K,
    key: &[u8; 32],
    nonce: &[u8; 12],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<(), Forged> {
    let text = Text::in_place(buffer).ok_or(Forged)?;
    let mut state = State::new(key, nonce);
    let block = if K::ABREAST == 0 {
        open_by_lanes(kernel, &state, aad, text)
    } else if K::ABREAST > 8 && text.blocks() >= 8 {
        let mut short = Short::<24>::new();
        short.fill(kernel, &state, &text);
        short.open(kernel, aad, &text)
    } else {
        let mut short = Short::<8>::new();
        short.fill(kernel, &state, &text);
        short.open(kernel, aad, &text)
    };
    if let Ok(block) = block
        && block < text.blocks()
    {
        cipher_rest(kernel, &state, text, block);
    }
    state.erase();
    block.map(|_| ())
}

/// Combines one text with its keystream from a block on.
fn cipher_rest<K: Kernel>(kernel: K, state: &State, text: Text<'_>, block: usize) {
    let packets = Packets::of(state);
    let mut scratch = Scratch::<1>::new();
    let mut lanes = Lanes::new(&mut scratch);
    let cursor = Cursor { packet: 0, block };
    cipher(kernel, &packets, &mut lanes, &[text], cursor, |_| true);
}

/// As [`Short::open`], of the whole text.
fn open_by_lanes<K: Kernel>(
    kernel: K,
    state: &State,
    aad: &[u8],
    text: Text<'_>,
) -> Result<usize, Forged> {
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
    is_authentic.then_some(text.blocks()).ok_or(Forged)
}

/// The first blocks of keystream of one message, often all of them.
struct Short<const ROWS: usize>([[u8; ROW]; ROWS]);

impl Short<8> {
    #[inline]
    fn fill<K: Kernel>(&mut self, kernel: K, state: &State, text: &Text<'_>) {
        let blocks = text.blocks().wrapping_add(1).min(8);
        kernel.keystream_8(state, blocks, &mut self.0);
    }
}

impl Short<24> {
    #[inline]
    fn fill<K: Kernel>(&mut self, kernel: K, state: &State, text: &Text<'_>) {
        let blocks = text.blocks().wrapping_add(1).min(24);
        kernel.keystream_24(state, blocks, &mut self.0);
    }
}

impl<const ROWS: usize> Short<ROWS> {
    #[inline]
    const fn new() -> Self {
        Self([[0; ROW]; ROWS])
    }

    #[inline]
    fn seal<K: Kernel>(&self, kernel: K, aad: &[u8], text: &Text<'_>) {
        kernel.combine(text, self.rows());
        text.put_tag(&self.tag(kernel, aad, text));
    }

    /// Opens the first blocks, if the message is authentic; the first block that is left.
    #[inline]
    fn open<K: Kernel>(&self, kernel: K, aad: &[u8], text: &Text<'_>) -> Result<usize, Forged> {
        if is_right(&self.tag(kernel, aad, text), text) {
            Ok(kernel.combine(text, self.rows()))
        } else {
            Err(Forged)
        }
    }

    /// What the text is combined with.
    #[inline]
    fn rows(&self) -> &[[u8; ROW]] {
        self.0.get(1..).unwrap_or_default()
    }

    #[inline]
    fn tag<K: Kernel>(&self, kernel: K, aad: &[u8], text: &Text<'_>) -> [u8; TAG_LEN] {
        let key = self.0.get(..1).unwrap_or_default();
        tag_of_one(kernel, key, aad, text.written())
    }
}

impl<const ROWS: usize> Drop for Short<ROWS> {
    #[inline]
    fn drop(&mut self) {
        self.0 = [[0; ROW]; ROWS];
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
