//! Brings the node's interface in step with the plan, with the fewest changes.
//!
//! A peer that stays keeps its sessions, and an endpoint that was learned stays until the record gives
//! another one. A node that has announced a key has two peers, one for each key, of which one has the
//! prefixes: [`State::heard_of`] moves them on the first handshake message under the other key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quietwire::{Cidr, PeerConfig, PeerId, PeerRef, PresharedKey, PrivateKey, PublicKey};
use quietwire_node::node::Node;
use quietwire_node::path::Path;
use quietwire_node::state::State;
use tracing::{info, warn};

use crate::keys::new_preshared_key;
use crate::plan::DesiredPeer;

/// What has been applied so far.
#[derive(Debug, Default)]
pub struct Applied {
    entries: BTreeMap<PublicKey, Entry>,
    /// The peers that are to be greeted under our new key, and when some were last.
    ungreeted: Vec<PublicKey>,
    greeted: Option<Instant>,
}

/// So many peers are greeted at once under a new key of ours, and then more after a pause. A node is under load
/// when more than 1,000 handshake messages a second come, 512 of them at once.
const GREETINGS: usize = 256;
const GREETING_PAUSE: Duration = Duration::from_millis(500);

/// A peer of the interface.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The node's name.
    pub name: String,
    /// The generation of the key.
    pub generation: u64,
    /// Whether it is the key that the node has announced, and not yet the one that its record has in use.
    pub is_next: bool,
    /// Its handle.
    pub id: PeerId,
    endpoint: Option<SocketAddr>,
    psk: PresharedKey,
}

/// A peer as it is to be.
struct Wanted<'p> {
    peer: &'p DesiredPeer,
    generation: u64,
    is_next: bool,
    keepalive: u16,
    psk: PresharedKey,
}

impl Applied {
    /// All peers, by key.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<PublicKey, Entry> {
        &self.entries
    }

    /// Applies the peers that the plan wants. `psk` gives the preshared key with a node, or nothing where it
    /// cannot be read: then the former one stays, or no session comes about. `unix_time` is our clock, in seconds.
    pub fn apply(
        &mut self,
        node: &Node,
        peers: &[DesiredPeer],
        keepalive: u16,
        unix_time: u64,
        psk: impl Fn(&str) -> Option<PresharedKey>,
    ) {
        let mut wanted = BTreeMap::new();
        for peer in peers {
            let psk = psk(&peer.name).unwrap_or_else(|| self.former_psk(&peer.name));
            if let Some(next) = peer.next {
                // By our clock the key may be in use: if it is, the greeting finds out.
                let is_due = next.switch_at <= unix_time;
                let keepalive = if is_due { keepalive } else { 0 };
                let want = Wanted {
                    peer,
                    generation: next.generation,
                    is_next: true,
                    keepalive,
                    psk: psk.clone(),
                };
                wanted.insert(next.key, want);
            }
            let want = Wanted {
                peer,
                generation: peer.generation,
                is_next: false,
                keepalive,
                psk,
            };
            wanted.insert(peer.key, want);
        }
        node.change(|state, now| self.follow(state, now, peers, &wanted, node));
    }

    /// The preshared key with a node as it was, or else one that nobody has. None at all would be weaker than
    /// what the operator asked for.
    fn former_psk(&self, name: &str) -> PresharedKey {
        let mut entries = self.entries.values();
        let former = entries.find(|entry| entry.name == name);
        former.map_or_else(new_preshared_key, |entry| entry.psk.clone())
    }

    fn follow(
        &mut self,
        state: &mut State,
        now: quietwire::Instant,
        peers: &[DesiredPeer],
        wanted: &BTreeMap<PublicKey, Wanted<'_>>,
        node: &Node,
    ) {
        for (key, want) in wanted {
            match self.entries.get_mut(key) {
                Some(entry) => adjust(state, now, key, entry, want),
                None => self.add(state, now, *key, want),
            }
        }
        // Before the former keys are removed, so that what waits for them is handed over.
        for peer in peers {
            self.give_prefixes(state, peer);
        }
        let gone: Vec<_> = self
            .entries
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .copied()
            .collect();
        for key in gone {
            if let Some(entry) = self.entries.remove(&key) {
                info!(
                    "{}: its key of generation {} is removed",
                    entry.name, entry.generation
                );
                state.forget(entry.id, &node.counters);
                state.interface.remove_peer(entry.id);
            }
        }
        state.twins = peers.iter().filter_map(|peer| self.twins(peer)).collect();
    }

    fn add(
        &mut self,
        state: &mut State,
        now: quietwire::Instant,
        key: PublicKey,
        want: &Wanted<'_>,
    ) {
        let name = &want.peer.name;
        let mut config = PeerConfig::new(key)
            .mtu(state.mtu)
            .preshared_key(want.psk.clone())
            .persistent_keepalive(want.keepalive);
        if let Some(endpoint) = want.peer.endpoint {
            config = config.endpoint(Path::to(endpoint));
        }
        let id = match state.interface.add_peer(now, &config) {
            Ok(id) => id,
            Err(why) => {
                warn!("{name}: its key {key} cannot be added: {why}");
                return;
            }
        };
        let ahead = if want.is_next {
            ", announced ahead"
        } else {
            ""
        };
        let at = want
            .peer
            .endpoint
            .map_or("nowhere yet".into(), |at| at.to_string());
        info!(
            "{name}: its key of generation {} is {key}{ahead}, at {at}",
            want.generation
        );
        let entry = Entry {
            name: name.clone(),
            generation: want.generation,
            is_next: want.is_next,
            id,
            endpoint: want.peer.endpoint,
            psk: want.psk.clone(),
        };
        self.entries.insert(key, entry);
    }

    fn twins(&self, peer: &DesiredPeer) -> Option<(PeerId, PeerId)> {
        let [one, other] = [Some(peer.key), peer.next.map(|next| next.key)]
            .map(|key| key.and_then(|key| self.entries.get(&key)));
        Some((one?.id, other?.id))
    }

    /// Sees to it that one of a node's keys has its prefixes: the one that was heard of last, or else the one
    /// in use.
    fn give_prefixes(&self, state: &mut State, peer: &DesiredPeer) {
        let Some(main) = self.entries.get(&peer.key) else {
            return;
        };
        let next = peer.next.and_then(|next| self.entries.get(&next.key));
        let has_any = |entry: &&Entry| !prefixes(state, entry.id).is_empty();
        let holder = next.filter(has_any).map_or(main.id, |next| next.id);
        if holder == main.id {
            // Its record says that the key is in use, before we have heard of it.
            state.heard_of(main.id);
        }
        if prefixes(state, holder) == peer.allowed {
            return;
        }
        if let Some(mut holder) = state.interface.peer_mut(holder) {
            holder.replace_allowed_ips(peer.allowed.iter().copied());
            let listed: Vec<_> = peer.allowed.iter().map(ToString::to_string).collect();
            info!("{}: has {}", peer.name, listed.join(", "));
        }
    }

    /// Starts to use another key of ours: all peers are greeted under it, the first ones at once.
    pub fn set_own_key(&mut self, node: &Node, key: &PrivateKey) {
        let used = node.change(|state, _| state.interface.set_private_key(Some(key)));
        if let Err(why) = used {
            warn!("our new key cannot be used: {why}");
            return;
        }
        self.ungreeted = self.entries.keys().copied().collect();
        self.greeted = None;
        self.greet(node);
    }

    /// Whether some peers have not been greeted under our new key yet.
    #[must_use]
    pub fn is_greeting(&self) -> bool {
        !self.ungreeted.is_empty()
    }

    /// Greets the next peers under our key if it is time; how long it is not, or `None` if all are greeted. The
    /// answers of very many at once would be more handshake messages than a node believes without cookies. Whoever
    /// has something to send before its turn greets or is greeted all the same.
    pub fn greet(&mut self, node: &Node) -> Option<Duration> {
        if self.ungreeted.is_empty() {
            return None;
        }
        let since = self.greeted.map(|at| at.elapsed());
        if let Some(left) = since.and_then(|since| GREETING_PAUSE.checked_sub(since)) {
            return Some(left);
        }
        let rest = self.ungreeted.len().saturating_sub(GREETINGS);
        let portion = self.ungreeted.split_off(rest);
        node.change(|state, now| {
            for entry in portion.iter().filter_map(|key| self.entries.get(key)) {
                if let Some(mut peer) = state.interface.peer_mut(entry.id) {
                    peer.initiate(now);
                }
            }
        });
        self.greeted = Some(Instant::now());
        (rest > 0).then_some(GREETING_PAUSE)
    }
}

