//! What comes out of a device: packets sealed and control messages, each booked.

use std::net::SocketAddr;

use quietwire::{Outgoing, SealError, SealJob, Transmit};

use super::device::SealResult;
use super::inner;
use super::ledger::{Content, Sent, long, word};
use super::node::Job;
use super::world::World;

/// Packets out.
impl World {
    /// Sends new packets of these lengths to a peer.
    pub(crate) fn send_packets(&mut self, n: usize, peer: usize, lens: &[usize]) {
        let to = self.nodes[n].others[peer].node;
        let packets: Vec<_> = lens
            .iter()
            .map(|len| self.ledger.new_packet(n, to, *len, self.now, false))
            .collect();
        if self.nodes[n].mode.is_batch {
            let now = self.read_clock(n);
            let outgoing = packets.iter().map(|packet| in_place(packet)).collect();
            let sealed = self.nodes[n].device.seal_batch(now, outgoing);
            for (packet, result) in packets.into_iter().zip(sealed) {
                self.sealed(n, peer, &packet, result);
            }
        } else {
            for packet in packets {
                self.seal(n, peer, &packet);
            }
        }
        self.drain(n);
    }

    pub(crate) fn seal(&mut self, n: usize, peer: usize, packet: &[u8]) {
        if self.nodes[n].mode.has_jobs && self.rng.one_in(3) {
            return self.seal_later(n, peer, packet);
        }
        let now = self.read_clock(n);
        if self.rng.one_in(2) {
            let result = self.nodes[n].device.begin_seal(now, in_place(packet));
            self.sealed(n, peer, packet, result);
        } else {
            let room = vec![0xaa; packet.len() + 47];
            let outgoing = Outgoing::apart(packet, room);
            let result = self.nodes[n].device.begin_seal(now, outgoing);
            self.sealed(n, peer, packet, result);
        }
    }

    fn seal_later(&mut self, n: usize, peer: usize, packet: &[u8]) {
        let now = self.read_clock(n);
        let node = &mut self.nodes[n];
        match node.device.begin_seal(now, in_place(packet)) {
            Ok(job) => {
                node.models[peer].sealed(node.seen, padded(packet.len()) + 32);
                let serial = inner::read(packet).unwrap().serial;
                self.defer(n, Job::Seal(peer, job, serial));
            }
            Err(failure) => self.unsealed(n, peer, packet, failure.error),
        }
    }

    fn sealed(&mut self, n: usize, peer: usize, packet: &[u8], result: SealResult<'_>) {
        let mut job = match result {
            Ok(job) => job,
            Err(failure) => return self.unsealed(n, peer, packet, failure.error),
        };
        let node = &mut self.nodes[n];
        let len = padded(packet.len()) + 32;
        let (receiver, counter) = node.models[peer].sealed(node.seen, len);
        assert_eq!(
            Some(job.to()),
            node.models[peer].endpoint,
            "sealed for another place"
        );
        job.run();
        let datagram = job.datagram().to_vec();
        assert_eq!(datagram.len(), len, "padding");
        assert_eq!(
            (word(&datagram, 4), long(&datagram, 8)),
            (receiver, counter)
        );
        let serial = inner::read(packet).unwrap().serial;
        self.data_sent(n, peer, job.to(), &datagram, Some(serial));
    }

    fn unsealed(&mut self, n: usize, peer: usize, packet: &[u8], error: SealError) {
        let node = &mut self.nodes[n];
        let model = &mut node.models[peer];
        match error {
            SealError::NoSession => {
                model.unsealed(node.seen);
                node.staging.push(peer, packet.to_vec());
            }
            SealError::NoEndpoint => assert_eq!(model.endpoint, None),
            error => panic!("{error:?}"),
        }
    }

