//! The nodes, the paths between them and the queue of things to come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use core::time::Duration;
use quietwire::{
    Control, Env, Event, Instant, Interface, Outgoing, PeerId, PrivateKey, PublicKey, Received,
    Rejected, SealError, Staging,
};

use super::packet::{self, Label, Packet};
use super::pair::{
    COMPUTING, JITTER, Link, Pair, REJECT_AFTER, REKEY_AFTER, RETRY, Session, Track,
};
use super::rng::Rng;
use super::tally::{Call, Meter, Tally};
use super::{MS, SEC, Scale};

/// Parts of a million of all datagrams that arrive twice.
const REPEAT: u32 = 1000;
/// Parts of a million of all exchanges that come with a packet under a forged source.
const LIES: u32 = 500;

/// One thing to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Deliver(u32),
    Wake(u16),
    Exchange(u32),
    /// A node answers the request of another.
    Answer(u16, u16),
    Trouble(super::troubles::What),
    Look,
}

/// A node of the mesh.
#[derive(Debug)]
pub(crate) struct Node {
    /// There is none while the node is down.
    pub(crate) device: Option<Interface>,
    pub(crate) key: PrivateKey,
    pub(crate) announced: Option<PrivateKey>,
    /// How often its address has changed.
    pub(crate) moves: u32,
    pub(crate) is_away: bool,
    /// Which side of the partition it is on.
    pub(crate) side: bool,
    wakes_at: Option<u64>,
    /// Whose peer a slot of the interface is.
    pub(crate) owners: Vec<u16>,
    pub(crate) staging: Staging<PeerId, Packet>,
    /// How wrong its wall clock is.
    pub(crate) clock: Duration,
    pub(crate) rng: Rng,
    /// The current second, and the handshake messages that came in it.
    second: (u64, u64),
}

impl Node {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            device: None,
            key: PrivateKey::from_bytes(rng.bytes()),
            announced: None,
            moves: 0,
            is_away: false,
            side: false,
            wakes_at: None,
            owners: Vec::new(),
            staging: Staging::new(),
            clock: Duration::from_secs(1_700_000_000 + rng.below(172_800)),
            rng: rng.fork(),
            second: (0, 0),
        }
    }

    /// Whose peer this is.
    pub(crate) fn owner(&self, id: PeerId) -> u16 {
        self.owners[slot(id)]
    }

    pub(crate) fn forget_wakes(&mut self) {
        self.wakes_at = None;
    }
}

pub(crate) fn slot(id: PeerId) -> usize {
    usize::try_from(id.to_bits() & 0xffff_ffff).unwrap()
}

/// What the directory has of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) key: PublicKey,
    pub(crate) next: Option<PublicKey>,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Parcel {
    bytes: [u8; 160],
    len: usize,
    sender: u16,
    from: u32,
    to: u32,
    /// A packet of an application is in it.
    is_data: bool,
    is_copy: bool,
}

/// Datagrams on their way, in memory that is used again.
#[derive(Debug, Default)]
struct Post {
    parcels: Vec<Parcel>,
    free: Vec<u32>,
}

impl Post {
    fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.parcels.push(Parcel {
                bytes: [0; 160],
                len: 0,
                sender: 0,
                from: 0,
                to: 0,
                is_data: false,
                is_copy: false,
            });
            u32::try_from(self.parcels.len() - 1).unwrap()
        })
    }
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scale: Scale,
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<(u64, u64, What)>>,
    queued: u64,
    post: Post,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) directory: Vec<Record>,
    pub(crate) is_partitioned: bool,
    pub(crate) tally: Tally,
    pub(crate) meter: Meter,
}

