//! One machine: its device, its clocks, its way of driving the device, and what it should know.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use quietwire::{
    Cidr, Env, HandshakeJob, Instant, OpenJob, PeerConfig, PrivateKey, PublicKey, SealJob, Staging,
    Transmit,
};

use super::device::{Device, View};
use super::inner;
use super::model::Model;
use super::rng::Rng;
use super::{MS, SEC};

/// Monday, so to speak: the wall clock's time at the start, in nanoseconds since 1970.
const WALL_AT_START: u64 = 1_700_000_000 * SEC;

/// How a program drives the library.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Mode {
    /// Datagrams and packets are collected and go through the batch calls.
    pub(crate) is_batch: bool,
    /// Cryptography runs later, in any order.
    pub(crate) has_jobs: bool,
    /// So many jobs in a million are lost.
    pub(crate) loses_jobs: u32,
    /// Timeouts are handled up to so much too late.
    pub(crate) lateness: u64,
    /// The monotonic clock stands still at times and calls bring times from the past.
    pub(crate) has_bad_clock: bool,
    /// Packets are answered.
    pub(crate) echoes: bool,
}

impl Mode {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let has_jobs = rng.one_in(3);
        Self {
            is_batch: !has_jobs && rng.one_in(3),
            has_jobs,
            loses_jobs: if rng.one_in(2) { 50_000 } else { 0 },
            lateness: if rng.one_in(5) {
                rng.below(20 * SEC)
            } else {
                0
            },
            has_bad_clock: rng.one_in(5),
            echoes: rng.one_in(2),
        }
    }

    /// Whether what happens when can be told to the nanosecond.
    fn is_exact(&self) -> bool {
        !self.has_jobs && self.lateness == 0 && !self.has_bad_clock
    }
}

/// The two clocks of a machine, both as wrong as they like to be.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// The monotonic clock's epoch is anything.
    pub(crate) offset: u64,
    /// The monotonic clock shows the first until the second.
    pub(crate) frozen: Option<(u64, u64)>,
    pub(crate) wall_skew: i64,
    /// The wall clock stands still at this.
    pub(crate) wall_frozen: Option<u64>,
    wall_shown: u64,
    /// The wall clock is never set back beyond this.
    wall_floor: u64,
}

impl Clock {
    fn new(offset: u64) -> Self {
        Self {
            offset,
            frozen: None,
            wall_skew: 0,
            wall_frozen: None,
            wall_shown: 0,
            wall_floor: 0,
        }
    }

    fn monotonic(&self, t: u64) -> u64 {
        match self.frozen {
            Some((shown, until)) if t < until => shown,
            _ => self.offset + t,
        }
    }

    fn wall(&self, t: u64) -> Duration {
        let honest = (WALL_AT_START + t).saturating_add_signed(self.wall_skew);
        Duration::from_nanos(self.wall_frozen.unwrap_or(honest).max(self.wall_floor))
    }

    /// A message was written with this time in it.
    fn was_shown(&mut self, wall: Duration) {
        let shown = u64::try_from(wall.as_nanos()).unwrap();
        self.wall_shown = self.wall_shown.max(shown);
    }

    /// After a restart nobody remembers which timestamps were sent, so the wall clock must be past
    /// all of them: what the white paper expects of the user.
    pub(crate) fn correct_wall(&mut self) {
        self.wall_frozen = None;
        self.wall_skew = 0;
        self.wall_floor = self.wall_shown + 5 * SEC;
    }
}

/// Work under way on another thread.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a handful of them lives at a time"
)]
pub(crate) enum Job {
    Open(SocketAddr, Vec<u8>, OpenJob<Vec<u8>>),
    /// With the datagram that it reads, if it reads one, and when it was begun.
    Handshake(Option<(SocketAddr, Vec<u8>)>, HandshakeJob, u64),
    Seal(usize, SealJob<'static, Vec<u8>>, u64),
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) key: PrivateKey,
    pub(crate) device: Device,
    pub(crate) is_tunnel: bool,
    pub(crate) mode: Mode,
    pub(crate) clock: Clock,
    /// The latest time that the device was told.
    pub(crate) seen: u64,
    /// The device's own randomness.
    rng: Rng,
    pub(crate) address: SocketAddr,
    /// Which nodes the peers are.
    pub(crate) others: Vec<Other>,
    pub(crate) models: Vec<Model>,
    pub(crate) staging: Staging<usize, Vec<u8>>,
    pub(crate) inbox: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) wake_at: Option<u64>,
    /// Until then, handshakes may be refused for load.
    pub(crate) loaded_until: u64,
}

/// A peer as configured.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) node: usize,
    pub(crate) key: PublicKey,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) persistent: u16,
}

