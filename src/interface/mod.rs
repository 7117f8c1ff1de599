//! Many peers behind one port.
//!
//! [`Interface`] is what a WireGuard network device is: one private key, any number of peers, and
//! cryptokey routing between them. It has the verbs of `Tunnel`, with a [`PeerId`] in every result.

mod allowed_ips;
mod handle;
mod indices;
mod peers;
mod schedule;
mod sources;
mod staging;

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::Range;

pub use self::handle::{PeerMut, PeerRef};
use self::peers::Many;
pub use self::staging::Staging;
use crate::admission::Load;
use crate::crypto::secret::Secret;
use crate::engine::{Engine, HandshakeStep, Peers, Received};
use crate::error::{ConfigError, Drops, Rejected, SealError};
use crate::event::{Endpoint, Env, Event, PeerId, Transmit};
use crate::handshake::HandshakeJob;
use crate::job::{OpenJob, Opened, Outgoing, Refused, SealFailure, SealJob, Sealed};
use crate::key::{PrivateKey, PublicKey, wipe_dead_stack};
use crate::peer::{Peer, PeerConfig};
use crate::time::Instant;
use crate::timers::Timings;

/// How many datagrams a batch takes through each step at once; a batch may be of any length.
const CHUNK: usize = 16;

/// A WireGuard interface: many peers behind one port.
///
/// The contract is that of [`Tunnel`](crate::Tunnel): data is called, control is polled, and after
/// any batch of calls [`poll_event`](Self::poll_event), [`poll_transmit`](Self::poll_transmit) and
/// [`poll_timeout`](Self::poll_timeout) follow in this order.
///
/// Memory: about 900 bytes for a peer without a session, tables included, and 1.2 KiB for each of
/// its up to three sessions. All tables are bounded by the number of peers (at most 2^20), except 256
/// cookie replies and 8192 token buckets that exist only under load. A caller that takes many datagrams
/// at once should poll after each 256, so that no cookie reply is left out.
#[derive(Debug)]
pub struct Interface<E: Endpoint = SocketAddr> {
    engine: Engine<Many<E>>,
}

impl<E: Endpoint> Interface<E> {
    /// Makes an interface without peers. Without a private key it takes part in no handshake until
    /// [`set_private_key`](Self::set_private_key) gives it one.
    #[must_use]
    pub fn new(private_key: Option<&PrivateKey>, now: Instant) -> Self {
        Self::build(private_key, Timings::default(), now)
    }

    /// Makes an interface with other timings than the protocol's.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidTiming`].
    pub fn with_timings(
        private_key: Option<&PrivateKey>,
        timings: Timings,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        timings.validate()?;
        Ok(Self::build(private_key, timings, now))
    }

    fn build(private_key: Option<&PrivateKey>, timings: Timings, now: Instant) -> Self {
        let interface = Self::assemble(private_key, timings, now);
        wipe_dead_stack();
        interface
    }

    #[inline(never)]
    fn assemble(private_key: Option<&PrivateKey>, timings: Timings, now: Instant) -> Self {
        let private_key = private_key.map(PrivateKey::expose);
        Self {
            engine: Engine::new(private_key, Many::new(), timings, now),
        }
    }
}

/// Peers.
impl<E: Endpoint> Interface<E> {
    /// Adds a peer. O(log n), without a multiplication: the first handshake does it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OwnPublicKey`], [`ConfigError::DuplicatePeer`], [`ConfigError::TooManyPeers`].
    pub fn add_peer(
        &mut self,
        now: Instant,
        config: &PeerConfig<'_, E>,
    ) -> Result<PeerId, ConfigError> {
        let now = self.engine.advance(now);
        let public_key = config.public_key.as_bytes();
        if self.engine.own_public() == Some(public_key) {
            return Err(ConfigError::OwnPublicKey);
        }
        let psk = Secret::new(*config.preshared_key.expose());
        let mut peer = Peer::new(*public_key, psk, config.endpoint, config.mtu);
        peer.set_persistent_keepalive(now, config.persistent_keepalive, &self.engine.timings);
        let id = self.engine.peers.insert(peer)?;
        for cidr in config.allowed_ips.unwrap_or_default() {
            self.engine.peers.allow(id, *cidr);
        }
        Ok(id)
    }

    /// Removes a peer and erases its keys; whether there was one. Jobs in flight finish as
    /// [`Rejected::Superseded`].
    pub fn remove_peer(&mut self, id: PeerId) -> bool {
        self.engine.peers.remove(id)
    }

