use std::collections::HashMap;

use super::model::{ACK, PSH, Spec, filler};
use crate::offload::{Coalescer, VnetHeader, flow::tag};

/// The groups of a batch: what is written to the device, with the indices of the packets.
pub(super) fn groups(udp: bool, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>, Vec<usize>)> {
    let mut packets = packets.to_vec();
    let mut coalescer = Coalescer::new(udp);
    let groups = coalescer.group(&mut packets);
    let write = |group: crate::offload::Group<'_>| {
        let members: Vec<_> = group.members.clone().collect();
        assert_eq!(members.len(), group.count);
        let bytes = members
            .iter()
            .flat_map(|(index, range)| &packets[*index][range.clone()]);
        let indices = members.iter().map(|(index, _)| *index).collect();
        (
            VnetHeader::from_bytes(*group.header),
            bytes.copied().collect(),
            indices,
        )
    };
    groups.map(write).collect()
}

/// Which packets are together.
fn together(packets: &[Vec<u8>]) -> Vec<Vec<usize>> {
    groups(true, packets)
        .into_iter()
        .map(|(_, _, indices)| indices)
        .collect()
}

/// Two packets that can be merged, of each kind.
fn pairs() -> Vec<[Spec; 2]> {
    let kinds = [(false, false), (true, false), (false, true), (true, true)];
    kinds.map(|(ipv6, udp)| pair(ipv6, udp)).to_vec()
}

fn pair(ipv6: bool, udp: bool) -> [Spec; 2] {
    let mut spec = Spec::new(ipv6, udp, filler(2000, 1));
    if !udp {
        spec.options = vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 5];
    }
    spec.parts(1000).try_into().unwrap()
}

fn merge(specs: &[Spec]) -> bool {
    let packets: Vec<_> = specs.iter().map(Spec::build).collect();
    let groups = groups(true, &packets);
    if groups.len() == 1 {
        return true;
    }
    // What is not merged is not touched.
    for (index, (header, bytes, indices)) in groups.into_iter().enumerate() {
        assert_eq!(
            (header, bytes, indices),
            (VnetHeader::default(), packets[index].clone(), vec![index])
        );
    }
    false
}

/// With this change to the second packet, or to the first, there is nothing to be merged.
fn never(pairs: Vec<[Spec; 2]>, change: fn(&mut Spec)) {
    for [first, second] in pairs {
        assert!(merge(&[first.clone(), second.clone()]));
        let mut changed = second.clone();
        change(&mut changed);
        assert!(!merge(&[first.clone(), changed]), "the second");
        let mut changed = first;
        change(&mut changed);
        assert!(!merge(&[changed, second]), "the first");
    }
}

fn only(pick: fn(&Spec) -> bool) -> Vec<[Spec; 2]> {
    pairs().into_iter().filter(|pair| pick(&pair[0])).collect()
}

#[test]
fn a_group_is_the_super_packet_of_the_model() {
    for [first, second] in pairs() {
        let mut whole = Spec {
            payload: [&first.payload[..], &second.payload].concat(),
            ..first.clone()
        };
        for flags in [ACK, ACK | PSH] {
            let second = Spec {
                flags,
                ..second.clone()
            };
            let groups = groups(true, &[first.build(), second.build()]);
            whole.flags = flags;
            assert_eq!(
                groups,
                [(whole.header(1000), whole.build_partial(), vec![0, 1])]
            );
        }
    }
}

#[test]
fn addresses_and_ports_make_the_flow() {
    never(pairs(), |spec| spec.source[15] ^= 1);
    never(pairs(), |spec| spec.destination[12] ^= 1);
    never(only(|spec| spec.ipv6), |spec| spec.source[0] ^= 1);
    never(only(|spec| spec.ipv6), |spec| spec.source[8] ^= 1);
    never(only(|spec| spec.ipv6), |spec| spec.destination[0] ^= 1);
    never(pairs(), |spec| spec.ports.0 ^= 1);
    never(pairs(), |spec| spec.ports.1 ^= 1);
}

