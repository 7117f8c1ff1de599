//! The network between two nodes, one direction: what it delays, loses, repeats and damages.

use super::rng::Rng;
use super::{MS, SEC};

/// One direction of a path. Probabilities are in parts of a million.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) latency: u64,
    /// Up to this much is added to the latency, so datagrams overtake each other.
    pub(crate) jitter: u64,
    pub(crate) loss: u32,
    pub(crate) bursts: Option<Bursts>,
    pub(crate) repeat: u32,
    /// So many datagrams are held back for up to three seconds.
    pub(crate) hold: u32,
    pub(crate) damage: u32,
    pub(crate) mtu: usize,
    pub(crate) is_cut: bool,
}

/// The loss model of Gilbert and Elliott: a good state without loss and a bad one with much.
#[derive(Clone, Debug)]
pub(crate) struct Bursts {
    pub(crate) to_bad: u32,
    pub(crate) to_good: u32,
    pub(crate) loss: u32,
    pub(crate) is_bad: bool,
}

impl Link {
    /// A path that only takes time: datagrams arrive once, whole and in order.
    pub(crate) fn clean(latency: u64) -> Self {
        Self {
            latency,
            jitter: 0,
            loss: 0,
            bursts: None,
            repeat: 0,
            hold: 0,
            damage: 0,
            mtu: 65_535,
            is_cut: false,
        }
    }

    /// A path with some of everything.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let some = |rng: &mut Rng, most: u64| {
            if rng.one_in(2) {
                0
            } else {
                u32::try_from(rng.below(most)).unwrap()
            }
        };
        Self {
            latency: rng.range(0, 150) * MS,
            jitter: rng.below(2) * rng.range(1, 80) * MS,
            loss: some(rng, 400_000),
            bursts: rng.one_in(3).then(|| Bursts {
                to_bad: u32::try_from(rng.range(10_000, 100_000)).unwrap(),
                to_good: u32::try_from(rng.range(50_000, 400_000)).unwrap(),
                loss: u32::try_from(rng.range(500_000, 1_000_000)).unwrap(),
                is_bad: false,
            }),
            repeat: some(rng, 300_000),
            hold: some(rng, 200_000),
            damage: some(rng, 200_000),
            mtu: *rng.pick(&[1280, 1400, 1500, 9000]),
            is_cut: false,
        }
    }

    /// What becomes of a datagram sent at `now`: when it arrives, and as what.
    pub(crate) fn carry(
        &mut self,
        rng: &mut Rng,
        now: u64,
        datagram: &[u8],
    ) -> Vec<(u64, Vec<u8>)> {
        if self.loses(rng) || datagram.len() > self.mtu {
            return Vec::new();
        }
        let copies = if rng.ppm(self.repeat) {
            rng.range(2, 3)
        } else {
            1
        };
        (0..copies)
            .map(|_| {
                let held = if rng.ppm(self.hold) {
                    rng.below(3 * SEC)
                } else {
                    0
                };
                let at = now + self.latency + rng.below(self.jitter + 1) + held;
                let is_damaged = rng.ppm(self.damage);
                (
                    at,
                    if is_damaged {
                        damage(rng, datagram)
                    } else {
                        datagram.to_vec()
                    },
                )
            })
            .collect()
    }

    fn loses(&mut self, rng: &mut Rng) -> bool {
        let burst = self.bursts.as_mut().is_some_and(|bursts| {
            let flip = if bursts.is_bad {
                bursts.to_good
            } else {
                bursts.to_bad
            };
            bursts.is_bad ^= rng.ppm(flip);
            bursts.is_bad && rng.ppm(bursts.loss)
        });
        let random = rng.ppm(self.loss);
        self.is_cut || burst || random
    }
}

/// Flips bits, cuts off or adds bytes. The result always differs outside of a handshake message's
/// mac2, which nobody checks who is not under load.
pub(crate) fn damage(rng: &mut Rng, datagram: &[u8]) -> Vec<u8> {
    let mut damaged = datagram.to_vec();
    match rng.below(4) {
        0 => damaged.truncate(rng.index(datagram.len())),
        1 => {
            let mut more = vec![0; 1 + rng.index(64)];
            rng.fill(&mut more);
            damaged.extend(more);
        }
        _ => {
            let is_handshake = matches!(datagram, [1 | 2, ..]);
            let checked = datagram.len() - if is_handshake { 16 } else { 0 };
            for _ in 0..*rng.pick(&[1, 1, 3]) {
                damaged[rng.index(checked)] ^= 1 << rng.below(8);
            }
            // Three flips may undo each other, but not one.
            if damaged == datagram {
                damaged[rng.index(checked)] ^= 1;
            }
        }
    }
    damaged
}
