use proptest::prelude::*;

use super::model::{ACK, CWR, FIN, PSH, Spec, filler, specs, sum};
use crate::offload::{Cut, Malformed, VnetHeader};

pub(super) fn cut(header: &VnetHeader, mut packet: Vec<u8>) -> Result<Vec<Vec<u8>>, Malformed> {
    let cut = Cut::new(header, &mut packet)?;
    let one = |index| {
        let mut out = vec![0xaa; cut.len_of(index)];
        cut.write(index, &mut out);
        out
    };
    Ok((0..cut.count()).map(one).collect())
}

fn check(spec: &Spec, size: usize) {
    let mut packet = spec.build_partial();
    let header = spec.header(size);
    let cut = Cut::new(&header, &mut packet).unwrap();
    let expected = spec.segments(size);
    assert_eq!(cut.count(), expected.len());
    for (index, expected) in expected.iter().enumerate().rev() {
        assert_eq!(cut.len_of(index), expected.len());
        assert!(index + 1 == cut.count() || cut.segment_len() == expected.len());
        let mut out = vec![0xaa; expected.len()];
        cut.write(index, &mut out);
        assert_eq!(&out, expected, "segment {index}");
    }
}

proptest! {
    #[test]
    fn segments_are_those_of_the_model(spec in specs(9000), size in 1usize..2000) {
        check(&spec, size.max(spec.payload.len() / 200));
    }

    #[test]
    fn a_packet_that_stays_whole_gets_its_checksum(spec in specs(3000)) {
        let header = VnetHeader { gso_type: 0, gso_size: 0, hdr_len: 0, ..spec.header(0) };
        let mut expected = spec.build();
        let at = spec.offset() + usize::from(header.csum_offset);
        if expected[at..at + 2] == [0, 0] {
            expected[at..at + 2].fill(0xff);
        }
        prop_assert_eq!(cut(&header, spec.build_partial()).unwrap(), vec![expected]);
    }
}

#[test]
fn the_longest_packets_are_cut() {
    for (ipv6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut spec = Spec::new(ipv6, udp, Vec::new());
        let ip = if ipv6 { 40 } else { 0 };
        spec.payload = filler(65_535 + ip - spec.headers(), 1);
        spec.flags = ACK | CWR | PSH | FIN;
        check(&spec, 1380);
        check(&spec, 65_535);
        let header = spec.header(1380);
        let mut packet = spec.build_partial();
        packet.push(0);
        assert_eq!(cut(&header, packet), Err(Malformed::Length));
    }
}

#[test]
fn a_segment_that_is_just_full_is_the_last() {
    let spec = Spec::new(false, false, filler(3000, 2));
    check(&spec, 1000);
    check(&spec, 3000);
    check(&spec, 3001);
    check(&spec, 999);
}

#[test]
fn a_finished_packet_is_not_touched() {
    let packet = Spec::new(true, true, filler(77, 3)).build();
    assert_eq!(
        cut(&VnetHeader::default(), packet.clone()),
        Ok(vec![packet])
    );
}

#[test]
fn the_kernels_sum_counts_behind_a_source_route() {
    let mut spec = Spec::new(false, false, filler(3000, 4));
    spec.between = vec![0x83, 7, 4, 10, 1, 2, 3, 0];
    spec.finally = Some([10; 16]);
    check(&spec, 1000);
    let mut spec = Spec::new(true, false, filler(3000, 5));
    spec.between = [vec![6, 2, 2, 1, 0, 0, 0, 0], vec![0xfe; 16]].concat();
    (spec.next, spec.finally) = (Some(43), Some([0xfe; 16]));
    check(&spec, 1000);
}

#[test]
fn without_the_flag_the_packet_alone_counts() {
    for ipv6 in [false, true] {
        let spec = Spec::new(ipv6, false, filler(3000, 6));
        let header = VnetHeader {
            flags: 0,
            csum_start: 0,
            csum_offset: 0,
            ..spec.header(900)
        };
        assert_eq!(cut(&header, spec.build()).unwrap(), spec.segments(900));
    }
}

#[test]
fn the_hint_and_the_length_in_the_packet_do_not_count() {
    let spec = Spec::new(false, false, filler(3000, 7));
    let mut packet = spec.build_partial();
    packet[2..4].fill(0);
    let header = VnetHeader {
        hdr_len: 9999,
        ..spec.header(900)
    };
    assert_eq!(cut(&header, packet).unwrap(), spec.segments(900));
}

#[test]
fn ecn_is_a_flag_of_the_type() {
    let mut spec = Spec::new(false, false, filler(3000, 8));
    spec.flags |= CWR;
    let header = VnetHeader {
        gso_type: 0x81,
        ..spec.header(900)
    };
    assert_eq!(
        cut(&header, spec.build_partial()).unwrap(),
        spec.segments(900)
    );
}

