//! A node of the simulated network: an `Interface` or a `Tunnel`, by the same verbs.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use quietwire::{
    Cidr, Control, Env, HandshakeJob, HandshakeStep, Instant, Interface, Load, OpenJob, Outgoing,
    PeerConfig, PeerId, PresharedKey, PrivateKey, Received, Rejected, SealError, SealJob, Tunnel,
};

use super::super::input::{Input, Rng};

/// Who talks to whom. Node 2 is a tunnel and the others are interfaces.
pub const LINKS: [(usize, usize); 4] = [(0, 1), (1, 0), (0, 2), (2, 0)];

/// What became of a datagram: an inner packet, something else that was accepted, or a refusal.
pub type Verdict = Result<Option<Vec<u8>>, Rejected>;

type Sent = (SocketAddr, Vec<u8>);

pub struct Node {
    number: usize,
    kind: Kind,
    rng: Rng,
    pub unix_time: Duration,
    /// The node's peers by number, as far as they are configured.
    peers: Vec<(usize, Option<PeerId>)>,
    opening: Vec<OpenJob<Vec<u8>>>,
    handshakes: Vec<HandshakeJob>,
    has_other_key: bool,
    now: u64,
}

#[allow(clippy::large_enum_variant, reason = "there are three of them")]
enum Kind {
    Many(Interface),
    One(Box<Tunnel>),
}

/// Calls the same method of an interface's peer or of a tunnel.
macro_rules! at_peer {
    ($node:expr, $peer:expr, $method:ident($($arg:expr),*)) => {
        match &mut $node.kind {
            Kind::One(tunnel) => { tunnel.$method($($arg),*); }
            Kind::Many(interface) => {
                let (_, id) = $node.peers[$peer % $node.peers.len()];
                if let Some(mut peer) = id.and_then(|id| interface.peer_mut(id)) {
                    peer.$method($($arg),*);
                }
            }
        }
    };
}

/// Calls the same method of an interface or a tunnel.
macro_rules! at_node {
    ($node:expr, $method:ident($($arg:expr),*)) => {
        match &mut $node.kind {
            Kind::One(tunnel) => tunnel.$method($($arg),*),
            Kind::Many(interface) => interface.$method($($arg),*),
        }
    };
}

pub fn inner(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(node).unwrap())
}

/// Each node is reached at any of its ports.
pub fn address(node: usize, port: usize) -> SocketAddr {
    let port = 51820 + u16::try_from(port).unwrap();
    SocketAddr::from(([192, 0, 2, u8::try_from(node).unwrap()], port))
}

/// The node that has an address.
pub fn at(address: SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    Some(usize::from(ip.octets()[3])).filter(|node| *node < 3)
}

/// The packet with room around it.
pub fn padded(packet: &[u8]) -> Vec<u8> {
    [&[0; 16][..], packet, &[0; 31]].concat()
}

fn key(node: usize) -> PrivateKey {
    PrivateKey::from_bytes([u8::try_from(node).unwrap() + 1; 32])
}

fn instant(now: u64) -> Instant {
    Instant::from_nanos(now)
}

impl Node {
    pub fn new(number: usize) -> Self {
        let start = instant(0);
        let peers: Vec<_> = LINKS
            .iter()
            .filter(|link| link.0 == number)
            .map(|link| (link.1, None))
            .collect();
        let kind = if number == 2 {
            let allowed = [Cidr::from(IpAddr::V4(inner(0)))];
            let config = config(0).allowed_ips(&allowed);
            Kind::One(Box::new(Tunnel::new(&key(2), &config, start).unwrap()))
        } else {
            Kind::Many(Interface::new(Some(&key(number)), start))
        };
        let rng = Rng(u64::try_from(number).unwrap());
        let unix_time = Duration::from_secs(1_700_000_000);
        let (opening, handshakes) = (Vec::new(), Vec::new());
        let mut node = Self {
            number,
            kind,
            rng,
            unix_time,
            peers,
            opening,
            handshakes,
            has_other_key: false,
            now: 0,
        };
        for peer in 0..node.peers.len() {
            node.restore(peer, 0);
        }
        node
    }

    /// The node's own time: the latest that it was told.
    fn advance(&mut self, now: u64) -> Instant {
        self.now = self.now.max(now);
        instant(now)
    }

