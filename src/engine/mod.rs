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
use crate::job::{Control, OpenJob, OpenTicket, Opened, Outgoing, Refused, SealFailure, SealJob};
use crate::peer::{Content, Peer};
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

    /// A peer to be changed. [`Self::settle`] or [`Self::settle_data`] must follow.
    fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer<E, Self::Store>>;

    /// Notes what follows from a change: deadlines, events, what is owed, receiver indices.
    fn settle(&mut self, id: PeerId);

    /// As [`Self::settle`], after a packet: of the indices only those that a confirmed session frees
    /// can have changed.
    fn settle_data(&mut self, id: PeerId);

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
    to: E,
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

    pub(crate) fn set_identity(&mut self, private: Option<&[u8; 32]>) {
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
        let route = outgoing.packet().and_then(|packet| {
            let destination = ip::destination(packet).ok_or(SealError::NotIp)?;
            self.peers.by_address(destination).ok_or(SealError::NoRoute)
        });
        match route {
            Ok(id) => self.begin_seal_to(now, id, outgoing),
            Err(error) => Err(SealFailure::new(error, outgoing)),
        }
    }

    pub(crate) fn begin_seal_to<'p, B: AsMut<[u8]>, E: Endpoint>(
        &mut self,
        now: Instant,
        id: PeerId,
        mut outgoing: Outgoing<'p, B>,
    ) -> Result<SealJob<'p, B, E>, SealFailure<'p, B>>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        match outgoing.packet() {
            Ok(packet) if ip::destination(packet).is_some() => {}
            Ok(_) => return Err(SealFailure::new(SealError::NotIp, outgoing)),
            Err(error) => return Err(SealFailure::new(error, outgoing)),
        }
        let Some(peer) = self.peers.get_mut(id) else {
            return Err(SealFailure::new(SealError::UnknownPeer, outgoing));
        };
        let sealed = peer.begin_seal(now, &self.timings, outgoing);
        self.peers.settle_data(id);
        sealed.map(|job| job.of(id))
    }

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
        match self.find_session(now, datagram.as_mut()) {
            Ok((id, ticket)) => Ok(OpenJob::new(ticket, id, source, datagram)),
            Err(reason) => Err(Refused::new(reason, datagram)),
        }
    }

    fn find_session<E: Endpoint>(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<(PeerId, OpenTicket), Rejected>
    where
        P: Peers<E>,
    {
        let header = match (Kind::of(datagram), datagram.first_chunk()) {
            (Ok(Kind::Data), Some(header)) => DataHeader::parse(header),
            (Err(malformed), _) => return Err(self.drop_stray(malformed.into())),
            _ => return Err(self.drop_stray(Rejected::UnknownType)),
        };
        let Some(id) = self.peers.by_index(header.receiver) else {
            return Err(self.drop_stray(Rejected::UnknownReceiver));
        };
        let Some(peer) = self.peers.get(id) else {
            return Err(self.drop_stray(Rejected::UnknownReceiver));
        };
        match peer.begin_open(now, &self.timings, header) {
            Ok(ticket) => Ok((id, ticket)),
            Err(reason) => Err(self.drop_of(id, reason)),
        }
    }

    pub(crate) fn finish_open<B: AsMut<[u8]>, E: Endpoint>(
        &mut self,
        now: Instant,
        mut job: OpenJob<B, E>,
    ) -> Result<Opened<B>, Refused<B>>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        match self.believe(now, &mut job) {
            Ok(len) => Ok(job.into_opened(len)),
            Err(reason) => {
                let reason = self.drop_of(job.peer(), reason);
                Err(job.refuse(reason))
            }
        }
    }

    /// The length of the packet that the datagram carries, once everything about it is checked.
    fn believe<B: AsMut<[u8]>, E: Endpoint>(
        &mut self,
        now: Instant,
        job: &mut OpenJob<B, E>,
    ) -> Result<usize, Rejected>
    where
        P: Peers<E>,
    {
        let id = job.peer();
        let peer = self.peers.get_mut(id).ok_or(Rejected::Superseded)?;
        let content = peer.finish_open(now, &self.timings, job);
        self.peers.settle_data(id);
        let len = match content? {
            Content::Keepalive => 0,
            Content::Packet(inner) if self.peers.by_address(inner.source) == Some(id) => {
                inner.length
            }
            Content::Packet(_) => return Err(Rejected::ForeignSource),
        };
        if let Some(peer) = self.peers.get_mut(id) {
            peer.count_received(job.datagram_len());
        }
        Ok(len)
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
