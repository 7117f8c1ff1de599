//! The peer's side of handshakes: what is checked and changed before and after the multiplications.

use core::time::Duration;

use super::{InitiatorState, Peer, ResponderState};
use crate::crypto::x25519::Private;
use crate::error::Rejected;
use crate::event::{Env, Transmit};
use crate::handshake::{
    Accepted, Identity, Initiating, Named, Outstanding, ReadingResponse, Responding, StaticStatic,
};
use crate::noise::{self, NoiseError};
use crate::session::{Role, Session, Store};
use crate::tai64n::Tai64N;
use crate::time::Instant;
use crate::timers::{Timer, Timings};
use crate::wire::{CookieReply, Initiation, Response};

/// At most 50 initiations a second are accepted from one peer.
const INITIATION_SPACING: Duration = Duration::from_millis(20);

impl From<NoiseError> for Rejected {
    fn from(error: NoiseError) -> Self {
        match error {
            NoiseError::Forged => Self::Forged,
            NoiseError::LowOrder => Self::LowOrderKey,
        }
    }
}

impl<E: Copy + PartialEq, S: Store> Peer<E, S> {
    /// Begins to write the initiation that is owed, under a receiver index of its own.
    pub(crate) fn begin_initiation(
        &mut self,
        now: Instant,
        timings: &Timings,
        own: &Identity,
        index: u32,
        env: &mut Env<'_>,
    ) -> Option<Initiating> {
        self.owes_initiation = false;
        // Asked again: a response may have gone out since the initiation was asked for.
        if !self.may_initiate(now, timings) {
            return None;
        }
        self.sent_timestamp = Tai64N::next(env.unix_time, self.sent_timestamp);
        self.initiator = InitiatorState::Writing { index };
        self.timers.reseed(u64::from_le_bytes(env.random()));
        self.initiation_sent(now, timings);
        Some(Initiating {
            own: own.clone(),
            responder: self.public_key,
            static_static: self.static_static.clone(),
            ephemeral: Private::from_bytes(env.random()),
            sender: index,
            timestamp: self.sent_timestamp,
            written: None,
        })
    }

    /// Sends the initiation, unless it was superseded or the peer's key allows none.
    pub(crate) fn finish_initiation(
        &mut self,
        now: Instant,
        timings: &Timings,
        job: Initiating,
    ) -> Option<Transmit<E>> {
        let Initiating {
            static_static,
            ephemeral,
            sender,
            written,
            ..
        } = job;
        if !matches!(self.initiator, InitiatorState::Writing { index } if index == sender) {
            return None;
        }
        self.initiator = InitiatorState::Idle;
        self.static_static = static_static;
        let (Some(Ok((message, state))), Some(to)) = (written, self.endpoint) else {
            self.timers.stop(Timer::RetransmitHandshake);
            return None;
        };
        self.initiator = InitiatorState::Waiting {
            index: sender,
            outstanding: Outstanding { state, ephemeral },
        };
        self.initiation_sent(now, timings);
        let mut message = message.emit();
        self.jar.sign(now, &self.public_key, &mut message);
        self.count_sent(Initiation::LEN);
        Some(Transmit::new(to, message))
    }

    /// The timers hear of an initiation twice: when it is begun, so that a job that is lost is
    /// retried, and when it is sent.
    fn initiation_sent(&mut self, now: Instant, timings: &Timings) {
        self.handshake_sent_at = Some(now);
        self.timers.any_authenticated_sent(now);
        self.timers.handshake_initiated(now, timings);
    }

    /// The secret shared with this peer's static key, if it has been computed.
    pub(crate) fn static_static(&self) -> Option<&StaticStatic> {
        self.static_static.as_ref()
    }

    pub(crate) fn set_static_static(&mut self, secret: StaticStatic) {
        self.static_static = Some(secret);
    }

