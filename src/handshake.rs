//! The expensive part of handshakes, as values that can run on any thread.
//!
//! X25519 is nine tenths of a handshake. Like a packet, a handshake message passes three steps: begin
//! (on the state machine: cheap checks), [`HandshakeJob::run`] (here: the multiplications) and finish
//! (on the state machine: the state changes). Reading an initiation may take two rounds, because the
//! peer, and with it the static-static secret, is known only after the first multiplication.

use core::fmt;
use core::net::SocketAddr;

use crate::crypto::secret::Secret;
use crate::crypto::x25519::Private;
use crate::event::PeerId;
use crate::noise::{
    self, FirstMessage, NoiseError, ReadResponse, Symmetric, TransportKeys, WriteInitiation,
    WriteResponse,
};
use crate::tai64n::Tai64N;
use crate::wire::{Initiation, Response};

/// What the protocol mixes in before everything else.
pub(crate) const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// A handshake message that waits for its Diffie-Hellman operations.
///
/// The job owns copies of the keys it needs and wipes them when dropped. Dropping it loses the
/// message, which the retransmission makes good. Cost of a run: 40 to 110 µs on a current core.
#[must_use = "a handshake goes on when its job is run and finished"]
pub struct HandshakeJob<E = SocketAddr> {
    pub(crate) task: Task<E>,
    pub(crate) peer: PeerId,
}

/// What a job is about.
#[derive(Debug)]
pub(crate) enum Task<E> {
    ReadInitiation(Reading<E>),
    PairStatics(Pairing<E>),
    ReadResponse(ReadingResponse<E>),
    WriteInitiation(Initiating),
    WriteResponse(Responding),
}

impl<E> HandshakeJob<E> {
    pub(crate) const fn new(peer: PeerId, task: Task<E>) -> Self {
        Self { task, peer }
    }

    /// Does the multiplications that the message waits for. Does nothing the second time.
    pub fn run(&mut self) {
        match &mut self.task {
            Task::ReadInitiation(task) => task.run(),
            Task::PairStatics(task) => task.run(),
            Task::ReadResponse(task) => task.run(),
            Task::WriteInitiation(task) => task.run(),
            Task::WriteResponse(task) => task.run(),
        }
    }

    /// Runs many jobs.
    pub fn run_all(jobs: &mut [Self]) {
        jobs.iter_mut().for_each(Self::run);
    }
}

impl<E> fmt::Debug for HandshakeJob<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = match self.task {
            Task::ReadInitiation(_) => "ReadInitiation",
            Task::PairStatics(_) => "PairStatics",
            Task::ReadResponse(_) => "ReadResponse",
            Task::WriteInitiation(_) => "WriteInitiation",
            Task::WriteResponse(_) => "WriteResponse",
        };
        f.debug_struct("HandshakeJob")
            .field("task", &task)
            .finish_non_exhaustive()
    }
}

/// Our static key pair.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) private: Private,
    pub(crate) public: [u8; 32],
}

impl Identity {
    pub(crate) fn new(private: &[u8; 32]) -> Self {
        let private = Private::from_bytes(*private);
        let public = private.public();
        Self { private, public }
    }
}

/// An initiation received, up to the initiator's name.
#[derive(Debug)]
pub(crate) struct Reading<E> {
    pub(crate) own: Identity,
    pub(crate) message: Initiation,
    pub(crate) source: E,
    pub(crate) named: Option<Result<Named, NoiseError>>,
}

/// Who an initiation claims to be from.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) state: Symmetric,
    pub(crate) initiator: [u8; 32],
}

impl<E> Reading<E> {
    fn run(&mut self) {
        let Self {
            own,
            message,
            named,
            ..
        } = self;
        named.get_or_insert_with(|| {
            let state = Symmetric::new(IDENTIFIER, &own.public);
            let first = FirstMessage {
                ephemeral: message.ephemeral,
                sealed_static: message.sealed_static,
            };
            let (state, initiator) = noise::read_initiator(state, &own.private, &first)?;
            Ok(Named { state, initiator })
        });
    }
}

/// An initiation received from a peer whose static-static secret is not computed yet.
#[derive(Debug)]
pub(crate) struct Pairing<E> {
    pub(crate) own: Identity,
    pub(crate) message: Initiation,
    pub(crate) source: E,
    pub(crate) named: Named,
    pub(crate) paired: Option<StaticStatic>,
}

impl<E> Pairing<E> {
    fn run(&mut self) {
        let Self {
            own, named, paired, ..
        } = self;
        paired.get_or_insert_with(|| StaticStatic::compute(&own.private, &named.initiator));
    }
}