    pub fn handle_timeout(&mut self, now: u64) {
        let now = self.advance(now);
        at_node!(self, handle_timeout(now));
        let next = self.poll_timeout();
        assert!(
            next.is_none_or(|at| at > self.now),
            "{next:?} is not after {}",
            self.now
        );
    }

    pub fn poll_timeout(&self) -> Option<u64> {
        let next = match &self.kind {
            Kind::One(tunnel) => tunnel.poll_timeout(),
            Kind::Many(interface) => interface.poll_timeout(),
        };
        next.map(Instant::as_nanos)
    }

    fn poll_event(&mut self) -> bool {
        match &mut self.kind {
            Kind::One(tunnel) => tunnel.poll_event().is_some(),
            Kind::Many(interface) => interface.poll_event().is_some(),
        }
    }

    /// All events and messages that the node owes.
    pub fn drain(&mut self, now: u64) -> Vec<Sent> {
        let now = self.advance(now);
        let mut events = 0;
        while self.poll_event() {
            events += 1;
            assert!(events <= 10, "two peers have five events each at most");
        }
        let mut sent = Vec::new();
        loop {
            let mut env = Env::new(&mut self.rng, self.unix_time);
            let Some(transmit) = at_node!(self, poll_transmit(now, &mut env)) else {
                return sent;
            };
            sent.push((transmit.to, transmit.message.as_bytes().to_vec()));
            assert!(sent.len() <= 256 + 6, "polling does not end");
        }
    }

    pub fn seal(&mut self, now: u64, packet: &[u8], room: usize) -> Result<Sent, SealError> {
        let now = self.advance(now);
        let mut buffer = vec![0xa5; packet.len() + room];
        if let Err(error) = at_node!(self, seal_into(now, packet, &mut buffer)).map(|_| ()) {
            assert!(
                buffer.iter().all(|byte| *byte == 0xa5),
                "written on an error"
            );
            return Err(error);
        }
        let mut buffer = padded(packet);
        let sealed = at_node!(self, seal(now, &mut buffer, 16..16 + packet.len()))?;
        Ok((sealed.to, sealed.datagram.to_vec()))
    }

