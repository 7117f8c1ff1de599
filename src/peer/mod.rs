//! One peer: the state machine between messages, sessions and timers.
//!
//! A [`Peer`] knows nothing of other peers, of sockets or of where its index came from. It is told
//! what happened and when, and it remembers what it owes: at most one message of each kind, so there
//! is no queue. This file holds the data path and the timers; `exchange` holds the handshake.
//! The order of the steps is that of the Linux kernel (`send.c`, `receive.c`, `timers.c`).

mod changes;
mod config;
mod exchange;
#[cfg(test)]
mod tests;

use core::net::IpAddr;

use crate::cookie::Jar;
use crate::crypto::aead::AeadKey;
use crate::crypto::secret::Secret;
use crate::error::{Rejected, SealError};
use crate::event::{Event, Events, Transmit};
use crate::handshake::{Accepted, Outstanding, StaticStatic};
use crate::ip::{self, Malformed};
use crate::job::{Draft, OpenJob, Place};
use crate::key::PublicKey;
use crate::session::{Keyring, Session, Store};
use crate::tai64n::Tai64N;
use crate::time::Instant;
use crate::timers::{Timer, Timers, Timings};
use crate::wire::{DataHeader, Message};

pub use self::config::PeerConfig;

/// The state of one peer.
#[derive(Debug)]
pub(crate) struct Peer<E, S> {
    public_key: [u8; 32],
    psk: Secret<32>,
    /// Computed when it is first needed, so that adding peers costs no multiplication.
    static_static: Option<StaticStatic>,
    endpoint: Option<E>,
    mtu: u16,
    initiator: InitiatorState,
    responder: ResponderState,
    keyring: Keyring<S>,
    timers: Timers,
    jar: Jar,
    /// The greatest timestamp accepted from the peer.
    greatest_timestamp: Tai64N,
    /// The last timestamp sent to it.
    sent_timestamp: Tai64N,
    accepted_at: Option<Instant>,
    /// When an initiation or response was last sent to it.
    handshake_sent_at: Option<Instant>,
    owes_initiation: bool,
    owes_keepalive: bool,
    /// A confirmed session has freed a receiver index since this was last asked.
    has_freed_index: bool,
    events: Events,
    stats: PeerStats,
}

/// Our initiation, if there is one.
#[derive(Debug)]
enum InitiatorState {
    Idle,
    /// A job is computing it.
    Writing {
        index: u32,
    },
    /// It was sent and is not answered yet.
    Waiting {
        index: u32,
        outstanding: Outstanding,
    },
}

/// Our response, if one is owed.
#[derive(Debug)]
enum ResponderState {
    Idle,
    Owed(Accepted),
    /// A job is computing it.
    Writing {
        index: u32,
    },
}

/// Traffic with a peer, counted as the kernel counts it: whole datagrams, handshakes included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Bytes received in authentic, acceptable datagrams.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Authentic, acceptable datagrams received.
    pub rx_datagrams: u64,
    /// Datagrams sent.
    pub tx_datagrams: u64,
    /// Datagrams that claimed to be of this peer's sessions or handshakes and were dropped.
    pub rx_dropped: u64,
    /// When the last handshake completed.
    pub last_handshake: Option<Instant>,
}

/// What a peer owes to the wire, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owed {
    Response,
    Initiation,
    Keepalive,
}

impl<E: Copy + PartialEq, S: Store> Peer<E, S> {
    pub(crate) fn new(
        public_key: [u8; 32],
        psk: Secret<32>,
        endpoint: Option<E>,
        mtu: u16,
    ) -> Self {
        Self {
            public_key,
            psk,
            static_static: None,
            endpoint,
            mtu,
            initiator: InitiatorState::Idle,
            responder: ResponderState::Idle,
            keyring: Keyring::default(),
            timers: Timers::default(),
            jar: Jar::default(),
            greatest_timestamp: Tai64N::default(),
            sent_timestamp: Tai64N::default(),
            accepted_at: None,
            handshake_sent_at: None,
            owes_initiation: false,
            owes_keepalive: false,
            has_freed_index: false,
            events: Events::default(),
            stats: PeerStats::default(),
        }
    }

