//! Sessions and the three slots that hold them (white paper, sections 5.4.5, 5.4.6 and 6.1).
//!
//! A [`Keyring`] is all that a peer knows of its sessions: which one sends, which ones receive and
//! when one follows another. It reserves counters and checks replays; it does no cryptography,
//! which is the business of the jobs in `job`.

use core::mem;
use core::ops::{Deref, DerefMut};
use core::time::Duration;

use crate::crypto::aead::AeadKey;
use crate::crypto::blake2s::hash;
use crate::noise::TransportKeys;
use crate::replay::Window;
use crate::time::Instant;

/// After this many messages a session is replaced.
pub(crate) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;

/// A session never uses this counter or a greater one.
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// Which side of the handshake we were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// One pair of transport keys with its counters.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) role: Role,
    pub(crate) born: Instant,
    /// Tells this session from any other, also from one with the same index: a hash of its key.
    pub(crate) id: u64,
    /// The index by which the peer addresses this session.
    pub(crate) local_index: u32,
    /// The index by which we address it.
    pub(crate) remote_index: u32,
    send_key: AeadKey,
    receive_key: AeadKey,
    next_counter: u64,
    /// Sending has ended early, as after a change of the private key; receiving goes on.
    retired: bool,
    window: Window,
}

impl Session {
    pub(crate) fn new(
        role: Role,
        born: Instant,
        local_index: u32,
        remote_index: u32,
        keys: TransportKeys,
    ) -> Self {
        let [i0, i1, i2, i3, i4, i5, i6, i7, ..] = hash(&[b"session", keys.receive.expose()]);
        Self {
            role,
            born,
            id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            local_index,
            remote_index,
            send_key: AeadKey::new(keys.send),
            receive_key: AeadKey::new(keys.receive),
            next_counter: 0,
            retired: false,
            window: Window::new(),
        }
    }

    /// Whether the next packet can be sealed.
    #[inline]
    pub(crate) fn can_send(&self, now: Instant, reject_after: Duration) -> bool {
        !self.retired
            && !self.born.is_older_than(reject_after, now)
            && self.next_counter < REJECT_AFTER_MESSAGES
    }

    /// Whether a datagram with this counter may be opened. The replay window is not asked yet: it
    /// may only be believed once the datagram is authentic.
    #[inline]
    pub(crate) fn can_receive(&self, now: Instant, reject_after: Duration, counter: u64) -> bool {
        !self.born.is_older_than(reject_after, now) && counter < REJECT_AFTER_MESSAGES
    }

    /// Takes the next counter. [`Self::can_send`] must have been asked.
    #[inline]
    pub(crate) fn reserve_counter(&mut self) -> u64 {
        let counter = self.next_counter;
        self.next_counter = counter.saturating_add(1);
        counter
    }

    /// Marks a counter as received; `false` when it was seen before or is behind the window.
    #[inline]
    pub(crate) fn mark_received(&mut self, counter: u64) -> bool {
        self.window.mark(counter)
    }

    /// Whether sending has brought the session to its message limit.
    #[inline]
    pub(crate) fn has_sent_many(&self) -> bool {
        self.next_counter > REKEY_AFTER_MESSAGES
    }

    #[inline]
    pub(crate) fn is_old_initiator(&self, now: Instant, age: Duration) -> bool {
        self.role == Role::Initiator && self.born.is_older_than(age, now)
    }

    /// Whether sending has ended early.
    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    #[inline]
    pub(crate) fn send_key(&self) -> &AeadKey {
        &self.send_key
    }

    #[inline]
    pub(crate) fn receive_key(&self) -> &AeadKey {
        &self.receive_key
    }

    #[cfg(test)]
    pub(crate) fn set_next_counter(&mut self, counter: u64) {
        self.next_counter = counter;
    }
}

/// How a keyring stores a session: inline, or on the heap so that idle peers stay small.
pub(crate) trait Store:
    From<Session> + DerefMut<Target = Session> + core::fmt::Debug
{
}

