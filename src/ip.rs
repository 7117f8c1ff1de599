//! What the protocol needs to know of the IP packets that it carries.
//!
//! Version, addresses, total length, the byte that holds DSCP and ECN, and the length after
//! padding. Every function is total: any bytes, any length. Nothing here validates a packet the
//! way an IP stack does (no checksum, no options, no extension headers): it is what the Linux
//! kernel's `WireGuard` looks at, and no more.
//!
//! ECN follows RFC 6040 with the two choices of the kernel, which are written at
//! [`ecn_encapsulate`] and [`ecn_decapsulate`].

mod ecn;

use core::fmt;
use core::net::IpAddr;

pub use self::ecn::{ecn_decapsulate, ecn_encapsulate};

/// DSCP AF41 with no ECN: the byte that the kernel sets in the outer header of handshake messages.
pub const HANDSHAKE_TOS: u8 = 0x88;

/// What the header of an inner packet says, checked against the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The length in bytes by the header. It is at least the header's and at most the packet's;
    /// what follows it is padding.
    pub length: usize,
}

/// Why bytes are not an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Neither version 4 nor 6, or shorter than the fixed header of its version.
    NotIp,
    /// The header's length is less than the header or more than the packet.
    BadLength,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotIp => "not an IPv4 or IPv6 packet",
            Self::BadLength => {
                "the IP header's length is less than the header or more than the packet"
            }
        })
    }
}

impl core::error::Error for Malformed {}

/// Reads the header of an inner packet and checks its length.
///
/// # Errors
///
/// [`Malformed`], when the packet is to be dropped and counted.
///
/// ```
/// use quietwire::ip;
///
/// // An IPv6 header without payload, followed by 8 bytes of padding.
/// let mut packet = [0; 48];
/// packet[0] = 0x60;
/// packet[39] = 1;
/// let inner = ip::parse(&packet)?;
/// assert_eq!(inner.destination.to_string(), "::1");
/// assert_eq!(inner.length, 40);
/// assert_eq!(ip::parse(&packet[..39]), Err(ip::Malformed::NotIp));
/// # Ok::<(), ip::Malformed>(())
/// ```
#[inline]
pub fn parse(packet: &[u8]) -> Result<Inner, Malformed> {
    let header = Header::of(packet).ok_or(Malformed::NotIp)?;
    let length = total_length(packet).filter(|&length| length <= packet.len());
    Ok(Inner {
        source: header.source,
        destination: header.destination,
        length: length.ok_or(Malformed::BadLength)?,
    })
}

/// Reads the source address; `None` if the bytes do not start with a whole IP header.
#[must_use]
#[inline]
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    Header::of(packet).map(|header| header.source)
}

/// Reads the destination address; `None` if the bytes do not start with a whole IP header.
#[must_use]
#[inline]
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    Header::of(packet).map(|header| header.destination)
}

/// Reads the length that the header claims, in bytes and with the header.
///
/// `None` if the bytes do not start with a whole IP header, or if the claim is less than the fixed
/// header. The claim may exceed `packet`, as it does when only the head of a packet is given:
/// [`parse`] compares. An IPv6 packet can claim up to 65,575 bytes.
#[must_use]
#[inline]
pub fn total_length(packet: &[u8]) -> Option<usize> {
    match Header::of(packet)?.version {
        Version::V4 => Some(usize::from(word(packet, 2)?)).filter(|&length| length >= 20),
        Version::V6 => Some(usize::from(word(packet, 4)?) + 40),
    }
}

/// Reads the byte with DSCP (six bits) and ECN (two bits): IPv4's type of service or IPv6's
/// traffic class. `None` if the bytes do not start with a whole IP header.
#[must_use]
pub fn tos(packet: &[u8]) -> Option<u8> {
    let [high, low] = word(packet, 0)?.to_be_bytes();
    Some(match Header::of(packet)?.version {
        Version::V4 => low,
        Version::V6 => high << 4 | low >> 4,
    })
}

