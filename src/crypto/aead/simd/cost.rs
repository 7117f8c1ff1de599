//! What tags cost, by which a kernel chooses how to make them.

/// How many cycles something takes, as measured on Zen 4: so many, and so many more for a block.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    pub(super) once: usize,
    pub(super) per_block: usize,
}

impl Cost {
    /// The scalar code, for one text.
    pub(super) const SCALAR: Self = Self {
        once: 8,
        per_block: 14,
    };

    #[inline]
    pub(super) const fn of(&self, blocks: usize) -> usize {
        self.per_block
            .saturating_mul(blocks)
            .saturating_add(self.once)
    }
}

/// How many blocks are absorbed for a text, with that of the lengths.
#[inline]
pub(super) const fn blocks(text: &[u8]) -> usize {
    text.len().div_ceil(16).wrapping_add(1)
}
