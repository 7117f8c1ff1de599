//! A hub with very many peers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use core::time::Duration;
use quietwire::{
    Cidr, Env, Event, Instant, Interface, PeerConfig, PeerId, PrivateKey, Received, Staging,
    Transmit, Tunnel,
};

use super::SEC;
use super::inner::{self, Label};
use super::rng::Rng;

/// How many peers the hub has.
fn peers() -> u32 {
    let default = if cfg!(debug_assertions) { 1000 } else { 10_000 };
    std::env::var("QW_SIM_PEERS").map_or(default, |text| text.parse().unwrap())
}

/// How long they talk.
const TIME: u64 = 300 * SEC;
/// A leaf sends this often; the hub answers half of it.
const INTERVAL: u64 = 20 * SEC;
/// One way.
const LATENCY: u64 = SEC / 100;
/// The leaves start within this time, as the many peers of a real hub do.
const START: u64 = 120 * SEC;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    ToHub(u32, Vec<u8>),
    ToLeaf(u32, Vec<u8>),
    WakeHub,
    WakeLeaf(u32),
    Send(u32),
}

#[derive(Debug)]
struct Leaf {
    tunnel: Tunnel,
    staged: Vec<Vec<u8>>,
    /// When it sent its initiations.
    initiations: Vec<u64>,
    sent: u64,
    received: u64,
}

#[derive(Debug)]
struct Star {
    now: u64,
    rng: Rng,
    hub: Interface,
    leaves: Vec<Leaf>,
    ids: Vec<PeerId>,
    queue: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    queued: u64,
    hub_wakes_at: Option<u64>,
    staging: Staging<PeerId, Vec<u8>>,
    at_hub: u64,
    from_hub: u64,
    hub_wakes: u64,
}

fn hub_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51820))
}

fn leaf_address(leaf: u32) -> SocketAddr {
    SocketAddr::from(((0x0b00_0000 + leaf).to_be_bytes(), 51820))
}

/// The hub's number in the labels of packets.
const HUB: u32 = 0x00f0_0000;

impl Star {
    fn new(leaves: u32) -> Self {
        let mut rng = Rng::new(7);
        let now = Instant::from_nanos(0);
        let key = PrivateKey::from_bytes(rng.bytes());
        let mut star = Self {
            now: 0,
            hub: Interface::new(Some(&key), now),
            leaves: Vec::new(),
            ids: Vec::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            hub_wakes_at: None,
            staging: Staging::new(),
            at_hub: 0,
            from_hub: 0,
            hub_wakes: 0,
            rng,
        };
        for leaf in 0..leaves {
            star.add_leaf(leaf, &key);
        }
        star
    }