/// The length of an inner packet of `len` bytes after padding.
///
/// The next multiple of 16, but not past the tunnel's MTU; 0 stands for no MTU. Of a packet larger
/// than the MTU only what exceeds the last whole multiple of the MTU counts, as in the kernel,
/// where such a packet is one that segments are cut from.
/// A caller that lays out datagrams back to back needs it: one takes `padded_len` bytes and
/// [`DATA_OVERHEAD`](crate::wire::DATA_OVERHEAD).
#[inline]
#[must_use]
pub fn padded_len(len: usize, mtu: usize) -> usize {
    let unit = if len > mtu {
        len.checked_rem(mtu).unwrap_or(len)
    } else {
        len
    };
    let limit = if mtu == 0 { usize::MAX } else { mtu };
    let padded = unit
        .checked_next_multiple_of(PADDING)
        .unwrap_or(unit)
        .min(limit);
    len.saturating_add(padded.saturating_sub(unit))
}

/// Packets are padded to a multiple of this many bytes.
const PADDING: usize = 16;

enum Version {
    V4,
    V6,
}

/// The fixed header: 20 or 40 bytes, all there.
struct Header {
    version: Version,
    source: IpAddr,
    destination: IpAddr,
}

impl Header {
    #[inline]
    fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::with::<4>(Version::V4, packet.get(12..)?),
            6 => Self::with::<16>(Version::V6, packet.get(8..)?),
            _ => None,
        }
    }

    /// The addresses end the fixed header, so a packet that has both has all of it.
    #[inline]
    fn with<const N: usize>(version: Version, addresses: &[u8]) -> Option<Self>
    where
        IpAddr: From<[u8; N]>,
    {
        let (source, rest) = addresses.split_first_chunk::<N>()?;
        let destination = rest.first_chunk::<N>()?;
        Some(Self {
            version,
            source: (*source).into(),
            destination: (*destination).into(),
        })
    }
}

