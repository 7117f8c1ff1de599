//! Integration tests: everything that can be observed from outside, in one binary.
#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a test may panic when its own arithmetic is wrong"
)]

mod changes;
mod cookies;
mod corpus;
mod handshake;
mod hostile;
mod memory;
mod oracle;
mod puppet;
mod routing;
mod sim;
mod support;
mod timers;
mod timers_clock;
mod timers_keepalive;
mod timers_session;
mod transcripts;
mod transport;
mod uapi;
