//! Cutting and coalescing against a slow model, against each other, and against noise.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "lengths of packets that the tests make up"
)]

mod coalesce;
mod cut;
mod model;
mod noise;
mod round;
mod speed;