    /// Looks at a peer.
    #[must_use]
    pub fn peer(&self, id: PeerId) -> Option<PeerRef<'_, E>> {
        PeerRef::new(&self.engine, id)
    }

    /// Changes a peer.
    pub fn peer_mut(&mut self, id: PeerId) -> Option<PeerMut<'_, E>> {
        PeerMut::new(&mut self.engine, id)
    }

    /// The peer with this public key. O(log n).
    #[must_use]
    pub fn find(&self, public_key: &PublicKey) -> Option<PeerId> {
        self.engine.peers.by_key(public_key.as_bytes())
    }

    /// The peer that packets to this address go to, by the longest matching prefix (white paper,
    /// section 2).
    #[must_use]
    pub fn route(&self, destination: IpAddr) -> Option<PeerId> {
        self.engine.peers.by_address(destination)
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerRef<'_, E>> + '_ {
        self.engine.peers.ids().filter_map(|id| self.peer(id))
    }

    /// How many peers there are.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.engine.peers.len()
    }
}

/// Data, one packet a call.
impl<E: Endpoint> Interface<E> {
    /// Seals the packet at `payload` in `buffer` where it lies, for the peer that its destination
    /// belongs to.
    ///
    /// It needs 16 bytes of room in front and up to 31 behind (white paper, section 5.4.6). Cost: one lookup, one pass of the
    /// cipher, no allocation.
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
    /// Cost: data is one index probe, one pass of the cipher and one lookup; anything else at most
    /// one BLAKE2s until its mac1 is right, and then up to two multiplications on the curve.
    ///
    /// # Errors
    ///
    /// [`Rejected`] is a verdict about this datagram. It has been counted.
    pub fn receive<'b>(
        &mut self,
        now: Instant,
        source: E,
        datagram: &'b mut [u8],
    ) -> Result<(PeerId, Received<'b>), Rejected> {
        self.engine.receive(now, source, datagram)
    }
}

/// Data in batches: many packets through each step at once.
impl<E: Endpoint> Interface<E> {
    /// Seals many packets, to any peers. One result for each is appended to `sealed`, in order.
    ///
    /// Allocates only when `sealed` has to grow.
    pub fn seal_batch<'p, B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        packets: impl IntoIterator<Item = Outgoing<'p, B>>,
        sealed: &mut Vec<Result<SealJob<'p, B, E>, SealFailure<'p, B>>>,
    ) {
        let packets = packets.into_iter();
        sealed.reserve(packets.size_hint().0);
        let mut waiting = sealed.len();
        for outgoing in packets {
            // A vector that grows leaves its jobs' bytes behind: they must have no key any more.
            if sealed.len() == sealed.capacity() {
                SealJob::run_all(sealed.iter_mut().skip(waiting).flatten());
                waiting = sealed.len();
            }
            sealed.push(self.begin_seal(now, outgoing));
        }
        SealJob::run_all(sealed.iter_mut().skip(waiting).flatten());
    }

    /// Takes many datagrams, of any kind and from any sources. One result for each is appended to
    /// `received`, in order.
    ///
    /// Allocates only when `received` has to grow.
    pub fn receive_batch<B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        datagrams: impl IntoIterator<Item = (E, B)>,
        received: &mut Vec<Result<Opened<B>, Refused<B>>>,
    ) {
        let mut datagrams = datagrams.into_iter();
        loop {
            let mut chunk: [Option<Arrival<B, E>>; CHUNK] = [const { None }; CHUNK];
            for (place, (source, datagram)) in chunk.iter_mut().zip(datagrams.by_ref()) {
                *place = Some(self.arrive(now, source, datagram));
            }
            if chunk.first().is_none_or(Option::is_none) {
                return;
            }
            OpenJob::run_all(chunk.iter_mut().flatten().filter_map(Arrival::job));
            for arrival in chunk.iter_mut().filter_map(Option::take) {
                received.push(match arrival {
                    Arrival::Data(job) => self.engine.finish_open(now, job),
                    Arrival::Done(result) => result,
                });
            }
        }
    }

    #[inline]
    fn arrive<B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        source: E,
        mut datagram: B,
    ) -> Arrival<B, E> {
        if datagram.as_mut().first() == Some(&4) {
            return match self.engine.begin_open(now, source, datagram) {
                Ok(job) => Arrival::Data(job),
                Err(refused) => Arrival::Done(Err(refused)),
            };
        }
        Arrival::Done(
            match self.engine.receive_control(now, source, datagram.as_mut()) {
                Ok((id, control)) => Ok(Opened::control(id, datagram, control)),
                Err(reason) => Err(Refused::new(reason, datagram)),
            },
        )
    }

    /// Begins to seal a packet: routes it and reserves its counter. The job is to be run.
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

    /// As [`begin_seal`](Self::begin_seal), to a peer that the caller has found with
    /// [`route`](Self::route): for trains of packets of one flow.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal); the packet comes back.
    pub fn begin_seal_to<'p, B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        peer: PeerId,
        outgoing: Outgoing<'p, B>,
    ) -> Result<SealJob<'p, B, E>, SealFailure<'p, B>> {
        self.engine.begin_seal_to(now, peer, outgoing)
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

    /// Checks for replays, moves timers and endpoint, and gives the packet out. Jobs of one peer
    /// should be finished in the order in which their datagrams came. A job that has not run is run.
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
}

