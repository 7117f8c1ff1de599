//! The verbs of the public types, written once.
//!
//! An [`Engine`] ties our identity, the gate for handshakes and a set of peers together. `Tunnel` is
//! an engine over one peer without an allocator, `Interface` one over many; they differ only in how a
//! peer is found and how it is remembered that it owes something, which is the trait [`Peers`].
//! This file holds the data path; `handshakes` holds what is polled.

mod handshakes;
#[cfg(test)]
mod tests;

use core::net::{IpAddr, SocketAddr};

use crate::admission::LoadMeter;
use crate::cookie::Checker;
use crate::error::{Drops, Rejected, SealError};
use crate::event::{Endpoint, Env, PeerId};
use crate::handshake::Identity;
use crate::ip;
use crate::job::{Control, Draft, OpenJob, Opened, Outgoing, Place, Refused, SealFailure, SealJob};
use crate::key::wipe_dead_stack;
use crate::peer::Peer;
use crate::session::Store;
use crate::time::Instant;
use crate::timers::Timings;
use crate::wire::{DataHeader, Kind, MAC_LEN};

pub use self::handshakes::HandshakeStep;

/// How peers are found, and how it is remembered which of them owe something.
pub(crate) trait Peers<E> {
    type Store: Store;

    /// The peer whose handshake or session has this receiver index. O(1).
    fn by_index(&self, index: u32) -> Option<PeerId>;

    /// The peer with this public key.
    fn by_key(&self, public_key: &[u8; 32]) -> Option<PeerId>;

    /// The peer that packets to or from this address belong to.
    fn by_address(&self, address: IpAddr) -> Option<PeerId>;

    fn get(&self, id: PeerId) -> Option<&Peer<E, Self::Store>>;

    /// A peer to be changed. [`Self::settle`] must follow.
    fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer<E, Self::Store>>;

    /// Notes what follows from a change: deadlines, events, what is owed, receiver indices.
    fn settle(&mut self, id: PeerId);

    /// Changes a peer as a packet does, and notes what follows from it: of the indices only those
    /// that a confirmed session frees can have changed, and a deadline is noted only when it became
    /// earlier. `f` can ask whether packets of an address belong to the peer.
    fn pass<R>(
        &mut self,
        id: PeerId,
        f: impl FnOnce(&mut Peer<E, Self::Store>, &dyn Fn(IpAddr) -> bool) -> R,
    ) -> Option<R>;

    /// A random index that nothing live has.
    fn fresh_index(&self, env: &mut Env<'_>) -> u32;

    /// Takes a peer that owes a handshake message.
    fn pop_handshake(&mut self) -> Option<PeerId>;

    /// Takes a peer that owes a keepalive.
    fn pop_keepalive(&mut self) -> Option<PeerId>;

    /// Takes a peer whose deadline has come.
    fn pop_due(&mut self, now: Instant) -> Option<PeerId>;

    /// Asks the token bucket of a source that has proven its address.
    fn take_token(&mut self, now: Instant, source: SocketAddr) -> bool;

    /// Remembers that a cookie reply is owed; `false` when there is no room.
    fn push_cookie(&mut self, cookie: OwedCookie<E>) -> bool;

    fn pop_cookie(&mut self) -> Option<OwedCookie<E>>;
}

/// A cookie reply that is owed to somebody who may not be a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwedCookie<E> {
    pub(crate) to: E,
    receiver: u32,
    mac1: [u8; MAC_LEN],
}

/// Our side of the tunnels.
#[derive(Debug)]
pub(crate) struct Engine<P> {
    identity: Option<(Identity, Checker)>,
    pub(crate) meter: LoadMeter,
    pub(crate) peers: P,
    pub(crate) timings: Timings,
    /// The latest time that a caller has told us.
    now: Instant,
    pub(crate) drops: Drops,
}

impl<P> Engine<P> {
    pub(crate) fn new(
        private: Option<&[u8; 32]>,
        peers: P,
        timings: Timings,
        now: Instant,
    ) -> Self {
        let mut engine = Self {
            identity: None,
            meter: LoadMeter::default(),
            peers,
            timings,
            now,
            drops: Drops::default(),
        };
        engine.set_identity(private);
        engine
    }

