//! The threads that move packets, both ways.
//!
//! Any number of them work side by side. One of them leads: it waits for the device and the sockets,
//! reads a batch from one of them and begins it under the interface's lock. Then it leaves the lead to
//! the next, seals or opens what it has, and hands that on when its turn has come. So ciphers run on as
//! many cores as there are threads, while packets leave in the order in which they came. A single
//! thread has nobody to wait for and nobody to wake, and finds what the kernel answers to one batch, such
//! as acknowledgements, without going to sleep in between.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quietwire::{OpenJob, SealJob, ip};
use tracing::error;

use crate::icmp;
use crate::inbound::{Delivery, Inbound};
use crate::node::Node;
use crate::outbound::Outbound;
use crate::state::Output;
use crate::turn::Turn;
use crate::udp::Sockets;

/// What the threads share.
#[derive(Debug, Default)]
pub struct Workers {
    lead: Mutex<Lead>,
    out_turn: Turn,
    in_turn: Turn,
    /// When a packet without a destination was last answered. Not part of the lead, which is held
    /// while nothing happens.
    complained: Mutex<Option<Instant>>,
}

/// How often a destination that no peer has is answered, at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_millis(2);

/// After so many batches the system is asked anew who has something, so that nobody is forgotten while
/// another one always has.
const ASK_EVERY: u8 = 8;

impl Workers {
    /// Runs one thread until the device is gone.
    pub fn run(&self, node: &Node) {
        let mut hands = Hands {
            outbound: Outbound::new(),
            inbound: Inbound::new(),
            delivery: Delivery::new(node),
            out: Output::default(),
        };
        while self.step(node, &mut hands) {
            node.deliver(&mut hands.out);
        }
    }

    fn step(&self, node: &Node, hands: &mut Hands) -> bool {
        let Ok(mut lead) = self.lead.lock() else {
            return false;
        };
        let Hands {
            outbound,
            inbound,
            delivery,
            out,
        } = hands;
        match lead.find(node, outbound, inbound) {
            Some(Direction::Out) => {
                let ticket = lead.out_ticket();
                let mut jobs = outbound.begin(node, out);
                drop(lead);
                SealJob::run_all(&mut jobs);
                drop(jobs);
                let turn = self.out_turn.wait(ticket);
                outbound.send(node);
                drop(turn);
                self.complain(node, outbound);
            }
            Some(Direction::In) => {
                let ticket = lead.in_ticket();
                let mut jobs = inbound.begin(node);
                drop(lead);
                OpenJob::run_all(jobs.iter_mut().map(|(job, _)| job));
                let turn = self.in_turn.wait(ticket);
                delivery.finish(node, jobs, out);
                drop(turn);
            }
            None => return false,
        }
        true
    }

    /// Answers packets that no peer takes, as the kernel does.
    fn complain(&self, node: &Node, outbound: &Outbound) {
        for packet in outbound.refused() {
            if self.may_complain() {
                complain(node, packet);
            }
        }
    }

    fn may_complain(&self) -> bool {
        let Ok(mut last) = self.complained.lock() else {
            return false;
        };
        let now = Instant::now();
        let may = last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_INTERVAL);
        if may {
            *last = Some(now);
        }
        may
    }
}

/// One thread's own: room for a batch each way.
struct Hands {
    outbound: Outbound,
    inbound: Inbound,
    delivery: Delivery,
    out: Output,
}

/// Which way a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

/// What the leading thread knows: who may have something, and which tickets are next.
#[derive(Debug, Default)]
struct Lead {
    device_is_ready: bool,
    v4_is_ready: bool,
    v6_is_ready: bool,
    out_tickets: u64,
    in_tickets: u64,
    batches: u8,
}

impl Lead {
    /// Finds a batch, in either direction by turns; waits until there is one. `None` when the device is
    /// gone.
    fn find(
        &mut self,
        node: &Node,
        outbound: &mut Outbound,
        inbound: &mut Inbound,
    ) -> Option<Direction> {
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(ASK_EVERY) {
            self.wait(node, node.sockets().as_deref());
        }
        loop {
            let sockets = node.sockets();
            // What arrived may be answered by the kernel at once, so the device comes first after it.
            let device_first = self.batches.is_multiple_of(2);
            if device_first && self.read(node, outbound) {
                return Some(Direction::Out);
            }
            if self.receive(sockets.as_deref(), inbound) {
                self.device_is_ready = true;
                return Some(Direction::In);
            }
            if !device_first && self.read(node, outbound) {
                return Some(Direction::Out);
            }
            if node.is_gone() {
                return None;
            }
            self.wait(node, sockets.as_deref());
        }
    }

    fn read(&mut self, node: &Node, outbound: &mut Outbound) -> bool {
        if !self.device_is_ready {
            return false;
        }
        self.device_is_ready = outbound.read(node);
        !outbound.is_empty()
    }

    fn receive(&mut self, sockets: Option<&Sockets>, inbound: &mut Inbound) -> bool {
        inbound.clear();
        let [v4, v6] = sockets.map_or([None; 2], |sockets| [sockets.v4(), sockets.v6()]);
        let mut all = [(&mut self.v4_is_ready, v4), (&mut self.v6_is_ready, v6)];
        // By turns, so that a flood over one family does not silence the other.
        if (self.batches / 2).is_multiple_of(2) {
            all.reverse();
        }
        for (is_ready, socket) in all {
            *is_ready = *is_ready && socket.is_some_and(|socket| inbound.receive(socket));
        }
        !inbound.is_empty()
    }

    /// Waits until somebody has something, or until there are other sockets.
    fn wait(&mut self, node: &Node, sockets: Option<&Sockets>) {
        let changed = node.sockets_changed.as_fd();
        let [v4, v6] = sockets.map_or([None; 2], |sockets| [sockets.v4(), sockets.v6()]);
        // A place without a socket holds the event, of which nothing is read then.
        let [v4, v6] = [v4, v6].map(|socket| socket.map_or(changed, AsFd::as_fd));
        let fds = [changed, node.device.as_fd(), v4, v6];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(problem) => error!("waiting for the device and the network: {problem}"),
        }
        let [is_changed, device, v4, v6] = fds.map(|fd| fd.any() == Some(true));
        if is_changed {
            // Empties it. The sockets are looked up anew either way.
            let _ = node.sockets_changed.read();
        }
        self.device_is_ready = device;
        self.v4_is_ready = v4;
        self.v6_is_ready = v6;
    }

    fn out_ticket(&mut self) -> u64 {
        self.out_tickets += 1;
        self.out_tickets - 1
    }

    fn in_ticket(&mut self) -> u64 {
        self.in_tickets += 1;
        self.in_tickets - 1
    }
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
