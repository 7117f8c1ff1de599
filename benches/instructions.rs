//! Fails when the data path executes more instructions than it did, by more than three percent.
//!
//! Counted by callgrind, so the figures are the same on a busy machine and on an idle one. It does not
//! know AVX-512, so this is the portable backend only, in a build without the feature `simd`, which
//! is what the script sets up:
//!
//!     .ci/instructions [--write | --strict]
//!
//! Counted is what happens in [`measured`]: packets through interfaces that have a session. The
//! figures in `benches/instructions.txt` hold for one compiler and one valgrind, which it names; with
//! others nothing fails, unless `--strict` is given. `--write` puts today's figures into it.

mod support;

use std::process::{Command, ExitCode};

use support::baseline::{Baseline, Digits};
use support::{BATCH, Pair, buffers};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

const COMMENT: &str = "\
# Instructions for each packet through `Interface`, portable backend. Read and written by
# `.ci/instructions`; in brackets stands what the figures below were counted with.
";

/// The part by which a figure may grow, or shrink without being written anew.
const TOLERANCE: f64 = 0.03;

/// What is counted: a name, and the work in [`measured`] for packets of a length.
const WORKS: [(&str, Work, usize); 8] = [
    ("seal 64 single", Work::Seal(1), 64),
    ("seal 64 batch", Work::Seal(BATCH), 64),
    ("seal 1420 single", Work::Seal(1), 1420),
    ("seal 1420 batch", Work::Seal(BATCH), 1420),
    ("receive 64 single", Work::Receive(1), 64),
    ("receive 64 batch", Work::Receive(BATCH), 64),
    ("receive 1420 single", Work::Receive(1), 1420),
    ("receive 1420 batch", Work::Receive(BATCH), 1420),
];

/// Packets that are counted.
const PACKETS: usize = 64 * BATCH;

/// So many at once.
#[derive(Clone, Copy)]
enum Work {
    Seal(usize),
    Receive(usize),
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let given = |option: &str| arguments.iter().any(|argument| argument == option);
    if let [option, name] = arguments.as_slice()
        && option == "--work"
    {
        do_work(name);
        return ExitCode::SUCCESS;
    }
    if !given("--bench") {
        // A test run only wants to see it work.
        WORKS.iter().for_each(|(name, ..)| do_work(name));
        return ExitCode::SUCCESS;
    }
    if cfg!(feature = "simd") {
        println!("instructions are counted without the feature `simd`, by .ci/instructions");
        return ExitCode::SUCCESS;
    }
    match count_all(given("--write"), given("--strict")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Counts everything, and writes or compares it; whether nothing has grown.
fn count_all(write: bool, strict: bool) -> Result<bool, String> {
    let here = circumstances()?;
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    let mut baseline = Baseline::parse(&text).map_err(|problem| format!("{FILE}: {problem}"))?;
    let count = |(name, ..): (&str, Work, usize)| Ok((name.to_owned(), count(name)?));
    let counted: Result<Vec<_>, String> = WORKS.into_iter().map(count).collect();
    let counted = counted?;
    let fine = report(&baseline, &counted, &here, strict);
    if write {
        baseline.update(&here, counted);
        let written = std::fs::write(FILE, format!("{COMMENT}{baseline}"));
        written.map_err(|error| format!("{FILE}: {error}"))?;
    }
    Ok(fine || write)
}

fn report(baseline: &Baseline, counted: &[(String, f64)], here: &str, strict: bool) -> bool {
    println!("{here}\ninstructions for each packet");
    println!("{:<24} {:>10} {:>10} {:>8}", "", "before", "now", "change");
    let (mut fine, mut elsewhere) = (true, false);
    for (name, instructions) in counted {
        let now = Digits(*instructions);
        let Some(before) = baseline.get(name) else {
            println!("{name:<24} {:>10} {now:>10}", "-");
            continue;
        };
        let change = before.change(*instructions);
        elsewhere |= before.made_on != here;
        let verdict = if change > TOLERANCE {
            fine = false;
            "  MORE"
        } else if change < -TOLERANCE {
            "  better: write it"
        } else {
            ""
        };
        let (change, before) = (100.0 * change, Digits(before.value));
        println!("{name:<24} {before:>10} {now:>10} {change:>+7.2}%{verdict}");
    }
    if elsewhere {
        println!(
            "the figures before are from another compiler or valgrind: `--write` makes new ones"
        );
    }
    fine || (elsewhere && !strict)
}

/// Instructions for each packet of one work, in a process of its own.
fn count(name: &str) -> Result<f64, String> {
    let out = std::env::temp_dir().join(format!("quietwire-callgrind-{}", std::process::id()));
    let binary = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(binary)
        .args(["--work", name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let profile = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
    std::fs::remove_file(&out).map_err(|error| error.to_string())?;
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|total| total.trim().parse().ok())
        .filter(|total: &f64| *total > 0.0);
    let total = total.ok_or_else(|| format!("{name}: callgrind counted nothing"))?;
    Ok(total / f64::from(u32::try_from(PACKETS).unwrap()))
}

/// What the figures depend on. Some dependencies look for AVX2, and valgrind shows them what there is.
fn circumstances() -> Result<String, String> {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<_> = text.split_whitespace().take(2).collect();
        Ok::<_, String>(words.join(" "))
    };
    #[cfg(target_arch = "x86_64")]
    let avx2 = std::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let avx2 = false;
    let rustc = version(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()))?;
    let (valgrind, arch) = (version("valgrind")?, std::env::consts::ARCH);
    let vectors = if avx2 { " with AVX2" } else { "" };
    Ok(format!("{rustc}, {valgrind}, {arch}{vectors}"))
}

fn do_work(name: &str) {
    let found = WORKS.iter().find(|(known, ..)| *known == name);
    let (_, work, length) = *found.expect("a known work");
    let mut pair = Pair::established();
    match work {
        Work::Seal(1) => {
            let mut packets = buffers(length, PACKETS);
            measured(|| pair.seal_each(&mut packets));
        }
        Work::Seal(at_once) => {
            let mut packets = buffers(length, PACKETS);
            pair.seal_all(&mut buffers(length, at_once), at_once);
            measured(|| pair.seal_all(&mut packets, at_once));
        }
        Work::Receive(1) => {
            let mut datagrams = pair.datagrams(length, PACKETS);
            measured(|| pair.receive_each(&mut datagrams));
        }
        Work::Receive(at_once) => {
            let mut first = pair.datagrams(length, at_once);
            pair.receive_all(&mut first, at_once);
            let mut datagrams = pair.datagrams(length, PACKETS);
            measured(|| pair.receive_all(&mut datagrams, at_once));
        }
    }
}

/// What callgrind counts. It finds this function by its name.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}
