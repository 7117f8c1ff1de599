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

/// A whole TCP segment or UDP datagram. Of the length it says; its checksums are not verified.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    flow: Flow,
    same: Same,
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

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    /// Nearly always different for different flows, and quickly compared.
    tag: u64,
    addresses: [u64; 4],
    ports: u32,
    ipv6: bool,
    udp: bool,
}

/// What the packets of a group have in common besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Same {
    /// Type of service, "don't fragment", time to live; or traffic class, flow label, hop limit.
    ip: [u8; 5],
    /// The length of the TCP header.
    tcp: u8,
    acknowledged: [u8; 4],
    options: [u8; OPTIONS],
}

const OPTIONS: usize = 40;

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
        if header[0] != 0x45 || usize::from(total) != packet.len() || fragment & !DONT_FRAGMENT != 0
        {
            return None;
        }
        let addresses = [u64::from_ne_bytes(take(header, 12)), 0, 0, 0];
        let ip = [header[1], header[6], header[7], header[8], 0];
        let id = (fragment == 0).then(|| u16::from_be_bytes(take(header, 4)));
        match header[9] {
            protocol @ (TCP | UDP) => {
                let packet = Self::transport(packet, protocol, addresses, ip)?;
                Some(Sorted::Flow(Self { id, ..packet }))
            }
            _ => Some(Sorted::Stranger),
        }
    }

    #[inline]
    fn ipv6(packet: &[u8]) -> Option<Sorted> {
        let header = packet.first_chunk::<IPV6_HEADER>()?;
        let payload = u16::from_be_bytes(take(header, 4));
        if usize::from(payload) + IPV6_HEADER != packet.len() {
            return None;
        }
        let (addresses, _) = header[8..].as_chunks();
        let mut words = [0; 4];
        words
            .iter_mut()
            .zip(addresses)
            .for_each(|(word, bytes)| *word = u64::from_ne_bytes(*bytes));
        let ip = [header[0], header[1], header[2], header[3], header[7]];
        match header[6] {
            protocol @ (TCP | UDP) => {
                Self::transport(packet, protocol, words, ip).map(Sorted::Flow)
            }
            ICMPV6 | ESP => Some(Sorted::Stranger),
            _ => None,
        }
    }

    #[inline]
    fn transport(packet: &[u8], protocol: u8, addresses: [u64; 4], ip: [u8; 5]) -> Option<Self> {
        let (ipv6, udp) = (packet[0] >> 4 == 6, protocol == UDP);
        let offset = if ipv6 { IPV6_HEADER } else { IPV4_HEADER };
        let header = packet.get(offset..)?;
        let ports = u32::from_ne_bytes(*header.first_chunk()?);
        let shape = Shape {
            ipv6,
            udp,
            headers: offset,
        };
        let flow = Flow::new(addresses, ports, ipv6, udp);
        let packet = Self::bare(flow, ip, shape);
        if udp {
            packet.udp(header)
        } else {
            packet.tcp(header)
        }
    }

    #[inline]
    fn bare(flow: Flow, ip: [u8; 5], shape: Shape) -> Self {
        let same = Same {
            ip,
            tcp: 0,
            acknowledged: [0; 4],
            options: [0; OPTIONS],
        };
        Self {
            flow,
            same,
            shape,
            payload: 0,
            sequence: 0,
            id: None,
            push: false,
            joins: false,
        }
    }

    #[inline]
    fn tcp(mut self, segment: &[u8]) -> Option<Self> {
        let header = segment.first_chunk::<{ tcp::HEADER }>()?;
        let length = usize::from(header[12] >> 4) * 4;
        let options = segment.get(tcp::HEADER..length)?;
        self.same.tcp = header[12];
        self.same.acknowledged = take(header, 8);
        self.same
            .options
            .get_mut(..options.len())?
            .copy_from_slice(options);
        self.shape.headers += length;
        self.sequence = u32::from_be_bytes(take(header, 4));
        self.payload = segment.len() - length;
        self.push = header[tcp::FLAGS] & tcp::PSH != 0;
        let flags = header[tcp::FLAGS] & !tcp::PSH;
        self.joins = self.payload != 0 && flags == tcp::ACK && header[12].trailing_zeros() >= 4;
        Some(self)
    }

    #[inline]
    fn udp(mut self, datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<{ udp::HEADER }>()?;
        self.shape.headers += udp::HEADER;
        self.payload = datagram.len() - udp::HEADER;
        let says = u16::from_be_bytes(take(header, 4));
        let checked = header[udp::CHECKSUM..] != [0, 0];
        self.joins = self.payload != 0 && checked && usize::from(says) == datagram.len();
        Some(self)
    }

    /// Whether both are of one flow.
    #[inline]
    pub(super) fn is_akin(&self, other: &Self) -> bool {
        self.flow == other.flow
    }

    /// Whether the headers of both differ only in what is counted on from packet to packet.
    #[inline]
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        self.same == other.same
    }
}

impl Flow {
    #[inline]
    fn new(addresses: [u64; 4], ports: u32, ipv6: bool, udp: bool) -> Self {
        let [a, b, c, d] = addresses;
        let mixed = a ^ b.rotate_left(16) ^ c.rotate_left(32) ^ d.rotate_left(48);
        let tag = mixed.wrapping_add(u64::from(ports).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            tag,
            addresses,
            ports,
            ipv6,
            udp,
        }
    }
}

impl Shape {
    /// Where the transport header begins.
    #[inline]
    pub(super) fn offset(self) -> usize {
        if self.ipv6 { IPV6_HEADER } else { IPV4_HEADER }
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
