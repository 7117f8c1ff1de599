//! Two nodes, a wire between them and a clock that only tests move.
//!
//! Each node is a `Tunnel` or an `Interface`, driven exactly as the contract of the crate asks:
//! data, then events, then messages, then the deadline. The wire is instant unless a test says
//! otherwise, and remembers every datagram. One seed decides everything that is random.
#![allow(
    dead_code,
    unused_imports,
    reason = "a toolbox: not every test module uses every tool"
)]

mod node;
mod pair;
pub(crate) mod secrets;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use quietwire::rand_core::{TryCryptoRng, TryRng};
use quietwire::{Cidr, PrivateKey, PublicKey};

pub(crate) use self::node::{Node, NodeKind};
pub(crate) use self::pair::{Datagram, Fate, Pair, Setup, on_both};

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const NANO: Duration = Duration::from_nanos(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Alice,
    Bob,
}
pub(crate) use Side::{Alice, Bob};

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Alice, Bob];

    pub(crate) const fn other(self) -> Self {
        match self {
            Alice => Bob,
            Bob => Alice,
        }
    }

    pub(crate) fn private_key(self) -> PrivateKey {
        PrivateKey::from_bytes([self as u8 + 0x41; 32])
    }

    pub(crate) fn public_key(self) -> PublicKey {
        self.private_key().public_key()
    }

    pub(crate) fn addr(self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, self as u8 + 1], 51820))
    }

    pub(crate) fn inner(self) -> [u8; 4] {
        [10, 0, 0, self as u8 + 1]
    }

    pub(crate) fn cidr(self) -> Cidr {
        Cidr::new(self.inner().into(), 32).unwrap()
    }
}

/// What a datagram is, as anybody on the wire can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Msg {
    Initiation,
    Response,
    Cookie,
    Keepalive,
    Data,
}

impl Msg {
    pub(crate) fn of(datagram: &[u8]) -> Self {
        match (datagram[0], datagram.len()) {
            (1, 148) => Self::Initiation,
            (2, 92) => Self::Response,
            (3, 64) => Self::Cookie,
            (4, 32) => Self::Keepalive,
            (4, 33..) => Self::Data,
            other => panic!("no WireGuard message: {other:?}"),
        }
    }
}

/// A deterministic generator, `SplitMix64`. It remembers the keys that were drawn from it.
#[derive(Clone, Debug)]
pub(crate) struct SeededRng {
    state: u64,
    /// Draws of 32 bytes, in order: ephemeral keys and the secrets of cookies. At most 64.
    pub(crate) keys: Vec<[u8; 32]>,
}

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            keys: Vec::with_capacity(64),
        }
    }
}

impl TryRng for SeededRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(x ^ (x >> 31))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            let word = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        if self.keys.len() < self.keys.capacity() {
            self.keys.extend(<[u8; 32]>::try_from(&*out));
        }
        Ok(())
    }
}

impl TryCryptoRng for SeededRng {}

/// An IPv4 packet from one side's inner address to the other's.
pub(crate) fn packet(from: Side, len: usize) -> Vec<u8> {
    let mut packet = vec![0xda; len];
    packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet[12..16].copy_from_slice(&from.inner());
    packet[16..20].copy_from_slice(&from.other().inner());
    packet
}
