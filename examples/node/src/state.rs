//! What the threads share: the interface behind a lock, and what comes out of it.
//!
//! The lock is held for the short steps only: to find keys and reserve counters for a batch, and to
//! believe what was opened. Ciphers, multiplications and what moves packets run outside of it; the timer
//! is set and the port opened under it, which is rare.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use getrandom::SysRng;
use nix::sys::timerfd::{Expiration, TimerFd, TimerSetTimeFlags};
use quietwire::rand_core::UnwrapErr;
use quietwire::wire::{HEAD_ROOM, TAIL_ROOM};
use quietwire::{
    Env, Event, HandshakeJob, Instant, Interface, Outgoing, PeerId, SealJob, Staging, Transmit, ip,
};
use tracing::{debug, info, warn};

use crate::clock::{self, WallClock};
use crate::counters::Counters;
use crate::path::Path;

/// The most handshake messages that wait for their multiplications, as in the kernel.
const MAX_HANDSHAKES: usize = 4096;

/// The interface, and what belongs to it.
#[derive(Debug)]
pub struct State {
    /// All protocol.
    pub interface: Interface<Path>,
    /// Packets that wait for a handshake, each with room around it.
    pub staging: Staging<PeerId, Vec<u8>>,
    /// Handshakes that wait for their multiplications.
    pub handshakes: VecDeque<HandshakeJob<Path>>,
    /// The port asked for, or in use; 0 lets the system choose when the device is raised.
    pub port: u16,
    /// The mark of what is sent.
    pub fwmark: u32,
    /// Whether the device is up.
    pub is_up: bool,
    /// The device's MTU.
    pub mtu: u16,
    /// What the timer is set to, unless it has rung.
    pub alarm: Option<Instant>,
    /// How long the machine had slept when that was last looked at.
    pub slept: Duration,
    /// Pairs of peers that are one node under two keys: prefixes move to the one that is heard of.
    pub twins: Vec<(PeerId, PeerId)>,
    /// After how long without an answer to handshakes packets are answered with ICMP instead of kept.
    /// `None`, as in the kernel: they are kept, and nothing is said.
    pub patience: Option<Duration>,
    /// The time that handshakes show.
    pub wall: WallClock,
    /// Since when packets have waited for peers that have no session.
    waiting_since: BTreeMap<PeerId, Instant>,
    timer: Arc<TimerFd>,
    rng: UnwrapErr<SysRng>,
}

impl State {
    /// An interface without keys and peers, on a device that is down.
    #[must_use]
    pub fn new(mtu: u16, timer: Arc<TimerFd>) -> Self {
        Self {
            interface: Interface::new(None, clock::now()),
            staging: Staging::new(),
            handshakes: VecDeque::new(),
            port: 0,
            fwmark: 0,
            is_up: false,
            mtu,
            alarm: None,
            slept: clock::slept(),
            twins: Vec::new(),
            patience: None,
            waiting_since: BTreeMap::new(),
            wall: WallClock::new(clock::now(), Duration::ZERO),
            timer,
            rng: UnwrapErr(SysRng),
        }
    }

    /// Keeps a packet until its peer's session stands.
    pub fn stage(&mut self, peer: PeerId, packet: &[u8], counters: &Counters) {
        let mut kept = Vec::with_capacity(HEAD_ROOM + packet.len() + TAIL_ROOM);
        kept.resize(HEAD_ROOM, 0);
        kept.extend_from_slice(packet);
        kept.resize(HEAD_ROOM + packet.len() + TAIL_ROOM, 0);
        if self.staging.push(peer, kept).is_some() {
            counters.unstaged.add(1);
        }
    }

    /// Whether a packet may wait for a session with this peer; `false` once others have waited too long.
    pub fn may_wait(&mut self, now: Instant, peer: PeerId) -> bool {
        let Some(patience) = self.patience else {
            return true;
        };
        now - *self.waiting_since.entry(peer).or_insert(now) <= patience
    }

    /// A peer is removed: nothing of it is kept.
    pub fn forget(&mut self, peer: PeerId, counters: &Counters) {
        counters.unstaged.add(self.staging.discard(peer));
        self.waiting_since.remove(&peer);
        self.twins
            .retain(|(one, other)| *one != peer && *other != peer);
    }

    /// A peer has proved that it is there. If it has a twin, the prefixes are its own from now on: before
    /// its first packet comes, and after the last one of its twin.
    pub fn heard_of(&mut self, peer: PeerId) {
        let is_of = |(one, other): &&(PeerId, PeerId)| *one == peer || *other == peer;
        let Some(&(one, other)) = self.twins.iter().find(is_of) else {
            return;
        };
        let twin = if one == peer { other } else { one };
        let moved: Vec<_> = self
            .interface
            .peer(twin)
            .map(|twin| twin.allowed_ips().collect())
            .unwrap_or_default();
        if moved.is_empty() {
            return;
        }
        if let Some(mut peer) = self.interface.peer_mut(peer) {
            moved.into_iter().for_each(|cidr| peer.add_allowed_ip(cidr));
        }
        if let Some(peer) = self.interface.peer(peer) {
            info!("{}: has taken over from its former key", peer.public_key());
        }
        for packet in self.staging.take(twin) {
            self.staging.push(peer, packet);
        }
    }

