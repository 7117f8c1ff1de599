//! Measures whether the time of the cipher depends on its secrets, on the processor itself: for what
//! valgrind cannot run.
//!
//! After Reparaz, Balasch, Verbauwhede: Dude, is my code constant time? (2017). Inputs of two classes
//! come in random order: a fixed secret or a random one, a difference in the first byte of a tag or in
//! the last. Welch's t-test tells whether the mean times differ, over all measurements and over those
//! below several percentiles, without what interrupts made slow. A |t| above 10 in each of several
//! attempts is a leak; a machine's noise does not repeat itself.
//!
//! It shows leaks, never their absence. The control leaks, and must be found.

use std::hint::black_box;
use std::process::ExitCode;

use quietwire::Backend;
use quietwire::internals::{Aead, Open, Seal, TAG_LEN, open_batch, seal_batch};
use quietwire_ct::{Rng, leaky_eq, sealed};

/// Above it two classes differ.
const LIMIT: f64 = 10.0;
const ATTEMPTS: usize = 4;
const ROUNDS: usize = 8;
/// Inputs are made ahead, this many at a time.
const INPUTS: usize = 2500;
/// What is compared: all measurements, or those up to a percentile.
const PERCENTILES: [usize; 6] = [100, 99, 95, 90, 75, 50];

#[cfg(target_arch = "x86_64")]
fn now() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 has both.
    unsafe {
        _mm_lfence();
        let now = _rdtsc();
        _mm_lfence();
        now
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn now() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap()
}

