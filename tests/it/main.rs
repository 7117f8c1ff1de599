//! Integration tests: everything that can be observed from outside, in one binary.

mod corpus;
mod load;
