//! Inner packets: making them, and trimming the padding off them.

/// Returns an IPv4 packet of `length` bytes, header included, or of 20 if that is more.
///
/// Its contents differ with `salt`.
#[must_use]
pub fn ipv4(length: usize, salt: u8) -> Vec<u8> {
    let length = length.max(20);
    let mut packet = body(length, salt);
    let total = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    packet[..20].copy_from_slice(&[
        0x45, 0, total[0], total[1], 0, salt, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    let checksum = checksum(&packet[..20]).to_be_bytes();
    packet[10..12].copy_from_slice(&checksum);
    packet
}

/// Returns an IPv6 packet of `length` bytes, header included, or of 40 if that is more.
///
/// Its contents differ with `salt`.
#[must_use]
pub fn ipv6(length: usize, salt: u8) -> Vec<u8> {
    let length = length.max(40);
    let mut packet = body(length, salt);
    let payload = u16::try_from(length - 40).unwrap_or(u16::MAX).to_be_bytes();
    packet[..40].fill(0);
    packet[..8].copy_from_slice(&[0x60, 0, 0, salt, payload[0], payload[1], 17, 64]);
    packet[8..10].copy_from_slice(&[0xfd, 1]);
    packet[24..26].copy_from_slice(&[0xfd, 2]);
    packet
}

/// Returns `packet` cut to the length in its IP header, if there is such a length and it fits.
#[must_use]
pub fn trim(packet: &[u8]) -> Option<&[u8]> {
    let length = match packet.first()? >> 4 {
        4 if packet.len() >= 20 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        6 if packet.len() >= 40 => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        _ => return None,
    };
    packet.get(..length)
}

fn body(length: usize, salt: u8) -> Vec<u8> {
    (0..=u8::MAX)
        .cycle()
        .map(|byte| byte ^ salt)
        .take(length)
        .collect()
}

fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let sum: u32 = words.map(u32::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_carry_their_length_and_survive_padding() {
        for length in 20..200 {
            for packet in [ipv4(length, 7), ipv6(length, 7)] {
                let mut padded = packet.clone();
                padded.resize(packet.len().next_multiple_of(16), 0);
                assert_eq!(trim(&padded), Some(packet.as_slice()));
                assert_eq!(trim(&packet[..packet.len() - 1]), None);
            }
        }
    }

    #[test]
    fn the_checksum_of_a_header_with_its_checksum_is_zero() {
        assert_eq!(checksum(&ipv4(1420, 3)[..20]), 0);
    }
}
