//! The network between the nodes, and the record of what was sent through it.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use quietwire::SealJob;

use super::super::input::Input;
use super::super::packet;
use super::node::inner;

/// More datagrams than this are lost.
const CAPACITY: usize = 128;

#[derive(Default)]
pub struct Network {
    flights: Vec<Flight>,
    /// Every packet that a node was asked to seal, and whether it arrived.
    packets: BTreeMap<u64, (usize, Vec<u8>, bool)>,
    /// The links that have carried a packet since the last `clear`.
    pub carried: BTreeSet<(usize, usize)>,
    pub jobs: Vec<(usize, SealJob<'static, Vec<u8>>)>,
}

#[derive(Clone)]
pub struct Flight {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub datagram: Vec<u8>,
}

impl Network {
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        assert!(datagram.len() >= 32);
        if self.flights.len() < CAPACITY {
            self.flights.push(Flight { from, to, datagram });
        }
    }

    pub fn take(&mut self, n: usize) -> Option<Flight> {
        let n = n % self.flights.len().max(1);
        (n < self.flights.len()).then(|| self.flights.remove(n))
    }

    /// The first datagram to a node.
    pub fn take_to(&mut self, node: usize) -> Option<(SocketAddr, Vec<u8>)> {
        let n = self
            .flights
            .iter()
            .position(|f| super::node::at(f.to) == Some(node))?;
        let flight = self.flights.remove(n);
        Some((flight.from, flight.datagram))
    }

    pub fn lose(&mut self, n: usize) {
        self.take(n);
    }

    pub fn repeat(&mut self, n: usize) {
        let n = n % self.flights.len().max(1);
        if let Some(flight) = self.flights.get(n).cloned() {
            self.send(flight.from, flight.to, flight.datagram);
        }
    }

    pub fn damage(&mut self, input: &mut Input<'_>) {
        let n = input.below(self.flights.len());
        if let Some(flight) = self.flights.get_mut(n) {
            let at = usize::from(input.u16()) % flight.datagram.len();
            flight.datagram[at] ^= input.byte();
        }
    }

    /// A packet like no other.
    pub fn packet(&mut self, from: usize, to: usize, extra: usize) -> Vec<u8> {
        let id = u64::try_from(self.packets.len()).unwrap();
        let packet = packet::ipv4(inner(from), inner(to), id, extra);
        self.packets.insert(id, (to, packet.clone(), false));
        packet
    }

    pub fn delivered(&mut self, node: usize, packet: &[u8]) {
        let (to, sent, arrived) = self.packets.get_mut(&packet::id(packet)).unwrap();
        assert_eq!(*to, node, "delivered to another node");
        assert_eq!(sent, packet, "altered");
        assert!(!core::mem::replace(arrived, true), "delivered twice");
        let from = usize::from(packet[15]);
        self.carried.insert((from, node));
    }

    /// Loses what is under way.
    pub fn clear(&mut self) {
        self.flights.clear();
        self.jobs.clear();
        self.carried.clear();
    }
}
