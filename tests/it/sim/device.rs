//! A tunnel or an interface, behind the verbs that they share.
//!
//! Peers are numbered in the order of configuration; a tunnel's only peer is number 0.

use std::net::SocketAddr;

use quietwire::{
    Control, Env, Event, HandshakeJob, HandshakeStep, Instant, Interface, Load, OpenJob, Opened,
    Outgoing, PeerConfig, PeerId, PeerStats, PrivateKey, Received, Refused, Rejected, SealFailure,
    SealJob, Transmit, Tunnel,
};

/// The library's side of a node.
#[derive(Debug)]
pub(crate) enum Device {
    Tunnel(Box<Tunnel>),
    Interface(Box<Interface>, Vec<PeerId>),
}

/// What became of a packet that was to be sealed.
pub(crate) type SealResult<'p> = Result<SealJob<'p, Vec<u8>>, SealFailure<'p, Vec<u8>>>;

/// What came out of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Packet(Vec<u8>),
    Keepalive,
    Control(Control),
}

/// A peer as the public interface shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) is_established: bool,
    pub(crate) stats: PeerStats,
}

macro_rules! either {
    ($self:expr, $device:ident => $do:expr) => {
        match $self {
            Self::Tunnel($device) => $do,
            Self::Interface($device, _) => $do,
        }
    };
}

impl Device {
    pub(crate) fn tunnel(key: &PrivateKey, peer: &PeerConfig<'_>, now: Instant) -> Self {
        Self::Tunnel(Box::new(Tunnel::new(key, peer, now).unwrap()))
    }

    pub(crate) fn interface(key: &PrivateKey, now: Instant) -> Self {
        Self::Interface(Box::new(Interface::new(Some(key), now)), Vec::new())
    }

    pub(crate) fn add_peer(&mut self, now: Instant, config: &PeerConfig<'_>) {
        let Self::Interface(interface, ids) = self else {
            panic!("a tunnel has one peer")
        };
        ids.push(interface.add_peer(now, config).unwrap());
    }

    /// Removes a peer of an interface and adds it again, as configured.
    pub(crate) fn replace_peer(&mut self, now: Instant, peer: usize, config: &PeerConfig<'_>) {
        let Self::Interface(interface, ids) = self else {
            panic!("a tunnel has one peer")
        };
        assert!(interface.remove_peer(ids[peer]));
        assert!(!interface.remove_peer(ids[peer]));
        ids[peer] = interface.add_peer(now, config).unwrap();
    }

    fn number(&self, id: PeerId) -> usize {
        match self {
            Self::Tunnel(_) => 0,
            Self::Interface(_, ids) => ids
                .iter()
                .position(|known| *known == id)
                .unwrap_or(usize::MAX),
        }
    }

    pub(crate) fn peer_count(&self) -> usize {
        match self {
            Self::Tunnel(_) => 1,
            Self::Interface(_, ids) => ids.len(),
        }
    }

    pub(crate) fn receive(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(usize, Got), Rejected> {
        let got = |received: Received<'_>| match received {
            Received::Packet(packet) => Got::Packet(packet.to_vec()),
            Received::Keepalive => Got::Keepalive,
            Received::Control(control) => Got::Control(control),
            other => panic!("unknown {other:?}"),
        };
        match self {
            Self::Tunnel(tunnel) => Ok((0, got(tunnel.receive(now, from, datagram)?))),
            Self::Interface(interface, ids) => {
                let (id, received) = interface.receive(now, from, datagram)?;
                let number = ids.iter().position(|known| *known == id).unwrap();
                Ok((number, got(received)))
            }
        }
    }

    /// Many datagrams at once, where there is such a call.
    pub(crate) fn receive_batch(
        &mut self,
        now: Instant,
        datagrams: Vec<(SocketAddr, Vec<u8>)>,
    ) -> Vec<Result<(usize, Got), Rejected>> {
        let Self::Interface(interface, _) = self else {
            let each = datagrams.into_iter();
            return each
                .map(|(from, mut bytes)| self.receive(now, from, &mut bytes))
                .collect();
        };
        let mut results = Vec::new();
        interface.receive_batch(now, datagrams, &mut results);
        results
            .into_iter()
            .map(|result| self.sort(result))
            .collect()
    }

    fn sort(
        &self,
        result: Result<Opened<Vec<u8>>, Refused<Vec<u8>>>,
    ) -> Result<(usize, Got), Rejected> {
        let mut opened = result.map_err(|refused| refused.reason)?;
        let peer = self.number(opened.peer());
        let got = match opened.as_control() {
            Some(control) => Got::Control(control),
            None if opened.is_keepalive() => Got::Keepalive,
            None => Got::Packet(opened.packet().to_vec()),
        };
        Ok((peer, got))
    }

