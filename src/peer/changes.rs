//! Changes of a peer's configuration at run time, and what can be asked of it.

use core::time::Duration;

use super::{InitiatorState, Peer, PeerStats, ResponderState};
use crate::crypto::secret::Secret;
use crate::event::Event;
use crate::session::Store;
use crate::tai64n::Tai64N;
use crate::time::Instant;
use crate::timers::{Timer, Timings};

/// Configuration at run time.
impl<E: Copy + PartialEq, S: Store> Peer<E, S> {
    /// Sets the preshared key of the next handshake; the running session lives on.
    pub(crate) fn set_psk(&mut self, psk: Secret<32>) {
        self.psk = psk;
    }

    pub(crate) fn set_endpoint(&mut self, endpoint: E) {
        self.endpoint = Some(endpoint);
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// Sets the persistent keepalive; zero switches it off. Switching it on sends one at once.
    pub(crate) fn set_persistent_keepalive(&mut self, now: Instant, secs: u16, timings: &Timings) {
        let was_off = self.timers.persistent_interval().is_zero();
        let interval = Duration::from_secs(u64::from(secs));
        self.timers.set_persistent_interval(interval);
        if was_off && !interval.is_zero() {
            self.send_keepalive(now, timings);
        }
    }

    /// Our static key has changed: nothing that depended on the old one goes on. A handshake that
    /// was under way starts afresh.
    pub(crate) fn identity_changed(&mut self) {
        self.owes_initiation = self.is_initiating();
        self.static_static = None;
        self.initiator = InitiatorState::Idle;
        self.responder = ResponderState::Idle;
        self.handshake_sent_at = None;
        self.owes_keepalive = false;
        self.timers.stop(Timer::RetransmitHandshake);
        if self.keyring.retire() {
            self.timers.stop(Timer::SessionExpiry);
            self.note(Event::SessionExpired);
        }
    }

    /// Erases all key material and stops what was under way. A persistent keepalive goes on.
    pub(crate) fn erase(&mut self, now: Instant) {
        self.erase_keys();
        self.owes_initiation = false;
        self.handshake_sent_at = None;
        self.timers.stop_all();
        self.timers.any_authenticated_sent(now);
    }

    /// The machine was asleep: sessions that were alive are replaced at once, and a handshake that
    /// was under way starts afresh.
    pub(crate) fn resume(&mut self, now: Instant, timings: &Timings) {
        let was_alive = self.keyring.current().is_some() || self.is_initiating();
        let is_persistent = !self.timers.persistent_interval().is_zero();
        self.erase(now);
        if was_alive || is_persistent {
            self.request_initiation(now, timings);
        }
    }

    /// Whether a handshake was asked for and is neither complete nor given up.
    fn is_initiating(&self) -> bool {
        self.owes_initiation || self.timers.is_armed(Timer::RetransmitHandshake)
    }

    /// Accepts any timestamp in the next initiation.
    pub(crate) fn forget_timestamp(&mut self) {
        self.greatest_timestamp = Tai64N::default();
    }

    pub(crate) fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    pub(crate) fn has_psk(&self) -> bool {
        !self.psk.ct_eq(&Secret::zeroed())
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn psk(&self) -> &Secret<32> {
        &self.psk
    }

    pub(crate) fn endpoint(&self) -> Option<E> {
        self.endpoint
    }

    pub(crate) fn mtu(&self) -> u16 {
        self.mtu
    }

    pub(crate) fn persistent_keepalive(&self) -> u16 {
        u16::try_from(self.timers.persistent_interval().as_secs()).unwrap_or(u16::MAX)
    }

    pub(crate) fn stats(&self) -> PeerStats {
        self.stats
    }

    /// Whether a packet could be sealed now.
    pub(crate) fn is_established(&self, now: Instant, timings: &Timings) -> bool {
        self.keyring
            .current()
            .is_some_and(|s| s.can_send(now, timings.reject_after_time))
    }

    /// Whether a receiver index was freed on the data path since this was last asked.
    #[cfg(feature = "alloc")]
    pub(crate) fn take_freed_index(&mut self) -> bool {
        core::mem::take(&mut self.has_freed_index)
    }

    /// Every receiver index by which this peer can be addressed.
    pub(crate) fn indices(&self) -> [Option<u32>; 5] {
        let [current, previous, next] = self.keyring.indices();
        let initiator = match self.initiator {
            InitiatorState::Idle => None,
            InitiatorState::Writing { index } | InitiatorState::Waiting { index, .. } => {
                Some(index)
            }
        };
        let responder = match self.responder {
            ResponderState::Writing { index } => Some(index),
            _ => None,
        };
        [current, previous, next, initiator, responder]
    }
}
