//! What one node should know of one peer, told only from what went in and out of it.
//!
//! The rules of the white paper (sections 5.4.5 to 6.6) and of the kernel's `timers.c`, written a
//! second time: three session slots, a set of seen counters, and the windows of time in which each
//! timer must act. Where the library draws jitter the model knows a window instead of an instant.

use std::net::SocketAddr;

use super::SEC;
use super::parts::{Due, Session, Traffic};

const REKEY_AFTER: u64 = 120 * SEC;
const REKEY_ON_RECEIVE: u64 = 165 * SEC;
const ERASE_AFTER: u64 = 540 * SEC;
const REKEY_TIMEOUT: u64 = 5 * SEC;
const KEEPALIVE: u64 = 10 * SEC;
/// Initiations of one peer that come faster are refused.
pub(crate) const FLOOD: u64 = SEC / 50;
/// Initiations in a row: 20, and as many again as fit before silence asks for a new start.
const ATTEMPTS: u32 = 20 + 4;

/// What must happen to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Reject,
    /// Both are right, for reasons that the model does not follow.
    Either,
}

/// One node's knowledge of one peer.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Model {
    /// Never the same for two lives of a peer.
    pub(crate) generation: u64,
    /// Timers are handled when they are due, and messages written when they are owed.
    pub(crate) is_exact: bool,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
    pub(crate) established_at: Option<u64>,
    /// Who sent the newest initiation accepted, and which of its initiations it was.
    pub(crate) newest_initiation: Option<(u64, u64)>,
    pub(crate) accepted_initiation_at: Option<u64>,
    /// How many initiations this node has sent to the peer.
    pub(crate) initiations: u64,
    pub(crate) sessions: u64,
    previous: Option<Session>,
    current: Option<Session>,
    next: Option<Session>,
    outstanding: Option<u32>,
    owed_response: Option<u32>,
    handshake_sent_at: Option<u64>,
    owes_event: bool,
    owes_keepalive: bool,
    erase_at: Option<u64>,
    keepalive_at: Option<u64>,
    more_data: bool,
    persistent: u64,
    persistent_at: Option<u64>,
    /// When a peer that does not answer is noticed.
    silence: Option<Due>,
    /// It acted, but nobody saw when, so it is not known when it is set again.
    is_silence_in_doubt: bool,
    retry: Option<Due>,
    attempts: u32,
    /// Initiations since the last session, whatever happened between them.
    series: u32,
    /// Somebody has asked for a session since the last one was established.
    is_asked: bool,
    /// An initiation must go out now, unless a handshake message did just before.
    is_initiation_due: bool,
    /// The session was found to be ending by what came in under it, which counts once.
    is_last_minute: bool,
}

impl Model {
    pub(crate) fn new(generation: u64, endpoint: Option<SocketAddr>, is_exact: bool) -> Self {
        Self {
            generation,
            is_exact,
            endpoint,
            sent: Traffic::default(),
            received: Traffic::default(),
            established_at: None,
            newest_initiation: None,
            accepted_initiation_at: None,
            initiations: 0,
            sessions: 0,
            previous: None,
            current: None,
            next: None,
            outstanding: None,
            owed_response: None,
            handshake_sent_at: None,
            owes_event: false,
            owes_keepalive: false,
            erase_at: None,
            keepalive_at: None,
            more_data: false,
            persistent: 0,
            persistent_at: None,
            silence: None,
            is_silence_in_doubt: false,
            retry: None,
            attempts: 0,
            series: 0,
            is_asked: false,
            is_initiation_due: false,
            is_last_minute: false,
        }
    }

    /// Whether a packet can be sealed.
    pub(crate) fn can_send(&self, now: u64) -> bool {
        self.current
            .as_ref()
            .is_some_and(|session| session.is_live(now))
    }

    /// What must happen to a datagram that the peer sealed.
    pub(crate) fn judge_data(&self, now: u64, local: u32, counter: u64) -> Verdict {
        let session = [&self.current, &self.previous, &self.next]
            .into_iter()
            .flatten()
            .find(|session| session.local == local);
        match session {
            Some(session) if session.is_live(now) && session.is_new(counter) => Verdict::Accept,
            _ => Verdict::Reject,
        }
    }

