//! From the network to the device: receive, open, coalesce, write, in trains.
//!
//! An [`Inbound`] is one thread's room for a batch, and a [`Delivery`] what it needs to hand the packets
//! on. `worker` calls their steps in their order.

use std::io::IoSlice;

use nix::errno::Errno;
use quietwire::wire::Kind;
use quietwire::{HandshakeStep, Instant, OpenJob, ip};
use tracing::debug;

use crate::clock;
use crate::node::Node;
use crate::offload::{Coalescer, Cut, Group, VnetHeader};
use crate::path::Path;
use crate::state::{Output, State};
use crate::udp::{Arrival, Socket};

/// Room for a batch: trains as they were received, each in a buffer of its own.
pub struct Inbound {
    buffers: Vec<Vec<u8>>,
    arrivals: Vec<Arrival>,
    control: Vec<u8>,
}

/// Datagrams of a batch with their sessions found, and the outer TOS of each.
pub type OpenJobs<'a> = Vec<(OpenJob<&'a mut [u8], Path>, u8)>;

/// How many trains a batch takes at most.
const TRAINS: usize = 4;

/// A batch takes no further train beyond so many datagrams: their text stays in the cache.
const ENOUGH: usize = 64;

/// How many packets are coalesced at once.
const GROUP: usize = 128;

impl Inbound {
    /// Takes some 260 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffers: vec![vec![0; 1 << 16]; TRAINS],
            arrivals: Vec::with_capacity(TRAINS),
            control: Vec::with_capacity(128),
        }
    }

    /// Whether nothing was received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Begins a new batch.
    pub fn clear(&mut self) {
        self.arrivals.clear();
    }

    /// Adds what a socket has, up to a full batch; whether it may have more.
    pub fn receive(&mut self, socket: &Socket) -> bool {
        let mut datagrams: usize = self.arrivals.iter().map(Arrival::count).sum();
        while datagrams < ENOUGH && self.arrivals.len() < TRAINS {
            match self.receive_one(socket) {
                Some(count) => datagrams += count,
                None => return false,
            }
        }
        true
    }

    /// Receives one train: how many datagrams it is.
    fn receive_one(&mut self, socket: &Socket) -> Option<usize> {
        let buffer = self.buffers.get_mut(self.arrivals.len())?;
        match socket.receive(buffer, &mut self.control) {
            Ok(arrival) => {
                self.arrivals.push(arrival);
                Some(arrival.count())
            }
            Err(Errno::EAGAIN) => None,
            // An ICMP error about something sent before, for example.
            Err(problem) => {
                debug!("receiving: {problem}");
                None
            }
        }
    }

    /// Finds the session of every datagram; handshakes are queued for their own thread.
    pub fn begin(&mut self, node: &Node) -> OpenJobs<'_> {
        let count = self.arrivals.iter().map(Arrival::count).sum();
        let mut jobs = Vec::with_capacity(count);
        let mut state = node.state();
        let now = clock::now();
        if !state.is_up {
            return jobs;
        }
        for (buffer, arrival) in self.buffers.iter_mut().zip(&self.arrivals) {
            let train = buffer.get_mut(..arrival.len).unwrap_or_default();
            for datagram in train.chunks_mut(arrival.size.max(1)) {
                let job = begin(node, &mut state, now, arrival.path, datagram);
                jobs.extend(job.map(|job| (job, arrival.tos)));
            }
        }
        jobs
    }
}

/// Begins to open one datagram; what is refused has been counted by the interface.
fn begin<'a>(
    node: &Node,
    state: &mut State,
    now: Instant,
    path: Path,
    datagram: &'a mut [u8],
) -> Option<OpenJob<&'a mut [u8], Path>> {
    if Kind::of(datagram) == Ok(Kind::Data) {
        return state.interface.begin_open(now, path, datagram).ok();
    }
    if let Ok(HandshakeStep::Run(job)) = state.interface.begin_handshake(now, path, datagram) {
        state.queue(job, &node.counters);
    }
    None
}

/// What a thread needs to hand on what a batch brought.
pub struct Delivery {
    coalescer: Coalescer,
}

impl Delivery {
    /// For a device.
    #[must_use]
    pub fn new(node: &Node) -> Self {
        Self {
            coalescer: Coalescer::new(node.device.takes_udp_trains()),
        }
    }

    /// Believes or refuses what was opened, and writes it to the device.
    pub fn finish(&mut self, node: &Node, jobs: OpenJobs<'_>, out: &mut Output) {
        let mut packets = Vec::with_capacity(jobs.len());
        let mut state = node.state();
        let now = clock::now();
        for (job, tos) in jobs {
            if let Ok(opened) = state.interface.finish_open(now, job) {
                let (buffer, range) = opened.into_parts();
                let packet = buffer.get_mut(range).unwrap_or_default();
                if !packet.is_empty() {
                    ip::ecn_decapsulate(tos, packet);
                    packets.push(packet);
                }
            }
        }
        state.settle(now, out, &node.counters);
        drop(state);
        for group in packets.chunks_mut(GROUP) {
            self.write(node, group);
        }
    }

    fn write(&mut self, node: &Node, packets: &mut [&mut [u8]]) {
        for group in self.coalescer.group(packets) {
            match write(node, &group, packets) {
                Ok(()) => {}
                Err(Errno::EINVAL) if group.count > 1 => write_apart(node, &group, packets),
                Err(problem) => {
                    debug!("writing to the device: {problem}");
                    node.counters.unwritten.add(group.count);
                }
            }
        }
    }
}

/// Writes a super-packet with one call, from where its parts lie.
fn write(node: &Node, group: &Group<'_>, packets: &[&mut [u8]]) -> nix::Result<()> {
    let header = IoSlice::new(group.header);
    let mut parts = group
        .members
        .clone()
        .map(|(index, range)| IoSlice::new(&packets[index][range]));
    if group.count == 1 {
        // The common case of small packets needs no list.
        let packet = parts.next().unwrap_or(IoSlice::new(&[]));
        return node.device.write(&[header, packet]).map(drop);
    }
    let mut pieces = Vec::with_capacity(1 + group.count);
    pieces.push(header);
    pieces.extend(parts);
    node.device.write(&pieces).map(drop)
}

/// The kernel refuses a super-packet: cuts it again, and writes its packets one by one.
fn write_apart(node: &Node, group: &Group<'_>, packets: &[&mut [u8]]) {
    let mut whole = Vec::new();
    for (index, range) in group.members.clone() {
        whole.extend_from_slice(&packets[index][range]);
    }
    node.counters.refused_writes.add(1);
    let header = VnetHeader::from_bytes(*group.header);
    let Ok(cut) = Cut::new(&header, &mut whole) else {
        node.counters.unwritten.add(group.count);
        return;
    };
    for index in 0..cut.count() {
        let mut packet = vec![0; cut.len_of(index)];
        cut.write(index, &mut packet);
        node.deliver_packet(&packet);
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbound")
            .field("trains", &self.arrivals.len())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}