#[test]
fn the_other_fields_of_ip_have_to_be_the_same() {
    never(pairs(), |spec| spec.tos ^= 1);
    never(pairs(), |spec| spec.tos ^= 0x80);
    never(pairs(), |spec| spec.ttl ^= 1);
    never(only(|spec| !spec.ipv6), |spec| spec.fragment ^= 0x4000);
    never(only(|spec| spec.ipv6), |spec| spec.label ^= 1);
    never(only(|spec| spec.ipv6), |spec| spec.label ^= 1 << 19);
}

#[test]
fn what_is_not_plain_is_not_merged() {
    never(only(|spec| !spec.ipv6), |spec| spec.fragment |= 0x2000);
    never(only(|spec| !spec.ipv6), |spec| spec.fragment |= 0x8000);
    never(only(|spec| !spec.ipv6), |spec| spec.fragment |= 1);
    never(only(|spec| !spec.ipv6), |spec| spec.between = vec![1; 4]);
    never(only(|spec| spec.ipv6), |spec| {
        spec.between = vec![if spec.udp { 17 } else { 6 }, 0, 0, 0, 0, 0, 0, 0];
        spec.next = Some(60);
    });
    for spec in [
        |spec: &mut Spec| spec.fragment |= 0x2000,
        |spec: &mut Spec| spec.fragment |= 0x8000,
    ] {
        let mut both = pair(false, true);
        both.iter_mut().for_each(spec);
        assert!(!merge(&both));
    }
}

#[test]
fn the_identification_counts_on_where_it_matters() {
    for udp in [false, true] {
        let mut both = pair(false, udp);
        both[1].id = 77;
        assert!(merge(&both));
        both.iter_mut().for_each(|spec| spec.fragment = 0);
        assert!(!merge(&both));
        both[1].id = both[0].id.wrapping_add(1);
        assert!(merge(&both));
    }
}

#[test]
fn tcp_has_to_be_contiguous_and_of_the_same_header() {
    let tcp = || only(|spec| !spec.udp);
    never(tcp(), |spec| spec.sequence = spec.sequence.wrapping_add(1));
    never(tcp(), |spec| spec.sequence = spec.sequence.wrapping_sub(1));
    never(tcp(), |spec| spec.acknowledged ^= 1);
    never(tcp(), |spec| spec.options[7] ^= 1);
    never(tcp(), |spec| spec.options[11] ^= 1);
    never(tcp(), |spec| spec.options.extend([1; 4]));
    never(tcp(), |spec| spec.options.extend([0; 4]));
    never(tcp(), |spec| spec.reserved = 1);
    for mut both in tcp() {
        both.iter_mut().for_each(|spec| spec.reserved = 1);
        assert!(!merge(&both));
    }
}

#[test]
fn flags_other_than_ack_and_push_stay_alone() {
    let tcp = || only(|spec| !spec.udp);
    never(tcp(), |spec| spec.flags ^= 16);
    never(tcp(), |spec| spec.flags |= 1);
    never(tcp(), |spec| spec.flags |= 2);
    never(tcp(), |spec| spec.flags |= 4);
    never(tcp(), |spec| spec.flags |= 32);
    never(tcp(), |spec| spec.flags |= 64);
    never(tcp(), |spec| spec.flags |= 128);
    for flags in [0, 17, 18, 20, 48, 80, 144] {
        for mut both in tcp() {
            both.iter_mut().for_each(|spec| spec.flags = flags);
            assert!(!merge(&both), "{flags}");
        }
    }
}

#[test]
fn a_window_that_changes_is_not_lost() {
    never(only(|spec| !spec.udp), |spec| spec.window = 7);
}

#[test]
fn a_push_ends_a_group() {
    let mut parts = Spec::new(true, false, filler(4000, 2)).parts(1000);
    parts[1].flags |= PSH;
    let packets: Vec<_> = parts.iter().map(Spec::build).collect();
    assert_eq!(together(&packets), [vec![0, 1], vec![2, 3]]);
    parts[0].flags |= PSH;
    let packets: Vec<_> = parts.iter().map(Spec::build).collect();
    assert_eq!(together(&packets), [vec![0], vec![1], vec![2, 3]]);
}

