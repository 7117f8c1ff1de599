//! From what a directory says to what is applied.
//!
//! Pure: own identity, texts and what is known in, what is known and refusals out. A record that claims
//! what another node has is refused, and the node's last good record stays in force. Who has something
//! keeps it. Where nothing is known yet the node that has been in the mesh longer wins, then the lesser
//! name, so that all nodes that see the same records for the first time decide alike, in whatever order
//! these came.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use quietwire::{Cidr, PublicKey};

use crate::record::{NextKey, Record};

/// The last good record of each other node.
pub type Known = BTreeMap<String, Record>;

/// The most other nodes.
pub const MAX_NODES: usize = 10_000;

/// What decides about the records of others.
#[derive(Clone, Debug)]
pub struct Own {
    /// Our name.
    pub name: String,
    /// Our generation.
    pub generation: u64,
    /// Our key, and the one that we have announced.
    pub keys: Vec<PublicKey>,
    /// Our addresses and subnets.
    pub claims: Vec<Cidr>,
    /// All addresses and subnets of the mesh are within these.
    pub networks: Vec<Cidr>,
}

/// What is to be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The records that are believed.
    pub known: Known,
    /// Those that are not, in the order of names.
    pub refusals: Vec<Refusal>,
}

/// A record that is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Under which name the directory has it.
    pub name: String,
    /// Why.
    pub reason: Reason,
    /// Whether an earlier record of the node stays in force.
    pub keeps_last: bool,
}

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No record at all.
    Malformed(String),
    /// The record is of another node.
    NameMismatch(String),
    /// An address or subnet that is not in the mesh's networks.
    OutsideNetworks(Cidr),
    /// An endpoint that is in the mesh's networks: the tunnel would run through itself.
    EndpointInside(SocketAddr),
    /// An address or subnet of another node.
    Taken {
        /// What is claimed.
        claim: Cidr,
        /// What the other has.
        has: Cidr,
        /// Whose it is.
        owner: String,
    },
    /// A key of another node.
    KeyTaken {
        /// Whose it is.
        owner: String,
    },
    /// Another key, and the generation is not newer.
    KeyChanged {
        /// The generation of both.
        generation: u64,
    },
    /// An older generation than the known one.
    GenerationBack {
        /// The known one.
        known: u64,
        /// That of the record.
        found: u64,
    },
    /// The announced key does not follow the one in use.
    BadNext(&'static str),
    /// Another node uses our name.
    OurName,
    /// The mesh is full.
    TooMany,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "malformed: {why}"),
            Self::NameMismatch(says) => write!(f, "it is a record of {says:?}"),
            Self::OutsideNetworks(cidr) => write!(f, "{cidr} is outside of the mesh's networks"),
            Self::EndpointInside(at) => {
                write!(f, "the endpoint {at} is within the mesh's networks")
            }
            Self::Taken { claim, has, owner } => {
                write!(f, "it claims {claim}, but {has} is {owner}'s")
            }
            Self::KeyTaken { owner } => write!(f, "its key is {owner}'s"),
            Self::KeyChanged { generation } => {
                write!(f, "another key, but generation {generation} as before")
            }
            Self::GenerationBack { known, found } => {
                write!(f, "generation {found}, but {known} is known")
            }
            Self::BadNext(why) => write!(f, "the key announced ahead: {why}"),
            Self::OurName => f.write_str("another node uses our name"),
            Self::TooMany => write!(f, "there are {MAX_NODES} nodes already"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)?;
        if self.keeps_last {
            f.write_str("; its last good record stays in force")?;
        }
        Ok(())
    }
}

/// Decides about all records that the directory has, by name.
#[must_use]
pub fn plan(own: &Own, texts: &BTreeMap<String, String>, known: &Known) -> Plan {
    let mut planner = Planner::new(own);
    for (name, record) in known.iter().filter(|(name, _)| texts.contains_key(*name)) {
        // Known, but our own configuration may have changed.
        if planner.judge_alone(name, record).is_ok() {
            let _ = planner.admit(record);
        }
    }
    let mut waiting = planner.read(texts);
    loop {
        let before = waiting.len();
        waiting.retain_mut(|(record, reason)| match planner.admit(record) {
            Ok(()) => false,
            Err(why) => {
                *reason = Some(why);
                true
            }
        });
        // One node may have moved away from what another one claims.
        if waiting.len() == before {
            break;
        }
    }
    for (record, reason) in waiting {
        if let Some(reason) = reason {
            planner.refuse(&record.name, reason);
        }
    }
    planner.finish()
}

