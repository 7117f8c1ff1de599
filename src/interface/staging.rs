//! Packets that wait for a session.
//!
//! The protocol core keeps no packets: sealing without a session asks for a handshake and leaves
//! the packet with the caller. This is a place to put it until the session stands. It belongs to
//! the caller, who pushes when sealing finds no session, takes when one is established, and
//! discards when the handshake is given up. Nothing here looks into a packet.

use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;

/// A bounded store of packets, first in first out for each peer, the oldest dropped first.
///
/// Two limits hold at all times: a number of packets for each peer and a number of bytes for all
/// peers together. A packet counts its length, and never less than the size of `P`, so packets
/// without contents are bounded too. On top of what the packets hold, a peer with packets costs
/// its queue, at most two `P` and 16 bytes for each packet at the peak, and two tree entries; a
/// peer without packets costs nothing.
///
/// `K` names a peer; with a single one it can be `()`. `P` is whatever holds a packet, such as
/// `Vec<u8>`. Its length must not change while it is stored.
///
/// ```
/// use quietwire::Staging;
///
/// let mut staging = Staging::new();
/// for n in 0..130 {
///     staging.push("peer", vec![n; 100]);
/// }
/// assert_eq!(staging.len("peer"), 128, "what the kernel keeps");
/// assert_eq!(staging.dropped(), 2);
///
/// let oldest = staging.take("peer").next();
/// assert_eq!(oldest, Some(vec![2; 100]));
/// assert!(staging.is_empty(), "a take takes all");
/// ```
pub struct Staging<K, P> {
    queues: BTreeMap<K, VecDeque<Staged<P>>>,
    /// The peer of every queue's oldest packet, by the packet's number.
    oldest: BTreeMap<u64, K>,
    bytes: usize,
    numbered: u64,
    dropped: u64,
    packets_per_peer: usize,
    total_bytes: usize,
}

impl<K: Ord + Copy, P: AsRef<[u8]>> Staging<K, P> {
    /// Makes an empty store for 128 packets of each peer, as the kernel has it, and for 16 MiB of
    /// all peers, which are some 11,000 packets of full size.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limits(PACKETS_PER_PEER, TOTAL_BYTES)
    }

    /// Makes an empty store with limits of one's own; with a limit of 0 it stays empty.
    #[must_use]
    pub const fn with_limits(packets_per_peer: usize, total_bytes: usize) -> Self {
        Self {
            queues: BTreeMap::new(),
            oldest: BTreeMap::new(),
            bytes: 0,
            numbered: 0,
            dropped: 0,
            packets_per_peer,
            total_bytes,
        }
    }

    /// Stores a packet as the newest of `peer`, and returns the packet dropped for it, if any.
    ///
    /// When the peer has as many packets as it may, its oldest is dropped. When the bytes of all
    /// peers would become too many, the oldest packets of all are dropped, whosever they are,
    /// until the new one fits; if that takes several, the last of them is returned. A packet
    /// that is larger than all of the store comes back itself, and nothing else is dropped. All of
    /// these count as [`dropped`](Self::dropped).
    ///
    /// Cost: O(log peers), and the same for each packet dropped.
    pub fn push(&mut self, peer: K, packet: P) -> Option<P> {
        let cost = cost(&packet);
        if self.packets_per_peer == 0 || cost > self.total_bytes {
            self.dropped += 1;
            return Some(packet);
        }
        let mut last = None;
        if self.len(peer) >= self.packets_per_peer {
            last = self.drop_oldest_of(peer);
        }
        while self.bytes > self.total_bytes - cost
            && let Some(&oldest) = self.oldest.values().next()
        {
            last = self.drop_oldest_of(oldest);
        }
        self.append(peer, packet);
        last
    }

    /// Takes all packets of `peer`, oldest first.
    ///
    /// They are out of the store at once, however far the iterator is driven, and what is left of
    /// it when it is dropped is lost. It borrows nothing: packets can be pushed back on the way.
    pub fn take(&mut self, peer: K) -> impl ExactSizeIterator<Item = P> + use<K, P> {
        let queue = self.queues.remove(&peer).unwrap_or_default();
        if let Some(first) = queue.front() {
            self.oldest.remove(&first.number);
        }
        let bytes: usize = queue.iter().map(|staged| cost(&staged.packet)).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        queue.into_iter().map(|staged| staged.packet)
    }

    /// Throws all packets of `peer` away, and returns how many they were.
    ///
    /// They do not count as [`dropped`](Self::dropped).
    pub fn discard(&mut self, peer: K) -> usize {
        self.take(peer).len()
    }

    /// The number of packets of `peer`.
    #[must_use]
    pub fn len(&self, peer: K) -> usize {
        self.queues.get(&peer).map_or(0, VecDeque::len)
    }

    /// Whether no peer has a packet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The number of packets that the limits have cost so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    fn append(&mut self, peer: K, packet: P) {
        let number = self.numbered;
        self.numbered += 1;
        self.bytes += cost(&packet);
        let queue = self.queues.entry(peer).or_default();
        if queue.is_empty() {
            self.oldest.insert(number, peer);
        }
        queue.push_back(Staged { number, packet });
    }

    fn drop_oldest_of(&mut self, peer: K) -> Option<P> {
        let queue = self.queues.get_mut(&peer)?;
        let staged = queue.pop_front()?;
        self.oldest.remove(&staged.number);
        match queue.front() {
            Some(next) => drop(self.oldest.insert(next.number, peer)),
            None => drop(self.queues.remove(&peer)),
        }
        self.bytes = self.bytes.saturating_sub(cost(&staged.packet));
        self.dropped += 1;
        Some(staged.packet)
    }
}