    /// Queues a handshake for the thread that does the multiplications.
    pub fn queue(&mut self, job: HandshakeJob<Path>, counters: &Counters) {
        if self.handshakes.len() < MAX_HANDSHAKES {
            self.handshakes.push_back(job);
        } else {
            counters.handshakes.add(1);
        }
    }

    /// Collects what follows from a batch of calls: the library's contract, in its order.
    ///
    /// Says whether another thread has to be woken; that and the sending happen outside of the lock.
    pub fn settle(&mut self, now: Instant, out: &mut Output, counters: &Counters) {
        if self.is_up {
            self.collect(now, out, counters);
        }
    }

    fn collect(&mut self, now: Instant, out: &mut Output, counters: &Counters) {
        while let Some((peer, event)) = self.interface.poll_event() {
            self.heed(now, peer, event, out, counters);
        }
        let mut env = Env::new(&mut self.rng, self.wall.read(now));
        while self.handshakes.len() < MAX_HANDSHAKES
            && let Some(job) = self.interface.poll_handshake(now, &mut env)
        {
            self.handshakes.push_back(job);
        }
        out.wakes_handshakes = !self.handshakes.is_empty();
        // With handshakes still owed, this would do their multiplications under the lock. What is owed is
        // state, and is asked for again after each handshake.
        while self.handshakes.len() < MAX_HANDSHAKES
            && let Some(message) = self.interface.poll_transmit(now, &mut env)
        {
            out.messages.push(message);
        }
        if let Some(due) = self.interface.poll_timeout()
            && self.alarm.is_none_or(|alarm| due < alarm)
        {
            self.set_alarm(due);
        }
    }

    /// Under the lock, so that of two threads the one with the earlier deadline wins.
    fn set_alarm(&mut self, due: Instant) {
        self.alarm = Some(due);
        let at = clock::to_timespec(due.max(Instant::from_nanos(1)));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        if let Err(error) = self.timer.set(Expiration::OneShot(at), flags) {
            warn!("setting the timer: {error}");
        }
    }

    fn heed(
        &mut self,
        now: Instant,
        peer: PeerId,
        event: Event,
        out: &mut Output,
        counters: &Counters,
    ) {
        let Some(known) = self.interface.peer(peer) else {
            return;
        };
        let key = known.public_key();
        match event {
            Event::Established => {
                info!("{key}: session established");
                self.waiting_since.remove(&peer);
                self.heard_of(peer);
                self.unstage(now, peer, out, counters);
            }
            Event::Roamed => {
                if let Some(path) = known.endpoint() {
                    debug!("{key}: endpoint is {}", path.remote);
                }
            }
            Event::HandshakeGivenUp => {
                info!("{key}: no answer to handshakes; it goes on with the next packet");
                counters.unstaged.add(self.staging.discard(peer));
            }
            event => debug!("{key}: {event:?}"),
        }
    }

    /// Begins to seal what has waited for a peer.
    fn unstage(&mut self, now: Instant, peer: PeerId, out: &mut Output, counters: &Counters) {
        for kept in self.staging.take(peer) {
            let len = kept
                .get(HEAD_ROOM..)
                .and_then(ip::total_length)
                .unwrap_or(0);
            let tos = kept.get(HEAD_ROOM..).and_then(ip::tos).unwrap_or(0);
            match self.interface.begin_seal_to(
                now,
                peer,
                Outgoing::in_place(kept, HEAD_ROOM..HEAD_ROOM + len),
            ) {
                Ok(job) => out.staged.push((job, ip::ecn_encapsulate(0, tos))),
                Err(_) => counters.unsealed.add(1),
            }
        }
    }

    /// Forgets by which of our addresses the peers reach us, because our addresses or routes changed.
    pub fn forget_sources(&mut self) {
        let stale: Vec<_> = self
            .interface
            .peers()
            .filter_map(|peer| Some((peer.id(), peer.endpoint()?)))
            .filter(|(_, path)| path.local.is_some())
            .collect();
        for (id, path) in stale {
            if let Some(mut peer) = self.interface.peer_mut(id) {
                peer.set_endpoint(Path::to(path.remote));
            }
        }
    }

