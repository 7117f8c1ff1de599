//! Trains of packets between the kernel's form and the wire's.
//!
//! With segmentation offload a TUN device hands out, and takes, up to 64 KiB of a flow at a time as
//! one packet with one set of headers. [`Cut`] makes the packets of it that a tunnel can carry;
//! [`Coalescer`] makes such super-packets of what came through the tunnel. Both work on bytes
//! alone: there is no device here. IPv4 and IPv6, TCP and UDP.

pub mod checksum;
pub mod coalesce;
pub mod cut;
mod flow;
pub(crate) mod ip;
pub mod vnet;

#[cfg(test)]
mod tests;

pub use coalesce::{Coalescer, Group, Groups, Members};
pub use cut::{Cut, Malformed};
pub use vnet::VnetHeader;

/// Where things are in a TCP header (RFC 9293, section 3.1).
mod tcp {
    pub(super) const HEADER: usize = 20;
    pub(super) const FLAGS: usize = 13;
    pub(super) const CHECKSUM: usize = 16;
    pub(super) const PSH: u8 = 0x08;
    pub(super) const ACK: u8 = 0x10;
}

/// Where things are in a UDP header (RFC 768).
mod udp {
    pub(super) const HEADER: usize = 8;
    pub(super) const CHECKSUM: usize = 6;
}
