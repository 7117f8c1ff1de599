//! x
/// x
#[derive(Debug)]
pub struct Staging;