    /// What must happen to a response to the initiation with this index.
    pub(crate) fn judge_response(&self, local: u32) -> Verdict {
        match self.outstanding {
            Some(index) if index == local && self.is_exact => Verdict::Accept,
            Some(index) if index == local => Verdict::Either,
            _ => Verdict::Reject,
        }
    }

    /// The indices by which the peer can be addressed: no two live ones may be equal.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        let sessions = [&self.current, &self.previous, &self.next]
            .into_iter()
            .flatten();
        sessions
            .map(|session| session.local)
            .chain(self.outstanding)
    }
}

/// What the node sends.
impl Model {
    /// A packet was sealed; its receiver index and counter.
    pub(crate) fn sealed(&mut self, now: u64, len: usize) -> (u32, u64) {
        assert!(self.can_send(now), "sealed without a live session");
        self.attempts = 0;
        self.owes_keepalive = false;
        self.any_sent(now);
        if !self.is_silence_in_doubt {
            self.silence
                .get_or_insert_with(|| Due::after(now, KEEPALIVE + REKEY_TIMEOUT));
        }
        self.reserve(now, len)
    }

    /// There was no session for a packet.
    pub(crate) fn unsealed(&mut self, now: u64) {
        assert!(
            !self.can_send(now),
            "no packet sealed in spite of a live session"
        );
        self.asked();
    }

    fn reserve(&mut self, now: u64, len: usize) -> (u32, u64) {
        self.sent.count(len);
        self.is_initiation_due |= self.is_initiator_since(now, REKEY_AFTER);
        let session = self.current.as_mut().unwrap();
        let counter = session.next_counter;
        session.next_counter += 1;
        session.reserved.insert(counter);
        (session.remote, counter)
    }

    /// A data datagram goes to the wire: its counter was reserved for it and is used up now.
    pub(crate) fn emitted(&mut self, remote: u32, counter: u64) {
        let mut sessions = [&mut self.current, &mut self.previous]
            .into_iter()
            .flatten();
        let Some(session) = sessions.find(|session| session.remote == remote) else {
            // The session has gone while the packet waited for its job.
            assert!(!self.is_exact, "a datagram of no session");
            return;
        };
        assert!(
            session.reserved.remove(&counter),
            "counter {counter} used twice"
        );
    }

    pub(crate) fn keepalive_sent(&mut self, now: u64, len: usize) -> (u32, u64) {
        assert!(self.can_send(now), "a keepalive without a live session");
        assert!(
            !self.is_exact || self.owes_keepalive,
            "a keepalive that nothing asked for"
        );
        self.owes_keepalive = false;
        self.reserve(now, len)
    }

    /// An initiation was sent, whose writing was begun at `begun`.
    pub(crate) fn initiation_sent(&mut self, begun: u64, now: u64, index: u32, len: usize) {
        // What was sent while a job wrote this one could not hold it back any more.
        if let Some(sent) = self
            .handshake_sent_at
            .filter(|sent| self.is_exact || *sent < begun)
        {
            assert!(
                begun >= sent + REKEY_TIMEOUT,
                "an initiation {} ns after another",
                begun - sent
            );
        }
        assert!(
            !self.is_exact || self.may_initiate(now),
            "an initiation that nothing asked for"
        );
        self.attempts += 1;
        self.series += 1;
        assert!(
            self.persistent != 0 || self.attempts <= ATTEMPTS,
            "initiations without end"
        );
        self.initiations += 1;
        self.handshake_sent_at = Some(now);
        self.outstanding = Some(index);
        self.retry = Some(Due::after(now, REKEY_TIMEOUT));
        self.sent.count(len);
        self.any_sent(now);
    }

    fn is_initiator_since(&self, now: u64, age: u64) -> bool {
        let is_old = |session: &Session| session.is_initiator && now >= session.born + age;
        self.current.as_ref().is_some_and(is_old)
    }

