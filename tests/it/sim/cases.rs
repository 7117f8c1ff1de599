//! Worlds made by hand, each for one promise.

use super::inner;
use super::net::Link;
use super::node::Mode;
use super::scenario::{Flow, Pattern};
use super::world::{Record, World};
use super::{MS, SEC};

/// Two machines; each is a tunnel or an interface, driven packet by packet or in batches.
fn pair(seed: u64, is_tunnel: (bool, bool), latency: u64) -> World {
    let mut world = World::new(seed);
    let mode = Mode {
        is_batch: seed % 2 == 1,
        ..Mode::default()
    };
    let a = world.add_node(is_tunnel.0, mode);
    let b = world.add_node(is_tunnel.1, Mode::default());
    world.connect((a, b), (true, true), &Link::clean(latency));
    world.is_recorded = true;
    world.start();
    world
}

/// Every pairing of a tunnel and an interface.
const KINDS: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

fn flow(world: &mut World, node: usize, pattern: Pattern, until: u64) {
    let flow = Flow {
        node,
        peer: 0,
        pattern,
        until,
    };
    world.add_flow(world.now + 1, flow);
}

fn of_kind(world: &World, kind: u8) -> Vec<&Record> {
    let wire = world.wire.iter();
    wire.filter(|record| record.datagram[0] == kind).collect()
}

fn assert_all_delivered(world: &World) {
    for packet in world.ledger.packets() {
        assert!(packet.delivered_at.is_some(), "{packet:?} was lost");
    }
}

/// One packet, one answer of the protocol, and then silence: a handshake, the packet, a keepalive
/// exactly ten seconds after its arrival, and no keepalive for the keepalive (white paper, 6.5). At
/// last the keys are erased, and there is no deadline any more (6.3: 540 s).
#[test]
fn one_packet_and_then_silence() {
    for (seed, kind) in (0..).zip(KINDS) {
        let mut world = pair(seed, kind, 30 * MS);
        world.send_packets(0, 0, &[inner::MIN]);
        while world.next_at().is_some() {
            world.step();
        }
        assert_all_delivered(&world);
        let kinds: Vec<_> = world
            .wire
            .iter()
            .map(|record| (record.node, record.datagram[0]))
            .collect();
        assert_eq!(kinds, [(0, 1), (1, 2), (0, 4), (1, 4)]);
        let (data, keepalive) = (&world.wire[2], &world.wire[3]);
        assert_eq!(keepalive.datagram.len(), 32);
        let late = keepalive.at - (data.at + 30 * MS + 10 * SEC);
        assert!(
            late < 20 * MS,
            "within the time for which a batch is collected"
        );
        assert!(world.now >= 540 * SEC && world.now < 541 * SEC);
    }
}

/// Nobody is there: 20 initiations for one packet, 5 s to 5.333 s apart, and then rest (kernel:
/// 18 + 2 attempts).
#[test]
fn twenty_attempts_and_no_more() {
    for (seed, kind) in (0..).zip(KINDS) {
        let mut world = pair(seed, kind, 30 * MS);
        world.links.get_mut(&(0, 1)).unwrap().is_cut = true;
        world.send_packets(0, 0, &[inner::MIN]);
        while world.next_at().is_some() {
            world.step();
        }
        assert_eq!(world.wire.len(), 20);
        let gaps: Vec<_> = world
            .wire
            .windows(2)
            .map(|pair| pair[1].at - pair[0].at)
            .collect();
        assert!(
            gaps.iter()
                .all(|gap| (5 * SEC..5 * SEC + 334 * MS).contains(gap)),
            "{gaps:?}"
        );
        assert!(gaps.iter().any(|gap| *gap != gaps[0]), "no jitter");
        let mut ephemerals: Vec<_> = world
            .wire
            .iter()
            .map(|record| &record.datagram[8..40])
            .collect();
        ephemerals.sort_unstable();
        ephemerals.dedup();
        assert_eq!(
            ephemerals.len(),
            20,
            "each with an ephemeral key of its own"
        );
    }
}

