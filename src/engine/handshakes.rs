//! What is polled: handshakes received and owed, cookie replies, keepalives, timeouts.

use core::net::SocketAddr;

use super::{Engine, OwedCookie, Peers};
use crate::admission::Gate;
use crate::error::Rejected;
use crate::event::{Endpoint, Env, PeerId, Transmit};
use crate::handshake::{HandshakeJob, Identity, Named, Pairing, Reading, Task};
use crate::job::Control;
use crate::peer::{Owed, Peer};
use crate::time::Instant;
use crate::wire::{CookieReply, Initiation, Kind, Macs, Response};

/// Where a handshake message has come to.
#[derive(Debug)]
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "a job is what it mostly holds, and boxing it would need an allocator"
)]
pub enum HandshakeStep<E = SocketAddr> {
    /// Multiplications wait: run the job, on any thread, and finish it. An initiation takes two
    /// rounds when its peer is met for the first time.
    Run(HandshakeJob<E>),
    /// A message received was accepted.
    Received(PeerId, Control),
    /// A message is ready to be sent.
    Transmit(Transmit<E>),
    /// The message is not needed any more.
    Nothing,
}

/// Handshakes received.
impl<P> Engine<P> {
    /// Takes a control datagram that costs little, or begins one that costs much.
    pub(crate) fn begin_control<E: Endpoint>(
        &mut self,
        now: Instant,
        source: E,
        datagram: &[u8],
    ) -> Result<HandshakeStep<E>, Rejected>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        let kind = Kind::of(datagram).map_err(|malformed| self.drop_stray(malformed.into()))?;
        match kind {
            Kind::Initiation | Kind::Response => {
                let begun = self.begin_handshake(now, source, kind, datagram);
                begun
                    .map(HandshakeStep::Run)
                    .map_err(|reason| self.drop_stray(reason))
            }
            Kind::CookieReply => self.accept_cookie(now, datagram),
            Kind::Data => Err(self.drop_stray(Rejected::UnknownType)),
        }
    }

    fn begin_handshake<E: Endpoint>(
        &mut self,
        now: Instant,
        source: E,
        kind: Kind,
        datagram: &[u8],
    ) -> Result<HandshakeJob<E>, Rejected>
    where
        P: Peers<E>,
    {
        let Some((own, checker)) = &self.identity else {
            return Err(Rejected::NoPrivateKey);
        };
        let take_token = |now, source| self.peers.take_token(now, source);
        let meter = &mut self.meter;
        let gate = Gate { checker, meter };
        match gate.admit(now, source.address(), datagram, take_token) {
            Ok(()) => {}
            Err(Rejected::CookieRequired) => {
                self.owe_cookie(source, datagram);
                return Err(Rejected::CookieRequired);
            }
            Err(reason) => return Err(reason),
        }
        if kind == Kind::Initiation {
            let message =
                Initiation::parse(datagram.try_into().map_err(|_| Rejected::WrongLength)?);
            let task = Reading {
                own: own.clone(),
                message,
                source,
                named: None,
            };
            return Ok(HandshakeJob::new(
                PeerId::default(),
                Task::ReadInitiation(task),
            ));
        }
        let message = Response::parse(datagram.try_into().map_err(|_| Rejected::WrongLength)?);
        let id = self
            .peers
            .by_index(message.receiver)
            .ok_or(Rejected::UnknownReceiver)?;
        let peer = self.peers.get(id).ok_or(Rejected::UnknownReceiver)?;
        let task = peer.begin_read_response(own, message, source)?;
        Ok(HandshakeJob::new(id, Task::ReadResponse(task)))
    }

    fn owe_cookie<E: Endpoint>(&mut self, to: E, datagram: &[u8])
    where
        P: Peers<E>,
    {
        // In both handshake messages the sender's index follows the type.
        let sender = datagram.get(4..8).and_then(<[u8]>::first_chunk).copied();
        if let (Some(sender), Some(macs)) = (sender, Macs::of(datagram)) {
            let receiver = u32::from_le_bytes(sender);
            self.peers.push_cookie(OwedCookie {
                to,
                receiver,
                mac1: macs.mac1,
            });
        }
    }

    fn accept_cookie<E: Endpoint>(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<HandshakeStep<E>, Rejected>
    where
        P: Peers<E>,
    {
        let Ok(datagram) = datagram.try_into() else {
            return Err(self.drop_stray(Rejected::WrongLength));
        };
        let reply = CookieReply::parse(datagram);
        let id = self.peers.by_index(reply.receiver);
        let Some((id, peer)) = id.and_then(|id| Some((id, self.peers.get_mut(id)?))) else {
            return Err(self.drop_stray(Rejected::UnknownReceiver));
        };
        match peer.accept_cookie(now, &reply) {
            Ok(()) => Ok(HandshakeStep::Received(id, Control::Cookie)),
            Err(reason) => Err(self.drop_of(id, reason)),
        }
    }

    /// Goes on with a job, which is run if nobody has.
    pub(crate) fn finish_handshake<E: Endpoint>(
        &mut self,
        now: Instant,
        mut job: HandshakeJob<E>,
    ) -> Result<HandshakeStep<E>, Rejected>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        job.run();
        let HandshakeJob { task, peer: id } = job;
        let timings = self.timings;
        match task {
            Task::ReadInitiation(reading) => self
                .meet_initiator(now, reading)
                .map_err(|reason| self.drop_stray(reason)),
            Task::PairStatics(pairing) => {
                let accepted = self.pair_statics(now, id, pairing);
                accepted.map_err(|reason| self.drop_of(id, reason))
            }
            Task::ReadResponse(reading) => {
                let read = |peer: &mut Peer<E, P::Store>| {
                    peer.finish_read_response(now, &timings, reading)
                };
                match self.change(id, read).unwrap_or(Err(Rejected::Superseded)) {
                    Ok(()) => Ok(HandshakeStep::Received(id, Control::Response)),
                    Err(reason) => Err(self.drop_of(id, reason)),
                }
            }
            Task::WriteInitiation(writing) => {
                let sent = self.change(id, |peer| peer.finish_initiation(now, &timings, writing));
                Ok(sent
                    .flatten()
                    .map_or(HandshakeStep::Nothing, HandshakeStep::Transmit))
            }
            Task::WriteResponse(writing) => {
                let sent = self.change(id, |peer| peer.finish_response(now, &timings, writing));
                Ok(sent
                    .flatten()
                    .map_or(HandshakeStep::Nothing, HandshakeStep::Transmit))
            }
        }
    }

    /// The initiator has named itself; whether it is who it says is proven by what comes next.
    fn meet_initiator<E: Endpoint>(
        &mut self,
        now: Instant,
        reading: Reading<E>,
    ) -> Result<HandshakeStep<E>, Rejected>
    where
        P: Peers<E>,
    {
        let Reading {
            own,
            message,
            source,
            named,
        } = reading;
        let named = named.ok_or(Rejected::Superseded)??;
        let id = self
            .peers
            .by_key(&named.initiator)
            .ok_or(Rejected::UnknownPeer)?;
        let peer = self.peers.get(id).ok_or(Rejected::UnknownPeer)?;
        if peer.static_static().is_some() {
            let accepted = self.accept_initiation(now, id, &own, &message, named, source);
            return accepted.map_err(|reason| self.count_for(id, reason));
        }
        let task = Pairing {
            own,
            message,
            source,
            named,
            paired: None,
        };
        Ok(HandshakeStep::Run(HandshakeJob::new(
            id,
            Task::PairStatics(task),
        )))
    }

    fn pair_statics<E: Endpoint>(
        &mut self,
        now: Instant,
        id: PeerId,
        pairing: Pairing<E>,
    ) -> Result<HandshakeStep<E>, Rejected>
    where
        P: Peers<E>,
    {
        let Pairing {
            own,
            message,
            source,
            named,
            paired,
        } = pairing;
        let secret = paired.ok_or(Rejected::Superseded)?;
        if self.own_public() == Some(&own.public) {
            self.change(id, |peer| peer.set_static_static(secret));
        }
        self.accept_initiation(now, id, &own, &message, named, source)
    }

    fn accept_initiation<E: Endpoint>(
        &mut self,
        now: Instant,
        id: PeerId,
        own: &Identity,
        message: &Initiation,
        named: Named,
        source: E,
    ) -> Result<HandshakeStep<E>, Rejected>
    where
        P: Peers<E>,
    {
        if self.own_public() != Some(&own.public) {
            return Err(Rejected::Superseded);
        }
        self.change(id, |peer| {
            peer.accept_initiation(now, message, named, source)
        })
        .unwrap_or(Err(Rejected::Superseded))?;
        Ok(HandshakeStep::Received(id, Control::Initiation))
    }

    /// Counts a drop for a peer alone; the engine's count is the caller's.
    fn count_for<E: Endpoint>(&mut self, id: PeerId, reason: Rejected) -> Rejected
    where
        P: Peers<E>,
    {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.count_dropped();
        }
        reason
    }
}