    pub(crate) fn begin_open(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: Vec<u8>,
    ) -> Result<OpenJob<Vec<u8>>, Rejected> {
        either!(self, device => device.begin_open(now, from, datagram))
            .map_err(|refused| refused.reason)
    }

    pub(crate) fn finish_open(
        &mut self,
        now: Instant,
        job: OpenJob<Vec<u8>>,
    ) -> Result<(usize, Got), Rejected> {
        let result = either!(self, device => device.finish_open(now, job));
        self.sort(result)
    }

    pub(crate) fn begin_handshake(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<HandshakeStep, Rejected> {
        either!(self, device => device.begin_handshake(now, from, datagram))
    }

    pub(crate) fn poll_handshake(
        &mut self,
        now: Instant,
        env: &mut Env<'_>,
    ) -> Option<HandshakeJob> {
        either!(self, device => device.poll_handshake(now, env))
    }

    pub(crate) fn finish_handshake(
        &mut self,
        now: Instant,
        job: HandshakeJob,
    ) -> Result<HandshakeStep, Rejected> {
        either!(self, device => device.finish_handshake(now, job))
    }

    /// The number of the peer of a step.
    pub(crate) fn number_of(&self, id: PeerId) -> usize {
        self.number(id)
    }

    pub(crate) fn begin_seal<'p>(
        &mut self,
        now: Instant,
        outgoing: Outgoing<'p, Vec<u8>>,
    ) -> SealResult<'p> {
        either!(self, device => device.begin_seal(now, outgoing))
    }

    /// Many packets at once, where there is such a call.
    pub(crate) fn seal_batch(
        &mut self,
        now: Instant,
        packets: Vec<Outgoing<'static, Vec<u8>>>,
    ) -> Vec<SealResult<'static>> {
        match self {
            Self::Tunnel(tunnel) => {
                let mut jobs: Vec<_> = packets
                    .into_iter()
                    .map(|packet| tunnel.begin_seal(now, packet))
                    .collect();
                SealJob::run_all(jobs.iter_mut().flatten());
                jobs
            }
            Self::Interface(interface, _) => {
                let mut sealed = Vec::new();
                interface.seal_batch(now, packets, &mut sealed);
                sealed
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        either!(self, device => device.handle_timeout(now));
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        either!(self, device => device.poll_timeout()).map(Instant::as_nanos)
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant, env: &mut Env<'_>) -> Option<Transmit> {
        either!(self, device => device.poll_transmit(now, env))
    }

    pub(crate) fn poll_event(&mut self) -> Option<(usize, Event)> {
        match self {
            Self::Tunnel(tunnel) => tunnel.poll_event().map(|event| (0, event)),
            Self::Interface(interface, _) => {
                let (id, event) = interface.poll_event()?;
                Some((self.number(id), event))
            }
        }
    }

    pub(crate) fn view(&self, now: Instant, peer: usize) -> View {
        match self {
            Self::Tunnel(tunnel) => View {
                endpoint: tunnel.endpoint(),
                is_established: tunnel.is_established(now),
                stats: tunnel.stats(),
            },
            Self::Interface(interface, ids) => {
                let peer = interface.peer(ids[peer]).unwrap();
                View {
                    endpoint: peer.endpoint(),
                    is_established: peer.is_established(now),
                    stats: peer.stats(),
                }
            }
        }
    }

    pub(crate) fn initiate(&mut self, now: Instant, peer: usize) {
        match self {
            Self::Tunnel(tunnel) => tunnel.initiate(now),
            Self::Interface(interface, ids) => interface.peer_mut(ids[peer]).unwrap().initiate(now),
        }
    }

    pub(crate) fn erase(&mut self, now: Instant, peer: usize) {
        match self {
            Self::Tunnel(tunnel) => tunnel.erase(now),
            Self::Interface(interface, ids) => interface.peer_mut(ids[peer]).unwrap().erase(now),
        }
    }

    pub(crate) fn set_persistent_keepalive(&mut self, now: Instant, peer: usize, secs: u16) {
        match self {
            Self::Tunnel(tunnel) => tunnel.set_persistent_keepalive(now, secs),
            Self::Interface(interface, ids) => {
                let mut peer = interface.peer_mut(ids[peer]).unwrap();
                peer.set_persistent_keepalive(now, secs);
            }
        }
    }

    pub(crate) fn set_load(&mut self, load: Load) {
        either!(self, device => device.set_load(load));
    }
}