/// Constant traffic both ways over twelve rekeys loses nothing and makes nothing late, on a path
/// that loses nothing; and there is one handshake in 120 s (white paper, 6.2).
#[test]
fn twelve_rekeys_lose_nothing() {
    for (seed, kind) in (0..).zip(KINDS) {
        let mut world = pair(seed, kind, 40 * MS);
        let end = 12 * 120 * SEC + 60 * SEC;
        world.send_packets(0, 0, &[100]);
        world.run_until(SEC);
        flow(&mut world, 0, Pattern::Steady(900 * MS), end);
        flow(&mut world, 1, Pattern::Steady(1100 * MS), end);
        world.run_until(end + SEC);
        assert_all_delivered(&world);
        for packet in world
            .ledger
            .packets()
            .iter()
            .filter(|packet| packet.sent_at > SEC)
        {
            let took = packet.delivered_at.unwrap() - packet.sent_at;
            assert!(took <= 60 * MS, "{packet:?} was late");
        }
        assert_eq!(of_kind(&world, 1).len(), 13);
        assert_eq!(of_kind(&world, 2).len(), 13);
        assert!(world.nodes.iter().all(|node| node.models[0].sessions == 13));
    }
}

/// A stream in one direction is answered by a keepalive every ten seconds and makes no handshake
/// but the one in 120 s, whichever end has begun (white paper, 6.5 and 6.2).
#[test]
fn a_stream_in_one_direction_is_no_reason_for_handshakes() {
    for initiator in [0, 1] {
        let mut world = pair(2, (false, true), 25 * MS);
        world.send_packets(initiator, 0, &[inner::MIN]);
        world.run_until(SEC);
        flow(&mut world, 0, Pattern::Steady(SEC), 400 * SEC);
        world.run_until(400 * SEC);
        assert_all_delivered(&world);
        assert_eq!(of_kind(&world, 1).len(), 4, "at 0, 120, 240 and 360 s");
        let keepalives = world
            .wire
            .iter()
            .filter(|record| record.node == 1 && record.datagram.len() == 32);
        let count = keepalives.count();
        assert!((36..=44).contains(&count), "{count}");
    }
}

/// Both ends begin at the same moment. No packet is lost, both end up with a session that the other
/// has too, and both go back to one handshake in 120 s.
#[test]
fn crossing_first_handshakes_converge() {
    for (seed, kind) in (0..).zip(KINDS) {
        // The second initiation starts before the first arrives, at every stage of its way.
        for head_start in [0, 1, 20 * MS, 40 * MS - 1, 40 * MS, 40 * MS + 1] {
            let mut world = pair(seed, kind, 40 * MS);
            world.send_packets(0, 0, &[100; 10]);
            world.run_until(head_start);
            world.send_packets(1, 0, &[100; 10]);
            flow(&mut world, 0, Pattern::Steady(10 * MS), SEC);
            flow(&mut world, 1, Pattern::Steady(10 * MS), SEC);
            world.run_until(110 * SEC);
            assert_all_delivered(&world);
            assert!(
                of_kind(&world, 1).len() <= 2,
                "settled after one handshake each"
            );
            flow(&mut world, 0, Pattern::Steady(2 * SEC), 700 * SEC);
            flow(&mut world, 1, Pattern::Steady(2 * SEC), 700 * SEC);
            world.run_until(710 * SEC);
            assert_all_delivered(&world);
            // Sessions of two initiators may be of the same age: two handshakes at once again.
            assert!(
                of_kind(&world, 1).len() <= 12,
                "{}",
                of_kind(&world, 1).len()
            );
        }
    }
}

/// Both ends replace a living session at the same moment, with packets on the way. The rules of the
/// three slots destroy the session before; what else is authentic is delivered (the model says which)
/// and traffic after the crossing loses nothing.
#[test]
fn crossing_rekeys_converge() {
    for (seed, kind) in (0..).zip(KINDS) {
        for head_start in [0, 1, 20 * MS, 40 * MS, 55 * MS] {
            let mut world = pair(seed, kind, 40 * MS);
            world.send_packets(0, 0, &[100]);
            world.run_until(20 * SEC);
            flow(&mut world, 0, Pattern::Steady(7 * MS), 21 * SEC);
            flow(&mut world, 1, Pattern::Steady(7 * MS), 21 * SEC);
            world.run_until(20 * SEC + 500 * MS);
            initiate(&mut world, 0);
            world.run_until(20 * SEC + 500 * MS + head_start);
            initiate(&mut world, 1);
            world.run_until(100 * SEC);
            let lost: Vec<_> = world
                .ledger
                .packets()
                .iter()
                .filter(|packet| packet.delivered_at.is_none())
                .collect();
            let crossing =
                20 * SEC + 500 * MS..20 * SEC + 500 * MS + head_start + 80 * MS + 20 * MS;
            assert!(
                lost.iter().all(|packet| crossing.contains(&packet.sent_at)),
                "{lost:?}"
            );
            assert!(of_kind(&world, 1).len() <= 3);
        }
    }
}

