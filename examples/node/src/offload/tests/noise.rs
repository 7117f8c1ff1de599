use proptest::prelude::*;

use super::model::specs;
use crate::offload::{Coalescer, Cut, VnetHeader};

fn header() -> impl Strategy<Value = VnetHeader> {
    let kinds = prop_oneof![
        any::<u8>(),
        Just(0u8),
        Just(1),
        Just(4),
        Just(5),
        Just(0x81)
    ];
    let number = || prop_oneof![any::<u16>(), 0u16..100, Just(20u16), Just(40)];
    let numbers = (number(), number(), number(), number());
    (any::<u8>(), kinds, numbers).prop_map(|(flags, gso_type, numbers)| {
        let (hdr_len, gso_size, csum_start, csum_offset) = numbers;
        VnetHeader {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        }
    })
}

fn run(header: &VnetHeader, packet: &mut [u8]) {
    let length = packet.len();
    let Ok(cut) = Cut::new(header, packet) else {
        return;
    };
    assert!(cut.count() >= 1);
    let total: usize = (0..cut.count()).map(|index| cut.len_of(index)).sum();
    assert!(total >= length);
    for index in (0..cut.count().min(5)).chain([cut.count() - 1, cut.count(), usize::MAX]) {
        let mut out = vec![0; cut.len_of(index)];
        cut.write(index, &mut out);
        if let Some(longer) = cut.len_of(index).checked_add(1) {
            cut.write(index, &mut vec![0; longer]);
        }
    }
}

fn group(mut packets: Vec<Vec<u8>>) {
    let lengths: Vec<_> = packets.iter().map(Vec::len).collect();
    let mut coalescer = Coalescer::new(true);
    let mut seen = vec![false; lengths.len()];
    for group in coalescer.group(&mut packets) {
        for (index, range) in group.members {
            assert!(!core::mem::replace(&mut seen[index], true));
            assert!(range.start < range.end || lengths[index] == 0);
            assert_eq!(range.end, lengths[index]);
        }
    }
    assert!(seen.into_iter().all(|seen| seen));
}

proptest! {
    #[test]
    fn any_bytes_behind_any_header(
        header in header(),
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        version in 0u8..3,
    ) {
        if let Some(byte) = bytes.first_mut() {
            *byte = [*byte, 0x45, 0x60][usize::from(version)];
        }
        run(&header, &mut bytes);
    }

    #[test]
    fn damaged_packets_behind_any_header(
        spec in specs(300),
        other in header(),
        trusted in any::<bool>(),
        damage in prop::collection::vec((0usize..80, any::<u8>()), 0..6),
        length in prop_oneof![Just(usize::MAX), 0usize..400],
    ) {
        let mut packet = spec.build_partial();
        for (place, byte) in damage {
            packet.get_mut(place).into_iter().for_each(|at| *at = byte);
        }
        packet.truncate(length);
        let header = if trusted { spec.header(usize::from(other.gso_size)) } else { other };
        run(&header, &mut packet);
    }

    #[test]
    fn any_batch_comes_out_complete(
        specs in prop::collection::vec((specs(300), 1usize..200), 0..8),
        damage in prop::collection::vec((any::<usize>(), 0usize..80, any::<u8>()), 0..20),
        short in prop::collection::vec((any::<usize>(), 0usize..80), 0..6),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..4),
    ) {
        let mut packets: Vec<_> = specs.iter().flat_map(|(spec, size)| spec.segments(*size)).collect();
        packets.extend(noise);
        let count = packets.len().max(1);
        for (packet, place, byte) in damage {
            packets.get_mut(packet % count).and_then(|packet| packet.get_mut(place)).into_iter().for_each(|at| *at = byte);
        }
        for (packet, length) in short {
            packets.get_mut(packet % count).into_iter().for_each(|packet| packet.truncate(length));
        }
        group(packets);
    }

    #[test]
    fn a_header_is_ten_bytes_and_back(header in header(), packet in prop::collection::vec(any::<u8>(), 0..30)) {
        let mut buffer = [header.to_bytes().to_vec(), packet.clone()].concat();
        prop_assert_eq!(VnetHeader::parse(&buffer), Some((header, &packet[..])));
        prop_assert_eq!(VnetHeader::parse_mut(&mut buffer).map(|(header, _)| header), Some(header));
        prop_assert_eq!(VnetHeader::parse(&buffer[..9]), None);
    }
}

#[test]
fn the_header_has_the_kernels_layout() {
    let header = VnetHeader {
        flags: 1,
        gso_type: 2,
        hdr_len: 3,
        gso_size: 4,
        csum_start: 5,
        csum_offset: 6,
    };
    let numbers = [3u16, 4, 5, 6].map(u16::to_ne_bytes).concat();
    assert_eq!(header.to_bytes().to_vec(), [vec![1, 2], numbers].concat());
}
