//! Which packets are sealed and opened, and in which order.

/// Packets of one measurement. Their lengths are those of plaintexts.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// What it is.
    pub title: String,
    /// The length of every packet, in the order in which they come.
    pub lengths: Vec<usize>,
    /// How many of them are in a call that takes several.
    pub at_once: usize,
}

/// Bytes of a pass: they stay in the first-level cache together with the keys of a batch.
const PASS: usize = 16 * 1024;

/// At most so many packets in a pass, for the sake of the keys.
const MOST: usize = 192;

impl Traffic {
    /// Packets of one length, 16 in a batch.
    #[must_use]
    pub fn of(length: usize) -> Self {
        let at_once = crate::contender::AT_ONCE;
        let count = (PASS / length).min(MOST).next_multiple_of(at_once);
        Self {
            title: format!("{length} B"),
            lengths: vec![length; count],
            at_once,
        }
    }

    /// 35 packets of 64, 20 of 576 and 5 of 1420 bytes in a fixed, shuffled order; all in a batch.
    #[must_use]
    pub fn mix() -> Self {
        let mut lengths = [[64; 35].as_slice(), &[576; 20], &[1420; 5]].concat();
        let mut state = 1_u64;
        for last in (1..lengths.len()).rev() {
            // Knuth's multiplier: the same order everywhere.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let other = usize::try_from(state >> 33).unwrap_or(0) % (last + 1);
            lengths.swap(last, other);
        }
        Self {
            title: "mix".to_owned(),
            at_once: lengths.len(),
            lengths,
        }
    }

    /// Bytes that all packets take with `around` more for each.
    #[must_use]
    pub fn space(&self, around: usize) -> usize {
        self.lengths.iter().map(|length| length + around).sum()
    }

    /// Cuts buffers out of `space`, one for each packet and `tag` more bytes, with gaps in between.
    ///
    /// # Panics
    ///
    /// If `space` is not large enough.
    pub fn lay_out<'a>(
        &self,
        mut space: &'a mut [u8],
        tag: usize,
        gap: usize,
    ) -> Vec<&'a mut [u8]> {
        let mut packets = Vec::with_capacity(self.lengths.len());
        for length in &self.lengths {
            let (packet, rest) = space.split_at_mut(length + tag + gap);
            packets.push(&mut packet[gap..]);
            space = rest;
        }
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_seven_to_four_to_one_and_shuffled() {
        let lengths = Traffic::mix().lengths;
        let count = |wanted| lengths.iter().filter(|length| **length == wanted).count();
        assert_eq!([64, 576, 1420].map(count), [35, 20, 5]);
        let changes = lengths.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes > 20, "{lengths:?}");
    }

    #[test]
    fn batches_are_whole_and_packets_lie_apart() {
        for length in [64, 128, 256, 576, 1420] {
            let traffic = Traffic::of(length);
            assert_eq!(traffic.lengths.len() % traffic.at_once, 0);
            let mut space = vec![0; traffic.space(32)];
            for (mark, packet) in (1..).zip(traffic.lay_out(&mut space, 16, 16)) {
                assert_eq!(packet.len(), length + 16);
                packet.fill(mark);
            }
            let marked = space.iter().filter(|byte| **byte != 0).count();
            assert_eq!(marked, traffic.space(16));
        }
    }
}
