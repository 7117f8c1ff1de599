//! From the device to the network: read, cut, seal, send, in trains.
//!
//! An [`Outbound`] is one thread's room for a batch. `worker` calls its steps in their order.

use std::net::IpAddr;

use nix::errno::Errno;
use quietwire::wire::{DATA_OVERHEAD, HEAD_ROOM};
use quietwire::{Instant, Outgoing, PeerId, SealError, SealJob, ip};

use crate::clock;
use crate::node::Node;
use crate::offload::{Cut, VnetHeader};
use crate::path::Path;
use crate::state::{Output, State};
use crate::udp::{MAX_TRAIN, MAX_TRAIN_BYTES};

/// Room for a batch: what is read at once, cut into packets with room around each.
pub struct Outbound {
    read: Vec<u8>,
    arena: Vec<u8>,
    segments: Vec<Segment>,
    flights: Vec<Flight>,
    /// Where the packets lie that no peer takes.
    refused: Vec<(usize, usize)>,
    used: usize,
    mtu: u16,
}

/// Packets of a batch with their counters reserved.
pub type SealJobs<'a> = Vec<SealJob<'static, &'a mut [u8], Path>>;

/// A super-packet with its offload header.
const READ: usize = VnetHeader::LEN + 65_535;

/// Where packets are cut into. With segments of at least 36 bytes, what TCP has left of the smallest MSS that
/// Linux heeds, a super-packet becomes less than 256 KiB; what is beyond the end is dropped.
const ARENA: usize = 448 << 10;

/// A batch takes no further super-packet beyond so many datagrams: their text stays in the cache.
const ENOUGH: usize = 64;

/// A packet of a batch: how long it is, and how long its datagram will be.
#[derive(Clone, Copy, Debug)]
struct Segment {
    len: usize,
    sealed: usize,
    destination: Option<IpAddr>,
    tos: u8,
    /// It goes where the one before it goes: both were cut from the same.
    is_next: bool,
}

/// A datagram to be sent, in the order of the arena.
#[derive(Clone, Copy, Debug)]
struct Flight {
    start: usize,
    len: usize,
    to: Path,
    tos: u8,
}

