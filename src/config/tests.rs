//! What the tests of the format share.

mod errors;
mod read;
mod write;

use std::string::String;

use super::*;

const PRIVATE: &str = "iEs9UNl9VoF+vnYW5hH+hKasnCQhV06ySUcdHwilZms=";
const PRESHARED: &str = "GrfPmHJehnYqJCVVnmm0yuFCcjPx+I/CZoBccL3tVRc=";
const ALICE: &str = "pDrFKfZy9w4f/610i8vD/MK+VhP3maA7FaOGSeJmFWw=";
const BOB: &str = "6pQMk3elPZW9TBMgMfejqp6kC4ixy7A1WRra/6rqyTA=";

/// Puts the key of a name in its place.
fn with_keys(text: &str) -> String {
    [
        ("PRIVATE", PRIVATE),
        ("PRESHARED", PRESHARED),
        ("ALICE", ALICE),
        ("BOB", BOB),
    ]
    .iter()
    .fold(text.into(), |text: String, (name, key)| {
        text.replace(name, key)
    })
}

fn parse(text: &str) -> Config {
    Config::parse(&with_keys(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}
