//! What goes on in a world: traffic, faults and attacks, all drawn from the seed.

use std::net::SocketAddr;

use quietwire::Load;

use super::inner;
use super::net::Link;
use super::node::Mode;
use super::world::{Happening, World};
use super::{MS, SEC};

/// Packets from one node to one of its peers.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) node: usize,
    pub(crate) peer: usize,
    pub(crate) pattern: Pattern,
    pub(crate) until: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    /// A packet at equal intervals.
    Steady(u64),
    /// A packet now and then, up to so long apart.
    Mixed(u64),
    /// So many packets at once, and then a pause.
    Burst(u64, u64),
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Cut(usize, usize, u64),
    Mend(usize, usize),
    Rebind(usize),
    Restart(usize),
    Freeze(usize),
    WallJump(usize),
    WallStop(usize),
    Load(usize, u64),
    Unload(usize),
    Erase(usize),
    Replace(usize),
    Initiate(usize),
    Persistent(usize, u16),
    Attack(usize),
    Flood(usize, usize),
    /// The same initiation over and over.
    Storm(usize),
}

/// Which kinds of faults a world has.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Troubles {
    pub(crate) paths: bool,
    pub(crate) machines: bool,
    pub(crate) clocks: bool,
    pub(crate) attacks: bool,
    pub(crate) odd_modes: bool,
}

impl World {
    /// A world that the seed has drawn, with traffic and faults for `duration`.
    pub(crate) fn random(seed: u64, troubles: Troubles, duration: u64) -> Self {
        let mut world = Self::new(seed);
        world.people(troubles);
        world.start();
        world.draw_flows(duration);
        if troubles.machines {
            for _ in 0..world.rng.below(14) {
                world.draw_fault(duration);
            }
        }
        if troubles.clocks {
            for _ in 0..world.rng.below(6) {
                let (at, n) = (
                    world.rng.below(duration),
                    world.rng.index(world.nodes.len()),
                );
                let fault = match world.rng.below(3) {
                    0 if world.nodes[n].mode.has_bad_clock => Fault::Freeze(n),
                    0 | 1 => Fault::WallJump(n),
                    _ => Fault::WallStop(n),
                };
                world.schedule(at, Happening::Fault(fault));
            }
        }
        if troubles.attacks {
            for _ in 0..world.rng.below(120) {
                let (at, n) = (
                    world.rng.below(duration),
                    world.rng.index(world.nodes.len()),
                );
                let fault = if world.rng.one_in(12) {
                    Fault::Storm(n)
                } else {
                    Fault::Attack(n)
                };
                world.schedule(at, Happening::Fault(fault));
            }
            if world.rng.one_in(8) {
                let (at, n) = (
                    world.rng.below(duration),
                    world.rng.index(world.nodes.len()),
                );
                world.schedule(at, Happening::Fault(Fault::Flood(n, 200)));
            }
        }
        world
    }

    /// A hub that stays where it is, and nodes around it, some of which move and some of which know
    /// each other too.
    fn people(&mut self, troubles: Troubles) {
        let leaves = *self.rng.pick(&[1, 1, 1, 2, 2, 3, 4]);
        for n in 0..=leaves {
            let mode = if troubles.odd_modes {
                Mode::random(&mut self.rng)
            } else {
                Mode {
                    echoes: self.rng.one_in(2),
                    is_batch: self.rng.one_in(3),
                    ..Mode::default()
                }
            };
            let is_tunnel = if n == 0 {
                leaves == 1 && self.rng.one_in(2)
            } else {
                self.rng.one_in(2)
            };
            self.add_node(is_tunnel, mode);
        }
        for leaf in 1..=leaves {
            let link = self.draw_link(troubles);
            let hub_knows = self.rng.one_in(2);
            self.connect((leaf, 0), (true, hub_knows), &link);
        }
        if self.rng.one_in(6) {
            // Somebody who knows the hub and whom the hub does not know.
            let stranger = self.add_node(true, Mode::default());
            self.introduce(stranger, 0, true, &Link::clean(20 * MS));
        }
        for leaf in 2..=leaves {
            if !self.nodes[leaf].is_tunnel && !self.nodes[leaf - 1].is_tunnel && self.rng.one_in(2)
            {
                let link = self.draw_link(troubles);
                self.connect((leaf - 1, leaf), (true, true), &link);
            }
        }
    }

    fn draw_link(&mut self, troubles: Troubles) -> Link {
        if troubles.paths {
            Link::random(&mut self.rng)
        } else {
            Link::clean(self.rng.range(0, 100) * MS)
        }
    }

