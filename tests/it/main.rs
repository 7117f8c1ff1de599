//! Integration tests: everything that can be observed from outside, in one binary.

mod changes;
mod corpus;
mod handshake;
mod oracle;
mod puppet;
mod support;
mod timers;
mod timers_clock;
mod timers_keepalive;
mod timers_session;
