//! A trie of 64 ways with compressed paths, for the longest matching prefix.
//!
//! A node looks at six bits of the address, those after its `skip`. Bitmaps say which of their 64
//! values lead on, and to what: to another node, or to a leaf when a single prefix is left on that
//! way. Prefixes that end within the node's own six bits are in a third bitmap. The children lie
//! side by side, so the count of the bits before one is its place: the tree bitmap of Eatherton,
//! Varghese and Dittia (2004) with path compression, and all bits of the key kept in the node and
//! compared on the way down, so that a way once taken is never taken back.
//!
//! Every node but the root has two children or prefixes at least. So there are fewer nodes than
//! prefixes, a way has at most one node for each six bits, and one removal undoes one node.

use core::mem;

use super::blocks::Blocks;

/// The leading `len` bits of `bits`; the others are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefix<K> {
    pub(super) bits: K,
    pub(super) len: u8,
}

/// Maps prefixes to slots.
#[derive(Debug, Default)]
pub(super) struct Trie<K> {
    root: Node<K>,
    nodes: Blocks<Node<K>>,
    entries: Blocks<Entry<K>>,
}

impl<K: Bits> Trie<K> {
    /// Finds the slot of the longest prefix of `address`.
    pub(super) fn lookup(&self, address: K) -> Option<u32> {
        let mut node = &self.root;
        let mut best = None;
        loop {
            let way = address.way(node.skip);
            let covering = node.inner & covering(way);
            if covering != 0 {
                best = Some((node, covering.ilog2()));
            }
            if has(node.leaves, way) {
                match self.entries.get(node.leaf_place(way)) {
                    Some(leaf) if leaf.prefix.covers(address) => return Some(leaf.slot),
                    _ => break,
                }
            }
            if !has(node.onward, way) {
                break;
            }
            match self.nodes.get(node.node_place(way)) {
                Some(below) if below.is_above(address) => node = below,
                _ => break,
            }
        }
        let (node, position) = best?;
        let entry = self.entries.get(node.inner_place(position))?;
        Some(entry.slot)
    }

    /// Gives a prefix to `slot` and returns whose it was.
    pub(super) fn insert(&mut self, prefix: Prefix<K>, slot: u32) -> Option<u32> {
        let entry = Entry { prefix, slot };
        let at = self.descend(prefix).node;
        let node = *self.node(at);
        let way = node.way(prefix);
        let owner = match self.find(&node, prefix) {
            Some(place) => self.replace(place, slot),
            None if node.holds(prefix) => self.attach(at, entry),
            None if has(node.leaves, way) => self.divide_leaf(at, entry),
            None if has(node.onward, way) => self.divide_way(at, entry),
            None => self.attach(at, entry),
        };
        self.pack();
        owner
    }

    /// Removes a prefix if it is there.
    pub(super) fn remove(&mut self, prefix: Prefix<K>) {
        let path = self.descend(prefix);
        if self.detach(path.node, prefix) {
            self.collapse(path);
            self.pack();
        }
    }

    /// Goes down to the last node on the way to `prefix`.
    fn descend(&self, prefix: Prefix<K>) -> Path {
        let mut path = Path {
            above: ROOT,
            node: ROOT,
        };
        loop {
            let node = self.node(path.node);
            let place = node.node_place(node.way(prefix));
            let below = self.nodes.get(place);
            let leads_on = has(node.onward, node.way(prefix)) && !node.holds(prefix);
            if !leads_on || !below.is_some_and(|below| below.is_on_the_way_to(prefix)) {
                return path;
            }
            path = Path {
                above: path.node,
                node: place,
            };
        }
    }

    /// The place of exactly this prefix among the entries, if the node has it.
    fn find(&self, node: &Node<K>, prefix: Prefix<K>) -> Option<usize> {
        let place = if node.holds(prefix) {
            let position = node.position(prefix);
            has(node.inner, position).then(|| node.inner_place(position))
        } else {
            let way = node.way(prefix);
            has(node.leaves, way).then(|| node.leaf_place(way))
        };
        place.filter(|&place| self.entries.get(place).is_some_and(|e| e.prefix == prefix))
    }

