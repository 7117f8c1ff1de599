//! Looking at and changing one peer of an interface.

use core::net::SocketAddr;

use super::peers::{Many, StoredPeer};
use crate::cidr::Cidr;
use crate::crypto::secret::Secret;
use crate::engine::{Engine, Peers};
use crate::event::{Endpoint, PeerId};
use crate::key::{PresharedKey, PublicKey};
use crate::peer::PeerStats;
use crate::time::Instant;

/// A peer, to be looked at.
#[derive(Debug)]
pub struct PeerRef<'a, E: Endpoint = SocketAddr> {
    engine: &'a Engine<Many<E>>,
    peer: &'a StoredPeer<E>,
    id: PeerId,
}

impl<'a, E: Endpoint> PeerRef<'a, E> {
    pub(crate) fn new(engine: &'a Engine<Many<E>>, id: PeerId) -> Option<Self> {
        engine.peers.get(id).map(|peer| Self { engine, peer, id })
    }

    /// The peer's handle.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// The peer's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(*self.peer.public_key())
    }

    /// Whether a preshared key is set.
    #[must_use]
    pub fn has_preshared_key(&self) -> bool {
        self.peer.has_psk()
    }

    /// The preshared key, for tools that write the configuration back. All zeros when none is set.
    #[must_use]
    pub fn preshared_key(&self) -> PresharedKey {
        PresharedKey::from_bytes(*self.peer.psk().expose())
    }

    /// Where the peer is, as configured or learned.
    #[must_use]
    pub fn endpoint(&self) -> Option<E> {
        self.peer.endpoint()
    }

    /// The persistent keepalive in seconds; 0 is off.
    #[must_use]
    pub fn persistent_keepalive(&self) -> u16 {
        self.peer.persistent_keepalive()
    }

    /// The inner MTU in bytes; 0 does not bound the padding.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.peer.mtu()
    }

    /// The prefixes that are routed to the peer, in order.
    pub fn allowed_ips(&self) -> impl Iterator<Item = Cidr> + 'a {
        self.engine.peers.allowed_ips.of(self.id.slot)
    }

    /// Whether a packet could be sealed at `now`.
    #[must_use]
    pub fn is_established(&self, now: Instant) -> bool {
        self.peer
            .is_established(self.engine.now().max(now), &self.engine.timings)
    }

    /// Traffic with the peer.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        self.peer.stats()
    }
}

/// A peer, to be changed. Each method is one change with the effect that the kernel gives it.
#[derive(Debug)]
pub struct PeerMut<'a, E: Endpoint = SocketAddr> {
    engine: &'a mut Engine<Many<E>>,
    id: PeerId,
}

impl<'a, E: Endpoint> PeerMut<'a, E> {
    pub(crate) fn new(engine: &'a mut Engine<Many<E>>, id: PeerId) -> Option<Self> {
        engine.peers.get(id)?;
        Some(Self { engine, id })
    }

    /// The peer's handle.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Sets the preshared key of the next handshake (white paper, section 5.2). The running session
    /// lives on.
    pub fn set_preshared_key(&mut self, psk: &PresharedKey) {
        self.change(|peer| peer.set_psk(Secret::new(*psk.expose())));
    }

    /// Sets where the peer is reached, until it roams.
    pub fn set_endpoint(&mut self, endpoint: E) {
        self.change(|peer| peer.set_endpoint(endpoint));
    }

    /// Sets the persistent keepalive in seconds; 0 is off. Switching it on sends one at once.
    pub fn set_persistent_keepalive(&mut self, now: Instant, secs: u16) {
        let now = self.engine.advance(now);
        let timings = self.engine.timings;
        self.change(|peer| peer.set_persistent_keepalive(now, secs, &timings));
    }

    /// Sets the inner MTU in bytes, which bounds the padding; 0 is no bound.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.change(|peer| peer.set_mtu(mtu));
    }

    /// Routes a prefix to the peer, taking it from another peer if that has it (white paper,
    /// section 2). Cost: O(prefix length + log n).
    pub fn add_allowed_ip(&mut self, cidr: Cidr) {
        self.engine.peers.allow(self.id, cidr);
    }

    /// Routes a prefix to the peer no more; whether it was.
    pub fn remove_allowed_ip(&mut self, cidr: Cidr) -> bool {
        self.engine.peers.allowed_ips.remove(cidr, self.id.slot)
    }

    /// Routes exactly these prefixes to the peer.
    pub fn replace_allowed_ips(&mut self, allowed_ips: impl IntoIterator<Item = Cidr>) {
        self.engine.peers.allowed_ips.remove_all(self.id.slot);
        for cidr in allowed_ips {
            self.engine.peers.allow(self.id, cidr);
        }
    }

    /// Asks for a handshake (white paper, section 5.4.2), unless a handshake message was sent within
    /// the last 5 s.
    pub fn initiate(&mut self, now: Instant) {
        let now = self.engine.advance(now);
        let timings = self.engine.timings;
        self.change(|peer| peer.request_initiation(now, &timings));
    }

    /// Erases all session keys and handshakes under way.
    pub fn erase(&mut self, now: Instant) {
        let now = self.engine.advance(now);
        self.change(|peer| peer.erase(now));
    }

    /// Accepts any timestamp in the peer's next initiation (white paper, section 5.1), for a peer
    /// whose clock was once wrong. Until the next initiation an old one could be replayed.
    pub fn forget_timestamp(&mut self) {
        self.change(StoredPeer::forget_timestamp);
    }

    fn change(&mut self, f: impl FnOnce(&mut StoredPeer<E>)) {
        self.engine.change(self.id, f);
    }
}
