//! Many peers behind one port.

pub(crate) mod indices;
pub(crate) mod schedule;
