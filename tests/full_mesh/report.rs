//! What must be so in the end, and the table.

use std::time::Duration;

use quietwire::Interface;

use super::tally::Call;
use super::world::World;

const HANDSHAKE: [Call; 4] = [
    Call::WriteInitiation,
    Call::ReadInitiation,
    Call::WriteResponse,
    Call::ReadResponse,
];
const DATA: [Call; 4] = [
    Call::Seal,
    Call::Open,
    Call::OpenKeepalive,
    Call::WriteKeepalive,
];
const REST: [Call; 4] = [Call::Timeout, Call::Poll, Call::Refuse, Call::Configure];

impl World {
    /// Checks the books.
    pub(crate) fn audit(&mut self) {
        let t = &self.tally;
        assert_eq!(t.handed, t.sealed + t.staged, "what was handed over");
        let waiting: u64 = self.waiting();
        assert_eq!(
            t.staged,
            t.sealed_late + t.discarded + waiting,
            "what was staged"
        );
        let copies = t.sealed + t.sealed_late + t.repeated;
        let ends = t.delivered + t.lost + t.refused_packets + self.on_the_way();
        assert_eq!(copies, ends, "what was sealed");
        let mut dropped = t.dropped.clone();
        for device in self.nodes.iter().filter_map(|node| node.device.as_ref()) {
            for (reason, times) in device.drops().iter().filter(|(_, times)| *times > 0) {
                *dropped.entry(reason).or_default() += times;
            }
        }
        assert_eq!(dropped, t.refused, "the library's own counts");
        // A deadline is filed when a datagram goes in or out, and at most two for each.
        assert!(t.wakes <= 2 * t.datagrams, "{} wake-ups", t.wakes);
        // Most of the time, the rules were looked at.
        assert!(
            2 * t.calm > t.handed,
            "only {} packets of calm pairs",
            t.calm
        );
        // The most in the first quarter, when every pair has had two sessions, and in the last one.
        let hours = self.scale.time as f64 / 3600e9;
        let most = |from: f64, to: f64| {
            let seen = t
                .memory
                .iter()
                .filter(|(at, ..)| (from * hours..=to * hours).contains(at));
            seen.map(|(_, each, _)| *each).max().unwrap()
        };
        let (early, late) = (most(0.0, 0.25), most(0.75, 1.0));
        assert!(
            late * 100 <= early * 105,
            "memory grew from {early} to {late} bytes"
        );
    }

    fn waiting(&self) -> u64 {
        let of = |node: &super::world::Node| {
            let device = node.device.as_ref();
            let ids = device.into_iter().flat_map(Interface::peers);
            ids.map(|peer| node.staging.len(peer.id()) as u64)
                .sum::<u64>()
        };
        self.nodes.iter().map(of).sum()
    }

    /// Prints what happened.
    pub(crate) fn report(&self, elapsed: Duration, processor: Option<u64>) {
        let (t, m, scale) = (&self.tally, &self.meter, &self.scale);
        let hours = scale.time as f64 / 3600e9;
        let node_hours = hours * f64::from(scale.nodes);
        let pairs = self.pairs.len() as f64;
        let each = |n: u64| n as f64 / node_hours;
        println!(
            "{} nodes, {} tunnel ends, {hours} h, seed {}: {:.0} s, {:.0} s on the processor",
            scale.nodes,
            2 * self.pairs.len(),
            scale.seed,
            elapsed.as_secs_f64(),
            processor.unwrap_or(0) as f64 / 1e9,
        );
        println!("each node and hour:");
        for (name, calls) in [
            ("handshakes", HANDSHAKE),
            ("data", DATA),
            ("the rest", REST),
        ] {
            println!("  {:10.3} CPU s, {name}", each(m.total(&calls)) / 1e9);
        }
        let all = [HANDSHAKE, DATA, REST].map(|calls| m.total(&calls));
        println!(
            "  {:10.3} CPU s, the library in all",
            each(all.iter().sum()) / 1e9
        );
        let rows = [
            ("initiations sent", t.initiations),
            ("initiations answered", t.responses),
            ("handshakes completed, as the initiator", t.handshakes),
            ("packets handed over", t.handed),
            ("keepalives sent", t.keepalives),
            ("wake-ups", t.wakes),
            ("wake-ups that only put a deadline right", t.idle_wakes),
            ("datagrams sent", t.datagrams),
            ("bytes sent, with UDP and IPv4", t.bytes),
        ];
        for (name, count) in rows {
            println!("  {:10.1} {name}", each(count));
        }
        let ideal = pairs * hours * 30.0;
        println!(
            "handshakes: {} completed, {:.3} of one for each pair each 120 s; {} at most reached a node within a second",
            t.handshakes,
            t.handshakes as f64 / ideal,
            t.busiest_second,
        );
        for (name, rounds) in [
            ("answers later", t.rounds[0]),
            ("answers at once", t.rounds[1]),
        ] {
            println!(
                "  {name}: {} renewals, {} crossed ({:.2} %); after a crossed one {} of {} crossed again",
                rounds.all,
                rounds.crossed,
                100.0 * rounds.crossed as f64 / rounds.all.max(1) as f64,
                rounds.again,
                rounds.after_crossed,
            );
        }
        println!(
            "sessions: oldest that sealed {:.3} s, in calm pairs {:.3} s",
            t.oldest as f64 / 1e9,
            t.oldest_calm as f64 / 1e9,
        );
        println!(
            "packets: {} handed over ({:.1} % by calm pairs, {} of them after a silence had to wait), \
             {} staged, {} discarded, {} repeated, {} delivered, {} lost, {} refused, {} of them because \
             handshakes had crossed",
            t.handed,
            100.0 * t.calm as f64 / t.handed.max(1) as f64,
            t.woken,
            t.staged,
            t.discarded,
            t.repeated,
            t.delivered,
            t.lost,
            t.refused_packets,
            t.lost_to_crossing,
        );
        println!("datagrams refused: {:?}", t.refused);
        println!("troubles: {:?}", t.troubles);
        for (trouble, r) in &t.recoveries {
            println!(
                "  after {trouble:?}: {} pairs, answered after {:.3} s on average, {:.1} s at most, {} after 1 s, {} after 6 s",
                r.pairs,
                r.sum as f64 / r.pairs.max(1) as f64 / 1e9,
                r.most as f64 / 1e9,
                r.slow,
                r.slower,
            );
        }
        println!("calls, ns each:");
        for call in HANDSHAKE.into_iter().chain(DATA).chain(REST) {
            println!("  {call:?}: {} calls, {} ns", m.calls(call), m.mean(call));
        }
        let (early, late) = (t.memory.first(), t.memory.last());
        println!("bytes for each end: first {early:?}, last {late:?}");
    }
}