/// Changes what differs, and nothing else.
fn adjust(
    state: &mut State,
    now: quietwire::Instant,
    key: &PublicKey,
    entry: &mut Entry,
    want: &Wanted<'_>,
) {
    let Some(before) = state.interface.peer(entry.id) else {
        return;
    };
    let name = &want.peer.name;
    let keepalive = before.persistent_keepalive();
    let Some(mut peer) = state.interface.peer_mut(entry.id) else {
        return;
    };
    if entry.endpoint != want.peer.endpoint {
        if let Some(endpoint) = want.peer.endpoint {
            info!("{name}: is at {endpoint} now");
            peer.set_endpoint(Path::to(endpoint));
        }
        entry.endpoint = want.peer.endpoint;
    }
    if keepalive != want.keepalive {
        peer.set_persistent_keepalive(now, want.keepalive);
    }
    if !entry.psk.ct_eq(&want.psk) {
        let has = if want.psk.is_none() { "no" } else { "another" };
        info!("{name}: has {has} preshared key from the next handshake on");
        peer.set_preshared_key(&want.psk);
        entry.psk = want.psk.clone();
    }
    if entry.is_next && !want.is_next {
        info!(
            "{name}: its record has the key {key} in use, generation {}",
            want.generation
        );
    }
    entry.name.clone_from(name);
    entry.generation = want.generation;
    entry.is_next = want.is_next;
}

fn prefixes(state: &State, id: PeerId) -> Vec<Cidr> {
    let of = |peer: PeerRef<'_, Path>| peer.allowed_ips().collect();
    state.interface.peer(id).map(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preshared_key_that_cannot_be_read_is_never_none() {
        let psk = PresharedKey::from_bytes([7; 32]);
        let entry = Entry {
            name: "b".into(),
            generation: 1,
            is_next: false,
            id: PeerId::default(),
            endpoint: None,
            psk: psk.clone(),
        };
        let key = PrivateKey::from_bytes([1; 32]).public_key();
        let applied = Applied {
            entries: [(key, entry)].into(),
            ..Applied::default()
        };
        assert!(applied.former_psk("b").ct_eq(&psk));
        assert!(!applied.former_psk("c").is_none());
    }
}
