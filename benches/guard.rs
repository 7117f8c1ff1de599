//! Fails when something has become slower than it was, by more than a tenth.
//!
//! Every backend of this machine seals and opens, one packet at a time and 16 at a time, and whole
//! interfaces do. What counts is how many times as fast as a yardstick that is, the
//! `chacha20poly1305` crate sealing packets of the same length in the same rounds: such ratios
//! hardly depend on what else the machine does. `benches/baseline.txt` holds those that were
//! measured before. They depend on the processor, so it names that; on another one nothing fails.
//! What seems slower is measured up to three times again before it is believed.
//!
//!     cargo bench --bench guard --features internals [-- --write | --strict]
//!
//! `--write` puts today's ratios into the file and keeps those of backends that this machine lacks;
//! `--strict` fails on another processor too. Without `internals` only interfaces are measured.

mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use quietwire::Backend;
use support::bare::Bare;
use support::baseline::{Baseline, Digits, cpu};
use support::{BATCH, HEAD, Pair, buffers};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/baseline.txt");

const COMMENT: &str = "\
# How many times as fast as the chacha20poly1305 crate seals packets of the same length. Read and
# written by the bench `guard`; in brackets stands the processor that the figures below are from.
";

/// The part of a ratio that may be lost.
const TOLERANCE: f64 = 0.1;

const LENGTHS: [usize; 2] = [64, 1420];

/// Where buffers and the stack lie makes a difference, so they are moved this often.
const PLACEMENTS: usize = 8;

fn main() -> ExitCode {
    let wants = |option: &str| std::env::args().any(|argument| argument == option);
    // Cargo passes --bench when it wants a measurement; a test run only wants to see it work.
    let budget = Duration::from_secs(if wants("--bench") { 12 } else { 0 });
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    let baseline = Baseline::parse(&text).expect("benches/baseline.txt can be read");
    let mut measured = measure(budget, &|_| true);
    if budget.is_zero() {
        return ExitCode::SUCCESS;
    }
    if wants("--write") {
        let mut baseline = baseline;
        // Everything about these has just been measured.
        if cfg!(feature = "internals") {
            let here: Vec<_> = Backend::available()
                .map(|here| format!("{here} "))
                .collect();
            baseline.forget(|name| here.iter().any(|here| name.starts_with(here)));
        }
        baseline.update(&cpu(), measured);
        std::fs::write(FILE, format!("{COMMENT}{baseline}")).expect("the file can be written");
        return ExitCode::SUCCESS;
    }
    for _ in 0..3 {
        let slower = slower(&baseline, &measured);
        if slower.is_empty() {
            break;
        }
        println!("once more: {}", slower.join(", "));
        for (name, ratio) in measure(budget / 2, &|name| slower.iter().any(|slow| slow == name)) {
            let known = measured.iter_mut().find(|(known, _)| *known == name);
            let (_, best) = known.expect("it was measured before");
            *best = best.max(ratio);
        }
    }
    report(&baseline, &measured, wants("--strict"))
}

/// What has lost more than it may.
fn slower(baseline: &Baseline, measured: &[(String, f64)]) -> Vec<String> {
    let slow = |(name, ratio): &&(String, f64)| {
        let before = baseline.get(name);
        before.is_some_and(|before| before.change(*ratio) < -TOLERANCE)
    };
    let slow = measured.iter().filter(slow);
    slow.map(|(name, _)| name.clone()).collect()
}

