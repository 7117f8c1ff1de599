//! Conveniences for programs with an operating system: a clock, and an environment for messages.
//!
//! Nothing in the crate uses them; they save a caller with `std` the ten lines that everybody writes.

use core::fmt;

use getrandom::SysRng;
use rand_core::UnwrapErr;

use crate::event::Env;
use crate::time::Instant;

/// Turns `std::time::Instant` into [`Instant`], from an epoch that is visible: its creation.
///
/// On most systems this clock stands still while the machine is suspended. A program on a laptop
/// should call `on_resume` after a suspend, or read `CLOCK_BOOTTIME` itself.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: std::time::Instant,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self {
            epoch: std::time::Instant::now(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    /// The point of the system's clock that `at` is, to sleep until then.
    #[must_use]
    pub fn to_std(&self, at: Instant) -> Option<std::time::Instant> {
        self.epoch.checked_add(at - Instant::from_nanos(0))
    }
}

/// The system's randomness and wall clock.
///
/// Drawing randomness panics if the operating system has none, which current systems never do once
/// they have started.
#[derive(Default)]
pub struct OsEnv {
    rng: UnwrapErr<SysRng>,
}

impl OsEnv {
    /// Needs no resources.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The environment for one or more polls. Reads the wall clock, which may be wrong.
    pub fn env(&mut self) -> Env<'_> {
        let unix_time = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default();
        Env::new(&mut self.rng, unix_time)
    }
}

impl fmt::Debug for OsEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OsEnv")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn clock_starts_at_zero_and_converts_back() {
        let clock = Clock::start();
        let now = clock.now();
        assert!(now - Instant::from_nanos(0) < Duration::from_secs(60));
        let std_now = clock.to_std(now).unwrap();
        assert!(std_now <= std::time::Instant::now());
    }

    #[test]
    fn environment_is_of_this_century_and_random() {
        let mut os = OsEnv::new();
        let mut env = os.env();
        assert!(env.unix_time > Duration::from_secs(1_600_000_000));
        assert_ne!(env.random::<32>(), env.random::<32>());
    }
}
