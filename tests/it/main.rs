//! Integration tests: everything that can be observed from outside, in one binary.

mod cookies;
mod handshake;
mod hostile;
mod oracle;
mod puppet;
mod routing;
mod support;
mod timers;
mod transport;
