//! What the coalescer has to know of a packet.
//!
//! Only the plain form counts: no IP options, no extension headers, no fragments, no bytes behind
//! the end.

use super::ip::{
    DONT_FRAGMENT, ESP, ICMPV6, IPV4_HEADER, IPV6_HEADER, TCP, UDP, length, pseudo_header, take,
};
use super::{checksum::Sum, tcp, udp};

/// What a packet is to the coalescer.
#[derive(Debug)]
pub(super) enum Sorted {
    /// TCP or UDP.
    Flow(Packet),
    /// Of another protocol, so of no flow.
    Stranger,
    /// Nothing that can be merged, but perhaps of any flow, such as a fragment.
    Unknown,
}

/// A whole TCP segment or UDP datagram, of the length that its headers say. Its checksums are not
/// verified.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// Nearly always different for different flows, and quickly compared.
    tag: u64,
    /// Type of service, "don't fragment", time to live; or traffic class, flow label, hop limit.
    ip: u64,
    /// Of TCP: what is acknowledged and the length of the header; the window.
    tcp: ([u8; 5], [u8; 2]),
    pub(super) shape: Shape,
    /// The length of the payload, in bytes.
    pub(super) payload: usize,
    /// Of TCP.
    pub(super) sequence: u32,
    /// Of IPv4, where it matters: if the packet may be fragmented on its way (RFC 6864).
    pub(super) id: Option<u16>,
    /// The receiver is to have it at once.
    pub(super) push: bool,
    /// It can be in a group.
    pub(super) joins: bool,
}

/// Which headers a packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) ipv6: bool,
    pub(super) udp: bool,
    /// The length of all headers, in bytes.
    pub(super) headers: usize,
}

impl Packet {
    /// Reads the headers.
    #[inline]
    pub(super) fn sort(packet: &[u8]) -> Sorted {
        let sorted = match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::ipv4(packet),
            Some(6) => Self::ipv6(packet),
            _ => None,
        };
        sorted.unwrap_or(Sorted::Unknown)
    }

    #[inline]
    fn ipv4(packet: &[u8]) -> Option<Sorted> {
        let header = packet.first_chunk::<IPV4_HEADER>()?;
        let total = u16::from_be_bytes(take(header, 2));
        let fragment = u16::from_be_bytes(take(header, 6));
        let whole = usize::from(total) == packet.len() && fragment & !DONT_FRAGMENT == 0;
        if header[0] != 0x45 || !whole {
            return None;
        }
        let protocol @ (TCP | UDP) = header[9] else {
            return Some(Sorted::Stranger);
        };
        let common = [header[1], header[6], header[7], header[8], 0, 0, 0, 0];
        let id = (fragment == 0).then(|| u16::from_be_bytes(take(header, 4)));
        let shape = Shape {
            ipv6: false,
            udp: protocol == UDP,
            headers: IPV4_HEADER,
        };
        Self::transport(packet, shape, u64::from_ne_bytes(common), id).map(Sorted::Flow)
    }

    #[inline]
    fn ipv6(packet: &[u8]) -> Option<Sorted> {
        let header = packet.first_chunk::<IPV6_HEADER>()?;
        let payload = u16::from_be_bytes(take(header, 4));
        if usize::from(payload) + IPV6_HEADER != packet.len() {
            return None;
        }
        let protocol = match header[6] {
            protocol @ (TCP | UDP) => protocol,
            ICMPV6 | ESP => return Some(Sorted::Stranger),
            _ => return None,
        };
        let common = [
            header[0], header[1], header[2], header[3], header[7], 0, 0, 0,
        ];
        let shape = Shape {
            ipv6: true,
            udp: protocol == UDP,
            headers: IPV6_HEADER,
        };
        Self::transport(packet, shape, u64::from_ne_bytes(common), None).map(Sorted::Flow)
    }

    #[inline]
    fn transport(packet: &[u8], shape: Shape, ip: u64, id: Option<u16>) -> Option<Self> {
        let header = packet.get(shape.headers..)?;
        let mut sorted = Self {
            tag: tag(shape.flow(packet)),
            ip,
            tcp: Default::default(),
            shape,
            payload: 0,
            sequence: 0,
            id,
            push: false,
            joins: false,
        };
        if shape.udp {
            sorted.udp(header)?;
        } else {
            sorted.tcp(header)?;
        }
        Some(sorted)
    }

    #[inline]
    fn tcp(&mut self, segment: &[u8]) -> Option<()> {
        let header = segment.first_chunk::<{ tcp::HEADER }>()?;
        let length = usize::from(header[12] >> 4) * 4;
        if length < tcp::HEADER || length > segment.len() {
            return None;
        }
        self.tcp = (take(header, 8), take(header, 14));
        self.shape.headers += length;
        self.sequence = u32::from_be_bytes(take(header, 4));
        self.payload = segment.len() - length;
        self.push = header[tcp::FLAGS] & tcp::PSH != 0;
        let flags = header[tcp::FLAGS] & !tcp::PSH;
        self.joins = self.payload != 0 && flags == tcp::ACK && header[12].trailing_zeros() >= 4;
        Some(())
    }

    #[inline]
    fn udp(&mut self, datagram: &[u8]) -> Option<()> {
        let header = datagram.first_chunk::<{ udp::HEADER }>()?;
        self.shape.headers += udp::HEADER;
        self.payload = datagram.len() - udp::HEADER;
        let says = u16::from_be_bytes(take(header, 4));
        let checked = header[udp::CHECKSUM..] != [0, 0];
        self.joins = self.payload != 0 && checked && usize::from(says) == datagram.len();
        Some(())
    }

    /// Whether two packets are probably of one flow; that they are, their [flows](Shape::flow) say.
    #[inline]
    pub(super) fn is_akin(&self, other: &Self) -> bool {
        let kind = |shape: Shape| (shape.ipv6, shape.udp);
        self.tag == other.tag && kind(self.shape) == kind(other.shape)
    }

    /// Whether the headers of two packets of a flow differ only in what is counted on from packet
    /// to packet. [Options](Shape::options) are for the caller to compare.
    #[inline]
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.ip == other.ip && self.tcp == other.tcp
    }
}

