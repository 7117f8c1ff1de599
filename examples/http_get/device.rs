//! The network device of the TCP/IP stack: packets that came out of the tunnel and packets that are
//! to go into it, in buffers that are used again and again.
//!
//! The stack writes a packet where it will be sealed: with room in front for the header of a data
//! message and room behind for padding and tag, so that it is never copied.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use quietwire::wire::{DATA_OVERHEAD, DataHeader};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// How many packets are taken through each step at once.
pub(crate) const BATCH: usize = 64;

/// An IP packet, inside a buffer with room around it.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    pub(crate) buffer: Vec<u8>,
    pub(crate) range: Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Device {
    /// From the tunnel to the stack.
    pub(crate) incoming: VecDeque<Packet>,
    /// From the stack to the tunnel: at most [`BATCH`].
    pub(crate) outgoing: Vec<Packet>,
    pub(crate) pool: Pool,
    /// What the stack is reading.
    current: Packet,
    mtu: usize,
}

impl Device {
    pub(crate) fn new(mtu: usize) -> Self {
        Self {
            incoming: VecDeque::with_capacity(BATCH),
            outgoing: Vec::with_capacity(BATCH),
            pool: Pool::new(mtu),
            current: Packet::default(),
            mtu,
        }
    }
}

impl phy::Device for Device {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        if self.incoming.is_empty() || self.outgoing.len() >= BATCH {
            return None;
        }
        let next = self.incoming.pop_front()?;
        let last = mem::replace(&mut self.current, next);
        self.pool.put(last.buffer);
        let Self {
            outgoing,
            pool,
            current,
            ..
        } = self;
        let packet = &current.buffer[current.range.clone()];
        Some((RxToken(packet), TxToken { outgoing, pool }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        let Self { outgoing, pool, .. } = self;
        (outgoing.len() < BATCH).then_some(TxToken { outgoing, pool })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// A packet for the stack to read.
#[derive(Debug)]
pub(crate) struct RxToken<'d>(&'d [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// Permission for the stack to write a packet.
#[derive(Debug)]
pub(crate) struct TxToken<'d> {
    outgoing: &'d mut Vec<Packet>,
    pool: &'d mut Pool,
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut buffer = self.pool.take();
        let range = DataHeader::LEN..DataHeader::LEN + len;
        let result = write(&mut buffer[range.clone()]);
        self.outgoing.push(Packet { buffer, range });
        result
    }
}

/// Buffers of one size. There are as many as were ever in use at once: a few batches.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<Vec<u8>>,
    size: usize,
}

impl Pool {
    /// Room for a datagram with a packet of `mtu` bytes, whatever its padding.
    fn new(mtu: usize) -> Self {
        Self {
            free: Vec::new(),
            size: (mtu + 15 + DATA_OVERHEAD).max(2048),
        }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        let mut buffer = self.free.pop().unwrap_or_default();
        buffer.resize(self.size, 0);
        buffer
    }

    pub(crate) fn put(&mut self, buffer: Vec<u8>) {
        self.free.push(buffer);
    }
}
