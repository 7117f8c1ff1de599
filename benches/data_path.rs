//! Packets through `Interface`: routing, counters, replay window, timers and cipher.
//!
//! Every function is timed over [`PACKETS`] packets and reported as throughput in packets, so the
//! time of one is the inverse. `each` is one call a packet, `batch` 16 at a time, both with the backend
//! that is detected; `bare` is a yardstick, the `chacha20poly1305` crate by itself.

mod support;

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::bare::Bare;
use support::{BATCH, HEAD, Pair, buffers};

const PACKETS: usize = BATCH;
const LENGTHS: [usize; 2] = [64, 1420];

fn sealed_end(length: usize) -> usize {
    HEAD + length.next_multiple_of(16).min(1420) + 16
}

fn seal(c: &mut Criterion) {
    let mut pair = Pair::established();
    let mut bare = Bare::new();
    let mut group = c.benchmark_group("data_path/seal");
    group.throughput(Throughput::Elements(PACKETS as u64));
    for length in LENGTHS {
        let packets = buffers(length, PACKETS);
        group.bench_function(BenchmarkId::new("bare", length), |b| {
            let seal = |packets: &mut Vec<Vec<u8>>| {
                for packet in packets {
                    bare.seal(&mut packet[HEAD..sealed_end(length)]);
                }
            };
            b.iter_batched_ref(|| packets.clone(), seal, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("each", length), |b| {
            let seal = |packets: &mut Vec<Vec<u8>>| pair.seal_each(packets);
            b.iter_batched_ref(|| packets.clone(), seal, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("batch", length), |b| {
            let seal = |packets: &mut Vec<Vec<u8>>| pair.seal_all(packets, BATCH);
            b.iter_batched_ref(|| packets.clone(), seal, BatchSize::SmallInput);
        });
    }
}

fn receive(c: &mut Criterion) {
    let pair = std::cell::RefCell::new(Pair::established());
    let mut group = c.benchmark_group("data_path/receive");
    group.throughput(Throughput::Elements(PACKETS as u64));
    for length in LENGTHS {
        let datagrams = || pair.borrow_mut().datagrams(length, PACKETS);
        group.bench_function(BenchmarkId::new("bare", length), |b| {
            let mut bare = Bare::new();
            let mut sealed = buffers(length, PACKETS);
            for packet in &mut sealed {
                bare.seal(&mut packet[HEAD..sealed_end(length)]);
            }
            let open = |packets: &mut Vec<Vec<u8>>| {
                for (counter, packet) in (0..).zip(packets) {
                    bare.open(counter, &mut packet[HEAD..sealed_end(length)]);
                }
            };
            b.iter_batched_ref(|| sealed.clone(), open, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("each", length), |b| {
            let open = |packets: &mut Vec<Vec<u8>>| pair.borrow_mut().receive_each(packets);
            b.iter_batched_ref(datagrams, open, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("batch", length), |b| {
            let open = |packets: &mut Vec<Vec<u8>>| pair.borrow_mut().receive_all(packets, BATCH);
            b.iter_batched_ref(datagrams, open, BatchSize::SmallInput);
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = seal, receive
}
criterion_main!(benches);
