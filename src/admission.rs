//! Which handshake messages are worth a multiplication (white paper, section 5.3).
//!
//! [`Gate`] applies the checks in the order of their cost: mac1 always; under load mac2, and then the
//! source's token bucket. [`LoadMeter`] is this crate's measure of load, since a library without I/O
//! sees no queue: it models one that is emptied at a fixed rate. Messages from sources that have
//! proven their address do not fill that queue: they have a budget of their own, one bucket a source.

use core::net::SocketAddr;
use core::time::Duration;

use crate::cookie::Checker;
use crate::error::Rejected;
use crate::time::Instant;
use crate::wire::Macs;

/// Decides whether a handshake message is processed.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    pub(crate) checker: &'a Checker,
    pub(crate) meter: &'a mut LoadMeter,
}

impl Gate<'_> {
    /// Checks a handshake message. `take_token` asks the bucket of a proven source.
    ///
    /// [`Rejected::CookieRequired`] means that a cookie reply is to be sent.
    pub(crate) fn admit(
        self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
        take_token: impl FnOnce(Instant, SocketAddr) -> bool,
    ) -> Result<(), Rejected> {
        let macs = Macs::of(datagram).ok_or(Rejected::WrongLength)?;
        if !self.checker.mac1_is_valid(&macs) {
            return Err(Rejected::WrongMac1);
        }
        let is_calm = !self.meter.is_under_load(now) && !self.meter.count(now);
        if is_calm {
            return Ok(());
        }
        if !self.checker.mac2_is_valid(now, source, &macs) {
            self.meter.count(now);
            return Err(Rejected::CookieRequired);
        }
        if take_token(now, source) {
            Ok(())
        } else {
            Err(Rejected::RateLimited)
        }
    }
}

/// Whether handshake messages must carry a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Load {
    /// The crate's own measure decides: more than 512 messages beyond a steady 1000 a second, and
    /// for one second after.
    #[default]
    Auto,
    /// Never ask for cookies.
    Normal,
    /// Always ask for cookies, for example because the caller's own queues are full.
    UnderLoad,
}

/// A queue that is not there: each message adds its share of time, and time drains it.
#[derive(Debug, Default)]
pub(crate) struct LoadMeter {
    pub(crate) setting: Load,
    backlog: Duration,
    updated: Instant,
    overloaded: Option<Instant>,
}

impl LoadMeter {
    /// One message's share: 1000 a second are no load.
    const SHARE: Duration = Duration::from_millis(1);

    /// The kernel is under load with 512 messages waiting.
    const THRESHOLD: Duration = Duration::from_millis(512);

    /// Load is remembered for this long.
    const STICKY: Duration = Duration::from_secs(1);

    pub(crate) fn is_under_load(&self, now: Instant) -> bool {
        match self.setting {
            Load::Auto => self
                .overloaded
                .is_some_and(|at| !at.is_older_than(Self::STICKY, now)),
            Load::Normal => false,
            Load::UnderLoad => true,
        }
    }

    /// Counts a message; whether the interface is under load with it.
    fn count(&mut self, now: Instant) -> bool {
        let drained = self.backlog.saturating_sub(now - self.updated);
        self.updated = now;
        self.backlog = drained.saturating_add(Self::SHARE).min(Self::THRESHOLD);
        if self.backlog == Self::THRESHOLD {
            self.overloaded = Some(now);
        }
        self.is_under_load(now)
    }
}

/// A token bucket of the kernel's size: 20 messages a second, 5 at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: Duration,
    updated: Instant,
}

impl Bucket {
    const COST: Duration = Duration::from_millis(50);
    const CAPACITY: Duration = Duration::from_millis(250);

    /// A full bucket.
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            tokens: Self::CAPACITY,
            updated: now,
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.tokens = self
            .tokens
            .saturating_add(now - self.updated)
            .min(Self::CAPACITY);
        self.updated = now;
        match self.tokens.checked_sub(Self::COST) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// Whether the bucket has not been asked for a second, so that it is full again.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.updated.is_older_than(Duration::from_secs(1), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn bucket_follows_the_kernel_selftest() {
        let mut bucket = Bucket::new(ms(0));
        for (at, allowed) in [(0, 5), (50, 1), (150, 2), (2150, 5)] {
            for _ in 0..allowed {
                assert!(bucket.take(ms(at)), "at {at} ms");
            }
            assert!(!bucket.take(ms(at)), "at {at} ms");
        }
    }

    #[test]
    fn a_steady_thousand_a_second_is_no_load() {
        let mut meter = LoadMeter::default();
        for i in 0..10_000 {
            assert!(!meter.count(ms(i)));
        }
    }

    #[test]
    fn a_burst_is_load_for_one_second_after_it_ends() {
        let mut meter = LoadMeter::default();
        assert!(!meter.is_under_load(ms(0)), "not at the start of the clock");
        for _ in 0..511 {
            assert!(!meter.count(ms(0)));
        }
        assert!(meter.count(ms(0)));
        assert!(meter.is_under_load(ms(999)));
        assert!(!meter.is_under_load(ms(1000)));
        assert!(!meter.count(ms(1000)), "time alone recovers");
    }

    #[test]
    fn the_caller_overrides_the_measure() {
        let mut meter = LoadMeter {
            setting: Load::UnderLoad,
            ..LoadMeter::default()
        };
        assert!(meter.count(ms(0)));
        meter.setting = Load::Normal;
        for _ in 0..5000 {
            assert!(!meter.count(ms(0)));
        }
    }
}
