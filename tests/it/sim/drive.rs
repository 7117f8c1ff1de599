//! How a node drives its device: it wakes when it is told to, and after each call it drains events,
//! then messages, then asks for the next timeout, as the library's contract says.

use std::collections::BTreeSet;

use quietwire::{Event, Instant};

use super::node::Job;
use super::world::World;

/// How many messages were owed at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owed {
    pub(crate) cookies: usize,
    pub(crate) others: usize,
}

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
            self.seal(n, peer, &answer);
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
                    self.seal(n, peer, &packet);
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
