//! One super-packet from the TUN device becomes packets that fit the tunnel.
//!
//! What the kernel does itself for a device without segmentation offload: `tcp_gso_segment` and
//! `__udp_gso_segment`. Headers are repeated with what changes from segment to segment; checksums
//! are made whole. The part of the sums that all segments share is taken once. A packet's bytes are
//! read once, while they are copied.
//!
//! Lengths in the packet and in the virtio header's hint are not believed: the length of the buffer
//! counts. Fragmenting (`GSO_UDP`) is not done here.

use core::{error::Error, fmt};

use super::{
    checksum::Sum,
    ip::{self, Upper, length, put, take},
    tcp, udp,
    vnet::VnetHeader,
};

/// Flags of TCP that belong to the last segment only.
const LAST_ONLY: u16 = 0x09;
/// CWR, which belongs to the first segment only.
const FIRST_ONLY: u16 = 0x80;

/// A super-packet about to be cut, or a packet that stays whole.
#[derive(Clone, Debug)]
pub struct Cut<'p> {
    /// All headers, with zeros where segments differ. A packet that stays whole is all header.
    header: &'p [u8],
    payload: &'p [u8],
    /// Payload of each segment but the last.
    size: usize,
    count: usize,
    /// The transport header begins here.
    offset: usize,
    ipv4: Option<Ipv4>,
    transport: Transport,
    /// Of the pseudo-header and the transport header, without what differs.
    sum: Sum,
}

/// What of an IPv4 header differs between segments.
#[derive(Clone, Copy, Debug)]
struct Ipv4 {
    id: u16,
    /// Of the header, without what differs.
    sum: Sum,
}

/// What of a transport header differs between segments.
#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp {
        sequence: u32,
        flags: u16,
    },
    Udp,
    /// Nothing: the packet stays whole.
    Whole,
}

impl<'p> Cut<'p> {
    /// Looks at a packet from the device. Its headers are overwritten.
    ///
    /// # Errors
    ///
    /// For what no kernel hands out; see [`Malformed`]. The packet is to be dropped.
    pub fn new(header: &VnetHeader, packet: &'p mut [u8]) -> Result<Self, Malformed> {
        let (udp, family) = match header.gso_type & !VnetHeader::GSO_ECN {
            VnetHeader::GSO_NONE => return Self::whole(header, packet),
            VnetHeader::GSO_TCPV4 => (false, Some(false)),
            VnetHeader::GSO_TCPV6 => (false, Some(true)),
            VnetHeader::GSO_UDP_L4 => (true, None),
            _ => return Err(Malformed::Kind),
        };
        let upper = Upper::of(packet).ok_or(Malformed::Header)?;
        let protocol = if udp { ip::UDP } else { ip::TCP };
        if upper.protocol != protocol
            || upper.fragment
            || family.is_some_and(|ipv6| ipv6 != upper.ipv6)
        {
            return Err(Malformed::Kind);
        }
        check_length(packet, upper.ipv6)?;
        check_place(header, &upper)?;
        Self::segments(header, &upper, packet)
    }

    /// A packet that is not to be cut, whose checksum may be missing.
    fn whole(header: &VnetHeader, packet: &'p mut [u8]) -> Result<Self, Malformed> {
        if packet.is_empty() {
            return Err(Malformed::Length);
        }
        check_length(packet, true)?;
        if header.needs_checksum() {
            let covered = packet
                .get_mut(usize::from(header.csum_start)..)
                .ok_or(Malformed::Checksum)?;
            let sum = Sum::default().bytes(covered).nonzero();
            let field = covered
                .get_mut(usize::from(header.csum_offset)..)
                .and_then(<[u8]>::first_chunk_mut);
            *field.ok_or(Malformed::Checksum)? = sum;
        }
        let (count, sum) = (1, Sum::default());
        Ok(Self {
            header: packet,
            payload: &[],
            size: 1,
            count,
            offset: 0,
            ipv4: None,
            transport: Transport::Whole,
            sum,
        })
    }

    fn segments(
        header: &VnetHeader,
        upper: &Upper,
        packet: &'p mut [u8],
    ) -> Result<Self, Malformed> {
        let size = usize::from(header.gso_size);
        if size == 0 {
            return Err(Malformed::SegmentSize);
        }
        let length = transport_header(packet, upper).ok_or(Malformed::Header)?;
        let pseudo = pseudo_header(header, upper, packet);
        let ipv4 = (!upper.ipv6).then(|| Ipv4::blank(packet, upper.offset));
        let transport = Transport::blank(packet, upper);
        let (head, payload) = packet
            .split_at_mut_checked(upper.offset + length)
            .ok_or(Malformed::Header)?;
        let sum = pseudo.bytes(head.get(upper.offset..).unwrap_or_default());
        let count = payload.len().div_ceil(size).max(1);
        Ok(Self {
            header: head,
            payload,
            size,
            count,
            offset: upper.offset,
            ipv4,
            transport,
            sum,
        })
    }

    /// How many segments there are: at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The length of every segment but the last, of a whole IP packet in bytes.
    #[must_use]
    pub fn segment_len(&self) -> usize {
        self.header.len() + self.size.min(self.payload.len())
    }

    /// The length of segment `index`, of a whole IP packet in bytes; 0 if there is no such segment.
    #[must_use]
    pub fn len_of(&self, index: usize) -> usize {
        if index >= self.count {
            return 0;
        }
        self.header.len()
            + self
                .size
                .min(self.payload.len() - (index * self.size).min(self.payload.len()))
    }

