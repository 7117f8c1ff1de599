//! A deterministic simulator: machines, clocks and paths that do everything that can go wrong, in
//! virtual time, from one seed.
//!
//! Every call into the library and everything that comes out of it passes `receive`, `transmit` and
//! `drive`, which compare it with `model`, a second and simpler telling of the protocol's rules, and
//! with `ledger`, the books of everything ever sent. A failure prints its seed.
//!
//! To run one seed again: `QW_SIM_SEED=123 cargo test --test it sim::any`, with `QW_SIM_TRACE=1` and
//! `-- --nocapture` to see every datagram. `QW_SIM_SEEDS=5000` sets how many seeds are run; more
//! are worth their time only with `--release`. `QW_SIM_PEERS=100000` sets the size of `sim::scale`.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `rng`, `net`, `inner` | the dice; one direction of a path; inner packets with a checksum |
//! | `device`, `node` | a tunnel or an interface behind one set of verbs; a machine with its clocks |
//! | `world`, `drive` | the queue of things to come; how a node drives its device |
//! | `receive`, `transmit` | what goes in and what comes out, each checked |
//! | `model`, `parts`, `ledger` | what must be so |
//! | `attack`, `scenario` | who disturbs it; what the seed draws |
//! | `any`, `twin`, `cases`, `scale` | the tests |
//!
//! `tests/full_mesh` is a leaner one, for a full mesh of some hundred nodes and a whole day: it counts
//! bytes, and so is a binary of its own.

mod any;
mod attack;
mod cases;
mod device;
mod drive;
mod inner;
mod ledger;
mod model;
mod net;
mod node;
mod parts;
mod receive;
mod rng;
mod scale;
mod scenario;
mod transmit;
mod twin;
mod world;

/// A millisecond in nanoseconds, the unit of all times here.
const MS: u64 = 1_000_000;

/// A second.
const SEC: u64 = 1000 * MS;
