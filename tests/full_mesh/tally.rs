//! What happened, and what it cost.

use std::collections::BTreeMap;
use std::time::Instant;

use quietwire::Rejected;

use super::SEC;
use super::counting;

/// A call into the library, by what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    ReadInitiation,
    ReadResponse,
    WriteInitiation,
    WriteResponse,
    Seal,
    Open,
    OpenKeepalive,
    WriteKeepalive,
    Refuse,
    Timeout,
    Poll,
    Configure,
}

const CALLS: usize = Call::Configure as usize + 1;

/// Times a share of the calls and counts the bytes that the library holds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    turn: u32,
    /// Calls, those that were timed, and their nanoseconds.
    costs: [(u64, u64, u64); CALLS],
    /// What two looks at the clock cost.
    own: u64,
    /// All that the interfaces hold on the heap.
    pub(crate) bytes: i64,
}

/// One call in so many is timed. A prime, so that no rhythm of calls is met in step.
const SHARE: u32 = 7;

/// What takes so many times as long as on average was interrupted by another process.
const INTERRUPTED: u64 = 8;

/// The average is taken for one after so many calls.
const ENOUGH: u64 = 100;

impl Meter {
    pub(crate) fn new() -> Self {
        let looks = (0..1000).map(|_| nanos(Instant::now()));
        Self {
            own: looks.min().unwrap_or(0),
            ..Self::default()
        }
    }

    /// Does a call into the library. What it was may follow from its result.
    #[inline]
    pub(crate) fn call<R>(&mut self, call: impl FnOnce() -> R, kind: impl FnOnce(&R) -> Call) -> R {
        self.turn += 1;
        let start = (self.turn == SHARE).then(|| {
            self.turn = 0;
            Instant::now()
        });
        let before = counting::held();
        let result = call();
        self.bytes += counting::held() - before;
        let taken = start.map(nanos);
        let cost = &mut self.costs[kind(&result) as usize];
        cost.0 += 1;
        if let Some(taken) = taken {
            let is_usual = cost.1 < ENOUGH || taken * cost.1 < INTERRUPTED * cost.2;
            cost.1 += u64::from(is_usual);
            cost.2 += u64::from(is_usual) * taken.saturating_sub(self.own);
        }
        result
    }

    pub(crate) fn calls(&self, call: Call) -> u64 {
        self.costs[call as usize].0
    }

    /// Nanoseconds that a call takes on average.
    pub(crate) fn mean(&self, call: Call) -> u64 {
        let (_, timed, nanos) = self.costs[call as usize];
        nanos / timed.max(1)
    }

    /// Nanoseconds that all calls of these kinds took.
    pub(crate) fn total(&self, calls: &[Call]) -> u64 {
        calls
            .iter()
            .map(|call| self.calls(*call) * self.mean(*call))
            .sum()
    }
}

fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds that this thread has run on a processor, where the system tells.
pub(crate) fn processor() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// What disturbs a pair, beside losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// One of the two came up for the first time.
    Start,
    Restart,
    Absence,
    Partition,
    NewAddress,
    NewKey,
    NewPsk,
}

/// How long applications waited after a trouble.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) pairs: u64,
    pub(crate) sum: u64,
    pub(crate) most: u64,
    /// How many took longer than a second, and than six.
    pub(crate) slow: u64,
    pub(crate) slower: u64,
}

impl Recovery {
    pub(crate) fn add(&mut self, taken: u64) {
        self.pairs += 1;
        self.sum += taken;
        self.most = self.most.max(taken);
        self.slow += u64::from(taken > SEC);
        self.slower += u64::from(taken > 6 * SEC);
    }
}

/// Renewals of pairs of one kind, and how many of them crossed: both sides initiated at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) all: u64,
    pub(crate) crossed: u64,
    /// Renewals of which the one before had crossed, and those of them that crossed as well.
    pub(crate) after_crossed: u64,
    pub(crate) again: u64,
}

/// The books.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Rules that were broken, and what is known of the first of them.
    pub(crate) broken: u64,
    pub(crate) breaches: Vec<String>,
    /// Packets handed over to a node by its applications.
    pub(crate) handed: u64,
    /// Packets sealed when they were handed over, and after they had waited.
    pub(crate) sealed: u64,
    pub(crate) sealed_late: u64,
    pub(crate) staged: u64,
    /// Staged packets that were thrown away: given up, full, peer removed, node restarted.
    pub(crate) discarded: u64,
    /// Copies of data datagrams that the network made.
    pub(crate) repeated: u64,
    pub(crate) delivered: u64,
    /// Data datagrams that did not arrive.
    pub(crate) lost: u64,
    /// Data datagrams refused on arrival.
    pub(crate) refused_packets: u64,
    /// All datagrams refused on arrival.
    pub(crate) refused: BTreeMap<Rejected, u64>,
    /// The same, counted by interfaces that are gone.
    pub(crate) dropped: BTreeMap<Rejected, u64>,
    /// Packets of calm pairs that were refused because handshakes had crossed.
    pub(crate) lost_to_crossing: u64,
    pub(crate) exchanges: u64,
    /// Packets handed over by pairs that were calm.
    pub(crate) calm: u64,
    /// Packets of calm pairs that came back from a silence and waited for a handshake.
    pub(crate) woken: u64,
    pub(crate) initiations: u64,
    pub(crate) responses: u64,
    pub(crate) handshakes: u64,
    pub(crate) keepalives: u64,
    pub(crate) wakes: u64,
    /// Wake-ups that only put a deadline right.
    pub(crate) idle_wakes: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) troubles: BTreeMap<Trouble, u64>,
    pub(crate) recoveries: BTreeMap<Trouble, Recovery>,
    /// Of pairs whose applications take their time, and whose machine answers at once.
    pub(crate) rounds: [Rounds; 2],
    /// The greatest age of a session that sealed, in a calm pair and in any.
    pub(crate) oldest_calm: u64,
    pub(crate) oldest: u64,
    /// When, bytes for each tunnel end, tunnel ends.
    pub(crate) memory: Vec<(u64, i64, u64)>,
    /// Most handshake messages that reached one node within a second.
    pub(crate) busiest_second: u64,
}

impl Tally {
    /// Notes that a rule is broken unless it holds. The day goes on, so that one breach after hours
    /// does not cost what else would be found.
    #[inline]
    pub(crate) fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken += 1;
            if self.breaches.len() < 20 {
                self.breaches.push(what());
                println!("broken: {}", self.breaches.last().unwrap());
            }
        }
    }
}
