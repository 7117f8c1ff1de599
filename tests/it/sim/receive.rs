//! What goes into a device: each datagram has a verdict before, and is booked after.
//!
//! The verdict comes from the books and the model. A refusal must leave nothing behind that the
//! public interface shows.

use std::net::SocketAddr;

use quietwire::{Control, HandshakeJob, HandshakeStep, Rejected};

use super::device::{Got, View};
use super::ledger::{Content, word};
use super::model::{FLOOD, Model, Verdict};
use super::node::{Job, Node};
use super::world::{Happening, World};

type Judged = Result<(usize, Got), Rejected>;

/// Datagrams in.
impl World {
    pub(crate) fn arrive(&mut self, n: usize, from: SocketAddr, datagram: Vec<u8>) {
        self.note("gets", n, &datagram);
        let mode = self.nodes[n].mode;
        if mode.is_batch {
            if self.nodes[n].inbox.is_empty() {
                let pause = self.rng.below(20_000_000);
                self.schedule(self.now + pause, Happening::Collect(n));
            }
            self.nodes[n].inbox.push((from, datagram));
        } else if mode.has_jobs && self.rng.one_in(2) {
            self.begin(n, from, datagram);
        } else {
            if !self.receive(n, from, &datagram) {
                let event = self.nodes[n].device.poll_event();
                assert_eq!(event, None, "an event of a refused datagram");
            }
            self.drain(n);
        }
    }

    /// Gives a datagram to the device in one call; whether it was believed.
    pub(crate) fn receive(&mut self, n: usize, from: SocketAddr, datagram: &[u8]) -> bool {
        let now = self.read_clock(n);
        let verdict = self.verdict(n, datagram);
        let node = &mut self.nodes[n];
        let before = node.views();
        let result = node.device.receive(now, from, &mut datagram.to_vec());
        if let Err(reason) = &result {
            assert_same(&before, node, *reason);
            assert_uncounted(&before, node, datagram);
        }
        self.judge(n, from, datagram, verdict, &result);
        result.is_ok()
    }

    /// Gives a device what it has collected.
    pub(crate) fn collect(&mut self, n: usize) {
        let inbox = core::mem::take(&mut self.nodes[n].inbox);
        // The order in which a batch does handshakes and data is its own affair, so a mixed one is
        // kept as short as the steps that it works in.
        let is_mixed = inbox
            .iter()
            .any(|(_, datagram)| datagram.first() != Some(&4));
        let step = if is_mixed { 16 } else { 1000 };
        for batch in inbox.chunks(step) {
            let now = self.read_clock(n);
            let results = self.nodes[n].device.receive_batch(now, batch.to_vec());
            assert_eq!(results.len(), batch.len());
            let mut judged: Vec<_> = batch.iter().zip(results).collect();
            if !self.nodes[n].is_tunnel {
                judged.sort_by_key(|((_, datagram), _)| datagram.first() == Some(&4));
            }
            for ((from, datagram), result) in judged {
                let mut verdict = self.verdict(n, datagram);
                if is_mixed && verdict == Verdict::Accept {
                    verdict = Verdict::Either;
                }
                self.judge(n, *from, datagram, verdict, &result);
            }
            self.drain(n);
        }
    }

    /// Begins a datagram whose cryptography runs later.
    fn begin(&mut self, n: usize, from: SocketAddr, datagram: Vec<u8>) {
        let now = self.read_clock(n);
        let verdict = self.verdict(n, &datagram);
        let node = &mut self.nodes[n];
        let before = node.views();
        if datagram.first() == Some(&4) {
            match node.device.begin_open(now, from, datagram.clone()) {
                Ok(job) => self.defer(n, Job::Open(from, datagram, job)),
                Err(reason) => {
                    assert_same(&before, node, reason);
                    self.judge(n, from, &datagram, verdict, &Err(reason));
                }
            }
        } else {
            let step = node.device.begin_handshake(now, from, &datagram);
            if let Err(reason) = &step {
                assert_same(&before, node, *reason);
            }
            self.step_handshake(n, Some((from, datagram)), step, self.nodes[n].seen);
        }
        self.drain(n);
    }

    pub(crate) fn defer(&mut self, n: usize, job: Job) {
        if self.rng.ppm(self.nodes[n].mode.loses_jobs) {
            return;
        }
        let id = self.rng.draw();
        let delay = Node::job_delay(&mut self.rng);
        self.nodes[n].jobs.insert(id, job);
        self.schedule(self.now + delay, Happening::Finish(n, id));
    }