/// Control.
impl<E: Endpoint> Interface<E> {
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

    /// Begins the next handshake message that is owed, leaving the multiplications to the job.
    ///
    /// A caller that runs handshakes on other threads drains this before
    /// [`poll_transmit`](Self::poll_transmit), which then has only cheap messages left.
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

    /// Does what is due at `now` (white paper, section 6). O(peers due · log n).
    pub fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next. O(1).
    ///
    /// Never later than what is due, and never in the past after a timeout was handled. It can be
    /// earlier than what is due when traffic has put a deadline off, because packets do not touch
    /// the schedule; handling it then corrects it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.engine.peers.next_deadline()
    }

    /// Builds the next control message that is owed, at most 148 bytes. O(1) to find who owes it.
    pub fn poll_transmit(&mut self, now: Instant, env: &mut Env<'_>) -> Option<Transmit<E>> {
        self.engine.poll_transmit(now, env)
    }

    /// Takes the next event.
    pub fn poll_event(&mut self) -> Option<(PeerId, Event)> {
        self.engine.peers.pop_event()
    }
}

/// The interface itself.
impl<E: Endpoint> Interface<E> {
    /// Replaces our private key, or removes it: all peers derive anew, sessions stop sending.
    /// Setting the same key again changes nothing.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OwnPublicKey`] when a peer has the public key. Remove that peer first.
    pub fn set_private_key(&mut self, key: Option<&PrivateKey>) -> Result<(), ConfigError> {
        let public_key = key.map(PrivateKey::public_key);
        if public_key.is_some_and(|public_key| self.find(&public_key).is_some()) {
            return Err(ConfigError::OwnPublicKey);
        }
        if public_key == self.public_key() {
            return Ok(());
        }
        self.engine.set_identity(key.map(PrivateKey::expose));
        self.engine.peers.for_each(Peer::identity_changed);
        Ok(())
    }

    /// Our own public key, if there is a private one.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        self.engine
            .own_public()
            .map(|bytes| PublicKey::from_bytes(*bytes))
    }

    /// Our private key, for tools that write the configuration back.
    #[must_use]
    pub fn private_key(&self) -> Option<PrivateKey> {
        self.engine
            .own_private()
            .map(|bytes| PrivateKey::from_bytes(*bytes))
    }

    /// Overrides the measure of load that decides about cookies (white paper, section 5.3).
    pub fn set_load(&mut self, load: Load) {
        self.engine.meter.setting = load;
    }

    /// Whether handshake messages must carry a cookie at `now`.
    #[must_use]
    pub fn is_under_load(&self, now: Instant) -> bool {
        let now = self.engine.now().max(now);
        self.engine.meter.is_under_load(now)
    }

    /// The machine was suspended: all keys are erased, and sessions that were alive are replaced.
    pub fn on_resume(&mut self, now: Instant) {
        let now = self.engine.advance(now);
        let timings = self.engine.timings;
        self.engine
            .peers
            .for_each(|peer| peer.resume(now, &timings));
    }

    /// Erases all session keys of all peers, and handshakes under way.
    pub fn erase_all(&mut self, now: Instant) {
        let now = self.engine.advance(now);
        self.engine.peers.for_each(|peer| peer.erase(now));
    }

    /// Datagrams dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.engine.drops
    }
}

/// A datagram of a batch between its steps.
enum Arrival<B, E> {
    Data(OpenJob<B, E>),
    Done(Result<Opened<B>, Refused<B>>),
}

impl<B, E> Arrival<B, E> {
    fn job(&mut self) -> Option<&mut OpenJob<B, E>> {
        match self {
            Self::Data(job) => Some(job),
            Self::Done(_) => None,
        }
    }
}
