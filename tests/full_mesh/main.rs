//! A full mesh in virtual time: every node an interface with a peer for each other node, from one
//! seed, with churn, lost datagrams and changing keys.
//!
//! Leaner than the simulator in `tests/it/sim`, which compares every call with a model: here a day of
//! 200 nodes, some 13 million handshakes, is to take little more than what the library itself needs. A
//! binary of its own, because it counts the bytes that the interfaces hold.
//!
//! `QW_SIM_NODES=200 QW_SIM_HOURS=24 cargo test --release --test full_mesh -- --nocapture` is the long
//! form. `QW_SIM_SEED` draws another day, `QW_SIM_INTERVAL` sets the mean number of seconds between two
//! exchanges of a pair.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `world` | the queue of things to come, nodes, the network, what goes in and out |
//! | `pair` | the rules that hold while nothing disturbs a pair |
//! | `troubles`, `apply` | what happens during the day; how a node follows the directory |
//! | `packet`, `tally`, `counting` | inner packets; the books and what calls cost; the allocator |
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a test may panic when its own arithmetic is wrong"
)]

mod apply;
mod counting;
mod packet;
mod pair;
mod report;
#[path = "../it/sim/rng.rs"]
#[allow(dead_code, reason = "the simulator uses more of it")]
mod rng;
mod tally;
mod troubles;
mod world;

use core::time::Duration;

use world::World;

/// A millisecond in nanoseconds, the unit of all times here.
const MS: u64 = 1_000_000;

/// A second.
const SEC: u64 = 1000 * MS;

/// How large a mesh, for how long.
#[derive(Clone, Copy, Debug)]
struct Scale {
    seed: u64,
    nodes: u16,
    /// How long it runs.
    time: u64,
    /// The mean time between two exchanges of a pair.
    interval: u64,
}

impl Scale {
    fn given() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let number = |name: &str, default| text(name).map_or(default, |text| text.parse().unwrap());
        let (nodes, hours) = if cfg!(debug_assertions) {
            (8, 0.75)
        } else {
            (20, 2.0)
        };
        let hours = text("QW_SIM_HOURS").map_or(hours, |text| text.parse().unwrap());
        let time = Duration::from_secs_f64(3600.0 * hours).as_nanos();
        Self {
            seed: number("QW_SIM_SEED", 1),
            nodes: u16::try_from(number("QW_SIM_NODES", nodes)).unwrap(),
            time: u64::try_from(time).unwrap(),
            interval: number("QW_SIM_INTERVAL", 20) * SEC,
        }
    }
}

/// Tells how to repeat a seed when its test fails.
struct Named(Scale);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("QW_SIM_SEED={} and the same size repeat it", self.0.seed);
        }
    }
}

/// No renewal is missed, no packet comes out twice or at the wrong place, every trouble is overcome,
/// nobody is woken for nothing, and no memory is lost.
#[test]
fn a_full_mesh_lives_through_its_day() {
    let scale = Scale::given();
    let _named = Named(scale);
    let started = std::time::Instant::now();
    let processor = tally::processor();
    let mut world = World::new(scale);
    world.run();
    let processor = processor
        .zip(tally::processor())
        .map(|(from, to)| to - from);
    world.report(started.elapsed(), processor);
    world.audit();
}
