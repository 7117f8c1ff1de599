//! From the network to the device: receive, open, coalesce, write, in trains.
//!
//! Threads share this way as they share the way out (see [`outbound`](crate::outbound)): one receives
//! and finds the keys, then leaves the sockets to the next; all open what they have at the same time;
//! each checks for replays and writes to the device when its turn has come.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quietwire::wire::Kind;
use quietwire::{HandshakeStep, Instant, OpenJob, ip};
use tracing::{debug, error};

use crate::clock;
use crate::node::Node;
use crate::offload::{Coalescer, Cut, Group, VnetHeader};
use crate::path::Path;
use crate::state::{Output, State};
use crate::turn::Turn;
use crate::udp::{Arrival, Socket, Sockets};

/// The way in, shared by its threads.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Held by who receives: the number of the next batch.
    receiver: Mutex<u64>,
    turn: Turn,
}

/// How many trains a batch takes at most.
const TRAINS: usize = 4;

/// A batch takes no further train beyond so many datagrams: their text stays in the cache.
const ENOUGH: usize = 64;

/// How many packets are coalesced at once.
const GROUP: usize = 128;

impl Inbound {
    /// Runs until the device is gone.
    pub fn run(&self, node: &Node) {
        let mut batch = Batch::new();
        let mut work = Work {
            coalescer: Coalescer::new(node.device.takes_udp_trains()),
            out: Output::default(),
        };
        while self.step(node, &mut batch, &mut work) {}
    }

    fn step(&self, node: &Node, batch: &mut Batch, work: &mut Work) -> bool {
        let Ok(mut receiver) = self.receiver.lock() else {
            return false;
        };
        batch.arrivals.clear();
        while batch.arrivals.is_empty() {
            match node.sockets() {
                Some(sockets) => batch.receive(node, &sockets),
                None => wait(node, None),
            }
            if node.is_gone() {
                return false;
            }
        }
        let mut state = node.state();
        let mut jobs = begin(node, &mut state, clock::now(), batch);
        drop(state);
        let ticket = *receiver;
        *receiver += 1;
        drop(receiver);
        OpenJob::run_all(jobs.iter_mut().map(|(job, _)| job));
        let turn = self.turn.wait(ticket);
        work.finish(node, jobs);
        drop(turn);
        node.deliver(&mut work.out);
        true
    }
}

/// Waits until a socket has something, or until there are other sockets.
fn wait(node: &Node, sockets: Option<&Sockets>) {
    let changed = &node.sockets_changed;
    let all = std::iter::once(changed.as_fd())
        .chain(sockets.into_iter().flat_map(Sockets::both).map(AsFd::as_fd));
    let mut fds: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(problem) => error!("waiting for the network: {problem}"),
    }
    if fds.first().and_then(PollFd::any) == Some(true) {
        // Empties it. The sockets are looked up anew either way.
        let _ = changed.read();
    }
}

/// Trains as they were received, each in a buffer of its own.
struct Batch {
    buffers: Vec<Vec<u8>>,
    arrivals: Vec<Arrival>,
    control: Vec<u8>,
}

impl Batch {
    fn new() -> Self {
        Self {
            buffers: vec![vec![0; 1 << 16]; TRAINS],
            arrivals: Vec::with_capacity(TRAINS),
            control: Vec::with_capacity(128),
        }
    }

    /// Receives what is there, up to a full batch; waits if there is nothing.
    fn receive(&mut self, node: &Node, sockets: &Arc<Sockets>) {
        let mut datagrams = 0;
        for socket in sockets.both() {
            while datagrams < ENOUGH && self.receive_one(socket) {
                datagrams += self.arrivals.last().map_or(1, Arrival::count);
            }
        }
        if self.arrivals.is_empty() {
            wait(node, Some(sockets));
        }
    }

    fn receive_one(&mut self, socket: &Socket) -> bool {
        let Some(buffer) = self.buffers.get_mut(self.arrivals.len()) else {
            return false;
        };
        match socket.receive(buffer, &mut self.control) {
            Ok(arrival) => {
                self.arrivals.push(arrival);
                true
            }
            Err(Errno::EAGAIN) => false,
            // An ICMP error about something sent before, for example.
            Err(problem) => {
                debug!("receiving: {problem}");
                false
            }
        }
    }
}

type Jobs<'a> = Vec<(OpenJob<&'a mut [u8], Path>, u8)>;

/// Finds the session of every datagram; handshakes go to their own thread.
fn begin<'a>(node: &Node, state: &mut State, now: Instant, batch: &'a mut Batch) -> Jobs<'a> {
    let count = batch.arrivals.iter().map(Arrival::count).sum();
    let mut jobs = Vec::with_capacity(count);
    if !state.is_up {
        return jobs;
    }
    for (buffer, arrival) in batch.buffers.iter_mut().zip(&batch.arrivals) {
        let train = buffer.get_mut(..arrival.len).unwrap_or_default();
        for datagram in train.chunks_mut(arrival.size.max(1)) {
            if Kind::of(datagram) == Ok(Kind::Data) {
                // What is refused has been counted by the interface.
                if let Ok(job) = state.interface.begin_open(now, arrival.path, datagram) {
                    jobs.push((job, arrival.tos));
                }
            } else if let Ok(HandshakeStep::Run(job)) =
                state.interface.begin_handshake(now, arrival.path, datagram)
            {
                state.queue(job, &node.counters);
            }
        }
    }
    jobs
}

/// What a thread needs to finish batches.
struct Work {
    coalescer: Coalescer,
    out: Output,
}

impl Work {
    /// Believes or refuses what was opened, and writes it to the device.
    fn finish(&mut self, node: &Node, jobs: Jobs<'_>) {
        let mut packets = Vec::with_capacity(jobs.len());
        let mut state = node.state();
        let now = clock::now();
        for (job, tos) in jobs {
            if let Ok(opened) = state.interface.finish_open(now, job) {
                let (buffer, range) = opened.into_parts();
                let packet = buffer.get_mut(range).unwrap_or_default();
                if !packet.is_empty() {
                    packets.push((packet, tos));
                }
            }
        }
        state.settle(now, &mut self.out, &node.counters);
        drop(state);
        let mut packets: Vec<_> = packets.into_iter().map(with_marks).collect();
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

/// Carries a congestion mark of the outer header into the packet.
fn with_marks((packet, tos): (&mut [u8], u8)) -> &mut [u8] {
    ip::ecn_decapsulate(tos, packet);
    packet
}