#[test]
fn a_shorter_packet_ends_a_group_and_a_longer_begins_one() {
    for udp in [false, true] {
        let mut parts = Vec::new();
        let mut spec = Spec::new(false, udp, Vec::new());
        for length in [500, 500, 499, 500, 501, 501, 1, 1] {
            spec.payload = filler(length, length as u64);
            parts.push(spec.build());
            spec.sequence = spec.sequence.wrapping_add(length as u32);
        }
        assert_eq!(
            together(&parts),
            [vec![0, 1, 2], vec![3], vec![4, 5, 6], vec![7]]
        );
    }
}

#[test]
fn packets_without_payload_stay_alone() {
    never(pairs(), |spec| spec.payload.clear());
    for mut both in pairs() {
        both.iter_mut().for_each(|spec| spec.payload.clear());
        both[1].sequence = both[0].sequence;
        assert!(!merge(&both));
    }
}

#[test]
fn a_super_packet_is_not_longer_than_ip_allows() {
    for (ipv6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut spec = Spec::new(ipv6, udp, Vec::new());
        let room = 65_535 - spec.headers();
        for (extra, groups) in [(0, 1), (1, 2)] {
            spec.payload = filler(room / 5 * 5 + extra, 3);
            spec.payload.resize(room + extra, 1);
            let packets = spec.segments(room / 5 + 1);
            assert_eq!(packets.len(), 5);
            assert_eq!(together(&packets).len(), groups, "{ipv6} {udp} {extra}");
        }
    }
}

#[test]
fn udp_groups_have_at_most_64_datagrams() {
    let packets = Spec::new(false, true, filler(1000, 4)).segments(10);
    assert_eq!(
        together(&packets),
        [(0..64).collect::<Vec<_>>(), (64..100).collect()]
    );
    let packets = Spec::new(false, false, filler(1000, 4)).segments(10);
    assert_eq!(together(&packets), [(0..100).collect::<Vec<_>>()]);
}

#[test]
fn udp_only_where_the_device_takes_it() {
    let both = pair(false, true).map(|spec| spec.build());
    assert_eq!(groups(false, &both).len(), 2);
    let both = pair(false, false).map(|spec| spec.build());
    assert_eq!(groups(false, &both).len(), 1);
}

#[test]
fn a_packet_with_a_wrong_checksum_stays_alone_as_it_is() {
    for [first, second] in pairs() {
        let third = Spec {
            sequence: second.sequence.wrapping_add(1000),
            ..second.clone()
        };
        let third = Spec {
            id: second.id.wrapping_add(1),
            ..third
        };
        let good = [first, second, third].map(|spec| spec.build());
        assert_eq!(together(&good), [[0, 1, 2]]);
        let expected = [
            vec![vec![0], vec![1, 2]],
            vec![vec![0], vec![1], vec![2]],
            vec![vec![0, 1], vec![2]],
        ];
        for (wrong, expected) in expected.into_iter().enumerate() {
            let mut places = vec![good[0].len() - 1, 70];
            if good[0][0] >> 4 == 4 {
                places.extend([10, 11, 36]);
            }
            for place in places {
                let mut packets = good.clone();
                packets[wrong][place] ^= 0x10;
                assert_eq!(together(&packets), expected, "{wrong} {place}");
                let groups = groups(true, &packets);
                let alone = groups.into_iter().find(|group| group.2 == [wrong]).unwrap();
                assert_eq!(
                    alone,
                    (VnetHeader::default(), packets[wrong].clone(), vec![wrong])
                );
            }
        }
    }
}

#[test]
fn udp_without_a_checksum_stays_alone() {
    for ipv6 in [false, true] {
        let mut both = pair(ipv6, true).map(|spec| spec.build());
        let at = if ipv6 { 46 } else { 26 };
        both[1][at..at + 2].fill(0);
        assert_eq!(together(&both), [[0], [1]]);
        both[0][at..at + 2].fill(0);
        assert_eq!(together(&both), [[0], [1]]);
    }
}