    fn draw_flows(&mut self, duration: u64) {
        for node in 0..self.nodes.len() {
            for peer in 0..self.nodes[node].others.len() {
                if self.rng.one_in(3) {
                    continue;
                }
                let pattern = match self.rng.below(3) {
                    0 => Pattern::Steady(self.rng.range(500, 15_000) * MS),
                    1 => Pattern::Mixed(self.rng.range(2, 300) * SEC),
                    _ => Pattern::Burst(self.rng.range(2, 25), self.rng.range(20, 200) * SEC),
                };
                let until = self.rng.range(duration / 4, duration);
                let start = self.rng.below(20 * SEC);
                self.add_flow(
                    start,
                    Flow {
                        node,
                        peer,
                        pattern,
                        until,
                    },
                );
            }
        }
    }

    pub(crate) fn add_flow(&mut self, start: u64, flow: Flow) {
        self.flows.push(flow);
        self.schedule(start, Happening::Flow(self.flows.len() - 1));
    }

    /// Sends what a flow has to send now.
    pub(crate) fn flow(&mut self, number: usize) {
        let Flow {
            node,
            peer,
            pattern,
            until,
        } = self.flows[number];
        if self.now >= until {
            return;
        }
        let (count, pause) = match pattern {
            Pattern::Steady(interval) => (1, interval),
            Pattern::Mixed(most) => (1, self.rng.below(most)),
            Pattern::Burst(count, pause) => (count, pause),
        };
        let lens: Vec<_> = (0..count).map(|_| self.draw_len()).collect();
        self.send_packets(node, peer, &lens);
        self.schedule(self.now + pause.max(1), Happening::Flow(number));
    }

    fn draw_len(&mut self) -> usize {
        let most = if self.rng.one_in(12) { 1420 } else { 120 };
        usize::try_from(self.rng.range(inner::MIN as u64, most)).unwrap()
    }

    fn draw_fault(&mut self, duration: u64) {
        let (at, n) = (self.rng.below(duration), self.rng.index(self.nodes.len()));
        let peers: Vec<_> = self.nodes[n]
            .others
            .iter()
            .map(|other| other.node)
            .collect();
        let other = *self.rng.pick(&peers);
        let fault = match self.rng.below(12) {
            0 | 1 => Fault::Cut(n, other, self.rng.range(1, 150) * SEC),
            2 | 3 => Fault::Rebind(n),
            4 | 5 => Fault::Restart(n),
            6 => Fault::Load(n, self.rng.range(1, 150) * SEC),
            7 => Fault::Erase(n),
            8 => Fault::Replace(n),
            9 => Fault::Initiate(n),
            10 => Fault::Persistent(n, *self.rng.pick(&[1, 3, 10, 25])),
            _ => Fault::Cut(n, other, self.rng.range(100, 400) * SEC),
        };
        self.schedule(at, Happening::Fault(fault));
    }

    /// Something goes wrong now.
    pub(crate) fn fault(&mut self, fault: &Fault) {
        if self.is_healed {
            return;
        }
        self.note(&format!("{fault:?}"), 0, &[]);
        match *fault {
            Fault::Cut(a, b, time) => {
                // At times only one direction fails.
                let both = self.rng.one_in(2);
                for ends in [(a, b), (b, a)].into_iter().take(1 + usize::from(both)) {
                    self.links.entry(ends).and_modify(|link| link.is_cut = true);
                }
                self.schedule(self.now + time, Happening::Fault(Fault::Mend(a, b)));
            }
            Fault::Mend(a, b) => {
                for ends in [(a, b), (b, a)] {
                    self.links
                        .entry(ends)
                        .and_modify(|link| link.is_cut = false);
                }
            }
            // Somebody must stay where the others look for it: the hub, and who has two peers.
            Fault::Rebind(n) if n != 0 && self.nodes[n].others.len() == 1 => {
                self.nodes[n].address = self.new_address(n);
            }
            Fault::Rebind(_) => {}
            Fault::Restart(n) => self.restart(n),
            Fault::Freeze(n) => {
                let node = &mut self.nodes[n];
                let until = self.now + self.rng.range(1, 60) * SEC;
                if node.clock.frozen.is_none_or(|(_, until)| until <= self.now) {
                    let shown = node.clock.offset + self.now;
                    node.clock.frozen = Some((shown, until));
                }
            }
            Fault::WallJump(n) => {
                let magnitude = self.rng.range(30, 58);
                let far = self.rng.below(1 << magnitude);
                let far = i64::try_from(far).unwrap();
                self.nodes[n].clock.wall_skew += if self.rng.one_in(2) { far } else { -far };
            }
            Fault::WallStop(n) => {
                let stands = 1_690_000_000 * SEC + self.rng.below(20_000_000) * SEC;
                self.nodes[n].clock.wall_frozen = Some(stands);
            }
            Fault::Load(n, time) => {
                self.nodes[n].device.set_load(Load::UnderLoad);
                self.nodes[n].loaded_until = u64::MAX;
                self.schedule(self.now + time, Happening::Fault(Fault::Unload(n)));
            }
            Fault::Unload(n) => {
                self.nodes[n].device.set_load(Load::Auto);
                self.nodes[n].loaded_until = self.now + SEC;
            }
            _ => self.fault_of_peer(fault),
        }
    }

