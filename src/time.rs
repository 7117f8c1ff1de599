//! Points on the caller's clock.
//!
//! The crate never reads a clock. Every call that depends on time takes an [`Instant`], which the
//! caller makes from whatever monotonic clock it has; a clock that also counts the time spent
//! suspended (`CLOCK_BOOTTIME` on Linux) gives the behaviour that users of laptops expect.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A point in time: nanoseconds since an epoch that the caller chose.
///
/// Only differences matter. 64 bits of nanoseconds last 584 years, and arithmetic saturates at
/// both ends instead of wrapping, so no value can make a computation panic.
///
/// ```
/// use core::time::Duration;
/// use quietwire::Instant;
///
/// let start = Instant::from_nanos(0);
/// let later = start + Duration::from_secs(5);
/// assert_eq!(later - start, Duration::from_secs(5));
/// assert_eq!(start - later, Duration::ZERO, "saturates");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The latest instant that can be expressed. As a deadline it means "never".
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Makes an instant from nanoseconds since the caller's epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes an instant from milliseconds since the caller's epoch, saturating.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Makes an instant from the time that has passed since the caller's epoch, saturating.
    ///
    /// With `std`, `Instant::since_epoch(start.elapsed())` is all that a clock needs.
    #[must_use]
    pub fn since_epoch(elapsed: Duration) -> Self {
        Self(nanos(elapsed))
    }

    /// Nanoseconds since the caller's epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, or zero when `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whether at least `age` has passed at `now` since `self`.
    #[inline]
    pub(crate) fn is_older_than(self, age: Duration, now: Self) -> bool {
        now.0.saturating_sub(self.0) >= nanos(age)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    #[inline]
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(nanos(rhs)))
    }
}

/// A duration in nanoseconds, saturating. Packets compare and add these, and `as_nanos` has 128 bits.
#[inline]
fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.saturating_since(rhs)
    }
}
