//! The messages of a batch, collected so that they can be taken in another order.

use super::super::AeadKey;
use super::rows::PACKETS;
use super::stack::Stack;
use super::text::Text;
use super::{State, nonce};

/// How many messages are collected before the first is worked on.
pub(super) const WINDOW: usize = 64;

/// Messages of a batch: what their cipher starts from, and where they lie.
pub(super) struct Window<'a> {
    states: Stack<State, WINDOW>,
    texts: Stack<Text<'a>, WINDOW>,
    /// Whether the texts are plaintexts that their owners believe to be sealed.
    is_plain: bool,
}

impl<'a> Window<'a> {
    #[inline]
    pub(super) const fn new() -> Self {
        Self {
            states: Stack::new(),
            texts: Stack::new(),
            is_plain: false,
        }
    }

    /// For messages to be sealed. If the iterator that gives them panics, those that it has given are
    /// erased: plaintext must not pass for ciphertext.
    #[inline]
    pub(super) const fn of_plaintexts() -> Self {
        let mut window = Self::new();
        window.is_plain = true;
        window
    }

    /// To be called when all texts have been sealed.
    #[inline]
    pub(super) const fn is_done(&mut self) {
        self.is_plain = false;
    }

    #[inline]
    pub(super) const fn is_full(&self) -> bool {
        self.texts.get().len() == WINDOW
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.texts.get().len()
    }

    /// Takes a message in, with a copy of its key, which is erased.
    #[inline]
    pub(super) fn push(&mut self, key: &mut AeadKey, counter: u64, text: Text<'a>) {
        self.states.push(State::new(key.expose(), &nonce(counter)));
        self.texts.push(text);
        key.erase();
    }

    /// Takes a message in, if it has a text, and erases its key.
    #[inline]
    pub(super) fn push_or_erase(
        &mut self,
        key: &mut AeadKey,
        counter: u64,
        text: Option<Text<'a>>,
    ) {
        match text {
            Some(text) => self.push(key, counter, text),
            None => key.erase(),
        }
    }

    /// Calls `work` with chunks of up to `packets` messages of similar length.
    #[inline]
    pub(super) fn each_chunk(&self, packets: usize, mut work: impl FnMut(&Chunk<'_, 'a>)) {
        let texts = self.texts.get();
        let mut chunk = Chunk {
            states: Stack::new(),
            texts: Stack::new(),
            places: Stack::new(),
        };
        let mut blocks = texts.iter().map(Text::blocks);
        let first = blocks.next();
        if blocks.all(|next| Some(next) == first) {
            // Mostly so: a train of packets.
            let states = self.states.get().chunks(packets);
            for (at, (states, texts)) in states.zip(texts.chunks(packets)).enumerate() {
                let first = at.wrapping_mul(packets);
                chunk.fill(states.iter().zip(texts).zip(first..));
                work(&chunk);
            }
            return;
        }
        let order = Order::by_length(texts);
        for places in order
            .places
            .get(..texts.len())
            .unwrap_or_default()
            .chunks(packets)
        {
            let places = places.iter().map(|place| usize::from(*place));
            chunk.fill(places.filter_map(|place| {
                let state = self.states.get().get(place)?;
                Some(((state, texts.get(place)?), place))
            }));
            work(&chunk);
        }
    }
}

impl Drop for Window<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_plain {
            self.texts.get().iter().for_each(Text::erase);
        }
        for state in self.states.get_mut() {
            *state = State::ZERO;
        }
        zeroize::optimization_barrier(self);
    }
}

/// A plaintext that its owner believes to be sealed; erased unless it is released.
pub(super) struct Unsealed<'a>(Option<Text<'a>>);

impl<'a> Unsealed<'a> {
    #[inline]
    pub(super) const fn new(text: Option<Text<'a>>) -> Self {
        Self(text)
    }

    #[inline]
    pub(super) fn release(mut self) -> Option<Text<'a>> {
        self.0.take()
    }
}

impl Drop for Unsealed<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(text) = &self.0 {
            text.erase();
        }
    }
}

/// Messages that are worked on together.
pub(super) struct Chunk<'w, 'a> {
    pub(super) states: Stack<&'w State, PACKETS>,
    pub(super) texts: Stack<Text<'a>, PACKETS>,
    /// Where in the window each message stands.
    pub(super) places: Stack<usize, PACKETS>,
}

impl<'w, 'a: 'w> Chunk<'w, 'a> {
    #[inline]
    fn fill(&mut self, messages: impl Iterator<Item = ((&'w State, &'w Text<'a>), usize)>) {
        self.states.clear();
        self.texts.clear();
        self.places.clear();
        for ((state, text), place) in messages {
            self.states.push(state);
            self.texts.push(*text);
            self.places.push(place);
        }
    }
}

/// The places of a window, those of long messages first.
///
/// Tags are computed side by side, for as long as the longest takes. So neighbours should be alike.
struct Order {
    places: [u8; WINDOW],
}

impl Order {
    const CLASSES: usize = 32;

    /// Sorts by number of blocks, coarsely, by counting.
    #[inline]
    fn by_length(texts: &[Text<'_>]) -> Self {
        let class = |text: &Text<'_>| {
            let shortness = Self::CLASSES.saturating_sub(text.blocks());
            shortness.min(Self::CLASSES - 1)
        };
        let mut next = [0_u8; Self::CLASSES];
        for text in texts {
            if let Some(count) = next.get_mut(class(text)) {
                *count = count.wrapping_add(1);
            }
        }
        let mut before = 0_u8;
        for count in &mut next {
            (*count, before) = (before, before.wrapping_add(*count));
        }
        let mut places = [0; WINDOW];
        for (at, text) in (0..).zip(texts) {
            if let Some(next) = next.get_mut(class(text)) {
                if let Some(place) = places.get_mut(usize::from(*next)) {
                    *place = at;
                }
                *next = next.wrapping_add(1);
            }
        }
        Self { places }
    }
}
