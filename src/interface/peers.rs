//! The peers of an interface: storage and the tables that find them.
//!
//! A peer lives in a slot; everything else refers to the slot by its number. After each change of a
//! peer the tables are brought in step with it by [`Many::settle`]: what the peer says of itself is
//! the truth, the tables are derived. The data path leaves the heap of deadlines alone unless a
//! deadline became earlier than the one on file.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::allowed_ips::AllowedIps;
use super::indices::IndexTable;
use super::schedule::{ReadyList, Schedule};
use super::sources::Sources;
use crate::cidr::Cidr;
use crate::engine::{OwedCookie, Peers};
use crate::error::ConfigError;
use crate::event::{Endpoint, Env, Event, PeerId};
use crate::peer::{Owed, Peer};
use crate::session::Session;
use crate::time::Instant;

pub(crate) type StoredPeer<E> = Peer<E, Box<Session>>;

/// Any number of peers, up to [`Self::MAX_PEERS`].
#[derive(Debug)]
pub(crate) struct Many<E> {
    slots: Vec<Slot<E>>,
    free: Vec<u32>,
    by_key: BTreeMap<[u8; 32], u32>,
    indices: IndexTable,
    pub(crate) allowed_ips: AllowedIps,
    schedule: Schedule,
    owe_handshake: ReadyList,
    owe_keepalive: ReadyList,
    have_events: ReadyList,
    cookies: VecDeque<OwedCookie<E>>,
    sources: Sources,
}

#[derive(Debug)]
struct Slot<E> {
    generation: u32,
    entry: Option<Box<Entry<E>>>,
}

/// A peer and the receiver indices under which it is in the table.
#[derive(Debug)]
struct Entry<E> {
    peer: StoredPeer<E>,
    registered: [Option<u32>; 5],
}

/// What the tables have to know of a peer.
#[derive(Clone, Copy, Debug)]
struct Status {
    deadline: Option<Instant>,
    owed: Option<Owed>,
    has_events: bool,
}

impl Status {
    #[inline]
    fn of<E: Endpoint>(peer: &StoredPeer<E>) -> Self {
        Self {
            deadline: peer.poll_timeout(),
            owed: peer.owes(),
            has_events: peer.has_events(),
        }
    }
}

impl<E: Endpoint> Many<E> {
    /// As many as the kernel allows.
    const MAX_PEERS: usize = 1 << 20;

