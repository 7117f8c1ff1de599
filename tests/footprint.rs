//! Memory and allocations, counted by an allocator of this test's own.
//!
//! What is checked: bytes for each peer, idle and with sessions; that adding peers is linear; and
//! that the data path, keepalives and refusals allocate nothing. In a debug build the numbers of
//! peers are smaller; `QUIETWIRE_PEERS` sets the number of peers with sessions (release: 10,000,
//! each of which costs a handshake or two).

mod counting;

use core::mem;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use counting::{allocations, held};
use quietwire::rand_core::UnwrapErr;
use quietwire::{
    Cidr, Env, Instant, Interface, Load, Opened, Outgoing, PeerConfig, PrivateKey, PublicKey,
    Received, Refused, Rejected, SealFailure, SealJob, Transmit, Tunnel,
};

const ZERO: Instant = Instant::from_nanos(0);

/// Where a peer is.
fn address(peer: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0xc612_0000 + peer)), 51820)
}

/// The inner address of a peer, as a prefix.
fn host(peer: u32) -> Cidr {
    let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + peer));
    Cidr::new(address, 32).expect("32 is a length")
}

/// Adds peers that have an endpoint, a prefix and a persistent keepalive, so every table has an
/// entry for each of them. Their keys belong to nobody.
fn add_idle(interface: &mut Interface, count: u32) {
    for peer in 0..count {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&peer.wrapping_mul(0x9e37_79b9).to_le_bytes());
        let prefixes = [host(peer)];
        let config = PeerConfig::new(PublicKey::from_bytes(key))
            .endpoint(address(peer))
            .persistent_keepalive(25)
            .allowed_ips(&prefixes);
        interface.add_peer(ZERO, &config).expect("a new peer");
    }
}

fn interface() -> Interface {
    Interface::new(Some(&PrivateKey::from_bytes([1; 32])), ZERO)
}

const MANY: u32 = if cfg!(debug_assertions) {
    10_000
} else {
    100_000
};

/// All tables with it, an idle peer takes at most 1 KiB.
#[test]
fn an_idle_peer_takes_at_most_1_kib() {
    let before = held();
    let mut interface = interface();
    add_idle(&mut interface, MANY);
    let each = (held() - before) / i64::from(MANY);
    drop(interface);
    assert_eq!(held(), before, "all of it is given back");
    println!("{each} bytes for each of {MANY} idle peers");
    assert!(each <= 1024, "{each} bytes");
}

/// As many peers take about as long to add to one interface as to ten, and 100,000 less than 20 s.
///
/// If each peer cost more the more there are, one interface would take ten times as long. The
/// system tells time on the processor in steps of 10 ms, which the constant makes up for.
#[test]
fn adding_peers_is_linear() {
    let time = |interfaces, count| {
        let start = Clock::start();
        for _ in 0..interfaces {
            let mut interface = interface();
            add_idle(&mut interface, count);
        }
        start.elapsed()
    };
    // The shortest of three: other work on the machine only ever adds.
    let best = |n, count| (0..3).map(|_| time(n, count)).min().expect("three");
    let (ten, one) = (best(10, MANY / 10), best(1, MANY));
    println!("{MANY} peers in ten interfaces: {ten:?}, in one: {one:?}");
    assert!(one < Duration::from_secs(20), "{one:?}");
    assert!(
        one < 5 * ten + Duration::from_millis(50),
        "{ten:?} and {one:?}"
    );
}

/// Time on the processor where the system tells it, so that a busy machine does not matter much;
/// else time on the wall.
struct Clock {
    wall: std::time::Instant,
    processor: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: std::time::Instant::now(),
            processor: Self::processor(),
        }
    }

    fn elapsed(&self) -> Duration {
        match (self.processor, Self::processor()) {
            (Some(start), Some(now)) => Duration::from_nanos(now - start),
            _ => self.wall.elapsed(),
        }
    }

    /// Nanoseconds that this thread has run on Linux.
    fn processor() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse().ok()
    }
}

/// A peer with a current and a previous session takes at most 4 KiB, all tables included.
#[test]
fn a_peer_with_two_sessions_takes_at_most_4_kib() {
    let default = if cfg!(debug_assertions) { 100 } else { 10_000 };
    let given = std::env::var("QUIETWIRE_PEERS").ok();
    let count: u32 = given.map_or(default, |given| given.parse().expect("a number of peers"));
    let before = held();
    let mut hub = Hub::new();
    for peer in 0..count {
        hub.add(peer);
    }
    let idle = (held() - before) / i64::from(count);
    for handshake in 1..=2 {
        hub.now = Instant::from_millis(handshake * 6000);
        for peer in 0..count {
            hub.shake_hands(peer);
        }
    }
    let each = (held() - before) / i64::from(count);
    println!("{count} peers: {idle} bytes each when idle, {each} with two sessions");
    assert!(each <= 4096, "{each} bytes");
    let windows = 2 * 1024;
    assert!(each > idle + windows, "less than two replay windows");
}