impl World {
    pub(crate) fn new(scale: Scale) -> Self {
        let mut rng = Rng::new(scale.seed);
        let count = scale.nodes;
        let nodes: Vec<_> = (0..count).map(|_| Node::new(&mut rng)).collect();
        let record = |node: &Node| Record {
            key: node.key.public_key(),
            next: None,
        };
        let ends = (0..count).flat_map(|b| (0..b).map(move |a| [a, b]));
        let pairs: Vec<_> = ends
            .map(|ends| Pair::random(&mut rng, ends, scale))
            .collect();
        let square = usize::from(count) * usize::from(count);
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            post: Post::default(),
            directory: nodes.iter().map(record).collect(),
            nodes,
            links: (0..square).map(|_| Link::default()).collect(),
            pairs,
            is_partitioned: false,
            tally: Tally::default(),
            meter: Meter::new(),
            rng,
            scale,
        };
        for pair in 0..u32::try_from(world.pairs.len()).unwrap() {
            let at = world.rng.below(world.pairs[pair as usize].interval);
            world.schedule(at, What::Exchange(pair));
        }
        world.draw_troubles();
        world.schedule(0, What::Look);
        world
    }

    pub(crate) fn schedule(&mut self, at: u64, what: What) {
        self.queue.push(Reverse((at, self.queued, what)));
        self.queued += 1;
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) {
        while let Some(Reverse((at, _, what))) = self.queue.pop() {
            if at > self.scale.time {
                self.queue.push(Reverse((at, 0, what)));
                return;
            }
            self.now = at;
            match what {
                What::Deliver(parcel) => self.deliver(parcel),
                What::Wake(node) => self.wake(node),
                What::Exchange(pair) => self.exchange(pair),
                What::Answer(from, to) => self.hand_over(from, to, false),
                What::Trouble(trouble) => self.trouble(trouble),
                What::Look => self.look(),
            }
        }
    }

    /// Packets that have been sent and not arrived.
    pub(crate) fn on_the_way(&self) -> u64 {
        let is_data = |parcel: &u32| self.post.parcels[*parcel as usize].is_data;
        let parcels = self.queue.iter().filter_map(|Reverse((_, _, what))| {
            let What::Deliver(parcel) = what else {
                return None;
            };
            is_data(parcel).then_some(())
        });
        parcels.count() as u64
    }

    pub(crate) fn link(&mut self, of: u16, to: u16) -> &mut Link {
        let at = usize::from(of) * usize::from(self.scale.nodes) + usize::from(to);
        &mut self.links[at]
    }

    pub(crate) fn pair_of(a: u16, b: u16) -> usize {
        let (low, high) = (usize::from(a.min(b)), usize::from(a.max(b)));
        high * (high - 1) / 2 + low
    }

    pub(crate) fn time(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn node(&mut self, node: u16) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    /// Where a node is, in the form in which parcels have it.
    fn address(&self, node: u16) -> u32 {
        0x0b00_0000 + (u32::from(node) << 8) + self.nodes[usize::from(node)].moves % 256
    }

    /// Where a node is.
    pub(crate) fn endpoint(&self, node: u16) -> SocketAddr {
        endpoint(self.address(node))
    }

    fn is_cut(&self, from: u16, to: u16) -> bool {
        let [one, other] = [from, to].map(|node| &self.nodes[usize::from(node)]);
        one.is_away || other.is_away || self.is_partitioned && one.side != other.side
    }
}

fn endpoint(address: u32) -> SocketAddr {
    SocketAddr::from((address.to_be_bytes(), 51820))
}

/// Whose address this is or was.
fn node_at(address: u32) -> u16 {
    u16::try_from((address >> 8) & 0xffff).unwrap()
}