    /// Reserves a counter of the current session for a packet. [`Self::sender`] has the rest.
    #[inline]
    pub(crate) fn begin_seal(
        &mut self,
        now: Instant,
        timings: &Timings,
        place: Place,
    ) -> Result<Draft, SealError> {
        let mut draft = place.draft(self.mtu)?;
        if self.endpoint.is_none() {
            return Err(SealError::NoEndpoint);
        }
        let Some(session) = self.keyring.sender(now, timings.reject_after_time) else {
            self.request_initiation(now, timings);
            return Err(SealError::NoSession);
        };
        draft.receiver = session.remote_index;
        draft.counter = session.reserve_counter();
        self.owes_keepalive = false;
        self.count_sent(draft.datagram_len());
        self.timers.any_authenticated_sent(now);
        self.timers.data_sent(now, timings);
        self.keep_fresh_on_send(now, timings);
        Ok(draft)
    }

    /// The key of the current session, and where its datagrams go.
    #[inline]
    pub(crate) fn sender(&self) -> Option<(&AeadKey, E)> {
        Some((self.keyring.current()?.send_key(), self.endpoint?))
    }

    /// Finds the session that a data datagram claims.
    #[inline]
    pub(crate) fn begin_open(
        &self,
        now: Instant,
        timings: &Timings,
        header: DataHeader,
    ) -> Result<&Session, Rejected> {
        let session = self
            .keyring
            .receiver(header.receiver)
            .ok_or(Rejected::UnknownReceiver)?;
        if session.can_receive(now, timings.reject_after_time, header.counter) {
            Ok(session)
        } else {
            Err(Rejected::SessionExpired)
        }
    }

    /// Believes or refuses an opened datagram, and returns the length of its packet. What is authentic and
    /// new moves timers and the endpoint, even if the packet in it is not acceptable.
    #[inline]
    pub(crate) fn finish_open<B: AsMut<[u8]>>(
        &mut self,
        now: Instant,
        timings: &Timings,
        job: &mut OpenJob<B, E>,
        is_allowed: &dyn Fn(IpAddr) -> bool,
    ) -> Result<usize, Rejected> {
        if !job.is_authentic() {
            return Err(Rejected::Forged);
        }
        let DataHeader { receiver, counter } = job.header;
        let session = self
            .keyring
            .receiver_mut(receiver)
            .filter(|session| session.id == job.session)
            .ok_or(Rejected::Superseded)?;
        if !session.can_receive(now, timings.reject_after_time, counter) {
            return Err(Rejected::SessionExpired);
        }
        if !session.mark_received(counter) {
            return Err(Rejected::Replayed);
        }
        self.received_under(now, timings, receiver, job.source);
        let packet = job.plaintext();
        let mut len = 0;
        if !packet.is_empty() {
            self.timers.data_received(now, timings);
            let inner = ip::parse(packet).map_err(|malformed| match malformed {
                Malformed::NotIp => Rejected::NotIp,
                Malformed::BadLength => Rejected::BadInnerLength,
            })?;
            if !is_allowed(inner.source) {
                return Err(Rejected::ForeignSource);
            }
            len = inner.length;
        }
        self.count_received(job.datagram_len());
        Ok(len)
    }

