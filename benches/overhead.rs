//! What the state machine costs around the cipher, in nanoseconds for each packet.
//!
//! Batches through `Interface` and the same messages through the bare AEAD take turns, 128 packets a
//! turn, so that drift of the machine hits both; each turn begins with an untimed one. The bare AEAD is the
//! `chacha20poly1305` crate, which the portable backend calls, with its key set up once. The
//! difference is everything else: routing, counters, padding, header, replay window, timers,
//! schedule, copying and wiping a key for each job, and moving results in and out of the lists.
//!
//!     cargo bench --bench overhead

mod support;

use std::time::{Duration, Instant};

use support::bare::Bare;
use support::{BATCH, HEAD, Pair, TAIL, buffers};

const PACKETS: usize = 8 * BATCH;
const ROUNDS: usize = 400;

fn main() {
    // Cargo passes --bench when it wants a measurement; a test run only wants to see it work.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        ROUNDS
    } else {
        2
    };
    println!("packets of 64 bytes in batches of {BATCH}: ns per packet, median of {rounds} rounds");
    for length in [64, 1420] {
        let mut bench = Bench::new(length);
        for (direction, turns) in [
            ("seal", [Bench::seal, Bench::seal_each, Bench::seal_bare]),
            ("receive", [Bench::open, Bench::open_each, Bench::open_bare]),
        ] {
            report(direction, length, &bench.rounds(turns, rounds));
        }
    }
}

/// The times of a batched, a single and a bare turn.
type Round = [f64; 3];

fn report(direction: &str, length: usize, rounds: &[Round]) {
    let [batch, single, bare] = [0, 1, 2].map(|of| spread(rounds.iter().map(|round| round[of])));
    let over = spread(rounds.iter().map(|round| round[0] - round[2]));
    let over_single = spread(rounds.iter().map(|round| round[1] - round[2]));
    println!(
        "{direction:>8} {length:>5}: bare {:>7.1}  batch {:>7.1}  single {:>7.1}  \
         overhead of a batch {:>6.1} ({:.1} to {:.1}), of single calls {:>6.1} ({:.1} to {:.1})",
        bare[1],
        batch[1],
        single[1],
        over[1],
        over[0],
        over[2],
        over_single[1],
        over_single[0],
        over_single[2],
    );
}

/// The 25th percentile, the median and the 75th.
fn spread(samples: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut samples: Vec<_> = samples.collect();
    samples.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| samples[(samples.len() - 1) * quarter / 4])
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
