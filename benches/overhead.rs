//! What the state machine costs around the cipher, in nanoseconds for each packet.
//!
//! Batches through `Interface` and the same messages through the bare AEAD take turns, 128 packets a
//! turn, so that drift of the machine hits both; each turn begins with an untimed one. The bare AEAD is the
//! `chacha20poly1305` crate, called as the portable backend calls it, a cipher made of the key for
//! each message. The difference is everything else: routing, counters, padding, header, replay
//! window, timers, schedule, copying and wiping a key for each job, and moving results in and out
//! of the lists.
//!
//!     cargo bench --bench overhead

mod support;

use core::hint::black_box;
use std::time::{Duration, Instant};

use support::bare::Bare;
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
        "ns per packet, {placements} * {rounds} rounds                              \
         overhead of\n{:>8} {:>5} {:>16} {:>10} {:>10} {:>10} {:>12} {:>10}",
        "", "bytes", "", "bare", "batch", "each", "batch", "each"
    );
    for length in [64, 1420] {
        let [mut seal, mut open] = [Vec::new(), Vec::new()];
        let mut benches = Vec::new();
        for placement in 0..placements {
            let mut bench = Bench::new(length);
            deeper(placement, &mut || {
                let turns = [Bench::seal, Bench::seal_each, Bench::seal_bare];
                seal.extend(bench.rounds(turns, rounds));
                let turns = [Bench::open, Bench::open_each, Bench::open_bare];
                open.extend(bench.rounds(turns, rounds));
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

/// The times of a batched, a single and a bare turn.
type Round = [f64; 3];

/// Prints medians, and the 10th percentiles: what is left when other work on the machine, which only
/// ever adds, has been left out.
fn report(direction: &str, length: usize, rounds: &[Round]) {
    for (name, percent) in [("median", 50), ("10th percentile", 10)] {
        let [batch, single, bare] = [0, 1, 2].map(|of| {
            let mut samples: Vec<_> = rounds.iter().map(|round| round[of]).collect();
            samples.sort_by(f64::total_cmp);
            samples[(samples.len() - 1) * percent / 100]
        });
        println!(
            "{direction:>8} {length:>5} {name:>16} {bare:>10.1} {batch:>10.1} {single:>10.1} \
             {:>12.1} {:>10.1}",
            batch - bare,
            single - bare
        );
    }
}

struct Bench {
    pair: Pair,
    bare: Bare,
    packets: Vec<Vec<u8>>,
    length: usize,
}

impl Bench {
    fn new(length: usize) -> Self {
        Self {
            pair: Pair::established(),
            bare: Bare::new(),
            packets: buffers(length, PACKETS),
            length,
        }
    }

    fn rounds(&mut self, turns: [fn(&mut Self) -> Duration; 3], count: usize) -> Vec<Round> {
        (0..count)
            .map(|round| {
                let mut times = [0.0; 3];
                for turn in 0..3 {
                    let whose = (turn + round) % 3;
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
        let end = self.sealed_end();
        timed(|| {
            for packet in &mut packets {
                self.bare.seal(&mut packet[HEAD..end]);
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
        let mut packets = self.packets.clone();
        let (first, end) = (self.bare.counter(), self.sealed_end());
        for packet in &mut packets {
            self.bare.seal(&mut packet[HEAD..end]);
        }
        timed(|| {
            for (counter, packet) in (first..).zip(&mut packets) {
                self.bare.open(counter, &mut packet[HEAD..end]);
            }
        })
    }

    /// Where the tag of a packet ends that is padded as the MTU of 1420 allows.
    fn sealed_end(&self) -> usize {
        let padded = self.length.next_multiple_of(16).min(1420);
        let end = HEAD + padded + 16;
        assert!(end <= HEAD + self.length + TAIL);
        end
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
