//! A tunnel to one peer, of fixed size and without an allocator.
//!
//! [`Tunnel`] is the whole protocol for programs that talk to a single peer: clients, and machines
//! without a heap. For many peers behind one port there is `Interface`, with the same verbs.

mod single;

use core::net::SocketAddr;
use core::ops::Range;

use self::single::{MAX_ALLOWED_IPS, Single};

use crate::admission::Load;
use crate::cidr::Cidr;
use crate::crypto::secret::Secret;
use crate::engine::{Engine, HandshakeStep, Received};
use crate::error::{ConfigError, Drops, Rejected, SealError};
use crate::event::{Endpoint, Env, Event, Transmit};
use crate::handshake::HandshakeJob;
use crate::job::{OpenJob, Opened, Outgoing, Refused, SealFailure, SealJob, Sealed};
use crate::key::{PresharedKey, PrivateKey, PublicKey, wipe_dead_stack};
use crate::peer::{PeerConfig, PeerStats};
use crate::time::Instant;
use crate::timers::Timings;

/// A WireGuard tunnel to one peer.
///
/// # The contract
///
/// Methods are of four kinds. *Data* is called: [`seal`](Self::seal) and [`receive`](Self::receive)
/// transform the caller's buffer and return a slice of it. *Control* is polled: after any batch of
/// calls, drain [`poll_event`](Self::poll_event), then [`poll_transmit`](Self::poll_transmit), then
/// read [`poll_timeout`](Self::poll_timeout) and call [`handle_timeout`](Self::handle_timeout) at
/// that time. Early is harmless and late is safe. *Setters* change the configuration with the effect
/// that the kernel has. *Getters* tell.
///
/// Time is a parameter of every call; a `now` that runs backwards counts as the latest one seen.
/// No input and no order of calls panics, and nothing is terminal: after an expiry, a give-up or an
/// erasure the next packet or persistent keepalive starts again.
///
/// A tunnel is less than 5 KiB, all of it inside this value: three sessions with a replay window of
/// 1 KiB each, and a handshake's state. Nothing is allocated, ever.
///
/// ```
/// use std::net::SocketAddr;
/// use core::time::Duration;
/// use quietwire::{Env, Instant, PeerConfig, PrivateKey, Tunnel, Received};
/// # use quietwire::rand_core::UnwrapErr;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut rng = UnwrapErr(getrandom::SysRng);
/// let (alice_addr, bob_addr): (SocketAddr, SocketAddr) =
///     ("192.0.2.1:51820".parse()?, "192.0.2.2:51820".parse()?);
/// let (alice_key, bob_key) = (PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng));
/// let now = Instant::from_nanos(0);
///
/// let to_bob = PeerConfig::new(bob_key.public_key()).endpoint(bob_addr);
/// let to_alice = PeerConfig::new(alice_key.public_key());
/// let mut alice = Tunnel::new(&alice_key, &to_bob, now)?;
/// let mut bob = Tunnel::new(&bob_key, &to_alice, now)?;
///
/// // Control is polled; here the "network" is a loop.
/// alice.initiate(now);
/// let mut env = Env::new(&mut rng, Duration::from_secs(1_700_000_000));
/// for _ in 0..3 {
///     while let Some(t) = alice.poll_transmit(now, &mut env) {
///         bob.receive(now, alice_addr, &mut t.message.as_bytes().to_vec())?;
///     }
///     while let Some(t) = bob.poll_transmit(now, &mut env) {
///         alice.receive(now, bob_addr, &mut t.message.as_bytes().to_vec())?;
///     }
/// }
///
/// // Data is called.
/// let packet = [&[0x45, 0, 0, 28], &[0; 24][..]].concat();
/// let mut buffer = [0; 128];
/// let sealed = alice.seal_into(now, &packet, &mut buffer)?;
/// match bob.receive(now, alice_addr, sealed.datagram)? {
///     Received::Packet(inner) => assert_eq!(inner, packet),
///     other => panic!("{other:?}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Tunnel<E: Endpoint = SocketAddr> {
    engine: Engine<Single<E>>,
}

const _: () = assert!(size_of::<Tunnel>() < 5 * 1024);

impl<E: Endpoint> Tunnel<E> {
    /// The most prefixes that a tunnel routes.
    pub const MAX_ALLOWED_IPS: usize = MAX_ALLOWED_IPS;

    /// Makes a tunnel with the protocol's timings. Sends nothing by itself.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OwnPublicKey`], [`ConfigError::TooManyAllowedIps`].
    pub fn new(
        private_key: &PrivateKey,
        peer: &PeerConfig<'_, E>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        Self::with_timings(private_key, peer, Timings::default(), now)
    }

