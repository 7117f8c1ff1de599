//! Cryptokey routing: from an IP address to the slot of the peer that may use it.
//!
//! The longest matching prefix decides, of all peers' prefixes together, for destinations and
//! sources alike. A prefix belongs to one slot: giving it to another moves it. What may be sent
//! and received is all that is kept here; routes of the operating system are the caller's.
//!
//! The prefixes are kept twice: in a trie for the lookup, and in a set ordered by slot for listing
//! and for the removal of a peer.

mod blocks;
mod node;
#[cfg(test)]
mod tests;
mod trie;

use alloc::collections::BTreeSet;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use self::node::Prefix;
use self::trie::Trie;
use crate::cidr::Cidr;

/// The allowed IPs of all peers.
///
/// A lookup reads a few nodes of 64 ways and one entry: four dependent cache misses among 100,000
/// prefixes, and no more than 5 nodes of IPv4 or 21 of IPv6 ever. An update costs
/// O(prefix length + log n), amortised: now and then the trie is packed anew, so that it never
/// holds more than four places for each one in use. Memory for each prefix: typically 70 bytes
/// of IPv4 and 150 of IPv6.
#[derive(Debug, Default)]
pub(crate) struct AllowedIps {
    v4: Trie<u32>,
    v6: Trie<u128>,
    by_slot: BTreeSet<(u32, Cidr)>,
}

impl AllowedIps {
    /// Makes an empty table without allocating.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The number of prefixes.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// Gives a prefix to `slot`, and returns the other slot that it is taken from.
    pub(crate) fn insert(&mut self, cidr: Cidr, slot: u32) -> Option<u32> {
        let owner = match cidr.address() {
            IpAddr::V4(v4) => self.v4.insert(v4_prefix(v4, cidr), slot),
            IpAddr::V6(v6) => self.v6.insert(v6_prefix(v6, cidr), slot),
        };
        let former = owner.filter(|&owner| owner != slot);
        if let Some(former) = former {
            self.by_slot.remove(&(former, cidr));
        }
        self.by_slot.insert((slot, cidr));
        former
    }

    /// Takes a prefix from `slot`; `false` if it is not that slot's.
    pub(crate) fn remove(&mut self, cidr: Cidr, slot: u32) -> bool {
        let owned = self.by_slot.remove(&(slot, cidr));
        if owned {
            match cidr.address() {
                IpAddr::V4(v4) => self.v4.remove(v4_prefix(v4, cidr)),
                IpAddr::V6(v6) => self.v6.remove(v6_prefix(v6, cidr)),
            }
        }
        owned
    }

    /// Takes all prefixes from `slot`. The cost depends on their number and not on that of others.
    pub(crate) fn remove_all(&mut self, slot: u32) {
        while let Some(&(_, cidr)) = self.by_slot.range(all_of(slot)).next() {
            self.remove(cidr, slot);
        }
    }

    /// Finds the slot of the longest prefix that contains `address`.
    #[inline]
    pub(crate) fn lookup(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(v4) => self.v4.lookup(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.lookup(v6.to_bits()),
        }
    }

    /// Lists the prefixes of `slot`, in the order of [`Cidr`].
    pub(crate) fn of(&self, slot: u32) -> impl Iterator<Item = Cidr> {
        self.by_slot.range(all_of(slot)).map(|&(_, cidr)| cidr)
    }
}

fn v4_prefix(address: Ipv4Addr, cidr: Cidr) -> Prefix<u32> {
    Prefix {
        bits: address.to_bits(),
        len: cidr.prefix_len(),
    }
}

fn v6_prefix(address: Ipv6Addr, cidr: Cidr) -> Prefix<u128> {
    Prefix {
        bits: address.to_bits(),
        len: cidr.prefix_len(),
    }
}

fn all_of(slot: u32) -> RangeInclusive<(u32, Cidr)> {
    let last = Cidr::from(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)));
    (slot, Cidr::FIRST)..=(slot, last)
}