#[test]
fn lengths_have_to_agree() {
    for both in pairs() {
        let udp = both[0].udp;
        for index in 0..2 {
            let mut packets = both.clone().map(|spec| spec.build());
            packets[index].push(0);
            assert_eq!(together(&packets), [[0], [1]]);
        }
        if udp {
            // A checksum that covers a length which is not that of the packet.
            let mut packets = both.clone().map(|spec| spec.build());
            let at = both[0].offset();
            let length = u16::from_be_bytes([packets[1][at + 4], packets[1][at + 5]]) - 1;
            packets[1][at + 4..at + 6].copy_from_slice(&length.to_be_bytes());
            let sum = u16::from_be_bytes([packets[1][at + 6], packets[1][at + 7]]);
            packets[1][at + 6..at + 8].copy_from_slice(&(sum + 1).to_be_bytes());
            assert_eq!(together(&packets), [[0], [1]]);
        }
    }
}

/// Adds to a field of 16 bits, and takes the same from a checksum.
fn shift(packet: &mut [u8], field: usize, checksum: usize, difference: u16) {
    let number = |packet: &[u8], at| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (old, sum) = (number(packet, field), number(packet, checksum));
    packet[field..field + 2].copy_from_slice(&(old + difference).to_be_bytes());
    packet[checksum..checksum + 2].copy_from_slice(&(sum - difference).to_be_bytes());
}

#[test]
fn a_right_checksum_does_not_make_wrong_headers_right() {
    for both in only(|spec| !spec.ipv6) {
        let packets = both.map(|spec| spec.build());
        for (field, difference) in [(0, 0x100), (2, 1)] {
            let mut packets = packets.clone();
            packets
                .iter_mut()
                .for_each(|packet| shift(packet, field, 10, difference));
            assert_eq!(together(&packets), [[0], [1]], "{field}");
        }
    }
    for both in only(|spec| spec.ipv6) {
        let mut packets = both.map(|spec| spec.build());
        packets.iter_mut().for_each(|packet| packet[5] -= 1);
        assert_eq!(together(&packets), [[0], [1]]);
    }
}

#[test]
fn zero_is_no_checksum_of_udp_even_if_it_is_right() {
    let mut both = pair(false, true);
    for spec in &mut both {
        spec.payload[..2].fill(0);
        let packet = spec.build();
        spec.payload[..2].copy_from_slice(&packet[26..28]);
    }
    let mut packets = both.map(|spec| spec.build());
    assert_eq!(together(&packets), [[0, 1]]);
    for packet in &mut packets {
        assert_eq!(packet[26..28], [0xff, 0xff]);
        packet[26..28].fill(0);
    }
    assert_eq!(together(&packets), [[0], [1]]);
}

/// Two sources and two pairs of ports whose flows have the same tag.
fn twins(spec: &Spec) -> [Spec; 2] {
    let ports = u32::from_ne_bytes(spec.build()[20..24].try_into().unwrap());
    let mut seen = HashMap::new();
    for number in 0u32.. {
        let addresses = [&number.to_be_bytes()[..], &spec.destination[12..]].concat();
        // The ports come last, and can make up for what differs in the lower half.
        let state = tag(&addresses).rotate_left(29);
        if let Some((other, before)) = seen.insert(state >> 32, (number, state)) {
            let ports = ports ^ (state ^ before) as u32;
            let [a, b, c, d] = ports.to_ne_bytes();
            let [mut one, mut twin] = [spec.clone(), spec.clone()];
            one.source[12..].copy_from_slice(&other.to_be_bytes());
            twin.source[12..].copy_from_slice(&number.to_be_bytes());
            twin.ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            return [one, twin];
        }
    }
    unreachable!()
}

#[test]
fn flows_with_the_same_tag_are_told_apart() {
    let [first, second] = pair(false, false);
    let [one, other] = twins(&first);
    let flow = |spec: &Spec| spec.build()[12..24].to_vec();
    assert_eq!(tag(&flow(&one)), tag(&flow(&other)));
    assert_ne!(flow(&one), flow(&other));
    let follow = |spec: &Spec| Spec {
        source: spec.source,
        ports: spec.ports,
        ..second.clone()
    };
    assert!(merge(&[one.clone(), follow(&one)]));
    assert!(!merge(&[one, follow(&other)]));
}

