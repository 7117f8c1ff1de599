//! A trie of 64 ways with compressed paths, for the longest matching prefix.
//!
//! The first two bits of an address choose one of four roots; six bits for each node take it to
//! the end from there, for IPv4 and IPv6 alike. A node looks at the six bits after its `skip`.
//! Bitmaps say which of their 64 values lead on, and to what: to another node, or to a leaf when a
//! single prefix is left on that way. Prefixes that end within the node's own six bits are in a
//! third bitmap. The children lie side by side, so the count of the bits before one is its place:
//! the tree bitmap of Eatherton, Varghese and Dittia (2004) with path compression, and all bits of
//! the key kept in the node and compared on the way down, so that a way is never taken back.
//!
//! Every node but the roots has two children or prefixes at least. So there are fewer nodes than
//! prefixes, a way has at most one node for each six bits, and one removal undoes one node.

use core::mem;

use super::blocks::Blocks;
use super::node::{Bits, Entry, Node, Prefix, ROOT_SKIP, has};

/// Maps prefixes to slots.
#[derive(Debug, Default)]
pub(super) struct Trie<K> {
    roots: [Node<K>; 4],
    /// The owners of the prefixes of fewer than two bits, by their position.
    wide: [Option<u32>; 4],
    nodes: Blocks<Node<K>>,
    entries: Blocks<Entry<K>>,
}

impl<K: Bits> Trie<K> {
    /// Finds the slot of the longest prefix of `address`.
    pub(super) fn lookup(&self, address: K) -> Option<u32> {
        let mut node = self.node(root_of(address));
        let mut best = None;
        while node.is_above(address) {
            let way = address.way(node.skip);
            if let Some(position) = node.longest_inside(way) {
                best = Some((node, position));
            }
            if has(node.leaves, way) {
                match self.entries.get(node.leaf_place(way)) {
                    Some(leaf) if leaf.prefix().covers(address) => return Some(leaf.slot),
                    _ => break,
                }
            }
            if !has(node.onward, way) {
                break;
            }
            let Some(below) = self.nodes.get(node.node_place(way)) else {
                break;
            };
            node = below;
        }
        let entry = best.and_then(|(node, position)| self.entries.get(node.inner_place(position)));
        entry.map_or_else(|| self.wide(address), |entry| Some(entry.slot))
    }

    /// Gives a prefix to `slot` and returns whose it was.
    pub(super) fn insert(&mut self, prefix: Prefix<K>, slot: u32) -> Option<u32> {
        if prefix.len < ROOT_SKIP {
            return self.wide_mut(prefix).replace(slot);
        }
        let entry = Entry::new(prefix, slot);
        self.make_way(prefix);
        let at = self.descend(prefix).node;
        let node = *self.node(at);
        let way = node.way(prefix);
        let owner = match self.find(&node, prefix) {
            Some(place) => self.replace(place, slot),
            None if node.holds(prefix) => self.attach(at, entry),
            None if has(node.leaves, way) => self.divide_leaf(at, entry),
            None if has(node.onward, way) => self.divide(node.node_place(way), entry),
            None => self.attach(at, entry),
        };
        self.pack();
        owner
    }

    /// Removes a prefix if it is there.
    pub(super) fn remove(&mut self, prefix: Prefix<K>) {
        if prefix.len < ROOT_SKIP {
            *self.wide_mut(prefix) = None;
            return;
        }
        let path = self.descend(prefix);
        if self.detach(path.node, prefix) {
            self.collapse(path);
            self.pack();
        }
    }

    /// The owner of the longest prefix of `address` among those of fewer than two bits.
    fn wide(&self, address: K) -> Option<u32> {
        let [_, all, low, high] = self.wide;
        let half = if address.first_two() < 2 { low } else { high };
        half.or(all)
    }

    fn wide_mut(&mut self, prefix: Prefix<K>) -> &mut Option<u32> {
        let [_, all, low, high] = &mut self.wide;
        match (prefix.len, prefix.bits.first_two()) {
            (0, _) => all,
            (_, 0 | 1) => low,
            _ => high,
        }
    }

    /// Sees to it that the root is on the way to `prefix`, and starts as late as it can.
    fn make_way(&mut self, prefix: Prefix<K>) {
        let at = root_of(prefix.bits);
        let root = *self.node(at);
        match (root.node_count(), root.entry_count()) {
            (0, 0) => *self.node_mut(at) = Node::at_the_fork(prefix, prefix),
            (0, 1) => {
                let Some(&only) = self.entries.get(root.entries_at) else {
                    return;
                };
                self.detach(at, only.prefix());
                *self.node_mut(at) = Node::at_the_fork(prefix, only.prefix());
                self.attach(at, only);
            }
            _ if !root.is_on_the_way_to(prefix) => {
                *self.node_mut(at) = Node::at_the_fork(prefix, root.prefix());
                self.attach_node(at, root);
            }
            _ => {}
        }
    }

