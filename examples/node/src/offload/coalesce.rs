//! Packets of a flow become one super-packet for the TUN device.
//!
//! What the kernel does itself for a network card: `tcp_gro_receive` and `udp_gro_receive`. Only
//! what can be cut again into the same packets is put together, and nothing is moved: a group names
//! ranges of the packets, for one `writev`. Packets of a flow never overtake each other; whole
//! flows do, within a batch.
//!
//! Checksums are verified before packets are merged, since a group gets one that the kernel
//! believes. A packet that stays alone is not touched: the kernel checks it.

use core::{iter, ops::Range, slice};

use super::{
    checksum::Sum,
    flow::{Packet, Shape, Sorted},
    ip::{IPV4_HEADER, IPV6_HEADER, length, put},
    tcp,
    vnet::VnetHeader,
};

/// So many flows are kept in mind; when one more comes, another is let go.
const FLOWS: usize = 16;

/// The most datagrams in a group of UDP: Linux before 6.8 takes no more.
const UDP_SEGMENTS: usize = 64;

/// The longest super-packet, in bytes.
const LONGEST: usize = 65_535;

/// Finds the groups in a batch of packets.
///
/// Its memory is kept from batch to batch, so that there is no allocation once it has seen the
/// longest. A packet costs a look at its headers and, where it can be merged, one reading for the
/// checksum.
#[derive(Debug)]
pub struct Coalescer {
    udp: bool,
    /// One for each packet.
    members: Vec<Member>,
    /// In order of their first packets.
    trains: Vec<Train>,
    open: Vec<Open>,
    /// The flow to be let go next.
    victim: usize,
}

/// What is written of a packet.
#[derive(Debug)]
struct Member {
    start: usize,
    end: usize,
    /// The next packet of the group.
    next: Option<usize>,
}

/// A group of packets while it is put together.
#[derive(Debug)]
struct Train {
    header: [u8; VnetHeader::LEN],
    first: usize,
    last: usize,
    count: usize,
    /// The length of the super-packet.
    total: usize,
    push: bool,
}

/// A flow whose last group can become longer still.
#[derive(Debug)]
struct Open {
    /// The first of the group.
    packet: Packet,
    first: usize,
    train: usize,
    /// What the next packet has to have.
    sequence: u32,
    id: Option<u16>,
    /// The first packet's checksums are known to be right.
    verified: bool,
}

impl Coalescer {
    /// For a device that takes super-packets of TCP over both families, and with `udp` those of
    /// UDP as well (`TUN_F_USO4` and `TUN_F_USO6`).
    #[must_use]
    pub fn new(udp: bool) -> Self {
        const BATCH: usize = 128;
        Self {
            udp,
            members: Vec::with_capacity(BATCH),
            trains: Vec::with_capacity(BATCH),
            open: Vec::with_capacity(FLOWS),
            victim: 0,
        }
    }

    /// Groups IP packets, which stand in order of arrival.
    ///
    /// The headers of the first packet of a group of several become those of the super-packet; all
    /// other packets stay as they are.
    pub fn group<P: AsMut<[u8]>>(&mut self, packets: &mut [P]) -> Groups<'_> {
        self.members.clear();
        self.trains.clear();
        self.open.clear();
        for index in 0..packets.len() {
            let packet = packets[index].as_mut();
            let end = packet.len();
            self.members.push(Member {
                start: 0,
                end,
                next: None,
            });
            match Packet::sort(packet) {
                Sorted::Flow(packet) if self.udp || !packet.shape.udp => {
                    self.place(packet, index, packets);
                }
                Sorted::Flow(_) | Sorted::Stranger => self.begin(index, end),
                Sorted::Unknown => {
                    self.open.clear();
                    self.begin(index, end);
                }
            }
        }
        let several = self.trains.iter_mut().filter(|train| train.count > 1);
        several.for_each(|train| train.seal(packets[train.first].as_mut()));
        Groups {
            members: &self.members,
            trains: self.trains.iter(),
        }
    }

    /// Puts a packet at the end of its flow's group, or begins another one.
    fn place<P: AsMut<[u8]>>(&mut self, packet: Packet, index: usize, packets: &mut [P]) {
        let (before, rest) = packets.split_at_mut(index);
        let bytes = rest[0].as_mut();
        let slot = self
            .open
            .iter()
            .position(|open| open.is_of(&packet, bytes, before));
        if let Some(slot) = slot {
            let first = before[self.open[slot].first].as_mut();
            if self.joins(slot, &packet, bytes, first) {
                return self.join(slot, &packet, index);
            }
            self.open.swap_remove(slot);
        }
        self.begin(index, packet.shape.headers + packet.payload);
        if packet.joins && !packet.push {
            self.open(packet, index);
        }
    }

    /// Whether a packet can be put at the end of a group. Its checksum is what is looked at last.
    fn joins(&mut self, slot: usize, packet: &Packet, bytes: &[u8], first: &[u8]) -> bool {
        let open = &mut self.open[slot];
        let fits = self.trains[open.train].total + packet.payload <= LONGEST;
        let shape = packet.shape;
        if !fits || !open.expects(packet) || shape.options(first) != shape.options(bytes) {
            return false;
        }
        open.verified = open.verified || shape.verify(first);
        open.verified && shape.verify(bytes)
    }

    fn join(&mut self, slot: usize, packet: &Packet, index: usize) {
        let open = &mut self.open[slot];
        let train = &mut self.trains[open.train];
        self.members[train.last].next = Some(index);
        self.members[index].start = packet.shape.headers;
        train.last = index;
        train.count += 1;
        train.total += packet.payload;
        train.push = packet.push;
        open.advance(packet.payload);
        let full = packet.shape.udp && train.count == UDP_SEGMENTS;
        if full || packet.push || packet.payload < open.packet.payload {
            self.open.swap_remove(slot);
        }
    }

    /// Begins a group with a packet.
    fn begin(&mut self, index: usize, total: usize) {
        let header = [0; VnetHeader::LEN];
        let (first, last) = (index, index);
        self.trains.push(Train {
            header,
            first,
            last,
            count: 1,
            total,
            push: false,
        });
    }

    /// Lets the group that was just begun become longer.
    fn open(&mut self, packet: Packet, first: usize) {
        let open = Open::new(packet, first, self.trains.len() - 1);
        if self.open.len() < FLOWS {
            self.open.push(open);
        } else {
            self.victim = (self.victim + 1) % FLOWS;
            self.open[self.victim] = open;
        }
    }
}

