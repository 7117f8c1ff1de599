//! Handshakes: whole, step by step, and initiations that are not worth a multiplication.
//!
//! `whole` is both sides in one thread between two peers that know each other: initiation,
//! response, keepalive. Its parts are the four messages' costs on the side that pays them; the
//! difference of their sum is copying. `first` is a whole one between peers that have never met, with
//! the static-static multiplication on both sides. `wrong_mac1` is a flood that an interface refuses.

mod support;

use core::cell::RefCell;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use support::{FIRST, Pair, SECOND, bytes, poll};

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    let mut pair = Pair::established();
    group.bench_function("whole", |b| b.iter(|| pair.handshake()));
    group.bench_function("first", |b| {
        let handshake = |pair: &mut Pair| pair.handshake();
        b.iter_batched_ref(Pair::new, handshake, BatchSize::SmallInput);
    });
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake/step");
    let pair = RefCell::new(Pair::established());
    group.bench_function("write_initiation", |b| {
        b.iter(|| pair.borrow_mut().initiate());
    });
    group.bench_function("read_initiation", |b| {
        let setup = || bytes(&pair.borrow_mut().initiate());
        let read = |datagram: &mut Vec<u8>| {
            let pair = &mut *pair.borrow_mut();
            pair.second.receive(pair.now, FIRST, datagram).unwrap();
        };
        b.iter_batched_ref(setup, read, BatchSize::PerIteration);
    });
    group.bench_function("write_response", |b| {
        let setup = || {
            let pair = &mut *pair.borrow_mut();
            let mut initiation = bytes(&pair.initiate());
            pair.second
                .receive(pair.now, FIRST, &mut initiation)
                .unwrap();
        };
        let write = |()| {
            let pair = &mut *pair.borrow_mut();
            poll(&mut pair.second, pair.now).unwrap()
        };
        b.iter_batched(setup, write, BatchSize::PerIteration);
    });
    group.bench_function("read_response", |b| {
        let setup = || {
            let pair = &mut *pair.borrow_mut();
            let mut initiation = bytes(&pair.initiate());
            pair.second
                .receive(pair.now, FIRST, &mut initiation)
                .unwrap();
            bytes(&poll(&mut pair.second, pair.now).unwrap())
        };
        let read = |datagram: &mut Vec<u8>| {
            let pair = &mut *pair.borrow_mut();
            pair.first.receive(pair.now, SECOND, datagram).unwrap();
        };
        b.iter_batched_ref(setup, read, BatchSize::PerIteration);
    });
}

fn refusals(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake/refuse");
    group.throughput(Throughput::Elements(1));
    let mut pair = Pair::established();
    let mut forged = bytes(&pair.initiate());
    forged[116] ^= 1;
    group.bench_function("wrong_mac1", |b| {
        b.iter(|| {
            pair.second
                .receive(pair.now, FIRST, &mut forged)
                .unwrap_err()
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = whole, steps, refusals
}
criterion_main!(benches);