#[inline]
fn word(packet: &[u8], at: usize) -> Option<u16> {
    packet
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// A whole header with addresses 10.1.2.3, 10.9.8.7 or `2001:db8::1`, `2001:db8::2`, the
    /// length field as given, and `body` zero bytes.
    pub(super) fn v4(length: u16, body: usize) -> Vec<u8> {
        let mut packet = vec![0; 20 + body];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[8] = 64;
        packet[9] = 17;
        packet[12..20].copy_from_slice(&[10, 1, 2, 3, 10, 9, 8, 7]);
        packet
    }

    pub(super) fn v6(length: u16, body: usize) -> Vec<u8> {
        let mut packet = vec![0; 40 + body];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        packet[23] = 1;
        packet[24..28].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        packet[39] = 2;
        packet
    }

    #[test]
    fn reads_addresses_and_length() {
        let inner = parse(&v4(28, 12)).unwrap();
        assert_eq!(inner.source, IpAddr::from([10, 1, 2, 3]));
        assert_eq!(inner.destination, IpAddr::from([10, 9, 8, 7]));
        assert_eq!(inner.length, 28);

        let inner = parse(&v6(3, 8)).unwrap();
        assert_eq!(inner.source, "2001:db8::1".parse::<IpAddr>().unwrap());
        assert_eq!(inner.destination, "2001:db8::2".parse::<IpAddr>().unwrap());
        assert_eq!(inner.length, 43);
        assert_eq!(source(&v6(3, 8)), Some(inner.source));
        assert_eq!(destination(&v6(3, 8)), Some(inner.destination));
    }

    #[test]
    fn other_versions_and_short_headers_are_not_ip() {
        for nibble in (0..=3).chain([5]).chain(7..=15) {
            let packet = [nibble << 4; 64];
            assert_eq!(parse(&packet), Err(Malformed::NotIp), "version {nibble}");
        }
        for (packet, header) in [(v4(20, 0), 20), (v6(0, 0), 40)] {
            for cut in 0..header {
                let head = &packet[..cut];
                assert_eq!(parse(head), Err(Malformed::NotIp));
                assert_eq!(
                    (
                        source(head),
                        destination(head),
                        total_length(head),
                        tos(head)
                    ),
                    (None, None, None, None)
                );
            }
            assert!(parse(&packet).is_ok());
        }
    }

    #[test]
    fn dishonest_lengths() {
        for length in 0..20 {
            assert_eq!(
                parse(&v4(length, 100)),
                Err(Malformed::BadLength),
                "{length}"
            );
        }
        assert_eq!(parse(&v4(121, 100)), Err(Malformed::BadLength));
        assert_eq!(parse(&v4(120, 100)).unwrap().length, 120);
        assert_eq!(parse(&v4(u16::MAX, 1500)), Err(Malformed::BadLength));
        assert_eq!(parse(&v6(101, 100)), Err(Malformed::BadLength));
        assert_eq!(parse(&v6(100, 100)).unwrap().length, 140);
    }

    /// A sum in 16 bits would turn these into 0 to 39.
    #[test]
    fn an_ipv6_length_does_not_wrap() {
        for length in 65_496..=u16::MAX {
            assert_eq!(parse(&v6(length, 0)), Err(Malformed::BadLength));
            assert_eq!(parse(&v6(length, 1460)), Err(Malformed::BadLength));
            assert_eq!(total_length(&v6(length, 0)), Some(usize::from(length) + 40));
        }
        assert_eq!(parse(&v6(u16::MAX, 65_535)).unwrap().length, 65_575);
    }

    /// The kernel compares with the fixed header only, whatever the header length says.
    #[test]
    fn ipv4_options_are_not_looked_at() {
        let mut packet = v4(20, 40);
        packet[0] = 0x4f;
        assert_eq!(parse(&packet).unwrap().length, 20);
        packet[0] = 0x40;
        assert_eq!(parse(&packet).unwrap().length, 20);
    }

    #[test]
    fn traffic_class_straddles_two_bytes() {
        let mut packet = v6(0, 0);
        packet[0] = 0x6a;
        packet[1] = 0xb5;
        assert_eq!(tos(&packet), Some(0xab));
        let mut packet = v4(20, 0);
        packet[1] = 0xab;
        assert_eq!(tos(&packet), Some(0xab));
    }

    #[test]
    fn padding_table() {
        // length, MTU, padded length
        #[rustfmt::skip]
        let table = [
            (0, 0, 0), (1, 0, 16), (16, 0, 16), (17, 0, 32), (1420, 0, 1424), (65_535, 0, 65_536),
            (0, 1, 0), (1, 1, 1), (2, 1, 2), (1000, 1, 1000),
            (0, 15, 0), (1, 15, 15), (15, 15, 15), (16, 15, 30), (30, 15, 30), (31, 15, 45),
            (0, 1420, 0), (1, 1420, 16), (1400, 1420, 1408), (1408, 1420, 1408),
            (1409, 1420, 1420), (1419, 1420, 1420), (1420, 1420, 1420), (1421, 1420, 1436),
            (2829, 1420, 2840), (2840, 1420, 2840),
            (1, 65_535, 16), (65_520, 65_535, 65_520), (65_521, 65_535, 65_535),
            (65_535, 65_535, 65_535),
        ];
        for (len, mtu, padded) in table {
            assert_eq!(padded_len(len, mtu), padded, "{len} bytes, MTU {mtu}");
        }
    }

    #[test]
    fn padding_is_total() {
        for len in [0, 1, usize::MAX - 1, usize::MAX] {
            for mtu in [0, 1, 15, 1420, usize::MAX] {
                assert!(padded_len(len, mtu) >= len);
            }
        }
    }

    proptest! {
        #[test]
        fn total_on_any_bytes(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            match parse(&packet) {
                Ok(inner) => {
                    prop_assert!(inner.length >= 20 && inner.length <= packet.len());
                    prop_assert_eq!(Some(inner.source), source(&packet));
                    prop_assert_eq!(Some(inner.destination), destination(&packet));
                    prop_assert_eq!(Some(inner.length), total_length(&packet));
                }
                Err(Malformed::NotIp) => prop_assert_eq!(tos(&packet), None),
                Err(Malformed::BadLength) => prop_assert!(tos(&packet).is_some()),
            }
        }

        #[test]
        fn padding_bounds(len in 0_usize..70_000, mtu in 0_usize..70_000) {
            let padded = padded_len(len, mtu);
            prop_assert!(padded - len < 16);
            prop_assert!(padded.is_multiple_of(16) || mtu != 0);
            if len <= mtu {
                prop_assert!(padded <= mtu);
                prop_assert!(padded.is_multiple_of(16) || padded == mtu);
            }
        }
    }
}
