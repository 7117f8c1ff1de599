//! What the running mesh writes into its state folder, and what happens while it cannot: it is said once, shown in
//! the status, and tried again.

use std::time::{Duration, Instant};

use quietwire_node::clock;
use tracing::{error, info, warn};

use crate::mesh::{LOOK_INTERVAL, Mesh};
use crate::store::{Store, StoreError};
use crate::times::Times;

/// A write that failed is tried again after this.
pub(crate) const AGAIN: Duration = Duration::from_secs(5);

/// What is known is not written more often than this.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Keys,
    Known,
    Times,
}

impl What {
    const fn problem(self) -> &'static str {
        match self {
            Self::Keys => "our keys stay as they are",
            Self::Known => "what is known of others is not kept for a restart",
            Self::Times => "a restart with an earlier clock may make us silent for a while",
        }
    }
}

impl Mesh {
    /// Notes what became of a write, and says it if that is news; whether it was made.
    pub(crate) fn note_write(&mut self, what: What, written: Result<(), String>) -> bool {
        match written {
            Ok(()) => {
                if self.unkept.remove(&what).is_some() {
                    info!("the state folder can be written again: {what:?}");
                }
                true
            }
            Err(why) => {
                if self.unkept.get(&what) != Some(&why) {
                    error!("{}: {why}", what.problem());
                }
                self.unkept.insert(what, why);
                false
            }
        }
    }

    /// What cannot be written, in words.
    pub(crate) fn unkept(&self) -> Vec<String> {
        let all = self.unkept.iter();
        all.map(|(what, why)| format!("{}: {why}", what.problem()))
            .collect()
    }

    /// Writes what is due; how long nothing is.
    pub(crate) fn keep_up(&mut self) -> Duration {
        self.keep_known().min(self.keep_times())
    }

    /// Writes what is known of others if it has changed, once in a while: when all nodes of a large mesh change
    /// their keys, every change as a file of its own would keep the disk busy.
    fn keep_known(&mut self) -> Duration {
        if !self.is_known_new {
            return LOOK_INTERVAL;
        }
        let has_failed = self.unkept.contains_key(&What::Known);
        let pause = if has_failed { AGAIN } else { KEEP_INTERVAL };
        let since = self.known_written.map(|at| at.elapsed());
        if let Some(left) = since.and_then(|since| pause.checked_sub(since)) {
            return left;
        }
        let written = self.store.set_known(&self.known);
        self.known_written = Some(Instant::now());
        self.is_known_new = !self.note_write(What::Known, written.map_err(|why| why.to_string()));
        if self.is_known_new {
            AGAIN
        } else {
            LOOK_INTERVAL
        }
    }

    fn keep_times(&mut self) -> Duration {
        let left = self.retry_times.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return left;
        }
        let shown = self.node.state().wall.read(clock::now()).as_secs();
        let uptime = self.started.elapsed().as_secs();
        let clock = clock::system_time().as_secs();
        self.times.seen = self.times.seen.max(clock);
        let Some(next) = self.times.reserve(clock, shown, uptime) else {
            // Soon, as a clock that jumps ahead is shown at once.
            let left = self.times.until.saturating_sub(shown);
            return Duration::from_secs((left / 4).clamp(1, 10));
        };
        let written = self.store.set_times(&next);
        if self.note_write(What::Times, written.map_err(|why| why.to_string())) {
            self.times = next;
        } else {
            self.retry_times = Instant::now() + AGAIN;
        }
        AGAIN
    }
}

/// The times that earlier processes have shown, and what we reserve for the beginning. Handshakes show later ones
/// than the former.
pub(crate) fn begin(store: &Store) -> (Times, Duration) {
    let before = store.times().unwrap_or_else(|why| {
        warn!("which times were shown before is not known: {why}");
        Times::default()
    });
    let clock = clock::system_time();
    if let Some(behind) = before.behind(clock.as_secs()) {
        warn!("{}", words(behind));
    }
    let floor = Duration::from_secs(before.until.saturating_add(1));
    let next = before.reserve(clock.as_secs(), clock.max(floor).as_secs(), 0);
    let next = next.unwrap_or(before);
    let written: Result<(), StoreError> = store.set_times(&next);
    match written {
        Ok(()) => (next, floor),
        Err(why) => {
            warn!("{}: {why}", What::Times.problem());
            (before, floor)
        }
    }
}

/// What a clock that was set back means.
pub(crate) fn words(behind: u64) -> String {
    let by = match behind {
        seconds if seconds < 7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds.saturating_add(1800) / 3600),
    };
    format!(
        "the clock is {by} behind what it has said before: it is wrong, or was; the times in our handshakes go on from there, so that the others believe them"
    )
}
