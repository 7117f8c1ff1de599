//! Named cases of cryptokey routing, and a linear search as the model.

use proptest::prelude::*;
use std::vec::Vec;

use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// Each slot with its prefixes, given in this order.
fn table(routes: &[(u32, &[&str])]) -> AllowedIps {
    let mut table = AllowedIps::new();
    for (slot, cidrs) in routes {
        for text in *cidrs {
            table.insert(cidr(text), *slot);
        }
    }
    table
}

fn lookup(table: &AllowedIps, address: &str) -> Option<u32> {
    table.lookup(address.parse().unwrap())
}

#[test]
fn an_empty_table_knows_nobody() {
    let mut table = AllowedIps::new();
    assert_eq!(lookup(&table, "10.0.0.1"), None);
    assert_eq!(lookup(&table, "::1"), None);
    assert!(!table.remove(cidr("10.0.0.1"), 0));
    table.remove_all(0);
    assert_eq!((table.len(), table.of(0).count()), (0, 0));
}

#[test]
fn the_longest_prefix_wins_in_both_families() {
    let table = table(&[
        (0, &["0.0.0.0/0", "::/0"]),
        (1, &["10.0.0.0/8", "2001:db8::/32"]),
        (2, &["10.20.0.0/16", "2001:db8:7::/48"]),
        (3, &["10.20.30.0/24", "10.20.30.44/30", "2001:db8:7:1::/64"]),
        (4, &["10.20.30.45", "2001:db8:7:1::99"]),
    ]);
    for (address, slot) in [
        ("9.255.255.255", 0),
        ("11.0.0.0", 0),
        ("10.0.0.0", 1),
        ("10.255.255.255", 1),
        ("10.19.255.255", 1),
        ("10.20.0.0", 2),
        ("10.20.29.255", 2),
        ("10.20.30.0", 3),
        ("10.20.30.44", 3),
        ("10.20.30.45", 4),
        ("10.20.30.46", 3),
        ("2001:db7:ffff::", 0),
        ("2001:db8::", 1),
        ("2001:db8:6:ffff::", 1),
        ("2001:db8:7::", 2),
        ("2001:db8:7:1::98", 3),
        ("2001:db8:7:1::99", 4),
        ("2001:db8:7:2::99", 2),
        ("ffff::", 0),
    ] {
        assert_eq!(lookup(&table, address), Some(slot), "{address}");
    }
    assert_eq!((table.v4.check(), table.v6.check()), (6, 5));
}

/// The other family's prefixes never match, not even all of them or mapped addresses.
#[test]
fn families_are_apart() {
    let v4 = table(&[(1, &["0.0.0.0/0"])]);
    assert_eq!(lookup(&v4, "::ffff:10.0.0.1"), None);
    let v6 = table(&[(1, &["::/0", "::ffff:0:0/96"])]);
    assert_eq!(lookup(&v6, "10.0.0.1"), None);
}

/// Host bits do not make another prefix, and the second owner takes it from the first.
#[test]
fn a_prefix_has_one_owner() {
    let mut table = table(&[(1, &["192.0.2.64/27", "2001:db8::/40"])]);
    assert_eq!(table.insert(cidr("192.0.2.65/27"), 2), Some(1));
    assert_eq!(table.insert(cidr("2001:db8:ff::1/40"), 2), Some(1));
    assert_eq!(table.insert(cidr("192.0.2.95/27"), 2), None, "its own");
    assert_eq!(lookup(&table, "192.0.2.70"), Some(2));
    assert_eq!(lookup(&table, "192.0.2.96"), None);
    assert_eq!((table.len(), table.of(1).count()), (2, 0));
    assert!(!table.remove(cidr("192.0.2.64/27"), 1), "not the owner");
    assert!(table.remove(cidr("192.0.2.64/27"), 2));
    assert!(!table.remove(cidr("192.0.2.64/27"), 2), "gone");
    assert_eq!(lookup(&table, "192.0.2.70"), None);
}

/// One peer's wide prefix does not let it use an address that another has more precisely.
#[test]
fn a_narrower_prefix_of_another_peer_excludes_the_wider() {
    let mut table = table(&[(1, &["10.0.0.0/8"]), (2, &["10.1.0.0/16"])]);
    assert_eq!(lookup(&table, "10.1.2.3"), Some(2));
    assert_eq!(lookup(&table, "10.2.2.3"), Some(1));
    table.remove_all(2);
    assert_eq!(lookup(&table, "10.1.2.3"), Some(1));
    table.remove_all(1);
    assert_eq!(lookup(&table, "10.1.2.3"), None);
    assert_eq!((table.v4.check(), table.len()), (0, 0));
}

#[test]
fn prefixes_are_listed_masked_and_sorted() {
    let given = [
        "2001:db8:ffff::/33",
        "10.9.8.7/29",
        "::/0",
        "10.9.8.0/24",
        "2001:db8::1",
    ];
    let table = table(&[(7, &given), (6, &["0.0.0.0/0"]), (8, &["1.2.3.4", "::1"])]);
    let listed: Vec<_> = table.of(7).collect();
    let sorted = [
        "10.9.8.0/24",
        "10.9.8.0/29",
        "::/0",
        "2001:db8::1",
        "2001:db8:8000::/33",
    ];
    assert_eq!(listed, sorted.map(cidr));
}