/// A peer as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPeer {
    /// The node's name.
    pub name: String,
    /// The generation of its key.
    pub generation: u64,
    /// Its key.
    pub key: PublicKey,
    /// Where it is reached, if it says.
    pub endpoint: Option<SocketAddr>,
    /// What may come from it and go to it.
    pub allowed: Vec<Cidr>,
    /// The key that it has announced.
    pub next: Option<NextKey>,
}

/// The peers that follow from what is known. `families` are those of our own endpoints: of a peer's
/// endpoints, its first that is of one of them is taken, or else its first.
#[must_use]
pub fn peers(known: &Known, families: &[SocketAddr]) -> Vec<DesiredPeer> {
    let is_ours = |at: &&SocketAddr| families.iter().any(|own| own.is_ipv4() == at.is_ipv4());
    let peer = |record: &Record| {
        let mut allowed: Vec<_> = record.claims().collect();
        allowed.sort_unstable();
        allowed.dedup();
        DesiredPeer {
            name: record.name.clone(),
            generation: record.generation,
            key: record.key,
            endpoint: record
                .endpoints
                .iter()
                .find(is_ours)
                .or(record.endpoints.first())
                .copied(),
            allowed,
            next: record.next,
        }
    };
    known.values().map(peer).collect()
}

type Waiting = Vec<(Record, Option<Reason>)>;

struct Planner<'o> {
    own: &'o Own,
    known: Known,
    claims: BTreeMap<Cidr, String>,
    keys: BTreeMap<[u8; 32], String>,
    refusals: BTreeMap<String, Reason>,
}

impl<'o> Planner<'o> {
    fn new(own: &'o Own) -> Self {
        let ours = |_: &_| own.name.clone();
        Self {
            own,
            known: Known::new(),
            claims: own.claims.iter().map(|cidr| (*cidr, ours(cidr))).collect(),
            keys: own
                .keys
                .iter()
                .map(|key| (*key.as_bytes(), own.name.clone()))
                .collect(),
            refusals: BTreeMap::new(),
        }
    }

    /// Reads all texts that are new or have changed: those that may be admitted, in the order in which
    /// they are to be.
    fn read(&mut self, texts: &BTreeMap<String, String>) -> Waiting {
        let mut waiting = Waiting::new();
        for (name, text) in texts {
            match self.read_one(name, text) {
                Ok(Some(record)) => waiting.push((record, None)),
                Ok(None) => {}
                Err(reason) => self.refuse(name, reason),
            }
        }
        waiting.sort_by_cached_key(|(record, _)| {
            let known = self.known.get(&record.name);
            let since = known.map_or(record.since, |known| known.since);
            (known.is_none(), since, record.name.clone())
        });
        waiting
    }

    fn read_one(&self, name: &str, text: &str) -> Result<Option<Record>, Reason> {
        let record = Record::parse(text).map_err(|why| Reason::Malformed(why.to_string()));
        if name == self.own.name {
            return record
                .and_then(|record| self.judge_ours(&record))
                .map(|()| None);
        }
        let record = record?;
        self.judge_alone(name, &record)?;
        let known = self.known.get(name);
        if known == Some(&record) {
            return Ok(None);
        }
        known.map_or(Ok(()), |known| judge_change(known, &record))?;
        Ok(Some(record))
    }

    /// An older record of ours may still be there; another's at our place is a mistake or an attack.
    fn judge_ours(&self, record: &Record) -> Result<(), Reason> {
        let is_ours = self.own.keys.contains(&record.key);
        if is_ours || record.generation < self.own.generation {
            Ok(())
        } else {
            Err(Reason::OurName)
        }
    }

