//! Behaviour of the public interface: one binary, one module for each subject.

mod sim;