    fn replace(&mut self, place: usize, slot: u32) -> Option<u32> {
        let entry = self.entries.get_mut(place)?;
        Some(mem::replace(&mut entry.slot, slot))
    }

    /// Adds an entry to a node that has room for it: inside, or as a leaf on a free way.
    fn attach(&mut self, at: usize, entry: Entry<K>) -> Option<u32> {
        let mut node = *self.node(at);
        let count = node.entry_count();
        let place = if node.holds(entry.prefix) {
            let position = node.position(entry.prefix);
            node.inner |= 1 << position;
            node.inner_place(position)
        } else {
            let way = node.way(entry.prefix);
            node.leaves |= 1 << way;
            node.leaf_place(way)
        };
        let rank = place - node.entries_at;
        node.entries_at = self.entries.insert(node.entries_at, count, rank, entry);
        *self.node_mut(at) = node;
        None
    }

    /// Takes the entry of a prefix out of a node; `false` if the node does not have it.
    fn detach(&mut self, at: usize, prefix: Prefix<K>) -> bool {
        let mut node = *self.node(at);
        let Some(place) = self.find(&node, prefix) else {
            return false;
        };
        let count = node.entry_count();
        self.entries
            .remove(node.entries_at, count, place - node.entries_at);
        if node.holds(prefix) {
            node.inner &= !(1 << node.position(prefix));
        } else {
            node.leaves &= !(1 << node.way(prefix));
        }
        *self.node_mut(at) = node;
        true
    }

    /// Puts a node where a leaf is, with that leaf and the new entry.
    fn divide_leaf(&mut self, at: usize, entry: Entry<K>) -> Option<u32> {
        let node = self.node(at);
        let leaf = *self.entries.get(node.leaf_place(node.way(entry.prefix)))?;
        let divided = Node::at_the_fork(entry.prefix, leaf.prefix);
        self.detach(at, leaf.prefix);
        let below = self.attach_node(at, divided);
        self.attach(below, leaf);
        self.attach(below, entry)
    }

    /// Puts a node before one that is not on the way to the new entry, with both.
    fn divide_way(&mut self, at: usize, entry: Entry<K>) -> Option<u32> {
        let node = self.node(at);
        let place = node.node_place(node.way(entry.prefix));
        let below = *self.nodes.get(place)?;
        let divided = Node::at_the_fork(entry.prefix, below.prefix());
        *self.node_mut(place) = divided;
        self.attach_node(place, below);
        self.attach(place, entry)
    }

    /// Adds a node on a free way of another, and returns its place.
    fn attach_node(&mut self, at: usize, below: Node<K>) -> usize {
        let mut node = *self.node(at);
        let (count, way) = (node.node_count(), node.way(below.prefix()));
        node.onward |= 1 << way;
        let rank = node.node_place(way) - node.nodes_at;
        node.nodes_at = self.nodes.insert(node.nodes_at, count, rank, below);
        *self.node_mut(at) = node;
        node.node_place(way)
    }

    /// Undoes a node that has a single child or prefix left.
    fn collapse(&mut self, path: Path) {
        let node = *self.node(path.node);
        match (node.node_count(), node.entry_count()) {
            _ if path.node == ROOT => {}
            (1, 0) => self.replace_by_child(path.node, &node),
            (0, 1) => self.replace_by_leaf(path.above, &node),
            _ => {}
        }
    }

    fn replace_by_child(&mut self, at: usize, node: &Node<K>) {
        let Some(&below) = self.nodes.get(node.nodes_at) else {
            return;
        };
        self.nodes.remove(node.nodes_at, 1, 0);
        *self.node_mut(at) = below;
    }

