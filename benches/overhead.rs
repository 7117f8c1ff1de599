//! What the state machine costs around the cipher, in nanoseconds for each packet.
//!
//! Packets through `Interface`, and the same messages through the bare cipher on the same backend,
//! take turns, 128 packets a turn, so that drift of the machine hits both; each turn begins with an
//! untimed one. Batches are compared with batches, single packets with single ones. The difference is
//! everything else: routing, counters, padding, header, replay window, timers, schedule, a key for
//! each job, and moving results in and out of the lists.
//!
//!     cargo bench --bench overhead --features internals

mod support;

use core::hint::black_box;
use std::time::{Duration, Instant};

use quietwire::Backend;
use quietwire::internals::{self, Aead};
use support::{BATCH, HEAD, Pair, TAIL, buffers};

const PACKETS: usize = 8 * BATCH;
/// Where buffers and the stack lie makes a difference of up to 40 ns, so they are moved this often.
const PLACEMENTS: usize = 24;
const ROUNDS: usize = 30;

fn main() {
    // Cargo passes --bench when it wants a measurement; a test run only wants to see it work.
    let (placements, rounds) = if std::env::args().any(|argument| argument == "--bench") {
        (PLACEMENTS, ROUNDS)
    } else {
        (1, 2)
    };
    println!(
        "ns per packet on {}, {placements} * {rounds} rounds: whole, bare cipher, difference\n\
         {:>8} {:>5} {:>16} {:>28} {:>28}",
        Backend::detect(),
        "",
        "bytes",
        "",
        "batches of 16",
        "one by one"
    );
    for length in [64, 1420] {
        let [mut seal, mut open] = [Vec::new(), Vec::new()];
        let mut benches = Vec::new();
        for placement in 0..placements {
            let mut bench = Bench::new(length);
            deeper(placement, &mut || {
                seal.extend(bench.rounds(Bench::SEAL, rounds));
                open.extend(bench.rounds(Bench::OPEN, rounds));
            });
            benches.push(bench);
        }
        report("seal", length, &seal);
        report("receive", length, &open);
    }
}

/// Works further down on the stack, by a few hundred bytes for each level.
fn deeper(levels: usize, work: &mut dyn FnMut()) {
    let space = black_box([0_u8; 200]);
    match levels.checked_sub(1) {
        Some(levels) => deeper(levels, work),
        None => work(),
    }
    black_box(&space);
}

/// The times of batches, of bare batches, of single packets and of bare single ones.
type Round = [f64; 4];

/// Prints medians, and the 10th percentiles: what is left when other work on the machine, which only
/// ever adds, has been left out.
fn report(direction: &str, length: usize, rounds: &[Round]) {
    for (name, percent) in [("median", 50), ("10th percentile", 10)] {
        let [batch, bare_batch, single, bare_single] = [0, 1, 2, 3].map(|of| {
            let mut samples: Vec<_> = rounds.iter().map(|round| round[of]).collect();
            samples.sort_by(f64::total_cmp);
            samples[(samples.len() - 1) * percent / 100]
        });
        println!(
            "{direction:>8} {length:>5} {name:>16} {batch:>8.1} - {bare_batch:>6.1} = {:>7.1} \
             {single:>8.1} - {bare_single:>6.1} = {:>7.1}",
            batch - bare_batch,
            single - bare_single
        );
    }
}

type Turn = fn(&mut Bench) -> Duration;

struct Bench {
    pair: Pair,
    bare: Aead,
    packets: Vec<Vec<u8>>,
    length: usize,
}

impl Bench {
    fn new(length: usize) -> Self {
        Self {
            pair: Pair::established(),
            bare: Aead::new([7; 32], Backend::detect()),
            packets: buffers(length, PACKETS),
            length,
        }
    }

    const SEAL: [Turn; 4] = [
        Self::seal,
        Self::seal_bare,
        Self::seal_each,
        Self::seal_bare_each,
    ];
    const OPEN: [Turn; 4] = [
        Self::open,
        Self::open_bare,
        Self::open_each,
        Self::open_bare_each,
    ];

