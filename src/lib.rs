//! The WireGuard protocol as a state machine without I/O.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]
#![cfg_attr(
    not(test),
    deny(clippy::unreachable, clippy::print_stdout, clippy::print_stderr)
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod cidr;
#[cfg(feature = "alloc")]
pub mod config;
mod key;
mod time;

pub use cidr::{Cidr, InvalidPrefix};
pub use key::{Base64Key, HexKey, KeyError, KeyText, PresharedKey, PrivateKey, PublicKey};
pub use time::Instant;
