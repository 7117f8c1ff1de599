//! What was dropped, by reason. Nothing that arrives can cost more than a count here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)*) => {
        /// Packets and datagrams that the node dropped itself; the library counts its own verdicts.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl fmt::Display for Counters {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(self.$name.show(f, $text)?;)*
                Ok(())
            }
        }
    };
}

counters! {
    /// Packets from the device that are no IP packets, or whose offload header does not fit them.
    malformed: "malformed packets from the device",
    /// Packets to addresses that are in no peer's allowed IPs.
    no_route: "packets without a route",
    /// Packets to a peer whose endpoint is not known.
    no_endpoint: "packets without an endpoint",
    /// Packets that the library could not seal for another reason, or that a device had left when it
    /// was taken down.
    unsealed: "packets not sealed",
    /// Packets that waited for a handshake and made room for newer ones, or whose handshake failed.
    unstaged: "packets that waited in vain",
    /// Datagrams that the kernel did not take.
    unsent: "datagrams not sent",
    /// Packets that the device did not take.
    unwritten: "packets not delivered",
    /// Handshake messages that found the queue full.
    handshakes: "handshake messages beyond the queue",
    /// Super-packets that the kernel did not take and that were written one by one.
    refused_writes: "super-packets written one by one",
    /// Trains that had to be sent one by one.
    broken_trains: "trains sent one by one",
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: usize) {
        self.0
            .fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
        match self.get() {
            0 => Ok(()),
            n => write!(f, "{n} {text}; "),
        }
    }
}
