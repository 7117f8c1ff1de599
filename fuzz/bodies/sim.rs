//! Three nodes and a bad network: every public method, in any order, with any loss and any clock.
//!
//! Whatever happens, a packet is delivered at most once, to the right node and unaltered; polling
//! ends; deadlines lie ahead. Afterwards the network is mended and it is shown that nothing was
//! terminal: packets flow on every link, and when nobody speaks any more, everything falls silent.

mod network;
mod node;

use core::time::Duration;

use quietwire::{Load, Outgoing, PresharedKey, Rejected, SealError};

use self::network::Network;
use self::node::{LINKS, Node, Verdict, address};
use super::input::Input;

const SECOND: u64 = 1_000_000_000;

/// A schedule of calls, then peace.
pub fn sim(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    for _ in 0..300 {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
    }
    world.mend();
    world.must_carry_packets();
    world.must_fall_silent();
}

struct World {
    nodes: [Node; 3],
    network: Network,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self {
            nodes: [0, 1, 2].map(Node::new),
            network: Network::default(),
            now: 0,
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let i = usize::from(choice >> 5) % 3;
        let now = self.clock(input, choice);
        match choice & 31 {
            0..=2 => self.now += input.nanos(),
            3 | 4 => self.nodes[i].handle_timeout(now),
            5..=8 => self.drain(i, now),
            9..=12 => self.seal(input, now),
            13..=18 => self.receive(input, now),
            19 => self.network.lose(input.below(256)),
            20 => self.network.repeat(input.below(256)),
            21 => self.network.damage(input),
            22 => self.seal_later(input, now),
            23 => self.finish_seal(input),
            24 => self.finish_open(i, input, now),
            25 => self.nodes[i].poll_handshake(now),
            26 => self.finish_handshake(i, input, now),
            27 => self.seal_batch(i, input, now),
            28 | 29 => self.configure(i, input, now),
            30 => self.nodes[i].initiate(input.below(2), now),
            _ => {
                self.nodes[i].look(now);
                self.nodes[i].unix_time = Duration::from_nanos(input.u64());
            }
        }
    }

    /// Now, or now and then a time that has passed already.
    fn clock(&self, input: &mut Input<'_>, choice: u8) -> u64 {
        match choice {
            0xf0.. => self.now.saturating_sub(input.nanos()),
            _ => self.now,
        }
    }

    fn drain(&mut self, i: usize, now: u64) {
        for (to, message) in self.nodes[i].drain(now) {
            self.network.send(address(i, 0), to, message);
        }
    }

    fn seal(&mut self, input: &mut Input<'_>, now: u64) {
        let (from, to) = LINKS[input.below(LINKS.len())];
        let packet = self
            .network
            .packet(from, to, usize::from(input.u16() & 0x7ff));
        let room = input.below(80);
        let port = input.below(2);
        match self.nodes[from].seal(now, &packet, room) {
            Ok((to, datagram)) => self.network.send(address(from, port), to, datagram),
            Err(error) => assert_ne!(error, SealError::NotIp),
        }
    }

    fn receive(&mut self, input: &mut Input<'_>, now: u64) {
        let Some(flight) = self.network.take(input.below(256)) else {
            return;
        };
        let Some(i) = node::at(flight.to) else {
            return;
        };
        match input.below(4) {
            0 => {
                let verdicts =
                    self.nodes[i].receive_batch(now, vec![(flight.from, flight.datagram)]);
                verdicts
                    .into_iter()
                    .for_each(|verdict| self.note(i, verdict));
            }
            1 => {
                let mut flights = vec![(flight.from, flight.datagram)];
                for _ in 0..input.below(40) {
                    if let Some(next) = self.network.take_to(i) {
                        flights.push(next);
                    }
                }
                let verdicts = self.nodes[i].receive_batch(now, flights);
                verdicts
                    .into_iter()
                    .for_each(|verdict| self.note(i, verdict));
            }
            2 => self.nodes[i].begin(now, flight.from, flight.datagram),
            _ => {
                let verdict = self.nodes[i].receive(now, flight.from, flight.datagram);
                self.note(i, verdict);
            }
        }
    }

    fn note(&mut self, i: usize, verdict: Verdict) {
        if let Ok(Some(packet)) = verdict {
            self.network.delivered(i, &packet);
        }
    }

    /// Reserves a counter and seals some time later.
    fn seal_later(&mut self, input: &mut Input<'_>, now: u64) {
        let (from, to) = LINKS[input.below(LINKS.len())];
        let packet = self.network.packet(from, to, input.below(100));
        let job = self.nodes[from].begin_seal(
            now,
            Outgoing::in_place(node::padded(&packet), 16..16 + packet.len()),
        );
        if let Ok(job) = job {
            self.network.jobs.push((from, job));
        }
    }

