//! Inner packets that know where they come from, where they go and whether they are whole.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rng::mix;

/// The shortest packet in bytes: an IPv6 header and what we write behind it.
pub(crate) const MIN: usize = 40 + BODY;

/// Source, destination, serial and checksum.
const BODY: usize = 4 + 4 + 8 + 8;

/// Who sent a packet to whom, and which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) serial: u64,
}

/// The inner IPv4 address of a node.
pub(crate) fn v4(node: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + node))
}

/// The inner IPv6 address of a node.
pub(crate) fn v6(node: u32) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + 1 + u128::from(node)))
}

/// Writes a packet of `len` bytes; odd serials are IPv6.
pub(crate) fn build(label: Label, len: usize) -> Vec<u8> {
    assert!(len >= MIN);
    let mut packet = vec![0; len];
    let body = if label.serial.is_multiple_of(2) {
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        packet[12..16].copy_from_slice(&octets(v4(label.from)));
        packet[16..20].copy_from_slice(&octets(v4(label.to)));
        20
    } else {
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&u16::try_from(len - 40).unwrap().to_be_bytes());
        packet[8..24].copy_from_slice(&octets(v6(label.from)));
        packet[24..40].copy_from_slice(&octets(v6(label.to)));
        40
    };
    packet[body..body + 4].copy_from_slice(&label.from.to_le_bytes());
    packet[body + 4..body + 8].copy_from_slice(&label.to.to_le_bytes());
    packet[body + 8..body + 16].copy_from_slice(&label.serial.to_le_bytes());
    for (n, byte) in (0..).zip(&mut packet[body + BODY..]) {
        *byte = mix(label.serial ^ n).to_le_bytes()[0];
    }
    let sum = checksum(&packet);
    packet[body + 16..body + 24].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// Reads the label of a packet, if nothing in the packet has changed.
pub(crate) fn read(packet: &[u8]) -> Option<Label> {
    let body = match packet.first()? >> 4 {
        4 => 20,
        6 => 40,
        _ => return None,
    };
    let word = |at: usize| Some(u32::from_le_bytes(packet.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(packet.get(at..at + 8)?.try_into().ok()?));
    let label = Label {
        from: word(body)?,
        to: word(body + 4)?,
        serial: long(body + 8)?,
    };
    let mut blank = packet.to_vec();
    blank[body + 16..body + 24].fill(0);
    (long(body + 16)? == checksum(&blank)).then_some(label)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let fold = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64, fold)
}