/// The secret of two static keys, computed once for the life of both.
#[derive(Clone, Debug)]
pub(crate) enum StaticStatic {
    Known(Secret<32>),
    /// The peer's public key has low order: no handshake with it is possible.
    LowOrder,
}

impl StaticStatic {
    pub(crate) fn compute(own: &Private, peer: &[u8; 32]) -> Self {
        own.diffie_hellman(peer).map_or(Self::LowOrder, Self::Known)
    }
}

/// An initiation to be written.
#[derive(Debug)]
pub(crate) struct Initiating {
    pub(crate) own: Identity,
    pub(crate) responder: [u8; 32],
    pub(crate) static_static: Option<StaticStatic>,
    pub(crate) ephemeral: Private,
    pub(crate) sender: u32,
    pub(crate) timestamp: Tai64N,
    pub(crate) written: Option<Result<(Initiation, Symmetric), NoiseError>>,
}

impl Initiating {
    fn run(&mut self) {
        if self.written.is_none() {
            self.written = Some(self.write());
        }
    }

    fn write(&mut self) -> Result<(Initiation, Symmetric), NoiseError> {
        let statics = self
            .static_static
            .get_or_insert_with(|| StaticStatic::compute(&self.own.private, &self.responder));
        let StaticStatic::Known(static_static) = statics else {
            return Err(NoiseError::LowOrder);
        };
        let write = WriteInitiation {
            ephemeral: &self.ephemeral,
            own_public: &self.own.public,
            responder: &self.responder,
            static_static,
        };
        let mut sealed_timestamp = [0; Tai64N::LEN + 16];
        if let Some(room) = sealed_timestamp.first_chunk_mut() {
            *room = self.timestamp.to_bytes();
        }
        let state = Symmetric::new(IDENTIFIER, &self.responder);
        let (state, first) = write.run(state, &mut sealed_timestamp)?;
        let FirstMessage {
            ephemeral,
            sealed_static,
        } = first;
        let message = Initiation {
            sender: self.sender,
            ephemeral,
            sealed_static,
            sealed_timestamp,
        };
        Ok((message, state))
    }
}

/// An initiation received and accepted, to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) state: Symmetric,
    pub(crate) initiator_ephemeral: [u8; 32],
    /// The index by which the initiator wants to be answered.
    pub(crate) receiver: u32,
}

/// A response to be written.
#[derive(Debug)]
pub(crate) struct Responding {
    pub(crate) accepted: Accepted,
    pub(crate) initiator: [u8; 32],
    pub(crate) psk: Secret<32>,
    pub(crate) ephemeral: Private,
    pub(crate) sender: u32,
    pub(crate) written: Option<Result<(Response, TransportKeys), NoiseError>>,
}

impl Responding {
    fn run(&mut self) {
        if self.written.is_none() {
            self.written = Some(self.write());
        }
    }

    fn write(&self) -> Result<(Response, TransportKeys), NoiseError> {
        let write = WriteResponse {
            ephemeral: &self.ephemeral,
            initiator_ephemeral: &self.accepted.initiator_ephemeral,
            initiator: &self.initiator,
            psk: &self.psk,
        };
        let mut sealed_nothing = [0; 16];
        let (ephemeral, state) = write.run(self.accepted.state.clone(), &mut sealed_nothing)?;
        let (sender, receiver) = (self.sender, self.accepted.receiver);
        let message = Response {
            sender,
            receiver,
            ephemeral,
            sealed_nothing,
        };
        Ok((message, noise::responder_keys(&state)))
    }
}

/// An initiation that was sent and waits for its response.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    pub(crate) state: Symmetric,
    pub(crate) ephemeral: Private,
}

/// A response received.
#[derive(Debug)]
pub(crate) struct ReadingResponse<E> {
    pub(crate) own: Identity,
    pub(crate) outstanding: Outstanding,
    pub(crate) psk: Secret<32>,
    pub(crate) message: Response,
    pub(crate) source: E,
    pub(crate) keys: Option<Result<TransportKeys, NoiseError>>,
}

impl<E> ReadingResponse<E> {
    fn run(&mut self) {
        if self.keys.is_none() {
            self.keys = Some(self.read());
        }
    }

    fn read(&self) -> Result<TransportKeys, NoiseError> {
        let read = ReadResponse {
            ephemeral: &self.outstanding.ephemeral,
            own: &self.own.private,
            responder_ephemeral: &self.message.ephemeral,
            psk: &self.psk,
        };
        let mut sealed_nothing = self.message.sealed_nothing;
        let state = read.run(self.outstanding.state.clone(), &mut sealed_nothing)?;
        Ok(noise::initiator_keys(&state))
    }
}
