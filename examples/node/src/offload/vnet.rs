//! The header in front of every packet of a TUN device with `IFF_VNET_HDR`.
//!
//! `struct virtio_net_hdr` of ten bytes, in the machine's byte order, as Linux has it unless it is
//! asked for another one. It says how long the segments of a super-packet are and which checksum is
//! still to be completed. It is not the longer form with `num_buffers`, nor the one with tunnels in
//! it. Virtual I/O Device (VIRTIO) 1.2, section 5.1.6.

/// The ten bytes in front of a packet, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`](Self::NEEDS_CSUM), [`DATA_VALID`](Self::DATA_VALID).
    pub flags: u8,
    /// What the packet is made of: one of the `GSO_` constants, perhaps with
    /// [`GSO_ECN`](Self::GSO_ECN).
    pub gso_type: u8,
    /// How many bytes of headers each segment has. A hint, not to be trusted.
    pub hdr_len: u16,
    /// How many bytes of payload each segment has, the last one perhaps fewer.
    pub gso_size: u16,
    /// Where the transport header begins, from which on the checksum is taken.
    pub csum_start: u16,
    /// Where the checksum is, from `csum_start` on.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// The length of the header, in bytes.
    pub const LEN: usize = 10;

    /// The checksum field holds the sum of the pseudo-header only.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum was found to be right.
    pub const DATA_VALID: u8 = 2;

    /// One packet, as it is.
    pub const GSO_NONE: u8 = 0;
    /// TCP segments over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// One UDP datagram to be cut into IP fragments. Never asked for here.
    pub const GSO_UDP: u8 = 3;
    /// TCP segments over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP datagrams of equal length, over IPv4 or IPv6.
    pub const GSO_UDP_L4: u8 = 5;
    /// A flag on top of the TCP types: the first segment carries CWR.
    pub const GSO_ECN: u8 = 0x80;

    /// Splits what the device gave into the header and the packet. `None` if it is too short for
    /// the header.
    #[must_use]
    pub fn parse(buffer: &[u8]) -> Option<(Self, &[u8])> {
        let (header, packet) = buffer.split_first_chunk()?;
        Some((Self::from_bytes(*header), packet))
    }

    /// The same as [`parse`](Self::parse), with the packet for writing.
    #[must_use]
    pub fn parse_mut(buffer: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (header, packet) = buffer.split_first_chunk_mut()?;
        Some((Self::from_bytes(*header), packet))
    }

    /// Reads the header.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: number(2),
            gso_size: number(4),
            csum_start: number(6),
            csum_offset: number(8),
        }
    }

    /// The header as the device takes it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [self.flags, self.gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
        let (fields, _) = bytes[2..].as_chunks_mut();
        let numbers = [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        ];
        for (field, number) in fields.iter_mut().zip(numbers) {
            *field = number.to_ne_bytes();
        }
        bytes
    }

    /// Whether the checksum is still to be completed.
    #[must_use]
    pub fn needs_checksum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }
}
