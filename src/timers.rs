//! The timers of a peer, and the protocol events that arm and stop them.
//!
//! [`Timer`] is the one list of timers: the deadline of a peer is the minimum of the table, and
//! handling a timeout walks the same table. The methods of [`Timers`] are named after what happened
//! (white paper, section 6; the rules are those of the Linux kernel) and do nothing else than move
//! deadlines. What a timer *does* when it fires is decided in `peer`.

use core::time::Duration;

use crate::error::ConfigError;
use crate::time::Instant;

/// The protocol's constants, adjustable for special users.
///
/// The default is what every WireGuard peer does; both ends of a tunnel should agree on
/// `reject_after_time`. Message limits are not adjustable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// `REKEY_AFTER_TIME`: the initiator of a session replaces it on sending after this. 120 s.
    pub rekey_after_time: Duration,
    /// `REJECT_AFTER_TIME`: a session is not used beyond this age. 180 s.
    pub reject_after_time: Duration,
    /// `REKEY_ATTEMPT_TIME`: handshakes are retried for this long. 90 s.
    pub rekey_attempt_time: Duration,
    /// `REKEY_TIMEOUT`: the least time between two initiations to a peer. 5 s.
    pub rekey_timeout: Duration,
    /// `KEEPALIVE_TIMEOUT`: data received is answered within this time, by a keepalive if by
    /// nothing else. 10 s.
    pub keepalive_timeout: Duration,
    /// Retransmissions are delayed by a random part of this. 1/3 s.
    pub jitter: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            rekey_after_time: Duration::from_secs(120),
            reject_after_time: Duration::from_secs(180),
            rekey_attempt_time: Duration::from_secs(90),
            rekey_timeout: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(10),
            jitter: Duration::from_millis(333),
        }
    }
}

impl Timings {
    /// Checks that the timings keep the order that the protocol needs.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InvalidTiming`] names the first field that is zero or too great.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // Some time must be left before `rekey_on_receive`, or every packet asks for a handshake.
        let keepalive_limit = self
            .reject_after_time
            .saturating_sub(self.rekey_timeout)
            .saturating_sub(Duration::from_nanos(1));
        let ordered = [
            ("rekey_timeout", self.rekey_timeout, self.rekey_attempt_time),
            ("keepalive_timeout", self.keepalive_timeout, keepalive_limit),
            (
                "rekey_after_time",
                self.rekey_after_time,
                self.reject_after_time,
            ),
            (
                "rekey_attempt_time",
                self.rekey_attempt_time,
                self.reject_after_time,
            ),
        ];
        let bad = |(_, less, more): &(_, Duration, Duration)| less.is_zero() || less > more;
        match ordered.into_iter().find(bad) {
            Some((field, ..)) => Err(ConfigError::InvalidTiming(field)),
            None => Ok(()),
        }
    }

    /// The age at which a receiving initiator replaces its session: 165 s.
    pub(crate) fn rekey_on_receive(&self) -> Duration {
        self.reject_after_time
            .saturating_sub(self.keepalive_timeout)
            .saturating_sub(self.rekey_timeout)
    }

    /// How often an initiation is repeated at most: 18 times after the second.
    fn max_attempts(&self) -> u128 {
        self.rekey_attempt_time
            .as_nanos()
            .checked_div(self.rekey_timeout.as_nanos())
            .unwrap_or(0)
    }

    /// The age at which key material is erased: 540 s.
    fn erase_after(&self) -> Duration {
        self.reject_after_time.saturating_mul(3)
    }
}

/// The timers that a peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The initiation sent was not answered.
    RetransmitHandshake,
    /// Data was received and nothing was sent back.
    SendKeepalive,
    /// Data was sent and nothing came back: the session may be dead on the other side.
    NewHandshake,
    /// No new session for three times its lifetime.
    EraseKeys,
    /// Nothing went either way for the configured interval.
    PersistentKeepalive,
    /// The current session's time is over. Nothing depends on it but the event.
    SessionExpiry,
}