    fn fault_of_peer(&mut self, fault: &Fault) {
        match *fault {
            Fault::Erase(n) => {
                let peer = self.rng.index(self.nodes[n].others.len());
                let now = self.read_clock(n);
                let node = &mut self.nodes[n];
                node.device.erase(now, peer);
                node.models[peer].erased(node.seen);
                self.drain(n);
            }
            Fault::Replace(n) if !self.nodes[n].is_tunnel => {
                let peer = self.rng.index(self.nodes[n].others.len());
                self.nodes[n].replace_peer(self.now, peer, &mut self.generation);
                self.drain(n);
            }
            Fault::Initiate(n) => {
                let peer = self.rng.index(self.nodes[n].others.len());
                let now = self.read_clock(n);
                self.nodes[n].device.initiate(now, peer);
                self.nodes[n].models[peer].asked();
                self.drain(n);
            }
            Fault::Persistent(n, secs) => {
                let peer = self.rng.index(self.nodes[n].others.len());
                self.set_persistent(n, peer, secs);
            }
            Fault::Attack(n) => self.attack(n),
            Fault::Flood(n, count) => self.flood(n, count),
            Fault::Storm(n) => self.storm(n),
            _ => {}
        }
    }

    pub(crate) fn set_persistent(&mut self, n: usize, peer: usize, secs: u16) {
        let now = self.read_clock(n);
        let node = &mut self.nodes[n];
        node.others[peer].persistent = secs;
        node.device.set_persistent_keepalive(now, peer, secs);
        node.models[peer].set_persistent(node.seen, u64::from(secs));
        self.drain(n);
    }

    /// An attacker sends a datagram to a node: replayed, reflected, led astray or forged.
    fn attack(&mut self, n: usize) {
        let Some((from, datagram)) = self.draw_attack(n) else {
            return;
        };
        self.arrive(n, from, datagram);
    }

    /// A node is under load, and an attacker repeats an initiation that carries a cookie.
    fn storm(&mut self, n: usize) {
        let proven = self.attacker.seen().iter().rev().find(|seen| {
            let is_initiation = seen.datagram[0] == 1 && seen.datagram[132..] != [0; 16];
            is_initiation && self.owners.get(&seen.to) == Some(&n)
        });
        if let Some(seen) = proven.cloned() {
            self.fault(&Fault::Load(n, 2 * SEC));
            for _ in 0..12 {
                self.arrive(n, seen.from, seen.datagram.clone());
            }
        }
    }

    fn draw_attack(&mut self, n: usize) -> Option<(SocketAddr, Vec<u8>)> {
        let own = SocketAddr::from(([203, 0, 113, 7], 7));
        if self.rng.one_in(2) {
            let key = *self.nodes[n].key.public_key().as_bytes();
            let forged = self.attacker.forge(&key)?;
            return Some((own, forged));
        }
        let seen = self.attacker.replay()?;
        // A datagram that its receiver has never got is news to it, and may have moved the sender's
        // endpoint: such a one keeps its source, or two nodes could lose each other for good.
        let is_for_n = self.owners.get(&seen.to) == Some(&n);
        let from = if is_for_n { seen.from } else { own };
        Some((from, seen.datagram))
    }

    /// So many datagrams at once, with nothing taken out in between.
    pub(crate) fn flood(&mut self, n: usize, count: usize) {
        self.nodes[n].loaded_until = self.nodes[n].loaded_until.max(self.now + 3 * SEC);
        for _ in 0..count {
            if let Some((from, datagram)) = self.draw_attack(n) {
                self.receive(n, from, &datagram);
            }
        }
        let owed = self.drain(n);
        let peers = self.nodes[n].others.len();
        assert!(owed.others <= 3 * peers, "{owed:?}");
        let most = if self.nodes[n].is_tunnel { 1 } else { 256 };
        assert!(owed.cookies <= most, "{owed:?}");
    }
}
