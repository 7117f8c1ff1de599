use std::{hint::black_box, println, time::Instant};

use super::model::{Spec, filler};
use crate::offload::{Coalescer, Cut, checksum::Sum};

const ROUNDS: u32 = 2000;

/// The best of several runs, in nanoseconds for one of `count` packets.
fn best(count: usize, mut run: impl FnMut()) -> f64 {
    let mut time = || {
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| run());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS) / count as f64
    };
    (0..20).map(|_| time()).fold(f64::INFINITY, f64::min)
}

/// Segments of 1420 bytes, as many as a super-packet has.
#[test]
#[ignore = "a measurement"]
fn speed() {
    for (ipv6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut spec = Spec::new(ipv6, udp, Vec::new());
        if !udp {
            spec.options = vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 5];
        }
        let size = 1420 - spec.headers();
        spec.payload = filler(46 * size, 1);
        if spec.payload.len() + spec.headers() > 65_535 {
            spec.payload.truncate(45 * size);
        }
        let (header, packet) = (spec.header(size), spec.build_partial());
        let mut super_packet = packet.clone();
        let mut out = vec![0; 1420];
        let count = Cut::new(&header, &mut super_packet).unwrap().count();
        let whole = best(count, || {
            super_packet[..100].copy_from_slice(&packet[..100]);
            let cut = Cut::new(black_box(&header), &mut super_packet).unwrap();
            (0..count).for_each(|index| cut.write(index, black_box(&mut out)));
        });
        let mut packets = spec.segments(size);
        let heads: Vec<_> = packets
            .iter()
            .map(|packet| packet[..100].to_vec())
            .collect();
        let mut coalescer = Coalescer::new(true);
        let group = best(count, || {
            packets[0][..100].copy_from_slice(&heads[0]);
            let groups = coalescer.group(black_box(&mut packets));
            let members: usize = groups
                .map(|group| group.members.map(|member| member.0).sum::<usize>())
                .sum();
            black_box(members);
        });
        assert_eq!(coalescer.group(&mut spec.segments(size)).count(), 1);
        println!(
            "ipv6 {ipv6} udp {udp}, {count} packets: cut {whole:.1} ns, group {group:.1} ns each"
        );
    }
    pieces();
}

fn pieces() {
    let (from, mut to) = (filler(1400, 1), vec![0; 1400]);
    let sum = best(1, || {
        black_box(Sum::default().bytes(black_box(&from)).complement());
    });
    let copied = best(1, || {
        let sum = Sum::default().copied(black_box(&from), black_box(&mut to));
        black_box(sum.complement());
    });
    let copy = best(1, || black_box(&mut to).copy_from_slice(black_box(&from)));
    println!("1400 bytes: sum {sum:.1} ns, copy and sum {copied:.1} ns, copy {copy:.1} ns");
}
