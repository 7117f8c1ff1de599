//! A kernel in plain code, to test what the kernels share where no vector code runs.

use super::rows::Lanes;
use super::text::ROW;
use super::{Kernel, Packets, TAG_LEN};

/// Works without any instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Plain;

impl Kernel for Plain {
    const PACKETS: usize = 16;

    #[allow(unsafe_code, reason = "as every kernel")]
    fn xor(self, packets: &Packets, lanes: &Lanes<'_>) {
        for at in (0..lanes.len()).step_by(8) {
            let (numbers, blocks, rows) = lanes.get::<8>(at).unwrap();
            for lane in 0..8 {
                let packet = numbers[lane] as usize;
                let mut state = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574].to_vec();
                state.extend(packets.key.iter().map(|word| word[packet]));
                state.push(blocks[lane]);
                state.extend(packets.nonce.iter().map(|word| word[packet]));
                let keystream = block(state.try_into().unwrap());
                // SAFETY: the rows of lanes are valid.
                let mut row: [u8; ROW] = unsafe { rows[lane].from().read() };
                for (byte, key) in row.iter_mut().zip(keystream) {
                    *byte ^= key;
                }
                // SAFETY: as above.
                unsafe { rows[lane].to().write(row) };
            }
        }
    }

    fn tags(self, keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
        assert!(keys.len() == texts.len() && texts.len() == tags.len());
        for ((key, text), tag) in keys.iter().zip(texts).zip(tags) {
            *tag = super::poly1305::tag(key.first_chunk().unwrap(), &[], text);
        }
    }
}

/// RFC 8439, section 2.3.
fn block(start: [u32; 16]) -> [u8; ROW] {
    let mut state = start;
    let mut quarter = |a: usize, b: usize, c: usize, d: usize| {
        for (x, y, z, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
            state[x] = state[x].wrapping_add(state[y]);
            state[z] = (state[z] ^ state[x]).rotate_left(by);
        }
    };
    for _ in 0..10 {
        for column in 0..4 {
            quarter(column, 4 + column, 8 + column, 12 + column);
        }
        for row in 0..4 {
            quarter(
                row,
                4 + (row + 1) % 4,
                8 + (row + 2) % 4,
                12 + (row + 3) % 4,
            );
        }
    }
    let mut out = [0; ROW];
    for ((word, first), bytes) in state.iter().zip(start).zip(out.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&word.wrapping_add(first).to_le_bytes());
    }
    out
}
