//! Two nodes: the path between them, their traffic, and what must be so while nothing disturbs them.
//!
//! The rules come from the white paper and the kernel's timers, not from the library's constants.

use quietwire::PeerId;

use super::rng::Rng;
use super::tally::{Rounds, Tally, Trouble};
use super::{MS, SEC, Scale};

/// An initiator replaces its session with the first message that it sends at this age.
pub(crate) const REKEY_AFTER: u64 = 120 * SEC;
/// No session is used at this age.
pub(crate) const REJECT_AFTER: u64 = 180 * SEC;
/// An initiation that is not answered is repeated after this time, and up to so much more.
pub(crate) const RETRY: u64 = 5 * SEC;
pub(crate) const JITTER: u64 = 333 * MS;
/// Data that nothing authentic follows is followed by an initiation after this time and a jitter.
const SILENCE: u64 = 15 * SEC;
/// Data received is answered after this time, by a keepalive if by nothing else.
const KEEPALIVE: u64 = 10 * SEC;
/// What the machines need to compute and send a handshake message.
pub(crate) const COMPUTING: u64 = MS / 10;
/// News of the directory reaches every node within this time.
pub(crate) const NEWS: u64 = 2 * SEC;

/// What the two nodes of a pair share.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) ends: [u16; 2],
    /// One way.
    pub(crate) latency: u64,
    /// From a request to its answer.
    pub(crate) service: u64,
    /// The longest time between two exchanges.
    pub(crate) interval: u64,
    /// The pair has no persistent keepalive, and falls silent for long at times.
    pub(crate) is_sleepy: bool,
    /// Which preshared key each end has; 0 is none.
    pub(crate) psks: [u32; 2],
    /// From then on the rules hold.
    pub(crate) calm_from: u64,
    hurt: Option<Hurt>,
    pub(crate) busy_until: u64,
    pub(crate) silent_since: Option<u64>,
    round: Round,
}

/// The trouble that a pair recovers from.
#[derive(Debug)]
struct Hurt {
    trouble: Trouble,
    until: u64,
    /// When the first request after it was handed over.
    first: Option<u64>,
}

/// Initiations of a pair that belong together.
#[derive(Debug, Default)]
struct Round {
    at: u64,
    /// Each side took the other's initiation in while its own was not answered.
    is_crossed: bool,
    is_renewal: bool,
    has_crossed: bool,
}

impl Pair {
    pub(crate) fn random(rng: &mut Rng, ends: [u16; 2], scale: Scale) -> Self {
        let mean = scale.interval;
        // Half of them are answered by the machine itself, as echo requests are, and so before the
        // initiation that goes with the request is computed.
        let service = if rng.one_in(2) {
            MS / 50
        } else {
            rng.range(MS / 5, 5 * MS)
        };
        let has_psk = u32::from(rng.one_in(4));
        Self {
            ends,
            latency: rng.range(MS / 10, 20 * MS),
            service,
            interval: rng.range(mean * 2 / 3, mean * 2).min(50 * SEC),
            is_sleepy: rng.below(100) < u64::from(scale.sleepy),
            psks: [has_psk; 2],
            calm_from: 0,
            hurt: None,
            busy_until: 0,
            silent_since: None,
            round: Round::default(),
        }
    }

    /// Which of the two ends a node is.
    pub(crate) fn end(&self, node: u16) -> usize {
        usize::from(self.ends[1] == node)
    }

    pub(crate) fn is_calm(&self, now: u64) -> bool {
        self.calm_from <= now
    }

    /// After the end of a trouble everything is as it should be within this time.
    ///
    /// In the worst case one side has a session that the other has lost: the next packet (one
    /// interval) is not answered, which is noticed after 15.334 s; a handshake message of its own of
    /// just before keeps it from asking, so that it takes another packet, the same time and the 5 s
    /// between two handshake messages; one handshake may meet a key or an address that is known
    /// only from the news, and is repeated after 5.334 s. One second is for paths.
    fn recovery(&self) -> u64 {
        2 * self.interval + 2 * 15_334 * MS + 5 * SEC + 5_334 * MS + NEWS + SEC
    }

    /// Something disturbs the pair until `until`.
    pub(crate) fn disturb(&mut self, trouble: Trouble, until: u64) {
        self.unsettle(until);
        let until = self.hurt.as_ref().map_or(until, |h| h.until.max(until));
        self.hurt = Some(Hurt {
            trouble,
            until,
            first: None,
        });
    }

    /// A datagram was lost by chance. An application that waits for what was in it does not tell how
    /// long the mesh needs.
    pub(crate) fn lose(&mut self, now: u64) {
        self.unsettle(now);
        self.hurt.take_if(|hurt| hurt.until <= now);
    }

    /// Nothing can be said of the pair for a while after `until`.
    pub(crate) fn unsettle(&mut self, until: u64) {
        self.calm_from = self.calm_from.max(until + self.recovery());
    }

    /// The pair was silent and begins to talk. What disturbed it meanwhile shows only now.
    pub(crate) fn wake(&mut self, now: u64) {
        if let Some(since) = self.silent_since.take()
            && self.calm_from > since
        {
            self.calm_from = now + self.recovery();
        }
    }

    pub(crate) fn asked(&mut self, now: u64) {
        if let Some(hurt) = self.hurt.as_mut().filter(|hurt| hurt.until <= now) {
            hurt.first.get_or_insert(now);
        }
    }