impl<T: From<Session> + DerefMut<Target = Session> + core::fmt::Debug> Store for T {}

/// A session stored inline, for peers without an allocator.
#[derive(Debug)]
pub(crate) struct Inline(Session);

impl From<Session> for Inline {
    fn from(session: Session) -> Self {
        Self(session)
    }
}

impl Deref for Inline {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Inline {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

/// The three slots of a peer.
///
/// Sessions change their slot by swapping, and end by being dropped where they lie: moving one out
/// of a slot would leave its keys behind there.
#[derive(Debug)]
pub(crate) struct Keyring<S> {
    previous: Option<S>,
    current: Option<S>,
    /// Made by us as the responder and not confirmed yet: it receives but must not send.
    next: Option<S>,
}

impl<S> Default for Keyring<S> {
    fn default() -> Self {
        Self {
            previous: None,
            current: None,
            next: None,
        }
    }
}

impl<S: Store> Keyring<S> {
    /// Adds a session that we initiated; it can be used at once.
    ///
    /// A session that waits for confirmation is demoted to `previous` instead of lost, so that two
    /// crossing handshakes converge.
    pub(crate) fn add_initiated(&mut self, session: Session) {
        self.previous = None;
        if self.next.is_some() {
            mem::swap(&mut self.previous, &mut self.next);
        } else {
            mem::swap(&mut self.previous, &mut self.current);
        }
        self.current = Some(S::from(session));
    }

    /// Adds a session that we responded to; it waits for the first authentic datagram.
    pub(crate) fn add_responded(&mut self, session: Session) {
        self.previous = None;
        self.next = Some(S::from(session));
    }

    /// A datagram was authentic under the session with this index: whether that confirmed it.
    pub(crate) fn confirm(&mut self, local_index: u32) -> bool {
        let is_next = |next: &S| next.local_index == local_index;
        if !self.next.as_ref().is_some_and(is_next) {
            return false;
        }
        self.previous = None;
        mem::swap(&mut self.previous, &mut self.current);
        mem::swap(&mut self.current, &mut self.next);
        true
    }

    /// The session that sends.
    pub(crate) fn current(&self) -> Option<&Session> {
        self.current.as_deref()
    }

    /// The session that sends, if it still may.
    pub(crate) fn sender(&mut self, now: Instant, reject_after: Duration) -> Option<&mut Session> {
        self.current
            .as_deref_mut()
            .filter(|session| session.can_send(now, reject_after))
    }

    /// The session that receives under this index.
    pub(crate) fn receiver(&self, local_index: u32) -> Option<&Session> {
        self.slots()
            .find(|session| session.local_index == local_index)
    }

    pub(crate) fn receiver_mut(&mut self, local_index: u32) -> Option<&mut Session> {
        [&mut self.current, &mut self.previous, &mut self.next]
            .into_iter()
            .flatten()
            .map(DerefMut::deref_mut)
            .find(|session| session.local_index == local_index)
    }

    /// The receiver indices in use.
    pub(crate) fn indices(&self) -> [Option<u32>; 3] {
        [&self.current, &self.previous, &self.next]
            .map(|slot| slot.as_ref().map(|session| session.local_index))
    }

    /// Ends sending with the sessions there are, while they still receive; whether one was current.
    pub(crate) fn retire(&mut self) -> bool {
        for session in [&mut self.current, &mut self.next].into_iter().flatten() {
            session.retired = true;
        }
        self.current.is_some()
    }

    /// Erases all sessions; whether there was one.
    pub(crate) fn clear(&mut self) -> bool {
        let had_any = self.slots().next().is_some();
        *self = Self::default();
        had_any
    }

    #[cfg(test)]
    pub(crate) fn current_mut(&mut self) -> Option<&mut Session> {
        self.current.as_deref_mut()
    }

    fn slots(&self) -> impl Iterator<Item = &Session> {
        [&self.current, &self.previous, &self.next]
            .into_iter()
            .flatten()
            .map(Deref::deref)
    }
}
