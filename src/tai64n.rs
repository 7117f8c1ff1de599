//! TAI64N timestamps of handshake initiations (white paper, section 5.4.2).
//!
//! A responder accepts only stamps that grow. A sender therefore never lets them shrink or repeat,
//! whatever its wall clock does, and rounds them down so that they do not leak the clock.

use core::time::Duration;

/// Seconds offset of TAI64 labels at the Unix epoch, as every interoperable implementation uses it.
const EPOCH: u64 = (1 << 62) + 10;

/// Nanoseconds are rounded down to a multiple of this, about 16.8 ms.
const TICK: u32 = 1 << 24;

/// A whitened timestamp, ordered as its twelve bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tai64N([u8; Self::LEN]);

impl Tai64N {
    /// Bytes of a timestamp.
    pub(crate) const LEN: usize = 12;

    pub(crate) const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// The stamp for the wall clock `unix_time`, but later than `last` in any case.
    ///
    /// At the very end of time, 2^64 seconds from now, the stamp saturates.
    pub(crate) fn next(unix_time: Duration, last: Self) -> Self {
        let nanos = unix_time.subsec_nanos();
        let stamp = Self::new(
            unix_time.as_secs().saturating_add(EPOCH),
            nanos - nanos % TICK,
        );
        stamp.max(last.successor())
    }

    fn new(seconds: u64, nanos: u32) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7] = seconds.to_be_bytes();
        let [n0, n1, n2, n3] = nanos.to_be_bytes();
        Self([s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3])
    }

    fn successor(self) -> Self {
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3] = self.0;
        let seconds = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let nanos = u32::from_be_bytes([n0, n1, n2, n3]).saturating_add(TICK);
        if nanos < 1_000_000_000 {
            Self::new(seconds, nanos)
        } else {
            Self::new(seconds.saturating_add(1), 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEVER_SENT: Tai64N = Tai64N([0; 12]);

    fn at(nanos: u64) -> Tai64N {
        Tai64N::next(Duration::from_nanos(nanos), NEVER_SENT)
    }

    #[test]
    fn unix_epoch_has_the_label_that_the_kernel_gives_it() {
        assert_eq!(at(0).to_bytes(), [0x40, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0]);
    }

    #[test]
    fn stamps_are_whitened_to_16_8_ms() {
        let start = 123_456_789;
        for later in [10, 10_000, 1_000_000, 10_000_000] {
            assert!(at(start + later) <= at(start), "+{later} ns");
        }
        assert!(at(start + 20_000_000) > at(start));
        assert_eq!(
            at(999_999_999).to_bytes()[8..],
            ((999_999_999u32 >> 24) << 24).to_be_bytes()
        );
    }

    proptest! {
        #[test]
        fn stamps_grow_strictly_whatever_the_clock_does(clocks in proptest::collection::vec((0u64..u64::MAX / 2, 0u32..1_000_000_000), 2..50)) {
            let mut last = NEVER_SENT;
            for (secs, nanos) in clocks {
                let stamp = Tai64N::next(Duration::new(secs, nanos), last);
                prop_assert!(stamp > last);
                prop_assert!(stamp.0.ends_with(&[0, 0, 0]), "low 24 bits");
                last = stamp;
            }
        }
    }

    #[test]
    fn extreme_clocks_do_not_panic() {
        let end = Tai64N::next(Duration::MAX, NEVER_SENT);
        let after = Tai64N::next(Duration::MAX, end);
        assert!(after >= end);
        let _ = Tai64N::next(Duration::ZERO, Tai64N([0xff; 12]));
    }

    #[test]
    fn nanoseconds_carry_into_seconds() {
        let last = Tai64N::next(Duration::new(7, 999_999_999), NEVER_SENT);
        let next = Tai64N::next(Duration::ZERO, last);
        assert_eq!(next.to_bytes(), [0x40, 0, 0, 0, 0, 0, 0, 18, 0, 0, 0, 0]);
    }
}