/// Applications.
impl World {
    fn exchange(&mut self, at: u32) {
        let pair = &mut self.pairs[at as usize];
        let next = self.now + self.rng.range(pair.interval / 2, pair.interval);
        if pair.is_sleepy && pair.silent_since.is_none() && self.now >= pair.busy_until {
            if pair.busy_until != 0 {
                pair.silent_since = Some(self.now);
                let longest = (self.scale.time / 12).clamp(1800 * SEC, 7200 * SEC);
                let next = self.now + self.rng.range(180 * SEC, longest);
                self.schedule(next, What::Exchange(at));
                pair_sleeps(&mut self.pairs[at as usize], next);
                return;
            }
            pair.busy_until = self.now + self.rng.range(300 * SEC, 1800 * SEC);
        }
        pair.wake(self.now);
        let [mut from, mut to] = pair.ends;
        // Where one side only asks and nothing is sent by itself, a peer that has lost its session is
        // found out by silence alone.
        if !pair.is_sleepy && self.rng.one_in(2) {
            core::mem::swap(&mut from, &mut to);
        }
        if self.nodes[usize::from(from)].device.is_some() {
            self.tally.exchanges += 1;
            self.pairs[at as usize].asked(self.now);
            self.hand_over(from, to, true);
            if self.rng.ppm(LIES) && self.scale.nodes > 2 {
                self.lie(from, to);
            }
        }
        self.schedule(next, What::Exchange(at));
    }

    /// A node's application hands a packet over.
    fn hand_over(&mut self, from: u16, to: u16, is_request: bool) {
        if self.node(from).device.is_none() {
            return;
        }
        let at = self.now;
        let link = self.link(from, to);
        link.sent += 1;
        let label = Label {
            from,
            to,
            serial: link.sent,
            at,
            is_request,
        };
        let is_calm = self.pairs[Self::pair_of(from, to)].is_calm(at);
        self.tally.calm += u64::from(is_calm);
        let is_sealed = self.submit(from, &label);
        if is_calm && !is_sealed {
            let pair = &self.pairs[Self::pair_of(from, to)];
            self.tally.must(pair.is_sleepy, || {
                format!("a packet of a calm pair had to wait: {pair:?}")
            });
            self.tally.woken += 1;
        }
        self.drain(from);
    }

    /// Seals a packet or keeps it; whether it was sealed.
    fn submit(&mut self, from: u16, label: &Label) -> bool {
        self.tally.handed += 1;
        let packet = packet::build(label);
        match self.seal(from, &packet, None) {
            Ok(()) => {
                self.tally.sealed += 1;
                true
            }
            Err(SealError::NoSession) => {
                let node = self.node(from);
                let device = node.device.as_ref().unwrap();
                let id = device.route(packet::destination(label)).unwrap();
                let dropped = node.staging.push(id, packet);
                self.tally.staged += 1;
                self.tally.discarded += u64::from(dropped.is_some());
                false
            }
            Err(why) => panic!("{why}: {label:?}"),
        }
    }

    /// A packet whose inner source is a third node.
    fn lie(&mut self, from: u16, to: u16) {
        let is_simple = |link: &Link| link.next.is_none();
        let pair = Self::pair_of(from, to);
        if !self.pairs[pair].is_calm(self.now) || !is_simple(self.link(to, from)) {
            return;
        }
        let others = (0..self.scale.nodes).filter(|node| *node != from && *node != to);
        let other = others.max_by_key(|node| super::rng::mix(u64::from(*node) ^ self.now));
        let label = Label {
            from: other.unwrap(),
            to,
            serial: 0,
            at: self.now,
            is_request: true,
        };
        self.submit(from, &label);
        self.drain(from);
    }

    /// A packet has come out at a node.
    fn delivered(&mut self, node: u16, id: PeerId, label: Label) {
        let now = self.now;
        let from = self.node(node).owner(id);
        let is_his = (label.from, label.to) == (from, node);
        self.tally
            .must(is_his, || format!("{label:?} at {node} from {from}"));
        let link = self.link(node, from);
        link.track(id).data_received(now);
        let got = core::mem::replace(&mut link.got, label.serial);
        let is_new = label.serial > got;
        self.tally
            .must(is_new, || format!("twice, or out of order: {label:?}"));
        self.tally.delivered += 1;
        let pair = &mut self.pairs[Self::pair_of(node, from)];
        let taken = now - label.at;
        if pair.is_calm(label.at) {
            // There and back for the handshake, and then the packet.
            let most = if pair.is_sleepy {
                3 * pair.latency + 3 * COMPUTING
            } else {
                pair.latency
            };
            self.tally.must(taken <= most, || {
                format!("{taken} ns for {label:?}: {pair:?}")
            });
        }
        if label.is_request {
            let at = now + pair.service;
            self.schedule(at, What::Answer(node, from));
        } else {
            pair.answered(now, label.at, &mut self.tally);
        }
    }
}

