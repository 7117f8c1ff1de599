//! Any world at all: faults and attacks, then recovery, then silence, then nothing.

use std::collections::BTreeMap;

use super::ledger::Content;
use super::rng::Rng;
use super::scenario::Troubles;
use super::world::World;
use super::{MS, SEC};

/// After the last fault a packet sent every second arrives within this time.
///
/// In the worst case the sender has a session that the receiver has lost, and a handshake message
/// of its own from just before keeps it from asking at once:
/// 15.334 s until it notices the silence, 5 s if it just sent a handshake message, and 15.334 s more
/// until the silence is noticed again; then a handshake, whose first attempt may still be refused for
/// load (5.334 s), and the packet of the next second on paths of at most 100 ms each way.
const RECOVERY: u64 = 15_334 * MS * 2 + 5 * SEC + 5_334 * MS + 2 * SEC;

/// How many seeds are run when nobody says.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 4000 };

/// What happens somewhere among a few hundred seeds, or the simulation tests little.
const WANTED: [&str; 24] = [
    "got packet",
    "got Keepalive",
    "got ControlInitiation",
    "got ControlResponse",
    "got ControlCookie",
    "Established",
    "Roamed",
    "HandshakeGivenUp",
    "SessionExpired",
    "KeysErased",
    "refused UnknownType",
    "refused WrongLength",
    "refused WrongMac1",
    "refused CookieRequired",
    "refused RateLimited",
    "refused UnknownReceiver",
    "refused Forged",
    "refused OldTimestamp",
    "refused TooFrequent",
    "refused Superseded",
    "refused UnexpectedCookie",
    "refused SessionExpired",
    "refused Replayed",
    "refused UnknownPeer",
];

/// Tells how to repeat a seed when its test fails.
pub(crate) struct Named(pub(crate) u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {0}: QW_SIM_SEED={0} repeats it", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap())
}

/// The seeds of this run.
pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    match number("QW_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QW_SIM_SEEDS").unwrap_or(default),
    }
}

fn troubles(seed: u64) -> (Troubles, u64) {
    let mut rng = Rng::new(!seed);
    let troubles = Troubles {
        paths: rng.one_in(2),
        machines: rng.one_in(2),
        clocks: rng.one_in(2),
        attacks: rng.one_in(2),
        odd_modes: rng.one_in(2),
    };
    (troubles, rng.range(20, 600) * SEC)
}

/// A whole life of a world; what happened, as one number.
fn live(seed: u64, is_recorded: bool) -> World {
    let _named = Named(seed);
    let (troubles, duration) = troubles(seed);
    let mut world = World::random(seed, troubles, duration);
    world.is_recorded = is_recorded;
    world.run_until(duration);
    world.heal();
    recover(&mut world);
    fall_silent(&mut world);
    stay_dead(&mut world);
    world
}

/// Everybody reaches everybody again.
fn recover(world: &mut World) {
    let healed = world.now;
    let first = world.ledger.packets().len();
    loop {
        for n in 0..world.nodes.len() {
            for peer in 0..world.nodes[n].others.len() {
                world.send_packets(n, peer, &[super::inner::MIN]);
            }
        }
        world.run_until(world.now + SEC);
        let missing = directions(world).into_iter().find(|(from, to)| {
            let packets = &world.ledger.packets()[first..];
            !packets.iter().any(|packet| {
                (packet.label.from as usize, packet.label.to as usize) == (*from, *to)
                    && packet.delivered_at.is_some()
            })
        });
        let Some((from, to)) = missing else {
            let seconds = (world.now - healed) / SEC;
            return world.sight(("recovered within", seconds), 0);
        };
        assert!(
            world.now < healed + RECOVERY,
            "{from} does not reach {to} since {healed}"
        );
    }
}

fn directions(world: &World) -> Vec<(usize, usize)> {
    let links = world.links.keys();
    links
        .copied()
        .filter(|(from, to)| world.links.contains_key(&(*to, *from)))
        .collect()
}

/// Nobody has anything to say any more. What is still allowed: a keepalive 10 s after the last
/// packet, one more 10 s later if packets had come before the first, and the handshake that the
/// sending of a keepalive starts when the session is old.
fn fall_silent(world: &mut World) {
    for n in 0..world.nodes.len() {
        for peer in 0..world.nodes[n].others.len() {
            world.set_persistent(n, peer, 0);
        }
    }
    // A stranger repeats its initiation for as long as 20 of them take.
    let has_stranger = directions(world).len() < world.links.len();
    let quiet = world.now + if has_stranger { 20 * 5_334 * MS } else { 0 };
    world.run_until(quiet + 45 * SEC);
    let sends = world.sends;
    while let Some(at) = world.next_at() {
        assert!(at <= quiet + (45 + 540) * SEC, "a deadline without end");
        world.step();
    }
    assert_eq!(world.sends, sends, "idle peers talk");
    for node in &world.nodes {
        assert_eq!(node.device.poll_timeout(), None);
    }
}

/// All keys are erased: nothing that was ever sent opens anything.
fn stay_dead(world: &mut World) {
    world.now += SEC;
    let sends = world.sends;
    for seen in world.attacker.seen().to_vec() {
        let Some(n) = world.owners.get(&seen.to).copied() else {
            continue;
        };
        let sent = world.ledger.find(&seen.datagram).unwrap();
        let node = &mut world.nodes[n];
        let generation = node
            .peer_of(sent.from)
            .map(|peer| node.models[peer].generation);
        if matches!(sent.content, Content::Initiation { .. }) && sent.accepted_by != generation {
            // News to its receiver, which may have restarted since, and answered however old it is.
            continue;
        }
        let now = node.now();
        let refused = node
            .device
            .receive(now, seen.from, &mut seen.datagram.clone());
        assert!(
            refused.is_err(),
            "{:?} was accepted by a node without keys",
            sent.content
        );
        world.drain(n);
    }
    assert_eq!(world.sends, sends);
    for node in &world.nodes {
        assert_eq!(node.device.poll_timeout(), None);
    }
}

/// All rules hold in all worlds (white paper, sections 5 and 6; the kernel's timers).
#[test]
fn any_world_keeps_the_rules() {
    let (mut failed, mut sights) = (Vec::new(), BTreeMap::new());
    for seed in seeds(SEEDS) {
        match std::panic::catch_unwind(|| live(seed, false).sights) {
            Ok(seen) => seen
                .into_iter()
                .for_each(|(sight, n)| *sights.entry(sight).or_insert(0) += n),
            Err(_) => failed.push(seed),
        }
        assert!(failed.len() < 20, "seeds {failed:?} failed: see above");
    }
    println!("{sights:#?}");
    assert!(failed.is_empty(), "seeds {failed:?} failed: see above");
    if seeds(SEEDS).count() >= 300 {
        for wanted in WANTED {
            assert!(
                sights.contains_key(wanted),
                "{wanted} has never happened: the worlds are too tame"
            );
        }
    }
}

/// The same seed gives the same transcript, byte for byte, and another seed another.
#[test]
fn a_seed_decides_everything() {
    for seed in seeds(4) {
        let (once, again) = (live(seed, true), live(seed, true));
        assert_eq!(once.transcript, again.transcript);
        assert!(once.wire == again.wire && !once.wire.is_empty());
        assert_ne!(once.transcript, live(seed + 1_000_000, false).transcript);
    }
}