    pub fn begin_seal(
        &mut self,
        now: u64,
        outgoing: Outgoing<'static, Vec<u8>>,
    ) -> Result<SealJob<'static, Vec<u8>>, SealError> {
        let now = self.advance(now);
        at_node!(self, begin_seal(now, outgoing)).map_err(|failure| failure.error)
    }

    pub fn seal_batch(&mut self, now: u64, packets: &[Vec<u8>]) -> Vec<Sent> {
        let now = self.advance(now);
        let mut sealed = Vec::new();
        let outgoing = packets
            .iter()
            .map(|packet| Outgoing::apart(packet, vec![0; packet.len() + 47]));
        match &mut self.kind {
            Kind::Many(interface) => interface.seal_batch(now, outgoing, &mut sealed),
            Kind::One(tunnel) => {
                sealed.extend(outgoing.map(|outgoing| tunnel.begin_seal(now, outgoing)));
                SealJob::run_all(sealed.iter_mut().flatten());
            }
        }
        assert_eq!(sealed.len(), packets.len());
        let sent = |mut job: SealJob<'_, Vec<u8>>| (job.to(), job.datagram().to_vec());
        sealed.into_iter().flatten().map(sent).collect()
    }

    pub fn receive(&mut self, now: u64, from: SocketAddr, mut datagram: Vec<u8>) -> Verdict {
        let now = self.advance(now);
        let received = match &mut self.kind {
            Kind::One(tunnel) => tunnel.receive(now, from, &mut datagram)?,
            Kind::Many(interface) => interface.receive(now, from, &mut datagram)?.1,
        };
        Ok(match received {
            Received::Packet(inner) => Some(inner.to_vec()),
            _ => None,
        })
    }

    pub fn receive_batch(&mut self, now: u64, flights: Vec<Sent>) -> Vec<Verdict> {
        let count = flights.len();
        let Kind::Many(interface) = &mut self.kind else {
            let receive = |(from, datagram)| self.receive(now, from, datagram);
            return flights.into_iter().map(receive).collect();
        };
        let mut received = Vec::new();
        interface.receive_batch(instant(now), flights, &mut received);
        self.now = self.now.max(now);
        assert_eq!(received.len(), count);
        let verdict = |result: Result<quietwire::Opened<Vec<u8>>, quietwire::Refused<_>>| {
            let mut opened = result.map_err(|refused| refused.reason)?;
            let is_packet = !opened.is_keepalive() && opened.as_control().is_none();
            Ok(is_packet.then(|| opened.packet().to_vec()))
        };
        received.into_iter().map(verdict).collect()
    }

    /// Begins to open a datagram, to go on at another time.
    pub fn begin(&mut self, now: u64, from: SocketAddr, datagram: Vec<u8>) {
        let now = self.advance(now);
        if datagram.first() == Some(&4) {
            if let Ok(job) = at_node!(self, begin_open(now, from, datagram)) {
                self.opening.push(job);
            }
        } else if let Ok(step) = at_node!(self, begin_handshake(now, from, &datagram)) {
            self.step(step);
        }
    }

    pub fn finish_open(&mut self, now: u64, input: &mut Input<'_>) -> Option<Verdict> {
        let now = self.advance(now);
        if self.opening.is_empty() {
            return None;
        }
        if input.flag() {
            OpenJob::run_all(&mut self.opening);
        }
        let job = self.opening.swap_remove(input.below(self.opening.len()));
        let opened = at_node!(self, finish_open(now, job));
        let verdict = opened.map_err(|refused| refused.reason);
        Some(verdict.map(|mut opened| (!opened.is_keepalive()).then(|| opened.packet().to_vec())))
    }

    pub fn poll_handshake(&mut self, now: u64) {
        let now = self.advance(now);
        let mut env = Env::new(&mut self.rng, self.unix_time);
        self.handshakes
            .extend(at_node!(self, poll_handshake(now, &mut env)));
    }

    /// Goes on with a handshake job, or loses it.
    pub fn finish_handshake(&mut self, now: u64, input: &mut Input<'_>) -> Option<Sent> {
        let now = self.advance(now);
        if self.handshakes.is_empty() {
            return None;
        }
        let n = input.below(self.handshakes.len());
        let job = self.handshakes.swap_remove(n);
        if input.below(4) == 3 {
            return None;
        }
        let step = at_node!(self, finish_handshake(now, job)).ok()?;
        self.step(step)
    }

    fn step(&mut self, step: HandshakeStep) -> Option<Sent> {
        match step {
            HandshakeStep::Run(job) => self.handshakes.push(job),
            HandshakeStep::Transmit(transmit) => {
                return Some((transmit.to, transmit.message.as_bytes().to_vec()));
            }
            HandshakeStep::Received(
                _,
                Control::Initiation | Control::Response | Control::Cookie,
            ) => {}
            _ => {}
        }
        None
    }

    pub fn initiate(&mut self, peer: usize, now: u64) {
        let now = self.advance(now);
        at_peer!(self, peer, initiate(now));
    }

    /// Every getter.
    pub fn look(&self, now: u64) {
        let now = instant(now);
        match &self.kind {
            Kind::One(tunnel) => {
                let _ = (
                    tunnel.is_established(now),
                    tunnel.endpoint(),
                    tunnel.peer_public_key(),
                );
                assert!(tunnel.stats().rx_dropped <= tunnel.drops().total());
                assert!(!format!("{tunnel:?}").is_empty());
            }
            Kind::Many(interface) => {
                assert_eq!(interface.peers().count(), interface.peer_count());
                let _ = (interface.is_under_load(now), interface.public_key());
                for peer in interface.peers() {
                    assert_eq!(interface.find(&peer.public_key()), Some(peer.id()));
                    assert!(peer.stats().rx_dropped <= interface.drops().total());
                    let _ = (
                        peer.is_established(now),
                        peer.mtu(),
                        peer.has_preshared_key(),
                    );
                    for cidr in peer.allowed_ips() {
                        assert_eq!(interface.route(cidr.address()), Some(peer.id()));
                    }
                }
            }
        }
    }
}

