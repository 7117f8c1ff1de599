//! A node of the trie, and the bits that it is made of.
//!
//! All of this is arithmetic on single values; where nodes and entries lie is the trie's.

/// Six bits of the way, and what hangs from them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node<K> {
    /// The bits that all prefixes below share: the first `skip` of them count.
    pub(super) bits: K,
    /// The ways that lead to nodes, to a leaf, and the prefixes that end here, by position.
    pub(super) onward: u64,
    pub(super) leaves: u64,
    pub(super) inner: u64,
    /// The place of the first child in the trie's arena of nodes.
    pub(super) nodes_at: usize,
    /// The place of the first entry in the other arena: the leaves, then those of `inner`.
    pub(super) entries_at: usize,
    /// Two and a multiple of six, and more than that of the node above.
    pub(super) skip: u8,
}

impl<K: Bits> Node<K> {
    /// The node, still empty, where the ways to two prefixes part or one of them ends.
    pub(super) fn at_the_fork(one: Prefix<K>, other: Prefix<K>) -> Self {
        let shared = one.bits.shared(other.bits).min(one.len).min(other.len);
        let steps = shared.min(K::LAST_SKIP).saturating_sub(ROOT_SKIP) / STRIDE;
        Self {
            bits: one.bits,
            skip: ROOT_SKIP + steps * STRIDE,
            ..Self::default()
        }
    }

    /// What leads to the node, as a prefix.
    pub(super) fn prefix(&self) -> Prefix<K> {
        Prefix {
            bits: self.bits,
            len: self.skip,
        }
    }

    pub(super) fn is_above(&self, address: K) -> bool {
        self.prefix().covers(address)
    }

    pub(super) fn is_on_the_way_to(&self, prefix: Prefix<K>) -> bool {
        self.skip <= prefix.len && self.is_above(prefix.bits)
    }

    /// Whether a prefix below this node ends within its six bits.
    pub(super) fn holds(&self, prefix: Prefix<K>) -> bool {
        prefix.len < self.skip + STRIDE
    }

    pub(super) fn way(&self, prefix: Prefix<K>) -> u32 {
        prefix.bits.way(self.skip)
    }

    /// Where `inner` has a prefix that this node [holds](Self::holds).
    pub(super) fn position(&self, prefix: Prefix<K>) -> u32 {
        let open = (self.skip + STRIDE).saturating_sub(prefix.len);
        (WAYS | self.way(prefix)).unbounded_shr(open.into())
    }

    /// The position of the longest prefix that contains a way.
    pub(super) fn longest_inside(&self, way: u32) -> Option<u32> {
        if self.inner == 0 {
            return None;
        }
        (self.inner & covering(way)).checked_ilog2()
    }

    pub(super) fn node_place(&self, way: u32) -> usize {
        self.nodes_at + rank(self.onward, way)
    }

    pub(super) fn leaf_place(&self, way: u32) -> usize {
        self.entries_at + rank(self.leaves, way)
    }

    pub(super) fn inner_place(&self, position: u32) -> usize {
        self.entries_at + count(self.leaves) + rank(self.inner, position)
    }

    pub(super) fn node_count(&self) -> usize {
        count(self.onward)
    }

    pub(super) fn entry_count(&self) -> usize {
        count(self.leaves) + count(self.inner)
    }
}

/// The leading `len` bits of `bits`; the others are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefix<K> {
    pub(super) bits: K,
    pub(super) len: u8,
}

impl<K: Bits> Prefix<K> {
    pub(super) fn covers(self, address: K) -> bool {
        self.bits.shared(address) >= self.len
    }
}

/// A prefix and its owner.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry<K> {
    pub(super) bits: K,
    pub(super) slot: u32,
    pub(super) len: u8,
}

impl<K: Bits> Entry<K> {
    pub(super) fn new(prefix: Prefix<K>, slot: u32) -> Self {
        Self {
            bits: prefix.bits,
            slot,
            len: prefix.len,
        }
    }

    pub(super) fn prefix(&self) -> Prefix<K> {
        Prefix {
            bits: self.bits,
            len: self.len,
        }
    }
}

/// An address as a number, most significant bit first.
pub(super) trait Bits: Copy + Default + Eq {
    /// The `skip` of a node that looks at the last six bits.
    const LAST_SKIP: u8;

    /// The six bits after the first `skip`.
    fn way(self, skip: u8) -> u32;

    fn first_two(self) -> u8;

    /// How many leading bits two addresses share.
    fn shared(self, other: Self) -> u8;
}

impl Bits for u32 {
    const LAST_SKIP: u8 = 26;

    fn way(self, skip: u8) -> u32 {
        self.unbounded_shl(skip.into()) >> 26
    }

    fn first_two(self) -> u8 {
        u8::try_from(self >> 30).unwrap_or(0)
    }

    fn shared(self, other: Self) -> u8 {
        u8::try_from((self ^ other).leading_zeros()).unwrap_or(32)
    }
}

impl Bits for u128 {
    const LAST_SKIP: u8 = 122;

    fn way(self, skip: u8) -> u32 {
        u32::try_from(self.unbounded_shl(skip.into()) >> 122).unwrap_or(0)
    }

    fn first_two(self) -> u8 {
        u8::try_from(self >> 126).unwrap_or(0)
    }

    fn shared(self, other: Self) -> u8 {
        u8::try_from((self ^ other).leading_zeros()).unwrap_or(128)
    }
}

/// The bits before a root, and those that a node looks at, with the number of their values.
pub(super) const ROOT_SKIP: u8 = 2;
const STRIDE: u8 = 6;
const WAYS: u32 = 1 << STRIDE;

/// The positions of the prefixes of 0 to 5 bits that contain a way, the longest highest.
///
/// The prefixes of n bits have the positions from 2^n on, in order.
fn covering(way: u32) -> u64 {
    (1..=STRIDE).fold(0, |bits, open| bits | 1 << ((WAYS | way) >> open))
}

pub(super) fn has(bits: u64, position: u32) -> bool {
    bits >> position & 1 != 0
}

/// The number of bits set below a position.
fn rank(bits: u64, position: u32) -> usize {
    count(bits & ((1 << position) - 1))
}

fn count(bits: u64) -> usize {
    usize::try_from(bits.count_ones()).unwrap_or(0)
}