fn pair_sleeps(pair: &mut Pair, until: u64) {
    pair.busy_until = until;
}

/// What goes out.
impl World {
    /// Seals a packet, to where its destination is routed or to the peer that is given, and sends it.
    fn seal(&mut self, from: u16, packet: &Packet, via: Option<PeerId>) -> Result<(), SealError> {
        let now = self.time();
        let at = self.post.take();
        let room = &mut self.post.parcels[at as usize].bytes;
        let device = self.nodes[usize::from(from)].device.as_mut().unwrap();
        let seal = || match via {
            None => {
                let sealed = device.seal_into(now, packet.as_ref(), room)?;
                Ok((sealed.peer, sealed.to, sealed.datagram.len()))
            }
            Some(id) => {
                let outgoing = Outgoing::apart(packet.as_ref(), &mut room[..]);
                let job = device.begin_seal_to(now, id, outgoing);
                let mut job = job.map_err(|failure| failure.error)?;
                job.run();
                Ok((job.peer(), job.to(), job.datagram().len()))
            }
        };
        let sealed = self.meter.call(seal, |_| Call::Seal);
        let (id, to, len) = match sealed {
            Ok(sealed) => sealed,
            Err(why) => {
                self.post.free.push(at);
                return Err(why);
            }
        };
        self.check_session(from, id, true);
        let parcel = &mut self.post.parcels[at as usize];
        (parcel.len, parcel.is_data) = (len, true);
        self.send(at, from, to, 0);
        Ok(())
    }

    /// A session has just sealed something.
    fn check_session(&mut self, of: u16, id: PeerId, is_data: bool) {
        let now = self.now;
        let to = self.node(of).owner(id);
        let track = self.link(of, to).track(id);
        let Some(session) = track.session else {
            self.tally
                .must(false, || format!("{of} seals for {to} without a session"));
            return;
        };
        let misses = track.misses_keepalive(now);
        let is_noticed = !is_data || track.data_sent(now);
        let age = now - session.born;
        let pair = &self.pairs[Self::pair_of(of, to)];
        self.tally.must(age < REJECT_AFTER, || {
            format!("a session of {age} ns sends: {pair:?}")
        });
        self.tally.must(is_noticed, || {
            format!("{of} has not noticed that {to} is silent: {pair:?}")
        });
        self.tally.oldest = self.tally.oldest.max(age);
        if pair.is_calm(now) && !pair.is_sleepy {
            self.tally.must(age <= pair.oldest(), || {
                format!("not renewed for {age} ns: {pair:?}")
            });
            self.tally
                .must(!misses, || format!("a keepalive is missing: {pair:?}"));
            self.tally.oldest_calm = self.tally.oldest_calm.max(age);
        }
    }

    /// Gives a datagram to the network.
    fn send(&mut self, at: u32, from: u16, to: SocketAddr, delay: u64) {
        let SocketAddr::V4(to) = to else {
            panic!("{to} is nobody's")
        };
        let (source, to) = (self.address(from), to.ip().to_bits());
        let parcel = &mut self.post.parcels[at as usize];
        (parcel.sender, parcel.from, parcel.to) = (from, source, to);
        parcel.is_copy = false;
        let is_data = parcel.is_data;
        self.tally.datagrams += 1;
        self.tally.bytes += parcel.len as u64 + 28;
        let pair = Self::pair_of(from, node_at(to));
        let is_lost = self.rng.ppm(self.scale.loss);
        if is_lost || self.is_cut(from, node_at(to)) {
            if is_lost {
                self.pairs[pair].lose(self.now);
            } else {
                self.pairs[pair].unsettle(self.now);
            }
            self.lose(at);
            return;
        }
        let arrival = self.now + delay + self.pairs[pair].latency;
        if self.rng.ppm(REPEAT) {
            let copy = self.post.take();
            self.post.parcels[copy as usize] = self.post.parcels[at as usize].clone();
            self.post.parcels[copy as usize].is_copy = true;
            self.tally.repeated += u64::from(is_data);
            let later = arrival + self.rng.below(50 * MS);
            self.schedule(arrival, What::Deliver(at));
            self.schedule(later, What::Deliver(copy));
        } else {
            self.schedule(arrival, What::Deliver(at));
        }
    }