#[test]
fn a_checksum_of_udp_is_never_zero() {
    let mut spec = Spec::new(false, true, vec![0; 8]);
    let packet = spec.build();
    // What is missing to a sum of 0xffff.
    let checksum = [packet[26], packet[27]];
    spec.payload[..2].copy_from_slice(&checksum);
    let header = spec.header(4);
    let whole = VnetHeader {
        gso_type: 0,
        ..header
    };
    assert_eq!(
        cut(&whole, spec.build_partial()).unwrap()[0][26..28],
        [0xff, 0xff]
    );
    let header = spec.header(8);
    assert_eq!(
        cut(&header, spec.build_partial()).unwrap()[0][26..28],
        [0xff, 0xff]
    );
}

/// What becomes of a packet with a change to the header or to itself.
fn refused(header: impl Fn(&mut VnetHeader), change: impl Fn(&mut Vec<u8>)) -> Malformed {
    let spec = Spec::new(false, false, filler(3000, 9));
    let (mut packet, mut good) = (spec.build_partial(), spec.header(900));
    header(&mut good);
    change(&mut packet);
    cut(&good, packet).unwrap_err()
}

#[test]
fn a_header_that_contradicts_the_packet_is_malformed() {
    let refused = |header: fn(&mut VnetHeader)| refused(header, |_| ());
    assert_eq!(
        refused(|header| header.gso_size = 0),
        Malformed::SegmentSize
    );
    for kind in [2, 3, 4, 5, 6, 0x80 | 3, 0x7f] {
        let other = super::cut::refused(|header| header.gso_type = kind, |_| ());
        assert_eq!(other, Malformed::Kind);
    }
    assert_eq!(
        refused(|header| header.csum_start = 24),
        Malformed::Checksum
    );
    assert_eq!(
        refused(|header| header.csum_offset = 6),
        Malformed::Checksum
    );
}

#[test]
fn a_packet_that_contradicts_itself_is_malformed() {
    let refused = |change: fn(&mut Vec<u8>)| refused(|_| (), change);
    assert_eq!(refused(|packet| packet[6] |= 0x20), Malformed::Kind);
    assert_eq!(refused(|packet| packet[7] |= 1), Malformed::Kind);
    assert_eq!(refused(|packet| packet[0] = 0x44), Malformed::Header);
    assert_eq!(refused(|packet| packet[0] = 0x55), Malformed::Header);
    assert_eq!(refused(|packet| packet[32] = 0x40), Malformed::Header);
    assert_eq!(refused(|packet| packet.truncate(39)), Malformed::Header);
    assert_eq!(refused(Vec::clear), Malformed::Header);
}

#[test]
fn a_fragment_of_ipv6_is_malformed() {
    for (place, whole) in [([0, 0], true), ([0, 1], false), ([0, 8], false)] {
        let mut spec = Spec::new(true, false, filler(3000, 9));
        spec.next = Some(44);
        spec.between = [&[6, 0][..], &place, &[1, 2, 3, 4]].concat();
        assert_eq!(cut(&spec.header(900), spec.build_partial()).is_ok(), whole);
    }
}

#[test]
fn a_checksum_outside_the_packet_is_malformed() {
    let whole = |header: &mut VnetHeader| header.gso_type = 0;
    let far = |header: &mut VnetHeader| (header.gso_type, header.csum_start) = (0, 65_535);
    assert_eq!(refused(whole, Vec::clear), Malformed::Length);
    assert_eq!(
        refused(whole, |packet| packet.truncate(37)),
        Malformed::Checksum
    );
    assert_eq!(refused(far, |_| ()), Malformed::Checksum);
}

#[test]
fn a_buffer_of_another_length_is_left_alone() {
    let mut packet = Spec::new(false, false, filler(3000, 10)).build_partial();
    let header = Spec::new(false, false, Vec::new()).header(900);
    let cut = Cut::new(&header, &mut packet).unwrap();
    for (index, length) in [
        (0, 939),
        (0, 941),
        (0, 0),
        (3, 940),
        (4, 940),
        (usize::MAX, 340),
    ] {
        let mut out = vec![7; length];
        cut.write(index, &mut out);
        assert!(out.iter().all(|byte| *byte == 7));
    }
    assert_eq!((cut.count(), cut.len_of(3), cut.len_of(4)), (4, 340, 0));
}

#[test]
fn the_model_knows_a_checksum_from_a_book() {
    // RFC 1071, section 3.
    assert_eq!(
        sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
        0xddf2
    );
}
