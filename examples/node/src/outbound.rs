//! From the device to the network: read, cut, seal, send, in trains.
//!
//! Any number of threads do this side by side. One of them, the one that holds the reader, reads a
//! batch and reserves its counters; then it leaves the reader to the next and seals what it has, and
//! sends that when its turn has come. So the cipher runs on as many cores as there are threads, while
//! packets of one peer leave in the order of their counters. With one thread there is nobody to wait for.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::{Duration, Instant as StdInstant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quietwire::wire::{DATA_OVERHEAD, HEAD_ROOM};
use quietwire::{Instant, Outgoing, PeerId, SealError, SealJob, ip};

use crate::clock;
use crate::icmp;
use crate::node::Node;
use crate::offload::{Cut, VnetHeader};
use crate::path::Path;
use crate::state::{Output, State};
use crate::turn::Turn;
use crate::udp::{MAX_TRAIN, MAX_TRAIN_BYTES};

/// The way out, shared by its threads.
#[derive(Debug, Default)]
pub struct Outbound {
    /// Held by who reads: the number of the next batch.
    reader: Mutex<u64>,
    turn: Turn,
    complaints: Mutex<Option<StdInstant>>,
}

/// A super-packet with its offload header.
const READ: usize = VnetHeader::LEN + 65_535;

/// Where packets are cut into; the most that one super-packet can become is below 256 KiB.
const ARENA: usize = 448 << 10;

/// A batch takes no further super-packet beyond so many datagrams: their text stays in the cache.
const ENOUGH: usize = 64;

/// How often a destination that no peer has is answered, at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_millis(2);

impl Outbound {
    /// Runs until the device is gone.
    pub fn run(&self, node: &Node) {
        let mut batch = Batch::new();
        let mut out = Output::default();
        while self.step(node, &mut batch, &mut out) {}
    }

    fn step(&self, node: &Node, batch: &mut Batch, out: &mut Output) -> bool {
        let Ok(mut reader) = self.reader.lock() else {
            return false;
        };
        batch.clear();
        loop {
            batch.read(node);
            if !batch.is_empty() {
                break;
            }
            if !wait(node) {
                return false;
            }
        }
        let Batch {
            arena,
            segments,
            flights,
            refused,
            ..
        } = batch;
        let mut state = node.state();
        let now = clock::now();
        let mut jobs = begin(node, &mut state, now, arena, segments, flights, refused);
        state.settle(now, out, &node.counters);
        drop(state);
        let ticket = *reader;
        *reader += 1;
        drop(reader);
        SealJob::run_all(&mut jobs);
        drop(jobs);
        let turn = self.turn.wait(ticket);
        send(node, arena, flights);
        drop(turn);
        node.deliver(out);
        self.complain(node, batch);
        true
    }

    /// Answers packets that no peer takes, as the kernel does.
    fn complain(&self, node: &Node, batch: &mut Batch) {
        for (start, len) in batch.refused.drain(..) {
            let packet = &batch.arena[start..start + len];
            if self.may_complain() {
                complain(node, packet);
            }
        }
    }

    fn may_complain(&self) -> bool {
        let Ok(mut last) = self.complaints.lock() else {
            return false;
        };
        let now = StdInstant::now();
        let may = last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_INTERVAL);
        if may {
            *last = Some(now);
        }
        may
    }
}

/// What is read at once, cut into packets with room around each.
struct Batch {
    read: Vec<u8>,
    arena: Vec<u8>,
    segments: Vec<Segment>,
    flights: Vec<Flight>,
    /// Where the packets lie that no peer takes.
    refused: Vec<(usize, usize)>,
    used: usize,
    mtu: u16,
}

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

impl Batch {
    fn new() -> Self {
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

    fn clear(&mut self) {
        self.segments.clear();
        self.flights.clear();
        self.refused.clear();
        self.used = 0;
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Reads what is there, up to a full batch.
    fn read(&mut self, node: &Node) {
        self.mtu = node.mtu();
        while self.segments.len() < ENOUGH && self.used + (ARENA >> 1) <= ARENA {
            match node.device.read(&mut self.read) {
                Ok(len) => {
                    if self.cut(len).is_none() {
                        node.counters.malformed.add(1);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(problem) => {
                    node.lose_device(problem);
                    return;
                }
            }
        }
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

/// Waits until the device has something to read; `false` when it never will.
fn wait(node: &Node) -> bool {
    let mut fds = [PollFd::new(node.device.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(problem) => node.lose_device(problem),
    }
    !node.is_gone()
}

/// Finds the session of every packet and reserves its counter.
fn begin<'a>(
    node: &Node,
    state: &mut State,
    now: Instant,
    arena: &'a mut [u8],
    segments: &[Segment],
    flights: &mut Vec<Flight>,
    refused: &mut Vec<(usize, usize)>,
) -> Vec<SealJob<'static, &'a mut [u8], Path>> {
    let mut jobs = Vec::with_capacity(segments.len());
    let (mut rest, mut start) = (arena, 0);
    let mut peer = None;
    for segment in segments {
        let (place, behind) = rest.split_at_mut(segment.sealed);
        rest = behind;
        if !segment.is_next {
            peer = segment
                .destination
                .and_then(|destination| state.interface.route(destination));
        }
        let sealed = seal(state, now, peer, place, segment.len);
        match sealed {
            Ok(job) => {
                flights.push(Flight {
                    start,
                    len: segment.sealed,
                    to: job.to(),
                    tos: segment.tos,
                });
                jobs.push(job);
            }
            Err((SealError::NoSession, place)) => {
                let packet = &place[HEAD_ROOM..HEAD_ROOM + segment.len];
                match peer {
                    Some(peer) if state.may_wait(now, peer) => {
                        state.stage(peer, packet, &node.counters);
                    }
                    _ => {
                        node.counters.unstaged.add(1);
                        refuse(refused, start, segment);
                    }
                }
            }
            Err((problem, _)) => {
                count(node, problem);
                refuse(refused, start, segment);
            }
        }
        start += segment.sealed;
    }
    jobs
}

/// Notes a packet to be answered; of those cut from the same, the first.
fn refuse(refused: &mut Vec<(usize, usize)>, start: usize, segment: &Segment) {
    if !segment.is_next {
        refused.push((start + HEAD_ROOM, segment.len));
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

fn count(node: &Node, problem: SealError) {
    match problem {
        SealError::NoRoute | SealError::NotIp => node.counters.no_route.add(1),
        SealError::NoEndpoint => node.counters.no_endpoint.add(1),
        _ => node.counters.unsealed.add(1),
    }
}

/// Sends what was sealed, in trains of datagrams that go the same way and are of the same size.
fn send(node: &Node, arena: &[u8], flights: &[Flight]) {
    let Some(sockets) = node.sockets() else {
        node.counters.unsent.add(flights.len());
        return;
    };
    let mut rest = flights;
    while let Some(first) = rest.first() {
        let (train, behind) = rest.split_at(train_len(rest));
        rest = behind;
        let end = train
            .last()
            .map_or(first.start, |last| last.start + last.len);
        let bytes = &arena[first.start..end];
        node.send(&sockets, &first.to, first.tos, bytes, first.len);
    }
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

/// Writes an ICMP answer to a packet that no peer takes. It comes from the address that cannot be
/// reached, because the kernel takes none from an address of its own.
fn complain(node: &Node, packet: &[u8]) {
    let mut answer = [0; icmp::LONGEST];
    let source = ip::destination(packet);
    if let Some(len) = source.and_then(|source| icmp::unreachable(packet, source, &mut answer)) {
        node.deliver_packet(&answer[..len]);
    }
}