    /// Accepts an initiation of this peer; a response is owed then. [`Self::static_static`] must
    /// have been computed.
    pub(crate) fn accept_initiation(
        &mut self,
        now: Instant,
        message: &Initiation,
        named: Named,
        source: E,
    ) -> Result<(), Rejected> {
        let Some(StaticStatic::Known(static_static)) = &self.static_static else {
            return Err(Rejected::LowOrderKey);
        };
        let mut payload = message.sealed_timestamp;
        let state = noise::read_payload(named.state, static_static, &mut payload)?;
        let timestamp = payload.first_chunk().copied().unwrap_or_default();
        let timestamp = Tai64N::from_bytes(timestamp);
        if timestamp <= self.greatest_timestamp {
            return Err(Rejected::OldTimestamp);
        }
        if self
            .accepted_at
            .is_some_and(|at| !at.is_older_than(INITIATION_SPACING, now))
        {
            return Err(Rejected::TooFrequent);
        }
        self.greatest_timestamp = timestamp;
        self.accepted_at = Some(now);
        self.responder = ResponderState::Owed(Accepted {
            state,
            initiator_ephemeral: message.ephemeral,
            receiver: message.sender,
        });
        self.roam(source);
        self.timers.any_authenticated_received(now);
        self.count_received(Initiation::LEN);
        Ok(())
    }

    /// Begins to write the response that is owed, under a receiver index of its own.
    pub(crate) fn begin_response(
        &mut self,
        now: Instant,
        index: u32,
        env: &mut Env<'_>,
    ) -> Option<Responding> {
        let ResponderState::Owed(accepted) = &self.responder else {
            return None;
        };
        // Cloned and dropped where it lies, because what is moved out of leaves its bytes behind.
        let accepted = accepted.clone();
        self.responder = ResponderState::Writing { index };
        self.handshake_sent_at = Some(now);
        self.timers.reseed(u64::from_le_bytes(env.random()));
        Some(Responding {
            accepted,
            initiator: self.public_key,
            psk: self.psk.clone(),
            ephemeral: Private::from_bytes(env.random()),
            sender: index,
            written: None,
        })
    }

    /// Sends the response and keeps its session until the initiator confirms it.
    pub(crate) fn finish_response(
        &mut self,
        now: Instant,
        timings: &Timings,
        job: Responding,
    ) -> Option<Transmit<E>> {
        let Responding {
            sender, written, ..
        } = job;
        if !matches!(self.responder, ResponderState::Writing { index } if index == sender) {
            return None;
        }
        self.responder = ResponderState::Idle;
        let (Some(Ok((message, keys))), Some(to)) = (written, self.endpoint) else {
            return None;
        };
        let session = Session::new(Role::Responder, now, sender, message.receiver, keys);
        self.keyring.add_responded(session);
        self.handshake_sent_at = Some(now);
        self.timers.session_derived(now, timings);
        self.timers.any_authenticated_sent(now);
        let mut message = message.emit();
        self.jar.sign(now, &self.public_key, &mut message);
        self.count_sent(Response::LEN);
        Some(Transmit::new(to, message))
    }

    /// Begins to read a response to the initiation that is outstanding.
    pub(crate) fn begin_read_response(
        &self,
        own: &Identity,
        message: Response,
        source: E,
    ) -> Result<ReadingResponse<E>, Rejected> {
        match &self.initiator {
            InitiatorState::Waiting { index, outstanding } if *index == message.receiver => {
                Ok(ReadingResponse {
                    own: own.clone(),
                    outstanding: outstanding.clone(),
                    psk: self.psk.clone(),
                    message,
                    source,
                    keys: None,
                })
            }
            _ => Err(Rejected::UnknownReceiver),
        }
    }

    /// Takes the session of an authentic response; a confirmation is owed then.
    pub(crate) fn finish_read_response(
        &mut self,
        now: Instant,
        timings: &Timings,
        job: ReadingResponse<E>,
    ) -> Result<(), Rejected> {
        let ReadingResponse {
            message,
            source,
            keys,
            ..
        } = job;
        let Response {
            sender, receiver, ..
        } = message;
        if !matches!(self.initiator, InitiatorState::Waiting { index, .. } if index == receiver) {
            return Err(Rejected::Superseded);
        }
        let keys = keys.ok_or(Rejected::Superseded)??;
        self.initiator = InitiatorState::Idle;
        self.owes_initiation = false;
        self.keyring
            .add_initiated(Session::new(Role::Initiator, now, receiver, sender, keys));
        self.roam(source);
        self.timers.session_derived(now, timings);
        self.session_established(now, timings);
        self.send_keepalive(now, timings);
        self.timers.any_authenticated_received(now);
        self.count_received(Response::LEN);
        Ok(())
    }

    /// Takes a cookie; the next handshake message carries it.
    pub(crate) fn accept_cookie(
        &mut self,
        now: Instant,
        reply: &CookieReply,
    ) -> Result<(), Rejected> {
        if self.jar.accept(now, &self.public_key, reply) {
            Ok(())
        } else {
            Err(Rejected::UnexpectedCookie)
        }
    }
}