/// Mean and variance, one number after the other (Welford).
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, x: f64) {
        self.count += 1.0;
        let from_old = x - self.mean;
        self.mean += from_old / self.count;
        self.squares += from_old * (x - self.mean);
    }

    /// The square of the mean's standard error.
    fn error(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

fn welch([a, b]: [Moments; 2]) -> f64 {
    if a.count < 100.0 || b.count < 100.0 {
        return 0.0;
    }
    let error = (a.error() + b.error()).sqrt();
    if error == 0.0 {
        return if (a.mean - b.mean).abs() < 1e-9 {
            0.0
        } else {
            f64::INFINITY
        };
    }
    (a.mean - b.mean) / error
}

/// The greatest |t| over all croppings.
fn greatest_t(times: &[(bool, u64)]) -> f64 {
    let mut sorted: Vec<_> = times.iter().map(|(_, time)| *time).collect();
    sorted.sort_unstable();
    let t = PERCENTILES.map(|percent| {
        let limit = sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
        let mut classes = [Moments::default(); 2];
        for (class, time) in times.iter().filter(|(_, time)| *time <= limit) {
            classes[usize::from(*class)].add(*time as f64);
        }
        welch(classes).abs()
    });
    t.into_iter().fold(0.0, f64::max)
}

/// The smallest |t| of the attempts, up to the first that is below the limit.
fn test<I>(make: impl Fn(&mut Rng, bool) -> I, run: impl Fn(&mut I)) -> (f64, usize) {
    let mut best = f64::INFINITY;
    for attempt in 1..=ATTEMPTS {
        let mut rng = Rng(now());
        let mut times = Vec::with_capacity(ROUNDS * INPUTS);
        for _ in 0..ROUNDS {
            let classes: Vec<_> = (0..INPUTS).map(|_| rng.number() >> 63 == 1).collect();
            let inputs: Vec<_> = classes.iter().map(|class| make(&mut rng, *class)).collect();
            for (class, mut input) in classes.into_iter().zip(inputs) {
                // Into the caches first, whatever its class.
                black_box(&mut input);
                let start = now();
                run(black_box(&mut input));
                times.push((class, now() - start));
            }
        }
        best = best.min(greatest_t(&times));
        if best < LIMIT {
            return (best, attempt);
        }
    }
    (best, ATTEMPTS)
}

/// A message in memory of a fixed place: boxes would put the classes at different ones.
#[derive(Clone)]
struct Message<const N: usize> {
    key: [u8; 32],
    buffer: [u8; N],
}

impl<const N: usize> Message<N> {
    fn new(key: [u8; 32], bytes: &[u8]) -> Self {
        let mut buffer = [0; N];
        buffer[..bytes.len()].copy_from_slice(bytes);
        Self { key, buffer }
    }

    /// As it arrives, its tag wrong in the first byte or in the last.
    fn forged(rng: &mut Rng, in_last: bool) -> Self {
        let key = rng.key();
        let text = rng.bytes(N - TAG_LEN);
        let mut message = Self::new(key, &sealed(key, &[], &text));
        let at = if in_last { N - 1 } else { N - TAG_LEN };
        message.buffer[at] ^= 0x55;
        message
    }

    /// Each byte of the input is used once, so that no class has it in the caches.
    fn seal(&mut self, backend: Backend) {
        Aead::new(self.key, backend).seal(1, &[], &mut self.buffer);
    }

    fn open(&mut self, backend: Backend) {
        black_box(Aead::new(self.key, backend).open(1, &[], &mut self.buffer));
    }
}

/// Fixed secrets are no special ones, and zeros, which are.
fn keyed<const N: usize>(rng: &mut Rng, random: bool) -> Message<N> {
    // Both are drawn, so that making an input takes the same steps.
    let (key, text) = (rng.key(), rng.bytes(N));
    Message::new(if random { key } else { [0x5a; 32] }, &text)
}

fn texted<const N: usize>(rng: &mut Rng, random: bool) -> Message<N> {
    let (key, text) = (rng.key(), rng.bytes(N));
    let zeros = vec![0; N];
    Message::new(key, if random { &text } else { &zeros })
}

fn batch<const N: usize, const LANES: usize>(
    rng: &mut Rng,
    class: bool,
    make: impl Fn(&mut Rng, bool) -> Message<N>,
) -> [Message<N>; LANES] {
    std::array::from_fn(|_| make(rng, class))
}

fn seal_all<const N: usize>(messages: &mut [Message<N>], backend: Backend) {
    let mut keys: [_; 16] =
        std::array::from_fn(|at| Aead::new(messages[at % messages.len()].key, backend));
    seal_batch(
        messages
            .iter_mut()
            .zip(&mut keys)
            .map(|(message, key)| Seal {
                key,
                counter: 1,
                source: None,
                buffer: &mut message.buffer,
            }),
    );
}

fn open_all<const N: usize>(messages: &mut [Message<N>], backend: Backend) {
    let mut keys: [_; 16] =
        std::array::from_fn(|at| Aead::new(messages[at % messages.len()].key, backend));
    let mut verdicts = [true; 16];
    let lanes = messages.iter_mut().zip(&mut keys).zip(&mut verdicts);
    open_batch(lanes.map(|((message, key), authentic)| Open {
        key,
        counter: 1,
        buffer: &mut message.buffer,
        authentic,
    }));
    black_box(verdicts);
}

fn report(name: &str, (t, attempts): (f64, usize), leaks: bool) -> bool {
    let is_right = (t >= LIMIT) == leaks;
    let word = if is_right { "ok" } else { "WRONG" };
    println!("{word:5}  {name}: |t| {t:.1} at attempt {attempts}");
    is_right
}

fn cipher(backend: Backend) -> bool {
    let name = |what: &str| format!("{backend}: {what}");
    let results = [
        report(
            &name("seal 1420 bytes, fixed or random key"),
            test(keyed::<1436>, |m| m.seal(backend)),
            false,
        ),
        report(
            &name("seal 1420 bytes, zeros or random text"),
            test(texted::<1436>, |m| m.seal(backend)),
            false,
        ),
        report(
            &name("seal 8 of 112 bytes, fixed or random key"),
            test(
                |rng, class| batch::<128, 8>(rng, class, keyed),
                |m| seal_all(m, backend),
            ),
            false,
        ),
        report(
            &name("seal 8 of 112 bytes, zeros or random text"),
            test(
                |rng, class| batch::<128, 8>(rng, class, texted),
                |m| seal_all(m, backend),
            ),
            false,
        ),
        report(
            &name("refuse 200 bytes, first or last byte of the tag"),
            test(Message::<216>::forged, |m| m.open(backend)),
            false,
        ),
        report(
            &name("refuse 8 of 64 bytes, first or last byte of the tag"),
            test(
                |rng, class| batch::<80, 8>(rng, class, Message::forged),
                |m| open_all(m, backend),
            ),
            false,
        ),
    ];
    results.iter().all(|is_right| *is_right)
}

/// A cipher that compares its tag with an early end.
fn control() -> bool {
    let make = |_: &mut Rng, in_last: bool| {
        let mut message = Message::<80>::new([1; 32], &[]);
        message.buffer[if in_last { 79 } else { 64 }] = 1;
        message
    };
    let run = |message: &mut Message<80>| {
        black_box(sealed(message.key, &[], &message.buffer[..64]));
        black_box(leaky_eq(&message.buffer[64..], &[0; TAG_LEN]));
    };
    let name = "control: a comparison with an early end";
    report(name, test(make, run), true)
}

fn main() -> ExitCode {
    let mut is_right = control();
    for backend in Backend::available() {
        is_right &= cipher(backend);
    }
    if is_right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
