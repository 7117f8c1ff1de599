//! Many peers behind one port.

pub(crate) mod allowed_ips;
pub(crate) mod indices;
pub(crate) mod schedule;
pub(crate) mod staging;