/// Configuration.
impl Node {
    pub fn set_private_key(&mut self, other: Option<u8>) {
        self.has_other_key = true;
        let other = other.map(|byte| PrivateKey::from_bytes([byte | 0x80; 32]));
        match &mut self.kind {
            Kind::One(tunnel) => {
                tunnel
                    .set_private_key(&other.unwrap_or_else(|| key(2)))
                    .unwrap();
            }
            Kind::Many(interface) => interface.set_private_key(other.as_ref()).unwrap(),
        }
    }

    pub fn set_load(&mut self, load: Load) {
        at_node!(self, set_load(load));
    }

    pub fn on_resume(&mut self, now: u64) {
        let now = self.advance(now);
        at_node!(self, on_resume(now));
    }

    pub fn erase(&mut self, peer: usize, now: u64) {
        let now = self.advance(now);
        at_peer!(self, peer, erase(now));
    }

    pub fn set_preshared_key(&mut self, peer: usize, psk: &PresharedKey) {
        at_peer!(self, peer, set_preshared_key(psk));
    }

    pub fn set_endpoint(&mut self, peer: usize, endpoint: SocketAddr) {
        at_peer!(self, peer, set_endpoint(endpoint));
    }

    pub fn set_persistent_keepalive(&mut self, peer: usize, now: u64, secs: u16) {
        let now = self.advance(now);
        at_peer!(self, peer, set_persistent_keepalive(now, secs));
    }

    pub fn set_mtu(&mut self, peer: usize, mtu: u16) {
        at_peer!(self, peer, set_mtu(mtu));
    }

    pub fn forget_timestamp(&mut self, peer: usize) {
        at_peer!(self, peer, forget_timestamp());
    }

    /// Routes the peer's address to it, or nothing.
    pub fn set_allowed_ips(&mut self, peer: usize, allowed: bool) {
        let (number, id) = self.peers[peer % self.peers.len()];
        let cidr = allowed.then(|| Cidr::from(IpAddr::V4(inner(number))));
        match &mut self.kind {
            Kind::One(tunnel) => tunnel.set_allowed_ips(cidr.as_slice()).unwrap(),
            Kind::Many(interface) => {
                if let Some(mut peer) = id.and_then(|id| interface.peer_mut(id)) {
                    peer.replace_allowed_ips(cidr);
                }
            }
        }
    }

    pub fn remove_peer(&mut self, peer: usize) {
        let place = peer % self.peers.len();
        if let (Kind::Many(interface), Some(id)) = (&mut self.kind, self.peers[place].1.take()) {
            assert!(interface.remove_peer(id));
            assert!(interface.peer(id).is_none() && interface.peer_mut(id).is_none());
        }
    }

    pub fn replace_peer(&mut self, peer: usize, now: u64) {
        self.remove_peer(peer);
        self.restore(peer, now);
    }

    /// Adds a peer that was removed.
    pub fn restore(&mut self, peer: usize, now: u64) {
        let now = self.advance(now);
        let place = peer % self.peers.len();
        if let (Kind::Many(interface), (number, None)) = (&mut self.kind, self.peers[place]) {
            let allowed = [Cidr::from(IpAddr::V4(inner(number)))];
            let id = interface
                .add_peer(now, &config(number).allowed_ips(&allowed))
                .unwrap();
            self.peers[place].1 = Some(id);
        }
    }

    /// Configures everything as at first, and loses the jobs under way.
    pub fn mend(&mut self, now: u64) {
        self.opening.clear();
        self.handshakes.clear();
        if self.has_other_key {
            let key = key(self.number);
            match &mut self.kind {
                Kind::One(tunnel) => tunnel.set_private_key(&key).unwrap(),
                Kind::Many(interface) => interface.set_private_key(Some(&key)).unwrap(),
            }
        }
        self.unix_time = Duration::from_secs(1_700_000_000);
        for peer in 0..self.peers.len() {
            self.restore(peer, now);
            self.set_allowed_ips(peer, true);
            self.forget_timestamp(peer);
            self.set_mtu(peer, 1420);
            self.set_persistent_keepalive(peer, now, 0);
            self.set_preshared_key(peer, &PresharedKey::NONE);
            self.set_endpoint(peer, address(self.peers[peer].0, 0));
        }
    }
}

fn config(number: usize) -> PeerConfig<'static> {
    PeerConfig::new(key(number).public_key()).endpoint(address(number, 0))
}