    fn may_initiate(&self, now: u64) -> bool {
        let unanswered = self.outstanding.is_some()
            && self
                .handshake_sent_at
                .is_some_and(|sent| now >= sent + REKEY_TIMEOUT);
        let is_silent = self.silence.is_some_and(|silence| now >= silence.from);
        self.is_asked
            || unanswered
            || is_silent
            || self.is_silence_in_doubt
            || self.is_initiator_since(now, REKEY_AFTER)
    }

    pub(crate) fn response_sent(&mut self, now: u64, local: u32, remote: u32, len: usize) {
        assert_eq!(
            self.owed_response.take(),
            Some(remote),
            "a response to nothing"
        );
        self.previous = None;
        self.next = Some(Session::new(local, remote, false, now));
        self.handshake_sent_at = Some(now);
        self.erase_at = Some(now + ERASE_AFTER);
        self.sent.count(len);
        self.any_sent(now);
    }

    fn any_sent(&mut self, now: u64) {
        self.keepalive_at = None;
        self.traversed(now);
    }

    fn traversed(&mut self, now: u64) {
        if self.persistent != 0 {
            self.persistent_at = Some(now + self.persistent);
        }
    }
}

/// What the node believes.
impl Model {
    fn any_received(&mut self, now: u64, from: SocketAddr, len: usize) {
        self.endpoint = Some(from);
        self.received.count(len);
        self.silence = None;
        self.is_silence_in_doubt = false;
        self.attempts = 0;
        self.traversed(now);
    }

    pub(crate) fn initiation_accepted(
        &mut self,
        now: u64,
        from: SocketAddr,
        remote: u32,
        len: usize,
    ) {
        let is_early = |at: u64| now < at + FLOOD;
        assert!(
            !self.accepted_initiation_at.is_some_and(is_early),
            "a flood of initiations"
        );
        self.owed_response = Some(remote);
        self.accepted_initiation_at = Some(now);
        self.any_received(now, from, len);
    }

    pub(crate) fn response_accepted(
        &mut self,
        now: u64,
        from: SocketAddr,
        local: u32,
        remote: u32,
        len: usize,
    ) {
        assert_eq!(self.outstanding.take(), Some(local));
        self.previous = self.next.take().or_else(|| self.current.take());
        self.current = Some(Session::new(local, remote, true, now));
        self.erase_at = Some(now + ERASE_AFTER);
        self.established(now);
        self.owes_keepalive = true;
        self.any_sent(now);
        self.any_received(now, from, len);
    }

    /// A data datagram was accepted.
    pub(crate) fn data_accepted(
        &mut self,
        now: u64,
        from: SocketAddr,
        (local, counter): (u32, u64),
        (len, is_keepalive): (usize, bool),
    ) {
        let slots = [&mut self.current, &mut self.previous, &mut self.next];
        for session in slots.into_iter().flatten() {
            if session.local == local {
                assert!(session.seen.insert(counter));
            }
        }
        if self.next.as_ref().is_some_and(|next| next.local == local) {
            self.previous = self.current.take();
            self.current = self.next.take();
            self.established(now);
        }
        if self.is_initiator_since(now, REKEY_ON_RECEIVE) && !self.is_last_minute {
            self.is_last_minute = true;
            self.is_initiation_due = true;
        }
        self.any_received(now, from, len);
        if is_keepalive {
        } else if self.keepalive_at.is_some() {
            self.more_data = true;
        } else {
            self.keepalive_at = Some(now + KEEPALIVE);
        }
    }

    fn established(&mut self, now: u64) {
        self.sessions += 1;
        self.established_at = Some(now);
        self.owes_event = true;
        self.retry = None;
        self.series = 0;
        self.is_asked = false;
        self.is_last_minute = false;
    }

    pub(crate) fn event_established(&mut self) {
        assert!(self.owes_event, "established twice");
        self.owes_event = false;
    }

    pub(crate) fn event_given_up(&mut self, now: u64) {
        assert!(
            !self.is_exact || self.series >= 20,
            "gave up after {} attempts",
            self.series
        );
        self.series = 0;
        self.keepalive_at = None;
        self.retry = None;
        self.is_asked = false;
        self.erase_at.get_or_insert(now + ERASE_AFTER);
    }

