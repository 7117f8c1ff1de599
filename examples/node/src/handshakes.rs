//! The thread that does the multiplications of handshakes, so that no packet waits for them.

use quietwire::{Control, HandshakeStep};

use crate::clock;
use crate::node::Node;
use crate::state::Output;

/// Runs for the life of the node.
pub fn run(node: &Node) {
    let mut out = Output::default();
    loop {
        let mut state = node.wait_for_handshakes(node.state());
        let Some(mut job) = state.handshakes.pop_front() else {
            continue;
        };
        drop(state);
        job.run();
        let mut state = node.state();
        if !state.is_up {
            continue;
        }
        let now = clock::now();
        match state.interface.finish_handshake(now, job) {
            Ok(HandshakeStep::Run(next)) => state.handshakes.push_front(next),
            Ok(HandshakeStep::Transmit(message)) => out.messages.push(message),
            Ok(HandshakeStep::Received(peer, Control::Initiation)) => state.heard_of(peer),
            // Accepted, or refused and counted by the interface.
            Ok(_) | Err(_) => {}
        }
        state.settle(now, &mut out, &node.counters);
        drop(state);
        node.deliver(&mut out);
    }
}