impl Node {
    pub(crate) fn new(
        key: PrivateKey,
        address: SocketAddr,
        is_tunnel: bool,
        mode: Mode,
        rng: &mut Rng,
    ) -> Self {
        let clock = Clock::new(rng.below(1 << 50));
        Self {
            device: Device::interface(&key, Instant::from_nanos(0)),
            key,
            is_tunnel,
            mode,
            clock,
            seen: 0,
            rng: rng.fork(),
            address,
            others: Vec::new(),
            models: Vec::new(),
            staging: Staging::new(),
            inbox: Vec::new(),
            jobs: BTreeMap::new(),
            wake_at: None,
            loaded_until: 0,
        }
    }

    /// Starts the program, with nothing remembered from before.
    pub(crate) fn start(&mut self, t: u64, generation: &mut u64) {
        self.seen = self.clock.monotonic(t);
        let now = self.now();
        self.inbox.clear();
        self.jobs.clear();
        self.staging = Staging::new();
        self.models.clear();
        if !self.is_tunnel {
            self.device = Device::interface(&self.key, now);
        }
        for peer in 0..self.others.len() {
            let ips = self.allowed_ips(peer);
            let config = self.config(peer, &ips);
            if self.is_tunnel {
                self.device = Device::tunnel(&self.key, &config, now);
            } else {
                self.device.add_peer(now, &config);
            }
            let model = self.fresh_model(peer, generation);
            self.models.push(model);
        }
    }

    /// Removes a peer and adds it again.
    pub(crate) fn replace_peer(&mut self, t: u64, peer: usize, generation: &mut u64) {
        self.read_clock(t);
        self.clock.correct_wall();
        let ips = self.allowed_ips(peer);
        let config = self.config(peer, &ips);
        self.device.replace_peer(self.now(), peer, &config);
        self.staging.discard(peer);
        self.models[peer] = self.fresh_model(peer, generation);
    }

    fn fresh_model(&self, peer: usize, generation: &mut u64) -> Model {
        *generation += 1;
        let other = &self.others[peer];
        let mut model = Model::new(*generation, other.endpoint, self.mode.is_exact());
        model.set_persistent(self.seen, u64::from(other.persistent));
        model
    }

    fn allowed_ips(&self, peer: usize) -> [Cidr; 2] {
        let other = u32::try_from(self.others[peer].node).unwrap();
        [inner::v4(other), inner::v6(other)].map(Cidr::from)
    }

    fn config<'a>(&self, peer: usize, ips: &'a [Cidr]) -> PeerConfig<'a> {
        let other = &self.others[peer];
        let config = PeerConfig::new(other.key)
            .allowed_ips(ips)
            .persistent_keepalive(other.persistent);
        match other.endpoint {
            Some(endpoint) => config.endpoint(endpoint),
            None => config,
        }
    }

    /// The latest time that the device knows.
    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.seen)
    }

    /// Reads the monotonic clock, for a call that may bring an older time than the one before.
    pub(crate) fn read_clock(&mut self, t: u64) -> Instant {
        let mut shown = self.clock.monotonic(t);
        if self.mode.has_bad_clock && self.rng.one_in(8) {
            shown = shown.saturating_sub(self.rng.below(30 * SEC));
        }
        self.seen = self.seen.max(shown);
        Instant::from_nanos(shown)
    }

    /// When, in true time, the device wants to be woken.
    pub(crate) fn wanted_wake(&self) -> Option<u64> {
        let due = self
            .device
            .poll_timeout()?
            .saturating_sub(self.clock.offset);
        Some(match self.clock.frozen {
            Some((_, until)) => due.max(until),
            None => due,
        })
    }

    pub(crate) fn poll_transmit(&mut self, t: u64) -> Option<Transmit> {
        let wall = self.clock.wall(t);
        let now = self.now();
        let written = self
            .device
            .poll_transmit(now, &mut Env::new(&mut self.rng, wall))?;
        self.clock.was_shown(wall);
        Some(written)
    }

    pub(crate) fn poll_handshake(&mut self, t: u64) -> Option<HandshakeJob> {
        let wall = self.clock.wall(t);
        let now = self.now();
        let written = self
            .device
            .poll_handshake(now, &mut Env::new(&mut self.rng, wall))?;
        self.clock.was_shown(wall);
        Some(written)
    }

    /// Which of our peers a node is.
    pub(crate) fn peer_of(&self, node: usize) -> Option<usize> {
        self.others.iter().position(|other| other.node == node)
    }

    /// Everything about the peers that can be seen from outside.
    pub(crate) fn views(&self) -> (Vec<View>, Option<u64>) {
        let views = (0..self.device.peer_count()).map(|peer| self.device.view(self.now(), peer));
        (views.collect(), self.device.poll_timeout())
    }

    /// How long a job takes.
    pub(crate) fn job_delay(rng: &mut Rng) -> u64 {
        match rng.below(10) {
            0 => rng.below(8 * SEC),
            1..=4 => rng.below(40 * MS),
            _ => 0,
        }
    }
}