    fn lose(&mut self, at: u32) {
        let parcel = &self.post.parcels[at as usize];
        self.tally.lost += u64::from(parcel.is_data);
        self.post.free.push(at);
    }

    /// Takes what a node has to say, in the order that the library asks for; whether there was
    /// anything.
    pub(crate) fn drain(&mut self, of: u16) -> bool {
        let now = self.time();
        let mut has_any = false;
        loop {
            let node = &mut self.nodes[usize::from(of)];
            let device = node.device.as_mut().unwrap();
            let event = self.meter.call(|| device.poll_event(), |_| Call::Poll);
            let Some((id, event)) = event else { break };
            has_any = true;
            self.heed(of, id, event);
        }
        loop {
            let node = &mut self.nodes[usize::from(of)];
            let device = node.device.as_mut().unwrap();
            let wall = node.clock + Duration::from_nanos(self.now);
            let mut env = Env::new(&mut node.rng, wall);
            let transmit = self.meter.call(
                || device.poll_transmit(now, &mut env),
                |sent| match sent.as_ref().map(|sent| sent.message.as_bytes()[0]) {
                    Some(1) => Call::WriteInitiation,
                    Some(2) => Call::WriteResponse,
                    Some(_) => Call::WriteKeepalive,
                    None => Call::Poll,
                },
            );
            let Some(transmit) = transmit else { break };
            has_any = true;
            self.control_sent(of, transmit.to, transmit.message.as_bytes());
        }
        let node = &mut self.nodes[usize::from(of)];
        let due = node.device.as_ref().unwrap().poll_timeout();
        if let Some(due) = due.map(Instant::as_nanos) {
            self.tally.must(due >= self.now, || {
                format!("a deadline of {of} in the past")
            });
            if node.wakes_at.is_none_or(|at| due < at) {
                node.wakes_at = Some(due);
                self.schedule(due, What::Wake(of));
            }
        }
        has_any
    }

    fn heed(&mut self, of: u16, id: PeerId, event: Event) {
        let (now, to) = (self.now, self.node(of).owner(id));
        let track = self.link(of, to).track(id);
        match event {
            Event::Established => {
                track.initiated = None;
                if track.confirmed != Some(now) {
                    track.session = track.waiting.take();
                }
                self.heard_of(of, id);
                let staged = self.node(of).staging.take(id);
                for packet in staged {
                    match self.seal(of, &packet, Some(id)) {
                        Ok(()) => self.tally.sealed_late += 1,
                        Err(_) => self.tally.discarded += 1,
                    }
                }
            }
            Event::HandshakeGivenUp => {
                track.initiated = None;
                self.tally.discarded += self.node(of).staging.discard(id) as u64;
            }
            Event::KeysErased => (track.session, track.waiting) = (None, None),
            _ => {}
        }
    }

