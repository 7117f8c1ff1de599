//! What happens to the mesh during the day.

use super::pair::NEWS;
use super::tally::Trouble;
use super::world::{What as Event, World};
use super::{SEC, packet};
use quietwire::{Interface, PrivateKey};

/// A trouble, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A node comes up, for the first time or again.
    Up(u16),
    /// A node's process ends; it starts again after so many seconds.
    Down(u16, u16),
    /// A node cannot be reached, and reaches nobody, for so many seconds.
    Leave(u16, u16),
    Return(u16),
    /// A node has another address.
    Move(u16),
    /// A share of the nodes cannot reach the others for so many seconds.
    Part(u16),
    Heal,
    /// A node announces its next key, and takes it into use.
    Announce(u16),
    Switch(u16),
    /// A node hears what the directory has of another.
    News(u16, u16),
    /// A pair is given another preshared key; the second node hears of it later.
    Psk(u32, bool),
}

/// A key is announced so long ahead.
const LEAD: u64 = 60 * SEC;

/// Drawing.
impl World {
    /// Draws what happens when.
    pub(crate) fn draw_troubles(&mut self) {
        let (count, time) = (self.scale.nodes, self.scale.time);
        for node in 0..count {
            let at = self.rng.below(60 * SEC);
            self.schedule(at, Event::Trouble(What::Up(node)));
            // At least once a day, and often enough that every run sees it.
            let keys = (time / (12 * 3600 * SEC)).max(1);
            for nth in 0..keys {
                let share = time / keys;
                let at = nth * share + self.rng.range(share / 8, share * 3 / 4);
                self.schedule(at, Event::Trouble(What::Announce(node)));
            }
        }
        // Each of them comes to a node once in so many hours.
        let times = |hours: u64| (u64::from(count) * time / (hours * 3600 * SEC)).max(2);
        for _ in 0..times(8) {
            let (node, seconds) = (self.any_node(), self.seconds(1, 30));
            self.at_random(What::Down(node, seconds));
        }
        for _ in 0..times(24) {
            let (node, seconds) = (self.any_node(), self.seconds(60, 400));
            self.at_random(What::Leave(node, seconds));
        }
        for _ in 0..times(8) {
            let node = self.any_node();
            self.at_random(What::Move(node));
        }
        for _ in 0..(time / (3 * 3600 * SEC)).max(1) {
            let seconds = self.seconds(20, 240);
            self.at_random(What::Part(seconds));
        }
        let pairs = self.pairs.len() as u64;
        for _ in 0..(pairs * time / (48 * 3600 * SEC)).max(3) {
            let pair = u32::try_from(self.rng.below(pairs)).unwrap();
            self.at_random(What::Psk(pair, false));
        }
    }

    fn any_node(&mut self) -> u16 {
        u16::try_from(self.rng.below(u64::from(self.scale.nodes))).unwrap()
    }

    /// A length in seconds, of at most a tenth of the run.
    fn seconds(&mut self, low: u64, high: u64) -> u16 {
        let high = high.min(self.scale.time / SEC / 10).max(low);
        u16::try_from(self.rng.range(low, high)).unwrap()
    }

    fn at_random(&mut self, what: What) {
        let at = self
            .rng
            .range(self.scale.time / 20, self.scale.time * 4 / 5);
        self.schedule(at, Event::Trouble(what));
    }
}

/// Happening.
impl World {
    pub(crate) fn trouble(&mut self, what: What) {
        match what {
            What::Up(node) => self.start(node),
            What::Down(node, seconds) => self.stop(node, u64::from(seconds) * SEC),
            What::Leave(node, seconds) => {
                if !self.nodes[usize::from(node)].is_away {
                    self.nodes[usize::from(node)].is_away = true;
                    let until = self.now + u64::from(seconds) * SEC;
                    self.disturb(node, Trouble::Absence, until);
                    self.schedule(until, Event::Trouble(What::Return(node)));
                }
            }
            What::Return(node) => {
                self.nodes[usize::from(node)].is_away = false;
                self.catch_up(node);
            }
            What::Move(node) => {
                self.nodes[usize::from(node)].moves += 1;
                self.disturb(node, Trouble::NewAddress, self.now);
                self.tell(node);
            }
            What::Part(seconds) => self.part(u64::from(seconds) * SEC),
            What::Heal => self.is_partitioned = false,
            What::Announce(node) => self.announce(node),
            What::Switch(node) => self.switch(node),
            What::News(node, of) => {
                if self.nodes[usize::from(node)].device.is_some() {
                    self.apply(node, of);
                    self.drain(node);
                }
            }
            What::Psk(pair, is_second) => self.change_psk(pair, is_second),
        }
    }

    /// All pairs of a node are disturbed.
    fn disturb(&mut self, node: u16, trouble: Trouble, until: u64) {
        *self.tally.troubles.entry(trouble).or_default() += 1;
        for other in (0..self.scale.nodes).filter(|other| *other != node) {
            self.pairs[Self::pair_of(node, other)].disturb(trouble, until);
        }
    }

