//! A mesh that encrypts what the nodes of a cluster say to each other.
//!
//! ```text
//! directory ── records ── plan ── the node's interface, routes
//!  (folder, etcd)           └──── refusals, status, metrics
//! ```

pub mod directory;
pub mod record;