    fn rounds(&mut self, turns: [Turn; 4], count: usize) -> Vec<Round> {
        (0..count)
            .map(|round| {
                let mut times = [0.0; 4];
                for turn in 0..4 {
                    let whose = (turn + round) % 4;
                    turns[whose](self);
                    let time = turns[whose](self).as_secs_f64();
                    times[whose] = time * 1e9 / f64::from(u32::try_from(PACKETS).unwrap());
                }
                times
            })
            .collect()
    }

    fn seal(&mut self) -> Duration {
        let mut packets = self.packets.clone();
        timed(|| self.pair.seal_all(&mut packets, BATCH))
    }

    fn seal_each(&mut self) -> Duration {
        let mut packets = self.packets.clone();
        timed(|| self.pair.seal_each(&mut packets))
    }

    fn seal_bare(&mut self) -> Duration {
        let mut packets = self.packets.clone();
        let mut keys = vec![self.bare.clone(); PACKETS];
        timed(|| seal_batches(&mut packets, &mut keys, self.sealed_end()))
    }

    fn seal_bare_each(&mut self) -> Duration {
        let mut packets = self.packets.clone();
        let end = self.sealed_end();
        timed(|| {
            for (counter, packet) in (0..).zip(&mut packets) {
                self.bare.seal(counter, &[], &mut packet[HEAD..end]);
            }
        })
    }

    fn open(&mut self) -> Duration {
        let mut datagrams = self.pair.datagrams(self.length, PACKETS);
        timed(|| self.pair.receive_all(&mut datagrams, BATCH))
    }

    fn open_each(&mut self) -> Duration {
        let mut datagrams = self.pair.datagrams(self.length, PACKETS);
        timed(|| self.pair.receive_each(&mut datagrams))
    }

    fn open_bare(&mut self) -> Duration {
        let (mut packets, end) = (self.bare_sealed(), self.sealed_end());
        let mut keys = vec![self.bare.clone(); PACKETS];
        let mut authentic = [false; PACKETS];
        let time = timed(|| {
            let lanes = (0..).zip(&mut packets).zip(&mut keys).zip(&mut authentic);
            let mut lanes = lanes.map(|(((counter, packet), key), authentic)| internals::Open {
                key,
                counter,
                buffer: &mut packet[HEAD..end],
                authentic,
            });
            for _ in 0..PACKETS / BATCH {
                internals::open_batch(lanes.by_ref().take(BATCH));
            }
        });
        assert_eq!(authentic, [true; PACKETS]);
        time
    }

    fn open_bare_each(&mut self) -> Duration {
        let (mut packets, end) = (self.bare_sealed(), self.sealed_end());
        timed(|| {
            for (counter, packet) in (0..).zip(&mut packets) {
                assert!(self.bare.open(counter, &[], &mut packet[HEAD..end]));
            }
        })
    }

    fn bare_sealed(&self) -> Vec<Vec<u8>> {
        let mut packets = self.packets.clone();
        let mut keys = vec![self.bare.clone(); PACKETS];
        seal_batches(&mut packets, &mut keys, self.sealed_end());
        packets
    }

    /// Where the tag of a packet ends that is padded as the MTU of 1420 allows.
    fn sealed_end(&self) -> usize {
        let padded = self.length.next_multiple_of(16).min(1420);
        let end = HEAD + padded + 16;
        assert!(end <= HEAD + self.length + TAIL);
        end
    }
}

fn seal_batches(packets: &mut [Vec<u8>], keys: &mut [Aead], end: usize) {
    let lanes = (0..).zip(packets).zip(keys);
    let mut lanes = lanes.map(|((counter, packet), key)| internals::Seal {
        key,
        counter,
        source: None,
        buffer: &mut packet[HEAD..end],
    });
    for _ in 0..PACKETS / BATCH {
        internals::seal_batch(lanes.by_ref().take(BATCH));
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
