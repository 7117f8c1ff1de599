//! A path to a peer: where its datagrams come from, and where to they came.
//!
//! The library is generic over endpoints, so the node's own type carries the local address too. Answers
//! then leave from the address that the peer knows, also on a machine with several (a sticky source).

use std::net::{IpAddr, SocketAddr};

use quietwire::Endpoint;

/// Where a peer is, and by which of our addresses it reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The peer's address and port outside the tunnel.
    pub remote: SocketAddr,
    /// Our own address, once a datagram has come to it. Without it the kernel's routes decide.
    pub local: Option<IpAddr>,
}

impl Path {
    /// A path on which nothing has come yet.
    #[must_use]
    pub const fn to(remote: SocketAddr) -> Self {
        let local = None;
        Self { remote, local }
    }
}

impl Endpoint for Path {
    fn address(&self) -> SocketAddr {
        self.remote
    }
}