#[test]
fn tcp_and_udp_of_the_same_ports_are_two_flows() {
    for ipv6 in [false, true] {
        let ([a, b], [c, d]) = (pair(ipv6, false), pair(ipv6, true));
        assert_eq!(
            together(&[a, c, b, d].map(|spec| spec.build())),
            [[0, 2], [1, 3]]
        );
    }
}

#[test]
fn what_may_be_of_any_flow_ends_all_groups() {
    for [first, second] in pairs() {
        let mut fragment = Spec {
            fragment: 0x2000,
            ..Spec::new(false, true, filler(99, 5))
        };
        assert_eq!(
            together(&[&first, &fragment, &second].map(Spec::build)),
            [[0], [1], [2]]
        );
        fragment = Spec {
            next: Some(44),
            between: vec![17, 0, 0, 1, 0, 0, 0, 0],
            ..Spec::new(true, true, vec![1])
        };
        assert_eq!(
            together(&[&first, &fragment, &second].map(Spec::build)),
            [[0], [1], [2]]
        );
        let between = [first.build(), Vec::new(), second.build()];
        assert_eq!(together(&between), [[0], [1], [2]]);
        for icmp in [
            Spec {
                next: Some(1),
                ..Spec::new(false, true, vec![1])
            },
            Spec {
                next: Some(58),
                ..Spec::new(true, true, vec![1])
            },
        ] {
            assert_eq!(
                together(&[&first, &icmp, &second].map(Spec::build)),
                [vec![0, 2], vec![1]]
            );
        }
    }
}

#[test]
fn a_packet_that_cannot_be_merged_is_not_overtaken() {
    for [first, second] in pairs().into_iter().filter(|pair| !pair[0].udp) {
        let pure = Spec {
            payload: Vec::new(),
            sequence: second.sequence,
            ..first.clone()
        };
        assert_eq!(
            together(&[&first, &pure, &second].map(Spec::build)),
            [[0], [1], [2]]
        );
        let last = Spec {
            sequence: second.sequence.wrapping_add(1000),
            ..second.clone()
        };
        assert_eq!(
            together(&[&first, &last, &second, &last].map(Spec::build)),
            [vec![0], vec![1], vec![2, 3]]
        );
    }
}

#[test]
fn many_flows_are_each_put_together() {
    let flow = |port: u16| {
        let mut spec = Spec::new(port & 1 == 0, port & 2 == 0, filler(3000, u64::from(port)));
        spec.ports.0 = port;
        spec.segments(1000)
    };
    let flows: Vec<_> = (0..16).map(flow).collect();
    let packets: Vec<_> = (0..3)
        .flat_map(|index| flows.iter().map(move |flow| flow[index].clone()))
        .collect();
    let expected: Vec<_> = (0..16)
        .map(|flow| vec![flow, flow + 16, flow + 32])
        .collect();
    assert_eq!(together(&packets), expected);
}

#[test]
fn more_flows_than_are_kept_in_mind_lose_nothing() {
    let flow = |port: u16| {
        let mut spec = Spec::new(false, false, filler(3000, u64::from(port)));
        spec.ports.0 = port;
        spec.segments(1000)
    };
    let flows: Vec<_> = (0..40).map(flow).collect();
    let packets: Vec<_> = (0..3)
        .flat_map(|index| flows.iter().map(move |flow| flow[index].clone()))
        .collect();
    let mut seen: Vec<_> = together(&packets).concat();
    seen.sort_unstable();
    assert_eq!(seen, (0..120).collect::<Vec<_>>());
}

#[test]
fn a_coalescer_forgets_the_batch_before() {
    let [mut first, mut second] = pair(false, false).map(|spec| spec.build());
    let mut coalescer = Coalescer::new(true);
    assert_eq!(coalescer.group(&mut [&mut first[..]]).count(), 1);
    let groups: Vec<_> = coalescer.group(&mut [&mut second[..]]).collect();
    assert_eq!(groups.len(), 1);
    assert_eq!(
        groups[0].members.clone().collect::<Vec<_>>(),
        [(0, 0..second.len())]
    );
}
