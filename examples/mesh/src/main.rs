//! `mesh`: encrypts what the nodes of a cluster say to each other.

use std::process::ExitCode;

fn main() -> ExitCode {
    quietwire_mesh::cli::main()
}