    /// The time, which never runs backwards.
    pub(crate) fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn own_public(&self) -> Option<&[u8; 32]> {
        self.identity.as_ref().map(|(identity, _)| &identity.public)
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn own_private(&self) -> Option<&[u8; 32]> {
        self.identity
            .as_ref()
            .map(|(identity, _)| identity.private.expose())
    }

    pub(crate) fn set_identity(&mut self, private: Option<&[u8; 32]>) {
        self.replace_identity(private);
        wipe_dead_stack();
    }

    #[inline(never)]
    fn replace_identity(&mut self, private: Option<&[u8; 32]>) {
        self.identity = private.map(|private| {
            let identity = Identity::new(private);
            let checker = Checker::new(&identity.public);
            (identity, checker)
        });
    }
}

/// What a datagram brought.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received<'b> {
    /// An inner IP packet, inside the caller's buffer, without padding.
    Packet(&'b mut [u8]),
    /// An authentic datagram without a packet.
    Keepalive,
    /// An authentic handshake message, or a cookie.
    Control(Control),
}

/// Data.
impl<P> Engine<P> {
    /// Takes any datagram: the pipeline in one call.
    pub(crate) fn receive<'b, E: Endpoint>(
        &mut self,
        now: Instant,
        source: E,
        datagram: &'b mut [u8],
    ) -> Result<(PeerId, Received<'b>), Rejected>
    where
        P: Peers<E>,
    {
        // Data begins with a 4. Everything else, garbage included, is judged in `begin_control`.
        if datagram.first() == Some(&4) {
            let mut job = self
                .begin_open(now, source, datagram)
                .map_err(|refused| refused.reason)?;
            job.run();
            let id = job.peer();
            let opened = self
                .finish_open(now, job)
                .map_err(|refused| refused.reason)?;
            if opened.is_keepalive() {
                return Ok((id, Received::Keepalive));
            }
            let (datagram, range) = opened.into_parts();
            return Ok((
                id,
                Received::Packet(datagram.get_mut(range).unwrap_or_default()),
            ));
        }
        let (id, control) = self.receive_control(now, source, datagram)?;
        Ok((id, Received::Control(control)))
    }

    /// Takes any datagram but data.
    pub(crate) fn receive_control<E: Endpoint>(
        &mut self,
        now: Instant,
        source: E,
        datagram: &[u8],
    ) -> Result<(PeerId, Control), Rejected>
    where
        P: Peers<E>,
    {
        let mut finished = self.begin_control(now, source, datagram)?;
        loop {
            match finished {
                HandshakeStep::Run(job) => finished = self.finish_handshake(now, job)?,
                HandshakeStep::Received(id, control) => return Ok((id, control)),
                HandshakeStep::Transmit(_) | HandshakeStep::Nothing => {
                    return Err(Rejected::Superseded);
                }
            }
        }
    }

    pub(crate) fn begin_seal<'p, B: AsMut<[u8]>, E: Endpoint>(
        &mut self,
        now: Instant,
        mut outgoing: Outgoing<'p, B>,
    ) -> Result<SealJob<'p, B, E>, SealFailure<'p, B>>
    where
        P: Peers<E>,
    {
        let draft = outgoing.look().and_then(|(place, packet)| {
            let destination = ip::destination(packet).ok_or(SealError::NotIp)?;
            let id = self.peers.by_address(destination);
            self.reserve(now, id.ok_or(SealError::NoRoute)?, place)
        });
        self.seal_job(draft, outgoing)
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn begin_seal_to<'p, B: AsMut<[u8]>, E: Endpoint>(
        &mut self,
        now: Instant,
        id: PeerId,
        mut outgoing: Outgoing<'p, B>,
    ) -> Result<SealJob<'p, B, E>, SealFailure<'p, B>>
    where
        P: Peers<E>,
    {
        let draft = outgoing.look().and_then(|(place, packet)| {
            ip::destination(packet).ok_or(SealError::NotIp)?;
            self.reserve(now, id, place)
        });
        self.seal_job(draft, outgoing)
    }

