//! The world: nodes, paths, one queue of things to come, and true time, which no node sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use quietwire::PrivateKey;

use super::attack::Attacker;
use super::ledger::Ledger;
use super::net::Link;
use super::node::{Mode, Node, Other};
use super::rng::{Rng, mix};
use super::scenario::{Fault, Flow};
use super::{MS, SEC};

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Arrive {
        from: SocketAddr,
        to: SocketAddr,
        datagram: Vec<u8>,
    },
    Wake(usize),
    /// A node looks at its timeouts although it has no reason to, again and again until a time.
    Poll {
        node: usize,
        every: u64,
        until: u64,
    },
    /// A node takes what it has collected.
    Collect(usize),
    Finish(usize, u64),
    Flow(usize),
    Fault(Fault),
}

/// A datagram on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: u64,
    pub(crate) node: usize,
    pub(crate) to: SocketAddr,
    pub(crate) datagram: Vec<u8>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: BTreeMap<(usize, usize), Link>,
    /// Every address that was ever used, and by whom.
    pub(crate) owners: BTreeMap<SocketAddr, usize>,
    pub(crate) ledger: Ledger,
    pub(crate) attacker: Attacker,
    pub(crate) flows: Vec<Flow>,
    /// Packets that the node at work still has to send in answer to others.
    pub(crate) answers: Vec<(usize, Vec<u8>)>,
    pub(crate) wire: Vec<Record>,
    /// Faults are over.
    pub(crate) is_healed: bool,
    pub(crate) is_recorded: bool,
    pub(crate) generation: u64,
    /// Hashes everything that happens.
    pub(crate) transcript: u64,
    pub(crate) is_traced: bool,
    pub(crate) sends: u64,
    /// What was seen to happen, and how often.
    pub(crate) sights: BTreeMap<String, u64>,
    queue: BTreeMap<(u64, u64), Happening>,
    queued: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            now: 0,
            nodes: Vec::new(),
            links: BTreeMap::new(),
            owners: BTreeMap::new(),
            ledger: Ledger::default(),
            attacker: Attacker::new(rng.fork()),
            rng,
            flows: Vec::new(),
            answers: Vec::new(),
            wire: Vec::new(),
            is_healed: false,
            is_recorded: false,
            generation: 0,
            transcript: seed,
            is_traced: std::env::var_os("QW_SIM_TRACE").is_some(),
            sends: 0,
            sights: BTreeMap::new(),
            queue: BTreeMap::new(),
            queued: 0,
        }
    }

    /// Adds a machine, still without peers.
    pub(crate) fn add_node(&mut self, is_tunnel: bool, mode: Mode) -> usize {
        let id = self.nodes.len();
        let key = PrivateKey::from_bytes(self.rng.bytes());
        let address = self.new_address(id);
        let node = Node::new(key, address, is_tunnel, mode, &mut self.rng);
        self.nodes.push(node);
        id
    }

    /// Makes two machines each other's peers, over one path for each direction. Whoever knows the
    /// other's address can begin.
    pub(crate) fn connect(
        &mut self,
        (a, b): (usize, usize),
        (a_knows, b_knows): (bool, bool),
        link: &Link,
    ) {
        self.introduce(a, b, a_knows, link);
        self.introduce(b, a, b_knows, link);
    }

    /// Makes one machine another's peer, but not the other way round.
    pub(crate) fn introduce(&mut self, n: usize, node: usize, is_found: bool, link: &Link) {
        let other = Other {
            node,
            key: self.nodes[node].key.public_key(),
            endpoint: is_found.then_some(self.nodes[node].address),
            persistent: 0,
        };
        self.nodes[n].others.push(other);
        self.links.insert((n, node), link.clone());
    }

    /// Starts all machines.
    pub(crate) fn start(&mut self) {
        for n in 0..self.nodes.len() {
            self.restart(n);
        }
    }

    pub(crate) fn restart(&mut self, n: usize) {
        self.nodes[n].clock.correct_wall();
        self.nodes[n].start(self.now, &mut self.generation);
        self.drain(n);
    }

    /// Gives a machine an address that nobody had before.
    pub(crate) fn new_address(&mut self, n: usize) -> SocketAddr {
        let number = u16::try_from(self.owners.len()).unwrap();
        let address = if self.rng.one_in(2) {
            SocketAddr::from(([192, 0, 2, u8::try_from(n).unwrap()], 1024 + number))
        } else {
            SocketAddr::from((
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::try_from(n).unwrap()],
                1024 + number,
            ))
        };
        self.owners.insert(address, n);
        address
    }

    pub(crate) fn schedule(&mut self, at: u64, happening: Happening) {
        self.queue
            .insert((at.max(self.now), self.queued), happening);
        self.queued += 1;
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Lets things happen up to and including a time.
    pub(crate) fn run_until(&mut self, end: u64) {
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) {
        let Some(((at, _), happening)) = self.queue.pop_first() else {
            return;
        };
        assert!(at >= self.now, "true time runs forwards");
        self.now = at;
        match happening {
            Happening::Arrive { from, to, datagram } => {
                let owner = self.owners.get(&to).copied();
                if let Some(n) = owner.filter(|n| self.nodes[*n].address == to) {
                    self.arrive(n, from, datagram);
                }
            }
            Happening::Wake(n) => {
                if self.nodes[n].wake_at.is_some_and(|at| at <= self.now) {
                    self.nodes[n].wake_at = None;
                    self.wake(n);
                }
            }
            Happening::Poll { node, every, until } => {
                self.poll(node);
                if self.now + every <= until {
                    self.schedule(self.now + every, Happening::Poll { node, every, until });
                }
            }
            Happening::Collect(n) => self.collect(n),
            Happening::Finish(n, job) => self.finish(n, job),
            Happening::Flow(flow) => self.flow(flow),
            Happening::Fault(fault) => self.fault(&fault),
        }
    }

    /// Has a node woken when it wants to be, or somewhat later.
    pub(crate) fn schedule_wake(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(due) = node.wanted_wake() else {
            node.wake_at = None;
            return;
        };
        if node.wake_at.is_some_and(|at| at <= due) {
            return;
        }
        let mut at = due.max(self.now);
        if node.mode.lateness > 0 && !self.is_healed {
            at += self.rng.below(node.mode.lateness);
        }
        node.wake_at = Some(at);
        self.schedule(at, Happening::Wake(n));
    }

    /// Puts a datagram on the path to wherever its address leads.
    pub(crate) fn send(&mut self, n: usize, to: SocketAddr, datagram: &[u8]) {
        self.sends += 1;
        self.note("sends", n, datagram);
        let from = self.nodes[n].address;
        if self.is_recorded {
            self.wire.push(Record {
                at: self.now,
                node: n,
                to,
                datagram: datagram.to_vec(),
            });
        }
        self.attacker.see(from, to, datagram);
        let Some(link) = self
            .owners
            .get(&to)
            .and_then(|other| self.links.get_mut(&(n, *other)))
        else {
            return;
        };
        for (at, datagram) in link.carry(&mut self.rng, self.now, datagram) {
            self.schedule(at, Happening::Arrive { from, to, datagram });
        }
    }

    /// Counts something that is worth having happened.
    pub(crate) fn sight(&mut self, what: impl core::fmt::Debug, n: usize) {
        let mut what = format!("{what:?}");
        what.retain(|c| !"\"(),".contains(c));
        self.note(&what, n, &[]);
        *self.sights.entry(what).or_default() += 1;
    }

    /// Writes a line into the transcript.
    pub(crate) fn note(&mut self, what: &str, n: usize, bytes: &[u8]) {
        let mut hash = mix(self.transcript ^ self.now ^ mix(n as u64));
        for chunk in what.as_bytes().chunks(8).chain(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mix(hash ^ u64::from_le_bytes(word));
        }
        self.transcript = hash;
        if self.is_traced {
            eprintln!(
                "{:6}.{:06} node {n} {what} {:02x?} ({} bytes)",
                self.now / SEC,
                self.now % SEC / 1000,
                bytes.get(..16).unwrap_or(bytes),
                bytes.len()
            );
        }
    }

    /// No two live sessions or handshakes of a node have the same index.
    pub(crate) fn check_indices(&mut self, n: usize) {
        let mut seen = BTreeSet::new();
        for index in self.nodes[n]
            .models
            .iter()
            .flat_map(|model| model.indices().collect::<Vec<_>>())
        {
            assert!(seen.insert(index), "index {index:#x} has two owners");
        }
    }

    /// The faults end: paths are clean, clocks run, and whatever was late is done now.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        for link in self.links.values_mut() {
            *link = Link::clean(link.latency.min(100 * MS));
        }
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            node.clock.frozen = None;
            node.clock.wall_frozen = None;
            node.mode.loses_jobs = 0;
            node.mode.has_bad_clock = false;
            node.loaded_until = node.loaded_until.max(self.now + 5 * SEC);
            node.device.set_load(quietwire::Load::Auto);
            node.wake_at = None;
            self.wake(n);
        }
    }
}
