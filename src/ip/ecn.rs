//! Congestion marks between the outer and the inner header of a tunnel.
//!
//! RFC 6040 over the byte that holds DSCP and ECN, with the two choices of the Linux kernel, which
//! are written at the functions. Marks can be carried into an inner packet only; the outer header
//! is the caller's, who gets and gives its byte.

use super::tos;

/// Gives the byte for the outer header of a data message: the DSCP of `outer_tos`, and the ECN
/// field derived from the inner packet's.
///
/// The kernel passes 0 for `outer_tos`, so that the inner DSCP does not leak. The ECN field is
/// copied, except that congestion experienced becomes ECT(0): the full-functionality mode of
/// RFC 3168, section 9.1.1, as in the kernel. The normal mode of RFC 6040 copies it too; the
/// receiver's inner packet is the same either way, because it keeps its own mark.
#[must_use]
pub const fn ecn_encapsulate(outer_tos: u8, inner_tos: u8) -> u8 {
    let ecn = match inner_tos & ECN {
        CE => ECT_0,
        copied => copied,
    };
    (outer_tos & !ECN) | ecn
}

/// Carries congestion marks from the outer header, whose byte is `outer_tos`, into an inner packet.
///
/// RFC 6040, figure 4: congestion experienced outside marks an inner packet that is ECN-capable,
/// and ECT(1) outside turns an inner ECT(0) into ECT(1); the IPv4 checksum is adjusted (RFC 1624).
/// Where the RFC drops, at congestion experienced around a packet that is not ECN-capable, the
/// kernel delivers the packet as it is, and so does this. Bytes that are not IP stay as they are.
pub fn ecn_decapsulate(outer_tos: u8, packet: &mut [u8]) {
    let Some(inner) = tos(packet) else { return };
    let ecn = match (inner & ECN, outer_tos & ECN) {
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        _ => return,
    };
    set_ecn(packet, (inner & ECN) ^ ecn);
}

/// The mask of the ECN field, and three of its four values.
const ECN: u8 = 0b11;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// Flips bits of the ECN field. The packet starts with a whole header.
fn set_ecn(packet: &mut [u8], flip: u8) {
    match packet {
        [first, tos, rest @ ..] if *first >> 4 == 4 => {
            let old = u16::from_be_bytes([*first, *tos]);
            *tos ^= flip;
            let new = u16::from_be_bytes([*first, *tos]);
            if let Some(checksum) = rest.get_mut(8..).and_then(|rest| rest.first_chunk_mut()) {
                *checksum = adjust(u16::from_be_bytes(*checksum), old, new).to_be_bytes();
            }
        }
        [_, second, ..] => *second ^= flip << 4,
        _ => {}
    }
}

/// The Internet checksum after one word of what it covers changed: equation 3 of RFC 1624.
fn adjust(checksum: u16, old: u16, new: u16) -> u16 {
    !ones_add(ones_add(!checksum, !old), new)
}

/// Addition in ones' complement: the carry comes back in at the other end.
fn ones_add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(u16::from(carry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::super::HANDSHAKE_TOS;
    use super::super::tests::{v4, v6};
    use super::*;

    /// The checksum of an IPv4 header by definition: 0xffff when it is right.
    fn sum(packet: &[u8]) -> u16 {
        let mut sum: u32 = packet[..20]
            .chunks(2)
            .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
        packet[10..12].fill(0);
        let checksum = !sum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn set_tos(packet: &mut [u8], tos: u8) {
        if packet[0] >> 4 == 4 {
            packet[1] = tos;
        } else {
            packet[0] = 0x60 | tos >> 4;
            packet[1] = tos << 4 | packet[1] & 0x0f;
        }
    }

    // The values of the field as in RFC 3168, section 5.
    const NOT: u8 = 0b00;
    const E1: u8 = 0b01;
    const E0: u8 = 0b10;
    const CE_: u8 = 0b11;

    #[test]
    fn encapsulation_table() {
        for (inner, outer) in [(NOT, NOT), (E1, E1), (E0, E0), (CE_, E0)] {
            for dscp in 0..64 {
                for junk in 0..4 {
                    let tos = ecn_encapsulate(dscp << 2 | junk, 0b1010_1000 | inner);
                    assert_eq!(tos, dscp << 2 | outer);
                }
            }
        }
        assert_eq!(HANDSHAKE_TOS >> 2, 34, "AF41");
    }

    #[test]
    fn decapsulation_table() {
        // inner, outer, result: RFC 6040, figure 4, with the kernel's choice at (NOT, CE).
        #[rustfmt::skip]
        let table = [
            (NOT, NOT, NOT), (NOT, E0, NOT), (NOT, E1, NOT), (NOT, CE_, NOT),
            (E0, NOT, E0), (E0, E0, E0), (E0, E1, E1), (E0, CE_, CE_),
            (E1, NOT, E1), (E1, E0, E1), (E1, E1, E1), (E1, CE_, CE_),
            (CE_, NOT, CE_), (CE_, E0, CE_), (CE_, E1, CE_), (CE_, CE_, CE_),
        ];
        for (inner, outer, result) in table {
            for dscp in [0, 0b10_1101, 0b11_1111] {
                for mut packet in [v4(24, 4), v6(4, 4)] {
                    packet[1] |= if packet[0] == 0x60 { 0x05 } else { 0 };
                    set_tos(&mut packet, dscp << 2 | inner);
                    let mut packet = with_checksum_if_v4(packet);
                    let mut want = packet.clone();
                    set_tos(&mut want, dscp << 2 | result);
                    let want = with_checksum_if_v4(want);
                    ecn_decapsulate(0b0110_1000 | outer, &mut packet);
                    assert_eq!(packet, want, "inner {inner:02b}, outer {outer:02b}");
                }
            }
        }
    }

    fn with_checksum_if_v4(packet: Vec<u8>) -> Vec<u8> {
        if packet[0] >> 4 == 4 {
            with_checksum(packet)
        } else {
            packet
        }
    }

    /// Every value of another header field, so every checksum, those where a carry wraps included.
    #[test]
    fn the_checksum_stays_right() {
        for (inner, outer) in [(E0, CE_), (E1, CE_), (E0, E1)] {
            for id in 0..=u16::MAX {
                let mut packet = v4(20, 0);
                set_tos(&mut packet, inner);
                packet[4..6].copy_from_slice(&id.to_be_bytes());
                let mut packet = with_checksum(packet);
                ecn_decapsulate(outer, &mut packet);
                assert_eq!(
                    (packet[1], sum(&packet)),
                    (outer, 0xffff),
                    "identification {id}"
                );
            }
        }
    }

    #[test]
    fn decapsulation_leaves_other_bytes_alone() {
        for mut bytes in [
            vec![],
            vec![0x45],
            vec![0x6f; 39],
            vec![0x45; 19],
            vec![0x5a; 64],
        ] {
            let before = bytes.clone();
            ecn_decapsulate(CE, &mut bytes);
            assert_eq!(bytes, before);
        }
    }

    proptest! {
        #[test]
        fn total_on_any_bytes(packet in proptest::collection::vec(any::<u8>(), 0..80), outer: u8) {
            let mut after = packet.clone();
            ecn_decapsulate(outer, &mut after);
            prop_assert_eq!(after.len(), packet.len());
            prop_assert_eq!(tos(&after).map(|tos| tos >> 2), tos(&packet).map(|tos| tos >> 2));
        }
    }
}
