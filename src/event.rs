//! What goes in and out beside packets: the environment, messages to send, and events.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use rand_core::CryptoRng;

use crate::wire::{Kind, Message};

/// Something that happened to a peer, from `poll_event`.
///
/// Events are state, not a queue: at most one of each kind waits for a peer, in the order in which
/// they last happened, so nothing overflows when they are read late. None of them is an end: after
/// each of the last three the next packet or persistent keepalive starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// A session can be used for sending: staged packets can be sealed now.
    Established,
    /// The peer's endpoint has changed, to the source of an authentic message, or is known now for
    /// the first time.
    Roamed,
    /// 20 initiations went unanswered, as many as `REKEY_ATTEMPT_TIME` means to the kernel, for some
    /// 100 s: staged packets should be dropped.
    HandshakeGivenUp,
    /// The current session has reached `REJECT_AFTER_TIME` without being replaced.
    SessionExpired,
    /// All key material of the peer's sessions was erased.
    KeysErased,
}

/// The events that wait for a peer: each kind at most once, latest last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Events {
    waiting: [Option<Event>; 5],
}

impl Events {
    /// Notes an event; one of the same kind that still waits is forgotten.
    pub(crate) fn push(&mut self, event: Event) {
        self.remove(event);
        if let Some(free) = self.waiting.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(event);
        }
    }

    /// Takes the event that happened first.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let first = (*self.waiting.first()?)?;
        self.remove(first);
        Some(first)
    }

    #[cfg(any(test, feature = "alloc"))]
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        matches!(self.waiting, [None, ..])
    }

    fn remove(&mut self, event: Event) {
        if let Some(at) = self.waiting.iter().position(|slot| *slot == Some(event)) {
            if let Some(rest) = self.waiting.get_mut(at..) {
                rest.rotate_left(1);
            }
            if let Some(last) = self.waiting.last_mut() {
                *last = None;
            }
        }
    }
}

/// What only the caller can bring when a message is born: randomness and the wall clock.
///
/// ```
/// use std::time::SystemTime;
/// use quietwire::Env;
///
/// let mut rng = quietwire::rand_core::UnwrapErr(getrandom::SysRng);
/// let unix_time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
/// let env = Env::new(&mut rng, unix_time);
/// ```
pub struct Env<'a> {
    pub(crate) rng: &'a mut dyn CryptoRng,
    pub(crate) unix_time: Duration,
}

impl<'a> Env<'a> {
    /// Bundles a generator and the time since 1970-01-01 00:00 UTC.
    ///
    /// The generator must be cryptographically secure. The wall clock may stand still, be wrong or
    /// be corrected at any time: timestamps sent to a peer increase all the same.
    #[must_use]
    pub fn new(rng: &'a mut dyn CryptoRng, unix_time: Duration) -> Self {
        Self { rng, unix_time }
    }

    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("unix_time", &self.unix_time)
            .finish_non_exhaustive()
    }
}

/// Where datagrams go to and come from.
///
/// `SocketAddr` is one. An embedder that keeps more about a path, such as the local address for
/// sticky sources, implements this for its own type; the peer then roams when any of it changes.
pub trait Endpoint: Copy + PartialEq + fmt::Debug {
    /// The remote address: cookies are bound to it and rate limits count by it.
    fn address(&self) -> SocketAddr;
}

impl Endpoint for SocketAddr {
    fn address(&self) -> SocketAddr {
        *self
    }
}

/// A control message to send, from `poll_transmit`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Transmit<E = SocketAddr> {
    /// Where to.
    pub to: E,
    /// The datagram: `message.as_bytes()`.
    pub message: Message,
}

impl<E> Transmit<E> {
    pub(crate) const fn new(to: E, message: Message) -> Self {
        Self { to, message }
    }

    /// The DSCP and ECN byte for the outer IP header: AF41 (0x88) for handshake messages, as the
    /// kernel marks them, 0 for keepalives.
    #[must_use]
    pub const fn tos(&self) -> u8 {
        match self.message.kind() {
            Kind::Data => 0,
            _ => crate::ip::HANDSHAKE_TOS,
        }
    }
}

/// A handle to one peer of an `Interface`, never reused for another peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl PeerId {
    /// The handle as one number, for example to keep it in an event loop's user data.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let [s0, s1, s2, s3] = self.slot.to_le_bytes();
        let [g0, g1, g2, g3] = self.generation.to_le_bytes();
        u64::from_le_bytes([s0, s1, s2, s3, g0, g1, g2, g3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_the_order_in_which_they_last_happened() {
        let mut events = Events::default();
        assert!(events.is_empty() && events.pop().is_none());
        for event in [
            Event::Established,
            Event::Roamed,
            Event::SessionExpired,
            Event::Established,
        ] {
            events.push(event);
        }
        assert_eq!(events.pop(), Some(Event::Roamed));
        assert_eq!(events.pop(), Some(Event::SessionExpired));
        assert_eq!(events.pop(), Some(Event::Established));
        assert!(events.is_empty());
    }

    #[test]
    fn every_kind_can_wait_at_once() {
        let kinds = [
            Event::KeysErased,
            Event::SessionExpired,
            Event::HandshakeGivenUp,
            Event::Roamed,
            Event::Established,
        ];
        let mut events = Events::default();
        for _ in 0..1000 {
            for event in kinds {
                events.push(event);
            }
        }
        for event in kinds {
            assert_eq!(events.pop(), Some(event));
        }
        assert_eq!(events.pop(), None);
    }
}
