//! What the fuzz targets do, as plain functions of bytes.
//!
//! `fuzz/fuzz_targets` hands them what libFuzzer invents; `tests/it/corpus.rs` hands them the
//! committed corpora, so that they cannot rot and every input that once failed stays a test. A body
//! panics when the crate breaks a promise and does nothing else.

#[cfg(feature = "internals")]
mod aead_diff;
mod allowed_ips;
mod authentic;
mod config;
mod input;
mod packet;
mod puppet;
mod raw;
mod replay;
mod sim;
mod uapi;
mod wire;

#[cfg(feature = "internals")]
pub use aead_diff::aead_diff;
pub use allowed_ips::allowed_ips_model;
pub use authentic::receive_authentic;
pub use config::config;
pub use raw::receive;
pub use replay::replay_model;
pub use sim::sim;
pub use uapi::uapi;
pub use wire::wire;
