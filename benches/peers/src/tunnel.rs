//! The trait that hides an implementation, and what it is configured with.
//!
//! It is shaped so that no implementation has to copy or allocate more than its own API asks for:
//! input comes in the form that the implementation takes (`load_*`, outside the measured time) and
//! output is shown to a [`Sink`] wherever it lies.

use core::fmt::Debug;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use ::boringtun::x25519::{PublicKey, StaticSecret};

/// One end of a tunnel between two peers.
pub trait Tunnel: Sized {
    /// Crate name, as in the lock file.
    const NAME: &'static str;

    /// An inner packet in the form in which [`seal`](Self::seal) takes it.
    type Packet;
    /// A datagram in the form in which [`receive`](Self::receive) takes it.
    type Datagram;
    /// Why something was refused.
    type Error: Debug;

    /// Makes an end without a session.
    fn new(config: &Config) -> Self;

    /// Names the crates that do the cryptography.
    fn backend() -> String;

    /// Moves the clock if the caller owns it; says whether it does.
    ///
    /// Only moves it: what falls due is done by [`timers`](Self::timers).
    fn advance(&mut self, by: Duration) -> bool {
        let _ = by;
        false
    }

    /// Changes the preshared key of later handshakes; says whether the implementation can.
    fn set_psk(&mut self, psk: Option<[u8; 32]>) -> bool {
        let _ = psk;
        false
    }

    /// Copies an inner packet into the form that [`seal`](Self::seal) takes.
    fn load_packet(&mut self, packet: &[u8]) -> Self::Packet;

    /// Copies a datagram into the form that [`receive`](Self::receive) takes.
    fn load_datagram(&mut self, datagram: &[u8]) -> Self::Datagram;

    /// Sends a fresh initiation, also if a session or another handshake exists.
    ///
    /// The caller has [advanced](Self::advance) the clock by [`STEP`] since the previous one, so
    /// that neither a retransmission limit nor a coarse timestamp gets in the way.
    ///
    /// # Errors
    ///
    /// The implementation's, if it refuses.
    fn initiate(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error>;

    /// Handles any datagram from `source`: replies go to `sink.send`, inner packets, trimmed to
    /// their IP length, to `sink.deliver`.
    ///
    /// A loaded datagram is passed once.
    ///
    /// # Errors
    ///
    /// The implementation's, if it drops the datagram.
    fn receive(
        &mut self,
        source: SocketAddr,
        datagram: &mut Self::Datagram,
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error>;

    /// Sends an inner packet.
    ///
    /// Without a session it fails or sends an initiation, never a transport message. A loaded packet
    /// is passed once.
    ///
    /// # Errors
    ///
    /// The implementation's, if it does not take the packet.
    fn seal(&mut self, packet: &mut Self::Packet, sink: &mut impl Sink) -> Result<(), Self::Error>;

    /// Sends inner packets, in one call if the implementation has one for that.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal), for the first packet that is not taken.
    fn seal_batch(
        &mut self,
        packets: &mut [Self::Packet],
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        packets
            .iter_mut()
            .try_for_each(|packet| self.seal(packet, sink))
    }

    /// Handles datagrams from `source`, in one call if the implementation has one for that.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive), for the first datagram that is dropped.
    fn receive_batch(
        &mut self,
        source: SocketAddr,
        datagrams: &mut [Self::Datagram],
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        datagrams
            .iter_mut()
            .try_for_each(|datagram| self.receive(source, datagram, sink))
    }

    /// Does what has fallen due.
    ///
    /// # Errors
    ///
    /// The implementation's, such as a connection given up.
    fn timers(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error>;
}

/// Clock step between two handshakes: longer than any retransmission interval.
pub const STEP: Duration = Duration::from_secs(6);

/// Tunnel MTU, for implementations that clamp their padding to it.
pub const MTU: u16 = 1420;

/// Room for any datagram.
pub const BUFFER: usize = 65_536;

/// Where the first end's datagrams come from.
pub const FIRST_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 51_820);

/// Where the second end's datagrams come from. Of the other family, so that both are covered.
pub const SECOND_ADDRESS: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
    51_821,
);

/// Takes what an implementation puts out.
pub trait Sink {
    /// A datagram for the peer.
    fn send(&mut self, datagram: &[u8]);
    /// An inner packet for the local host.
    fn deliver(&mut self, packet: &[u8]);
}

/// Why an adapter refused something.
#[derive(Debug)]
pub enum Refused<E> {
    /// The implementation did.
    Protocol(E),
    /// What came out of the tunnel is not an IP packet.
    NotIp,
    /// Nothing came out where something should.
    Silent,
}

impl<E> From<E> for Refused<E> {
    fn from(error: E) -> Self {
        Self::Protocol(error)
    }
}

/// What one end knows.
#[derive(Clone, Debug)]
pub struct Config {
    /// Own private key.
    pub private: [u8; 32],
    /// The peer's public key.
    pub peer: [u8; 32],
    /// The peer's address.
    pub endpoint: SocketAddr,
    /// Preshared key.
    pub psk: Option<[u8; 32]>,
    /// When handshake messages need a cookie.
    pub load: Load,
    /// Fresh randomness for implementations that take theirs from the caller.
    pub seed: [u8; 32],
}

/// When handshake messages need a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// However many arrive.
    Never,
    /// From the first message on.
    Always,
}

impl Load {
    /// Returns the number of handshake messages a second that need no cookie.
    #[must_use]
    pub fn limit(self) -> u64 {
        match self {
            Self::Never => u64::MAX,
            Self::Always => 0,
        }
    }
}

impl Config {
    /// Makes both ends of a tunnel, with new keys and without a preshared key.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (first, second) = (random(), random());
        (
            Self::new(first, public_key(second), SECOND_ADDRESS),
            Self::new(second, public_key(first), FIRST_ADDRESS),
        )
    }

    fn new(private: [u8; 32], peer: [u8; 32], endpoint: SocketAddr) -> Self {
        let (psk, load, seed) = (None, Load::Never, random());
        Self {
            private,
            peer,
            endpoint,
            psk,
            load,
            seed,
        }
    }

    /// Returns the own public key.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        public_key(self.private)
    }
}

/// Returns 32 random bytes.
///
/// # Panics
///
/// If the operating system has none.
#[must_use]
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

fn public_key(private: [u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(private)).to_bytes()
}