    fn add_leaf(&mut self, leaf: u32, hub: &PrivateKey) {
        let now = Instant::from_nanos(0);
        let key = PrivateKey::from_bytes(self.rng.bytes());
        let ips = [inner::v4(leaf), inner::v6(leaf)].map(Cidr::from);
        let config = PeerConfig::new(key.public_key()).allowed_ips(&ips);
        self.ids.push(self.hub.add_peer(now, &config).unwrap());
        let config = PeerConfig::new(hub.public_key()).endpoint(hub_address());
        self.leaves.push(Leaf {
            tunnel: Tunnel::new(&key, &config, now).unwrap(),
            staged: Vec::new(),
            initiations: Vec::new(),
            sent: 0,
            received: 0,
        });
        let start = self.rng.below(START);
        self.schedule(start, Happening::Send(leaf));
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.queue
            .push(Reverse((at.max(self.now), self.queued, happening)));
        self.queued += 1;
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, happening))) = self.queue.pop() {
            if at > TIME {
                return;
            }
            self.now = at;
            let now = Instant::from_nanos(at);
            match happening {
                Happening::Send(leaf) => self.leaf_sends(leaf),
                Happening::WakeLeaf(leaf) => {
                    self.leaves[leaf as usize].tunnel.handle_timeout(now);
                    self.drain_leaf(leaf);
                }
                Happening::ToLeaf(leaf, mut datagram) => {
                    let side = &mut self.leaves[leaf as usize];
                    let got = side.tunnel.receive(now, hub_address(), &mut datagram);
                    if let Received::Packet(packet) = got.expect("the hub's datagrams are good") {
                        assert_eq!(inner::read(packet).unwrap().to, leaf);
                        side.received += 1;
                    }
                    self.drain_leaf(leaf);
                }
                Happening::ToHub(leaf, datagram) => self.hub_receives(leaf, datagram),
                Happening::WakeHub if self.hub_wakes_at.is_none_or(|due| due > at) => {}
                Happening::WakeHub => {
                    self.hub_wakes_at = None;
                    self.hub_wakes += 1;
                    self.hub.handle_timeout(now);
                    self.drain_hub();
                }
            }
        }
    }

    fn leaf_sends(&mut self, leaf: u32) {
        let now = Instant::from_nanos(self.now);
        let side = &mut self.leaves[leaf as usize];
        let serial = side.sent;
        side.sent += 1;
        let packet = inner::build(
            Label {
                from: leaf,
                to: HUB,
                serial,
            },
            inner::MIN,
        );
        let mut room = [0; inner::MIN + 47];
        match side.tunnel.seal_into(now, &packet, &mut room) {
            Ok(sealed) => {
                let datagram = sealed.datagram.to_vec();
                self.schedule(self.now + LATENCY, Happening::ToHub(leaf, datagram));
            }
            Err(_) => side.staged.push(packet),
        }
        self.drain_leaf(leaf);
        if self.now + INTERVAL < TIME - SEC {
            self.schedule(self.now + INTERVAL, Happening::Send(leaf));
        }
    }

    fn drain_leaf(&mut self, leaf: u32) {
        let now = Instant::from_nanos(self.now);
        let wall = Duration::from_secs(1_700_000_000) + Duration::from_nanos(self.now);
        let side = &mut self.leaves[leaf as usize];
        let mut out = Vec::new();
        while let Some(event) = side.tunnel.poll_event() {
            if event == Event::Established {
                for packet in side.staged.drain(..) {
                    let mut room = [0; inner::MIN + 47];
                    out.push(
                        side.tunnel
                            .seal_into(now, &packet, &mut room)
                            .unwrap()
                            .datagram
                            .to_vec(),
                    );
                }
            }
        }
        while let Some(Transmit { message, .. }) = side
            .tunnel
            .poll_transmit(now, &mut Env::new(&mut self.rng, wall))
        {
            if message.as_bytes()[0] == 1 {
                side.initiations.push(self.now);
            }
            out.push(message.as_bytes().to_vec());
        }
        let wake = side.tunnel.poll_timeout().map(Instant::as_nanos);
        for datagram in out {
            self.schedule(self.now + LATENCY, Happening::ToHub(leaf, datagram));
        }
        if let Some(at) = wake {
            self.schedule(at, Happening::WakeLeaf(leaf));
        }
    }

    fn hub_receives(&mut self, leaf: u32, mut datagram: Vec<u8>) {
        let now = Instant::from_nanos(self.now);
        let got = self.hub.receive(now, leaf_address(leaf), &mut datagram);
        let (id, got) = got.expect("the leaves' datagrams are good");
        assert_eq!(id, self.ids[leaf as usize]);
        let mut answer = None;
        if let Received::Packet(packet) = got {
            let label = inner::read(packet).unwrap();
            assert_eq!((label.from, label.to), (leaf, HUB));
            self.at_hub += 1;
            answer = label.serial.is_multiple_of(2).then_some(label.serial);
        }
        if let Some(serial) = answer {
            let label = Label {
                from: HUB,
                to: leaf,
                serial,
            };
            self.hub_sends(inner::build(label, inner::MIN));
        }
        self.drain_hub();
    }

    fn hub_sends(&mut self, packet: Vec<u8>) {
        let now = Instant::from_nanos(self.now);
        let leaf = inner::read(&packet).unwrap().to;
        let mut room = [0; inner::MIN + 47];
        match self.hub.seal_into(now, &packet, &mut room) {
            Ok(sealed) => {
                assert_eq!(sealed.to, leaf_address(leaf));
                let datagram = sealed.datagram.to_vec();
                self.from_hub += 1;
                self.schedule(self.now + LATENCY, Happening::ToLeaf(leaf, datagram));
            }
            Err(_) => {
                self.staging.push(self.ids[leaf as usize], packet);
            }
        }
    }

    fn drain_hub(&mut self) {
        let now = Instant::from_nanos(self.now);
        let wall = Duration::from_secs(1_700_000_000) + Duration::from_nanos(self.now);
        while let Some((id, event)) = self.hub.poll_event() {
            if event == Event::Established {
                let staged: Vec<_> = self.staging.take(id).collect();
                for packet in staged {
                    self.hub_sends(packet);
                }
            }
        }
        while let Some(Transmit { to, message, .. }) = self
            .hub
            .poll_transmit(now, &mut Env::new(&mut self.rng, wall))
        {
            let SocketAddr::V4(v4) = to else {
                panic!("{to}")
            };
            let leaf = v4.ip().to_bits() - 0x0b00_0000;
            self.schedule(
                self.now + LATENCY,
                Happening::ToLeaf(leaf, message.as_bytes().to_vec()),
            );
        }
        let due = self.hub.poll_timeout().map(Instant::as_nanos);
        if let Some(due) = due.filter(|due| self.hub_wakes_at.is_none_or(|at| *due < at)) {
            self.hub_wakes_at = Some(due);
            self.schedule(due, Happening::WakeHub);
        }
    }
}

/// Each of very many peers is rekeyed 120 s after its handshake, by its first packet after that, as
/// if it were the only one; nothing is lost, and nobody is under load.
#[test]
fn many_peers_keep_their_schedule() {
    let started = std::time::Instant::now();
    let mut star = Star::new(peers());
    let built = started.elapsed();
    star.run();
    let mut handshakes = 0;
    for leaf in &star.leaves {
        assert!(!leaf.initiations.is_empty());
        for pair in leaf.initiations.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(
                (120 * SEC..120 * SEC + INTERVAL).contains(&gap),
                "{gap} ns between two handshakes"
            );
        }
        let last = leaf.initiations.last().unwrap();
        assert!(
            TIME - last <= 120 * SEC + INTERVAL,
            "not renewed since {last}"
        );
        handshakes += leaf.initiations.len();
    }
    let sent: u64 = star.leaves.iter().map(|leaf| leaf.sent).sum();
    let received: u64 = star.leaves.iter().map(|leaf| leaf.received).sum();
    assert_eq!(star.at_hub, sent);
    assert!(
        star.from_hub - received < 2 + star.from_hub / 1000,
        "only what is on its way is missing"
    );
    println!(
        "{} peers, {handshakes} handshakes, {} packets, {} wakes of the hub: built in {built:?}, {} s simulated in {:?}",
        star.leaves.len(),
        sent + received,
        star.hub_wakes,
        TIME / SEC,
        started.elapsed().saturating_sub(built),
    );
}