    /// Goes down to the last node on the way to `prefix`.
    fn descend(&self, prefix: Prefix<K>) -> Path {
        let root = root_of(prefix.bits);
        let mut path = Path {
            above: root,
            node: root,
        };
        loop {
            let node = self.node(path.node);
            let way = node.way(prefix);
            let place = node.node_place(way);
            let below = self.nodes.get(place);
            let leads_on = has(node.onward, way) && !node.holds(prefix);
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
        place.filter(|&place| {
            let entry = self.entries.get(place);
            entry.is_some_and(|entry| entry.prefix() == prefix)
        })
    }

    fn replace(&mut self, place: usize, slot: u32) -> Option<u32> {
        let entry = self.entries.get_mut(place)?;
        Some(mem::replace(&mut entry.slot, slot))
    }

    /// Adds an entry to a node that has room for it: inside, or as a leaf on a free way.
    fn attach(&mut self, at: usize, entry: Entry<K>) -> Option<u32> {
        let mut node = *self.node(at);
        let (count, prefix) = (node.entry_count(), entry.prefix());
        let place = if node.holds(prefix) {
            node.inner |= 1 << node.position(prefix);
            node.inner_place(node.position(prefix))
        } else {
            node.leaves |= 1 << node.way(prefix);
            node.leaf_place(node.way(prefix))
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
        let (count, rank) = (node.entry_count(), place - node.entries_at);
        self.entries.remove(node.entries_at, count, rank);
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
        let leaf = *self
            .entries
            .get(node.leaf_place(node.way(entry.prefix())))?;
        let divided = Node::at_the_fork(entry.prefix(), leaf.prefix());
        self.detach(at, leaf.prefix());
        let below = self.attach_node(at, divided);
        self.attach(below, leaf);
        self.attach(below, entry)
    }

    /// Puts a node before one that is not on the way to the new entry, with both.
    fn divide(&mut self, at: usize, entry: Entry<K>) -> Option<u32> {
        let below = *self.node(at);
        *self.node_mut(at) = Node::at_the_fork(entry.prefix(), below.prefix());
        self.attach_node(at, below);
        self.attach(at, entry)
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
            (1, 0) => self.replace_by_child(path.node, &node),
            (0, 1) if path.above != path.node => self.replace_by_leaf(path.above, &node),
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
        let (count, way) = (parent.node_count(), parent.way(leaf.prefix()));
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
        // The roots, then the places from 0 on. Unused places are nodes without children.
        let mut at = FIRST_ROOT;
        while at >= FIRST_ROOT || at < self.nodes.places() {
            let mut node = *self.node(at);
            let counts = (node.node_count(), node.entry_count());
            node.nodes_at = self.nodes.adopt(&nodes, node.nodes_at, counts.0);
            node.entries_at = self.entries.adopt(&entries, node.entries_at, counts.1);
            *self.node_mut(at) = node;
            at = at.wrapping_add(1);
        }
    }

    /// A node of the arena, or one of the roots, which have the last places there are.
    fn node(&self, at: usize) -> &Node<K> {
        let [first, second, third, fourth] = &self.roots;
        self.nodes.get(at).unwrap_or(match !at {
            3 => first,
            2 => second,
            1 => third,
            _ => fourth,
        })
    }

    fn node_mut(&mut self, at: usize) -> &mut Node<K> {
        let [first, second, third, fourth] = &mut self.roots;
        self.nodes.get_mut(at).unwrap_or(match !at {
            3 => first,
            2 => second,
            1 => third,
            _ => fourth,
        })
    }
}

const FIRST_ROOT: usize = usize::MAX - 3;

fn root_of<K: Bits>(bits: K) -> usize {
    FIRST_ROOT + usize::from(bits.first_two())
}

/// A node that was found, and the one that it hangs from; the same for a root.
#[derive(Clone, Copy, Debug)]
struct Path {
    above: usize,
    node: usize,
}

#[cfg(test)]
impl<K: Bits> Trie<K> {
    /// Checks what holds between any two calls, and returns the number of entries.
    pub(super) fn check(&self) -> usize {
        let (mut nodes, mut entries) = (std::vec![], std::vec![]);
        let mut open: std::vec::Vec<_> = self.roots.iter().collect();
        while let Some(node) = open.pop() {
            for way in (0..64).filter(|&way| has(node.onward, way)) {
                let below = self.nodes.get(node.node_place(way)).unwrap();
                assert!(!has(node.leaves, way), "a way leads to one thing");
                assert!(below.skip >= node.skip + 6 && below.skip % 6 == 2);
                assert!(node.is_above(below.bits) && node.way(below.prefix()) == way);
                assert!(
                    below.node_count() + below.entry_count() >= 2,
                    "a node for nothing"
                );
                open.push(below);
            }
            for way in (0..64).filter(|&way| has(node.leaves, way)) {
                let leaf = self.entries.get(node.leaf_place(way)).unwrap().prefix();
                assert!(node.is_on_the_way_to(leaf) && !node.holds(leaf));
                assert_eq!(node.way(leaf), way);
            }
            for position in (0..64).filter(|&position| has(node.inner, position)) {
                let entry = self.entries.get(node.inner_place(position)).unwrap();
                assert!(node.is_on_the_way_to(entry.prefix()) && node.holds(entry.prefix()));
                assert_eq!(node.position(entry.prefix()), position);
            }
            nodes.push(node.node_count());
            entries.push(node.entry_count());
        }
        self.nodes.check(&nodes);
        self.entries.check(&entries);
        entries.iter().sum::<usize>() + self.wide.iter().flatten().count()
    }

    /// The bytes of both arenas.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.places() * size_of::<Node<K>>() + self.entries.places() * size_of::<Entry<K>>()
    }
}