    /// Makes a tunnel with other timings.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`ConfigError::InvalidTiming`].
    pub fn with_timings(
        private_key: &PrivateKey,
        peer: &PeerConfig<'_, E>,
        timings: Timings,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        timings.validate()?;
        let tunnel = Self::assemble(private_key, peer, timings, now);
        wipe_dead_stack();
        tunnel
    }

    #[inline(never)]
    fn assemble(
        private_key: &PrivateKey,
        peer: &PeerConfig<'_, E>,
        timings: Timings,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let single = Single::new(peer)?;
        let engine = Engine::new(Some(private_key.expose()), single, timings, now);
        if engine.own_public() == Some(peer.public_key.as_bytes()) {
            return Err(ConfigError::OwnPublicKey);
        }
        let mut tunnel = Self { engine };
        tunnel.set_persistent_keepalive(now, peer.persistent_keepalive);
        Ok(tunnel)
    }

    /// Seals the packet at `payload` in `buffer` where it lies.
    ///
    /// It needs 16 bytes of room in front and up to 31 behind (white paper, section 5.4.6). Cost: one pass of the cipher, no
    /// allocation.
    ///
    /// # Errors
    ///
    /// See [`SealError`]. Nothing is consumed; [`SealError::NoSession`] has asked for a handshake.
    pub fn seal<'b>(
        &mut self,
        now: Instant,
        buffer: &'b mut [u8],
        payload: Range<usize>,
    ) -> Result<Sealed<'b, E>, SealError> {
        let job = self.begin_seal(now, Outgoing::in_place(buffer, payload));
        job.map(Sealed::from_job).map_err(|failure| failure.error)
    }

    /// Seals `packet` into the front of `out`, which needs up to 47 bytes more than the packet.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal).
    pub fn seal_into<'b>(
        &mut self,
        now: Instant,
        packet: &[u8],
        out: &'b mut [u8],
    ) -> Result<Sealed<'b, E>, SealError> {
        let job = self.begin_seal(now, Outgoing::apart(packet, out));
        job.map(Sealed::from_job).map_err(|failure| failure.error)
    }

    /// Takes any datagram that arrived from `source`.
    ///
    /// Cost: data is one pass of the cipher; anything else at most one BLAKE2s until its mac1 is
    /// right, and then up to two multiplications on the curve.
    ///
    /// # Errors
    ///
    /// [`Rejected`] is a verdict about this datagram. It has been counted.
    pub fn receive<'b>(
        &mut self,
        now: Instant,
        source: E,
        datagram: &'b mut [u8],
    ) -> Result<Received<'b>, Rejected> {
        self.engine
            .receive(now, source, datagram)
            .map(|(_, received)| received)
    }

    /// Begins to seal a packet: checks it and reserves its counter. The job is to be run.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal); the packet comes back.
    pub fn begin_seal<'p, B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        outgoing: Outgoing<'p, B>,
    ) -> Result<SealJob<'p, B, E>, SealFailure<'p, B>> {
        self.engine.begin_seal(now, outgoing)
    }

    /// Begins to open a data datagram: finds its session. The job is to be run and finished.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive); the datagram comes back.
    pub fn begin_open<B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        source: E,
        datagram: B,
    ) -> Result<OpenJob<B, E>, Refused<B>> {
        self.engine.begin_open(now, source, datagram)
    }

    /// Checks for replays and gives the packet out. A job that has not run is run here.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive); the buffer comes back without its plaintext.
    pub fn finish_open<B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        job: OpenJob<B, E>,
    ) -> Result<Opened<B>, Refused<B>> {
        self.engine.finish_open(now, job)
    }

    /// Takes a handshake message or cookie reply, leaving the multiplications to a job: finish
    /// [`HandshakeStep::Run`] with [`finish_handshake`](Self::finish_handshake).
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn begin_handshake(
        &mut self,
        now: Instant,
        source: E,
        datagram: &[u8],
    ) -> Result<HandshakeStep<E>, Rejected> {
        self.engine.begin_control(now, source, datagram)
    }

    /// Begins the handshake message that is owed, leaving the multiplications to the job.
    pub fn poll_handshake(&mut self, now: Instant, env: &mut Env<'_>) -> Option<HandshakeJob<E>> {
        self.engine.poll_handshake(now, env)
    }

    /// Goes on with a job. One that has not run is run here.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn finish_handshake(
        &mut self,
        now: Instant,
        job: HandshakeJob<E>,
    ) -> Result<HandshakeStep<E>, Rejected> {
        self.engine.finish_handshake(now, job)
    }

    /// Does what is due at `now` (white paper, section 6).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. Exact, O(1).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.engine.peers.peer.poll_timeout()
    }

    /// Builds the next control message that is owed, at most 148 bytes.
    pub fn poll_transmit(&mut self, now: Instant, env: &mut Env<'_>) -> Option<Transmit<E>> {
        self.engine.poll_transmit(now, env)
    }

    /// Takes the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.engine.peers.peer.pop_event()
    }

    /// Asks for a handshake (white paper, section 5.4.2), unless a handshake message was sent within
    /// the last 5 s.
    pub fn initiate(&mut self, now: Instant) {
        let now = self.engine.advance(now);
        let Engine { peers, timings, .. } = &mut self.engine;
        peers.peer.request_initiation(now, timings);
    }

    /// Replaces our private key: sessions stop sending, handshakes start afresh. Setting the same
    /// key again changes nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OwnPublicKey`] when it is the peer's.
    pub fn set_private_key(&mut self, private_key: &PrivateKey) -> Result<(), ConfigError> {
        let public_key = private_key.public_key();
        if public_key == self.peer_public_key() {
            return Err(ConfigError::OwnPublicKey);
        }
        if public_key == self.public_key() {
            return Ok(());
        }
        self.engine.set_identity(Some(private_key.expose()));
        self.engine.peers.peer.identity_changed();
        Ok(())
    }

    /// Sets the preshared key of the next handshake (white paper, section 5.2). The running session
    /// lives on.
    pub fn set_preshared_key(&mut self, psk: &PresharedKey) {
        self.engine.peers.peer.set_psk(Secret::new(*psk.expose()));
    }

    /// Sets where the peer is reached, until it roams (white paper, section 2.1).
    pub fn set_endpoint(&mut self, endpoint: E) {
        self.engine.peers.peer.set_endpoint(endpoint);
    }

    /// Sets the persistent keepalive in seconds; 0 is off. Switching it on sends one at once.
    pub fn set_persistent_keepalive(&mut self, now: Instant, secs: u16) {
        let now = self.engine.advance(now);
        let Engine { peers, timings, .. } = &mut self.engine;
        peers.peer.set_persistent_keepalive(now, secs, timings);
    }

    /// Sets the inner MTU in bytes, which bounds the padding; 0 is no bound.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.engine.peers.peer.set_mtu(mtu);
    }

    /// Replaces the prefixes that are routed to and accepted from the peer.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooManyAllowedIps`].
    pub fn set_allowed_ips(&mut self, allowed_ips: &[Cidr]) -> Result<(), ConfigError> {
        self.engine.peers.set_allowed_ips(allowed_ips)
    }

    /// Overrides the measure of load that decides about cookies (white paper, section 5.3).
    pub fn set_load(&mut self, load: Load) {
        self.engine.meter.setting = load;
    }

    /// The machine was suspended: a session that was alive is replaced at once.
    pub fn on_resume(&mut self, now: Instant) {
        let now = self.engine.advance(now);
        let Engine { peers, timings, .. } = &mut self.engine;
        peers.peer.resume(now, timings);
    }

    /// Erases all session keys and handshakes under way.
    pub fn erase(&mut self, now: Instant) {
        let now = self.engine.advance(now);
        self.engine.peers.peer.erase(now);
    }

    /// Accepts any timestamp in the peer's next initiation (white paper, section 5.1), for a peer
    /// whose clock was once wrong. Until the next initiation an old one could be replayed.
    pub fn forget_timestamp(&mut self) {
        self.engine.peers.peer.forget_timestamp();
    }

    /// Our own public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.engine.own_public().copied().unwrap_or_default())
    }

    /// The peer's public key.
    #[must_use]
    pub fn peer_public_key(&self) -> PublicKey {
        PublicKey::from_bytes(*self.engine.peers.peer.public_key())
    }

    /// Where the peer is, as configured or learned.
    #[must_use]
    pub fn endpoint(&self) -> Option<E> {
        self.engine.peers.peer.endpoint()
    }

    /// Whether a preshared key is set.
    #[must_use]
    pub fn has_preshared_key(&self) -> bool {
        self.engine.peers.peer.has_psk()
    }

    /// The persistent keepalive in seconds; 0 is off.
    #[must_use]
    pub fn persistent_keepalive(&self) -> u16 {
        self.engine.peers.peer.persistent_keepalive()
    }

    /// The inner MTU in bytes; 0 does not bound the padding.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.engine.peers.peer.mtu()
    }

    /// Whether a packet could be sealed at `now`.
    #[must_use]
    pub fn is_established(&self, now: Instant) -> bool {
        let now = self.engine.now().max(now);
        self.engine
            .peers
            .peer
            .is_established(now, &self.engine.timings)
    }

    /// Traffic with the peer.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        self.engine.peers.peer.stats()
    }

    /// Datagrams dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.engine.drops
    }
}