#[test]
fn remove_all_leaves_the_others() {
    let mut table = table(&[
        (
            1,
            &[
                "1.0.0.0",
                "64.0.0.0",
                "128.0.0.0",
                "192.0.0.0",
                "255.0.0.0",
                "192.168.0.0/16",
            ],
        ),
        (2, &["192.168.0.0/24", "::/1", "0.0.0.0/1"]),
        (u32::MAX, &["192.168.0.1", "ffff::/16"]),
    ]);
    table.remove_all(1);
    assert_eq!(table.of(1).count(), 0);
    assert_eq!(lookup(&table, "192.168.1.0"), None);
    assert_eq!(lookup(&table, "64.0.0.0"), Some(2));
    assert_eq!(lookup(&table, "192.168.0.1"), Some(u32::MAX));
    assert_eq!((table.v4.check(), table.v6.check(), table.len()), (3, 2, 5));
}

/// All prefixes of one address, then the addresses that differ from it in one bit each.
#[test]
fn every_length_at_once() {
    let bits = 0x2001_0db8_a5a5_5a5a_0123_4567_89ab_cdef_u128;
    let address = |bits: u128| IpAddr::from(Ipv6Addr::from_bits(bits));
    let mut table = AllowedIps::new();
    for len in 0..=128_u8 {
        table.insert(Cidr::new(address(bits), len).unwrap(), len.into());
    }
    assert_eq!(table.lookup(address(bits)), Some(128));
    for flip in 0..128 {
        assert_eq!(table.lookup(address(bits ^ 1 << (127 - flip))), Some(flip));
    }
    assert_eq!(table.v6.check(), 129);
    for len in (0..=128_u8).rev() {
        assert_eq!(table.lookup(address(bits)), Some(len.into()));
        assert!(table.remove(Cidr::new(address(bits), len).unwrap(), len.into()));
    }
    assert_eq!(table.v6.check(), 0);
    for flip in 0..128 {
        table.insert(Cidr::from(address(bits ^ 1 << flip)), 5);
    }
    assert_eq!((table.lookup(address(bits)), table.v6.check()), (None, 128));
}

/// What is left after many peers came and went.
#[test]
fn memory_follows_the_number_of_prefixes() {
    let scatter = |n: u32| n.wrapping_mul(0x9e37_79b9);
    let block = |n: u32| Cidr::from(IpAddr::from(Ipv4Addr::from_bits(scatter(n))));
    let mut table = AllowedIps::new();
    for n in 0..20_000 {
        table.insert(block(n), n);
    }
    let full = table.v4.bytes();
    assert!(full < 20_000 * 60, "{full} bytes");
    for n in 200..20_000 {
        table.remove_all(n);
    }
    assert_eq!(table.v4.check(), 200);
    let left = table.v4.bytes();
    assert!(left < full / 20, "{left} of {full} bytes");
    assert!((0..200).all(|n| table.lookup(block(n).address()) == Some(n)));
}

/// The prefixes in no order, searched from end to end.
#[derive(Default)]
struct Model(Vec<(Cidr, u32)>);

impl Model {
    fn insert(&mut self, cidr: Cidr, slot: u32) -> Option<u32> {
        if let Some((_, owner)) = self.0.iter_mut().find(|(known, _)| *known == cidr) {
            return Some(core::mem::replace(owner, slot)).filter(|&was| was != slot);
        }
        self.0.push((cidr, slot));
        None
    }

    fn remove(&mut self, cidr: Cidr, slot: u32) -> bool {
        let before = self.0.len();
        self.0.retain(|&route| route != (cidr, slot));
        self.0.len() != before
    }

    fn lookup(&self, address: IpAddr) -> Option<u32> {
        let matching = self.0.iter().filter(|(cidr, _)| cidr.contains(address));
        matching
            .max_by_key(|(cidr, _)| cidr.prefix_len())
            .map(|&(_, slot)| slot)
    }

    fn of(&self, slot: u32) -> Vec<Cidr> {
        let mut cidrs: Vec<_> = self.0.iter().filter(|r| r.1 == slot).map(|r| r.0).collect();
        cidrs.sort();
        cidrs
    }
}

/// Addresses that are mostly neighbours: a few bits set in a few places of a few bases.
fn address() -> impl Strategy<Value = IpAddr> {
    let base = prop_oneof![
        Just(0_u128),
        Just(u128::MAX),
        Just(0x0a01_0203_u128 << 96 | 0x0a01_0203),
    ];
    let flips = prop_oneof![
        3 => proptest::collection::vec(0..128_u32, 0..3),
        1 => proptest::collection::vec(0..128_u32, 20..40),
    ];
    (base, flips, any::<bool>()).prop_map(|(base, flips, v4)| {
        let bits = flips.iter().fold(base, |bits, &flip| bits ^ 1 << flip);
        if v4 {
            Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap()).into()
        } else {
            Ipv6Addr::from_bits(bits).into()
        }
    })
}

