//! From the network to the device: receive, open, coalesce, write, in trains.
//!
//! Threads share this way as they share the way out (see [`outbound`](crate::outbound)): one receives
//! and finds the keys, then leaves the sockets to the next; all open what they have at the same time;
//! each checks for replays and writes to the device when its turn has come.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::sync::Mutex;

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
                None => {
                    wait(node, &[None; 2]);
                }
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

/// Waits until a socket has something, or until there are other sockets; says which have.
fn wait(node: &Node, sockets: &[Option<&Socket>; 2]) -> [bool; 2] {
    let changed = node.sockets_changed.as_fd();
    // A place without a socket holds the other descriptor twice, which harms nothing.
    let fds = sockets.map(|socket| socket.map_or(changed, AsFd::as_fd));
    let mut fds = [changed, fds[0], fds[1]].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(problem) => error!("waiting for the network: {problem}"),
    }
    let [is_changed, v4, v6] = fds.map(|fd| fd.any() == Some(true));
    if is_changed {
        // Empties it. The sockets are looked up anew either way.
        let _ = node.sockets_changed.read();
    }
    [v4, v6]
}

/// Trains as they were received, each in a buffer of its own.
struct Batch {
    buffers: Vec<Vec<u8>>,
    arrivals: Vec<Arrival>,
    control: Vec<u8>,
    /// Which of the sockets, for IPv4 and IPv6, may have something.
    are_ready: [bool; 2],
    rounds: u8,
}

impl Batch {
    fn new() -> Self {
        Self {
            buffers: vec![vec![0; 1 << 16]; TRAINS],
            arrivals: Vec::with_capacity(TRAINS),
            control: Vec::with_capacity(128),
            are_ready: [false; 2],
            rounds: 0,
        }
    }

    /// Receives what is there, up to a full batch; waits if there is nothing.
    ///
    /// A socket that was found empty is not tried again before the system says that it has something.
    /// The system is asked when both are empty, and now and then while one of them never is.
    fn receive(&mut self, node: &Node, sockets: &Sockets) {
        let both = [sockets.v4(), sockets.v6()];
        self.rounds = self.rounds.wrapping_add(1);
        if self.are_ready == [false; 2] || self.rounds.is_multiple_of(8) {
            self.are_ready = wait(node, &both);
        }
        let mut datagrams = 0;
        let first = usize::from(self.rounds % 2);
        for i in [first, 1 - first] {
            let Some(socket) = both[i] else {
                self.are_ready[i] = false;
                continue;
            };
            while self.are_ready[i] && datagrams < ENOUGH && self.arrivals.len() < TRAINS {
                let received = self.receive_one(socket);
                self.are_ready[i] = received.is_some();
                datagrams += received.unwrap_or(0);
            }
        }
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