impl Open {
    fn new(packet: Packet, first: usize, train: usize) -> Self {
        let (sequence, id, payload) = (packet.sequence, packet.id, packet.payload);
        let mut open = Self {
            packet,
            first,
            train,
            sequence,
            id,
            verified: false,
        };
        open.advance(payload);
        open
    }

    /// Whether a packet is of this flow, whose first packet is in the batch.
    #[inline]
    fn is_of<P: AsMut<[u8]>>(&self, packet: &Packet, bytes: &[u8], batch: &mut [P]) -> bool {
        let shape = packet.shape;
        self.packet.is_akin(packet) && shape.flow(bytes) == shape.flow(batch[self.first].as_mut())
    }

    /// Expects the packet behind one with so much payload.
    fn advance(&mut self, payload: usize) {
        self.sequence = self.sequence.wrapping_add(u32::from(length(payload)));
        self.id = self.id.map(|id| id.wrapping_add(1));
    }

    /// Whether a packet continues the group, as far as its headers tell.
    fn expects(&self, packet: &Packet) -> bool {
        packet.joins
            && packet.payload <= self.packet.payload
            && (packet.shape.udp || packet.sequence == self.sequence)
            && packet.id == self.id
            && packet.is_alike(&self.packet)
    }
}

impl Train {
    /// Makes the headers of the first packet those of the super-packet.
    fn seal(&mut self, packet: &mut [u8]) {
        let Sorted::Flow(Packet { shape, payload, .. }) = Packet::sort(packet) else {
            return;
        };
        if shape.ipv6 {
            put(packet, 4, length(self.total - IPV6_HEADER).to_be_bytes());
        } else {
            put(packet, 2, length(self.total).to_be_bytes());
            put(packet, 10, [0; 2]);
            let sum = Sum::default().bytes(&packet[..IPV4_HEADER]);
            put(packet, 10, sum.complement());
        }
        let offset = shape.offset();
        if shape.udp {
            put(
                packet,
                offset + 4,
                length(self.total - offset).to_be_bytes(),
            );
        } else if self.push {
            packet[offset + tcp::FLAGS] |= tcp::PSH;
        }
        let sum = shape.pseudo_header(packet, self.total);
        put(packet, offset + shape.checksum(), sum.partial());
        self.header = super_header(shape, payload).to_bytes();
    }
}

/// The groups of a batch, in order of their first packets.
#[derive(Clone, Debug)]
pub struct Groups<'c> {
    members: &'c [Member],
    trains: slice::Iter<'c, Train>,
}

impl<'c> Iterator for Groups<'c> {
    type Item = Group<'c>;

    fn next(&mut self) -> Option<Group<'c>> {
        let Train {
            header,
            first,
            count,
            ..
        } = self.trains.next()?;
        Some(Group {
            header,
            members: Members {
                list: self.members,
                next: Some(*first),
            },
            count: *count,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.trains.size_hint()
    }
}

impl ExactSizeIterator for Groups<'_> {}

impl iter::FusedIterator for Groups<'_> {}

/// What is written to the device in one call: the header and then all members.
#[derive(Clone, Debug)]
pub struct Group<'c> {
    /// A [`VnetHeader`]; all zeros for a packet that stays alone.
    pub header: &'c [u8; VnetHeader::LEN],
    /// The whole of the first packet, the payloads of the others.
    pub members: Members<'c>,
    /// How many packets there are.
    pub count: usize,
}

/// The packets of a group: each one's index in the batch and what is written of it.
#[derive(Clone, Debug)]
pub struct Members<'c> {
    list: &'c [Member],
    next: Option<usize>,
}

impl Iterator for Members<'_> {
    type Item = (usize, Range<usize>);

    fn next(&mut self) -> Option<(usize, Range<usize>)> {
        let index = self.next?;
        let Member { start, end, next } = self.list.get(index)?;
        self.next = *next;
        Some((index, *start..*end))
    }
}

impl iter::FusedIterator for Members<'_> {}

/// What the device is told of a super-packet.
fn super_header(shape: Shape, payload: usize) -> VnetHeader {
    VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: match (shape.udp, shape.ipv6) {
            (false, false) => VnetHeader::GSO_TCPV4,
            (false, true) => VnetHeader::GSO_TCPV6,
            (true, _) => VnetHeader::GSO_UDP_L4,
        },
        hdr_len: length(shape.headers),
        gso_size: length(payload),
        csum_start: length(shape.offset()),
        csum_offset: length(shape.checksum()),
    }
}
