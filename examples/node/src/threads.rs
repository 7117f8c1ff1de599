//! The threads of a node.

use std::io;
use std::sync::Arc;
use std::thread;

use crate::handshakes;
use crate::node::Node;
use crate::worker::Workers;

/// Starts `count` threads that move packets, and one for handshakes. They live as long as the process.
///
/// # Errors
///
/// The system's, when it has no more threads.
pub fn start(node: &Arc<Node>, count: usize) -> io::Result<()> {
    let workers = Arc::<Workers>::default();
    for _ in 0..count.clamp(1, MOST) {
        let (node, workers) = (node.clone(), workers.clone());
        spawn("worker", move || workers.run(&node))?;
    }
    let node = node.clone();
    spawn("handshakes", move || handshakes::run(&node))
}

/// How many threads move packets where nothing else is asked for: one for every two cores, which
/// leaves the others to the programs whose packets they are.
#[must_use]
pub fn usual_count() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, MOST))
}

/// Beyond this the short steps under the lock are all that there is.
const MOST: usize = 16;

fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(f)?;
    Ok(())
}
