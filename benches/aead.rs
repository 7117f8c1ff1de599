//! The cipher step alone, as the library runs it, beside the `chacha20poly1305` crate.
//!
//! `job` is `SealJob::run` and `OpenJob::run`, `batch` is `run_all` over 16 of them (times are for
//! all 16), with the backend that is detected, whose name the group has. `bare` is the crate, as built
//! without flags, with a cipher made for each message. Beginning and finishing the jobs is not timed.

mod support;

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quietwire::{Backend, OpenJob, Outgoing, SealJob};
use support::bare::Bare;
use support::{BATCH, FIRST, HEAD, Pair, TAIL, buffers};

const LENGTHS: [usize; 5] = [64, 128, 256, 576, 1420];

type Sealing = SealJob<'static, Vec<u8>>;
type Opening = OpenJob<Vec<u8>>;

fn sealing(pair: &mut Pair, length: usize, count: usize) -> Vec<Sealing> {
    let begin = |buffer: Vec<u8>| {
        let payload = HEAD..buffer.len() - TAIL;
        pair.first
            .begin_seal(pair.now, Outgoing::in_place(buffer, payload))
            .unwrap()
    };
    buffers(length, count).into_iter().map(begin).collect()
}

fn opening(pair: &mut Pair, length: usize, count: usize) -> Vec<Opening> {
    let datagrams = pair.datagrams(length, count);
    let begin = |datagram| pair.second.begin_open(pair.now, FIRST, datagram).unwrap();
    datagrams.into_iter().map(begin).collect()
}

fn seal(c: &mut Criterion) {
    let mut pair = Pair::established();
    let mut bare = Bare::new();
    let mut group = c.benchmark_group(format!("aead/{}/seal", Backend::detect()));
    for length in LENGTHS {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("bare", length), |b| {
            let mut buffer = vec![0x5a; length + 16];
            b.iter(|| bare.seal(&mut buffer));
        });
        group.bench_function(BenchmarkId::new("job", length), |b| {
            let setup = || sealing(&mut pair, length, 1).remove(0);
            b.iter_batched_ref(setup, SealJob::run, BatchSize::SmallInput);
        });
        group.throughput(Throughput::Bytes((BATCH * length) as u64));
        group.bench_function(BenchmarkId::new("batch", length), |b| {
            let setup = || sealing(&mut pair, length, BATCH);
            b.iter_batched_ref(setup, |jobs| SealJob::run_all(jobs), BatchSize::SmallInput);
        });
    }
}

fn open(c: &mut Criterion) {
    let mut pair = Pair::established();
    let mut bare = Bare::new();
    let mut group = c.benchmark_group(format!("aead/{}/open", Backend::detect()));
    for length in LENGTHS {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("bare", length), |b| {
            let mut sealed = vec![0x5a; length + 16];
            let counter = bare.counter();
            bare.seal(&mut sealed);
            let setup = || sealed.clone();
            let open = |buffer: &mut Vec<u8>| bare.open(counter, buffer);
            b.iter_batched_ref(setup, open, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("job", length), |b| {
            let setup = || opening(&mut pair, length, 1).remove(0);
            b.iter_batched_ref(setup, OpenJob::run, BatchSize::SmallInput);
        });
        group.throughput(Throughput::Bytes((BATCH * length) as u64));
        group.bench_function(BenchmarkId::new("batch", length), |b| {
            let setup = || opening(&mut pair, length, BATCH);
            b.iter_batched_ref(setup, |jobs| OpenJob::run_all(jobs), BatchSize::SmallInput);
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = seal, open
}
criterion_main!(benches);