    /// An authentic, new datagram came from `source` under the session with this index.
    #[inline]
    fn received_under(&mut self, now: Instant, timings: &Timings, index: u32, source: E) {
        self.roam(source);
        if self.keyring.confirm(index) {
            self.has_freed_index = true;
            self.session_established(now, timings);
        }
        self.keep_fresh_on_receive(now, timings);
        self.timers.any_authenticated_received(now);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, timings: &Timings) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::RetransmitHandshake => self.retransmit(now, timings),
                Timer::SendKeepalive => {
                    self.send_keepalive(now, timings);
                    self.timers.keepalive_fired(now, timings);
                }
                Timer::NewHandshake => self.request_initiation(now, timings),
                Timer::EraseKeys => self.erase_keys(),
                Timer::PersistentKeepalive => {
                    self.send_keepalive(now, timings);
                    self.timers.persistent_keepalive_fired(now);
                }
                Timer::SessionExpiry => {
                    if self.keyring.current().is_some() {
                        self.note(Event::SessionExpired);
                    }
                }
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(crate) fn pop_event(&mut self) -> Option<Event> {
        self.events.pop()
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What is owed and can be sent. Without an endpoint an initiation stays owed until there is one.
    #[inline]
    pub(crate) fn owes(&self) -> Option<Owed> {
        self.endpoint?;
        if matches!(self.responder, ResponderState::Owed(_)) {
            Some(Owed::Response)
        } else if self.owes_initiation {
            Some(Owed::Initiation)
        } else {
            self.owes_keepalive.then_some(Owed::Keepalive)
        }
    }

    /// Builds the keepalive that is owed, unless its session has ended meanwhile.
    pub(crate) fn write_keepalive(
        &mut self,
        now: Instant,
        timings: &Timings,
    ) -> Option<Transmit<E>> {
        self.owes_keepalive = false;
        let to = self.endpoint?;
        let Some(session) = self.keyring.sender(now, timings.reject_after_time) else {
            self.request_initiation(now, timings);
            return None;
        };
        let header = DataHeader::new(session.remote_index, session.reserve_counter());
        let mut message = Message::keepalive(header);
        session
            .send_key()
            .seal(header.counter, &[], message.body_mut());
        self.count_sent(message.as_bytes().len());
        self.keep_fresh_on_send(now, timings);
        Some(Transmit::new(to, message))
    }

    /// The kernel's `wg_packet_send_keepalive`: a keepalive, or a handshake when there is no session.
    ///
    /// The timers are told now, not when the message is built: what is decided here goes out with
    /// the next poll.
    fn send_keepalive(&mut self, now: Instant, timings: &Timings) {
        if self
            .keyring
            .sender(now, timings.reject_after_time)
            .is_some()
        {
            self.owes_keepalive = true;
            self.timers.any_authenticated_sent(now);
        } else {
            self.request_initiation(now, timings);
        }
    }

    /// Asks for a handshake that is not a retransmission. One that follows another handshake
    /// message within `rekey_timeout` is not sent.
    pub(crate) fn request_initiation(&mut self, now: Instant, timings: &Timings) {
        self.timers.restart_attempts();
        self.owe_initiation(now, timings);
    }

    fn owe_initiation(&mut self, now: Instant, timings: &Timings) {
        let unreachable = matches!(self.static_static, Some(StaticStatic::LowOrder));
        if !unreachable && self.may_initiate(now, timings) {
            self.owes_initiation = true;
        }
    }

    fn may_initiate(&self, now: Instant, timings: &Timings) -> bool {
        self.handshake_sent_at
            .is_none_or(|sent| sent.is_older_than(timings.rekey_timeout, now))
    }

    fn retransmit(&mut self, now: Instant, timings: &Timings) {
        if self.timers.attempt_again(timings) {
            self.owe_initiation(now, timings);
        } else {
            self.timers.handshake_given_up(now, timings);
            self.note(Event::HandshakeGivenUp);
        }
    }

    #[inline]
    fn keep_fresh_on_send(&mut self, now: Instant, timings: &Timings) {
        let stale = |session: &Session| {
            session.has_sent_many() || session.is_old_initiator(now, timings.rekey_after_time)
        };
        if self.keyring.current().is_some_and(stale) {
            self.request_initiation(now, timings);
        }
    }

    #[inline]
    fn keep_fresh_on_receive(&mut self, now: Instant, timings: &Timings) {
        let ending = |session: &Session| {
            !session.is_retired() && session.is_old_initiator(now, timings.rekey_on_receive())
        };
        if self.keyring.current().is_some_and(ending) && self.timers.first_last_minute_request() {
            self.request_initiation(now, timings);
        }
    }

    /// The current session is a new one, proven by both sides.
    fn session_established(&mut self, now: Instant, timings: &Timings) {
        self.timers.handshake_complete();
        if let Some(session) = self.keyring.current() {
            self.timers.session_current(session.born, timings);
        }
        self.stats.last_handshake = Some(now);
        self.note(Event::Established);
    }

    fn note(&mut self, event: Event) {
        debug!("peer {}: {event:?}", PublicKey::from_bytes(self.public_key));
        self.events.push(event);
    }

    fn roam(&mut self, source: E) {
        if self.endpoint.as_ref() != Some(&source) {
            self.endpoint = Some(source);
            self.note(Event::Roamed);
        }
    }

    fn erase_keys(&mut self) {
        self.initiator = InitiatorState::Idle;
        self.responder = ResponderState::Idle;
        self.owes_keepalive = false;
        if self.keyring.clear() {
            self.note(Event::KeysErased);
        }
    }

    #[inline]
    fn count_received(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.stats.rx_bytes = self.stats.rx_bytes.saturating_add(bytes);
        self.stats.rx_datagrams = self.stats.rx_datagrams.saturating_add(1);
    }

    pub(crate) fn count_dropped(&mut self) {
        self.stats.rx_dropped = self.stats.rx_dropped.saturating_add(1);
    }

    #[inline]
    fn count_sent(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.stats.tx_bytes = self.stats.tx_bytes.saturating_add(bytes);
        self.stats.tx_datagrams = self.stats.tx_datagrams.saturating_add(1);
    }
}