    pub(crate) fn event_expired(&self, now: u64) {
        assert!(
            self.current.is_some() && !self.can_send(now),
            "expired too early"
        );
    }
}

/// What the node's user does, and time.
impl Model {
    pub(crate) fn asked(&mut self) {
        self.is_asked = true;
        self.is_initiation_due |= self.endpoint.is_some();
        self.attempts = 0;
    }

    pub(crate) fn set_persistent(&mut self, now: u64, secs: u64) {
        let was_off = self.persistent == 0;
        self.persistent = secs * SEC;
        if self.persistent == 0 {
            self.persistent_at = None;
        } else if was_off {
            self.send_keepalive(now);
        }
    }

    /// A keepalive is due, or a session if there is none.
    fn send_keepalive(&mut self, now: u64) {
        if self.can_send(now) {
            self.owes_keepalive = true;
            self.any_sent(now);
        } else {
            self.asked();
        }
    }

    /// The user has all keys erased; a persistent keepalive goes on.
    pub(crate) fn erased(&mut self, now: u64) {
        self.forget_keys();
        self.handshake_sent_at = None;
        self.erase_at = None;
        self.keepalive_at = None;
        self.more_data = false;
        self.persistent_at = None;
        self.silence = None;
        self.retry = None;
        self.attempts = 0;
        self.series = 0;
        self.is_asked = false;
        self.is_last_minute = false;
        self.traversed(now);
    }

    fn forget_keys(&mut self) {
        self.previous = None;
        self.current = None;
        self.next = None;
        self.outstanding = None;
        self.owed_response = None;
        self.owes_keepalive = false;
        self.is_initiation_due = false;
    }

    /// The node handled its timeouts at `now`.
    pub(crate) fn timeouts_handled(&mut self, now: u64) {
        if self.keepalive_at.is_some_and(|at| at <= now) {
            self.keepalive_at = None;
            self.send_keepalive(now);
            if core::mem::take(&mut self.more_data) {
                self.keepalive_at = Some(now + KEEPALIVE);
            }
        }
        if self.erase_at.is_some_and(|at| at <= now) {
            self.erase_at = None;
            self.forget_keys();
        }
        if self.persistent_at.is_some_and(|at| at <= now) {
            self.persistent_at = Some(now + self.persistent);
            self.send_keepalive(now);
        }
    }

    /// Everything that was owed is on the wire, and timeouts are handled up to `now`.
    pub(crate) fn settled(&mut self, now: u64) {
        assert!(!self.owes_event, "no event for a new session");
        if !self.is_exact {
            return;
        }
        assert!(
            !self.owes_keepalive || !self.can_send(now),
            "a keepalive is missing"
        );
        self.owes_keepalive = false;
        assert_eq!(self.owed_response, None, "a response is missing");
        let sent = self.handshake_sent_at;
        if core::mem::take(&mut self.is_initiation_due) {
            let is_recent = sent.is_some_and(|sent| now < sent + REKEY_TIMEOUT);
            assert!(is_recent, "an initiation is missing");
        }
        let just_sent = |due: Due| sent.is_some_and(|sent| sent + REKEY_TIMEOUT > due.from);
        if let Some(due) = self.retry.filter(|due| due.by <= now) {
            assert!(just_sent(due), "a retransmission is missing");
            self.retry = None;
        }
        if let Some(due) = self.silence.filter(|due| due.by <= now) {
            assert!(
                just_sent(due) || self.endpoint.is_none(),
                "a dead peer was not noticed"
            );
            self.silence = None;
            self.is_silence_in_doubt = true;
        }
    }

    /// The latest time at which the node must be woken. Of a timer with jitter it is known only
    /// until it may have acted.
    pub(crate) fn deadline(&self, now: u64) -> Option<u64> {
        let ahead = |due: Option<Due>| due.filter(|due| now < due.from).map(|due| due.by);
        let exact = [
            self.keepalive_at,
            self.persistent_at,
            ahead(self.silence),
            ahead(self.retry),
        ];
        let exact = exact.into_iter().filter(|_| self.is_exact);
        exact.chain([self.erase_at]).flatten().min()
    }
}
