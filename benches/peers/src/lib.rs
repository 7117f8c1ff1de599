//! WireGuard implementations side by side in one process.
//!
//! Each implementation hides behind [`Tunnel`], one file each. [`implementations`] lists them; the
//! interop tests run over every ordered pair of that list and the measurements over every entry.
//! Nothing here opens a socket: datagrams pass from hand to hand.

pub mod aead;
pub mod boringtun;
pub mod contender;
pub mod gotatun;
pub mod node;
pub mod packet;
pub mod quietwire;
pub mod report;
pub mod sanstun;
pub mod tunnel;

use contender::{Contender, Pair};
use node::{Erased, MakeNode};
pub use tunnel::{Config, Load, Sink, Tunnel};

/// Returns every implementation that takes part, in the order in which tables show them.
#[must_use]
pub fn implementations() -> Vec<Implementation> {
    vec![
        Implementation::of::<quietwire::Quietwire>(),
        Implementation::of::<boringtun::Boringtun>(),
        Implementation::of::<gotatun::Gotatun>(),
        Implementation::of::<sanstun::Sanstun>(),
    ]
}

/// An implementation with its type erased.
#[derive(Clone, Debug)]
pub struct Implementation {
    /// Crate name.
    pub name: &'static str,
    /// Version in the lock file.
    pub version: String,
    /// What does the cryptography.
    pub backend: String,
    /// Makes one end of a tunnel, for tests.
    pub node: MakeNode,
    /// Makes two ends with a session between them, for measurements.
    pub contender: fn() -> Box<dyn Contender>,
}

impl Implementation {
    /// Describes the implementation behind `T`.
    #[must_use]
    pub fn of<T: Tunnel + 'static>() -> Self {
        Self {
            name: T::NAME,
            version: report::locked(T::NAME, ""),
            backend: T::backend(),
            node: |config| Box::new(Erased(T::new(config))),
            contender: || Box::new(Pair::<T>::established()),
        }
    }
}
