//! What must be so in the end, and the table.

use std::time::Duration;

use quietwire::Interface;

use super::tally::Call;
use super::world::{Node, World};

const HANDSHAKES: [Call; 4] = [
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

/// A count as a number to print.
#[expect(
    clippy::cast_precision_loss,
    reason = "no count here comes near 2^52, and it is only printed"
)]
fn float(count: u64) -> f64 {
    count as f64
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

fn percent(part: u64, of: u64) -> f64 {
    100.0 * float(part) / float(of.max(1))
}

/// What must be so in the end.
impl World {
    /// Checks the books, and that no rule was broken.
    pub(crate) fn audit(&self) {
        let t = &self.tally;
        assert_eq!(t.broken, 0, "rules were broken: {:#?}", t.breaches);
        assert_eq!(t.handed, t.sealed + t.staged, "what was handed over");
        let gone = t.sealed_late + t.discarded + self.waiting();
        assert_eq!(t.staged, gone, "what was staged");
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
        // A deadline is filed when a datagram goes out or comes in, at most one for each.
        let bound = 2 * t.datagrams;
        assert!(t.wakes <= bound, "{} wake-ups", t.wakes);
        // Else the rules were hardly looked at.
        let calm = percent(t.calm, t.handed);
        let is_short = self.scale.time < 1800 * super::SEC;
        assert!(calm > 40.0 || is_short, "calm for {calm} % only");
        // When every pair has had two sessions, and in the end.
        let (early, late) = (self.most_memory(0), self.most_memory(3));
        let is_bounded = late * 100 <= early * 105;
        assert!(is_bounded, "memory grew from {early} to {late} bytes");
    }

    /// The most bytes for an end that were seen in this quarter of the time.
    fn most_memory(&self, quarter: u64) -> i64 {
        let share = self.scale.time / 4;
        let range = quarter * share..=(quarter + 1) * share;
        let seen = self.tally.memory.iter();
        let seen = seen.filter(|(at, ..)| range.contains(at));
        seen.map(|(_, each, _)| *each).max().unwrap()
    }

    /// Packets that wait for a session.
    fn waiting(&self) -> u64 {
        let of = |node: &Node| {
            let ids = node.device.iter().flat_map(Interface::peers);
            ids.map(|peer| node.staging.len(peer.id()) as u64)
                .sum::<u64>()
        };
        self.nodes.iter().map(of).sum()
    }
}

/// The table.
impl World {
    /// Prints what happened and what it cost.
    pub(crate) fn report(&self, elapsed: Duration, processor: Option<u64>) {
        println!(
            "{} nodes, {} tunnel ends, {} h, seed {}: {:.0} s, {:.0} s on the processor",
            self.scale.nodes,
            2 * self.pairs.len(),
            seconds(self.scale.time) / 3600.0,
            self.scale.seed,
            elapsed.as_secs_f64(),
            seconds(processor.unwrap_or(0)),
        );
        self.report_rates();
        self.report_handshakes();
        self.report_packets();
        self.report_troubles();
        self.report_costs();
    }

    /// A count for each node and hour.
    fn each(&self, count: u64) -> f64 {
        float(count) * 3600.0 / seconds(self.scale.time) / f64::from(self.scale.nodes)
    }

    fn report_rates(&self) {
        let (t, m) = (&self.tally, &self.meter);
        println!("each node and hour:");
        let all = [HANDSHAKES, DATA, REST].concat();
        let parts: [(&str, &[Call]); 4] = [
            ("handshakes", &HANDSHAKES),
            ("data and keepalives", &DATA),
            ("timers, polling, changes", &REST),
            ("the library in all", &all),
        ];
        for (name, calls) in parts {
            let spent = self.each(m.total(calls)) / 1e9;
            println!("  {spent:12.3} CPU s: {name}");
        }
        let rows = [
            ("initiations sent", t.initiations),
            ("initiations answered", t.responses),
            ("handshakes completed, as the initiator", t.handshakes),
            ("packets handed over", t.handed),
            ("keepalives sent", t.keepalives),
            ("datagrams sent", t.datagrams),
            ("bytes sent, with UDP and IPv4", t.bytes),
            ("wake-ups", t.wakes),
            ("wake-ups that only put a deadline right", t.idle_wakes),
        ];
        for (name, count) in rows {
            println!("  {:12.1} {name}", self.each(count));
        }
    }

    fn report_handshakes(&self) {
        let t = &self.tally;
        let ideal = self.pairs.len() as u64 * self.scale.time / super::pair::REKEY_AFTER;
        println!(
            "handshakes: {} completed, {:.1} % of one for each pair each 120 s; at most {} messages \
             came to a node within a second",
            t.handshakes,
            percent(t.handshakes, ideal),
            t.busiest_second,
        );
        let kinds = [("later", t.rounds[0]), ("at once", t.rounds[1])];
        for (name, rounds) in kinds {
            println!(
                "  pairs that answer {name}: {} renewals while calm, {} crossed ({:.2} %); after a \
                 crossed one {} of {} crossed again",
                rounds.all,
                rounds.crossed,
                percent(rounds.crossed, rounds.all),
                rounds.again,
                rounds.after_crossed,
            );
        }
        println!(
            "sessions: the oldest that sealed was {:.3} s old, in calm pairs {:.3} s",
            seconds(t.oldest),
            seconds(t.oldest_calm),
        );
    }

    fn report_packets(&self) {
        let t = &self.tally;
        println!(
            "packets: {} handed over, {:.1} % by calm pairs ({} waited, after a silence); {} staged, \
             {} discarded",
            t.handed,
            percent(t.calm, t.handed),
            t.woken,
            t.staged,
            t.discarded,
        );
        println!(
            "  {} repeated, {} delivered, {} lost, {} refused; {} of calm pairs were refused \
             because handshakes had crossed",
            t.repeated, t.delivered, t.lost, t.refused_packets, t.lost_to_crossing,
        );
        println!("datagrams refused: {:?}", t.refused);
    }

    fn report_troubles(&self) {
        let t = &self.tally;
        println!("troubles: {:?}", t.troubles);
        for (trouble, r) in &t.recoveries {
            println!(
                "  after {trouble:?}: {} pairs had an answer {:.3} s after they first asked, {:.1} s \
                 at most, {} after more than 1 s, {} after more than 6 s",
                r.pairs,
                seconds(r.sum / r.pairs.max(1)),
                seconds(r.most),
                r.slow,
                r.slower,
            );
        }
    }

    fn report_costs(&self) {
        let m = &self.meter;
        println!("calls:");
        for call in HANDSHAKES.into_iter().chain(DATA).chain(REST) {
            println!("  {call:?}: {} of {} ns", m.calls(call), m.mean(call));
        }
        let hour = self.scale.time.min(4 * 3600 * super::SEC) / 4;
        let memory = &self.tally.memory;
        let early = memory.iter().find(|(at, ..)| *at >= hour);
        for (at, each, ends) in early.into_iter().chain(memory.last()) {
            let hours = seconds(*at) / 3600.0;
            println!("after {hours:.2} h: {each} bytes for each of {ends} tunnel ends");
        }
        let most = memory.iter().map(|(_, each, _)| *each).max();
        println!("  at most {most:?}; the whole process: {:?}", resident());
    }
}

/// What the process has in memory, as the system tells it.
fn resident() -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS"))?;
    Some(line.split_whitespace().skip(1).collect())
}
