//! `mesh`: encrypts what the nodes of a cluster say to each other.

fn main() {}
