//! Who takes part: the other crates one packet at a time, quietwire's backends singly and in batches.

use ::quietwire::Backend;
use ::quietwire::internals::{self, Aead, Open, Seal};

use super::ciphers::{self, Cipher};
use crate::report::locked;

/// Seals and opens the packets of a pass.
pub trait Player {
    /// Makes ready for a pass of `count` packets, untimed.
    fn prepare(&mut self, count: usize) {
        let _ = count;
    }

    /// Seals packet after packet under counters from `first` on, `at_once` in a call if it can.
    fn seal(&mut self, first: u64, packets: &mut [&mut [u8]], at_once: usize);

    /// Opens them; whether all tags were right.
    fn open(&mut self, first: u64, packets: &mut [&mut [u8]], at_once: usize) -> bool;
}

/// A contender.
pub struct Entry {
    /// What the table calls it.
    pub name: String,
    /// Its version in the lock file.
    pub version: String,
    /// What it is of quietwire, if it is that.
    pub own: Option<Own>,
    /// Does the work.
    pub player: Box<dyn Player>,
}

/// A backend of quietwire, one packet at a time or several in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The backend.
    pub backend: Backend,
    /// Whether packets come in batches.
    pub batch: bool,
}

/// The crate that all others are compared with.
pub const YARDSTICK: &str = "ring";

/// Every backend that there is, on whatever machine.
const KNOWN: [&str; 5] = ["avx512", "avx512f", "avx2", "neon", "portable"];

const KEY: [u8; 32] = [7; 32];

/// Every contender of this machine.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let mut entries = vec![
        Entry::of::<ciphers::Ring>(YARDSTICK, "ring", "0.17"),
        Entry::of::<ciphers::AwsLc>("aws-lc-rs", "aws-lc-rs", ""),
        #[cfg(feature = "openssl")]
        Entry {
            version: openssl::version::version().to_owned(),
            ..Entry::of::<ciphers::OpenSsl>("openssl", "openssl", "")
        },
        Entry::of::<ciphers::RustCrypto>("chacha20poly1305", "chacha20poly1305", "0.11"),
        Entry::of::<ciphers::Graviola>("graviola", "graviola", ""),
        Entry::of::<ciphers::Rscrypto>("rscrypto", "rscrypto", ""),
        Entry::of::<ciphers::Libcrux>("libcrux", "libcrux-chacha20poly1305", ""),
    ];
    for backend in Backend::available() {
        entries.extend([
            Entry::own(backend, false, Box::new(Single::own(backend))),
            Entry::own(backend, true, Box::new(Batch::new(backend))),
        ]);
    }
    entries
}

impl Entry {
    fn of<C: Cipher + 'static>(name: &str, package: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: locked(package, version),
            own: None,
            player: Box::new(Single(C::new(KEY))),
        }
    }

    fn own(backend: Backend, batch: bool, player: Box<dyn Player>) -> Self {
        let how = if batch { ", batch" } else { "" };
        Self {
            name: format!("quietwire {backend}{how}"),
            version: locked("quietwire", ""),
            own: Some(Own { backend, batch }),
            player,
        }
    }
}

/// Says which backends this machine can run and which it cannot.
#[must_use]
pub fn backends() -> String {
    let has: Vec<_> = Backend::available().map(|one| one.to_string()).collect();
    let lacks: Vec<_> = KNOWN
        .into_iter()
        .filter(|known| !has.iter().any(|has| has == known))
        .collect();
    let none = if lacks.is_empty() { "none" } else { "" };
    let (has, lacks) = (has.join(", "), lacks.join(", "));
    format!("quietwire's backends here: {has}; not here: {lacks}{none}")
}

/// A cipher that takes one packet after the other.
struct Single<C>(C);

impl Single<Alone> {
    fn own(backend: Backend) -> Self {
        Self(Alone(Aead::new(KEY, backend)))
    }
}

impl<C: Cipher> Player for Single<C> {
    fn seal(&mut self, first: u64, packets: &mut [&mut [u8]], _at_once: usize) {
        for (counter, packet) in (first..).zip(packets) {
            self.0.seal(counter, packet);
        }
    }

