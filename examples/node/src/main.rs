//! `node`: a userspace WireGuard node for Linux.

fn main() {}