fn report(baseline: &Baseline, measured: &[(String, f64)], strict: bool) -> ExitCode {
    let cpu = cpu();
    println!("{cpu}\ntimes as fast as chacha20poly1305 seals");
    println!("{:<40} {:>8} {:>8} {:>8}", "", "before", "now", "change");
    let (mut failed, mut elsewhere) = (false, false);
    for (name, ratio) in measured {
        let now = Digits(*ratio);
        let Some(before) = baseline.get(name) else {
            println!("{name:<40} {:>8} {now:>8}", "-");
            continue;
        };
        let change = before.change(*ratio);
        let known = before.made_on == cpu;
        elsewhere |= !known;
        let verdict = if change > TOLERANCE {
            "  faster: write it"
        } else if change > -TOLERANCE {
            ""
        } else if known || strict {
            "  SLOWER"
        } else {
            "  slower, on another processor"
        };
        failed |= verdict.ends_with("SLOWER");
        let (change, before) = (100.0 * change, Digits(before.value));
        println!("{name:<40} {before:>8} {now:>8} {change:>+7.1}%{verdict}");
    }
    for figure in baseline.figures() {
        if measured.iter().all(|(name, _)| *name != figure.name) {
            println!("{:<40} {:>8} skipped", figure.name, Digits(figure.value));
        }
    }
    if !cfg!(feature = "internals") {
        println!("the ciphers by themselves: with --features internals");
    }
    if elsewhere {
        println!("some figures are from another processor: `--write` makes new ones");
    }
    if failed {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Something that seals packets and opens them again.
trait Duty {
    /// What sealing and opening are called in the baseline.
    fn names(&self) -> [String; 2];

    /// The length of its packets.
    fn length(&self) -> usize;

    /// Seals and opens [`packets`] many packets; how long either took.
    fn pass(&mut self) -> [Duration; 2];
}

/// How many packets of a length are timed at once.
fn packets(length: usize) -> usize {
    if length < 100 { 4 * BATCH } else { BATCH }
}

/// The ratios of everything of which `wanted` wants to know, in the order of the table.
fn measure(budget: Duration, wanted: &dyn Fn(&str) -> bool) -> Vec<(String, f64)> {
    let mut samples = Vec::new();
    let mut yard = LENGTHS.map(|_| Vec::new());
    let mut names = Vec::new();
    for placement in 0..PLACEMENTS {
        let mut duties = duties();
        duties.retain(|duty| duty.names().iter().any(|name| wanted(name)));
        samples.resize(duties.len(), [Vec::new(), Vec::new()]);
        names = duties
            .iter()
            .map(|duty| (duty.names(), duty.length()))
            .collect();
        let mut yardsticks = LENGTHS.map(Yardstick::new);
        deeper(placement, &mut || {
            let start = Instant::now();
            loop {
                for (yardstick, samples) in yardsticks.iter_mut().zip(&mut yard) {
                    samples.push(yardstick.pass());
                }
                for (duty, samples) in duties.iter_mut().zip(&mut samples) {
                    duty.pass();
                    for (samples, time) in samples.iter_mut().zip(duty.pass()) {
                        samples.push(time);
                    }
                }
                if start.elapsed() * u32::try_from(PLACEMENTS).unwrap() >= budget {
                    break;
                }
            }
        });
    }
    let yard = yard.map(typical);
    let rows = names.into_iter().zip(samples);
    rows.flat_map(|((names, length), samples)| {
        let at = LENGTHS.iter().position(|known| *known == length).unwrap();
        let ratios = samples.map(|samples| yard[at] / typical(samples));
        names.into_iter().zip(ratios)
    })
    .filter(|(name, _)| wanted(name))
    .collect()
}

/// The 10th percentile: what is left when other work on the machine, which only ever adds, has been
/// left out.
fn typical(mut samples: Vec<Duration>) -> f64 {
    samples.sort();
    samples[(samples.len() - 1) / 10].as_secs_f64()
}

/// Works further down on the stack, by a few hundred bytes for each level.
fn deeper(levels: usize, work: &mut dyn FnMut()) {
    let space = core::hint::black_box([0_u8; 200]);
    match levels.checked_sub(1) {
        Some(levels) => deeper(levels, work),
        None => work(),
    }
    core::hint::black_box(&space);
}

/// Everything that is measured on this machine.
fn duties() -> Vec<Box<dyn Duty>> {
    let mut list: Vec<Box<dyn Duty>> = Vec::new();
    #[cfg(feature = "internals")]
    for backend in Backend::available() {
        for length in LENGTHS {
            list.push(Box::new(cipher::Single::new(backend, length)));
            list.push(Box::new(cipher::Batch::new(backend, length)));
        }
    }
    for length in LENGTHS {
        list.push(Box::new(Whole::new(length)));
    }
    list
}

/// What everything is compared with.
struct Yardstick {
    bare: Bare,
    packets: Vec<Vec<u8>>,
}

impl Yardstick {
    fn new(length: usize) -> Self {
        Self {
            bare: Bare::new(),
            packets: vec![vec![0x5a; length + 16]; packets(length)],
        }
    }

    fn pass(&mut self) -> Duration {
        let mut seal = || {
            let start = Instant::now();
            for packet in &mut self.packets {
                self.bare.seal(packet);
            }
            start.elapsed()
        };
        seal();
        seal()
    }
}

/// Two interfaces that seal and receive batches with the fastest backend.
struct Whole {
    pair: Pair,
    packets: Vec<Vec<u8>>,
    length: usize,
}

impl Whole {
    fn new(length: usize) -> Self {
        Self {
            pair: Pair::established(),
            packets: buffers(length, packets(length)),
            length,
        }
    }
}

impl Duty for Whole {
    fn names(&self) -> [String; 2] {
        let (backend, length) = (Backend::detect(), self.length);
        ["seal", "receive"].map(|way| format!("{backend} interface {way} {length} batch"))
    }

    fn length(&self) -> usize {
        self.length
    }

    fn pass(&mut self) -> [Duration; 2] {
        let mut packets = self.packets.clone();
        let start = Instant::now();
        self.pair.seal_all(&mut packets, BATCH);
        let seal = start.elapsed();
        assert!(
            packets[0][HEAD..] != self.packets[0][HEAD..],
            "it is sealed"
        );
        let mut datagrams = self.pair.datagrams(self.length, packets.len());
        let start = Instant::now();
        self.pair.receive_all(&mut datagrams, BATCH);
        [seal, start.elapsed()]
    }
}

/// The cipher by itself.
#[cfg(feature = "internals")]
mod cipher {
    use std::time::{Duration, Instant};

    use quietwire::Backend;
    use quietwire::internals::{Aead, Open, Seal, open_batch, seal_batch};

    use super::{BATCH, Duty, packets};

    /// Where packets lie, and the next counter.
    struct Packets {
        buffers: Vec<Vec<u8>>,
        length: usize,
        next: u64,
    }

    impl Packets {
        fn new(length: usize) -> Self {
            Self {
                buffers: vec![vec![0x5a; length + 16]; packets(length)],
                length,
                next: 0,
            }
        }

        /// The first of as many counters as there are packets.
        fn counters(&mut self) -> u64 {
            let first = self.next;
            self.next += u64::try_from(self.buffers.len()).unwrap();
            first
        }
    }

    fn names(backend: Backend, length: usize, how: &str) -> [String; 2] {
        ["seal", "open"].map(|way| format!("{backend} {way} {length} {how}"))
    }

    /// One packet at a time.
    pub(super) struct Single {
        backend: Backend,
        key: Aead,
        packets: Packets,
    }

    impl Single {
        pub(super) fn new(backend: Backend, length: usize) -> Self {
            Self {
                backend,
                key: Aead::new([7; 32], backend),
                packets: Packets::new(length),
            }
        }
    }

    impl Duty for Single {
        fn names(&self) -> [String; 2] {
            names(self.backend, self.packets.length, "single")
        }

        fn length(&self) -> usize {
            self.packets.length
        }

        fn pass(&mut self) -> [Duration; 2] {
            let first = self.packets.counters();
            let start = Instant::now();
            for (counter, buffer) in (first..).zip(&mut self.packets.buffers) {
                self.key.seal(counter, &[], buffer);
            }
            let seal = start.elapsed();
            let start = Instant::now();
            let mut right = true;
            for (counter, buffer) in (first..).zip(&mut self.packets.buffers) {
                right &= self.key.open(counter, &[], buffer);
            }
            let open = start.elapsed();
            assert!(right, "{} opens what it sealed", self.backend);
            [seal, open]
        }
    }

    /// 16 packets in a call, each with a copy of the key, which a batch erases.
    pub(super) struct Batch {
        backend: Backend,
        key: Aead,
        keys: Vec<Aead>,
        verdicts: Vec<bool>,
        packets: Packets,
    }

    impl Batch {
        pub(super) fn new(backend: Backend, length: usize) -> Self {
            Self {
                backend,
                key: Aead::new([7; 32], backend),
                keys: Vec::new(),
                verdicts: vec![false; packets(length)],
                packets: Packets::new(length),
            }
        }

        fn renew_keys(&mut self) {
            self.keys.clear();
            self.keys.resize(self.verdicts.len(), self.key.clone());
        }
    }

    impl Duty for Batch {
        fn names(&self) -> [String; 2] {
            names(self.backend, self.packets.length, "batch")
        }

        fn length(&self) -> usize {
            self.packets.length
        }

        fn pass(&mut self) -> [Duration; 2] {
            let first = self.packets.counters();
            self.renew_keys();
            let mut counters = first..;
            let start = Instant::now();
            let keys = self.keys.chunks_mut(BATCH);
            for (keys, buffers) in keys.zip(self.packets.buffers.chunks_mut(BATCH)) {
                let lanes = keys.iter_mut().zip(buffers).zip(&mut counters);
                seal_batch(lanes.map(|((key, buffer), counter)| Seal {
                    key,
                    counter,
                    source: None,
                    buffer,
                }));
            }
            let seal = start.elapsed();
            self.renew_keys();
            self.verdicts.fill(false);
            let mut counters = first..;
            let start = Instant::now();
            let keys = self.keys.chunks_mut(BATCH);
            let verdicts = self.verdicts.chunks_mut(BATCH);
            let buffers = self.packets.buffers.chunks_mut(BATCH);
            for ((keys, buffers), verdicts) in keys.zip(buffers).zip(verdicts) {
                let lanes = keys.iter_mut().zip(buffers).zip(verdicts);
                let lanes = lanes.zip(&mut counters);
                open_batch(lanes.map(|(((key, buffer), authentic), counter)| Open {
                    key,
                    counter,
                    buffer,
                    authentic,
                }));
            }
            let open = start.elapsed();
            let right = self.verdicts.iter().all(|right| *right);
            assert!(right, "{} opens what it sealed", self.backend);
            [seal, open]
        }
    }
}