impl Outbound {
    /// Takes some 600 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read: vec![0; READ],
            arena: vec![0; ARENA],
            segments: Vec::with_capacity(256),
            flights: Vec::with_capacity(256),
            refused: Vec::new(),
            used: 0,
            mtu: 0,
        }
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Begins a new batch with what is there to read; whether there may be more.
    pub fn read(&mut self, node: &Node) -> bool {
        self.segments.clear();
        self.flights.clear();
        self.refused.clear();
        self.used = 0;
        self.mtu = node.mtu();
        while self.segments.len() < ENOUGH && self.used + (ARENA >> 1) <= ARENA {
            match node.device.read(&mut self.read) {
                Ok(len) => {
                    if self.cut(len).is_none() {
                        node.counters.malformed.add(1);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return false,
                // The kernel has dropped a packet that the header cannot describe.
                Err(Errno::EINVAL) => node.counters.malformed.add(1),
                Err(problem) => {
                    node.lose_device(problem);
                    return false;
                }
            }
        }
        true
    }

    /// Finds the session of every packet and reserves its counter.
    pub fn begin(&mut self, node: &Node, out: &mut Output) -> SealJobs<'_> {
        let mut state = node.state();
        let now = clock::now();
        let jobs = self.begin_at(now, node, &mut state);
        state.settle(now, out, &node.counters);
        jobs
    }

    fn begin_at(&mut self, now: Instant, node: &Node, state: &mut State) -> SealJobs<'_> {
        let mut jobs = Vec::with_capacity(self.segments.len());
        // Not up yet, or what the device still held when it was taken down? A handshake asked for now would
        // be lost, and for five seconds stand in the way of the one that is needed when it is up.
        let is_early = !state.is_up && node.is_up_now();
        let (mut rest, mut start) = (&mut self.arena[..], 0);
        let mut peer = None;
        for segment in &self.segments {
            let (place, behind) = rest.split_at_mut(segment.sealed);
            rest = behind;
            if !segment.is_next {
                peer = segment
                    .destination
                    .and_then(|destination| state.interface.route(destination));
            }
            let begun = if state.is_up || peer.is_none() {
                seal(state, now, peer, place, segment.len)
            } else {
                Err((SealError::NoSession, place))
            };
            match (begun, peer) {
                (Ok(job), _) => {
                    self.flights.push(Flight {
                        start,
                        len: job.datagram_len(),
                        to: job.to(),
                        tos: segment.tos,
                    });
                    jobs.push(job);
                }
                (Err((SealError::NoSession, place)), Some(peer))
                    if is_early || (state.is_up && state.may_wait(now, peer)) =>
                {
                    let packet = &place[HEAD_ROOM..HEAD_ROOM + segment.len];
                    state.stage(peer, packet, &node.counters);
                }
                (Err((problem, _)), _) => {
                    let is_answered = count(node, problem);
                    if is_answered && state.is_up && !segment.is_next {
                        self.refused.push((start + HEAD_ROOM, segment.len));
                    }
                }
            }
            start += segment.sealed;
        }
        jobs
    }

    /// Sends what was sealed, in trains of datagrams that go the same way and are of the same size.
    pub fn send(&self, node: &Node) {
        let Some(sockets) = node.sockets() else {
            node.counters.unsent.add(self.flights.len());
            return;
        };
        let mut rest = &self.flights[..];
        while let Some(first) = rest.first() {
            let (train, behind) = rest.split_at(train_len(rest));
            rest = behind;
            let end = train
                .last()
                .map_or(first.start, |last| last.start + last.len);
            let bytes = &self.arena[first.start..end];
            node.send(&sockets, &first.to, first.tos, bytes, first.len);
        }
    }

    /// The packets that no peer takes.
    pub fn refused(&self) -> impl Iterator<Item = &[u8]> {
        let packets = self.refused.iter();
        packets.map(|&(start, len)| &self.arena[start..start + len])
    }

    /// Cuts a super-packet into packets that fit.
    fn cut(&mut self, len: usize) -> Option<()> {
        let (header, packet) = VnetHeader::parse_mut(self.read.get_mut(..len)?)?;
        let destination = ip::destination(packet);
        let tos = ip::ecn_encapsulate(0, ip::tos(packet)?);
        let cut = Cut::new(&header, packet).ok()?;
        for i in 0..cut.count() {
            let len = cut.len_of(i);
            let sealed = ip::padded_len(len, self.mtu.into()) + DATA_OVERHEAD;
            let place = self.arena.get_mut(self.used..self.used + sealed)?;
            cut.write(i, place.get_mut(HEAD_ROOM..HEAD_ROOM + len)?);
            self.used += sealed;
            self.segments.push(Segment {
                len,
                sealed,
                destination,
                tos,
                is_next: i > 0,
            });
        }
        Some(())
    }
}

type Begun<'a> = Result<SealJob<'static, &'a mut [u8], Path>, (SealError, &'a mut [u8])>;

fn seal<'a>(
    state: &mut State,
    now: Instant,
    peer: Option<PeerId>,
    place: &'a mut [u8],
    len: usize,
) -> Begun<'a> {
    let Some(peer) = peer else {
        return Err((SealError::NoRoute, place));
    };
    state
        .interface
        .begin_seal_to(
            now,
            peer,
            Outgoing::in_place(place, HEAD_ROOM..HEAD_ROOM + len),
        )
        .map_err(|failure| (failure.error, failure.outgoing.into_buffer()))
}

/// Counts a packet that is dropped; whether its sender is told that it cannot be delivered.
fn count(node: &Node, problem: SealError) -> bool {
    let counter = match problem {
        SealError::NoRoute => &node.counters.no_route,
        SealError::NoEndpoint => &node.counters.no_endpoint,
        SealError::NoSession => &node.counters.unstaged,
        _ => &node.counters.unsealed,
    };
    counter.add(1);
    matches!(
        problem,
        SealError::NoRoute | SealError::NoEndpoint | SealError::NoSession
    )
}

/// How many of the datagrams in front can go as one train.
fn train_len(flights: &[Flight]) -> usize {
    let Some(first) = flights.first() else {
        return 0;
    };
    let mut end = first.start;
    let mut is_last = false;
    let fits = |flight: &&Flight| {
        let fits = !is_last
            && flight.start == end
            && flight.len <= first.len
            && flight.to == first.to
            && flight.tos == first.tos
            && flight.start + flight.len - first.start <= MAX_TRAIN_BYTES;
        end += flight.len;
        is_last = flight.len < first.len;
        fits
    };
    flights.iter().take(MAX_TRAIN).take_while(fits).count()
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound")
            .field("packets", &self.segments.len())
            .finish_non_exhaustive()
    }
}
