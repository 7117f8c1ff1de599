//! As much of IP as is needed to find the transport header.
//!
//! Headers only, of either family, from bytes that nobody has checked. What the payload is, is for
//! others.

use super::checksum::Sum;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ESP: u8 = 50;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const DESTINATION: u8 = 60;

pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;

/// "Don't fragment", in the word with the fragment offset.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
/// The offset and "more fragments" in that word.
const FRAGMENTED: u16 = 0x3fff;

/// What stands behind the IP header and its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upper {
    pub(crate) ipv6: bool,
    pub(crate) protocol: u8,
    /// Where it begins.
    pub(crate) offset: usize,
    /// This is a part of a packet.
    pub(crate) fragment: bool,
    /// This is a part of a packet and not its first, so there is no transport header.
    pub(crate) continuation: bool,
}

impl Upper {
    /// Finds it. `None` for what is not IP and for headers that do not end within the packet.
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::ipv4(packet),
            6 => Self::ipv6(packet),
            _ => None,
        }
    }

    fn ipv4(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<IPV4_HEADER>()?;
        let offset = usize::from(header[0] & 15) * 4;
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        let fits = (IPV4_HEADER..=packet.len()).contains(&offset);
        fits.then_some(Self {
            ipv6: false,
            protocol: header[9],
            offset,
            fragment: fragment & FRAGMENTED != 0,
            continuation: fragment & 0x1fff != 0,
        })
    }

    fn ipv6(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<IPV6_HEADER>()?;
        let mut upper = Self {
            ipv6: true,
            protocol: header[6],
            offset: IPV6_HEADER,
            fragment: false,
            continuation: false,
        };
        while !upper.continuation && upper.skip(packet)? {}
        Some(upper)
    }

    /// Steps over one extension header; says whether there was one. Each has at least 8 bytes, so
    /// that this ends.
    fn skip(&mut self, packet: &[u8]) -> Option<bool> {
        let length = |unit: usize, more: usize| {
            let header = packet.get(self.offset..)?.first_chunk::<2>()?;
            Some((usize::from(header[1]) + more) * unit)
        };
        let length = match self.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => length(8, 1)?,
            AUTHENTICATION => length(4, 2)?,
            FRAGMENT => 8,
            _ => return Some(false),
        };
        let extension = packet.get(self.offset..)?.get(..length)?;
        if self.protocol == FRAGMENT {
            let place = u16::from_be_bytes([*extension.get(2)?, *extension.get(3)?]);
            self.fragment |= place & !6 != 0;
            self.continuation = place >> 3 != 0;
        }
        self.protocol = *extension.first()?;
        self.offset += length;
        Some(true)
    }

    /// Whether there is nothing between the addresses and the transport header that could name
    /// another destination.
    pub(crate) fn is_plain(&self) -> bool {
        self.offset == if self.ipv6 { IPV6_HEADER } else { IPV4_HEADER }
    }
}

/// The sum of the pseudo-header without the length (RFC 9293, section 3.1; RFC 8200, section 8.1).
#[inline]
pub(crate) fn pseudo_header(packet: &[u8], ipv6: bool, protocol: u8) -> Sum {
    let addresses = if ipv6 {
        Sum::default().bytes(&take::<32>(packet, 8))
    } else {
        Sum::default().bytes(&take::<8>(packet, 12))
    };
    addresses.word(u16::from(protocol))
}

/// Writes a field of a header that is long enough; nothing if it is not.
#[inline]
pub(crate) fn put<const N: usize>(packet: &mut [u8], at: usize, field: [u8; N]) {
    if let Some(place) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = field;
    }
}

/// Reads a field of a header; zeros if the header is not that long.
#[inline]
pub(crate) fn take<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    packet
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .unwrap_or([0; N])
}

/// A length as a field of two bytes. Lengths are checked before; a longer one would become the
/// longest.
#[inline]
pub(crate) fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}