impl<K: Ord + Copy, P: AsRef<[u8]>> Default for Staging<K, P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows amounts and limits, and nothing of the packets.
impl<K, P> fmt::Debug for Staging<K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging")
            .field("peers", &self.queues.len())
            .field("bytes", &self.bytes)
            .field("dropped", &self.dropped)
            .field("packets_per_peer", &self.packets_per_peer)
            .field("total_bytes", &self.total_bytes)
            .finish_non_exhaustive()
    }
}

const PACKETS_PER_PEER: usize = 128;
const TOTAL_BYTES: usize = 16 << 20;

/// A packet with its number among all ever stored.
struct Staged<P> {
    number: u64,
    packet: P,
}

/// What a packet counts towards the limit of bytes.
fn cost<P: AsRef<[u8]>>(packet: &P) -> usize {
    packet.as_ref().len().max(size_of::<P>()).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// A packet of `len` bytes that can be told from others.
    fn packet(name: u8, len: usize) -> Vec<u8> {
        vec![name; len]
    }

    fn names<P: AsRef<[u8]>>(packets: impl Iterator<Item = P>) -> Vec<u8> {
        packets.map(|packet| packet.as_ref()[0]).collect()
    }

    #[test]
    fn the_newest_128_of_each_peer_are_kept() {
        let mut staging = Staging::new();
        for n in 0..128 {
            assert_eq!(staging.push(1, packet(n, 1500)), None);
            assert_eq!(staging.push(2, packet(n, 1500)), None);
        }
        assert_eq!(staging.push(1, packet(200, 1500)), Some(packet(0, 1500)));
        assert_eq!(staging.push(1, packet(201, 1500)), Some(packet(1, 1500)));
        assert_eq!(
            (staging.len(1), staging.len(2), staging.dropped()),
            (128, 128, 2)
        );
        assert_eq!(
            names(staging.take(1)),
            (2..128).chain([200, 201]).collect::<Vec<_>>()
        );
        assert_eq!((staging.len(1), staging.take(1).len()), (0, 0));
        assert_eq!(names(staging.take(2)), (0..128).collect::<Vec<_>>());
        assert!(staging.is_empty());
    }

    /// The limit of bytes drops the oldest of all, whosever it is.
    #[test]
    fn the_oldest_of_all_make_room() {
        let mut staging = Staging::with_limits(10, 1000);
        staging.push(1, packet(10, 300));
        staging.push(2, packet(20, 300));
        staging.push(1, packet(11, 300));
        assert_eq!(staging.push(3, packet(30, 100)), None, "exactly full");
        assert_eq!(staging.push(2, packet(21, 1)), Some(packet(10, 300)));
        assert_eq!(
            staging.push(3, packet(31, 600)),
            Some(packet(11, 300)),
            "after 20"
        );
        assert_eq!(
            (staging.len(1), staging.len(2), staging.dropped()),
            (0, 1, 3)
        );
        assert_eq!(names(staging.take(3)), [30, 31]);
        assert_eq!(names(staging.take(2)), [21]);
    }

    #[test]
    fn what_cannot_fit_comes_back_and_costs_nobody_else() {
        let mut staging = Staging::with_limits(10, 1000);
        staging.push((), packet(1, 1000));
        assert_eq!(staging.push((), packet(2, 1001)), Some(packet(2, 1001)));
        assert_eq!((staging.len(()), staging.dropped()), (1, 1));

        let mut none = Staging::with_limits(0, 1000);
        assert_eq!(none.push((), packet(1, 10)), Some(packet(1, 10)));
        let mut none = Staging::with_limits(10, 0);
        assert_eq!(none.push((), packet(1, 0)), Some(packet(1, 0)));
        assert!(none.is_empty());
    }

    #[test]
    fn packets_without_contents_are_bounded() {
        let mut staging = Staging::with_limits(usize::MAX, 4096);
        for peer in 0..10_000 {
            staging.push(peer, Vec::<u8>::new());
        }
        assert_eq!(staging.queues.len(), 4096 / size_of::<Vec<u8>>());
        assert_eq!(staging.oldest.len(), staging.queues.len());
    }

    #[test]
    fn packets_can_go_back_while_they_are_taken() {
        let mut staging = Staging::new();
        staging.push((), packet(1, 60));
        staging.push((), packet(2, 60));
        for packet in staging.take(()) {
            staging.push((), packet);
        }
        assert_eq!(names(staging.take(())), [1, 2]);
    }

    #[test]
    fn a_discard_counts_and_is_no_drop() {
        let mut staging = Staging::new();
        staging.push(1, packet(1, 60));
        staging.push(1, packet(2, 60));
        staging.push(2, packet(3, 60));
        assert_eq!((staging.discard(1), staging.discard(1)), (2, 0));
        assert_eq!(
            (staging.dropped(), staging.len(2), staging.bytes),
            (0, 1, 60)
        );
    }

    #[test]
    fn debug_shows_no_contents() {
        let mut staging = Staging::new();
        staging.push((), b"inner secret".to_vec());
        let text = std::format!("{staging:?}");
        assert!(!text.contains("105") && !text.contains("secret"), "{text}");
    }

    /// All packets in the order of their arrival.
    struct Model {
        packets: Vec<(u8, Vec<u8>)>,
        limits: (usize, usize),
        dropped: u64,
    }

    impl Model {
        fn push(&mut self, peer: u8, packet: Vec<u8>) -> Option<Vec<u8>> {
            if self.limits.0 == 0 || size(&packet) > self.limits.1 {
                self.dropped += 1;
                return Some(packet);
            }
            let mut last = None;
            if self.len(peer) == self.limits.0 {
                let oldest = self.packets.iter().position(|stored| stored.0 == peer);
                last = oldest.map(|at| self.packets.remove(at).1);
                self.dropped += 1;
            }
            while self.bytes() + size(&packet) > self.limits.1 {
                last = Some(self.packets.remove(0).1);
                self.dropped += 1;
            }
            self.packets.push((peer, packet));
            last
        }

        fn take(&mut self, peer: u8) -> Vec<Vec<u8>> {
            let (taken, left) = self.packets.drain(..).partition(|stored| stored.0 == peer);
            self.packets = left;
            let taken: Vec<(u8, Vec<u8>)> = taken;
            taken.into_iter().map(|stored| stored.1).collect()
        }

        fn len(&self, peer: u8) -> usize {
            self.packets
                .iter()
                .filter(|stored| stored.0 == peer)
                .count()
        }

        fn bytes(&self) -> usize {
            self.packets.iter().map(|stored| size(&stored.1)).sum()
        }
    }

    fn size(packet: &[u8]) -> usize {
        packet.len().max(size_of::<Vec<u8>>())
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(
            limits in (0_usize..6, 0_usize..2000),
            steps in proptest::collection::vec((0_u8..10, 0_u8..4, 0_usize..500), 0..200),
        ) {
            let mut staging = Staging::with_limits(limits.0, limits.1);
            let mut model = Model { packets: Vec::new(), limits, dropped: 0 };
            for (name, (kind, peer, len)) in (0..).zip(steps) {
                match kind {
                    0 => prop_assert_eq!(staging.take(peer).collect::<Vec<_>>(), model.take(peer)),
                    1 => prop_assert_eq!(staging.discard(peer), model.take(peer).len()),
                    _ => prop_assert_eq!(
                        staging.push(peer, packet(name, len)),
                        model.push(peer, packet(name, len))
                    ),
                }
                prop_assert_eq!(staging.bytes, model.bytes());
                prop_assert!(staging.bytes <= limits.1);
                prop_assert_eq!(staging.dropped(), model.dropped);
                prop_assert_eq!(staging.is_empty(), model.packets.is_empty());
                for peer in 0..4 {
                    prop_assert_eq!(staging.len(peer), model.len(peer));
                    prop_assert!(staging.len(peer) <= limits.0);
                }
                prop_assert_eq!(staging.oldest.len(), staging.queues.len());
            }
        }
    }
}
