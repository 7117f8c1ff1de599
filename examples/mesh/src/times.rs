//! Which times our handshakes have shown, kept across restarts.
//!
//! Pure: no I/O, no clock. A peer believes an initiation only if its time is later than all that it has seen
//! under our key. A node whose clock was a day ahead and is put right would be silent for a day after its next
//! restart, as far as peers wait for it to begin. So times are reserved on the disk before they are shown, and a
//! restarted node goes on after them, whatever its clock says.

use serde::{Deserialize, Serialize};

/// The times that were shown, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The latest that our clock has said.
    pub seen: u64,
    /// None that was shown is later.
    pub until: u64,
}

/// The fewest and the most seconds that are reserved.
const AHEAD: (u64, u64) = (30, 600);

/// A clock that is set back by less is being kept right.
const SLACK: u64 = 60;

impl Times {
    /// What is to be kept when less than half of what is reserved is left; `None` while there is more. `clock` is what
    /// our clock says, `shown` what handshakes show, `uptime` how long we run: so long ahead is reserved, within
    /// limits, so that a process that is restarted again and again does not run far ahead of its clock.
    #[must_use]
    pub fn reserve(&self, clock: u64, shown: u64, uptime: u64) -> Option<Self> {
        let ahead = uptime.clamp(AHEAD.0, AHEAD.1);
        if self.until >= shown.saturating_add(ahead / 2) {
            return None;
        }
        Some(Self {
            seen: self.seen.max(clock),
            until: shown.saturating_add(ahead),
        })
    }

    /// By how many seconds our clock is behind what it has said before, if that is much.
    #[must_use]
    pub fn behind(&self, clock: u64) -> Option<u64> {
        self.seen
            .checked_sub(clock)
            .filter(|behind| *behind > SLACK)
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|why| why.to_string())
    }

    /// As it is kept.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_goes_on_after_what_was_shown_and_little_is_written() {
        let (mut times, mut writes) = (Times::default(), 0);
        // A clock that is a day ahead for three hours.
        let day = 1_000_000;
        for second in 0..3 * 3600 {
            let clock = day + 86_400 + second;
            if let Some(next) = times.reserve(clock, clock, second) {
                (times, writes) = (next, writes + 1);
            }
            assert!(times.until >= clock && times.behind(clock).is_none());
        }
        assert!(writes < 50, "{writes}");
        let last = day + 86_400 + 3 * 3600;
        let clock = day + 3 * 3600;
        assert!(
            times
                .behind(clock)
                .is_some_and(|behind| behind > 86_400 - 3600)
        );
        let shown = times.until + 1;
        assert!(shown > last && shown < last + 601);
        let next = times.reserve(clock, shown, 0).unwrap();
        assert_eq!(
            next,
            Times {
                seen: times.seen,
                until: shown + 30
            }
        );
        assert_eq!(Times::parse(&next.to_json()), Ok(next));
        assert!(Times::parse("{").is_err());
    }

    #[test]
    fn many_restarts_do_not_run_far_ahead() {
        let mut times = Times::default();
        for clock in 1000..2000 {
            let shown = clock.max(times.until + 1);
            times = times.reserve(clock, shown, 0).unwrap();
        }
        assert!(times.until < 2000 + 31 * 1000);
        assert_eq!(times.behind(1999), None);
        assert_eq!(
            times
                .reserve(u64::MAX, u64::MAX, u64::MAX)
                .map(|times| times.until),
            Some(u64::MAX)
        );
    }
}
