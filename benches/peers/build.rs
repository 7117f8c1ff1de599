//! Records which compiler builds the contenders, and with which flags.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_default();
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    println!("cargo::rustc-env=PEERS_RUSTC={}", version.trim());
    println!(
        "cargo::rustc-env=PEERS_RUSTFLAGS={}",
        flags.replace('\u{1f}', " ")
    );
    println!("cargo::rerun-if-changed=build.rs");
}