    fn replace_by_leaf(&mut self, above: usize, node: &Node<K>) {
        let Some(&leaf) = self.entries.get(node.entries_at) else {
            return;
        };
        self.entries.remove(node.entries_at, 1, 0);
        let mut parent = *self.node(above);
        let (count, way) = (parent.node_count(), parent.way(leaf.prefix));
        let rank = parent.node_place(way) - parent.nodes_at;
        self.nodes.remove(parent.nodes_at, count, rank);
        parent.onward &= !(1 << way);
        *self.node_mut(above) = parent;
        self.attach(above, leaf);
    }

    /// Copies everything to new arenas, level by level, when the old ones are mostly unused.
    fn pack(&mut self) {
        if !self.nodes.is_sparse() && !self.entries.is_sparse() {
            return;
        }
        let nodes = mem::take(&mut self.nodes);
        let entries = mem::take(&mut self.entries);
        let mut at = ROOT;
        loop {
            let mut node = *self.node(at);
            node.nodes_at = self.nodes.adopt(&nodes, node.nodes_at, node.node_count());
            node.entries_at = self
                .entries
                .adopt(&entries, node.entries_at, node.entry_count());
            *self.node_mut(at) = node;
            // The first is the one after the root. Unused places are nodes without children.
            at = at.wrapping_add(1);
            if at >= self.nodes.places() {
                break;
            }
        }
    }

    fn node(&self, at: usize) -> &Node<K> {
        self.nodes.get(at).unwrap_or(&self.root)
    }

    fn node_mut(&mut self, at: usize) -> &mut Node<K> {
        self.nodes.get_mut(at).unwrap_or(&mut self.root)
    }
}

/// Where the root is: at no place of the arena.
const ROOT: usize = usize::MAX;

/// A node that was found, and the one that it hangs from.
#[derive(Clone, Copy, Debug)]
struct Path {
    above: usize,
    node: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry<K> {
    prefix: Prefix<K>,
    slot: u32,
}

/// Six bits of the way, and what hangs from them.
#[derive(Clone, Copy, Debug, Default)]
struct Node<K> {
    /// The bits that all prefixes below share: the first `skip` of them count.
    bits: K,
    /// The ways that lead to nodes, to a leaf, and the prefixes that end here, by position.
    onward: u64,
    leaves: u64,
    inner: u64,
    nodes_at: usize,
    /// The entries: first those of `inner`, then the leaves.
    entries_at: usize,
    /// A multiple of six, and more than that of the node above.
    skip: u8,
}

impl<K: Bits> Node<K> {
    /// The node, still empty, where the ways to two prefixes part or one of them ends.
    fn at_the_fork(one: Prefix<K>, other: Prefix<K>) -> Self {
        let shared = one.bits.shared(other.bits).min(one.len).min(other.len);
        Self {
            bits: one.bits,
            skip: shared - shared % STRIDE,
            ..Self::default()
        }
    }

    /// What leads to the node, as a prefix.
    fn prefix(&self) -> Prefix<K> {
        Prefix {
            bits: self.bits,
            len: self.skip,
        }
    }

    fn is_above(&self, address: K) -> bool {
        self.prefix().covers(address)
    }

    fn is_on_the_way_to(&self, prefix: Prefix<K>) -> bool {
        self.skip <= prefix.len && self.is_above(prefix.bits)
    }

    /// Whether a prefix below this node ends within its six bits.
    fn holds(&self, prefix: Prefix<K>) -> bool {
        prefix.len < self.skip + STRIDE
    }

    fn way(&self, prefix: Prefix<K>) -> u32 {
        prefix.bits.way(self.skip)
    }

    /// Where `inner` has a prefix that this node [holds](Self::holds).
    fn position(&self, prefix: Prefix<K>) -> u32 {
        let open = (self.skip + STRIDE).saturating_sub(prefix.len);
        (WAYS | self.way(prefix)) >> open
    }

    fn node_place(&self, way: u32) -> usize {
        self.nodes_at + rank(self.onward, way)
    }

    fn leaf_place(&self, way: u32) -> usize {
        self.entries_at + count(self.inner) + rank(self.leaves, way)
    }

