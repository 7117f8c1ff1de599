//! The cipher by itself: every backend of quietwire beside the AEADs of other crates.
//!
//! All contenders work on the same packets in the same place. A pass seals all of them, then opens
//! them, both timed apart, so that a packet to be opened lies in the first-level cache as one to be
//! sealed does, without a copy in between. Contenders take turns, as in the other measurements.

pub mod ciphers;
pub mod players;
pub mod report;
pub mod traffic;

use std::time::{Duration, Instant};

use crate::report::Samples;
use ciphers::TAG;
use players::{Entry, Player};
use report::{Row, Table};
use traffic::Traffic;

/// Timed passes in a turn. One more goes before them, untimed, to warm the caches.
const PASSES: usize = 4;

/// Bytes between packets: room for the header of the next one.
const GAP: usize = 16;

/// Where packets lie changes from round to round, in steps of this many bytes.
const SHIFT: usize = 16;
const PLACES: usize = 64;

/// The contenders of this machine, and the counter that no two messages share.
pub struct Arena {
    entries: Vec<Entry>,
    counter: u64,
}

impl Arena {
    /// Every contender.
    #[must_use]
    pub fn new() -> Self {
        let (entries, counter) = (players::entries(), 0);
        Self { entries, counter }
    }

    /// Name and version of every crate that takes part.
    #[must_use]
    pub fn facts(&self) -> Vec<String> {
        let others = self.entries.iter().filter(|entry| entry.own.is_none());
        let named = others.map(|entry| format!("{} {}", entry.name, entry.version));
        vec![
            format!("ciphers: {}", named.collect::<Vec<_>>().join(", ")),
            players::backends(),
        ]
    }

    /// Measures every contender on one kind of traffic for about `budget`.
    pub fn measure(&mut self, traffic: &Traffic, budget: Duration) -> Table {
        let mut samples = vec![[Vec::new(), Vec::new()]; self.entries.len()];
        let mut space = vec![0x5a; traffic.space(TAG + GAP) + SHIFT * PLACES];
        let (start, mut round) = (Instant::now(), 0);
        while round < self.entries.len() || start.elapsed() < budget {
            let shift = SHIFT * (round % PLACES);
            let mut packets = traffic.lay_out(&mut space[shift..], TAG, GAP);
            for turn in 0..self.entries.len() {
                let whose = (round + turn) % self.entries.len();
                let entry = &mut self.entries[whose];
                let [seal, open] = &mut samples[whose];
                for pass in 0..=PASSES {
                    let first = self.counter;
                    self.counter += u64::try_from(packets.len()).unwrap_or(u64::MAX);
                    let times = entry.pass(first, &mut packets, traffic.at_once);
                    if pass > 0 {
                        seal.push(per_packet(times[0], packets.len()));
                        open.push(per_packet(times[1], packets.len()));
                    }
                }
            }
            round += 1;
        }
        let rows = self.entries.iter().zip(samples);
        let rows = rows.map(|(entry, samples)| Row {
            name: entry.name.clone(),
            own: entry.own,
            samples: samples.map(Samples::new),
        });
        Table {
            title: traffic.title.clone(),
            rows: rows.collect(),
        }
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    /// Seals and opens every packet; the times of both.
    fn pass(&mut self, first: u64, packets: &mut [&mut [u8]], at_once: usize) -> [Duration; 2] {
        let player: &mut dyn Player = self.player.as_mut();
        player.prepare(packets.len());
        let start = Instant::now();
        player.seal(first, packets, at_once);
        let seal = start.elapsed();
        player.prepare(packets.len());
        let start = Instant::now();
        let opened = player.open(first, packets, at_once);
        let open = start.elapsed();
        assert!(opened, "{}: opens what it sealed", self.name);
        [seal, open]
    }
}

fn per_packet(time: Duration, packets: usize) -> f64 {
    time.as_secs_f64() * 1e9 / f64::from(u32::try_from(packets).unwrap_or(u32::MAX))
}
