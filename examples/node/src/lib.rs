//! A userspace WireGuard node for Linux, in parts that can be lifted out.
//!
//! ```text
//! device ── outbound ─┐                 ┌─ udp
//!  (TUN)              ├─ state ── node ─┤
//! device ── inbound ──┘  (Interface)    └─ uapi, control, handshakes
//! ```
//!
//! All protocol is in the library; the node brings the device, the sockets, the clock and the threads.
//! The page in this folder says which file to copy for which need.

pub mod clock;
pub mod control;
pub mod counters;
pub mod device;
pub mod error;
pub mod handshakes;
pub mod icmp;
pub mod inbound;
pub mod netlink;
pub mod node;
pub mod offload;
pub mod outbound;
pub mod path;
pub mod state;
pub mod threads;
pub mod turn;
pub mod uapi;
pub mod udp;
pub mod worker;