    /// What can be said of a record without looking at others.
    fn judge_alone(&self, name: &str, record: &Record) -> Result<(), Reason> {
        if record.name != name {
            return Err(Reason::NameMismatch(record.name.clone()));
        }
        let is_in = |ip: IpAddr| self.own.networks.iter().any(|network| network.contains(ip));
        if let Some(out) = record
            .claims()
            .find(|claim| !self.is_within_networks(*claim))
        {
            return Err(Reason::OutsideNetworks(out));
        }
        if let Some(inside) = record.endpoints.iter().find(|at| is_in(at.ip())) {
            return Err(Reason::EndpointInside(*inside));
        }
        let Some(next) = record.next else {
            return Ok(());
        };
        if next.key == record.key {
            return Err(Reason::BadNext("it is the one in use"));
        }
        if next.generation != record.generation + 1 {
            return Err(Reason::BadNext("its generation is not one more"));
        }
        Ok(())
    }

    fn is_within_networks(&self, claim: Cidr) -> bool {
        self.own
            .networks
            .iter()
            .any(|network| contains(*network, claim))
    }

    /// Takes a record in, if nothing that it claims is another's.
    fn admit(&mut self, record: &Record) -> Result<(), Reason> {
        let name = &record.name;
        if self.known.len() >= MAX_NODES && !self.known.contains_key(name) {
            return Err(Reason::TooMany);
        }
        let is_other = |owner: &&String| *owner != name;
        for key in keys(record) {
            if let Some(owner) = self.keys.get(key.as_bytes()).filter(is_other) {
                return Err(Reason::KeyTaken {
                    owner: owner.clone(),
                });
            }
        }
        for claim in record.claims() {
            if let Some((has, owner)) = self.overlap(claim, name) {
                let owner = owner.to_owned();
                return Err(Reason::Taken { claim, has, owner });
            }
        }
        if let Some(old) = self.known.remove(name) {
            old.claims()
                .for_each(|claim| drop(self.claims.remove(&claim)));
            keys(&old).for_each(|key| drop(self.keys.remove(key.as_bytes())));
        }
        record
            .claims()
            .for_each(|claim| drop(self.claims.insert(claim, name.clone())));
        keys(record).for_each(|key| drop(self.keys.insert(*key.as_bytes(), name.clone())));
        self.known.insert(name.clone(), record.clone());
        Ok(())
    }

    /// What of another's overlaps with a claim: O(prefix length · log n) and what the node has itself.
    fn overlap(&self, claim: Cidr, name: &str) -> Option<(Cidr, &str)> {
        let around = (0..claim.prefix_len())
            .filter_map(|len| Cidr::new(claim.address(), len).ok())
            .filter_map(|wider| self.claims.get_key_value(&wider));
        let within = self
            .claims
            .range(claim..)
            .take_while(|(has, _)| contains(claim, **has));
        let mut all = around.chain(within);
        let (has, owner) = all.find(|(_, owner)| *owner != name)?;
        Some((*has, owner))
    }

    fn refuse(&mut self, name: &str, reason: Reason) {
        self.refusals.insert(name.to_owned(), reason);
    }

    fn finish(self) -> Plan {
        let Self {
            known, refusals, ..
        } = self;
        let refusal = |(name, reason)| Refusal {
            keeps_last: known.contains_key(&name),
            name,
            reason,
        };
        Plan {
            refusals: refusals.into_iter().map(refusal).collect(),
            known,
        }
    }
}

/// What can be said of a record beside the node's last good one.
fn judge_change(known: &Record, record: &Record) -> Result<(), Reason> {
    let (before, found) = (known.generation, record.generation);
    if found < before {
        return Err(Reason::GenerationBack {
            known: before,
            found,
        });
    }
    // One generation is one key, also one that was announced.
    for (generation, key) in generations(record) {
        let known = generations(known).find(|(known, _)| *known == generation);
        if known.is_some_and(|(_, known)| known != key) {
            return Err(Reason::KeyChanged { generation });
        }
    }
    if found > before && record.key == known.key {
        return Err(Reason::BadNext("a newer generation, but the same key"));
    }
    Ok(())
}

fn generations(record: &Record) -> impl Iterator<Item = (u64, PublicKey)> {
    let next = record.next.map(|next| (next.generation, next.key));
    [(record.generation, record.key)].into_iter().chain(next)
}

fn keys(record: &Record) -> impl Iterator<Item = PublicKey> {
    generations(record).map(|(_, key)| key)
}

fn contains(outer: Cidr, inner: Cidr) -> bool {
    outer.prefix_len() <= inner.prefix_len() && outer.contains(inner.address())
}

#[cfg(test)]
mod tests;
