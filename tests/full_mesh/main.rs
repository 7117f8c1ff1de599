//! A full mesh in virtual time: every node an interface with a peer for each other node, from one
//! seed, with churn, lost datagrams and changing keys.
//!
//! Leaner than the simulator in `tests/it/sim`, which compares every call with a model: here a day of
//! 200 nodes, some 13 million handshakes, is to take little more than what the library itself needs. A
//! binary of its own, because it counts the bytes that the interfaces hold.
//!
//! `QW_SIM_NODES=200 QW_SIM_HOURS=24 cargo test --release --test full_mesh -- --nocapture` is the long
//! form. `QW_SIM_SEED` draws another day, `QW_SIM_INTERVAL` sets the mean number of seconds between two
//! exchanges of a pair, up to 40, `QW_SIM_LOSS` how many of a million datagrams are lost, and
//! `QW_SIM_SLEEPY` how many pairs of a hundred have no keepalive and fall silent for long. The long form
//! takes two to three hours, nearly all of it in handshakes; with 75 such pairs one.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `world` | the queue of things to come, nodes, the network, what goes in and out |
//! | `pair` | the rules that hold while nothing disturbs a pair |
//! | `troubles`, `apply` | what happens during the day; how a node follows the directory |
//! | `report` | what must be so in the end, and the table |
//! | `storm` | one node of a large mesh greets all others at once |
//! | `packet`, `tally` | inner packets; the books and what calls cost |
//!
//! Some 500 nodes are the most here: beyond, one that starts is under load, which `storm` shows.
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a test may panic when its own arithmetic is wrong"
)]

mod apply;
#[path = "../counting/mod.rs"]
mod counting;
mod packet;
mod pair;
mod report;
#[path = "../it/sim/rng.rs"]
#[allow(dead_code, reason = "the simulator uses more of it")]
mod rng;
mod storm;
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
    /// Parts of a million of all datagrams that are lost.
    loss: u32,
    /// How many pairs of a hundred fall silent for long at times.
    sleepy: u32,
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
        let nanos = |name: &str, default, unit| {
            let given = text(name).map_or(default, |text| text.parse().unwrap());
            let nanos = Duration::from_secs_f64(given * unit).as_nanos();
            u64::try_from(nanos).unwrap()
        };
        Self {
            seed: number("QW_SIM_SEED", 1).into(),
            nodes: number("QW_SIM_NODES", nodes).try_into().unwrap(),
            time: nanos("QW_SIM_HOURS", hours, 3600.0),
            interval: nanos("QW_SIM_INTERVAL", 20.0, 1.0),
            loss: number("QW_SIM_LOSS", 5000),
            sleepy: number("QW_SIM_SLEEPY", 6),
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
