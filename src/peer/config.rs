//! How a peer is configured.

use core::net::SocketAddr;

use crate::cidr::Cidr;
use crate::key::{PresharedKey, PublicKey};

/// How a peer is configured. Everything but the public key has a default.
#[derive(Clone, Debug)]
pub struct PeerConfig<'a, E = SocketAddr> {
    pub(crate) public_key: PublicKey,
    pub(crate) preshared_key: PresharedKey,
    pub(crate) endpoint: Option<E>,
    pub(crate) persistent_keepalive: u16,
    pub(crate) mtu: u16,
    pub(crate) allowed_ips: Option<&'a [Cidr]>,
}

impl<'a, E> PeerConfig<'a, E> {
    /// A peer without preshared key, endpoint and persistent keepalive, with an inner MTU of 1420.
    ///
    /// Without [`allowed_ips`](Self::allowed_ips) a `Tunnel` routes everything to its peer, and an
    /// `Interface` nothing.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            preshared_key: PresharedKey::default(),
            endpoint: None,
            persistent_keepalive: 0,
            mtu: 1420,
            allowed_ips: None,
        }
    }

    /// Sets a preshared key.
    #[must_use]
    pub fn preshared_key(mut self, psk: PresharedKey) -> Self {
        self.preshared_key = psk;
        self
    }

    /// Sets where the peer is first reached.
    #[must_use]
    pub fn endpoint(mut self, endpoint: E) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Sets the persistent keepalive in seconds; 0 is off.
    #[must_use]
    pub fn persistent_keepalive(mut self, secs: u16) -> Self {
        self.persistent_keepalive = secs;
        self
    }

    /// Sets the inner MTU in bytes, which bounds the padding; 0 is no bound.
    #[must_use]
    pub fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self
    }

    /// Sets the prefixes that are routed to and accepted from the peer.
    #[must_use]
    pub fn allowed_ips(mut self, allowed_ips: &'a [Cidr]) -> Self {
        self.allowed_ips = Some(allowed_ips);
        self
    }
}
