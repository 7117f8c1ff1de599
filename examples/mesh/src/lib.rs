//! A mesh that encrypts what the nodes of a cluster say to each other.
//!
//! ```text
//! directory ── records ── plan ── apply (the node's interface), routes
//!  (folder, etcd)           └──── refusals, status, metrics
//! ```
//!
//! All protocol is in quietwire, and the data plane is quietwire-node. Here is who the peers are.

pub mod apply;
pub mod cli;
pub mod config;
pub mod directory;
mod grace;
mod kept;
pub mod keys;
pub mod mesh;
pub mod metrics;
pub mod mtu;
pub mod outer;
pub mod plan;
pub mod probe;
pub mod publisher;
pub mod record;
pub mod report;
pub mod rotation;
pub mod routes;
pub mod run;
pub mod socket;
pub mod status;
pub mod store;
pub mod times;
