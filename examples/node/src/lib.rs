//! A userspace WireGuard node for Linux, in parts that can be lifted out.

pub mod icmp;
pub mod offload;
