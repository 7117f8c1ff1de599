//! An attacker on the path: sees everything, says anything, and knows every public key.

use std::net::SocketAddr;

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};

use super::net::damage;
use super::rng::Rng;

/// What it has seen, and its dice.
#[derive(Debug)]
pub(crate) struct Attacker {
    rng: Rng,
    seen: Vec<Seen>,
}

/// A datagram that it saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) datagram: Vec<u8>,
}

impl Attacker {
    const MEMORY: usize = 4000;

    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            seen: Vec::new(),
        }
    }

    pub(crate) fn see(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let seen = Seen {
            from,
            to,
            datagram: datagram.to_vec(),
        };
        if self.seen.len() < Self::MEMORY {
            self.seen.push(seen);
        } else {
            let forgotten = self.rng.index(Self::MEMORY);
            self.seen[forgotten] = seen;
        }
    }

    pub(crate) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// A datagram seen before, as it was.
    pub(crate) fn replay(&mut self) -> Option<Seen> {
        (!self.seen.is_empty()).then(|| self.rng.pick(&self.seen).clone())
    }

    /// A datagram for the holder of `public_key` that nobody has sent.
    pub(crate) fn forge(&mut self, public_key: &[u8; 32]) -> Option<Vec<u8>> {
        let Seen { mut datagram, .. } = self.replay()?;
        match (self.rng.below(4), datagram[0]) {
            // Data of a session that may be alive, with a counter far ahead.
            (0, 4) => {
                datagram[8..16]
                    .copy_from_slice(&(self.rng.draw() >> self.rng.below(64)).to_le_bytes());
                let last = datagram.len() - 1;
                datagram[last] ^= 1;
            }
            // A handshake message with a good mac1 and something else inside.
            (0 | 1, 1 | 2) => {
                let macs = datagram.len() - 32;
                datagram[12 + self.rng.index(macs - 12)] ^= 1 << self.rng.below(8);
                sign(public_key, &mut datagram);
            }
            // Nothing but a good beginning.
            (2, _) => {
                let kind = datagram[0];
                self.rng.fill(&mut datagram);
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            _ => datagram = damage(&mut self.rng, &datagram),
        }
        Some(datagram)
    }
}

/// Writes the mac1 that the holder of `public_key` expects.
fn sign(public_key: &[u8; 32], datagram: &mut [u8]) {
    let mut hash = Blake2s256::default();
    Update::update(&mut hash, b"mac1----");
    Update::update(&mut hash, public_key);
    let key: [u8; 32] = hash.finalize_fixed().into();
    let (rest, macs) = datagram.split_at_mut(datagram.len() - 32);
    let mut mac = Blake2sMac::<U16>::new_from_slice(&key).unwrap();
    Update::update(&mut mac, rest);
    macs[..16].copy_from_slice(&mac.finalize_fixed());
    macs[16..].fill(0);
}
