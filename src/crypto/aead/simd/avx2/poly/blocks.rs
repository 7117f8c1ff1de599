//! Which blocks of which texts a step takes. All of this follows from lengths.

pub(super) type Block = [u8; 16];

/// 2^128 in the last limb.
pub(super) const BIT: u64 = 1 << 24;

/// A block where texts start or end, and its bit at 2^128, in the last limb.
pub(super) type Edge<'a> = (&'a Block, u64);

/// In front of a text.
pub(super) const NOTHING: Edge<'static> = (&[0; 16], 0);

/// What texts end with.
pub(super) struct Ends<const N: usize> {
    /// Their last blocks, filled up with zero bytes.
    pub(super) last: [Block; N],
    /// The bits of those: none of an empty text.
    pub(super) bits: [u64; N],
    /// Their lengths, which are the high half of their last blocks.
    pub(super) lengths: [u64; N],
}

impl<const N: usize> Ends<N> {
    /// Also the blocks before the last ones.
    #[inline]
    pub(super) fn split(texts: [&[u8]; N]) -> (Self, [&[Block]; N]) {
        let mut ends = Self {
            last: [[0; 16]; N],
            bits: [0; N],
            lengths: [0; N],
        };
        let mut bodies: [&[Block]; N] = [&[]; N];
        let places = ends.last.iter_mut().zip(&mut ends.bits);
        let places = places.zip(&mut ends.lengths).zip(&mut bodies);
        for ((((last, bit), length), body), text) in places.zip(texts) {
            let (blocks, rest) = text.as_chunks();
            (*body, *bit) = match (blocks, rest) {
                ([], []) => (blocks, 0),
                ([body @ .., full], []) => {
                    *last = *full;
                    (body, BIT)
                }
                _ => {
                    for (byte, from) in last.iter_mut().zip(rest) {
                        *byte = *from;
                    }
                    (blocks, BIT)
                }
            };
            // No target has longer addresses.
            *length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        }
        (ends, bodies)
    }
}

/// A step's blocks of one text, of which the last ones are given, in backward order.
#[inline]
pub(super) fn ending<'a>(blocks: impl Iterator<Item = Edge<'a>>) -> [[Edge<'a>; 4]; 2] {
    let mut edges = [[NOTHING; 4]; 2];
    for (place, block) in edges.as_flattened_mut().iter_mut().rev().zip(blocks) {
        *place = block;
    }
    edges
}

/// The bodies of four texts: what is in front, and then pairs of blocks, as many of each.
#[inline]
pub(super) fn align(bodies: [&[Block]; 4]) -> ([&[Block]; 4], [&[[Block; 2]]; 4]) {
    let shortest = bodies.iter().map(|body| body.len()).min().unwrap_or(0);
    let common = shortest & !1;
    let parts = bodies.map(|body| {
        let start = body.len().wrapping_sub(common);
        body.split_at_checked(start).unwrap_or_default()
    });
    (
        parts.map(|part| part.0),
        parts.map(|part| part.1.as_chunks().0),
    )
}

#[inline]
pub(super) fn longest(blocks: [&[Block]; 4]) -> usize {
    blocks.iter().map(|blocks| blocks.len()).max().unwrap_or(0)
}

/// The blocks that are `left` blocks before the end, as far as there are any.
#[inline]
pub(super) fn before_end(blocks: [&[Block]; 4], left: usize) -> [Edge<'_>; 4] {
    blocks.map(|blocks| {
        let block = blocks.len().checked_sub(left).and_then(|at| blocks.get(at));
        block.map_or(NOTHING, full)
    })
}

#[inline]
pub(super) const fn full(block: &Block) -> Edge<'_> {
    (block, BIT)
}

#[inline]
pub(super) fn bits(edges: [Edge<'_>; 4]) -> [u64; 4] {
    edges.map(|edge| edge.1)
}