    pub(crate) fn send_sealed(
        &mut self,
        n: usize,
        peer: usize,
        mut job: SealJob<'static, Vec<u8>>,
        serial: u64,
    ) {
        job.run();
        let (to, datagram) = (job.to(), job.datagram().to_vec());
        self.data_sent(n, peer, to, &datagram, Some(serial));
    }

    fn data_sent(
        &mut self,
        n: usize,
        peer: usize,
        to: SocketAddr,
        datagram: &[u8],
        serial: Option<u64>,
    ) {
        let (receiver, counter) = (word(datagram, 4), long(datagram, 8));
        self.nodes[n].models[peer].emitted(receiver, counter);
        self.book(
            n,
            peer,
            to,
            datagram,
            Content::Data {
                receiver,
                counter,
                serial,
            },
        );
    }

    fn book(&mut self, n: usize, peer: usize, to: SocketAddr, datagram: &[u8], content: Content) {
        let node = &self.nodes[n];
        let sent = Sent {
            from: n,
            to: node.others[peer].node,
            generation: node.models[peer].generation,
            content,
            accepted_by: None,
        };
        self.ledger.sent(datagram, sent);
        self.send(n, to, datagram);
    }

    /// A control message goes out.
    pub(crate) fn control_sent(&mut self, n: usize, transmit: &Transmit, begun: u64) {
        let datagram = transmit.message.as_bytes();
        let to = transmit.to;
        assert_eq!(transmit.tos(), if datagram[0] == 4 { 0 } else { 0x88 });
        // Who lives at an address is the peer; a stranger's address gets nothing but cookies.
        let other = self.owners.get(&to).copied();
        let peer = other.and_then(|other| self.nodes[n].peer_of(other));
        let (Some(peer), true) = (peer, datagram[0] != 3) else {
            assert_eq!(datagram[0], 3, "sent to a stranger");
            return self.cookie_sent(n, to, datagram);
        };
        let (now, len) = (self.nodes[n].seen, datagram.len());
        let model = &mut self.nodes[n].models[peer];
        assert_eq!(Some(to), model.endpoint, "sent to another place");
        let content = match (datagram[0], len) {
            (1, 148) => {
                let sender = word(datagram, 4);
                model.initiation_sent(begun, now, sender, len);
                Content::Initiation {
                    sender,
                    n: model.initiations,
                }
            }
            (2, 92) => {
                let (sender, receiver) = (word(datagram, 4), word(datagram, 8));
                model.response_sent(now, sender, receiver, len);
                Content::Response { sender, receiver }
            }
            (4, 32) => {
                let (receiver, counter) = model.keepalive_sent(now, len);
                assert_eq!((word(datagram, 4), long(datagram, 8)), (receiver, counter));
                model.emitted(receiver, counter);
                Content::Data {
                    receiver,
                    counter,
                    serial: None,
                }
            }
            other => panic!("a control message {other:?}"),
        };
        self.book(n, peer, to, datagram, content);
    }

    fn cookie_sent(&mut self, n: usize, to: SocketAddr, datagram: &[u8]) {
        assert_eq!(datagram.len(), 64);
        assert!(
            self.now < self.nodes[n].loaded_until,
            "a cookie without load"
        );
        let sent = Sent {
            from: n,
            to: self.owners.get(&to).copied().unwrap_or(usize::MAX),
            generation: 0,
            content: Content::Cookie,
            accepted_by: None,
        };
        self.ledger.sent(datagram, sent);
        self.send(n, to, datagram);
    }
}

/// A packet in the middle of a buffer with just enough room.
fn in_place(packet: &[u8]) -> Outgoing<'static, Vec<u8>> {
    let mut buffer = vec![0xaa; 16];
    buffer.extend_from_slice(packet);
    buffer.extend([0xaa; 31]);
    Outgoing::in_place(buffer, 16..16 + packet.len())
}

/// A packet's length with the padding that the kernel gives it, inside an MTU of 1420.
fn padded(len: usize) -> usize {
    len.next_multiple_of(16).min(1420)
}