/// Mixes addresses and ports.
#[inline]
pub(super) fn tag(flow: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, _) = flow.as_chunks();
    words.iter().fold(0, |tag: u64, word| {
        (tag.rotate_left(29) ^ u64::from(u32::from_ne_bytes(*word))).wrapping_mul(ODD)
    })
}

impl Shape {
    /// Where the transport header begins.
    #[inline]
    pub(super) fn offset(self) -> usize {
        if self.ipv6 { IPV6_HEADER } else { IPV4_HEADER }
    }

    /// The addresses and ports, which lie side by side.
    #[inline]
    pub(super) fn flow(self, packet: &[u8]) -> &[u8] {
        let range = if self.ipv6 { 8..44 } else { 12..24 };
        packet.get(range).unwrap_or_default()
    }

    /// The options of TCP; of UDP nothing.
    #[inline]
    pub(super) fn options(self, packet: &[u8]) -> &[u8] {
        let fixed = if self.udp { udp::HEADER } else { tcp::HEADER };
        packet
            .get(self.offset() + fixed..self.headers)
            .unwrap_or_default()
    }

    /// Where the transport's checksum is.
    #[inline]
    pub(super) fn checksum(self) -> usize {
        if self.udp {
            udp::CHECKSUM
        } else {
            tcp::CHECKSUM
        }
    }

    /// The sum of the pseudo-header of a packet that is `total` bytes long.
    #[inline]
    pub(super) fn pseudo_header(self, packet: &[u8], total: usize) -> Sum {
        let protocol = if self.udp { UDP } else { TCP };
        pseudo_header(packet, self.ipv6, protocol).word(length(total - self.offset()))
    }

    /// Whether the checksums of a packet are right, that of IPv4 and that of the transport.
    #[inline]
    pub(super) fn verify(self, packet: &[u8]) -> bool {
        let Some((ip, transport)) = packet.split_at_checked(self.offset()) else {
            return false;
        };
        (self.ipv6 || Sum::default().bytes(ip).is_right())
            && self
                .pseudo_header(packet, packet.len())
                .bytes(transport)
                .is_right()
    }
}