    /// Follows the device's MTU.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        let ids: Vec<_> = self.interface.peers().map(|peer| peer.id()).collect();
        for id in ids {
            if let Some(mut peer) = self.interface.peer_mut(id) {
                peer.set_mtu(mtu);
            }
        }
    }

    /// The device was taken down: nothing is kept, nothing is sent.
    pub fn go_down(&mut self, now: Instant, counters: &Counters) {
        self.is_up = false;
        self.interface.erase_all(now);
        let ids: Vec<_> = self.interface.peers().map(|peer| peer.id()).collect();
        for id in ids {
            counters.unstaged.add(self.staging.discard(id));
        }
        self.waiting_since.clear();
        self.handshakes.clear();
        let mut unsent = Output::default();
        self.collect(now, &mut unsent, counters);
        self.handshakes.clear();
    }

    /// The device was raised: peers with a persistent keepalive, or for whom packets wait already, are
    /// greeted at once.
    pub fn go_up(&mut self, now: Instant) {
        self.is_up = true;
        self.alarm = None;
        self.interface.handle_timeout(now);
        let kept: Vec<_> = self
            .interface
            .peers()
            .map(|peer| (peer.id(), peer.persistent_keepalive()))
            .filter(|(_, seconds)| *seconds != 0)
            .collect();
        for (id, seconds) in kept {
            if let Some(mut peer) = self.interface.peer_mut(id) {
                peer.set_persistent_keepalive(now, 0);
                peer.set_persistent_keepalive(now, seconds);
            }
        }
        let awaited: Vec<_> = self.interface.peers().map(|peer| peer.id()).collect();
        for id in awaited {
            if self.staging.len(id) > 0
                && let Some(mut peer) = self.interface.peer_mut(id)
            {
                peer.initiate(now);
            }
        }
    }

    /// After a sleep of the machine all keys are renewed.
    pub fn look_for_sleep(&mut self, now: Instant) {
        let slept = clock::slept();
        if slept > self.slept + Duration::from_secs(2) {
            info!("the machine was suspended: all sessions are renewed");
            self.interface.on_resume(now);
        }
        self.slept = slept;
    }
}

/// What comes out of the interface beside data.
#[derive(Debug, Default)]
pub struct Output {
    /// Packets that waited, and the outer TOS of each.
    pub staged: Vec<(SealJob<'static, Vec<u8>, Path>, u8)>,
    /// Handshake messages, cookies and keepalives.
    pub messages: Vec<Transmit<Path>>,
    /// Handshakes wait for their thread.
    pub wakes_handshakes: bool,
}

#[cfg(test)]
mod tests {
    use nix::sys::timerfd::{ClockId, TimerFlags};
    use quietwire::{Cidr, PeerConfig, PrivateKey, PublicKey};

    use super::*;

    fn state() -> State {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::empty()).unwrap();
        let mut state = State::new(1420, Arc::new(timer));
        let key = PrivateKey::from_bytes([9; 32]);
        state.interface.set_private_key(Some(&key)).unwrap();
        state
    }

    fn add(state: &mut State, seed: u8, allowed: &[Cidr]) -> PeerId {
        let config = PeerConfig::new(PublicKey::from_bytes([seed; 32])).allowed_ips(allowed);
        state.interface.add_peer(clock::now(), &config).unwrap()
    }

    #[test]
    fn a_twin_that_is_heard_of_takes_prefixes_and_packets() {
        let (mut state, counters) = (state(), Counters::default());
        let here: Cidr = "10.0.0.1/32".parse().unwrap();
        let one = add(&mut state, 1, &[here]);
        let other = add(&mut state, 2, &[]);
        let stranger = add(&mut state, 3, &["10.0.0.2/32".parse().unwrap()]);
        state.stage(one, &[0x45; 20], &counters);
        state.heard_of(other);
        assert_eq!(state.interface.route(here.address()), Some(one));
        state.twins.push((one, other));
        state.heard_of(stranger);
        state.heard_of(one);
        assert_eq!(state.interface.route(here.address()), Some(one));
        state.heard_of(other);
        assert_eq!(state.interface.route(here.address()), Some(other));
        assert_eq!((state.staging.len(one), state.staging.len(other)), (0, 1));
        state.heard_of(one);
        assert_eq!(state.interface.route(here.address()), Some(one));
        state.forget(one, &counters);
        assert!(state.twins.is_empty() && state.staging.is_empty());
        assert_eq!(counters.unstaged.get(), 1);
    }

    #[test]
    fn packets_wait_for_as_long_as_patience_lasts() {
        let (mut state, counters) = (state(), Counters::default());
        let peer = add(&mut state, 1, &[]);
        let after = |seconds: u64| Instant::from_millis(1_000_000 + seconds * 1000);
        assert!(state.may_wait(after(0), peer) && state.may_wait(after(1000), peer));
        state.patience = Some(Duration::from_secs(3));
        assert!(state.may_wait(after(10), peer) && state.may_wait(after(13), peer));
        assert!(!state.may_wait(after(14), peer));
        let mut out = Output::default();
        state.heed(after(15), peer, Event::Established, &mut out, &counters);
        assert!(state.may_wait(after(20), peer));
    }
}
