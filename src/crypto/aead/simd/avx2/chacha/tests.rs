//! Every number of lanes, against the plain kernel.

use std::vec::Vec;

use super::super::super::{Plain, open, seal};
use super::super::Avx2;

const KEY: [u8; 32] = *b"thirty-two bytes of a test's key";
const NONCE: [u8; 12] = *b"twelve bytes";

#[test]
fn every_number_of_lanes() {
    let Some(kernel) = Avx2::detect() else { return };
    for blocks in 0..=70 {
        for len in [64 * blocks, 64 * blocks + 1, 64 * blocks + 63] {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
            let mut sealed = text.clone();
            sealed.extend([0; 16]);
            let mut wanted = sealed.clone();
            seal(Plain, &KEY, &NONCE, &[], &mut wanted);
            seal(kernel, &KEY, &NONCE, &[], &mut sealed);
            assert_eq!(sealed, wanted, "{len} bytes");
            assert!(open(kernel, &KEY, &NONCE, &[], &mut sealed).is_ok());
            assert_eq!(sealed[..len], text, "{len} bytes");
        }
    }
}