    fn control_sent(&mut self, from: u16, to: SocketAddr, message: &[u8]) {
        let SocketAddr::V4(v4) = to else {
            panic!("{to} is nobody's")
        };
        let (now, peer) = (self.now, node_at(v4.ip().to_bits()));
        let index = |at: usize| u32::from_le_bytes(*message[at..].first_chunk().unwrap());
        match message[0] {
            1 => self.initiated(from, peer),
            2 => {
                self.tally.responses += 1;
                let remote = index(8);
                let track = self.link(from, peer).find(|track| track.offered == remote);
                track.sent(now);
                (track.initiated, track.silent_since) = (None, None);
                track.waiting = Some(Session {
                    born: now,
                    is_initiator: false,
                    remote,
                });
            }
            _ => {
                self.tally.keepalives += 1;
                let is_of = |track: &Track| track.session.is_some_and(|s| s.remote == index(4));
                let track = self.link(from, peer).find(is_of);
                let (id, is_due) = (track.id.unwrap(), track.keepalive_sent(now));
                self.check_session(from, id, false);
                let pair = &self.pairs[Self::pair_of(from, peer)];
                self.tally.must(is_due || !pair.is_calm(now), || {
                    format!("a keepalive that nothing asked for: {pair:?}")
                });
            }
        }
        let at = self.post.take();
        let parcel = &mut self.post.parcels[at as usize];
        parcel.bytes[..message.len()].copy_from_slice(message);
        (parcel.len, parcel.is_data) = (message.len(), false);
        let delay = if message[0] == 4 { 0 } else { COMPUTING };
        self.send(at, from, to, delay);
    }

    fn initiated(&mut self, from: u16, to: u16) {
        let now = self.now;
        self.tally.initiations += 1;
        let link = self.link(from, to);
        // To which of two keys the message is cannot be told.
        let has_twin = link.next.is_some();
        if let Some(next) = &mut link.next {
            next.silent_since = None;
        }
        let track = &mut link.main;
        track.sent(now);
        track.silent_since = None;
        let before = track.initiated.replace(now).filter(|_| !has_twin);
        let session = track.session;
        if let Some(before) = before {
            let gap = now - before;
            let is_repeated = (RETRY..=RETRY + JITTER).contains(&gap);
            self.tally
                .must(is_repeated, || format!("repeated after {gap} ns by {from}"));
        }
        let age = session.map(|session| now - session.born);
        let pair = &mut self.pairs[Self::pair_of(from, to)];
        let is_renewal = age.is_some_and(|age| age >= REKEY_AFTER) && pair.is_calm(now);
        let is_prompt = pair.service < COMPUTING;
        pair.initiated(
            now,
            is_renewal,
            &mut self.tally.rounds[usize::from(is_prompt)],
        );
        if !pair.is_calm(now) {
            return;
        }
        let Some(session) = session else {
            self.tally.must(pair.is_sleepy, || {
                format!("a calm pair has no session: {pair:?}")
            });
            return;
        };
        let age = now - session.born;
        let least = if session.is_initiator {
            REKEY_AFTER
        } else {
            REJECT_AFTER
        };
        let is_rightful = age >= least;
        let is_calm_one = session.born >= pair.calm_from;
        self.tally.must(is_rightful || !is_calm_one, || {
            format!("renewed at {age} ns: {session:?} {pair:?}")
        });
    }
}