    /// A job has come back from its thread.
    pub(crate) fn finish(&mut self, n: usize, id: u64) {
        let Some(job) = self.nodes[n].jobs.remove(&id) else {
            return;
        };
        match job {
            Job::Open(from, datagram, mut job) => {
                if self.rng.one_in(2) {
                    job.run();
                }
                let now = self.read_clock(n);
                let verdict = self.verdict(n, &datagram);
                let result = self.nodes[n].device.finish_open(now, job);
                self.judge(n, from, &datagram, verdict, &result);
            }
            Job::Handshake(origin, job, begun) => self.finish_handshake(n, origin, job, begun),
            Job::Seal(peer, job, serial) => self.send_sealed(n, peer, job, serial),
        }
        self.drain(n);
    }

    pub(crate) fn finish_handshake(
        &mut self,
        n: usize,
        origin: Option<(SocketAddr, Vec<u8>)>,
        mut job: HandshakeJob,
        begun: u64,
    ) {
        if self.rng.one_in(2) {
            job.run();
        }
        let now = self.read_clock(n);
        let step = self.nodes[n].device.finish_handshake(now, job);
        self.step_handshake(n, origin, step, begun);
    }

    fn step_handshake(
        &mut self,
        n: usize,
        origin: Option<(SocketAddr, Vec<u8>)>,
        step: Result<HandshakeStep, Rejected>,
        begun: u64,
    ) {
        match (step, origin) {
            (Ok(HandshakeStep::Run(job)), origin) => {
                self.defer(n, Job::Handshake(origin, job, begun));
            }
            (Ok(HandshakeStep::Received(id, control)), Some((from, datagram))) => {
                let verdict = self.verdict(n, &datagram);
                let peer = self.nodes[n].device.number_of(id);
                self.judge(
                    n,
                    from,
                    &datagram,
                    verdict,
                    &Ok((peer, Got::Control(control))),
                );
            }
            (Err(reason), Some((from, datagram))) => {
                let verdict = self.verdict(n, &datagram);
                self.judge(n, from, &datagram, verdict, &Err(reason));
            }
            (Ok(HandshakeStep::Transmit(transmit)), None) => {
                self.control_sent(n, &transmit, begun);
            }
            (Ok(HandshakeStep::Nothing), None) => {}
            other => panic!("a step that cannot be: {other:?}"),
        }
    }

    /// What must become of a datagram that reaches a node now.
    fn verdict(&self, n: usize, datagram: &[u8]) -> Verdict {
        let node = &self.nodes[n];
        let Some(sent) = self.ledger.find(datagram).filter(|sent| sent.to == n) else {
            return Verdict::Reject;
        };
        // A stranger under whose address an attacker has written gets cookies, and has no use for them.
        let Some(peer) = node.peer_of(sent.from) else {
            return Verdict::Reject;
        };
        let model = &node.models[peer];
        let is_used = sent.accepted_by == Some(model.generation);
        match sent.content {
            Content::Data {
                receiver, counter, ..
            } => model.judge_data(node.seen, receiver, counter),
            Content::Response { .. } if self.now < node.loaded_until && !is_used => Verdict::Either,
            Content::Response { receiver, .. } => model.judge_response(receiver),
            Content::Initiation { .. } | Content::Cookie if is_used => Verdict::Reject,
            Content::Initiation { .. } | Content::Cookie => Verdict::Either,
        }
    }

    /// Compares what became of a datagram with the verdict, and books it.
    fn judge(
        &mut self,
        n: usize,
        from: SocketAddr,
        datagram: &[u8],
        verdict: Verdict,
        result: &Judged,
    ) {
        match result {
            Ok((peer, got)) => {
                assert_ne!(
                    verdict,
                    Verdict::Reject,
                    "node {n} accepted as {got:?}: {datagram:02x?}"
                );
                self.accepted(n, *peer, from, datagram, got);
            }
            Err(reason) => {
                self.sight(("refused", reason), n);
                assert_ne!(
                    verdict,
                    Verdict::Accept,
                    "node {n} refused as {reason:?}: {datagram:02x?}"
                );
                self.check_refusal(n, datagram, *reason);
            }
        }
    }