    /// An answer was delivered; the request's time is unknown, the answer's is `at`.
    pub(crate) fn answered(&mut self, now: u64, at: u64, tally: &mut Tally) {
        let first = self.hurt.as_ref().and_then(|hurt| hurt.first);
        let Some(first) = first.filter(|first| *first <= at) else {
            return;
        };
        // One that falls silent in between tells nothing.
        let Some(hurt) = self.hurt.take().filter(|_| !self.is_sleepy) else {
            return;
        };
        let taken = now - first;
        tally.must(taken <= self.recovery(), || {
            format!("not recovered for {taken} ns: {hurt:?} {self:?}")
        });
        tally.recoveries.entry(hurt.trouble).or_default().add(taken);
    }

    /// How old the session is at most under which a calm pair seals: 120 s until it is to be renewed,
    /// the interval until the initiator sends something, and the handshake. A responder's is older
    /// by a path, and is renewed at the first message under the new one.
    pub(crate) fn oldest(&self) -> u64 {
        REKEY_AFTER + self.interval + self.service + 5 * self.latency + 2 * COMPUTING + MS
    }

    /// Whether a session is being replaced of which there are two since both sides initiated at once:
    /// the slots' rules then destroy one under which the other side still sends.
    pub(crate) fn is_crossing(&self, now: u64) -> bool {
        let has_crossed = self.round.has_crossed || self.round.is_crossed;
        has_crossed && now <= self.round.at + SEC
    }

    /// An initiation came while one of our own was on its way.
    pub(crate) fn cross(&mut self) {
        self.round.is_crossed = true;
    }

    /// An initiation goes out. Those of both sides within a second are one round.
    pub(crate) fn initiated(&mut self, now: u64, is_renewal: bool, rounds: &mut Rounds) {
        if now <= self.round.at + SEC {
            return;
        }
        let last = core::mem::take(&mut self.round);
        if last.is_renewal {
            rounds.all += 1;
            rounds.crossed += u64::from(last.is_crossed);
            if last.has_crossed {
                rounds.after_crossed += 1;
                rounds.again += u64::from(last.is_crossed);
            }
        }
        self.round = Round {
            at: now,
            is_crossed: false,
            is_renewal,
            has_crossed: last.is_crossed,
        };
    }
}

/// What one node knows of another: a peer, or two while a new key is announced.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) main: Track,
    pub(crate) next: Option<Track>,
    /// The last serial handed over, and the greatest delivered.
    pub(crate) sent: u32,
    pub(crate) got: u32,
}

impl Link {
    pub(crate) fn track(&mut self, id: PeerId) -> &mut Track {
        match &mut self.next {
            Some(next) if next.id == Some(id) => next,
            _ => {
                assert_eq!(self.main.id, Some(id), "a peer that was removed");
                &mut self.main
            }
        }
    }

    /// The track that fits best.
    pub(crate) fn find(&mut self, fits: impl Fn(&Track) -> bool) -> &mut Track {
        match &mut self.next {
            Some(next) if fits(next) && !fits(&self.main) => next,
            _ => &mut self.main,
        }
    }
}

/// What must be so of one peer.
#[derive(Debug, Default)]
pub(crate) struct Track {
    pub(crate) id: Option<PeerId>,
    /// The persistent keepalive, 0 for none.
    pub(crate) every: u64,
    /// The session that sends.
    pub(crate) session: Option<Session>,
    /// The session that we responded to and that is not confirmed.
    pub(crate) waiting: Option<Session>,
    /// The sender index of the last initiation accepted.
    pub(crate) offered: u32,
    /// When the initiation went out that is neither answered nor given up, nor made needless by a
    /// handshake in the other direction.
    pub(crate) initiated: Option<u64>,
    /// When a response was accepted.
    pub(crate) confirmed: Option<u64>,
    /// When data was sent that nothing has followed, neither from the peer nor a handshake message.
    pub(crate) silent_since: Option<u64>,
    passive: Option<u64>,
    has_more: bool,
    persistent: Option<u64>,
}

/// A session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Session {
    pub(crate) born: u64,
    pub(crate) is_initiator: bool,
    /// The index by which the other side knows it.
    pub(crate) remote: u32,
}

impl Track {
    pub(crate) fn new(id: PeerId, every: u64) -> Self {
        Self {
            id: Some(id),
            every,
            ..Self::default()
        }
    }

    /// Anything authentic goes out.
    pub(crate) fn sent(&mut self, now: u64) {
        self.passive = None;
        self.traversed(now);
    }

    fn traversed(&mut self, now: u64) {
        self.persistent = (self.every != 0).then_some(now + self.every);
    }

    /// Anything authentic comes in.
    pub(crate) fn received(&mut self, now: u64) {
        self.silent_since = None;
        self.traversed(now);
    }

    /// Data goes out: whether the silence of the peer has been noticed if it lasts too long.
    pub(crate) fn data_sent(&mut self, now: u64) -> bool {
        self.sent(now);
        now - *self.silent_since.get_or_insert(now) <= SILENCE + JITTER
    }

    pub(crate) fn data_received(&mut self, now: u64) {
        self.received(now);
        if self.passive.is_some_and(|at| at >= now) {
            self.has_more = true;
        } else {
            self.passive = Some(now + KEEPALIVE);
        }
    }

    /// A keepalive that was due has not come.
    pub(crate) fn misses_keepalive(&self, now: u64) -> bool {
        self.passive.is_some_and(|at| at < now)
    }

    /// A keepalive goes out: whether it is due now, and not a nanosecond earlier or later.
    pub(crate) fn keepalive_sent(&mut self, now: u64) -> bool {
        let is_passive = self.passive == Some(now);
        let is_due = is_passive || self.persistent == Some(now) || self.confirmed == Some(now);
        self.sent(now);
        if is_passive && core::mem::take(&mut self.has_more) {
            self.passive = Some(now + KEEPALIVE);
        }
        is_due
    }
}
