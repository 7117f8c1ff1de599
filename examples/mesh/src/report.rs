//! The status of the running mesh, collected from all of its parts.

use std::time::Duration;

use quietwire::{Instant, PublicKey};
use quietwire_node::clock;
use quietwire_node::state::State;

use crate::mesh::{Mesh, target};
use crate::plan::DesiredPeer;
use crate::status::{PeerStatus, RefusalStatus, Status};

impl Mesh {
    /// The state of the mesh, seen from here.
    #[must_use]
    pub fn status(&self) -> Status {
        let refusal = |refusal: &crate::plan::Refusal| RefusalStatus {
            name: refusal.name.clone(),
            reason: refusal.reason.to_string(),
            keeps_last: refusal.keeps_last,
        };
        let state = self.node.state();
        let now = clock::now();
        let peers = self.peers.iter().map(|peer| self.peer(&state, now, peer));
        let peers = peers.collect();
        drop(state);
        Status {
            name: self.config.name.clone(),
            key: self.identity.key.public_key().to_string(),
            generation: self.identity.generation,
            switch_at: self.identity.announcement().map(|next| next.switch_at),
            interface: self.config.interface.clone(),
            addresses: self
                .config
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            mtu: self.node.mtu(),
            mtu_advice: self.advice.iter().map(ToString::to_string).collect(),
            is_enabled: self.is_enabled,
            directory_problem: self.problem.clone(),
            is_published: self.is_published(),
            publish_problem: self.publish_problem.clone(),
            clock_behind: self.times.behind(clock::system_time().as_secs()),
            state_problems: self.unkept(),
            peers,
            refusals: self.refusals.iter().map(refusal).collect(),
            dropped: self.dropped(),
            rotations: self.rotations,
        }
    }

    fn peer(&self, state: &State, now: Instant, desired: &DesiredPeer) -> PeerStatus {
        let keys = [Some(desired.key), desired.next.map(|next| next.key)];
        let entries = keys
            .into_iter()
            .flatten()
            .filter_map(|key| self.applied.entries().get(&key));
        let peers: Vec<_> = entries
            .filter_map(|entry| Some((entry, state.interface.peer(entry.id)?)))
            .collect();
        let sum = |of: fn(&quietwire::PeerStats) -> u64| {
            peers.iter().map(|(_, peer)| of(&peer.stats())).sum()
        };
        let mut status = PeerStatus {
            name: desired.name.clone(),
            key: desired.key.to_string(),
            generation: desired.generation,
            next_generation: desired.next.map(|next| next.generation),
            allowed: desired.allowed.iter().map(ToString::to_string).collect(),
            rx_bytes: sum(|stats| stats.rx_bytes),
            tx_bytes: sum(|stats| stats.tx_bytes),
            ..PeerStatus::default()
        };
        // Of two keys the one in use is the one that has the prefixes.
        let used = peers
            .iter()
            .find(|(_, peer)| peer.allowed_ips().next().is_some());
        if let Some((entry, peer)) = used.or(peers.first()) {
            let age = |at: Instant| now.saturating_since(at).as_secs_f64();
            status.generation = entry.generation;
            status.key = peer.public_key().to_string();
            status.endpoint = peer.endpoint().map(|path| path.remote.to_string());
            status.is_up = peer.is_established(now);
            status.has_psk = peer.has_preshared_key();
            status.handshake_age = peer.stats().last_handshake.map(age);
        }
        if entry_is(&status, desired.next.map(|next| next.key)) {
            status.next_generation = None;
        }
        self.add_probe(&mut status, desired);
        status
    }

    fn add_probe(&self, status: &mut PeerStatus, desired: &DesiredPeer) {
        let target = self.known.get(&desired.name).and_then(target);
        let report = target.and_then(|target| self.prober.as_ref()?.report(target));
        if let Some(report) = report {
            status.round_trip = report.round_trip.as_ref().map(Duration::as_secs_f64);
            status.loss = (report.sent > 0).then_some(report.loss);
            status.probes_sent = Some(report.sent);
            status.probes_lost = Some(report.lost);
        }
    }

    fn dropped(&self) -> Vec<(String, u64)> {
        let counters = &self.node.counters;
        let own = [
            ("malformed", &counters.malformed),
            ("no peer", &counters.no_route),
            ("no endpoint", &counters.no_endpoint),
            ("not sealed", &counters.unsealed),
            ("no session", &counters.unstaged),
            ("not sent", &counters.unsent),
            ("not delivered", &counters.unwritten),
        ];
        let own = own.map(|(reason, counter)| (reason.to_owned(), counter.get()));
        let state = self.node.state();
        let refused = state
            .interface
            .drops()
            .iter()
            .filter(|(_, count)| *count > 0);
        let refused: Vec<_> = refused
            .map(|(reason, count)| (format!("received: {reason}"), count))
            .collect();
        own.into_iter().chain(refused).collect()
    }
}

fn entry_is(status: &PeerStatus, key: Option<PublicKey>) -> bool {
    key.is_some_and(|key| status.key == key.to_string())
}