    /// A first, whole initiation is refused only for a reason that the world knows of.
    fn check_refusal(&self, n: usize, datagram: &[u8], reason: Rejected) {
        let node = &self.nodes[n];
        let is_loaded = self.now < node.loaded_until;
        if matches!(reason, Rejected::CookieRequired | Rejected::RateLimited) {
            assert!(is_loaded, "{reason:?} without load");
        }
        let Some(sent) = self.ledger.find(datagram).filter(|sent| sent.to == n) else {
            return;
        };
        let Content::Initiation { n: number, .. } = sent.content else {
            return;
        };
        let Some(peer) = node.peer_of(sent.from) else {
            let is_stranger = reason == Rejected::UnknownPeer || is_loaded;
            return assert!(is_stranger, "a stranger is refused as {reason:?}");
        };
        let model = &node.models[peer];
        let is_plausible = match reason {
            Rejected::OldTimestamp => {
                model.newest_initiation.is_some_and(|(generation, newest)| {
                    generation != sent.generation || number <= newest
                })
            }
            Rejected::TooFrequent => model
                .accepted_initiation_at
                .is_some_and(|at| node.seen < at + FLOOD),
            Rejected::Superseded => node.mode.has_jobs,
            _ => is_loaded,
        };
        assert!(
            is_plausible,
            "initiation {number} of node {} refused as {reason:?}",
            sent.from
        );
    }

    fn accepted(&mut self, n: usize, peer: usize, from: SocketAddr, datagram: &[u8], got: &Got) {
        match got {
            Got::Packet(_) => self.sight(("got", "packet"), n),
            got => self.sight(("got", got), n),
        }
        let sent = self.ledger.find(datagram).unwrap().clone();
        let node = &mut self.nodes[n];
        assert_eq!(
            node.others[peer].node, sent.from,
            "accepted for another peer"
        );
        let (now, len) = (node.seen, datagram.len());
        let model = &mut node.models[peer];
        self.ledger.accepted(datagram, model.generation);
        match (sent.content, got) {
            (Content::Initiation { sender, n: number }, Got::Control(Control::Initiation)) => {
                model.initiation_accepted(now, from, sender, len);
                let newest = model
                    .newest_initiation
                    .filter(|(g, newest)| *g == sent.generation && *newest > number);
                assert_eq!(newest, None, "an overtaken initiation was accepted");
                model.newest_initiation = Some((sent.generation, number));
            }
            (Content::Response { sender, receiver }, Got::Control(Control::Response)) => {
                model.response_accepted(now, from, receiver, sender, len);
            }
            (Content::Cookie, Got::Control(Control::Cookie)) => {}
            (
                Content::Data {
                    receiver,
                    counter,
                    serial: None,
                },
                Got::Keepalive,
            ) => {
                model.data_accepted(now, from, (receiver, counter), (len, true));
            }
            (
                Content::Data {
                    receiver,
                    counter,
                    serial: Some(serial),
                },
                Got::Packet(packet),
            ) => {
                model.data_accepted(now, from, (receiver, counter), (len, false));
                let delivered = self.ledger.deliver(n, serial, packet, self.now);
                if node.mode.echoes && !delivered.is_answer && serial % 4 < 2 && !self.is_healed {
                    let answer = self
                        .ledger
                        .new_packet(n, sent.from, packet.len(), self.now, true);
                    self.answers.push((peer, answer));
                }
            }
            (content, got) => panic!("{content:?} was taken for {got:?}"),
        }
    }
}

/// A refused datagram leaves nothing behind that can be seen.
fn assert_same(before: &(Vec<View>, Option<u64>), node: &Node, reason: Rejected) {
    let (before, deadline) = before;
    let (mut after, deadline_after) = node.views();
    for (view, before) in after.iter_mut().zip(before) {
        view.stats.rx_dropped = before.stats.rx_dropped;
    }
    assert_eq!(
        *before, after,
        "changed by a datagram refused as {reason:?}"
    );
    // An interface may find out by the way that a deadline on file was too early.
    let is_same = match (deadline, deadline_after) {
        (Some(before), after) if !node.is_tunnel => after.is_none_or(|after| after >= *before),
        (before, after) => *before == after,
    };
    assert!(
        is_same,
        "the deadline was changed by a datagram refused as {reason:?}"
    );
}

/// A datagram for an index that nobody has any more is on nobody's account.
fn assert_uncounted((before, _): &(Vec<View>, Option<u64>), node: &Node, datagram: &[u8]) {
    let receiver = match (datagram.first(), datagram.len()) {
        (Some(2), 92) => word(datagram, 8),
        (Some(3), 64) | (Some(4), 32..) => word(datagram, 4),
        _ => return,
    };
    let is_exact = |model: &Model| model.is_exact;
    let is_live = |model: &Model| model.indices().any(|index| index == receiver);
    if node.models.iter().all(is_exact) && !node.models.iter().any(is_live) {
        let (after, _) = node.views();
        assert_eq!(*before, after, "counted for a peer: {datagram:02x?}");
    }
}