    fn open(&mut self, first: u64, packets: &mut [&mut [u8]], _at_once: usize) -> bool {
        let mut right = true;
        for (counter, packet) in (first..).zip(packets) {
            right &= self.0.open(counter, packet);
        }
        right
    }
}

/// quietwire's cipher, one packet at a time.
struct Alone(Aead);

impl Cipher for Alone {
    fn new(key: [u8; 32]) -> Self {
        Self(Aead::new(key, Backend::detect()))
    }

    fn seal(&mut self, counter: u64, buffer: &mut [u8]) {
        self.0.seal(counter, &[], buffer);
    }

    fn open(&mut self, counter: u64, buffer: &mut [u8]) -> bool {
        self.0.open(counter, &[], buffer)
    }
}

/// quietwire's cipher, many packets in a call. A batch erases its keys, so a pass needs a copy of
/// the key for each packet.
struct Batch {
    key: Aead,
    keys: Vec<Aead>,
    verdicts: Vec<bool>,
}

impl Batch {
    fn new(backend: Backend) -> Self {
        Self {
            key: Aead::new(KEY, backend),
            keys: Vec::new(),
            verdicts: Vec::new(),
        }
    }
}

impl Player for Batch {
    fn prepare(&mut self, count: usize) {
        self.keys.clear();
        self.keys.resize(count, self.key.clone());
        self.verdicts.clear();
        self.verdicts.resize(count, false);
    }

    fn seal(&mut self, first: u64, packets: &mut [&mut [u8]], at_once: usize) {
        let mut counters = first..;
        let keys = self.keys.chunks_mut(at_once);
        for (keys, packets) in keys.zip(packets.chunks_mut(at_once)) {
            let lanes = keys.iter_mut().zip(packets).zip(&mut counters);
            internals::seal_batch(lanes.map(|((key, buffer), counter)| Seal {
                key,
                counter,
                source: None,
                buffer,
            }));
        }
    }

    fn open(&mut self, first: u64, packets: &mut [&mut [u8]], at_once: usize) -> bool {
        let mut counters = first..;
        let keys = self.keys.chunks_mut(at_once);
        let verdicts = self.verdicts.chunks_mut(at_once);
        for ((keys, packets), verdicts) in keys.zip(packets.chunks_mut(at_once)).zip(verdicts) {
            let lanes = keys.iter_mut().zip(packets).zip(verdicts);
            let lanes = lanes.zip(&mut counters);
            internals::open_batch(lanes.map(|(((key, buffer), authentic), counter)| Open {
                key,
                counter,
                buffer,
                authentic,
            }));
        }
        self.verdicts.iter().all(|right| *right)
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::Traffic;
    use super::*;

    fn sealed_by(entry: &mut Entry, traffic: &Traffic) -> Vec<u8> {
        let mut space = vec![0x5a; traffic.space(32)];
        let mut packets = traffic.lay_out(&mut space, 16, 16);
        let player = &mut entry.player;
        player.prepare(packets.len());
        player.seal(9, &mut packets, traffic.at_once);
        let sealed = packets.iter().flat_map(|packet| packet.to_vec()).collect();
        player.prepare(packets.len());
        assert!(player.open(9, &mut packets, traffic.at_once));
        for packet in &mut packets {
            let text = packet.len() - 16;
            assert!(packet[..text].iter().all(|byte| *byte == 0x5a));
            packet[0] ^= 1;
        }
        player.prepare(packets.len());
        assert!(!player.open(9, &mut packets, traffic.at_once));
        sealed
    }

    #[test]
    fn all_contenders_seal_alike_and_open_what_is_genuine_only() {
        for traffic in [Traffic::of(64), Traffic::of(1420), Traffic::mix()] {
            let mut entries = entries();
            let expected = sealed_by(&mut entries[0], &traffic);
            for entry in &mut entries[1..] {
                let sealed = sealed_by(entry, &traffic);
                assert!(sealed == expected, "{} on {}", entry.name, traffic.title);
            }
        }
    }

    #[test]
    fn every_backend_is_here_or_not_here() {
        let line = backends();
        for known in KNOWN {
            let words = line.split(|letter: char| !letter.is_alphanumeric());
            assert_eq!(words.filter(|word| *word == known).count(), 1, "{line}");
        }
    }
}
