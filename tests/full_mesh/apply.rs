//! Follows the directory, with the calls of the library that the mesh makes for it, in their order.

use core::time::Duration;
use quietwire::{Cidr, Interface, PeerConfig, PeerId, PresharedKey, PublicKey};

use super::SEC;
use super::pair::{Link, Track};
use super::rng::{Rng, mix};
use super::tally::{Call, Trouble};
use super::troubles::prefixes;
use super::world::{World, slot};

/// The default of the mesh, in seconds.
const KEEPALIVE: u16 = 25;

impl World {
    /// Brings a node's peers in step with the directory's record of another.
    pub(crate) fn apply(&mut self, node: u16, of: u16) {
        let record = self.directory[usize::from(of)];
        let pair = &self.pairs[Self::pair_of(node, of)];
        let keepalive = if pair.is_sleepy { 0 } else { KEEPALIVE };
        let psk = self.psk(node, of);
        let link = core::mem::take(self.link(node, of));
        let mut before = [link.main, link.next.unwrap_or_default()];
        let former = before[0].id;
        let has_next = before[1].id.is_some();
        let device = self.device(node);
        let mut known = |key: &PublicKey| {
            let id = device.find(key);
            let mut tracks = before.iter_mut().filter(|_| id.is_some());
            tracks.find(|track| track.id == id).map(core::mem::take)
        };
        let (main, next) = (
            known(&record.key),
            record.next.map(|key| (known(&key), key)),
        );
        let is_promoted = has_next && before[0].id.is_some() && main.is_some();
        let main = self.keep(node, of, main, &record.key, keepalive, &psk);
        // A key that is announced is not greeted before it is in use.
        let next = next.map(|(track, key)| self.keep(node, of, track, &key, 0, &psk));
        let id = main.id.unwrap();
        let mut holder = next.as_ref().and_then(|next| next.id);
        holder = holder.filter(|next| self.holds(node, *next));
        let (sent, got) = (link.sent, link.got);
        *self.link(node, of) = Link {
            main,
            next,
            sent,
            got,
        };
        if holder.is_none() && is_promoted {
            self.hand_prefixes(node, former, id);
        }
        let holder = holder.unwrap_or(id);
        if !self.holds(node, holder) {
            self.configure(node, |device| {
                let mut holder = device.peer_mut(holder).unwrap();
                holder.replace_allowed_ips(prefixes(of));
            });
        }
        for gone in before.into_iter().filter_map(|track| track.id) {
            let staging = &mut self.nodes[usize::from(node)].staging;
            self.tally.discarded += staging.discard(gone) as u64;
            self.configure(node, |device| assert!(device.remove_peer(gone)));
        }
    }

    /// Adds a peer, or changes what differs.
    fn keep(
        &mut self,
        node: u16,
        of: u16,
        known: Option<Track>,
        key: &PublicKey,
        keepalive: u16,
        psk: &PresharedKey,
    ) -> Track {
        let (now, endpoint) = (self.time(), self.endpoint(of));
        let every = u64::from(keepalive) * SEC;
        if let Some(mut track) = known {
            let (id, was) = (track.id.unwrap(), track.every);
            self.configure(node, |device| {
                let mut peer = device.peer_mut(id).unwrap();
                peer.set_endpoint(endpoint);
                peer.set_preshared_key(psk);
                if was != every {
                    peer.set_persistent_keepalive(now, keepalive);
                }
            });
            track.every = every;
            return track;
        }
        let config = PeerConfig::new(*key)
            .mtu(1420)
            .preshared_key(psk.clone())
            .persistent_keepalive(keepalive)
            .endpoint(endpoint);
        let mut id = None;
        self.configure(node, |device| id = Some(device.add_peer(now, &config)));
        let id = id.unwrap().expect("a new peer");
        let owners = &mut self.nodes[usize::from(node)].owners;
        owners.resize(owners.len().max(slot(id) + 1), 0);
        owners[slot(id)] = of;
        Track::new(id, every)
    }

