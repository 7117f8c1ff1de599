//! Inner packets that know who sent them, to whom and when, built without an allocation.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rng::mix;

/// What the body of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) from: u16,
    pub(crate) to: u16,
    /// Counts the packets of this direction, from 1; 0 is a packet with a forged source.
    pub(crate) serial: u32,
    /// When it was handed over.
    pub(crate) at: u64,
    /// Requests are IPv4, answers IPv6.
    pub(crate) is_request: bool,
}

/// A packet as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    bytes: [u8; MAX],
    len: u8,
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Label and checksum.
const BODY: usize = 24;
/// The longest packet.
const MAX: usize = 40 + BODY;

/// The inner IPv4 address of a node.
pub(crate) fn v4(node: u16) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + u32::from(node)))
}

/// The inner IPv6 address of a node.
pub(crate) fn v6(node: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + 1 + u128::from(node)))
}

/// The address that a packet goes to.
pub(crate) fn destination(label: &Label) -> IpAddr {
    if label.is_request {
        v4(label.to)
    } else {
        v6(label.to)
    }
}

/// Writes a packet.
pub(crate) fn build(label: &Label) -> Packet {
    let mut bytes = [0; MAX];
    let head = if label.is_request {
        bytes[0] = 0x45;
        bytes[3] = 20 + 24;
        bytes[12..16].copy_from_slice(&(0x0a00_0001 + u32::from(label.from)).to_be_bytes());
        bytes[16..20].copy_from_slice(&(0x0a00_0001 + u32::from(label.to)).to_be_bytes());
        20
    } else {
        bytes[0] = 0x60;
        bytes[5] = 24;
        for (at, node) in [(8, label.from), (24, label.to)] {
            bytes[at] = 0xfd;
            bytes[at + 12..at + 16].copy_from_slice(&(1 + u32::from(node)).to_be_bytes());
        }
        40
    };
    let body = &mut bytes[head..head + BODY];
    body[..2].copy_from_slice(&label.from.to_le_bytes());
    body[2..4].copy_from_slice(&label.to.to_le_bytes());
    body[4..8].copy_from_slice(&label.serial.to_le_bytes());
    body[8..16].copy_from_slice(&label.at.to_le_bytes());
    let sum = checksum(&body[..16]);
    body[16..].copy_from_slice(&sum.to_le_bytes());
    let len = if head == 20 { 20 + 24 } else { 40 + 24 };
    Packet { bytes, len }
}

/// Reads the label of a packet that came out whole.
pub(crate) fn read(packet: &[u8]) -> Option<Label> {
    let is_request = packet.first()? >> 4 == 4;
    let body: &[u8; BODY] = packet.last_chunk()?;
    let label = Label {
        from: u16::from_le_bytes([body[0], body[1]]),
        to: u16::from_le_bytes([body[2], body[3]]),
        serial: u32::from_le_bytes(*body[4..].first_chunk()?),
        at: u64::from_le_bytes(*body[8..].first_chunk()?),
        is_request,
    };
    let is_whole = u64::from_le_bytes(*body[16..].first_chunk()?) == checksum(&body[..16]);
    (is_whole && packet == build(&label).as_ref()).then_some(label)
}

fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<8>().0;
    words
        .iter()
        .fold(0, |sum, word| mix(sum ^ u64::from_le_bytes(*word)))
}
