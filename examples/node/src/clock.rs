//! Time that goes on while the machine sleeps, as the kernel's WireGuard measures it.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use quietwire::Instant;

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
    let wall = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    wall.saturating_sub(now() - at)
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
