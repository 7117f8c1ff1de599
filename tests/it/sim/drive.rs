//! How a node drives its device, and how every step is checked.
//!
//! After each call the node drains events, then messages, then asks for the next timeout, as the
//! library's contract says. Whatever goes in has a verdict first; whatever comes out is booked.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use quietwire::{
    Control, Event, HandshakeJob, HandshakeStep, Instant, Outgoing, Rejected, SealError,
    SealFailure, SealJob, Transmit,
};

use super::SEC;
use super::device::{Got, View};
use super::inner;
use super::ledger::{Content, Sent, long, word};
use super::model::Verdict;
use super::node::{Job, Node};
use super::world::{Happening, World};

/// Initiations of one peer that come faster are refused.
const FLOOD: u64 = SEC / 50;

/// How many messages were owed at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owed {
    pub(crate) cookies: usize,
    pub(crate) others: usize,
}

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

    fn defer(&mut self, n: usize, job: Job) {
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

    fn finish_handshake(
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
                self.defer(n, Job::Handshake(origin, job, begun))
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

/// Packets out.
impl World {
    /// Sends new packets of these lengths to a peer.
    pub(crate) fn send_packets(&mut self, n: usize, peer: usize, lens: &[usize]) {
        let to = self.nodes[n].others[peer].node;
        let packets: Vec<_> = lens
            .iter()
            .map(|len| self.ledger.new_packet(n, to, *len, self.now, false))
            .collect();
        if self.nodes[n].mode.is_batch {
            let now = self.read_clock(n);
            let outgoing = packets.iter().map(|packet| in_place(packet)).collect();
            let sealed = self.nodes[n].device.seal_batch(now, outgoing);
            for (packet, result) in packets.into_iter().zip(sealed) {
                self.sealed(n, peer, &packet, result);
            }
        } else {
            for packet in packets {
                self.seal(n, peer, packet);
            }
        }
        self.drain(n);
    }

    fn seal(&mut self, n: usize, peer: usize, packet: Vec<u8>) {
        if self.nodes[n].mode.has_jobs && self.rng.one_in(3) {
            return self.seal_later(n, peer, packet);
        }
        let now = self.read_clock(n);
        if self.rng.one_in(2) {
            let result = self.nodes[n].device.begin_seal(now, in_place(&packet));
            self.sealed(n, peer, &packet, result);
        } else {
            let room = vec![0xaa; packet.len() + 47];
            let outgoing = Outgoing::apart(&packet, room);
            let result = self.nodes[n].device.begin_seal(now, outgoing);
            self.sealed(n, peer, &packet, result);
        }
    }

    fn seal_later(&mut self, n: usize, peer: usize, packet: Vec<u8>) {
        let now = self.read_clock(n);
        let node = &mut self.nodes[n];
        match node.device.begin_seal(now, in_place(&packet)) {
            Ok(job) => {
                node.models[peer].sealed(node.seen, padded(packet.len()) + 32);
                let serial = inner::read(&packet).unwrap().serial;
                self.defer(n, Job::Seal(peer, job, serial));
            }
            Err(failure) => self.unsealed(n, peer, &packet, failure.error),
        }
    }

    fn sealed<'p>(
        &mut self,
        n: usize,
        peer: usize,
        packet: &[u8],
        result: Result<SealJob<'p, Vec<u8>>, SealFailure<'p, Vec<u8>>>,
    ) {
        let mut job = match result {
            Ok(job) => job,
            Err(failure) => return self.unsealed(n, peer, packet, failure.error),
        };
        let node = &mut self.nodes[n];
        let len = padded(packet.len()) + 32;
        let (receiver, counter) = node.models[peer].sealed(node.seen, len);
        assert_eq!(
            Some(job.to()),
            node.models[peer].endpoint,
            "sealed for another place"
        );
        job.run();
        let datagram = job.datagram().to_vec();
        assert_eq!(datagram.len(), len, "padding");
        assert_eq!(
            (word(&datagram, 4), long(&datagram, 8)),
            (receiver, counter)
        );
        let serial = inner::read(packet).unwrap().serial;
        self.data_sent(n, peer, job.to(), &datagram, Some(serial));
    }

    fn unsealed(&mut self, n: usize, peer: usize, packet: &[u8], error: SealError) {
        let node = &mut self.nodes[n];
        let model = &mut node.models[peer];
        match error {
            SealError::NoSession => {
                model.unsealed(node.seen);
                node.staging.push(peer, packet.to_vec());
            }
            SealError::NoEndpoint => assert_eq!(model.endpoint, None),
            error => panic!("{error:?}"),
        }
    }

    fn send_sealed(
        &mut self,
        n: usize,
        peer: usize,
        mut job: SealJob<'static, Vec<u8>>,
        serial: u64,
    ) {
        job.run();
        let (to, datagram) = (job.to(), job.datagram().to_vec());
        self.data_sent(n, peer, to, &datagram, Some(serial));
    }

    fn data_sent(
        &mut self,
        n: usize,
        peer: usize,
        to: SocketAddr,
        datagram: &[u8],
        serial: Option<u64>,
    ) {
        let (receiver, counter) = (word(datagram, 4), long(datagram, 8));
        self.nodes[n].models[peer].emitted(receiver, counter);
        self.book(
            n,
            peer,
            to,
            datagram,
            Content::Data {
                receiver,
                counter,
                serial,
            },
        );
    }

    fn book(&mut self, n: usize, peer: usize, to: SocketAddr, datagram: &[u8], content: Content) {
        let node = &self.nodes[n];
        let sent = Sent {
            from: n,
            to: node.others[peer].node,
            generation: node.models[peer].generation,
            content,
            accepted_by: None,
        };
        self.ledger.sent(datagram, sent);
        self.send(n, to, datagram);
    }

    /// A control message goes out.
    fn control_sent(&mut self, n: usize, transmit: &Transmit, begun: u64) {
        let datagram = transmit.message.as_bytes();
        let to = transmit.to;
        assert_eq!(transmit.tos(), if datagram[0] == 4 { 0 } else { 0x88 });
        // Who lives at an address is the peer; a stranger's address gets nothing but cookies.
        let other = self.owners.get(&to).copied();
        let peer = other.and_then(|other| self.nodes[n].peer_of(other));
        let (Some(peer), true) = (peer, datagram[0] != 3) else {
            assert_eq!(datagram[0], 3, "sent to a stranger");
            return self.cookie_sent(n, to, datagram);
        };
        let (now, len) = (self.nodes[n].seen, datagram.len());
        let model = &mut self.nodes[n].models[peer];
        assert_eq!(Some(to), model.endpoint, "sent to another place");
        let content = match (datagram[0], len) {
            (1, 148) => {
                let sender = word(datagram, 4);
                model.initiation_sent(begun, now, sender, len);
                Content::Initiation {
                    sender,
                    n: model.initiations,
                }
            }
            (2, 92) => {
                let (sender, receiver) = (word(datagram, 4), word(datagram, 8));
                model.response_sent(now, sender, receiver, len);
                Content::Response { sender, receiver }
            }
            (4, 32) => {
                let (receiver, counter) = model.keepalive_sent(now, len);
                assert_eq!((word(datagram, 4), long(datagram, 8)), (receiver, counter));
                model.emitted(receiver, counter);
                Content::Data {
                    receiver,
                    counter,
                    serial: None,
                }
            }
            other => panic!("a control message {other:?}"),
        };
        self.book(n, peer, to, datagram, content);
    }

    fn cookie_sent(&mut self, n: usize, to: SocketAddr, datagram: &[u8]) {
        assert_eq!(datagram.len(), 64);
        assert!(
            self.now < self.nodes[n].loaded_until,
            "a cookie without load"
        );
        let sent = Sent {
            from: n,
            to: self.owners.get(&to).copied().unwrap_or(usize::MAX),
            generation: 0,
            content: Content::Cookie,
            accepted_by: None,
        };
        self.ledger.sent(datagram, sent);
        self.send(n, to, datagram);
    }
}

/// Control.
impl World {
    pub(crate) fn read_clock(&mut self, n: usize) -> Instant {
        let now = self.now;
        self.nodes[n].read_clock(now)
    }

    /// A node handles its timeouts.
    pub(crate) fn wake(&mut self, n: usize) {
        self.read_clock(n);
        let node = &mut self.nodes[n];
        let now = node.now();
        node.device.handle_timeout(now);
        let seen = node.seen;
        node.models
            .iter_mut()
            .for_each(|model| model.timeouts_handled(seen));
        let next = node.device.poll_timeout();
        assert!(
            next.is_none_or(|next| next > seen),
            "the next deadline is not later"
        );
        self.drain(n);
        let next = self.nodes[n].device.poll_timeout();
        assert!(
            next.is_none_or(|next| next > seen),
            "the next deadline is not later"
        );
    }

    /// A node looks at its timeouts at a time that means nothing.
    pub(crate) fn poll(&mut self, n: usize) {
        self.read_clock(n);
        let node = &mut self.nodes[n];
        let now = node.now();
        node.device.handle_timeout(now);
        let seen = node.seen;
        node.models
            .iter_mut()
            .for_each(|model| model.timeouts_handled(seen));
        if let Some((peer, event)) = node.device.poll_event() {
            self.event(n, peer, event);
            self.drain(n);
        } else if let Some(transmit) = node.poll_transmit(self.now) {
            self.control_sent(n, &transmit, seen);
            self.drain(n);
        } else {
            self.schedule_wake(n);
        }
    }

    /// Takes what a device has to say, and compares what it shows with what it should know.
    pub(crate) fn drain(&mut self, n: usize) -> Owed {
        let mut owed = Owed::default();
        let mut kinds = BTreeSet::new();
        for (peer, answer) in core::mem::take(&mut self.answers) {
            self.seal(n, peer, answer);
        }
        loop {
            while let Some((peer, event)) = self.nodes[n].device.poll_event() {
                self.event(n, peer, event);
            }
            if self.nodes[n].mode.has_jobs {
                self.poll_jobs(n);
            }
            let now = self.now;
            let Some(transmit) = self.nodes[n].poll_transmit(now) else {
                break;
            };
            let kind = transmit.message.as_bytes()[0];
            if kind == 3 {
                owed.cookies += 1;
            } else {
                owed.others += 1;
                assert!(
                    kinds.insert((transmit.to, kind)),
                    "owed twice: {transmit:?}"
                );
            }
            let begun = self.nodes[n].seen;
            self.control_sent(n, &transmit, begun);
        }
        self.check(n);
        self.schedule_wake(n);
        owed
    }

    fn poll_jobs(&mut self, n: usize) {
        let now = self.now;
        while let Some(job) = self.nodes[n].poll_handshake(now) {
            let begun = self.nodes[n].seen;
            if self.rng.one_in(2) {
                self.defer(n, Job::Handshake(None, job, begun));
            } else {
                self.finish_handshake(n, None, job, begun);
            }
        }
    }

    fn event(&mut self, n: usize, peer: usize, event: Event) {
        self.sight(event, n);
        let node = &mut self.nodes[n];
        let (seen, model) = (node.seen, &mut node.models[peer]);
        match event {
            Event::Established => {
                model.event_established();
                let staged: Vec<_> = node.staging.take(peer).collect();
                for packet in staged {
                    self.seal(n, peer, packet);
                }
            }
            Event::HandshakeGivenUp => {
                model.event_given_up(seen);
                node.staging.discard(peer);
            }
            Event::SessionExpired => model.event_expired(seen),
            _ => {}
        }
    }

    fn check(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let (views, deadline) = node.views();
        for (view, model) in views.iter().zip(&mut node.models) {
            model.settled(node.seen);
            assert_eq!(view.endpoint, model.endpoint, "endpoint");
            assert_eq!(
                view.is_established,
                model.can_send(node.seen),
                "is_established"
            );
            let stats = view.stats;
            assert_eq!(
                (stats.tx_datagrams, stats.tx_bytes),
                (model.sent.datagrams, model.sent.bytes)
            );
            assert_eq!(
                (stats.rx_datagrams, stats.rx_bytes),
                (model.received.datagrams, model.received.bytes)
            );
            assert_eq!(
                stats.last_handshake.map(Instant::as_nanos),
                model.established_at,
                "{n} {:?}",
                node.mode
            );
            if let Some(due) = model.deadline(node.seen) {
                assert!(
                    deadline.is_some_and(|at| at <= due),
                    "deadline {deadline:?} is after {due}: {model:#?}"
                );
            }
        }
        self.check_indices(n);
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

/// A packet in the middle of a buffer with just enough room.
fn in_place(packet: &[u8]) -> Outgoing<'static, Vec<u8>> {
    let mut buffer = vec![0xaa; 16];
    buffer.extend_from_slice(packet);
    buffer.extend([0xaa; 31]);
    Outgoing::in_place(buffer, 16..16 + packet.len())
}

/// A packet's length with the padding that the kernel gives it, inside an MTU of 1420.
fn padded(len: usize) -> usize {
    len.next_multiple_of(16).min(1420)
}
