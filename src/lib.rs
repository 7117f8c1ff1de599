#![cfg_attr(feature = "alloc", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "alloc"),
    doc = "The WireGuard protocol as a state machine without I/O."
)]
#![no_std]
#![cfg_attr(not(feature = "simd"), forbid(unsafe_code))]
#![cfg_attr(
    not(test),
    deny(
        clippy::alloc_instead_of_core,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

#[macro_use]
mod log;

// In the order of the layers: a module imports only from modules that stand below it.
#[cfg(feature = "alloc")]
pub mod config;
#[cfg(feature = "alloc")]
pub mod uapi;

#[cfg(feature = "alloc")]
mod interface;
mod tunnel;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;

#[cfg(feature = "std")]
mod os;

mod engine;

mod peer;

mod admission;
mod handshake;
mod job;

mod session;

mod cookie;
mod noise;
mod timers;

mod replay;
mod tai64n;

mod crypto;

mod cidr;
mod error;
mod event;
pub mod ip;
mod key;
mod time;
pub mod wire;

pub use admission::Load;
pub use cidr::{Cidr, InvalidPrefix};
pub use crypto::Backend;
pub use engine::{HandshakeStep, Received};
pub use error::{ConfigError, Drops, Rejected, SealError};
pub use event::{Endpoint, Env, Event, PeerId, Transmit};
pub use handshake::HandshakeJob;
#[cfg(feature = "alloc")]
pub use interface::{Interface, PeerMut, PeerRef, Staging};
pub use job::{Control, OpenJob, Opened, Outgoing, Refused, SealFailure, SealJob, Sealed};
pub use key::{Base64Key, HexKey, KeyError, KeyText, PresharedKey, PrivateKey, PublicKey};
#[cfg(feature = "std")]
pub use os::{Clock, OsEnv};
pub use peer::{PeerConfig, PeerStats};
/// The vocabulary of randomness in this crate's interface.
pub use rand_core;
pub use time::Instant;
pub use timers::Timings;
pub use tunnel::Tunnel;
