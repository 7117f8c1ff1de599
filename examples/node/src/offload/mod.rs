//! Trains of packets between the kernel's form and the wire's.