    /// A peer has proved that it is there: the prefixes of its twin are its own from now on.
    pub(crate) fn heard_of(&mut self, node: u16, id: PeerId) {
        let of = self.nodes[usize::from(node)].owner(id);
        let link = self.link(node, of);
        let Some(next) = link.next.as_ref().and_then(|next| next.id) else {
            return;
        };
        let twin = if next == id { link.main.id } else { Some(next) };
        self.hand_prefixes(node, twin, id);
    }

    fn hand_prefixes(&mut self, node: u16, from: Option<PeerId>, to: PeerId) {
        let Some(from) = from.filter(|from| self.holds(node, *from)) else {
            return;
        };
        self.configure(node, |device| {
            let moved: Vec<_> = device.peer(from).unwrap().allowed_ips().collect();
            let mut peer = device.peer_mut(to).unwrap();
            moved.into_iter().for_each(|cidr| peer.add_allowed_ip(cidr));
        });
        let staging = &mut self.nodes[usize::from(node)].staging;
        for packet in staging.take(from) {
            staging.push(to, packet);
        }
    }

    /// Starts to use another key of our own: all peers are greeted under it.
    pub(crate) fn set_own_key(&mut self, node: u16) {
        let now = self.time();
        let key = self.nodes[usize::from(node)].key.clone();
        self.configure(node, |device| {
            device.set_private_key(Some(&key)).unwrap();
            let ids: Vec<_> = device.peers().map(|peer| peer.id()).collect();
            for id in ids {
                device.peer_mut(id).unwrap().initiate(now);
            }
        });
        for of in (0..self.scale.nodes).filter(|of| *of != node) {
            let link = self.link(node, of);
            let is_ahead = link.next.is_some();
            for track in [Some(&mut link.main), link.next.as_mut()]
                .into_iter()
                .flatten()
            {
                (track.session, track.waiting, track.initiated) = (None, None, None);
            }
            if is_ahead {
                // A key that nobody has in use yet is greeted in vain, until that is given up.
                let until = self.now + 20 * 5_334 * super::MS;
                self.pairs[Self::pair_of(node, of)].disturb(Trouble::NewKey, until);
            }
        }
    }

    /// Changes an interface.
    fn configure(&mut self, node: u16, change: impl FnOnce(&mut Interface)) {
        let device = self.nodes[usize::from(node)].device.as_mut().unwrap();
        self.meter.call(|| change(device), |()| Call::Configure);
    }

    fn device(&self, node: u16) -> &Interface {
        self.nodes[usize::from(node)].device.as_ref().unwrap()
    }

    fn holds(&self, node: u16, id: PeerId) -> bool {
        let peer = self.device(node).peer(id).unwrap();
        let holds = peer.allowed_ips().collect::<Vec<Cidr>>();
        !holds.is_empty()
    }

    /// The preshared key that a node has with another.
    fn psk(&self, node: u16, of: u16) -> PresharedKey {
        let at = Self::pair_of(node, of);
        let pair = &self.pairs[at];
        match pair.psks[pair.end(node)] {
            0 => PresharedKey::NONE,
            nth => PresharedKey::from_bytes(Rng::new(mix(at as u64) ^ u64::from(nth)).bytes()),
        }
    }

    /// How much the interfaces hold.
    pub(crate) fn look(&mut self) {
        let devices = self.nodes.iter().filter_map(|node| node.device.as_ref());
        let ends: usize = devices.map(Interface::peer_count).sum();
        let ends = ends as u64;
        let hours = Duration::from_nanos(self.now).as_secs_f64() / 3600.0;
        if ends > 0 {
            let each = self.meter.bytes / i64::try_from(ends).unwrap();
            self.tally.memory.push((self.now, each, ends));
            let crossed: u64 = self.tally.rounds.iter().map(|rounds| rounds.crossed).sum();
            println!(
                "{hours:6.2} h: {each} bytes for each of {ends} ends, {} handshakes, {crossed} \
                 crossed renewals, {} datagrams, {} CPU s",
                self.tally.handshakes,
                self.tally.datagrams,
                super::tally::processor().unwrap_or(0) / SEC,
            );
        }
        let every = (self.scale.time / 24).min(3600 * SEC);
        self.schedule(self.now + every, super::world::What::Look);
    }
}