/// An interface that others begin handshakes with.
struct Hub {
    interface: Interface,
    own: PublicKey,
    now: Instant,
}

impl Hub {
    fn new() -> Self {
        let key = PrivateKey::from_bytes([1; 32]);
        let mut interface = Interface::new(Some(&key), ZERO);
        interface.set_load(Load::Normal);
        Self {
            interface,
            own: key.public_key(),
            now: ZERO,
        }
    }

    fn add(&mut self, peer: u32) {
        let prefixes = [host(peer)];
        let config = PeerConfig::new(private(peer).public_key())
            .endpoint(address(peer))
            .allowed_ips(&prefixes);
        self.interface
            .add_peer(self.now, &config)
            .expect("a new peer");
    }

    /// A whole handshake that a peer begins.
    fn shake_hands(&mut self, peer: u32) -> Tunnel {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let unix_time = Duration::from_secs(1_700_000_000) + (self.now - ZERO);
        let mut env = Env::new(&mut rng, unix_time);
        let config = PeerConfig::new(self.own).endpoint(address(0));
        let mut far = Tunnel::new(&private(peer), &config, self.now).expect("somebody else");
        far.initiate(self.now);
        let initiation = far
            .poll_transmit(self.now, &mut env)
            .expect("an initiation");
        self.deliver(peer, &initiation);
        let response = self.interface.poll_transmit(self.now, &mut env);
        far.receive(
            self.now,
            address(0),
            &mut bytes(&response.expect("a response")),
        )
        .expect("it is genuine");
        let confirmation = far.poll_transmit(self.now, &mut env).expect("a keepalive");
        self.deliver(peer, &confirmation);
        while self.interface.poll_event().is_some() {}
        far
    }

    fn deliver(&mut self, peer: u32, transmit: &Transmit) {
        self.interface
            .receive(self.now, address(peer), &mut bytes(transmit))
            .expect("it is genuine");
    }
}

/// The private key of a peer.
fn private(peer: u32) -> PrivateKey {
    let mut key = [0x42; 32];
    // Not at the front, where three bits do not count.
    key[4..8].copy_from_slice(&peer.to_le_bytes());
    PrivateKey::from_bytes(key)
}

fn bytes(transmit: &Transmit) -> Vec<u8> {
    transmit.message.as_bytes().to_vec()
}

/// A packet of 64 bytes from or to the inner address of peer 0.
fn packet() -> Vec<u8> {
    let mut packet = vec![0x5a; 64];
    packet[..20].copy_from_slice(&[
        0x45, 0, 0, 64, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 0, 10, 0, 0, 0,
    ]);
    packet
}

/// Room around a packet that is sealed in place.
const HEAD: usize = 16;
const TAIL: usize = 31;

/// Sealing and receiving, single and in batches whose lists are used again, never allocate.
#[test]
fn the_data_path_allocates_nothing() {
    let mut hub = Hub::new();
    hub.add(0);
    let mut far = hub.shake_hands(0);
    let now = hub.now;
    let roomy = [&[0; HEAD][..], &packet(), &[0; TAIL]].concat();

    let mut buffer = roomy.clone();
    let mut sealed = vec![0; 128];
    let mut length = 0;
    let single = allocations(|| {
        for _ in 0..100 {
            buffer.copy_from_slice(&roomy);
            let datagram = hub.interface.seal(now, &mut buffer, HEAD..HEAD + 64);
            let datagram = datagram.expect("a session").datagram;
            far.receive(now, address(0), datagram).expect("genuine");
            let datagram = far.seal_into(now, &roomy[HEAD..HEAD + 64], &mut sealed);
            let datagram = datagram.expect("a session").datagram;
            length += datagram.len();
            let received = hub.interface.receive(now, address(0), datagram);
            assert!(matches!(received, Ok((_, Received::Packet(_)))));
        }
    });
    assert_eq!((single, length), (0, 9600), "single calls");

    let mut lists = Lists::default();
    let mut buffers = vec![roomy; 16];
    let first = lists.exchange(&mut hub, &mut far, &mut buffers);
    assert!(first > 0, "the lists have to grow once");
    for _ in 0..10 {
        let again = lists.exchange(&mut hub, &mut far, &mut buffers);
        assert_eq!(again, 0, "batches");
    }
}

type Sealed = Result<SealJob<'static, Vec<u8>>, SealFailure<'static, Vec<u8>>>;
type Open = Result<Opened<Vec<u8>>, Refused<Vec<u8>>>;

/// The lists that batches fill, with buffers that the caller owns.
#[derive(Default)]
struct Lists {
    sealed: Vec<Sealed>,
    opened: Vec<Open>,
}