    #[inline]
    fn reserve<E: Endpoint>(
        &mut self,
        now: Instant,
        id: PeerId,
        place: Place,
    ) -> Result<(PeerId, Draft), SealError>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        let Self { peers, timings, .. } = self;
        let draft = peers.pass(id, |peer, _| peer.begin_seal(now, timings, place));
        Ok((id, draft.ok_or(SealError::UnknownPeer)??))
    }

    /// Makes the job where the caller wants it, with the key copied only once: copying is most of
    /// what a packet costs beside its cipher.
    #[inline]
    fn seal_job<'p, B: AsMut<[u8]>, E: Endpoint>(
        &self,
        draft: Result<(PeerId, Draft), SealError>,
        outgoing: Outgoing<'p, B>,
    ) -> Result<SealJob<'p, B, E>, SealFailure<'p, B>>
    where
        P: Peers<E>,
    {
        let (id, draft) = match draft {
            Ok(draft) => draft,
            Err(error) => return Err(SealFailure::new(error, outgoing)),
        };
        match self.peers.get(id).and_then(Peer::sender) {
            Some((key, to)) => Ok(SealJob::new(key, draft, outgoing, id, to)),
            None => Err(SealFailure::new(SealError::NoSession, outgoing)),
        }
    }

    #[inline]
    pub(crate) fn begin_open<B: AsMut<[u8]>, E: Endpoint>(
        &mut self,
        now: Instant,
        source: E,
        mut datagram: B,
    ) -> Result<OpenJob<B, E>, Refused<B>>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        let found = header_of(datagram.as_mut()).and_then(|header| {
            let id = self.peers.by_index(header.receiver);
            let id = id.ok_or(Rejected::UnknownReceiver)?;
            let peer = self.peers.get(id).ok_or(Rejected::UnknownReceiver)?;
            Ok((id, header, peer.begin_open(now, &self.timings, header)))
        });
        let reason = match found {
            Ok((id, header, Ok(session))) => {
                return Ok(OpenJob::new(session, header, id, source, datagram));
            }
            Ok((id, _, Err(reason))) => self.drop_of(id, reason),
            Err(reason) => self.drop_stray(reason),
        };
        Err(Refused::new(reason, datagram))
    }

    #[inline]
    pub(crate) fn finish_open<B: AsMut<[u8]>, E: Endpoint>(
        &mut self,
        now: Instant,
        mut job: OpenJob<B, E>,
    ) -> Result<Opened<B>, Refused<B>>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        let Self { peers, timings, .. } = self;
        let id = job.peer();
        let believe = |peer: &mut Peer<E, P::Store>, is_allowed: &dyn Fn(IpAddr) -> bool| {
            peer.finish_open(now, timings, &mut job, is_allowed)
        };
        match peers.pass(id, believe).unwrap_or(Err(Rejected::Superseded)) {
            Ok(len) => Ok(job.into_opened(len)),
            Err(reason) => {
                let reason = self.drop_of(id, reason);
                Err(job.refuse(reason))
            }
        }
    }

    /// Counts a drop that belongs to no peer.
    fn drop_stray(&mut self, reason: Rejected) -> Rejected {
        trace!("datagram dropped: {reason}");
        self.drops.count(reason);
        reason
    }

    /// Counts a drop that a peer may have caused.
    fn drop_of<E: Endpoint>(&mut self, id: PeerId, reason: Rejected) -> Rejected
    where
        P: Peers<E>,
    {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.count_dropped();
        }
        self.drop_stray(reason)
    }
}

/// The header of a datagram, if it is data.
#[inline]
fn header_of(datagram: &[u8]) -> Result<DataHeader, Rejected> {
    match (Kind::of(datagram)?, datagram.first_chunk()) {
        (Kind::Data, Some(header)) => Ok(DataHeader::parse(header)),
        _ => Err(Rejected::UnknownType),
    }
}
