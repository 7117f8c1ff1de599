//! Inner packets that can be told apart.

use core::net::Ipv4Addr;

const HEADER: usize = 20;

/// An IPv4 packet with `extra` bytes behind its identity.
pub fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, id: u64, extra: usize) -> Vec<u8> {
    let total = HEADER + 8 + extra;
    let mut packet = vec![0; HEADER];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet.extend(id.to_le_bytes());
    packet.extend((0..extra).map(|i| id.to_le_bytes()[i % 8] ^ i.to_le_bytes()[0]));
    packet
}

/// What `ipv4` was given as `id`.
pub fn id(packet: &[u8]) -> u64 {
    u64::from_le_bytes(packet[HEADER..HEADER + 8].try_into().unwrap())
}

/// The packet, padded as the kernel pads below its MTU: to a multiple of 16 bytes.
pub fn padded(packet: &[u8], mtu: usize) -> Vec<u8> {
    let whole = packet.len().checked_div(mtu).unwrap_or(0);
    let beyond = whole * mtu;
    let last = packet.len() - beyond;
    let mut full = last.next_multiple_of(16);
    if mtu != 0 && last != 0 {
        full = full.min(mtu);
    }
    let mut padded = packet.to_vec();
    padded.resize(beyond + full, 0);
    padded
}
