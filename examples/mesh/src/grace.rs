//! Records that are missing after the directory was away: each node puts its own in place again, so they get some time.
//!
//! A directory that was restored from an older backup lacks the nodes that came since. Each of them notices when it
//! reads the directory anew, which not all do at the same time. Whoever read early would end tunnels that work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tracing::info;

use crate::mesh::{LOOK_INTERVAL, Mesh};

/// Longer than the longest pause between two tries to reach etcd, and a round over its members.
const GRACE: Duration = Duration::from_secs(45);

/// The nodes whose records are missing since the directory is back.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    names: BTreeSet<String>,
    until: Option<Instant>,
}

impl Missing {
    /// The directory has told of a node.
    pub(crate) fn found(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Adds to what the directory has what it had before.
    pub(crate) fn fill(
        &mut self,
        texts: &mut BTreeMap<String, String>,
        before: &BTreeMap<String, String>,
        is_wanted: impl Fn(&str) -> bool,
    ) {
        let is_missing = |name: &&String| !texts.contains_key(*name) && is_wanted(name);
        self.names = before.keys().filter(is_missing).cloned().collect();
        self.until = Some(Instant::now() + GRACE);
        let missing = before.iter().filter(|(name, _)| self.names.contains(*name));
        texts.extend(missing.map(|(name, text)| (name.clone(), text.clone())));
    }

    /// How long they are waited for yet; `None` if for none.
    fn left(&self) -> Option<Duration> {
        let until = self.until.filter(|_| !self.names.is_empty())?;
        Some(until.saturating_duration_since(Instant::now()))
    }
}

impl Mesh {
    /// Takes in all that the directory has, which was away before or not.
    pub(crate) fn take_everything(&mut self, all: Vec<(String, String)>, was_away: bool) {
        let mut texts = all.into_iter().collect();
        self.missing = Missing::default();
        if was_away {
            let known = &self.known;
            self.missing
                .fill(&mut texts, &self.texts, |name| known.contains_key(name));
        }
        if let Some(left) = self.missing.left() {
            let names: Vec<_> = self.missing.names.iter().map(String::as_str).collect();
            info!(
                "the directory is back without {}: they have {} s to put their records in place",
                names.join(", "),
                left.as_secs()
            );
        }
        self.texts = texts;
    }

    /// Gives up waiting for records when it is time; how long it is not.
    pub(crate) fn forget_missing(&mut self) -> Duration {
        match self.missing.left() {
            None => LOOK_INTERVAL,
            Some(left) if !left.is_zero() => left,
            Some(_) => {
                for name in std::mem::take(&mut self.missing).names {
                    info!("{name}: its record is gone");
                    self.texts.remove(&name);
                }
                self.replan();
                LOOK_INTERVAL
            }
        }
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
        let (mut missing, mut now) = (Missing::default(), texts("a"));
        assert_eq!(missing.left(), None);
        missing.fill(&mut now, &texts("abcd"), |name| name != "d");
        assert_eq!(now.values().collect::<Vec<_>>(), ["a1", "b4", "c4"]);
        assert!(missing.left().is_some_and(|left| left <= GRACE));
        missing.found("b");
        missing.found("c");
        assert_eq!(missing.left(), None);
    }
}
