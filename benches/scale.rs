//! What 100,000 peers cost.
//!
//! Adding them; a turn of the loop in which nothing is due; a 64-byte packet to or from a random one of
//! them, all with a session, against the same with a single peer. Each handshake is a real one,
//! which takes most of the time; `QUIETWIRE_PEERS` sets another number.
//!
//!     cargo bench --bench scale

mod support;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use quietwire::rand_core::UnwrapErr;
use quietwire::{
    Cidr, Env, Instant, Interface, Load, PeerConfig, PeerId, PrivateKey, PublicKey, Tunnel,
};
use support::{HEAD, TAIL, ipv4};

/// Datagrams that each peer has ready for us.
const READY: usize = 2;

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let given = std::env::var("QUIETWIRE_PEERS").ok();
    let default = if is_bench { 100_000 } else { 50 };
    let count = given.map_or(default, |given| given.parse().expect("a number"));
    adding(count / 10);
    adding(count);
    let mut single = World::new(1);
    let mut many = World::new(count);
    single.idle();
    many.idle();
    compare(&mut single, &mut many);
}

/// Keys that are not worth a multiplication each: only adding is timed.
fn adding(count: u32) {
    let mut interface = Interface::<SocketAddr>::new(Some(&PrivateKey::from_bytes([1; 32])), ZERO);
    let start = Clock::now();
    for peer in 0..count {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&peer.wrapping_mul(0x9e37_79b9).to_le_bytes());
        let config = PeerConfig::new(PublicKey::from_bytes(key)).endpoint(address(peer));
        let prefixes = [host(peer)];
        interface
            .add_peer(
                ZERO,
                &config.allowed_ips(&prefixes).persistent_keepalive(25),
            )
            .unwrap();
    }
    let each = start.elapsed() / count.max(1);
    println!("adding {count} peers: {:?}, {each:?} each", start.elapsed());
}

const ZERO: Instant = Instant::from_nanos(0);

/// An interface whose peers all have a session, and datagrams from each of them.
struct World {
    interface: Interface,
    peers: Vec<PeerId>,
    now: Instant,
    /// In random order.
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    random: u64,
}

impl World {
    fn new(count: u32) -> Self {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let own = PrivateKey::generate(&mut rng);
        let mut world = Self {
            interface: Interface::new(Some(&own), ZERO),
            peers: Vec::new(),
            now: ZERO,
            datagrams: Vec::new(),
            random: 1,
        };
        world.interface.set_load(Load::Normal);
        let start = Clock::now();
        for peer in 0..count {
            world.add(peer, own.public_key());
        }
        println!("{count} peers with a session each: {:?}", start.elapsed());
        for at in 0..world.datagrams.len() {
            let other = world.below(world.datagrams.len());
            world.datagrams.swap(at, other);
        }
        world
    }

    /// Adds a peer that begins a handshake, and lets it send packets.
    fn add(&mut self, peer: u32, own: PublicKey) {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let key = PrivateKey::generate(&mut rng);
        let prefixes = [host(peer)];
        let config = PeerConfig::new(key.public_key())
            .endpoint(address(peer))
            .allowed_ips(&prefixes);
        self.peers
            .push(self.interface.add_peer(self.now, &config).unwrap());
        let config = PeerConfig::new(own).endpoint(address(0));
        let mut far = Tunnel::new(&key, &config, self.now).unwrap();
        far.initiate(self.now);
        self.now = self.now + Duration::from_millis(1);
        let mut env = Env::new(&mut rng, Duration::from_secs(1_700_000_000));
        let initiation = far.poll_transmit(self.now, &mut env).unwrap();
        let mut datagram = initiation.message.as_bytes().to_vec();
        self.interface
            .receive(self.now, address(peer), &mut datagram)
            .unwrap();
        let response = self.interface.poll_transmit(self.now, &mut env).unwrap();
        let mut datagram = response.message.as_bytes().to_vec();
        far.receive(self.now, address(0), &mut datagram).unwrap();
        let confirmation = far.poll_transmit(self.now, &mut env).unwrap();
        let mut datagram = confirmation.message.as_bytes().to_vec();
        self.interface
            .receive(self.now, address(peer), &mut datagram)
            .unwrap();
        while self.interface.poll_event().is_some() {}
        let ready = if self.peers.len() == 1 {
            READY.max(4096)
        } else {
            READY
        };
        for _ in 0..ready {
            let mut out = vec![0; 96];
            far.seal_into(self.now, &packet(peer, false), &mut out)
                .unwrap();
            self.datagrams.push((address(peer), out));
        }
    }

    /// Nothing is due: the time of `handle_timeout` and `poll_timeout` together.
    fn idle(&mut self) {
        const TURNS: u32 = 100_000;
        let start = Clock::now();
        for turn in 0..TURNS {
            // A clock that moves, though not as far as the next deadline.
            let now = self.now + Duration::from_nanos(u64::from(turn));
            self.interface.handle_timeout(now);
            black_box(self.interface.poll_timeout());
        }
        let each = start.elapsed() / TURNS;
        println!("{} peers, nothing due: {each:?} a turn", self.peers.len());
    }

    /// Seals `count` packets to random peers.
    fn seal(&mut self, count: usize) -> Duration {
        let mut packets: Vec<_> = (0..count)
            .map(|_| {
                let peer = u32::try_from(self.below(self.peers.len())).unwrap();
                [&[0; HEAD][..], &packet(peer, true), &[0; TAIL]].concat()
            })
            .collect();
        let start = Clock::now();
        for packet in &mut packets {
            let end = packet.len() - TAIL;
            black_box(self.interface.seal(self.now, packet, HEAD..end).unwrap());
        }
        start.elapsed()
    }

    /// Receives `count` packets from random peers.
    fn receive(&mut self, count: usize) -> Duration {
        let mut datagrams = self.datagrams.split_off(self.datagrams.len() - count);
        let start = Clock::now();
        for (source, datagram) in &mut datagrams {
            black_box(self.interface.receive(self.now, *source, datagram).unwrap());
        }
        start.elapsed()
    }

    /// A number below `limit`, for choosing peers.
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % limit as u64).unwrap()
    }
}

/// Takes turns with 64 packets each and prints medians.
fn compare(single: &mut World, many: &mut World) {
    const TURN: u8 = 64;
    for (name, work) in [
        ("seal", World::seal as fn(&mut World, usize) -> Duration),
        ("receive", World::receive),
    ] {
        let turns = single.datagrams.len().min(many.datagrams.len()) / usize::from(TURN);
        let [mut one, mut all] = [Vec::new(), Vec::new()];
        for _ in 0..turns {
            one.push(work(single, TURN.into()));
            all.push(work(many, TURN.into()));
        }
        if turns == 0 {
            continue;
        }
        let [one, all] = [one, all].map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e9 / f64::from(TURN)
        });
        println!(
            "{name} 64 bytes: single peer {one:.0} ns, random one of {} {all:.0} ns, ratio {:.2}",
            many.peers.len(),
            all / one
        );
    }
}

/// Where a peer is.
fn address(peer: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + peer)), 51820)
}

/// The inner address of a peer: 10.0.0.0 and what follows.
fn inner(peer: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + peer)
}

fn host(peer: u32) -> Cidr {
    Cidr::new(IpAddr::V4(inner(peer)), 32).unwrap()
}

/// A packet of 64 bytes to a peer or from it.
fn packet(peer: u32, to: bool) -> Vec<u8> {
    let mut packet = ipv4(64);
    let at = if to { 16 } else { 12 };
    packet[at..at + 4].copy_from_slice(&inner(peer).octets());
    packet
}
