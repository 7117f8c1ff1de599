//! Two worlds from one seed that differ in nothing but how often the nodes look at their timeouts.

use super::any::{Named, seeds};
use super::scenario::Troubles;
use super::world::{Happening, World};
use super::{MS, SEC};

/// Paths and machines misbehave; programs are punctual.
const TROUBLES: Troubles = Troubles {
    paths: true,
    machines: true,
    clocks: true,
    attacks: true,
    odd_modes: false,
};

/// How long the twins live: past the end of a session.
const LIFE: u64 = 200 * SEC;

fn life(seed: u64, every: Option<u64>) -> World {
    let mut world = World::random(seed, TROUBLES, LIFE);
    world.is_recorded = true;
    if let Some(every) = every {
        for node in 0..world.nodes.len() {
            let until = LIFE;
            world.schedule(0, Happening::Poll { node, every, until });
        }
    }
    world.run_until(LIFE);
    world
}

/// `poll_timeout` is never later than something that happens: a node that looks every millisecond
/// sends the same datagrams at the same times as one that sleeps until it is told to look.
#[test]
fn who_looks_every_millisecond_sees_nothing_earlier() {
    let every = if cfg!(debug_assertions) { 7 * MS } else { MS };
    let mut count = 0;
    for seed in seeds(if cfg!(debug_assertions) { 12 } else { 60 }) {
        let _named = Named(seed);
        let (sleepy, restless) = (life(seed, None), life(seed, Some(every)));
        for (a, b) in sleepy.wire.iter().zip(&restless.wire) {
            let first_other = a.datagram.iter().zip(&b.datagram).position(|(a, b)| a != b);
            assert_eq!(
                (a.at, a.node, a.to, None),
                (b.at, b.node, b.to, first_other)
            );
        }
        assert_eq!(sleepy.wire.len(), restless.wire.len());
        count += sleepy.wire.len();
    }
    assert!(count > 500, "seeds without traffic");
}