fn block() -> impl Strategy<Value = Cidr> {
    (address(), 0..=128_u8).prop_map(|(address, len)| {
        let len = if address.is_ipv4() {
            len.min(64) / 2 + len / 128
        } else {
            len
        };
        Cidr::new(address, len.min(if address.is_ipv4() { 32 } else { 128 })).unwrap()
    })
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(Cidr, u32),
    /// The prefix of some rank in the model, by its owner or by the slot.
    Move(usize, u32),
    RemoveOwned(usize),
    Remove(Cidr, u32),
    RemoveAll(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0_u32..6;
    prop_oneof![
        8 => (block(), slot()).prop_map(|(cidr, slot)| Step::Insert(cidr, slot)),
        2 => (any::<usize>(), slot()).prop_map(|(rank, slot)| Step::Move(rank, slot)),
        5 => any::<usize>().prop_map(Step::RemoveOwned),
        1 => (block(), slot()).prop_map(|(cidr, slot)| Step::Remove(cidr, slot)),
        1 => slot().prop_map(Step::RemoveAll)
    ]
}

fn nth(model: &Model, rank: usize) -> Option<(Cidr, u32)> {
    model.0.get(rank.checked_rem(model.0.len())?).copied()
}

fn apply(step: Step, table: &mut AllowedIps, model: &mut Model) -> Result<(), TestCaseError> {
    match step {
        Step::Insert(cidr, slot) => {
            prop_assert_eq!(table.insert(cidr, slot), model.insert(cidr, slot));
        }
        Step::Move(rank, slot) => {
            let Some((cidr, owner)) = nth(model, rank) else {
                return Ok(());
            };
            prop_assert_eq!(table.remove(cidr, slot), model.remove(cidr, slot));
            prop_assert_eq!(table.insert(cidr, slot), (owner != slot).then_some(owner));
            model.insert(cidr, slot);
        }
        Step::RemoveOwned(rank) => {
            let Some((cidr, owner)) = nth(model, rank) else {
                return Ok(());
            };
            prop_assert!(table.remove(cidr, owner) && model.remove(cidr, owner));
        }
        Step::Remove(cidr, slot) => {
            prop_assert_eq!(table.remove(cidr, slot), model.remove(cidr, slot));
        }
        Step::RemoveAll(slot) => {
            table.remove_all(slot);
            model.0.retain(|route| route.1 != slot);
        }
    }
    Ok(())
}

/// The last address of a block, and the one after it.
fn edges(cidr: Cidr) -> [IpAddr; 2] {
    match cidr.address() {
        IpAddr::V4(v4) => {
            let size = 1_u32
                .checked_shl(32 - u32::from(cidr.prefix_len()))
                .unwrap_or(0);
            let next = v4.to_bits().wrapping_add(size);
            [next.wrapping_sub(1), next].map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(v6) => {
            let size = 1_u128
                .checked_shl(128 - u32::from(cidr.prefix_len()))
                .unwrap_or(0);
            let next = v6.to_bits().wrapping_add(size);
            [next.wrapping_sub(1), next].map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_linear_search(
        steps in proptest::collection::vec(step(), 1..120),
        probes in proptest::collection::vec(address(), 40),
    ) {
        let mut table = AllowedIps::new();
        let mut model = Model::default();
        for step in steps {
            apply(step, &mut table, &mut model)?;
            prop_assert_eq!(table.v4.check() + table.v6.check(), model.0.len());
            prop_assert_eq!(table.len(), model.0.len());
        }
        for slot in 0..6 {
            prop_assert_eq!(table.of(slot).collect::<Vec<_>>(), model.of(slot));
        }
        let known = model.0.iter().flat_map(|&(cidr, _)| edges(cidr).into_iter().chain([cidr.address()]));
        for address in known.chain(probes) {
            prop_assert_eq!(table.lookup(address), model.lookup(address), "{}", address);
        }
    }

    #[test]
    fn dense_tables_agree_too(
        blocks in proptest::collection::vec((any::<u16>(), 18_u8..=32, 0_u32..9), 200..700),
        probes in proptest::collection::vec(any::<u16>(), 100),
        cut in 0_usize..200,
    ) {
        let address = |low: u16| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 | u32::from(low)));
        let mut table = AllowedIps::new();
        let mut model = Model::default();
        for &(low, len, slot) in &blocks {
            let cidr = Cidr::new(address(low), len).unwrap();
            prop_assert_eq!(table.insert(cidr, slot), model.insert(cidr, slot));
        }
        for _ in 0..cut {
            apply(Step::RemoveOwned(cut), &mut table, &mut model)?;
        }
        prop_assert_eq!(table.v4.check(), model.0.len());
        for low in probes.into_iter().chain(blocks.iter().map(|block| block.0)) {
            prop_assert_eq!(table.lookup(address(low)), model.lookup(address(low)));
        }
    }
}