/// What comes in.
impl World {
    fn deliver(&mut self, at: u32) {
        let Parcel {
            mut bytes,
            len,
            sender,
            from,
            to,
            is_data,
            is_copy,
        } = self.post.parcels[at as usize].clone();
        let node = node_at(to);
        let is_there = self.address(node) == to && self.node(node).device.is_some();
        if !is_there || self.is_cut(sender, node) {
            self.pairs[Self::pair_of(sender, node)].unsettle(self.now);
            self.lose(at);
            return;
        }
        self.post.free.push(at);
        let (kind, index) = (
            bytes[0],
            u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()),
        );
        if kind != 4 {
            self.count_second(node);
        }
        let now = self.time();
        let device = self.nodes[usize::from(node)].device.as_mut().unwrap();
        let received = self.meter.call(
            || device.receive(now, endpoint(from), &mut bytes[..len]),
            |result| match result {
                Ok((_, Received::Packet(_))) => Call::Open,
                Ok((_, Received::Keepalive)) => Call::OpenKeepalive,
                Ok((_, Received::Control(Control::Response))) => Call::ReadResponse,
                Ok(_) => Call::ReadInitiation,
                Err(_) => Call::Refuse,
            },
        );
        match received {
            Ok((id, Received::Packet(packet))) => {
                let label = packet::read(packet).expect("a packet that is not whole");
                self.delivered(node, id, label);
            }
            Ok((id, Received::Keepalive)) => self.received(node, id),
            Ok((id, Received::Control(control))) => self.shaken(node, id, control, index),
            Ok(other) => panic!("{other:?}"),
            Err(why) => self.refused(node, sender, why, is_data && !is_copy, is_data),
        }
        self.drain(node);
    }

    fn received(&mut self, node: u16, id: PeerId) {
        let (now, from) = (self.now, self.node(node).owner(id));
        self.link(node, from).track(id).received(now);
    }

    fn shaken(&mut self, node: u16, id: PeerId, control: Control, index: u32) {
        self.received(node, id);
        let (now, from) = (self.now, self.node(node).owner(id));
        let track = self.link(node, from).track(id);
        match control {
            Control::Initiation => {
                track.offered = index;
                let has_crossed = track.initiated.is_some_and(|at| now <= at + SEC);
                if has_crossed {
                    self.pairs[Self::pair_of(node, from)].cross();
                }
                self.heard_of(node, id);
            }
            Control::Response => {
                track.session = Some(Session {
                    born: now,
                    is_initiator: true,
                    remote: index,
                });
                track.waiting = None;
                track.initiated = None;
                track.confirmed = Some(now);
                track.sent(now);
                self.tally.handshakes += 1;
            }
            other => panic!("{other:?} though nobody is under load"),
        }
    }

    fn refused(&mut self, node: u16, sender: u16, why: Rejected, is_loss: bool, is_data: bool) {
        *self.tally.refused.entry(why).or_default() += 1;
        self.tally.refused_packets += u64::from(is_data);
        let now = self.now;
        if why == Rejected::ForeignSource {
            self.link(node, sender).main.data_received(now);
            return;
        }
        let pair = &mut self.pairs[Self::pair_of(node, sender)];
        if !is_loss || !pair.is_calm(now.saturating_sub(pair.latency)) {
            return;
        }
        if why == Rejected::UnknownReceiver && pair.is_crossing(now) {
            self.tally.lost_to_crossing += 1;
            pair.lose(now);
            return;
        }
        // An old session may end while a packet of a pair that was silent is on its way.
        let may_be = why == Rejected::SessionExpired && pair.is_sleepy;
        self.tally
            .must(may_be, || format!("{why} at {now}: {pair:?}"));
    }

    fn count_second(&mut self, node: u16) {
        let second = self.now / SEC;
        let counted = &mut self.node(node).second;
        if counted.0 != second {
            *counted = (second, 0);
        }
        counted.1 += 1;
        let most = counted.1;
        self.tally.busiest_second = self.tally.busiest_second.max(most);
    }

    fn wake(&mut self, of: u16) {
        let (at, now) = (self.now, self.time());
        let node = &mut self.nodes[usize::from(of)];
        if node.wakes_at != Some(at) {
            return;
        }
        node.wakes_at = None;
        let Some(device) = node.device.as_mut() else {
            return;
        };
        // The deadline may have been put off by a change of a peer.
        if let Some(due) = device.poll_timeout().filter(|due| *due > now) {
            node.wakes_at = Some(due.as_nanos());
            self.schedule(due.as_nanos(), What::Wake(of));
            return;
        }
        let is_due = device.poll_timeout() == Some(now);
        self.tally
            .must(is_due, || format!("{of} is woken late, or for nothing"));
        self.meter
            .call(|| device.handle_timeout(now), |()| Call::Timeout);
        self.tally.wakes += 1;
        let has_any = self.drain(of);
        self.tally.idle_wakes += u64::from(!has_any);
        let due = self.node(of).device.as_ref().unwrap().poll_timeout();
        // Else it would be woken again and again, at this very time.
        assert!(due.is_none_or(|due| due > now), "woken for the same twice");
    }
}
