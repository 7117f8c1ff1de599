//! Records that are missing where all are read anew: each node puts its own in place again, so they get some time.
//!
//! A directory that was restored from an older backup lacks the nodes that came since. Each of them notices when it
//! reads the directory anew, which not all do at the same time. Whoever read early would end tunnels that work. Who
//! left while we did not look is forgotten so much later.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::info;

use crate::mesh::{LOOK_INTERVAL, Mesh};

/// Longer than the longest pause between two tries to reach etcd, and a round over its members.
const GRACE: Duration = Duration::from_secs(45);

/// The nodes whose records are missing, and until when they are waited for.
#[derive(Debug, Default)]
pub(crate) struct Missing(BTreeMap<String, Instant>);

impl Missing {
    /// The directory has told of a node.
    pub(crate) fn found(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Adds to what the directory has what it had before. Who was missing already gets no more time.
    fn fill(
        &mut self,
        texts: &mut BTreeMap<String, String>,
        before: &BTreeMap<String, String>,
        is_wanted: impl Fn(&str) -> bool,
        now: Instant,
    ) {
        let earlier = std::mem::take(&mut self.0);
        for (name, text) in before {
            if !texts.contains_key(name) && is_wanted(name) {
                let until = earlier.get(name).copied().unwrap_or(now + GRACE);
                self.0.insert(name.clone(), until);
                texts.insert(name.clone(), text.clone());
            }
        }
    }

    /// How long the next one is waited for yet; `None` if none is.
    fn left(&self, now: Instant) -> Option<Duration> {
        let next = self.0.values().min()?;
        Some(next.saturating_duration_since(now))
    }

    /// Those whose time is over.
    fn overdue(&mut self, now: Instant) -> Vec<String> {
        let over = self.0.iter().filter(|(_, until)| **until <= now);
        let over: Vec<_> = over.map(|(name, _)| name.clone()).collect();
        self.0.retain(|_, until| *until > now);
        over
    }
}

impl Mesh {
    /// Takes in all that the directory has.
    pub(crate) fn take_everything(&mut self, all: Vec<(String, String)>) {
        let mut texts = all.into_iter().collect();
        let known = &self.known;
        let is_known = |name: &str| known.contains_key(name);
        self.missing
            .fill(&mut texts, &self.texts, is_known, Instant::now());
        if !self.missing.0.is_empty() {
            let names: Vec<_> = self.missing.0.keys().map(String::as_str).collect();
            info!(
                "the directory is without {}: they have {} s to put their records in place",
                names.join(", "),
                GRACE.as_secs()
            );
        }
        self.texts = texts;
    }

    /// Gives up waiting for records when it is time; how long it is not.
    pub(crate) fn forget_missing(&mut self) -> Duration {
        let overdue = self.missing.overdue(Instant::now());
        for name in &overdue {
            info!("{name}: its record is gone");
            self.texts.remove(name);
        }
        if !overdue.is_empty() {
            self.replan();
        }
        let left = self.missing.left(Instant::now());
        left.unwrap_or(LOOK_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_filled_in_until_it_is_found() {
        let texts = |names: &str| -> BTreeMap<_, _> {
            names
                .chars()
                .map(|name| (name.to_string(), format!("{name}{}", names.len())))
                .collect()
        };
        let (mut missing, mut all) = (Missing::default(), texts("a"));
        let now = Instant::now();
        assert_eq!(missing.left(now), None);
        missing.fill(&mut all, &texts("abcd"), |name| name != "d", now);
        assert_eq!(all.values().collect::<Vec<_>>(), ["a1", "b4", "c4"]);
        assert_eq!(missing.left(now), Some(GRACE));
        missing.found("b");
        // Reading everything anew gives no more time to who is missing, and some to who is so since.
        let later = now + GRACE / 3;
        let mut again = texts("");
        missing.fill(&mut again, &all, |_| true, later);
        assert_eq!(again, all);
        assert_eq!(missing.left(later), Some(GRACE * 2 / 3));
        assert_eq!(missing.overdue(now + GRACE), ["c"]);
        assert_eq!(missing.overdue(later + GRACE), ["a", "b"]);
        assert_eq!(missing.left(later), None);
    }
}