    /// The directory has another record of a node.
    fn tell(&mut self, of: u16) {
        for node in (0..self.scale.nodes).filter(|node| *node != of) {
            let at = self.now + self.rng.below(NEWS);
            // Who is away hears of it when it is back.
            if !self.nodes[usize::from(node)].is_away {
                self.schedule(at, Event::Trouble(What::News(node, of)));
            }
        }
    }

    /// A node hears all that it has missed.
    fn catch_up(&mut self, node: u16) {
        for of in (0..self.scale.nodes).filter(|of| *of != node) {
            let at = self.now + self.rng.below(NEWS);
            self.schedule(at, Event::Trouble(What::News(node, of)));
        }
    }

    fn start(&mut self, node: u16) {
        let now = self.time();
        let key = &self.nodes[usize::from(node)].key;
        let device = self.meter.call(
            || Interface::new(Some(key), now),
            |_| super::tally::Call::Configure,
        );
        self.nodes[usize::from(node)].device = Some(device);
        if self.links[usize::from(node) * usize::from(self.scale.nodes)..]
            .iter()
            .take(usize::from(self.scale.nodes))
            .all(|link| link.sent == 0)
        {
            self.disturb(node, Trouble::Start, self.now);
        }
        for of in (0..self.scale.nodes).filter(|of| *of != node) {
            self.apply(node, of);
        }
        self.drain(node);
    }

    /// A node forgets everything but its keys.
    fn stop(&mut self, node: u16, time: u64) {
        let count = self.scale.nodes;
        let it = &mut self.nodes[usize::from(node)];
        let Some(device) = it.device.take() else {
            return;
        };
        for (reason, times) in device.drops().iter().filter(|(_, times)| *times > 0) {
            *self.tally.dropped.entry(reason).or_default() += times;
        }
        let ids: Vec<_> = device.peers().map(|peer| peer.id()).collect();
        for id in ids {
            self.tally.discarded += it.staging.discard(id) as u64;
        }
        it.forget_wakes();
        self.meter
            .call(|| drop(device), |()| super::tally::Call::Configure);
        for of in 0..count {
            let link = self.link(node, of);
            link.main = super::pair::Track::default();
            link.next = None;
        }
        self.disturb(node, Trouble::Restart, self.now + time);
        self.schedule(self.now + time, Event::Trouble(What::Up(node)));
    }

    fn part(&mut self, time: u64) {
        if self.is_partitioned {
            return;
        }
        self.is_partitioned = true;
        let share = self.rng.range(2, 10);
        for node in 0..self.scale.nodes {
            self.nodes[usize::from(node)].side = self.rng.one_in(share);
        }
        let until = self.now + time;
        let nodes = &self.nodes;
        for pair in &mut self.pairs {
            let [one, other] = pair.ends.map(|node| nodes[usize::from(node)].side);
            if one != other {
                pair.disturb(Trouble::Partition, until);
            }
        }
        *self.tally.troubles.entry(Trouble::Partition).or_default() += 1;
        self.schedule(until, Event::Trouble(What::Heal));
    }

    fn announce(&mut self, node: u16) {
        let it = &mut self.nodes[usize::from(node)];
        if it.announced.is_some() {
            return;
        }
        let next = PrivateKey::from_bytes(self.rng.bytes());
        self.directory[usize::from(node)].next = Some(next.public_key());
        it.announced = Some(next);
        self.tell(node);
        self.schedule(self.now + LEAD, Event::Trouble(What::Switch(node)));
    }

    /// A node takes the key into use that it has announced, and greets everybody under it.
    fn switch(&mut self, node: u16) {
        let it = &mut self.nodes[usize::from(node)];
        if it.device.is_none() || it.is_away {
            self.schedule(self.now + LEAD, Event::Trouble(What::Switch(node)));
            return;
        }
        let Some(key) = it.announced.take() else {
            return;
        };
        it.key = key;
        self.set_own_key(node);
        let record = &mut self.directory[usize::from(node)];
        record.key = record.next.take().unwrap();
        self.disturb(node, Trouble::NewKey, self.now);
        self.tell(node);
        self.drain(node);
    }

    fn change_psk(&mut self, at: u32, is_second: bool) {
        let pair = &mut self.pairs[at as usize];
        let end = usize::from(is_second);
        let node = pair.ends[end];
        if is_second {
            pair.psks[1] = pair.psks[0];
        } else {
            pair.psks[0] += 1;
            pair.disturb(Trouble::NewPsk, self.now);
            *self.tally.troubles.entry(Trouble::NewPsk).or_default() += 1;
            let later = self.now + self.rng.below(NEWS);
            self.schedule(later, Event::Trouble(What::Psk(at, true)));
        }
        let of = self.pairs[at as usize].ends[1 - end];
        if self.nodes[usize::from(node)].device.is_some() {
            self.apply(node, of);
            self.drain(node);
        }
    }
}

/// What a node may send and is sent.
pub(crate) fn prefixes(node: u16) -> [quietwire::Cidr; 2] {
    [packet::v4(node), packet::v6(node)].map(quietwire::Cidr::from)
}