impl Timer {
    /// In the order in which those are handled that are due at once: a session expires before its
    /// keys are erased, even if one late call sees both.
    pub(crate) const ALL: [Self; 6] = [
        Self::RetransmitHandshake,
        Self::SendKeepalive,
        Self::NewHandshake,
        Self::SessionExpiry,
        Self::EraseKeys,
        Self::PersistentKeepalive,
    ];
}

/// A deadline for each timer, and what the kernel remembers beside them.
#[derive(Debug)]
pub(crate) struct Timers {
    deadlines: [Instant; Timer::ALL.len()],
    /// Zero when switched off.
    persistent_interval: Duration,
    attempts: u32,
    /// Data was received while the keepalive for earlier data was pending.
    need_another_keepalive: bool,
    /// The handshake that a receiver asks for near a session's end was asked for.
    last_minute_handshake: bool,
    /// State of the jitter's generator, reseeded whenever a handshake message is built.
    jitter: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            deadlines: [Instant::NEVER; Timer::ALL.len()],
            persistent_interval: Duration::ZERO,
            attempts: 0,
            need_another_keepalive: false,
            last_minute_handshake: false,
            jitter: 0,
        }
    }
}

impl Timers {
    /// The earliest deadline.
    #[inline]
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines
            .iter()
            .min()
            .copied()
            .filter(|at| *at != Instant::NEVER)
    }

    /// Stops and returns the first timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let due = |timer: &Timer| self.is_armed(*timer) && self.deadline(*timer) <= now;
        let timer = Timer::ALL.into_iter().find(due)?;
        self.stop(timer);
        Some(timer)
    }

    /// Data (not a keepalive) was sent.
    #[inline]
    pub(crate) fn data_sent(&mut self, now: Instant, timings: &Timings) {
        if !self.is_armed(Timer::NewHandshake) {
            let delay = timings
                .keepalive_timeout
                .saturating_add(timings.rekey_timeout);
            let jitter = self.draw_jitter(timings);
            self.arm(Timer::NewHandshake, now + delay + jitter);
        }
    }

    /// Data (not a keepalive) was received and is authentic.
    #[inline]
    pub(crate) fn data_received(&mut self, now: Instant, timings: &Timings) {
        if self.is_armed(Timer::SendKeepalive) {
            self.need_another_keepalive = true;
        } else {
            self.arm(Timer::SendKeepalive, now + timings.keepalive_timeout);
        }
    }

    /// Anything authenticated is sent: data, keepalive or handshake.
    #[inline]
    pub(crate) fn any_authenticated_sent(&mut self, now: Instant) {
        self.stop(Timer::SendKeepalive);
        self.any_authenticated_traversal(now);
    }

    /// Anything authentic was received: data, keepalive or handshake.
    #[inline]
    pub(crate) fn any_authenticated_received(&mut self, now: Instant) {
        self.stop(Timer::NewHandshake);
        self.any_authenticated_traversal(now);
    }

    #[inline]
    fn any_authenticated_traversal(&mut self, now: Instant) {
        if !self.persistent_interval.is_zero() {
            self.arm(Timer::PersistentKeepalive, now + self.persistent_interval);
        }
    }

    /// An initiation is sent.
    pub(crate) fn handshake_initiated(&mut self, now: Instant, timings: &Timings) {
        let jitter = self.draw_jitter(timings);
        self.arm(
            Timer::RetransmitHandshake,
            now + timings.rekey_timeout + jitter,
        );
    }

    /// A session can be used: its response was received, or its first data.
    pub(crate) fn handshake_complete(&mut self) {
        self.stop(Timer::RetransmitHandshake);
        self.attempts = 0;
        self.last_minute_handshake = false;
    }

    /// Keys of a session were derived, in either role.
    pub(crate) fn session_derived(&mut self, now: Instant, timings: &Timings) {
        self.arm(Timer::EraseKeys, now + timings.erase_after());
    }

    /// A session born at `born` is now the current one.
    pub(crate) fn session_current(&mut self, born: Instant, timings: &Timings) {
        self.arm(Timer::SessionExpiry, born + timings.reject_after_time);
    }

    /// The keepalive timer has fired; arms it again if data came in the meantime.
    pub(crate) fn keepalive_fired(&mut self, now: Instant, timings: &Timings) {
        if core::mem::take(&mut self.need_another_keepalive) {
            self.arm(Timer::SendKeepalive, now + timings.keepalive_timeout);
        }
    }

    /// The persistent keepalive timer has fired. It goes on even if nothing could be sent, because a
    /// handshake message had gone out just before.
    pub(crate) fn persistent_keepalive_fired(&mut self, now: Instant) {
        if !self.is_armed(Timer::PersistentKeepalive) {
            self.any_authenticated_traversal(now);
        }
    }

    /// The retransmission timer has fired: whether another attempt is allowed. It is counted.
    pub(crate) fn attempt_again(&mut self, timings: &Timings) -> bool {
        let again = u128::from(self.attempts) <= timings.max_attempts();
        self.attempts = self.attempts.saturating_add(u32::from(again));
        again
    }

    /// A handshake is asked for that is not a retransmission.
    pub(crate) fn restart_attempts(&mut self) {
        self.attempts = 0;
    }

    /// Handshakes are given up; residue of a partial exchange is erased later.
    pub(crate) fn handshake_given_up(&mut self, now: Instant, timings: &Timings) {
        self.stop(Timer::SendKeepalive);
        if !self.is_armed(Timer::EraseKeys) {
            self.arm(Timer::EraseKeys, now + timings.erase_after());
        }
    }

    /// Whether this is the first request of a receiver to replace the ageing session.
    pub(crate) fn first_last_minute_request(&mut self) -> bool {
        !core::mem::replace(&mut self.last_minute_handshake, true)
    }

    /// Stops all timers, as when the peer's keys are erased. The keepalive setting stays.
    pub(crate) fn stop_all(&mut self) {
        *self = Self {
            persistent_interval: self.persistent_interval,
            jitter: self.jitter,
            ..Self::default()
        };
    }

    #[inline]
    pub(crate) fn stop(&mut self, timer: Timer) {
        *self.slot(timer) = Instant::NEVER;
    }

    pub(crate) fn persistent_interval(&self) -> Duration {
        self.persistent_interval
    }

    /// Sets the interval; zero switches it off.
    pub(crate) fn set_persistent_interval(&mut self, interval: Duration) {
        self.persistent_interval = interval;
        if interval.is_zero() {
            self.stop(Timer::PersistentKeepalive);
        }
    }

    pub(crate) fn reseed(&mut self, seed: u64) {
        self.jitter = seed;
    }

    /// A delay in `[0, timings.jitter)`. A `SplitMix64`: it spreads load and hides nothing.
    fn draw_jitter(&mut self, timings: &Timings) -> Duration {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.jitter;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        let scaled = timings.jitter.as_nanos().saturating_mul(u128::from(x)) >> 64;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    #[inline]
    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.deadline(timer) != Instant::NEVER
    }

    #[inline]
    fn deadline(&self, timer: Timer) -> Instant {
        let [retransmit, keepalive, handshake, erase, persistent, expiry] = self.deadlines;
        match timer {
            Timer::RetransmitHandshake => retransmit,
            Timer::SendKeepalive => keepalive,
            Timer::NewHandshake => handshake,
            Timer::EraseKeys => erase,
            Timer::PersistentKeepalive => persistent,
            Timer::SessionExpiry => expiry,
        }
    }

    #[inline]
    fn slot(&mut self, timer: Timer) -> &mut Instant {
        let [retransmit, keepalive, handshake, erase, persistent, expiry] = &mut self.deadlines;
        match timer {
            Timer::RetransmitHandshake => retransmit,
            Timer::SendKeepalive => keepalive,
            Timer::NewHandshake => handshake,
            Timer::EraseKeys => erase,
            Timer::PersistentKeepalive => persistent,
            Timer::SessionExpiry => expiry,
        }
    }

    #[inline]
    fn arm(&mut self, timer: Timer, at: Instant) {
        *self.slot(timer) = at;
    }
}
