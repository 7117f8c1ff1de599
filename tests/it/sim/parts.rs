//! What a model is made of: sessions, windows of time, and counts.

use std::collections::BTreeSet;

use super::{MS, SEC};

const REJECT_AFTER: u64 = 180 * SEC;
/// No more than this is added to a retransmission.
const JITTER: u64 = 334 * MS;
/// How many counters behind the greatest are still accepted.
const WINDOW: u64 = 8192 - 64;

/// A session as one side sees it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) local: u32,
    pub(crate) remote: u32,
    pub(crate) is_initiator: bool,
    pub(crate) born: u64,
    pub(crate) next_counter: u64,
    /// Counters given to packets that are not on the wire yet.
    pub(crate) reserved: BTreeSet<u64>,
    pub(crate) seen: BTreeSet<u64>,
}

impl Session {
    pub(crate) fn new(local: u32, remote: u32, is_initiator: bool, born: u64) -> Self {
        Self {
            local,
            remote,
            is_initiator,
            born,
            next_counter: 0,
            reserved: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    pub(crate) fn is_live(&self, now: u64) -> bool {
        now.saturating_sub(self.born) < REJECT_AFTER
    }

    pub(crate) fn is_new(&self, counter: u64) -> bool {
        let greatest = self.seen.last().copied().unwrap_or(0);
        !self.seen.contains(&counter) && greatest.saturating_sub(counter) <= WINDOW
    }
}

/// A time before which something cannot and after which it must have happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) from: u64,
    pub(crate) by: u64,
}

impl Due {
    pub(crate) fn after(now: u64, delay: u64) -> Self {
        let from = now + delay;
        Self {
            from,
            by: from + JITTER,
        }
    }
}

/// Datagrams and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

impl Traffic {
    pub(crate) fn count(&mut self, len: usize) {
        self.datagrams += 1;
        self.bytes += len as u64;
    }
}