    /// Cookie replies that wait to be sent; further ones are not owed.
    const MAX_COOKIES: usize = 256;

    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: BTreeMap::new(),
            indices: IndexTable::new(),
            allowed_ips: AllowedIps::new(),
            schedule: Schedule::new(),
            owe_handshake: ReadyList::new(),
            owe_keepalive: ReadyList::new(),
            have_events: ReadyList::new(),
            cookies: VecDeque::new(),
            sources: Sources::default(),
        }
    }

    /// Stores a peer. O(log n).
    pub(crate) fn insert(&mut self, peer: StoredPeer<E>) -> Result<PeerId, ConfigError> {
        if self.by_key.contains_key(peer.public_key()) {
            return Err(ConfigError::DuplicatePeer);
        }
        if self.by_key.len() >= Self::MAX_PEERS {
            return Err(ConfigError::TooManyPeers);
        }
        let public_key = *peer.public_key();
        let entry = Some(Box::new(Entry {
            peer,
            registered: [None; 5],
        }));
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.new_slot()?,
        };
        let place = self.slot_mut(slot).ok_or(ConfigError::TooManyPeers)?;
        place.entry = entry;
        let id = PeerId {
            slot,
            generation: place.generation,
        };
        self.by_key.insert(public_key, slot);
        self.settle(id);
        Ok(id)
    }

    fn new_slot(&mut self) -> Result<u32, ConfigError> {
        let slot = u32::try_from(self.slots.len()).map_err(|_| ConfigError::TooManyPeers)?;
        self.slots.push(Slot {
            generation: 0,
            entry: None,
        });
        // Now, so that neither packets nor timeouts allocate later.
        self.schedule.cover(slot);
        for list in [
            &mut self.owe_handshake,
            &mut self.owe_keepalive,
            &mut self.have_events,
        ] {
            list.cover(slot);
        }
        Ok(slot)
    }

    /// Removes a peer with everything that refers to it; whether there was one.
    pub(crate) fn remove(&mut self, id: PeerId) -> bool {
        let Some(entry) = self.place(id).and_then(|place| place.entry.take()) else {
            return false;
        };
        for index in entry.registered.into_iter().flatten() {
            self.indices.remove(index);
        }
        self.by_key.remove(entry.peer.public_key());
        self.allowed_ips.remove_all(id.slot);
        self.schedule.remove(id.slot);
        for list in [
            &mut self.owe_handshake,
            &mut self.owe_keepalive,
            &mut self.have_events,
        ] {
            list.remove(id.slot);
        }
        // A slot whose generations are used up is not used again.
        let slot = self.slot_mut(id.slot);
        if let Some(generation) = slot.and_then(|slot| {
            slot.generation = slot.generation.checked_add(1)?;
            Some(slot.generation)
        }) {
            debug_assert_ne!(generation, id.generation, "a handle is never reused");
            self.free.push(id.slot);
        }
        true
    }

    /// All peers, in the order of their slots.
    pub(crate) fn ids(&self) -> impl Iterator<Item = PeerId> + '_ {
        (0..).zip(&self.slots).filter_map(|(slot, place)| {
            place.entry.as_ref()?;
            Some(PeerId {
                slot,
                generation: place.generation,
            })
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Changes every peer.
    pub(crate) fn for_each(&mut self, mut f: impl FnMut(&mut StoredPeer<E>)) {
        for slot in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let Some(id) = self.id_of(slot) else { continue };
            if let Some(peer) = self.get_mut(id) {
                f(peer);
            }
            self.settle(id);
        }
    }

    /// Gives a prefix to a peer, taking it from another if need be.
    pub(crate) fn allow(&mut self, id: PeerId, cidr: Cidr) {
        self.allowed_ips.insert(cidr, id.slot);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.schedule.next()
    }

    pub(crate) fn pop_event(&mut self) -> Option<(PeerId, Event)> {
        while let Some(slot) = self.have_events.pop() {
            let Some(id) = self.id_of(slot) else { continue };
            let Some(peer) = self.get_mut(id) else {
                continue;
            };
            if let Some(event) = peer.pop_event() {
                if peer.has_events() {
                    self.have_events.push(slot);
                }
                return Some((id, event));
            }
        }
        None
    }

    pub(crate) fn id_of(&self, slot: u32) -> Option<PeerId> {
        let place = self.slots.get(usize::try_from(slot).ok()?)?;
        place.entry.as_ref()?;
        Some(PeerId {
            slot,
            generation: place.generation,
        })
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<E>> {
        self.slots.get_mut(usize::try_from(slot).ok()?)
    }

    fn place(&mut self, id: PeerId) -> Option<&mut Slot<E>> {
        self.slot_mut(id.slot)
            .filter(|place| place.generation == id.generation)
    }

    fn entry_mut(&mut self, id: PeerId) -> Option<&mut Entry<E>> {
        self.place(id)?.entry.as_deref_mut()
    }

    /// Brings the index table in step with a peer.
    fn settle_indices(&mut self, id: PeerId) {
        let Some(entry) = self.entry_mut(id) else {
            return;
        };
        let now = entry.peer.indices();
        let before = core::mem::replace(&mut entry.registered, now);
        for gone in before
            .into_iter()
            .flatten()
            .filter(|index| !now.contains(&Some(*index)))
        {
            self.indices.remove(gone);
        }
        for new in now
            .into_iter()
            .flatten()
            .filter(|index| !before.contains(&Some(*index)))
        {
            self.indices.insert(new, id.slot);
        }
    }

    /// Brings the ready lists in step with a peer.
    #[inline]
    fn list(&mut self, slot: u32, status: &Status) {
        match status.owed {
            Some(Owed::Response | Owed::Initiation) => self.owe_handshake.push(slot),
            Some(Owed::Keepalive) => self.owe_keepalive.push(slot),
            None => {}
        }
        if status.has_events {
            self.have_events.push(slot);
        }
    }
}

impl<E: Endpoint> Peers<E> for Many<E> {
    type Store = Box<Session>;

    fn by_index(&self, index: u32) -> Option<PeerId> {
        self.id_of(self.indices.get(index)?)
    }

    fn by_key(&self, public_key: &[u8; 32]) -> Option<PeerId> {
        self.id_of(*self.by_key.get(public_key)?)
    }

    fn by_address(&self, address: IpAddr) -> Option<PeerId> {
        self.id_of(self.allowed_ips.lookup(address)?)
    }

    fn get(&self, id: PeerId) -> Option<&StoredPeer<E>> {
        let place = self.slots.get(usize::try_from(id.slot).ok()?)?;
        let entry = place
            .entry
            .as_ref()
            .filter(|_| place.generation == id.generation)?;
        Some(&entry.peer)
    }

    fn get_mut(&mut self, id: PeerId) -> Option<&mut StoredPeer<E>> {
        self.entry_mut(id).map(|entry| &mut entry.peer)
    }

    fn settle(&mut self, id: PeerId) {
        self.settle_indices(id);
        if let Some(status) = self.get(id).map(Status::of) {
            self.list(id.slot, &status);
            self.schedule.set(id.slot, status.deadline);
        }
    }

    #[inline]
    fn pass<R>(
        &mut self,
        id: PeerId,
        f: impl FnOnce(&mut StoredPeer<E>, &dyn Fn(IpAddr) -> bool) -> R,
    ) -> Option<R> {
        let Self {
            slots, allowed_ips, ..
        } = self;
        let place = slots.get_mut(usize::try_from(id.slot).ok()?)?;
        let entry = place.entry.as_deref_mut();
        let peer = &mut entry.filter(|_| place.generation == id.generation)?.peer;
        let result = f(peer, &|address| {
            allowed_ips.lookup(address) == Some(id.slot)
        });
        let (has_freed_index, status) = (peer.take_freed_index(), Status::of(peer));
        if has_freed_index {
            self.settle_indices(id);
        }
        self.list(id.slot, &status);
        if let Some(deadline) = status.deadline {
            self.schedule.earlier(id.slot, deadline);
        }
        Some(result)
    }

    fn fresh_index(&self, env: &mut Env<'_>) -> u32 {
        // With 2^22 indices in use a draw is taken once in a thousand; the walk at the end is for
        // generators that repeat themselves.
        let draw = || u32::from_le_bytes(env.random());
        let drawn = core::iter::repeat_with(draw)
            .take(16)
            .find(|i| !self.indices.contains(*i));
        drawn
            .or_else(|| (0..=u32::MAX).find(|i| !self.indices.contains(*i)))
            .unwrap_or_default()
    }

    fn pop_handshake(&mut self) -> Option<PeerId> {
        let slot = self.owe_handshake.pop()?;
        self.id_of(slot)
    }

    fn pop_keepalive(&mut self) -> Option<PeerId> {
        while let Some(slot) = self.owe_keepalive.pop() {
            let id = self.id_of(slot)?;
            // What was owed may have been sent as data, or have become a handshake.
            if self
                .get(id)
                .is_some_and(|peer| peer.owes() == Some(Owed::Keepalive))
            {
                return Some(id);
            }
        }
        None
    }

    fn pop_due(&mut self, now: Instant) -> Option<PeerId> {
        let slot = self.schedule.pop_due(now)?;
        self.id_of(slot)
    }

    fn take_token(&mut self, now: Instant, source: SocketAddr) -> bool {
        self.sources.take(now, source)
    }

    fn push_cookie(&mut self, cookie: OwedCookie<E>) -> bool {
        let has_room = self.cookies.len() < Self::MAX_COOKIES;
        if has_room {
            self.cookies.push_back(cookie);
        }
        has_room
    }

    fn pop_cookie(&mut self) -> Option<OwedCookie<E>> {
        self.cookies.pop_front()
    }
}
