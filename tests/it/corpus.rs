//! The bodies of the fuzz targets over their committed corpora, and over some noise.
//!
//! A fuzzer runs for minutes, this runs always: inputs that once failed stay in the corpus.

use std::fs;
use std::path::Path;

#[allow(unreachable_pub, reason = "the module is part of the fuzz crate too")]
#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

/// Runs a body over every file of its corpus, which must not be empty.
fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus in {}", folder.display());
    for file in files {
        println!("{}", file.display());
        body(&fs::read(&file).unwrap());
    }
    for seed in 0..rounds() {
        println!("noise {seed}");
        body(&noise(seed));
    }
}

fn rounds() -> u64 {
    let rounds = std::env::var("QW_NOISE_ROUNDS").ok();
    rounds.map_or(16, |rounds| rounds.parse().unwrap())
}

/// Up to a kilobyte of the generator by Marsaglia.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    };
    let len = usize::from(next()) * 4;
    (0..len).map(|_| next()).collect()
}

#[test]
fn wire() {
    replay("wire", bodies::wire);
}

#[test]
fn receive() {
    replay("receive", bodies::receive);
}

#[test]
fn receive_authentic() {
    replay("receive_authentic", bodies::receive_authentic);
}

#[test]
fn replay_model() {
    replay("replay_model", bodies::replay_model);
}

#[test]
fn allowed_ips_model() {
    replay("allowed_ips_model", bodies::allowed_ips_model);
}

#[test]
fn sim() {
    replay("sim", bodies::sim);
}

#[test]
fn config() {
    replay("config", bodies::config);
}

#[test]
fn uapi() {
    replay("uapi", bodies::uapi);
}

#[test]
#[cfg(feature = "internals")]
fn aead_diff() {
    replay("aead_diff", bodies::aead_diff);
}
