//! Time that goes on while the machine sleeps, as the kernel's WireGuard measures it.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use quietwire::Instant;

/// The wall clock as our handshakes show it: it goes on where the system's is set back.
///
/// A peer believes only an initiation with a later time than it has seen. The library sees to that for as long as it
/// knows the peer; across restarts, and for a peer that was removed and is added again, this does.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    latest: Duration,
    at: Instant,
}

impl WallClock {
    /// A clock that shows the system's time, and never less than `floor`, which is since 1970.
    #[must_use]
    pub fn new(now: Instant, floor: Duration) -> Self {
        Self {
            latest: floor,
            at: now,
        }
    }

    /// The time to show, since 1970.
    pub fn read(&mut self, now: Instant) -> Duration {
        self.advance(now, system_time())
    }

    fn advance(&mut self, now: Instant, system: Duration) -> Duration {
        let expected = self.latest.saturating_add(now.saturating_since(self.at));
        *self = Self::new(now.max(self.at), expected.max(system));
        self.latest
    }
}

/// The system's wall clock, which may be wrong, as time since 1970.
#[must_use]
pub fn system_time() -> Duration {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
}

/// The time since the machine started, sleep included, for the library.
#[must_use]
pub fn now() -> Instant {
    Instant::since_epoch(read(ClockId::CLOCK_BOOTTIME))
}

/// How long the machine has slept since it started.
#[must_use]
pub fn slept() -> Duration {
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(read(ClockId::CLOCK_MONOTONIC))
}

/// The wall clock that belongs to an instant, as time since 1970.
#[must_use]
pub fn unix_time_of(at: Instant) -> Duration {
    system_time().saturating_sub(now() - at)
}

/// An instant in the form that timers of the system take.
#[must_use]
pub fn to_timespec(at: Instant) -> TimeSpec {
    TimeSpec::from_duration(at - Instant::from_nanos(0))
}

/// Both clocks always exist, so a failure cannot happen; zero is harmless if it does.
fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_follows_a_clock_ahead_and_never_goes_back() {
        let (at, day) = (Instant::from_millis, Duration::from_secs(86_400));
        let mut clock = WallClock::new(at(0), day);
        assert_eq!(clock.advance(at(0), Duration::ZERO), day);
        assert_eq!(
            clock.advance(at(5000), Duration::from_secs(5)),
            day + Duration::from_secs(5)
        );
        assert_eq!(clock.advance(at(6000), day * 3), day * 3);
        assert_eq!(
            clock.advance(at(7000), day),
            day * 3 + Duration::from_secs(1)
        );
        // Threads read the time before they wait for the lock.
        assert_eq!(
            clock.advance(at(6500), day),
            day * 3 + Duration::from_secs(1)
        );
        clock = WallClock::new(at(0), Duration::MAX);
        assert_eq!(clock.advance(at(9), day), Duration::MAX);
    }
}