impl Lists {
    /// Seals a batch at the hub, then one at the far end that the hub receives; the allocations of
    /// the hub's calls.
    fn exchange(&mut self, hub: &mut Hub, far: &mut Tunnel, buffers: &mut [Vec<u8>]) -> u64 {
        let now = hub.now;
        let mut datagrams: Vec<_> = buffers.iter().map(|_| vec![0; 96]).collect();
        for datagram in &mut datagrams {
            far.seal_into(now, &packet(), datagram).expect("a session");
        }
        for buffer in &mut *buffers {
            buffer[HEAD..HEAD + 64].copy_from_slice(&packet());
        }
        let Self { sealed, opened } = self;
        let expected = packet();
        allocations(|| {
            let outgoing = buffers
                .iter_mut()
                .map(|buffer| Outgoing::in_place(mem::take(buffer), HEAD..HEAD + 64));
            hub.interface.seal_batch(now, outgoing, sealed);
            for (buffer, job) in buffers.iter_mut().zip(sealed.drain(..)) {
                *buffer = job.expect("a session").into_parts().0;
            }
            let arriving = datagrams
                .iter_mut()
                .map(|datagram| (address(0), mem::take(datagram)));
            hub.interface.receive_batch(now, arriving, opened);
            for (datagram, result) in datagrams.iter_mut().zip(opened.drain(..)) {
                let mut result = result.expect("genuine");
                assert_eq!(result.packet(), expected);
                *datagram = result.into_parts().0;
            }
        })
    }
}

/// A flood of handshake messages for other keys, or garbage, costs no memory; nor do keepalives.
#[test]
fn refusals_and_keepalives_allocate_nothing() {
    let mut hub = Hub::new();
    hub.add(0);
    let mut far = hub.shake_hands(0);
    let mut datagram = vec![0; 96];
    far.seal_into(hub.now, &packet(), &mut datagram)
        .expect("a session");
    hub.interface
        .receive(hub.now, address(0), &mut datagram)
        .expect("genuine");

    let mut forged = vec![1; 148];
    forged[1..4].fill(0);
    let mut unknown = vec![4; 96];
    unknown[1..4].fill(0);
    let refused = allocations(|| {
        for _ in 0..100 {
            for (datagram, reason) in [
                (&mut forged, Rejected::WrongMac1),
                (&mut datagram, Rejected::Forged),
                (&mut unknown, Rejected::UnknownReceiver),
            ] {
                let received = hub.interface.receive(hub.now, address(9), datagram);
                assert_eq!(received, Err(reason));
            }
        }
    });
    assert_eq!(refused, 0, "refusals");

    // What was received is answered after ten seconds, by a keepalive if by nothing else.
    let mut rng = UnwrapErr(getrandom::SysRng);
    let later = hub.now + Duration::from_secs(10);
    let keepalive = allocations(|| {
        hub.interface.handle_timeout(later);
        let mut env = Env::new(&mut rng, Duration::ZERO);
        let keepalive = hub.interface.poll_transmit(later, &mut env);
        assert_eq!(keepalive.expect("owed").message.as_bytes().len(), 32);
        assert!(hub.interface.poll_transmit(later, &mut env).is_none());
    });
    assert_eq!(keepalive, 0, "a keepalive");
}

/// A tunnel to one peer never allocates, whatever it does.
#[test]
fn a_tunnel_never_allocates() {
    let mut hub = Hub::new();
    hub.add(0);
    let own = hub.own;
    let mut rng = UnwrapErr(getrandom::SysRng);
    let (now, mut out) = (hub.now, [0; 128]);
    let mut tunnel = None;
    let mut initiation = None;
    let made = allocations(|| {
        let config = PeerConfig::new(own).endpoint(address(0));
        let made = tunnel.insert(Tunnel::new(&private(0), &config, now).expect("somebody else"));
        let mut env = Env::new(&mut rng, Duration::from_secs(1_700_000_000));
        made.seal_into(now, &[0x45; 20], &mut out)
            .expect_err("no session yet");
        initiation = made.poll_transmit(now, &mut env);
    });
    hub.deliver(0, &initiation.expect("an initiation"));
    let mut env = Env::new(&mut rng, Duration::from_secs(1_700_000_000));
    let response = hub.interface.poll_transmit(now, &mut env);
    let mut response = bytes(&response.expect("a response"));
    let tunnel = tunnel.as_mut().expect("made above");
    let used = allocations(|| {
        tunnel
            .receive(now, address(0), &mut response)
            .expect("genuine");
        while tunnel.poll_event().is_some() {}
        assert!(tunnel.poll_transmit(now, &mut env).is_some());
        tunnel
            .seal_into(now, &[0x45; 20], &mut out)
            .expect("a session");
        for second in 1..1000 {
            let now = now + Duration::from_secs(second);
            tunnel.handle_timeout(now);
            while tunnel.poll_transmit(now, &mut env).is_some() {}
        }
    });
    assert_eq!((made, used), (0, 0));
}
