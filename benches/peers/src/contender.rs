//! Two ends of one implementation with a session between them, and the timed work.
//!
//! Only the implementation's own work lies between two clock readings, except in a handshake, where
//! moving five short datagrams is part of it. Every timed batch checks afterwards that it did what
//! it should.

use core::hint::black_box;
use core::mem;
use core::net::SocketAddr;
use core::time::Duration;
use std::time::Instant;

use crate::node::Outcome;
use crate::packet::ipv4;
use crate::tunnel::{Config, FIRST_ADDRESS, SECOND_ADDRESS, STEP, Sink, Tunnel};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A handshake on both sides, with the first data packet after it.
    Handshake,
    /// Sealing a packet of that IP length.
    Seal(usize),
    /// Opening a packet of that IP length.
    Open(usize),
    /// Sealing packets of that IP length, handed over 16 at a time.
    SealBatch(usize),
    /// Opening packets of that IP length, handed over 16 at a time.
    OpenBatch(usize),
    /// Refusing an initiation with a wrong mac1.
    Refuse,
}

/// An implementation that can be measured.
pub trait Contender {
    /// Times `count` pieces of work.
    fn time(&mut self, work: Work, count: usize) -> Duration;
}

/// Both ends of a tunnel. The first sends, the second receives.
pub struct Pair<T> {
    first: T,
    second: T,
}

impl<T: Tunnel> Pair<T> {
    /// Makes two ends and a session that the first one began.
    #[must_use]
    pub fn established() -> Self {
        let (first, second) = Config::pair();
        let mut pair = Self {
            first: T::new(&first),
            second: T::new(&second),
        };
        pair.handshake();
        pair
    }

    /// Initiation, response, confirmation if the implementation sends one, one data packet.
    fn handshake(&mut self) {
        self.first.advance(STEP);
        self.second.advance(STEP);
        let mut wire = Outcome::default();
        self.first
            .initiate(&mut wire)
            .expect("an initiation can be sent");
        for _ in 0..2 {
            pass(&mut wire, FIRST_ADDRESS, &mut self.second);
            pass(&mut wire, SECOND_ADDRESS, &mut self.first);
        }
        let mut packet = self.first.load_packet(&PACKET);
        self.first
            .seal(&mut packet, &mut wire)
            .expect("there is a session");
        pass(&mut wire, FIRST_ADDRESS, &mut self.second);
        assert_eq!(
            wire.delivered,
            [PACKET],
            "{}: the first data packet",
            T::NAME
        );
    }

    fn handshakes(&mut self, count: usize) -> Duration {
        let start = Instant::now();
        (0..count).for_each(|_| self.handshake());
        start.elapsed()
    }

    fn packets(&mut self, length: usize, count: usize) -> Vec<T::Packet> {
        let packet = ipv4(length, 1);
        (0..count)
            .map(|_| self.first.load_packet(&packet))
            .collect()
    }

    /// Hands packets over singly or `at_once` many at a time.
    fn seal(&mut self, length: usize, count: usize, at_once: usize) -> Duration {
        let mut packets = self.packets(length, count);
        let mut tally = Tally::default();
        let start = Instant::now();
        if at_once == 1 {
            for packet in &mut packets {
                self.first
                    .seal(packet, &mut tally)
                    .expect("there is a session");
            }
        } else {
            for batch in packets.chunks_mut(at_once) {
                self.first
                    .seal_batch(batch, &mut tally)
                    .expect("there is a session");
            }
        }
        let elapsed = start.elapsed();
        assert_eq!(
            (tally.sent, tally.delivered),
            (count, 0),
            "{}: sealed",
            T::NAME
        );
        assert!(
            tally.bytes >= count * (length + 32),
            "{}: sealed bytes",
            T::NAME
        );
        elapsed
    }

    fn open(&mut self, length: usize, count: usize, at_once: usize) -> Duration {
        let mut wire = Outcome::default();
        for packet in &mut self.packets(length, count) {
            self.first
                .seal(packet, &mut wire)
                .expect("there is a session");
        }
        let load = |datagram: &Vec<u8>| self.second.load_datagram(datagram);
        let mut datagrams: Vec<_> = wire.sent.iter().map(load).collect();
        let mut tally = Tally::default();
        let start = Instant::now();
        if at_once == 1 {
            for datagram in &mut datagrams {
                self.second
                    .receive(FIRST_ADDRESS, datagram, &mut tally)
                    .expect("it is genuine");
            }
        } else {
            for batch in datagrams.chunks_mut(at_once) {
                self.second
                    .receive_batch(FIRST_ADDRESS, batch, &mut tally)
                    .expect("it is genuine");
            }
        }
        let elapsed = start.elapsed();
        assert_eq!(
            (tally.sent, tally.delivered),
            (0, count),
            "{}: opened",
            T::NAME
        );
        assert_eq!(tally.bytes, count * length, "{}: opened bytes", T::NAME);
        elapsed
    }

    fn refuse(&mut self, count: usize) -> Duration {
        self.first.advance(STEP);
        let mut wire = Outcome::default();
        self.first
            .initiate(&mut wire)
            .expect("an initiation can be sent");
        let mut forged = wire.sent.swap_remove(0);
        forged[MAC1] ^= 1;
        let mut datagrams: Vec<_> = (0..count)
            .map(|_| self.second.load_datagram(&forged))
            .collect();
        let (mut tally, mut refused) = (Tally::default(), 0);
        let start = Instant::now();
        for datagram in &mut datagrams {
            refused += usize::from(
                self.second
                    .receive(FIRST_ADDRESS, datagram, &mut tally)
                    .is_err(),
            );
        }
        let elapsed = start.elapsed();
        assert_eq!((tally.sent, refused), (0, count), "{}: refused", T::NAME);
        elapsed
    }
}

impl<T: Tunnel> Contender for Pair<T> {
    fn time(&mut self, work: Work, count: usize) -> Duration {
        match work {
            Work::Handshake => self.handshakes(count),
            Work::Seal(length) => self.seal(length, count, 1),
            Work::Open(length) => self.open(length, count, 1),
            Work::SealBatch(length) => self.seal(length, count, AT_ONCE),
            Work::OpenBatch(length) => self.open(length, count, AT_ONCE),
            Work::Refuse => self.refuse(count),
        }
    }
}

/// The first data packet: nothing but an IPv4 header.
const PACKET: [u8; 20] = [
    0x45, 0, 0, 20, 0, 0, 0x40, 0, 64, 59, 0x26, 0xac, 10, 0, 0, 1, 10, 0, 0, 2,
];

/// Packets in a batch.
pub const AT_ONCE: usize = 16;

/// Where mac1 begins in an initiation.
const MAC1: usize = 116;

/// Hands what is on the wire to an end; what comes out is on the wire afterwards.
fn pass<T: Tunnel>(wire: &mut Outcome, source: SocketAddr, to: &mut T) {
    for datagram in mem::take(&mut wire.sent) {
        let mut datagram = to.load_datagram(&datagram);
        to.receive(source, &mut datagram, wire)
            .expect("it is genuine");
    }
}

/// Counts, and makes sure that what is counted was made.
#[derive(Debug, Default)]
struct Tally {
    sent: usize,
    delivered: usize,
    bytes: usize,
}

impl Sink for Tally {
    #[inline]
    fn send(&mut self, datagram: &[u8]) {
        self.sent += 1;
        self.bytes += black_box(datagram).len();
    }

    #[inline]
    fn deliver(&mut self, packet: &[u8]) {
        self.delivered += 1;
        self.bytes += black_box(packet).len();
    }
}