    /// Writes segment `index` to `out`, which has to have the [length of that
    /// segment](Self::len_of): otherwise nothing is written.
    pub fn write(&self, index: usize, out: &mut [u8]) {
        if index >= self.count || out.len() != self.len_of(index) {
            return;
        }
        let (head, body) = out.split_at_mut(self.header.len());
        head.copy_from_slice(self.header);
        let payload = self.payload.get(index * self.size..).unwrap_or_default();
        let sum = self.sum.copied(payload, body);
        let total = self.header.len() + body.len();
        match (self.transport, &self.ipv4) {
            (Transport::Whole, _) => return,
            (_, Some(ipv4)) => ipv4.fill(head, index, total),
            (_, None) => put(head, 4, length(total - ip::IPV6_HEADER).to_be_bytes()),
        }
        self.fill_transport(head, index, length(total - self.offset), sum);
    }

    fn fill_transport(&self, head: &mut [u8], index: usize, length: u16, sum: Sum) {
        let sum = sum.word(length);
        match self.transport {
            Transport::Tcp { sequence, flags } => {
                let sequence =
                    sequence.wrapping_add(u32::try_from(index * self.size).unwrap_or_default());
                let first = if index == 0 { 0 } else { FIRST_ONLY };
                let last = if index + 1 == self.count {
                    0
                } else {
                    LAST_ONLY
                };
                let flags = flags & !first & !last;
                put(head, self.offset + 4, sequence.to_be_bytes());
                put(head, self.offset + 12, flags.to_be_bytes());
                put(
                    head,
                    self.offset + tcp::CHECKSUM,
                    sum.double(sequence).word(flags).complement(),
                );
            }
            Transport::Udp => {
                put(head, self.offset + 4, length.to_be_bytes());
                put(
                    head,
                    self.offset + udp::CHECKSUM,
                    sum.word(length).nonzero(),
                );
            }
            Transport::Whole => {}
        }
    }
}

impl Ipv4 {
    /// Blanks what differs.
    fn blank(packet: &mut [u8], header: usize) -> Self {
        let id = u16::from_be_bytes(take(packet, 4));
        put(packet, 2, [0; 4]);
        put(packet, 10, [0; 2]);
        Self {
            id,
            sum: Sum::default().bytes(packet.get(..header).unwrap_or_default()),
        }
    }

    #[inline]
    fn fill(&self, head: &mut [u8], index: usize, total: usize) {
        let total = length(total);
        let id = self.id.wrapping_add(length(index));
        put(head, 2, total.to_be_bytes());
        put(head, 4, id.to_be_bytes());
        put(head, 10, self.sum.word(total).word(id).complement());
    }
}

impl Transport {
    /// Blanks what differs.
    fn blank(packet: &mut [u8], upper: &Upper) -> Self {
        let at = upper.offset;
        if upper.protocol == ip::UDP {
            put(packet, at + 4, [0; 4]);
            return Self::Udp;
        }
        let sequence = u32::from_be_bytes(take(packet, at + 4));
        let flags = u16::from_be_bytes(take(packet, at + 12));
        put(packet, at + 4, [0; 4]);
        put(packet, at + 12, [0; 2]);
        put(packet, at + tcp::CHECKSUM, [0; 2]);
        Self::Tcp { sequence, flags }
    }
}

/// Why a packet from the device cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It is empty, or longer than IP can say.
    Length,
    /// The headers are cut off or contradict themselves.
    Header,
    /// It is not what its type says, or a type that was not asked for.
    Kind,
    /// Segments of no bytes.
    SegmentSize,
    /// The checksum is said to be where it cannot be.
    Checksum,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a packet of impossible length",
            Self::Header => "a packet with broken headers",
            Self::Kind => "a packet of another kind than announced",
            Self::SegmentSize => "a packet to be cut into segments of no bytes",
            Self::Checksum => "a packet whose checksum is not where it is said to be",
        })
    }
}

impl Error for Malformed {}

/// A field of 16 bits holds the length of an IPv4 packet and of an IPv6 payload.
fn check_length(packet: &[u8], ipv6: bool) -> Result<(), Malformed> {
    let counted = if ipv6 {
        packet.len().saturating_sub(ip::IPV6_HEADER)
    } else {
        packet.len()
    };
    u16::try_from(counted)
        .map(drop)
        .map_err(|_| Malformed::Length)
}

/// What is said about the checksum has to agree with the headers.
fn check_place(header: &VnetHeader, upper: &Upper) -> Result<(), Malformed> {
    let field = if upper.protocol == ip::UDP {
        udp::CHECKSUM
    } else {
        tcp::CHECKSUM
    };
    let agrees =
        usize::from(header.csum_start) == upper.offset && usize::from(header.csum_offset) == field;
    (agrees || !header.needs_checksum())
        .then_some(())
        .ok_or(Malformed::Checksum)
}

/// The length of the transport header.
fn transport_header(packet: &[u8], upper: &Upper) -> Option<usize> {
    let header = packet.get(upper.offset..)?;
    let length = match upper.protocol {
        ip::UDP => udp::HEADER,
        _ => usize::from(*header.get(12)? >> 4) * 4,
    };
    let least = if upper.protocol == ip::UDP {
        udp::HEADER
    } else {
        tcp::HEADER
    };
    (least..=header.len()).contains(&length).then_some(length)
}

/// The sum of the pseudo-header without the length.
///
/// Behind a source route the destination in the header is not the last one, which the checksum is
/// about. The kernel knows it: its sum is in the checksum's place.
fn pseudo_header(header: &VnetHeader, upper: &Upper, packet: &[u8]) -> Sum {
    if upper.is_plain() || !header.needs_checksum() {
        return ip::pseudo_header(packet, upper.ipv6, upper.protocol);
    }
    let place = upper.offset + usize::from(header.csum_offset);
    Sum::default()
        .word(u16::from_be_bytes(take(packet, place)))
        .word(!length(packet.len() - upper.offset))
}