fn initiate(world: &mut World, n: usize) {
    let now = world.read_clock(n);
    world.nodes[n].device.initiate(now, 0);
    world.nodes[n].models[0].asked();
    world.drain(n);
}

/// A day of mixed traffic: one handshake in 120 to 131 s (a session is renewed by the first packet or
/// keepalive after 120 s, and a keepalive comes within 10 s), all from the same end, and no loss.
#[test]
fn a_day_of_mixed_traffic() {
    let day = if cfg!(debug_assertions) { 4 } else { 24 } * 3600 * SEC;
    let mut world = pair(1, (true, false), 35 * MS);
    world.send_packets(0, 0, &[100]);
    world.run_until(SEC);
    for node in [0, 1] {
        flow(&mut world, node, Pattern::Mixed(16 * SEC), day);
    }
    world.run_until(day + SEC);
    assert_all_delivered(&world);
    let initiations = of_kind(&world, 1);
    let gaps = initiations.windows(2).map(|pair| pair[1].at - pair[0].at);
    let odd: Vec<_> = gaps
        .filter(|gap| !(120 * SEC..137 * SEC).contains(gap))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(initiations.len() as u64 >= day / SEC / 137);
}

/// What was sealed before an erasure, or before a peer was removed and added again, opens nothing
/// after it: neither under the current session nor under the one before. Without the erasure the same
/// datagrams, which never arrived before, are welcome.
#[test]
fn old_keys_open_nothing() {
    for end in [End::Nothing, End::Erase, End::Replace] {
        for (seed, kind) in (0..).zip(KINDS) {
            if end == End::Replace && kind.1 {
                continue;
            }
            let (mut world, lost) = two_sessions(seed, kind);
            let now = world.read_clock(1);
            let (seen, t) = (world.nodes[1].seen, world.now);
            match end {
                End::Nothing => {}
                End::Erase => {
                    world.nodes[1].device.erase(now, 0);
                    world.nodes[1].models[0].erased(seen);
                }
                End::Replace => world.nodes[1].replace_peer(t, 0, &mut world.generation),
            }
            world.drain(1);
            let (from, sends) = (world.nodes[0].address, world.sends);
            for datagram in &lost {
                assert_eq!(world.receive(1, from, datagram), end == End::Nothing);
            }
            world.drain(1);
            assert_eq!(world.sends, sends);
            if end != End::Nothing {
                assert_eq!(world.nodes[1].device.poll_timeout(), None);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Nothing,
    Erase,
    Replace,
}

/// A world shortly after its first rekey, and data of both sessions that never arrived.
fn two_sessions(seed: u64, kind: (bool, bool)) -> (World, Vec<Vec<u8>>) {
    let mut world = pair(seed, kind, 30 * MS);
    flow(&mut world, 0, Pattern::Steady(SEC), 300 * SEC);
    let mut lost = Vec::new();
    for until in [110 * SEC, 130 * SEC] {
        world.run_until(until + 500 * MS);
        world.links.get_mut(&(0, 1)).unwrap().is_cut = true;
        let sent = world.wire.len();
        world.send_packets(0, 0, &[100; 5]);
        let datagrams = world.wire[sent..].iter();
        lost.extend(datagrams.map(|record| record.datagram.clone()));
        world.links.get_mut(&(0, 1)).unwrap().is_cut = false;
    }
    assert_eq!(lost.len(), 10);
    assert_ne!(lost[0][4..8], lost[9][4..8], "two sessions");
    (world, lost)
}

/// A thousand datagrams at once leave at most one message of each kind owed to each peer, and a
/// bounded number of cookie replies.
#[test]
fn a_flood_is_answered_by_little() {
    for (seed, kind) in (0..).zip(KINDS) {
        let mut world = pair(seed, kind, 30 * MS);
        flow(&mut world, 0, Pattern::Steady(300 * MS), 30 * SEC);
        flow(&mut world, 1, Pattern::Steady(400 * MS), 30 * SEC);
        world.run_until(20 * SEC);
        for n in [0, 1] {
            world.flood(n, 1000);
        }
        world.run_until(40 * SEC);
        assert_all_delivered(&world);
    }
}
