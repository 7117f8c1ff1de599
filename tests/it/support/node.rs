//! One end of a tunnel: a `Tunnel`, or an `Interface` with one peer, behind the same methods.

use std::net::SocketAddr;

use quietwire::{
    Cidr, ConfigError, Drops, Env, Event, Instant, Interface, Load, PeerConfig, PeerId, PeerStats,
    PresharedKey, PrivateKey, PublicKey, Received, Rejected, SealError, Timings, Transmit, Tunnel,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Tunnel,
    Interface,
}

/// One end: a tunnel, or an interface with one peer.
pub(crate) enum Node {
    Tunnel(Box<Tunnel>),
    Interface(Box<Interface>, PeerId),
}

/// Calls the same method on either kind; of an interface, on its peer.
macro_rules! on_peer {
    ($node:expr, $peer:ident => $call:expr) => {
        match $node {
            Node::Tunnel($peer) => $call,
            Node::Interface(interface, id) => {
                let mut $peer = interface.peer_mut(*id).expect("the peer exists");
                $call
            }
        }
    };
}

impl Node {
    pub(crate) fn new(
        kind: NodeKind,
        own: &PrivateKey,
        peer: &PeerConfig<'_>,
        timings: Timings,
    ) -> Self {
        let start = Instant::from_nanos(0);
        scrub_stack();
        match kind {
            NodeKind::Tunnel => {
                let tunnel = Tunnel::with_timings(own, peer, timings, start).unwrap();
                Self::Tunnel(Box::new(tunnel))
            }
            NodeKind::Interface => {
                let mut interface = Interface::with_timings(Some(own), timings, start).unwrap();
                let id = interface.add_peer(start, peer).unwrap();
                Self::Interface(Box::new(interface), id)
            }
        }
    }

    pub(crate) fn seal(
        &mut self,
        now: Instant,
        packet: &[u8],
    ) -> Result<(SocketAddr, Vec<u8>), SealError> {
        let mut out = vec![0; packet.len() + 47];
        let sealed = match self {
            Self::Tunnel(tunnel) => tunnel.seal_into(now, packet, &mut out)?,
            Self::Interface(interface, _) => interface.seal_into(now, packet, &mut out)?,
        };
        Ok((sealed.to, sealed.datagram.to_vec()))
    }

    pub(crate) fn receive<'b>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &'b mut [u8],
    ) -> Result<Received<'b>, Rejected> {
        match self {
            Self::Tunnel(tunnel) => tunnel.receive(now, from, datagram),
            Self::Interface(interface, id) => {
                let (from, received) = interface.receive(now, from, datagram)?;
                assert_eq!(from, *id);
                Ok(received)
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Tunnel(tunnel) => tunnel.handle_timeout(now),
            Self::Interface(interface, _) => interface.handle_timeout(now),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Tunnel(tunnel) => tunnel.poll_timeout(),
            Self::Interface(interface, _) => interface.poll_timeout(),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        match self {
            Self::Tunnel(tunnel) => tunnel.poll_event(),
            Self::Interface(interface, id) => {
                let (of, event) = interface.poll_event()?;
                assert_eq!(of, *id);
                Some(event)
            }
        }
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant, env: &mut Env<'_>) -> Option<Transmit> {
        match self {
            Self::Tunnel(tunnel) => tunnel.poll_transmit(now, env),
            Self::Interface(interface, _) => interface.poll_transmit(now, env),
        }
    }

    pub(crate) fn initiate(&mut self, now: Instant) {
        on_peer!(self, peer => peer.initiate(now));
    }

    pub(crate) fn erase(&mut self, now: Instant) {
        on_peer!(self, peer => peer.erase(now));
    }

    pub(crate) fn forget_timestamp(&mut self) {
        on_peer!(self, peer => peer.forget_timestamp());
    }

    pub(crate) fn set_persistent_keepalive(&mut self, now: Instant, secs: u16) {
        on_peer!(self, peer => peer.set_persistent_keepalive(now, secs));
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: SocketAddr) {
        on_peer!(self, peer => peer.set_endpoint(endpoint));
    }

    pub(crate) fn set_preshared_key(&mut self, psk: &PresharedKey) {
        on_peer!(self, peer => peer.set_preshared_key(psk));
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        on_peer!(self, peer => peer.set_mtu(mtu));
    }

    pub(crate) fn set_private_key(&mut self, key: &PrivateKey) -> Result<(), ConfigError> {
        match self {
            Self::Tunnel(tunnel) => tunnel.set_private_key(key),
            Self::Interface(interface, _) => interface.set_private_key(Some(key)),
        }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        match self {
            Self::Tunnel(tunnel) => tunnel.public_key(),
            Self::Interface(interface, _) => interface.public_key().unwrap(),
        }
    }

    pub(crate) fn set_allowed_ips(&mut self, allowed_ips: &[Cidr]) {
        match self {
            Self::Tunnel(tunnel) => tunnel.set_allowed_ips(allowed_ips).unwrap(),
            Self::Interface(interface, id) => {
                let mut peer = interface.peer_mut(*id).unwrap();
                peer.replace_allowed_ips(allowed_ips.iter().copied());
            }
        }
    }

    pub(crate) fn set_load(&mut self, load: Load) {
        match self {
            Self::Tunnel(tunnel) => tunnel.set_load(load),
            Self::Interface(interface, _) => interface.set_load(load),
        }
    }

    pub(crate) fn on_resume(&mut self, now: Instant) {
        match self {
            Self::Tunnel(tunnel) => tunnel.on_resume(now),
            Self::Interface(interface, _) => interface.on_resume(now),
        }
    }

    pub(crate) fn is_established(&self, now: Instant) -> bool {
        match self {
            Self::Tunnel(tunnel) => tunnel.is_established(now),
            Self::Interface(interface, id) => interface.peer(*id).unwrap().is_established(now),
        }
    }

    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        match self {
            Self::Tunnel(tunnel) => tunnel.endpoint(),
            Self::Interface(interface, id) => interface.peer(*id).unwrap().endpoint(),
        }
    }

    pub(crate) fn stats(&self) -> PeerStats {
        match self {
            Self::Tunnel(tunnel) => tunnel.stats(),
            Self::Interface(interface, id) => interface.peer(*id).unwrap().stats(),
        }
    }

    pub(crate) fn drops(&self) -> &Drops {
        match self {
            Self::Tunnel(tunnel) => tunnel.drops(),
            Self::Interface(interface, _) => interface.drops(),
        }
    }
}

/// Overwrites what lies on the stack below the caller: keys of the test, which it need not erase.
#[inline(never)]
#[allow(
    clippy::large_stack_arrays,
    reason = "as much stack as a test can have used"
)]
fn scrub_stack() {
    std::hint::black_box(&mut [0_u8; 1 << 16]);
}