    fn inner_place(&self, position: u32) -> usize {
        self.entries_at + rank(self.inner, position)
    }

    fn node_count(&self) -> usize {
        count(self.onward)
    }

    fn entry_count(&self) -> usize {
        count(self.inner) + count(self.leaves)
    }
}

impl<K: Bits> Prefix<K> {
    fn covers(self, address: K) -> bool {
        self.bits.shared(address) >= self.len
    }
}

/// An address as a number, most significant bit first.
pub(super) trait Bits: Copy + Default + Eq {
    /// The six bits after the first `skip`, filled up with zeros at the end of the address.
    fn way(self, skip: u8) -> u32;

    /// How many leading bits two addresses share.
    fn shared(self, other: Self) -> u8;
}

impl Bits for u32 {
    fn way(self, skip: u8) -> u32 {
        self.checked_shl(skip.into()).unwrap_or(0) >> 26
    }

    fn shared(self, other: Self) -> u8 {
        u8::try_from((self ^ other).leading_zeros()).unwrap_or(32)
    }
}

impl Bits for u128 {
    fn way(self, skip: u8) -> u32 {
        u32::try_from(self.checked_shl(skip.into()).unwrap_or(0) >> 122).unwrap_or(0)
    }

    fn shared(self, other: Self) -> u8 {
        u8::try_from((self ^ other).leading_zeros()).unwrap_or(128)
    }
}

/// The bits that a node looks at, and the number of their values.
const STRIDE: u8 = 6;
const WAYS: u32 = 1 << STRIDE;

/// The positions of the prefixes of 0 to 5 bits that contain a way, the longest highest.
///
/// The prefixes of n bits have the positions from 2^n on, in order.
fn covering(way: u32) -> u64 {
    (1..=STRIDE).fold(0, |bits, open| bits | 1 << ((WAYS | way) >> open))
}

fn has(bits: u64, position: u32) -> bool {
    bits >> position & 1 != 0
}

/// The number of bits set below a position.
fn rank(bits: u64, position: u32) -> usize {
    count(bits & ((1 << position) - 1))
}

fn count(bits: u64) -> usize {
    usize::try_from(bits.count_ones()).unwrap_or(0)
}

#[cfg(test)]
impl<K: Bits> Trie<K> {
    /// Checks what holds between any two calls, and returns the number of entries.
    pub(super) fn check(&self) -> usize {
        let (mut nodes, mut entries) = (0, 0);
        let mut open = std::vec![&self.root];
        while let Some(node) = open.pop() {
            for way in (0..64).filter(|&way| has(node.onward, way)) {
                let below = self.nodes.get(node.node_place(way)).unwrap();
                assert!(!has(node.leaves, way), "a way leads to one thing");
                assert!(below.skip >= node.skip + STRIDE && below.skip.is_multiple_of(STRIDE));
                assert!(node.is_above(below.bits) && node.way(below.prefix()) == way);
                assert!(
                    below.node_count() + below.entry_count() >= 2,
                    "a node for nothing"
                );
                open.push(below);
            }
            for way in (0..64).filter(|&way| has(node.leaves, way)) {
                let leaf = self.entries.get(node.leaf_place(way)).unwrap();
                assert!(node.is_on_the_way_to(leaf.prefix) && !node.holds(leaf.prefix));
                assert_eq!(node.way(leaf.prefix), way);
            }
            for position in (0..64).filter(|&position| has(node.inner, position)) {
                let entry = self.entries.get(node.inner_place(position)).unwrap();
                assert!(node.is_on_the_way_to(entry.prefix) && node.holds(entry.prefix));
                assert_eq!(node.position(entry.prefix), position);
            }
            nodes += node.node_count();
            entries += node.entry_count();
        }
        self.nodes.check(nodes);
        self.entries.check(entries);
        entries
    }

    /// The bytes of both arenas.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.places() * size_of::<Node<K>>() + self.entries.places() * size_of::<Entry<K>>()
    }
}
