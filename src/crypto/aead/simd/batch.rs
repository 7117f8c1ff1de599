//! Many messages at a time, of any sessions and sizes.

use core::iter;

use super::driver::{Cursor, cipher, is_right, run};
use super::one::{open, seal_one};
use super::rows::{Lanes, PACKETS, Scratch};
use super::stack::Stack;
use super::text::{ROW, Text};
use super::window::{Chunk, Unsealed, WINDOW, Window};
use super::{Kernel, OpenLane, Packets, SealLane, TAG_LEN, nonce};

/// Seals the messages of an iterator, and erases their keys.
#[inline]
pub(in super::super) fn seal_batch<'a, K: Kernel>(
    kernel: K,
    first: SealLane<'a>,
    rest: &mut impl Iterator<Item = SealLane<'a>>,
) {
    const { assert!(0 < K::PACKETS && K::PACKETS <= PACKETS) };
    let SealLane { key, counter, .. } = first;
    let text = Unsealed::new(text_of(first.source, first.buffer));
    let second = rest.next();
    let text = text.release();
    let Some(second) = second else {
        if let Some(text) = text {
            seal_one(kernel, key.expose(), &nonce(counter), &[], text);
        }
        return key.erase();
    };
    let mut window = Window::of_plaintexts();
    window.push_or_erase(key, counter, text);
    for lane in iter::once(second).chain(rest) {
        let text = text_of(lane.source, lane.buffer);
        window.push_or_erase(lane.key, lane.counter, text);
        if window.is_full() {
            break;
        }
    }
    window.each_chunk(K::PACKETS, |chunk| seal_chunk(kernel, chunk));
    window.is_done();
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
pub(in super::super) fn open_batch<'a, K: Kernel>(
    kernel: K,
    first: OpenLane<'a>,
    rest: &mut impl Iterator<Item = OpenLane<'a>>,
) {
    const { assert!(0 < K::PACKETS && K::PACKETS <= PACKETS) };
    // Whatever it was before, also if the iterator panics now.
    *first.authentic = false;
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
