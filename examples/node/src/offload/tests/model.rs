//! Packets written out field by field, with checksums summed word by word: slow and plain, and
//! nothing of it shared with what is tested.

use proptest::prelude::*;

use crate::offload::VnetHeader;

pub(super) const FIN: u8 = 1;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;
pub(super) const CWR: u8 = 128;

/// A packet, before it is bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) ipv6: bool,
    pub(super) udp: bool,
    pub(super) tos: u8,
    pub(super) ttl: u8,
    /// The flags of the IPv4 header with the fragment offset.
    pub(super) fragment: u16,
    pub(super) id: u16,
    pub(super) label: u32,
    /// IPv4 options, or IPv6 extension headers (each beginning with its own next-header byte).
    pub(super) between: Vec<u8>,
    /// The protocol in the IP header, if not that of the transport.
    pub(super) next: Option<u8>,
    pub(super) source: [u8; 16],
    pub(super) destination: [u8; 16],
    /// What the checksum is about, if not the destination in the header.
    pub(super) finally: Option<[u8; 16]>,
    pub(super) ports: (u16, u16),
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) reserved: u8,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) urgent: u16,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Spec {
    pub(super) fn new(ipv6: bool, udp: bool, payload: Vec<u8>) -> Self {
        Self {
            ipv6,
            udp,
            tos: 0x28,
            ttl: 61,
            fragment: 0x4000,
            id: 0x1ffe,
            label: 0x54321,
            between: Vec::new(),
            next: None,
            source: *b"\xfdsourceaddress00",
            destination: *b"\xfddestination0000",
            finally: None,
            ports: (4433, 51234),
            sequence: 0xffff_fa00,
            acknowledged: 0x1234_5678,
            reserved: 0,
            flags: ACK,
            window: 501,
            urgent: 0,
            options: Vec::new(),
            payload,
        }
    }

    fn protocol(&self) -> u8 {
        if self.udp { 17 } else { 6 }
    }

    pub(super) fn offset(&self) -> usize {
        self.between.len() + if self.ipv6 { 40 } else { 20 }
    }

    pub(super) fn headers(&self) -> usize {
        self.offset() + if self.udp { 8 } else { 20 + self.options.len() }
    }

    fn address(&self, address: [u8; 16]) -> Vec<u8> {
        if self.ipv6 {
            address.to_vec()
        } else {
            address[12..].to_vec()
        }
    }

    fn pseudo(&self, length: usize) -> Vec<u8> {
        let mut bytes = self.address(self.source);
        bytes.extend(self.address(self.finally.unwrap_or(self.destination)));
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend([0, 0, 0, self.protocol()]);
        bytes
    }

    /// The transport header with zeros for a checksum, and the payload.
    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        if self.udp {
            bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
        } else {
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend(self.acknowledged.to_be_bytes());
            let words = 5 + self.options.len() as u8 / 4;
            bytes.extend([words << 4 | self.reserved, self.flags]);
            bytes.extend(self.window.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(self.urgent.to_be_bytes());
            bytes.extend(&self.options);
        }
        bytes.extend(&self.payload);
        bytes
    }

    fn ip(&self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let next = self.next.unwrap_or(self.protocol());
        if self.ipv6 {
            bytes.extend((6 << 28 | u32::from(self.tos) << 20 | self.label).to_be_bytes());
            bytes.extend(((length + self.between.len()) as u16).to_be_bytes());
            bytes.extend([next, self.ttl]);
        } else {
            bytes.extend([0x45 + self.between.len() as u8 / 4, self.tos]);
            bytes.extend(((self.offset() + length) as u16).to_be_bytes());
            bytes.extend(self.id.to_be_bytes());
            bytes.extend(self.fragment.to_be_bytes());
            bytes.extend([self.ttl, next, 0, 0]);
        }
        bytes.extend(self.address(self.source));
        bytes.extend(self.address(self.destination));
        bytes.extend(&self.between);
        if !self.ipv6 {
            let checksum = !sum(&bytes);
            bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    fn with_checksum(&self, checksum: impl FnOnce(&[u8], usize) -> u16) -> Vec<u8> {
        let mut transport = self.transport();
        let checksum = checksum(&transport, transport.len()).to_be_bytes();
        let at = if self.udp { 6 } else { 16 };
        transport[at..at + 2].copy_from_slice(&checksum);
        let mut packet = self.ip(transport.len());
        packet.extend(transport);
        packet
    }

    /// The packet as it is on the wire.
    pub(super) fn build(&self) -> Vec<u8> {
        self.with_checksum(|transport, length| {
            let covered = [self.pseudo(length), transport.to_vec()].concat();
            match !sum(&covered) {
                0 if self.udp => 0xffff,
                checksum => checksum,
            }
        })
    }

    /// The packet as it is between kernel and device: with the sum of the pseudo-header only.
    pub(super) fn build_partial(&self) -> Vec<u8> {
        self.with_checksum(|_, length| sum(&self.pseudo(length)))
    }

    /// What the device says of it.
    pub(super) fn header(&self, size: usize) -> VnetHeader {
        VnetHeader {
            flags: 1,
            gso_type: match (self.udp, self.ipv6) {
                (true, _) => 5,
                (false, true) => 4,
                (false, false) => 1,
            },
            hdr_len: self.headers() as u16,
            gso_size: size as u16,
            csum_start: self.offset() as u16,
            csum_offset: if self.udp { 6 } else { 16 },
        }
    }

    /// The segments that it is to be cut into.
    pub(super) fn segments(&self, size: usize) -> Vec<Vec<u8>> {
        self.parts(size).iter().map(Self::build).collect()
    }

    pub(super) fn parts(&self, size: usize) -> Vec<Self> {
        let mut parts: Vec<_> = self.payload.chunks(size).map(<[u8]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let count = parts.len();
        let one = |(index, payload): (usize, Vec<u8>)| {
            let mut part = Self {
                payload,
                ..self.clone()
            };
            part.sequence = self.sequence.wrapping_add((index * size) as u32);
            part.id = self.id.wrapping_add(index as u16);
            if index > 0 {
                part.flags &= !CWR;
            }
            if index + 1 < count {
                part.flags &= !(FIN | PSH);
            }
            part
        };
        parts.into_iter().enumerate().map(one).collect()
    }
}

/// The one's complement sum, as in RFC 1071, section 1.
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(pair[0]) << 8 | u32::from(low);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Bytes that differ from place to place, and from seed to seed.
pub(super) fn filler(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

/// Every form of a header that the kernel may hand out, with up to `longest` bytes of payload.
pub(super) fn specs(longest: usize) -> impl Strategy<Value = Spec> {
    let ip = (
        any::<bool>(),
        any::<u8>(),
        any::<u8>(),
        any::<bool>(),
        any::<u16>(),
        0..1u32 << 20,
    );
    let between = prop_oneof![3 => Just(0usize), 1 => 1usize..6];
    let addresses = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<(u16, u16)>());
    let tcp = (
        any::<bool>(),
        any::<u32>(),
        any::<u32>(),
        0u8..2,
        any::<u8>(),
        any::<(u16, u16)>(),
    );
    let rest = (
        prop::collection::vec(any::<[u8; 4]>(), 0..=10),
        0..=longest,
        any::<u64>(),
    );
    (ip, between, addresses, tcp, rest).prop_map(|(ip, between, addresses, tcp, rest)| {
        let (ipv6, tos, ttl, fragmentable, id, label) = ip;
        let (source, destination, ports) = addresses;
        let (udp, sequence, acknowledged, reserved, flags, (window, urgent)) = tcp;
        let (options, length, seed) = rest;
        let mut spec = Spec::new(ipv6, udp, filler(length, seed));
        spec = Spec {
            tos,
            ttl,
            id,
            label,
            source,
            destination,
            ports,
            sequence,
            ..spec
        };
        spec = Spec {
            acknowledged,
            reserved,
            flags,
            window,
            urgent,
            ..spec
        };
        spec.fragment = if fragmentable { 0 } else { 0x4000 };
        spec.options = if udp { Vec::new() } else { options.concat() };
        spec.insert(between, seed);
        spec
    })
}

impl Spec {
    /// Puts so many words of options or so many extension headers in front of the transport.
    fn insert(&mut self, count: usize, seed: u64) {
        if !self.ipv6 {
            self.between = vec![1; count * 4];
            return;
        }
        // Hop-by-hop options only come first; then destination options, of several lengths.
        for index in 0..count {
            let next = if index + 1 == count {
                self.protocol()
            } else {
                60
            };
            let longer = (seed >> index & 1) as u8;
            self.between.extend([next, longer]);
            self.between.extend(vec![0; 6 + 8 * usize::from(longer)]);
        }
        if count > 0 {
            self.next = Some(if seed & 256 == 0 { 0 } else { 60 });
        }
    }
}
