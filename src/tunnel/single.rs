//! The one peer of a tunnel.

use core::net::{IpAddr, SocketAddr};

use crate::admission::Bucket;
use crate::cidr::Cidr;
use crate::crypto::secret::Secret;
use crate::engine::{OwedCookie, Peers};
use crate::error::ConfigError;
use crate::event::{Endpoint, Env, PeerId};
use crate::peer::{Owed, Peer, PeerConfig};
use crate::session::Inline;
use crate::time::Instant;

pub(super) const MAX_ALLOWED_IPS: usize = 16;

/// One peer, for which nothing has to be looked up.
#[derive(Debug)]
pub(super) struct Single<E> {
    pub(super) peer: Peer<E, Inline>,
    /// `None` allows everything.
    allowed_ips: Option<[Option<Cidr>; MAX_ALLOWED_IPS]>,
    cookie: Option<OwedCookie<E>>,
    /// The peer's address has a budget of handshakes for itself; all others share one.
    buckets: [Option<Bucket>; 2],
}

impl<E: Endpoint> Single<E> {
    const ID: PeerId = PeerId {
        slot: 0,
        generation: 0,
    };

    pub(super) fn new(config: &PeerConfig<'_, E>) -> Result<Self, ConfigError> {
        let psk = Secret::new(*config.preshared_key.expose());
        let peer = Peer::new(
            *config.public_key.as_bytes(),
            psk,
            config.endpoint,
            config.mtu,
        );
        let mut single = Self {
            peer,
            allowed_ips: None,
            cookie: None,
            buckets: [None; 2],
        };
        if let Some(allowed_ips) = config.allowed_ips {
            single.set_allowed_ips(allowed_ips)?;
        }
        Ok(single)
    }

    /// Whether the peer is at this IP address, by what we know.
    fn is_at(&self, address: SocketAddr) -> bool {
        let ip = |address: SocketAddr| address.ip().to_canonical();
        let known = self.peer.endpoint();
        known.is_some_and(|endpoint| ip(endpoint.address()) == ip(address))
    }

    pub(super) fn set_allowed_ips(&mut self, allowed_ips: &[Cidr]) -> Result<(), ConfigError> {
        let mut prefixes = [None; MAX_ALLOWED_IPS];
        if allowed_ips.len() > prefixes.len() {
            return Err(ConfigError::TooManyAllowedIps);
        }
        for (slot, cidr) in prefixes.iter_mut().zip(allowed_ips) {
            *slot = Some(*cidr);
        }
        self.allowed_ips = Some(prefixes);
        Ok(())
    }
}

impl<E: Endpoint> Peers<E> for Single<E> {
    type Store = Inline;

    fn by_index(&self, index: u32) -> Option<PeerId> {
        self.peer
            .indices()
            .contains(&Some(index))
            .then_some(Self::ID)
    }

    fn by_key(&self, public_key: &[u8; 32]) -> Option<PeerId> {
        (self.peer.public_key() == public_key).then_some(Self::ID)
    }

    fn by_address(&self, address: IpAddr) -> Option<PeerId> {
        is_allowed(self.allowed_ips.as_ref(), address).then_some(Self::ID)
    }

    fn get(&self, _id: PeerId) -> Option<&Peer<E, Inline>> {
        Some(&self.peer)
    }

    fn get_mut(&mut self, _id: PeerId) -> Option<&mut Peer<E, Inline>> {
        Some(&mut self.peer)
    }

    // Everything is read from the peer when it is asked for, so there is nothing to note.
    fn settle(&mut self, _id: PeerId) {}

    fn pass<R>(
        &mut self,
        _id: PeerId,
        f: impl FnOnce(&mut Peer<E, Inline>, &dyn Fn(IpAddr) -> bool) -> R,
    ) -> Option<R> {
        let Self {
            peer, allowed_ips, ..
        } = self;
        Some(f(peer, &|address| {
            is_allowed(allowed_ips.as_ref(), address)
        }))
    }

    fn fresh_index(&self, env: &mut Env<'_>) -> u32 {
        let taken = self.peer.indices();
        let first = u32::from_le_bytes(env.random());
        // Of six numbers in a row one is not among five that are taken.
        (0..6)
            .map(|n| first.wrapping_add(n))
            .find(|i| !taken.contains(&Some(*i)))
            .unwrap_or(first)
    }

    fn pop_handshake(&mut self) -> Option<PeerId> {
        matches!(self.peer.owes(), Some(Owed::Response | Owed::Initiation)).then_some(Self::ID)
    }

    fn pop_keepalive(&mut self) -> Option<PeerId> {
        (self.peer.owes() == Some(Owed::Keepalive)).then_some(Self::ID)
    }

    fn pop_due(&mut self, now: Instant) -> Option<PeerId> {
        self.peer
            .poll_timeout()
            .is_some_and(|at| at <= now)
            .then_some(Self::ID)
    }

    fn take_token(&mut self, now: Instant, source: SocketAddr) -> bool {
        let is_peer = self.is_at(source);
        let [peer, others] = &mut self.buckets;
        let bucket = if is_peer { peer } else { others };
        bucket.get_or_insert_with(|| Bucket::new(now)).take(now)
    }

    fn push_cookie(&mut self, cookie: OwedCookie<E>) -> bool {
        // In a flood the reply that matters is the one to where the peer is.
        let waits = |waiting: &OwedCookie<E>| self.is_at(waiting.to.address());
        let is_better = self.is_at(cookie.to.address()) || !self.cookie.as_ref().is_some_and(waits);
        if is_better {
            self.cookie = Some(cookie);
        }
        is_better
    }

    fn pop_cookie(&mut self) -> Option<OwedCookie<E>> {
        self.cookie.take()
    }
}

/// Without a list everything is allowed.
fn is_allowed(prefixes: Option<&[Option<Cidr>; MAX_ALLOWED_IPS]>, address: IpAddr) -> bool {
    prefixes.is_none_or(|prefixes| prefixes.iter().flatten().any(|cidr| cidr.contains(address)))
}