    fn finish_seal(&mut self, input: &mut Input<'_>) {
        if self.network.jobs.is_empty() {
            return;
        }
        let n = input.below(self.network.jobs.len());
        let (from, mut job) = self.network.jobs.swap_remove(n);
        if input.flag() {
            return;
        }
        assert!(job.datagram().is_empty(), "nothing before it is run");
        job.run();
        let to = job.to();
        let (buffer, range) = job.into_parts();
        self.network
            .send(address(from, 0), to, buffer[range].to_vec());
    }

    fn seal_batch(&mut self, i: usize, input: &mut Input<'_>, now: u64) {
        let count = input.below(40);
        let peers: Vec<_> = LINKS.iter().filter(|link| link.0 == i).collect();
        let packets: Vec<_> = (0..count)
            .map(|n| {
                self.network
                    .packet(i, peers[n % peers.len()].1, input.below(200))
            })
            .collect();
        for (to, datagram) in self.nodes[i].seal_batch(now, &packets) {
            self.network.send(address(i, 0), to, datagram);
        }
    }

    fn finish_open(&mut self, i: usize, input: &mut Input<'_>, now: u64) {
        if let Some(verdict) = self.nodes[i].finish_open(now, input) {
            self.note(i, verdict);
        }
    }

    fn finish_handshake(&mut self, i: usize, input: &mut Input<'_>, now: u64) {
        if let Some((to, message)) = self.nodes[i].finish_handshake(now, input) {
            self.network.send(address(i, 0), to, message);
        }
    }

    fn configure(&mut self, i: usize, input: &mut Input<'_>, now: u64) {
        let node = &mut self.nodes[i];
        let peer = input.below(2);
        match input.below(16) {
            0 => node.set_private_key(Some(input.byte())),
            1 => node.set_private_key(None),
            2 | 3 => node.set_load([Load::Auto, Load::Normal, Load::UnderLoad][input.below(3)]),
            4 => node.on_resume(now),
            5 => node.erase(peer, now),
            6 => node.set_preshared_key(peer, &PresharedKey::from_bytes([input.byte() & 1; 32])),
            7 => node.set_endpoint(peer, address(input.below(4), input.below(3))),
            8 | 9 => node.set_persistent_keepalive(peer, now, input.u16() % 200),
            10 => node.set_mtu(peer, input.u16()),
            11 => node.set_allowed_ips(peer, input.flag()),
            12 => node.forget_timestamp(peer),
            13 => node.replace_peer(peer, now),
            14 => node.remove_peer(peer),
            _ => node.restore(peer, now),
        }
    }

    /// The network works again and every node is configured as at first. Of the past only the
    /// sessions, the clocks and the measure of load are left.
    fn mend(&mut self) {
        self.network.clear();
        for node in &mut self.nodes {
            node.mend(self.now);
        }
    }

    /// Within a minute of one packet a second on each link, each link has carried one.
    fn must_carry_packets(&mut self) {
        for _ in 0..60 {
            for (from, to) in LINKS {
                let packet = self.network.packet(from, to, 0);
                if let Ok((to, datagram)) = self.nodes[from].seal(self.now, &packet, 80) {
                    self.network.send(address(from, 0), to, datagram);
                }
            }
            for _ in 0..4 {
                self.run_network();
            }
            if LINKS.iter().all(|link| self.network.carried.contains(link)) {
                return;
            }
            self.now += SECOND;
            for i in 0..3 {
                self.nodes[i].handle_timeout(self.now);
            }
        }
        panic!(
            "after a minute of peace only {:?} carry packets",
            self.network.carried
        );
    }

    fn run_network(&mut self) {
        for i in 0..3 {
            self.drain(i, self.now);
        }
        while let Some(flight) = self.network.take(0) {
            let Some(i) = node::at(flight.to) else {
                continue;
            };
            let verdict = self.nodes[i].receive(self.now, flight.from, flight.datagram);
            assert_ne!(verdict, Err(Rejected::NoPrivateKey));
            self.note(i, verdict);
        }
    }

    /// Without traffic and persistent keepalives the nodes go quiet, and then nothing is pending.
    fn must_fall_silent(&mut self) {
        let end = self.now + 1200 * SECOND;
        for _ in 0..300 {
            let next = self.nodes.iter().filter_map(Node::poll_timeout).min();
            let Some(next) = next else {
                return;
            };
            assert!(next <= end, "still a deadline after twenty idle minutes");
            self.now = self.now.max(next);
            for i in 0..3 {
                self.nodes[i].handle_timeout(self.now);
            }
            for _ in 0..4 {
                self.run_network();
            }
        }
        panic!("idle nodes keep waking up");
    }
}