/// What is polled.
impl<P> Engine<P> {
    /// Begins the next handshake message that is owed.
    pub(crate) fn poll_handshake<E: Endpoint>(
        &mut self,
        now: Instant,
        env: &mut Env<'_>,
    ) -> Option<HandshakeJob<E>>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        let (own, _) = self.identity.as_ref()?;
        while let Some(id) = self.peers.pop_handshake() {
            let index = self.peers.fresh_index(env);
            let Some(peer) = self.peers.get_mut(id) else {
                continue;
            };
            let task = match peer.owes() {
                Some(Owed::Response) => peer
                    .begin_response(now, index, env)
                    .map(Task::WriteResponse),
                Some(Owed::Initiation) => peer
                    .begin_initiation(now, &self.timings, own, index, env)
                    .map(Task::WriteInitiation),
                _ => None,
            };
            self.peers.settle(id);
            if let Some(task) = task {
                return Some(HandshakeJob::new(id, task));
            }
        }
        None
    }

    /// Builds the next message that is owed.
    pub(crate) fn poll_transmit<E: Endpoint>(
        &mut self,
        now: Instant,
        env: &mut Env<'_>,
    ) -> Option<Transmit<E>>
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        if let Some(reply) = self.write_cookie_reply(now, env) {
            return Some(reply);
        }
        let timings = self.timings;
        loop {
            while let Some(job) = self.poll_handshake(now, env) {
                if let Ok(HandshakeStep::Transmit(transmit)) = self.finish_handshake(now, job) {
                    return Some(transmit);
                }
            }
            // A keepalive whose session has ended meanwhile becomes a handshake, so look again.
            let id = self.peers.pop_keepalive()?;
            let written = self.change(id, |peer| peer.write_keepalive(now, &timings));
            if let Some(transmit) = written.flatten() {
                return Some(transmit);
            }
        }
    }

    fn write_cookie_reply<E: Endpoint>(
        &mut self,
        now: Instant,
        env: &mut Env<'_>,
    ) -> Option<Transmit<E>>
    where
        P: Peers<E>,
    {
        let (_, checker) = self.identity.as_mut()?;
        let OwedCookie { to, receiver, mac1 } = self.peers.pop_cookie()?;
        let message = checker.reply(now, env, to.address(), receiver, &mac1);
        Some(Transmit::new(to, message))
    }

    pub(crate) fn handle_timeout<E: Endpoint>(&mut self, now: Instant)
    where
        P: Peers<E>,
    {
        let now = self.advance(now);
        let timings = self.timings;
        while let Some(id) = self.peers.pop_due(now) {
            self.change(id, |peer| peer.handle_timeout(now, &timings));
        }
    }

    /// Changes a peer and notes what follows from it.
    pub(crate) fn change<E: Endpoint, R>(
        &mut self,
        id: PeerId,
        f: impl FnOnce(&mut Peer<E, P::Store>) -> R,
    ) -> Option<R>
    where
        P: Peers<E>,
    {
        let result = f(self.peers.get_mut(id)?);
        self.peers.settle(id);
        Some(result)
    }
}
